//! A worker's lanes: the open transactions, what each of them will commit, and the duty to finish before a partition
//! goes (I6).
//!
//! A lane is idle, open or ending:
//! ```text
//!          first record                due, revoke, move, stop
//!   Idle ────────────────► Open(volume, progress) ────────────────► Ending
//!    ▲                       │ a record could not be produced: abort   │
//!    └───────────────────────┴──────── report: committed, or rolled back and rewound
//! ```
//! While one lane is ending, on its committer's thread, the worker goes on with the other's partitions.

use super::assignment::{Assignment, Move};
use super::counters::{Counters, WorkerStatus};
use super::pace::{Volume, due_in};
use super::plan::Plan;
use super::ports::{Progress, Report, Sink};
use super::worker::WorkerError;
use pelton_kafka::{Batch, Fate, PartitionProgress, Position, RebalanceHandler, TopicPartition, TxnError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rollbacks in a row, with no commit between, after which a lane gives up.
const ROLLBACKS_MAX: u32 = 10;
/// Fencings within [`FENCED_WITHIN`] after which the identity is taken to be somebody else's.
const FENCED_MAX: usize = 5;
const FENCED_WITHIN: Duration = Duration::from_secs(60);
/// Rollbacks in a row after which a lane does not count as ready.
const UNREADY_AFTER: u32 = 3;
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
const BACKOFF: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Lanes<K, P> {
    lanes: Vec<Lane<K>>,
    progress: P,
    assignment: Assignment,
    plan: Arc<Plan>,
    counters: Arc<Counters>,
    /// Reading goes on here; carried out by the worker before it fetches again.
    seeks: Vec<(TopicPartition, Position)>,
    /// Partitions are to change lanes: no new transaction begins until all lanes are idle.
    moving: bool,
    /// Found in a callback, which cannot return it.
    failure: Option<WorkerError>,
    published: Option<Instant>,
}

#[derive(Debug)]
struct Lane<K> {
    sink: K,
    phase: Phase,
    rollbacks: u32,
    fenced: VecDeque<Instant>,
    /// After a rollback: not before then.
    resume_at: Option<Instant>,
    /// It has a producer: its identity is taken over.
    ready: bool,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Open(Open),
    Ending,
}

#[derive(Debug)]
struct Open {
    volume: Volume,
    /// One entry per partition, in the order of first sight.
    progress: Vec<PartitionProgress>,
}

impl<K: Sink<Fence = P::Fence>, P: Progress> Lanes<K, P> {
    /// Sinks are not ready yet: each will report.
    pub fn new(sinks: Vec<K>, progress: P, plan: Arc<Plan>, counters: Arc<Counters>) -> Self {
        let assignment = Assignment::new(sinks.len());
        let lane = |sink| Lane {
            sink,
            phase: Phase::Ending,
            rollbacks: 0,
            fenced: VecDeque::new(),
            resume_at: None,
            ready: false,
        };
        Lanes {
            lanes: sinks.into_iter().map(lane).collect(),
            progress,
            assignment,
            plan,
            counters,
            seeks: Vec::new(),
            moving: false,
            failure: None,
            published: None,
        }
    }

    /// Says how this worker stands, at most once in [`PUBLISH_EVERY`].
    pub fn publish(&mut self, now: Instant) {
        if self.published.is_some_and(|at| now.saturating_duration_since(at) < PUBLISH_EVERY) {
            return;
        }
        self.published = Some(now);
        let ready_lanes = self.lanes.iter().filter(|lane| lane.ready && lane.rollbacks < UNREADY_AFTER).count() as u64;
        self.counters.status.set(WorkerStatus { member: self.progress.fence().is_ok(), ready_lanes });
    }

    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// May the lane take records now?
    pub fn takes(&self, lane: usize, now: Instant) -> bool {
        let lane = &self.lanes[lane];
        !self.moving
            && match lane.phase {
                Phase::Idle => lane.resume_at.is_none_or(|at| at <= now),
                Phase::Open(_) => true,
                Phase::Ending => false,
            }
    }

    /// Leaves out records of partitions that are not this lane's. There should be none: what was fetched ahead goes with a
    /// revocation. But a broker takes positions from any member of the group, so it is looked at here.
    pub fn keep_owned(&self, lane: usize, batch: &mut Batch) {
        // Records come in runs of one partition: look it up once per run.
        let mut last = None;
        batch.retain(|message| {
            let place = (message.topic(), message.partition());
            match last {
                Some((known, owned)) if known == place => owned,
                _ => {
                    let topic = Arc::clone(&self.plan.inputs[message.topic() as usize].0);
                    let partition = TopicPartition { topic, partition: message.partition() };
                    let owned = self.assignment.lane(&partition) == Some(lane);
                    if !owned {
                        tracing::warn!(%partition, lane, "records of a partition that is not this lane's are left out");
                    }
                    last = Some((place, owned));
                    owned
                }
            }
        });
    }

    /// Notes what the lane's transaction will commit, and opens it if need be. Positions are noted before anything can
    /// fail: a transaction that fails is aborted, never sealed, and its records must be known to be read again.
    pub fn open(&mut self, lane: usize, batch: &Batch, now: Instant) -> Result<&mut K, TxnError> {
        let Lane { sink, phase, .. } = &mut self.lanes[lane];
        let new = !matches!(phase, Phase::Open(_));
        if new {
            let volume = Volume { since: now, last: now, records: 0, bytes: 0 };
            *phase = Phase::Open(Open { volume, progress: Vec::new() });
        }
        if let Phase::Open(open) = phase {
            open.volume.last = now;
            open.note(batch, &self.plan, &mut self.assignment);
        }
        if new {
            sink.begin()?;
        }
        Ok(sink)
    }

    /// How long until something is due in any lane.
    pub fn due_in(&self, now: Instant) -> Option<Duration> {
        let lane_due = |lane: &Lane<K>| match &lane.phase {
            Phase::Open(open) => Some(due_in(&self.plan.delivery, &open.volume, now)),
            Phase::Idle => lane.resume_at.map(|at| at.saturating_duration_since(now)),
            Phase::Ending => None,
        };
        self.lanes.iter().filter_map(lane_due).min()
    }

    /// Seals the lane if its transaction is due.
    pub fn seal_if_due(&mut self, lane: usize, now: Instant) {
        if let Phase::Open(open) = &self.lanes[lane].phase
            && due_in(&self.plan.delivery, &open.volume, now).is_zero()
        {
            self.seal(lane);
        }
    }

    /// Hands open transactions to their committers.
    pub fn seal_all(&mut self) {
        (0..self.lanes.len()).for_each(|lane| self.seal(lane));
    }

    /// Ends open transactions without effect.
    pub fn abort_all(&mut self, cause: &TxnError) {
        (0..self.lanes.len()).for_each(|lane| self.abort(lane, cause.clone()));
    }

    fn seal(&mut self, lane: usize) {
        let Some(open) = self.lanes[lane].end() else { return };
        match self.progress.fence() {
            Ok(fence) => self.lanes[lane].sink.seal(open.progress, fence),
            Err(error) => {
                let cause = TxnError::own(Fate::Abort, "membership", "NOT_A_MEMBER", error.to_string());
                self.lanes[lane].sink.abort(partitions(open.progress), cause);
            }
        }
    }

    /// Ends the lane's open transaction without effect.
    pub fn abort(&mut self, lane: usize, cause: TxnError) {
        let Some(open) = self.lanes[lane].end() else { return };
        self.lanes[lane].sink.abort(partitions(open.progress), cause);
    }

    /// Takes the reports that are there.
    pub fn take_reports(&mut self, now: Instant) -> Result<(), WorkerError> {
        for lane in 0..self.lanes.len() {
            if matches!(self.lanes[lane].phase, Phase::Ending)
                && let Some(report) = self.lanes[lane].sink.report(Duration::ZERO)
            {
                self.take(lane, report, now)?;
            }
        }
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    pub fn all_idle(&self) -> bool {
        self.lanes.iter().all(|lane| matches!(lane.phase, Phase::Idle))
    }

    /// Where the worker must seek to before it fetches again.
    pub fn take_seeks(&mut self) -> Vec<(TopicPartition, Position)> {
        std::mem::take(&mut self.seeks)
    }

    /// Partitions that change lanes now, if they are to and may. Seals what stands in the way.
    pub fn take_moves(&mut self) -> Vec<Move> {
        if !self.moving {
            return Vec::new();
        }
        self.seal_all();
        if !self.all_idle() {
            return Vec::new();
        }
        self.moving = false;
        let moves = self.assignment.moves();
        moves.iter().for_each(|moved| self.assignment.moved(moved));
        moves
    }

    fn take(&mut self, lane: usize, report: Report, now: Instant) -> Result<(), WorkerError> {
        let state = &mut self.lanes[lane];
        state.phase = Phase::Idle;
        match report {
            Report::Ready => {
                state.ready = true;
                Ok(())
            }
            Report::Committed => {
                self.counters.committed.add(1);
                (state.rollbacks, state.resume_at) = (0, None);
                Ok(())
            }
            Report::Stop(error) => Err(WorkerError::Lane(error)),
            Report::RolledBack { cause, committed } => {
                self.counters.rolled_back.add(1);
                tracing::warn!(lane, error = %cause, "transaction rolled back; reading again from the committed positions");
                for (partition, position) in committed {
                    if let Some(at) = self.assignment.rewind(&partition, position) {
                        self.seeks.push((partition, at));
                    }
                }
                self.lanes[lane].rolled_back(cause, now)
            }
        }
    }

    /// Waits for the lane's report, at most until a transaction is lost anyway.
    fn wait_for(&mut self, lane: usize) -> Result<(), WorkerError> {
        if !matches!(self.lanes[lane].phase, Phase::Ending) {
            return Ok(());
        }
        let limit = self.plan.delivery.transaction_timeout;
        match self.lanes[lane].sink.report(limit) {
            Some(report) => self.take(lane, report, Instant::now()),
            None => Err(WorkerError::Stuck { limit }),
        }
    }
}

impl<K: Sink<Fence = P::Fence>, P: Progress> RebalanceHandler for Lanes<K, P> {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<usize> {
        let lanes = partitions.iter().map(|partition| self.assignment.add(partition.clone())).collect();
        if !partitions.is_empty() {
            tracing::info!(added = partitions.len(), owned = self.assignment.len(), "partitions assigned");
        }
        lanes
    }

    fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) {
        let mut touched: Vec<usize> = partitions.iter().filter_map(|p| self.assignment.lane(p)).collect();
        touched.sort_unstable();
        touched.dedup();
        // First of all: nothing may seek to them any more.
        partitions.iter().for_each(|partition| self.assignment.remove(partition));
        self.seeks.retain(|(partition, _)| !partitions.contains(partition));
        for &lane in &touched {
            if lost {
                self.abort(lane, TxnError::own(Fate::Abort, "rebalance", "ASSIGNMENT_LOST", "the assignment was lost"));
            } else {
                self.seal(lane);
            }
        }
        for lane in touched {
            if let Err(failure) = self.wait_for(lane) {
                self.failure.get_or_insert(failure);
            }
        }
        self.moving |= !self.assignment.moves().is_empty();
        tracing::info!(gone = partitions.len(), owned = self.assignment.len(), lost, "partitions revoked");
    }
}

impl<K> Lane<K> {
    /// Open -> Ending, giving what was open.
    fn end(&mut self) -> Option<Open> {
        match std::mem::replace(&mut self.phase, Phase::Ending) {
            Phase::Open(open) => Some(open),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Counts the rollback; decides when the lane goes on, or that it does not.
    fn rolled_back(&mut self, cause: TxnError, now: Instant) -> Result<(), WorkerError> {
        if cause.fenced {
            self.fenced.push_back(now);
            while self.fenced.front().is_some_and(|at| now.saturating_duration_since(*at) > FENCED_WITHIN) {
                self.fenced.pop_front();
            }
            if self.fenced.len() >= FENCED_MAX {
                return Err(WorkerError::IdentityClash(cause));
            }
        }
        self.rollbacks += 1;
        if self.rollbacks >= ROLLBACKS_MAX {
            return Err(WorkerError::KeepsFailing { times: self.rollbacks, cause });
        }
        self.resume_at = Some(now + (BACKOFF * (1 << self.rollbacks.min(8))).min(BACKOFF_MAX));
        Ok(())
    }
}

impl Open {
    fn note(&mut self, batch: &Batch, plan: &Plan, assignment: &mut Assignment) {
        self.volume.records += batch.len() as u64;
        // Records come in runs of one partition: look the entry up once per run.
        let mut entry = usize::MAX;
        for message in batch.iter() {
            let next = message.offset().next();
            self.volume.bytes += message.key().map_or(0, <[u8]>::len) as u64;
            self.volume.bytes += message.value().map_or(0, <[u8]>::len) as u64;
            let same = self.progress.get(entry).is_some_and(|e| {
                e.partition.partition == message.partition()
                    && *e.partition.topic == *plan.inputs[message.topic() as usize].0
            });
            if !same {
                let topic = &plan.inputs[message.topic() as usize].0;
                let found =
                    |e: &PartitionProgress| e.partition.partition == message.partition() && e.partition.topic == *topic;
                entry = self.progress.iter().position(found).unwrap_or_else(|| {
                    let partition = TopicPartition { topic: Arc::clone(topic), partition: message.partition() };
                    assignment.read(&partition, message.offset());
                    self.progress.push(PartitionProgress { partition, position: next, leader_epoch: -1 });
                    self.progress.len() - 1
                });
            }
            let progress = &mut self.progress[entry];
            (progress.position, progress.leader_epoch) = (next, message.leader_epoch());
        }
        for progress in &self.progress {
            assignment.processed(&progress.partition, progress.position);
        }
    }
}

fn partitions(progress: Vec<PartitionProgress>) -> Vec<TopicPartition> {
    progress.into_iter().map(|p| p.partition).collect()
}
