//! The HTTP server for whoever looks after the process: has it started, is it alive, is it ready, what does it count, which
//! version is it. It answers from before the first module is compiled.
//!
//! Liveness never depends on Kafka: a broker that is down must not get the process killed. Having started says that modules
//! are compiled and workers run, whatever the brokers do. Readiness says whether records can flow: every worker is in its
//! group and has taken over its transactional ids.

mod api;

use crate::control::generations::Generations;
use crate::control::triggers::Triggers;
use crate::telemetry::{self, Running, prometheus};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};
use tokio::net::{TcpListener, UnixListener};

/// What the server looks at, and whom it tells: nothing and nobody, until the process has started.
#[derive(Debug)]
pub struct Status {
    running: OnceLock<(Arc<Running>, Control)>,
    /// For orders over the network.
    token: Option<String>,
}

/// Who knows of generations and carries out orders.
#[derive(Clone, Debug)]
pub struct Control {
    pub generations: Arc<Generations>,
    /// None in tests of the rest.
    pub triggers: Option<Triggers>,
}

impl Status {
    pub fn new(token: Option<String>) -> Self {
        Status { running: OnceLock::new(), token }
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
pub async fn serve(places: &Places, status: &Arc<Status>) -> Result<SocketAddr, (String, io::Error)> {
    let named = |place: &dyn std::fmt::Display| {
        let place = place.to_string();
        move |error| (place, error)
    };
    let listener = TcpListener::bind(places.listen).await.map_err(named(&places.listen))?;
    let address = listener.local_addr().map_err(named(&places.listen))?;
    if let Some(path) = &places.socket {
        let socket = bind(path).map_err(named(&path.display()))?;
        tokio::spawn(run(axum::serve(socket, routes(status, Way::Socket)).into_future()));
    }
    tokio::spawn(run(axum::serve(listener, routes(status, Way::Network)).into_future()));
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

fn routes(status: &Arc<Status>, way: Way) -> Router {
    Router::new()
        .route("/livez", get(async || Json(json!({ "alive": true, "reasons": [] }))))
        .route("/startupz", get(startupz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .merge(api::routes(status))
        .layer(Extension(way))
        .with_state(Arc::clone(status))
}

async fn startupz(State(status): State<Arc<Status>>) -> (StatusCode, Json<Value>) {
    let started = status.running().is_some();
    answer("started", started, if started { Vec::new() } else { vec![STARTING.to_owned()] })
}

async fn readyz(State(status): State<Arc<Status>>) -> (StatusCode, Json<Value>) {
    let (ready, reasons) = status.ready();
    answer("ready", ready, reasons)
}

fn answer(what: &str, well: bool, reasons: Vec<String>) -> (StatusCode, Json<Value>) {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ what: well, "reasons": reasons })))
}

async fn metrics(State(status): State<Arc<Status>>) -> impl IntoResponse {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
    let families = telemetry::collect::collect(status.running(), now_ms);
    ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], prometheus::render(&families))
}

async fn version() -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "librdkafka": pelton_kafka::librdkafka_version(),
        "packed_abi": 1,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::breaker::{Allowance, Breaker, Budget, Then};
    use crate::dataplane::counters::{Counters, WorkerStatus};
    use crate::dataplane::plan::Plan;
    use crate::dataplane::wanted::Wanted;
    use pelton_sandbox::{Ceiling, Engine, EngineConfig};
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

    fn control() -> Control {
        Control { generations: Arc::default(), triggers: None }
    }

    fn places(socket: Option<&Path>) -> Places {
        Places { listen: "127.0.0.1:0".parse().unwrap(), socket: socket.map(Path::to_owned) }
    }

    fn running(worker: &Arc<Counters>, plan: Plan) -> Arc<Running> {
        let engine = Engine::new(EngineConfig {
            cache_dir: None,
            cache_bytes: 0,
            ceiling: Ceiling { memory: 16 << 20, instances: 1 },
            workshop: None,
            runtime: tokio::runtime::Handle::current(),
        });
        Arc::new(Running {
            workers: vec![Arc::clone(worker)],
            lanes: 2,
            wanted: Arc::new(Wanted::new(Arc::new(plan))),
            engine: engine.unwrap(),
            reloads: Arc::default(),
            partition_metrics: false,
        })
    }

    #[tokio::test]
    async fn orders_need_the_token_or_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("admin");
        let status = |token: Option<&str>| Arc::new(Status::new(token.map(str::to_owned)));
        let (shut, opened) = (status(None), status(Some("hidden")));
        let closed = serve(&places(None), &shut).await.unwrap();
        let open = serve(&places(Some(&socket)), &opened).await.unwrap();
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
        assert!(by_socket("GET /api/v1/transforms").await.starts_with("HTTP/1.1 503"), "nothing has started");
        for status in [&shut, &opened] {
            status.started(running(&Arc::default(), Plan::empty()), control());
        }
        assert!(by_socket("GET /api/v1/transforms/x").await.starts_with("HTTP/1.1 404"));
        assert!(ask(closed, "/api/v1/transforms").await.ends_with("{\"transforms\":[]}"), "reading is open");
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        // Its place is taken, and taken over once it is gone.
        let (place, error) = serve(&places(Some(&socket)), &status(None)).await.unwrap_err();
        assert!(place.ends_with("admin") && error.kind() == io::ErrorKind::AddrInUse, "{place}: {error}");
        let stale = dir.path().join("stale");
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        serve(&places(Some(&stale)), &status(None)).await.unwrap();
    }

    #[tokio::test]
    async fn alive_from_the_first_then_started_then_ready() {
        let status = Arc::new(Status::new(None));
        let address = serve(&places(None), &status).await.unwrap();
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        for path in ["/startupz", "/readyz"] {
            let answer = ask(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("modules are compiled"), "{answer}");
        }
        assert!(ask(address, "/metrics").await.contains("\npelton_ready 0\n"));
        assert!(ask(address, "/version").await.contains(env!("CARGO_PKG_VERSION")));

        let worker = Arc::new(Counters::default());
        let breaker = Arc::new(Breaker::new(Some(Budget { failures: 1, within: Duration::MAX, then: Then::Pause })));
        let allowance = Allowance { name: "t".into(), topics: Vec::new(), breaker: Arc::clone(&breaker), by_hand: Arc::default(), share: 1000 };
        status.started(running(&worker, Plan { allowances: vec![allowance], ..Plan::empty() }), control());
        assert!(ask(address, "/startupz").await.starts_with("HTTP/1.1 200"), "whatever the brokers do");
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("not in its group"), "{answer}");
        worker.status.set(WorkerStatus { member: true, ready_lanes: 1 });
        assert!(ask(address, "/readyz").await.contains("1 of 2 lanes"));
        worker.status.set(WorkerStatus { member: true, ready_lanes: 2 });
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(ask(address, "/metrics").await.contains("\npelton_ready 1\n"));
        breaker.failed(Instant::now());
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("transform t has used up"), "{answer}");
        worker.records_in.add(7);
        let metrics = ask(address, "/metrics").await;
        assert!(metrics.contains("\npelton_ready 0\n"), "{metrics}");
        assert!(metrics.contains("\npelton_transform_paused{transform=\"t\"} 1\n"), "{metrics}");
        assert!(metrics.contains("\npelton_records_received_total{worker=\"0\"} 7\n"), "{metrics}");
    }
}
