//! What a worker reports about its state: whether it can work, how its time is spent, how far each partition is.
//! Gathered where the loop passes anyway, and published twice a second.

use super::assignment::Progress as Reached;
use super::counters::{Counters, WorkerStatus};
use super::lag::{Place, lag};
use super::utilization::Utilization;
use pelton_kafka::{ConsumerStatistics, PartitionStatistics, TopicPartition};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PUBLISH_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Reporter {
    counters: Arc<Counters>,
    published: Option<Instant>,
    utilization: Utilization,
    /// Of each partition, as last heard.
    statistics: BTreeMap<TopicPartition, PartitionStatistics>,
    /// A broker is connected, as far as is known.
    reachable: bool,
}

impl Reporter {
    pub fn new(counters: &Arc<Counters>) -> Self {
        Reporter {
            counters: Arc::clone(counters),
            published: None,
            utilization: Utilization::new(Arc::clone(counters)),
            statistics: BTreeMap::new(),
            reachable: true,
        }
    }

    /// News of where reading stands.
    pub fn heard(&mut self, statistics: ConsumerStatistics) {
        ConsumerStatistics { partitions: self.statistics, reachable: self.reachable } = statistics;
    }

    /// Since `before` the worker waited: for records, or for brokers.
    pub fn waited(&mut self, before: Instant, now: Instant, by_brokers: bool) {
        self.utilization.waited(before, now, by_brokers);
    }

    /// At most once in [`PUBLISH_EVERY`].
    pub fn is_due(&self, now: Instant) -> bool {
        self.published.is_none_or(|at| now.saturating_duration_since(at) >= PUBLISH_EVERY)
    }

    /// `reached`: each partition, its lane, and how far it is.
    pub fn publish<'p>(
        &mut self,
        now: Instant,
        (member, ready_lanes): (bool, u64),
        reached: impl Iterator<Item = (&'p TopicPartition, usize, Reached)>,
    ) {
        self.published = Some(now);
        self.counters.status.set(WorkerStatus { member, reachable: self.reachable, ready_lanes });
        self.utilization.worked(now);
        let place = |(partition, lane, progress): (&TopicPartition, usize, Reached)| {
            let lag = self.statistics.get(partition).and_then(|statistics| lag(&progress, statistics));
            (partition.clone(), Place { lane, position: progress.next, committed: progress.committed, lag })
        };
        self.counters.lags.set(reached.map(place).collect());
    }
}
