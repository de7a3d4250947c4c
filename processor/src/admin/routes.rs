//! The single table of what the server answers, and the headers that every answer has: they keep a browser from taking
//! an answer for something else, from caching it and from loading anything from elsewhere. A test keeps the table and
//! the OpenAPI document in step.

use super::api::problem;
use super::{Status, Way, api, live, orders, page, probes, tap};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use std::sync::Arc;

type Route = (&'static str, MethodRouter<Arc<Status>>);

/// What is read, by whoever reaches the port.
pub(super) fn readings() -> Vec<Route> {
    vec![
        ("/", get(page::page)),
        ("/status.css", get(page::style)),
        ("/status.js", get(page::script)),
        ("/livez", get(probes::livez)),
        ("/startupz", get(probes::startupz)),
        ("/readyz", get(probes::readyz)),
        ("/metrics", get(probes::metrics)),
        ("/version", get(probes::version)),
        ("/api/v1/openapi.json", get(api::openapi)),
        ("/api/v1/status", get(api::status)),
        ("/api/v1/events", get(live::events)),
        ("/api/v1/partitions", get(api::partitions)),
        ("/api/v1/config", get(api::config)),
        ("/api/v1/transforms", get(api::transforms)),
        ("/api/v1/transforms/{name}", get(api::transform)),
    ]
}

/// What changes something, for those who may.
pub(super) fn orders() -> Vec<Route> {
    vec![
        ("/api/v1/reload", post(orders::reload)),
        ("/api/v1/log", post(orders::log)),
        ("/api/v1/transforms/{name}/rollback", post(orders::roll_back)),
        ("/api/v1/transforms/{name}/promote", post(orders::promote)),
        ("/api/v1/transforms/{name}/pause", post(orders::pause)),
        ("/api/v1/transforms/{name}/resume", post(orders::resume)),
        ("/api/v1/transforms/{name}/tap", post(tap::tap)),
    ]
}

pub(super) fn router(status: &Arc<Status>, way: Way) -> Router {
    let all = |routes: Vec<Route>| {
        routes.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
    };
    let guarded_order = |(path, methods): Route| {
        // Of the methods alone: another method is told that it is wrong, whoever comes with it.
        (path, methods.route_layer(from_fn_with_state(Arc::clone(status), orders::authorised)))
    };
    let orders = all(orders().into_iter().map(guarded_order).collect());
    all(readings())
        .merge(orders)
        .fallback(async || {
            let advice = "see GET /api/v1/openapi.json for what there is";
            problem(StatusCode::NOT_FOUND, "admin.unknown", "there is nothing here", advice)
        })
        .layer(from_fn(guarded))
        .layer(Extension(way))
        .with_state(Arc::clone(status))
}

const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = response.headers().get(header::ALLOW).cloned();
        let advice = "the header `allow` names what is taken";
        response = problem(StatusCode::METHOD_NOT_ALLOWED, "admin.method", "this method is not taken here", advice);
        response.headers_mut().extend(allow.map(|allow| (header::ALLOW, allow)));
    }
    guard(response.headers_mut());
    response
}

fn guard(headers: &mut HeaderMap) {
    let fixed: [(HeaderName, &'static str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, NOTHING),
    ];
    for (name, value) in fixed {
        // The page says itself what it may load.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}
