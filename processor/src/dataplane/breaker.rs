//! What keeps one transform from ruining the others: a budget of failures for the whole process, and a share of each
//! worker's time. Who exceeds one is *held*: the partitions of its input topics are paused ([`super::holds`]), for good
//! (until the process is started again) or until its share has grown back. Transforms that read the same topic are held
//! with it, because a record is settled for all of them together.

use super::recent::Recent;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a transform may do to the others.
#[derive(Clone, Debug)]
pub struct Allowance {
    pub name: Arc<str>,
    /// Its input topics.
    pub topics: Vec<Arc<str>>,
    pub budget: Option<Budget>,
    /// Of each worker's time, in thousandths; 1000 is no limit.
    pub share: u32,
}

/// So many failures in so long, and what then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    pub failures: usize,
    pub within: Duration,
    pub then: Then,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    Pause,
    Stop,
}

/// What is to be done after a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    GoOn,
    /// The budget is used up by this failure: once.
    Tripped(Then),
}

/// The circuit breakers of a process, one for each transform; shared by its workers.
#[derive(Debug, Default)]
pub struct Breakers {
    breakers: Vec<Breaker>,
    tripped: AtomicUsize,
}

#[derive(Debug)]
struct Breaker {
    allowance: Allowance,
    recent: Mutex<Recent>,
    tripped: AtomicBool,
}

impl Breakers {
    pub fn new(allowances: Vec<Allowance>) -> Self {
        let breaker = |allowance: Allowance| Breaker {
            recent: Mutex::new(Recent::new(allowance.budget.map_or(Duration::ZERO, |budget| budget.within))),
            allowance,
            tripped: AtomicBool::new(false),
        };
        Breakers { breakers: allowances.into_iter().map(breaker).collect(), tripped: AtomicUsize::new(0) }
    }

    pub fn allowances(&self) -> impl Iterator<Item = &Allowance> {
        self.breakers.iter().map(|breaker| &breaker.allowance)
    }

    /// A record of this transform went by its error policy.
    pub fn failed(&self, transform: usize, now: Instant) -> Verdict {
        let Some(breaker) = self.breakers.get(transform) else { return Verdict::GoOn };
        let Some(budget) = breaker.allowance.budget else { return Verdict::GoOn };
        if breaker.tripped.load(Ordering::Acquire) {
            return Verdict::GoOn;
        }
        let failures = breaker.recent.lock().unwrap_or_else(PoisonError::into_inner).note(now);
        if failures < budget.failures || breaker.tripped.swap(true, Ordering::AcqRel) {
            return Verdict::GoOn;
        }
        self.tripped.fetch_add(1, Ordering::AcqRel);
        Verdict::Tripped(budget.then)
    }

    pub fn has_tripped(&self, transform: usize) -> bool {
        self.breakers.get(transform).is_some_and(|breaker| breaker.tripped.load(Ordering::Acquire))
    }

    /// How many have tripped so far.
    pub fn count_tripped(&self) -> usize {
        self.tripped.load(Ordering::Acquire)
    }

    /// The transforms that are paused, by name.
    pub fn paused(&self) -> impl Iterator<Item = &Arc<str>> {
        let tripped = |breaker: &&Breaker| breaker.tripped.load(Ordering::Acquire);
        self.breakers.iter().filter(tripped).map(|breaker| &breaker.allowance.name)
    }
}

/// How much of one worker's time each transform has taken; written by the processor, read by [`super::holds`].
#[derive(Debug, Default)]
pub struct TimeSpent(Vec<AtomicU64>);

impl TimeSpent {
    pub fn new(transforms: usize) -> Self {
        TimeSpent((0..transforms).map(|_| AtomicU64::new(0)).collect())
    }

    pub fn add(&self, transform: usize, time: Duration) {
        if let Some(spent) = self.0.get(transform) {
            // One writer, on the thread that also reads.
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            spent.store(spent.load(Ordering::Relaxed).saturating_add(nanos), Ordering::Relaxed);
        }
    }

    pub fn of(&self, transform: usize) -> Duration {
        Duration::from_nanos(self.0.get(transform).map_or(0, |spent| spent.load(Ordering::Relaxed)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breakers(then: Then) -> Breakers {
        let budget = Budget { failures: 3, within: Duration::from_secs(10), then };
        let of = |name: &str, budget| Allowance { name: name.into(), topics: vec!["in".into()], budget, share: 1000 };
        Breakers::new(vec![of("bad", Some(budget)), of("free", None)])
    }

    #[test]
    fn a_budget_is_of_failures_within_a_window_and_trips_once() {
        let breakers = breakers(Then::Pause);
        let start = Instant::now();
        let failed = |seconds| breakers.failed(0, start + Duration::from_secs(seconds));
        for seconds in [0, 5, 11, 16, 27] {
            assert_eq!(failed(seconds), Verdict::GoOn, "never three within ten seconds");
        }
        assert!(!breakers.has_tripped(0));
        assert_eq!(failed(28), Verdict::GoOn);
        assert_eq!(failed(29), Verdict::Tripped(Then::Pause));
        assert_eq!(failed(29), Verdict::GoOn, "once");
        assert_eq!((breakers.has_tripped(0), breakers.count_tripped()), (true, 1));
        assert_eq!(breakers.paused().map(|name| &**name).collect::<Vec<_>>(), ["bad"]);
    }

    #[test]
    fn without_a_budget_failures_are_free() {
        let breakers = breakers(Then::Stop);
        assert!((0..1000).all(|_| breakers.failed(1, Instant::now()) == Verdict::GoOn));
        assert_eq!(breakers.count_tripped(), 0);
    }
}
