//! The processes under test: by name started, ended, paused, and watched for ends that nobody asked for. A process comes
//! back under the same identity; its log of each life is kept.

use super::findings::{Findings, Kind};
use crate::process::{Launch, Pelton};
use crate::within;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Everything up to the first record, on a machine that is busy with other things.
const RUNS_WITHIN: Duration = Duration::from_secs(120);
/// The processes' own limit, and some.
const STOPS_WITHIN: Duration = Duration::from_secs(DRAIN_LIMIT_S + 45);
pub const DRAIN_LIMIT_S: u64 = 30;
const RELOADS_WITHIN: Duration = Duration::from_secs(30);
/// A sanity limit, far above what a process needs here.
const MEMORY_LIMIT_KIB: u64 = 1 << 20;

/// What the processes of a fleet have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    pub application: String,
    /// `pelton`, or what is invoked like it.
    pub binary: PathBuf,
    pub env: Vec<(String, String)>,
    /// The configuration, without `kafka`'s own line for static membership.
    pub config: String,
    /// For configurations and logs.
    pub home: PathBuf,
    /// By place: is the process a static member of the group?
    pub static_members: Vec<bool>,
}

/// How another version of the transform is taken up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    AtOnce,
    Canary,
    Shadow,
    /// With one more topic to write to.
    Topic,
}

/// Behind it, a configuration has what makes a version.
pub(super) const VERSION_MARK: &str = "# version\n";
/// Enough for batches of two records to be shared by two instances.
pub(super) const EFFORT: u32 = 100_000;

/// The processes by their place.
#[derive(Debug)]
pub struct Fleet {
    setup: Setup,
    findings: Arc<Findings>,
    slots: Vec<Slot>,
    /// The most that any of them had resident, and the sum over all samples by age.
    pub memory: Memory,
}

#[derive(Debug, Default)]
struct Slot {
    process: Option<Pelton>,
    lives: u32,
    started: Option<Instant>,
    first_kib: u64,
    sampled: Option<Instant>,
}

/// Resident memory of the processes, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub peak_kib: u64,
    /// The largest growth of one process from its tenth second on.
    pub growth_kib: i64,
}

impl Fleet {
    pub fn new(setup: Setup, findings: Arc<Findings>) -> Result<Self> {
        fs::create_dir_all(&setup.home).with_context(|| format!("cannot make {}", setup.home.display()))?;
        let slots = setup.static_members.iter().map(|_| Slot::default()).collect();
        Ok(Fleet { setup, findings, slots, memory: Memory::default() })
    }

    pub fn application(&self) -> &str {
        &self.setup.application
    }

    pub fn instance(&self, place: usize) -> String {
        format!("p{place}")
    }

    pub fn is_static(&self, place: usize) -> bool {
        self.setup.static_members[place]
    }

    /// The places of those that run.
    pub fn running(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|place| self.slots[*place].process.is_some()).collect()
    }

    pub fn start(&mut self, place: usize) -> Result<()> {
        if self.slots[place].process.is_some() {
            return Ok(());
        }
        let instance = self.instance(place);
        let config = self.setup.home.join(format!("{instance}.yaml"));
        let static_member = if self.is_static(place) { "  static_membership: true\n" } else { "" };
        fs::write(&config, self.setup.config.replace("kafka:\n", &format!("kafka:\n{static_member}")))?;
        let slot = &mut self.slots[place];
        slot.lives += 1;
        let log = self.setup.home.join(format!("{instance}-{}.log", slot.lives));
        let env: Vec<(&str, &str)> = self.setup.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let launch = Launch {
            binary: &self.setup.binary,
            config: &config,
            instance: &instance,
            args: &[],
            env: &env,
            log: &log,
        };
        slot.process = Some(Pelton::launch(&launch).context("pelton does not start")?);
        slot.started = Some(Instant::now());
        slot.first_kib = 0;
        Ok(())
    }

    /// A running process takes up another version of its transform. A restart forgets it.
    pub fn reload(&self, place: usize, number: u32, version: Version) -> Result<()> {
        let config = self.setup.home.join(format!("{}.yaml", self.instance(place)));
        let base = fs::read_to_string(&config)?;
        let base = base.split(VERSION_MARK).next().unwrap_or_default();
        let rollout = match version {
            Version::AtOnce | Version::Topic => "",
            Version::Canary => "    rollout: { canary: { partitions: 50%, for: 2s }, budget: { p99: 0% } }\n",
            Version::Shadow => "    rollout: { shadow: { for: 2s }, budget: { p99: 0% } }\n",
        };
        // The spare topic is written to by nobody; naming it is what a change of topics is.
        let (without, with) =
            (format!("{}.narrow]", self.application()), format!("{0}.narrow, {0}.spare]", self.application()));
        let base = if version == Version::Topic { base.replace(&without, &with) } else { base.to_owned() };
        fs::write(
            &config,
            format!("{base}{VERSION_MARK}    settings: {{ effort: {EFFORT}, version: {number} }}\n{rollout}"),
        )?;
        self.signal(place, libc::SIGHUP);
        Ok(())
    }

    /// How many reloads the process has taken up.
    pub fn reloads(&self, place: usize) -> usize {
        self.slots[place].process.as_ref().map_or(0, |process| process.log().matches("reloaded: workers").count())
    }

    /// It must take up one more, unless it is gone meanwhile.
    pub fn wait_reloaded(&self, place: usize, before: usize) {
        let done = || self.slots[place].process.is_none() || self.reloads(place) > before;
        if !wait(RELOADS_WITHIN, done) {
            let name = self.instance(place);
            self.findings.add(Kind::Exit, || format!("{name} did not take up a reload ({})", self.log(place)));
        }
    }

    /// SIGKILL.
    pub fn kill(&mut self, place: usize) {
        if let Some(mut process) = self.slots[place].process.take() {
            process.kill();
        }
    }

    /// SIGTERM, once it listens; it must end by itself and say that all went well.
    pub fn terminate(&mut self, place: usize) {
        let Some(mut process) = self.slots[place].process.take() else { return };
        let name = self.instance(place);
        let runs = wait(RUNS_WITHIN, || process.ended().is_some() || process.says_it_runs());
        process.signal(libc::SIGTERM);
        let mut status = None;
        let ended = wait(STOPS_WITHIN, || {
            status = process.ended();
            status.is_some()
        });
        match status {
            Some(status) if status.success() => {}
            Some(status) => {
                self.findings
                    .add(Kind::Exit, || format!("{name} ended with {status} after SIGTERM ({})", self.log(place)));
            }
            None => {
                debug_assert!(!ended);
                let of = if runs { "SIGTERM" } else { "a start that took too long" };
                self.findings.add(Kind::Exit, || {
                    format!("{name} did not end within {STOPS_WITHIN:?} of {of} ({})", self.log(place))
                });
                process.kill();
            }
        }
    }

    fn log(&self, place: usize) -> String {
        format!("log p{place}-{}", self.slots[place].lives)
    }

    /// Waits until it says that it runs.
    pub fn wait_running(&self, place: usize) -> bool {
        let Some(process) = &self.slots[place].process else { return false };
        wait(RUNS_WITHIN, || process.says_it_runs())
    }

    pub fn signal(&self, place: usize, signal: i32) {
        if let Some(process) = &self.slots[place].process {
            process.signal(signal);
        }
    }

    /// A process that ended without being told is a finding; it is started again, as a supervisor would.
    pub fn look(&mut self) -> Result<()> {
        for place in self.running() {
            let slot = &mut self.slots[place];
            let Some(process) = &mut slot.process else { continue };
            if let Some(status) = process.ended() {
                let log = process.log();
                slot.process = None;
                let last: Vec<&str> = log.lines().rev().take(3).collect();
                let at = self.log(place);
                self.findings.add(Kind::Exit, || {
                    format!("p{place} ended with {status} without being told ({at}): {}", last.join(" | "))
                });
                self.start(place)?;
                continue;
            }
            self.weigh(place);
        }
        Ok(())
    }

    fn weigh(&mut self, place: usize) {
        let slot = &mut self.slots[place];
        let (Some(process), Some(started)) = (&slot.process, slot.started) else { return };
        if slot.sampled.is_some_and(|at| at.elapsed() < Duration::from_secs(1)) {
            return;
        }
        slot.sampled = Some(Instant::now());
        let Some(kib) = process.resident_kib() else { return };
        self.memory.peak_kib = self.memory.peak_kib.max(kib);
        if started.elapsed() > Duration::from_secs(10) {
            if slot.first_kib == 0 {
                slot.first_kib = kib;
            }
            self.memory.growth_kib = self.memory.growth_kib.max(kib as i64 - slot.first_kib as i64);
        }
        if kib > MEMORY_LIMIT_KIB {
            self.findings.add(Kind::Memory, || format!("p{place} has {kib} KiB"));
        }
    }
}

/// Waits until `condition` holds; says whether it came to that.
pub fn wait(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    within(limit, || condition().then_some(())).is_some()
}
