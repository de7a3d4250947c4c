//! Where the time goes: Pelton at full load, sampled by perf, all threads and the kernel included. Prints whose code the
//! samples were in, and draws a flame graph.

use crate::contender::{EXACTLY_ONCE, Pelton};
use crate::flame::{Flame, Owner};
use crate::measure::{Form, Load, load_average, noisy, tempfile_dir};
use crate::turns::PARTITIONS;
use anyhow::{Context, Result, anyhow, bail};
use boundary_work::Work;
use clap::Args;
use pelton_integration::{broker, guest, kafka};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Samples a second of CPU time. Not a divisor of the ticks that timers have.
const RATE: &str = "499";
/// Until the first commit.
const LIMIT: Duration = Duration::from_secs(60);

/// `profile`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Bytes of a record, which the guest copies.
    #[arg(long, default_value_t = 1_000)]
    bytes: usize,
    /// Records; enough for ten seconds or more.
    #[arg(long, default_value_t = 4_000_000)]
    records: usize,
    /// Where the flame graph goes; beside the results of other benches where nothing is said.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// Prints one table.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Options { bytes, records, .. } = *options;
    let (module, broker) = (guest::module("identity"), broker::start()?);
    let samples = PathBuf::from(tempfile_dir()?).join("samples");
    let load = Load::new(&broker.bootstrap, (PARTITIONS, records), noisy(bytes), (Work::Identity, Form::Bytes))?;
    let mut perf = None;
    let sample = load.measure(("profile", &["out"]), |place| {
        let process = Pelton::of(Work::Identity, &module, EXACTLY_ONCE).start(place)?;
        let (bootstrap, group, input) = (place.bootstrap.to_owned(), place.group.to_owned(), place.input.to_owned());
        let (pid, samples) = (process.0.id(), samples.clone());
        perf = Some(std::thread::spawn(move || {
            await_commit(&bootstrap, &group, &input)?;
            record(pid, &samples)
        }));
        Ok(process)
    })?;
    let perf = perf.context("nothing was started")?;
    let mut perf = perf.join().map_err(|_| anyhow!("what waits for the first commit panicked"))??;
    // It ends with the process that it watches.
    let status = perf.wait()?;
    if !status.success() {
        bail!("perf ended with {status}: may this user sample processes (kernel.perf_event_paranoid)?");
    }
    let flame = read(&samples)?;
    let title = format!("Pelton, {bytes} B a record copied by the guest, exactly-once: {} samples", flame.samples());
    println!("{title}; {sample}; load {}\n", load_average());
    println!("| whose code | CPU us a record | share |\n|---|---|---|");
    for (owner, share) in flame.shares() {
        println!("| {owner} | {:.2} | {:.0} % |", share * sample.cpu_us, share * 100.0);
    }
    println!("\n| thread | share |\n|---|---|");
    for (thread, share) in flame.threads() {
        println!("| {thread} | {:.0} % |", share * 100.0);
    }
    let path = match &options.output {
        Some(path) => path.clone(),
        None => {
            let directory = pelton_integration::cache().join("bench");
            fs::create_dir_all(&directory)?;
            directory.join("profile.svg")
        }
    };
    fs::write(&path, flame.draw(&title)).with_context(|| path.display().to_string())?;
    println!("\ndrawn in {}", path.display());
    fs::remove_file(&samples)?;
    Ok(true)
}

/// By then all is compiled, threads have their names and partitions are assigned.
fn await_commit(bootstrap: &str, group: &str, input: &str) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while kafka::committed_so_far(bootstrap, group, input, PARTITIONS)?.iter().all(|position| *position <= 0) {
        if Instant::now() > deadline {
            bail!("nothing was committed within {LIMIT:?}");
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    Ok(())
}

fn record(pid: u32, samples: &Path) -> Result<Child> {
    // Without frame pointers: each sample has the top of its stack with it.
    let child = Command::new("perf")
        .args(["record", "--quiet", "--event", "cpu-clock", "--freq", RATE, "--call-graph", "dwarf,16384"])
        .args(["--pid", &pid.to_string(), "--output"])
        .arg(samples)
        .stdin(Stdio::null())
        .spawn();
    child.context("perf cannot be started (Debian has it in linux-perf)")
}

/// Lets perf tell the samples: a line with the thread, a line for each frame from the innermost, an empty line.
fn read(samples: &Path) -> Result<Flame> {
    let mut perf = Command::new("perf")
        .args(["script", "--no-inline", "--fields", "comm,ip,sym,dso", "--input"])
        .arg(samples)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let (mut flame, mut thread, mut stack) = (Flame::default(), String::new(), Vec::new());
    for line in BufReader::new(perf.stdout.take().context("it has an output")?).lines() {
        let line = line?;
        if line.trim().is_empty() {
            if !thread.is_empty() {
                flame.add(&std::mem::take(&mut thread), stack.drain(..).rev());
            }
        } else if !line.starts_with([' ', '\t']) {
            thread = line.trim().to_owned();
        } else if let Some((_, frame)) = line.trim().split_once(' ') {
            stack.extend(name(frame));
        }
    }
    if !thread.is_empty() {
        flame.add(&thread, stack.into_iter().rev());
    }
    let status = perf.wait()?;
    if !status.success() || flame.samples() == 0 {
        bail!("perf made nothing of its samples: {status}");
    }
    Ok(flame)
}

/// What a frame is called, `symbol (object)`. Code without a symbol in no library was compiled by us, from the guest's.
/// Where perf could not follow the stack it writes an address of nothing.
fn name(frame: &str) -> Option<(Owner, String)> {
    let (symbol, object) = frame.rsplit_once(" (")?;
    let symbol = match rustc_demangle::try_demangle(symbol) {
        Ok(demangled) => format!("{demangled:#}"),
        Err(_) => symbol.to_owned(),
    };
    let path = symbol.trim_start_matches(['<', '&']);
    let of = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
    Some(match object.trim_end_matches(')') {
        "[unknown]" => return None,
        object if object.starts_with('[') => (Owner::Kernel, "the kernel".into()),
        object if symbol == "[unknown]" && !object.contains(".so") => (Owner::Guest, "the guest".into()),
        _ if of(&["rd_", "rdk_", "rdkafka_"]) => (Owner::Librdkafka, symbol),
        _ if of(&["wasmtime", "pelton_sandbox"]) => (Owner::Sandbox, symbol),
        _ if of(&["pelton"]) => (Owner::Worker, symbol),
        _ => (Owner::Library, symbol),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_by_symbol_and_object() {
        let owner = |frame| name(frame).map(|(owner, _)| owner);
        assert_eq!(owner("tcp_sendmsg ([kernel.kallsyms])"), Some(Owner::Kernel));
        assert_eq!(owner("rd_kafka_produceva (/usr/bin/pelton)"), Some(Owner::Librdkafka));
        assert_eq!(
            owner("<pelton_sandbox::packed::Harvest as Iterator>::next (/usr/bin/pelton)"),
            Some(Owner::Sandbox)
        );
        assert_eq!(owner("pelton::dataplane::worker::Worker<S,K,P,F>::run (/usr/bin/pelton)"), Some(Owner::Worker));
        assert_eq!(owner("[unknown] (/var/cache/pelton/1f2e)"), Some(Owner::Guest));
        assert_eq!(owner("[unknown] (//anon)"), Some(Owner::Guest));
        assert_eq!(owner("[unknown] (/usr/lib/libz.so.1)"), Some(Owner::Library));
        assert_eq!(owner("[unknown] ([unknown])"), None);
    }
}
