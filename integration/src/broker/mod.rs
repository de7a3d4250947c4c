//! One real Kafka 4.3.1 for a whole process, whatever the machine has, in this order: the brokers in
//! `PELTON_TEST_BROKERS`; a container, where a Docker engine answers and has (or can pull) an image; a JVM with Apache
//! Kafka's own jars. `PELTON_TEST_ENGINE` = `docker` or `jvm` forces one. None of them is an error, never a skip.
//!
//! A broker that was started here ends with the process: by `atexit`, and the JVM also when the process is killed.

mod container;
pub(crate) mod jvm;
mod secured;

use crate::kafka;
use anyhow::{Context, Result, bail};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::TcpListener;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use secured::{PLAIN, Secured};

/// A broker that answers.
#[derive(Debug)]
pub struct Broker {
    /// `host:port`.
    pub bootstrap: String,
    /// For people: what was started.
    pub description: String,
    /// Where it wants to know who one is.
    pub secured: Option<Secured>,
}

/// What to start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    Docker,
    Jvm,
}

/// The process's broker; started by the first caller.
///
/// # Panics
/// When no broker can be had: a test without a broker must fail.
pub fn shared() -> &'static Broker {
    static BROKER: OnceLock<Result<Broker, String>> = OnceLock::new();
    once(&BROKER, start)
}

/// The process's secured broker, started by the first caller, whatever brokers are given: those cannot be changed.
///
/// # Panics
/// When it cannot be had.
pub fn secured() -> (&'static Broker, &'static Secured) {
    static BROKER: OnceLock<Result<Broker, String>> = OnceLock::new();
    let broker = once(&BROKER, || start_one(true));
    (broker, broker.secured.as_ref().expect("it was started so"))
}

fn once(broker: &'static OnceLock<Result<Broker, String>>, start: impl FnOnce() -> Result<Broker>) -> &'static Broker {
    // A failure is kept too: what could not be started once is not tried again by every test.
    let started = broker.get_or_init(|| {
        let broker = start().map_err(|error| format!("{error:#}"))?;
        eprintln!("Kafka: {} at {}", broker.description, broker.bootstrap);
        Ok(broker)
    });
    started.as_ref().unwrap_or_else(|error| panic!("no Kafka broker can be had: {error}"))
}

/// Starts a broker, or finds the one that is given. Returns when it has answered.
pub fn start() -> Result<Broker> {
    if let Ok(bootstrap) = std::env::var("PELTON_TEST_BROKERS") {
        answers(&bootstrap, Duration::from_secs(30), || None)?;
        return Ok(Broker { bootstrap, description: "given by PELTON_TEST_BROKERS".into(), secured: None });
    }
    start_one(false)
}

fn start_one(secured: bool) -> Result<Broker> {
    match std::env::var("PELTON_TEST_ENGINE").as_deref() {
        Ok("docker") => container::start(secured),
        Ok("jvm") => jvm::start(secured),
        Ok(other) => bail!("PELTON_TEST_ENGINE is `{other}`: it can be `docker` or `jvm`"),
        Err(_) => match container::start(secured) {
            Ok(broker) => Ok(broker),
            Err(no_docker) => jvm::start(secured).with_context(|| format!("no container either: {no_docker:#}")),
        },
    }
}

/// Ports for a broker, below the ephemeral range: on a port inside it a client that retries while the broker is down can
/// connect to itself. All are held until the last is found, so that no two are the same.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    free_port_list(N)?.try_into().ok().context("no free ports between 20000 and 32000")
}

/// `count` of them, or an error.
pub(crate) fn free_port_list(count: usize) -> Result<Vec<u16>> {
    let start = RandomState::new().build_hasher().finish() % 12_000;
    let candidates = (0..12_000).map(|i| 20_000 + ((start + i) % 12_000) as u16);
    let held: Vec<TcpListener> =
        candidates.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).take(count).collect();
    if held.len() < count {
        bail!("no free ports between 20000 and 32000");
    }
    held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

/// `server.properties` of a single node that is broker and controller. What the broker says to itself (transaction
/// markers) goes through `internal`: the advertised address of a container cannot be reached from its inside. `secured`:
/// where the secure listener listens.
fn properties(
    (listen, advertised): (&str, &str),
    secured: Option<(&str, &Secured)>,
    internal: &str,
    controller: &str,
    data: &str,
) -> String {
    let (listen_too, advertised_too, more) = match secured {
        None => Default::default(),
        Some((listen, at)) => (format!(",SECURED://{listen}"), format!(",SECURED://{}", at.bootstrap), at.properties()),
    };
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         listeners=CLIENTS://{listen},INTERNAL://{internal},CONTROLLER://{controller}{listen_too}\n\
         advertised.listeners=CLIENTS://{advertised},INTERNAL://{internal}{advertised_too}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=INTERNAL\n\
         listener.security.protocol.map=CLIENTS:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:SASL_SSL\n\
         log.dirs={data}\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=4\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n\
         min.insync.replicas=1\n\
         group.initial.rebalance.delay.ms=0\n\
         group.min.session.timeout.ms=1000\n\
         transaction.abort.timed.out.transaction.cleanup.interval.ms=1000\n\
         auto.create.topics.enable=false\n\
         num.network.threads=2\n\
         num.io.threads=4\n\
         num.recovery.threads.per.data.dir=1\n\
         log.cleaner.dedupe.buffer.size=10485760\n\
         {more}"
    )
}

pub(crate) const CLUSTER_ID: &str = "4L6g3nShT-eMCtK--X86sw";

/// Waits until a broker answers and has a controller. `ended`: what it said, if it is not even running any more.
fn answers(bootstrap: &str, limit: Duration, mut ended: impl FnMut() -> Option<String>) -> Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        match kafka::probe(bootstrap) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline => {
                return Err(error.context(format!("the broker at {bootstrap} did not answer within {limit:?}")));
            }
            Err(_) => {
                if let Some(last_words) = ended() {
                    bail!("the broker ended:\n{last_words}");
                }
            }
        }
    }
}
