//! The torture run: a cluster that is hurt, processes that are hurt, a network that is hurt, by a schedule that a seed
//! decides, while readers who know nothing of Pelton judge every record. In one run also processors that are wrong on
//! purpose, who must be caught. `./dev torture` is its door; what is promised is in `docs/`.
//!
//! In the order of a run: [`mod@schedule`] says what is done, [`arena`] is to whom, [`nemesis`] does it, [`input`] says
//! what was put in, [`verifier`] judges, [`controls`] judge the verifier, [`report`] tells.

pub mod arena;
pub mod controls;
pub mod findings;
mod fleet;
mod generator;
mod input;
pub mod nemesis;
mod oracle;
mod progress;
mod readers;
mod record;
pub mod report;
mod sampler;
pub mod schedule;
mod verifier;
#[cfg(test)]
mod verifier_tests;

use crate::cluster::Cluster;
use crate::proxy::{Proxy, Route};
use anyhow::{Context, Result};
use arena::{Arena, Plan};
use controls::Control;
use nemesis::{Inflicted, Nemesis};
use report::Run;
use schedule::{Extent, Fault, Schedule};
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Which processes are static members of their group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StaticMembers {
    None,
    /// Each by chance.
    Some,
    All,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    /// How long faults go on.
    pub lasts: Duration,
    pub brokers: usize,
    pub processes: usize,
    /// Input records a second.
    pub rate: u64,
    /// The short run: only kinds that heal fast.
    pub slice: bool,
    /// Only these kinds; all if empty.
    pub only: Vec<Fault>,
    pub without: Vec<Fault>,
    pub controls: Vec<Control>,
    pub static_members: StaticMembers,
    pub pelton: PathBuf,
    pub saboteur: PathBuf,
    /// For logs, data and the report. Data are removed after a run that passed.
    pub home: PathBuf,
}

/// The most processes at a time.
const MOST_PROCESSES: usize = 4;

/// Runs it all, prints and writes the report; says whether nothing was found and every control was.
pub fn run(options: &Options) -> Result<bool> {
    let home = &options.home;
    let _ = fs::remove_dir_all(home);
    fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
    say(&format!("seed {}; logs and report in {}", options.seed, home.display()));
    let mut cluster = Cluster::start(options.brokers, home)?;
    let routes: Vec<Route> =
        cluster.nodes.iter().map(|node| Route { listen: node.ports.proxy, broker: node.ports.behind_proxy }).collect();
    let proxy = Proxy::start(&routes)?;
    say(&format!(
        "{} brokers answer at {} (direct), the proxy at {}",
        options.brokers,
        cluster.direct(),
        cluster.proxied()
    ));
    let result = torture(options, &mut cluster, &proxy);
    drop((proxy, cluster));
    // What went wrong may still be seen in the brokers' logs.
    if matches!(result, Ok(true)) {
        for broker in 1..=options.brokers {
            let _ = fs::remove_dir_all(home.join(format!("broker-{broker}/data")));
        }
    }
    result
}

fn torture(options: &Options, cluster: &mut Cluster, proxy: &Proxy) -> Result<bool> {
    let static_members = static_members(options);
    let plan = Plan {
        name: format!("torture-{}", options.seed),
        partitions: 12,
        rate: options.rate,
        seed: options.seed,
        processes: options.processes,
        static_members: static_members.clone(),
        workers: 2,
        binary: options.pelton.clone(),
        env: Vec::new(),
        delivery: "{ commit_interval: 100ms }".into(),
        home: options.home.join("processors"),
    };
    let start = Instant::now();
    let mut arena = Arena::begin(cluster, proxy, plan)?;
    say("every partition has come through; the faults begin");
    let mut inflicted = Vec::new();
    let mut planned = 0;
    let begun = Instant::now();
    for step in schedule(options) {
        if begun.elapsed() >= options.lasts {
            break;
        }
        planned += 1;
        say(&format!("#{} {} …", step.number, step.fault.name()));
        match Nemesis::new(&mut arena).inflict(&step)? {
            Some(done) => {
                say(&told(step.number, &done));
                inflicted.push(done);
            }
            None => say(&format!("#{} {}: did not come to it", step.number, step.fault.name())),
        }
    }
    say("no more faults; everything must come through and be right");
    let (figures, findings) = arena.finish()?;
    let (lasted, counts) = (start.elapsed(), proxy.counts());
    let mut controls = Vec::new();
    for control in &options.controls {
        controls.push(controls::run(*control, options, cluster, proxy, &options.home)?);
    }
    let passed = findings.is_empty() && controls.iter().all(|control| control.caught) && !inflicted.is_empty();
    let run = Run {
        seed: options.seed,
        brokers: options.brokers,
        processes: options.processes,
        static_members: &static_members,
        rate: options.rate,
        lasted,
        planned,
        inflicted: &inflicted,
        figures,
        proxy: counts,
        findings: &findings,
        controls: &controls,
        passed,
    };
    run.print();
    let path = options.home.join("report.json");
    fs::write(&path, format!("{:#}\n", run.json())).with_context(|| format!("cannot write {}", path.display()))?;
    println!("report: {}", path.display());
    Ok(passed)
}

fn schedule(options: &Options) -> Schedule {
    let extent = Extent { brokers: options.brokers, slice: options.slice };
    let schedule = if options.only.is_empty() {
        Schedule::new(options.seed, extent)
    } else {
        Schedule::only(options.seed, &options.only)
    };
    schedule.without(&options.without)
}

/// The first faults of the run, in one line.
pub fn outlook(options: &Options, count: usize) -> String {
    let names: Vec<&str> = schedule(options).take(count).map(|step| step.fault.name()).collect();
    names.join(", ")
}

fn static_members(options: &Options) -> Vec<bool> {
    let mut random = fastrand::Rng::with_seed(options.seed ^ 0x5747);
    let most = options.processes.max(MOST_PROCESSES);
    (0..most)
        .map(|_| match options.static_members {
            StaticMembers::None => false,
            StaticMembers::All => true,
            StaticMembers::Some => random.bool(),
        })
        .collect()
}

fn told(number: u32, done: &Inflicted) -> String {
    let seconds = |time: Option<Duration>| time.map_or_else(|| "never".into(), |t| format!("{:.1} s", t.as_secs_f64()));
    format!(
        "#{number} {}: {}; through after {}, {} after the heal (input {})",
        done.fault.name(),
        done.what,
        seconds(done.from_fault),
        seconds(done.from_heal),
        seconds(done.input_silence),
    )
}

/// One line with the time since the run began.
fn say(line: &str) {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed();
    println!("{:7.1} {line}", since.as_secs_f64());
}
