//! From a configured transform to one that is ready to run: its module is loaded, linked, configured and checked with
//! recent records, and takes its place beside the running generation: at once, or on trial. What already runs unchanged
//! is taken over.

use super::generations::Generations;
use super::prepare::{Problems, chain, instances};
use super::rollout;
use super::topics::Topics;
use crate::config::{Clock, Code, Config, Randomness, Require, Then, Transform};
use crate::dataplane::plan::{InputTopic, OnError, Plan, TransformPlan};
use crate::dataplane::samples::{Sample, Samples};
use crate::dataplane::tap::Tap;
use crate::dataplane::trial::Trial;
use pelton_sandbox::{
    Demand, Digest, Engine, Generation, Header, Instance, Limits, LoadError, Module, PublicKey, Record, RunError,
    Settled, Signed, Spec,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
                    let help = match error {
                        LoadError::TooComplex { .. } => {
                            "raise `sandbox.compile_memory` or `sandbox.compile_time`; where the container's memory limit is less than twice `compile_memory`, half of it is all that a compiler gets: raise that"
                        }
                        LoadError::CompilerProcess(_) => {
                            "nothing is wrong with the module: look at what keeps this process from starting another, such as the limit on processes (`pids.max`), and start again"
                        }
                        _ => "build the module for wasm32-wasip2 with the SDK, and check path, `sha256` and signature",
                    };
                    problems.add(Code::Module, &at("module"), chain(&error), help);
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
        match versions(name.as_str(), transform, &module, spec, making) {
            Ok(versions) => plans.push(transform_plan(name.as_str(), transform, versions, topics)),
            Err(Unfit { key, message, help }) => problems.add(Code::Unfit, &at(key), message, help),
        }
    }
    plans
}

/// Who serves, who is tried, and who served before.
struct Versions {
    serving: Generation,
    trial: Option<Arc<Trial>>,
    previous: Option<Generation>,
    held_back: bool,
    samples: Arc<Samples>,
    tap: Arc<Tap>,
}

struct Unfit {
    key: &'static str,
    message: String,
    help: &'static str,
}

/// Finds or makes the generation that the configuration wants of this transform, and its place beside the old one.
fn versions(
    name: &str,
    transform: &Transform,
    module: &Module,
    spec: Spec,
    making: &Making<'_>,
) -> Result<Versions, Unfit> {
    let wanted = |generation: &Generation| generation.digest() == module.digest() && *generation.spec() == spec;
    let Some(running) = making.old.and_then(|old| old.transforms.iter().find(|t| *t.name == *name)) else {
        let serving = make(name, module, spec, making, None)?;
        let (samples, tap) = (Arc::default(), Arc::default());
        return Ok(Versions { serving, trial: None, previous: None, held_back: false, samples, tap });
    };
    let (samples, tap) = (Arc::clone(&running.samples), Arc::clone(&running.tap));
    let (serving, previous) = (running.generation.clone(), running.previous.clone());
    if wanted(&serving) {
        return Ok(Versions { serving, trial: None, previous, held_back: false, samples, tap });
    }
    if making.rejected.get(name).is_some_and(|(digest, of)| *digest == module.digest() && *of == spec) {
        tracing::warn!(
            transform = name,
            digest = %module.digest(),
            code = "reload.held_back",
            advice = "change the module or its settings, or `pelton reload --retry`",
            "this version was rolled back: the one that runs goes on"
        );
        return Ok(Versions { serving, trial: running.trial.clone(), previous, held_back: true, samples, tap });
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
        return Ok(Versions { serving, trial: Some(Arc::clone(tried)), previous, held_back: false, samples, tap });
    }
    let next = match tried.map(|trial| &trial.generation).or(previous.as_ref().filter(|g| wanted(g))) {
        Some(known) => known.clone(),
        None => make(name, module, spec.clone(), making, Some(&samples))?,
    };
    match kind {
        Some(kind) => Ok(Versions {
            serving,
            trial: Some(Arc::new(Trial::new(next, kind))),
            previous: previous.filter(|g| !wanted(g)),
            held_back: false,
            samples,
            tap,
        }),
        None => Ok(Versions { serving: next, trial: None, previous: Some(serving), held_back: false, samples, tap }),
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
        secrets: transform.secret_settings().map(str::to_owned).collect(),
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

fn transform_plan(name: &str, transform: &Transform, versions: Versions, topics: &Topics) -> TransformPlan {
    let own =
        |input: &InputTopic| transform.input.topics.iter().position(|t| t.as_str() == &*input.name).map(|i| i as u32);
    let Versions { serving, trial, previous, held_back, samples, tap } = versions;
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
        parallelism: transform.parallelism as usize,
        generation: serving,
        trial,
        previous,
        held_back,
        samples,
        tap,
    }
}
