//! What a rebalance means to the lanes: partitions come, go once what they have in a transaction is decided (I6), and change
//! lanes while nothing is open.

use super::super::assignment::Move;
use super::super::lane::Phase;
use super::super::ports::{Progress, Sink};
use super::super::worker::WorkerError;
use super::Lanes;
use pelton_kafka::{Blame, Fate, RebalanceHandler, TopicPartition, TxnError};
use std::time::{Duration, Instant};

/// How often a revocation that waits looks at what it waits for.
const LOOK: Duration = Duration::from_millis(50);

impl<K: Sink<Fence = P::Fence>, P: Progress> Lanes<K, P> {
    /// Partitions that change lanes now, if they are to and may. Seals what stands in the way.
    pub fn take_moves(&mut self) -> Vec<Move> {
        if !self.moving {
            return Vec::new();
        }
        self.seal_all();
        if !self.all_settled() {
            return Vec::new();
        }
        self.moving = false;
        let moves = self.assignment.moves();
        for moved in &moves {
            self.forget(|partition| *partition == moved.partition);
            self.assignment.moved(moved);
        }
        moves
    }

    /// Waits for the lane's report, at most until a transaction is lost anyway: then its offsets belong to a generation
    /// of the group that is over, and no broker takes them any more.
    fn wait_for(&mut self, lane: usize) -> Result<(), WorkerError> {
        let lost_at = Instant::now() + self.plan.delivery.transaction_timeout;
        let deadline = self.leave_by.map_or(lost_at, |leave_by| leave_by.min(lost_at));
        while matches!(self.lanes[lane].phase, Phase::Ending(_)) {
            if let Some(report) = self.lanes[lane].sink.report(LOOK) {
                self.take(lane, report, Instant::now())?;
                continue;
            }
            let now = Instant::now();
            if let Some(cause) = self.lanes[lane].sink.overdue(now) {
                self.leave_behind(lane, cause)?;
            }
            if now >= deadline {
                tracing::warn!(
                    lane,
                    "partitions go while their transaction is undecided: the group's generation fences it"
                );
                return Ok(());
            }
        }
        Ok(())
    }
}

impl<K: Sink<Fence = P::Fence>, P: Progress> RebalanceHandler for Lanes<K, P> {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<usize> {
        let lanes = partitions.iter().map(|partition| self.assignment.add(partition.clone())).collect();
        self.counters.rebalances.add(1);
        self.counters.partitions.set(self.assignment.len() as u64);
        if !partitions.is_empty() {
            tracing::info!(added = partitions.len(), owned = self.assignment.len(), "partitions assigned");
        }
        lanes
    }

    fn revoked(&mut self, partitions: &[TopicPartition], lost: bool) {
        let mut touched: Vec<usize> = partitions.iter().filter_map(|p| self.assignment.lane(p)).collect();
        touched.sort_unstable();
        touched.dedup();
        // First of all: nothing may seek to them any more.
        partitions.iter().for_each(|partition| self.assignment.remove(partition));
        self.forget(|partition| partitions.contains(partition));
        self.seeks.retain(|(partition, _)| !partitions.contains(partition));
        self.counters.rebalances.add(1);
        self.counters.partitions.set(self.assignment.len() as u64);
        self.counters.lags.forget(partitions);
        for &lane in &touched {
            if lost {
                let text = "the assignment was lost";
                self.abort(lane, TxnError::own(Fate::Abort, Blame::Membership, "rebalance", "ASSIGNMENT_LOST", text));
            } else {
                self.seal(lane);
            }
        }
        for lane in touched {
            if let Err(failure) = self.wait_for(lane) {
                self.failure.get_or_insert(failure);
            }
        }
        self.moving |= !self.assignment.moves().is_empty();
        tracing::info!(gone = partitions.len(), owned = self.assignment.len(), lost, "partitions revoked");
    }
}
