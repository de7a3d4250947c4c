//! Owns what a deterministic guest sees of time and randomness: the timestamp of the current record, and randomness
//! derived from that record's place. Promises that both depend only on the record, never on the batch, the instance,
//! the machine or the time of day. During `configure`, which belongs to no record, it is 1970 and the randomness is
//! always the same.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand_core::TryRng;
use sha2::{Digest as _, Sha256};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

use crate::drive;
use crate::record::Record;

/// What a number of 32 bits costs the host, in what a guest could compute meanwhile.
const FUEL_PER_WORD: u64 = 500;

/// What clock and chance look at; shared by a store and the clocks that it was built with.
#[derive(Debug, Default)]
pub(crate) struct CurrentRecord(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    batch: Vec<Stamp>,
    at: usize,
}

/// What of a record decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stamp {
    topic: u32,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
}

impl CurrentRecord {
    /// A call of these records begins.
    pub(crate) fn begin(&self, records: &[Record<'_>]) {
        let mut state = self.lock();
        state.batch.clear();
        state.batch.extend(records.iter().map(|r| Stamp {
            topic: r.topic,
            partition: r.partition,
            offset: r.offset,
            timestamp_ms: r.timestamp_ms,
        }));
        state.at = 0;
    }

    /// So many records of the call are settled: the guest works on the next.
    pub(crate) fn settled(&self, count: u32) {
        let mut state = self.lock();
        state.at = (count as usize).min(state.batch.len().saturating_sub(1));
    }

    fn stamp(&self) -> Option<Stamp> {
        let state = self.lock();
        state.batch.get(state.at).copied()
    }

    fn timestamp(&self) -> Duration {
        // A record without one, and one before 1970, are of 1970.
        Duration::from_millis(u64::try_from(self.stamp().map_or(0, |stamp| stamp.timestamp_ms)).unwrap_or(0))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wall clock and monotonic clock: the record's timestamp, which stands still while it is worked on.
pub(crate) struct RecordClock(pub(crate) Arc<CurrentRecord>);

impl HostWallClock for RecordClock {
    fn resolution(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn now(&self) -> Duration {
        self.0.timestamp()
    }
}

impl HostMonotonicClock for RecordClock {
    fn resolution(&self) -> u64 {
        1_000_000
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.timestamp().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A guest's randomness: one of its generators.
pub(crate) struct Random {
    source: Source,
    /// What is drawn next, from `used` on.
    block: [u8; 32],
    used: usize,
}

enum Source {
    /// Only the record's topic, partition and offset decide. Anybody can foretell it.
    Record {
        current: Arc<CurrentRecord>,
        topics: Arc<[String]>,
        /// Tells the generators of one guest apart.
        stream: u8,
        /// Whose numbers these are, and how many blocks of them were made.
        of: Option<Stamp>,
        blocks: u64,
    },
    System,
}

impl Random {
    pub(crate) fn system() -> Self {
        Self { source: Source::System, block: [0; 32], used: 32 }
    }

    pub(crate) fn of_record(current: &Arc<CurrentRecord>, topics: &Arc<[String]>, stream: u8) -> Self {
        let (current, topics) = (Arc::clone(current), Arc::clone(topics));
        Self { source: Source::Record { current, topics, stream, of: None, blocks: 0 }, block: [0; 32], used: 32 }
    }

    /// The next 4 bytes.
    fn word(&mut self) -> [u8; 4] {
        drive::charge(FUEL_PER_WORD);
        if let Source::Record { current, of, blocks, .. } = &mut self.source
            && current.stamp() != *of
        {
            (*of, *blocks, self.used) = (current.stamp(), 0, 32);
        }
        if self.used == 32 {
            (self.block, self.used) = (self.source.block(), 0);
        }
        self.used += 4;
        self.block[self.used - 4..].first_chunk().copied().unwrap_or_default()
    }

    fn fill(&mut self, into: &mut [u8]) {
        for piece in into.chunks_mut(4) {
            let word = self.word();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }
}

impl Source {
    fn block(&mut self) -> [u8; 32] {
        match self {
            Source::Record { topics, stream, of, blocks, .. } => {
                let mut hash = Sha256::new().chain_update(b"pelton random 1").chain_update([*stream]);
                if let Some(stamp) = of {
                    let topic = topics.get(stamp.topic as usize).map_or("", String::as_str);
                    hash = hash
                        .chain_update((topic.len() as u64).to_le_bytes())
                        .chain_update(topic)
                        .chain_update(stamp.partition.to_le_bytes())
                        .chain_update(stamp.offset.to_le_bytes());
                }
                *blocks += 1;
                hash.chain_update(blocks.to_le_bytes()).finalize().into()
            }
            Source::System => {
                let mut block = [0; 32];
                // So few bytes come at once, or not at all: a kernel without `getrandom` is older than what we run on.
                while rustix::rand::getrandom(&mut block, rustix::rand::GetRandomFlags::empty()) != Ok(32) {}
                block
            }
        }
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_le_bytes(self.word()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        self.fill(into);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64, timestamp_ms: i64) -> Record<'static> {
        Record { topic: 0, partition: 1, offset, timestamp_ms, key: None, value: None, headers: &[] }
    }

    const GOLDEN: [u8; 4] = [143, 10, 250, 159];

    fn generator(current: &Arc<CurrentRecord>) -> Random {
        let topics: Arc<[String]> = Arc::new(["in".to_owned()]);
        Random::of_record(current, &topics, 0)
    }

    fn draw(random: &mut Random, bytes: usize) -> Vec<u8> {
        let mut into = vec![0; bytes];
        random.fill(&mut into);
        into
    }

    #[test]
    fn the_clock_is_that_of_the_record_that_is_worked_on() {
        let current = Arc::new(CurrentRecord::default());
        let clock = RecordClock(Arc::clone(&current));
        assert_eq!(HostWallClock::now(&clock), Duration::ZERO, "no record yet");
        current.begin(&[record(0, 1_000), record(1, -1), record(2, 3_000)]);
        assert_eq!(HostWallClock::now(&clock), Duration::from_secs(1));
        current.settled(1);
        assert_eq!(HostWallClock::now(&clock), Duration::ZERO);
        current.settled(u32::MAX);
        assert_eq!(HostMonotonicClock::now(&clock), 3_000_000_000);
    }

    #[test]
    fn chance_is_the_record_s_whatever_the_batch() {
        let current = Arc::new(CurrentRecord::default());
        let mut random = generator(&current);
        current.begin(&[record(7, 0), record(8, 0)]);
        let seventh = draw(&mut random, 100);
        assert_ne!(draw(&mut random, 100), seventh, "it goes on");
        current.settled(1);
        let eighth = draw(&mut random, 33);
        assert_ne!(eighth, seventh[..33]);
        current.begin(&[record(8, 0)]);
        assert_eq!(draw(&mut generator(&current), 33), eighth, "another batch, another instance");
        current.begin(&[record(7, 0)]);
        assert_eq!(draw(&mut random, 100), seventh);
        assert_eq!(seventh[..4], GOLDEN, "on every machine, in every release");
    }

    #[test]
    fn the_system_s_randomness_is_not_the_same_twice() {
        let mut random = Random::system();
        assert_ne!(draw(&mut random, 5000), draw(&mut random, 5000));
        assert_ne!(draw(&mut random, 5000)[4968..], [0; 32], "to the last byte");
    }

    #[test]
    fn what_is_drawn_is_charged() {
        drive::charge_start();
        draw(&mut Random::system(), 1001);
        assert_eq!(drive::charged(), 251 * FUEL_PER_WORD);
    }
}
