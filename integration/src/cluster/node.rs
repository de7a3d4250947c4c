//! One broker process: formatted once, started and ended any number of times on the same ports and the same data.

use super::Ports;
use crate::broker::{CLUSTER_ID, jvm};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A broker. Killed when dropped.
#[derive(Debug)]
pub struct Node {
    place: usize,
    pub ports: Ports,
    home: PathBuf,
    java: PathBuf,
    class_path: String,
    child: Option<Child>,
}

impl Node {
    pub(super) fn format(place: usize, ports: &[Ports], home: PathBuf, java: &Path, class_path: &str) -> Result<Self> {
        let node = Node {
            place,
            ports: ports[place],
            home,
            java: java.to_owned(),
            class_path: class_path.to_owned(),
            child: None,
        };
        fs::write(node.config(), properties(place, ports, &node.home.join("data")))?;
        let format = node
            .command("kafka.tools.StorageTool")
            .args(["format", "-t", CLUSTER_ID, "-c"])
            .arg(node.config())
            .output()
            .context("cannot run java")?;
        if !format.status.success() {
            bail!("formatting the data directory failed: {}", String::from_utf8_lossy(&format.stderr));
        }
        Ok(node)
    }

    /// Kafka's `node.id`.
    pub fn id(&self) -> i32 {
        self.place as i32 + 1
    }

    fn config(&self) -> PathBuf {
        self.home.join("server.properties")
    }

    fn command(&self, main: &str) -> Command {
        let mut command = Command::new(&self.java);
        command
            .args(["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"])
            .arg("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS")
            // What the coordinators say is the other half of every finding.
            .arg("-Dorg.slf4j.simpleLogger.log.kafka.coordinator.transaction=info")
            .arg("-Dorg.slf4j.simpleLogger.log.org.apache.kafka.coordinator=info")
            .args(["-cp", &self.class_path, main])
            .stdin(Stdio::null());
        command
    }

    /// Starts the process; that it answers is for the caller to wait for.
    pub fn start(&mut self) -> Result<()> {
        if self.running() {
            return Ok(());
        }
        let log = OpenOptions::new().create(true).append(true).open(self.home.join("server.log"))?;
        let mut command = self.command("kafka.Kafka");
        command.arg(self.config()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(jvm::spawn_bound(command)?);
        Ok(())
    }

    pub fn running(&mut self) -> bool {
        matches!(self.child.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// What it said last, if it has ended without being told.
    pub fn ended(&mut self) -> Option<String> {
        self.child.as_mut()?.try_wait().ok().flatten()?;
        let log = fs::read_to_string(self.home.join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        Some(lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, a controlled shutdown: leadership moves first. A broker that does not end within `limit` is killed; says
    /// whether it ended by itself.
    pub fn stop(&mut self, limit: Duration) -> bool {
        self.signal(libc::SIGTERM);
        let deadline = Instant::now() + limit;
        while self.running() {
            if Instant::now() >= deadline {
                self.kill();
                return false;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.child = None;
        true
    }

    pub fn pause(&self) {
        self.signal(libc::SIGSTOP);
    }

    pub fn resume(&self) {
        self.signal(libc::SIGCONT);
    }

    fn signal(&self, signal: i32) {
        let Some(child) = &self.child else { return };
        // SAFETY: a process that this struct started and has not waited for.
        #[allow(unsafe_code, reason = "std can only kill")]
        unsafe {
            libc::kill(child.id() as i32, signal);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `server.properties`: three replicas of which two must be there, or one; everything that decides how long a failure
/// lasts is short, so that a run of minutes sees many.
fn properties(place: usize, ports: &[Ports], data: &Path) -> String {
    let Ports { proxy, behind_proxy, direct, controller } = ports[place];
    let voters: Vec<String> =
        ports.iter().enumerate().map(|(i, p)| format!("{}@127.0.0.1:{}", i + 1, p.controller)).collect();
    let replicas = ports.len();
    let in_sync = if replicas == 3 { 2 } else { 1 };
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={voters}\n\
         listeners=PROXIED://127.0.0.1:{behind_proxy},DIRECT://127.0.0.1:{direct},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PROXIED://127.0.0.1:{proxy},DIRECT://127.0.0.1:{direct}\n\
         controller.listener.names=CONTROLLER\n\
         inter.broker.listener.name=DIRECT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,DIRECT:PLAINTEXT\n\
         log.dirs={data}\n",
        id = place + 1,
        voters = voters.join(","),
        data = data.display(),
    );
    for topic in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
        let _ = writeln!(text, "{topic}.replication.factor={replicas}");
    }
    let _ = write!(
        text,
        "offsets.topic.num.partitions={parts}\n\
         transaction.state.log.num.partitions={parts}\n\
         transaction.state.log.min.isr={in_sync}\n\
         share.coordinator.state.topic.min.isr={in_sync}\n\
         default.replication.factor={replicas}\n\
         min.insync.replicas={in_sync}\n\
         unclean.leader.election.enable=false\n\
         replica.lag.time.max.ms=10000\n\
         broker.session.timeout.ms=6000\n\
         broker.heartbeat.interval.ms=1000\n\
         controller.quorum.election.timeout.ms=1000\n\
         controller.quorum.fetch.timeout.ms=2000\n\
         controlled.shutdown.retry.backoff.ms=500\n\
         group.initial.rebalance.delay.ms=0\n\
         group.min.session.timeout.ms=1000\n\
         group.consumer.min.session.timeout.ms=1000\n\
         group.consumer.min.heartbeat.interval.ms=500\n\
         transaction.abort.timed.out.transaction.cleanup.interval.ms=1000\n\
         auto.create.topics.enable=false\n\
         num.network.threads=2\n\
         num.io.threads=4\n\
         num.recovery.threads.per.data.dir=1\n\
         log.cleaner.dedupe.buffer.size=10485760\n",
        parts = super::state::INTERNAL_PARTITIONS,
    );
    text
}
