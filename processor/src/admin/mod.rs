//! The HTTP server for whoever looks after the process: is it alive, is it ready, which version is it.
//!
//! Liveness never depends on Kafka: a broker that is down must not get the process killed. Readiness says whether records
//! can flow: every worker is in its group and has taken over its transactional ids.

use crate::dataplane::counters::Counters;
use crate::dataplane::wanted::Wanted;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// What the server looks at.
#[derive(Clone, Debug)]
pub struct Health {
    pub workers: Vec<Arc<Counters>>,
    /// Lanes of each worker.
    pub lanes: u64,
    pub wanted: Arc<Wanted>,
}

/// Binds now, so that a port in use is found at start; serves until the runtime ends.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(listen: SocketAddr, health: Health) -> io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let routes = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/version", get(version))
        .with_state(Arc::new(health));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(code = "admin.ended", %error, "the admin server ended");
        }
    });
    Ok(address)
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_follows_the_workers_and_liveness_does_not() {
        let worker = Arc::new(Counters::default());
        let breaker = Arc::new(Breaker::new(Some(Budget { failures: 1, within: Duration::MAX, then: Then::Pause })));
        let allowance = Allowance { name: "t".into(), topics: Vec::new(), breaker: Arc::clone(&breaker), share: 1000 };
        let wanted = Arc::new(Wanted::new(Arc::new(Plan { allowances: vec![allowance], ..Plan::empty() })));
        let health = Health { workers: vec![Arc::clone(&worker)], lanes: 2, wanted };
        let address = serve("127.0.0.1:0".parse().unwrap(), health).await.unwrap();
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
