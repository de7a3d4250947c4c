//! `/api/v1`, reading: the state of everything, where each worker is, the state of each transform, the configuration
//! without its secrets. Reading is open to whoever reaches the port.

use super::Status;
use super::snapshot::Snapshot;
use crate::control::generations::Entry;
use crate::dataplane::breaker::Paused;
use crate::dataplane::plan::{Plan, TransformPlan};
use crate::dataplane::trial::{Kind, Reading, Trial};
use crate::wall::unix_ms;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use pelton_sandbox::Generation;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError};

/// The contract, as machines read it.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

/// A refusal as clients see it: a stable code, what is the matter, what to do.
#[derive(Debug, Serialize)]
struct Problem {
    code: &'static str,
    message: String,
    advice: &'static str,
}

pub(super) fn problem(
    status: StatusCode,
    code: &'static str,
    message: impl Into<String>,
    advice: &'static str,
) -> Response {
    (status, Json(Problem { code, message: message.into(), advice })).into_response()
}

pub(super) fn not_running() -> Response {
    let advice = "ask again when it runs";
    problem(StatusCode::SERVICE_UNAVAILABLE, "admin.not_running", "the process starts or ends", advice)
}

pub(super) fn unknown(name: &str) -> Response {
    let advice = "see GET /api/v1/transforms for those there are";
    problem(StatusCode::NOT_FOUND, "transform.unknown", format!("there is no transform `{name}`"), advice)
}

pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// Before the start too: it says then that there is nothing yet.
pub(super) async fn status(State(status): State<Arc<Status>>) -> Json<Snapshot> {
    Json(Snapshot::of(&status))
}

pub(super) async fn config(State(status): State<Arc<Status>>) -> Response {
    let Some(control) = status.control() else { return not_running() };
    Json(control.config.lock().unwrap_or_else(PoisonError::into_inner).clone()).into_response()
}

pub(super) async fn partitions(State(status): State<Arc<Status>>) -> Response {
    let Some(running) = status.running() else { return not_running() };
    let now_ms = unix_ms();
    let mut all = Vec::new();
    for (worker, counters) in running.workers.iter().enumerate() {
        for (partition, place) in counters.lags.places() {
            all.push(json!({
                "worker": worker,
                "topic": &*partition.topic,
                "partition": partition.partition,
                "lane": place.lane,
                "position": place.position.map(|position| position.0),
                "committed": place.committed.map(|position| position.0),
                "lag_records": place.lag.map(|lag| lag.records),
                "lag_seconds": place.lag.and_then(|lag| lag.seconds(now_ms)),
            }));
        }
    }
    Json(json!({ "partitions": all })).into_response()
}

pub(super) async fn transforms(State(status): State<Arc<Status>>) -> Response {
    let Some(running) = status.running() else { return not_running() };
    let (_, plan) = running.desired.get();
    let all: Vec<Value> = (0..plan.transforms.len()).map(|index| summary(&plan, index)).collect();
    Json(json!({ "transforms": all })).into_response()
}

pub(super) async fn transform(
    State(status): State<Arc<Status>>,
    name: Result<Path<String>, PathRejection>,
) -> Response {
    let Ok(Path(name)) = name else { return unknown("?") };
    let (Some(running), Some(control)) = (status.running(), status.control()) else { return not_running() };
    let (_, plan) = running.desired.get();
    let Some(index) = plan.transforms.iter().position(|transform| *transform.name == *name) else {
        return unknown(&name);
    };
    let transform = &plan.transforms[index];
    let mut answer = summary(&plan, index);
    answer["trial"] = transform.trial.as_deref().map_or(Value::Null, trial);
    answer["previous"] = transform.previous.as_ref().map_or(Value::Null, brief);
    let generations: Vec<Entry> = control.generations.of(&name);
    answer["generations"] = json!(generations);
    Json(answer).into_response()
}

fn summary(plan: &Plan, index: usize) -> Value {
    let TransformPlan { name, generation, digest, inputs, outputs, trial, held_back, .. } = &plan.transforms[index];
    let topics = plan.inputs.iter().zip(inputs).filter(|(_, own)| own.is_some()).map(|(topic, _)| &*topic.name);
    json!({
        "name": &**name,
        "generation": generation.number(),
        "digest": &**digest,
        "inputs": topics.collect::<Vec<_>>(),
        "outputs": outputs.iter().map(|output| &*plan.outputs[*output as usize].name).collect::<Vec<_>>(),
        "paused": plan.allowances[index].paused().is_some(),
        "paused_by": plan.allowances[index].paused().map(Paused::as_str),
        "held_back": held_back,
        "on_trial": trial.as_ref().map(|trial| trial.generation.number()),
    })
}

pub(super) fn brief(generation: &Generation) -> Value {
    json!({ "generation": generation.number(), "digest": generation.digest().to_string() })
}

pub(super) fn trial(trial: &Trial) -> Value {
    let reading = |reading: Reading| {
        json!({
            "records": reading.records,
            "failures": reading.failures,
            "fuel_per_record": reading.fuel.round(),
            "p99_us": reading.p99.as_nanos() as f64 / 1000.0,
        })
    };
    let (kind, share) = match trial.kind {
        Kind::Shadow { .. } => ("shadow", None),
        Kind::Canary { share } => ("canary", Some(share)),
    };
    let (compared, differences) = trial.differences.counts();
    let samples = trial
        .differences
        .samples()
        .into_iter()
        .map(|sample| json!({ "record": sample.record, "running": sample.running, "candidate": sample.candidate }));
    json!({
        "kind": kind,
        "partitions": share,
        "generation": trial.generation.number(),
        "digest": trial.digest.to_string(),
        "for_ms": trial.since.elapsed().as_millis() as u64,
        "running": reading(trial.running.read()),
        "candidate": reading(trial.candidate.read()),
        "compared": compared,
        "differences": differences,
        "samples": samples.collect::<Vec<_>>(),
    })
}
