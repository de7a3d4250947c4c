//! `POST /api/v1/transforms/{name}/tap`: records of a transform as they are processed, one JSON object per line, for
//! whoever may give orders, as far as `admin.tap` allows. The only place where the process shows the contents of
//! records (I10): off unless the configuration says otherwise, bounded in time, number and rate, and logged, without
//! data: who, which transform, what was asked for.
//!
//! The stream ends by itself (time, number, the transform is gone) or when the client goes; no worker waits
//! ([`crate::dataplane::tap`]). What must be hidden is hidden here, before it leaves the process ([`shown`]).

mod shown;

use super::api::{not_running, problem, unknown};
use super::orders::{Name, unfit};
use super::{Status, Who};
use crate::config::Tap as Mode;
use crate::dataplane::tap::{Choice, Listening, Tap};
use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use shown::{Paths, Shown};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Interval};

/// Of the whole process.
pub(super) const LISTENERS_MAX: usize = 4;
const USUAL: Duration = Duration::from_secs(600);
const LONGEST: Duration = Duration::from_secs(3600);
/// Says how many records were dropped, and finds out whether somebody is still there.
const PULSE: Duration = Duration::from_secs(1);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TapQuery {
    limit: Option<u64>,
    for_ms: Option<u64>,
    partition: Option<i32>,
    failed: bool,
    fields: Paths,
    redact: Paths,
}

pub(super) async fn tap(
    State(status): State<Arc<Status>>,
    Extension(who): Extension<Who>,
    name: Name,
    query: Result<Query<TapQuery>, QueryRejection>,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(rejection) => return unfit(&rejection),
    };
    let Some(running) = status.running() else { return not_running() };
    let Ok(Path(name)) = name else { return unknown("?") };
    let (_, plan) = running.desired.get();
    let Some(transform) = plan.transforms.iter().find(|transform| *transform.name == *name) else {
        return unknown(&name);
    };
    if status.tap == Mode::Off {
        let advice = "set `admin.tap` to `redacted` or `full` and restart the process";
        return problem(StatusCode::CONFLICT, "tap.off", "the configuration does not let records be seen", advice);
    }
    let Ok(place) = Arc::clone(&status.taps).try_acquire_owned() else {
        let message = format!("{LISTENERS_MAX} listen already");
        return problem(StatusCode::SERVICE_UNAVAILABLE, "tap.listeners", message, "end another `pelton tap`");
    };
    let lasts = query.for_ms.map_or(USUAL, Duration::from_millis).min(LONGEST);
    let audit = Audit { transform: name, who: who.0, shown: 0, opened: Instant::now() };
    tracing::warn!(
        transform = %audit.transform,
        who = %audit.who,
        shows = status.tap.as_str(),
        partition = query.partition,
        failed = query.failed,
        limit = query.limit,
        for_ms = lasts.as_millis() as u64,
        "a tap is opened: somebody looks at records"
    );
    let listening = transform.tap.listen(Choice { partition: query.partition, failed: query.failed });
    let mut pulse = tokio::time::interval(PULSE);
    pulse.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let open = json!({ "type": "open", "transform": audit.transform, "shows": status.tap.as_str() });
    let tapping = Tapping {
        shown: Shown { mode: status.tap, fields: query.fields, redact: query.redact },
        tap: Arc::clone(&transform.tap),
        until: Instant::now() + lasts,
        left: query.limit.unwrap_or(u64::MAX),
        first: Some(open),
        status: Arc::clone(&status),
        over: false,
        listening,
        pulse,
        audit,
        _place: place,
    };
    let lines = stream::unfold(tapping, async |mut tapping| {
        let line = tapping.next().await?;
        Some((Ok::<_, Infallible>(format!("{line}\n")), tapping))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// One who looks, until the stream is dropped.
struct Tapping {
    shown: Shown,
    listening: Listening,
    tap: Arc<Tap>,
    until: Instant,
    left: u64,
    first: Option<Value>,
    status: Arc<Status>,
    over: bool,
    pulse: Interval,
    audit: Audit,
    _place: OwnedSemaphorePermit,
}

impl Tapping {
    /// `None`: it is over.
    async fn next(&mut self) -> Option<Value> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.over {
            return None;
        }
        if self.left == 0 {
            return Some(self.end("limit"));
        }
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(self.until) => Some(self.end("time")),
            _ = self.pulse.tick() => match self.is_there() {
                true => Some(json!({ "type": "pulse", "dropped": self.listening.dropped() })),
                false => Some(self.end("gone")),
            },
            record = self.listening.records.recv() => {
                let Some(record) = record else { return Some(self.end("gone")) };
                self.left -= 1;
                self.audit.shown += 1;
                Some(self.shown.record(&record))
            }
        }
    }

    fn end(&mut self, why: &str) -> Value {
        self.over = true;
        json!({ "type": "end", "why": why, "dropped": self.listening.dropped() })
    }

    /// A reload may have taken the transform away.
    fn is_there(&self) -> bool {
        let plan = self.status.running().map(|running| running.desired.get().1);
        plan.is_some_and(|plan| plan.transforms.iter().any(|transform| Arc::ptr_eq(&transform.tap, &self.tap)))
    }
}

/// Tells the log when it is over.
struct Audit {
    transform: String,
    who: Arc<str>,
    shown: u64,
    opened: Instant,
}

impl Drop for Audit {
    fn drop(&mut self) {
        tracing::warn!(
            transform = %self.transform,
            who = %self.who,
            records = self.shown,
            seconds = self.opened.elapsed().as_secs(),
            "a tap is closed"
        );
    }
}
