//! What a run has to say for itself: figures by kind of fault, findings, controls; as text and as JSON.

use super::arena::Figures;
use super::controls::Caught;
use super::findings::Findings;
use super::nemesis::Inflicted;
use crate::proxy::Counts;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Everything that a report is made of.
#[derive(Debug)]
pub struct Run<'a> {
    pub seed: u64,
    pub brokers: usize,
    pub processes: usize,
    pub static_members: &'a [bool],
    pub rate: u64,
    pub lasted: Duration,
    pub planned: u32,
    pub inflicted: &'a [Inflicted],
    pub figures: Figures,
    pub proxy: Counts,
    pub findings: &'a Findings,
    pub controls: &'a [Caught],
    pub passed: bool,
}

/// Seconds of all faults of a kind.
#[derive(Debug, Default)]
struct Spread(Vec<Duration>);

impl Spread {
    fn of(times: impl Iterator<Item = Option<Duration>>) -> Self {
        let mut times: Vec<Duration> = times.flatten().collect();
        times.sort_unstable();
        Spread(times)
    }

    fn median(&self) -> Option<f64> {
        // Of an even number the mean of the middle two.
        let (low, high) = (self.0.get(self.0.len().checked_sub(1)? / 2)?, self.0.get(self.0.len() / 2)?);
        Some(seconds(&((*low + *high) / 2)))
    }

    fn worst(&self) -> Option<f64> {
        self.0.last().map(seconds)
    }

    fn json(&self) -> Value {
        json!({ "median_s": self.median(), "worst_s": self.worst() })
    }

    fn text(&self) -> String {
        match (self.median(), self.worst()) {
            (Some(median), Some(worst)) => format!("{median:6.1} {worst:6.1}"),
            _ => format!("{:>6} {:>6}", "-", "-"),
        }
    }
}

/// To a hundredth.
fn seconds(time: &Duration) -> f64 {
    (time.as_secs_f64() * 100.0).round() / 100.0
}

/// A kind of fault, parted by what else decides how long it lasts.
fn label(inflicted: &Inflicted) -> String {
    let member = match inflicted.static_member {
        Some(true) => " (static)",
        Some(false) | None => "",
    };
    format!("{}{member}", inflicted.fault.name())
}

impl Run<'_> {
    fn by_kind(&self) -> BTreeMap<String, Vec<&Inflicted>> {
        let mut kinds: BTreeMap<String, Vec<&Inflicted>> = BTreeMap::new();
        for inflicted in self.inflicted {
            kinds.entry(label(inflicted)).or_default().push(inflicted);
        }
        kinds
    }

    /// Kinds of fault that were done at least once.
    pub fn kinds(&self) -> usize {
        let mut kinds: Vec<_> = self.inflicted.iter().map(|i| i.fault).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.len()
    }

    /// Kills at a chosen point of a commit.
    fn kills_inside_a_commit(&self) -> usize {
        use super::schedule::Fault::{KillAfterAnswer, KillBeforeAnswer, KillBeforeDelivery};
        let inside = |i: &&Inflicted| matches!(i.fault, KillBeforeDelivery | KillBeforeAnswer | KillAfterAnswer);
        self.inflicted.iter().filter(inside).count()
    }

    pub fn json(&self) -> Value {
        let faults: Vec<Value> = self
            .by_kind()
            .into_iter()
            .map(|(kind, all)| {
                json!({
                    "kind": kind,
                    "count": all.len(),
                    "from_fault": Spread::of(all.iter().map(|i| i.from_fault)).json(),
                    "from_heal": Spread::of(all.iter().map(|i| i.from_heal)).json(),
                    "input_silence": Spread::of(all.iter().map(|i| i.input_silence)).json(),
                    "beyond_input_silence": beyond(&all).json(),
                })
            })
            .collect();
        let findings: Vec<Value> = self
            .findings
            .all()
            .into_iter()
            .map(|(kind, count, examples)| json!({ "kind": kind.name(), "count": count, "examples": examples }))
            .collect();
        let controls: Vec<Value> = self.controls.iter().map(Caught::json).collect();
        json!({
            "passed": self.passed,
            "seed": self.seed,
            "brokers": self.brokers,
            "processes": self.processes,
            "static_members": self.static_members,
            "rate_per_s": self.rate,
            "lasted_s": seconds(&self.lasted),
            "faults_planned": self.planned,
            "faults_inflicted": self.inflicted.len(),
            "kinds_inflicted": self.kinds(),
            "faults": faults,
            "inputs_acknowledged": self.figures.inputs,
            "input_repeats": self.figures.input_repeats,
            "outputs": self.figures.outputs,
            "dead_letters": self.figures.dead_letters,
            "aborted_records": self.figures.aborted_records,
            "end_txn": { "commits": self.proxy.commits, "aborts": self.proxy.aborts, "init_producer_ids": self.proxy.inits },
            "late_end_txn": {
                "held": self.proxy.late.held,
                "delivered_after_next_begin": self.proxy.late.delivered,
                "delivered_without": self.proxy.late.without_begin,
                "accepted_by_broker": self.proxy.late.accepted,
                "refused_by_broker": self.proxy.late.refused,
            },
            "kills_inside_a_commit": self.kills_inside_a_commit(),
            "lost_answers": self.proxy.lost_answers,
            "connections_cut": self.proxy.cut,
            "memory": { "peak_kib": self.figures.memory.peak_kib, "growth_kib": self.figures.memory.growth_kib },
            "findings": findings,
            "negative_controls": controls,
        })
    }

    /// For people.
    pub fn print(&self) {
        println!(
            "\nfault                              count  from fault      from heal       input silent    beyond it"
        );
        println!(
            "                                          median  worst   median  worst   median  worst   median  worst"
        );
        for (kind, all) in self.by_kind() {
            println!(
                "{kind:34} {:5}   {}   {}   {}   {}",
                all.len(),
                Spread::of(all.iter().map(|i| i.from_fault)).text(),
                Spread::of(all.iter().map(|i| i.from_heal)).text(),
                Spread::of(all.iter().map(|i| i.input_silence)).text(),
                beyond(&all).text(),
            );
        }
        let Figures { inputs, input_repeats, outputs, dead_letters, aborted_records, memory } = self.figures;
        println!("\n{} faults of {} kinds in {:.0} s", self.inflicted.len(), self.kinds(), self.lasted.as_secs_f64());
        println!(
            "{inputs} records in (and {input_repeats} repeats), {outputs} outputs, {dead_letters} dead letters, \
             {aborted_records} records of aborted transactions"
        );
        println!(
            "EndTxn: {} commits, {} aborts; {} producers initialised",
            self.proxy.commits, self.proxy.aborts, self.proxy.inits
        );
        println!(
            "{:?}; {} kills inside a commit; {} lost answers",
            self.proxy.late,
            self.kills_inside_a_commit(),
            self.proxy.lost_answers
        );
        println!(
            "resident memory of a process: at most {} MiB, grew by at most {} MiB",
            memory.peak_kib >> 10,
            memory.growth_kib >> 10
        );
        for (kind, count, examples) in self.findings.all() {
            println!("{count} x {}: {}", kind.name(), examples.first().map_or("", String::as_str));
        }
        for control in self.controls {
            println!("negative control {}", control.text());
        }
        println!("seed {}: {}", self.seed, if self.passed { "PASSED" } else { "FAILED" });
    }
}

/// How much longer outputs were silent than the input itself.
fn beyond(all: &[&Inflicted]) -> Spread {
    Spread::of(all.iter().map(|i| Some(i.from_fault?.saturating_sub(i.input_silence?))))
}
