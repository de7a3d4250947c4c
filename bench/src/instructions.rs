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

/// `instructions`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Writes the baseline anew.
    #[arg(long)]
    update: bool,
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
    // Two marks a case: what is before the first is not of it.
    CASES.iter().zip((2..).step_by(2)).map(|(case, dump)| Ok((case.name, (total(dump)? / records).round()))).collect()
}

/// Of the `number`th dump.
fn total(number: usize) -> Result<f64> {
    let path = scratch().join(format!("counts.{number}"));
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
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
        let (mut rig, batch) = (Rig::new(&module, settings)?, batch(BATCH, bytes, headers));
        for _ in 0..WARM {
            rig.run(&batch)?;
        }
        pelton_mark();
        for _ in 0..BATCHES {
            rig.run(&batch)?;
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
