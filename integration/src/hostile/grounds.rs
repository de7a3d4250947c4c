//! The directory that hostile transforms are granted, and what lies around it that they must not reach.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

/// A directory with a secret beside it.
#[derive(Debug)]
pub struct Grounds {
    place: tempfile::TempDir,
    before: Picture,
}

/// Of each path: size, time, mode, content.
type Picture = BTreeMap<PathBuf, (u64, i64, u32, Vec<u8>)>;

impl Grounds {
    /// # Panics
    /// When the file system refuses.
    pub fn new() -> Self {
        let place = tempfile::tempdir().expect("there is room for files");
        lay_out(place.path()).expect("there is room for files");
        let before = picture(place.path()).expect("it is ours");
        Self { place, before }
    }

    /// What is granted.
    pub fn granted(&self) -> PathBuf {
        self.place.path().join("granted")
    }

    /// Whether anything is not as it was.
    ///
    /// # Panics
    /// When the file system refuses.
    pub fn are_untouched(&self) -> bool {
        picture(self.place.path()).expect("it is ours") == self.before
    }
}

impl Default for Grounds {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Grounds {
    /// Lets threads go that wait for a writer of the pipe.
    fn drop(&mut self) {
        let _ = OpenOptions::new().read(true).write(true).open(self.granted().join("pipe"));
    }
}

fn lay_out(place: &Path) -> io::Result<()> {
    let granted = place.join("granted");
    fs::create_dir_all(granted.join("sub"))?;
    fs::write(granted.join("table"), "granted")?;
    File::create(granted.join("large"))?.set_len(1 << 20)?;
    fs::write(place.join("secret"), "secret")?;
    symlink(place.join("secret"), granted.join("absolute"))?;
    symlink("../secret", granted.join("relative"))?;
    symlink("..", granted.join("up"))?;
    symlink("loop", granted.join("loop"))?;
    symlink("/proc/self/environ", granted.join("proc"))?;
    Ok(mknodat(CWD, granted.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?)
}

/// Of all there is.
fn picture(place: &Path) -> io::Result<Picture> {
    let mut seen = Picture::new();
    let mut open = vec![place.to_owned()];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path)?;
        let content = if meta.is_file() { fs::read(&path)? } else { Vec::new() };
        if meta.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
        seen.insert(path, (meta.len(), meta.mtime_nsec(), meta.mode(), content));
    }
    Ok(seen)
}
