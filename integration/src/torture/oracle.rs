//! What was put in: for each input partition what every record that was sent asks, how many are acknowledged, and the
//! input log itself, by offset. The generator fills the former, the reader of the input ([`super::input`]) the latter.
//! The log is the truth: under faults a client may write records again, and each is input. But what was acknowledged
//! must be in it, in the order in which it was sent; else there is nothing to judge by.

use super::record::{Ask, Input, Source};
use anyhow::{Result, bail};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One input partition.
#[derive(Debug, Default)]
struct Partition {
    /// By seq.
    asks: Mutex<Vec<Ask>>,
    acknowledged: AtomicI64,
    log: Mutex<Log>,
}

/// An input partition as far as it is read.
#[derive(Debug, Default)]
struct Log {
    /// By offset; nothing where there is no record.
    inputs: Vec<Option<Input>>,
    /// The first thing in it that cannot be.
    trouble: Option<String>,
}

/// What is at an offset of the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    NotYetRead,
    Nothing,
    Input(Input),
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

    fn asks(&self, partition: i32) -> MutexGuard<'_, Vec<Ask>> {
        self.partitions[partition as usize].asks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, partition: i32) -> MutexGuard<'_, Log> {
        self.partitions[partition as usize].log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next seq of each partition.
    pub fn sent(&self) -> Vec<i64> {
        (0..self.partitions()).map(|p| self.asks(p).len() as i64).collect()
    }

    pub fn count_acknowledged(&self) -> i64 {
        self.partitions.iter().map(|p| p.acknowledged.load(Ordering::Relaxed)).sum()
    }

    /// This record is in the input.
    pub fn read(&self, partition: i32, offset: i64, key: &[u8], value: &[u8]) {
        let input = Input::parse(value).filter(|i| i.partition == partition && i.key_text().as_bytes() == key);
        self.log(partition).put(offset, input);
    }

    /// How far the partition is read: the first offset that is not.
    pub fn end(&self, partition: i32) -> i64 {
        self.log(partition).inputs.len() as i64
    }

    /// The same, of each partition.
    pub fn ends(&self) -> Vec<i64> {
        (0..self.partitions()).map(|p| self.end(p)).collect()
    }

    /// What is at this place.
    pub fn at(&self, source: Source) -> Found {
        match self.log(source.partition).inputs.get(source.offset as usize) {
            None => Found::NotYetRead,
            Some(None) => Found::Nothing,
            Some(Some(input)) => Found::Input(*input),
        }
    }

    /// What is at the offsets `from..to`; shorter where not so much is read.
    pub fn range(&self, partition: i32, from: i64, to: i64) -> Vec<Option<Input>> {
        let log = self.log(partition);
        let to = (to.max(0) as usize).min(log.inputs.len());
        log.inputs.get(from.max(0) as usize..to).unwrap_or_default().to_vec()
    }

    /// Once all is acknowledged and read: is what was sent in the input, in its order? How much of it is there again.
    pub fn check(&self) -> Result<u64> {
        let mut repeats = 0;
        for partition in 0..self.partitions() {
            let asks = self.asks(partition);
            match self.log(partition).check(&asks) {
                Ok(again) => repeats += again,
                Err(trouble) => bail!("input partition {partition} cannot be judged by: {trouble}"),
            }
        }
        Ok(repeats)
    }
}

impl Log {
    fn put(&mut self, offset: i64, input: Option<Input>) {
        let at = offset as usize;
        if input.is_none() {
            self.trouble.get_or_insert_with(|| format!("at offset {offset} is what nobody sent"));
        }
        // A client whose position was lost reads from the beginning again.
        if let Some(before) = self.inputs.get(at) {
            if *before != input {
                let trouble = || format!("the cluster has changed offset {offset} from {before:?} to {input:?}");
                self.trouble.get_or_insert_with(trouble);
            }
            return;
        }
        self.inputs.resize(at, None);
        self.inputs.push(input);
    }

    /// The number of repeats.
    fn check(&self, asks: &[Ask]) -> Result<u64, String> {
        if let Some(trouble) = &self.trouble {
            return Err(trouble.clone());
        }
        let mut next = 0;
        let mut repeats = 0;
        for (offset, input) in self.inputs.iter().enumerate() {
            let Some(input) = input else { continue };
            match asks.get(input.seq as usize) {
                Some(ask) if *ask == input.ask => {}
                _ => return Err(format!("at offset {offset} is what nobody sent: {input:?}")),
            }
            if input.seq > next {
                return Err(self.lost(next, &format!("where seq {} is, at offset {offset}", input.seq)));
            }
            repeats += u64::from(input.seq < next);
            next = next.max(input.seq + 1);
        }
        if next < asks.len() as i64 {
            return Err(self.lost(next, &format!("at its end, offset {}", self.inputs.len())));
        }
        Ok(repeats)
    }

    /// In words: an acknowledged record that was to be there by then.
    fn lost(&self, seq: i64, by: &str) -> String {
        match self.inputs.iter().position(|input| input.is_some_and(|input| input.seq == seq)) {
            None => format!("the cluster lost acknowledged input: seq {seq} is missing {by}, and everywhere"),
            Some(offset) => format!("the cluster changed the order: seq {seq} is missing {by}, and at offset {offset}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `asks` were sent; the input has these of them.
    fn oracle(asks: &[Ask], seqs: &[usize]) -> Oracle {
        let oracle = Oracle::new(1);
        for ask in asks {
            oracle.sending(0, *ask);
        }
        seqs.iter().enumerate().for_each(|(offset, seq)| read(&oracle, offset, asks[*seq], *seq));
        oracle
    }

    fn read(oracle: &Oracle, offset: usize, ask: Ask, seq: usize) {
        let mut value = String::new();
        let input = Input { ask, partition: 0, seq: seq as i64, key: 7 };
        input.write(&mut value);
        oracle.read(0, offset as i64, input.key_text().as_bytes(), value.as_bytes());
    }

    fn trouble(oracle: &Oracle) -> String {
        oracle.check().expect_err("it cannot be judged by").to_string()
    }

    use Ask::{Left, Right};

    #[test]
    fn repeats_are_counted() {
        assert_eq!(oracle(&[Left, Right, Left], &[0, 1, 2]).check().unwrap(), 0);
        assert_eq!(oracle(&[Left, Right, Left], &[0, 1, 0, 1, 2, 2]).check().unwrap(), 3);
    }

    #[test]
    fn input_that_is_lost_or_in_another_order_is_trouble() {
        let lost = trouble(&oracle(&[Left, Right, Left], &[0, 2]));
        assert!(lost.contains("lost acknowledged input: seq 1"), "{lost}");
        let lost = trouble(&oracle(&[Left, Right, Left], &[0, 1, 0]));
        assert!(lost.contains("lost acknowledged input: seq 2"), "{lost}");
        let order = trouble(&oracle(&[Left, Right, Left], &[0, 2, 1]));
        assert!(order.contains("changed the order: seq 1"), "{order}");
    }

    #[test]
    fn input_that_nobody_sent_or_that_changes_is_trouble() {
        let foreign = oracle(&[Left], &[0]);
        foreign.read(0, 1, b"key", b"value");
        assert!(trouble(&foreign).contains("at offset 1 is what nobody sent"));
        let another = oracle(&[Left], &[]);
        read(&another, 0, Right, 0);
        assert!(trouble(&another).contains("at offset 0 is what nobody sent"));
        let changed = oracle(&[Left, Right], &[0, 1]);
        read(&changed, 0, Left, 0);
        assert_eq!(changed.check().unwrap(), 0, "the same may be read again");
        read(&changed, 1, Left, 0);
        assert!(trouble(&changed).contains("changed offset 1"));
    }
}
