//! What is wrong with a configuration, for people and for programs.
//!
//! Owns the codes (stable: they may be relied on, and each is explained in docs/reference/configuration.md) and the
//! place of an error. An error has everything needed to show it, already without values that must stay hidden.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::check::MOST_ERRORS;
use super::render::{self, Snippet};
use super::tree::Origin;

/// The kind of an error. Stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    File,
    Syntax,
    DuplicateKey,
    UnknownKey,
    UnknownProperty,
    OwnedProperty,
    Type,
    Value,
    Range,
    Missing,
    Conflict,
    Loop,
    Environment,
    Unreachable,
    Authentication,
    Tls,
    Denied,
    Topic,
    Property,
    Module,
    Unfit,
    Sandbox,
}

impl Code {
    pub const ALL: [Self; 22] = [
        Self::File,
        Self::Syntax,
        Self::DuplicateKey,
        Self::UnknownKey,
        Self::UnknownProperty,
        Self::OwnedProperty,
        Self::Type,
        Self::Value,
        Self::Range,
        Self::Missing,
        Self::Conflict,
        Self::Loop,
        Self::Environment,
        Self::Unreachable,
        Self::Authentication,
        Self::Tls,
        Self::Denied,
        Self::Topic,
        Self::Property,
        Self::Module,
        Self::Unfit,
        Self::Sandbox,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::File => "config.file",
            Self::Syntax => "config.syntax",
            Self::DuplicateKey => "config.duplicate_key",
            Self::UnknownKey => "config.unknown_key",
            Self::UnknownProperty => "config.unknown_property",
            Self::OwnedProperty => "config.owned_property",
            Self::Type => "config.type",
            Self::Value => "config.value",
            Self::Range => "config.range",
            Self::Missing => "config.missing",
            Self::Conflict => "config.conflict",
            Self::Loop => "config.loop",
            Self::Environment => "config.environment",
            Self::Unreachable => "kafka.unreachable",
            Self::Authentication => "kafka.authentication",
            Self::Tls => "kafka.tls",
            Self::Denied => "kafka.denied",
            Self::Topic => "kafka.topic",
            Self::Property => "kafka.property",
            Self::Module => "module.load",
            Self::Unfit => "module.unfit",
            Self::Sandbox => "sandbox.engine",
        }
    }

    pub const fn meaning(self) -> &'static str {
        match self {
            Self::File => "A file cannot be used: it is missing, unreadable, too large or of an unknown kind.",
            Self::Syntax => "The text is not YAML, TOML or JSON, or not a `path=value`.",
            Self::DuplicateKey => "A key is given twice in one map.",
            Self::UnknownKey => "No such key here.",
            Self::UnknownProperty => "librdkafka has no such property, or not for this kind of client.",
            Self::OwnedProperty => "A librdkafka property that Pelton sets itself; the message names the key to use.",
            Self::Type => "The value has the wrong type: a list where a text is expected, a number without quotes, …",
            Self::Value => {
                "The text is not what is expected here: a duration, a size, a topic name, one of some words."
            }
            Self::Range => "A number, duration, size or count is outside the allowed range.",
            Self::Missing => "A required key is not given.",
            Self::Conflict => "Two settings, each valid on its own, contradict each other.",
            Self::Loop => "Transforms feed each other, or read their own dead letters.",
            Self::Environment => {
                "Something that the configuration refers to is missing: an environment variable, a secret's file."
            }
            Self::Unreachable => "No broker answered.",
            Self::Authentication => "The brokers refuse the credentials.",
            Self::Tls => "No TLS connection to a broker can be made.",
            Self::Denied => "The principal lacks a right: a topic is not for it to see.",
            Self::Topic => "A topic does not exist, or something is wrong with it.",
            Self::Property => "librdkafka does not accept a property's value.",
            Self::Module => {
                "A module cannot be loaded: it is not a component, not built for Pelton, or not the pinned one."
            }
            Self::Unfit => "A module does not fit its transform: an import without a grant, settings that it refuses.",
            Self::Sandbox => "The WebAssembly engine cannot be created in this process.",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an error is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nowhere in particular: a default, or nothing was given.
    Nowhere,
    File {
        path: PathBuf,
        at: Option<Snippet>,
    },
    Env(String),
    /// The path of a `--set`.
    Set(String),
}

impl From<&Origin> for Place {
    fn from(origin: &Origin) -> Self {
        match origin {
            Origin::Default(_) => Self::Nowhere,
            Origin::File(source, span) => {
                Self::File { path: source.path.clone(), at: Some(Snippet::of(source, span.clone())) }
            }
            Origin::Env(name) => Self::Env(name.to_string()),
            Origin::Set(path) => Self::Set(path.to_string()),
        }
    }
}

impl Place {
    /// For something that no single line causes: the file, not a place in it.
    pub(super) fn whole(origin: &Origin) -> Self {
        match origin {
            Origin::File(source, _) => Self::File { path: source.path.clone(), at: None },
            other => Self::from(other),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("default"),
            Self::File { path, at: None } => write!(f, "{}", path.display()),
            Self::File { path, at: Some(at) } => {
                write!(f, "{}:{}:{}", path.display(), at.position.line, at.position.column)
            }
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Set(path) => write!(f, "--set {path}=…"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    pub code: Code,
    /// `transforms.redact.limits.deadline`; empty if no key is concerned.
    pub path: String,
    pub place: Place,
    /// A sentence without a full stop.
    pub message: String,
    /// The name that was probably meant.
    pub suggestion: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// Another place that is involved, and how.
    pub note: Option<(String, Place)>,
}

/// An error on its way through results, which should be small.
pub(super) type Refused = Box<ConfigError>;

impl ConfigError {
    pub fn new(code: Code, path: impl Into<String>, place: impl Into<Place>, message: impl Into<String>) -> Self {
        Self {
            code,
            path: path.into(),
            place: place.into(),
            message: message.into(),
            suggestion: None,
            help: None,
            note: None,
        }
    }

    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub fn note(mut self, note: impl Into<String>, place: impl Into<Place>) -> Self {
        self.note = Some((note.into(), place.into()));
        self
    }

    #[must_use]
    pub fn suggest(mut self, meant: Option<&str>) -> Self {
        self.suggestion = meant.map(str::to_owned);
        self
    }

    pub fn to_json(&self) -> Value {
        json!({
            "code": self.code.as_str(),
            "path": self.path,
            "message": self.message,
            "suggestion": self.suggestion,
            "help": self.help,
            "place": self.place.to_json(),
            "note": self.note.as_ref().map(|(text, place)| json!({"message": text, "place": place.to_json()})),
        })
    }
}

impl Place {
    fn to_json(&self) -> Value {
        match self {
            Self::Nowhere => Value::Null,
            Self::File { path, at: None } => json!({"file": path}),
            Self::File { path, at: Some(at) } => json!({
                "file": path,
                "line": at.position.line,
                "column": at.position.column,
                "source": at.line,
            }),
            Self::Env(name) => json!({"environment": name}),
            Self::Set(path) => json!({"set": path}),
        }
    }
}

/// As for a terminal, without colours.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&render::error(self, render::Paint::Off))
    }
}

/// Everything that is wrong, in the order of the files. Never empty when returned as an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl ConfigErrors {
    /// In colours, or not.
    pub fn render(&self, paint: render::Paint) -> String {
        let mut text: String = self.0.iter().map(|error| render::error(error, paint) + "\n").collect();
        text += &match self.0.len() {
            1 => "1 error in the configuration".to_owned(),
            n if n >= MOST_ERRORS => format!("{n} errors in the configuration, and perhaps more"),
            n => format!("{n} errors in the configuration"),
        };
        text
    }

    pub fn to_json(&self) -> Value {
        json!({"ok": self.0.is_empty(), "errors": self.0.iter().map(ConfigError::to_json).collect::<Vec<_>>()})
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(render::Paint::Off))
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}
