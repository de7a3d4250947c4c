//! What orchestrators and scrapers ask: probes, metrics, the version.

use super::{STARTING, Status};
use crate::telemetry::{self, prometheus};
use crate::wall::unix_ms;
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn livez() -> Json<Value> {
    Json(json!({ "alive": true, "reasons": [] }))
}

pub(super) async fn startupz(State(status): State<Arc<Status>>) -> (StatusCode, Json<Value>) {
    let started = status.running().is_some();
    answer("started", started, if started { Vec::new() } else { vec![STARTING.to_owned()] })
}

pub(super) async fn readyz(State(status): State<Arc<Status>>) -> (StatusCode, Json<Value>) {
    let (ready, reasons) = status.ready();
    answer("ready", ready, reasons)
}

fn answer(what: &str, well: bool, reasons: Vec<String>) -> (StatusCode, Json<Value>) {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ what: well, "reasons": reasons })))
}

pub(super) async fn metrics(State(status): State<Arc<Status>>) -> impl IntoResponse {
    let families = telemetry::collect::collect(status.running(), unix_ms());
    ([(header::CONTENT_TYPE, prometheus::CONTENT_TYPE)], prometheus::render(&families))
}

pub(super) async fn version() -> Json<Value> {
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "librdkafka": pelton_kafka::librdkafka_version(),
        "packed_abi": 1,
    }))
}
