//! A lane over Kafka: the producer that the worker writes to, and the thread that makes the calls which may block on a
//! broker: taking over the identity, sealing, aborting, and replacing the producer when it is fenced or in doubt.
//!
//! The worker never waits for these calls; it gets one [`Report`] for each job. A lost transaction is mended here to the
//! end, committed positions looked up included, so that the worker only has to read again from there.

use super::plan::{OutputTopic, Plan};
use super::ports::{Refused, Report, Sink};
use super::worker::{Order, Orders};
use pelton_kafka::{
    Consumer, Fate, GroupMetadata, Output, PartitionProgress, Partitioning, Position, ProduceError, Producer,
    Properties, TopicPartition, TxnError, Wake,
};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one try of a call may take before we look whether it is still wanted.
const TRY: Duration = Duration::from_secs(5);
/// Between two tries of a call that failed at once.
const PAUSE: Duration = Duration::from_millis(100);

/// The worker's end of a lane.
#[derive(Debug)]
pub struct KafkaSink {
    /// Replaced by the committer; taken over at each `begin`.
    producer: Option<Arc<Producer>>,
    current: Arc<Mutex<Option<Arc<Producer>>>>,
    jobs: Option<Sender<Job>>,
    reports: Receiver<Report>,
    thread: Option<JoinHandle<()>>,
    topics: Vec<OutputTopic>,
    orders: Arc<Orders>,
    transactional: bool,
    patience: Duration,
    /// Nobody notifies it: it bounds the waits for room in the queue.
    pause: Wake,
}

enum Job {
    Commit { progress: Vec<PartitionProgress>, fence: GroupMetadata },
    Abort { partitions: Vec<TopicPartition>, cause: TxnError },
}

/// The committer thread's state.
struct Committer {
    properties: Properties,
    topics: Vec<Arc<str>>,
    transactional: bool,
    /// How long a call is repeated before the producer is given up.
    patience: Duration,
    consumer: Arc<Consumer>,
    orders: Arc<Orders>,
    producer: Option<Arc<Producer>>,
    current: Arc<Mutex<Option<Arc<Producer>>>>,
}

impl KafkaSink {
    /// Starts the lane's thread, which at once takes over the lane's identity and reports [`Report::Ready`].
    pub fn new(
        name: &str,
        properties: Properties,
        plan: &Plan,
        consumer: &Arc<Consumer>,
        orders: &Arc<Orders>,
        wake: &Arc<Wake>,
    ) -> std::io::Result<Self> {
        let (jobs, job_queue) = channel();
        let (report, reports) = channel();
        let current = Arc::new(Mutex::new(None));
        let committer = Committer {
            properties,
            topics: plan.outputs.iter().map(|topic| Arc::clone(&topic.name)).collect(),
            transactional: plan.delivery.exactly_once,
            patience: plan.delivery.transaction_timeout,
            consumer: Arc::clone(consumer),
            orders: Arc::clone(orders),
            producer: None,
            current: Arc::clone(&current),
        };
        let wake = Arc::clone(wake);
        let thread =
            std::thread::Builder::new().name(name.into()).spawn(move || committer.run(&job_queue, &report, &wake))?;
        Ok(KafkaSink {
            producer: None,
            current,
            jobs: Some(jobs),
            reports,
            thread: Some(thread),
            topics: plan.outputs.clone(),
            orders: Arc::clone(orders),
            transactional: plan.delivery.exactly_once,
            patience: plan.delivery.transaction_timeout,
            pause: Wake::new()?,
        })
    }

    fn send(&self, job: Job) {
        // A thread that is gone has reported `Stop` already.
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    fn producer(&self) -> Result<&Arc<Producer>, TxnError> {
        self.producer
            .as_ref()
            .ok_or_else(|| TxnError::own(Fate::Abort, "produce", "NO_PRODUCER", "no open transaction"))
    }
}

impl Sink for KafkaSink {
    type Fence = GroupMetadata;

    fn begin(&mut self) -> Result<(), TxnError> {
        self.producer = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if self.transactional { self.producer()?.begin() } else { Ok(()) }
    }

    fn check(&self, output: &Output<'_>) -> Result<(), Refused> {
        if let Partitioning::Fixed(partition) = output.partitioning
            && !(0..self.topics[output.topic as usize].partitions).contains(&partition)
        {
            return Err(Refused::NoSuchPartition);
        }
        match &self.producer {
            Some(producer) if !producer.fits(output) => Err(Refused::TooLarge),
            _ => Ok(()),
        }
    }

    fn produce(&mut self, output: &Output<'_>) -> Result<(), ProduceError> {
        let producer = self.producer().map_err(ProduceError::Txn)?;
        let mut deadline = None;
        loop {
            match producer.produce(output) {
                Err(ProduceError::Full) => {
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.patience);
                    if Instant::now() >= deadline || self.orders.get() == Order::Abort {
                        let text = "the brokers took nothing for as long as a transaction may last";
                        return Err(ProduceError::Txn(TxnError::own(Fate::Abort, "produce", "QUEUE_FULL", text)));
                    }
                    self.pause.wait(Duration::from_millis(2));
                }
                other => return other,
            }
        }
    }

    fn seal(&mut self, progress: Vec<PartitionProgress>, fence: GroupMetadata) {
        self.producer = None;
        self.send(Job::Commit { progress, fence });
    }

    fn abort(&mut self, partitions: Vec<TopicPartition>, cause: TxnError) {
        self.producer = None;
        self.send(Job::Abort { partitions, cause });
    }

    fn report(&mut self, timeout: Duration) -> Option<Report> {
        match self.reports.recv_timeout(timeout) {
            Ok(report) => Some(report),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                Some(Report::Stop(TxnError::own(Fate::Stop, "commit", "THREAD_ENDED", "the committer thread ended")))
            }
        }
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        self.jobs = None;
        // A thread that is inside a call has a job that nobody waits for any more: it is left to end by itself.
        if let Some(thread) = self.thread.take()
            && thread.is_finished()
        {
            let _ = thread.join();
        }
    }
}

impl Committer {
    fn run(mut self, jobs: &Receiver<Job>, reports: &Sender<Report>, wake: &Wake) {
        let ready = match self.replace_producer() {
            Ok(()) => Report::Ready,
            Err(error) => Report::Stop(error),
        };
        let mut report = Some(ready);
        loop {
            if let Some(report) = report.take() {
                let stop = matches!(report, Report::Stop(_));
                let sent = reports.send(report);
                wake.notify();
                if stop || sent.is_err() {
                    return;
                }
            }
            let Ok(job) = jobs.recv() else { return };
            report = Some(match job {
                Job::Commit { progress, fence } => self.commit(&progress, &fence),
                Job::Abort { partitions, cause } => self.roll_back(partitions, cause),
            });
        }
    }

    /// Outputs and positions in one transaction; without transactions outputs first, then positions.
    fn commit(&mut self, progress: &[PartitionProgress], fence: &GroupMetadata) -> Report {
        let Some(producer) = self.producer.clone() else { return Report::Stop(no_producer()) };
        let result = if self.transactional {
            self.insist(|| producer.send_offsets(progress, fence, TRY)).and_then(|()| self.insist(|| producer.commit()))
        } else {
            self.insist(|| producer.flush(TRY)).and_then(|()| {
                let failed =
                    |e: pelton_kafka::ClientError| TxnError::own(Fate::Abort, "commit", "COMMIT", e.to_string());
                self.consumer.commit(progress).map_err(failed)
            })
        };
        drop(producer);
        match result {
            Ok(()) => Report::Committed,
            Err(cause) => self.roll_back(progress.iter().map(|p| p.partition.clone()).collect(), cause),
        }
    }

    /// Ends the transaction without effect, by an abort or by a new producer of the same identity; then asks where the
    /// group stands, which waits for whatever of ours is still undecided.
    fn roll_back(&mut self, partitions: Vec<TopicPartition>, cause: TxnError) -> Report {
        let ended = match (cause.fate, self.producer.clone()) {
            (Fate::Stop, _) => return Report::Stop(cause),
            (Fate::Abort, Some(producer)) if self.transactional => self.insist(|| producer.abort()),
            (Fate::Abort, Some(producer)) => {
                producer.purge();
                Ok(())
            }
            _ => Err(cause.clone()),
        };
        if ended.is_err()
            && let Err(error) = self.replace_producer()
        {
            return Report::Stop(error);
        }
        let committed = self.insist(|| {
            let failed =
                |e: pelton_kafka::ClientError| TxnError::own(Fate::Retry, "committed", "COMMITTED", e.to_string());
            self.consumer.committed(&partitions, TRY).map_err(failed)
        });
        match committed {
            Ok(positions) => Report::RolledBack { cause, committed: pair(partitions, positions) },
            Err(error) => Report::Stop(TxnError { fate: Fate::Stop, ..error }),
        }
    }

    /// A new producer of the same identity: fences the old one and ends what it left open. Repeats until it succeeds, is
    /// not wanted any more, or can never succeed.
    fn replace_producer(&mut self) -> Result<(), TxnError> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.producer = None;
        loop {
            let made = Producer::new(&self.properties, &self.topics)
                .map_err(|e| TxnError::own(Fate::Stop, "create", "CREATE", e.to_string()))?;
            let result = if self.transactional { self.insist(|| made.init(TRY)) } else { Ok(()) };
            match result {
                Ok(()) => {
                    let made = Arc::new(made);
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&made));
                    self.producer = Some(made);
                    return Ok(());
                }
                Err(error) if error.fate == Fate::Stop || self.orders.get() != Order::Run => return Err(error),
                Err(error) => tracing::warn!(%error, "cannot take over the transactional id yet; trying again"),
            }
        }
    }

    /// The same call again while it says so, as long as a transaction may last.
    fn insist<T>(&self, call: impl Fn() -> Result<T, TxnError>) -> Result<T, TxnError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let started = Instant::now();
            match call() {
                Err(error) if error.fate == Fate::Retry => {
                    if Instant::now() >= deadline || self.orders.get() == Order::Abort {
                        return Err(TxnError { fate: Fate::Replace, ..error });
                    }
                    tracing::debug!(%error, "once more");
                    if started.elapsed() < PAUSE {
                        std::thread::park_timeout(PAUSE);
                    }
                }
                other => return other,
            }
        }
    }
}

fn pair(partitions: Vec<TopicPartition>, positions: Vec<Option<Position>>) -> Vec<(TopicPartition, Option<Position>)> {
    partitions.into_iter().zip(positions).collect()
}

fn no_producer() -> TxnError {
    TxnError::own(Fate::Stop, "commit", "NO_PRODUCER", "there is no producer")
}
