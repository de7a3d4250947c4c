//! How far a worker is behind in its partitions: what the brokers have that is not committed yet, and since when. The
//! ends of the logs are those that librdkafka last saw, with every fetch; no broker is asked for this. Computed by the
//! worker twice a second, kept where anybody may read it.

use super::assignment::Progress;
use pelton_kafka::{PartitionStatistics, Position, TopicPartition};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How far behind in one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lag {
    /// Offsets between the committed position and the end for read_committed readers.
    pub records: u64,
    /// The timestamp of the last records that were committed, in milliseconds since 1970; none before the first.
    pub committed_ms: Option<i64>,
}

impl Lag {
    /// For how long what is waited for may have been waiting. `None`: nothing was committed yet, so nobody knows.
    pub fn seconds(&self, now_ms: i64) -> Option<f64> {
        match self.committed_ms {
            _ if self.records == 0 => Some(0.0),
            Some(stamp) => Some((now_ms - stamp).max(0) as f64 / 1000.0),
            None => None,
        }
    }
}

/// Where a worker is in one partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub lane: usize,
    /// After the last record that was processed.
    pub position: Option<Position>,
    /// What this worker has committed itself.
    pub committed: Option<Position>,
    /// None: the partition's end is not known yet.
    pub lag: Option<Lag>,
}

/// Where a worker is in the partitions that it has.
#[derive(Debug, Default)]
pub struct Lags(Mutex<BTreeMap<TopicPartition, Place>>);

impl Lags {
    pub fn set(&self, places: BTreeMap<TopicPartition, Place>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// These are another's now.
    pub fn forget(&self, partitions: &[TopicPartition]) {
        let mut lags = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lags.retain(|partition, _| !partitions.contains(partition));
    }

    /// The lags that are known.
    pub fn read(&self) -> BTreeMap<TopicPartition, Lag> {
        self.places().into_iter().filter_map(|(partition, place)| Some((partition, place.lag?))).collect()
    }

    pub fn places(&self) -> BTreeMap<TopicPartition, Place> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The lag of a partition. `None`: its end is not known yet.
pub fn lag(progress: &Progress, statistics: &PartitionStatistics) -> Option<Lag> {
    let end = statistics.end?.0;
    let fetched = statistics.next.map_or(-1, |next| next.0);
    // What ends transactions takes offsets too, and no commit ever passes the last of it: who has fetched to the end, and
    // committed all that came of it, is not behind.
    let all_committed = progress.next.is_none() || progress.next == progress.committed;
    let records = if all_committed && statistics.waiting == 0 && fetched >= end {
        0
    } else {
        let position = progress.committed.or(progress.first).or(statistics.next)?.0;
        u64::try_from(end - position).unwrap_or(0)
    };
    Some(Lag { records, committed_ms: progress.committed_ms })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(next: i64, end: i64, waiting: u64) -> PartitionStatistics {
        PartitionStatistics { next: Some(Position(next)), end: Some(Position(end)), waiting }
    }

    fn progress(first: i64, next: i64, committed: Option<i64>) -> Progress {
        let [first, next] = [first, next].map(|offset| Some(Position(offset)));
        Progress { first, next, committed: committed.map(Position), committed_ms: committed }
    }

    fn records(progress: Progress, statistics: PartitionStatistics) -> Option<u64> {
        lag(&progress, &statistics).map(|lag| lag.records)
    }

    #[test]
    fn lag_is_what_lies_between_the_committed_position_and_the_end() {
        assert_eq!(records(progress(0, 50, Some(40)), statistics(90, 100, 40)), Some(60));
        assert_eq!(records(progress(10, 50, None), statistics(90, 100, 40)), Some(90), "nothing committed yet");
        assert_eq!(records(Progress::default(), statistics(30, 100, 3)), Some(70), "nothing taken yet");
        assert_eq!(records(progress(0, 200, Some(200)), statistics(90, 100, 0)), Some(0), "the end is of a while ago");
        assert_eq!(records(progress(0, 50, Some(40)), PartitionStatistics { end: None, ..statistics(90, 0, 0) }), None);
    }

    #[test]
    fn the_marker_that_ends_a_transaction_is_nothing_to_wait_for() {
        // 99 records and a marker: the position is 99, the end 100.
        assert_eq!(records(progress(0, 99, Some(99)), statistics(100, 100, 0)), Some(0));
        assert_eq!(records(progress(0, 99, Some(90)), statistics(100, 100, 0)), Some(10), "taken and not committed");
        assert_eq!(records(progress(0, 90, Some(90)), statistics(100, 100, 9)), Some(10), "fetched and not taken");
        assert_eq!(records(progress(0, 99, Some(99)), statistics(99, 100, 0)), Some(1), "not fetched yet");
        assert_eq!(
            records(Progress::default(), statistics(100, 100, 0)),
            Some(0),
            "nothing came since it was assigned"
        );
    }

    #[test]
    fn seconds_are_counted_from_the_last_record_that_was_committed_while_there_is_more() {
        let lag = |records, committed_ms| Lag { records, committed_ms };
        assert_eq!(lag(5, Some(1_000)).seconds(3_500), Some(2.5));
        assert_eq!(lag(0, Some(1_000)).seconds(3_500), Some(0.0), "an old record is no lag");
        assert_eq!(lag(5, Some(9_000)).seconds(3_500), Some(0.0), "a clock that is ahead");
        assert_eq!(lag(5, None).seconds(3_500), None);
    }
}
