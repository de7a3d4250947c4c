//! What keeps one transform from ruining the others: a failure budget for the whole process, and a share of each
//! worker's time. A transform that exceeds one is *held*: the partitions of its input topics are paused
//! ([`super::pauses`]), for good (until a reload replaces it, somebody resumes it, or the process is restarted) or
//! until its share has recovered. An operator can hold a transform too, for any length of time; a reload does not end
//! that. Transforms that read the same topic are held with it, because a record is settled for all of them together.

use super::recent::Recent;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a transform may do to the others.
#[derive(Clone, Debug)]
pub struct Allowance {
    pub name: Arc<str>,
    /// Its input topics.
    pub topics: Vec<Arc<str>>,
    /// Goes with the transform's generation: a new one begins with a whole budget.
    pub breaker: Arc<Breaker>,
    /// Somebody wants it held; goes with the transform's name, over all its generations.
    pub by_hand: Arc<AtomicBool>,
    /// Of each worker's time, in thousandths; 1000 is no limit.
    pub share: u32,
}

/// Why a transform is held until somebody does something about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paused {
    /// Its budget of failures is used up.
    Budget,
    Hand,
}

impl Paused {
    pub fn as_str(self) -> &'static str {
        match self {
            Paused::Budget => "budget",
            Paused::Hand => "hand",
        }
    }
}

impl Allowance {
    /// A used up budget is told first: it wants mending.
    pub fn paused(&self) -> Option<Paused> {
        if self.breaker.has_tripped() {
            return Some(Paused::Budget);
        }
        self.by_hand.load(Ordering::Acquire).then_some(Paused::Hand)
    }

    /// Pauses the transform until [`Allowance::resume`]. `false`: somebody has done so before.
    pub fn pause(&self) -> bool {
        !self.by_hand.swap(true, Ordering::AcqRel)
    }

    /// Lets the transform go on, with a whole budget. `false`: nothing held it.
    pub fn resume(&self) -> bool {
        let by_hand = self.by_hand.swap(false, Ordering::AcqRel);
        self.breaker.reset() || by_hand
    }
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

/// One transform's circuit breaker; shared by the workers of a process.
#[derive(Debug)]
pub struct Breaker {
    budget: Option<Budget>,
    recent: Mutex<Recent>,
    tripped: AtomicBool,
}

impl Breaker {
    pub fn new(budget: Option<Budget>) -> Self {
        let recent = Mutex::new(Recent::new(budget.map_or(Duration::ZERO, |budget| budget.within)));
        Breaker { budget, recent, tripped: AtomicBool::new(false) }
    }

    pub fn budget(&self) -> Option<Budget> {
        self.budget
    }

    /// A record of the transform went by its error policy.
    pub fn failed(&self, now: Instant) -> Verdict {
        let Some(budget) = self.budget else { return Verdict::GoOn };
        if self.has_tripped() {
            return Verdict::GoOn;
        }
        let failures = self.recent.lock().unwrap_or_else(PoisonError::into_inner).note(now);
        if failures < budget.failures || self.tripped.swap(true, Ordering::AcqRel) {
            return Verdict::GoOn;
        }
        Verdict::Tripped(budget.then)
    }

    /// Begins anew, with a whole budget. `false`: it had not tripped.
    pub fn reset(&self) -> bool {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).forget();
        self.tripped.swap(false, Ordering::AcqRel)
    }

    pub fn has_tripped(&self) -> bool {
        self.tripped.load(Ordering::Acquire)
    }
}

/// How much of one worker's time each transform of its plan has taken; written by the processor, read by
/// [`super::pauses`].
#[derive(Debug, Default)]
pub struct TimeSpent(Vec<Duration>);

impl TimeSpent {
    pub fn new(transforms: usize) -> Self {
        TimeSpent(vec![Duration::ZERO; transforms])
    }

    pub fn add(&mut self, transform: usize, time: Duration) {
        if let Some(spent) = self.0.get_mut(transform) {
            *spent += time;
        }
    }

    pub fn of(&self, transform: usize) -> Duration {
        self.0.get(transform).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_of_failures_within_a_window_and_trips_once() {
        let breaker = Breaker::new(Some(Budget { failures: 3, within: Duration::from_secs(10), then: Then::Pause }));
        let start = Instant::now();
        let failed = |seconds| breaker.failed(start + Duration::from_secs(seconds));
        for seconds in [0, 5, 11, 16, 27] {
            assert_eq!(failed(seconds), Verdict::GoOn, "never three within ten seconds");
        }
        assert!(!breaker.has_tripped());
        assert_eq!(failed(28), Verdict::GoOn);
        assert_eq!(failed(29), Verdict::Tripped(Then::Pause));
        assert_eq!(failed(29), Verdict::GoOn, "once");
        assert!(breaker.has_tripped());
    }

    #[test]
    fn who_is_resumed_has_a_whole_budget() {
        let breaker = Breaker::new(Some(Budget { failures: 2, within: Duration::MAX, then: Then::Pause }));
        let by_hand = Arc::default();
        let of = Allowance { name: "t".into(), topics: Vec::new(), breaker: Arc::new(breaker), by_hand, share: 1000 };
        let failed = || of.breaker.failed(Instant::now());
        assert!(!of.resume(), "nothing held it");
        assert_eq!((failed(), failed()), (Verdict::GoOn, Verdict::Tripped(Then::Pause)));
        assert!(of.pause() && !of.pause());
        assert_eq!(of.paused(), Some(Paused::Budget));
        assert!(of.resume() && !of.resume());
        assert_eq!(of.paused(), None);
        assert_eq!((failed(), failed()), (Verdict::GoOn, Verdict::Tripped(Then::Pause)));
    }

    #[test]
    fn without_a_budget_failures_are_free() {
        let breaker = Breaker::new(None);
        assert!((0..1000).all(|_| breaker.failed(Instant::now()) == Verdict::GoOn));
        assert!(!breaker.has_tripped());
    }
}
