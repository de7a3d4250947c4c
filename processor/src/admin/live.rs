//! What changes from second to second: rates, from counters that are read once a second, and the events that a page
//! listens to, one snapshot a second. It is made once for all listeners, and only while there are any; a slow listener
//! misses some.

use super::Status;
use super::api::problem;
use super::snapshot::Snapshot;
use crate::dataplane::histogram::Reading;
use crate::telemetry::Running;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, watch};

const EVERY: Duration = Duration::from_secs(1);
/// Rates are over so many seconds.
const SAMPLES: usize = 5;
pub(super) const LISTENERS_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Live {
    samples: Mutex<VecDeque<Sample>>,
    events: watch::Sender<Arc<str>>,
    listeners: Arc<Semaphore>,
}

/// What was counted until then.
#[derive(Debug)]
struct Sample {
    at: Instant,
    records_in: u64,
    records_out: u64,
    failures: u64,
    latency: Option<Reading>,
    transforms: BTreeMap<Arc<str>, OfTransform>,
}

#[derive(Debug, Default)]
struct OfTransform {
    settled: u64,
    outputs: u64,
    calls: Option<Reading>,
}

/// Per second, over the last seconds.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(super) struct Rates {
    pub records_in: f64,
    pub records_out: f64,
    pub failures: f64,
    /// From records' timestamps to their commit, 99 of 100 of the last seconds; `None`: there were none.
    pub latency_p99_seconds: Option<f64>,
    #[serde(skip)]
    pub transforms: BTreeMap<Arc<str>, TransformRates>,
}

#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct TransformRates {
    /// Records that it has settled.
    pub settled: f64,
    /// Records that it has written, dead letters not included.
    pub outputs: f64,
    /// Of its calls, each of a batch, 99 of 100 took no longer; `None`: there were none.
    pub call_p99_ms: Option<f64>,
}

impl Default for Live {
    fn default() -> Self {
        Live {
            samples: Mutex::default(),
            events: watch::Sender::new(Arc::from("")),
            listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
        }
    }
}

impl Live {
    fn sample(&self, running: &Running, at: Instant) {
        let transforms = BTreeMap::new();
        let mut sample = Sample { at, records_in: 0, records_out: 0, failures: 0, latency: None, transforms };
        for worker in &running.workers {
            let totals = worker.read();
            sample.records_in += totals.records_in;
            sample.records_out += totals.records_out;
            sample.failures += totals.rejected;
            add(&mut sample.latency, worker.latency.read());
            for (name, of) in worker.transforms() {
                let counters = [&of.kept, &of.dropped, &of.emitted, &of.rejected, &of.failed];
                let sample = sample.transforms.entry(name).or_default();
                sample.settled += counters.map(|counter| counter.get()).iter().sum::<u64>();
                sample.outputs += of.kept.get() + of.outputs.get();
                add(&mut sample.calls, of.process.read());
            }
        }
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() > SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    pub(super) fn rates(&self) -> Rates {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(first), Some(last)) = (samples.front(), samples.back()) else { return Rates::default() };
        let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
        let rate = |from: u64, to: u64| {
            if seconds > 0.0 { (to.saturating_sub(from) as f64 / seconds * 10.0).round() / 10.0 } else { 0.0 }
        };
        let none = OfTransform::default();
        let of = |(name, now): (&Arc<str>, &OfTransform)| {
            let then = first.transforms.get(name).unwrap_or(&none);
            let rates = TransformRates {
                settled: rate(then.settled, now.settled),
                outputs: rate(then.outputs, now.outputs),
                call_p99_ms: p99(then.calls.as_ref(), now.calls.as_ref()).map(|seconds| seconds * 1e3),
            };
            (Arc::clone(name), rates)
        };
        Rates {
            records_in: rate(first.records_in, last.records_in),
            records_out: rate(first.records_out, last.records_out),
            failures: rate(first.failures, last.failures),
            latency_p99_seconds: p99(first.latency.as_ref(), last.latency.as_ref()),
            transforms: last.transforms.iter().map(of).collect(),
        }
    }
}

fn add(sum: &mut Option<Reading>, reading: Reading) {
    match sum {
        Some(sum) => sum.add(&reading),
        None => *sum = Some(reading),
    }
}

fn p99(then: Option<&Reading>, now: Option<&Reading>) -> Option<f64> {
    let now = now?.clone();
    let since = match then {
        Some(then) => now.since(then),
        None => now,
    };
    since.quantile(0.99)
}

/// Until the runtime ends.
pub(super) async fn tick(status: Arc<Status>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(running) = status.running() {
            status.live.sample(running, Instant::now());
        }
        if status.live.events.receiver_count() > 0 {
            status.live.events.send_replace(Snapshot::of(&status).json());
        }
    }
}

/// `GET /api/v1/events`: the first at once, then one a second.
pub(super) async fn events(State(status): State<Arc<Status>>) -> Response {
    let Ok(place) = Arc::clone(&status.live.listeners).try_acquire_owned() else {
        let advice = "close a status page, or ask GET /api/v1/status now and then";
        let message = format!("{LISTENERS_MAX} listen already");
        return problem(StatusCode::SERVICE_UNAVAILABLE, "admin.listeners", message, advice);
    };
    let mut news = status.live.events.subscribe();
    news.mark_unchanged();
    let first = Some(Snapshot::of(&status).json());
    let snapshots = stream::unfold((first, news, place), async |(first, mut news, place)| {
        let json = match first {
            Some(json) => json,
            None => {
                news.changed().await.ok()?;
                Arc::clone(&news.borrow_and_update())
            }
        };
        let event = Event::default().event("status").data(&*json);
        Some((Ok::<_, Infallible>(event), (None, news, place)))
    });
    Sse::new(snapshots).into_response()
}
