//! The loop of one worker: poll, fetch, process, produce, seal, wait. Everything that blocks on a broker happens on the
//! lanes' committer threads; everything that decides happens here, on one thread, in this order.

use super::breaker::TimeSpent;
use super::desired::Desired;
use super::isolation::Refusal;
use super::lanes::Lanes;
use super::pace::BatchSize;
use super::pauses::{Changes, Pauses};
use super::plan::Plan;
use super::ports::{Progress, Sink, Source};
use super::process::Interrupted;
use pelton_kafka::{Batch, Blame, ConsumerError, Fate, TxnError};
use pelton_sandbox::Fault;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// The worker looks at its group and its orders at least this often.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// Of the drain limit, this much (a quarter of it at most) is for leaving the group.
const LEAVE_MAX: Duration = Duration::from_secs(5);
/// How long the end of what is open is waited for when the worker cannot go on.
const ABANDON_MAX: Duration = Duration::from_secs(5);

/// Why a worker ended that was not told to.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error(transparent)]
    Consumer(#[from] ConsumerError),
    #[error("cannot write: {0}")]
    Lane(TxnError),
    #[error("cannot read again from the committed positions: {0}")]
    Seek(TxnError),
    #[error("another process uses this transactional id: {0}")]
    IdentityClash(TxnError),
    #[error("{times} transactions in a row failed, the last one with: {cause}")]
    KeepsFailing { times: u32, cause: TxnError },
    #[error("too many transactional calls do not return: {0}")]
    Stuck(TxnError),
    #[error("the record {at} cannot be settled, its dead letter is refused too: {cause}")]
    Refused { at: String, cause: TxnError },
    #[error("transform `{transform}` stops at {at}: {code}")]
    Policy { transform: Arc<str>, at: String, code: &'static str },
    #[error("transform `{transform}` has used up its budget of failures, the last one at {at}: {code}")]
    Budget { transform: Arc<str>, at: String, code: &'static str },
    #[error("a rejected record of `{transform}` cannot be written to its dead-letter topic: {at}")]
    DeadLetter { transform: Arc<str>, at: String },
    #[error("transform `{transform}` cannot be instantiated any more: {fault}")]
    Instance { transform: Arc<str>, fault: Fault },
    #[error("not everything was committed within the drain limit of {}s", limit.as_secs())]
    Drain { limit: Duration },
    #[error("told to stop at once")]
    Aborted,
}

impl WorkerError {
    /// Stable, for logs and for the manual.
    pub fn code(&self) -> &'static str {
        match self {
            WorkerError::Consumer(ConsumerError::BeyondEnd { .. }) => "input.beyond_end",
            WorkerError::Consumer(ConsumerError::Refused { .. }) => "kafka.read_refused",
            WorkerError::Consumer(_) => "kafka.consumer",
            WorkerError::Lane(error) => Lack::of(error).code(),
            WorkerError::Seek(_) => "kafka.seek",
            WorkerError::IdentityClash(_) => "kafka.identity_clash",
            WorkerError::KeepsFailing { .. } => "kafka.keeps_failing",
            WorkerError::Stuck(_) => "kafka.stuck",
            WorkerError::Refused { .. } => "dead_letter.refused",
            WorkerError::Policy { .. } => "transform.stopped",
            WorkerError::Budget { .. } => "transform.over_budget",
            WorkerError::DeadLetter { .. } => "dead_letter.unwritable",
            WorkerError::Instance { .. } => "transform.instance",
            WorkerError::Drain { .. } => "drain.limit",
            WorkerError::Aborted => "stop.aborted",
        }
    }

    /// A consumer can die of what is over by the time that it is dead, such as a static member that was fenced by its own
    /// second try to join. A new one loses nothing: what was open is ended, positions are in the group.
    pub fn is_worth_another_try(&self) -> bool {
        match self {
            WorkerError::Consumer(ConsumerError::BeyondEnd { .. } | ConsumerError::Refused { .. }) => false,
            WorkerError::Consumer(_) | WorkerError::Seek(_) => true,
            _ => false,
        }
    }

    /// What the operator can do.
    pub fn advice(&self) -> &'static str {
        match self {
            WorkerError::Consumer(ConsumerError::BeyondEnd { .. }) => {
                "the topic was deleted and made anew, or has lost records: decide where to begin, with `pelton offsets reset` while the application is stopped"
            }
            WorkerError::Consumer(ConsumerError::Refused { .. }) => {
                "give this principal Read and Describe on the group and on the input topics"
            }
            WorkerError::Consumer(_) => {
                "see the error's name in librdkafka's manual; the process may simply be restarted"
            }
            WorkerError::Lane(error) => Lack::of(error).advice(),
            WorkerError::Seek(_) => "nothing is lost; a restart goes on at the committed positions",
            WorkerError::IdentityClash(_) => {
                "give each process an `instance` of its own; within one application it must be unique"
            }
            WorkerError::KeepsFailing { .. } => {
                "the cause names what the brokers refuse; nothing is lost, a restart goes on at the committed positions"
            }
            WorkerError::Refused { .. } => {
                "mend the dead-letter topic (its rights, its `max.message.bytes`); the record is never skipped for that"
            }
            WorkerError::Stuck(_) => {
                "a broker does not answer; restart this process, its successor fences what is open"
            }
            WorkerError::Policy { .. } => {
                "mend the record's producer or the transform, or set `on_error.then` to `dead_letter` or `skip`"
            }
            WorkerError::Budget { .. } => {
                "look at its dead letters or at the log; mend the transform or what it reads, or raise `on_error.budget`"
            }
            WorkerError::DeadLetter { .. } => {
                "create the dead-letter topic again if it is gone; raise its `max.message.bytes`, and `message.max.bytes` in `kafka.producer.properties`"
            }
            WorkerError::Instance { fault, .. } => fault.code.advice(),
            WorkerError::Drain { .. } => "raise `drain_limit`, or look for the broker that is slow; nothing is lost",
            WorkerError::Aborted => "nothing is lost: open transactions are ended by the next start of this instance",
        }
    }
}

/// What a lane lacks that can write no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    Right,
    Credentials,
    /// The brokers allow no transaction as long as that.
    Timeout,
    /// The brokers are too old, or this librdkafka.
    Version,
    /// A producer cannot be made.
    Client,
    /// Something of ours has broken.
    Defect,
}

impl Lack {
    pub fn of(error: &TxnError) -> Self {
        match error.name.as_str() {
            name if name.ends_with("_AUTHORIZATION_FAILED") => Lack::Right,
            "SASL_AUTHENTICATION_FAILED" | "UNSUPPORTED_SASL_MECHANISM" => Lack::Credentials,
            "INVALID_TRANSACTION_TIMEOUT" => Lack::Timeout,
            "UNSUPPORTED_VERSION" | "_UNSUPPORTED_FEATURE" => Lack::Version,
            "CREATE" => Lack::Client,
            _ => Lack::Defect,
        }
    }

    pub fn code(self) -> &'static str {
        match self {
            Lack::Right => "kafka.denied",
            Lack::Credentials => "kafka.authentication",
            Lack::Timeout => "kafka.transaction_timeout",
            Lack::Version | Lack::Client | Lack::Defect => "kafka.lane",
        }
    }

    pub fn advice(self) -> &'static str {
        match self {
            Lack::Right => {
                "check the rights of this principal: Write and Describe on the transactional id, Read on the group"
            }
            Lack::Credentials => "correct the credentials in `kafka.properties`; `pelton doctor` tries them",
            Lack::Timeout => "lower `kafka.transaction_timeout`, or raise `transaction.max.timeout.ms` on the brokers",
            Lack::Version => "transactions need Kafka 2.5 or newer; `pelton doctor` says what the brokers can do",
            Lack::Client => {
                "see what the text names: a file that is gone, too few threads or file descriptors; restart the process"
            }
            Lack::Defect => "report it with the log; nothing is lost, a restart goes on at the committed positions",
        }
    }
}

/// What the supervisor wants of its workers; it can only become more urgent.
#[derive(Debug, Default)]
pub struct Orders(AtomicU8);

/// In rising urgency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Order {
    Run,
    /// Take no more records, commit, leave the group.
    Drain,
    /// Abort and go.
    Abort,
}

impl Orders {
    pub fn give(&self, order: Order) {
        self.0.fetch_max(order as u8, Ordering::AcqRel);
    }

    pub fn get(&self) -> Order {
        match self.0.load(Ordering::Acquire) {
            0 => Order::Run,
            1 => Order::Drain,
            _ => Order::Abort,
        }
    }
}

/// One worker. `F` processes a batch into a sink, by a plan: [`super::process::Processor::run`], or a test's closure. With
/// a refusal the batch is one record, whose outputs it says cannot be written.
#[derive(Debug)]
pub struct Worker<S, K, P, F> {
    pub source: S,
    pub lanes: Lanes<K, P>,
    pub process: F,
    pub desired: Arc<Desired>,
    /// The plan that it goes by, and which one of those that were wanted it is.
    pub plan: Arc<Plan>,
    pub version: u64,
    pub size: BatchSize,
    /// By its transforms, since the plan was taken up.
    pub spent: TimeSpent,
    pub pauses: Pauses,
    pub orders: Arc<Orders>,
    pub drain_limit: Duration,
}

impl<S, K, P, F> Worker<S, K, P, F>
where
    S: Source,
    K: Sink<Fence = P::Fence>,
    P: Progress,
    F: FnMut(&Arc<Plan>, &mut Batch, Option<&Refusal>, &mut K, &mut TimeSpent) -> Result<(), Interrupted>,
{
    /// Until told to stop, or until it cannot go on. In both cases the group is left and nothing is half done, within the
    /// drain limit.
    pub fn run(mut self) -> Result<(), WorkerError> {
        let mut batch = Batch::new();
        let result = self.until_stopped(&mut batch);
        batch.clear();
        let leave = (self.drain_limit / 4).min(LEAVE_MAX);
        let deadline = self.source.now() + self.drain_limit;
        let result = match result {
            Ok(()) => self.drain(self.drain_limit - leave),
            Err(error) => self.abandon(error, (self.drain_limit - leave).min(ABANDON_MAX)),
        };
        let left = deadline.saturating_duration_since(self.source.now()).clamp(leave / 2, LEAVE_MAX);
        self.lanes.leave_by(self.source.now() + left);
        let closed = self.source.close(&mut self.lanes, left);
        // Who was never let in has nobody waiting.
        let refused = matches!(result, Err(WorkerError::Consumer(ConsumerError::Refused { .. })));
        if !closed && !refused {
            tracing::warn!("the group was not left in time: its other members wait for the session to end");
        }
        result
    }

    fn until_stopped(&mut self, batch: &mut Batch) -> Result<(), WorkerError> {
        while self.orders.get() == Order::Run {
            if !self.step(batch)? {
                let before = self.source.now();
                let due = self.lanes.due_in(before).unwrap_or(WAIT_MAX);
                self.source.wait(due.min(WAIT_MAX));
                self.lanes.waited(before, self.source.now());
            }
        }
        Ok(())
    }

    /// One round: every lane gets at most one batch. `false`: there was nothing to do.
    pub(super) fn step(&mut self, batch: &mut Batch) -> Result<bool, WorkerError> {
        self.source.poll(&mut self.lanes)?;
        if let Some(statistics) = self.source.statistics() {
            self.lanes.heard(statistics);
        }
        self.lanes.take_reports(self.source.now())?;
        self.hold_and_let_go()?;
        self.take_up_plan()?;
        self.reposition()?;
        self.lanes.publish(self.source.without_position(), self.source.now());
        let mut busy = false;
        for lane in 0..self.lanes.count() {
            if self.lanes.takes(lane, self.source.now()) {
                busy |= self.take_batch(lane, batch)?;
                self.lanes.seal_if_due(lane, self.source.now());
            }
        }
        Ok(busy)
    }

    /// The life of a batch: fetched, noted, processed into the open transaction.
    fn take_batch(&mut self, lane: usize, batch: &mut Batch) -> Result<bool, WorkerError> {
        batch.clear();
        self.source.fetch(lane, self.size.get().min(self.lanes.room(lane)), batch)?;
        self.lanes.keep_owned(lane, batch);
        if batch.is_empty() {
            return Ok(false);
        }
        let start = self.source.now();
        let refusal = self.lanes.verdict(lane, batch);
        let result = match self.lanes.open(lane, batch, start) {
            Ok(sink) => (self.process)(&self.plan, batch, refusal.as_ref(), sink, &mut self.spent),
            Err(error) => Err(Interrupted::Abort(error)),
        };
        self.size.observe(batch.len(), self.source.now().saturating_duration_since(start));
        match result {
            Ok(()) => Ok(true),
            Err(Interrupted::Abort(cause)) => {
                self.lanes.abort(lane, cause);
                Ok(true)
            }
            Err(Interrupted::Stop(error)) => Err(error),
        }
    }

    /// Pauses what transforms read that are over their budget or share, and what a search leaves aside; lets go what need
    /// not be held any more.
    fn hold_and_let_go(&mut self) -> Result<(), WorkerError> {
        let now = self.source.now();
        let idle = self.pauses.is_idle() && !self.lanes.is_searching();
        if idle || !self.pauses.is_due(now) {
            return Ok(());
        }
        self.lanes.end_quiet_searches(now);
        let Changes { pause, resume } = self.pauses.changes(&self.lanes.owned(), &self.spent, now);
        if !pause.is_empty() {
            self.source.pause(&pause).map_err(WorkerError::Seek)?;
        }
        if !resume.is_empty() {
            self.source.resume(&resume).map_err(WorkerError::Seek)?;
            self.lanes.read_on(&resume);
        }
        Ok(())
    }

    /// Takes up the wanted plan, once nothing is open any more that was begun by the present one.
    fn take_up_plan(&mut self) -> Result<(), WorkerError> {
        if self.desired.version() == self.version {
            return Ok(());
        }
        let (version, plan) = self.desired.get();
        if !self.lanes.is_ready_to_switch(&plan) {
            return Ok(());
        }
        self.lanes.switch(Arc::clone(&plan));
        if plan.inputs != self.plan.inputs {
            self.source.subscribe(&plan)?;
        }
        self.pauses.adopt(&plan.allowances);
        self.spent = TimeSpent::new(plan.transforms.len());
        self.size.adopt(&plan.delivery, plan.deadline());
        (self.version, self.plan) = (version, plan);
        Ok(())
    }

    /// Carries out what rollbacks and rebalances want of the reading positions.
    fn reposition(&mut self) -> Result<(), WorkerError> {
        let mut seeks = self.lanes.take_seeks();
        for moved in self.lanes.take_moves() {
            self.source.forward(&moved.partition, moved.lane);
            // A partition that a rollback also sends back is sought once: the move knows its place.
            seeks.retain(|(partition, _)| *partition != moved.partition);
            seeks.push((moved.partition, moved.at));
        }
        if seeks.is_empty() {
            return Ok(());
        }
        self.source.seek(&seeks).map_err(WorkerError::Seek)
    }

    /// Commits what is open and waits for it.
    fn drain(&mut self, limit: Duration) -> Result<(), WorkerError> {
        self.lanes.seal_all();
        if self.settle(limit, Order::Abort)? { Ok(()) } else { Err(self.not_drained(limit)) }
    }

    /// Aborts what is open, because of `error`, which it returns.
    fn abandon(&mut self, error: WorkerError, limit: Duration) -> Result<(), WorkerError> {
        self.lanes.abort_all(&TxnError::own(Fate::Abort, Blame::Other, "stop", "STOPPING", error.to_string()));
        // What is not over by then is ended by the next start of this instance, or by its timeout.
        let _ = self.settle(limit, Order::Abort);
        Err(error)
    }

    fn not_drained(&mut self, limit: Duration) -> WorkerError {
        if self.orders.get() == Order::Abort { WorkerError::Aborted } else { WorkerError::Drain { limit } }
    }

    /// Waits until nothing is open or ending in any lane: at most `limit`, and not when an order as urgent as `unless` is given.
    fn settle(&mut self, limit: Duration, unless: Order) -> Result<bool, WorkerError> {
        let deadline: Instant = self.source.now() + limit;
        let mut broken = None;
        loop {
            // A consumer that is broken does not keep transactions from their end.
            if broken.is_none() {
                broken = self.source.poll(&mut self.lanes).err();
            }
            self.lanes.take_reports(self.source.now())?;
            if self.lanes.all_settled() {
                return broken.map_or(Ok(true), |error| Err(error.into()));
            }
            let left = deadline.saturating_duration_since(self.source.now());
            if left.is_zero() || self.orders.get() >= unless {
                return Ok(false);
            }
            self.source.wait(left.min(WAIT_MAX));
        }
    }
}
