//! Throughput: Pelton with every guard on against the bare loop with the same work done natively, in turns. Owns the plan:
//! what is measured, by whom, and against which goals.

use crate::contender::{AT_LEAST_ONCE, EXACTLY_ONCE, Pelton, Place, Variable};
use crate::measure::Form;
use crate::raw;
use crate::turns::{Base, Choice, Contender, Goal, Limit, Modules, Report, Workload};
use anyhow::{Result, bail};
use boundary_work::Work;
use clap::Args;
use pelton_integration::broker;

/// At-least-once is not to be much quicker: records a second of exactly-once against it.
const GUARANTEE: f64 = 0.95;

/// `raw`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Turns of each contender.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Also Pelton with this in its environment: a setting, say `PELTON__KAFKA__PRODUCER__PROPERTIES__LINGER_MS=5`, or a library
    /// to load before its own, `LD_PRELOAD=FILE`. May be given several times, each with turns of its own.
    #[arg(long, value_name = "NAME=VALUE")]
    with: Vec<Variable>,
    #[command(flatten)]
    choice: Choice,
}

/// A full run is ten seconds of the bare loop or so. With each: CPU a record against the bare loop with as many lanes, at
/// most; records a second against it, at least.
const PLAN: [(Workload, f64, f64); 3] = [
    (Workload { name: "identity 100 B", work: Work::Identity, bytes: 100, records: 10_000_000 }, 1.25, 0.80),
    (Workload { name: "identity 1 KB", work: Work::Identity, bytes: 1_000, records: 3_000_000 }, 1.15, 0.90),
    (Workload { name: "JSON 300 B", work: Work::Json, bytes: 300, records: 4_000_000 }, 1.50, 0.0),
];

const PELTON: &str = "Pelton";
const LOOSE: &str = "Pelton, at-least-once";
const BASE: Base = Base { name: "bare loop, 2 lanes", called: "the bare loop" };

/// Prints one table for each workload; says whether no goal was missed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let plan: Vec<_> = PLAN.iter().filter(|(workload, ..)| options.choice.wants(workload)).collect();
    if plan.is_empty() {
        bail!("there is nothing to measure");
    }
    let modules = Modules::make()?;
    let broker = broker::start()?;
    eprintln!("Kafka: {} at {}", broker.description, broker.bootstrap);
    // Whoever varies Pelton's settings compares with Pelton.
    let base = if options.with.is_empty() { BASE } else { Base { name: PELTON, called: PELTON } };
    let mut report = Report::new("raw", (&options.choice, options.rounds), base, "1 worker, 100 ms commits");
    for (workload, cpu, rate) in plan {
        let load = workload.load(&broker.bootstrap, options.choice.records(workload), Form::Bytes)?;
        report.add((workload, &load), contenders(workload, &modules, &options.with), &goals(*cpu, *rate))?;
    }
    report.end()
}

fn contenders<'a>(workload: &Workload, modules: &'a Modules, with: &'a [Variable]) -> Vec<Contender<'a>> {
    let work = workload.work;
    let module = modules.of(work);
    let raw = |lanes| move |place: Place<'_>| raw::Settings { lanes, work, ..Default::default() }.start(place);
    let pelton = |delivery: &'static str| move |place: Place<'_>| Pelton::of(work, module, delivery).start(place);
    let loose = move |place: Place<'_>| raw::Settings { work, loose: true, ..Default::default() }.start(place);
    let besides = |variable: &'a Variable| {
        let environment = std::slice::from_ref(variable);
        let start =
            move |place: Place<'_>| Pelton { environment, ..Pelton::of(work, module, EXACTLY_ONCE) }.start(place);
        Contender { name: format!("Pelton, with {variable}"), start: Ok(Box::new(start)) }
    };
    let mut contenders = vec![
        Contender { name: BASE.name.into(), start: Ok(Box::new(raw(2))) },
        Contender { name: "bare loop, 2 lanes, at-least-once".into(), start: Ok(Box::new(loose)) },
        Contender { name: "bare loop, 1 lane".into(), start: Ok(Box::new(raw(1))) },
        Contender { name: PELTON.into(), start: Ok(Box::new(pelton(EXACTLY_ONCE))) },
        Contender { name: LOOSE.into(), start: Ok(Box::new(pelton(AT_LEAST_ONCE))) },
    ];
    contenders.extend(with.iter().map(besides));
    contenders
}

fn goals(cpu: f64, rate: f64) -> [Goal; 3] {
    let against = BASE.name;
    [
        Goal {
            what: "CPU a record against the bare loop",
            of: PELTON,
            against,
            by: |s| s.cpu_us,
            limit: Limit::AtMost(cpu),
        },
        Goal { what: "records/s against it", of: PELTON, against, by: |s| s.per_second, limit: Limit::AtLeast(rate) },
        Goal {
            what: "records/s, exactly-once against at-least-once",
            of: PELTON,
            against: LOOSE,
            by: |s| s.per_second,
            limit: Limit::AtLeast(GUARANTEE),
        },
    ]
}
