//! One contender over one topic: started as a process, watched through the group's committed positions, its CPU read from
//! /proc between 10 % and 90 % of progress, its output compared with what the work makes of the input.

use crate::contender::Place;
use anyhow::{Context, Result, bail};
use boundary_work::{Verdict, Work};
use pelton_integration::kafka::{self, Reader, Record, Writer};
use serde_json::Value;
use std::fmt;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const LIMIT: Duration = Duration::from_secs(300);
/// Bytes of input that are made and written at a time.
const PORTION: usize = 32 << 20;

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// User and system time of the process per input record, in the middle 80 % of its work.
    pub(crate) cpu_us: f64,
    pub(crate) per_second: f64,
    pub(crate) rss_mib: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} us CPU a record, {:.0} records/s, {:.0} MiB", self.cpu_us, self.per_second, self.rss_mib)
    }
}

/// What was seen of one run: progress, CPU so far and when, at steps between 10 % and 90 %.
pub(crate) struct Run {
    marks: Vec<(f64, Duration, Instant)>,
    rss_mib: f64,
}

/// Outputs, in whatever order: how many, and the sum of their hashes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Outputs {
    count: usize,
    sum: u64,
}

impl Outputs {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let mut hasher = DefaultHasher::new();
        (key, value).hash(&mut hasher);
        self.count += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

/// The input of all runs, and what must come of it.
#[derive(Debug)]
pub(crate) struct Load {
    bootstrap: String,
    input: String,
    partitions: i32,
    records: usize,
    expected: Outputs,
}

impl Load {
    /// `value` makes the value of each record; keys have 16 bytes. `expect` is what comes of it.
    pub(crate) fn new(
        bootstrap: &str,
        size: (i32, usize),
        value: impl FnMut(usize) -> Vec<u8>,
        work: Work,
    ) -> Result<Self> {
        Self::compressed(bootstrap, size, value, (work, "none"))
    }

    /// The same with a codec.
    pub(crate) fn compressed(
        bootstrap: &str,
        (partitions, records): (i32, usize),
        mut value: impl FnMut(usize) -> Vec<u8>,
        (work, codec): (Work, &str),
    ) -> Result<Self> {
        let input = format!("bench-{}.in", unique()?);
        kafka::create_topics(bootstrap, &[(&input, partitions)])?;
        let writer = Writer::new(bootstrap, codec)?;
        let (mut written, mut expected, mut changed) = (0, Outputs::default(), Vec::new());
        while written < records {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            for i in (written..records).take(20_000) {
                let (key, value) = (format!("{i:016}").into_bytes(), value(i));
                changed.clear();
                match work.apply(&value, &mut changed)? {
                    Verdict::Keep | Verdict::Copy => expected.add(&key, &value),
                    Verdict::Changed => expected.add(&key, &changed),
                    Verdict::Drop => {}
                }
                let partition = (i % partitions as usize) as i32;
                bytes += value.len();
                batch.push(Record { partition, key: Some(key), value: Some(value), ..Record::default() });
                if bytes > PORTION {
                    break;
                }
            }
            written += batch.len();
            writer.write(&input, &batch)?;
        }
        Ok(Load { bootstrap: bootstrap.to_owned(), input, partitions, records, expected })
    }

    /// Runs one contender over everything and measures it.
    pub(crate) fn measure(
        &self,
        names: (&str, &[&str]),
        start: impl FnOnce(Place<'_>) -> Result<Process>,
    ) -> Result<Sample> {
        let Run { marks, rss_mib } = self.run(names, start)?;
        let (Some(first), Some(last)) = (marks.first(), marks.last()) else { bail!("nothing was measured") };
        let records = (last.0 - first.0) * self.records as f64;
        if records < self.records as f64 * 0.2 {
            bail!("progress came in too few steps to be measured: use more records");
        }
        Ok(Sample {
            cpu_us: (last.1 - first.1).as_secs_f64() * 1e6 / records,
            per_second: records / (last.2 - first.2).as_secs_f64(),
            rss_mib,
        })
    }

    /// Runs one contender over everything, with a group and output topics of its own: those named, the first for all. What
    /// comes out must be what the work makes of the input.
    pub(crate) fn run(
        &self,
        (name, outputs): (&str, &[&str]),
        start: impl FnOnce(Place<'_>) -> Result<Process>,
    ) -> Result<Run> {
        let group = format!("{}-{name}", self.input.trim_end_matches(".in"));
        let topics: Vec<String> = outputs.iter().map(|output| format!("{group}.{output}")).collect();
        let all: Vec<(&str, i32)> = topics.iter().map(|topic| (topic.as_str(), self.partitions)).collect();
        kafka::create_topics(&self.bootstrap, &all)?;
        let home = tempfile_dir()?;
        let (bootstrap, output) = (self.bootstrap.as_str(), topics[0].as_str());
        let mut process = start(Place { bootstrap, group: &group, input: &self.input, output, home: &home })?;
        let mut marks: Vec<(f64, Duration, Instant)> = Vec::new();
        let deadline = Instant::now() + LIMIT;
        loop {
            let committed = kafka::committed(bootstrap, &group, &self.input, self.partitions)?;
            let progress = committed.iter().map(|p| (*p).max(0)).sum::<i64>() as f64 / self.records as f64;
            if progress >= 0.1 {
                marks.push((progress, cpu(process.0.id())?, Instant::now()));
            }
            if progress >= 0.9 {
                break;
            }
            if let Some(status) = process.0.try_wait()? {
                bail!("it ended with {status} at {:.0} %; see {home}", progress * 100.0);
            }
            if Instant::now() > deadline {
                bail!("only {:.0} % within {LIMIT:?}; see {home}", progress * 100.0);
            }
            std::thread::park_timeout(Duration::from_millis(25));
        }
        let rss_mib = peak_rss_mib(process.0.id())?;
        let mut reader = Reader::new(bootstrap, output)?;
        let mut seen = Outputs::default();
        let mut take = |reader: &mut Reader, wait| -> Result<usize> {
            reader.poll(wait)?;
            for record in reader.records.drain(..) {
                seen.add(record.key.as_deref().unwrap_or_default(), record.value.as_deref().unwrap_or_default());
            }
            Ok(seen.count)
        };
        while take(&mut reader, Duration::from_millis(200))? < self.expected.count {
            if Instant::now() > deadline {
                bail!("fewer than {} outputs are visible", self.expected.count);
            }
        }
        process.end()?;
        take(&mut reader, Duration::from_secs(1))?;
        if seen != self.expected {
            bail!("{} outputs of {} expected, or others than these", seen.count, self.expected.count);
        }
        let _ = fs::remove_dir_all(&home);
        Ok(Run { marks, rss_mib })
    }
}

/// Values of so many bytes, half words, half noise, so that they compress as real ones do.
pub(crate) fn noisy(bytes: usize) -> impl FnMut(usize) -> Vec<u8> {
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    move |_| value(bytes, &mut noise)
}

/// Killed when dropped.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    pub(crate) fn end(&mut self) -> Result<()> {
        // SAFETY: a child of ours that has not been waited for.
        #[allow(unsafe_code, reason = "std can only kill")]
        unsafe {
            libc::kill(self.0.id() as i32, libc::SIGTERM);
        }
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { bail!("it ended with {status}") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// For names that no other run has.
pub(crate) fn unique() -> Result<u128> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() % 1_000_000_000)
}

/// Writes results as NAME.json, and says where.
pub(crate) fn write_json(name: &str, results: &Value) -> Result<PathBuf> {
    let directory = pelton_integration::cache().join("bench");
    fs::create_dir_all(&directory)?;
    let path = fs::canonicalize(&directory)?.join(format!("{name}.json"));
    fs::write(&path, format!("{results:#}\n"))?;
    Ok(path)
}

/// Prints a line for each goal: what, whether it is met, and the goal. Says whether all are.
pub(crate) fn judge(goals: &[(String, bool, String)]) -> bool {
    println!();
    for (what, met, goal) in goals {
        println!("{}: {what}, goal {goal}", if *met { "met" } else { "MISSED" });
    }
    goals.iter().all(|goal| goal.1)
}

pub(crate) fn tempfile_dir() -> Result<String> {
    let dir = pelton_integration::cache().join(format!("bench-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    Ok(dir.to_string_lossy().into_owned())
}

fn value(bytes: usize, noise: &mut u64) -> Vec<u8> {
    const WORDS: &[u8] = b"order customer amount currency delivery street number received shipped ";
    let mut value: Vec<u8> = WORDS.iter().copied().cycle().take(bytes / 2).collect();
    while value.len() < bytes {
        *noise ^= *noise << 13;
        *noise ^= *noise >> 7;
        *noise ^= *noise << 17;
        value.push(b'!' + (*noise % 90) as u8);
    }
    value
}

/// User and system time of a process so far.
pub(crate) fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
    // The name in parentheses may hold anything; the fields after it are fixed.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    // SAFETY: asks for a constant.
    #[allow(unsafe_code, reason = "std does not know the clock tick")]
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as u64;
    Ok(Duration::from_micros((ticks(11) + ticks(12)) * 1_000_000 / per_second.max(1)))
}

fn peak_rss_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmHWM:")
}

pub(crate) fn rss_mib(pid: u32) -> Result<f64> {
    status_mib(pid, "VmRSS:")
}

fn status_mib(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|l| l.starts_with(name)).context("no such line")?;
    let kib: f64 = line.split_whitespace().nth(1).unwrap_or("0").parse()?;
    Ok(kib / 1024.0)
}

pub(crate) fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").map_or_else(|_| "?".into(), |l| l.split(' ').next().unwrap_or("?").to_owned())
}

/// Minimum, median, maximum.
pub(crate) fn spread(values: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    [at(0), at(values.len() / 2), at(values.len().saturating_sub(1))]
}
