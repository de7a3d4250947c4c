//! `pelton keygen`, `sign`, `verify`: where a module comes from. Needs no configuration and no cluster.

use clap::Args;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::{Exit, print};
use pelton_sandbox::{PrivateKey, PublicKey, Signature, SignatureError};

#[derive(Debug, Args)]
pub(super) struct Keygen {
    /// Writes NAME.pem (the private key, readable only by this user) and NAME.pub.pem. Neither may exist yet.
    #[arg(value_name = "NAME")]
    name: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Sign {
    /// The module.
    module: PathBuf,

    /// The private key: Ed25519 in PEM.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,

    /// Where to write the signature [default: MODULE.sig].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The module.
    module: PathBuf,

    /// A public key whose signature is accepted; repeatable.
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,

    /// The signature [default: MODULE.sig].
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
}

pub(super) fn keygen(arguments: &Keygen) -> Exit {
    let key = match PrivateKey::generate() {
        Ok(key) => key,
        Err(error) => return failed(&error),
    };
    let (private, public) = (beside(&arguments.name, ".pem"), beside(&arguments.name, ".pub.pem"));
    let written = create(&private, 0o600, &key.to_pem()).and_then(|()| {
        // Half a pair is of no use.
        create(&public, 0o644, &key.public().to_pem()).inspect_err(|_| drop(fs::remove_file(&private)))
    });
    match written {
        Ok(()) => print(&format!(
            "{}  private key: keep it secret\n{}  public key {}: name it in `sandbox.keys`\n",
            private.display(),
            public.display(),
            key.public().id()
        )),
        Err(error) => io(&error),
    }
}

pub(super) fn sign(arguments: &Sign) -> Exit {
    let key = match PrivateKey::read(&arguments.key) {
        Ok(key) => key,
        Err(error) => return failed(&error),
    };
    let out = arguments.out.clone().unwrap_or_else(|| beside(&arguments.module, ".sig"));
    let signed = fs::read(&arguments.module)
        .map_err(|error| format!("cannot read {}: {error}", arguments.module.display()))
        .and_then(|bytes| {
            fs::write(&out, format!("{}\n", key.sign(&bytes)))
                .map_err(|error| format!("cannot write {}: {error}", out.display()))
        });
    match signed {
        Ok(()) => print(&format!("{}  signed with key {}\n", out.display(), key.public().id())),
        Err(error) => io(&error),
    }
}

pub(super) fn verify(arguments: &Verify) -> Exit {
    let file = arguments.signature.clone().unwrap_or_else(|| beside(&arguments.module, ".sig"));
    let keys: Result<Vec<PublicKey>, _> = arguments.key.iter().map(|path| PublicKey::read(path)).collect();
    let (keys, signature) = match keys.and_then(|keys| Ok((keys, Signature::read(&file)?))) {
        Ok(read) => read,
        Err(error) => return failed(&error),
    };
    let bytes = match fs::read(&arguments.module) {
        Ok(bytes) => bytes,
        Err(error) => return io(&format!("cannot read {}: {error}", arguments.module.display())),
    };
    match keys.iter().find(|key| key.verifies(&bytes, &signature)) {
        Some(key) => print(&format!("{}  signed with key {}\n", arguments.module.display(), key.id())),
        None => failed(&SignatureError::Untrusted(file)),
    }
}

/// The path with this after its name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(suffix);
    name.into()
}

fn create(path: &Path, mode: u32, text: &str) -> Result<(), String> {
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn failed(error: &SignatureError) -> Exit {
    let source = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
    eprintln!("error[module.signature]: {error}{source}");
    match error {
        SignatureError::Read { .. } | SignatureError::Random(_) => Exit::Io,
        _ => Exit::Failed,
    }
}

fn io(text: &str) -> Exit {
    eprintln!("error[io]: {text}");
    Exit::Io
}
