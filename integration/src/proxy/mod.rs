//! A TCP proxy between the processes under test and the brokers, one listener for each broker. It delays, stalls one way,
//! throttles and cuts, for everybody, for one broker or for one process; and it understands enough of the protocol to
//! stop an EndTxn at any point of its way ([`Trap`]).
//!
//! Promises: without a rule every byte passes, in order; a rule is in force when the call that made it returns, but for
//! messages that are being written; what the proxy counts it has seen. It knows a process by the client ids in the
//! headers of requests. Runs on a runtime of its own; all calls are for ordinary threads and do not block.

mod frame;
mod link;
mod rules;
#[cfg(test)]
mod tests;

pub use rules::{Counts, Direction, Effect, Handle, Late, Process, Scope, Sprung, Trap};

use anyhow::{Context, Result};
use link::Link;
use rules::{Held, Rules};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle as Executor, Runtime};
use tokio::sync::watch;

/// Where the proxy listens, and the broker it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub listen: u16,
    pub broker: u16,
}

/// How long after the next transaction has begun what was held is delivered, at most: records must have been written.
const LATER_BY_MS: u64 = 120;
/// When a client has not begun another transaction by then, what was held is delivered all the same.
const HELD_AT_MOST: Duration = Duration::from_secs(8);

/// The running proxy. Ends when dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    // Ends the connections.
    _runtime: Runtime,
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Proxy").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Proxy {
    /// `routes` by the brokers' places.
    pub fn start(routes: &[Route]) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("fault-proxy").enable_all().build()?;
        let shared = Arc::new(Shared {
            rules: Mutex::default(),
            links: Mutex::default(),
            changes: watch::Sender::new(()),
            executor: runtime.handle().clone(),
            brokers: routes.iter().map(|route| loopback(route.broker)).collect(),
            jitter: AtomicU64::new(0),
        });
        for (place, route) in routes.iter().enumerate() {
            let listener = runtime
                .block_on(TcpListener::bind(loopback(route.listen)))
                .with_context(|| format!("the proxy cannot listen on port {}", route.listen))?;
            runtime.spawn(listen(Arc::clone(&shared), place, listener));
        }
        Ok(Proxy { shared, _runtime: runtime })
    }

    /// From now on, until [`Proxy::lift`].
    pub fn rule(&self, scope: Scope, effect: Effect) -> Handle {
        let handle = self.shared.rules().add(scope, effect);
        self.shared.changed();
        handle
    }

    /// Waits for `times` EndTxn requests of the process that commit. Each that springs the trap is told.
    pub fn arm(&self, process: Process, trap: Trap, times: u32) -> (Handle, Receiver<Sprung>) {
        let (sprung, receive) = channel();
        (self.shared.rules().arm(process, trap, times, sprung), receive)
    }

    /// Ends a rule, or disarms a trap and ends what it froze. What is held back stays so until its time.
    pub fn lift(&self, handle: Handle) {
        self.shared.rules().lift(handle);
        self.shared.changed();
    }

    /// Cuts all connections of these; new ones pass. Returns how many.
    pub fn cut(&self, scope: &Scope) -> usize {
        let links = self.shared.live_links();
        let hit: Vec<_> = links.iter().filter(|link| scope.covers(link.place, &link.client_id())).collect();
        hit.iter().for_each(|link| link.cut());
        self.shared.rules().counts.cut += hit.len() as u64;
        hit.len()
    }

    pub fn counts(&self) -> Counts {
        self.shared.rules().counts
    }

    /// EndTxn requests that are held back just now.
    pub fn held(&self) -> usize {
        self.shared.rules().held.len()
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

struct Shared {
    rules: Mutex<Rules>,
    links: Mutex<Vec<Weak<Link>>>,
    changes: watch::Sender<()>,
    executor: Executor,
    brokers: Vec<SocketAddr>,
    /// Spreads the moments at which held requests are delivered over the life of the next transaction.
    jitter: AtomicU64,
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_replace(());
    }

    fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    fn count_cut(&self) {
        self.rules().counts.cut += 1;
    }

    fn live_links(&self) -> Vec<Arc<Link>> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.retain(|link| link.strong_count() > 0);
        links.iter().filter_map(Weak::upgrade).collect()
    }

    /// What has been held back for too long arrives too.
    fn release_in_the_end(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        self.executor.spawn(async move {
            tokio::time::sleep(HELD_AT_MOST).await;
            let overdue = shared.rules().overdue(HELD_AT_MOST);
            overdue.into_iter().for_each(|held| shared.deliver(held, false));
        });
    }

    /// Lets what was held arrive. `begun`: because the client's next transaction has begun; then a little later, so that
    /// there is something in it.
    fn deliver(self: &Arc<Self>, held: Held, begun: bool) {
        let shared = Arc::clone(self);
        let step = self.jitter.fetch_add(37, Ordering::Relaxed) % LATER_BY_MS;
        self.executor.spawn(async move {
            if begun {
                tokio::time::sleep(Duration::from_millis(5 + step)).await;
            }
            let error = deliver(shared.brokers[held.place], &held.frame).await;
            let mut rules = shared.rules();
            let late = &mut rules.counts.late;
            *(if begun { &mut late.delivered } else { &mut late.without_begin }) += 1;
            *(if matches!(error, Ok(Some(0))) { &mut late.accepted } else { &mut late.refused }) += 1;
        });
    }
}

/// On a connection of its own, as a packet that took another way. The error code in the answer.
async fn deliver(broker: SocketAddr, bytes: &[u8]) -> std::io::Result<Option<i16>> {
    let mut stream = TcpStream::connect(broker).await?;
    stream.write_all(bytes).await?;
    let answer = tokio::time::timeout(Duration::from_secs(10), frame::read(&mut stream)).await??;
    Ok(answer.and_then(|answer| frame::end_txn_error(&answer)))
}

async fn listen(shared: Arc<Shared>, place: usize, listener: TcpListener) {
    loop {
        // An error here is the client's, or a lack of file descriptors that passes.
        let Ok((client, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // While the broker is down its port refuses, and so does the proxy, by closing.
            let Ok(broker) = TcpStream::connect(shared.brokers[place]).await else { return };
            let link = Arc::new(Link::new(place));
            shared.rules().counts.connections += 1;
            shared.links.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&link));
            link::carry(shared, link, client, broker).await;
        });
    }
}
