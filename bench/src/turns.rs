//! Contenders over the same records in turns, and what is told of them: a table in which each is compared with one of them,
//! round by round, and goals. Knows nothing of who the contenders are.

use crate::boundary::{self, Build};
use crate::contender::Place;
use crate::measure::{self, Form, Load, Process, Sample, noisy, spread};
use anyhow::{Result, bail};
use boundary_work::Work;
use clap::Args;
use pelton_integration::guest;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

pub(crate) const PARTITIONS: i32 = 6;
/// With `--quick`.
const FEW: usize = 20_000;

/// Turns before the first that counts, at most.
const WARM_TURNS: usize = 4;
/// A turn in which the broker took more than this of what it took in the one before was the last.
const STILL_FALLING: f64 = 0.95;

/// Which workloads, by whom, and how much of them.
#[derive(Args, Debug)]
pub(crate) struct Choice {
    /// Only the workload whose name contains this, say "1 KB".
    #[arg(long)]
    only: Option<String>,
    /// Only the contenders whose name contains this, say "Flink".
    #[arg(long)]
    contender: Option<String>,
    /// Thousandths of the records of a full run.
    #[arg(long, default_value_t = 1_000)]
    size: usize,
    /// Whether the outputs are right, with few records: no goals.
    #[arg(long)]
    quick: bool,
}

/// One kind of record and what is done to it.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) work: Work,
    pub(crate) bytes: usize,
    /// Of a full run.
    pub(crate) records: usize,
}

/// The modules that do it in Pelton.
#[derive(Debug)]
pub(crate) struct Modules {
    identity: PathBuf,
    boundary: PathBuf,
}

/// Who has a turn.
pub(crate) struct Contender<'a> {
    pub(crate) name: String,
    /// How it is started, or why it cannot be.
    pub(crate) start: Result<Start<'a>, String>,
}

pub(crate) type Start<'a> = Box<dyn Fn(Place<'_>) -> Result<Process> + 'a>;

/// A contender's line: a sample of each round, or why there is none.
enum Row {
    Measured(Vec<Sample>),
    Missing(String),
    Failed(String),
}

/// What was measured of one workload.
struct Table<'a> {
    workload: &'a Workload,
    records: usize,
    rounds: usize,
    rows: Vec<(String, Row)>,
    base: Base,
}

/// What all workloads of a command come to.
pub(crate) struct Report<'a> {
    /// Of the command.
    name: &'a str,
    choice: &'a Choice,
    /// Turns of each contender.
    rounds: usize,
    base: Base,
    /// How it was measured, for the line above a table.
    how: &'a str,
    tables: Vec<Value>,
    good: bool,
}

/// The contender that the others are compared with, and what the table's head calls it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base {
    pub(crate) name: &'static str,
    pub(crate) called: &'static str,
}

/// What the median over the rounds of one contender against another has to be.
pub(crate) struct Goal {
    /// What is compared, for people.
    pub(crate) what: &'static str,
    pub(crate) of: &'static str,
    pub(crate) against: &'static str,
    pub(crate) by: fn(&Sample) -> f64,
    pub(crate) limit: Limit,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Choice {
    pub(crate) fn wants(&self, workload: &Workload) -> bool {
        self.only.as_ref().is_none_or(|only| workload.name.contains(only))
    }

    /// Whether the contender of this name has turns.
    pub(crate) fn invites(&self, name: &str) -> bool {
        self.contender.as_ref().is_none_or(|only| name.contains(only))
    }

    pub(crate) fn records(&self, workload: &Workload) -> usize {
        if self.quick { FEW } else { workload.records * self.size / 1_000 }
    }
}

impl Modules {
    pub(crate) fn make() -> Result<Self> {
        Ok(Modules { identity: guest::module("identity"), boundary: Build::AS_TRANSFORMS.make()? })
    }

    pub(crate) fn of(&self, work: Work) -> &Path {
        if work == Work::Identity { &self.identity } else { &self.boundary }
    }
}

impl Workload {
    /// So many records of it in a new topic; outputs are compared in this form.
    pub(crate) fn load(&self, bootstrap: &str, records: usize, form: Form) -> Result<Load> {
        eprintln!("{}: loading {records} records", self.name);
        let size = (PARTITIONS, records);
        match self.work {
            Work::Json | Work::JsonRaw => {
                Load::new(bootstrap, size, |i| boundary::event(self.bytes, i).into_bytes(), (self.work, form))
            }
            Work::Order => {
                Load::new(bootstrap, size, |i| boundary::order(self.bytes, i).into_bytes(), (self.work, form))
            }
            work => Load::new(bootstrap, size, noisy(self.bytes), (work, form)),
        }
    }
}

impl<'a> Report<'a> {
    pub(crate) fn new(name: &'a str, (choice, rounds): (&'a Choice, usize), base: Base, how: &'a str) -> Self {
        Report { name, choice, rounds, base, how, tables: Vec::new(), good: true }
    }

    /// Measures one workload by those contenders that are asked for, prints its table and judges it; with `--quick` only
    /// compares the outputs.
    pub(crate) fn add(
        &mut self,
        (workload, load): (&Workload, &Load),
        mut contenders: Vec<Contender<'_>>,
        goals: &[Goal],
    ) -> Result<()> {
        contenders.retain(|contender| self.choice.invites(&contender.name));
        if self.choice.quick {
            self.good &= check(load, workload, &contenders);
            return Ok(());
        }
        let table = Table::measure((workload, load), &contenders, (self.rounds, self.base))?;
        table.print(self.how);
        self.good &= table.judge(goals);
        self.tables.push(table.as_json());
        Ok(())
    }

    /// Writes what was measured; says whether nothing was missed.
    pub(crate) fn end(self) -> Result<bool> {
        if !self.choice.quick {
            let path = measure::write_json(self.name, &Value::from(self.tables))?;
            eprintln!("written to {}", path.display());
        }
        Ok(self.good)
    }
}

/// Whether each writes what it should; says so for each.
fn check(load: &Load, workload: &Workload, contenders: &[Contender<'_>]) -> bool {
    let mut good = true;
    for (index, Contender { name, start }) in contenders.iter().enumerate() {
        let said = match start {
            Err(reason) => format!("not available: {reason}"),
            Ok(start) => match load.run((&format!("{index}"), &["out"]), start) {
                Ok(_) => "the outputs are those expected".to_owned(),
                Err(error) => {
                    good = false;
                    format!("failed: {error:#}")
                }
            },
        };
        println!("{}, {name}: {said}", workload.name);
    }
    good
}

/// The first contender that is there.
pub(crate) fn first<'c, 'a>(contenders: &'c [Contender<'a>]) -> Option<(&'c str, &'c Start<'a>)> {
    contenders.iter().find_map(|contender| Some((contender.name.as_str(), contender.start.as_ref().ok()?)))
}

/// Lets the first contender that is there run until the broker's CPU for a record falls no more: a JVM compiles for most of
/// its first minute, and who came later would find it quicker. A failure is told in that contender's own turn.
fn warm_up((workload, load): (&Workload, &Load), contenders: &[Contender<'_>]) {
    let Some((name, start)) = first(contenders) else { return };
    let mut before = f64::INFINITY;
    for turn in 0..WARM_TURNS {
        let Ok(sample) = load.measure((&format!("warm-{turn}"), &["out"]), start) else { return };
        eprintln!("{}, warming up, {name}: {sample}; the broker {:.2?} us", workload.name, sample.broker_us);
        // Where the broker is no process of ours, one turn must do.
        let Some(now) = sample.broker_us.filter(|now| *now <= before * STILL_FALLING) else { return };
        before = now;
    }
}

impl<'a> Table<'a> {
    /// Measures all, so many rounds. Who fails once has no further turn.
    fn measure(
        (workload, load): (&'a Workload, &Load),
        contenders: &[Contender<'_>],
        (rounds, base): (usize, Base),
    ) -> Result<Self> {
        if rounds == 0 {
            bail!("there is nothing to measure");
        }
        let row = |contender: &Contender<'_>| match &contender.start {
            Ok(_) => Row::Measured(Vec::new()),
            Err(reason) => Row::Missing(reason.clone()),
        };
        let mut rows: Vec<(String, Row)> = contenders.iter().map(|c| (c.name.clone(), row(c))).collect();
        warm_up((workload, load), contenders);
        for round in 0..rounds {
            let mut turns: Vec<_> = rows.iter_mut().zip(contenders).enumerate().collect();
            // There and back, so that what changes with time favours nobody.
            if round % 2 == 1 {
                turns.reverse();
            }
            for (index, ((name, row), contender)) in turns {
                let (Row::Measured(samples), Ok(start)) = (&mut *row, &contender.start) else { continue };
                match load.measure((&format!("{index}-{round}"), &["out"]), start) {
                    Ok(sample) => {
                        eprintln!("{}, round {} {name}: {sample}", workload.name, round + 1);
                        samples.push(sample);
                    }
                    Err(error) => {
                        eprintln!("{}, round {} {name}: {error:#}", workload.name, round + 1);
                        *row = Row::Failed(format!("{error:#}"));
                    }
                }
            }
        }
        Ok(Table { workload, records: load.records(), rounds, rows, base })
    }

    /// Prints it under one line that says how it was measured.
    fn print(&self, how: &str) {
        println!(
            "\n{}, {} records, {PARTITIONS} partitions, {how}; {} rounds in turns\n",
            self.workload.name, self.records, self.rounds
        );
        println!(
            "| contender | CPU us a record min / median / max | against {} | records/s | against it | peak RSS MiB | CPU us a record from its start | the broker's CPU | load |",
            self.base.called
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        for (name, row) in &self.rows {
            match row {
                Row::Measured(own) => self.print_row(name, own),
                Row::Missing(reason) => println!("| {name} | not available: {reason} | | | | | | | |"),
                Row::Failed(reason) => println!("| {name} | failed: {reason} | | | | | | | |"),
            }
        }
    }

    fn print_row(&self, name: &str, own: &[Sample]) {
        let (cpu, rate) = (spread(own.iter().map(|s| s.cpu_us)), spread(own.iter().map(|s| s.per_second)));
        let against = |by| match self.ratios(name, self.base.name, by) {
            Some([min, median, max]) => format!("{median:.2} ({min:.2} to {max:.2})"),
            None => "-".to_owned(),
        };
        let rss = own.iter().map(|s| s.rss_mib).fold(0.0, f64::max);
        let load = own.iter().map(|s| s.load).fold(0.0, f64::max);
        let broker = spread(own.iter().filter_map(|s| s.broker_us))[1];
        let broker = if broker.is_nan() { "?".to_owned() } else { format!("{broker:.2}") };
        println!(
            "| {name} | {:.2} / {:.2} / {:.2} | {} | {:.0} | {} | {rss:.0} | {:.2} | {broker} | {load:.1} |",
            cpu[0],
            cpu[1],
            cpu[2],
            against(|s: &Sample| s.cpu_us),
            rate[1],
            against(|s: &Sample| s.per_second),
            spread(own.iter().map(|s| s.whole_us))[1]
        );
    }

    /// Says of each goal whether it is met; whether none is missed and nobody failed. A contender that is not there leaves
    /// a goal open.
    fn judge(&self, goals: &[Goal]) -> bool {
        let mut judged = Vec::new();
        let mut open = Vec::new();
        for Goal { what, of, against, by, limit } in goals {
            match self.ratios(of, against, *by) {
                Some([_, median, _]) => {
                    judged.push((format!("{what} {median:.3}"), limit.met(median), limit.to_string()))
                }
                None => open.push(format!("not judged: {what}, goal {limit}: there is no {of} or no {against}")),
            }
        }
        let met = measure::judge(&judged);
        open.iter().for_each(|line| println!("{line}"));
        met && !self.rows.iter().any(|(_, row)| matches!(row, Row::Failed(_)))
    }

    /// Of each round: minimum, median, maximum.
    fn ratios(&self, of: &str, against: &str, by: fn(&Sample) -> f64) -> Option<[f64; 3]> {
        let (of, against) = (self.samples(of)?, self.samples(against)?);
        Some(spread(of.iter().zip(against).map(|(of, against)| by(of) / by(against))))
    }

    fn samples(&self, name: &str) -> Option<&[Sample]> {
        self.rows.iter().find_map(|(own, row)| match row {
            Row::Measured(samples) if own == name => Some(samples.as_slice()),
            _ => None,
        })
    }

    fn as_json(&self) -> Value {
        let sample = |s: &Sample| json!({ "cpu_us": s.cpu_us, "per_second": s.per_second, "rss_mib": s.rss_mib, "whole_us": s.whole_us, "broker_us": s.broker_us, "load": s.load });
        let row = |row: &Row| match row {
            Row::Measured(samples) => samples.iter().map(sample).collect(),
            Row::Missing(reason) => json!({ "not available": reason }),
            Row::Failed(reason) => json!({ "failed": reason }),
        };
        let contenders: serde_json::Map<String, Value> =
            self.rows.iter().map(|(name, own)| (name.clone(), row(own))).collect();
        json!({
            "workload": self.workload.name, "records": self.records,
            "contenders": contenders
        })
    }
}

impl Limit {
    fn met(self, ratio: f64) -> bool {
        match self {
            Limit::AtMost(limit) => ratio <= limit,
            Limit::AtLeast(limit) => ratio >= limit,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Limit::AtMost(limit) => write!(f, "at most {limit}"),
            Limit::AtLeast(limit) => write!(f, "at least {limit}"),
        }
    }
}
