//! The thread that ends one lane's transactions: it makes the calls that may block on a broker (taking over the
//! identity, sending positions, committing, aborting, replacing the producer) and reports the result of each job.
//!
//! Recovery from a lost transaction is completed here, including the lookup of committed positions, so that the worker
//! only has to read again from there. Every call goes through [`Link::call`], where the worker can see how long it
//! takes.

use super::plan::{DeliveryPlan, Plan};
use super::ports::Report;
use super::sink::{LaneParts, Link, lock};
use super::worker::Order;
use pelton_kafka::{
    Blame, Fate, GroupMetadata, PartitionProgress, Position, Producer, TopicInfo, TopicPartition, TxnError,
};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

/// How long one try of a call may take before we look whether it is still wanted.
const TRY: Duration = Duration::from_secs(2);
/// Between two tries of a call that failed at once.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a missing output topic is looked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

pub(super) enum Job {
    /// Take over the identity.
    TakeOver,
    /// The same, to write to the topics of this plan.
    Adopt(Arc<Plan>),
    Commit {
        progress: Vec<PartitionProgress>,
        fence: GroupMetadata,
    },
    /// End `partitions`' transaction without effect: one's own, or that of a committer that was left behind.
    Abort {
        partitions: Vec<TopicPartition>,
        cause: TxnError,
    },
}

/// The committer thread's state.
pub(super) struct Committer {
    parts: LaneParts,
    link: Arc<Link>,
    producer: Option<Arc<Producer>>,
    looked: Instant,
}

type Mended<T> = Result<T, NoResult>;

/// Why a job has no result.
enum NoResult {
    /// Not wanted any more: there is nobody to report to. What is open is ended by the next start of this instance.
    GaveUp,
    Stop(TxnError),
}

impl Committer {
    pub fn new(parts: LaneParts, link: Arc<Link>) -> Self {
        Committer { parts, link, producer: None, looked: Instant::now() }
    }

    pub fn run(mut self, jobs: &Receiver<Job>, reports: &Sender<Report>) {
        while let Ok(job) = jobs.recv() {
            let result = self.work(job);
            let renew = matches!(result, Ok(Report::Committed { ready: false }));
            if !self.tell(reports, result) {
                break;
            }
            if renew {
                let renewed = self.renew();
                if !self.tell(reports, renewed) {
                    break;
                }
            }
            self.look_for_missing_topics();
        }
        if self.link.is_abandoned() {
            // The call has returned after all.
            drop(self.producer.take());
            self.parts.counters.left_behind.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Reports what there is to report. `false`: this was the last.
    fn tell(&self, reports: &Sender<Report>, result: Mended<Report>) -> bool {
        let report = match result {
            Ok(report) => report,
            Err(NoResult::Stop(error)) => Report::Stop(error),
            Err(NoResult::GaveUp) => return true,
        };
        let goes_on = !matches!(report, Report::Stop(_));
        let heard = reports.send(report).is_ok();
        self.parts.wake.notify();
        goes_on && heard
    }

    fn renew(&mut self) -> Mended<Report> {
        let started = Instant::now();
        self.replace_producer()?;
        let took_ms = started.elapsed().as_millis() as u64;
        tracing::info!(took_ms, "a request of a committed transaction was never answered: producer renewed");
        Ok(Report::Ready)
    }

    fn work(&mut self, job: Job) -> Mended<Report> {
        match job {
            Job::TakeOver => self.replace_producer().map(|()| Report::Ready),
            Job::Adopt(plan) => {
                self.parts.plan = plan;
                self.replace_producer().map(|()| Report::Ready)
            }
            Job::Commit { progress, fence } => self.commit(&progress, &fence),
            Job::Abort { partitions, cause } => self.roll_back(partitions, cause),
        }
    }

    fn delivery(&self) -> &DeliveryPlan {
        &self.parts.plan.delivery
    }

    /// Outputs and positions in one transaction; without transactions outputs first, then positions.
    fn commit(&mut self, progress: &[PartitionProgress], fence: &GroupMetadata) -> Mended<Report> {
        let Some(producer) = self.producer.clone() else { return Err(NoResult::Stop(no_producer())) };
        let timeout = self.delivery().transaction_timeout;
        let result = if self.delivery().exactly_once {
            self.insist("send_offsets", TRY, || producer.send_offsets(progress, fence, TRY))
                .and_then(|()| self.insist("commit", timeout, || producer.commit()))
        } else {
            self.insist("flush", TRY, || producer.flush(TRY))
                .and_then(|()| self.link.call("commit", timeout, || self.parts.consumer.commit(progress)))
        };
        match result {
            Ok(()) => Ok(Report::Committed { ready: !self.in_doubt(&producer) }),
            Err(cause) => self.roll_back(progress.iter().map(|p| p.partition.clone()).collect(), cause),
        }
    }

    fn in_doubt(&self, producer: &Producer) -> bool {
        self.delivery().exactly_once && self.delivery().renew_in_doubt && producer.in_doubt()
    }

    /// Ends the transaction without effect, by an abort or by a new producer of the same identity; then asks where the
    /// group stands, which waits for whatever of ours is still undecided.
    fn roll_back(&mut self, partitions: Vec<TopicPartition>, cause: TxnError) -> Mended<Report> {
        if cause.fate == Fate::Stop {
            return Err(NoResult::Stop(cause));
        }
        let timeout = self.delivery().transaction_timeout;
        let producer = self.producer.clone();
        let failed_delivery = || producer.as_ref().and_then(|p| p.failed_delivery());
        let failed = failed_delivery();
        // After a refused record an abort would wait for its neighbours, which the gap in the sequence keeps from being
        // taken until their time is over, and the next transaction would fail too. A new producer does neither.
        let refused = |error: &TxnError| error.blame == Blame::Record;
        let ended = match (cause.fate, &producer) {
            _ if refused(&cause) || failed.as_ref().is_some_and(refused) => false,
            (Fate::Abort, Some(producer)) if self.delivery().exactly_once => {
                self.insist("abort", timeout, || producer.abort()).is_ok()
            }
            (Fate::Abort, Some(producer)) => {
                let purge = || {
                    producer.purge();
                    Ok(())
                };
                self.link.call("purge", TRY, purge).is_ok()
            }
            _ => false,
        };
        // By now all deliveries are reported: one that failed tells more than the call that failed for it.
        let mut cause = match failed.or_else(failed_delivery) {
            Some(failed) if !matches!(cause.blame, Blame::Identity | Blame::Membership) => {
                TxnError { fate: cause.fate, ..failed }
            }
            _ => cause,
        };
        if !ended || producer.as_ref().is_none_or(|p| refused(&cause) || self.in_doubt(p) || p.has_died()) {
            drop(producer);
            self.replace_producer()?;
        }
        self.blame_missing_topic(&mut cause);
        let committed = self.committed(&partitions)?;
        Ok(Report::RolledBack { cause, committed: partitions.into_iter().zip(committed).collect() })
    }

    /// Where the group stands. However long no broker answers: nothing can go on without it.
    fn committed(&self, partitions: &[TopicPartition]) -> Mended<Vec<Option<Position>>> {
        loop {
            match self.insist("committed", TRY, || self.parts.consumer.committed(partitions, TRY)) {
                Ok(positions) => return Ok(positions),
                Err(error) if error.fate == Fate::Stop => return Err(NoResult::Stop(error)),
                Err(_) if self.unwanted() => return Err(NoResult::GaveUp),
                Err(error) => tracing::warn!(%error, "cannot look up the committed positions yet; trying again"),
            }
        }
    }

    /// A new producer of the same identity: fences the old one and ends what it left open. Repeats until it succeeds, is
    /// not wanted any more, or can never succeed.
    fn replace_producer(&mut self) -> Mended<()> {
        *lock(&self.link.current) = None;
        self.producer = None;
        loop {
            let made = Producer::new(&self.parts.properties, &self.topics()).map_err(|e| {
                NoResult::Stop(TxnError::own(Fate::Stop, Blame::Other, "create", "CREATE", e.to_string()))
            })?;
            let result = if self.delivery().exactly_once {
                self.insist("init_transactions", TRY, || made.init(TRY))
            } else {
                Ok(())
            };
            match result {
                Ok(()) => {
                    let made = Arc::new(made);
                    *lock(&self.link.current) = Some(Arc::clone(&made));
                    self.producer = Some(made);
                    return Ok(());
                }
                Err(error) if error.fate == Fate::Stop => return Err(NoResult::Stop(error)),
                Err(_) if self.unwanted() => return Err(NoResult::GaveUp),
                Err(error) => tracing::warn!(%error, "cannot take over the transactional id yet; trying again"),
            }
        }
    }

    /// The same call again while it says so, as long as a transaction may last. `bound`: of one call.
    fn insist<T>(
        &self,
        name: &'static str,
        bound: Duration,
        call: impl Fn() -> Result<T, TxnError>,
    ) -> Result<T, TxnError> {
        let deadline = Instant::now() + self.delivery().transaction_timeout;
        loop {
            let started = Instant::now();
            match self.link.call(name, bound, &call) {
                Err(error) if error.fate == Fate::Retry => {
                    if Instant::now() >= deadline || self.parts.orders.get() == Order::Abort {
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

    fn unwanted(&self) -> bool {
        self.parts.orders.get() != Order::Run || self.link.is_unheard()
    }

    fn topics(&self) -> Vec<Arc<str>> {
        self.parts.plan.outputs.iter().map(|topic| Arc::clone(&topic.name)).collect()
    }

    /// A topic that is gone looks like a broker that does not answer: records for it wait until their time is over. The
    /// cluster knows better; from then on its records are refused before they are produced.
    fn blame_missing_topic(&self, cause: &mut TxnError) {
        let (Some(topic), Some(producer)) = (cause.topic, &self.producer) else { return };
        if matches!(producer.topic_info(topic, TRY), Ok(TopicInfo::Missing)) {
            self.link.set_gone(topic, true);
            cause.blame = Blame::Record;
            tracing::error!(
                topic = %self.parts.plan.outputs[topic as usize].name,
                code = "output.topic_missing",
                advice = "create it again, or take it out of the configuration; its records are settled by their policy until then",
                "an output topic does not exist any more"
            );
        }
    }

    fn look_for_missing_topics(&mut self) {
        let gone = self.link.gone();
        if gone.is_empty() || self.looked.elapsed() < LOOK_AGAIN {
            return;
        }
        self.looked = Instant::now();
        let Some(producer) = &self.producer else { return };
        for topic in gone {
            if matches!(producer.topic_info(topic, TRY), Ok(TopicInfo::Partitions(_))) {
                self.link.set_gone(topic, false);
                tracing::info!(topic = %self.parts.plan.outputs[topic as usize].name, "an output topic is back");
            }
        }
    }
}

fn no_producer() -> TxnError {
    TxnError::own(Fate::Stop, Blame::Other, "commit", "NO_PRODUCER", "there is no producer")
}
