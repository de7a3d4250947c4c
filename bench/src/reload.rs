//! Swaps of a transform's module and settings under a steady stream, two processes: every record once and in order, each
//! partition's marks one after the other, each change at the boundary of a transaction; what a swap does to the time from sent
//! to visible, and to memory after many.

use crate::contender;
use crate::measure::{self, Process};
use crate::stream::{self, Stream};
use anyhow::{Context, Result, bail};
use clap::Args;
use pelton_integration::kafka::{self, Reader};
use pelton_integration::{broker, guest, process};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 6;
const LIMIT: Duration = Duration::from_secs(120);
/// The goals: p99 while swapping against before, and memory after all swaps against after ten.
const P99_MORE_MS: f64 = 50.0;
const MEMORY_MORE: f64 = 1.10;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Swaps under load whose latency is measured.
    #[arg(long, default_value_t = 100)]
    swaps: usize,
    /// Swaps in all, for memory; those beyond are made as fast as they are taken up.
    #[arg(long, default_value_t = 1000)]
    all: usize,
    /// Records a second.
    #[arg(long, default_value_t = 10_000)]
    rate: usize,
    /// Between two measured swaps.
    #[arg(long, default_value_t = 500)]
    every_ms: u64,
}

/// Two processes of one application, and what they are told.
struct Fleet {
    home: String,
    config: String,
    module: Vec<u8>,
    processes: Vec<Process>,
    /// Swaps so far; also the present mark.
    swaps: usize,
}

impl Fleet {
    fn start(bootstrap: &str, group: &str, input: &str, output: &str) -> Result<Self> {
        let home = measure::tempfile_dir()?;
        let config = format!(
            "application: {group}\nworkers: 1\nadmin: off\nkafka: {{ bootstrap_servers: {bootstrap} }}\n\
             transforms:\n  marker:\n    module: {home}/module.wasm\n    input: {{ topics: [{input}] }}\n    \
             output: {{ topic: {output} }}\n    settings: {{ mark: MARK }}\n",
        );
        let module = fs::read(guest::test_module("marker"))?;
        let mut fleet = Fleet { home, config, module, processes: Vec::new(), swaps: 0 };
        fleet.put()?;
        for instance in ["a", "b"] {
            let mut command = Command::new(process::binary());
            command.args(["run", "-c", &format!("{}/config.yaml", fleet.home)]);
            command.env("PELTON_INSTANCE", instance).env("XDG_CACHE_HOME", &fleet.home);
            fleet.processes.push(contender::spawn(command, &fleet.log(instance))?);
        }
        Ok(fleet)
    }

    fn log(&self, instance: &str) -> String {
        format!("{}/{instance}.log", self.home)
    }

    /// Two modules in turns, and the mark.
    fn put(&self) -> Result<()> {
        let mut module = self.module.clone();
        module.extend([0, 2, 1, b'a' + (self.swaps % 2) as u8]); // a custom section without content
        let files =
            [("module.wasm", module), ("config.yaml", self.config.replace("MARK", &self.swaps.to_string()).into())];
        for (name, bytes) in files {
            fs::write(format!("{}/next", self.home), bytes)?;
            fs::rename(format!("{}/next", self.home), format!("{}/{name}", self.home))?;
        }
        Ok(())
    }

    fn swap(&mut self) -> Result<()> {
        self.swaps += 1;
        self.put()?;
        for process in &self.processes {
            // SAFETY: a child of ours that has not been waited for.
            #[allow(unsafe_code, reason = "std can only kill")]
            unsafe {
                libc::kill(process.0.id() as i32, libc::SIGHUP);
            }
        }
        Ok(())
    }

    fn rss_mib(&self) -> Result<f64> {
        self.processes.iter().map(|process| measure::rss_mib(process.0.id())).sum()
    }
}

/// Looks at every output record.
struct Judge {
    reader: Reader,
    start: Instant,
    next: Vec<u64>,
    last: Vec<Option<(i64, usize)>>,
    /// Milliseconds from sent to visible, since this was last taken.
    latencies: Vec<f64>,
    seen: u64,
}

impl Judge {
    fn take(&mut self, wait: Duration) -> Result<()> {
        self.reader.poll(wait)?;
        let now = self.start.elapsed().as_secs_f64() * 1e3;
        for record in std::mem::take(&mut self.reader.records) {
            let (sent, number) = stream::parse(&record)?;
            let mark: usize = record.header("mark").context("no mark")?.parse()?;
            let partition = record.partition as usize;
            let next = &mut self.next[partition];
            if number != *next {
                bail!("partition {partition}: number {number} where {next} was due: lost, doubled or out of order");
            }
            *next += 1;
            if let Some((offset, before)) = self.last[partition] {
                if mark != before && mark != before + 1 {
                    bail!("partition {partition}: mark {mark} after {before}");
                }
                // A transaction's end takes an offset: without one the two are of the same.
                if mark != before && record.offset == offset + 1 {
                    bail!("partition {partition}: marks {before} and {mark} in one transaction");
                }
            }
            self.last[partition] = Some((record.offset, mark));
            self.latencies.push(now - sent);
            self.seen += 1;
        }
        Ok(())
    }

    fn during(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.take(Duration::from_millis(5))?;
        }
        Ok(())
    }

    /// Until every partition has this mark.
    fn until_marked(&mut self, mark: usize) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !self.last.iter().all(|last| last.is_some_and(|(_, at)| at == mark)) {
            if Instant::now() > deadline {
                bail!("not within {LIMIT:?}: mark {mark} on every partition, {:?}", self.last);
            }
            self.take(Duration::from_millis(5))?;
        }
        Ok(())
    }

    /// p50 and p99 of what was seen since the last time.
    fn percentiles(&mut self) -> Result<[f64; 2]> {
        stream::percentiles(std::mem::take(&mut self.latencies))
    }
}

/// Prints one table; says whether the goals are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let broker = broker::start()?;
    let bootstrap = broker.bootstrap.as_str();
    let unique = measure::unique()?;
    let group = format!("reload-{unique}");
    let (input, output) = (format!("{group}.in"), format!("{group}.out"));
    kafka::create_topics(bootstrap, &[(&input, PARTITIONS), (&output, PARTITIONS)])?;
    let mut fleet = Fleet::start(bootstrap, &group, &input, &output)?;
    for instance in ["a", "b"] {
        let log = fleet.log(instance);
        let deadline = Instant::now() + LIMIT;
        while !fs::read_to_string(&log).is_ok_and(|log| log.contains("partitions assigned")) {
            if Instant::now() > deadline {
                bail!("{instance} got no partitions within {LIMIT:?}; see {log}");
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
    let stream = Stream::start(bootstrap, &input, PARTITIONS, options.rate)?;
    let mut judge = Judge {
        reader: Reader::new(bootstrap, &output)?,
        start: stream.start,
        next: vec![0; PARTITIONS as usize],
        last: vec![None; PARTITIONS as usize],
        latencies: Vec::new(),
        seen: 0,
    };
    // Until it is steady.
    judge.during(Duration::from_secs(5))?;
    judge.latencies.clear();
    let phase = Duration::from_millis(options.every_ms * options.swaps as u64)
        .clamp(Duration::from_secs(5), Duration::from_secs(30));
    judge.during(phase)?;
    let before = judge.percentiles()?;
    let mut after_ten = fleet.rss_mib()?;
    let mut took = Vec::new();
    for swap in 1..=options.swaps {
        let began = Instant::now();
        fleet.swap()?;
        if let Err(error) = judge.until_marked(fleet.swaps) {
            // What the stream died of says more.
            if stream.has_ended() {
                stream.stop()?;
            }
            return Err(error);
        }
        took.push(began.elapsed().as_secs_f64() * 1e3);
        judge.during(Duration::from_millis(options.every_ms).saturating_sub(began.elapsed()))?;
        if swap == 10 {
            after_ten = fleet.rss_mib()?;
        }
    }
    let swapping = judge.percentiles()?;
    for _ in options.swaps..options.all {
        fleet.swap()?;
        if let Err(error) = judge.until_marked(fleet.swaps) {
            // What the stream died of says more.
            if stream.has_ended() {
                stream.stop()?;
            }
            return Err(error);
        }
    }
    judge.during(Duration::from_secs(2))?;
    let after_all = fleet.rss_mib()?;
    let (sent, rate) = stream.stop()?;
    let deadline = Instant::now() + LIMIT;
    while judge.seen < sent {
        judge.take(Duration::from_millis(50))?;
        if Instant::now() > deadline {
            bail!("{} of {sent} records came out", judge.seen);
        }
    }
    judge.during(Duration::from_secs(1))?;
    let last: Vec<usize> = judge.last.iter().flatten().map(|(_, mark)| *mark).collect();
    if last.iter().any(|mark| *mark != fleet.swaps) {
        bail!("the last marks are {last:?}, not {}", fleet.swaps);
    }
    for process in &mut fleet.processes {
        process.end()?;
    }
    let swaps = options.swaps;
    let took = measure::spread(took.into_iter());
    println!(
        "{rate:.0} records/s, two processes, 6 partitions, 100 ms commits; {swaps} swaps {} ms apart, {} in all\n",
        options.every_ms, fleet.swaps
    );
    println!(
        "{sent} records: 0 lost, 0 doubled, 0 reordered; marks change once a swap, in order, between transactions\n"
    );
    println!("| sent to visible | p50 ms | p99 ms |");
    println!("|---|---|---|");
    println!("| before | {:.1} | {:.1} |", before[0], before[1]);
    println!("| while swapping | {:.1} | {:.1} |", swapping[0], swapping[1]);
    let (more, memory) = (swapping[1] - before[1], after_all / after_ten);
    println!(
        "\np99 {more:+.1} ms (goal: at most {P99_MORE_MS:+}); a swap is seen on every partition after {:.0} ms (median; {:.0} to {:.0})",
        took[1], took[0], took[2]
    );
    println!(
        "RSS of both after 10 swaps {after_ten:.1} MiB, after {} {after_all:.1} MiB: {memory:.2} (goal: at most {MEMORY_MORE}); load {}",
        fleet.swaps,
        measure::load_average()
    );
    let _ = fs::remove_dir_all(&fleet.home);
    Ok(more <= P99_MORE_MS && (options.all < 100 || memory <= MEMORY_MORE))
}
