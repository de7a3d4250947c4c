//! One contender over one topic: started as a process, watched through the group's committed positions, its CPU read from
//! /proc between two marks of progress, its output compared with what the work makes of the input.

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

/// Bytes of input that are made and written at a time.
const PORTION: usize = 32 << 20;

/// What part of a run is measured, and how long it may take in all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// Parts of the input.
    pub(crate) from: f64,
    pub(crate) to: f64,
    pub(crate) limit: Duration,
}

/// Of native code.
const WATCH: Watch = Watch { from: 0.1, to: 0.9, limit: Duration::from_secs(300) };

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// User and system time of the process per input record, in the part that is measured.
    pub(crate) cpu_us: f64,
    pub(crate) per_second: f64,
    pub(crate) rss_mib: f64,
    /// The same time from the start of the process to the end of that part.
    pub(crate) whole_us: f64,
    /// CPU of the broker per input record in the same part, where it is a process of this machine.
    pub(crate) broker_us: Option<f64>,
    /// The machine's, of the last minute of that part: its own, the broker's and that of whatever else ran.
    pub(crate) load: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} us CPU a record, {:.0} records/s, {:.0} MiB", self.cpu_us, self.per_second, self.rss_mib)
    }
}

/// What was seen of one run: progress, CPU so far and when, at each step of the part that is measured.
pub(crate) struct Run {
    marks: Vec<Mark>,
    rss_mib: f64,
    load: f64,
}

#[derive(Clone, Copy)]
struct Mark {
    progress: f64,
    at: Instant,
    cpu: Duration,
    /// The broker's.
    broker: Option<Duration>,
}

/// Outputs, in whatever order: how many, and the sum of their hashes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Outputs {
    count: usize,
    sum: u64,
}

impl Outputs {
    fn add(&mut self, key: &[u8], value: &[u8], form: Form) {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        match form {
            Form::Bytes => value.hash(&mut hasher),
            // What is no JSON equals no output that is expected.
            Form::Json => canonical(value).unwrap_or_default().hash(&mut hasher),
        }
        self.count += 1;
        self.sum = self.sum.wrapping_add(hasher.finish());
    }
}

/// How values are compared: as they are, or as JSON whatever the order of its fields and the space between them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form {
    Bytes,
    Json,
}

fn canonical(value: &[u8]) -> Option<String> {
    let mut value: Value = serde_json::from_slice(value).ok()?;
    value.sort_all_objects();
    Some(value.to_string())
}

/// The input of all runs, and what must come of it.
#[derive(Debug)]
pub(crate) struct Load {
    bootstrap: String,
    input: String,
    partitions: i32,
    records: usize,
    expected: Outputs,
    form: Form,
    watch: Watch,
}

impl Load {
    /// `value` makes the value of each record; keys have 16 bytes. `expect` is what comes of it.
    pub(crate) fn new(
        bootstrap: &str,
        size: (i32, usize),
        value: impl FnMut(usize) -> Vec<u8>,
        (work, form): (Work, Form),
    ) -> Result<Self> {
        Self::compressed(bootstrap, size, value, (work, form, "none"))
    }

    /// The same with a codec.
    pub(crate) fn compressed(
        bootstrap: &str,
        (partitions, records): (i32, usize),
        mut value: impl FnMut(usize) -> Vec<u8>,
        (work, form, codec): (Work, Form, &str),
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
                    Verdict::Keep | Verdict::Copy => expected.add(&key, &value, form),
                    Verdict::Changed => expected.add(&key, &changed, form),
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
        Ok(Load { bootstrap: bootstrap.to_owned(), input, partitions, records, expected, form, watch: WATCH })
    }

    /// With another part measured.
    pub(crate) fn watched(self, watch: Watch) -> Self {
        Load { watch, ..self }
    }

    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Runs one contender over everything and measures it.
    pub(crate) fn measure(
        &self,
        names: (&str, &[&str]),
        start: impl FnOnce(Place<'_>) -> Result<Process>,
    ) -> Result<Sample> {
        let Run { marks, rss_mib, load } = self.run(names, start)?;
        // Who has read everything commits when it likes: Flink's source up to ten seconds later.
        let last = marks.iter().rfind(|mark| mark.progress < 1.0);
        let (Some(first), Some(last)) = (marks.first(), last) else {
            bail!("nothing was measured: use more records");
        };
        let records = (last.progress - first.progress) * self.records as f64;
        let each = |to: Duration, from: Duration| (to - from).as_secs_f64() * 1e6 / records;
        if records < self.records as f64 * 0.2 {
            let steps: Vec<String> = marks.iter().map(|mark| format!("{:.0}", mark.progress * 100.0)).collect();
            bail!("progress came in too few steps to be measured ({} %): use more records", steps.join(", "));
        }
        Ok(Sample {
            cpu_us: each(last.cpu, first.cpu),
            per_second: records / (last.at - first.at).as_secs_f64(),
            rss_mib,
            whole_us: last.cpu.as_secs_f64() * 1e6 / (last.progress * self.records as f64),
            broker_us: last.broker.zip(first.broker).map(|(to, from)| each(to, from)),
            load,
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
        let home = format!("{}/{group}", tempfile_dir()?);
        fs::create_dir_all(&home)?;
        let (bootstrap, output) = (self.bootstrap.as_str(), topics[0].as_str());
        // Before the contender, which may be a JVM too.
        let broker = broker_pid();
        let mut process = start(Place { bootstrap, group: &group, input: &self.input, output, home: &home })?;
        let mut marks: Vec<Mark> = Vec::new();
        let Watch { from, to, limit } = self.watch;
        let deadline = Instant::now() + limit;
        loop {
            let committed = kafka::committed_so_far(bootstrap, &group, &self.input, self.partitions)?;
            let progress = committed.iter().map(|p| (*p).max(0)).sum::<i64>() as f64 / self.records as f64;
            if progress >= from && marks.last().is_none_or(|mark| mark.progress < progress) {
                let broker = broker.map(cpu).transpose()?;
                marks.push(Mark { progress, at: Instant::now(), cpu: cpu(process.0.id())?, broker });
            }
            if progress >= to {
                break;
            }
            if let Some(status) = process.0.try_wait()? {
                bail!("it ended with {status} at {:.0} %; see {home}", progress * 100.0);
            }
            if Instant::now() > deadline {
                bail!("only {:.0} % within {limit:?}; see {home}", progress * 100.0);
            }
            std::thread::park_timeout(Duration::from_millis(25));
        }
        let (rss_mib, load) = (peak_rss_mib(process.0.id())?, load_average().parse().unwrap_or(f64::NAN));
        let mut reader = Reader::new(bootstrap, output)?;
        let mut seen = Outputs::default();
        let mut take = |reader: &mut Reader, wait| -> Result<usize> {
            reader.poll(wait)?;
            for record in reader.records.drain(..) {
                let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
                seen.add(&key, &value, self.form);
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
        topics.iter().try_for_each(|topic| kafka::delete_topic(bootstrap, topic))?;
        let _ = fs::remove_dir_all(&home);
        Ok(Run { marks, rss_mib, load })
    }
}

/// Values of so many bytes, half words, half noise, so that they compress as real ones do.
pub(crate) fn noisy(bytes: usize) -> impl FnMut(usize) -> Vec<u8> {
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    move |_| value(bytes, &mut noise)
}

/// Killed when dropped. With the exit code that it has after SIGTERM.
pub(crate) struct Process(pub(crate) Child, pub(crate) i32);

impl Process {
    pub(crate) fn end(&mut self) -> Result<()> {
        // SAFETY: a child of ours that has not been waited for.
        #[allow(unsafe_code, reason = "std can only kill")]
        unsafe {
            libc::kill(self.0.id() as i32, libc::SIGTERM);
        }
        let status = self.0.wait()?;
        if status.code() == Some(self.1) { Ok(()) } else { bail!("it ended with {status}") }
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

/// The broker, where it is a JVM that this process has started.
pub(crate) fn broker_pid() -> Option<u32> {
    let parent = std::process::id().to_string();
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(')')?;
        let is_child = rest.split_whitespace().nth(1) == Some(parent.as_str());
        (is_child && head.ends_with("(java")).then(|| entry.file_name().to_str()?.parse().ok())?
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(value: &str, form: Form) -> Outputs {
        let mut outputs = Outputs::default();
        outputs.add(b"key", value.as_bytes(), form);
        outputs
    }

    #[test]
    fn as_json_only_the_order_of_fields_and_space_may_differ() {
        let one = r#"{"id":7,"inner":{"a":"x","b":[1,2]}}"#;
        let other = r#"{ "inner": {"b":[1, 2], "a":"x"}, "id":7 }"#;
        assert_eq!(outputs(one, Form::Json), outputs(other, Form::Json));
        assert_ne!(outputs(one, Form::Bytes), outputs(other, Form::Bytes));
        for wrong in [one.replace('7', "8"), one.replace("[1,2]", "[2,1]"), one.replace("\"a\"", "\"c\""), "{".into()] {
            assert_ne!(outputs(one, Form::Json), outputs(&wrong, Form::Json), "{wrong}");
        }
    }
}
