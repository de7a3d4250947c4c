//! Owns what a transform may access beyond its records, and compares it with what its module imports. Refuses every
//! import that no grant covers, by name. There is no grant for sockets, HTTP or anything else on the network.

use std::path::PathBuf;

/// What a transform may reach. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Guest path, host path: read-only, `..` and symbolic links do not lead out.
    pub directories: Vec<(String, PathBuf)>,
    /// Name and value of environment variables.
    pub environment: Vec<(String, String)>,
    /// What its clocks show.
    pub clock: Clock,
    /// Where its randomness comes from.
    pub random: Randomness,
}

/// What a guest's clocks show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clock {
    /// The time.
    Real,
    /// The timestamp of the record that it works on, standing still.
    #[default]
    Record,
    /// Asking is a fault.
    None,
}

/// Where a guest's randomness comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Randomness {
    /// The system.
    Real,
    /// The record's topic, partition and offset: the same at each run.
    #[default]
    Seeded,
    /// Asking is a fault.
    None,
}

impl Grants {
    /// The interfaces, by the beginning of their names, that are there and must not be asked, and what would grant them.
    pub(crate) fn denied(&self) -> Vec<(&'static str, &'static str)> {
        let clock = (self.clock == Clock::None).then_some(("wasi:clocks/", "grants.clock"));
        let random = (self.random == Randomness::None).then_some(("wasi:random/", "grants.random"));
        clock.into_iter().chain(random).collect()
    }

    /// Whether what a guest of these imports sees depends on the record alone.
    pub(crate) fn are_deterministic(&self, imports: &[String]) -> bool {
        let asks = |prefix| imports.iter().any(|import| import.starts_with(prefix));
        (self.clock != Clock::Real || !asks("wasi:clocks/"))
            && (self.random != Randomness::Real || !asks("wasi:random/"))
            && self.directories.is_empty()
    }

    /// Whether what a guest of these imports sees changes from record to record.
    pub(crate) fn follow_the_record(&self, imports: &[String]) -> bool {
        let asks = |prefix| imports.iter().any(|import| import.starts_with(prefix));
        (self.clock == Clock::Record && asks("wasi:clocks/"))
            || (self.random == Randomness::Seeded && asks("wasi:random/"))
    }
}

/// Imports that every module may have: they reach nothing outside (the environment is empty unless granted).
const ALWAYS: [&str; 23] = [
    "pelton:transform/log",
    "pelton:transform/packed-sink",
    "pelton:transform/types",
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

/// An import that nothing can satisfy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The import as the module names it.
    pub import: String,
    /// Why, and what would help.
    pub advice: &'static str,
}

/// The first of `imports` that a transform cannot have.
pub(crate) fn refused(imports: &[String]) -> Option<Refusal> {
    imports.iter().find_map(|import| {
        let (interface, version) = import.split_once('@').unwrap_or((import, ""));
        let advice = advice(interface, version)?;
        Some(Refusal { import: import.clone(), advice })
    })
}

fn advice(interface: &str, version: &str) -> Option<&'static str> {
    if interface.starts_with("wasi:sockets/") || interface.starts_with("wasi:http/") {
        return Some("transforms have no network, and no grant gives it; build the module without it");
    }
    if ALWAYS.contains(&interface) {
        // The linker matches any 0.2.x of WASI.
        let known = if interface.starts_with("wasi:") { version.starts_with("0.2.") } else { version == "0.1.0" };
        return (!known).then_some("this Pelton has that interface in another version; rebuild the module against it");
    }
    Some("transforms may import only pelton:transform and WASI 0.2's cli, clocks, filesystem, io and random")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuse(import: &str) -> Option<Refusal> {
        refused(&["wasi:io/poll@0.2.6".into(), import.into()])
    }

    #[test]
    fn what_reaches_nothing_is_free() {
        for import in ["wasi:random/random@0.2.0", "pelton:transform/log@0.1.0", "wasi:filesystem/types@0.2.9"] {
            assert_eq!(refuse(import), None, "{import}");
        }
    }

    #[test]
    fn either_grant_alone_makes_a_guest_follow_the_record() {
        let imports = ["wasi:clocks/wall-clock@0.2.6".into(), "wasi:random/random@0.2.6".into()];
        let with = |clock, random| Grants { clock, random, ..Grants::default() }.follow_the_record(&imports);
        assert!(with(Clock::Record, Randomness::None));
        assert!(with(Clock::None, Randomness::Seeded));
        assert!(!with(Clock::Real, Randomness::Real));
        let none = Grants { clock: Clock::Record, random: Randomness::Seeded, ..Grants::default() };
        assert!(!none.follow_the_record(&[]), "who does not ask sees nothing of it");
        assert!(!none.follow_the_record(&["wasi:io/poll@0.2.6".into()]));
    }

    #[test]
    fn the_network_and_the_unknown_are_refused_by_name() {
        let imports =
            ["wasi:sockets/tcp@0.2.0", "wasi:http/outgoing-handler@0.2.0", "acme:db/query", "wasi:io/poll@0.3.0"];
        for import in imports {
            assert_eq!(refuse(import).unwrap().import, import);
        }
        assert!(refuse(imports[0]).unwrap().advice.contains("no network"));
    }
}
