//! One lane's state: what its open transaction will commit, what is remembered of one that is ending, and how often it
//! has recently failed and why. Decides when the lane continues after a rollback, or that it does not. Knows nothing
//! about the other lanes.

use super::assignment::Assignment;
use super::isolation::{Hopeless, Isolation};
use super::pace::Volume;
use super::plan::Plan;
use super::recent::Recent;
use super::worker::WorkerError;
use pelton_kafka::{Batch, Blame, Offset, PartitionProgress, Position, TopicPartition, TxnError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rollbacks in a row for reasons that waiting does not mend, with no commit between, after which a lane gives up.
const UNEXPLAINED_MAX: u32 = 10;
/// Fencings within [`FENCED_WITHIN`] after which the identity is taken to be somebody else's.
const FENCED_MAX: usize = 3;
const FENCED_WITHIN: Duration = Duration::from_secs(60);
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// While the record is looked for that makes transactions fail.
const BACKOFF_SEARCH: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Lane<K> {
    pub sink: K,
    pub phase: Phase,
    pub rollbacks: u32,
    pub unexplained: u32,
    pub fenced: Recent,
    pub isolation: Isolation,
    /// The next transaction is not begun before then.
    pub resume_at: Option<Instant>,
    /// It has a producer: its identity is taken over.
    pub ready: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// No producer yet, or none any more; nothing is open.
    Renewing {
        since: Instant,
    },
    Idle,
    Open(Open),
    Ending(Ending),
}

#[derive(Debug)]
pub(super) struct Open {
    pub volume: Volume,
    /// One entry per partition, in the order of first sight.
    pub progress: Vec<PartitionProgress>,
    /// What came when, in runs.
    pub runs: Vec<Run>,
    /// The first record, and the only one as long as `volume.records` is 1.
    pub first: Option<(TopicPartition, Offset)>,
}

/// Records of one partition that one batch brought together, and the timestamp of the first of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Index in [`Open::progress`].
    pub entry: usize,
    pub stamp_ms: Option<i64>,
    pub records: u64,
}

/// What is remembered of a transaction until its end is known.
#[derive(Debug)]
pub(super) struct Ending {
    /// When it was begun.
    pub since: Instant,
    pub sealed: Instant,
    pub records: u64,
    pub progress: Vec<(TopicPartition, Position)>,
    pub runs: Vec<Run>,
    /// Its record, if there is but one.
    pub alone: Option<(TopicPartition, Offset)>,
    /// [`Assignment::arrivals`] when it ended.
    pub arrivals: u64,
}

impl<K> Lane<K> {
    /// Its identity is still to be taken over.
    pub fn new(sink: K) -> Self {
        Lane {
            sink,
            phase: Phase::Renewing { since: Instant::now() },
            rollbacks: 0,
            unexplained: 0,
            fenced: Recent::new(FENCED_WITHIN),
            isolation: Isolation::default(),
            resume_at: None,
            ready: false,
        }
    }

    /// For how long it has been at the end of one transaction, or at getting a producer.
    pub fn busy(&self, now: Instant) -> Duration {
        match &self.phase {
            Phase::Renewing { since } | Phase::Ending(Ending { sealed: since, .. }) => {
                now.saturating_duration_since(*since)
            }
            Phase::Idle | Phase::Open(_) => Duration::ZERO,
        }
    }

    /// When its open transaction ends.
    pub fn due(&self) -> Option<Instant> {
        if let Phase::Open(open) = &self.phase { Some(open.volume.due) } else { None }
    }

    /// Open -> Ending, giving what was open.
    pub fn end(&mut self, arrivals: u64, now: Instant) -> Option<Open> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Open(mut open) => {
                self.phase = Phase::Ending(Ending {
                    since: open.volume.since,
                    sealed: now,
                    records: open.volume.records,
                    progress: open.progress.iter().map(|p| (p.partition.clone(), p.position)).collect(),
                    runs: std::mem::take(&mut open.runs),
                    alone: open.first.clone().filter(|_| open.volume.records == 1),
                    arrivals,
                });
                Some(open)
            }
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Counts the rollback; decides when the lane goes on, or that it does not.
    pub fn rolled_back(
        &mut self,
        cause: TxnError,
        ended: Option<Ending>,
        timeout: Duration,
        now: Instant,
    ) -> Result<(), WorkerError> {
        self.rollbacks += 1;
        let mut backoff_max = BACKOFF_MAX;
        match cause.blame {
            Blame::Brokers | Blame::Membership | Blame::Module => {}
            // The coordinator itself fences a transaction that is too old: after a pause of this process, say.
            Blame::Identity if ended.as_ref().is_some_and(|e| now.saturating_duration_since(e.since) >= timeout) => {}
            Blame::Identity => {
                if self.fenced.note(now) >= FENCED_MAX {
                    return Err(WorkerError::IdentityClash(cause));
                }
            }
            Blame::Record => {
                backoff_max = BACKOFF_SEARCH;
                if let Some(ended) = ended
                    && let Err(Hopeless { partition, offset }) =
                        self.isolation.refused(ended.records, ended.progress, ended.alone, &cause)
                {
                    return Err(WorkerError::Refused { at: format!("{partition}@{offset}"), cause });
                }
            }
            Blame::Other => {
                self.unexplained += 1;
                if self.unexplained >= UNEXPLAINED_MAX {
                    return Err(WorkerError::KeepsFailing { times: self.unexplained, cause });
                }
            }
        }
        self.resume_at = Some(now + (BACKOFF * (1 << self.rollbacks.min(8))).min(backoff_max));
        Ok(())
    }
}

impl Open {
    /// What it has records of.
    pub fn partitions(self) -> Vec<TopicPartition> {
        self.progress.into_iter().map(|p| p.partition).collect()
    }

    pub fn note(&mut self, batch: &Batch, plan: &Plan, assignment: &mut Assignment) {
        self.volume.records += batch.len() as u64;
        // Records come in runs of one partition: look the entry up once per run.
        let mut entry = usize::MAX;
        for message in batch.iter() {
            let next = message.offset().next();
            self.volume.bytes += message.key().map_or(0, <[u8]>::len) as u64;
            self.volume.bytes += message.value().map_or(0, <[u8]>::len) as u64;
            let same = self.progress.get(entry).is_some_and(|e| {
                e.partition.partition == message.partition()
                    && *e.partition.topic == *plan.inputs[message.topic() as usize].name
            });
            if !same {
                let topic = &plan.inputs[message.topic() as usize].name;
                let found =
                    |e: &PartitionProgress| e.partition.partition == message.partition() && e.partition.topic == *topic;
                entry = self.progress.iter().position(found).unwrap_or_else(|| {
                    let partition = TopicPartition { topic: Arc::clone(topic), partition: message.partition() };
                    assignment.read(&partition, message.offset());
                    self.first.get_or_insert_with(|| (partition.clone(), message.offset()));
                    self.progress.push(PartitionProgress { partition, position: next, leader_epoch: -1 });
                    self.progress.len() - 1
                });
                self.runs.push(Run { entry, stamp_ms: message.timestamp_ms(), records: 0 });
            }
            if let Some(run) = self.runs.last_mut() {
                run.records += 1;
            }
            let progress = &mut self.progress[entry];
            (progress.position, progress.leader_epoch) = (next, message.leader_epoch());
        }
        for progress in &self.progress {
            assignment.processed(&progress.partition, progress.position);
        }
    }
}
