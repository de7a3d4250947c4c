//! What the process pushes to a collector if the environment asks for it: metrics, traces, its log. A request that
//! cannot be met is logged, and records flow all the same.

use crate::dataplane::kafka::Identity;
use crate::telemetry::export::{Exporter, Limits, Queue};
use crate::telemetry::logs::{self, Line};
use crate::telemetry::traces::span::Span;
use crate::telemetry::traces::{self, Settings, Tracer};
use crate::telemetry::{Collector, Exports, Push, Pusher, Running, Signal, Variables};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the end of the process waits for the last spans and lines.
const LAST_MAX: Duration = Duration::from_secs(3);

/// The environment of the process.
const ENVIRONMENT: Variables<'_> = Variables(&|name| std::env::var(name).ok());

/// Traces and log.
#[derive(Debug)]
pub(super) struct Exporting {
    /// Where records are followed.
    pub tracer: Option<Arc<Tracer>>,
    /// For the metrics.
    pub counts: Exports,
    traces: Option<Exporter<Span>>,
    log: Option<Exporter<Line>>,
}

impl Exporting {
    pub fn start(identity: &Identity) -> Self {
        let mut counts = Exports::default();
        let log = started(Signal::Logs, log(identity));
        counts.0.extend(log.as_ref().map(|log| (Signal::Logs, Arc::clone(log.counts()))));
        let (tracer, traces) = started(Signal::Traces, follow(identity)).unzip();
        counts.0.extend(traces.as_ref().map(|traces| (Signal::Traces, Arc::clone(traces.counts()))));
        Exporting { tracer, counts, traces, log }
    }

    /// Pushes what is left, and waits for that, but not for long.
    pub fn stop(self) {
        let deadline = Instant::now() + LAST_MAX;
        let Exporting { traces, log, .. } = self;
        traces.iter().for_each(Exporter::close);
        log.iter().for_each(Exporter::close);
        traces.iter().for_each(|traces| traces.wait(deadline));
        log.iter().for_each(|log| log.wait(deadline));
    }
}

/// Pushes metrics.
pub(super) fn metrics(identity: &Identity, observed: Arc<Running>) -> Option<Pusher> {
    let push = Push::from_env(ENVIRONMENT, &identity.application, &identity.instance);
    let push = push.map_err(|unfit| unfit.to_string());
    started(Signal::Metrics, push.and_then(|push| push.map(|push| Pusher::start(push, observed)).transpose()))
}

type Following = (Arc<Tracer>, Exporter<Span>);

fn follow(identity: &Identity) -> Result<Option<Following>, String> {
    let settings = Settings::from_env(ENVIRONMENT, &identity.application, &identity.instance);
    let Some(Settings { collector, sampler, limits }) = settings.map_err(|unfit| unfit.to_string())? else {
        return Ok(None);
    };
    let queue = Arc::new(Queue::new(limits));
    let exporter = Exporter::start(collector, &queue, traces::otlp::encode)?;
    tracing::info!(%sampler, "records are followed");
    Ok(Some((Arc::new(Tracer { sampler, queue }), exporter)))
}

fn log(identity: &Identity) -> Result<Option<Exporter<Line>>, String> {
    let collector = Collector::from_env(ENVIRONMENT, Signal::Logs, &identity.application, &identity.instance);
    let Some(collector) = collector.map_err(|unfit| unfit.to_string())? else { return Ok(None) };
    let limits = Limits::from_env(ENVIRONMENT, Signal::Logs).map_err(|unfit| unfit.to_string())?;
    let queue = Arc::new(Queue::new(limits));
    let exporter = Exporter::start(collector, &queue, logs::encode)?;
    logs::install(queue);
    Ok(Some(exporter))
}

/// Says how it went.
fn started<T>(signal: Signal, result: Result<Option<T>, String>) -> Option<T> {
    let signal = signal.as_str();
    match result {
        Ok(None) => None,
        Ok(Some(started)) => {
            tracing::info!("{signal} are pushed by OTLP");
            Some(started)
        }
        Err(error) => {
            let advice = "correct the variable and restart; nothing is pushed";
            tracing::error!(code = "telemetry.otlp", advice, "{signal} cannot be pushed: {error}");
            None
        }
    }
}
