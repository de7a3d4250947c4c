//! Owns compiled modules on disk, so that a restart does not compile again. An entry is named by the module's SHA-256 and
//! by a hash of everything in the engine that shapes machine code. Promises that machine code is only ever loaded if this
//! installation wrote it: the directory must be ours alone, and each entry carries a keyed hash. Whatever is wrong with
//! an entry, the module is compiled anew; a cache can slow us down but not stop us.

#![allow(unsafe_code, reason = "loading machine code is unsafe by nature; entries are authenticated first")]

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::digest::Digest;

const KEY_FILE: &str = "key";
type Tag = [u8; 32];

/// A directory of compiled modules.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
    key: [u8; 32],
    compatibility: u64,
    /// The most that it may hold.
    bytes: u64,
}

/// Why a directory is not used.
#[derive(Debug, thiserror::Error)]
enum Distrust {
    #[error("it belongs to user {owner}, and we are {us}")]
    Owner { owner: u32, us: u32 },
    #[error("others can write to it (mode {mode:o}); `chmod go-w` it")]
    Mode { mode: u32 },
    #[error("it is not a directory, or a symbolic link")]
    NotADirectory,
    #[error("its key file is not a plain file of 32 bytes that only we can read")]
    Key,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Would `dir` be used as a cache? It is made if need be, with its key.
///
/// # Errors
/// Why not.
pub fn check_cache(dir: &Path) -> Result<(), String> {
    trust(dir).and_then(|()| key(dir)).map(drop).map_err(|why| why.to_string())
}

impl Cache {
    /// Uses, or makes, `dir`. `None`, and a warning, where it cannot be trusted.
    pub(crate) fn open(dir: &Path, bytes: u64, engine: &Engine) -> Option<Self> {
        match trust(dir).and_then(|()| key(dir)) {
            Ok(key) => {
                let mut hasher = StableHasher(Sha256::new());
                engine.precompile_compatibility_hash().hash(&mut hasher);
                Some(Self { dir: dir.into(), key, compatibility: hasher.finish(), bytes })
            }
            Err(why) => {
                tracing::warn!(dir = %dir.display(), %why, "the module cache is not used; modules are compiled at each start");
                None
            }
        }
    }

    /// The compiled form of the module with this digest, if we wrote it.
    pub(crate) fn get(&self, engine: &Engine, digest: &Digest) -> Option<Component> {
        let path = self.path(digest);
        let entry = match fs::read(&path) {
            Ok(entry) => entry,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a cached module cannot be read");
                return None;
            }
        };
        let Some((tag, code)) = entry.split_first_chunk::<32>() else {
            return self.distrusted(&path, "it is cut short");
        };
        if !same(tag, &self.tag(digest, code)) {
            return self.distrusted(&path, "its seal is broken");
        }
        // The seal is a hash keyed with a secret that only this user can read, over the module's digest, the engine's
        // compatibility hash and the bytes: nobody else can have made it. The bytes are those that were verified, held in
        // memory, not a file that could change.
        match revive(engine, code) {
            Ok(component) => {
                // It was used: others go first.
                if let Ok(file) = fs::File::open(&path) {
                    let _ = file.set_modified(SystemTime::now());
                }
                Some(component)
            }
            Err(error) => self.distrusted(&path, &error.to_string()),
        }
    }

    /// Keeps a compiled module; a failure is only a warning.
    pub(crate) fn put(&self, digest: &Digest, component: &Component) {
        let written = component.serialize().map_err(io::Error::other).and_then(|code| {
            let mut file = tempfile(&self.dir)?;
            file.1.write_all(&self.tag(digest, &code))?;
            file.1.write_all(&code)?;
            file.1.sync_all()?;
            // atomic: a reader sees the whole entry or none
            fs::rename(&file.0, self.path(digest)).inspect_err(|_| drop(fs::remove_file(&file.0)))
        });
        if let Err(error) = written {
            tracing::warn!(dir = %self.dir.display(), %error, "a compiled module cannot be cached");
        }
        self.make_room(&self.path(digest));
    }

    /// Removes what was not used for longest, until the rest fits; never what has just come.
    fn make_room(&self, newest: &Path) {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let mut entries: Vec<(SystemTime, u64, PathBuf)> = entries
            .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "cwasm"))
            .filter_map(|entry| {
                let meta = entry.metadata().ok()?;
                Some((meta.modified().ok()?, meta.len(), entry.path()))
            })
            .collect();
        entries.sort();
        let mut held: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in entries {
            if held <= self.bytes {
                break;
            }
            if path != newest && fs::remove_file(&path).is_ok() {
                tracing::debug!(path = %path.display(), "a cached module makes room");
                held -= bytes;
            }
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(format!("{digest}-{:016x}.cwasm", self.compatibility))
    }

    /// HMAC's shape, with SHA-256: hash of key and (hash of key and content).
    fn tag(&self, digest: &Digest, code: &[u8]) -> Tag {
        let inner = Sha256::new()
            .chain_update([0x36; 32])
            .chain_update(self.key)
            .chain_update(digest.as_bytes())
            .chain_update(self.compatibility.to_le_bytes())
            .chain_update(code)
            .finalize();
        Sha256::new().chain_update([0x5c; 32]).chain_update(self.key).chain_update(inner).finalize().into()
    }

    fn distrusted(&self, path: &Path, why: &str) -> Option<Component> {
        tracing::warn!(path = %path.display(), why, "a cached module is not used and will be replaced");
        None
    }
}

/// What was compiled elsewhere: by an earlier process of this installation (`Cache::get`, which has looked at the seal) or
/// by our own child (`apart`, over a pipe that only the two hold). No other caller.
pub(crate) fn revive(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` demands bytes that a wasmtime of this version made; it finds out by itself whether its
    // settings were ours. Both callers vouch for where the bytes come from, as said above.
    unsafe { Component::deserialize(engine, code) }
}

/// The directory exists, is ours, and nobody else can write to it.
fn trust(dir: &Path) -> Result<(), Distrust> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let meta = fs::symlink_metadata(dir)?;
    if !meta.is_dir() {
        return Err(Distrust::NotADirectory);
    }
    let us = rustix::process::geteuid().as_raw();
    if meta.uid() != us {
        return Err(Distrust::Owner { owner: meta.uid(), us });
    }
    if meta.mode() & 0o022 != 0 {
        return Err(Distrust::Mode { mode: meta.mode() & 0o7777 });
    }
    Ok(())
}

/// This installation's secret, made on first use.
fn key(dir: &Path) -> Result<[u8; 32], Distrust> {
    let path = dir.join(KEY_FILE);
    if !path.try_exists()? {
        let mut fresh = [0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut fresh)?;
        let mut file = tempfile(dir)?;
        file.1.write_all(&fresh)?;
        file.1.sync_all()?;
        // `hard_link` fails where another process was quicker; then its key is ours too
        let linked = fs::hard_link(&file.0, &path);
        fs::remove_file(&file.0)?;
        if let Err(error) = linked.or_else(|e| if e.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(e) }) {
            return Err(error.into());
        }
    }
    let meta = fs::symlink_metadata(&path)?;
    let ours = meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o077 == 0;
    if !ours {
        return Err(Distrust::Key);
    }
    fs::read(&path)?.try_into().map_err(|_| Distrust::Key)
}

/// A new file of our own in `dir`, unreadable to others.
fn tempfile(dir: &Path) -> io::Result<(PathBuf, fs::File)> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!(".{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = dir.join(name);
    // what a crashed process of the same id left behind
    let _ = fs::remove_file(&path);
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    Ok((path, file))
}

/// Compares without telling by its time where the difference is.
fn same(a: &Tag, b: &Tag) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// std's own hashers may change between releases of Rust; file names should not.
struct StableHasher(Sha256);

impl Hasher for StableHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        digest.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}
