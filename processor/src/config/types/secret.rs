//! Values that may have to stay hidden: librdkafka's properties and the settings of guests.
//!
//! Promises that `Debug`, `Serialize` and every error leave an inline value out; the only way to it is `reveal`, to be
//! called where the value is used and not before. Refuses to guess which values are harmless: all inline ones are
//! hidden here (`redact` knows the names whose values may be shown to an operator).

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::EnvironmentName;

/// What is written instead of a hidden value.
pub(crate) const HIDDEN: &str = "***";

/// A value, or where to find it: any scalar, `{ env: X }` or `{ file: path }` (the file's text without its final line
/// break).
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Inline(String),
    Env(EnvironmentName),
    File(PathBuf),
}

/// Why a value could not be obtained. Says where Pelton looked, never what it found.
#[derive(Debug, thiserror::Error)]
pub enum RevealError {
    #[error("the environment variable {0} is not set")]
    NotSet(EnvironmentName),
    #[error("the environment variable {0} is not valid UTF-8")]
    NotText(EnvironmentName),
    #[error("cannot read {}: {source}", .path.display())]
    File { path: PathBuf, source: std::io::Error },
}

impl Secret {
    pub fn inline(text: impl Into<String>) -> Self {
        Self(Kind::Inline(text.into()))
    }

    /// Whether the value is kept elsewhere, and so must not be shown where it is used.
    pub fn is_reference(&self) -> bool {
        !matches!(self.0, Kind::Inline(_))
    }

    /// The value itself. Reads the environment or the file at each call, so that a rotated secret is found.
    ///
    /// # Errors
    /// If the variable is not set or the file cannot be read.
    pub fn reveal(&self) -> Result<String, RevealError> {
        match &self.0 {
            Kind::Inline(text) => Ok(text.clone()),
            Kind::Env(name) => std::env::var(name.as_str()).map_err(|why| match why {
                std::env::VarError::NotPresent => RevealError::NotSet(name.clone()),
                std::env::VarError::NotUnicode(_) => RevealError::NotText(name.clone()),
            }),
            Kind::File(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| RevealError::File { path: path.clone(), source })?;
                let line = text.strip_suffix('\n').unwrap_or(&text);
                Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Inline(_) => write!(f, "Secret({HIDDEN})"),
            Kind::Env(name) => write!(f, "Secret(env: {name})"),
            Kind::File(path) => write!(f, "Secret(file: {})", path.display()),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Kind::Inline(_) => serializer.serialize_str(HIDDEN),
            Kind::Env(name) => serializer.collect_map([("env", name)]),
            Kind::File(path) => serializer.collect_map([("file", path)]),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl<'de> Visitor<'de> for Visit {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a scalar, `{ env: X }` or `{ file: path }`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::inline(text))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Secret, E> {
                Ok(Secret::inline(value.to_string()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Secret, E> {
                Ok(Secret::inline(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Secret, E> {
                Ok(Secret::inline(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Secret, E> {
                Ok(Secret::inline(value.to_string()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
                let kind = match map.next_key::<String>()?.as_deref() {
                    Some("env") => Kind::Env(map.next_value()?),
                    Some("file") => Kind::File(map.next_value()?),
                    _ => return Err(de::Error::custom("expected `{ env: X }` or `{ file: path }`")),
                };
                match map.next_key::<String>()? {
                    None => Ok(Secret(kind)),
                    Some(_) => Err(de::Error::custom("give `env` or `file`, not both")),
                }
            }
        }

        deserializer.deserialize_any(Visit)
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A value, or where to find it: any scalar, `{ env: X }` or `{ file: path }` (the file's \
                text without its final line break).",
            "x-secret": true,
            "anyOf": [
                {"type": ["string", "number", "boolean"]},
                {
                    "type": "object",
                    "properties": {
                        "env": EnvironmentName::json_schema(generator),
                        "file": {"type": "string", "format": "pelton-path"},
                    },
                    "additionalProperties": false,
                    "minProperties": 1,
                    "maxProperties": 1,
                },
            ],
        })
    }
}
