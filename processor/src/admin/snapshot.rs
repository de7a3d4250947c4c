//! The state of everything at one moment, in one small value: what `GET /api/v1/status`, the events and the page show.
//! Names of topics and transforms, numbers, places and codes; nothing of what records contain or guests say (I10).

use super::api::{brief, trial};
use super::live::Rates;
use super::{Control, Status};
use crate::dataplane::breaker::Paused;
use crate::dataplane::counters::{Counters, Totals};
use crate::dataplane::plan::{OnError, Plan};
use crate::dataplane::rejects::Reject;
use crate::telemetry::Running;
use crate::wall::unix_ms;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rejects of all workers together.
const REJECTS_MAX: usize = 20;
/// Of each transform, the newest ones.
const GENERATIONS_MAX: usize = 5;

#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    /// Empty before the start.
    pub application: String,
    pub version: &'static str,
    pub at_ms: i64,
    pub started: bool,
    pub ready: bool,
    pub reasons: Vec<String>,
    pub workers: usize,
    /// Since the start.
    pub counts: Counts,
    /// Per second.
    pub rates: Rates,
    pub inputs: Vec<Input>,
    pub transforms: Vec<Transform>,
    /// The newest first.
    pub rejects: Vec<Rejected>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Counts {
    pub records_in: u64,
    pub records_out: u64,
    pub failures: u64,
    pub dead_letters: u64,
    pub skipped: u64,
    pub committed: u64,
    pub rolled_back: u64,
}

/// A topic that is read, as far as this process has partitions of it.
#[derive(Debug, Default, Serialize)]
pub(super) struct Input {
    pub topic: String,
    pub partitions: usize,
    /// Of those partitions whose end is known; `None`: of none.
    pub lag_records: Option<u64>,
    /// `None`: nobody knows since when.
    pub lag_seconds: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Transform {
    pub name: String,
    pub generation: u64,
    pub digest: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub dead_letters_to: Option<String>,
    pub paused_by: Option<&'static str>,
    /// Records that it has settled, per second.
    pub rate: f64,
    /// Records that it has written, per second.
    pub rate_out: f64,
    /// Of its calls of the last seconds, each of a batch, 99 of 100 took no longer.
    pub call_p99_ms: Option<f64>,
    pub records: u64,
    /// Outcomes by kind: what is missing to `records` was rejected or failed.
    pub kept: u64,
    pub dropped: u64,
    pub emitted: u64,
    /// Rejected or failed.
    pub failures: u64,
    pub dead_letters: u64,
    pub skipped: u64,
    pub previous: Value,
    /// Without its samples.
    pub trial: Value,
    /// The newest first.
    pub generations: Vec<Value>,
}

#[derive(Debug, Serialize)]
pub(super) struct Rejected {
    pub at_ms: i64,
    pub transform: String,
    /// `topic/partition@offset`.
    pub record: String,
    pub code: &'static str,
}

impl Snapshot {
    pub(super) fn of(status: &Status) -> Self {
        let (ready, reasons) = status.ready();
        let mut snapshot = Snapshot {
            application: String::new(),
            version: env!("CARGO_PKG_VERSION"),
            at_ms: unix_ms(),
            started: false,
            ready,
            reasons,
            workers: 0,
            counts: Counts::default(),
            rates: status.live.rates(),
            inputs: Vec::new(),
            transforms: Vec::new(),
            rejects: Vec::new(),
        };
        if let (Some(running), Some(control)) = (status.running(), status.control()) {
            snapshot.fill(running, control);
        }
        snapshot
    }

    pub(super) fn json(&self) -> Arc<str> {
        // Maps with text as keys and finite numbers: it cannot fail.
        serde_json::to_string(self).unwrap_or_default().into()
    }

    fn fill(&mut self, running: &Running, control: &Control) {
        let (_, plan) = running.desired.get();
        let all = running.workers.iter().map(|worker| worker.read()).fold(Totals::default(), |a, b| a + b);
        self.application = plan.application.to_string();
        self.started = true;
        self.workers = running.workers.len();
        self.counts = Counts {
            records_in: all.records_in,
            records_out: all.records_out,
            failures: all.rejected,
            dead_letters: all.dead_letters,
            skipped: all.skipped,
            committed: all.committed,
            rolled_back: all.rolled_back,
        };
        self.inputs = inputs(&plan, &running.workers, self.at_ms);
        self.transforms =
            (0..plan.transforms.len()).map(|index| transform(&plan, index, running, control, &self.rates)).collect();
        self.rejects = rejects(&running.workers);
    }
}

fn inputs(plan: &Plan, workers: &[Arc<Counters>], now_ms: i64) -> Vec<Input> {
    let mut by_topic: BTreeMap<Arc<str>, (Input, bool)> = BTreeMap::new();
    for (partition, place) in workers.iter().flat_map(|worker| worker.lags.places()) {
        let (input, unknown) = by_topic.entry(partition.topic).or_default();
        input.partitions += 1;
        let Some(lag) = place.lag else { continue };
        input.lag_records = Some(input.lag_records.unwrap_or(0) + lag.records);
        match lag.seconds(now_ms) {
            Some(seconds) => input.lag_seconds = Some(input.lag_seconds.unwrap_or(0.0).max(seconds)),
            None => *unknown = true,
        }
    }
    let read = plan.inputs.iter().filter(|topic| topic.read);
    read.map(|topic| {
        let (mut input, unknown) = by_topic.remove(&topic.name).unwrap_or_default();
        input.topic = topic.name.to_string();
        // 0 says that nothing waits.
        if unknown {
            input.lag_seconds = input.lag_seconds.filter(|seconds| *seconds > 0.0);
        }
        input
    })
    .collect()
}

fn transform(plan: &Plan, index: usize, running: &Running, control: &Control, rates: &Rates) -> Transform {
    let of = &plan.transforms[index];
    let topics = plan.inputs.iter().zip(&of.inputs).filter(|(_, own)| own.is_some());
    let output = |index: u32| plan.outputs[index as usize].name.to_string();
    let own = rates.transforms.get(&of.name).copied().unwrap_or_default();
    let mut shown = Transform {
        name: of.name.to_string(),
        generation: of.generation.number(),
        digest: of.digest.to_string(),
        inputs: topics.map(|(topic, _)| topic.name.to_string()).collect(),
        outputs: of.outputs.iter().map(|index| output(*index)).collect(),
        dead_letters_to: match of.on_error {
            OnError::DeadLetter(topic) => Some(output(topic)),
            OnError::Skip | OnError::Stop => None,
        },
        paused_by: plan.allowances[index].paused().map(Paused::as_str),
        rate: own.settled,
        rate_out: own.outputs,
        call_p99_ms: own.call_p99_ms,
        records: 0,
        kept: 0,
        dropped: 0,
        emitted: 0,
        failures: 0,
        dead_letters: 0,
        skipped: 0,
        previous: of.previous.as_ref().map_or(Value::Null, brief),
        trial: of.trial.as_deref().map_or(Value::Null, trial),
        generations: control
            .generations
            .of(&of.name)
            .iter()
            .take(GENERATIONS_MAX)
            .filter_map(|entry| serde_json::to_value(entry).ok())
            .collect(),
    };
    if let Some(trial) = shown.trial.as_object_mut() {
        trial.remove("samples");
    }
    let counters = running.workers.iter().flat_map(|worker| worker.transforms());
    for (_, counts) in counters.filter(|(name, _)| *name == of.name) {
        let failures = counts.rejected.get() + counts.failed.get();
        shown.records += counts.kept.get() + counts.dropped.get() + counts.emitted.get() + failures;
        shown.kept += counts.kept.get();
        shown.dropped += counts.dropped.get();
        shown.emitted += counts.emitted.get();
        shown.failures += failures;
        shown.dead_letters += counts.dead_letters.get();
        shown.skipped += counts.skipped.get();
    }
    shown
}

fn rejects(workers: &[Arc<Counters>]) -> Vec<Rejected> {
    let mut all: Vec<Reject> = workers.iter().flat_map(|worker| worker.rejects.read().into_iter().rev()).collect();
    all.sort_by_key(|reject| std::cmp::Reverse(reject.at_ms));
    all.truncate(REJECTS_MAX);
    let shown = |reject: Reject| Rejected {
        at_ms: reject.at_ms,
        transform: reject.transform.to_string(),
        record: format!("{}/{}@{}", reject.topic, reject.partition, reject.offset),
        code: reject.code,
    };
    all.into_iter().map(shown).collect()
}
