//! Takes up a changed configuration, or a changed module, while records flow: the whole of it or nothing. Reads, compiles and
//! configures beside the workers; what is right becomes the wanted plan, which each worker takes up between two
//! transactions. What is wrong, or cannot change while the process runs, is told, and everything stays as it was.

use super::prepare::{Problems, Topics, transforms};
use crate::config::{self, Config, ConfigErrors, Loaded, Paint, Sources};
use crate::dataplane::plan::{OutputTopic, Plan};
use crate::dataplane::wanted::Wanted;
use crate::telemetry::ReloadCounts;
use pelton_sandbox::Engine;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What makes the next plan out of the present one.
#[derive(Debug)]
pub struct Reloader {
    sources: Sources,
    engine: Engine,
    topics: Topics,
    wanted: Arc<Wanted>,
    /// Held for as long as a reload takes.
    state: Mutex<State>,
    /// How reloads ended so far.
    pub counts: Arc<ReloadCounts>,
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
    pub fn new(sources: Sources, loaded: &Loaded, engine: Engine, topics: Topics, wanted: Arc<Wanted>) -> Self {
        let files = Mutex::new(files(&sources, &loaded.config));
        let state = Mutex::new(State { config: loaded.config.clone(), number: 1 });
        Reloader { sources, engine, topics, wanted, state, files, counts: Arc::default() }
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
                for (old, new) in old.transforms.iter().zip(&plan.transforms) {
                    if !old.generation.is_same(&new.generation) {
                        tracing::info!(
                            transform = %new.name,
                            generation = new.generation.number(),
                            digest = %new.digest,
                            from = old.generation.number(),
                            cause,
                            prepared_ms = started.elapsed().as_millis() as u64,
                            "reload: a new generation is ready; workers take it up at their next transactions"
                        );
                    }
                }
                *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files(&self.sources, &config);
                (state.config, state.number) = (config, number);
                self.wanted.set(Arc::new(plan));
                self.counts.applied.fetch_add(1, Ordering::Relaxed);
                tracing::info!(cause, took_ms = started.elapsed().as_millis() as u64, "reloaded");
                true
            }
            Err(Refused::Config(errors)) => {
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
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
                self.counts.refused.fetch_add(1, Ordering::Relaxed);
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
        let transforms = transforms(&loaded.config, &self.engine, &self.topics, Some(&old), number, &mut problems);
        if let Some(errors) = problems.into_errors() {
            return Err(Refused::Config(errors));
        }
        let same = old
            .transforms
            .iter()
            .zip(&transforms)
            .all(|(old, new)| old.generation.is_same(&new.generation) && old.on_error == new.on_error);
        if same {
            return Ok(None);
        }
        let outputs = old.outputs.iter().map(|o| OutputTopic { name: Arc::clone(&o.name), partitions: o.partitions });
        let plan = Plan {
            application: Arc::clone(&old.application),
            inputs: old.inputs.clone(),
            outputs: outputs.collect(),
            transforms,
            delivery: old.delivery.clone(),
            guest_text: old.guest_text,
        };
        Ok(Some((plan, loaded.config, number)))
    }
}

fn files(sources: &Sources, config: &Config) -> Vec<PathBuf> {
    let of_transforms = config.transforms.values().flat_map(|t| [t.module.clone(), t.signature_file()]);
    sources.files.iter().cloned().chain(of_transforms).collect()
}

/// The keys that differ and cannot change while the process runs.
fn fixed(old: &Config, new: &Config) -> Vec<String> {
    let json = |config: &Config| serde_json::to_value(config).unwrap_or(Value::Null);
    let (old, new) = (json(old), json(new));
    let mut keys = Vec::new();
    let sections = |value: &Value| value.as_object().into_iter().flat_map(|o| o.keys().cloned()).collect::<Vec<_>>();
    let mut all: Vec<String> = sections(&old).into_iter().chain(sections(&new)).collect();
    all.sort_unstable();
    all.dedup();
    keys.extend(all.iter().filter(|key| *key != "transforms" && old[key.as_str()] != new[key.as_str()]).cloned());
    let mut names: Vec<String> = sections(&old["transforms"]).into_iter().chain(sections(&new["transforms"])).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (old, new) = (&old["transforms"][&name], &new["transforms"][&name]);
        if old.is_null() || new.is_null() {
            keys.push(format!("transforms.{name}"));
            continue;
        }
        for path in ["/input", "/output", "/limits/share", "/on_error/topic", "/on_error/budget"] {
            if old.pointer(path) != new.pointer(path) {
                keys.push(format!("transforms.{name}{}", path.replace('/', ".")));
            }
        }
    }
    keys
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
