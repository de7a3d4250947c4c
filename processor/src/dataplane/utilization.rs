//! How a worker's time is spent: working, waiting for records, or waiting for brokers. The clock is read where the loop reads
//! it anyway, so this costs nothing per record.

use super::counters::Counters;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub struct Utilization {
    counters: Arc<Counters>,
    /// All time before is accounted for.
    mark: Option<Instant>,
    /// [`Counters::blocked`] at the mark: whoever waits for room in the producer's queue adds to it by itself.
    blocked: u64,
}

impl Utilization {
    pub fn new(counters: Arc<Counters>) -> Self {
        let blocked = counters.blocked.get();
        Utilization { counters, mark: None, blocked }
    }

    /// Until now it worked, but for what is counted as blocked.
    pub fn worked(&mut self, now: Instant) {
        let blocked = self.counters.blocked.get();
        if let Some(mark) = self.mark {
            let waited = blocked.wrapping_sub(self.blocked);
            self.counters.busy.add(nanos(now.saturating_duration_since(mark)).saturating_sub(waited));
        }
        (self.mark, self.blocked) = (Some(now), blocked);
    }

    /// Since `before` it waited. `by_brokers`: it would have had nowhere to put a record.
    pub fn waited(&mut self, before: Instant, now: Instant, by_brokers: bool) {
        self.worked(before);
        if by_brokers {
            self.counters.blocked.add(nanos(now.saturating_duration_since(before)));
        }
        (self.mark, self.blocked) = (Some(now), self.counters.blocked.get());
    }
}

pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_work_or_waiting_or_the_brokers() {
        let counters = Arc::new(Counters::default());
        let mut utilization = Utilization::new(Arc::clone(&counters));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let read = || (counters.busy.get() / 1_000_000, counters.blocked.get() / 1_000_000);
        utilization.worked(at(0));
        utilization.waited(at(10), at(50), false);
        assert_eq!(read(), (10, 0));
        utilization.worked(at(70));
        assert_eq!(read(), (30, 0));
        utilization.waited(at(75), at(95), true);
        assert_eq!(read(), (35, 20));
        // The sink waited for room in its queue for 4 of the next 10 ms.
        counters.blocked.add(4_000_000);
        utilization.worked(at(105));
        assert_eq!(read(), (41, 24));
    }
}
