//! What surrounds the work: threads, the cache of compiled modules, logs, the HTTP server.
//!
//! The three that take a word or a value (`auto`, `off`) are written by hand, so that the error for a wrong value says
//! what would have been right.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Secret, Tap};

/// Worker threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// One for each CPU that the process may use.
    #[default]
    Auto,
    Count(NonZeroU16),
}

/// Where compiled modules are kept between starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CacheDir {
    #[default]
    Auto,
    Off,
    At(PathBuf),
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admin {
    Off,
    On(Listen),
}

/// The HTTP server's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// Address and port. The default answers only this machine; `0.0.0.0:9640` answers everyone, protected by nothing
    /// but the network.
    #[schemars(with = "String", extend("format" = "pelton-address"))]
    pub listen: SocketAddr,

    /// Whoever presents this token may also give orders over the network (reload, rollback): `{ env: X }` or
    /// `{ file: path }`. Without a token, nobody may.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Secret")]
    pub token: Option<Secret>,

    /// A Unix socket that answers too, and takes orders without a token from whoever may write to it: only this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "pelton-path"))]
    pub socket: Option<PathBuf>,

    /// What `pelton tap` may show of records while they are processed, to whoever may give orders: `off`, nothing;
    /// `redacted`, their shape (names of JSON fields, kinds, lengths); `full`, everything.
    pub tap: Tap,
}

/// What logs and metrics may say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Observe {
    /// Log what guests say when they reject or panic. Off by default, because such texts tend to contain data; dead
    /// letters carry them in their headers in any case.
    pub guest_text: bool,
    /// Report the lag of each partition instead of each topic: one more series for each partition of the input topics.
    pub partition_metrics: bool,
}

const MOST_WORKERS: u16 = 256;

impl Workers {
    /// The number of threads, at least 1.
    pub fn count(self) -> usize {
        match self {
            Self::Auto => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            Self::Count(n) => usize::from(n.get()),
        }
    }
}

impl Admin {
    /// Where to listen, if at all.
    pub fn listen(&self) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::On(on) => Some(on.listen),
        }
    }
}

impl CacheDir {
    /// The directory to use, if any. `auto` takes the first that the environment offers; it creates
    /// `$XDG_CACHE_HOME/pelton` if needed, but not `/var/cache/pelton`, which a package or an image provides.
    pub fn resolve(&self) -> Option<PathBuf> {
        match self {
            Self::Off => None,
            Self::At(path) => Some(path.clone()),
            Self::Auto => {
                let own = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
                let own = own.map(|path| path.join("pelton")).filter(|path| std::fs::create_dir_all(path).is_ok());
                own.into_iter().chain([PathBuf::from("/var/cache/pelton")]).find(|path| writable(path))
            }
        }
    }
}

fn writable(path: &std::path::Path) -> bool {
    path.is_dir() && rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok()
}

impl Default for Listen {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9640)), token: None, socket: None, tap: Tap::Off }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self::On(Listen::default())
    }
}

impl FromStr for CacheDir {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("it must not be empty: `auto`, `off` or a directory".to_owned()),
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            path => Ok(Self::At(PathBuf::from(path))),
        }
    }
}

// === Workers in and out ===

impl Serialize for Workers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Count(n) => serializer.serialize_u16(n.get()),
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl Visitor<'_> for Visit {
            type Value = Workers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "`auto` or a number from 1 to {MOST_WORKERS}")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Workers, E> {
                if text == "auto" { Ok(Workers::Auto) } else { Err(E::invalid_value(de::Unexpected::Str(text), &self)) }
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Workers, E> {
                let count = u16::try_from(n).ok().filter(|n| *n <= MOST_WORKERS).and_then(NonZeroU16::new);
                count.map(Workers::Count).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(n), &self))
            }
        }

        deserializer.deserialize_any(Visit)
    }
}

impl JsonSchema for Workers {
    fn schema_name() -> Cow<'static, str> {
        "Workers".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"const": "auto"}, {"type": "integer", "minimum": 1, "maximum": MOST_WORKERS}]})
    }
}

// === CacheDir in and out ===

impl Serialize for CacheDir {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Off => serializer.serialize_str("off"),
            Self::At(path) => path.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for CacheDir {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl Visitor<'_> for Visit {
            type Value = CacheDir;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`auto`, `off` or a directory")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CacheDir, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_bool<E: de::Error>(self, on: bool) -> Result<CacheDir, E> {
                if on { Err(E::invalid_value(de::Unexpected::Bool(on), &self)) } else { Ok(CacheDir::Off) }
            }
        }

        deserializer.deserialize_any(Visit)
    }
}

impl JsonSchema for CacheDir {
    fn schema_name() -> Cow<'static, str> {
        "CacheDir".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"enum": ["auto", "off", false]}, {"type": "string", "format": "pelton-path"}]})
    }
}

// === Admin in and out ===

impl Serialize for Admin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Off => serializer.serialize_str("off"),
            Self::On(listen) => listen.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Admin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;

        impl<'de> Visitor<'de> for Visit {
            type Value = Admin;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`off` or a map with `listen`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Admin, E> {
                if text == "off" { Ok(Admin::Off) } else { Err(E::invalid_value(de::Unexpected::Str(text), &self)) }
            }

            // YAML 1.1 tools (Helm is one) write `off` as `false`.
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Admin, E> {
                if on { Err(E::invalid_value(de::Unexpected::Bool(on), &self)) } else { Ok(Admin::Off) }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Admin, A::Error> {
                Listen::deserialize(MapAccessDeserializer::new(map)).map(Admin::On)
            }
        }

        deserializer.deserialize_any(Visit)
    }
}

impl JsonSchema for Admin {
    fn schema_name() -> Cow<'static, str> {
        "Admin".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [Listen::json_schema(generator), {"enum": ["off", false]}]})
    }
}
