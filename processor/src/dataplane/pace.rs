//! When a transaction is due, and how many records fit a batch. Both keep waits short: a batch takes about half a
//! commit interval (50 ms at most), which bounds commits, revocations, drains, and a neighbour's wait. Even if all its
//! records take their whole deadlines, it ends before half of a transaction's time is over.

use super::plan::DeliveryPlan;
use std::time::{Duration, Instant};

/// The most records of one batch, whatever their cost.
pub const BATCH_MAX: usize = 128;

/// Transactions shorter than that are over before it pays to keep them apart.
const APART_FROM: Duration = Duration::from_millis(20);

/// What an open transaction holds so far.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    pub since: Instant,
    /// When it ends, whatever it holds.
    pub due: Instant,
    /// When the last record came.
    pub last: Instant,
    pub records: u64,
    /// Input bytes: keys and values.
    pub bytes: u64,
}

/// When a transaction that begins now is to end. A worker stands still while all its lanes commit: one that would end at
/// about the time of another, `others`, ends half an interval earlier. From then on they take turns.
pub fn due_at(delivery: &DeliveryPlan, others: impl IntoIterator<Item = Instant>, now: Instant) -> Instant {
    let interval = delivery.commit_interval;
    let due = now + interval;
    let is_near = |other: Instant| other.max(due).saturating_duration_since(other.min(due)) < interval / 4;
    if interval >= APART_FROM && others.into_iter().any(is_near) { due - interval / 2 } else { due }
}

/// How long until the transaction is due; zero: now.
pub fn due_in(delivery: &DeliveryPlan, volume: &Volume, now: Instant) -> Duration {
    if volume.records >= delivery.max_records || volume.bytes >= delivery.max_bytes {
        return Duration::ZERO;
    }
    let age = volume.due.saturating_duration_since(now);
    match delivery.idle {
        Some(idle) => age.min(idle.saturating_sub(now.saturating_duration_since(volume.last))),
        None => age,
    }
}

/// Sizes batches by the measured time per record.
#[derive(Debug)]
pub struct BatchSize {
    budget: Duration,
    most: usize,
    /// Smoothed time per record in nanoseconds.
    per_record_ns: f64,
    /// Doubles from one, so that the first batch of a slow transform is not a large one.
    grown: usize,
}

impl BatchSize {
    /// `deadline`: the longest that a record may take, in all its transforms together.
    pub fn new(delivery: &DeliveryPlan, deadline: Duration) -> Self {
        let most = delivery.transaction_timeout.as_nanos() / 2 / deadline.as_nanos().max(1);
        BatchSize {
            budget: (delivery.commit_interval / 2).min(Duration::from_millis(50)),
            most: usize::try_from(most).unwrap_or(usize::MAX).clamp(1, BATCH_MAX),
            per_record_ns: 0.0,
            grown: 1,
        }
    }

    /// For another plan, whose transforms may be slower: begins with one record again, and with what is known of their cost.
    pub fn adopt(&mut self, delivery: &DeliveryPlan, deadline: Duration) {
        *self = BatchSize { per_record_ns: self.per_record_ns, ..BatchSize::new(delivery, deadline) };
    }

    pub fn get(&self) -> usize {
        let by_time = (self.budget.as_nanos() as f64 / self.per_record_ns.max(1.0)) as usize;
        by_time.clamp(1, self.most.min(self.grown))
    }

    /// Slow records count at once, fast ones gradually: a wait that is too long hurts more than a small batch.
    pub fn observe(&mut self, records: usize, took: Duration) {
        if records == 0 {
            return;
        }
        self.grown = self.grown.max(records.saturating_mul(2).min(BATCH_MAX));
        let seen = took.as_nanos() as f64 / records as f64;
        let weight = if seen > self.per_record_ns { 0.5 } else { 0.1 };
        self.per_record_ns += (seen - self.per_record_ns) * weight;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> DeliveryPlan {
        DeliveryPlan {
            exactly_once: true,
            commit_interval: Duration::from_millis(100),
            idle: None,
            rest: Duration::ZERO,
            max_records: 1000,
            max_bytes: 1 << 20,
            transaction_timeout: Duration::from_secs(30),
            renew_in_doubt: true,
            drain_limit: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_transaction_is_due_by_age_by_size_by_count_and_when_idle() {
        let since = Instant::now();
        let due = since + Duration::from_millis(100);
        let volume = Volume { since, due, last: since, records: 1, bytes: 1 };
        let at = |ms| since + Duration::from_millis(ms);
        assert_eq!(due_in(&delivery(), &volume, at(0)), Duration::from_millis(100));
        assert_eq!(due_in(&delivery(), &volume, at(99)), Duration::from_millis(1));
        assert_eq!(due_in(&delivery(), &volume, at(500)), Duration::ZERO);
        assert_eq!(due_in(&delivery(), &Volume { records: 1000, ..volume }, at(0)), Duration::ZERO);
        assert_eq!(due_in(&delivery(), &Volume { bytes: 1 << 20, ..volume }, at(0)), Duration::ZERO);
        let idle = DeliveryPlan { idle: Some(Duration::from_millis(10)), ..delivery() };
        assert_eq!(due_in(&idle, &volume, at(4)), Duration::from_millis(6));
        assert_eq!(due_in(&idle, &Volume { last: at(95), ..volume }, at(96)), Duration::from_millis(4));
    }

    #[test]
    fn transactions_of_a_worker_end_apart_from_each_other() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let due = |others: &[Instant]| due_at(&delivery(), others.iter().copied(), now) - now;
        assert_eq!(due(&[]), Duration::from_millis(100));
        assert_eq!(due(&[at(50)]), Duration::from_millis(100));
        assert_eq!(due(&[at(100)]), Duration::from_millis(50));
        assert_eq!(due(&[at(76)]), Duration::from_millis(50));
        assert_eq!(due(&[at(75)]), Duration::from_millis(100));
        let low = DeliveryPlan { commit_interval: Duration::from_millis(5), ..delivery() };
        assert_eq!(due_at(&low, [at(5)], now), at(5));
    }

    #[test]
    fn slow_records_make_batches_small_and_fast_ones_let_them_grow_again() {
        let mut size = BatchSize::new(&delivery(), Duration::from_millis(5));
        let mut sizes = Vec::new();
        for _ in 0..9 {
            sizes.push(size.get());
            size.observe(size.get(), Duration::from_micros(1));
        }
        assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 128, 128]);
        for _ in 0..20 {
            size.observe(1, Duration::from_millis(5));
        }
        assert_eq!(size.get(), 10);
        for _ in 0..200 {
            size.observe(100, Duration::from_micros(100));
        }
        assert_eq!(size.get(), BATCH_MAX);
        size.observe(1, Duration::from_secs(5));
        assert_eq!(size.get(), 1);
    }

    #[test]
    fn a_batch_of_deadlines_ends_within_half_a_transaction() {
        let mut size = BatchSize::new(&delivery(), Duration::from_secs(4));
        (0..20).for_each(|_| size.observe(size.get(), Duration::from_nanos(1)));
        assert_eq!(size.get(), 3, "3 times 4 s are less than 15 s");
        let slow = BatchSize::new(&delivery(), Duration::from_secs(60));
        assert_eq!(slow.get(), 1);
    }

    #[test]
    fn a_plan_of_slower_transforms_begins_with_small_batches() {
        let mut size = BatchSize::new(&delivery(), Duration::from_millis(5));
        (0..20).for_each(|_| size.observe(size.get(), Duration::from_nanos(1)));
        assert_eq!(size.get(), BATCH_MAX);
        size.adopt(&delivery(), Duration::from_secs(2));
        assert_eq!(size.get(), 1);
        (0..20).for_each(|_| size.observe(size.get(), Duration::from_nanos(1)));
        assert_eq!(size.get(), 7, "7 times 2 s are less than 15 s");
    }
}
