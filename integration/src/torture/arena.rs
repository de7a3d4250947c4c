//! One run's corner of the cluster: topics, a generator, readers, a sampler and the processes under test, from the first
//! record to the verdict. Faults are done to it by [`super::nemesis`]; the main run and each negative control have an arena
//! of their own.

use super::findings::{Findings, Kind};
use super::fleet::{EFFORT, Fleet, Memory, Setup, VERSION_MARK, wait};
use super::generator::Generator;
use super::input::InputReader;
use super::oracle::Oracle;
use super::progress::{Progress, Watch};
use super::readers::{Audience, OutputTopic, Reader};
use super::record::Outlet;
use super::sampler::{Calm, Ends, HANGS_AFTER, Positions, Sampler, Watched};
use crate::cluster::{Cluster, OFFSETS_TOPIC};
use crate::proxy::Proxy;
use crate::{guest, kafka};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Until everything that was put in is through, on a machine that is busy with other things.
const THROUGH_WITHIN: Duration = Duration::from_secs(180);
const READ_WITHIN: Duration = Duration::from_secs(300);
/// Records that are larger than this are refused by the topic `narrow`, outputs of the guest's `big` among them.
const NARROW_BYTES: &str = "8192";

/// What an arena is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The application, and the beginning of the topics' names.
    pub name: String,
    pub partitions: i32,
    /// Records a second.
    pub rate: u64,
    pub seed: u64,
    /// How many processes run when nothing is done to them.
    pub processes: usize,
    /// How many there can be, and which of them are static members.
    pub static_members: Vec<bool>,
    pub workers: usize,
    pub binary: PathBuf,
    pub env: Vec<(String, String)>,
    /// The section `delivery`, as YAML in one line.
    pub delivery: String,
    pub home: PathBuf,
}

pub struct Arena<'c> {
    pub cluster: &'c mut Cluster,
    pub proxy: &'c Proxy,
    pub plan: Plan,
    pub fleet: Fleet,
    pub generator: Generator,
    pub findings: Arc<Findings>,
    pub calm: Arc<Calm>,
    progress: Arc<Progress>,
    audience: Audience,
    input: InputReader,
    reader: Arc<Reader>,
    second: Reader,
    sampler: Sampler,
}

impl std::fmt::Debug for Arena<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub inputs: i64,
    /// Records that the input has beyond the first time.
    pub input_repeats: u64,
    pub outputs: u64,
    pub dead_letters: u64,
    /// Records that only readers of uncommitted ones see: the remains of aborted transactions.
    pub aborted_records: u64,
    pub memory: Memory,
}

impl<'c> Arena<'c> {
    /// Makes the topics, starts everything, and returns when every input partition has come through once.
    pub fn begin(cluster: &'c mut Cluster, proxy: &'c Proxy, plan: Plan) -> Result<Self> {
        let direct = cluster.direct();
        let topics = topics(&plan);
        make_topics(&direct, cluster.nodes.len() as i32, &plan, &topics)?;
        let oracle = Arc::new(Oracle::new(plan.partitions));
        let findings = Arc::new(Findings::new(plan.name.clone()));
        let (progress, calm) = (Arc::new(Progress::default()), Arc::new(Calm::new()));
        let audience = Audience {
            bootstrap: direct.clone(),
            input: input_topic(&plan),
            topics,
            oracle: Arc::clone(&oracle),
            findings: Arc::clone(&findings),
        };
        let input = InputReader::start(&audience)?;
        let reader = Arc::new(Reader::start(&audience, "first reader", Some(Arc::clone(&progress)))?);
        let second = Reader::start(&audience, "second reader", None)?;
        let sampler = Sampler::start(Watched {
            audience: audience.clone(),
            group: plan.name.clone(),
            reader: Arc::clone(&reader),
            progress: Arc::clone(&progress),
            calm: Arc::clone(&calm),
        })?;
        let setup = Setup {
            application: plan.name.clone(),
            binary: plan.binary.clone(),
            env: plan.env.clone(),
            config: config(&plan, &cluster.proxied()),
            home: plan.home.clone(),
            static_members: plan.static_members.clone(),
        };
        let mut fleet = Fleet::new(setup, Arc::clone(&findings))?;
        for place in 0..plan.processes {
            fleet.start(place)?;
        }
        let generator =
            Generator::start(&direct, &audience.input, oracle, Arc::clone(&progress), plan.rate, plan.seed)?;
        let mut arena = Arena {
            cluster,
            proxy,
            plan,
            fleet,
            generator,
            findings,
            calm,
            progress,
            audience,
            input,
            reader,
            second,
            sampler,
        };
        for place in arena.fleet.running() {
            arena.fleet.wait_running(place);
        }
        let first = arena.watch();
        if !arena.wait_through(&first, THROUGH_WITHIN)? {
            bail!("nothing came through within {THROUGH_WITHIN:?}: partitions {:?}", first.behind());
        }
        Ok(arena)
    }

    /// The topics that must be in sync before the next broker is hurt.
    pub fn topics(&self) -> Vec<String> {
        let outputs = self.audience.topics.iter().map(|topic| topic.name.clone());
        outputs.chain([self.audience.input.clone()]).collect()
    }

    pub fn output_topic(&self, outlet: Outlet) -> String {
        format!("{}.{}", self.plan.name, outlet.name())
    }

    /// Begins a measurement now.
    pub fn watch(&self) -> Arc<Watch> {
        self.progress.watch(&self.audience.oracle)
    }

    /// Waits until every input partition is through, with an eye on the processes; says whether it came to that.
    pub fn wait_through(&mut self, watch: &Watch, limit: Duration) -> Result<bool> {
        self.wait(limit, |_| watch.visible().is_some())
    }

    /// Waits for a condition with an eye on the processes.
    pub fn wait(&mut self, limit: Duration, mut condition: impl FnMut(&Self) -> bool) -> Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            if condition(self) {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            self.fleet.look()?;
            if let Some(failure) = self.generator.failure() {
                bail!("the generator: {failure}");
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Lets everything come to an end: no more input, everything through, the processes stopped, all read again.
    pub fn finish(mut self) -> Result<(Figures, Arc<Findings>)> {
        for place in 0..self.plan.processes {
            self.fleet.start(place)?;
        }
        self.generator.stop()?;
        self.input.to_its_end(&self.audience, READ_WITHIN)?;
        let positions = Positions::new(&self.audience.bootstrap, &self.plan.name, &self.audience.input)?;
        let mut committed = Vec::new();
        let through = wait(THROUGH_WITHIN, || {
            let _ = self.fleet.look();
            committed = positions.get(self.plan.partitions, Duration::from_secs(5)).unwrap_or_default();
            committed == self.audience.oracle.ends()
        });
        if !through {
            self.findings.add(Kind::Stuck, || {
                let ends = self.audience.oracle.ends();
                format!("within {THROUGH_WITHIN:?} of the last record committed is {committed:?} of {ends:?}")
            });
        }
        for place in self.fleet.running() {
            self.fleet.terminate(place);
        }
        drop(self.sampler);
        let mut closed = self.audience.topics.clone();
        closed.push(OutputTopic {
            outlet: Outlet::Dead,
            name: OFFSETS_TOPIC.into(),
            partitions: crate::cluster::INTERNAL_PARTITIONS,
        });
        if let Err(open) = Ends::new(&self.audience.bootstrap)?.wait_closed(&closed, HANGS_AFTER) {
            self.findings.add(Kind::Hanging, || format!("at the end: {open}"));
        }
        // Whatever came into it meanwhile is input, too.
        self.input.to_its_end(&self.audience, READ_WITHIN)?;
        let input_repeats = self.audience.oracle.check()?;
        let again = self.audience.read_again("last reader", READ_WITHIN).context("reading all again")?;
        for reader in [&*self.reader, &self.second] {
            reader.catch_up(&again, &self.audience, Duration::from_secs(60));
        }
        let uncommitted = self.audience.count_uncommitted(READ_WITHIN).context("counting what was aborted")?;
        let figures = Figures {
            inputs: self.audience.oracle.count_acknowledged(),
            input_repeats,
            outputs: again.outputs(),
            dead_letters: again.dead_letters(),
            aborted_records: uncommitted.saturating_sub(again.count() as u64),
            memory: self.fleet.memory,
        };
        Ok((figures, self.findings))
    }
}

fn input_topic(plan: &Plan) -> String {
    format!("{}.in", plan.name)
}

/// Other numbers of partitions than the input's, so that they mix.
fn topics(plan: &Plan) -> Vec<OutputTopic> {
    let topic = |outlet: Outlet, partitions| OutputTopic {
        outlet,
        name: format!("{}.{}", plan.name, outlet.name()),
        partitions,
    };
    vec![topic(Outlet::Left, 5), topic(Outlet::Right, 3), topic(Outlet::Narrow, 1), topic(Outlet::Dead, 2)]
}

fn make_topics(direct: &str, replicas: i32, plan: &Plan, outputs: &[OutputTopic]) -> Result<()> {
    let input = input_topic(plan);
    // Nobody writes to the spare one.
    let spare = format!("{}.spare", plan.name);
    let mut ordinary = vec![(input.as_str(), plan.partitions), (spare.as_str(), 1)];
    let (narrow, others): (Vec<_>, Vec<_>) = outputs.iter().partition(|topic| topic.outlet == Outlet::Narrow);
    ordinary.extend(others.iter().map(|topic| (topic.name.as_str(), topic.partitions)));
    kafka::create_replicated_topics(direct, &ordinary, replicas, &[])?;
    let narrow: Vec<_> = narrow.iter().map(|topic| (topic.name.as_str(), topic.partitions)).collect();
    kafka::create_replicated_topics(direct, &narrow, replicas, &[("max.message.bytes", NARROW_BYTES)])
}

fn config(plan: &Plan, bootstrap: &str) -> String {
    let topic = |outlet: Outlet| format!("{}.{}", plan.name, outlet.name());
    format!(
        "application: {name}\n\
         workers: {workers}\n\
         admin: off\n\
         drain_limit: {drain}s\n\
         kafka:\n  bootstrap_servers: {bootstrap}\n  session_timeout: 15s\n  transaction_timeout: 10s\n\
         delivery: {delivery}\n\
         transforms:\n  tester:\n    module: {module}\n    input: {{ topics: [{input}] }}\n    \
         output: {{ topic: {left}, also: [{right}, {narrow}] }}\n    limits: {{ deadline: 50ms }}\n    \
         parallelism: 2\n    on_error: {{ then: dead_letter, topic: {dead} }}\n\
         {VERSION_MARK}    settings: {{ effort: {EFFORT} }}\n",
        name = plan.name,
        workers = plan.workers,
        drain = super::fleet::DRAIN_LIMIT_S,
        delivery = plan.delivery,
        module = guest::test_module("tester").display(),
        input = input_topic(plan),
        left = topic(Outlet::Left),
        right = topic(Outlet::Right),
        narrow = topic(Outlet::Narrow),
        dead = topic(Outlet::Dead),
    )
}
