//! A directory of config files, an environment and arguments, to load a configuration from.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::path::{Path, PathBuf};

use pelton::config::{ConfigErrors, Loaded, Sources, load};

pub struct Setup {
    directory: tempfile::TempDir,
    sources: Sources,
}

impl Setup {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory"), sources: Sources::default() }
    }

    pub fn file(self, name: &str, text: &str) -> Self {
        self.bytes(name, text.as_bytes())
    }

    pub fn bytes(mut self, name: &str, bytes: &[u8]) -> Self {
        self.write(name, bytes);
        self.sources.files.push(self.path(name));
        self
    }

    /// A file that the configuration refers to.
    pub fn beside(self, name: &str, bytes: &[u8]) -> Self {
        self.write(name, bytes);
        self
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, bytes).expect("a file");
    }

    /// Config files that are not written.
    pub fn names(mut self, names: &[&str]) -> Self {
        self.sources.files.extend(names.iter().map(|name| self.directory.path().join(name)));
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.sources.environment.push((name.into(), value.into()));
        self
    }

    pub fn set(mut self, argument: &str) -> Self {
        self.sources.set.push(argument.to_owned());
        self
    }

    /// What is referred to must be there.
    pub fn outside(mut self) -> Self {
        self.sources.outside = true;
        self
    }

    pub fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(&self.sources)
    }

    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn root(&self) -> String {
        self.directory.path().display().to_string()
    }
}

/// The smallest configuration, and `more` at its end: of the transform where it is indented, of the top level else.
/// `more` begins on line 9.
pub fn minimal(more: &str) -> String {
    let head = "\
application: orders
kafka:
  bootstrap_servers: localhost:9092
transforms:
  redact:
    module: redact.wasm
    input: { topics: [orders] }
    output: { topic: orders.clean }
";
    format!("{head}{more}")
}

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
