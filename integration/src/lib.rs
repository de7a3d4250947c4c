//! What the integration tests, the demo and the benchmarks stand on: a real broker ([`broker`]), topics, producers and
//! read_committed readers ([`kafka`]), guests built from source ([`guest`]), the `pelton` process itself
//! ([`process`]) and what it tells of itself ([`scrape`], [`collected`]); the middle of its loop alone ([`rig`]); and the
//! torture run ([`torture`]) on a cluster that may be hurt ([`cluster`]) behind a fault proxy ([`proxy`]). Everything waits on conditions with a deadline; nothing sleeps.

pub mod broker;
pub mod cluster;
pub mod collected;
pub mod guest;
pub mod hostile;
pub mod kafka;
pub mod process;
pub mod proxy;
pub mod rig;
pub mod rights;
pub mod scrape;
pub mod torture;

pub use broker::jvm::spawn_bound;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Where things are kept between runs.
pub fn cache() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// SIGTERM and Ctrl-C set `stop`.
pub fn stop_on_signals(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        runtime.block_on(async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            stop.store(true, Ordering::Relaxed);
            std::io::Result::Ok(())
        })
    });
    Ok(())
}

/// Hands out the numbers that are due, `rate` a second and each once, ten times a second until `stop`.
pub fn paced(
    rate: u64,
    stop: &AtomicBool,
    mut send: impl FnMut(Range<u64>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (start, mut next) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
        send(next..due)?;
        next = due;
        std::thread::park_timeout(Duration::from_millis(100));
    }
    Ok(())
}

/// Asks until `condition` gives something, for at most `limit`. Machines are shared: limits are generous.
pub fn eventually<T>(what: &str, limit: Duration, condition: impl FnMut() -> Option<T>) -> T {
    within(limit, condition).unwrap_or_else(|| panic!("not within {limit:?}: {what}"))
}

/// The same for those who can go on without.
pub fn within<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let found = condition();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
