//! The HTTP server for whoever looks after the process: is it alive, is it ready, which version is it.
//!
//! Liveness never depends on Kafka: a broker that is down must not get the process killed. Readiness says whether records
//! can flow: every worker is in its group and has taken over its transactional ids.

mod api;

use crate::control::generations::Generations;
use crate::control::triggers::Triggers;
use crate::dataplane::counters::Counters;
use crate::dataplane::wanted::Wanted;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};
use tokio::net::{TcpListener, UnixListener};

/// What the server looks at, and whom it tells.
#[derive(Clone, Debug)]
pub struct Health {
    pub workers: Vec<Arc<Counters>>,
    /// Lanes of each worker.
    pub lanes: u64,
    pub wanted: Arc<Wanted>,
    pub generations: Arc<Generations>,
    /// Who carries out orders; none in tests of the rest.
    pub triggers: Option<Triggers>,
    /// For orders over the network.
    pub token: Option<String>,
}

/// Where the server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Places {
    pub listen: SocketAddr,
    pub socket: Option<PathBuf>,
}

/// How a request came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Network,
    Socket,
}

/// Binds now, so that a place in use is found at start; serves until the runtime ends.
///
/// # Errors
/// When a place cannot be bound, and which.
pub async fn serve(places: &Places, health: Health) -> Result<SocketAddr, (String, io::Error)> {
    let named = |place: &dyn std::fmt::Display| {
        let place = place.to_string();
        move |error| (place, error)
    };
    let listener = TcpListener::bind(places.listen).await.map_err(named(&places.listen))?;
    let address = listener.local_addr().map_err(named(&places.listen))?;
    let health = Arc::new(health);
    if let Some(path) = &places.socket {
        let socket = bind(path).map_err(named(&path.display()))?;
        tokio::spawn(run(axum::serve(socket, routes(&health, Way::Socket)).into_future()));
    }
    tokio::spawn(run(axum::serve(listener, routes(&health, Way::Network)).into_future()));
    Ok(address)
}

async fn run(server: impl Future<Output = io::Result<()>>) {
    if let Err(error) = server.await {
        tracing::error!(code = "admin.ended", %error, "the admin server ended");
    }
}

/// A socket of a process that is gone is in the way; one that answers is somebody else's.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process answers there"));
        }
        fs::remove_file(path)?;
    }
    // Nobody else may open it, not even before its mode is set: it is made where nobody else can look.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let hidden = parent.join(format!(".pelton-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&hidden)?;
    let made = (|| {
        let listener = UnixListener::bind(hidden.join("admin"))?;
        fs::set_permissions(hidden.join("admin"), fs::Permissions::from_mode(0o600))?;
        fs::rename(hidden.join("admin"), path)?;
        Ok(listener)
    })();
    fs::remove_dir_all(&hidden)?;
    made
}

fn routes(health: &Arc<Health>, way: Way) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/version", get(version))
        .merge(api::routes(health))
        .layer(Extension(way))
        .with_state(Arc::clone(health))
}

async fn readyz(State(health): State<Arc<Health>>) -> (StatusCode, Json<Value>) {
    let (ready, reasons) = health.ready();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": ready, "reasons": reasons })))
}

async fn version() -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "librdkafka": pelton_kafka::librdkafka_version(),
        "packed_abi": 1,
    }))
}

impl Health {
    /// Whether records can flow, and what keeps them.
    pub fn ready(&self) -> (bool, Vec<String>) {
        let mut reasons = Vec::new();
        for (index, worker) in self.workers.iter().enumerate() {
            let status = worker.status.get();
            if !status.member {
                reasons.push(format!("worker {index} is not in its group"));
            }
            if status.ready_lanes < self.lanes {
                reasons.push(format!("worker {index}: {} of {} lanes have a producer", status.ready_lanes, self.lanes));
            }
        }
        let (_, plan) = self.wanted.get();
        reasons.extend(plan.allowances.iter().filter(|allowance| allowance.breaker.has_tripped()).map(|allowance| {
            let name = &allowance.name;
            format!("transform {name} has used up its budget of failures: its input topics are paused until it is replaced by a reload, or the process is started again")
        }));
        (reasons.is_empty(), reasons)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::breaker::{Allowance, Breaker, Budget, Then};
    use crate::dataplane::counters::WorkerStatus;
    use crate::dataplane::plan::Plan;
    use std::time::{Duration, Instant};
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

    async fn ask(address: SocketAddr, path: &str) -> String {
        talk(tokio::net::TcpStream::connect(address).await.unwrap(), &format!("GET {path}"), "").await
    }

    async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, what: &str, headers: &str) -> String {
        let request = format!("{what} HTTP/1.1\r\nhost: x\r\n{headers}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn health(wanted: Arc<Wanted>, token: Option<&str>) -> Health {
        let token = token.map(str::to_owned);
        Health { workers: Vec::new(), lanes: 2, wanted, generations: Arc::default(), triggers: None, token }
    }

    fn places(socket: Option<&Path>) -> Places {
        Places { listen: "127.0.0.1:0".parse().unwrap(), socket: socket.map(Path::to_owned) }
    }

    #[tokio::test]
    async fn orders_need_the_token_or_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin");
        let wanted = Arc::new(Wanted::new(Arc::new(Plan::empty())));
        let closed = serve(&places(None), health(Arc::clone(&wanted), None)).await.unwrap();
        let open = serve(&places(Some(&socket)), health(Arc::clone(&wanted), Some("hidden"))).await.unwrap();
        let post = async |address: SocketAddr, headers: &str| {
            talk(tokio::net::TcpStream::connect(address).await.unwrap(), "POST /api/v1/reload", headers).await
        };
        // Nobody carries orders out here, so 503 is as far as an order gets.
        let cases = [
            (closed, "", "403"),
            (closed, "authorization: Bearer \r\n", "403"),
            (open, "", "401"),
            (open, "authorization: Bearer hidde\r\n", "401"),
            (open, "authorization: Bearer hidden2\r\n", "401"),
            (open, "authorization: Basic hidden\r\n", "401"),
            (open, "authorization: Bearer hidden\r\n", "503"),
        ];
        for (address, headers, expected) in cases {
            let answer = post(address, headers).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{headers}: {answer}");
            assert!(!answer.contains("hidden"), "{answer}");
        }
        let by_socket =
            async |what: &str| talk(tokio::net::UnixStream::connect(&socket).await.unwrap(), what, "").await;
        assert!(by_socket("POST /api/v1/reload").await.starts_with("HTTP/1.1 503"));
        assert!(by_socket("POST /api/v1/transforms/x/rollback").await.starts_with("HTTP/1.1 503"));
        assert!(by_socket("GET /api/v1/transforms/x").await.starts_with("HTTP/1.1 404"));
        assert!(ask(closed, "/api/v1/transforms").await.ends_with("{\"transforms\":[]}"), "reading is open");
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        // Its place is taken, and taken over once it is gone.
        let (place, error) = serve(&places(Some(&socket)), health(Arc::clone(&wanted), None)).await.unwrap_err();
        assert!(place.ends_with("admin") && error.kind() == io::ErrorKind::AddrInUse, "{place}: {error}");
        let stale = dir.path().join("stale");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        serve(&places(Some(&stale)), health(wanted, None)).await.unwrap();
    }

    #[tokio::test]
    async fn readiness_follows_the_workers_and_liveness_does_not() {
        let worker = Arc::new(Counters::default());
        let breaker = Arc::new(Breaker::new(Some(Budget { failures: 1, within: Duration::MAX, then: Then::Pause })));
        let allowance = Allowance { name: "t".into(), topics: Vec::new(), breaker: Arc::clone(&breaker), share: 1000 };
        let wanted = Arc::new(Wanted::new(Arc::new(Plan { allowances: vec![allowance], ..Plan::empty() })));
        let health = Health { workers: vec![Arc::clone(&worker)], ..health(wanted, None) };
        let address = serve(&places(None), health).await.unwrap();
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("not in its group"), "{answer}");
        worker.status.set(WorkerStatus { member: true, ready_lanes: 1 });
        assert!(ask(address, "/readyz").await.contains("1 of 2 lanes"));
        worker.status.set(WorkerStatus { member: true, ready_lanes: 2 });
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        breaker.failed(Instant::now());
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("transform t has used up"), "{answer}");
        assert!(ask(address, "/version").await.contains(env!("CARGO_PKG_VERSION")));
    }
}
