//! `pelton run` with one promise broken on purpose: the torture run's verifier must notice (I12), else it proves nothing.
//! `SABOTAGE` says which. Owns nothing of Pelton's; wraps the two ports at which each promise is kept.

use pelton::cli;
use pelton::control::Parts;
use pelton::dataplane::kafka::KafkaSource;
use pelton::dataplane::plan::Plan;
use pelton::dataplane::ports::{Refused, Report, Sink, Source};
use pelton::dataplane::sink::KafkaSink;
use pelton_kafka::{
    Batch, Consumer, ConsumerError, GroupMetadata, Output, PartitionProgress, Position, ProduceError, RebalanceHandler,
    TopicPartition, TxnError,
};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is broken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sabotage {
    /// Positions are committed by themselves, before the outputs: a kill in between loses records.
    OffsetsFirst,
    /// A revocation returns with its transactions open and goes on committing them: the new owner does them too.
    SkipRevoke,
}

fn main() -> ExitCode {
    let sabotage = match std::env::var("SABOTAGE").as_deref() {
        Ok("offsets_first") => Sabotage::OffsetsFirst,
        Ok("skip_revoke") => Sabotage::SkipRevoke,
        _ => {
            eprintln!("saboteur: set SABOTAGE to offsets_first or skip_revoke");
            return ExitCode::from(2);
        }
    };
    cli::main_with(std::env::args_os(), &sabotage).into()
}

impl Parts for Sabotage {
    type Source = BrokenSource;
    type Sink = BrokenSink;

    fn source(&self, inner: KafkaSource) -> BrokenSource {
        BrokenSource { inner, skip_revoke: *self == Sabotage::SkipRevoke }
    }

    fn sink(&self, inner: KafkaSink, consumer: &Arc<Consumer>) -> BrokenSink {
        BrokenSink { inner, consumer: (*self == Sabotage::OffsetsFirst).then(|| Arc::clone(consumer)) }
    }
}

struct BrokenSource {
    inner: KafkaSource,
    skip_revoke: bool,
}

/// Takes part in rebalances, but never finishes what is open for partitions that go.
struct Deaf<'a>(&'a mut dyn RebalanceHandler);

impl RebalanceHandler for Deaf<'_> {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<usize> {
        self.0.assigned(partitions)
    }

    fn revoked(&mut self, _: &[TopicPartition], _: bool) {}
}

impl Source for BrokenSource {
    fn poll(&mut self, group: &mut dyn RebalanceHandler) -> Result<(), ConsumerError> {
        if self.skip_revoke { self.inner.poll(&mut Deaf(group)) } else { self.inner.poll(group) }
    }

    fn fetch(&mut self, lane: usize, max: usize, into: &mut Batch) -> Result<(), ConsumerError> {
        self.inner.fetch(lane, max, into)
    }

    fn seek(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), TxnError> {
        self.inner.seek(positions)
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), TxnError> {
        self.inner.pause(partitions)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), TxnError> {
        self.inner.resume(partitions)
    }

    fn subscribe(&mut self, plan: &Plan) -> Result<(), ConsumerError> {
        self.inner.subscribe(plan)
    }

    fn forward(&mut self, partition: &TopicPartition, lane: usize) {
        self.inner.forward(partition, lane);
    }

    fn wait(&mut self, timeout: Duration) {
        self.inner.wait(timeout);
    }

    fn close(&mut self, group: &mut dyn RebalanceHandler, limit: Duration) -> bool {
        self.inner.close(group, limit)
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }
}

struct BrokenSink {
    inner: KafkaSink,
    /// Present: positions go first, by themselves.
    consumer: Option<Arc<Consumer>>,
}

impl Sink for BrokenSink {
    type Fence = GroupMetadata;

    fn begin(&mut self) -> Result<(), TxnError> {
        self.inner.begin()
    }

    fn check(&self, output: &Output<'_>) -> Result<(), Refused> {
        self.inner.check(output)
    }

    fn produce(&mut self, output: &Output<'_>) -> Result<(), ProduceError> {
        self.inner.produce(output)
    }

    fn seal(&mut self, progress: Vec<PartitionProgress>, fence: GroupMetadata) {
        if let Some(consumer) = &self.consumer {
            let _ = consumer.commit(&progress);
        }
        self.inner.seal(progress, fence);
    }

    fn abort(&mut self, partitions: Vec<TopicPartition>, cause: TxnError) {
        self.inner.abort(partitions, cause);
    }

    fn report(&mut self, timeout: Duration) -> Option<Report> {
        self.inner.report(timeout)
    }

    fn overdue(&self, now: Instant) -> Option<TxnError> {
        self.inner.overdue(now)
    }

    fn abandon(&mut self, partitions: Vec<TopicPartition>, cause: TxnError) -> bool {
        self.inner.abandon(partitions, cause)
    }

    fn adopt(&mut self, plan: &Arc<Plan>) {
        self.inner.adopt(plan);
    }
}
