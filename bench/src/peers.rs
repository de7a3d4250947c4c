//! Pelton beside other stream processors, in turns, on the same broker with the same input, each with its outputs compared
//! with those expected. Each has a directory in bench/peers with a `run` that builds and starts it; one that cannot be built
//! here is told as not available. The measured part is the second half of a run: compilers of JVMs are warm then.

use crate::contender::{self, EXACTLY_ONCE, Pelton, Place};
use crate::measure::{Form, Process, Watch};
use crate::raw;
use crate::turns::{Base, Choice, Contender, Goal, Limit, Modules, Report, Start, Workload};
use anyhow::{Result, bail};
use boundary_work::Work;
use clap::Args;
use pelton_integration::{broker, cache, root};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// JVMs are warm after half of a full run. Flink's progress is seen in steps of a second, so the part must last some.
const WATCH: Watch = Watch { from: 0.5, to: 0.9, limit: Duration::from_secs(900) };
/// What `java` ends with after SIGTERM, having shut down in order.
const JVM_TERMINATED: i32 = 143;

/// `peers`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Turns of each contender.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    #[command(flatten)]
    choice: Choice,
}

const WORKLOADS: [Workload; 3] = [
    Workload { name: "identity 100 B", work: Work::Identity, bytes: 100, records: 5_000_000 },
    Workload { name: "identity 1 KB", work: Work::Identity, bytes: 1_000, records: 1_800_000 },
    Workload { name: "JSON 300 B, half dropped", work: Work::Order, bytes: 300, records: 2_500_000 },
];

/// Not ours: a directory in bench/peers, and which of its variants.
pub(crate) struct Peer {
    name: &'static str,
    directory: &'static str,
    variant: &'static str,
    /// Its exit code after SIGTERM.
    ends_with: i32,
}

const STREAMS: &str = "Kafka Streams 4.3.1, stock";
const FLINK: &str = "Flink 2.0.1, checkpoints of 1 s";
pub(crate) const BENTHOS: &str = "Benthos 4.27.0, at-least-once";
const PEERS: [Peer; 4] = [
    Peer { name: STREAMS, directory: "kafka-streams", variant: "stock", ends_with: JVM_TERMINATED },
    Peer {
        name: "Kafka Streams 4.3.1, tuned",
        directory: "kafka-streams",
        variant: "tuned",
        ends_with: JVM_TERMINATED,
    },
    Peer { name: FLINK, directory: "flink", variant: "stock", ends_with: JVM_TERMINATED },
    Peer { name: BENTHOS, directory: "benthos", variant: "stock", ends_with: 0 },
];
const BASE: Base = Base { name: "Pelton", called: "Pelton" };

/// Prints one table for each workload; says whether no goal was missed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let workloads: Vec<&Workload> = WORKLOADS.iter().filter(|workload| options.choice.wants(workload)).collect();
    if workloads.is_empty() {
        bail!("there is nothing to measure");
    }
    let peers = built(|name| options.choice.invites(name));
    let modules = Modules::make()?;
    let broker = broker::start()?;
    eprintln!("Kafka: {} at {}", broker.description, broker.bootstrap);
    let how = "one thread of work (Benthos: one for each CPU), 100 ms commits (Flink: 1 s)";
    let mut report = Report::new("peers", (&options.choice, options.rounds), BASE, how);
    for workload in workloads {
        let mut contenders = ours(workload.work, &modules);
        contenders.extend(peers.iter().map(|(peer, built)| peer.contender(built, workload.work)));
        let records = options.choice.records(workload);
        let form = if workload.work == Work::Identity { Form::Bytes } else { Form::Json };
        let load = workload.load(&broker.bootstrap, records, form)?.watched(WATCH);
        report.add((workload, &load), contenders, &goals(workload))?;
    }
    report.end()
}

/// Those of these names, each with its `run` or why it has none.
pub(crate) fn built(asked: impl Fn(&str) -> bool) -> Vec<(&'static Peer, Result<PathBuf, String>)> {
    PEERS.iter().filter(|peer| asked(peer.name)).map(|peer| (peer, peer.build())).collect()
}

fn ours<'a>(work: Work, modules: &'a Modules) -> Vec<Contender<'a>> {
    let raw = move |place: Place<'_>| raw::Settings { work, ..Default::default() }.start(place);
    let pelton = move |place: Place<'_>| Pelton::of(work, modules.of(work), EXACTLY_ONCE).start(place);
    vec![
        Contender { name: "bare loop, 2 lanes".into(), start: Ok(Box::new(raw)) },
        Contender { name: BASE.name.into(), start: Ok(Box::new(pelton)) },
    ]
}

impl Peer {
    /// Its `run`, once it has built what it starts; else why not, in a line.
    fn build(&self) -> Result<PathBuf, String> {
        eprintln!("building {} (once)", self.name);
        let run = root().join("bench/peers").join(self.directory).join("run");
        let built = command(&run).and_then(|mut command| Ok(command.arg("--build").output()?));
        match built {
            Ok(output) if output.status.success() => Ok(run),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(said.lines().last().unwrap_or("its build says nothing").trim().to_owned())
            }
            Err(error) => Err(format!("{error:#}")),
        }
    }

    pub(crate) fn contender<'a>(&'a self, built: &'a Result<PathBuf, String>, work: Work) -> Contender<'a> {
        let start: Result<Start<'a>, String> = match built {
            Ok(run) => Ok(Box::new(move |place: Place<'_>| self.start(run, work, place))),
            Err(reason) => Err(reason.clone()),
        };
        Contender { name: self.name.into(), start }
    }

    fn start(&self, run: &Path, work: Work, place: Place<'_>) -> Result<Process> {
        let Place { bootstrap, group, input, output, home } = place;
        let mut command = command(run)?;
        command.args([bootstrap, input, output, group, &work.to_string(), self.variant]).current_dir(home);
        let mut process = contender::spawn(command, &format!("{home}/log"))?;
        process.1 = self.ends_with;
        Ok(process)
    }
}

/// `run` is started in other directories.
fn command(run: &Path) -> Result<Command> {
    fs::create_dir_all(cache())?;
    let mut command = Command::new(run);
    command.env("CARGO_TARGET_DIR", fs::canonicalize(cache())?);
    Ok(command)
}

fn goals(workload: &Workload) -> Vec<Goal> {
    let cpu = |what, against| Goal { what, of: BASE.name, against, by: |s| s.cpu_us, limit: Limit::AtMost(0.5) };
    match (workload.work, workload.bytes) {
        (Work::Identity, 1_000) => vec![
            cpu("CPU a record against Flink", FLINK),
            Goal {
                what: "records/s against Kafka Streams, stock",
                of: BASE.name,
                against: STREAMS,
                by: |s| s.per_second,
                limit: Limit::AtLeast(2.5),
            },
        ],
        (Work::Identity, _) => vec![cpu("CPU a record against Kafka Streams, stock", STREAMS)],
        _ => vec![cpu("CPU a record against Flink", FLINK)],
    }
}
