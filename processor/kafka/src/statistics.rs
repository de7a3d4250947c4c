//! Where a consumer is in its partitions and whether it reaches any broker, read from librdkafka's statistics: how far
//! it has fetched, where the log ends for it, and what waits to be taken. The watermark calls would not do: they know
//! only the high watermark, and neither the last stable offset nor what was fetched and skipped, such as the markers
//! that end transactions.

use crate::position::{Position, TopicPartition};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A consumer, as of the last statistics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerStatistics {
    pub partitions: BTreeMap<TopicPartition, PartitionStatistics>,
    /// A broker is connected. One that is there and says nothing still is, until its requests or the session time out.
    pub reachable: bool,
}

/// One partition, as of the last statistics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PartitionStatistics {
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
    brokers: BTreeMap<String, Broker>,
    #[serde(default)]
    topics: BTreeMap<String, Topic>,
}

#[derive(Deserialize)]
struct Broker {
    state: String,
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

/// What one text of statistics says. `None`: it is not what we know.
pub(crate) fn parse(json: &[u8]) -> Option<ConsumerStatistics> {
    let statistics: Statistics = serde_json::from_slice(json).ok()?;
    let reachable = statistics.brokers.values().any(|broker| broker.state == "UP");
    let mut partitions = BTreeMap::new();
    for (name, topic) in statistics.topics {
        let name: Arc<str> = name.into();
        // Partition -1 is librdkafka's own.
        for partition in topic.partitions.into_values().filter(|p| p.partition >= 0) {
            let position = |offset: i64| (offset >= 0).then_some(Position(offset));
            let statistics = PartitionStatistics {
                next: position(partition.next_offset),
                end: position(partition.ls_offset),
                waiting: u64::try_from(partition.fetchq_cnt).unwrap_or(0),
            };
            partitions.insert(TopicPartition { topic: Arc::clone(&name), partition: partition.partition }, statistics);
        }
    }
    Some(ConsumerStatistics { partitions, reachable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_read_and_what_is_unknown_is_none() {
        let json = br#"{ "name": "c", "brokers": { "a:1/1": { "state": "DOWN" }, "b:1/2": { "state": "UP" } }, "topics": { "in": { "topic": "in", "partitions": {
            "0": { "partition":0, "fetchq_cnt":3, "next_offset":101, "ls_offset":100, "hi_offset":120 },
            "1": { "partition":1, "fetchq_cnt":0, "next_offset":-1001, "ls_offset":-1001 },
            "-1": { "partition":-1, "fetchq_cnt":0, "next_offset":0, "ls_offset":-1001 } } } } }"#;
        let ConsumerStatistics { partitions: statistics, reachable } = parse(json).unwrap();
        assert!(reachable, "one of two is up");
        assert_eq!(statistics.len(), 2);
        let of = |partition| statistics[&TopicPartition { topic: "in".into(), partition }];
        assert_eq!(of(0), PartitionStatistics { next: Some(Position(101)), end: Some(Position(100)), waiting: 3 });
        assert_eq!(of(1), PartitionStatistics::default());
        assert_eq!(parse(b"{}"), Some(ConsumerStatistics { partitions: BTreeMap::new(), reachable: false }));
        let down = br#"{ "brokers": { "a:1/1": { "state": "TRY_CONNECT" } } }"#;
        assert!(!parse(down).unwrap().reachable);
        assert_eq!(parse(b"what"), None);
    }
}
