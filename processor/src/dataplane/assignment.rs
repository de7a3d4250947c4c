//! Which partitions this worker owns, which lane each belongs to, and where reading continues after a rollback.
//!
//! A partition belongs to exactly one lane, so its transactions are committed in order (I3, I4). It changes lanes only
//! while both are idle: otherwise a transaction of the new lane could commit positions while one of the old lane is
//! undecided.

use pelton_kafka::{Offset, Position, TopicPartition};
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Assignment {
    lanes: usize,
    owned: BTreeMap<TopicPartition, Owned>,
    /// Partitions that came so far: tells one stay of a partition from the next.
    arrivals: u64,
}

#[derive(Clone, Copy, Debug)]
struct Owned {
    lane: usize,
    /// [`Assignment::arrivals`] when it came.
    arrival: u64,
    /// The first record that was read since the partition came: where reading began if the group has no position.
    first: Option<Offset>,
    /// After the last record that was processed, committed or not.
    next: Option<Position>,
    /// What we have committed ourselves.
    committed: Option<Position>,
    committed_ms: Option<i64>,
}

/// How far the partition has come since it was assigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Where reading began, once something was read.
    pub first: Option<Position>,
    /// After the last record that was processed.
    pub next: Option<Position>,
    pub committed: Option<Position>,
    /// The timestamp of the last records that were committed.
    pub committed_ms: Option<i64>,
}

/// A partition changes lanes and reading goes on at `at`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Move {
    pub partition: TopicPartition,
    pub lane: usize,
    pub at: Position,
}

impl Assignment {
    pub fn new(lanes: usize) -> Self {
        Assignment { lanes, owned: BTreeMap::new(), arrivals: 0 }
    }

    /// Takes a new partition into the lane with the fewest.
    pub fn add(&mut self, partition: TopicPartition) -> usize {
        let lane = (0..self.lanes).min_by_key(|lane| self.count(*lane)).unwrap_or(0);
        self.arrivals += 1;
        let owned =
            Owned { lane, arrival: self.arrivals, first: None, next: None, committed: None, committed_ms: None };
        self.owned.insert(partition, owned);
        lane
    }

    pub fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Has the partition been here without a break since so many arrivals? What was looked up for an earlier stay is out
    /// of date: another member may have gone on from there.
    pub fn stayed_since(&self, partition: &TopicPartition, arrivals: u64) -> bool {
        self.owned.get(partition).is_some_and(|owned| owned.arrival <= arrivals)
    }

    pub fn remove(&mut self, partition: &TopicPartition) {
        self.owned.remove(partition);
    }

    pub fn lane(&self, partition: &TopicPartition) -> Option<usize> {
        self.owned.get(partition).map(|owned| owned.lane)
    }

    /// After the last record of it that was processed.
    pub fn next(&self, partition: &TopicPartition) -> Option<Position> {
        self.owned.get(partition).and_then(|owned| owned.next)
    }

    /// All partitions, and where reading goes on of those of which something was read.
    pub fn places(&self) -> impl Iterator<Item = (&TopicPartition, Option<Position>)> {
        self.owned.iter().map(|(partition, owned)| (partition, owned.next))
    }

    /// How far each partition has come.
    pub fn progress(&self) -> impl Iterator<Item = (&TopicPartition, Progress)> {
        self.owned.iter().map(|(partition, owned)| {
            let Owned { first, next, committed, committed_ms, .. } = *owned;
            (partition, Progress { first: first.map(Position::from), next, committed, committed_ms })
        })
    }

    /// The lane of each partition.
    pub fn lanes_in_use(&self) -> impl Iterator<Item = usize> {
        self.owned.values().map(|owned| owned.lane)
    }

    pub fn len(&self) -> usize {
        self.owned.len()
    }

    pub fn is_empty(&self) -> bool {
        self.owned.is_empty()
    }

    /// Records of this partition were read, beginning with `first`.
    pub fn read(&mut self, partition: &TopicPartition, first: Offset) {
        if let Some(owned) = self.owned.get_mut(partition) {
            owned.first.get_or_insert(first);
        }
    }

    /// Everything before `next` has its outcome in an open transaction.
    pub fn processed(&mut self, partition: &TopicPartition, next: Position) {
        if let Some(owned) = self.owned.get_mut(partition) {
            owned.next = Some(next);
        }
    }

    /// Its records from here on were left out: reading goes on here, if nothing else is known.
    pub fn left_out(&mut self, partition: &TopicPartition, at: Position) {
        if let Some(owned) = self.owned.get_mut(partition) {
            owned.next.get_or_insert(at);
        }
    }

    /// The group has committed this position, and its last records were of then.
    pub fn committed(&mut self, partition: &TopicPartition, position: Position, stamp_ms: Option<i64>) {
        if let Some(owned) = self.owned.get_mut(partition) {
            owned.committed = Some(position);
            owned.committed_ms = stamp_ms.or(owned.committed_ms);
        }
    }

    /// Where to read on after a rollback: at the committed position, or where reading began if that is later. `None`: the partition is
    /// not ours any more, or nothing of it was read.
    pub fn rewind(&mut self, partition: &TopicPartition, committed: Option<Position>) -> Option<Position> {
        let owned = self.owned.get_mut(partition)?;
        // Never before where reading began: the log may have lost what the group once committed.
        owned.next = committed.max(owned.first.map(Position::from));
        owned.next
    }

    /// Moves that even the lanes out. Only partitions whose place is known can move.
    pub fn moves(&self) -> Vec<Move> {
        let mut counts: Vec<usize> = (0..self.lanes).map(|lane| self.count(lane)).collect();
        let mut moves = Vec::new();
        for (partition, owned) in &self.owned {
            let Some(at) = owned.next else { continue };
            let Some(lane) = (0..self.lanes).min_by_key(|lane| counts[*lane]) else { continue };
            if counts[owned.lane] >= counts[lane] + 2 {
                counts[owned.lane] -= 1;
                counts[lane] += 1;
                moves.push(Move { partition: partition.clone(), lane, at });
            }
        }
        moves
    }

    /// A move was carried out.
    pub fn moved(&mut self, moved: &Move) {
        if let Some(owned) = self.owned.get_mut(&moved.partition) {
            owned.lane = moved.lane;
        }
    }

    fn count(&self, lane: usize) -> usize {
        self.owned.values().filter(|owned| owned.lane == lane).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(partition: i32) -> TopicPartition {
        TopicPartition { topic: "in".into(), partition }
    }

    #[test]
    fn partitions_are_dealt_evenly_and_evened_out_after_a_revocation() {
        let mut assignment = Assignment::new(2);
        let lanes: Vec<usize> = (0..6).map(|i| assignment.add(p(i))).collect();
        assert_eq!(lanes, [0, 1, 0, 1, 0, 1]);
        assert_eq!(assignment.moves(), []);
        for i in [1, 3, 5] {
            assignment.remove(&p(i));
        }
        assert_eq!(assignment.moves(), [], "nothing was read: where to seek to is not known");
        for i in [0, 2, 4] {
            assignment.processed(&p(i), Position(10 + i64::from(i)));
        }
        let moves = assignment.moves();
        assert_eq!(moves, [Move { partition: p(0), lane: 1, at: Position(10) }]);
        assignment.moved(&moves[0]);
        assert_eq!(assignment.moves(), []);
    }

    #[test]
    fn a_rollback_goes_to_the_committed_position_else_to_where_reading_began() {
        let mut assignment = Assignment::new(1);
        assignment.add(p(0));
        assert_eq!(assignment.rewind(&p(0), None), None, "nothing was read");
        assignment.read(&p(0), Offset(7));
        assignment.read(&p(0), Offset(9));
        assert_eq!(assignment.rewind(&p(0), None), Some(Position(7)));
        assert_eq!(assignment.rewind(&p(0), Some(Position(8))), Some(Position(8)));
        let then = assignment.arrivals();
        assert!(assignment.stayed_since(&p(0), then));
        assignment.remove(&p(0));
        assert_eq!(assignment.rewind(&p(0), Some(Position(8))), None, "not ours any more");
        assignment.add(p(0));
        assert!(!assignment.stayed_since(&p(0), then), "another stay");
    }
}
