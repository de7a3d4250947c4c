//! A lane over Kafka, as its worker sees it: the producer that records are written to, and the way to the thread that
//! makes all calls that may block on a broker ([`super::committer`]).
//!
//! Such a call can also never return: librdkafka's own timeouts do not always hold (librdkafka#5456, #5511). The worker
//! never waits for one. Past its bound the call is left behind with its thread and its producer, and a new thread takes
//! over the same transactional id; the brokers then refuse whatever the old one still tries.

use super::committer::{Committer, Job};
use super::counters::Counters;
use super::plan::Plan;
use super::ports::{Refused, Report, Sink};
use super::utilization::nanos;
use super::worker::{Order, Orders};
use pelton_kafka::{
    Blame, Consumer, Fate, GroupMetadata, Header, Output, PartitionProgress, Partitioning, ProduceError, Producer,
    Properties, TopicPartition, TxnError, Wake,
};
use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How much longer than its own bound a call may take before it counts as one that never returns.
const GRACE: Duration = Duration::from_secs(2);
/// Calls of one worker that may be left behind at a time: each holds a thread and a librdkafka client.
pub const LEFT_BEHIND_MAX: u64 = 4;

/// librdkafka's queue goes by the sizes of values alone; so many bytes of keys and headers may be in it besides.
pub const UNCOUNTED_MAX: usize = 32 << 20;
/// What a header takes in memory besides its bytes.
const HEADER_COST: usize = 96;

fn uncounted(output: &Output<'_>) -> usize {
    let header = |header: &Header<'_>| HEADER_COST + header.key.len() + header.value.map_or(0, <[u8]>::len);
    output.key.map_or(0, <[u8]>::len) + output.headers.iter().map(header).sum::<usize>()
}

/// What a lane is made of; enough to make its committer anew.
#[derive(Clone, Debug)]
pub struct LaneParts {
    /// Of the committer's thread.
    pub name: String,
    pub properties: Properties,
    pub plan: Arc<Plan>,
    pub consumer: Arc<Consumer>,
    pub orders: Arc<Orders>,
    pub counters: Arc<Counters>,
    pub wake: Arc<Wake>,
}

/// The worker's end of a lane.
#[derive(Debug)]
pub struct KafkaSink {
    parts: LaneParts,
    /// Of the open transaction; taken over at each `begin`.
    producer: Option<Arc<Producer>>,
    committer: Line,
    /// Bytes of the open transaction that librdkafka's queue does not count, of which some may have been taken since.
    uncounted: usize,
    /// Nobody notifies it: it bounds the waits for room in the queue.
    pause: Wake,
}

/// The way to one committer.
#[derive(Debug)]
struct Line {
    link: Arc<Link>,
    jobs: Sender<Job>,
    reports: Receiver<Report>,
}

/// What both ends of a lane see.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The producer of the next transaction; none while it is being replaced.
    pub current: Mutex<Option<Arc<Producer>>>,
    /// The call that the committer is in.
    call: Mutex<Option<Call>>,
    /// Nobody listens to the committer any more: it makes no further call.
    abandoned: AtomicBool,
    /// The worker has ended: its successor takes the identity over, and must not be fenced by this one.
    deserted: AtomicBool,
    /// Output topics that the cluster does not have any more; `any_gone` spares the lock.
    gone: Mutex<BTreeSet<u32>>,
    any_gone: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    name: &'static str,
    since: Instant,
    bound: Duration,
}

impl Link {
    /// Makes a call that should return within `bound`; refuses where nobody listens any more.
    pub fn call<T>(
        &self,
        name: &'static str,
        bound: Duration,
        call: impl FnOnce() -> Result<T, TxnError>,
    ) -> Result<T, TxnError> {
        if self.is_unheard() {
            return Err(TxnError::own(Fate::Stop, Blame::Other, name, "ABANDONED", "this committer was left behind"));
        }
        *lock(&self.call) = Some(Call { name, since: Instant::now(), bound });
        let result = call();
        *lock(&self.call) = None;
        result
    }

    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Nobody waits for what it does.
    pub fn is_unheard(&self) -> bool {
        self.is_abandoned() || self.deserted.load(Ordering::Acquire)
    }

    pub fn gone(&self) -> Vec<u32> {
        if self.any_gone.load(Ordering::Acquire) { lock(&self.gone).iter().copied().collect() } else { Vec::new() }
    }

    pub fn set_gone(&self, topic: u32, gone: bool) {
        let mut topics = lock(&self.gone);
        if gone {
            topics.insert(topic)
        } else {
            topics.remove(&topic)
        };
        self.any_gone.store(!topics.is_empty(), Ordering::Release);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KafkaSink {
    /// Starts the lane's thread, which at once takes over the lane's identity and reports [`Report::Ready`].
    pub fn new(parts: LaneParts) -> io::Result<Self> {
        let committer = Line::new(&parts, Job::TakeOver)?;
        Ok(KafkaSink { parts, producer: None, committer, uncounted: 0, pause: Wake::new()? })
    }

    fn send(&mut self, job: Job) {
        self.producer = None;
        // A thread that is gone has reported `Stop`.
        let _ = self.committer.jobs.send(job);
    }

    fn producer(&self) -> Result<&Arc<Producer>, TxnError> {
        self.producer.as_ref().ok_or_else(nothing_open)
    }
}

fn nothing_open() -> TxnError {
    TxnError::own(Fate::Abort, Blame::Brokers, "produce", "NO_PRODUCER", "no open transaction")
}

impl Line {
    fn new(parts: &LaneParts, first: Job) -> io::Result<Self> {
        let link = Arc::new(Link::default());
        let (jobs, job_queue) = channel();
        let (report, reports) = channel();
        let committer = Committer::new(parts.clone(), Arc::clone(&link));
        let _ = jobs.send(first);
        std::thread::Builder::new().name(parts.name.clone()).spawn(move || committer.run(&job_queue, &report))?;
        Ok(Line { link, jobs, reports })
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        self.committer.link.deserted.store(true, Ordering::Release);
    }
}

impl Sink for KafkaSink {
    type Fence = GroupMetadata;

    fn begin(&mut self) -> Result<(), TxnError> {
        self.producer = lock(&self.committer.link.current).clone();
        // What was before is committed: the queue is empty.
        self.uncounted = 0;
        if self.parts.plan.delivery.exactly_once { self.producer()?.begin() } else { self.producer().map(|_| ()) }
    }

    fn check(&self, output: &Output<'_>) -> Result<(), Refused> {
        let link = &self.committer.link;
        if link.any_gone.load(Ordering::Acquire) && lock(&link.gone).contains(&output.topic) {
            return Err(Refused::NoSuchTopic);
        }
        if let Partitioning::Fixed(partition) = output.partitioning
            && !(0..self.parts.plan.outputs[output.topic as usize].partitions).contains(&partition)
        {
            return Err(Refused::NoSuchPartition);
        }
        match &self.producer {
            Some(producer) if !producer.fits(output) => Err(Refused::TooLarge),
            _ => Ok(()),
        }
    }

    fn produce(&mut self, output: &Output<'_>) -> Result<(), ProduceError> {
        let producer = self.producer.as_ref().ok_or_else(|| ProduceError::Txn(nothing_open()))?;
        let (mut deadline, size) = (None, uncounted(output));
        loop {
            if self.uncounted + size > UNCOUNTED_MAX && producer.is_empty() {
                self.uncounted = 0;
            }
            let full = self.uncounted > 0 && self.uncounted + size > UNCOUNTED_MAX;
            // What a failed transaction has queued stays until its abort: not worth waiting for.
            match if full { producer.check_open().and(Err(ProduceError::Full)) } else { producer.produce(output) } {
                Err(ProduceError::Full) => {
                    let patience = self.parts.plan.delivery.transaction_timeout;
                    let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience);
                    if Instant::now() >= deadline || self.parts.orders.get() == Order::Abort {
                        let text = "the brokers took nothing for as long as a transaction may last";
                        let full = TxnError::own(Fate::Abort, Blame::Brokers, "produce", "QUEUE_FULL", text);
                        return Err(ProduceError::Txn(full));
                    }
                    let before = Instant::now();
                    self.pause.wait(Duration::from_millis(2));
                    self.parts.counters.blocked.add(nanos(before.elapsed()));
                }
                other => {
                    self.uncounted += size;
                    return other;
                }
            }
        }
    }

    fn seal(&mut self, progress: Vec<PartitionProgress>, fence: GroupMetadata) {
        self.send(Job::Commit { progress, fence });
    }

    fn abort(&mut self, partitions: Vec<TopicPartition>, cause: TxnError) {
        self.send(Job::Abort { partitions, cause });
    }

    fn report(&mut self, timeout: Duration) -> Option<Report> {
        match self.committer.reports.recv_timeout(timeout) {
            Ok(report) => Some(report),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                let text = "the committer thread ended";
                Some(Report::Stop(TxnError::own(Fate::Stop, Blame::Other, "commit", "THREAD_ENDED", text)))
            }
        }
    }

    fn overdue(&self, now: Instant) -> Option<TxnError> {
        let call = (*lock(&self.committer.link.call))?;
        let taken = now.saturating_duration_since(call.since);
        (taken > call.bound + GRACE).then(|| {
            let text = format!("has not returned for {}s", taken.as_secs());
            TxnError::own(Fate::Replace, Blame::Brokers, call.name, "STUCK", text)
        })
    }

    fn abandon(&mut self, partitions: Vec<TopicPartition>, cause: TxnError) -> bool {
        let left_behind = &self.parts.counters.left_behind;
        if left_behind.load(Ordering::Acquire) >= LEFT_BEHIND_MAX {
            return false;
        }
        self.producer = None;
        let first = if partitions.is_empty() { Job::TakeOver } else { Job::Abort { partitions, cause } };
        let Ok(line) = Line::new(&self.parts, first) else { return false };
        let old = std::mem::replace(&mut self.committer, line);
        // Counted first: the thread takes itself off the count when its call returns after all.
        left_behind.fetch_add(1, Ordering::AcqRel);
        old.link.abandoned.store(true, Ordering::Release);
        true
    }

    fn adopt(&mut self, plan: &Arc<Plan>) {
        self.parts.plan = Arc::clone(plan);
        self.send(Job::Adopt(Arc::clone(plan)));
    }
}
