//! A long run at a steady rate: does anything grow? Memory, threads, open files, CPU a record and time from sent to visible, window
//! by window; and whether every record came out once.

use crate::contender::{Pelton, Place};
use crate::measure::{self, judge, load_average, rss_mib, spread, tempfile_dir, unique};
use crate::stream::{Stream, await_first, visible};
use crate::turns::PARTITIONS;
use anyhow::{Result, bail};
use boundary_work::Work;
use clap::Args;
use pelton_integration::kafka::{self, Reader};
use pelton_integration::{broker, guest};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

const WINDOWS: u32 = 20;
const LIMIT: Duration = Duration::from_secs(120);
/// The last quarter against the second: how much more memory and CPU it may take.
const MEMORY: f64 = 1.10;
const CPU: f64 = 1.15;

/// `soak`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// Records a second.
    #[arg(long, default_value_t = 5_000)]
    rate: usize,
}

#[derive(Clone, Copy)]
struct Window {
    at_s: f64,
    per_second: f64,
    ms: [f64; 2],
    cpu_us: f64,
    rss_mib: f64,
    threads: usize,
    files: usize,
}

/// Prints one table; says whether nothing grew and nothing was lost or doubled.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Options { minutes, rate } = *options;
    let broker = broker::start()?;
    let bootstrap = broker.bootstrap.as_str();
    let group = format!("soak-{}", unique()?);
    let (input, output) = (format!("{group}.in"), format!("{group}.out"));
    kafka::create_topics(bootstrap, &[(&input, PARTITIONS), (&output, PARTITIONS)])?;
    let home = tempfile_dir()?;
    let module = guest::module("identity");
    let mut process = Pelton::of(Work::Identity, &module, "{ latency: balanced }").start(Place {
        bootstrap,
        group: &group,
        input: &input,
        output: &output,
        home: &home,
    })?;
    let stream = Stream::start(bootstrap, &input, PARTITIONS, rate)?;
    let mut reader = Reader::new(bootstrap, &output)?;
    await_first(&mut reader, &home)?;
    let mut seen = reader.records.len();
    let (pid, began) = (process.0.id(), Instant::now());
    let span = Duration::from_secs(minutes * 60) / WINDOWS;
    let mut windows = Vec::new();
    println!(
        "{rate} records/s of 20 B, each copied by the guest, {PARTITIONS} partitions, one worker, {minutes} minutes; load {}\n",
        load_average()
    );
    println!("| after s | records/s | p50 ms | p99 ms | CPU us a record | RSS MiB | threads | open files |");
    println!("|---|---|---|---|---|---|---|---|");
    for _ in 0..WINDOWS {
        let (start, cpu) = (Instant::now(), measure::cpu(pid)?);
        let found = visible(&mut reader, stream.start, span)?;
        if let Some(status) = process.0.try_wait()? {
            bail!("it ended with {status}; see {home}/log");
        }
        seen += found.records;
        let window = Window {
            at_s: began.elapsed().as_secs_f64(),
            per_second: found.records as f64 / start.elapsed().as_secs_f64(),
            ms: found.ms,
            cpu_us: (measure::cpu(pid)? - cpu).as_secs_f64() * 1e6 / found.records as f64,
            rss_mib: rss_mib(pid)?,
            threads: entries(pid, "task")?,
            files: entries(pid, "fd")?,
        };
        tell(&window);
        windows.push(window);
    }
    let (sent, _) = stream.stop()?;
    let deadline = Instant::now() + LIMIT;
    reader.records.clear();
    while (seen + reader.records.len()) < sent as usize && Instant::now() < deadline {
        reader.poll(Duration::from_millis(100))?;
    }
    process.end()?;
    // What is doubled comes after the others.
    reader.poll(Duration::from_secs(1))?;
    seen += reader.records.len();
    let _ = fs::remove_dir_all(&home);
    let path = measure::write_json("soak", &Value::from(windows.iter().map(as_json).collect::<Vec<_>>()))?;
    eprintln!("written to {}", path.display());
    Ok(verdict(&windows, sent, seen))
}

fn verdict(windows: &[Window], sent: u64, seen: usize) -> bool {
    let quarter = windows.len() / 4;
    let (early, late) = (&windows[quarter..2 * quarter], &windows[windows.len() - quarter..]);
    let grown = |what: fn(&Window) -> f64| spread(late.iter().map(what))[1] / spread(early.iter().map(what))[1];
    let most = |some: &[Window], what: fn(&Window) -> usize| some.iter().map(what).max().unwrap_or_default();
    let (memory, cpu) = (grown(|w| w.rss_mib), grown(|w| w.cpu_us));
    let (threads, files) = (|w: &Window| w.threads, |w: &Window| w.files);
    let steady = most(late, threads) <= most(early, threads) && most(late, files) <= most(early, files);
    judge(&[
        (format!("{seen} records came out of {sent}"), sent == seen as u64, "each once".to_owned()),
        (format!("memory, last quarter against the second {memory:.2}"), memory <= MEMORY, format!("at most {MEMORY}")),
        (format!("CPU a record, the same {cpu:.2}"), cpu <= CPU, format!("at most {CPU}")),
        ("threads and open files, the same".to_owned(), steady, "no more".to_owned()),
    ])
}

fn tell(window: &Window) {
    let Window { at_s, per_second, ms, cpu_us, rss_mib, threads, files } = window;
    println!(
        "| {at_s:.0} | {per_second:.0} | {:.1} | {:.1} | {cpu_us:.1} | {rss_mib:.1} | {threads} | {files} |",
        ms[0], ms[1]
    );
}

fn as_json(window: &Window) -> Value {
    let Window { at_s, per_second, ms, cpu_us, rss_mib, threads, files } = window;
    json!({
        "after_s": at_s, "per_second": per_second, "p50_ms": ms[0], "p99_ms": ms[1], "cpu_us": cpu_us,
        "rss_mib": rss_mib, "threads": threads, "open_files": files,
    })
}

/// Of a directory of the process in /proc.
fn entries(pid: u32, directory: &str) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/{directory}"))?.count())
}
