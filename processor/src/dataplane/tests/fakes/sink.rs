//! A lane's sink: transactions end at once, unless the cluster was told to hold, refuse or lose them.

use super::{Cluster, Shared};
use crate::dataplane::plan::Plan;
use crate::dataplane::ports::{Refused, Report, Sink};
use pelton_kafka::{
    Blame, Fate, Output, PartitionProgress, Partitioning, Position, ProduceError, TopicPartition, TxnError,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct FakeSink {
    cluster: Shared,
    lane: usize,
    open: Vec<(i32, i64)>,
    /// The plan that its records were processed by.
    pub(super) by: Option<Arc<Plan>>,
    /// The open transaction's record is settled by the policy.
    pub(super) judged: bool,
    pending: Option<Pending>,
    abandoned: u32,
}

impl FakeSink {
    /// It will report that it is ready.
    pub(super) fn new(cluster: Shared, lane: usize) -> Self {
        let pending = Some(Pending::Init);
        FakeSink { cluster, lane, open: Vec::new(), by: None, judged: false, pending, abandoned: 0 }
    }
}

#[derive(Debug)]
enum Pending {
    Init,
    Commit { progress: Vec<PartitionProgress>, fence: u64, records: Vec<(i32, i64)>, judged: bool },
    Abort { partitions: Vec<TopicPartition>, cause: TxnError },
}

impl Sink for FakeSink {
    type Fence = u64;

    fn begin(&mut self) -> Result<(), TxnError> {
        assert!(self.pending.is_none(), "begin while a transaction is ending");
        self.open.clear();
        self.by = None;
        let mut cluster = self.cluster.borrow_mut();
        if cluster.failing_begins > 0 {
            cluster.failing_begins -= 1;
            return Err(TxnError::own(Fate::Replace, Blame::Other, "begin", "TEST", "told to fail"));
        }
        Ok(())
    }

    fn check(&self, _: &Output<'_>) -> Result<(), Refused> {
        Ok(())
    }

    fn produce(&mut self, output: &Output<'_>) -> Result<(), ProduceError> {
        assert!(self.pending.is_none(), "produce while a transaction is ending");
        let (Partitioning::Fixed(partition), Some(offset)) = (output.partitioning, output.timestamp_ms) else {
            panic!("the test's closure sets both")
        };
        if self.cluster.borrow().produce_fails_at == Some(offset) {
            return Err(ProduceError::Txn(TxnError::own(Fate::Abort, Blame::Other, "produce", "TEST", "told to fail")));
        }
        self.open.push((partition, offset));
        Ok(())
    }

    fn seal(&mut self, progress: Vec<PartitionProgress>, fence: u64) {
        assert!(self.pending.is_none(), "sealed twice");
        let records = std::mem::take(&mut self.open);
        self.pending = Some(Pending::Commit { progress, fence, records, judged: self.judged });
    }

    fn abort(&mut self, partitions: Vec<TopicPartition>, cause: TxnError) {
        assert!(self.pending.is_none(), "aborted twice");
        self.open.clear();
        self.pending = Some(Pending::Abort { partitions, cause });
    }

    fn report(&mut self, timeout: Duration) -> Option<Report> {
        let cluster = &mut *self.cluster.borrow_mut();
        if (cluster.corked[self.lane] && timeout.is_zero()) || cluster.hanging[self.lane] {
            return None;
        }
        let (partitions, cause) = match self.pending.take()? {
            Pending::Init => return Some(Report::Ready),
            Pending::Abort { partitions, cause } => (partitions, cause),
            Pending::Commit { progress, fence, records, judged } => {
                match cluster.commit(&progress, fence, records, judged) {
                    Ok(()) if cluster.doubtful > 0 => {
                        cluster.doubtful -= 1;
                        self.pending = Some(Pending::Init);
                        return Some(Report::Committed { ready: false });
                    }
                    Ok(()) => return Some(Report::Committed { ready: true }),
                    Err(cause) => (progress.into_iter().map(|p| p.partition).collect(), cause),
                }
            }
        };
        let committed = |p: TopicPartition| {
            let at = cluster.committed.get(&p.partition).map(|at| Position(*at));
            (p, at)
        };
        Some(Report::RolledBack { cause, committed: partitions.into_iter().map(committed).collect() })
    }

    fn adopt(&mut self, _: &Arc<Plan>) {
        assert!(self.pending.is_none(), "a plan while a transaction is ending");
        self.pending = Some(Pending::Init);
    }

    fn overdue(&self, _: Instant) -> Option<TxnError> {
        let hangs = self.cluster.borrow().hanging[self.lane] && self.pending.is_some();
        hangs.then(|| TxnError::own(Fate::Replace, Blame::Brokers, "commit", "STUCK", "told to hang"))
    }

    fn abandon(&mut self, partitions: Vec<TopicPartition>, cause: TxnError) -> bool {
        self.cluster.borrow_mut().hanging[self.lane] = false;
        self.abandoned += 1;
        self.pending = Some(if partitions.is_empty() { Pending::Init } else { Pending::Abort { partitions, cause } });
        self.abandoned <= 4
    }
}

impl Cluster {
    fn commit(
        &mut self,
        progress: &[PartitionProgress],
        fence: u64,
        records: Vec<(i32, i64)>,
        judged: bool,
    ) -> Result<(), TxnError> {
        if self.fencing > 0 {
            self.fencing -= 1;
            return Err(TxnError::own(Fate::Replace, Blame::Identity, "commit", "_FENCED", "fenced"));
        }
        if let Some(refused) = self.refused
            && records.iter().any(|(p, offset)| *offset == refused && self.refused_of.is_none_or(|of| of == *p))
            && (!judged || self.refused_for_good)
        {
            return Err(TxnError::own(Fate::Abort, Blame::Record, "produce", "MSG_SIZE_TOO_LARGE", "told to refuse"));
        }
        if self.failing > 0 {
            self.failing -= 1;
            return Err(TxnError::own(Fate::Abort, Blame::Other, "commit", "TEST", "told to fail"));
        }
        if fence != self.generation {
            return Err(TxnError::own(
                Fate::Abort,
                Blame::Membership,
                "send_offsets",
                "ILLEGAL_GENERATION",
                "stale member",
            ));
        }
        self.sizes.push(records.len());
        if judged {
            self.condemned.extend(records.iter().map(|(_, offset)| *offset));
        }
        for (partition, offset) in records {
            self.visible.entry(partition).or_default().push(offset);
        }
        for progress in progress {
            let before = self.committed.insert(progress.partition.partition, progress.position.0);
            assert!(before.is_none_or(|b| b <= progress.position.0), "I4: the position moved back");
        }
        Ok(())
    }
}
