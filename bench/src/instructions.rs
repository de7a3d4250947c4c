//! Instructions of the middle of the loop, by Valgrind's callgrind: a batch through the worker's code, the sandbox and the
//! guest into the producer's queue. They hardly vary from run to run, so that a change of three in a hundred shows on any
//! machine, however busy; held against the baseline in `bench/instructions.json`.

use anyhow::{Context, Result, bail};
use clap::Args;
use pelton_integration::rig::{Compiled, Rig, batch};
use pelton_integration::{cache, guest, root};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// More than that is a change for the worse.
const TOLERANCE: f64 = 0.03;
/// Records of a batch, batches before counting begins, and counted ones.
const BATCH: usize = 128;
const WARM: usize = 20;
const BATCHES: usize = 40;
/// Functions of `--functions`.
const SHOWN: usize = 25;

/// `instructions`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Writes the baseline anew.
    #[arg(long)]
    update: bool,
    /// Also prints the functions that take most of them in the case whose name contains this, say "emitted, 100 B".
    #[arg(long)]
    functions: Option<String>,
}

/// What is done to which records.
struct Case {
    name: &'static str,
    copy: bool,
    bytes: usize,
    headers: usize,
}

const CASES: [Case; 4] = [
    Case { name: "kept, 100 B", copy: false, bytes: 100, headers: 0 },
    Case { name: "emitted, 100 B", copy: true, bytes: 100, headers: 0 },
    Case { name: "emitted, 1 KB", copy: true, bytes: 1_000, headers: 0 },
    Case { name: "emitted, 100 B, 2 headers", copy: true, bytes: 100, headers: 2 },
];

/// Counts, and says whether nothing has become dearer.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if cfg!(debug_assertions) {
        bail!("this is a debug build, whose figures say nothing: use ./dev bench instructions");
    }
    let module = guest::module("identity");
    let found = count(&module)?;
    let (path, compilers) = (root().join("bench/instructions.json"), compilers()?);
    if options.update {
        fs::write(&path, format!("{:#}\n", json!({ "compilers": compilers, "per_record": found })))?;
    }
    let baseline: Value = serde_json::from_str(&fs::read_to_string(&path).context("bench/instructions.json")?)?;
    println!("| instructions a record, batches of {BATCH} | baseline | now | |\n|---|---|---|---|");
    let mut well = true;
    for Case { name, .. } in CASES {
        let now = found.get(name).copied().context("a case was not counted")?;
        let before = baseline["per_record"][name].as_f64().with_context(|| format!("no baseline of {name:?}"))?;
        let more = now / before - 1.0;
        well &= more <= TOLERANCE;
        println!("| {name} | {before:.0} | {now:.0} | {:+.1} % |", more * 100.0);
    }
    println!();
    if let Some(part) = &options.functions {
        let at = CASES.iter().position(|case| case.name.contains(part)).context("no case has such a name")?;
        functions(CASES[at].name, dump(at))?;
    }
    let theirs = baseline["compilers"].as_str().unwrap_or_default();
    if theirs != compilers {
        println!(
            "The baseline was made with {theirs}, this with {compilers}: compilers alone can make such a difference."
        );
    }
    let tolerance = TOLERANCE * 100.0;
    match well {
        true => println!("met: no more than {tolerance} % above the baseline"),
        false => println!(
            "MISSED: more than {tolerance} % above the baseline. `callgrind_annotate` on {} says where; if it is worth it, \
             `./dev bench instructions --update`",
            fs::canonicalize(scratch())?.display()
        ),
    }
    Ok(well)
}

/// Runs the cases under callgrind, which writes what it has counted at each mark.
fn count(module: &Path) -> Result<BTreeMap<&'static str, f64>> {
    let _ = fs::remove_dir_all(scratch());
    fs::create_dir_all(scratch())?;
    let status = Command::new("valgrind")
        .args(["--tool=callgrind", "--quiet", "--dump-before=pelton_mark"])
        // The guest runs on a stack of its own.
        .args(["--max-stackframe=10000000", "--trace-children=no"])
        .arg(format!("--callgrind-out-file={}", scratch().join("counts").display()))
        .arg(std::env::current_exe()?)
        .arg("hot-path")
        .arg(module)
        .status()
        .context("valgrind cannot be started")?;
    if !status.success() {
        bail!("what valgrind ran ended with {status}");
    }
    let records = (BATCH * BATCHES) as f64;
    let each = |(at, case): (usize, &Case)| Ok((case.name, (total(dump(at))? / records).round()));
    CASES.iter().enumerate().map(each).collect()
}

/// That of a case. It has two marks: what is before the first is not of it.
fn dump(case: usize) -> usize {
    2 * (case + 1)
}

fn read(dump: usize) -> Result<String> {
    let path = scratch().join(format!("counts.{dump}"));
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// Prints the functions that take most by themselves. Code without a name is the guest's, compiled, or wasmtime's.
fn functions(case: &str, dump: usize) -> Result<()> {
    let text = read(dump)?;
    let (mut names, mut costs) = (BTreeMap::new(), BTreeMap::<&str, u64>::new());
    let (mut current, mut of_call) = ("", false);
    for line in text.lines() {
        if let Some(named) = line.strip_prefix("cfn=").or_else(|| line.strip_prefix("fn=")) {
            // `(number) name`, the name only where the number is new.
            let (number, name) = named.split_once(' ').unwrap_or((named, ""));
            if !name.is_empty() {
                names.insert(number, name);
            }
            if line.starts_with("fn=") {
                current = number;
            }
        } else if line.starts_with("calls=") {
            // The next line is what the called function took.
            of_call = true;
        } else if line.starts_with(['+', '-', '*']) || line.starts_with(|c: char| c.is_ascii_digit()) {
            let cost = line.split_whitespace().nth(1).and_then(|cost| cost.parse().ok()).unwrap_or(0);
            if !std::mem::take(&mut of_call) {
                *costs.entry(current).or_default() += cost;
            }
        }
    }
    let all: u64 = costs.values().sum();
    let mut costs: Vec<(&str, u64)> = costs.into_iter().collect();
    costs.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
    println!("| {case}: function | instructions a record | share |\n|---|---|---|");
    for (number, cost) in costs.into_iter().take(SHOWN) {
        let name = names.get(number).filter(|name| !name.starts_with("0x")).copied().unwrap_or("the guest");
        let (each, share) = (cost as f64 / (BATCH * BATCHES) as f64, cost as f64 / all as f64 * 100.0);
        println!("| `{name}` | {each:.0} | {share:.1} % |");
    }
    println!();
    Ok(())
}

fn total(dump: usize) -> Result<f64> {
    let text = read(dump)?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")));
    line.context("callgrind wrote no sum")?.trim().parse().context("callgrind's sum is no number")
}

fn scratch() -> PathBuf {
    cache().join("bench/callgrind")
}

fn compilers() -> Result<String> {
    let first = |program: &str| -> Result<String> {
        let output = Command::new(program).arg("--version").output().with_context(|| program.to_owned())?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    };
    Ok(format!("{}, {}", first("rustc")?, first("gcc")?))
}

/// What callgrind watches.
pub(crate) fn hot_path(module: &Path) -> Result<()> {
    let module = Compiled::new(module)?;
    for Case { copy, bytes, headers, .. } in CASES {
        let settings: &[(&str, &str)] = if copy { &[("copy", "true")] } else { &[] };
        let (mut rig, mut batch) = (Rig::new(&module, settings)?, batch(BATCH, bytes, headers));
        for _ in 0..WARM {
            rig.run(&mut batch)?;
        }
        pelton_mark();
        for _ in 0..BATCHES {
            rig.run(&mut batch)?;
        }
        pelton_mark();
        rig.empty();
    }
    Ok(())
}

/// Here callgrind writes what it has counted, and counts from nothing.
#[unsafe(no_mangle)]
#[inline(never)]
#[allow(unsafe_code, reason = "callgrind knows it by its name")]
extern "C" fn pelton_mark() {
    std::hint::black_box(());
}
