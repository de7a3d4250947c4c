//! The HTTP server for whoever looks after the process: has it started, is it alive, is it ready, what does it count, which
//! version is it. It answers from before the first module is compiled.
//!
//! Liveness never depends on Kafka: a broker that is down must not get the process killed. Having started says that modules
//! are compiled and workers run, whatever the brokers do. Readiness says whether records can flow: every worker is in its
//! group and has taken over its transactional ids.

use crate::telemetry::{self, Running, prometheus};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the server looks at: nothing, until the process has started.
#[derive(Debug, Default)]
pub struct Status {
    running: OnceLock<Arc<Running>>,
}

impl Status {
    /// The process has started. Once.
    pub fn started(&self, running: Arc<Running>) {
        let _ = self.running.set(running);
    }

    fn ready(&self) -> (bool, Vec<String>) {
        self.running.get().map_or_else(|| (false, vec![STARTING.to_owned()]), |running| running.ready())
    }
}

const STARTING: &str = "starting: topics are looked up, modules are compiled, linked and configured";

/// Binds now, so that a port in use is found at start; serves until the runtime ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(listen: SocketAddr, status: Arc<Status>) -> io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let routes = Router::new()
        .route("/livez", get(async || Json(json!({ "alive": true, "reasons": [] }))))
        .route("/startupz", get(startupz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .with_state(status);
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(code = "admin.ended", %error, "the admin server ended");
        }
    });
    Ok(address)
}

async fn startupz(State(status): State<Arc<Status>>) -> (StatusCode, Json<Value>) {
    let started = status.running.get().is_some();
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
    let families = telemetry::collect::collect(status.running.get().map(Arc::as_ref), now_ms);
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
    use crate::dataplane::counters::{Counters, WorkerStatus};
    use crate::dataplane::plan::{DeliveryPlan, Plan};
    use crate::dataplane::wanted::Wanted;
    use pelton_sandbox::{Ceiling, Engine, EngineConfig};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn running(worker: &Arc<Counters>) -> Arc<Running> {
        let delivery = DeliveryPlan {
            exactly_once: true,
            commit_interval: Duration::from_millis(100),
            idle: None,
            max_records: 1,
            max_bytes: 1,
            transaction_timeout: Duration::from_secs(30),
            renew_in_doubt: true,
            drain_limit: Duration::from_secs(60),
        };
        let plan = Plan {
            application: "test".into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            transforms: Vec::new(),
            delivery,
            guest_text: false,
        };
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
            breakers: Arc::default(),
            wanted: Arc::new(Wanted::new(Arc::new(plan))),
            engine: engine.unwrap(),
            reloads: Arc::default(),
            partition_metrics: false,
        })
    }

    #[tokio::test]
    async fn alive_from_the_first_then_started_then_ready() {
        let status = Arc::new(Status::default());
        let address = serve("127.0.0.1:0".parse().unwrap(), Arc::clone(&status)).await.unwrap();
        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        for path in ["/startupz", "/readyz"] {
            let answer = ask(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("modules are compiled"), "{answer}");
        }
        assert!(ask(address, "/metrics").await.contains("\npelton_ready 0\n"));
        assert!(ask(address, "/version").await.contains(env!("CARGO_PKG_VERSION")));

        let worker = Arc::new(Counters::default());
        status.started(running(&worker));
        assert!(ask(address, "/startupz").await.starts_with("HTTP/1.1 200"), "whatever the brokers do");
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("not in its group"), "{answer}");
        worker.status.set(WorkerStatus { member: true, ready_lanes: 1 });
        assert!(ask(address, "/readyz").await.contains("1 of 2 lanes"));
        worker.status.set(WorkerStatus { member: true, ready_lanes: 2 });
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        worker.records_in.add(7);
        let metrics = ask(address, "/metrics").await;
        assert!(metrics.contains("\npelton_ready 1\n"), "{metrics}");
        assert!(metrics.contains("\npelton_records_received_total{worker=\"0\"} 7\n"), "{metrics}");
    }
}
