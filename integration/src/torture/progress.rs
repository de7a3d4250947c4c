//! How long it takes until something comes through again. A [`Watch`] begins at a fault or at its end; an input partition
//! is through when a record that was sent after that moment is visible at an output, and fed when one is acknowledged.

use super::oracle::Oracle;
use super::record::Source;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
struct Partition {
    from_seq: i64,
    acknowledged: Option<Duration>,
    visible: Option<Duration>,
}

/// One measurement.
#[derive(Debug)]
pub struct Watch {
    begun: Instant,
    partitions: Mutex<Vec<Partition>>,
}

impl Watch {
    fn partitions(&self) -> MutexGuard<'_, Vec<Partition>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, partition: i32, seq: i64, which: impl FnOnce(&mut Partition) -> &mut Option<Duration>) {
        if let Some(partition) = self.partitions().get_mut(partition as usize)
            && seq >= partition.from_seq
        {
            which(partition).get_or_insert_with(|| self.begun.elapsed());
        }
    }

    /// The worst input partition's time until an output was visible; `None` while there is one without.
    pub fn visible(&self) -> Option<Duration> {
        self.partitions().iter().map(|p| p.visible).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// The worst input partition's time until the input itself was acknowledged.
    pub fn acknowledged(&self) -> Option<Duration> {
        self.partitions().iter().map(|p| p.acknowledged).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// The input partitions that are not through.
    pub fn behind(&self) -> Vec<usize> {
        let partitions = self.partitions();
        partitions.iter().enumerate().filter(|(_, p)| p.visible.is_none()).map(|(i, _)| i).collect()
    }
}

/// The measurements that go on.
#[derive(Debug, Default)]
pub struct Progress {
    watches: Mutex<Vec<Arc<Watch>>>,
    /// By input partition, the largest offset that is visible + 1.
    ends: Mutex<Vec<i64>>,
}

impl Progress {
    fn watches(&self) -> MutexGuard<'_, Vec<Arc<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a measurement now.
    pub fn watch(&self, oracle: &Oracle) -> Arc<Watch> {
        let partition = |from_seq| Partition { from_seq, acknowledged: None, visible: None };
        let watch = Arc::new(Watch {
            begun: Instant::now(),
            partitions: Mutex::new(oracle.sent().into_iter().map(partition).collect()),
        });
        let mut watches = self.watches();
        // Nobody looks at these any more.
        watches.retain(|watch| Arc::strong_count(watch) > 1);
        watches.push(Arc::clone(&watch));
        watch
    }

    pub fn acknowledged(&self, partition: i32, seq: i64) {
        self.watches().iter().for_each(|watch| watch.note(partition, seq, |p| &mut p.acknowledged));
    }

    /// An outcome of what is at this place is visible.
    pub fn visible(&self, source: Source, seq: i64) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let at = source.partition as usize;
        if ends.len() <= at {
            ends.resize(at + 1, 0);
        }
        ends[at] = ends[at].max(source.offset + 1);
        drop(ends);
        self.watches().iter().for_each(|watch| watch.note(source.partition, seq, |p| &mut p.visible));
    }

    /// By input partition, the largest offset that is visible + 1; 0 or missing where there is none.
    pub fn ends(&self) -> Vec<i64> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
