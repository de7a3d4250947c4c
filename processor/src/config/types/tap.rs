//! Whether records may be viewed: a word, parsed by hand because YAML 1.1 tools (such as Helm) write `off` as `false`.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What `pelton tap` may show to whoever may give orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tap {
    /// Nothing.
    #[default]
    Off,
    /// The shape of records: names of JSON fields, kinds and lengths; no value, no key, no reason.
    Redacted,
    /// Everything.
    Full,
}

impl Tap {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Redacted => "redacted",
            Self::Full => "full",
        }
    }
}

impl Serialize for Tap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Tap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl Visitor<'_> for Visit {
            type Value = Tap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off`, `redacted` or `full`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Tap, E> {
                let all = [Tap::Off, Tap::Redacted, Tap::Full];
                let known = all.into_iter().find(|tap| tap.as_str() == text);
                known.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Tap, E> {
                if on { Err(E::invalid_value(de::Unexpected::Bool(on), &self)) } else { Ok(Tap::Off) }
            }
        }

        deserializer.deserialize_any(Visit)
    }
}

impl JsonSchema for Tap {
    fn schema_name() -> Cow<'static, str> {
        "Tap".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": ["off", "redacted", "full", false]})
    }
}
