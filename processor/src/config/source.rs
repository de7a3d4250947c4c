//! A config file as it was read, so that errors can show its lines.
//!
//! Owns the text and knows which of its bytes must not be shown. Refuses what is not a config file: too large, not
//! UTF-8, an unknown extension.

use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// No config file is larger; `-c /dev/zero` ends here.
const LARGEST: u64 = 8 << 20;

pub struct Source {
    /// As it was given.
    pub path: PathBuf,
    pub text: String,
    /// Bytes that must not be shown. Unset until the text has been parsed: then nothing may be shown.
    hidden: OnceLock<Vec<Range<usize>>>,
    /// Where each line begins.
    lines: OnceLock<Vec<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON is read as YAML too.
    Yaml,
    Toml,
}

/// A line and a column, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl Format {
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "yaml" | "yml" | "json" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

impl Source {
    pub fn new(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { path: path.into(), text: text.into(), hidden: OnceLock::new(), lines: OnceLock::new() }
    }

    /// # Errors
    /// A sentence without the path.
    pub fn read(path: &Path) -> Result<Self, String> {
        let cannot = |why: std::io::Error| format!("cannot be read: {why}");
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(cannot)?;
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if bytes.len() as u64 > LARGEST {
            return Err(format!("is larger than {} MiB, which no config file is", LARGEST >> 20));
        }
        let text = String::from_utf8(bytes)
            .map_err(|why| format!("is not UTF-8 (from byte {} on)", why.utf8_error().valid_up_to()))?;
        Ok(Self::new(path, text))
    }

    /// The directory that relative paths in the file start from.
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    pub fn position(&self, at: usize) -> Position {
        let at = self.boundary(at);
        let newlines = || self.text.match_indices('\n').map(|(newline, _)| newline + 1);
        let lines = self.lines.get_or_init(|| std::iter::once(0).chain(newlines()).collect());
        let line = lines.partition_point(|start| *start <= at);
        let start = lines.get(line - 1).copied().unwrap_or(0);
        Position { line, column: self.text[start..at].chars().count() + 1 }
    }

    /// The bytes of the line that holds the byte `at`, without its line break.
    pub fn line(&self, at: usize) -> Range<usize> {
        let at = self.boundary(at);
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline);
        start..start + self.text[start..end].trim_end_matches('\r').len()
    }

    pub fn hide(&self, ranges: Vec<Range<usize>>) {
        // The first to know is right: a source is parsed once.
        let _ = self.hidden.set(ranges);
    }

    /// None where nothing is known, and so nothing may be shown.
    pub fn hidden(&self) -> Option<&[Range<usize>]> {
        self.hidden.get().map(Vec::as_slice)
    }

    fn boundary(&self, at: usize) -> usize {
        self.text.floor_char_boundary(at)
    }
}

/// Without the text, which may hold secrets.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.path.display())
    }
}
