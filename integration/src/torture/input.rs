//! Reads the input topic, on the direct listeners and without a group, while the run goes on and to its end: what is
//! there, and at which offset, is the truth by which outputs are judged.

use super::oracle::Oracle;
use super::readers::Audience;
use super::sampler::{ANSWER, Ends};
use crate::within;
use anyhow::{Context, Result};
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The reader of the input at work.
#[derive(Debug)]
pub struct InputReader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl InputReader {
    pub fn start(audience: &Audience) -> Result<Self> {
        let consumer = audience.input_consumer()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (oracle, end) = (Arc::clone(&audience.oracle), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("input reader".into()).spawn(move || {
            while !end.load(Ordering::Relaxed) {
                read(&consumer, &oracle);
            }
        })?;
        Ok(InputReader { stop, thread: Some(thread) })
    }

    /// Waits until it has read all that is in the topic now.
    pub fn to_its_end(&self, audience: &Audience, limit: Duration) -> Result<()> {
        let ends = Ends::new(&audience.bootstrap)?;
        for partition in 0..audience.oracle.partitions() {
            let read = || {
                let (_, end) = ends.get(&audience.input, partition, ANSWER).ok()?;
                (audience.oracle.end(partition) >= end).then_some(())
            };
            within(limit, read)
                .with_context(|| format!("input partition {partition} was not read to its end within {limit:?}"))?;
        }
        Ok(())
    }
}

fn read(consumer: &BaseConsumer, oracle: &Oracle) {
    // Errors of brokers that are down come and go; what is not read in the end is seen in the end.
    if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
        let (key, value) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
        oracle.read(message.partition(), message.offset(), key, value);
    }
}

impl Drop for InputReader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
