//! A transform: what it reads, which module does the work, what it writes, what it may use and what a failure means.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bytes, EnvironmentName, GuestPath, Millis, Percent, RevealError, Secret, Sha256, Topic};

/// A named step: input topics, a module, output topics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transform {
    /// The WebAssembly component, relative to the file that names it.
    #[schemars(extend("format" = "pelton-path"))]
    pub module: PathBuf,

    /// SHA-256 of the module's bytes, 64 hexadecimal digits. A module with another hash is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,

    /// The module's detached signature; by default the file with the module's name and `.sig` appended. Used with
    /// `sandbox.require: signature`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "pelton-path"))]
    pub signature: Option<PathBuf>,

    /// What it reads.
    pub input: Input,

    /// Where its outputs go.
    pub output: Output,

    /// Handed to the module's `configure`, as text. A value is a scalar, `{ env: X }` or `{ file: path }`.
    #[serde(default)]
    pub settings: BTreeMap<String, Secret>,

    /// How much it may use.
    #[serde(default)]
    pub limits: Limits,

    /// What it may access; everything else is out of reach.
    #[serde(default)]
    pub grants: Grants,

    /// What happens to a record that the module rejects or fails on.
    #[serde(default)]
    pub on_error: OnError,

    /// At most this many instances share each worker's batches, each on its own thread; outputs keep the records'
    /// order. For modules that compute for long on each record when there are fewer partitions than CPUs. State kept
    /// from record to record is private to each instance.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 64))]
    pub parallelism: u32,

    /// How a changed module, setting, limit or grant takes effect in a running process: at once, or after a trial
    /// beside the running version.
    #[serde(default)]
    pub rollout: Rollout,
}

/// What a transform reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Topics to read.
    #[schemars(extend("minItems" = 1, "uniqueItems" = true))]
    pub topics: Vec<Topic>,

    /// Where to begin on a partition for which the application has committed nothing yet. This belongs to the topic:
    /// two transforms cannot ask for different starts.
    #[serde(default)]
    pub start: Start,
}

/// Where to begin on a partition for which the application has committed nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// At the oldest record.
    #[default]
    Earliest,
    /// After the newest record.
    Latest,
}

/// Where a transform's outputs go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Topic for outputs that name none.
    pub topic: Topic,

    /// Further topics that the module may name. It can write to no others.
    #[serde(default)]
    #[schemars(extend("uniqueItems" = true))]
    pub also: Vec<Topic>,
}

/// How much a transform may use. Limits are per record unless stated otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Time for one record: the thread's CPU time while the module computes, wall time while it waits.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "60s"))]
    pub deadline: Millis,

    /// Linear memory of one instance. Python and JavaScript need 128MiB and more.
    #[schemars(extend("x-minimum" = "64KiB", "x-maximum" = "4GiB"))]
    pub memory: Bytes,

    /// Instructions for one record, approximately. A second fence behind the deadline, and the same on every machine.
    #[schemars(range(min = 10_000, max = 9_000_000_000_000_000_u64))]
    pub fuel: u64,

    /// Outputs of one record.
    #[schemars(range(min = 1, max = 100_000))]
    pub outputs: u32,

    /// Bytes of output of one record: keys, values and headers.
    #[schemars(extend("x-minimum" = "1KiB", "x-maximum" = "64MiB"))]
    pub output_bytes: Bytes,

    /// Bytes of log per second, each line costing 128 more; what exceeds it is counted and discarded.
    #[schemars(extend("x-minimum" = "0B", "x-maximum" = "1MiB"))]
    pub log: Bytes,

    /// Thousandths of each worker's time that it may take, averaged over a second; beyond that its input topics wait.
    /// 1000 means no limit.
    #[schemars(range(min = 10, max = 1_000))]
    pub share: u32,

    /// Time for `configure`, once for each instance.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "5m"))]
    pub configure_deadline: Millis,
}

/// What a transform may access.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Directories the module may read, from the guest's path to the host's: `/lookup: ./lookup`. Never writable. A
    /// read from a network mount cannot be interrupted: use local files only.
    #[schemars(extend(
        "propertyNames" = {"format": "pelton-guest-path"},
        "patternProperties" = {"^/": {"type": "string", "format": "pelton-path"}}
    ))]
    pub directories: BTreeMap<GuestPath, PathBuf>,

    /// Names of environment variables the module may read.
    #[schemars(extend("uniqueItems" = true))]
    pub environment: Vec<EnvironmentName>,

    /// What its clocks show.
    pub clock: Clock,

    /// Where its randomness comes from.
    pub random: Randomness,
}

/// What the module's clocks show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// The time.
    Real,
    /// The timestamp of the record being processed; it stands still meanwhile, and is 1970 in `configure`.
    #[default]
    Record,
    /// Nothing: a call fails with `guest.not_granted`.
    None,
}

/// Where the module's randomness comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Randomness {
    /// The system.
    Real,
    /// The record's topic, partition and offset: the same whenever the record is processed, and predictable by anybody.
    #[default]
    Seeded,
    /// Nowhere: a call fails with `guest.not_granted`.
    None,
}

/// What happens to a record that the module rejects or fails on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OnError {
    /// What to do.
    pub then: Then,

    /// Topic for dead letters; required with `then: dead_letter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<Topic>,

    /// How many failures are too many. Without a budget there is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
}

/// How many failures are too many, counted over all workers of the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// This many failures are too many.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub failures: u32,

    /// The period in which they are counted.
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "1h"))]
    pub within: Millis,

    /// What to do then. The failures themselves are handled by `on_error.then`.
    #[serde(default)]
    pub then: OverBudget,
}

/// What to do with a transform that has used up its failure budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverBudget {
    /// Pause its input topics until a reload replaces it, or the process is restarted; `/readyz` says so. Other
    /// transforms that read them are paused with it.
    #[default]
    Pause,
    /// End the process.
    Stop,
}

/// How a new version takes over: at once if neither `shadow` nor `canary` is given. A trial ends by itself: the new
/// version takes over once the trial has run its time, or is rolled back if it does worse than `budget` allows. Input
/// and output topics cannot change in a trial.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// The new version processes every record too, after the running one; its outcomes are compared and discarded. This
    /// takes the worker's time twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<Shadow>,

    /// The new version really processes some partitions, the running one the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,

    /// How much worse than the running version the new one may be during a trial.
    pub budget: TrialBudget,
}

/// A trial that writes nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shadow {
    /// How long.
    #[serde(rename = "for")]
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "168h"))]
    pub lasting: Millis,

    /// When two outputs count as the same.
    #[serde(default)]
    pub compare: Compare,
}

/// When two outputs count as the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// Byte for byte.
    #[default]
    Bytes,
    /// JSON values: regardless of the order of keys and of white space.
    Json,
}

/// A trial on some partitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// Share of each input topic's partitions, at least one. They are the same in all processes.
    #[schemars(extend("x-minimum" = "0.01%", "x-maximum" = "100%"))]
    pub partitions: Percent,

    /// How long.
    #[serde(rename = "for")]
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "168h"))]
    pub lasting: Millis,
}

/// How much worse than the running version a new one may be during a trial. Judged from 100 records on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrialBudget {
    /// Share of records rejected or failed, beyond the running version's share. Fewer than three never count.
    #[schemars(extend("x-minimum" = "0%", "x-maximum" = "100%"))]
    pub failures: Percent,

    /// 99th percentile of the time for a record, relative to the running version's. Judged after 1,000 records; up to a
    /// twentieth of `limits.deadline` is always allowed. 0% turns this off.
    #[schemars(extend("x-minimum" = "0%", "x-maximum" = "10000%"))]
    pub p99: Percent,

    /// Mean fuel of a record, relative to the running version's. Judged after 1,000 records; up to a ten-thousandth of
    /// `limits.fuel` is always allowed. 0% turns this off.
    #[schemars(extend("x-minimum" = "0%", "x-maximum" = "10000%"))]
    pub fuel: Percent,
}

/// What happens to a record that the module rejects or fails on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Write it to the dead-letter topic, byte for byte, with the reason in headers, and continue.
    DeadLetter,
    /// Skip it and continue.
    Skip,
    /// End the process before the record is settled.
    #[default]
    Stop,
}

impl Transform {
    /// The settings with every reference resolved.
    ///
    /// # Errors
    /// If a value cannot be found.
    pub fn revealed_settings(&self) -> Result<BTreeMap<String, String>, RevealError> {
        self.settings.iter().map(|(key, value)| Ok((key.clone(), value.reveal()?))).collect()
    }

    /// Names of the settings whose values are kept elsewhere.
    pub fn secret_settings(&self) -> impl Iterator<Item = &str> {
        self.settings.iter().filter(|(_, value)| value.is_reference()).map(|(key, _)| key.as_str())
    }

    /// Where its module's signature is.
    pub fn signature_file(&self) -> PathBuf {
        self.signature.clone().unwrap_or_else(|| {
            let mut name = self.module.clone().into_os_string();
            name.push(".sig");
            name.into()
        })
    }

    /// Where dead letters go, if that is the policy.
    pub fn dead_letters(&self) -> Option<&Topic> {
        self.on_error.topic.as_ref().filter(|_| self.on_error.then == Then::DeadLetter)
    }
}

impl Output {
    /// All topics the module may write to, the one for unnamed outputs first.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        std::iter::once(&self.topic).chain(&self.also)
    }
}

impl Default for TrialBudget {
    fn default() -> Self {
        Self { failures: Percent::of_hundredths(50), p99: Percent::whole(300), fuel: Percent::whole(300) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Millis::from_millis(5),
            memory: Bytes::mib(16),
            fuel: 500_000_000,
            outputs: 1_000,
            output_bytes: Bytes::mib(1),
            log: Bytes::kib(16),
            share: 1_000,
            configure_deadline: Millis::from_secs(1),
        }
    }
}

fn one() -> u32 {
    1
}
