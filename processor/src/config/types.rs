//! The configuration of a Pelton process: plain structs, one for each section of the file.
//!
//! Owns the shape of the configuration. The doc comments are the documentation that users read (they go into the JSON
//! schema and from there into docs/reference/configuration.md), and the defaults are those of the schema. Promises
//! that a value of these types is well formed on its own (a `Topic` is a legal topic name, a `Millis` is a duration);
//! what must hold between values is checked in `checks`. Refuses unknown keys everywhere.

mod admin;
mod delivery;
mod instance;
mod kafka;
mod names;
mod sandbox;
mod secret;
mod tap;
mod transform;
mod units;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use admin::{Admin, CacheDir, Listen, Observe, Workers};
pub use delivery::{Delivery, Guarantee, Latency};
pub use instance::{Identity, Instance};
pub use kafka::{Assignment, BootstrapServers, ClientProperties, GroupProtocol, Kafka, TRANSACTION_TIMEOUT_RANDOM};
pub use names::{Application, EnvironmentName, GuestPath, InstanceName, Sha256, Topic, TransformName};
pub use sandbox::{Ceiling, Require, Sandbox};
pub(crate) use secret::HIDDEN;
pub use secret::{RevealError, Secret};
pub use tap::Tap;
pub use transform::{
    Budget, Canary, Clock, Compare, Grants, Input, Limits, OnError, Output, OverBudget, Randomness, Rollout, Shadow,
    Start, Then, Transform, TrialBudget,
};
pub use units::{Bytes, Millis, Percent};

/// Configuration of Pelton: one application, its Kafka cluster and its transforms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the application: the consumer group's `group.id` and the first part of every transactional id. Choose
    /// it once; under another name the group starts from scratch.
    pub application: Application,

    /// The stable identity of this process among those of its application: a name, `{ env: X }`, `random` if nothing
    /// stable is available, or `auto`: `PELTON_INSTANCE` if set, else the host name. A process that comes back under
    /// the same identity immediately aborts the transactions that its predecessor left open; two live processes must
    /// never share one.
    #[serde(default)]
    pub instance: Instance,

    /// The Kafka cluster.
    pub kafka: Kafka,

    /// The delivery guarantee, and how often transactions commit.
    #[serde(default)]
    pub delivery: Delivery,

    /// Worker threads, each with its own consumer: a number, or `auto` for one per CPU that the process may use.
    #[serde(default)]
    pub workers: Workers,

    /// The transforms, by name (`[a-z][a-z0-9_-]*`, at most 63 characters). Several may read one topic: each of them
    /// gets every record. One may read what another writes; loops are refused.
    #[schemars(extend("minProperties" = 1, "propertyNames" = {"format": "pelton-transform"}))]
    pub transforms: BTreeMap<TransformName, Transform>,

    /// Where compiled modules are kept between starts: a directory that only this user can write, `off`, or `auto`:
    /// `$XDG_CACHE_HOME/pelton`, else `/var/cache/pelton` where it can be written, else off.
    #[serde(default)]
    pub cache_dir: CacheDir,

    /// Rules for all modules of the process, whatever their transforms say.
    #[serde(default)]
    pub sandbox: Sandbox,

    /// Reload when one of the configuration's files changes, modules and signatures included. With `false` only SIGHUP
    /// and `pelton reload` cause a reload, for those who change things by rollouts.
    #[serde(default = "reload_on_change")]
    pub reload_on_change: bool,

    /// How long a stop may take to finish work, commit and leave the group. Keep it below the orchestrator's own limit
    /// (Kubernetes: `terminationGracePeriodSeconds`).
    #[serde(default = "drain_limit")]
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub drain_limit: Millis,

    /// What logs and metrics may say.
    #[serde(default)]
    pub observe: Observe,

    /// The HTTP server for health, metrics and administration: its settings, or `off`.
    #[serde(default)]
    pub admin: Admin,
}

fn reload_on_change() -> bool {
    true
}

fn drain_limit() -> Millis {
    Millis::from_secs(60)
}
