//! A Kafka of one or three brokers that a test may ill-treat: brokers are killed, paused, stopped and started again one by
//! one. Each broker is broker and controller in one (KRaft), and listens twice: what it advertises on one listener is the
//! address of a fault proxy ([`crate::proxy`]), the way of the processes under test; the other listener is direct, the way
//! of generators, verifiers and the brokers themselves.
//!
//! Promises: a port below the ephemeral range (a client that retries on a port inside it can connect to itself), no broker
//! outlives this process, no signal goes to a process that was not started here.

mod node;
mod state;

pub use node::Node;
pub use state::{INTERNAL_PARTITIONS, OFFSETS_TOPIC, TRANSACTIONS_TOPIC};

use crate::broker::{free_port_list, jvm};
use crate::kafka;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Where a broker is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// What the broker advertises to the processes under test; the proxy listens here.
    pub proxy: u16,
    /// Where the proxy finds the broker.
    pub behind_proxy: u16,
    pub direct: u16,
    pub controller: u16,
}

/// The brokers, by their place: node id = place + 1.
#[derive(Debug)]
pub struct Cluster {
    pub nodes: Vec<Node>,
}

/// How long a broker may take to answer, on a machine that is busy with other things.
pub const STARTS_WITHIN: Duration = Duration::from_secs(180);

impl Cluster {
    /// Formats and starts `count` brokers with their data under `home`, and waits until all of them answer.
    pub fn start(count: usize, home: &Path) -> Result<Self> {
        if count != 1 && count != 3 {
            bail!("a cluster has one or three brokers, not {count}");
        }
        let (java, class_path) = (jvm::java()?, jvm::class_path()?);
        let ports: Vec<Ports> = free_port_list(count * 4)?
            .chunks_exact(4)
            .map(|p| Ports { proxy: p[0], behind_proxy: p[1], direct: p[2], controller: p[3] })
            .collect();
        let mut nodes = Vec::new();
        for place in 0..count {
            let home = home.join(format!("broker-{}", place + 1));
            fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
            nodes.push(Node::format(place, &ports, home, &java, &class_path)?);
        }
        for node in &mut nodes {
            node.start()?;
        }
        let mut cluster = Cluster { nodes };
        cluster.wait_registered(STARTS_WITHIN)?;
        Ok(cluster)
    }

    /// Bootstrap servers past the proxy.
    pub fn direct(&self) -> String {
        self.addresses(|ports| ports.direct)
    }

    /// Bootstrap servers through the proxy.
    pub fn proxied(&self) -> String {
        self.addresses(|ports| ports.proxy)
    }

    fn addresses(&self, port: impl Fn(&Ports) -> u16) -> String {
        let list: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", port(&node.ports))).collect();
        list.join(",")
    }

    /// Waits until every broker is registered with the controller and answers.
    pub fn wait_registered(&mut self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        let (direct, count) = (self.direct(), self.nodes.len());
        loop {
            match kafka::registered(&direct) {
                Ok(found) if found == count => return Ok(()),
                outcome if Instant::now() >= deadline => {
                    let found = outcome.map_or_else(|error| format!("{error:#}"), |n| format!("{n} registered"));
                    bail!("not all of {count} brokers answered within {limit:?}: {found}");
                }
                _ => {}
            }
            for node in &mut self.nodes {
                if let Some(last_words) = node.ended() {
                    bail!("broker {} ended:\n{last_words}", node.id());
                }
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }
}
