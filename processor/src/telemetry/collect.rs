//! Gathers the process's metrics into families of points at the moment when somebody asks. Reads atomics and takes two
//! short locks that no record ever takes.

use super::definitions::{self as is, Definition};
use super::export::ExportCounts;
use super::process;
use super::variables::Signal;
use crate::dataplane::breaker::Paused;
use crate::dataplane::counters::{Counters, TransformCounters};
use crate::dataplane::desired::Desired;
use crate::dataplane::histogram::Reading;
use crate::dataplane::lag::Lag;
use crate::dataplane::worker::{Order, Orders};
use pelton_kafka::TopicPartition;
use pelton_sandbox::Engine;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A process that has started, as observers see it.
#[derive(Clone, Debug)]
pub struct Running {
    pub workers: Vec<Arc<Counters>>,
    /// Lanes of each worker.
    pub lanes: u64,
    pub desired: Arc<Desired>,
    pub engine: Engine,
    pub reloads: Arc<ReloadCounts>,
    /// Whether the lag of each partition is told.
    pub partition_metrics: bool,
    /// What the workers are told to do.
    pub orders: Arc<Orders>,
    pub exports: Exports,
}

/// What became of the spans and log records of those signals that are pushed.
#[derive(Clone, Debug, Default)]
pub struct Exports(pub Vec<(Signal, Arc<ExportCounts>)>);

/// How reloads ended.
#[derive(Debug, Default)]
pub struct ReloadCounts {
    pub applied: AtomicU64,
    pub refused: AtomicU64,
    pub failed: AtomicU64,
    last_went_wrong: AtomicBool,
}

impl ReloadCounts {
    /// How the last one ended: is what runs what was asked for?
    pub fn note(&self, well: bool) {
        self.last_went_wrong.store(!well, Ordering::Relaxed);
    }
}

/// A metric and its points.
#[derive(Clone, PartialEq, Debug)]
pub struct Family {
    pub definition: &'static Definition,
    pub points: Vec<Point>,
}

/// One series' value now.
#[derive(Clone, PartialEq, Debug)]
pub struct Point {
    pub labels: Vec<(&'static str, String)>,
    pub value: Value,
}

#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Integer(u64),
    Float(f64),
    Histogram(Reading),
}

impl Running {
    /// Whether records can flow, and what keeps them.
    pub fn ready(&self) -> (bool, Vec<String>) {
        if self.orders.get() != Order::Run {
            return (false, vec!["it is told to stop: what is open is ended, no more records are taken".to_owned()]);
        }
        let mut reasons = Vec::new();
        for (index, worker) in self.workers.iter().enumerate() {
            let status = worker.status.get();
            if status.member && !status.reachable {
                reasons.push(format!("worker {index} reaches no broker"));
            }
            if !status.member {
                reasons.push(format!("worker {index} is not in its group"));
            }
            if status.ready_lanes < self.lanes {
                reasons.push(format!("worker {index}: {} of {} lanes have a producer", status.ready_lanes, self.lanes));
            }
        }
        let (_, plan) = self.desired.get();
        reasons.extend(plan.allowances.iter().filter(|allowance| allowance.breaker.has_tripped()).map(|allowance| {
            let name = &allowance.name;
            format!("transform {name} has used up its budget of failures: its input topics are paused until it is replaced by a reload or resumed, or the process is started again")
        }));
        (reasons.is_empty(), reasons)
    }
}

/// All families. Before the workers have started there is only who it is, what it takes, and that it is not ready.
pub fn collect(running: Option<&Running>, now_ms: i64) -> Vec<Family> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let mut families = vec![
        one(
            &is::BUILD_INFO,
            vec![("version", version), ("librdkafka", pelton_kafka::librdkafka_version())],
            Value::Integer(1),
        ),
        one(&is::READY, Vec::new(), Value::Integer(running.is_some_and(|running| running.ready().0).into())),
    ];
    families.extend(process::families());
    if let Some(running) = running {
        families.extend(of_workers(&running.workers));
        families.extend(of_transforms(running));
        let of_workers = running.workers.iter().flat_map(|worker| worker.lags.read());
        families.extend(lags(of_workers, running.partition_metrics, now_ms));
        families.extend(of_process(running));
    }
    let place = |family: &Family| is::ALL.iter().position(|known| *known == family.definition);
    families.sort_by_key(place);
    families
}

pub(super) fn one(definition: &'static Definition, labels: Vec<(&'static str, String)>, value: Value) -> Family {
    Family { definition, points: vec![Point { labels, value }] }
}

pub(super) fn seconds(nanos: u64) -> Value {
    Value::Float(nanos as f64 / 1e9)
}

fn of_workers(workers: &[Arc<Counters>]) -> Vec<Family> {
    let each = |definition, value: fn(&Counters) -> Value| Family {
        definition,
        points: workers
            .iter()
            .enumerate()
            .map(|(index, worker)| Point { labels: vec![("worker", index.to_string())], value: value(worker) })
            .collect(),
    };
    let mut families = vec![
        each(&is::RECORDS_RECEIVED, |w| Value::Integer(w.records_in.get())),
        each(&is::RECORDS_SENT, |w| Value::Integer(w.records_out.get())),
        each(&is::BYTES_RECEIVED, |w| Value::Integer(w.bytes_in.get())),
        each(&is::BYTES_SENT, |w| Value::Integer(w.bytes_out.get())),
        each(&is::RENEWALS, |w| Value::Integer(w.renewed.get())),
        each(&is::LEFT_BEHIND, |w| Value::Integer(w.left_behind.load(Ordering::Relaxed))),
        each(&is::REBALANCES, |w| Value::Integer(w.rebalances.get())),
        each(&is::PARTITIONS, |w| Value::Integer(w.partitions.get())),
        each(&is::WITHOUT_POSITION, |w| Value::Integer(w.without_position.get())),
        each(&is::BUSY, |w| seconds(w.busy.get())),
        each(&is::BACKPRESSURE, |w| seconds(w.blocked.get())),
    ];
    let mut transactions = Vec::new();
    for (index, worker) in workers.iter().enumerate() {
        for (result, count) in [("committed", worker.committed.get()), ("aborted", worker.rolled_back.get())] {
            let labels = vec![("worker", index.to_string()), ("result", result.to_owned())];
            transactions.push(Point { labels, value: Value::Integer(count) });
        }
    }
    families.push(Family { definition: &is::TRANSACTIONS, points: transactions });
    for (definition, read) in [
        (&is::LATENCY, (|w| w.latency.read()) as fn(&Counters) -> Reading),
        (&is::COMMIT_DURATION, |w| w.commit.read()),
    ] {
        if let Some(all) = sum(workers.iter().map(|worker| read(worker))) {
            families.push(one(definition, Vec::new(), Value::Histogram(all)));
        }
    }
    families
}

fn sum(readings: impl Iterator<Item = Reading>) -> Option<Reading> {
    readings.reduce(|mut all, one| {
        all.add(&one);
        all
    })
}

fn of_transforms(running: &Running) -> Vec<Family> {
    let mut by_name: BTreeMap<Arc<str>, Vec<Arc<TransformCounters>>> = BTreeMap::new();
    for (name, counters) in running.workers.iter().flat_map(|worker| worker.transforms()) {
        by_name.entry(name).or_default().push(counters);
    }
    let mut points: BTreeMap<&str, (&'static Definition, Vec<Point>)> = BTreeMap::new();
    let mut add = |definition: &'static Definition, labels: Vec<(&'static str, String)>, value| {
        points.entry(definition.name).or_insert_with(|| (definition, Vec::new())).1.push(Point { labels, value });
    };
    for (name, workers) in &by_name {
        let total = |read: fn(&TransformCounters) -> u64| workers.iter().map(|t| read(t)).sum::<u64>();
        let labels = |more: Option<(&'static str, &str)>| {
            let mut labels = vec![("transform", name.to_string())];
            labels.extend(more.map(|(label, value)| (label, value.to_owned())));
            labels
        };
        for (outcome, count) in [
            ("kept", total(|t| t.kept.get())),
            ("dropped", total(|t| t.dropped.get())),
            ("emitted", total(|t| t.emitted.get())),
            ("rejected", total(|t| t.rejected.get())),
            ("failed", total(|t| t.failed.get())),
        ] {
            add(&is::OUTCOMES, labels(Some(("outcome", outcome))), Value::Integer(count));
        }
        let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
        workers.iter().flat_map(|t| t.faults()).for_each(|(code, count)| *faults.entry(code).or_default() += count);
        for (code, count) in faults {
            add(&is::FAULTS, labels(Some(("code", code))), Value::Integer(count));
        }
        add(&is::DEAD_LETTERS, labels(None), Value::Integer(total(|t| t.dead_letters.get())));
        add(&is::SKIPPED, labels(None), Value::Integer(total(|t| t.skipped.get())));
        add(&is::MEMORY, labels(None), Value::Integer(total(|t| t.memory.get())));
        add(&is::FUEL, labels(None), Value::Integer(total(|t| t.fuel.get())));
        if let Some(process) = sum(workers.iter().map(|t| t.process.read())) {
            add(&is::PROCESS_DURATION, labels(None), Value::Histogram(process));
        }
        if let Some(batch) = sum(workers.iter().map(|t| t.batch.read())) {
            add(&is::BATCH_RECORDS, labels(None), Value::Histogram(batch));
        }
    }
    points.into_values().map(|(definition, points)| Family { definition, points }).collect()
}

/// What is told of a topic, or of one of its partitions.
#[derive(Clone, Copy, Default)]
struct Behind {
    records: u64,
    /// Of the partition that is furthest behind, as far as is known.
    seconds: f64,
    /// Some partition is behind, and nobody knows since when.
    unknown: bool,
}

/// For each topic, or for each partition where that is asked for.
fn lags(all: impl Iterator<Item = (TopicPartition, Lag)>, by_partition: bool, now_ms: i64) -> [Family; 2] {
    let mut series: BTreeMap<(Arc<str>, Option<i32>), Behind> = BTreeMap::new();
    for (TopicPartition { topic, partition }, lag) in all {
        let behind = series.entry((topic, by_partition.then_some(partition))).or_default();
        behind.records += lag.records;
        match lag.seconds(now_ms) {
            Some(seconds) => behind.seconds = behind.seconds.max(seconds),
            None => behind.unknown = true,
        }
    }
    let mut families = [&is::LAG_RECORDS, &is::LAG_SECONDS].map(|definition| Family { definition, points: Vec::new() });
    for ((topic, partition), Behind { records, seconds, unknown }) in series {
        let mut labels = vec![("topic", topic.to_string())];
        labels.extend(partition.map(|partition| ("partition", partition.to_string())));
        // 0 says that nothing waits.
        if seconds > 0.0 || !unknown {
            families[1].points.push(Point { labels: labels.clone(), value: Value::Float(seconds) });
        }
        families[0].points.push(Point { labels, value: Value::Integer(records) });
    }
    families
}

fn of_process(running: &Running) -> Vec<Family> {
    let (_, plan) = running.desired.get();
    let transform = |name: &Arc<str>| ("transform", name.to_string());
    let generation = plan.transforms.iter().map(|t| Point {
        labels: vec![
            transform(&t.name),
            ("generation", t.generation.number().to_string()),
            ("digest", t.digest.chars().take(12).collect()),
        ],
        value: Value::Integer(1),
    });
    let is_paused = plan.allowances.iter().flat_map(|of| {
        [Paused::Budget, Paused::Hand].map(|cause| Point {
            labels: vec![transform(&of.name), ("cause", cause.as_str().to_owned())],
            value: Value::Integer((of.paused() == Some(cause)).into()),
        })
    });
    let held_back = plan
        .transforms
        .iter()
        .map(|of| Point { labels: vec![transform(&of.name)], value: Value::Integer(of.held_back.into()) });
    let results = |of: &[(&str, u64)]| -> Vec<Point> {
        let point = |(result, count): &(&str, u64)| Point {
            labels: vec![("result", (*result).to_owned())],
            value: Value::Integer(*count),
        };
        of.iter().map(point).collect()
    };
    let ReloadCounts { applied, refused, failed, last_went_wrong } = &*running.reloads;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (hit, miss) = running.engine.loads();
    let told = running.exports.0.iter().flat_map(|(signal, counts)| {
        [("sent", count(&counts.sent)), ("dropped", count(&counts.dropped))].map(|(result, count)| Point {
            labels: vec![("signal", signal.as_str().to_owned()), ("result", result.to_owned())],
            value: Value::Integer(count),
        })
    });
    vec![
        Family { definition: &is::EXPORTED, points: told.collect() },
        Family { definition: &is::GENERATION, points: generation.collect() },
        Family { definition: &is::PAUSED, points: is_paused.collect() },
        Family { definition: &is::HELD_BACK, points: held_back.collect() },
        one(&is::LAST_RELOAD, Vec::new(), Value::Integer((!last_went_wrong.load(Ordering::Relaxed)).into())),
        Family {
            definition: &is::RELOADS,
            points: results(&[("applied", count(applied)), ("refused", count(refused)), ("failed", count(failed))]),
        },
        Family { definition: &is::COMPILED_CACHE, points: results(&[("hit", hit), ("miss", miss)]) },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lagging(of: &[(&str, i32, u64, Option<i64>)], by_partition: bool) -> Vec<String> {
        let lags_of = of.iter().map(|(topic, partition, records, committed_ms)| {
            let partition = TopicPartition { topic: (*topic).into(), partition: *partition };
            (partition, Lag { records: *records, committed_ms: *committed_ms })
        });
        let text = crate::telemetry::prometheus::render(&lags(lags_of, by_partition, 10_000));
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.replace("pelton_lag_", "")).collect()
    }

    #[test]
    fn a_topic_s_lag_is_the_sum_of_records_and_the_most_of_seconds() {
        let of = [("a", 0, 5, Some(9_000)), ("a", 1, 7, Some(4_000)), ("b", 0, 0, Some(1))];
        assert_eq!(
            lagging(&of, false),
            ["records{topic=\"a\"} 12", "records{topic=\"b\"} 0", "seconds{topic=\"a\"} 6", "seconds{topic=\"b\"} 0"]
        );
        let by_partition = lagging(&of, true);
        assert_eq!(by_partition.len(), 6);
        assert_eq!(by_partition[1], "records{topic=\"a\",partition=\"1\"} 7");
    }

    #[test]
    fn who_is_behind_since_nobody_knows_when_is_not_said_to_have_caught_up() {
        assert_eq!(lagging(&[("a", 0, 5, None), ("a", 1, 0, None)], false), ["records{topic=\"a\"} 5"]);
        let known = [("a", 0, 5, None), ("a", 1, 1, Some(7_000))];
        assert_eq!(lagging(&known, false)[1], "seconds{topic=\"a\"} 3");
    }

    #[test]
    fn before_the_start_there_is_who_it_is_and_that_it_is_not_ready() {
        let families = collect(None, 0);
        let names = families.iter().map(|family| family.definition.name);
        let ours: Vec<&str> = names.filter(|name| name.starts_with("pelton_")).collect();
        assert_eq!(ours, ["pelton_build_info", "pelton_ready"]);
    }
}
