//! Polls the admin server on its own thread, so that a slow server does not keep keys from being read. Signals that
//! would end the process are turned into news too, so that the terminal is restored first.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::endpoint::{self, Endpoint, Unanswered};

/// For one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known now.
#[derive(Debug, Default)]
pub(super) struct Now {
    /// `/api/v1/status`.
    pub status: Value,
    /// Those of `/api/v1/partitions`.
    pub partitions: Vec<Value>,
    /// Why there is no answer any more.
    pub lost: Option<String>,
}

#[derive(Debug)]
pub(super) enum News {
    Answer(Box<Now>),
    Lost(String),
    /// Somebody wants this process to end.
    End,
}

/// Until the receiver goes.
pub(super) fn start(endpoint: &Endpoint, interval: Duration) -> std::io::Result<Receiver<News>> {
    let (send, receive) = sync_channel(1);
    let endpoint = endpoint.clone();
    std::thread::Builder::new().name("feed".into()).spawn(move || {
        let ended = endpoint::runtime().map(|runtime| runtime.block_on(feed(&endpoint, interval, &send)));
        if let Err(error) = ended {
            let _ = send.send(News::Lost(error.to_string()));
        }
    })?;
    Ok(receive)
}

async fn feed(endpoint: &Endpoint, interval: Duration, send: &SyncSender<News>) {
    let mut signals =
        [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(|kind| signal(kind).ok());
    let [terminate, hangup, interrupt] = &mut signals;
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let news = tokio::select! {
            () = came(terminate) => News::End,
            () = came(hangup) => News::End,
            () = came(interrupt) => News::End,
            _ = ticks.tick() => match look(endpoint).await {
                Ok(now) => News::Answer(Box::new(now)),
                Err(error) => News::Lost(error.to_string()),
            },
        };
        if send.send(news).is_err() {
            return;
        }
    }
}

/// Never, where a signal cannot be listened to.
async fn came(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

async fn look(endpoint: &Endpoint) -> Result<Now, Unanswered> {
    let (_, status) = endpoint.ask(&Method::GET, "/api/v1/status", PATIENCE).await?;
    let partitions = match endpoint.ask(&Method::GET, "/api/v1/partitions", PATIENCE).await? {
        (StatusCode::OK, Value::Object(mut answer)) => match answer.remove("partitions") {
            Some(Value::Array(partitions)) => partitions,
            _ => Vec::new(),
        },
        // It starts.
        _ => Vec::new(),
    };
    Ok(Now { status, partitions, lost: None })
}
