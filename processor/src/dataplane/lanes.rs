//! A worker's lanes: the open transactions and what each of them will commit. [`rebalance`] has the duty to finish before
//! a partition goes (I6).
//!
//! ```text
//!              first record            due, revoke, move, stop; a record that could not be produced
//!   Idle ─────────────────────► Open ──────────────────────────────────────► Ending
//!    ▲ ▲                                                                        │
//!    │ └──────── rolled back and rewound, or committed ─────────────────────────┤
//!    └── ready ── Renewing ◄──── committed, but the producer is in doubt ───────┘
//!                    ▲ start
//! ```
//! While one lane is ending, on its committer's thread, the worker continues with the other's partitions. A lane
//! that is renewing has no open work: nobody waits for it. A committer whose call never returns is left behind, and its
//! lane recovers with another.

mod rebalance;

use super::assignment::Assignment;
use super::counters::Counters;
use super::isolation::Refusal;
use super::lane::{Ending, Lane, Open, Phase};
use super::pace::{Volume, due_at, due_in};
use super::pauses::Owned;
use super::plan::Plan;
use super::ports::{Progress, Report, Sink};
use super::reporting::Reporter;
use super::traced::Traces;
use super::utilization::nanos;
use super::worker::WorkerError;
use crate::wall::unix_ms;
use pelton_kafka::{Batch, Blame, ConsumerStatistics, Fate, Position, TopicPartition, TxnError};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rollbacks in a row after which a lane does not count as ready.
const UNREADY_AFTER: u32 = 3;
/// A lane that is at one commit or renewal for so long does not count as ready either.
const UNREADY_BUSY: Duration = Duration::from_secs(15);

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
    /// Another plan is to be taken up: the same.
    switching: bool,
    /// The worker leaves its group: revocations wait no longer than that.
    leave_by: Option<Instant>,
    /// Found in a callback, which cannot return it.
    failure: Option<WorkerError>,
    reporter: Reporter,
    /// Where its transactions are told of.
    pub traces: Option<Arc<Traces>>,
}

impl<K: Sink<Fence = P::Fence>, P: Progress> Lanes<K, P> {
    /// Sinks are not ready yet: each will report.
    pub fn new(sinks: Vec<K>, progress: P, plan: Arc<Plan>, counters: Arc<Counters>) -> Self {
        let assignment = Assignment::new(sinks.len());
        let reporter = Reporter::new(&counters);
        Lanes {
            lanes: sinks.into_iter().map(Lane::new).collect(),
            progress,
            assignment,
            plan,
            counters,
            seeks: Vec::new(),
            moving: false,
            switching: false,
            leave_by: None,
            failure: None,
            reporter,
            traces: None,
        }
    }

    /// News of where reading stands.
    pub fn heard(&mut self, statistics: ConsumerStatistics) {
        self.reporter.heard(statistics);
    }

    /// The worker had nothing to do in between, or nowhere to put it.
    pub fn waited(&mut self, before: Instant, now: Instant) {
        // In the way of records is a lane that has partitions and takes nothing.
        let mut lanes = self.assignment.lanes_in_use().peekable();
        let by_brokers = lanes.peek().is_some() && !lanes.any(|lane| self.takes(lane, before));
        drop(lanes);
        self.reporter.waited(before, now, by_brokers);
    }

    /// Says how this worker stands, now and then. `without_position`: partitions of which it is not known where to begin.
    pub fn publish(&mut self, without_position: usize, now: Instant) {
        if !self.reporter.is_due(now) {
            return;
        }
        self.counters.without_position.set(without_position as u64);
        let ready = |lane: &&Lane<K>| lane.ready && lane.rollbacks < UNREADY_AFTER && lane.busy(now) < UNREADY_BUSY;
        let ready_lanes = self.lanes.iter().filter(ready).count() as u64;
        let lane = |partition: &TopicPartition| self.assignment.lane(partition).unwrap_or_default();
        let reached = self.assignment.progress().map(|(partition, reached)| (partition, lane(partition), reached));
        self.reporter.publish(now, (self.progress.fence().is_ok(), ready_lanes), reached);
    }

    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// May the lane take records now?
    pub fn takes(&self, lane: usize, now: Instant) -> bool {
        let lane = &self.lanes[lane];
        !self.moving
            && !self.switching
            && match lane.phase {
                Phase::Idle => lane.resume_at.is_none_or(|at| at <= now),
                Phase::Open(_) => true,
                Phase::Ending(_) | Phase::Renewing { .. } => false,
            }
    }

    /// How many records the lane's transaction may still take.
    pub fn room(&self, lane: usize) -> usize {
        let Lane { phase, isolation, .. } = &self.lanes[lane];
        match phase {
            Phase::Open(open) => isolation.room(open.volume.records),
            _ => isolation.room(0),
        }
    }

    /// What the only record of `batch` is condemned for, if it is.
    pub fn verdict(&self, lane: usize, batch: &Batch) -> Option<Refusal> {
        let isolation = &self.lanes[lane].isolation;
        if !isolation.is_on() {
            return None;
        }
        let message = batch.get(0)?;
        let topic = Arc::clone(&self.plan.inputs[message.topic() as usize].name);
        isolation.verdict(&TopicPartition { topic, partition: message.partition() }, batch)
    }

    /// Leaves out records of partitions that are not this lane's. There should be none: what was fetched ahead goes with a
    /// revocation. But a broker takes positions from any member of the group, so it is looked at here.
    ///
    /// Nor are there records before where reading goes on: a rebalance pauses and resumes all partitions, and should
    /// librdkafka then begin where the last fetch began, they would be written twice.
    ///
    /// Leaves out, too, what no transform reads any more and the group has not taken from us yet; should a transform read
    /// it again before that, reading goes on here.
    pub fn keep_owned(&mut self, lane: usize, batch: &mut Batch) {
        // Records come in runs of one partition: look it up once per run.
        let mut last = None;
        let mut unread = Vec::new();
        batch.retain(|message| {
            let place = (message.topic(), message.partition());
            let (kept, next) = match last {
                Some((known, kept, next)) if known == place => (kept, next),
                _ => {
                    let topic = Arc::clone(&self.plan.inputs[message.topic() as usize].name);
                    let partition = TopicPartition { topic, partition: message.partition() };
                    let owned = self.assignment.lane(&partition) == Some(lane);
                    let read = self.plan.inputs[message.topic() as usize].read;
                    let next = self.assignment.next(&partition);
                    if !owned {
                        tracing::warn!(%partition, lane, "records of a partition that is not this lane's are left out");
                    } else if !read {
                        unread.push((partition, Position::from(message.offset())));
                    }
                    (owned && read, next)
                }
            };
            let at = Position::from(message.offset());
            let again = kept && next.is_some_and(|next| at < next);
            if again {
                let topic = &self.plan.inputs[message.topic() as usize].name;
                let partition = message.partition();
                tracing::warn!(%topic, partition, %at, "a record that has its outcome came again and is left out");
            }
            last = Some((place, kept, next.max(Some(message.offset().next()))));
            kept && !again
        });
        unread.iter().for_each(|(partition, at)| self.assignment.left_out(partition, *at));
    }

    /// Notes what the lane's transaction will commit, and opens it if need be. Positions are noted before anything can
    /// fail: a transaction that fails is aborted, never sealed, and its records must be known to be read again.
    pub fn open(&mut self, lane: usize, batch: &Batch, now: Instant) -> Result<&mut K, TxnError> {
        let new = !matches!(self.lanes[lane].phase, Phase::Open(_));
        if let Some(traces) = &self.traces {
            traces.turn(lane, new);
        }
        if new {
            let due = due_at(&self.plan.delivery, self.lanes.iter().filter_map(Lane::due), now);
            let volume = Volume { since: now, due, last: now, records: 0, bytes: 0 };
            self.lanes[lane].phase = Phase::Open(Open { volume, progress: Vec::new(), runs: Vec::new(), first: None });
        }
        let Lane { sink, phase, .. } = &mut self.lanes[lane];
        if let Phase::Open(open) = phase {
            open.volume.last = now;
            let before = open.volume.bytes;
            open.note(batch, &self.plan, &mut self.assignment);
            self.counters.records_in.add(batch.len() as u64);
            self.counters.bytes_in.add(open.volume.bytes - before);
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
            // When that is over there is nothing to wait for but records.
            Phase::Idle => lane.resume_at.and_then(|at| at.checked_duration_since(now)).filter(|left| !left.is_zero()),
            Phase::Ending(_) | Phase::Renewing { .. } => None,
        };
        self.lanes.iter().filter_map(lane_due).min()
    }

    /// Seals the lane if its transaction is due.
    pub fn seal_if_due(&mut self, lane: usize, now: Instant) {
        if let Phase::Open(open) = &self.lanes[lane].phase
            && (due_in(&self.plan.delivery, &open.volume, now).is_zero() || self.room(lane) == 0)
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
        let Some(open) = self.lanes[lane].end(self.assignment.arrivals(), Instant::now()) else { return };
        match self.progress.fence() {
            Ok(fence) => self.lanes[lane].sink.seal(open.progress, fence),
            Err(error) => {
                let text = error.to_string();
                let cause = TxnError::own(Fate::Abort, Blame::Membership, "membership", "NOT_A_MEMBER", text);
                self.lanes[lane].sink.abort(open.partitions(), cause);
            }
        }
    }

    /// Ends the lane's open transaction without effect.
    pub fn abort(&mut self, lane: usize, cause: TxnError) {
        let Some(open) = self.lanes[lane].end(self.assignment.arrivals(), Instant::now()) else { return };
        self.lanes[lane].sink.abort(open.partitions(), cause);
    }

    /// Takes the reports that are there; leaves calls behind that do not return.
    pub fn take_reports(&mut self, now: Instant) -> Result<(), WorkerError> {
        for lane in 0..self.lanes.len() {
            if !matches!(self.lanes[lane].phase, Phase::Ending(_) | Phase::Renewing { .. }) {
                continue;
            }
            if let Some(report) = self.lanes[lane].sink.report(Duration::ZERO) {
                self.take(lane, report, now)?;
            } else if let Some(cause) = self.lanes[lane].sink.overdue(now) {
                self.leave_behind(lane, cause)?;
            }
        }
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// The committer does not come back from a call: another takes its place, and undoes what it was at.
    fn leave_behind(&mut self, lane: usize, cause: TxnError) -> Result<(), WorkerError> {
        let state = &mut self.lanes[lane];
        state.ready = false;
        let partitions = match &state.phase {
            Phase::Ending(ending) => ending.progress.iter().map(|(partition, _)| partition.clone()).collect(),
            _ => Vec::new(),
        };
        let advice = "nothing now: another producer takes over. Look at the brokers if it happens again";
        tracing::error!(lane, error = %cause, code = "kafka.stuck", advice, "a transactional call is left behind");
        self.counters.abandoned.add(1);
        if state.sink.abandon(partitions, cause.clone()) { Ok(()) } else { Err(WorkerError::Stuck(cause)) }
    }

    /// Whether a lane looks for a refused record.
    pub fn is_searching(&self) -> bool {
        self.lanes.iter().any(|lane| lane.isolation.is_on())
    }

    /// Ends the searches to which nothing comes any more.
    pub fn end_quiet_searches(&mut self, now: Instant) {
        for lane in &mut self.lanes {
            lane.isolation.end_if_quiet(matches!(lane.phase, Phase::Idle), now);
        }
    }

    /// No lane looks for a refused record in these partitions any more.
    fn forget(&mut self, gone: impl Fn(&TopicPartition) -> bool) {
        self.lanes.iter_mut().for_each(|lane| lane.isolation.forget(&gone));
    }

    /// The partitions that could be held.
    pub fn owned(&self) -> Vec<Owned> {
        let aside = |partition: &TopicPartition| {
            self.assignment.lane(partition).is_some_and(|lane| self.lanes[lane].isolation.leaves_aside(partition))
        };
        let owned = |(partition, next): (&TopicPartition, Option<Position>)| Owned {
            partition: partition.clone(),
            read: next.is_some(),
            aside: aside(partition),
        };
        self.assignment.places().map(owned).collect()
    }

    /// These partitions are read on where they were processed to. One of which nothing was read is where it was assigned.
    pub fn read_on(&mut self, partitions: &[TopicPartition]) {
        let of_these = self.assignment.places().filter(|(partition, _)| partitions.contains(partition));
        let places = of_these.filter_map(|(partition, next)| Some((partition.clone(), next?))).collect::<Vec<_>>();
        // A rollback that waits to be carried out has had its say: `next` is where it wants to go.
        self.seeks.retain(|(partition, _)| !partitions.contains(partition));
        self.seeks.extend(places);
    }

    /// Makes ready for this plan: no new transaction begins, what is open is sealed. `true`: nothing is open or ending, it
    /// can be taken up.
    pub fn is_ready_to_switch(&mut self, plan: &Plan) -> bool {
        self.switching = true;
        self.seal_all();
        // A producer that is being replaced would not know the new plan's topics.
        let idle = |lane: &Lane<K>| matches!(lane.phase, Phase::Idle);
        self.all_settled() && (plan.outputs == self.plan.outputs || self.lanes.iter().all(idle))
    }

    /// Goes by this plan from now on.
    pub fn switch(&mut self, plan: Arc<Plan>) {
        debug_assert!(self.all_settled(), "I7");
        if plan.outputs != self.plan.outputs {
            for lane in &mut self.lanes {
                lane.sink.adopt(&plan);
                lane.phase = Phase::Renewing { since: Instant::now() };
            }
        }
        let reads = |plan: &Plan, topic: &str| plan.inputs.iter().any(|input| *input.name == *topic && input.read);
        let is_back = |topic: &str| reads(&plan, topic) && !reads(&self.plan, topic);
        // Only what is still ours of a topic that nobody read for a while: its records were left out.
        let back: Vec<TopicPartition> =
            self.assignment.places().map(|(partition, _)| partition).filter(|p| is_back(&p.topic)).cloned().collect();
        self.read_on(&back);
        self.forget(|partition| !reads(&plan, &partition.topic));
        self.plan = plan;
        self.switching = false;
    }

    /// From now on revocations do not wait longer than until then.
    pub fn leave_by(&mut self, deadline: Instant) {
        self.leave_by = Some(deadline);
    }

    /// Nothing is open, nothing is being ended.
    pub fn all_settled(&self) -> bool {
        self.lanes.iter().all(|lane| matches!(lane.phase, Phase::Idle | Phase::Renewing { .. }))
    }

    /// Where the worker must seek to before it fetches again.
    pub fn take_seeks(&mut self) -> Vec<(TopicPartition, Position)> {
        std::mem::take(&mut self.seeks)
    }

    fn take(&mut self, lane: usize, report: Report, now: Instant) -> Result<(), WorkerError> {
        let state = &mut self.lanes[lane];
        let ended = match std::mem::replace(&mut state.phase, Phase::Idle) {
            Phase::Ending(ending) => Some(ending),
            _ => None,
        };
        if let (Some(traces), Some(ended)) = (&self.traces, &ended) {
            traces.ended(&self.plan, lane, ended, &report, now);
        }
        match report {
            Report::Ready => {
                state.ready = true;
                Ok(())
            }
            Report::Committed { ready } => {
                self.counters.committed.add(1);
                if !ready {
                    self.counters.renewed.add(1);
                    state.phase = Phase::Renewing { since: now };
                }
                (state.rollbacks, state.unexplained) = (0, 0);
                state.resume_at = Some(now + self.plan.delivery.rest);
                if let Some(ended) = ended {
                    state.isolation.committed(&ended.progress);
                    self.observe(&ended, now);
                }
                Ok(())
            }
            Report::Stop(error) => Err(WorkerError::Lane(error)),
            Report::RolledBack { cause, committed } => {
                state.ready = true;
                self.counters.rolled_back.add(1);
                tracing::warn!(lane, error = %cause, "transaction rolled back; reading again from the committed positions");
                let arrivals = ended.as_ref().map_or(0, |ended| ended.arrivals);
                for (partition, position) in committed {
                    if self.assignment.stayed_since(&partition, arrivals)
                        && let Some(at) = self.assignment.rewind(&partition, position)
                    {
                        self.seeks.push((partition, at));
                    }
                }
                self.lanes[lane].rolled_back(cause, ended, self.plan.delivery.transaction_timeout, now)
            }
        }
    }

    /// A transaction is committed: how long that took, how old its records are by now, how far that brings the group.
    fn observe(&mut self, ended: &Ending, now: Instant) {
        self.counters.commit.observe(nanos(now.saturating_duration_since(ended.sealed)), 1);
        let wall_ms = unix_ms();
        let mut stamps = vec![None; ended.progress.len()];
        for run in &ended.runs {
            let Some(stamp) = run.stamp_ms else { continue };
            stamps[run.entry] = Some(stamp);
            self.counters.latency.observe(u64::try_from(wall_ms - stamp).unwrap_or(0), run.records);
        }
        for ((partition, position), stamp) in ended.progress.iter().zip(stamps) {
            self.assignment.committed(partition, *position, stamp);
        }
    }
}
