//! What went wrong, as it is found: counted by kind, the first of each kind kept in words and printed at once. A run with
//! a finding has failed; a negative control without one has, too.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What a finding says about the system under test.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// I1: an outcome that was to be seen is not.
    Lost,
    /// I1: seen twice.
    Duplicate,
    /// I2: one output of a fan-out without the other.
    Torn,
    /// I3: behind a later record of its input partition or key.
    Reordered,
    /// An outcome at a place where the record has none.
    Misplaced,
    /// Not what was put in.
    Altered,
    /// I4: a committed position went back.
    Rewound,
    /// I4: a position and the outputs below it were not committed together.
    Apart,
    /// I5: a transaction that nobody ends.
    Hanging,
    /// I6: readers disagree.
    Diverged,
    /// No progress after a fault was healed.
    Stuck,
    /// A process ended, or did not, or took nothing up, against what it was told.
    Exit,
    /// I9: more memory than there is a reason for.
    Memory,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Lost => "lost",
            Kind::Duplicate => "duplicate",
            Kind::Torn => "torn",
            Kind::Reordered => "reordered",
            Kind::Misplaced => "misplaced",
            Kind::Altered => "altered",
            Kind::Rewound => "rewound",
            Kind::Apart => "apart",
            Kind::Hanging => "hanging",
            Kind::Diverged => "diverged",
            Kind::Stuck => "stuck",
            Kind::Exit => "exit",
            Kind::Memory => "memory",
        }
    }

    /// Is this about the records, and not about how well the process fares? Only these catch a negative control.
    pub fn is_about_records(self) -> bool {
        use Kind::*;
        matches!(self, Lost | Duplicate | Torn | Reordered | Misplaced | Altered | Rewound | Apart | Diverged)
    }
}

/// Examples kept of each kind.
const EXAMPLES: usize = 20;
/// Examples printed of each kind.
const PRINTED: u64 = 3;

#[derive(Debug)]
pub struct Findings {
    /// Before each line that is printed.
    name: String,
    found: Mutex<BTreeMap<Kind, (u64, Vec<String>)>>,
}

impl Findings {
    pub fn new(name: impl Into<String>) -> Self {
        Findings { name: name.into(), found: Mutex::default() }
    }

    fn found(&self) -> MutexGuard<'_, BTreeMap<Kind, (u64, Vec<String>)>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, kind: Kind, what: impl FnOnce() -> String) {
        let mut found = self.found();
        let (count, examples) = found.entry(kind).or_default();
        *count += 1;
        if examples.len() < EXAMPLES {
            let what = what();
            if *count <= PRINTED {
                super::say(&format!("{} FINDING {}: {what}", self.name, kind.name()));
            }
            examples.push(what);
        }
    }

    pub fn count(&self, kind: Kind) -> u64 {
        self.found().get(&kind).map_or(0, |found| found.0)
    }

    pub fn is_empty(&self) -> bool {
        self.found().is_empty()
    }

    /// Does any say that records went wrong?
    pub fn about_records(&self) -> bool {
        self.found().keys().any(|kind| kind.is_about_records())
    }

    /// Kind, how many, and examples.
    pub fn all(&self) -> Vec<(Kind, u64, Vec<String>)> {
        self.found().iter().map(|(kind, (count, examples))| (*kind, *count, examples.clone())).collect()
    }
}
