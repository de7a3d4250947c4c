//! Kafka in a container, through testcontainers: the image `pelton-kafka:4.3.1` where `./dev kafka-image` has built it,
//! else `apache/kafka:4.3.1`, which is pulled. Both read `/mnt/shared/config/server.properties`.

use super::{Broker, Secured, answers, free_ports, properties};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use testcontainers::core::IntoContainerPort;
use testcontainers::runners::SyncRunner;
use testcontainers::{Container, GenericImage, ImageExt};

/// Ended by `atexit`; the container object itself must not be dropped there, its runtime may be gone.
static RUNNING: Mutex<Vec<String>> = Mutex::new(Vec::new());

const LOCAL: &str = "pelton-kafka";
const PUBLIC: &str = "apache/kafka";
const TAG: &str = "4.3.1";

pub(super) fn start(secured: bool) -> Result<Broker> {
    if !quiet(&["info"]) {
        bail!("no Docker engine answers");
    }
    let name = if quiet(&["image", "inspect", &format!("{LOCAL}:{TAG}")]) {
        LOCAL
    } else if quiet(&["image", "inspect", &format!("{PUBLIC}:{TAG}")])
        || quiet(&["pull", "-q", &format!("{PUBLIC}:{TAG}")])
    {
        PUBLIC
    } else {
        bail!("no image: {PUBLIC}:{TAG} cannot be pulled; `./dev kafka-image` builds {LOCAL}:{TAG}");
    };
    let [port, secure] = free_ports()?;
    let bootstrap = format!("127.0.0.1:{port}");
    let secured = secured.then(|| Secured::new(format!("127.0.0.1:{secure}"))).transpose()?;
    let at = secured.as_ref().map(|at| ("0.0.0.0:9095", at));
    let config = properties(("0.0.0.0:9092", &bootstrap), at, "127.0.0.1:9094", "127.0.0.1:9093", "/tmp/kafka-data");
    let container: Container<GenericImage> = GenericImage::new(name, TAG)
        .with_mapped_port(port, 9092.tcp())
        .with_mapped_port(secure, 9095.tcp())
        .with_copy_to("/mnt/shared/config/server.properties", config.into_bytes())
        .with_label("pelton.test", std::process::id().to_string())
        .with_startup_timeout(Duration::from_secs(120))
        .start()
        .with_context(|| format!("cannot start a container of {name}:{TAG}"))?;
    let id = container.id().to_owned();
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).push(id.clone());
    std::mem::forget(container);
    // SAFETY: the handler touches only a static behind a lock, and runs the Docker client.
    #[allow(unsafe_code, reason = "atexit is the only hook that runs when libtest ends the process")]
    unsafe {
        libc::atexit(end_all);
    }
    answers(&bootstrap, Duration::from_secs(180), || last_words(&id))?;
    Ok(Broker { bootstrap, description: format!("{name}:{TAG} in a container"), secured })
}

/// The log of a container that has ended.
fn last_words(id: &str) -> Option<String> {
    let state = Command::new("docker").args(["inspect", "-f", "{{.State.Running}}", id]).output().ok()?;
    if state.stdout.starts_with(b"true") {
        return None;
    }
    let log = Command::new("docker").args(["logs", "--tail", "20", id]).output().ok()?;
    Some(String::from_utf8_lossy(&log.stderr).into_owned() + &String::from_utf8_lossy(&log.stdout))
}

extern "C" fn end_all() {
    for id in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
        quiet(&["rm", "-f", "-v", &id]);
    }
}

/// Does this call of the Docker client succeed?
fn quiet(args: &[&str]) -> bool {
    Command::new("docker")
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
