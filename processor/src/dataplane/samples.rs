//! A few recent records of each transform that the running generation processed without failure, kept in memory: a new
//! generation is tried on them before it gets to the stream. Never written anywhere (I10), bounded in number and size
//! (I9).

use pelton_kafka::{Message, OwnedMessage};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Records of one transform, and the largest of them.
const COUNT: usize = 16;
const BYTES: usize = 16 << 10;
/// How often a worker takes one.
const EVERY: Duration = Duration::from_millis(100);

/// Shared by the workers of a process.
#[derive(Debug, Default)]
pub struct Samples(Mutex<VecDeque<Sample>>);

#[derive(Clone, Debug)]
pub struct Sample {
    pub topic: Arc<str>,
    pub message: OwnedMessage,
}

/// When one worker takes the next sample of one transform.
#[derive(Debug, Default)]
pub struct Pace(Option<Instant>);

impl Pace {
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|next| now >= next);
        if due {
            self.0 = Some(now + EVERY);
        }
        due
    }
}

impl Samples {
    /// Keeps a copy, in place of the oldest. Leaves it when another worker is at it.
    pub fn take(&self, topic: &Arc<str>, message: &Message<'_>) {
        let Ok(mut samples) = self.0.try_lock() else { return };
        if message.key().map_or(0, <[u8]>::len) + message.value().map_or(0, <[u8]>::len) > BYTES {
            return;
        }
        let message = message.to_owned_message();
        let headers = message.headers.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len));
        if headers.sum::<usize>() > BYTES {
            return;
        }
        if samples.len() == COUNT {
            samples.pop_front();
        }
        samples.push_back(Sample { topic: Arc::clone(topic), message });
    }

    pub fn all(&self) -> Vec<Sample> {
        self.0.lock().map(|samples| samples.iter().cloned().collect()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_kafka::Batch;

    #[test]
    fn the_last_ones_are_kept_and_large_ones_are_not() {
        let samples = Samples::default();
        let mut batch = Batch::new();
        for offset in 0..40 {
            let size = if offset % 2 == 0 { BYTES + 1 } else { BYTES };
            batch.push_owned(0, OwnedMessage { offset, value: Some(vec![0; size]), ..OwnedMessage::default() });
        }
        batch.iter().for_each(|message| samples.take(&"in".into(), &message));
        let offsets: Vec<i64> = samples.all().iter().map(|sample| sample.message.offset).collect();
        assert_eq!(offsets, (4..20).map(|i| 2 * i + 1).collect::<Vec<_>>());
    }

    #[test]
    fn a_worker_takes_one_now_and_then() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert!(pace.is_due(now));
        assert!(!pace.is_due(now + EVERY / 2));
        assert!(pace.is_due(now + EVERY));
    }
}
