//! From configuration to plan: transforms are prepared ([`super::transforms`]), topics are looked up
//! ([`super::topics`]), and librdkafka checks the properties. Everything that is wrong is found in one go, before the
//! first record.

use super::generations::{Generations, Stage};
use super::topics::Topics;
use super::transforms::{Making, Rejected, transforms};
use crate::admin::Places;
use crate::cgroup;
use crate::config::{
    Admin, Code, Config, ConfigError, ConfigErrors, Guarantee, Latency, Listen, Loaded, OverBudget, Sandbox, Secret,
    Transform,
};
use crate::dataplane::breaker::{self, Allowance, Breaker, Budget};
use crate::dataplane::desired::Desired;
use crate::dataplane::kafka::{Identity, Membership};
use crate::dataplane::plan::{DeliveryPlan, Plan, TransformPlan};
use pelton_kafka::Properties;
use pelton_sandbox::{Ceiling, CompilerProcess, Engine, EngineConfig, harmless};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

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

    pub(super) fn add(&mut self, code: Code, path: &str, message: impl Into<String>, help: &str) {
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
    pub desired: Arc<Desired>,
    pub generations: Arc<Generations>,
    // Also keeps the pool that the instances live in.
    pub(super) engine: Engine,
}

/// What `pelton validate` says of the world around a configuration.
pub fn check_environment(loaded: &Loaded) -> Vec<ConfigError> {
    check(loaded, Topicality::LookedUp).err().unwrap_or_default()
}

/// A configuration and the world fit: what was found on the way.
#[derive(Debug)]
pub struct Fits {
    /// Each transform and the digest of its module.
    pub modules: Vec<(Arc<str>, Arc<str>)>,
    /// Each topic and how many partitions it has; empty where nobody was asked.
    pub topics: Vec<(Arc<str>, i32)>,
}

/// Whether the brokers are asked for the topics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topicality {
    LookedUp,
    Assumed,
}

/// Everything that a start would look at, without starting.
///
/// # Errors
/// As [`prepare`].
pub fn check(loaded: &Loaded, topics: Topicality) -> Result<Fits, Vec<ConfigError>> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(|error| {
            vec![loaded.error(Code::Sandbox, "", error.to_string()).help("raise the limits of this process")]
        })?;
    let Prepared { plan, .. } = prepare_with(loaded, runtime.handle(), topics)?;
    let inputs = plan.inputs.iter().map(|topic| (Arc::clone(&topic.name), topic.partitions));
    let outputs = plan.outputs.iter().map(|topic| (Arc::clone(&topic.name), topic.partitions));
    let mut found: Vec<_> = if topics == Topicality::LookedUp { inputs.chain(outputs).collect() } else { Vec::new() };
    found.sort();
    found.dedup();
    let module = |of: &TransformPlan| (Arc::clone(&of.name), Arc::clone(&of.digest));
    Ok(Fits { modules: plan.transforms.iter().map(module).collect(), topics: found })
}

/// # Errors
/// Everything that stands in the way, in the order of the configuration.
pub fn prepare(loaded: &Loaded, runtime: &tokio::runtime::Handle) -> Result<Prepared, Vec<ConfigError>> {
    prepare_with(loaded, runtime, Topicality::LookedUp)
}

fn prepare_with(
    loaded: &Loaded,
    runtime: &tokio::runtime::Handle,
    topicality: Topicality,
) -> Result<Prepared, Vec<ConfigError>> {
    let config = &loaded.config;
    let mut problems = Problems::new(loaded);
    let properties = client_properties(config, &mut problems);
    let mut topics = Topics::of(config, None);
    if let Some((_, producer)) = &properties
        && topicality == Topicality::LookedUp
    {
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
        desired: Arc::new(Desired::new(Arc::clone(&plan))),
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
        compiler: Some(compiler(&config.sandbox)),
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

/// How many instances the transforms may have at a time: two for each worker and piece of its batch, while a new generation
/// is tried beside the old one, and one more that is checked before.
pub(super) fn instances(config: &Config) -> usize {
    let each = 2 * workers(config);
    config.transforms.values().map(|transform| each * transform.parallelism as usize + 1).sum()
}

/// Modules are compiled by this very program, started again with a word that only it knows.
pub fn compiler(sandbox: &Sandbox) -> CompilerProcess {
    CompilerProcess {
        // also when its file was replaced meanwhile
        program: "/proc/self/exe".into(),
        arguments: vec![COMPILE_MODULE.into()],
        memory: compile_memory(sandbox, cgroup::memory_limit()),
        time: sandbox.compile_time.duration(),
    }
}

/// What compiling a module may take, where the process itself may use `limit`. A container's kernel ends all of its processes
/// when one of them takes too much: a module that would do that is to be refused before, by the compiler's own limit.
pub fn compile_memory(sandbox: &Sandbox, limit: Option<u64>) -> u64 {
    limit.map_or(u64::MAX, |limit| limit / 2).min(sandbox.compile_memory.get())
}

/// The hidden command that compiles a module from stdin to stdout.
pub const COMPILE_MODULE: &str = "compile-module";

/// Worker threads, before they are bounded by the partitions there are.
pub fn workers(config: &Config) -> usize {
    config.workers.count()
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

/// `latency: low`: a transaction gathers so long, and its lane rests as long before the next. A coordinator that still
/// writes one transaction's markers refuses the next, and librdkafka asks again only after 20 ms; and what gathers
/// meanwhile shares a commit, which is what a broker pays for.
const LOW: Duration = Duration::from_millis(4);

fn delivery(config: &Config) -> DeliveryPlan {
    let delivery = &config.delivery;
    let exactly_once = delivery.guarantee == Guarantee::ExactlyOnce;
    let commit_interval = delivery.commit_interval.duration();
    let (interval, idle, rest) = match delivery.latency {
        Latency::Throughput => (commit_interval, None, Duration::ZERO),
        // A quiet moment ends a transaction early; back to back that would double the broker's work.
        Latency::Balanced => (commit_interval, Some(Duration::from_millis(20)), Duration::ZERO),
        Latency::Low if exactly_once => (commit_interval.min(LOW), None, LOW),
        Latency::Low => (commit_interval.min(LOW), None, Duration::ZERO),
    };
    DeliveryPlan {
        exactly_once,
        commit_interval: interval,
        idle,
        rest,
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
    let Admin::On(Listen { listen, token, socket, tap: _ }) = &config.admin else { return None };
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

/// An error with its causes, in one line, whatever a module or its guest says in them.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    harmless(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_gets_at_most_half_of_the_control_group_s_memory() {
        let sandbox = Sandbox::default();
        let most = sandbox.compile_memory.get();
        assert_eq!(compile_memory(&sandbox, None), most);
        assert_eq!(compile_memory(&sandbox, Some(4 * most)), most);
        assert_eq!(compile_memory(&sandbox, Some(most)), most / 2);
    }

    #[test]
    fn an_error_and_its_causes_are_one_line() {
        let error = pelton_sandbox::PrepareError::Link("no\n2026-01-01T00:00:00Z ERROR pelton".into());
        let expected = "the module does not fit pelton:transform@0.1.0: no\\n2026-01-01T00:00:00Z ERROR pelton";
        assert_eq!(chain(&error), expected);
    }
}
