//! A cluster in a `RefCell`: partitions of numbered records, committed positions, transactions per lane. It knows what
//! Kafka would refuse (stale members) and asserts what must never be asked of it (a position that moves back).

mod sink;

use crate::dataplane::breaker::{Allowance, Breaker, Budget, Then, TimeSpent};
use crate::dataplane::counters::{Counters, Totals};
use crate::dataplane::desired::Desired;
use crate::dataplane::isolation::Refusal;
use crate::dataplane::lanes::Lanes;
use crate::dataplane::pace::BatchSize;
use crate::dataplane::pauses::Pauses;
use crate::dataplane::plan::{DeliveryPlan, InputTopic, OutputTopic, Plan};
use crate::dataplane::ports::{Progress, Sink, Source};
use crate::dataplane::process::Interrupted;
use crate::dataplane::worker::{Order, Orders, Worker, WorkerError};
use pelton_kafka::{
    Batch, ConsumerError, ConsumerStatistics, NotAMember, Output, OwnedMessage, PartitionStatistics, Partitioning,
    Position, ProduceError, RebalanceHandler, Start, TopicPartition, TxnError,
};
use sink::FakeSink;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TOPIC: &str = "in";
const LANES: usize = 2;

#[derive(Clone, Debug)]
pub(super) enum Event {
    Assign(Vec<i32>),
    Revoke { partitions: Vec<i32>, lost: bool },
}

#[derive(Debug)]
struct Cluster {
    now: Instant,
    /// Records per partition: offsets 0..n.
    logs: BTreeMap<i32, i64>,
    committed: BTreeMap<i32, i64>,
    /// Visible outputs: per partition, input offsets in order.
    visible: BTreeMap<i32, Vec<i64>>,
    events: VecDeque<Event>,
    /// Events to come.
    late: VecDeque<(Instant, Event)>,
    /// Owned partitions: lane and next offset to fetch.
    owned: BTreeMap<i32, (usize, i64)>,
    generation: u64,
    out_of_group: bool,
    corked: [bool; LANES],
    failing: u32,
    fencing: u32,
    failing_begins: u32,
    produce_fails_at: Option<i64>,
    /// Commits refuse a transaction with this input offset, for the record's sake, unless its outcome is the policy's.
    refused: Option<i64>,
    /// Only of this partition.
    refused_of: Option<i32>,
    /// Also refuse what the policy makes of it.
    refused_for_good: bool,
    /// Commits leave the producer in doubt.
    doubtful: u32,
    /// Calls that were told to hang, and never return.
    hanging: [bool; LANES],
    /// Records settled by the policy, in order.
    condemned: Vec<i64>,
    /// Also over a revocation.
    paused: BTreeSet<i32>,
    /// Something was read since they were assigned.
    read: BTreeSet<i32>,
    /// The sizes of committed transactions.
    sizes: Vec<usize>,
}

type Shared = Rc<RefCell<Cluster>>;
type Process = fn(&Arc<Plan>, &mut Batch, Option<&Refusal>, &mut FakeSink, &mut TimeSpent) -> Result<(), Interrupted>;

pub(super) struct World {
    cluster: Shared,
    worker: Worker<FakeSource, FakeSink, FakeProgress, Process>,
    counters: Arc<Counters>,
    desired: Arc<Desired>,
    batch: Batch,
}

impl World {
    pub(super) fn new(partitions: i32, records: i64) -> Self {
        Self::paced(partitions, records, Plan::empty().delivery)
    }

    pub(super) fn paced(partitions: i32, records: i64, delivery: DeliveryPlan) -> Self {
        let cluster = Rc::new(RefCell::new(Cluster {
            now: Instant::now(),
            logs: (0..partitions).map(|p| (p, records)).collect(),
            committed: BTreeMap::new(),
            visible: BTreeMap::new(),
            events: VecDeque::new(),
            late: VecDeque::new(),
            owned: BTreeMap::new(),
            generation: 1,
            out_of_group: false,
            corked: [false; LANES],
            failing: 0,
            fencing: 0,
            failing_begins: 0,
            produce_fails_at: None,
            refused: None,
            refused_of: None,
            refused_for_good: false,
            doubtful: 0,
            hanging: [false; LANES],
            condemned: Vec::new(),
            paused: BTreeSet::new(),
            read: BTreeSet::new(),
            sizes: Vec::new(),
        }));
        let budget = Budget { failures: 1, within: Duration::from_secs(1), then: Then::Pause };
        let allowance = Allowance {
            name: "test".into(),
            topics: vec![TOPIC.into()],
            breaker: Arc::new(Breaker::new(Some(budget))),
            by_hand: Arc::default(),
            share: 500,
        };
        let plan = Arc::new(Plan {
            inputs: vec![InputTopic { name: TOPIC.into(), start: Start::Earliest, partitions, read: true }],
            allowances: vec![allowance],
            delivery,
            ..Plan::empty()
        });
        let sinks = (0..LANES).map(|lane| FakeSink::new(Rc::clone(&cluster), lane)).collect();
        let process: Process = |plan, batch, refusal, sink, _| {
            // I7: a transaction goes by one plan.
            let by = sink.by.get_or_insert_with(|| Arc::clone(plan));
            assert!(Arc::ptr_eq(by, plan), "two plans in a transaction");
            sink.judged = refusal.is_some();
            for message in batch.iter() {
                let output = Output {
                    topic: 0,
                    partitioning: Partitioning::Fixed(message.partition()),
                    timestamp_ms: Some(message.offset().0),
                    key: None,
                    value: None,
                    headers: &[],
                };
                sink.produce(&output).map_err(|error| match error {
                    ProduceError::Txn(error) => Interrupted::Abort(error),
                    other => panic!("{other}"),
                })?;
            }
            Ok(())
        };
        let counters = Arc::new(Counters::default());
        let desired = Arc::new(Desired::new(Arc::clone(&plan)));
        // As it is after a while: of full size.
        let mut size = BatchSize::new(&plan.delivery, Duration::from_millis(5));
        size.observe(128, Duration::ZERO);
        let worker = Worker {
            source: FakeSource { cluster: Rc::clone(&cluster) },
            lanes: Lanes::new(sinks, FakeProgress(Rc::clone(&cluster)), Arc::clone(&plan), Arc::clone(&counters)),
            process,
            desired: Arc::clone(&desired),
            plan: Arc::clone(&plan),
            version: 0,
            size,
            spent: TimeSpent::new(1),
            pauses: Pauses::new(&plan.allowances),
            orders: Arc::new(Orders::default()),
            drain_limit: Duration::from_secs(60),
        };
        World { cluster, worker, counters, desired, batch: Batch::new() }
    }

    pub(super) fn step(&mut self) -> Result<(), WorkerError> {
        self.worker.step(&mut self.batch).map(drop)
    }

    /// Steps until the worker cannot go on, at most `count` times, with so much time between.
    pub(super) fn until_error(&mut self, count: usize, between: Duration) -> Result<(), WorkerError> {
        for _ in 0..count {
            self.step()?;
            self.advance(between);
        }
        Ok(())
    }

    pub(super) fn steps(&mut self, count: usize) {
        (0..count).for_each(|_| self.step().unwrap());
    }

    pub(super) fn advance(&mut self, by: Duration) {
        self.cluster.borrow_mut().now += by;
    }

    pub(super) fn event(&mut self, event: Event) {
        self.cluster.borrow_mut().events.push_back(event);
    }

    pub(super) fn cork(&mut self) {
        self.cluster.borrow_mut().corked = [true; LANES];
    }

    pub(super) fn uncork(&mut self) {
        self.cluster.borrow_mut().corked = [false; LANES];
    }

    /// Lets what this lane has pending through, once.
    pub(super) fn uncork_lane(&mut self, lane: usize) {
        self.cluster.borrow_mut().corked[lane] = false;
        self.steps(1);
        self.cluster.borrow_mut().corked[lane] = true;
    }

    pub(super) fn fetch_again(&mut self, partition: i32, count: i64) {
        let mut cluster = self.cluster.borrow_mut();
        if let Some((_, next)) = cluster.owned.get_mut(&partition) {
            *next = (*next - count).max(0);
        }
    }

    /// The next commits fail.
    pub(super) fn fail_commits(&mut self, count: u32) {
        self.cluster.borrow_mut().failing += count;
    }

    /// Injected failures that nothing has met yet.
    pub(super) fn failures_pending(&self) -> u32 {
        let cluster = self.cluster.borrow();
        cluster.failing + cluster.failing_begins
    }

    pub(super) fn fail_begins(&mut self, count: u32) {
        self.cluster.borrow_mut().failing_begins += count;
    }

    pub(super) fn fence_commits(&mut self, count: u32) {
        self.cluster.borrow_mut().fencing += count;
    }

    /// The brokers refuse this record's outputs; `for_good`: its dead letter too.
    pub(super) fn refuse(&mut self, offset: i64, for_good: bool) {
        let cluster = &mut *self.cluster.borrow_mut();
        (cluster.refused, cluster.refused_of, cluster.refused_for_good) = (Some(offset), None, for_good);
    }

    /// The brokers refuse the outputs of this record of this partition.
    pub(super) fn refuse_of(&mut self, partition: i32, offset: i64) {
        self.refuse(offset, false);
        self.cluster.borrow_mut().refused_of = Some(partition);
    }

    /// The next commits succeed, but leave their producers in doubt.
    pub(super) fn doubt_commits(&mut self, count: u32) {
        self.cluster.borrow_mut().doubtful += count;
    }

    /// The lane's calls never return, until the lane is given another committer.
    pub(super) fn hang(&mut self, lane: usize) {
        self.cluster.borrow_mut().hanging[lane] = true;
    }

    /// Another plan is wanted from now on.
    pub(super) fn want_another_plan(&mut self) {
        self.want(|_, _| ());
    }

    /// The topic is read, or not, from now on.
    pub(super) fn want_read(&mut self, read: bool) {
        self.want(|inputs, _| inputs[0].read = read);
    }

    /// There is one more topic to write to.
    pub(super) fn want_another_output(&mut self) {
        self.want(|_, outputs| outputs.push(OutputTopic { name: "out".into(), partitions: 1 }));
    }

    fn want(&mut self, change: impl FnOnce(&mut Vec<InputTopic>, &mut Vec<OutputTopic>)) {
        let (_, plan) = self.desired.get();
        let (mut inputs, mut outputs) = (plan.inputs.clone(), plan.outputs.clone());
        change(&mut inputs, &mut outputs);
        self.desired.set(Arc::new(Plan { inputs, outputs, allowances: plan.allowances.clone(), ..Plan::empty() }));
    }

    /// Whether the worker goes by the plan that is wanted.
    pub(super) fn is_up_to_date(&self) -> bool {
        self.worker.version == self.desired.version()
    }

    /// Whether a lane looks for a refused record.
    pub(super) fn is_searching(&self) -> bool {
        self.worker.lanes.is_searching()
    }

    /// The transform has taken so much of the worker's time.
    pub(super) fn spend(&mut self, time: Duration) {
        self.worker.spent.add(0, time);
    }

    /// The transform has used up its budget.
    pub(super) fn trip(&mut self) {
        self.worker.plan.allowances[0].breaker.failed(Instant::now());
    }

    pub(super) fn paused(&self) -> usize {
        self.cluster.borrow().paused.len()
    }

    pub(super) fn condemned(&self) -> Vec<i64> {
        self.cluster.borrow().condemned.clone()
    }

    pub(super) fn sizes(&self) -> Vec<usize> {
        self.cluster.borrow().sizes.clone()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// By partition, the lag that is told.
    pub(super) fn lags(&self) -> Vec<(i32, u64)> {
        self.counters.lags.read().into_iter().map(|(partition, lag)| (partition.partition, lag.records)).collect()
    }

    pub(super) fn counted(&self) -> Totals {
        self.counters.read()
    }

    /// Drains as a SIGTERM does; the time that it took.
    pub(super) fn drain(self) -> (Result<(), WorkerError>, Duration) {
        let World { cluster, worker, .. } = self;
        worker.orders.give(Order::Drain);
        let start = cluster.borrow().now;
        let result = worker.run();
        let took = cluster.borrow().now - start;
        (result, took)
    }

    pub(super) fn fail_produce_at(&mut self, offset: Option<i64>) {
        self.cluster.borrow_mut().produce_fails_at = offset;
    }

    pub(super) fn out_of_group(&mut self, out: bool) {
        self.cluster.borrow_mut().out_of_group = out;
    }

    pub(super) fn grow(&mut self, partition: i32, by: usize) {
        *self.cluster.borrow_mut().logs.entry(partition).or_default() += by as i64;
    }

    pub(super) fn len(&self, partition: i32) -> usize {
        self.cluster.borrow().logs.get(&partition).map_or(0, |n| *n as usize)
    }

    pub(super) fn visible(&self, partition: i32) -> usize {
        self.cluster.borrow().visible.get(&partition).map_or(0, Vec::len)
    }

    pub(super) fn committed(&self, partition: i32) -> Option<i64> {
        self.cluster.borrow().committed.get(&partition).copied()
    }

    /// When the worker looks again by itself.
    pub(super) fn due_in(&self) -> Option<Duration> {
        self.worker.lanes.due_in(self.cluster.borrow().now)
    }

    pub(super) fn lanes_in_use(&self) -> usize {
        let mut lanes: Vec<usize> = self.cluster.borrow().owned.values().map(|(lane, _)| *lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes.len()
    }

    /// Lets everything through until all that is owned is committed; a minute is longer than all backoffs together.
    pub(super) fn finish(&mut self) {
        self.uncork();
        for _ in 0..1_200 {
            let _ = self.step();
            self.advance(Duration::from_millis(50));
        }
    }

    /// I1, I3: what is visible of a partition is a gapless run from its first record. I4: the committed position is
    /// exactly behind it.
    pub(super) fn check(&self) {
        let cluster = self.cluster.borrow();
        for (partition, offsets) in &cluster.visible {
            let expected: Vec<i64> = (0..offsets.len() as i64).collect();
            assert_eq!(*offsets, expected, "partition {partition}: lost, doubled or out of order");
            assert_eq!(cluster.committed.get(partition).copied(), Some(offsets.len() as i64), "partition {partition}");
        }
    }
}

#[derive(Debug)]
struct FakeSource {
    cluster: Shared,
}

impl Source for FakeSource {
    fn poll(&mut self, group: &mut dyn RebalanceHandler) -> Result<(), ConsumerError> {
        {
            let cluster = &mut *self.cluster.borrow_mut();
            while let Some((_, event)) = cluster.late.pop_front_if(|(at, _)| *at <= cluster.now) {
                cluster.events.push_back(event);
            }
        }
        while let Some(event) = { self.cluster.borrow_mut().events.pop_front() } {
            match event {
                Event::Assign(partitions) => {
                    let new: Vec<i32> =
                        partitions.into_iter().filter(|p| !self.cluster.borrow().owned.contains_key(p)).collect();
                    let lanes = group.assigned(&new.iter().map(|p| tp(*p)).collect::<Vec<_>>());
                    let mut cluster = self.cluster.borrow_mut();
                    for (p, lane) in new.into_iter().zip(lanes) {
                        let at = cluster.committed.get(&p).copied().unwrap_or(0);
                        cluster.owned.insert(p, (lane, at));
                        cluster.read.remove(&p);
                    }
                }
                Event::Revoke { partitions, lost } => {
                    let gone: Vec<i32> =
                        partitions.into_iter().filter(|p| self.cluster.borrow().owned.contains_key(p)).collect();
                    if lost && !gone.is_empty() {
                        // Somebody else owns them: what we hold is stale from here on.
                        self.cluster.borrow_mut().generation += 1;
                    }
                    group.revoked(&gone.iter().map(|p| tp(*p)).collect::<Vec<_>>(), lost);
                    let mut cluster = self.cluster.borrow_mut();
                    cluster.owned.retain(|p, _| !gone.contains(p));
                    cluster.generation += 1;
                }
            }
        }
        Ok(())
    }

    fn fetch(&mut self, lane: usize, max: usize, into: &mut Batch) -> Result<(), ConsumerError> {
        let cluster = &mut *self.cluster.borrow_mut();
        for (partition, (owner, next)) in &mut cluster.owned {
            while *owner == lane
                && !cluster.paused.contains(partition)
                && into.len() < max
                && *next < cluster.logs[partition]
            {
                let (partition, offset) = (*partition, *next);
                let message = OwnedMessage { partition, offset, timestamp_ms: Some(offset), ..OwnedMessage::default() };
                into.push_owned(0, message);
                cluster.read.insert(partition);
                *next += 1;
            }
        }
        Ok(())
    }

    fn seek(&mut self, positions: &[(TopicPartition, Position)]) -> Result<(), TxnError> {
        let mut cluster = self.cluster.borrow_mut();
        for (partition, position) in positions {
            if let Some((_, next)) = cluster.owned.get_mut(&partition.partition) {
                *next = position.0;
            }
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), TxnError> {
        self.cluster.borrow_mut().paused.extend(partitions.iter().map(|p| p.partition));
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), TxnError> {
        let cluster = &mut *self.cluster.borrow_mut();
        for p in partitions {
            cluster.paused.remove(&p.partition);
            // As librdkafka does it: wherever, until somebody seeks, where something was read.
            if let Some((_, next)) = cluster.owned.get_mut(&p.partition).filter(|_| cluster.read.contains(&p.partition))
            {
                *next = cluster.logs[&p.partition];
            }
        }
        Ok(())
    }

    /// What is not read any more is revoked after a while; what is read again is assigned.
    fn subscribe(&mut self, plan: &Plan) -> Result<(), ConsumerError> {
        let cluster = &mut *self.cluster.borrow_mut();
        let partitions: Vec<i32> = cluster.logs.keys().copied().collect();
        let event =
            if plan.inputs[0].read { Event::Assign(partitions) } else { Event::Revoke { partitions, lost: false } };
        cluster.late.push_back((cluster.now + Duration::from_millis(300), event));
        Ok(())
    }

    fn forward(&mut self, partition: &TopicPartition, lane: usize) {
        if let Some((owner, _)) = self.cluster.borrow_mut().owned.get_mut(&partition.partition) {
            *owner = lane;
        }
    }

    fn statistics(&mut self) -> Option<ConsumerStatistics> {
        let cluster = self.cluster.borrow();
        let statistics = |(partition, (_, next)): (&i32, &(usize, i64))| {
            let (end, next) = (Some(Position(cluster.logs[partition])), Some(Position(*next)));
            (tp(*partition), PartitionStatistics { next, end, waiting: 0 })
        };
        Some(ConsumerStatistics { partitions: cluster.owned.iter().map(statistics).collect(), reachable: true })
    }

    fn wait(&mut self, timeout: Duration) {
        self.cluster.borrow_mut().now += timeout;
    }

    fn close(&mut self, group: &mut dyn RebalanceHandler, _: Duration) -> bool {
        let owned: Vec<TopicPartition> = self.cluster.borrow().owned.keys().map(|p| tp(*p)).collect();
        group.revoked(&owned, false);
        true
    }

    fn now(&self) -> Instant {
        self.cluster.borrow().now
    }
}

#[derive(Debug)]
struct FakeProgress(Shared);

impl Progress for FakeProgress {
    type Fence = u64;

    fn fence(&self) -> Result<u64, NotAMember> {
        let cluster = self.0.borrow();
        if cluster.out_of_group { Err(NotAMember { generation: -1 }) } else { Ok(cluster.generation) }
    }
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC.into(), partition }
}
