//! One contender over one topic: started as a process, watched through the group's committed positions, its CPU read from
//! /proc between 10 % and 90 % of progress, its output counted.

use anyhow::{Context, Result, bail};
use pelton_integration::kafka::{self, Reader, Record, Writer};
use pelton_integration::{guest, process};
use std::fmt;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const PARTITIONS: i32 = 6;
const LIMIT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contender {
    Raw,
    Pelton,
}

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

/// The input of all runs.
#[derive(Debug)]
pub(crate) struct Load {
    bootstrap: String,
    input: String,
    records: usize,
}

impl Load {
    /// Values are half words, half noise, so that they compress as real ones do.
    pub(crate) fn new(bootstrap: &str, records: usize, bytes: usize) -> Result<Self> {
        let unique = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() % 1_000_000_000;
        let input = format!("bench-{unique}.in");
        kafka::create_topics(bootstrap, &[(&input, PARTITIONS)])?;
        let writer = Writer::new(bootstrap, "none")?;
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        let mut written = 0;
        while written < records {
            let portion = (records - written).min(20_000);
            let batch: Vec<Record> = (written..written + portion)
                .map(|i| Record {
                    partition: (i as i32) % PARTITIONS,
                    key: Some(format!("{i:016}").into_bytes()),
                    value: Some(value(bytes, &mut noise)),
                    ..Record::default()
                })
                .collect();
            writer.write(&input, &batch)?;
            written += portion;
        }
        Ok(Load { bootstrap: bootstrap.to_owned(), input, records })
    }

    /// Runs one contender over everything, with a group and an output topic of its own.
    pub(crate) fn measure(&self, contender: Contender, round: usize) -> Result<Sample> {
        let group = format!("{}-{contender:?}-{round}", self.input.trim_end_matches(".in"));
        let output = format!("{group}.out");
        kafka::create_topics(&self.bootstrap, &[(&output, PARTITIONS)])?;
        let home = tempfile_dir()?;
        let mut process = Process(self.start(contender, &group, &output, &home)?);
        let mut marks: Vec<(f64, Duration, Instant)> = Vec::new();
        let deadline = Instant::now() + LIMIT;
        loop {
            let committed: i64 =
                kafka::committed(&self.bootstrap, &group, &self.input, PARTITIONS)?.iter().map(|p| (*p).max(0)).sum();
            let progress = committed as f64 / self.records as f64;
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
        let mut reader = Reader::new(&self.bootstrap, &output)?;
        let mut seen = 0;
        while seen < self.records {
            seen += reader.poll(Duration::from_millis(200))?;
            reader.records.clear();
            if Instant::now() > deadline {
                bail!("{seen} of {} outputs are visible", self.records);
            }
        }
        process.end()?;
        seen += reader.poll(Duration::from_secs(1))?;
        if seen != self.records {
            bail!("{seen} outputs of {} inputs", self.records);
        }
        let (Some(first), Some(last)) = (marks.first(), marks.last()) else { bail!("nothing was measured") };
        let records = (last.0 - first.0) * self.records as f64;
        if records < self.records as f64 * 0.2 {
            bail!("progress came in too few steps to be measured: use more --records");
        }
        let _ = fs::remove_dir_all(&home);
        Ok(Sample {
            cpu_us: (last.1 - first.1).as_secs_f64() * 1e6 / records,
            per_second: records / (last.2 - first.2).as_secs_f64(),
            rss_mib,
        })
    }

    fn start(&self, contender: Contender, group: &str, output: &str, home: &str) -> Result<Child> {
        let log = fs::File::create(format!("{home}/log"))?;
        let mut command = match contender {
            Contender::Raw => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["raw", &self.bootstrap, &self.input, output, group]);
                command
            }
            Contender::Pelton => {
                let config = format!(
                    "application: {group}\ninstance: bench\nworkers: 1\nadmin: off\n\
                     kafka: {{ bootstrap_servers: {} }}\n\
                     delivery: {{ commit_interval: 100ms, latency: throughput }}\n\
                     transforms:\n  identity:\n    module: {}\n    input: {{ topics: [{}] }}\n    output: {{ topic: {output} }}\n    settings: {{ copy: \"true\" }}\n",
                    self.bootstrap,
                    guest::module("identity").display(),
                    self.input,
                );
                fs::write(format!("{home}/config.yaml"), config)?;
                let mut command = Command::new(process::binary());
                command.args(["run", "-c", &format!("{home}/config.yaml")]);
                command
            }
        };
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("cannot start it")
    }
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
