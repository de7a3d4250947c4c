//! A worker's work and state, in atomics that it writes with one relaxed store each and that anybody may read. The
//! counters of a transform are keyed by its name: they live as long as the process, and a new generation of the
//! transform continues them. Work is counted when it is done, so records that are read again after a rollback count
//! again.

use super::histogram::{BATCH, COMMIT, Histogram, LATENCY, PROCESS};
use super::lag::Lags;
use super::rejects::Rejects;
use pelton_sandbox::FaultCode;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One worker's counters. They outlive the worker: one that is started again counts on.
#[derive(Debug)]
pub struct Counters {
    /// Input records taken, once per record however many transforms read it, and the bytes of their keys and values.
    pub records_in: Counter,
    pub bytes_in: Counter,
    /// Records written, dead letters not included, and the bytes of their keys and values.
    pub records_out: Counter,
    pub bytes_out: Counter,
    /// Transactions by result.
    pub committed: Counter,
    pub rolled_back: Counter,
    /// Producers replaced because a request of a committed transaction was never answered.
    pub renewed: Counter,
    /// Transactional calls that did not return and were left behind.
    pub abandoned: Counter,
    /// Assignments and revocations.
    pub rebalances: Counter,
    /// Partitions that it has now.
    pub partitions: Gauge,
    /// Those of them of which it is not known yet where to begin.
    pub without_position: Gauge,
    /// Nanoseconds in which it did not wait.
    pub busy: Counter,
    /// Nanoseconds in which it could not go on because of the brokers: no room in the producer's queue, or every lane at
    /// its commit.
    pub blocked: Counter,
    /// From the seal of a transaction to the report of its commit.
    pub commit: Histogram,
    /// From records' timestamps to their commit.
    pub latency: Histogram,
    pub lags: Lags,
    pub rejects: Rejects,
    /// How the worker stands, for readiness.
    pub status: Status,
    /// Calls that were left behind and have not returned since; by the committers too.
    pub left_behind: AtomicU64,
    transforms: Mutex<BTreeMap<Arc<str>, Arc<TransformCounters>>>,
}

/// What one worker's instances of a transform have done.
#[derive(Debug)]
pub struct TransformCounters {
    /// Outcomes by kind, one per record: `rejected` by the guest's own word, `failed` for every other reason.
    pub kept: Counter,
    pub dropped: Counter,
    pub emitted: Counter,
    pub rejected: Counter,
    pub failed: Counter,
    /// Records that `emitted` made; a kept one makes one besides.
    pub outputs: Counter,
    /// What became of those that were rejected or failed.
    pub dead_letters: Counter,
    pub skipped: Counter,
    /// `failed`, by [`CODES`].
    faults: [Counter; CODES.len()],
    /// Of the guest's own code.
    pub fuel: Counter,
    /// Linear memory of the instance.
    pub memory: Gauge,
    /// Time in the guest, per batch.
    pub process: Histogram,
    /// Records per batch.
    pub batch: Histogram,
}

/// Codes that are not the sandbox's: found before a guest sees the record, or when its outcome is written.
const OWN_CODES: [&str; 5] =
    ["input.headers", "output.message_too_large", "output.topic_missing", "output.partition", "output.refused"];

/// Every code that a record can fail with.
pub const CODES: [&str; FaultCode::ALL.len() + OWN_CODES.len()] = {
    let mut codes = [""; FaultCode::ALL.len() + OWN_CODES.len()];
    let mut i = 0;
    while i < codes.len() {
        codes[i] =
            if i < FaultCode::ALL.len() { FaultCode::ALL[i].as_str() } else { OWN_CODES[i - FaultCode::ALL.len()] };
        i += 1;
    }
    codes
};

/// The code of a record that the guest itself rejected.
pub const REJECTED: &str = "guest.rejected";

/// A reading of [`Counters`], or the sum of several.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    pub records_in: u64,
    pub kept: u64,
    pub dropped: u64,
    pub emitted: u64,
    /// Rejected or failed.
    pub rejected: u64,
    pub records_out: u64,
    pub dead_letters: u64,
    pub skipped: u64,
    pub committed: u64,
    pub rolled_back: u64,
    pub renewed: u64,
    pub abandoned: u64,
}

impl Counters {
    /// The counters of this transform, made when first asked for.
    pub fn transform(&self, name: &Arc<str>) -> Arc<TransformCounters> {
        let mut transforms = self.transforms.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(transforms.entry(Arc::clone(name)).or_default())
    }

    /// All transforms that this worker has had.
    pub fn transforms(&self) -> Vec<(Arc<str>, Arc<TransformCounters>)> {
        let transforms = self.transforms.lock().unwrap_or_else(PoisonError::into_inner);
        transforms.iter().map(|(name, counters)| (Arc::clone(name), Arc::clone(counters))).collect()
    }

    pub fn read(&self) -> Totals {
        let of_worker = Totals {
            records_in: self.records_in.get(),
            records_out: self.records_out.get(),
            committed: self.committed.get(),
            rolled_back: self.rolled_back.get(),
            renewed: self.renewed.get(),
            abandoned: self.abandoned.get(),
            ..Totals::default()
        };
        let of_transform = |(_, t): (Arc<str>, Arc<TransformCounters>)| Totals {
            kept: t.kept.get(),
            dropped: t.dropped.get(),
            emitted: t.emitted.get(),
            rejected: t.rejected.get() + t.failed.get(),
            dead_letters: t.dead_letters.get(),
            skipped: t.skipped.get(),
            ..Totals::default()
        };
        self.transforms().into_iter().map(of_transform).fold(of_worker, |a, b| a + b)
    }
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            records_in: Counter::default(),
            bytes_in: Counter::default(),
            records_out: Counter::default(),
            bytes_out: Counter::default(),
            committed: Counter::default(),
            rolled_back: Counter::default(),
            renewed: Counter::default(),
            abandoned: Counter::default(),
            rebalances: Counter::default(),
            partitions: Gauge::default(),
            without_position: Gauge::default(),
            busy: Counter::default(),
            blocked: Counter::default(),
            commit: Histogram::new(&COMMIT),
            latency: Histogram::new(&LATENCY),
            lags: Lags::default(),
            rejects: Rejects::default(),
            status: Status::default(),
            left_behind: AtomicU64::new(0),
            transforms: Mutex::default(),
        }
    }
}

impl Default for TransformCounters {
    fn default() -> Self {
        TransformCounters {
            kept: Counter::default(),
            dropped: Counter::default(),
            emitted: Counter::default(),
            rejected: Counter::default(),
            failed: Counter::default(),
            outputs: Counter::default(),
            dead_letters: Counter::default(),
            skipped: Counter::default(),
            faults: std::array::from_fn(|_| Counter::default()),
            fuel: Counter::default(),
            memory: Gauge::default(),
            process: Histogram::new(&PROCESS),
            batch: Histogram::new(&BATCH),
        }
    }
}

impl TransformCounters {
    /// A record has no outputs, for this reason.
    pub fn refuse(&self, code: &str) {
        if code == REJECTED {
            self.rejected.add(1);
            return;
        }
        self.failed.add(1);
        if let Some(index) = CODES.iter().position(|known| *known == code) {
            self.faults[index].add(1);
        }
    }

    /// Failures by code, those that happened.
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CODES.into_iter().zip(self.faults.iter().map(Counter::get)).filter(|(_, count)| *count > 0)
    }
}

impl std::ops::Add for Totals {
    type Output = Totals;
    fn add(self, other: Totals) -> Totals {
        Totals {
            records_in: self.records_in + other.records_in,
            kept: self.kept + other.kept,
            dropped: self.dropped + other.dropped,
            emitted: self.emitted + other.emitted,
            rejected: self.rejected + other.rejected,
            records_out: self.records_out + other.records_out,
            dead_letters: self.dead_letters + other.dead_letters,
            skipped: self.skipped + other.skipped,
            committed: self.committed + other.committed,
            rolled_back: self.rolled_back + other.rolled_back,
            renewed: self.renewed + other.renewed,
            abandoned: self.abandoned + other.abandoned,
        }
    }
}

/// Added to by one thread, read by any.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        // One writer: a load and a store are enough, and cheaper than a locked add.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Set by one thread, read by any.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a worker stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WorkerStatus {
    /// It is in its consumer group.
    pub member: bool,
    /// It is connected to a broker, as of the last statistics.
    pub reachable: bool,
    /// Lanes that have a producer: transactional ids are taken over.
    pub ready_lanes: u64,
}

/// A [`WorkerStatus`] in one word.
#[derive(Debug, Default)]
pub struct Status(AtomicU64);

impl Status {
    pub fn set(&self, status: WorkerStatus) {
        let bits = u64::from(status.reachable) << 1 | u64::from(status.member);
        self.0.store(status.ready_lanes << 2 | bits, Ordering::Relaxed);
    }

    pub fn get(&self) -> WorkerStatus {
        let word = self.0.load(Ordering::Relaxed);
        WorkerStatus { member: word & 1 == 1, reachable: word & 2 == 2, ready_lanes: word >> 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_counts_as_the_guest_s_own_or_as_a_failure_with_its_code() {
        let counters = Counters::default();
        let transform = counters.transform(&"t".into());
        transform.refuse(REJECTED);
        transform.refuse("guest.trap");
        transform.refuse("output.refused");
        transform.refuse("output.refused");
        transform.kept.add(4);
        assert_eq!(transform.faults().collect::<Vec<_>>(), [("guest.trap", 1), ("output.refused", 2)]);
        assert_eq!((transform.rejected.get(), transform.failed.get()), (1, 3));
        let totals = counters.read();
        assert_eq!((totals.rejected, totals.kept), (4, 4));
    }

    #[test]
    fn a_transform_s_counters_are_the_same_whoever_asks_for_them() {
        let counters = Counters::default();
        counters.transform(&"a".into()).kept.add(1);
        counters.transform(&"a".into()).kept.add(1);
        counters.transform(&"b".into()).kept.add(1);
        let kept: Vec<_> = counters.transforms().iter().map(|(name, t)| (name.to_string(), t.kept.get())).collect();
        assert_eq!(kept, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    }
}
