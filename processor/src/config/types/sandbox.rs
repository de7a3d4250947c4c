//! What the operator requires of every module, and the most that any transform may ask for.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bytes, Millis};

/// Rules for all modules of the process, whatever their transforms say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sandbox {
    /// What a module must prove before it is compiled.
    pub require: Require,

    /// Public keys (Ed25519 in PEM, as written by `pelton keygen` and `openssl pkey -pubout`). With
    /// `require: signature` a module must be signed with one of them.
    #[schemars(extend("items" = {"type": "string", "format": "pelton-path"}))]
    pub keys: Vec<PathBuf>,

    /// The most that `cache_dir` may hold; the least recently used modules are removed first.
    #[schemars(extend("x-minimum" = "1MiB", "x-maximum" = "1024GiB"))]
    pub cache_size: Bytes,

    /// Memory that compiling one module may take, in a separate process with this limit, because a small file can
    /// expand to any size. Never more than half of what the process's control group may use, so that a module that
    /// takes too much is refused instead of ending the container.
    #[schemars(extend("x-minimum" = "128MiB", "x-maximum" = "64GiB"))]
    pub compile_memory: Bytes,

    /// CPU time that compiling one module may take.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "60m"))]
    pub compile_time: Millis,

    /// The most that any transform's `limits` may be. A transform that asks for more is refused.
    pub ceiling: Ceiling,
}

/// What a module must prove before it is compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Require {
    /// Nothing; if a `sha256` is given, it is checked all the same.
    #[default]
    None,
    /// Each transform gives the `sha256` of its module.
    Digest,
    /// Each module is signed with one of `keys`.
    Signature,
}

/// The most that any transform's `limits` may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ceiling {
    /// Of `limits.deadline`.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "60s"))]
    pub deadline: Millis,

    /// Of `limits.memory`.
    #[schemars(extend("x-minimum" = "64KiB", "x-maximum" = "4GiB"))]
    pub memory: Bytes,

    /// Of `limits.fuel`.
    #[schemars(range(min = 10_000, max = 9_000_000_000_000_000_u64))]
    pub fuel: u64,

    /// Of `limits.outputs`.
    #[schemars(range(min = 1, max = 100_000))]
    pub outputs: u32,

    /// Of `limits.output_bytes`.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "64MiB"))]
    pub output_bytes: Bytes,

    /// Of `limits.log`.
    #[schemars(extend("x-minimum" = "0B", "x-maximum" = "1MiB"))]
    pub log: Bytes,

    /// Of `limits.configure_deadline`.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "5m"))]
    pub configure_deadline: Millis,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            require: Require::default(),
            keys: Vec::new(),
            cache_size: Bytes::mib(1024),
            compile_memory: Bytes::mib(2048),
            compile_time: Millis::from_secs(60),
            ceiling: Ceiling::default(),
        }
    }
}

impl Default for Ceiling {
    fn default() -> Self {
        Self {
            deadline: Millis::from_secs(60),
            memory: Bytes::mib(4096),
            fuel: 9_000_000_000_000_000,
            outputs: 100_000,
            output_bytes: Bytes::mib(64),
            log: Bytes::mib(1),
            configure_deadline: Millis::from_secs(300),
        }
    }
}
