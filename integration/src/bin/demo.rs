//! `./dev demo`: a real Kafka, the example transform, a steady sample of orders, and three topics side by side as a
//! read_committed reader sees them. Ctrl-C (or `--seconds`) stops the feed, waits until every order is settled, drains
//! Pelton, and counts: in = out + dropped + dead, each order exactly once. The exit status says whether that held.

use anyhow::{Context, Result, bail};
use clap::Parser;
use pelton_integration::kafka::{self, Reader, Record, Writer};
use pelton_integration::{broker, process};
use rdkafka::mocking::MockCluster;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Orders in, card numbers out of sight, bad orders to the dead letters.
#[derive(Parser)]
struct Args {
    /// End by itself after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Orders a second.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// Another configuration of the same application.
    #[arg(long, default_value = "config/demo.yaml")]
    config: PathBuf,
}

const INPUT: &str = "orders";
const OUTPUT: &str = "orders.clean";
const DEAD: &str = "orders.dlq";
/// How long the last orders may take to be settled.
const SETTLE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match demo(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(args: &Args) -> Result<bool> {
    let stop = Arc::new(AtomicBool::new(false));
    pelton_integration::stop_on_signals(&stop)?;
    let kafka = Kafka::start()?;
    eprintln!("Kafka: {}", kafka.description);
    let log = pelton_integration::cache().join("demo.log");
    let mut pelton = start_pelton(&kafka.bootstrap, &args.config, &log)?;
    eprintln!("Pelton: `pelton run -c {}`, process {}, log in {}", args.config.display(), pelton.id(), log.display());
    let mut view = View::new(&kafka.bootstrap)?;
    let feed = Feed::start(&kafka.bootstrap, args.rate, &stop, view.run);
    let end = args.seconds.map(|s| Instant::now() + Duration::from_secs(s));
    while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
        if let Some(status) = pelton.try_wait()? {
            bail!("pelton ended with {status}; see {}", log.display());
        }
        view.poll()?;
        view.draw(feed.sent.load(Ordering::Relaxed));
    }
    stop.store(true, Ordering::Relaxed);
    let fed = feed.end()?;
    let deadline = Instant::now() + SETTLE;
    while view.seen() < fed.expected() && Instant::now() < deadline {
        view.poll()?;
        view.draw(fed.sent());
    }
    // Whatever came twice would come now.
    view.poll()?;
    let status = end_pelton(&mut pelton)?;
    view.poll()?;
    view.draw(fed.sent());
    Ok(summary(&view, &fed, &log, status.success()))
}

/// A broker, or what stands in for it.
struct Kafka {
    bootstrap: String,
    description: String,
    // Lives as long as the demo.
    _mock: Option<MockCluster<'static, rdkafka::producer::DefaultProducerContext>>,
}

impl Kafka {
    fn start() -> Result<Self> {
        let topics = [(INPUT, 3), (OUTPUT, 3), (DEAD, 1)];
        match broker::start() {
            Ok(broker) => {
                kafka::create_topics(&broker.bootstrap, &topics)?;
                Ok(Kafka { bootstrap: broker.bootstrap, description: broker.description, _mock: None })
            }
            Err(error) => {
                eprintln!("no real Kafka can be had: {error:#}");
                eprintln!(
                    "using librdkafka's mock cluster in this process: it has no isolation, so this broker cannot show exactly-once"
                );
                let mock = MockCluster::new(1).context("no mock cluster either")?;
                for (topic, partitions) in topics {
                    mock.create_topic(topic, partitions, 1)?;
                }
                let bootstrap = mock.bootstrap_servers();
                Ok(Kafka { bootstrap, description: "librdkafka's mock cluster".into(), _mock: Some(mock) })
            }
        }
    }
}

/// In a process group of its own: Ctrl-C is ours to handle, Pelton is drained by us.
fn start_pelton(bootstrap: &str, config: &PathBuf, log: &PathBuf) -> Result<Child> {
    let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    Command::new(process::binary())
        .current_dir(pelton_integration::root())
        .args(["run", "-c"])
        .arg(config)
        .env("KAFKA_BOOTSTRAP_SERVERS", bootstrap)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .process_group(0)
        .spawn()
        .context("cannot start pelton")
}

fn end_pelton(pelton: &mut Child) -> Result<std::process::ExitStatus> {
    // SAFETY: a child of ours that has not been waited for.
    #[allow(unsafe_code, reason = "std can only kill")]
    unsafe {
        libc::kill(pelton.id() as i32, libc::SIGTERM);
    }
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        if let Some(status) = pelton.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > deadline {
            pelton.kill()?;
            bail!("pelton did not end within 90 s of SIGTERM");
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// The steady sample: mostly good orders, now and then one that is broken, or a test that is to be dropped.
struct Feed {
    sent: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Result<Fed>>,
}

/// What was fed, by what must become of it.
#[derive(Default)]
struct Fed {
    good: BTreeSet<u64>,
    bad: BTreeSet<u64>,
    tests: BTreeSet<u64>,
}

impl Fed {
    fn sent(&self) -> u64 {
        (self.good.len() + self.bad.len() + self.tests.len()) as u64
    }

    /// Records that must become visible.
    fn expected(&self) -> usize {
        self.good.len() + self.bad.len()
    }
}

impl Feed {
    fn start(bootstrap: &str, rate: u64, stop: &Arc<AtomicBool>, run: u64) -> Self {
        let sent = Arc::new(AtomicU64::new(0));
        let (bootstrap, stop, counter) = (bootstrap.to_owned(), Arc::clone(stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let writer = Writer::new(&bootstrap, "lz4")?;
            let mut fed = Fed::default();
            pelton_integration::paced(rate, &stop, |due| {
                let next = due.end;
                let records: Vec<Record> = due.map(|id| order(id, run, &mut fed)).collect();
                writer.write(INPUT, &records)?;
                counter.store(next, Ordering::Relaxed);
                Ok(())
            })?;
            Ok(fed)
        });
        Feed { sent, thread }
    }

    fn end(self) -> Result<Fed> {
        match self.thread.join() {
            Ok(fed) => fed,
            Err(_) => bail!("the feed panicked"),
        }
    }
}

fn order(id: u64, run: u64, fed: &mut Fed) -> Record {
    let customer = ["ada", "grace", "edsger", "barbara", "leslie"][(id % 5) as usize];
    let card = format!(r#""card":{{"number":"4111-1111-1111-{:04}","cvc":"{:03}"}}"#, id % 10_000, id % 1000);
    let value = match id % 23 {
        7 => {
            fed.bad.insert(id);
            format!(r#"{{"id":{id},"customer":"{customer}",{card},"amount":"#)
        }
        11 => {
            fed.tests.insert(id);
            format!(r#"{{"id":{id},"customer":"{customer}",{card},"test":true}}"#)
        }
        _ => {
            fed.good.insert(id);
            format!(r#"{{"id":{id},"customer":"{customer}",{card},"amount":{}.50}}"#, id % 90 + 10)
        }
    };
    Record {
        partition: -1,
        key: Some(customer.into()),
        value: Some(value.into_bytes()),
        headers: vec![("order".into(), Some(id.to_string().into())), ("run".into(), Some(run.to_string().into()))],
        ..Record::default()
    }
}

/// What a read_committed reader sees of the three topics.
struct View {
    readers: [Reader; 3],
    /// Tells this run's orders from those of an earlier one on the same broker.
    run: u64,
    /// Times each order was seen in the output and in the dead letters.
    out: BTreeMap<u64, u32>,
    dead: BTreeMap<u64, u32>,
    recent: [Vec<String>; 3],
    exposed: u64,
    drawn: Instant,
}

const ROWS: usize = 8;

impl View {
    fn new(bootstrap: &str) -> Result<Self> {
        Ok(View {
            readers: [Reader::new(bootstrap, INPUT)?, Reader::new(bootstrap, OUTPUT)?, Reader::new(bootstrap, DEAD)?],
            run: SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64,
            out: BTreeMap::new(),
            dead: BTreeMap::new(),
            recent: Default::default(),
            exposed: 0,
            drawn: Instant::now(),
        })
    }

    fn poll(&mut self) -> Result<()> {
        for (i, reader) in self.readers.iter_mut().enumerate() {
            reader.poll(Duration::from_millis(30))?;
            for record in reader.records.drain(..) {
                if record.header("run") != Some(self.run.to_string()) {
                    continue;
                }
                let id = record.header("order").and_then(|id| id.parse().ok()).unwrap_or(u64::MAX);
                match i {
                    1 => {
                        *self.out.entry(id).or_default() += 1;
                        self.exposed += u64::from(record.text().contains("4111-"));
                    }
                    2 => *self.dead.entry(id).or_default() += 1,
                    _ => {}
                }
                let text = match i {
                    2 => record.header("__dlq.errors.message").unwrap_or_default() + "  " + &record.text(),
                    _ => record.text(),
                };
                self.recent[i].push(text);
                let surplus = self.recent[i].len().saturating_sub(ROWS);
                self.recent[i].drain(..surplus);
            }
        }
        Ok(())
    }

    fn seen(&self) -> usize {
        self.out.len() + self.dead.len()
    }

    fn draw(&mut self, sent: u64) {
        let out = std::io::stdout();
        let every = if out.is_terminal() { Duration::from_millis(200) } else { Duration::from_secs(1) };
        if self.drawn.elapsed() < every {
            return;
        }
        self.drawn = Instant::now();
        let counts = format!("in {sent}   clean {}   dead letters {}", self.out.len(), self.dead.len());
        let mut out = out.lock();
        if !std::io::stdout().is_terminal() {
            let _ = writeln!(out, "{counts}");
            return;
        }
        let width = columns() / 3;
        let cell = |text: &str| format!("{:width$}", text.chars().take(width.saturating_sub(2)).collect::<String>());
        let _ = writeln!(out, "\x1b[H\x1b[J{counts}   (Ctrl-C ends the demo)\n");
        let _ = writeln!(out, "\x1b[1m{}{}{}\x1b[0m", cell(INPUT), cell(OUTPUT), cell(DEAD));
        for row in 0..ROWS {
            let at = |i: usize| self.recent[i].get(row).map_or("", String::as_str);
            let _ = writeln!(out, "{}{}{}", cell(at(0)), cell(at(1)), cell(at(2)));
        }
    }
}

fn columns() -> usize {
    // SAFETY: TIOCGWINSZ fills a plain struct of ours.
    #[allow(unsafe_code, reason = "std does not know the terminal's width")]
    let size = unsafe {
        let mut size: libc::winsize = std::mem::zeroed();
        libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size);
        size
    };
    if size.ws_col == 0 { 120 } else { size.ws_col as usize }
}

/// Prints the proof; `true` when it holds.
fn summary(view: &View, fed: &Fed, log: &PathBuf, drained: bool) -> bool {
    let counted = counted_by_pelton(log);
    let once = |seen: &BTreeMap<u64, u32>, wanted: &BTreeSet<u64>| {
        seen.keys().copied().collect::<BTreeSet<u64>>() == *wanted && seen.values().all(|n| *n == 1)
    };
    let checks = [
        ("every good order is in orders.clean, once", once(&view.out, &fed.good)),
        ("every bad order is in orders.dlq, once", once(&view.dead, &fed.bad)),
        ("no card number is in orders.clean", view.exposed == 0),
        ("Pelton counted the same", counted == Some((fed.sent(), fed.tests.len() as u64, fed.bad.len() as u64))),
        ("Pelton drained and ended with 0", drained),
    ];
    println!(
        "\nin {} = out {} + dropped {} + dead {}",
        fed.sent(),
        view.out.len(),
        counted.map_or_else(|| "?".into(), |c| c.1.to_string()),
        view.dead.len()
    );
    for (what, holds) in checks {
        println!("  {} {what}", if holds { "yes" } else { "NO " });
    }
    checks.iter().all(|(_, holds)| *holds)
}

/// Records in, dropped and dead-lettered, by Pelton's own last line.
fn counted_by_pelton(log: &PathBuf) -> Option<(u64, u64, u64)> {
    let text = fs::read_to_string(log).ok()?;
    let line = text.lines().rev().find(|line| line.contains("stopped") && line.contains("records_in"))?;
    let number = |name: &str| {
        let rest = line.split(&format!("{name}=")).nth(1)?;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Some((number("records_in")?, number("dropped")?, number("dead_letters")?))
}
