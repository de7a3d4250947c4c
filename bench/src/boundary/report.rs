//! What came out: medians, ratios to native within a round, goals; as a table and as JSON.

use super::Goal;
use crate::measure::{load_average, spread, write_json};
use anyhow::Result;
use boundary_work::Work;
use pelton_sandbox::Digest;
use serde_json::{Value, json};
use std::fmt::{self, Write};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// What two runs of the same thing differ by: a goal that is exceeded by less is not missed. The rounds of a run do not
/// show it, as compiled code stays where it is: once in a dozen runs a figure of one module was even 15 % off.
const NOISE: f64 = 0.05;

/// One contender at one kind of work.
pub(crate) struct Row {
    /// CPU ns a record, round by round.
    samples: Vec<f64>,
    /// Minimum, median, maximum.
    ns: [f64; 3],
    /// The same, of the quotients by native within a round.
    ratio: [f64; 3],
}

impl Row {
    pub(crate) fn new(samples: Vec<f64>, native: &[f64]) -> Self {
        let ratio = spread(samples.iter().zip(native).map(|(ns, native)| ns / native));
        Self { ns: spread(samples.iter().copied()), ratio, samples }
    }
}

/// All contenders at one kind of work, native first.
pub(crate) struct Column {
    pub(crate) work: Work,
    pub(crate) bytes: usize,
    pub(crate) goal: Goal,
    pub(crate) rows: Vec<Row>,
    /// Output records of one pass, and the digest of their bytes: the same for all.
    pub(crate) outputs: usize,
    pub(crate) digest: Digest,
}

pub(crate) struct Report {
    rounds: usize,
    names: Vec<String>,
    /// Whose row the goals are for.
    best: usize,
    notes: Vec<String>,
    columns: Vec<Column>,
    load: [String; 2],
}

impl Report {
    /// `best`: the guest that the goals are for.
    pub(crate) fn new(rounds: usize, guests: impl Iterator<Item = String>, best: usize, notes: Vec<String>) -> Self {
        let names = std::iter::once("native, `cargo build --release`".to_owned()).chain(guests).collect();
        let load = [load_average(), String::new()];
        Self { rounds, names, best: best + 1, notes, columns: Vec::new(), load }
    }

    pub(crate) fn add(&mut self, column: Column) {
        self.columns.push(column);
    }

    pub(crate) fn finish(&mut self) {
        self.load[1] = load_average();
    }

    /// Whether all goals are met, noise aside.
    pub(crate) fn is_good(&self) -> bool {
        !self.columns.iter().any(|column| matches!(self.verdict(column), Some(Verdict::Missed(_))))
    }

    fn verdict(&self, column: &Column) -> Option<Verdict> {
        let row = column.rows.get(self.best)?;
        let over = match column.goal {
            Goal::None => return None,
            Goal::Ns(wanted) => row.ns[1] / wanted - 1.0,
            Goal::Ratio(wanted) => row.ratio[1] / wanted - 1.0,
        };
        Some(match over {
            over if over <= 0.0 => Verdict::Met,
            over if over <= NOISE => Verdict::WithinNoise,
            over => Verdict::Missed(over),
        })
    }

    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |cells: Vec<String>| {
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        };
        let cells = |first: &str, cell: &dyn Fn(&Column) -> String| {
            std::iter::once(first.to_owned()).chain(self.columns.iter().map(cell)).collect::<Vec<_>>()
        };
        line(cells("CPU ns a record (ratio to native: median [min..max])", &|column| {
            format!("{} {} B", column.work, column.bytes)
        }));
        line(cells("---", &|_| "---".into()));
        for (i, name) in self.names.iter().enumerate() {
            line(cells(name, &|column| match &column.rows[i] {
                row if i == 0 => format!("{:.0}", row.ns[1]),
                Row { ns, ratio: [min, median, max], .. } => {
                    format!("{:.0} ({median:.2} [{min:.2}..{max:.2}])", ns[1])
                }
            }));
        }
        let goal = |column: &Column| {
            self.verdict(column).map_or_else(String::new, |verdict| format!("{}: {verdict}", column.goal))
        };
        line(cells(&format!("goals, for: {}", self.names[self.best]), &goal));
        let _ = writeln!(
            text,
            "\n{} rounds in turns, batches of 100, keys of 16 B, 2 headers, all limits on. {}; load {} before, {} after.",
            self.rounds,
            machine(),
            self.load[0],
            self.load[1]
        );
        for note in &self.notes {
            let _ = writeln!(text, "{note}");
        }
        text
    }

    /// What all contenders agree on.
    pub(crate) fn agreement(&self) -> String {
        let line = |column: &Column| {
            format!("{} {} B: {} outputs, sha256 {}\n", column.work, column.bytes, column.outputs, column.digest)
        };
        self.columns.iter().map(line).collect::<String>() + "guest and native agree\n"
    }

    /// Writes everything as JSON, and says where.
    pub(crate) fn write(&self) -> Result<PathBuf> {
        write_json("boundary", &self.json())
    }

    fn json(&self) -> Value {
        let spread = |[min, median, max]: [f64; 3]| json!({ "min": min, "median": median, "max": max });
        let row = |(name, row): (&String, &Row)| json!({ "name": name, "ns": spread(row.ns), "ratio": spread(row.ratio), "samples_ns": row.samples });
        let column = |column: &Column| {
            json!({
                "work": column.work.to_string(),
                "bytes": column.bytes,
                "goal": column.goal.to_string(),
                "verdict": self.verdict(column).map(|verdict| verdict.to_string()),
                "outputs": column.outputs,
                "sha256": column.digest.to_string(),
                "rows": self.names.iter().zip(&column.rows).map(row).collect::<Vec<_>>(),
            })
        };
        json!({
            "machine": machine(),
            "load": self.load,
            "rounds": self.rounds,
            "notes": self.notes,
            "judged": self.names[self.best],
            "good": self.is_good(),
            "columns": self.columns.iter().map(column).collect::<Vec<_>>(),
        })
    }
}

/// How a goal stands.
enum Verdict {
    Met,
    WithinNoise,
    /// By this part of it.
    Missed(f64),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Met => f.write_str("met"),
            Verdict::WithinNoise => f.write_str("met, within noise"),
            Verdict::Missed(over) => write!(f, "MISSED by {:.0} %", over * 100.0),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::None => Ok(()),
            Goal::Ns(ns) => write!(f, "<= {ns:.0} ns"),
            Goal::Ratio(ratio) => write!(f, "<= {ratio:.1}x"),
        }
    }
}

/// Processor and compiler.
fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    format!("{model}, {cores} cores, {rustc}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Native takes 100 ns, in one round 200; so does the guest, times `ratio`.
    fn report(goal: Goal, ratio: f64) -> Report {
        let native = [100.0, 200.0, 100.0];
        let guest = native.iter().map(|ns| ns * ratio).collect();
        let rows = vec![Row::new(native.to_vec(), &native), Row::new(guest, &native)];
        let mut report = Report::new(3, ["guest".to_owned()].into_iter(), 0, Vec::new());
        report.add(Column { work: Work::Json, bytes: 300, goal, rows, outputs: 1, digest: Digest::of(b"") });
        report
    }

    #[test]
    fn goals_are_for_medians_and_noise_is_no_miss() {
        let stands = |goal, ratio| {
            let report = report(goal, ratio);
            (report.verdict(&report.columns[0]).map(|verdict| verdict.to_string()), report.is_good())
        };
        assert_eq!(stands(Goal::Ratio(1.5), 1.4), (Some("met".into()), true));
        assert_eq!(stands(Goal::Ratio(1.5), 1.55), (Some("met, within noise".into()), true));
        assert_eq!(stands(Goal::Ratio(1.5), 1.8), (Some("MISSED by 20 %".into()), false));
        assert_eq!(stands(Goal::Ns(130.0), 1.25), (Some("met".into()), true));
        assert_eq!(stands(Goal::Ns(100.0), 1.25), (Some("MISSED by 25 %".into()), false));
        assert_eq!(stands(Goal::None, 9.0), (None, true));
    }

    #[test]
    fn the_table_has_a_line_for_each_contender_and_one_for_the_goals() {
        let table = report(Goal::Ratio(1.5), 1.25).table();
        assert!(table.contains("| guest | 125 (1.25 [1.25..1.25]) |"), "{table}");
        assert!(table.contains("| goals, for: guest | <= 1.5x: met |"), "{table}");
    }
}
