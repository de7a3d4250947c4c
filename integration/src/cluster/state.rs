//! Who does what in the cluster just now: coordinators, leaders, replicas in sync. Asked over the direct listeners.

use super::Cluster;
use crate::kafka;
use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::{Duration, Instant};

/// Partitions of `__transaction_state` and `__consumer_offsets`.
pub const INTERNAL_PARTITIONS: i32 = 6;
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

impl Cluster {
    /// The place of the broker that coordinates transactions of this transactional id.
    pub fn transaction_coordinator(&self, transactional_id: &str) -> Result<usize> {
        self.leader(TRANSACTIONS_TOPIC, coordinator_partition(transactional_id, INTERNAL_PARTITIONS))
    }

    /// The place of the broker that coordinates this group.
    pub fn group_coordinator(&self, group: &str) -> Result<usize> {
        self.leader(OFFSETS_TOPIC, coordinator_partition(group, INTERNAL_PARTITIONS))
    }

    /// The place of the broker that leads this partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<usize> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let found = self.leader_now(topic, partition);
            if found.is_ok() || Instant::now() >= deadline {
                return found;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn leader_now(&self, topic: &str, partition: i32) -> Result<usize> {
        let consumer: BaseConsumer = kafka::client(&self.direct()).create()?;
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5))?;
        let partitions = metadata.topics().first().context("no such topic")?.partitions();
        let leader = partitions.iter().find(|p| p.id() == partition).map_or(-1, |p| p.leader());
        let place = self.nodes.iter().position(|node| node.id() == leader);
        place.with_context(|| format!("{topic}-{partition} has no leader"))
    }

    /// Waits until every replica of these topics, and of the internal ones that exist, is in sync: only then can the next
    /// broker be hurt without losing what the cluster promises.
    pub fn wait_in_sync(&self, topics: &[String], limit: Duration) -> Result<()> {
        let consumer: BaseConsumer = kafka::client(&self.direct()).create()?;
        let deadline = Instant::now() + limit;
        loop {
            let behind = match out_of_sync(&consumer, topics, self.nodes.len()) {
                Ok(None) => return Ok(()),
                Ok(Some(partition)) => partition,
                Err(error) => format!("{error:#}"),
            };
            if Instant::now() >= deadline {
                bail!("replicas are not in sync within {limit:?}: {behind}");
            }
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }

    /// Replaces the configuration of a topic by these entries.
    pub fn configure_topic(&self, topic: &str, entries: &[(&str, &str)]) -> Result<()> {
        let admin: AdminClient<DefaultClientContext> = kafka::client(&self.direct()).create()?;
        let change = entries
            .iter()
            .fold(AlterConfig::new(ResourceSpecifier::Topic(topic)), |change, (key, value)| change.set(key, value));
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(30)));
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        for result in runtime.block_on(admin.alter_configs(&[change], &options))? {
            result.map_err(|(_, code)| anyhow::anyhow!("topic {topic}: {code}"))?;
        }
        Ok(())
    }
}

/// The first partition that lacks a replica, if there is one.
fn out_of_sync(consumer: &BaseConsumer, topics: &[String], replicas: usize) -> Result<Option<String>> {
    let metadata = consumer.fetch_metadata(None, Duration::from_secs(5))?;
    for topic in metadata.topics() {
        let name = topic.name();
        if name != OFFSETS_TOPIC && name != TRANSACTIONS_TOPIC && !topics.iter().any(|t| t == name) {
            continue;
        }
        let lacking = topic.partitions().iter().find(|p| p.leader() < 0 || p.isr().len() < replicas);
        if let Some(partition) = lacking {
            return Ok(Some(format!("{name}-{}", partition.id())));
        }
    }
    Ok(None)
}

/// Kafka's rule: the name's Java hash, made positive the way Kafka does it, over the number of partitions.
fn coordinator_partition(name: &str, partitions: i32) -> i32 {
    let hash = name.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX) % partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinators_are_found_by_the_hash_of_java() {
        // "polygenelubricants".hashCode() is Integer.MIN_VALUE, "a".hashCode() is 97.
        assert_eq!(coordinator_partition("a", 50), 47);
        assert_eq!(coordinator_partition("polygenelubricants", 50), 0);
        // "hello world".hashCode() == 1794106052
        assert_eq!(coordinator_partition("hello world", 1_000_000), 106_052);
    }
}
