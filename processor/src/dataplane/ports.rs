//! The three ports between the loop and the world. Production uses Kafka ([`super::kafka`], [`super::sink`]); the
//! loop's own tests use fakes with a clock that is moved by hand.

use super::plan::Plan;
use pelton_kafka::{
    Batch, ConsumerError, ConsumerStatistics, NotAMember, Output, PartitionProgress, Position, ProduceError,
    RebalanceHandler, TopicPartition, TxnError,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Where records come from: one group member. All methods are called by the worker's thread.
pub trait Source {
    /// Serves what the group has to say; assignments and revocations go through `group` before this returns.
    fn poll(&mut self, group: &mut dyn RebalanceHandler) -> Result<(), ConsumerError>;
    /// Moves up to `max` records that wait for `lane` into `into`. Does not block.
    fn fetch(&mut self, lane: usize, max: usize, into: &mut Batch) -> Result<(), ConsumerError>;
    /// Reads on at these positions, forgetting what was fetched ahead.
    fn seek(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), TxnError>;
    /// Fetches nothing of these partitions any more, and forgets what was fetched ahead.
    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), TxnError>;
    /// Fetches them again. A seek must follow.
    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), TxnError>;
    /// Reads the topics of this plan from now on; what that comes to the group tells later, by way of [`Source::poll`].
    fn subscribe(&mut self, plan: &Plan) -> Result<(), ConsumerError>;
    /// From now on this partition's records wait for `lane`. A seek must follow.
    fn forward(&mut self, partition: &TopicPartition, lane: usize);
    /// Where reading stands, when there is news of it: for observers.
    fn statistics(&mut self) -> Option<ConsumerStatistics> {
        None
    }
    /// How many assigned partitions are not read yet, because it is not known where to begin: for observers.
    fn without_position(&self) -> usize {
        0
    }
    /// Returns when there may be something to do, at the latest after `timeout`.
    fn wait(&mut self, timeout: Duration);
    /// Leaves the group. `false`: it could not within `limit`.
    fn close(&mut self, group: &mut dyn RebalanceHandler, limit: Duration) -> bool;
    /// The loop has no other clock.
    fn now(&self) -> Instant;
}

/// Where one lane's records go: a producer, and a thread that ends its transactions. A lane is *ready* when it has
/// nothing to end and a producer to begin with; `begin`, `produce`, `seal` and `abort` are legal only then, `seal` and
/// `abort` make it not ready, and [`Report`]s say what became of it and when it is ready again. A new sink is not ready:
/// it first takes over its identity.
pub trait Sink {
    /// What proves membership when the transaction is sealed.
    type Fence;

    fn begin(&mut self) -> Result<(), TxnError>;
    /// Would this record be taken? Asked for all outputs of an input before the first is produced, because a produced
    /// record can only be taken back by aborting the transaction.
    fn check(&self, output: &Output<'_>) -> Result<(), Refused>;
    /// Queues one record; everything is copied. Waits for room in the queue, within the transaction's lifetime.
    fn produce(&mut self, output: &Output<'_>) -> Result<(), ProduceError>;
    /// Commits outputs and positions together, behind the fence.
    fn seal(&mut self, progress: Vec<PartitionProgress>, fence: Self::Fence);
    /// Ends the transaction without effect, for `cause`; the report carries the committed positions of `partitions`.
    fn abort(&mut self, partitions: Vec<TopicPartition>, cause: TxnError);
    /// The next report, once, when it is there. Waits up to `timeout`.
    fn report(&mut self, timeout: Duration) -> Option<Report>;
    /// The call that has not returned although it should have, at `now`.
    fn overdue(&self, now: Instant) -> Option<TxnError>;
    /// Leaves such a call behind, its thread and its producer with it, and takes over its identity anew, which fences
    /// whatever the call may still do. Reports as `abort` does, or [`Report::Ready`] where there are no `partitions`.
    /// `false`: as many as may be are left behind already.
    fn abandon(&mut self, partitions: Vec<TopicPartition>, cause: TxnError) -> bool;
    /// Writes to the topics of this plan from now on, which begin with those of the present one. Not ready until it
    /// reports [`Report::Ready`].
    fn adopt(&mut self, plan: &Arc<Plan>);
}

/// Why a record can never be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// Larger than `message.max.bytes`.
    TooLarge,
    /// The topic has no such partition.
    NoSuchPartition,
    /// The topic was there at the start and is not any more.
    NoSuchTopic,
}

/// How far the group has come.
pub trait Progress {
    type Fence;
    /// Refuses unless the member is in its group, so that nothing is ever committed unfenced.
    fn fence(&self) -> Result<Self::Fence, NotAMember>;
}

/// What became of a transaction.
#[derive(Debug)]
pub enum Report {
    /// The sink has taken over its identity: whatever a predecessor left open is ended. It is ready.
    Ready,
    /// Outputs, dead letters and positions are visible, together (I2). `ready`: the next transaction may begin; else the
    /// producer is being renewed first, and [`Report::Ready`] follows.
    Committed { ready: bool },
    /// Nothing of it will ever be visible. Reading goes on at these positions; `None`: the group has none. It is ready.
    RolledBack { cause: TxnError, committed: Vec<(TopicPartition, Option<Position>)> },
    /// The lane cannot go on: a right is missing, or its identity is somebody else's.
    Stop(TxnError),
}
