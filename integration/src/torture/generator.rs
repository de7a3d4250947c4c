//! The input: an idempotent producer on the direct listeners, a steady rate, keys as they are in life (a few are many).
//! It tells the oracle what it sent and what was acknowledged.
//!
//! Promises: it is the only writer of the topic, and a record that is given up is an error. Not where a record is:
//! after a broker's death the client may write some again, so offsets are the input log's to say ([`super::input`]).

use super::oracle::Oracle;
use super::progress::Progress;
use super::record::{Ask, Input};
use crate::kafka;
use anyhow::{Context, Result, bail};
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::types::RDKafkaErrorCode;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Keys of a run.
const KEYS: u32 = 1000;
const TICK: Duration = Duration::from_millis(20);
/// How long the last records may take to be acknowledged.
const FLUSH: Duration = Duration::from_secs(180);

/// A generator at work.
#[derive(Debug)]
pub struct Generator {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    oracle: Arc<Oracle>,
    progress: Arc<Progress>,
    stop: AtomicBool,
    /// Asked for out of turn.
    extra: Mutex<VecDeque<Ask>>,
    failure: Mutex<Option<String>>,
}

impl Generator {
    /// Begins to write `rate` records a second.
    pub fn start(
        bootstrap: &str,
        topic: &str,
        oracle: Arc<Oracle>,
        progress: Arc<Progress>,
        rate: u64,
        seed: u64,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            oracle,
            progress,
            stop: AtomicBool::new(false),
            extra: Mutex::default(),
            failure: Mutex::default(),
        });
        let producer: ThreadedProducer<Acks> = kafka::client(bootstrap)
            .set("enable.idempotence", "true")
            .set("compression.codec", "lz4")
            .set("linger.ms", "10")
            .set("queue.buffering.max.messages", "200000")
            .set("retry.backoff.ms", "20")
            .set("message.timeout.ms", "300000")
            .create_with_context(Acks(Arc::clone(&shared)))?;
        let (feed, topic) = (Arc::clone(&shared), topic.to_owned());
        let thread = std::thread::Builder::new().name("generator".into()).spawn(move || {
            Feed { shared: feed, producer, topic, rate: rate as f64, random: fastrand::Rng::with_seed(seed) }.run()
        })?;
        Ok(Generator { shared, thread: Some(thread) })
    }

    /// One record that asks this, among the next.
    pub fn ask(&self, ask: Ask) {
        self.shared.extra.lock().unwrap_or_else(PoisonError::into_inner).push_back(ask);
    }

    /// The first record that was given up, if any.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// No more records; returns when all are acknowledged.
    pub fn stop(mut self) -> Result<()> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it runs")?;
        thread.join().ok().context("the generator panicked")??;
        if let Some(failure) = self.failure() {
            bail!("the generator: {failure}");
        }
        let (sent, acknowledged) =
            (self.shared.oracle.sent().iter().sum::<i64>(), self.shared.oracle.count_acknowledged());
        if acknowledged != sent {
            bail!("the generator: {acknowledged} of {sent} records are acknowledged");
        }
        Ok(())
    }
}

impl Drop for Generator {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

struct Acks(Arc<Shared>);

impl ClientContext for Acks {}

impl ProducerContext for Acks {
    /// Partition in the upper bits, seq in the lower.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (partition, seq) = ((opaque >> 40) as i32, (opaque & ((1 << 40) - 1)) as i64);
        let failure = match result {
            Ok(_) => {
                self.0.oracle.acknowledged(partition);
                self.0.progress.acknowledged(partition, seq);
                None
            }
            Err((error, _)) => Some(format!("seq {seq} of partition {partition} was given up: {error}")),
        };
        if let Some(failure) = failure {
            self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        }
    }
}

struct Feed {
    shared: Arc<Shared>,
    producer: ThreadedProducer<Acks>,
    topic: String,
    rate: f64,
    random: fastrand::Rng,
}

impl Feed {
    fn run(mut self) -> Result<()> {
        let mut value = String::new();
        let mut due = 0.0;
        let mut last = Instant::now();
        while !self.shared.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            // A pause of ours is not made up for by a flood.
            due += (now - last).as_secs_f64().min(0.5) * self.rate;
            last = now;
            while due >= 1.0 && self.send(&mut value)? {
                due -= 1.0;
            }
            due = due.min(self.rate);
            std::thread::park_timeout(TICK.saturating_sub(now.elapsed()));
        }
        self.producer.flush(FLUSH).context("not everything was acknowledged")
    }

    /// Says whether there was room.
    fn send(&mut self, value: &mut String) -> Result<bool> {
        let extra = self.shared.extra.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let ask = extra.unwrap_or_else(|| Ask::ordinary(self.random.u8(..)));
        // Skewed: the product of two makes the low keys frequent.
        let key = (self.random.f64() * self.random.f64() * f64::from(KEYS)) as u32;
        let oracle = &self.shared.oracle;
        let partition = (key % oracle.partitions() as u32) as i32;
        let seq = oracle.sending(partition, ask);
        let input = Input { ask, partition, seq, key };
        input.write(value);
        let opaque = ((partition as usize) << 40) | seq as usize;
        let name = input.key_text();
        let record = BaseRecord::with_opaque_to(&self.topic, opaque).partition(partition).key(&name).payload(value);
        match self.producer.send(record) {
            Ok(()) => Ok(true),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                oracle.take_back(partition);
                if let Some(ask) = extra {
                    self.shared.extra.lock().unwrap_or_else(PoisonError::into_inner).push_front(ask);
                }
                Ok(false)
            }
            Err((error, _)) => Err(error).context("the generator cannot produce"),
        }
    }
}
