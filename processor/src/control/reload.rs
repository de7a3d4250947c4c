//! Takes up a changed configuration or module while records flow, all or nothing. Reads, compiles and configures beside
//! the workers; if all is right, the result becomes the desired plan, which each worker takes up between two
//! transactions. What is wrong, or cannot change while the process runs, is reported, and everything stays as it was.
//!
//! Also ends trials: by their time, by their budget, by hand. And rolls back: the previous generation is kept, so this
//! compiles nothing.

use super::generations::{Generations, Stage};
use super::prepare::{Problems, plan};
use super::rollout::{self, Verdict};
use super::topics::Topics;
use super::transforms::{Making, Rejected, transforms};
use crate::config::{self, Config, ConfigErrors, Loaded, Paint, Sources, Stamps};
use crate::dataplane::breaker::{Allowance, Breaker};
use crate::dataplane::desired::Desired;
use crate::dataplane::plan::{Plan, TransformPlan};
use crate::telemetry::ReloadCounts;
use pelton_kafka::Properties;
use pelton_sandbox::{Engine, Generation};
use serde::Serialize;
use serde_json::Value;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What makes the next plan out of the present one.
#[derive(Debug)]
pub struct Reloader {
    sources: Sources,
    engine: Engine,
    /// Whom to ask for topics.
    cluster: Properties,
    desired: Arc<Desired>,
    generations: Arc<Generations>,
    /// Held for as long as a reload takes.
    state: Mutex<State>,
    /// How reloads ended so far.
    pub counts: Arc<ReloadCounts>,
    /// What the process goes by, without its secrets; for whoever asks.
    pub shown: Arc<Mutex<Value>>,
    /// What the last reload read; never held for long.
    read: Mutex<Stamps>,
}

#[derive(Debug)]
struct State {
    config: Config,
    rejected: Rejected,
}

/// What became of a reload, a rollback or a promotion.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// The workers take it up at their next transactions.
    Applied { took_ms: u64 },
    /// Everything is as wanted already.
    Unchanged,
    /// Something is wrong; nothing has changed.
    Refused { code: &'static str, message: String, advice: &'static str },
}

/// Why nothing changed.
#[derive(Debug)]
enum Refused {
    Config(ConfigErrors),
    /// These cannot change while the process runs.
    Fixed(Vec<&'static str>),
    /// What would have changed are these transforms, whose new versions were rolled back.
    HeldBack(Vec<String>),
}

impl Reloader {
    pub fn new(
        sources: Sources,
        (loaded, read): (&Loaded, Stamps),
        engine: Engine,
        cluster: Properties,
        desired: Arc<Desired>,
        generations: Arc<Generations>,
    ) -> Self {
        let read = Mutex::new(read);
        let shown = Arc::new(Mutex::new(loaded.to_json(false)));
        let state = Mutex::new(State { config: loaded.config.clone(), rejected: Rejected::new() });
        Reloader { sources, engine, cluster, desired, generations, state, read, shown, counts: Arc::default() }
    }

    /// The files whose change asks for a reload, as the last one read them: configurations, modules, signatures. Those of a
    /// configuration that was refused are among them, so that a module that it lacked is noticed when it comes.
    pub fn read(&self) -> Stamps {
        self.read.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The configuration as it is now. What its files are like is noted before they are judged, whatever comes of that.
    fn load(&self) -> Result<Loaded, Refused> {
        let known = self.read().anew();
        // Though it lacks what it refers to.
        let alone = config::load(&Sources { outside: false, ..self.sources.clone() });
        let read = alone.map_or(known, |alone| read_by(&alone));
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = read;
        config::load(&self.sources).map_err(Refused::Config)
    }

    /// Reads everything anew. Blocks: reading, compiling, configuring. `retry`: also what was rolled back.
    pub fn reload(&self, cause: &str, retry: bool) -> Outcome {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        if retry {
            state.rejected.clear();
        }
        let next = self.next(&mut state, cause);
        let took_ms = started.elapsed().as_millis() as u64;
        // What is held back is told by a metric of its own, and the rest of the configuration is in use.
        self.counts.note(matches!(next, Ok(_) | Err(Refused::HeldBack(_))));
        match next {
            Ok(None) => {
                tracing::info!(cause, "reload: nothing has changed");
                Outcome::Unchanged
            }
            Ok(Some(plan)) => {
                self.want(plan, cause, Stage::Leaving);
                self.counts.applied.fetch_add(1, Ordering::Relaxed);
                tracing::info!(cause, took_ms, "reloaded: workers take it up at their next transactions");
                Outcome::Applied { took_ms }
            }
            Err(refused) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
                self.generations.refuse(cause);
                refused.tell(cause)
            }
        }
    }

    /// The next plan, `None` where it would be the present one.
    fn next(&self, state: &mut State, cause: &str) -> Result<Option<Plan>, Refused> {
        let loaded = self.load()?;
        let fixed = fixed(&state.config, &loaded.config);
        if !fixed.is_empty() {
            return Err(Refused::Fixed(fixed));
        }
        let (_, old) = self.desired.get();
        let mut problems = Problems::new(&loaded);
        let mut topics = Topics::of(&loaded.config, Some(&old));
        topics.look_up(&self.cluster, &mut problems);
        let (number, rejected) = (self.generations.last() + 1, &state.rejected);
        let making = Making { old: Some(&old), number, cause, generations: &self.generations, rejected };
        let transforms = transforms(&loaded.config, &self.engine, &topics, &making, &mut problems);
        if let Some(errors) = problems.into_errors() {
            return Err(Refused::Config(errors));
        }
        let plan = plan(&loaded.config, topics, transforms, Some(&old));
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = loaded.to_json(false);
        state.config = loaded.config;
        if !is_same(&old, &plan) {
            return Ok(Some(plan));
        }
        let held = held_back(&plan);
        if held != held_back(&old) {
            // No matter to a worker, but to who watches.
            self.want(plan, cause, Stage::Leaving);
        }
        if held.is_empty() { Ok(None) } else { Err(Refused::HeldBack(held)) }
    }

    /// Ends the trials that have lasted or went wrong, and notes generations that are gone. Does not block: while a reload
    /// is at work it does nothing.
    pub fn look_after(&self) {
        self.generations.sweep();
        let Ok(mut state) = self.state.try_lock() else { return };
        let (_, plan) = self.desired.get();
        let tried = plan.transforms.iter().filter_map(|t| Some((Arc::clone(&t.name), Arc::clone(t.trial.as_ref()?))));
        for (name, trial) in tried {
            let Some(rollout) =
                state.config.transforms.iter().find(|(n, _)| n.as_str() == &*name).map(|(_, t)| &t.rollout)
            else {
                continue;
            };
            let Some((_, lasting)) = rollout::kind(rollout) else { continue };
            match rollout::judge(&trial, &rollout.budget, lasting) {
                Verdict::GoOn => {}
                Verdict::TakeOver => {
                    let (records, failures) = (trial.candidate.read().records, trial.candidate.read().failures);
                    let (compared, differences) = trial.differences.counts();
                    tracing::info!(
                        transform = %name,
                        generation = trial.generation.number(),
                        records, failures, compared, differences,
                        "the trial has lasted: the new generation takes over"
                    );
                    self.amend(&name, "the trial has lasted", Stage::Leaving, take_over);
                }
                Verdict::RollBack(why) => self.roll_back_trial(&mut state, &name, &trial.generation, &why),
            }
        }
    }

    fn roll_back_trial(&self, state: &mut State, name: &str, candidate: &Generation, why: &str) {
        tracing::error!(
            transform = name,
            generation = candidate.number(),
            digest = %candidate.digest(),
            code = "rollout.rolled_back",
            advice = "it is held back until its module or settings change, or `pelton reload --retry`; put the old module \
                      back before this process is started again",
            "the trial is over: {why}"
        );
        state.rejected.insert(name.to_owned(), (candidate.digest(), candidate.spec().clone()));
        self.amend(name, why, Stage::Leaving, |transform, _| {
            transform.trial = None;
            transform.held_back = true;
        });
    }

    /// Back to the generation before, or to the one that runs where another is tried. Compiles nothing. What was rolled
    /// back is held back until it changes.
    pub fn roll_back(&self, name: &str, cause: &str) -> Outcome {
        let started = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, plan) = self.desired.get();
        let Some(transform) = plan.transforms.iter().find(|t| *t.name == *name) else { return unknown(name) };
        if let Some(trial) = &transform.trial {
            self.roll_back_trial(&mut state, name, &trial.generation, cause);
        } else if transform.previous.is_some() {
            let bad = &transform.generation;
            tracing::warn!(transform = name, generation = bad.number(), digest = %bad.digest(), cause, "rolled back");
            state.rejected.insert(name.to_owned(), (bad.digest(), bad.spec().clone()));
            self.amend(name, cause, Stage::RolledBack, |transform, allowance| {
                if let Some(previous) = transform.previous.take() {
                    serve(transform, allowance, previous);
                    transform.held_back = true;
                }
            });
        } else {
            return Outcome::Refused {
                code: "rollback.nothing",
                message: format!("there is no generation of `{name}` before the one that runs, and none is tried"),
                advice: "put the module that is wanted in its place and reload",
            };
        }
        Outcome::Applied { took_ms: started.elapsed().as_millis() as u64 }
    }

    /// Ends a trial: the new generation takes over now.
    pub fn promote(&self, name: &str, cause: &str) -> Outcome {
        let started = Instant::now();
        let _state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, plan) = self.desired.get();
        let Some(transform) = plan.transforms.iter().find(|t| *t.name == *name) else { return unknown(name) };
        if transform.trial.is_none() {
            return Outcome::Refused {
                code: "promote.nothing",
                message: format!("no other generation of `{name}` is tried"),
                advice: "see GET /api/v1/transforms for what is",
            };
        }
        self.amend(name, cause, Stage::Leaving, take_over);
        Outcome::Applied { took_ms: started.elapsed().as_millis() as u64 }
    }

    /// The present plan with one transform changed is wanted.
    fn amend(&self, name: &str, cause: &str, end: Stage, change: impl FnOnce(&mut TransformPlan, &mut Allowance)) {
        let (_, old) = self.desired.get();
        let mut plan = Plan::clone(&old);
        let both = plan.transforms.iter_mut().zip(&mut plan.allowances).find(|(t, _)| *t.name == *name);
        if let Some((transform, allowance)) = both {
            change(transform, allowance);
        }
        self.want(plan, cause, end);
    }

    fn want(&self, plan: Plan, cause: &str, end: Stage) {
        self.generations.settle(&plan, cause, end);
        self.desired.set(Arc::new(plan));
    }
}

/// The generation that was tried serves.
fn take_over(transform: &mut TransformPlan, allowance: &mut Allowance) {
    if let Some(trial) = transform.trial.take() {
        let old = transform.generation.clone();
        serve(transform, allowance, trial.generation.clone());
        transform.previous = Some(old);
    }
}

fn serve(transform: &mut TransformPlan, allowance: &mut Allowance, generation: Generation) {
    transform.digest = Arc::from(generation.digest().to_string());
    transform.generation = generation;
    allowance.breaker = Arc::new(Breaker::new(allowance.breaker.budget()));
}

fn unknown(name: &str) -> Outcome {
    Outcome::Refused {
        code: "transform.unknown",
        message: format!("there is no transform `{name}`"),
        advice: "see GET /api/v1/transforms for those there are",
    }
}

impl Refused {
    fn tell(self, cause: &str) -> Outcome {
        match self {
            Refused::Config(errors) => {
                let (code, advice) = ("reload.refused", "correct what is named and reload; nothing has changed");
                let message = errors.render(Paint::Off);
                tracing::error!(code, cause, advice, "the configuration cannot be taken up:\n{message}");
                Outcome::Refused { code, message, advice }
            }
            Refused::Fixed(keys) => {
                let code = "reload.fixed";
                let advice = "restart the process for these, or take them back and reload; nothing has changed";
                let keys = keys.join(", ");
                tracing::error!(code, cause, keys, advice, "these cannot change while the process runs");
                Outcome::Refused {
                    code,
                    message: format!("these cannot change while the process runs: {keys}"),
                    advice,
                }
            }
            // The log has it, with the module's digest.
            Refused::HeldBack(transforms) => Outcome::Refused {
                code: "reload.held_back",
                message: format!("the version that is wanted of {} was rolled back", transforms.join(", ")),
                advice: "change the module or its settings, or `pelton reload --retry`; everything else is taken up",
            },
        }
    }
}

/// The transforms of which another version is asked for, which was rolled back.
fn held_back(plan: &Plan) -> Vec<String> {
    plan.transforms.iter().filter(|transform| transform.held_back).map(|transform| transform.name.to_string()).collect()
}

/// Nothing differs that a worker would notice.
fn is_same(old: &Plan, new: &Plan) -> bool {
    let transforms = old.transforms.iter().zip(&new.transforms).all(|(old, new)| {
        let tried = match (&old.trial, &new.trial) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        let guest = old.generation.is_same(&new.generation) && old.parallelism == new.parallelism;
        tried && guest && old.on_error == new.on_error
    });
    let allowances = old
        .allowances
        .iter()
        .zip(&new.allowances)
        .all(|(old, new)| old.share == new.share && Arc::ptr_eq(&old.breaker, &new.breaker));
    let counts = old.transforms.len() == new.transforms.len();
    counts && transforms && allowances && old.inputs == new.inputs && old.outputs == new.outputs
}

/// The files of a configuration that was just loaded: its own as of before that, since they may have changed; modules and
/// signatures, which are read next, as they are now.
pub fn read_by(loaded: &Loaded) -> Stamps {
    let of_transforms = loaded.config.transforms.values().flat_map(|t| [t.module.clone(), t.signature_file()]);
    loaded.read.clone().and(of_transforms)
}

/// The keys that differ and cannot change while the process runs: all but the transforms. By the values themselves: written out,
/// those of librdkafka's properties are hidden.
fn fixed(old: &Config, new: &Config) -> Vec<&'static str> {
    let Config {
        application,
        instance,
        kafka,
        delivery,
        workers,
        transforms: _,
        cache_dir,
        sandbox,
        reload_on_change,
        drain_limit,
        observe,
        admin,
    } = new;
    let same = [
        ("application", *application == old.application),
        ("instance", *instance == old.instance),
        ("kafka", *kafka == old.kafka),
        ("delivery", *delivery == old.delivery),
        ("workers", *workers == old.workers),
        ("cache_dir", *cache_dir == old.cache_dir),
        ("sandbox", *sandbox == old.sandbox),
        ("reload_on_change", *reload_on_change == old.reload_on_change),
        ("drain_limit", *drain_limit == old.drain_limit),
        ("observe", *observe == old.observe),
        ("admin", *admin == old.admin),
    ];
    same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
}
