//! Where a consumer stands in its partitions, read from librdkafka's statistics: how far it has fetched, where the log ends
//! for it, and what waits to be taken. That it comes from there and not from the watermark calls has a reason: those know
//! the high watermark only, and neither the last stable offset nor what was fetched and left out, such as the markers that
//! end transactions.

use crate::position::{Position, TopicPartition};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One partition, as of the last statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// The next offset to fetch, past everything that was left out.
    pub next: Option<Position>,
    /// The end of the log for a reader of its isolation, as of the last fetch.
    pub end: Option<Position>,
    /// Records that were fetched and wait in the same queue as this partition's.
    pub waiting: u64,
}

/// What we read of the statistics.
#[derive(Deserialize)]
struct Statistics {
    #[serde(default)]
    topics: BTreeMap<String, Topic>,
}

#[derive(Deserialize)]
struct Topic {
    partitions: BTreeMap<String, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    partition: i32,
    fetchq_cnt: i64,
    next_offset: i64,
    ls_offset: i64,
}

/// The partitions in one text of statistics. `None`: it is not what we know.
pub(crate) fn parse(json: &[u8]) -> Option<BTreeMap<TopicPartition, Standing>> {
    let statistics: Statistics = serde_json::from_slice(json).ok()?;
    let mut standings = BTreeMap::new();
    for (name, topic) in statistics.topics {
        let name: Arc<str> = name.into();
        // Partition -1 is librdkafka's own.
        for partition in topic.partitions.into_values().filter(|p| p.partition >= 0) {
            let position = |offset: i64| (offset >= 0).then_some(Position(offset));
            let standing = Standing {
                next: position(partition.next_offset),
                end: position(partition.ls_offset),
                waiting: u64::try_from(partition.fetchq_cnt).unwrap_or(0),
            };
            standings.insert(TopicPartition { topic: Arc::clone(&name), partition: partition.partition }, standing);
        }
    }
    Some(standings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_read_and_what_is_unknown_is_none() {
        let json = br#"{ "name": "c", "brokers": {}, "topics": { "in": { "topic": "in", "partitions": {
            "0": { "partition":0, "fetchq_cnt":3, "next_offset":101, "ls_offset":100, "hi_offset":120 },
            "1": { "partition":1, "fetchq_cnt":0, "next_offset":-1001, "ls_offset":-1001 },
            "-1": { "partition":-1, "fetchq_cnt":0, "next_offset":0, "ls_offset":-1001 } } } } }"#;
        let standings = parse(json).unwrap();
        assert_eq!(standings.len(), 2);
        let of = |partition| standings[&TopicPartition { topic: "in".into(), partition }];
        assert_eq!(of(0), Standing { next: Some(Position(101)), end: Some(Position(100)), waiting: 3 });
        assert_eq!(of(1), Standing::default());
        assert_eq!(parse(b"{}"), Some(BTreeMap::new()));
        assert_eq!(parse(b"what"), None);
    }
}
