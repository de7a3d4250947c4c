//! The middle of the loop without Kafka: batches that own their records go through a real module in a real sandbox, by the
//! code of a worker itself, into a producer that has no broker. For what is to be counted exactly: allocations and
//! instructions. What fetches, and what sends, is not in it.

use anyhow::{Result, anyhow};
use pelton::dataplane::breaker::{Allowance, Breaker, TimeSpent};
use pelton::dataplane::counters::Counters;
use pelton::dataplane::plan::{InputTopic, OnError, OutputTopic, Plan, TransformPlan};
use pelton::dataplane::ports::{Refused, Report, Sink};
use pelton::dataplane::process::Processor;
use pelton_kafka::{
    Batch, Output, OwnedMessage, PartitionProgress, ProduceError, Producer, Properties, Start, TopicPartition, TxnError,
};
use pelton_sandbox::{Ceiling, Engine, EngineConfig, Generation, Grants, Limits, Module, Spec};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One worker's middle, with one transform.
#[derive(Debug)]
pub struct Rig {
    processor: Processor,
    plan: Arc<Plan>,
    sink: Queue,
    spent: TimeSpent,
}

/// A module, compiled.
#[derive(Debug)]
pub struct Compiled {
    module: Module,
    _runtime: tokio::runtime::Runtime,
}

/// The producer's queue, which nobody empties but [`Rig::empty`].
#[derive(Debug)]
struct Queue {
    producer: Producer,
    outputs: u64,
}

impl Compiled {
    /// Slow, so once for all rigs.
    pub fn new(module: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let engine = Engine::new(EngineConfig {
            cache_dir: None,
            cache_bytes: 0,
            // Each reserves addresses, of which tools that look into a process have few.
            ceiling: Ceiling { memory: Limits::default().memory, instances: 2 },
            compiler: None,
            runtime: runtime.handle().clone(),
        })?;
        Ok(Compiled { module: engine.load(module, None)?, _runtime: runtime })
    }
}

impl Rig {
    /// A transform with this module and these settings, within the default limits.
    pub fn new(compiled: &Compiled, settings: &[(&str, &str)]) -> Result<Self> {
        let spec = Spec {
            transform: "rig".into(),
            settings: settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            secrets: Vec::new(),
            inputs: vec!["in".into()],
            outputs: vec!["out".into()],
            limits: Limits::default(),
            grants: Grants::default(),
            observe_guest_text: false,
        };
        let generation = Generation::prepare(&compiled.module, spec, 1)?;
        let plan = Arc::new(plan(generation));
        let properties = Properties::new()
            // Port 1 of this machine: nobody is there, and it is seldom asked.
            .with("bootstrap.servers", "127.0.0.1:1")
            .with("reconnect.backoff.ms", "600000")
            .with("reconnect.backoff.max.ms", "600000")
            .with("delivery.report.only.error", "true")
            .with("sticky.partitioning.linger.ms", "0")
            .with("log_level", "0");
        let producer = Producer::new(&properties, &["out".into()])?;
        Ok(Rig {
            processor: Processor::new(Arc::clone(&plan), Arc::new(Counters::default())),
            spent: TimeSpent::new(1),
            sink: Queue { producer, outputs: 0 },
            plan,
        })
    }

    /// What a worker does with a batch that it has fetched. The queue holds 100,000 outputs.
    pub fn run(&mut self, batch: &mut Batch) -> Result<()> {
        let ran = self.processor.run(&self.plan, batch, None, &mut self.sink, &mut self.spent);
        ran.map_err(|interrupted| anyhow!("{interrupted:?}"))
    }

    /// Outputs so far.
    pub fn outputs(&self) -> u64 {
        self.sink.outputs
    }

    /// Empties the producer's queue.
    pub fn empty(&self) {
        self.sink.producer.purge();
    }
}

/// Records of one partition with values of so many bytes, keys of 16, and so many headers.
pub fn batch(records: usize, bytes: usize, headers: usize) -> Batch {
    let mut batch = Batch::new();
    for offset in 0..records as i64 {
        let header = |i| (format!("header-{i}").into_bytes(), Some(b"a value of it".to_vec()));
        batch.push_owned(
            0,
            OwnedMessage {
                partition: 0,
                offset,
                timestamp_ms: Some(1_700_000_000_000 + offset),
                key: Some(format!("{offset:016}").into_bytes()),
                value: Some(vec![b'x'; bytes]),
                headers: (0..headers).map(header).collect(),
            },
        );
    }
    batch
}

fn plan(generation: Generation) -> Plan {
    let transform = TransformPlan {
        name: "rig".into(),
        digest: generation.digest().to_string().into(),
        generation,
        inputs: vec![Some(0)],
        outputs: vec![0],
        on_error: OnError::Stop,
        parallelism: 1,
        trial: None,
        previous: None,
        held_back: false,
        samples: Arc::default(),
        tap: Arc::default(),
    };
    let allowance = Allowance {
        name: "rig".into(),
        topics: vec!["in".into()],
        breaker: Arc::new(Breaker::new(None)),
        by_hand: Arc::default(),
        share: 1000,
    };
    Plan {
        inputs: vec![InputTopic { name: "in".into(), start: Start::Earliest, partitions: 1, read: true }],
        outputs: vec![OutputTopic { name: "out".into(), partitions: 1 }],
        transforms: vec![transform],
        allowances: vec![allowance],
        ..Plan::empty()
    }
}

/// Only what a batch asks for: its transactions never end.
impl Sink for Queue {
    type Fence = ();

    fn begin(&mut self) -> Result<(), TxnError> {
        Ok(())
    }

    fn check(&self, output: &Output<'_>) -> Result<(), Refused> {
        if self.producer.fits(output) { Ok(()) } else { Err(Refused::TooLarge) }
    }

    fn produce(&mut self, output: &Output<'_>) -> Result<(), ProduceError> {
        self.outputs += 1;
        self.producer.produce(output)
    }

    fn seal(&mut self, _: Vec<PartitionProgress>, (): ()) {}

    fn abort(&mut self, _: Vec<TopicPartition>, _: TxnError) {}

    fn report(&mut self, _: Duration) -> Option<Report> {
        None
    }

    fn overdue(&self, _: Instant) -> Option<TxnError> {
        None
    }

    fn abandon(&mut self, _: Vec<TopicPartition>, _: TxnError) -> bool {
        false
    }

    fn adopt(&mut self, _: &Arc<Plan>) {}
}
