//! How spans and log records get to a collector: a bounded queue, and a thread that empties it. Producers put items
//! into the queue and never wait for the collector: what finds the queue full is dropped and counted. What a collector
//! that is down does not accept is retried for as long as `OTEL_…_EXPORT_TIMEOUT` says, and then dropped and counted
//! too. Nothing that happens here is itself sent to a collector, so it cannot feed itself.

use super::collector::{Collector, NotSent};
use super::logs;
use super::variables::{Signal, Unfit, Variables, count, millis};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two tries of a push that failed, doubled each time.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(16);

/// How much waits, how much is pushed at once, how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// What the queue holds.
    pub queue: usize,
    /// What one push holds.
    pub batch: usize,
    /// How long something waits for more.
    pub delay: Duration,
    /// How long a push is tried.
    pub patience: Duration,
}

/// The variables of [`Limits`]: delay, patience, queue, batch.
const BSP: [&str; 4] =
    ["OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"];
const BLRP: [&str; 4] = [
    "OTEL_BLRP_SCHEDULE_DELAY",
    "OTEL_BLRP_EXPORT_TIMEOUT",
    "OTEL_BLRP_MAX_QUEUE_SIZE",
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
];

impl Limits {
    /// As `OTEL_BSP_…` (spans) or `OTEL_BLRP_…` (log records) say.
    ///
    /// # Errors
    /// What is no number, or out of bounds.
    pub fn from_env(variables: Variables<'_>, signal: Signal) -> Result<Self, Unfit> {
        let (delay_ms, [delay, patience, queue, batch]) = match signal {
            Signal::Logs => (1_000, BLRP),
            Signal::Traces | Signal::Metrics => (5_000, BSP),
        };
        let limits = Limits {
            queue: count(variables.get(queue), queue, 2_048)?,
            batch: count(variables.get(batch), batch, 512)?,
            delay: millis(variables.get(delay), delay, delay_ms)?,
            patience: millis(variables.get(patience), patience, 30_000)?,
        };
        Ok(Limits { batch: limits.batch.min(limits.queue), ..limits })
    }
}

/// What became of what there was to tell.
#[derive(Debug, Default)]
pub struct ExportCounts {
    pub sent: AtomicU64,
    pub dropped: AtomicU64,
}

/// What waits to be told.
#[derive(Debug)]
pub struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    /// A push is full, or there will be no more.
    ready: Condvar,
    limits: Limits,
    pub counts: Arc<ExportCounts>,
}

#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Queue<T> {
    pub fn new(limits: Limits) -> Self {
        let waiting = Mutex::new(Waiting { items: VecDeque::new(), closed: false });
        Queue { waiting, ready: Condvar::new(), limits, counts: Arc::default() }
    }

    /// Queues what there is room for. The lock is only ever held for moving things in memory.
    pub fn offer(&self, items: impl IntoIterator<Item = T>) {
        let (mut full, mut dropped) = (false, 0);
        {
            let mut waiting = self.lock();
            for item in items {
                if waiting.items.len() < self.limits.queue && !waiting.closed {
                    waiting.items.push_back(item);
                    full |= waiting.items.len() == self.limits.batch;
                } else {
                    dropped += 1;
                }
            }
        }
        if dropped > 0 {
            self.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
        }
        if full {
            self.ready.notify_one();
        }
    }

    /// What one push holds; waits until that is there, or the delay is over. Empty: there will be no more.
    fn take(&self) -> Vec<T> {
        let mut waiting = self.lock();
        loop {
            let wait = |waiting: &mut Waiting<T>| !waiting.closed && waiting.items.len() < self.limits.batch;
            let timed = self.ready.wait_timeout_while(waiting, self.limits.delay, wait);
            (waiting, _) = timed.unwrap_or_else(PoisonError::into_inner);
            let count = waiting.items.len().min(self.limits.batch);
            if count > 0 || waiting.closed {
                return waiting.items.drain(..count).collect();
            }
        }
    }

    /// All that waits.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> Vec<T> {
        self.lock().items.drain(..).collect()
    }

    /// Waits for `pause`, or until there will be no more. `true`: that is so.
    fn pause(&self, pause: Duration) -> bool {
        let timed = self.ready.wait_timeout_while(self.lock(), pause, |waiting| !waiting.closed);
        timed.unwrap_or_else(PoisonError::into_inner).0.closed
    }

    fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the body of a push: the resource's attributes, and items.
pub type Encode<T> = fn(&[(String, String)], Vec<T>) -> Vec<u8>;

/// The thread that empties a queue. It ends with what is left in it.
#[derive(Debug)]
pub struct Exporter<T> {
    queue: Arc<Queue<T>>,
    /// Hangs up when the thread has ended.
    ended: Receiver<()>,
}

impl<T: Send + 'static> Exporter<T> {
    /// # Errors
    /// When there is no thread to be had, or the certificates cannot be read.
    pub fn start(collector: Collector, queue: &Arc<Queue<T>>, encode: Encode<T>) -> Result<Self, String> {
        let (agent, signal) = (collector.agent()?, collector.signal);
        let (alive, ended) = channel::<()>();
        let from = Arc::clone(queue);
        let work = move || {
            let _alive = alive;
            logs::leave_out_this_thread();
            let mut telling = Telling::new(collector.signal);
            loop {
                let items = from.take();
                if items.is_empty() {
                    return;
                }
                let count = items.len() as u64;
                let body = encode(&collector.resource, items);
                let sent = push(&from, &mut telling, || collector.send(&agent, &body));
                let counter = if sent { &from.counts.sent } else { &from.counts.dropped };
                counter.fetch_add(count, Ordering::Relaxed);
            }
        };
        let name = format!("otlp-{}", signal.as_str());
        std::thread::Builder::new().name(name).spawn(work).map_err(|error| error.to_string())?;
        Ok(Exporter { queue: Arc::clone(queue), ended })
    }

    pub fn counts(&self) -> &Arc<ExportCounts> {
        &self.queue.counts
    }

    /// Nothing more is taken: what is left is pushed, and the thread ends.
    pub fn close(&self) {
        self.queue.close();
    }

    /// Waits for that end, at most until the deadline.
    pub fn wait(&self, deadline: Instant) {
        let _ = self.ended.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// The same push again while that may help.
fn push<T>(queue: &Queue<T>, telling: &mut Telling, send: impl Fn() -> Result<(), NotSent>) -> bool {
    let give_up = Instant::now() + queue.limits.patience;
    let mut pause = PAUSE;
    loop {
        let sent = send();
        telling.tell(&sent);
        match sent {
            Ok(()) => return true,
            Err(NotSent { again: false, .. }) => return false,
            Err(_) if Instant::now() + pause >= give_up => return false,
            Err(_) => {}
        }
        if queue.pause(pause) {
            // The process ends: once more, and no more.
            let sent = send();
            telling.tell(&sent);
            return sent.is_ok();
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Tells the log that pushing fails, once, and that it works again.
#[derive(Debug)]
pub(super) struct Telling {
    signal: Signal,
    failing: bool,
}

impl Telling {
    pub fn new(signal: Signal) -> Self {
        Telling { signal, failing: false }
    }

    pub fn tell(&mut self, sent: &Result<(), NotSent>) {
        let signal = self.signal.as_str();
        match sent {
            Ok(()) if self.failing => tracing::info!("{signal} are pushed again"),
            Ok(()) => {}
            Err(NotSent { text, .. }) if self.failing => tracing::debug!(error = text, "{signal} cannot be pushed"),
            Err(NotSent { text, .. }) => tracing::warn!(
                error = text,
                code = "telemetry.push",
                "{signal} cannot be pushed; tried again, told again when it works"
            ),
        }
        self.failing = sent.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { queue: 4, batch: 2, delay: Duration::from_secs(3600), patience: Duration::from_secs(3600) };

    #[test]
    fn what_finds_the_queue_full_is_dropped_and_counted() {
        let queue = Queue::new(LIMITS);
        queue.offer(0..7);
        assert_eq!(queue.counts.dropped.load(Ordering::Relaxed), 3);
        assert_eq!((queue.take(), queue.take()), (vec![0, 1], vec![2, 3]), "full pushes do not wait");
        queue.offer([7]);
        queue.close();
        assert_eq!(queue.take(), [7], "the rest goes with the end");
        queue.offer([8]);
        assert_eq!((queue.take(), queue.counts.dropped.load(Ordering::Relaxed)), (Vec::new(), 4));
    }

    #[test]
    fn a_few_go_when_their_delay_is_over() {
        let queue = Queue::new(Limits { delay: Duration::from_millis(1), ..LIMITS });
        queue.offer([1]);
        assert_eq!(queue.take(), [1]);
    }

    #[test]
    fn a_push_is_tried_again_where_that_may_help_and_once_more_at_the_end() {
        let away = || Err(NotSent { text: "away".into(), again: true });
        let tries = AtomicU64::new(0);
        let count = |result: Result<(), NotSent>| {
            tries.fetch_add(1, Ordering::Relaxed);
            result
        };
        let mut telling = Telling::new(Signal::Traces);
        let queue = Queue::<()>::new(LIMITS);
        assert!(!push(&queue, &mut telling, || count(Err(NotSent { text: "400".into(), again: false }))));
        assert_eq!(tries.swap(0, Ordering::Relaxed), 1);
        queue.close();
        assert!(!push(&queue, &mut telling, || count(away())));
        assert_eq!(tries.swap(0, Ordering::Relaxed), 2);
        let impatient = Queue::<()>::new(Limits { patience: Duration::from_millis(1), ..LIMITS });
        assert!(!push(&impatient, &mut telling, || count(away())));
        assert_eq!(tries.load(Ordering::Relaxed), 1);
        assert!(telling.failing);
    }

    #[test]
    fn limits_are_the_environment_s() {
        let limits = |signal, variables: &[(&str, &str)]| {
            let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|v| v.1.to_owned());
            Limits::from_env(Variables(&variable), signal)
        };
        let seconds = Duration::from_secs;
        let default = Limits { queue: 2_048, batch: 512, delay: seconds(5), patience: seconds(30) };
        assert_eq!(limits(Signal::Traces, &[]), Ok(default));
        assert_eq!(limits(Signal::Logs, &[]), Ok(Limits { delay: seconds(1), ..default }));
        let small = [("OTEL_BSP_MAX_QUEUE_SIZE", "100"), ("OTEL_BSP_SCHEDULE_DELAY", "2000")];
        let small = limits(Signal::Traces, &small);
        assert_eq!(small, Ok(Limits { queue: 100, batch: 100, delay: seconds(2), ..default }));
        let wrong = limits(Signal::Logs, &[("OTEL_BLRP_MAX_QUEUE_SIZE", "0")]).unwrap_err().to_string();
        assert!(wrong.starts_with("OTEL_BLRP_MAX_QUEUE_SIZE"), "{wrong}");
    }
}
