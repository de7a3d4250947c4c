//! Looks at the brokers from the side while a run goes on: the group's committed positions (I4), and whether the last
//! stable offsets move (I5). Brokers that do not answer are asked again later.

use super::findings::{Findings, Kind};
use super::progress::Progress;
use super::readers::{Audience, OutputTopic, Reader};
use crate::kafka;
use anyhow::{Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(1);
pub const ANSWER: Duration = Duration::from_secs(3);
/// The processes' transaction timeout, and what the broker may take to notice and clean up.
pub const HANGS_AFTER: Duration = Duration::from_secs(10 + 15);

/// When brokers or network were last hurt: until a while after that, nothing needs to move.
#[derive(Debug)]
pub struct Calm(Mutex<Option<Instant>>);

impl Calm {
    pub fn new() -> Self {
        Calm(Mutex::new(Some(Instant::now())))
    }

    /// A fault goes on (`false`), or everything is healed now.
    pub fn set(&self, calm: bool) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = calm.then(Instant::now);
    }

    fn lasts(&self) -> Duration {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// What it looks at.
#[derive(Debug)]
pub struct Watched {
    pub audience: Audience,
    pub group: String,
    pub reader: Arc<Reader>,
    pub progress: Arc<Progress>,
    pub calm: Arc<Calm>,
}

/// A sampler at work.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    pub fn start(watched: Watched) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&stop);
        let positions = Positions::new(&watched.audience.bootstrap, &watched.group, &watched.audience.input)?;
        let ends = Ends::new(&watched.audience.bootstrap)?;
        let thread = std::thread::Builder::new().name("sampler".into()).spawn(move || {
            let mut last = vec![-1; watched.audience.oracle.partitions() as usize];
            let mut stable = HashMap::new();
            let mut round = 0u32;
            while !end.load(Ordering::Relaxed) {
                let start = Instant::now();
                look_at_positions(&watched, &positions, &mut last);
                if round.is_multiple_of(4) {
                    look_at_ends(&watched, &ends, &mut stable);
                }
                round += 1;
                std::thread::park_timeout(EVERY.saturating_sub(start.elapsed()));
            }
        })?;
        Ok(Sampler { stop, thread: Some(thread) })
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn look_at_positions(watched: &Watched, positions: &Positions, last: &mut [i64]) {
    let findings: &Findings = &watched.audience.findings;
    // First what is visible, then what is committed: the positions cannot be behind.
    let visible = watched.progress.ends();
    let Ok(committed) = positions.get(last.len() as i32, ANSWER) else { return };
    for (partition, (&position, last)) in committed.iter().zip(last).enumerate() {
        if position < *last {
            findings.add(Kind::Rewound, || format!("partition {partition} from {last} to {position}"));
        }
        *last = position.max(*last);
        let end = visible.get(partition).copied().unwrap_or(0);
        if position.max(0) < end {
            findings.add(Kind::Apart, || {
                format!("partition {partition}: outputs up to {end} are visible, committed is {position}")
            });
        }
        if position > 0 {
            watched.reader.verifier().committed(partition as i32, position);
        }
    }
}

/// By topic and partition: a last stable offset behind the end, since when, and whether it was reported.
type Stable = HashMap<(String, i32), (i64, Instant, bool)>;

fn look_at_ends(watched: &Watched, ends: &Ends, stable: &mut Stable) {
    for topic in &watched.audience.topics {
        for partition in 0..topic.partitions {
            let Ok((lso, end)) = ends.get(&topic.name, partition, ANSWER) else { return };
            let key = (topic.name.clone(), partition);
            if lso >= end {
                stable.remove(&key);
                continue;
            }
            let seen = stable.entry(key).or_insert((lso, Instant::now(), false));
            if seen.0 != lso {
                *seen = (lso, Instant::now(), false);
            }
            if !seen.2 && seen.1.elapsed() > HANGS_AFTER && watched.calm.lasts() > HANGS_AFTER {
                seen.2 = true;
                watched.audience.findings.add(Kind::Hanging, || {
                    format!("{}-{partition}: stable up to {lso} of {end} for {:?}", topic.name, seen.1.elapsed())
                });
            }
        }
    }
}

/// The committed positions of a group on the input topic.
pub struct Positions {
    consumer: BaseConsumer,
    input: String,
}

impl Positions {
    pub fn new(bootstrap: &str, group: &str, input: &str) -> Result<Self> {
        let consumer = kafka::client(bootstrap)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("reconnect.backoff.max.ms", "500")
            .create()?;
        Ok(Positions { consumer, input: input.to_owned() })
    }

    /// By partition; -1 where nothing is committed. Waits for open transactions that hold positions.
    pub fn get(&self, partitions: i32, limit: Duration) -> Result<Vec<i64>> {
        let mut list = TopicPartitionList::new();
        (0..partitions).for_each(|p| {
            list.add_partition(&self.input, p);
        });
        let found = self.consumer.committed_offsets(list, limit)?;
        let mut positions = Vec::new();
        for partition in 0..partitions {
            let Some(element) = found.find_partition(&self.input, partition) else { bail!("a partition is missing") };
            element.error()?;
            positions.push(if let Offset::Offset(offset) = element.offset() { offset } else { -1 });
        }
        Ok(positions)
    }
}

/// Where partitions end, for those who read committed records and for all.
pub struct Ends {
    committed: BaseConsumer,
    uncommitted: BaseConsumer,
}

impl Ends {
    pub fn new(bootstrap: &str) -> Result<Self> {
        let consumer = |isolation| -> Result<BaseConsumer> {
            let mut config = kafka::client(bootstrap);
            config.set("isolation.level", isolation).set("reconnect.backoff.max.ms", "500");
            Ok(config.create()?)
        };
        Ok(Ends { committed: consumer("read_committed")?, uncommitted: consumer("read_uncommitted")? })
    }

    /// Last stable offset and end, in this order.
    pub fn get(&self, topic: &str, partition: i32, limit: Duration) -> Result<(i64, i64)> {
        let (_, lso) = self.committed.fetch_watermarks(topic, partition, limit)?;
        let (_, end) = self.uncommitted.fetch_watermarks(topic, partition, limit)?;
        Ok((lso, end))
    }

    /// Waits until nothing is open on these; the first that is, if that does not come.
    pub fn wait_closed(&self, topics: &[OutputTopic], limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        for topic in topics {
            for partition in 0..topic.partitions {
                loop {
                    let ends = self.get(&topic.name, partition, ANSWER);
                    if matches!(ends, Ok((lso, end)) if lso == end) {
                        break;
                    }
                    if Instant::now() >= deadline {
                        return Err(format!("{}-{partition}: {ends:?} (stable, end)", topic.name));
                    }
                    std::thread::park_timeout(Duration::from_millis(50));
                }
            }
        }
        Ok(())
    }
}
