//! Where a record is, and where reading continues: two numbers that look alike and must never be mixed up.
//! An off-by-one between them loses or repeats a record, so there is one conversion, [`Offset::next`].

use std::fmt;
use std::sync::Arc;

/// The offset of one record: its own place in its partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Offset(pub i64);

/// The next offset to read: what consumer groups commit and what a seek takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position(pub i64);

impl Offset {
    /// The position after this record.
    pub fn next(self) -> Position {
        Position(self.0 + 1)
    }
}

impl From<Offset> for Position {
    /// The position *at* this record: reading goes on with the record itself.
    fn from(offset: Offset) -> Self {
        Position(offset.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition of an input topic. Cheap to clone: the name is shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// How far a partition is settled: what a transaction commits for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PartitionProgress {
    pub partition: TopicPartition,
    pub position: Position,
    /// Leader epoch of the last record read, -1 when the broker gave none: lets the next reader notice a truncated log.
    pub leader_epoch: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_after_a_record_is_its_offset_plus_one_and_at_it_the_same_number() {
        assert_eq!(Offset(41).next(), Position(42));
        assert_eq!(Position::from(Offset(41)), Position(41));
    }
}
