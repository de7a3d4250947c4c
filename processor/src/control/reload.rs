//! Takes up a changed configuration, or a changed module, while records flow: the whole of it or nothing. Reads, compiles and
//! configures beside the workers; what is right becomes the wanted plan, which each worker takes up between two
//! transactions. What is wrong, or cannot change while the process runs, is told, and everything stays as it was.

use super::prepare::{Problems, Topics, plan, transforms};
use crate::config::{self, Config, ConfigErrors, Loaded, Paint, Sources};
use crate::dataplane::plan::Plan;
use crate::dataplane::wanted::Wanted;
use pelton_kafka::Properties;
use pelton_sandbox::Engine;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What makes the next plan out of the present one.
#[derive(Debug)]
pub struct Reloader {
    sources: Sources,
    engine: Engine,
    /// Whom to ask for topics.
    cluster: Properties,
    wanted: Arc<Wanted>,
    /// Held for as long as a reload takes.
    state: Mutex<State>,
    /// Of the present configuration; never held for long.
    files: Mutex<Vec<PathBuf>>,
}

#[derive(Debug)]
struct State {
    config: Config,
    /// Of the last generation that was prepared.
    number: u64,
}

/// Why nothing changed.
#[derive(Debug)]
enum Refused {
    Config(ConfigErrors),
    /// These cannot change while the process runs.
    Fixed(Vec<String>),
}

impl Reloader {
    pub fn new(sources: Sources, loaded: &Loaded, engine: Engine, cluster: Properties, wanted: Arc<Wanted>) -> Self {
        let files = Mutex::new(files(&sources, &loaded.config));
        let state = Mutex::new(State { config: loaded.config.clone(), number: 1 });
        Reloader { sources, engine, cluster, wanted, state, files }
    }

    /// The files whose change asks for a reload: configurations, modules, signatures.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads everything anew. Blocks: reading, compiling, configuring. `true`: the workers are to go by it.
    pub fn reload(&self, cause: &'static str) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let started = Instant::now();
        match self.next(&state) {
            Ok(None) => {
                tracing::info!(cause, "reload: nothing has changed");
                false
            }
            Ok(Some((plan, config, number))) => {
                let (_, old) = self.wanted.get();
                for new in &plan.transforms {
                    let running = old.transforms.iter().find(|old| old.name == new.name);
                    if running.is_none_or(|running| !running.generation.is_same(&new.generation)) {
                        tracing::info!(
                            transform = %new.name,
                            generation = new.generation.number(),
                            digest = %new.digest,
                            from = running.map(|running| running.generation.number()),
                            cause,
                            prepared_ms = started.elapsed().as_millis() as u64,
                            "reload: a new generation is ready; workers take it up at their next transactions"
                        );
                    }
                }
                *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files(&self.sources, &config);
                (state.config, state.number) = (config, number);
                self.wanted.set(Arc::new(plan));
                tracing::info!(cause, took_ms = started.elapsed().as_millis() as u64, "reloaded");
                true
            }
            Err(Refused::Config(errors)) => {
                tracing::error!(
                    code = "reload.refused",
                    cause,
                    advice = "correct what is named and reload; nothing has changed",
                    "the configuration cannot be taken up:\n{}",
                    errors.render(Paint::Off)
                );
                false
            }
            Err(Refused::Fixed(keys)) => {
                tracing::error!(
                    code = "reload.fixed",
                    cause,
                    keys = keys.join(", "),
                    advice = "restart the process for these, or take them back and reload; nothing has changed",
                    "these cannot change while the process runs"
                );
                false
            }
        }
    }

    /// The next plan, `None` where it would be the present one.
    fn next(&self, state: &State) -> Result<Option<(Plan, Config, u64)>, Refused> {
        let loaded = config::load(&self.sources).map_err(Refused::Config)?;
        let fixed = fixed(&state.config, &loaded.config);
        if !fixed.is_empty() {
            return Err(Refused::Fixed(fixed));
        }
        let (_, old) = self.wanted.get();
        let mut problems = Problems::new(&loaded);
        let number = state.number + 1;
        let mut topics = Topics::of(&loaded.config, Some(&old));
        topics.look_up(&self.cluster, &mut problems);
        let transforms = transforms(&loaded.config, &self.engine, &topics, Some(&old), number, &mut problems);
        if let Some(errors) = problems.into_errors() {
            return Err(Refused::Config(errors));
        }
        let plan = plan(&loaded.config, topics, transforms, Some(&old));
        Ok((!is_same(&old, &plan)).then_some((plan, loaded.config, number)))
    }
}

/// Nothing differs that a worker would notice.
fn is_same(old: &Plan, new: &Plan) -> bool {
    let transforms = old
        .transforms
        .iter()
        .zip(&new.transforms)
        .all(|(old, new)| old.generation.is_same(&new.generation) && old.on_error == new.on_error);
    let allowances = old
        .allowances
        .iter()
        .zip(&new.allowances)
        .all(|(old, new)| old.share == new.share && Arc::ptr_eq(&old.breaker, &new.breaker));
    let counts = old.transforms.len() == new.transforms.len();
    counts && transforms && allowances && old.inputs == new.inputs && old.outputs == new.outputs
}

fn files(sources: &Sources, config: &Config) -> Vec<PathBuf> {
    let of_transforms = config.transforms.values().flat_map(|t| [t.module.clone(), t.signature_file()]);
    sources.files.iter().cloned().chain(of_transforms).collect()
}

/// The keys that differ and cannot change while the process runs: all but the transforms.
fn fixed(old: &Config, new: &Config) -> Vec<String> {
    let json = |config: &Config| serde_json::to_value(config).unwrap_or(Value::Null);
    let (old, new) = (json(old), json(new));
    let sections = |value: &Value| value.as_object().into_iter().flat_map(|o| o.keys().cloned()).collect::<Vec<_>>();
    let all: BTreeSet<String> = sections(&old).into_iter().chain(sections(&new)).collect();
    all.into_iter().filter(|key| key != "transforms" && old[key.as_str()] != new[key.as_str()]).collect()
}

/// What a file is like: a change of it is a change of the file, by whatever way (rename, symbolic link, in place).
pub type Likeness = Vec<Option<(u64, u64, u64, i64, i64)>>;

/// What these files are like now. A file that is not there is like none.
pub fn likeness(files: &[PathBuf]) -> Likeness {
    let of = |file: &PathBuf| {
        let meta = fs::metadata(file).ok()?;
        Some((meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec()))
    };
    files.iter().map(of).collect()
}
