//! Throughput: Pelton with every guard on against the bare loop with the same work done natively, in turns. Owns the plan:
//! what is measured, by whom, and against which goals.

use crate::boundary::{self, Build};
use crate::contender::{Pelton, Place};
use crate::measure::{self, Load, Process, Sample, noisy, spread};
use crate::raw;
use anyhow::{Context, Result, bail};
use boundary_work::Work;
use clap::Args;
use pelton_integration::{broker, guest};
use serde_json::{Value, json};
use std::path::Path;

const PARTITIONS: i32 = 6;
const EXACTLY_ONCE: &str = "{ commit_interval: 100ms, latency: throughput }";
const AT_LEAST_ONCE: &str = "{ commit_interval: 100ms, latency: throughput, guarantee: at_least_once }";
/// At-least-once is not to be much quicker: records a second of exactly-once against it.
const GUARANTEE: f64 = 0.95;

/// `raw`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Turns of each contender.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only the workload whose name contains this, say "1 KB".
    #[arg(long)]
    only: Option<String>,
    /// Thousandths of the records of a full run.
    #[arg(long, default_value_t = 1_000)]
    size: usize,
    /// Whether the outputs are right, with few records: no goals.
    #[arg(long)]
    quick: bool,
}

/// One kind of record and what is done to it.
struct Workload {
    name: &'static str,
    work: Work,
    bytes: usize,
    /// Of a full run: ten seconds of the bare loop or so.
    records: usize,
    /// CPU a record against the bare loop with as many lanes, at most.
    cpu: f64,
    /// Records a second against it, at least.
    rate: f64,
}

const WORKLOADS: [Workload; 3] = [
    Workload { name: "identity 100 B", work: Work::Identity, bytes: 100, records: 4_000_000, cpu: 1.25, rate: 0.80 },
    Workload { name: "identity 1 KB", work: Work::Identity, bytes: 1_000, records: 1_200_000, cpu: 1.15, rate: 0.90 },
    Workload { name: "JSON 300 B", work: Work::Json, bytes: 300, records: 1_500_000, cpu: 1.50, rate: 0.0 },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contender {
    Raw { lanes: usize },
    Pelton { delivery: &'static str },
}

/// The first is what the others are compared with.
const CONTENDERS: [(&str, Contender); 4] = [
    ("bare loop, 2 lanes", Contender::Raw { lanes: 2 }),
    ("bare loop, 1 lane", Contender::Raw { lanes: 1 }),
    ("Pelton", Contender::Pelton { delivery: EXACTLY_ONCE }),
    ("Pelton, at-least-once", Contender::Pelton { delivery: AT_LEAST_ONCE }),
];
const BASE: usize = 0;
const PELTON: usize = 2;
const LOOSE: usize = 3;

/// Prints one table for each workload; says whether no goal was missed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let asked = |workload: &&Workload| options.only.as_ref().is_none_or(|only| workload.name.contains(only));
    let workloads: Vec<&Workload> = WORKLOADS.iter().filter(asked).collect();
    if options.rounds == 0 || workloads.is_empty() {
        bail!("there is nothing to measure");
    }
    let boundary = Build::AS_TRANSFORMS.make()?;
    let identity = guest::module("identity");
    let broker = broker::start()?;
    eprintln!("Kafka: {} at {}", broker.description, broker.bootstrap);
    let (mut good, mut report) = (true, Vec::new());
    for workload in workloads {
        let records = if options.quick { 20_000 } else { workload.records * options.size / 1_000 };
        eprintln!("{}: loading {records} records", workload.name);
        let load = match workload.work {
            Work::Json | Work::JsonRaw => {
                let value = |i| boundary::event(workload.bytes, i).into_bytes();
                Load::new(&broker.bootstrap, (PARTITIONS, records), value, workload.work)
            }
            work => Load::new(&broker.bootstrap, (PARTITIONS, records), noisy(workload.bytes), work),
        }?;
        let module = if workload.work == Work::Identity { &identity } else { &boundary };
        if options.quick {
            for (index, (name, contender)) in CONTENDERS.iter().enumerate() {
                let start = |place: Place<'_>| start(*contender, workload, module, place);
                load.run((&format!("{index}"), &["out"]), start).with_context(|| name.to_string())?;
            }
            println!("{}: {records} records, the outputs are those expected of every contender", workload.name);
            continue;
        }
        let samples = in_turns(&load, workload, module, options.rounds)?;
        good &= tell(workload, records, options.rounds, &samples);
        report.push(as_json(workload, records, &samples));
    }
    if !options.quick {
        let path = measure::write_json("raw", &Value::from(report))?;
        eprintln!("written to {}", path.display());
    }
    Ok(good)
}

fn in_turns(load: &Load, workload: &Workload, module: &Path, rounds: usize) -> Result<Vec<Vec<Sample>>> {
    let mut samples: Vec<Vec<Sample>> = CONTENDERS.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (index, (name, contender)) in CONTENDERS.iter().enumerate() {
            let start = |place: Place<'_>| start(*contender, workload, module, place);
            let sample =
                load.measure((&format!("{index}-{round}"), &["out"]), start).with_context(|| name.to_string())?;
            eprintln!("{}, round {} {name}: {sample}", workload.name, round + 1);
            samples[index].push(sample);
        }
    }
    Ok(samples)
}

fn start(contender: Contender, workload: &Workload, module: &Path, place: Place<'_>) -> Result<Process> {
    match contender {
        Contender::Raw { lanes } => raw::Settings { lanes, work: workload.work, ..Default::default() }.start(place),
        Contender::Pelton { delivery } => {
            let settings = match workload.work {
                Work::Identity => "{ copy: \"true\" }".to_owned(),
                work => format!("{{ work: {work} }}"),
            };
            let transform = format!("    settings: {settings}\n    on_error: {{ then: stop }}\n");
            Pelton { delivery, module, transform, also: Vec::new() }.start(place)
        }
    }
}

fn tell(workload: &Workload, records: usize, rounds: usize, samples: &[Vec<Sample>]) -> bool {
    println!(
        "\n{}, {records} records, {PARTITIONS} partitions, 1 worker, 100 ms commits; {rounds} rounds in turns; load {}\n",
        workload.name,
        measure::load_average()
    );
    println!(
        "| contender | CPU us a record min / median / max | against the bare loop | records/s | against it | peak RSS MiB |"
    );
    println!("|---|---|---|---|---|---|");
    for ((name, _), own) in CONTENDERS.iter().zip(samples) {
        let (cpu, rate) = (spread(own.iter().map(|s| s.cpu_us)), spread(own.iter().map(|s| s.per_second)));
        let (cpus, rates) = (ratios(own, &samples[BASE], |s| s.cpu_us), ratios(own, &samples[BASE], |s| s.per_second));
        let rss = own.iter().map(|s| s.rss_mib).fold(0.0, f64::max);
        println!(
            "| {name} | {:.2} / {:.2} / {:.2} | {:.2} ({:.2} to {:.2}) | {:.0} | {:.2} ({:.2} to {:.2}) | {rss:.0} |",
            cpu[0], cpu[1], cpu[2], cpus[1], cpus[0], cpus[2], rate[1], rates[1], rates[0], rates[2]
        );
    }
    let cpu = ratios(&samples[PELTON], &samples[BASE], |s| s.cpu_us)[1];
    let rate = ratios(&samples[PELTON], &samples[BASE], |s| s.per_second)[1];
    let strict = ratios(&samples[PELTON], &samples[LOOSE], |s| s.per_second)[1];
    measure::judge(&[
        (
            format!("CPU a record against the bare loop {cpu:.2}"),
            cpu <= workload.cpu,
            format!("at most {}", workload.cpu),
        ),
        (format!("records/s against it {rate:.2}"), rate >= workload.rate, format!("at least {}", workload.rate)),
        (
            format!("records/s, exactly-once against at-least-once {strict:.2}"),
            strict >= GUARANTEE,
            format!("at least {GUARANTEE}"),
        ),
    ])
}

/// Of each round.
fn ratios(of: &[Sample], against: &[Sample], what: fn(&Sample) -> f64) -> [f64; 3] {
    spread(of.iter().zip(against).map(|(of, against)| what(of) / what(against)))
}

fn as_json(workload: &Workload, records: usize, samples: &[Vec<Sample>]) -> Value {
    let of = |samples: &Vec<Sample>| -> Vec<Value> {
        let each = |s: &Sample| json!({ "cpu_us": s.cpu_us, "per_second": s.per_second, "rss_mib": s.rss_mib });
        samples.iter().map(each).collect()
    };
    let contenders: serde_json::Map<String, Value> =
        CONTENDERS.iter().zip(samples).map(|((name, _), own)| (name.to_string(), Value::from(of(own)))).collect();
    json!({ "workload": workload.name, "records": records, "load": measure::load_average(), "contenders": contenders })
}
