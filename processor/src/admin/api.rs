//! `/api/v1`: what each transform is at, and orders: reload, roll back, promote. Reading is open to whoever reaches the
//! port. Orders are taken from the Unix socket, and over the network from whoever shows the token; the token is compared in
//! constant time and never told.

use super::{Health, Way};
use crate::control::generations::Entry;
use crate::control::reload::Outcome;
use crate::control::triggers::Order;
use crate::dataplane::plan::{Plan, TransformPlan};
use crate::dataplane::trial::{Kind, Reading, Trial};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use pelton_sandbox::Generation;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) fn routes(health: &Arc<Health>) -> Router<Arc<Health>> {
    let orders = Router::new()
        .route("/api/v1/reload", post(reload))
        .route("/api/v1/transforms/{name}/rollback", post(roll_back))
        .route("/api/v1/transforms/{name}/promote", post(promote))
        .route_layer(from_fn_with_state(Arc::clone(health), authorised));
    Router::new()
        .route("/api/v1/transforms", get(transforms))
        .route("/api/v1/transforms/{name}", get(transform))
        .merge(orders)
}

/// A refusal as clients see it: a stable code, what is the matter, what to do.
#[derive(Debug, Serialize)]
struct Problem {
    code: &'static str,
    message: String,
    advice: &'static str,
}

fn problem(status: StatusCode, code: &'static str, message: impl Into<String>, advice: &'static str) -> Response {
    (status, Json(Problem { code, message: message.into(), advice })).into_response()
}

async fn authorised(
    State(health): State<Arc<Health>>,
    Extension(way): Extension<Way>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    if way == Way::Socket {
        return next.run(request).await;
    }
    let Some(token) = &health.token else {
        let advice = "set `admin.token`, or use the Unix socket of `admin.socket`";
        return problem(StatusCode::FORBIDDEN, "admin.closed", "orders are not taken over the network", advice);
    };
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match shown {
        Some(shown) if same(shown.as_bytes(), token.as_bytes()) => next.run(request).await,
        _ => {
            let advice = "send `Authorization: Bearer` with the value of `admin.token`";
            let mut answer = problem(StatusCode::UNAUTHORIZED, "admin.token", "the token is missing or wrong", advice);
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            answer
        }
    }
}

/// Takes as long whatever the bytes are.
fn same(shown: &[u8], token: &[u8]) -> bool {
    let different = shown.iter().zip(token).fold(0, |different, (a, b)| different | (a ^ b));
    shown.len() == token.len() && std::hint::black_box(different) == 0
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ReloadQuery {
    retry: bool,
}

async fn reload(State(health): State<Arc<Health>>, Query(query): Query<ReloadQuery>) -> Response {
    order(&health, Order::Reload { retry: query.retry }).await
}

async fn roll_back(State(health): State<Arc<Health>>, Path(transform): Path<String>) -> Response {
    order(&health, Order::RollBack { transform }).await
}

async fn promote(State(health): State<Arc<Health>>, Path(transform): Path<String>) -> Response {
    order(&health, Order::Promote { transform }).await
}

async fn order(health: &Health, order: Order) -> Response {
    let outcome = match &health.triggers {
        Some(triggers) => triggers.ask(order, "api").await,
        None => None,
    };
    match outcome {
        None => {
            let advice = "ask again when it runs";
            problem(StatusCode::SERVICE_UNAVAILABLE, "admin.not_running", "the process starts or ends", advice)
        }
        Some(Outcome::Refused { code, message, advice }) => {
            let status = if code == "transform.unknown" { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT };
            problem(status, code, message, advice)
        }
        Some(outcome) => Json(outcome).into_response(),
    }
}

async fn transforms(State(health): State<Arc<Health>>) -> Json<Value> {
    let (_, plan) = health.wanted.get();
    let all: Vec<Value> = (0..plan.transforms.len()).map(|index| summary(&plan, index)).collect();
    Json(json!({ "transforms": all }))
}

async fn transform(State(health): State<Arc<Health>>, Path(name): Path<String>) -> Response {
    let (_, plan) = health.wanted.get();
    let Some(index) = plan.transforms.iter().position(|transform| *transform.name == *name) else {
        let advice = "see GET /api/v1/transforms for those there are";
        return problem(StatusCode::NOT_FOUND, "transform.unknown", format!("there is no transform `{name}`"), advice);
    };
    let transform = &plan.transforms[index];
    let mut answer = summary(&plan, index);
    answer["trial"] = transform.trial.as_deref().map_or(Value::Null, trial);
    answer["previous"] = transform.previous.as_ref().map_or(Value::Null, brief);
    let generations: Vec<Entry> = health.generations.of(&name);
    answer["generations"] = json!(generations);
    Json(answer).into_response()
}

fn summary(plan: &Plan, index: usize) -> Value {
    let TransformPlan { name, generation, digest, inputs, outputs, trial, .. } = &plan.transforms[index];
    let topics = plan.inputs.iter().zip(inputs).filter(|(_, own)| own.is_some()).map(|(topic, _)| &*topic.name);
    json!({
        "name": &**name,
        "generation": generation.number(),
        "digest": &**digest,
        "inputs": topics.collect::<Vec<_>>(),
        "outputs": outputs.iter().map(|output| &*plan.outputs[*output as usize].name).collect::<Vec<_>>(),
        "paused": plan.allowances[index].breaker.has_tripped(),
        "on_trial": trial.as_ref().map(|trial| trial.generation.number()),
    })
}

fn brief(generation: &Generation) -> Value {
    json!({ "generation": generation.number(), "digest": generation.digest().to_string() })
}

fn trial(trial: &Trial) -> Value {
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
