//! Negative controls: the same verifier, the same faults, and a processor that is wrong on purpose. A control that is not
//! caught fails the run, because then its verdict means nothing.

use super::arena::{Arena, Plan};
use super::findings::{Findings, Kind};
use super::nemesis::Nemesis;
use super::schedule::{Fault, Schedule};
use super::{Options, say};
use crate::cluster::Cluster;
use crate::proxy::Proxy;
use anyhow::Result;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A way to be wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Positions are committed before the outputs are.
    OffsetsFirst,
    /// Partitions go, what was begun with them stays.
    SkipRevoke,
    /// A producer is kept though it has an unanswered EndTxn.
    NoRenewal,
    AtLeastOnce,
}

const LONGEST: Duration = Duration::from_secs(150);

impl Control {
    pub const ALL: [Control; 4] =
        [Control::AtLeastOnce, Control::NoRenewal, Control::OffsetsFirst, Control::SkipRevoke];

    pub fn name(self) -> &'static str {
        match self {
            Control::OffsetsFirst => "offsets-first",
            Control::SkipRevoke => "skip-revoke",
            Control::NoRenewal => "no-renewal",
            Control::AtLeastOnce => "at-least-once",
        }
    }

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|control| control.name() == name)
    }

    /// What the saboteur is told, where the processor itself has no such setting.
    fn sabotage(self) -> Option<&'static str> {
        match self {
            Control::OffsetsFirst => Some("offsets_first"),
            Control::SkipRevoke => Some("skip_revoke"),
            Control::NoRenewal | Control::AtLeastOnce => None,
        }
    }

    /// Does it need the saboteur?
    pub fn is_sabotage(self) -> bool {
        self.sabotage().is_some()
    }

    fn delivery(self) -> &'static str {
        match self {
            Control::AtLeastOnce => "{ guarantee: at_least_once, commit_interval: 500ms }",
            Control::NoRenewal => "{ renew_in_doubt: false }",
            Control::OffsetsFirst => "{ commit_interval: 100ms }",
            // Long enough that what was begun is still open when the new owner asks for the position.
            Control::SkipRevoke => "{ commit_interval: 5s, latency: throughput }",
        }
    }

    fn faults(self) -> &'static [Fault] {
        match self {
            Control::OffsetsFirst => &[Fault::KillBeforeDelivery],
            Control::SkipRevoke => &[Fault::ScaleUp],
            Control::NoRenewal => &[Fault::LateEndTxn],
            Control::AtLeastOnce => &[Fault::Kill],
        }
    }

    /// Faults that it is given to be caught by. What is lost is seen only at the end, so there is no use in many.
    fn chances(self) -> usize {
        if self == Control::OffsetsFirst { 3 } else { 8 }
    }

    /// The damage that it does; anything else would be an accident.
    fn damage(self) -> &'static [Kind] {
        match self {
            Control::OffsetsFirst => &[Kind::Lost, Kind::Torn],
            Control::SkipRevoke | Control::NoRenewal => &[Kind::Duplicate, Kind::Lost, Kind::Torn],
            Control::AtLeastOnce => &[Kind::Duplicate],
        }
    }

    fn caught_in(self, findings: &Findings) -> bool {
        self.damage().iter().any(|kind| findings.count(*kind) > 0)
    }
}

/// What became of a control.
#[derive(Debug)]
pub struct Caught {
    pub control: Control,
    pub caught: bool,
    faults: usize,
    lasted: Duration,
    findings: Vec<(Kind, u64)>,
    trouble: Option<String>,
}

impl Caught {
    pub fn json(&self) -> Value {
        let findings: serde_json::Map<String, Value> =
            self.findings.iter().map(|(kind, count)| (kind.name().into(), json!(count))).collect();
        json!({
            "control": self.control.name(),
            "caught": self.caught,
            "faults": self.faults,
            "lasted_s": self.lasted.as_secs(),
            "findings": findings,
            "trouble": self.trouble,
        })
    }

    pub fn text(&self) -> String {
        let verdict = if self.caught { "caught" } else { "NOT CAUGHT" };
        let found: Vec<String> = self.findings.iter().map(|(kind, n)| format!("{n} {}", kind.name())).collect();
        let trouble = self.trouble.as_ref().map_or_else(String::new, |t| format!("; {t}"));
        format!("{}: {verdict} after {} faults ({}){trouble}", self.control.name(), self.faults, found.join(", "))
    }
}

/// Runs one control until it is caught or has had its chances.
pub fn run(control: Control, options: &Options, cluster: &mut Cluster, proxy: &Proxy, home: &Path) -> Result<Caught> {
    let name = format!("{}-{}", control.name(), options.seed);
    say(&format!("negative control {}: must be caught", control.name()));
    let start = Instant::now();
    let binary = if control.sabotage().is_some() { &options.saboteur } else { &options.pelton };
    let plan = Plan {
        home: home.join(control.name()),
        name,
        partitions: 6,
        rate: options.rate.min(500),
        seed: options.seed,
        processes: 2,
        static_members: vec![false; 3],
        workers: 2,
        binary: binary.clone(),
        env: control.sabotage().map(|what| ("SABOTAGE".to_owned(), what.to_owned())).into_iter().collect(),
        delivery: control.delivery().into(),
    };
    let mut arena = Arena::begin(cluster, proxy, plan)?;
    let findings = Arc::clone(&arena.findings);
    let mut faults = 0;
    let mut trouble = None;
    for step in Schedule::only(options.seed, control.faults()) {
        if control.caught_in(&findings) || faults == control.chances() || start.elapsed() > LONGEST {
            break;
        }
        match Nemesis::new(&mut arena).inflict(&step) {
            Ok(done) => faults += usize::from(done.is_some()),
            Err(error) => {
                trouble = Some(format!("{error:#}"));
                break;
            }
        }
    }
    // What is missing shows only when there is nothing more to come.
    if !control.caught_in(&findings) && trouble.is_none() {
        trouble = arena.finish().err().map(|error| format!("{error:#}"));
    }
    let caught = Caught {
        control,
        caught: control.caught_in(&findings),
        faults,
        lasted: start.elapsed(),
        findings: findings.all().into_iter().map(|(kind, count, _)| (kind, count)).collect(),
        trouble,
    };
    say(&format!("negative control {}", caught.text()));
    Ok(caught)
}
