//! What was put in: for each input partition what every record asks, and which are acknowledged. Shared by the generator,
//! who fills it, and everybody who must know what to expect.

use super::record::Ask;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

/// One input partition.
#[derive(Debug, Default)]
struct Partition {
    /// By seq.
    asks: Mutex<Vec<Ask>>,
    acknowledged: AtomicI64,
}

#[derive(Debug)]
pub struct Oracle {
    partitions: Vec<Partition>,
}

impl Oracle {
    pub fn new(partitions: i32) -> Self {
        Oracle { partitions: (0..partitions).map(|_| Partition::default()).collect() }
    }

    pub fn partitions(&self) -> i32 {
        self.partitions.len() as i32
    }

    /// The next record of the partition is about to be sent; its seq.
    pub fn sending(&self, partition: i32, ask: Ask) -> i64 {
        let mut asks = self.asks(partition);
        asks.push(ask);
        asks.len() as i64 - 1
    }

    /// The last record of the partition could not be handed to the client after all.
    pub fn take_back(&self, partition: i32) {
        self.asks(partition).pop();
    }

    /// A record of the partition is acknowledged.
    pub fn acknowledged(&self, partition: i32) {
        self.partitions[partition as usize].acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    fn asks(&self, partition: i32) -> std::sync::MutexGuard<'_, Vec<Ask>> {
        self.partitions[partition as usize].asks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the records `from..to` ask; shorter where not so many were sent.
    pub fn range(&self, partition: i32, from: i64, to: i64) -> Vec<Ask> {
        let asks = self.asks(partition);
        let to = (to.max(0) as usize).min(asks.len());
        asks.get(from.max(0) as usize..to).unwrap_or_default().to_vec()
    }

    /// The next seq of each partition.
    pub fn sent(&self) -> Vec<i64> {
        (0..self.partitions()).map(|p| self.asks(p).len() as i64).collect()
    }

    pub fn count_acknowledged(&self) -> i64 {
        self.partitions.iter().map(|p| p.acknowledged.load(Ordering::Relaxed)).sum()
    }
}
