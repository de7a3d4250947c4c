//! Finds the record that makes its transactions fail: one whose output the brokers refuse (too large for its topic, not
//! authorised), which the producer cannot know beforehand.
//!
//! When a transaction fails for such a reason the lane's next ones are smaller, by eight each time, until one record is
//! alone and has failed [`STRIKES`] times. That record is then *condemned*: its transform's policy settles it in place
//! of its outputs. Transactions grow again, doubling with each commit, once all records of the failed one have passed.
//!
//! Meanwhile the lane's other partitions, and those that have passed, are left aside: transactions of one record could
//! not keep up with them, and what the culprit's partition brings would wait behind them forever.

use pelton_kafka::{Batch, Offset, Position, TopicPartition, TxnError, UnreadableHeaders};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Failures of a record in a transaction of its own after which it is condemned: a topic that is just being changed must
/// not cost a record.
const STRIKES: u32 = 3;
const SHRINK: u64 = 8;
/// Transactions of this many records count as full size again.
const FULL: u64 = 4096;
/// A search that nothing came to for so long is over: its records may be deleted, or their transform be paused.
const QUIET: Duration = Duration::from_secs(30);

/// One lane's search.
#[derive(Debug, Default)]
pub struct Isolation {
    /// Records of a transaction; `None`: as many as the configuration says.
    limit: Option<u64>,
    /// How far the transaction went that was refused last: the culprit is before one of these positions.
    within: BTreeMap<TopicPartition, Position>,
    suspects: BTreeMap<TopicPartition, Suspect>,
    /// When nothing of what is looked for began to come.
    quiet_since: Option<Instant>,
}

#[derive(Debug)]
struct Suspect {
    offset: Offset,
    strikes: u32,
    refusal: Refusal,
}

/// Why a record's outputs cannot be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The topic that refused, an index into the plan's outputs, where that is known.
    pub topic: Option<u32>,
    /// Stable, for dead letters and metrics.
    pub code: &'static str,
    /// The broker's error and its text.
    pub reason: String,
}

impl Refusal {
    /// No broker's: the record cannot be shown to anybody as it is.
    pub fn headers(unreadable: &UnreadableHeaders) -> Self {
        Refusal { topic: None, code: "input.headers", reason: unreadable.to_string() }
    }
}

/// A condemned record's dead letter is refused too: nothing can settle it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hopeless {
    pub partition: TopicPartition,
    pub offset: Offset,
}

impl Isolation {
    /// How many more records an open transaction of `records` may take.
    pub fn room(&self, records: u64) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit.saturating_sub(records) as usize)
    }

    /// A transaction of `records`, up to the positions `progress`, was refused; `alone` is its record if there was but one.
    pub fn refused(
        &mut self,
        records: u64,
        progress: Vec<(TopicPartition, Position)>,
        alone: Option<(TopicPartition, Offset)>,
        cause: &TxnError,
    ) -> Result<(), Hopeless> {
        self.limit = Some((records / SHRINK).max(1));
        self.within = progress.into_iter().collect();
        self.quiet_since = None;
        let Some((partition, offset)) = alone else { return Ok(()) };
        let refusal =
            Refusal { topic: cause.topic, code: "output.refused", reason: format!("{} ({})", cause.text, cause.name) };
        let suspect = self.suspects.entry(partition.clone()).or_insert(Suspect { offset, strikes: 0, refusal });
        if suspect.offset != offset {
            *suspect = Suspect { offset, strikes: 0, refusal: suspect.refusal.clone() };
        }
        suspect.strikes += 1;
        if suspect.strikes == STRIKES {
            tracing::error!(
                %partition, %offset, error = %cause, code = "output.refused",
                advice = "the error says what the brokers refuse: a right to write, or a size (`max.message.bytes` of the topic)",
                "a record's outputs are refused: its policy settles it"
            );
        }
        if suspect.strikes >= 2 * STRIKES { Err(Hopeless { partition, offset }) } else { Ok(()) }
    }

    /// A transaction up to these positions was committed.
    pub fn committed(&mut self, progress: &[(TopicPartition, Position)]) {
        let Some(limit) = self.limit else { return };
        for (partition, position) in progress {
            if self.suspects.get(partition).is_some_and(|s| s.offset.next() <= *position) {
                self.suspects.remove(partition);
            }
            if self.within.get(partition).is_some_and(|end| end <= position) {
                self.within.remove(partition);
            }
        }
        if !self.is_on() {
            self.limit = (limit * 2 < FULL).then_some(limit * 2);
        }
    }

    /// Whether the culprit is still to be found, or to pass.
    pub fn is_on(&self) -> bool {
        !(self.within.is_empty() && self.suspects.is_empty())
    }

    /// Whether this partition of the lane has to wait for that: it need not hold the culprit.
    pub fn leaves_aside(&self, partition: &TopicPartition) -> bool {
        self.is_on() && !self.within.contains_key(partition) && !self.suspects.contains_key(partition)
    }

    /// Ends a search to which nothing comes any more. `idle`: the lane has nothing open and nothing to end.
    pub fn end_if_quiet(&mut self, idle: bool, now: Instant) {
        if !idle || !self.is_on() {
            self.quiet_since = None;
        } else if now.saturating_duration_since(*self.quiet_since.get_or_insert(now)) >= QUIET {
            self.within.clear();
            self.suspects.clear();
        }
    }

    /// The lane does not read these partitions any more.
    pub fn forget(&mut self, gone: impl Fn(&TopicPartition) -> bool) {
        self.suspects.retain(|partition, _| !gone(partition));
        self.within.retain(|partition, _| !gone(partition));
    }

    /// What the only record of `batch` is condemned for, if it is. `partition` is its partition.
    pub fn verdict(&self, partition: &TopicPartition, batch: &Batch) -> Option<Refusal> {
        let suspect = self.suspects.get(partition).filter(|s| s.strikes >= STRIKES)?;
        let only = batch.get(0).filter(|message| batch.len() == 1 && message.offset() == suspect.offset);
        only.map(|_| suspect.refusal.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_kafka::{Blame, Fate, OwnedMessage};

    fn p(partition: i32) -> TopicPartition {
        TopicPartition { topic: "in".into(), partition }
    }

    fn cause() -> TxnError {
        let error = TxnError::own(Fate::Abort, Blame::Record, "produce", "MSG_SIZE_TOO_LARGE", "too large");
        TxnError { topic: Some(1), ..error }
    }

    fn batch(offset: i64) -> Batch {
        let mut batch = Batch::new();
        batch.push_owned(0, OwnedMessage { partition: 0, offset, ..OwnedMessage::default() });
        batch
    }

    /// Refused as part of a transaction that went up to offset 100 of partition 0.
    fn refused(isolation: &mut Isolation, records: u64, alone: Option<i64>) -> Result<(), Hopeless> {
        let end = alone.map_or(100, |offset| offset + 1);
        let alone = alone.map(|offset| (p(0), Offset(offset)));
        isolation.refused(records, vec![(p(0), Position(end))], alone, &cause())
    }

    #[test]
    fn transactions_shrink_to_the_record_and_grow_again_behind_it() {
        let mut isolation = Isolation::default();
        assert_eq!(isolation.room(1_000_000), usize::MAX);
        for (records, room) in [(4_000, 500), (500, 62), (62, 7), (7, 1)] {
            refused(&mut isolation, records, None).unwrap();
            assert_eq!(isolation.room(0), room);
        }
        for strike in 0..STRIKES {
            assert_eq!(isolation.verdict(&p(0), &batch(41)), None, "strike {strike}");
            refused(&mut isolation, 1, Some(41)).unwrap();
            isolation.committed(&[(p(1), Position(100))]);
            assert_eq!(isolation.room(0), 1, "it does not grow while somebody is under suspicion");
        }
        let refusal = isolation.verdict(&p(0), &batch(41)).unwrap();
        assert_eq!(
            refusal,
            Refusal { topic: Some(1), code: "output.refused", reason: "too large (MSG_SIZE_TOO_LARGE)".into() }
        );
        assert_eq!(isolation.verdict(&p(0), &batch(42)), None, "its neighbour is not condemned");
        isolation.committed(&[(p(0), Position(42))]);
        assert_eq!((isolation.room(0), isolation.room(1)), (2, 1));
        (0..12).for_each(|_| isolation.committed(&[]));
        assert_eq!(isolation.room(1_000_000), usize::MAX);
    }

    /// Seen by the torture run: five partitions without fault and one with; the search never came to its end.
    #[test]
    fn commits_of_other_partitions_do_not_undo_the_search() {
        let mut isolation = Isolation::default();
        refused(&mut isolation, 640, None).unwrap();
        for _ in 0..50 {
            isolation.committed(&[(p(1), Position(1_000)), (p(2), Position(1_000))]);
        }
        assert_eq!(isolation.room(0), 80);
        isolation.committed(&[(p(0), Position(99))]);
        assert_eq!(isolation.room(0), 80, "one of its records is left");
        isolation.committed(&[(p(0), Position(100))]);
        assert_eq!(isolation.room(0), 160);
    }

    #[test]
    fn partitions_that_need_not_hold_the_culprit_are_left_aside_until_it_has_passed() {
        let mut isolation = Isolation::default();
        let aside = |isolation: &Isolation| [0, 1].map(|partition| isolation.leaves_aside(&p(partition)));
        assert_eq!(aside(&isolation), [false, false]);
        refused(&mut isolation, 640, None).unwrap();
        assert_eq!(aside(&isolation), [false, true]);
        refused(&mut isolation, 1, Some(41)).unwrap();
        assert_eq!(aside(&isolation), [false, true]);
        isolation.committed(&[(p(0), Position(42))]);
        assert_eq!(aside(&isolation), [false, false], "over, although transactions are still small");
        assert_eq!(isolation.room(0), 2);
    }

    #[test]
    fn a_search_that_nothing_comes_to_is_over_after_a_while() {
        let (mut isolation, start) = (Isolation::default(), Instant::now());
        refused(&mut isolation, 640, None).unwrap();
        for (idle, second, on) in [(true, 0, true), (false, 29, true), (true, 31, true), (true, 60, true)] {
            isolation.end_if_quiet(idle, start + Duration::from_secs(second));
            assert_eq!(isolation.is_on(), on, "second {second}");
        }
        isolation.end_if_quiet(true, start + Duration::from_secs(61));
        assert!(!isolation.is_on());
        isolation.committed(&[(p(1), Position(7))]);
        assert_eq!(isolation.room(0), 160);
        refused(&mut isolation, 1, Some(41)).unwrap();
        isolation.end_if_quiet(true, start + Duration::from_secs(3_600));
        assert!(isolation.is_on(), "another search has a while of its own");
    }

    #[test]
    fn a_record_whose_dead_letter_is_refused_too_is_hopeless() {
        let mut isolation = Isolation::default();
        (1..2 * STRIKES).for_each(|_| refused(&mut isolation, 1, Some(7)).unwrap());
        assert_eq!(refused(&mut isolation, 1, Some(7)), Err(Hopeless { partition: p(0), offset: Offset(7) }));
    }

    #[test]
    fn a_suspect_that_passes_after_all_is_cleared() {
        let mut isolation = Isolation::default();
        refused(&mut isolation, 1, Some(7)).unwrap();
        isolation.committed(&[(p(0), Position(8))]);
        assert_eq!(isolation.room(0), 2);
        refused(&mut isolation, 1, Some(9)).unwrap();
        refused(&mut isolation, 1, Some(9)).unwrap();
        assert_eq!(isolation.verdict(&p(0), &batch(9)), None, "two strikes are not three");
        isolation.forget(|partition| *partition == p(0));
        assert!(isolation.suspects.is_empty() && isolation.within.is_empty());
    }
}
