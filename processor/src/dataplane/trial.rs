//! A generation on trial beside the running one: which records it gets, whether its results are the same, and what is
//! counted for both. [`crate::control`] judges by the counts and ends the trial; nothing here does.
//!
//! A canary really processes some partitions; a shadow processes every record after the running generation, and nothing
//! of its results is written.

use pelton_kafka::Message;
use pelton_sandbox::{Generation, Settled};
use serde_json::Value;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Differences that are remembered with their places.
const SAMPLES: usize = 10;

#[derive(Debug)]
pub struct Trial {
    pub generation: Generation,
    /// Of its module, as dead letters name it.
    pub digest: Arc<str>,
    pub kind: Kind,
    /// Of both since the trial began.
    pub running: Tally,
    pub candidate: Tally,
    pub differences: Differences,
    pub since: Instant,
    /// Why it cannot go on, whatever the counts say.
    broken: Mutex<Option<String>>,
    over: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// `json`: values that are JSON are compared as such.
    Shadow { json: bool },
    /// Of each topic's partitions.
    Canary { share: f64 },
}

impl Trial {
    pub fn new(generation: Generation, kind: Kind) -> Self {
        Trial {
            digest: Arc::from(generation.digest().to_string()),
            generation,
            kind,
            running: Tally::default(),
            candidate: Tally::default(),
            differences: Differences::default(),
            since: Instant::now(),
            broken: Mutex::new(None),
            over: AtomicBool::new(false),
        }
    }

    pub fn is_canary(&self) -> bool {
        matches!(self.kind, Kind::Canary { .. })
    }

    /// Whether it processes the records of this partition of so many.
    pub fn takes(&self, partition: i32, partitions: i32) -> bool {
        match self.kind {
            Kind::Canary { share } => is_canary(share, partition, partitions),
            Kind::Shadow { .. } => false,
        }
    }

    /// It was given up.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// It cannot go on.
    pub fn give_up(&self, why: String) {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.over.store(true, Ordering::Release);
    }

    pub fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whether a canary with such a share gets this partition of so many: evenly spread, at least one, the same everywhere.
fn is_canary(share: f64, partition: i32, partitions: i32) -> bool {
    let all = i64::from(partitions.max(1));
    let chosen = ((all as f64 * share).round() as i64).clamp(1, all);
    let place = i64::from(partition).rem_euclid(all);
    (place + 1) * chosen / all > place * chosen / all
}

/// What a generation did in a trial, all workers together. Added to once a batch.
#[derive(Debug)]
pub struct Tally {
    records: AtomicU64,
    failures: AtomicU64,
    fuel: AtomicU64,
    /// Records by the time that one took, in its batch on average; four buckets for each power of two of nanoseconds.
    times: [AtomicU64; BUCKETS],
}

const BUCKETS: usize = 256;

/// A reading of a [`Tally`].
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Reading {
    pub records: u64,
    /// Rejected or failed.
    pub failures: u64,
    /// Fuel of a record, on average.
    pub fuel: f64,
    /// 99th percentile of the time for a record, to a fifth.
    pub p99: Duration,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            records: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            fuel: AtomicU64::new(0),
            times: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Tally {
    pub fn add(&self, records: u64, failures: u64, time: Duration, fuel: u64) {
        if records == 0 {
            return;
        }
        self.records.fetch_add(records, Ordering::Relaxed);
        self.failures.fetch_add(failures, Ordering::Relaxed);
        self.fuel.fetch_add(fuel, Ordering::Relaxed);
        let each = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) / records;
        self.times[bucket(each)].fetch_add(records, Ordering::Relaxed);
    }

    pub fn read(&self) -> Reading {
        let records = self.records.load(Ordering::Relaxed);
        let times: Vec<u64> = self.times.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
        let rank = times.iter().sum::<u64>().div_ceil(100);
        let mut above = 0;
        let slow = times.iter().enumerate().rev().find(|(_, count)| {
            above += **count;
            above >= rank && above > 0
        });
        Reading {
            records,
            failures: self.failures.load(Ordering::Relaxed),
            fuel: self.fuel.load(Ordering::Relaxed) as f64 / records.max(1) as f64,
            p99: slow.map_or(Duration::ZERO, |(index, _)| Duration::from_nanos(upper(index))),
        }
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(4);
    let power = nanos.ilog2();
    power as usize * 4 + ((nanos >> (power - 2)) & 3) as usize
}

/// The largest time in a bucket.
fn upper(bucket: usize) -> u64 {
    let (power, quarter) = (bucket / 4, (bucket % 4) as u128);
    u64::try_from(((5 + quarter) << power) / 4 - 1).unwrap_or(u64::MAX)
}

/// Where a shadow made something else of a record than the running generation.
#[derive(Debug, Default)]
pub struct Differences {
    compared: AtomicU64,
    found: AtomicU64,
    samples: Mutex<Vec<Difference>>,
    hasher: RandomState,
}

/// A record, and what became of it. No data (I10).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// `topic/partition@offset`.
    pub record: String,
    pub running: &'static str,
    pub candidate: &'static str,
}

/// What became of a record, small enough to be kept until the other generation has been asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Print {
    hash: u64,
    kind: &'static str,
}

impl Differences {
    /// Two outcomes with the same print write the same records, whether the input was kept or emitted again.
    pub fn print(&self, message: &Message<'_>, settled: &Settled<'_>, json: bool) -> Print {
        let mut hash = self.hasher.build_hasher();
        let value = |hash: &mut _, value: Option<&[u8]>| match value
            .filter(|_| json)
            .and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok())
        {
            Some(parsed) => canonical(&parsed, hash),
            None => value.hash(hash),
        };
        let kind = match settled {
            Settled::Keep => {
                (0_u32, None::<i32>, message.timestamp_ms(), message.key()).hash(&mut hash);
                value(&mut hash, message.value());
                let mut headers = Vec::new();
                let _ = message.headers(&mut headers);
                headers.iter().for_each(|header| (header.key, header.value).hash(&mut hash));
                "kept"
            }
            Settled::Emit(outputs) => {
                let mut any = false;
                for output in outputs.iter() {
                    any = true;
                    let stamp = output.timestamp_ms.or_else(|| message.timestamp_ms());
                    (output.topic, output.partition, stamp, output.key).hash(&mut hash);
                    value(&mut hash, output.value);
                    output.headers().for_each(|header| (header.key, header.value).hash(&mut hash));
                }
                if any { "emitted" } else { "dropped" }
            }
            Settled::Drop => "dropped",
            Settled::Reject(_) => {
                "rejected".hash(&mut hash);
                "rejected"
            }
            Settled::Fault(fault) => {
                fault.code.as_str().hash(&mut hash);
                fault.code.as_str()
            }
        };
        Print { hash: hash.finish(), kind }
    }

    pub fn compare(&self, running: Print, candidate: Print, record: impl FnOnce() -> String) {
        self.compared.fetch_add(1, Ordering::Relaxed);
        if running.hash == candidate.hash {
            return;
        }
        self.found.fetch_add(1, Ordering::Relaxed);
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() < SAMPLES {
            samples.push(Difference { record: record(), running: running.kind, candidate: candidate.kind });
        }
    }

    /// Records compared, and those of them that differ.
    pub fn counts(&self) -> (u64, u64) {
        (self.compared.load(Ordering::Relaxed), self.found.load(Ordering::Relaxed))
    }

    pub fn samples(&self) -> Vec<Difference> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Hashes JSON, whatever the order of keys.
fn canonical(value: &Value, hash: &mut impl Hasher) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            (1_u8, keys.len()).hash(hash);
            for key in keys {
                key.hash(hash);
                canonical(&map[key], hash);
            }
        }
        Value::Array(items) => {
            (2_u8, items.len()).hash(hash);
            items.iter().for_each(|item| canonical(item, hash));
        }
        other => (3_u8, other.to_string()).hash(hash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_kafka::{Batch, OwnedMessage};

    #[test]
    fn a_canary_gets_its_share_of_partitions_and_one_at_least() {
        let chosen =
            |share, partitions| (0..partitions).filter(|p| is_canary(share, *p, partitions)).collect::<Vec<_>>();
        assert_eq!(chosen(0.1, 20), [9, 19]);
        assert_eq!(chosen(0.25, 8), [3, 7]);
        assert_eq!(chosen(0.1, 3), [2], "one at least");
        assert_eq!(chosen(0.1, 1), [0]);
        assert_eq!(chosen(1.0, 4), [0, 1, 2, 3]);
        for partitions in 1..200 {
            let expected = (f64::from(partitions) * 0.3).round().max(1.0) as usize;
            assert_eq!(chosen(0.3, partitions).len(), expected, "of {partitions}");
        }
        assert!(is_canary(0.5, 7, 0), "a topic that nobody counted");
    }

    #[test]
    fn the_99th_percentile_is_within_a_quarter() {
        let tally = Tally::default();
        tally.add(980, 0, Duration::from_micros(980), 98_000);
        tally.add(20, 3, Duration::from_millis(20), 2_000);
        let reading = tally.read();
        assert_eq!((reading.records, reading.failures, reading.fuel), (1000, 3, 100.0));
        assert!((1_000_000..1_250_000).contains(&(reading.p99.as_nanos() as u64)), "{reading:?}");
        assert_eq!(Tally::default().read(), Reading::default());
        for nanos in [0, 1, 5, 1000, 123_456, u64::MAX] {
            assert!(upper(bucket(nanos)) >= nanos, "{nanos}");
        }
    }

    fn print(differences: &Differences, value: &str, settled: &Settled<'_>, json: bool) -> Print {
        let mut batch = Batch::new();
        batch.push_owned(0, OwnedMessage { value: Some(value.into()), ..OwnedMessage::default() });
        differences.print(&batch.get(0).unwrap(), settled, json)
    }

    #[test]
    fn json_is_the_same_whatever_its_spaces_and_the_order_of_its_keys() {
        let differences = Differences::default();
        let keep = |value: &str, json| print(&differences, value, &Settled::Keep, json);
        let (one, other) = (r#"{"a":1,"b":[1,{"c":null}]}"#, r#"{ "b": [1, {"c": null}], "a": 1 }"#);
        assert_eq!(keep(one, true), keep(other, true));
        assert_ne!(keep(one, false).hash, keep(other, false).hash);
        assert_ne!(keep(one, true).hash, keep(r#"{"a":2,"b":[1,{"c":null}]}"#, true).hash);
        assert_ne!(keep("not json", true).hash, keep("not json either", true).hash);
    }

    #[test]
    fn differences_are_counted_and_the_first_ones_named() {
        let differences = Differences::default();
        let keep = print(&differences, "a", &Settled::Keep, false);
        let drop = print(&differences, "a", &Settled::Drop, false);
        let reject = print(&differences, "a", &Settled::Reject("so"), false);
        differences.compare(keep, keep, || panic!("the same"));
        differences.compare(reject, print(&differences, "a", &Settled::Reject("or so"), false), || panic!("the same"));
        (0..20).for_each(|i| differences.compare(keep, drop, || format!("in/0@{i}")));
        assert_eq!(differences.counts(), (22, 20));
        let samples = differences.samples();
        assert_eq!(samples.len(), SAMPLES);
        let first = Difference { record: "in/0@0".into(), running: "kept", candidate: "dropped" };
        assert_eq!(samples[0], first);
    }
}
