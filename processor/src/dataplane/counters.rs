//! What a worker has done and how it stands, in atomics that it writes with one relaxed store each and that anybody may
//! read.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// One worker's counters, all growing only.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
            /// How the worker stands, for readiness.
            pub status: Status,
            /// Calls that were left behind and have not returned since; by the committers too.
            pub left_behind: AtomicU64,
        }

        /// A reading of [`Counters`], or the sum of several.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Totals { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            pub fn read(&self) -> Totals {
                Totals { $($name: self.$name.0.load(Ordering::Relaxed),)* }
            }
        }

        impl std::ops::Add for Totals {
            type Output = Totals;
            fn add(self, other: Totals) -> Totals {
                Totals { $($name: self.$name + other.$name,)* }
            }
        }
    };
}

counters! {
    /// Input records read, once per record however many transforms read it.
    records_in,
    /// Outcomes by kind; one per record and transform.
    kept,
    dropped,
    emitted,
    rejected,
    /// Records written, dead letters not included.
    records_out,
    dead_letters,
    skipped,
    /// Transactions by result.
    committed,
    rolled_back,
    /// Producers replaced because a request of a committed transaction was never answered.
    renewed,
    /// Transactional calls that did not return and were left behind.
    abandoned,
}

/// Added to by one thread, read by any.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, n: u64) {
        // One writer: a load and a store are enough, and cheaper than a locked add.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }
}

/// How a worker stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WorkerStatus {
    /// It is in its consumer group.
    pub member: bool,
    /// Lanes that have a producer: transactional ids are taken over.
    pub ready_lanes: u64,
}

/// A [`WorkerStatus`] in one word.
#[derive(Debug, Default)]
pub struct Status(AtomicU64);

impl Status {
    pub fn set(&self, status: WorkerStatus) {
        self.0.store(status.ready_lanes << 1 | u64::from(status.member), Ordering::Relaxed);
    }

    pub fn get(&self) -> WorkerStatus {
        let word = self.0.load(Ordering::Relaxed);
        WorkerStatus { member: word & 1 == 1, ready_lanes: word >> 1 }
    }
}
