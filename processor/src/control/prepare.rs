//! From configuration to plan: modules are loaded, compiled, linked and configured, topics are looked up, librdkafka is
//! asked what it thinks of the properties. Everything that is wrong is found in one go, before the first record.

use super::generations::{Generations, Stage};
use super::rollout;
use crate::admin::Places;
use crate::config::{
    Admin, Clock, Code, Config, ConfigError, ConfigErrors, Guarantee, Latency, Listen, Loaded, Millis, OverBudget,
    Randomness, Require, Sandbox, Secret, Start, Then, Transform,
};
use crate::dataplane::breaker::{self, Allowance, Breaker, Budget};
use crate::dataplane::kafka::{Identity, Membership};
use crate::dataplane::plan::{DeliveryPlan, InputTopic, OnError, OutputTopic, Plan, TransformPlan};
use crate::dataplane::samples::{Sample, Samples};
use crate::dataplane::trial::Trial;
use crate::dataplane::wanted::Wanted;
use pelton_kafka::{ClientError, Cluster, Properties, TopicInfo};
use pelton_sandbox::{
    Ceiling, Demand, Digest, Engine, EngineConfig, Generation, Header, Instance, Limits, LoadError, Module, PublicKey,
    Record, RunError, Settled, Signed, Spec, Workshop,
};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long a broker may take to answer at start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Problems are collected, not returned one by one.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    loaded: &'a Loaded,
    found: Vec<ConfigError>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(loaded: &'a Loaded) -> Self {
        Problems { loaded, found: Vec::new() }
    }

    /// `None`: there are none.
    pub(super) fn into_errors(self) -> Option<ConfigErrors> {
        (!self.found.is_empty()).then_some(ConfigErrors(self.found))
    }

    fn add(&mut self, code: Code, path: &str, message: impl Into<String>, help: &str) {
        self.found.push(self.loaded.error(code, path, message).help(help));
    }
}

/// A plan, and what the workers need besides.
#[derive(Debug)]
pub struct Prepared {
    pub plan: Arc<Plan>,
    pub identity: Identity,
    pub latency: Latency,
    pub membership: Membership,
    pub consumer: Properties,
    pub producer: Properties,
    /// Whether the lag of each partition is told.
    pub partition_metrics: bool,
    /// Partitions of all input topics together: more workers than these would stand idle.
    pub partitions: usize,
    pub wanted: Arc<Wanted>,
    pub generations: Arc<Generations>,
    // Also keeps the pool that the instances live in.
    pub(super) engine: Engine,
}

/// What `pelton validate` says of the world around a configuration.
pub fn check_environment(loaded: &Loaded) -> Vec<ConfigError> {
    match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
        Ok(runtime) => prepare(loaded, runtime.handle()).err().unwrap_or_default(),
        Err(error) => vec![loaded.error(Code::Sandbox, "", error.to_string()).help("raise the limits of this process")],
    }
}

/// # Errors
/// Everything that stands in the way, in the order of the configuration.
pub fn prepare(loaded: &Loaded, runtime: &tokio::runtime::Handle) -> Result<Prepared, Vec<ConfigError>> {
    let config = &loaded.config;
    let mut problems = Problems::new(loaded);
    let properties = client_properties(config, &mut problems);
    let mut topics = Topics::of(config, None);
    if let Some((_, producer)) = &properties {
        topics.look_up(producer, &mut problems);
    }
    let engine = engine(config, runtime, &mut problems);
    let generations = Generations::default();
    let transforms = match &engine {
        Some(engine) => {
            let (generations, rejected) = (&generations, &Rejected::new());
            let making = Making { old: None, number: 1, cause: "start", generations, rejected };
            transforms(config, engine, &topics, &making, &mut problems)
        }
        None => Vec::new(),
    };
    let identity = identity(config, &mut problems);
    let _ = admin_of(config, &mut problems);
    let (Some((consumer, producer)), Some(engine), Some(identity), true) =
        (properties, engine, identity, problems.found.is_empty())
    else {
        return Err(problems.found);
    };
    let plan = Arc::new(plan(config, topics, transforms, None));
    generations.settle(&plan, "start", Stage::Leaving);
    Ok(Prepared {
        partitions: plan.inputs.iter().map(|topic| topic.partitions as usize).sum(),
        wanted: Arc::new(Wanted::new(Arc::clone(&plan))),
        plan,
        identity,
        latency: config.delivery.latency,
        membership: Membership {
            session_timeout: config.kafka.session_timeout.duration(),
            protocol: config.kafka.group_protocol,
            assignment: config.kafka.assignment,
            static_membership: config.kafka.static_membership,
        },
        partition_metrics: config.observe.partition_metrics,
        consumer,
        producer,
        engine,
        generations: Arc::new(generations),
    })
}

/// The plan of a configuration whose transforms are ready; `old` is the one that it replaces.
pub(super) fn plan(config: &Config, topics: Topics, transforms: Vec<TransformPlan>, old: Option<&Plan>) -> Plan {
    let allowances = config.transforms.iter().zip(&transforms).map(|((name, of), new)| {
        let known = old.and_then(|old| old.transforms.iter().zip(&old.allowances).find(|(t, _)| t.name == new.name));
        let breaker = known.filter(|(old, _)| old.generation.is_same(&new.generation)).map(|(_, kept)| &kept.breaker);
        let by_hand = known.map(|(_, kept)| Arc::clone(&kept.by_hand)).unwrap_or_default();
        Allowance { by_hand, ..allowance(name.as_str(), of, breaker) }
    });
    Plan {
        application: Arc::from(config.application.as_str()),
        allowances: allowances.collect(),
        inputs: topics.inputs,
        outputs: topics.outputs,
        transforms,
        delivery: delivery(config),
        guest_text: config.observe.guest_text,
    }
}

/// The properties of consumers and producers alone, for tools that start no worker.
///
/// # Errors
/// Secrets that are not there, values that librdkafka does not take.
pub fn clients(loaded: &Loaded) -> Result<(Properties, Properties), Vec<ConfigError>> {
    let mut problems = Problems { loaded, found: Vec::new() };
    client_properties(&loaded.config, &mut problems).ok_or(problems.found)
}

/// All topics of the application, each once, after those of the plan before.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    inputs: Vec<InputTopic>,
    outputs: Vec<OutputTopic>,
    /// Those that are still to be looked up, with the place that first names each.
    unknown: BTreeMap<Arc<str>, String>,
}

impl Topics {
    pub(super) fn of(config: &Config, old: Option<&Plan>) -> Self {
        let inputs = old.map(|old| old.inputs.iter().map(|input| InputTopic { read: false, ..input.clone() }));
        let mut topics = Topics {
            inputs: inputs.into_iter().flatten().collect(),
            outputs: old.map(|old| old.outputs.clone()).unwrap_or_default(),
            unknown: BTreeMap::new(),
        };
        for (name, transform) in &config.transforms {
            let start = match transform.input.start {
                Start::Earliest => pelton_kafka::Start::Earliest,
                Start::Latest => pelton_kafka::Start::Latest,
            };
            for topic in &transform.input.topics {
                topics.input(topic.as_str(), start, format!("transforms.{name}.input.topics"));
            }
            for topic in transform.output.topics() {
                topics.output(topic.as_str(), format!("transforms.{name}.output"));
            }
            if let Some(topic) = transform.dead_letters() {
                topics.output(topic.as_str(), format!("transforms.{name}.on_error.topic"));
            }
        }
        topics
    }

    fn input(&mut self, topic: &str, start: pelton_kafka::Start, at: String) {
        match self.inputs.iter_mut().find(|known| &*known.name == topic) {
            Some(known) => (known.start, known.read) = (start, true),
            None => {
                let name = self.name(topic, at);
                self.inputs.push(InputTopic { name, start, partitions: 0, read: true });
            }
        }
    }

    fn output(&mut self, topic: &str, at: String) {
        if !self.outputs.iter().any(|known| &*known.name == topic) {
            let name = self.name(topic, at);
            self.outputs.push(OutputTopic { name, partitions: 0 });
        }
    }

    fn name(&mut self, topic: &str, at: String) -> Arc<str> {
        let topic: Arc<str> = Arc::from(topic);
        self.unknown.entry(Arc::clone(&topic)).or_insert(at);
        topic
    }

    /// The index of an output topic, which `of` has seen.
    fn output_index(&self, topic: &str) -> u32 {
        self.outputs.iter().position(|known| &*known.name == topic).unwrap_or(0) as u32
    }

    /// Asks the cluster for those that are not known. Blocks, until a broker answers or for [`PATIENCE`].
    pub(super) fn look_up(&mut self, properties: &Properties, problems: &mut Problems<'_>) {
        if self.unknown.is_empty() {
            return;
        }
        let cluster = match Cluster::new(&properties.clone().with("allow.auto.create.topics", "false")) {
            Ok(cluster) => cluster,
            Err(error) => {
                problems.add(Code::Property, "kafka", error.to_string(), "correct the librdkafka properties");
                return;
            }
        };
        for (topic, at) in &self.unknown {
            match cluster.topic(topic, PATIENCE) {
                Ok(TopicInfo::Partitions(count)) => {
                    let inputs = self.inputs.iter_mut().filter(|input| input.name == *topic);
                    inputs.for_each(|input| input.partitions = count);
                    let outputs = self.outputs.iter_mut().filter(|output| output.name == *topic);
                    outputs.for_each(|output| output.partitions = count);
                }
                Ok(TopicInfo::Missing) => problems.add(
                    Code::Topic,
                    at,
                    format!("the topic `{topic}` does not exist"),
                    "create it (Pelton never creates topics), or correct the name",
                ),
                Ok(TopicInfo::Refused(error)) => problems.add(
                    Code::Topic,
                    at,
                    format!("the broker says of topic `{topic}`: {error}"),
                    "give this principal Describe on it, and Read or Write as it is used",
                ),
                // No broker answers: the same would be said of every topic.
                Err(error) => {
                    unreachable(&error, problems);
                    return;
                }
            }
        }
    }
}

fn client_properties(config: &Config, problems: &mut Problems<'_>) -> Option<(Properties, Properties)> {
    let mut clients = Vec::new();
    for (section, revealed) in [
        ("kafka.consumer.properties", config.kafka.consumer_properties()),
        ("kafka.producer.properties", config.kafka.producer_properties()),
    ] {
        let revealed = match revealed {
            Ok(revealed) => revealed,
            Err(error) => {
                problems.add(Code::Environment, section, error.to_string(), "provide the value where it is said to be");
                continue;
            }
        };
        let mut properties = Properties::new();
        properties.set("bootstrap.servers", config.kafka.bootstrap_servers.as_str());
        revealed.iter().for_each(|(name, value)| properties.set(name, value.as_str()));
        match properties.check() {
            Ok(()) => clients.push(properties),
            Err(error) => problems.add(Code::Property, section, error.to_string(), "see librdkafka's CONFIGURATION.md"),
        }
    }
    match <[Properties; 2]>::try_from(clients) {
        Ok([consumer, producer]) => Some((consumer, producer)),
        Err(_) => None,
    }
}

fn unreachable(error: &ClientError, problems: &mut Problems<'_>) {
    problems.add(
        Code::Unreachable,
        "kafka.bootstrap_servers",
        format!("no broker answered within {}s: {error}", PATIENCE.as_secs()),
        "check the address, the network and, in `kafka.properties`, security.protocol and credentials",
    );
}

fn engine(config: &Config, runtime: &tokio::runtime::Handle, problems: &mut Problems<'_>) -> Option<Engine> {
    // Half as many again, for transforms to come.
    let instances = (instances(config) * 3 / 2).max(64);
    let ceiling = Ceiling {
        memory: config.sandbox.ceiling.memory.get(),
        instances: u32::try_from(instances).unwrap_or(u32::MAX),
    };
    let cache_dir = config.cache_dir.resolve();
    match Engine::new(EngineConfig {
        cache_dir,
        cache_bytes: config.sandbox.cache_size.get(),
        ceiling,
        workshop: Some(workshop(&config.sandbox)),
        runtime: runtime.clone(),
    }) {
        Ok(engine) => Some(engine),
        Err(error) => {
            problems.add(
                Code::Sandbox,
                "transforms",
                chain(&error),
                "use fewer transforms or workers, or raise the address-space limit (ulimit -v)",
            );
            None
        }
    }
}

/// How many instances the transforms may have at a time: two for each worker, while a new generation is tried beside the
/// old one, and one more that is checked before.
fn instances(config: &Config) -> usize {
    config.transforms.len() * (2 * workers(config) + 1)
}

/// Modules are compiled by this very program, started again with a word that only it knows.
pub fn workshop(sandbox: &Sandbox) -> Workshop {
    Workshop {
        // also when its file was replaced meanwhile
        program: "/proc/self/exe".into(),
        arguments: vec![COMPILE_MODULE.into()],
        memory: sandbox.compile_memory.get(),
        time: sandbox.compile_time.duration(),
    }
}

/// The hidden command that compiles a module from stdin to stdout.
pub const COMPILE_MODULE: &str = "compile-module";

/// Worker threads, before they are bounded by the partitions there are.
pub fn workers(config: &Config) -> usize {
    config.workers.count()
}

/// Generations that were rolled back, by transform: not taken up again until they change.
pub(super) type Rejected = BTreeMap<String, (Digest, Spec)>;

/// What the next plan's transforms are made beside.
#[derive(Clone, Copy)]
pub(super) struct Making<'a> {
    pub old: Option<&'a Plan>,
    /// Of generations that are new.
    pub number: u64,
    pub cause: &'a str,
    pub generations: &'a Generations,
    pub rejected: &'a Rejected,
}

/// The transforms, ready to run. What the old plan has of them just so is taken over; the others get new generations, on
/// trial beside the old ones where that is asked for.
pub(super) fn transforms(
    config: &Config,
    engine: &Engine,
    topics: &Topics,
    making: &Making<'_>,
    problems: &mut Problems<'_>,
) -> Vec<TransformPlan> {
    let Some(keys) = keys(config, problems) else { return Vec::new() };
    if instances(config) > engine.ceiling().instances as usize {
        let message = format!("the pool of this process is too small for {} transforms", config.transforms.len());
        problems.add(Code::Sandbox, "transforms", message, "restart the process: it makes a larger one at start");
        return Vec::new();
    }
    // Transforms that share a module share its compiled code.
    let mut modules: BTreeMap<PathBuf, Module> = BTreeMap::new();
    let mut plans = Vec::new();
    for (name, transform) in &config.transforms {
        let at = |key: &str| format!("transforms.{name}.{key}");
        let pin = transform.sha256.as_ref().map(|sha| Digest::from(*sha.bytes()));
        let signature = transform.signature_file();
        let signed = keys.as_deref().map(|by| Signed { by, file: &signature });
        let demand = Demand { digest: pin.as_ref(), signed };
        let known = |module: &Module| pin.as_ref().is_none_or(|pin| *pin == module.digest()) && signed.is_none();
        let module = match modules.get(&transform.module) {
            Some(module) if known(module) => module.clone(),
            _ => match load(engine, &transform.module, demand, making.old) {
                Ok(module) => modules.entry(transform.module.clone()).insert_entry(module).get().clone(),
                Err(error) => {
                    problems.add(
                        Code::Module,
                        &at("module"),
                        chain(&error),
                        "build the module for wasm32-wasip2 with the SDK, and check path, `sha256` and signature",
                    );
                    continue;
                }
            },
        };
        let spec = match spec(name.as_str(), transform, config.observe.guest_text) {
            Ok(spec) => spec,
            Err(error) => {
                problems.add(Code::Environment, &at("settings"), error, "provide the value where it is said to be");
                continue;
            }
        };
        match seats(name.as_str(), transform, &module, spec, making) {
            Ok(seats) => plans.push(transform_plan(name.as_str(), transform, seats, topics)),
            Err(Unfit { key, message, help }) => problems.add(Code::Unfit, &at(key), message, help),
        }
    }
    plans
}

/// Who serves, who is tried, and who served before.
struct Seats {
    serving: Generation,
    trial: Option<Arc<Trial>>,
    previous: Option<Generation>,
    samples: Arc<Samples>,
}

struct Unfit {
    key: &'static str,
    message: String,
    help: &'static str,
}

/// Finds or makes the generation that the configuration wants of this transform, and its place beside the old one.
fn seats(name: &str, transform: &Transform, module: &Module, spec: Spec, making: &Making<'_>) -> Result<Seats, Unfit> {
    let wanted = |generation: &Generation| generation.digest() == module.digest() && *generation.spec() == spec;
    let Some(running) = making.old.and_then(|old| old.transforms.iter().find(|t| *t.name == *name)) else {
        let serving = make(name, module, spec, making, None)?;
        return Ok(Seats { serving, trial: None, previous: None, samples: Arc::default() });
    };
    let samples = Arc::clone(&running.samples);
    let (serving, previous) = (running.generation.clone(), running.previous.clone());
    if wanted(&serving) {
        return Ok(Seats { serving, trial: None, previous, samples });
    }
    if making.rejected.get(name).is_some_and(|(digest, of)| *digest == module.digest() && *of == spec) {
        tracing::warn!(
            transform = name,
            digest = %module.digest(),
            code = "reload.held_back",
            advice = "change the module or its settings, or `pelton reload --retry`",
            "this version was rolled back: the one that runs goes on"
        );
        return Ok(Seats { serving, trial: running.trial.clone(), previous, samples });
    }
    let kind = rollout::kind(&transform.rollout).map(|(kind, _)| kind);
    let spec_of = serving.spec();
    if kind.is_some() && (spec_of.inputs != spec.inputs || spec_of.outputs != spec.outputs) {
        return Err(Unfit {
            key: "rollout",
            message: "input and output topics cannot change by a trial".into(),
            help: "change the topics in a reload of their own, or leave `rollout` out",
        });
    }
    let tried = running.trial.as_ref().filter(|trial| wanted(&trial.generation));
    if let (Some(tried), Some(kind)) = (tried, kind)
        && tried.kind == kind
    {
        return Ok(Seats { serving, trial: Some(Arc::clone(tried)), previous, samples });
    }
    let next = match tried.map(|trial| &trial.generation).or(previous.as_ref().filter(|g| wanted(g))) {
        Some(known) => known.clone(),
        None => make(name, module, spec.clone(), making, Some(&samples))?,
    };
    match kind {
        Some(kind) => Ok(Seats {
            serving,
            trial: Some(Arc::new(Trial::new(next, kind))),
            previous: previous.filter(|g| !wanted(g)),
            samples,
        }),
        None => Ok(Seats { serving: next, trial: None, previous: Some(serving), samples }),
    }
}

/// A new generation, checked with recent records where there are some.
fn make(
    name: &str,
    module: &Module,
    spec: Spec,
    making: &Making<'_>,
    samples: Option<&Samples>,
) -> Result<Generation, Unfit> {
    making.generations.begin(name, making.number, &module.digest().to_string(), making.cause);
    let generation = Generation::prepare(module, spec, making.number).map_err(|error| Unfit {
        key: "module",
        message: chain(&error),
        help: "the module must fit the transform that it is configured for; `grants` and `limits` say what it may use",
    })?;
    if let Some(samples) = samples {
        self_check(&generation, &samples.all()).map_err(|message| Unfit {
            key: "module",
            message,
            help: "the running version had no trouble with these records; nothing has changed",
        })?;
    }
    making.generations.prepared(name, &generation);
    Ok(generation)
}

/// A generation that fails on most of the recent records is not let near the stream. Rejecting them is its right.
fn self_check(generation: &Generation, samples: &[Sample]) -> Result<(), String> {
    let topic = |sample: &Sample| generation.spec().inputs.iter().position(|input| **input == *sample.topic);
    let samples: Vec<(u32, &Sample)> = samples.iter().filter_map(|s| Some((topic(s)? as u32, s))).collect();
    if samples.is_empty() {
        return Ok(());
    }
    let mut instance = Instance::new(generation).map_err(|fault| fault.code.as_str().to_owned())?;
    let (mut faults, mut last) = (0, "");
    for (topic, sample) in &samples {
        let of = &sample.message;
        let headers: Vec<_> = of.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let record = Record {
            topic: *topic,
            partition: of.partition,
            offset: of.offset,
            timestamp_ms: of.timestamp_ms.unwrap_or(-1),
            key: of.key.as_deref(),
            value: of.value.as_deref(),
            headers: &headers,
        };
        let ran = instance.run(&[record], &mut |_, settled| {
            if let Settled::Fault(fault) = settled {
                faults += 1;
                last = fault.code.as_str();
            }
            Ok::<(), ()>(())
        });
        if let Err(RunError::Renewal(fault)) = ran {
            return Err(format!("it cannot be instantiated again: {}", fault.code.as_str()));
        }
    }
    if faults * 2 > samples.len() {
        return Err(format!("it fails on {faults} of {} recent records, the last time with {last}", samples.len()));
    }
    Ok(())
}

/// A module that runs already is not compiled again.
fn load(engine: &Engine, path: &Path, demand: Demand<'_>, old: Option<&Plan>) -> Result<Module, LoadError> {
    let bytes = Engine::read(path)?;
    let digest = Digest::of(&bytes);
    let same = |t: &&TransformPlan| t.generation.digest() == digest && demand.digest.is_none_or(|pin| *pin == digest);
    match old.and_then(|old| old.transforms.iter().find(same)) {
        // Its signature was looked at when it was compiled.
        Some(running) => Ok(running.generation.module().clone()),
        None => engine.load_bytes(&bytes, demand),
    }
}

/// Whose signatures count, where modules must be signed. `None`: not all keys can be read.
fn keys(config: &Config, problems: &mut Problems<'_>) -> Option<Option<Vec<PublicKey>>> {
    if config.sandbox.require != Require::Signature {
        return Some(None);
    }
    let read: Result<Vec<PublicKey>, _> = config.sandbox.keys.iter().map(|path| PublicKey::read(path)).collect();
    match read {
        Ok(keys) => Some(Some(keys)),
        Err(error) => {
            let help = "name files as `pelton keygen` or `openssl pkey -pubout` write them";
            problems.add(Code::Module, "sandbox.keys", chain(&error), help);
            None
        }
    }
}

fn spec(name: &str, transform: &Transform, guest_text: bool) -> Result<Spec, String> {
    let settings = transform.revealed_settings().map_err(|error| error.to_string())?;
    let environment = transform
        .grants
        .environment
        .iter()
        .filter_map(|name| std::env::var(name.as_str()).ok().map(|value| (name.to_string(), value)))
        .collect();
    let directories =
        transform.grants.directories.iter().map(|(guest, host)| (guest.to_string(), host.clone())).collect();
    let limits = &transform.limits;
    Ok(Spec {
        transform: name.to_owned(),
        settings: settings.into_iter().collect(),
        inputs: transform.input.topics.iter().map(ToString::to_string).collect(),
        outputs: transform.output.topics().map(ToString::to_string).collect(),
        limits: Limits {
            deadline: limits.deadline.duration(),
            fuel: limits.fuel,
            memory: limits.memory.get(),
            outputs: limits.outputs,
            output_bytes: u32::try_from(limits.output_bytes.get()).unwrap_or(u32::MAX),
            log_bytes_per_second: u32::try_from(limits.log.get()).unwrap_or(u32::MAX),
            configure_deadline: limits.configure_deadline.duration(),
            ..Limits::default()
        },
        grants: pelton_sandbox::Grants {
            directories,
            environment,
            clock: match transform.grants.clock {
                Clock::Real => pelton_sandbox::Clock::Real,
                Clock::Record => pelton_sandbox::Clock::Record,
                Clock::None => pelton_sandbox::Clock::None,
            },
            random: match transform.grants.random {
                Randomness::Real => pelton_sandbox::Randomness::Real,
                Randomness::Seeded => pelton_sandbox::Randomness::Seeded,
                Randomness::None => pelton_sandbox::Randomness::None,
            },
        },
        observe_guest_text: guest_text,
    })
}

fn transform_plan(name: &str, transform: &Transform, seats: Seats, topics: &Topics) -> TransformPlan {
    let own =
        |input: &InputTopic| transform.input.topics.iter().position(|t| t.as_str() == &*input.name).map(|i| i as u32);
    let Seats { serving, trial, previous, samples } = seats;
    TransformPlan {
        name: Arc::from(name),
        digest: Arc::from(serving.digest().to_string()),
        inputs: topics.inputs.iter().map(own).collect(),
        outputs: transform.output.topics().map(|topic| topics.output_index(topic.as_str())).collect(),
        on_error: match (transform.on_error.then, transform.dead_letters()) {
            (Then::DeadLetter, Some(topic)) => OnError::DeadLetter(topics.output_index(topic.as_str())),
            (Then::Skip, _) => OnError::Skip,
            // A dead letter without a topic is refused by the configuration's own checks.
            (Then::Stop | Then::DeadLetter, _) => OnError::Stop,
        },
        generation: serving,
        trial,
        previous,
        samples,
    }
}

/// A breaker that is kept has the budget that it had, and what was used up of it.
fn allowance(name: &str, transform: &Transform, breaker: Option<&Arc<Breaker>>) -> Allowance {
    let budget = transform.on_error.budget.as_ref().map(|budget| Budget {
        failures: budget.failures as usize,
        within: budget.within.duration(),
        then: match budget.then {
            OverBudget::Pause => breaker::Then::Pause,
            OverBudget::Stop => breaker::Then::Stop,
        },
    });
    let kept = breaker.filter(|breaker| breaker.budget() == budget).cloned();
    Allowance {
        name: Arc::from(name),
        topics: transform.input.topics.iter().map(|topic| Arc::from(topic.as_str())).collect(),
        breaker: kept.unwrap_or_else(|| Arc::new(Breaker::new(budget))),
        by_hand: Arc::default(),
        share: transform.limits.share,
    }
}

fn delivery(config: &Config) -> DeliveryPlan {
    let delivery = &config.delivery;
    let (interval, idle) = match delivery.latency {
        Latency::Throughput => (delivery.commit_interval, None),
        // A quiet moment ends a transaction early; back to back that would double the broker's work.
        Latency::Balanced => (delivery.commit_interval, Some(Duration::from_millis(20))),
        Latency::Low => (delivery.commit_interval.min(Millis::from_millis(5)), None),
    };
    DeliveryPlan {
        exactly_once: delivery.guarantee == Guarantee::ExactlyOnce,
        commit_interval: interval.duration(),
        idle,
        max_records: delivery.max_transaction_records,
        max_bytes: delivery.max_transaction_bytes.get(),
        transaction_timeout: config.kafka.transaction_timeout.duration(),
        renew_in_doubt: config.delivery.renew_in_doubt,
        drain_limit: config.drain_limit.duration(),
    }
}

/// Where the admin server listens, if at all, and the token for orders. Before all the rest: it answers from the first.
///
/// # Errors
/// When the token cannot be had.
pub(super) fn admin(loaded: &Loaded) -> Result<Option<(Places, Option<String>)>, Vec<ConfigError>> {
    let mut problems = Problems::new(loaded);
    let admin = admin_of(&loaded.config, &mut problems);
    if problems.found.is_empty() { Ok(admin) } else { Err(problems.found) }
}

fn admin_of(config: &Config, problems: &mut Problems<'_>) -> Option<(Places, Option<String>)> {
    let Admin::On(Listen { listen, token, socket }) = &config.admin else { return None };
    let token = match token.as_ref().map(Secret::reveal).transpose() {
        Ok(Some(token)) if token.trim().is_empty() => {
            problems.add(Code::Environment, "admin.token", "the token is empty", "give it a value, or leave it out");
            None
        }
        Ok(token) => token,
        Err(error) => {
            let help = "provide the value where it is said to be";
            problems.add(Code::Environment, "admin.token", error.to_string(), help);
            None
        }
    };
    Some((Places { listen: *listen, socket: socket.clone() }, token))
}

fn identity(config: &Config, problems: &mut Problems<'_>) -> Option<Identity> {
    let instance = match config.instance.identity() {
        Ok(crate::config::Identity::Named(name)) => name.to_string(),
        Ok(crate::config::Identity::Random) => random_name(),
        Err(error) => {
            problems.add(
                Code::Environment,
                "instance",
                error,
                "set PELTON_INSTANCE, or `instance` to a name or to `random`",
            );
            return None;
        }
    };
    Some(Identity { application: Arc::from(config.application.as_str()), instance: Arc::from(instance) })
}

/// Sixteen hexadecimal digits that no other process has.
fn random_name() -> String {
    use std::hash::{BuildHasher, Hasher};
    format!("{:016x}", std::hash::RandomState::new().build_hasher().finish())
}

/// An error with its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
