//! Which of an application's processes this one is.
//!
//! Owns how it is configured and how it is resolved; the resulting name becomes part of every transactional id. Written
//! by hand rather than with serde's `untagged`, which would not say what is wrong.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{EnvironmentName, InstanceName};

/// The name of this process, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Instance {
    /// `PELTON_INSTANCE`, else the host name.
    #[default]
    Auto,
    Random,
    Named(InstanceName),
    Env(EnvironmentName),
}

/// The name of this process, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Stable across restarts.
    Named(InstanceName),
    /// New at every start: nothing may rely on finding it again.
    Random,
}

impl Instance {
    /// Reads the environment and, failing that, the host name.
    ///
    /// # Errors
    /// A sentence, if the variable is not set or its text is not a legal name.
    pub fn identity(&self) -> Result<Identity, String> {
        self.identity_in(&|name| std::env::var(name).ok())
    }

    pub(crate) fn identity_in(&self, env: &dyn Fn(&str) -> Option<String>) -> Result<Identity, String> {
        let named = |from: &str, text: String| match text.parse() {
            Ok(name) => Ok(Identity::Named(name)),
            Err(why) => Err(format!("{from} is no name for an instance: {why}")),
        };
        match self {
            Self::Random => Ok(Identity::Random),
            Self::Named(name) => Ok(Identity::Named(name.clone())),
            // Shells know HOSTNAME without exporting it, so the host itself is asked where the variable is missing.
            Self::Env(name) => match env(name.as_str()) {
                Some(text) => named(&format!("the environment variable {name}"), text),
                None if name.as_str() == "HOSTNAME" => named("the host name", host_name()),
                None => Err(format!("the environment variable {name} is not set")),
            },
            Self::Auto => match env("PELTON_INSTANCE").filter(|text| !text.is_empty()) {
                Some(text) => named("the environment variable PELTON_INSTANCE", text),
                None => named("the host name", env("HOSTNAME").unwrap_or_else(host_name)),
            },
        }
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

impl FromStr for Instance {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "random" => Ok(Self::Random),
            name => name.parse().map(Self::Named),
        }
    }
}

impl<'de> Deserialize<'de> for Instance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl<'de> Visitor<'de> for Visit {
            type Value = Instance;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name, `auto`, `random` or `{ env: X }`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Instance, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Instance, A::Error> {
                let found = map.next_entry::<String, EnvironmentName>()?;
                match (found, map.next_key::<String>()?) {
                    (Some((key, name)), None) if key == "env" => Ok(Instance::Env(name)),
                    _ => Err(de::Error::custom("expected `{ env: X }`")),
                }
            }
        }

        deserializer.deserialize_any(Visit)
    }
}

impl Serialize for Instance {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Random => serializer.serialize_str("random"),
            Self::Named(name) => serializer.serialize_str(name.as_str()),
            Self::Env(name) => serializer.collect_map([("env", name)]),
        }
    }
}

impl JsonSchema for Instance {
    fn schema_name() -> Cow<'static, str> {
        "Instance".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                {"type": "string", "format": "pelton-instance", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
                {
                    "type": "object",
                    "properties": {"env": EnvironmentName::json_schema(generator)},
                    "required": ["env"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}
