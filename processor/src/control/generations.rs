//! The stage of each generation of each transform, and how it got there: what logs and `/api/v1` report.
//!
//! ```text
//!   Preparing ──► Trial ──► Serving ──► Previous ──► Leaving ──► Retired
//!     │   │         │        │  ▲  │       │            ▲
//!     │   └─────────┼────────┼──┘  │       └─ back ─► Serving, Trial
//!     ▼             ▼        ▼     └── removed ─────────┘
//!   Refused      RolledBack ◄┘ by hand ──► Retired
//! ```
//! The plan decides who serves; this file only records it. A generation is retired when its last instance is gone.

use crate::dataplane::plan::Plan;
use crate::wall::unix_ms;
use pelton_sandbox::{Generation, GenerationWatch};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What is remembered of each transform: so many that are over.
const REMEMBERED: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Read and compiled; being linked, configured and checked with recent records.
    Preparing,
    /// It did not come through, or something else of the same reload did not.
    Refused,
    /// Tried beside the one that serves: `rollout.shadow`, `rollout.canary`.
    Trial,
    /// Its outcomes count; workers take it up at their next transaction boundary.
    Serving,
    /// Served before, and kept for a way back that compiles nothing.
    Previous,
    /// Did worse than its budget allows, or was taken back by hand.
    RolledBack,
    /// Not wanted any more; workers still have instances of it.
    Leaving,
    /// Nobody has it any more.
    Retired,
}

impl Stage {
    fn may_become(self, next: Stage) -> bool {
        use Stage::{Leaving, Preparing, Previous, Refused, Retired, RolledBack, Serving, Trial};
        matches!(
            (self, next),
            (Preparing, Refused | Trial | Serving)
                | (Trial, Serving | RolledBack)
                | (Serving, Previous | RolledBack | Leaving)
                | (Previous, Serving | Trial | Leaving)
                | (RolledBack | Leaving, Retired)
        )
    }

    fn is_final(self) -> bool {
        matches!(self, Stage::Refused | Stage::Retired)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Preparing => "preparing",
            Stage::Refused => "refused",
            Stage::Trial => "trial",
            Stage::Serving => "serving",
            Stage::Previous => "previous",
            Stage::RolledBack => "rolled_back",
            Stage::Leaving => "leaving",
            Stage::Retired => "retired",
        }
    }
}

/// One generation's present stage.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    pub generation: u64,
    pub digest: String,
    pub stage: Stage,
    /// Of the last move.
    pub cause: String,
    /// Of the last move, in milliseconds since 1970.
    pub since_ms: i64,
    #[serde(skip)]
    moved: Instant,
    #[serde(skip)]
    watch: Option<GenerationWatch>,
}

/// All transforms' generations.
#[derive(Debug, Default)]
pub struct Generations(Mutex<BTreeMap<String, Vec<Entry>>>);

impl Generations {
    /// The number of the last generation of any transform.
    pub fn last(&self) -> u64 {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().flatten().map(|entry| entry.generation).max().unwrap_or(0)
    }

    /// A generation is being prepared.
    pub fn begin(&self, transform: &str, generation: u64, digest: &str, cause: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = all.entry(transform.to_owned()).or_default();
        let entry = Entry {
            generation,
            digest: digest.to_owned(),
            stage: Stage::Preparing,
            cause: cause.to_owned(),
            since_ms: unix_ms(),
            moved: Instant::now(),
            watch: None,
        };
        tracing::info!(transform, generation, digest = short(digest), cause, "generation is being prepared");
        entries.push(entry);
        while entries.iter().filter(|entry| entry.stage.is_final()).count() > REMEMBERED {
            let Some(oldest) = entries.iter().position(|entry| entry.stage.is_final()) else { break };
            entries.remove(oldest);
        }
    }

    /// It was prepared: its instances can be watched from now on.
    pub fn prepared(&self, transform: &str, generation: &Generation) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = all.entry(transform.to_owned()).or_default();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.generation == generation.number()) {
            entry.watch = Some(generation.watch());
        }
    }

    /// What was being prepared does not come into use.
    pub fn refuse(&self, cause: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (transform, entries) in &mut *all {
            for entry in entries.iter_mut().filter(|entry| entry.stage == Stage::Preparing) {
                entry.go(transform, Stage::Refused, cause);
            }
        }
    }

    /// This plan is wanted from now on. `end`: what becomes of a generation that served or was tried and is in it no more.
    pub fn settle(&self, plan: &Plan, cause: &str, end: Stage) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (transform, entries) in &mut *all {
            let of = plan.transforms.iter().find(|t| *t.name == **transform);
            let is = |generation: Option<&Generation>, entry: &Entry| {
                generation.is_some_and(|generation| generation.number() == entry.generation)
            };
            for entry in entries.iter_mut() {
                let next = match of {
                    Some(of) if is(Some(&of.generation), entry) => Stage::Serving,
                    Some(of) if is(of.trial.as_ref().map(|trial| &trial.generation), entry) => Stage::Trial,
                    Some(of) if is(of.previous.as_ref(), entry) => Stage::Previous,
                    _ => match entry.stage {
                        Stage::Preparing => Stage::Refused,
                        Stage::Trial => Stage::RolledBack,
                        Stage::Serving => end,
                        Stage::Previous => Stage::Leaving,
                        other => other,
                    },
                };
                if next != entry.stage && !entry.stage.is_final() {
                    entry.go(transform, next, cause);
                }
            }
        }
    }

    /// Notes those that nobody has any more.
    pub fn sweep(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (transform, entries) in &mut *all {
            for entry in entries.iter_mut().filter(|e| matches!(e.stage, Stage::RolledBack | Stage::Leaving)) {
                if entry.watch.as_ref().is_none_or(GenerationWatch::is_gone) {
                    entry.go(transform, Stage::Retired, "its last instance is gone");
                }
            }
        }
    }

    /// The newest first.
    pub fn of(&self, transform: &str) -> Vec<Entry> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(transform).map(|entries| entries.iter().rev().cloned().collect()).unwrap_or_default()
    }
}

impl Entry {
    fn go(&mut self, transform: &str, next: Stage, cause: &str) {
        debug_assert!(self.stage.may_become(next), "{:?} -> {next:?}", self.stage);
        tracing::info!(
            transform,
            generation = self.generation,
            digest = short(&self.digest),
            from = self.stage.as_str(),
            to = next.as_str(),
            after_ms = self.moved.elapsed().as_millis() as u64,
            cause,
            "generation moved on"
        );
        self.stage = next;
        self.cause = cause.to_owned();
        (self.since_ms, self.moved) = (unix_ms(), Instant::now());
    }
}

/// As metrics and logs show a digest.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_moves_end() {
        let all = [
            Stage::Preparing,
            Stage::Refused,
            Stage::Trial,
            Stage::Serving,
            Stage::Previous,
            Stage::RolledBack,
            Stage::Leaving,
            Stage::Retired,
        ];
        for stage in all {
            assert!(!stage.may_become(stage), "{stage:?}");
            assert!(!stage.may_become(Stage::Preparing), "nothing is prepared twice");
            let ends = !all.iter().any(|next| stage.may_become(*next));
            assert_eq!(ends, stage.is_final(), "{stage:?}");
        }
    }

    #[test]
    fn what_is_refused_is_remembered_for_a_while() {
        let generations = Generations::default();
        for number in 1..40 {
            generations.begin("t", number, "0123456789abcdef", "test");
            generations.refuse("told to");
        }
        let entries = generations.of("t");
        assert_eq!(entries.len(), REMEMBERED + 1);
        assert_eq!((entries[0].generation, entries[0].stage), (39, Stage::Refused));
        assert!(generations.of("other").is_empty());
    }
}
