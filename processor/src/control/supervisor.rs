//! Starts the workers, listens to signals, ends everything in order.
//!
//! SIGTERM (an orchestrator) and SIGINT (Ctrl-C) drain: no more records, what is open commits, the group is left. A
//! second one, or SIGQUIT, aborts. Before the workers have started, any of them ends the process at once. SIGHUP
//! reloads, and so does a change of one of the configuration's files. A worker whose consumer has had a fatal error is
//! restarted a few times; any other that cannot continue drains the others and gives the process its exit code.

use super::exports::{self, Exporting};
use super::prepare::{self, Prepared, prepare, workers};
use super::reload::{self, Reloader};
use super::signals::{Signals, Stop};
use super::triggers::{self, Triggers};
use crate::admin::{self, Control};
use crate::config::{Admin, Code, ConfigError, Loaded, Sources, Tap};
use crate::dataplane::breaker::TimeSpent;
use crate::dataplane::counters::{Counters, Totals, WorkerStatus};
use crate::dataplane::isolation::Refusal;
use crate::dataplane::kafka::{KafkaProgress, KafkaSource, consumer_properties, producer_properties};
use crate::dataplane::lanes::Lanes;
use crate::dataplane::pace::BatchSize;
use crate::dataplane::pauses::Pauses;
use crate::dataplane::plan::Plan;
use crate::dataplane::ports::{Sink, Source};
use crate::dataplane::process::Processor;
use crate::dataplane::recent::Recent;
use crate::dataplane::sink::{KafkaSink, LaneParts};
use crate::dataplane::traced::Traces;
use crate::dataplane::worker::{Order, Orders, Worker, WorkerError};
use crate::telemetry::traces::Tracer;
use crate::telemetry::{Running as Observed, limit};
use pelton_kafka::{Batch, Consumer, GroupMetadata, Wake};
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Lanes of a worker: while one commits the other is written to.
const LANES: usize = 2;

/// How a run ended.
#[derive(Debug)]
pub enum Ended {
    /// Told to stop; everything is committed.
    Drained,
    /// Nothing was started.
    Refused(Vec<ConfigError>),
    /// A worker could not go on.
    Failed(WorkerError),
    /// A worker panicked, or could not be started: a bug or a bare machine.
    Broken(String),
}

/// What the workers' ports are made of: [`Genuine`], but for a test that breaks a promise on purpose to see that its
/// verifier notices (I12).
pub trait Parts {
    type Source: Source + Send + 'static;
    type Sink: Sink<Fence = GroupMetadata> + Send + 'static;
    fn source(&self, source: KafkaSource) -> Self::Source;
    fn sink(&self, sink: KafkaSink, consumer: &Arc<Consumer>) -> Self::Sink;
}

/// The ports over Kafka as they are.
#[derive(Clone, Copy, Debug)]
pub struct Genuine;

impl Parts for Genuine {
    type Source = KafkaSource;
    type Sink = KafkaSink;

    fn source(&self, source: KafkaSource) -> KafkaSource {
        source
    }

    fn sink(&self, sink: KafkaSink, _: &Arc<Consumer>) -> KafkaSink {
        sink
    }
}

struct Running {
    wake: Arc<Wake>,
    counters: Arc<Counters>,
    /// When it was started again.
    restarts: Recent,
    /// It has ended and is to be started again then.
    restart_at: Option<tokio::time::Instant>,
    /// Why it has ended.
    error: Option<WorkerError>,
}

/// What a worker's thread says when it ends: its index, and how; `None`: it panicked.
type Verdict = (usize, Option<Result<(), WorkerError>>);

/// How long a worker that has ended is paused before each restart. After as many restarts within [`RESTARTS_WITHIN`] its
/// error is the process's.
const RESTART_PAUSES: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(2), Duration::from_secs(10)];
const RESTARTS_WITHIN: Duration = Duration::from_secs(120);

/// Runs the application until it is told to stop or cannot go on. Blocks.
pub fn run(loaded: &Loaded, sources: &Sources, parts: &impl Parts) -> Ended {
    let runtime = match Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Ended::Broken(format!("no runtime: {error}")),
    };
    // Before anything that takes time: who starts us may want us to stop, and as the first process of a container we get no
    // signal that nobody listens to.
    let signals = {
        let _runtime = runtime.enter();
        Signals::listen()
    };
    let mut signals = match signals {
        Ok(signals) => signals,
        Err(error) => return Ended::Broken(format!("no signals: {error}")),
    };
    let read = reload::read_by(loaded);
    // And asks whether we live.
    let status = match prepare::admin(loaded) {
        Ok(None) => Arc::new(admin::Status::new(None)),
        Ok(Some((places, token))) => {
            let tap = if let Admin::On(on) = &loaded.config.admin { on.tap } else { Tap::Off };
            let status = Arc::new(admin::Status::new(token).with_tap(tap));
            match runtime.block_on(admin::serve(&places, &status)) {
                Ok(address) => tracing::info!(%address, "admin server listens"),
                Err((place, error)) => {
                    let message = format!("the admin server cannot listen on {place}: {error}");
                    let help = "set `admin.listen`, `admin.socket` or `admin: off`";
                    return Ended::Refused(vec![loaded.error(Code::Environment, "admin", message).help(help)]);
                }
            }
            status
        }
        Err(problems) => return Ended::Refused(problems),
    };
    let started = Instant::now();
    let prepared = match runtime.block_on(prepare_unless_stopped(loaded, &mut signals.stop)) {
        Ok(prepared) => *prepared,
        Err(ended) => {
            // What still looks for a broker or compiles must not keep the process.
            runtime.shutdown_background();
            return ended;
        }
    };
    let exporting = Exporting::start(&prepared.identity);
    let count = workers(&loaded.config).clamp(1, prepared.partitions.max(1));
    tracing::info!(
        application = %prepared.identity.application,
        instance = %prepared.identity.instance,
        workers = count,
        workers_wanted = workers(&loaded.config),
        transforms = prepared.plan.transforms.len(),
        exactly_once = prepared.plan.delivery.exactly_once,
        librdkafka = pelton_kafka::librdkafka_version(),
        prepared_ms = started.elapsed().as_millis() as u64,
        "starting"
    );
    for transform in &prepared.plan.transforms {
        tracing::info!(
            transform = %transform.name,
            digest = %transform.digest,
            generation = transform.generation.number(),
            "transform is ready"
        );
    }
    let Prepared { engine, producer, desired, generations, .. } = &prepared;
    let (desired, generations) = (Arc::clone(desired), Arc::clone(generations));
    let reloader =
        Reloader::new(sources.clone(), (loaded, read), engine.clone(), producer.clone(), desired, generations);
    let reloader = Arc::new(reloader);
    let told = (&*status, loaded.config.reload_on_change);
    let ended = runtime.block_on(supervise(&prepared, &exporting, &reloader, parts, count, told, &mut signals));
    exporting.stop();
    // Threads that hang in a call of librdkafka must not keep the process.
    runtime.shutdown_background();
    ended
}

/// Prepares, for as long as brokers and modules take, unless told to stop meanwhile: nothing was begun that had to be ended.
async fn prepare_unless_stopped(loaded: &Loaded, stop: &mut Stop) -> Result<Box<Prepared>, Ended> {
    let (loaded, runtime) = (loaded.clone(), Handle::current());
    let prepared = tokio::task::spawn_blocking(move || prepare(&loaded, &runtime).map(Box::new));
    tokio::select! {
        // First: Ctrl-C reaches the compiler too, whose end would look like a module's fault.
        biased;
        wanted = stop.told() => {
            tracing::info!(order = ?wanted, "signal received before anything had started");
            Err(Ended::Drained)
        }
        prepared = prepared => match prepared {
            Ok(prepared) => prepared.map_err(Ended::Refused),
            Err(error) => Err(Ended::Broken(format!("the preparation of the start broke off: {error}"))),
        },
    }
}

async fn supervise(
    prepared: &Prepared,
    exporting: &Exporting,
    reloader: &Arc<Reloader>,
    parts: &impl Parts,
    count: usize,
    (status, watched): (&admin::Status, bool),
    signals: &mut Signals,
) -> Ended {
    let orders = Arc::new(Orders::default());
    let (report, mut reports) = unbounded_channel();
    let mut running = Vec::new();
    for index in 0..count {
        let counters = Arc::new(Counters::default());
        match start(prepared, &exporting.tracer, parts, index, &orders, &report, &counters) {
            Ok(wake) => running.push(Running {
                wake,
                counters,
                restarts: Recent::new(RESTARTS_WITHIN),
                restart_at: None,
                error: None,
            }),
            Err(error) => {
                order(&orders, &running, Order::Abort);
                return Ended::Broken(format!("worker {index} cannot be started: {error}"));
            }
        }
    }
    let restart = |index: usize, counters: &Arc<Counters>| {
        start(prepared, &exporting.tracer, parts, index, &orders, &report, counters).map_err(|error| error.to_string())
    };
    let drain_limit = prepared.plan.delivery.drain_limit;
    let triggers = Triggers::new(reloader);
    let observed = Arc::new(Observed {
        workers: running.iter().map(|worker| Arc::clone(&worker.counters)).collect(),
        lanes: LANES as u64,
        desired: Arc::clone(&prepared.desired),
        engine: prepared.engine.clone(),
        reloads: Arc::clone(&reloader.counts),
        partition_metrics: prepared.partition_metrics,
        orders: Arc::clone(&orders),
        exports: exporting.counts.clone(),
    });
    let control = Control {
        generations: Arc::clone(&prepared.generations),
        triggers: Some(triggers.clone()),
        config: Arc::clone(&reloader.shown),
    };
    status.started(Arc::clone(&observed), control);
    let pusher = exports::metrics(&prepared.identity, observed);
    let limited = tokio::spawn(limit::report());
    let watch = watched.then(|| tokio::spawn(triggers::watch(Arc::clone(reloader), triggers.clone())));
    let ended = until_all_end(&orders, &mut running, &mut reports, drain_limit, restart, &triggers, signals).await;
    if let Some(watch) = watch {
        watch.abort();
    }
    limited.abort();
    if let Some(pusher) = pusher {
        pusher.stop();
    }
    let totals = running.iter().map(|worker| worker.counters.read()).fold(Totals::default(), |a, b| a + b);
    tracing::info!(
        records_in = totals.records_in,
        kept = totals.kept,
        emitted = totals.emitted,
        dropped = totals.dropped,
        rejected = totals.rejected,
        dead_letters = totals.dead_letters,
        skipped = totals.skipped,
        records_out = totals.records_out,
        committed = totals.committed,
        rolled_back = totals.rolled_back,
        renewed = totals.renewed,
        abandoned = totals.abandoned,
        "stopped"
    );
    ended
}

async fn until_all_end(
    orders: &Orders,
    running: &mut [Running],
    reports: &mut UnboundedReceiver<Verdict>,
    drain_limit: Duration,
    restart: impl Fn(usize, &Arc<Counters>) -> Result<Arc<Wake>, String>,
    triggers: &Triggers,
    signals: &mut Signals,
) -> Ended {
    tracing::info!("running");
    let mut ended = Ended::Drained;
    let mut left = running.len();
    // Workers keep within the limit by themselves; this is for one that cannot, whatever it is stuck in.
    let mut give_up_at = None;
    loop {
        let give_up = async {
            match give_up_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let next = running.iter().enumerate().filter_map(|(index, worker)| Some((worker.restart_at?, index))).min();
        let restarts = async {
            match next {
                Some((at, index)) => {
                    tokio::time::sleep_until(at).await;
                    index
                }
                None => std::future::pending().await,
            }
        };
        let mut gone = Vec::new();
        tokio::select! {
            verdict = reports.recv() => match verdict {
                None | Some((_, None)) => {
                    order(orders, running, Order::Abort);
                    return Ended::Broken("a worker panicked".into());
                }
                Some((_, Some(Ok(())))) => left -= 1,
                Some((index, Some(Err(error)))) => {
                    tracing::error!(worker = index, code = error.code(), advice = error.advice(), "{error}");
                    let worker = &mut running[index];
                    // Not ready until a successor says so.
                    worker.counters.status.set(WorkerStatus::default());
                    let pause = worker.pause_before_restart(&error, Instant::now());
                    worker.error = Some(error);
                    match pause {
                        Some(pause) if orders.get() == Order::Run => {
                            worker.restart_at = Some(tokio::time::Instant::now() + pause);
                        }
                        _ => gone.push(index),
                    }
                }
            },
            index = restarts => {
                let worker = &mut running[index];
                worker.restart_at = None;
                match restart(index, &worker.counters) {
                    Ok(wake) => {
                        (worker.wake, worker.error) = (wake, None);
                        tracing::info!(worker = index, "started again");
                    }
                    Err(text) => {
                        let advice = "the process ends, to be started anew; nothing is lost";
                        tracing::error!(worker = index, code = "worker.restart", advice, "cannot be started again: {text}");
                        gone.push(index);
                    }
                }
            }
            heard = signals.next() => {
                let Some(wanted) = heard else {
                    triggers.reload("signal");
                    continue;
                };
                let wanted = if orders.get() == Order::Run { wanted } else { Order::Abort };
                tracing::info!(order = ?wanted, "signal received");
                order(orders, running, wanted);
            }
            () = give_up => {
                return match (ended, orders.get()) {
                    (Ended::Drained, Order::Abort) => Ended::Failed(WorkerError::Aborted),
                    (Ended::Drained, _) => Ended::Failed(WorkerError::Drain { limit: drain_limit }),
                    (other, _) => other,
                };
            }
        }
        for index in gone {
            left -= 1;
            order(orders, running, Order::Drain);
            if let (Ended::Drained, Some(error)) = (&ended, running[index].error.take()) {
                ended = Ended::Failed(error);
            }
        }
        if orders.get() != Order::Run {
            // Those that were to come back do not; nothing of theirs is open.
            left -= running.iter_mut().filter_map(|worker| worker.restart_at.take()).count();
        }
        if left == 0 {
            return ended;
        }
        if give_up_at.is_none() && orders.get() != Order::Run {
            give_up_at = Some(tokio::time::Instant::now() + drain_limit);
        }
        if orders.get() == Order::Abort {
            give_up_at = give_up_at.map(|at| at.min(tokio::time::Instant::now() + Duration::from_secs(8)));
        }
    }
}

impl Running {
    /// `None`: its error is the process's.
    fn pause_before_restart(&mut self, error: &WorkerError, now: Instant) -> Option<Duration> {
        if !error.is_worth_another_try() {
            return None;
        }
        RESTART_PAUSES.get(self.restarts.note(now) - 1).copied()
    }
}

fn order(orders: &Orders, running: &[Running], order: Order) {
    orders.give(order);
    running.iter().for_each(|worker| worker.wake.notify());
}

/// One worker: its group member, its lanes, its thread.
fn start(
    prepared: &Prepared,
    tracer: &Option<Arc<Tracer>>,
    parts: &impl Parts,
    index: usize,
    orders: &Arc<Orders>,
    report: &UnboundedSender<Verdict>,
    counters: &Arc<Counters>,
) -> Result<Arc<Wake>, Box<dyn std::error::Error>> {
    let Prepared { identity, desired, .. } = prepared;
    let (version, plan) = desired.get();
    let (plan, desired) = (&plan, Arc::clone(desired));
    let latency = prepared.latency;
    let wake = Arc::new(Wake::new()?);
    let properties = consumer_properties(identity, index, latency, &prepared.membership, &prepared.consumer);
    let (topics, read) = plan.subscription();
    let consumer = Arc::new(Consumer::new(&properties, &topics, LANES, &wake)?);
    if read.len() < topics.len() {
        consumer.subscribe(&topics, &read)?;
    }
    let sinks = (0..LANES)
        .map(|lane| {
            let properties = producer_properties(identity, index, lane, latency, &plan.delivery, &prepared.producer);
            let lane = LaneParts {
                name: format!("commit-{index}-{lane}"),
                properties,
                plan: Arc::clone(plan),
                consumer: Arc::clone(&consumer),
                orders: Arc::clone(orders),
                counters: Arc::clone(counters),
                wake: Arc::clone(&wake),
            };
            Ok(parts.sink(KafkaSink::new(lane)?, &consumer))
        })
        .collect::<io::Result<Vec<_>>>()?;
    let traces = tracer.as_ref().map(|tracer| Arc::new(Traces::new(Arc::clone(tracer), index)));
    let mut lanes = Lanes::new(sinks, KafkaProgress(Arc::clone(&consumer)), Arc::clone(plan), Arc::clone(counters));
    lanes.traces = traces.clone();
    let source = parts.source(KafkaSource { consumer, wake: Arc::clone(&wake) });
    let (plan, orders, report, runtime) = (Arc::clone(plan), Arc::clone(orders), report.clone(), Handle::current());
    let counters = Arc::clone(counters);
    std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
        // WASI's timers and files live in the runtime.
        let _runtime = runtime.enter();
        let run = move || {
            let mut processor = Processor::new(Arc::clone(&plan), counters).traced(traces);
            let worker = Worker {
                source,
                lanes,
                process: |plan: &Arc<Plan>,
                          batch: &mut Batch,
                          refusal: Option<&Refusal>,
                          sink: &mut _,
                          spent: &mut _| { processor.run(plan, batch, refusal, sink, spent) },
                desired,
                plan: Arc::clone(&plan),
                version,
                size: BatchSize::new(&plan.delivery, plan.deadline()),
                spent: TimeSpent::new(plan.transforms.len()),
                pauses: Pauses::new(&plan.allowances),
                orders,
                drain_limit: plan.delivery.drain_limit,
            };
            let result = worker.run();
            processor.drain();
            result
        };
        let result = std::panic::catch_unwind(AssertUnwindSafe(run)).ok();
        let _ = report.send((index, result));
    })?;
    Ok(wake)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_kafka::ConsumerError;

    #[test]
    fn a_worker_comes_back_after_growing_pauses_and_not_for_ever() {
        let lost = || WorkerError::Consumer(ConsumerError::LostPlace { partition: 0 });
        let mut worker = Running {
            wake: Arc::new(Wake::new().unwrap()),
            counters: Arc::default(),
            restarts: Recent::new(RESTARTS_WITHIN),
            restart_at: None,
            error: None,
        };
        let start = Instant::now();
        let after = |worker: &mut Running, seconds, error: &WorkerError| {
            worker.pause_before_restart(error, start + Duration::from_secs(seconds))
        };
        for (i, pause) in RESTART_PAUSES.into_iter().enumerate() {
            assert_eq!(after(&mut worker, i as u64, &lost()), Some(pause));
        }
        assert_eq!(after(&mut worker, 60, &lost()), None);
        assert_eq!(after(&mut worker, 1000, &lost()), Some(RESTART_PAUSES[0]), "that was long ago");
        let refused = WorkerError::Consumer(ConsumerError::Refused { what: String::new(), text: String::new() });
        assert_eq!(after(&mut worker, 2000, &refused), None, "no restart mends a right");
    }
}
