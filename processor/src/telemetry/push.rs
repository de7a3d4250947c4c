//! Pushes metrics to an OTLP collector, from its own thread, if OpenTelemetry's environment variables ask for it.
//! Promises that a collector that is slow, down or wrong costs the records nothing: a failed push is logged once, and
//! the next one contains everything that it would have said.

use super::collect::{Running, collect};
use super::collector::Collector;
use super::export::Telling;
use super::logs;
use super::otlp::{self, Span};
use super::variables::{Signal, Unfit, Variables, millis};
use crate::wall::unix_nanos;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long the end of the process waits for the last push.
const LAST_MAX: Duration = Duration::from_secs(3);

/// Where to push, and how often.
#[derive(Clone, PartialEq, Debug)]
pub struct Push {
    collector: Collector,
    interval: Duration,
}

impl Push {
    /// What the environment asks for: `None` when nothing. `application` and `instance` name the resource where the
    /// environment does not.
    ///
    /// # Errors
    /// A variable that asks for what cannot be done.
    pub fn from_env(variables: Variables<'_>, application: &str, instance: &str) -> Result<Option<Self>, Unfit> {
        let collector = Collector::from_env(variables, Signal::Metrics, application, instance)?;
        let interval = variables.get("OTEL_METRIC_EXPORT_INTERVAL");
        collector
            .map(|collector| {
                let interval = millis(interval, "OTEL_METRIC_EXPORT_INTERVAL", 60_000)?;
                Ok(Push { collector, interval })
            })
            .transpose()
    }
}

/// The thread that pushes. It ends with a last push.
#[derive(Debug)]
pub struct Pusher {
    stop: Sender<()>,
    /// Hangs up when the thread has ended.
    ended: Receiver<()>,
}

impl Pusher {
    /// # Errors
    /// When there is no thread to be had, or the certificates cannot be read.
    pub fn start(push: Push, running: Arc<Running>) -> Result<Self, String> {
        let agent = push.collector.agent()?;
        let (stop, stopped) = channel();
        let (alive, ended) = channel::<()>();
        let start = unix_nanos();
        let work = move || {
            let _alive = alive;
            logs::leave_out_this_thread();
            let mut telling = Telling::new(Signal::Metrics);
            loop {
                let last = match stopped.recv_timeout(push.interval) {
                    Err(RecvTimeoutError::Timeout) => false,
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => true,
                };
                let now = unix_nanos();
                let families = collect(Some(&running), (now / 1_000_000) as i64);
                let body = otlp::encode(&families, &push.collector.resource, Span { start, now });
                telling.tell(&push.collector.send(&agent, &body));
                if last {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("otlp".into()).spawn(work).map_err(|error| error.to_string())?;
        Ok(Pusher { stop, ended })
    }

    /// Pushes once more, and waits for that, but not for long.
    pub fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.ended.recv_timeout(LAST_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_the_environment_s() {
        let push = |interval: &str| {
            let variable = |name: &str| match name {
                "OTEL_METRIC_EXPORT_INTERVAL" => Some(interval.to_owned()),
                "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://collector:4318".to_owned()),
                _ => None,
            };
            Push::from_env(Variables(&variable), "orders", "pod-0")
        };
        assert_eq!(push("1000").unwrap().unwrap().interval, Duration::from_secs(1));
        assert_eq!(push("").unwrap().unwrap().interval, Duration::from_secs(60));
        assert!(push("soon").unwrap_err().to_string().starts_with("OTEL_METRIC_EXPORT_INTERVAL"));
    }
}
