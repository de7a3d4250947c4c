//! The HTTP server for operators: has the process started, is it alive, is it ready, its metrics and version; the
//! status page and the API behind it. It answers before the first module is compiled.
//!
//! Liveness never depends on Kafka: a broker that is down must not get the process killed. "Started" means that modules
//! are compiled and workers run, whatever the brokers do. Readiness says whether records can flow: every worker is in
//! its group and has taken over its transactional ids.
//!
//! [`server`] accepts connections, [`routes`] is the single table of what is answered, [`api`] reads, [`orders`]
//! changes, [`snapshot`] is what page ([`page`]) and events ([`live`]) show. Nothing here shows the contents of records
//! (I10) except [`tap`], if the configuration allows it.

mod api;
mod live;
mod orders;
mod page;
mod probes;
mod routes;
mod server;
mod snapshot;
mod tap;
#[cfg(test)]
mod tests;
mod write_timeout;

use crate::config::Tap;
use crate::control::generations::Generations;
use crate::control::triggers::Triggers;
use crate::telemetry::Running;
use live::Live;
use serde_json::Value;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use tokio::sync::Semaphore;

pub use server::serve;

/// What the server looks at, and whom it tells: nothing and nobody, until the process has started.
#[derive(Debug)]
pub struct Status {
    running: OnceLock<(Arc<Running>, Control)>,
    /// For orders over the network.
    token: Option<String>,
    live: Live,
    /// What a tap may show, and how many there may be.
    tap: Tap,
    taps: Arc<Semaphore>,
}

/// Who knows of generations and carries out orders.
#[derive(Clone, Debug)]
pub struct Control {
    pub generations: Arc<Generations>,
    /// None in tests of the rest.
    pub triggers: Option<Triggers>,
    /// What the process goes by, without its secrets.
    pub config: Arc<Mutex<Value>>,
}

impl Status {
    pub fn new(token: Option<String>) -> Self {
        let taps = Arc::new(Semaphore::new(tap::LISTENERS_MAX));
        Status { running: OnceLock::new(), token, live: Live::default(), tap: Tap::Off, taps }
    }

    /// The same, where records may be looked at.
    #[must_use]
    pub fn with_tap(self, tap: Tap) -> Self {
        Status { tap, ..self }
    }

    /// The process has started. Once.
    pub fn started(&self, running: Arc<Running>, control: Control) {
        let _ = self.running.set((running, control));
    }

    fn running(&self) -> Option<&Running> {
        self.running.get().map(|(running, _)| &**running)
    }

    fn control(&self) -> Option<&Control> {
        self.running.get().map(|(_, control)| control)
    }

    fn ready(&self) -> (bool, Vec<String>) {
        self.running().map_or_else(|| (false, vec![STARTING.to_owned()]), Running::ready)
    }
}

const STARTING: &str = "starting: topics are looked up, modules are compiled, linked and configured";

/// Where the server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    pub listen: SocketAddr,
    pub socket: Option<PathBuf>,
}

/// From whom a request came, for the log: an address, or a user and a process of this machine.
#[derive(Clone, Debug)]
struct Who(Arc<str>);

/// How a request came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Network,
    Socket,
}
