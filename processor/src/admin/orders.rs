//! `/api/v1`, orders: reload, roll back, promote, pause, resume, another filter for the log. They are taken from the
//! Unix socket, and over the network from whoever presents the token; the token is compared in constant time and never
//! shown.

use super::api::{not_running, problem, unknown};
use super::{Status, Way};
use crate::control::reload::Outcome;
use crate::control::triggers::Order;
use crate::dataplane::breaker::Allowance;
use crate::telemetry::level;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Deserialize;
use std::sync::Arc;

pub(super) async fn authorised(
    State(status): State<Arc<Status>>,
    Extension(way): Extension<Way>,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    if way == Way::Socket {
        return next.run(request).await;
    }
    let Some(token) = &status.token else {
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
pub(super) struct ReloadQuery {
    retry: bool,
}

pub(super) async fn reload(
    State(status): State<Arc<Status>>,
    query: Result<Query<ReloadQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return unfit(&rejection),
    };
    order(&status, Order::Reload { retry: query.retry }).await
}

pub(super) async fn roll_back(State(status): State<Arc<Status>>, transform: Name) -> Response {
    let Ok(Path(transform)) = transform else { return unknown("?") };
    order(&status, Order::RollBack { transform }).await
}

pub(super) async fn promote(State(status): State<Arc<Status>>, transform: Name) -> Response {
    let Ok(Path(transform)) = transform else { return unknown("?") };
    order(&status, Order::Promote { transform }).await
}

/// What cannot be decoded is no transform's name.
pub(super) type Name = Result<Path<String>, PathRejection>;

pub(super) async fn pause(State(status): State<Arc<Status>>, transform: Name) -> Response {
    hold(&status, transform, |allowance| allowance.pause(), "paused by hand: its input topics are held")
}

pub(super) async fn resume(State(status): State<Arc<Status>>, transform: Name) -> Response {
    hold(&status, transform, |allowance| allowance.resume(), "resumed by hand, with a whole budget of failures")
}

/// Not by the queue of the other orders: a pause must not wait for a compiler. A reload that is at work keeps it, because
/// it is the same flag in the next plan.
fn hold(status: &Status, transform: Name, change: fn(&Allowance) -> bool, said: &'static str) -> Response {
    let Some(running) = status.running() else { return not_running() };
    let Ok(Path(transform)) = transform else { return unknown("?") };
    let (_, plan) = running.desired.get();
    let Some(allowance) = plan.allowances.iter().find(|allowance| *allowance.name == *transform) else {
        return unknown(&transform);
    };
    if !change(allowance) {
        return Json(Outcome::Unchanged).into_response();
    }
    tracing::warn!(transform, cause = "api", "{said}");
    Json(Outcome::Applied { took_ms: 0 }).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogQuery {
    level: String,
}

pub(super) async fn log(query: Result<Query<LogQuery>, QueryRejection>) -> Response {
    let filter = match query {
        Ok(Query(query)) => query.level,
        Err(rejection) => return unfit(&rejection),
    };
    match level::set(&filter) {
        Ok(()) => {
            tracing::warn!(filter, cause = "api", "the log's filter was changed");
            Json(Outcome::Applied { took_ms: 0 }).into_response()
        }
        Err(error @ level::Refused::NoFilter(_)) => {
            let advice = "such as ?level=info or ?level=pelton=debug,warn";
            problem(StatusCode::BAD_REQUEST, "log.filter", error.to_string(), advice)
        }
        Err(error @ level::Refused::NoLog) => {
            problem(StatusCode::CONFLICT, "log.fixed", error.to_string(), "start the process by `pelton run`")
        }
    }
}

pub(super) fn unfit(rejection: &QueryRejection) -> Response {
    let advice = "see GET /api/v1/openapi.json for what is taken";
    problem(StatusCode::BAD_REQUEST, "admin.query", rejection.body_text(), advice)
}

async fn order(status: &Status, order: Order) -> Response {
    let outcome = match status.control().and_then(|control| control.triggers.as_ref()) {
        Some(triggers) => triggers.ask(order, "api").await,
        None => None,
    };
    match outcome {
        None => not_running(),
        Some(Outcome::Refused { code, message, advice }) => {
            let status = if code == "transform.unknown" { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT };
            problem(status, code, message, advice)
        }
        Some(outcome) => Json(outcome).into_response(),
    }
}
