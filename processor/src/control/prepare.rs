//! From configuration to plan: modules are loaded, compiled, linked and configured, topics are looked up, librdkafka is
//! asked what it thinks of the properties. Everything that is wrong is found in one go, before the first record.

use crate::config::{
    Clock, Code, Config, ConfigError, ConfigErrors, Guarantee, Latency, Loaded, Millis, OverBudget, Randomness,
    Require, Sandbox, Start, Then, Transform,
};
use crate::dataplane::breaker::{self, Allowance, Breakers, Budget};
use crate::dataplane::kafka::{Identity, Membership};
use crate::dataplane::plan::{DeliveryPlan, OnError, OutputTopic, Plan, TransformPlan};
use crate::dataplane::wanted::Wanted;
use pelton_kafka::{ClientError, Cluster, Properties, TopicInfo};
use pelton_sandbox::{
    Ceiling, Demand, Digest, Engine, EngineConfig, Generation, Limits, LoadError, Module, PublicKey, Signed, Spec,
    Workshop,
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
    pub breakers: Arc<Breakers>,
    /// Whether the lag of each partition is told.
    pub partition_metrics: bool,
    /// Partitions of all input topics together: more workers than these would stand idle.
    pub partitions: usize,
    pub wanted: Arc<Wanted>,
    /// For a reload.
    pub(super) topics: Topics,
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
    let topics = Topics::of(config);
    let partitions = match &properties {
        Some((_, producer)) => look_up(&topics, producer, &mut problems),
        None => BTreeMap::new(),
    };
    let engine = engine(config, runtime, &mut problems);
    let transforms = match &engine {
        Some(engine) => transforms(config, engine, &topics, None, 1, &mut problems),
        None => Vec::new(),
    };
    let identity = identity(config, &mut problems);
    let (Some((consumer, producer)), Some(engine), Some(identity), true) =
        (properties, engine, identity, problems.found.is_empty())
    else {
        return Err(problems.found);
    };
    let count = |topic: &Arc<str>| partitions.get(topic).copied().unwrap_or(0);
    let plan = Plan {
        application: Arc::from(config.application.as_str()),
        inputs: topics.inputs.iter().map(|(name, start)| (Arc::clone(name), *start)).collect(),
        outputs: topics
            .outputs
            .iter()
            .map(|name| OutputTopic { name: Arc::clone(name), partitions: count(name) })
            .collect(),
        transforms,
        delivery: delivery(config),
        guest_text: config.observe.guest_text,
    };
    let plan = Arc::new(plan);
    Ok(Prepared {
        partitions: topics.inputs.iter().map(|(name, _)| count(name) as usize).sum(),
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
        breakers: Arc::new(Breakers::new(
            config.transforms.iter().map(|(name, of)| allowance(name.as_str(), of)).collect(),
        )),
        partition_metrics: config.observe.partition_metrics,
        consumer,
        producer,
        topics,
        engine,
    })
}

/// The properties of consumers and producers alone, for tools that start no worker.
///
/// # Errors
/// Secrets that are not there, values that librdkafka does not take.
pub fn clients(loaded: &Loaded) -> Result<(Properties, Properties), Vec<ConfigError>> {
    let mut problems = Problems { loaded, found: Vec::new() };
    client_properties(&loaded.config, &mut problems).ok_or(problems.found)
}

/// All topics of the application, each once, with the place that first names it.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    inputs: Vec<(Arc<str>, pelton_kafka::Start)>,
    outputs: Vec<Arc<str>>,
    named_at: BTreeMap<Arc<str>, String>,
}

impl Topics {
    fn of(config: &Config) -> Self {
        let mut topics = Topics { inputs: Vec::new(), outputs: Vec::new(), named_at: BTreeMap::new() };
        for (name, transform) in &config.transforms {
            let start = match transform.input.start {
                Start::Earliest => pelton_kafka::Start::Earliest,
                Start::Latest => pelton_kafka::Start::Latest,
            };
            for topic in &transform.input.topics {
                let topic = topics.name(topic.as_str(), format!("transforms.{name}.input.topics"));
                if !topics.inputs.iter().any(|(known, _)| *known == topic) {
                    topics.inputs.push((topic, start));
                }
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

    fn name(&mut self, topic: &str, at: String) -> Arc<str> {
        let topic: Arc<str> = Arc::from(topic);
        self.named_at.entry(Arc::clone(&topic)).or_insert(at);
        topic
    }

    fn output(&mut self, topic: &str, at: String) {
        let topic = self.name(topic, at);
        if !self.outputs.contains(&topic) {
            self.outputs.push(topic);
        }
    }

    /// The index of an output topic, which `of` has seen.
    fn output_index(&self, topic: &str) -> u32 {
        self.outputs.iter().position(|known| &**known == topic).unwrap_or(0) as u32
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

/// Partitions of each topic that is as it must be.
fn look_up(topics: &Topics, properties: &Properties, problems: &mut Problems<'_>) -> BTreeMap<Arc<str>, i32> {
    let mut found = BTreeMap::new();
    let cluster = match Cluster::new(&properties.clone().with("allow.auto.create.topics", "false")) {
        Ok(cluster) => cluster,
        Err(error) => {
            problems.add(Code::Property, "kafka", error.to_string(), "correct the librdkafka properties");
            return found;
        }
    };
    for (topic, at) in &topics.named_at {
        match cluster.topic(topic, PATIENCE) {
            Ok(TopicInfo::Partitions(count)) => {
                found.insert(Arc::clone(topic), count);
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
                return found;
            }
        }
    }
    found
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
    // One instance per transform and worker, and one more while a generation is tried.
    let instances = (config.transforms.len() * (workers(config) + 1)) as u32;
    let ceiling = Ceiling { memory: config.sandbox.ceiling.memory.get(), instances: instances.max(16) };
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

/// The transforms, ready to run. What `old` has of them just so is taken over; the others get generations of this number.
pub(super) fn transforms(
    config: &Config,
    engine: &Engine,
    topics: &Topics,
    old: Option<&Plan>,
    number: u64,
    problems: &mut Problems<'_>,
) -> Vec<TransformPlan> {
    let Some(keys) = keys(config, problems) else { return Vec::new() };
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
            _ => match load(engine, &transform.module, demand, old) {
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
        let running = old.and_then(|old| old.transforms.iter().find(|t| *t.name == *name.as_str()));
        if let Some(running) =
            running.filter(|t| t.generation.digest() == module.digest() && *t.generation.spec() == spec)
        {
            plans.push(plan(name.as_str(), transform, running.generation.clone(), topics));
            continue;
        }
        match Generation::prepare(&module, spec, number) {
            Ok(generation) => plans.push(plan(name.as_str(), transform, generation, topics)),
            Err(error) => problems.add(Code::Unfit, &at("module"),
                chain(&error),
                "the module must fit the transform that it is configured for; `grants` and `limits` say what it may use",
            ),
        }
    }
    plans
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

fn plan(name: &str, transform: &Transform, generation: Generation, topics: &Topics) -> TransformPlan {
    let own = |topic: &Arc<str>| transform.input.topics.iter().position(|t| t.as_str() == &**topic).map(|i| i as u32);
    TransformPlan {
        name: Arc::from(name),
        digest: Arc::from(generation.digest().to_string()),
        inputs: topics.inputs.iter().map(|(topic, _)| own(topic)).collect(),
        outputs: transform.output.topics().map(|topic| topics.output_index(topic.as_str())).collect(),
        on_error: match (transform.on_error.then, transform.dead_letters()) {
            (Then::DeadLetter, Some(topic)) => OnError::DeadLetter(topics.output_index(topic.as_str())),
            (Then::Skip, _) => OnError::Skip,
            // A dead letter without a topic is refused by the configuration's own checks.
            (Then::Stop | Then::DeadLetter, _) => OnError::Stop,
        },
        generation,
    }
}

fn allowance(name: &str, transform: &Transform) -> Allowance {
    Allowance {
        name: Arc::from(name),
        topics: transform.input.topics.iter().map(|topic| Arc::from(topic.as_str())).collect(),
        budget: transform.on_error.budget.as_ref().map(|budget| Budget {
            failures: budget.failures as usize,
            within: budget.within.duration(),
            then: match budget.then {
                OverBudget::Pause => breaker::Then::Pause,
                OverBudget::Stop => breaker::Then::Stop,
            },
        }),
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
