//! Readers of the output topics, read_committed, on the direct listeners, without a group: two that read while the run
//! goes on and one that reads all of it again at the end.

use super::findings::Findings;
use super::oracle::Oracle;
use super::progress::Progress;
use super::record::{Outlet, Source};
use super::verifier::{Seen, Verifier};
use crate::kafka;
use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A position below which an output is still not visible after so long has lost it.
const PATIENCE: Duration = Duration::from_secs(60);

/// An output topic and what it is for.
#[derive(Clone, Debug)]
pub struct OutputTopic {
    pub outlet: Outlet,
    pub name: String,
    pub partitions: i32,
}

/// What all readers of an arena share.
#[derive(Clone, Debug)]
pub struct Audience {
    pub bootstrap: String,
    /// The input topic.
    pub input: String,
    pub topics: Vec<OutputTopic>,
    pub oracle: Arc<Oracle>,
    pub findings: Arc<Findings>,
}

impl Audience {
    fn consumer(&self, isolation: &str) -> Result<BaseConsumer> {
        let topics = self.topics.iter().map(|topic| (topic.name.as_str(), topic.partitions));
        consumer(&self.bootstrap, isolation, topics)
    }

    /// Of the input topic.
    pub fn input_consumer(&self) -> Result<BaseConsumer> {
        consumer(&self.bootstrap, "read_committed", [(self.input.as_str(), self.oracle.partitions())])
    }

    fn outlet(&self, topic: &str) -> Option<Outlet> {
        self.topics.iter().find(|t| t.name == topic).map(|t| t.outlet)
    }

    fn partitions(&self) -> usize {
        self.topics.iter().map(|t| t.partitions as usize).sum()
    }

    /// Reads everything from the beginning to the ends as they are, and judges it.
    pub fn read_again(&self, name: &'static str, limit: Duration) -> Result<Verifier> {
        let consumer = self.consumer("read_committed")?;
        let mut verifier = Verifier::new(name, self.oracle.partitions());
        self.to_the_ends(&consumer, limit, |seen| {
            verifier.see(seen, &self.oracle, &self.findings);
        })?;
        verifier.judge_all(&self.oracle, &self.findings);
        Ok(verifier)
    }

    /// How many records there are for those who do not ask for committed ones only.
    pub fn count_uncommitted(&self, limit: Duration) -> Result<u64> {
        let consumer = self.consumer("read_uncommitted")?;
        let mut count = 0;
        self.to_the_ends(&consumer, limit, |_| count += 1)?;
        Ok(count)
    }

    fn to_the_ends(&self, consumer: &BaseConsumer, limit: Duration, mut show: impl FnMut(Seen<'_>)) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut left = self.partitions();
        while left > 0 {
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    let outlet = self.outlet(message.topic()).context("a topic that was not asked for")?;
                    show(seen(&message, outlet, &self.input));
                }
                // Its topic is not told; but nothing is written any more, so each ends once.
                Some(Err(KafkaError::PartitionEOF(_))) => left -= 1,
                Some(Err(_)) | None => {}
            }
            if Instant::now() >= deadline {
                bail!("{left} partitions were not read to their ends within {limit:?}");
            }
        }
        Ok(())
    }
}

/// Reads these topics, each with so many partitions, from their beginnings.
fn consumer<'a>(
    bootstrap: &str,
    isolation: &str,
    topics: impl IntoIterator<Item = (&'a str, i32)>,
) -> Result<BaseConsumer> {
    let consumer: BaseConsumer = kafka::client(bootstrap)
        .set("group.id", "torture-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50")
        .set("reconnect.backoff.max.ms", "500")
        .set("enable.partition.eof", "true")
        .create()?;
    let mut all = TopicPartitionList::new();
    for (topic, partitions) in topics {
        for partition in 0..partitions {
            all.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&all)?;
    Ok(consumer)
}

fn seen<'a>(message: &'a impl Message, outlet: Outlet, input: &str) -> Seen<'a> {
    Seen {
        outlet,
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().unwrap_or_default(),
        value: message.payload().unwrap_or_default(),
        source: message.headers().and_then(|headers| source(headers, outlet, input)),
    }
}

/// The place in the input that a record says it is of: by the guest's header `src`, or, as no guest has put a hand to a
/// dead letter, by those of KIP-1191.
fn source(headers: &impl Headers, outlet: Outlet, input: &str) -> Option<Source> {
    let last = |name: &str| headers.iter().filter(|header| header.key == name).last()?.value;
    if outlet != Outlet::Dead {
        return Source::parse(last("src")?);
    }
    if last("src").is_some() || last("__dlq.errors.topic")? != input.as_bytes() {
        return None;
    }
    Source::parse(&[last("__dlq.errors.partition")?, b":", last("__dlq.errors.offset")?].concat())
}

/// A reader at work.
#[derive(Debug)]
pub struct Reader {
    verifier: Arc<Mutex<Verifier>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// `progress`: whom to tell of what has become visible.
    pub fn start(audience: &Audience, name: &'static str, progress: Option<Arc<Progress>>) -> Result<Self> {
        let consumer = audience.consumer("read_committed")?;
        let verifier = Arc::new(Mutex::new(Verifier::new(name, audience.oracle.partitions())));
        let stop = Arc::new(AtomicBool::new(false));
        let (audience, into, end) = (audience.clone(), Arc::clone(&verifier), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name(format!("reader {name}")).spawn(move || {
            while !end.load(Ordering::Relaxed) {
                // Errors of brokers that are down come and go here; what is missing in the end is found in the end.
                let message = consumer.poll(Duration::from_millis(100));
                let mut verifier = lock(&into);
                if let Some(Ok(message)) = message
                    && let Some(outlet) = audience.outlet(message.topic())
                    && let Some((source, input)) =
                        verifier.see(seen(&message, outlet, &audience.input), &audience.oracle, &audience.findings)
                    && let Some(progress) = &progress
                {
                    progress.visible(source, input.seq);
                }
                verifier.judge_committed(PATIENCE, &audience.oracle, &audience.findings);
            }
        })?;
        Ok(Reader { verifier, stop, thread: Some(thread) })
    }

    pub fn verifier(&self) -> MutexGuard<'_, Verifier> {
        lock(&self.verifier)
    }

    /// Waits until it was shown as many records as the one who read all of it again; then judges.
    pub fn catch_up(&self, other: &Verifier, audience: &Audience, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.verifier().count() < other.count() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        let mut verifier = self.verifier();
        verifier.judge_all(&audience.oracle, &audience.findings);
        verifier.agrees_with(other, &audience.findings);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(verifier: &Mutex<Verifier>) -> MutexGuard<'_, Verifier> {
    verifier.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::message::{Header, OwnedHeaders};

    fn headers(all: &[(&str, &str)]) -> OwnedHeaders {
        all.iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }))
    }

    #[test]
    fn an_output_says_its_source_in_one_way_and_a_dead_letter_in_another() {
        let of = Some(Source { partition: 3, offset: 41 });
        let output = headers(&[("src", "3:41")]);
        let letter = [("__dlq.errors.topic", "in"), ("__dlq.errors.partition", "3"), ("__dlq.errors.offset", "41")];
        assert_eq!(source(&output, Outlet::Left, "in"), of);
        assert_eq!(source(&headers(&letter), Outlet::Dead, "in"), of);
        assert_eq!(source(&output, Outlet::Dead, "in"), None);
        assert_eq!(source(&headers(&letter), Outlet::Left, "in"), None);
        assert_eq!(source(&headers(&letter), Outlet::Dead, "another"), None);
        let both = [&letter[..], &[("src", "3:41")]].concat();
        assert_eq!(source(&headers(&both), Outlet::Dead, "in"), None, "a guest has put a hand to it");
    }
}
