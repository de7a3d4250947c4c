//! What the integration tests, the demo and the benchmarks stand on: a real broker ([`broker`]), topics, producers and
//! read_committed readers ([`kafka`]), guests built from source ([`guest`]), and the `pelton` process itself
//! ([`process`]); and the torture run ([`torture`]) on a cluster that may be hurt ([`cluster`]) behind a fault proxy
//! ([`proxy`]). Everything waits on conditions with a deadline; nothing sleeps.

pub mod broker;
pub mod cluster;
pub mod guest;
pub mod kafka;
pub mod process;
pub mod proxy;
pub mod torture;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The root of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Where things are kept between runs.
pub fn cache() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Asks until `condition` gives something, for at most `limit`. Machines are shared: limits are generous.
pub fn eventually<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
