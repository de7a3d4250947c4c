//! One batch through every transform that reads its topics: records are shown to the sandbox without a copy, and come
//! back as exactly one outcome each, in order (I1).

use super::breaker::TimeSpent;
use super::counters::Counters;
use super::isolation::Refusal;
use super::outcome::{Delivery, Throttle, given_up};
use super::plan::{Plan, TransformPlan};
use super::ports::Sink;
use super::samples::Pace;
use super::trial::{Kind, Tally, is_canary};
use super::worker::WorkerError;
use pelton_kafka::{Batch, Message, TxnError};
use pelton_sandbox::{Generation, Header, Instance, Record, RunError, Settled};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Why a batch was not processed to its end.
#[derive(Debug)]
pub enum Interrupted {
    /// The transaction cannot take more: abort it and read its records again.
    Abort(TxnError),
    /// The worker cannot go on.
    Stop(WorkerError),
}

/// What a worker has of its transforms.
#[derive(Debug)]
pub struct Processor {
    plan: Arc<Plan>,
    seats: Vec<Seat>,
    counters: Arc<Counters>,
}

/// What a worker has of one transform. Instances are made when a record first needs them.
#[derive(Debug, Default)]
struct Seat {
    running: Option<Instance>,
    /// Of the generation on trial.
    candidate: Option<Instance>,
    /// For the log lines of rejected records.
    throttle: Throttle,
    sampling: Pace,
}

/// The records of a batch that one instance is to process.
#[derive(Default)]
struct Portion<'a> {
    messages: Vec<Message<'a>>,
    records: Vec<Record<'a>>,
}

impl Processor {
    pub fn new(plan: Arc<Plan>, counters: Arc<Counters>) -> Self {
        let seats = plan.transforms.iter().map(|_| Seat::default()).collect();
        Processor { plan, seats, counters }
    }

    /// Processes `batch` into the open transaction of `sink`. With a `refusal`, transforms that write to the topic which
    /// refused settle its record by their policy, unseen by the guest.
    pub fn run<K: Sink>(
        &mut self,
        plan: &Arc<Plan>,
        batch: &Batch,
        refusal: Option<&Refusal>,
        sink: &mut K,
        spent: &mut TimeSpent,
    ) -> Result<(), Interrupted> {
        if !Arc::ptr_eq(plan, &self.plan) {
            self.adopt(plan);
        }
        let (headers, ranges) = headers(batch);
        for (index, transform) in plan.transforms.iter().enumerate() {
            // A canary that is over gets records until the plan is taken up that is without it: never two generations in one
            // transaction of a partition.
            let trial = transform.trial.as_deref().filter(|trial| trial.is_canary() || !trial.is_over());
            let mut portion =
                Portion { messages: Vec::with_capacity(batch.len()), records: Vec::with_capacity(batch.len()) };
            let mut canary = Portion::default();
            for (message, range) in batch.iter().zip(&ranges) {
                if let Some(topic) = transform.inputs[message.topic() as usize] {
                    let portion = match trial.map(|trial| trial.kind) {
                        Some(Kind::Canary { share })
                            if is_canary(
                                share,
                                message.partition(),
                                plan.inputs[message.topic() as usize].partitions,
                            ) =>
                        {
                            &mut canary
                        }
                        _ => &mut portion,
                    };
                    portion.records.push(record(&message, topic, &headers[range.clone()]));
                    portion.messages.push(message);
                }
            }
            let Seat { running, candidate, throttle, sampling } = &mut self.seats[index];
            let counters = &*self.counters;
            let mut delivery = Delivery { plan, transform, sink: &mut *sink, counters, throttle, index, trial: None };
            if let Some(refusal) = refusal.filter(|r| r.topic.is_none_or(|topic| transform.writes(topic))) {
                let refused = portion.messages.iter().chain(&canary.messages);
                refused.into_iter().try_for_each(|message| delivery.refused(message, refusal))?;
                continue;
            }
            let start = Instant::now();
            if !portion.records.is_empty() {
                let sampled = sampling.is_due(start);
                let prints = match trial {
                    Some(trial) if matches!(trial.kind, Kind::Shadow { .. }) => Some(&trial.differences),
                    _ => None,
                };
                let json = trial.is_some_and(|trial| trial.kind == Kind::Shadow { json: true });
                let (mut seen, mut at_ease) = (Vec::new(), false);
                let settle = &mut |i: usize, settled: Settled<'_>| {
                    let message = &portion.messages[i];
                    at_ease |= i == 0 && !is_failure(&settled);
                    if let Some(differences) = prints {
                        seen.push(differences.print(message, &settled, json));
                    }
                    delivery.settle(message, settled)
                };
                let tally = trial.map(|trial| &trial.running);
                let ran = process(running, &transform.generation, &portion, tally, settle);
                ran.map_err(|error| interrupted(error, transform))?;
                if sampled && at_ease {
                    let message = &portion.messages[0];
                    transform.samples.take(&plan.inputs[message.topic() as usize].name, message);
                }
                if let (Some(trial), Some(differences)) = (trial, prints) {
                    let settle = &mut |i: usize, settled: Settled<'_>| {
                        let message: &Message<'_> = &portion.messages[i];
                        let print = differences.print(message, &settled, json);
                        differences.compare(seen[i], print, || coordinates(plan, message));
                        Ok::<(), Interrupted>(())
                    };
                    if let Err(error) = process(candidate, &trial.generation, &portion, Some(&trial.candidate), settle)
                    {
                        trial.give_up(why(&error));
                    }
                }
            }
            if let (Some(trial), false) = (trial, canary.records.is_empty()) {
                delivery.trial = Some(trial);
                let settle = &mut |i: usize, settled: Settled<'_>| delivery.settle(&canary.messages[i], settled);
                match process(candidate, &trial.generation, &canary, Some(&trial.candidate), settle) {
                    Ok(()) => {}
                    Err(RunError::Stopped(interrupted)) => return Err(interrupted),
                    Err(error) => {
                        trial.give_up(why(&error));
                        return Err(given_up("the canary cannot be instantiated any more"));
                    }
                }
            }
            spent.add(index, start.elapsed());
        }
        self.counters.records_in.add(batch.len() as u64);
        Ok(())
    }

    /// Keeps the instances of generations that the plan has too; the others are let go.
    fn adopt(&mut self, plan: &Arc<Plan>) {
        let mut seats = std::mem::take(&mut self.seats);
        for new in &plan.transforms {
            let mut seat = Seat::default();
            if let Some(i) = self.plan.transforms.iter().position(|old| old.name == new.name) {
                let old = &self.plan.transforms[i];
                let Seat { mut running, mut candidate, throttle, sampling } = std::mem::take(&mut seats[i]);
                let of_trial = old.trial.as_ref().map(|trial| trial.generation.clone());
                let mut take = |generation: &Generation| {
                    if old.generation.is_same(generation) {
                        running.take()
                    } else if of_trial.as_ref().is_some_and(|trial| trial.is_same(generation)) {
                        candidate.take()
                    } else {
                        None
                    }
                };
                seat = Seat {
                    running: take(&new.generation),
                    candidate: new.trial.as_ref().and_then(|trial| take(&trial.generation)),
                    throttle,
                    sampling,
                };
            }
            self.seats.push(seat);
        }
        self.plan = Arc::clone(plan);
    }
}

/// One instance's call, made first if need be, and counted where it is tried.
fn process(
    instance: &mut Option<Instance>,
    generation: &Generation,
    portion: &Portion<'_>,
    tally: Option<&Tally>,
    settle: &mut dyn FnMut(usize, Settled<'_>) -> Result<(), Interrupted>,
) -> Result<(), RunError<Interrupted>> {
    let instance = match instance {
        Some(instance) => instance,
        empty => empty.insert(Instance::new(generation).map_err(RunError::Renewal)?),
    };
    let Some(tally) = tally else { return instance.run(&portion.records, settle) };
    let (fuel, time, mut failures) = (instance.fuel(), instance.time(), 0);
    let result = instance.run(&portion.records, &mut |i, settled| {
        failures += u64::from(is_failure(&settled));
        settle(i, settled)
    });
    let (fuel, time) = (instance.fuel().saturating_sub(fuel), instance.time().saturating_sub(time));
    tally.add(portion.records.len() as u64, failures, time, fuel);
    result
}

fn is_failure(settled: &Settled<'_>) -> bool {
    matches!(settled, Settled::Reject(_) | Settled::Fault(_))
}

fn interrupted(error: RunError<Interrupted>, transform: &TransformPlan) -> Interrupted {
    match error {
        RunError::Stopped(interrupted) => interrupted,
        RunError::Renewal(fault) => {
            Interrupted::Stop(WorkerError::Instance { transform: Arc::clone(&transform.name), fault })
        }
    }
}

fn why(error: &RunError<Interrupted>) -> String {
    match error {
        RunError::Renewal(fault) => format!("it cannot be instantiated any more: {}", fault.code.as_str()),
        RunError::Stopped(_) => "it was stopped".to_owned(),
    }
}

/// `topic/partition@offset`.
pub(super) fn coordinates(plan: &Plan, message: &Message<'_>) -> String {
    let topic = &plan.inputs[message.topic() as usize].name;
    format!("{topic}/{}@{}", message.partition(), message.offset())
}

/// All headers of a batch in one allocation, and each message's share of it.
fn headers(batch: &Batch) -> (Vec<Header<'_>>, Vec<Range<usize>>) {
    let (mut all, mut one) = (Vec::new(), Vec::new());
    let ranges = batch
        .iter()
        .map(|message| {
            let start = all.len();
            one.clear();
            message.headers(&mut one);
            all.extend(one.iter().map(|h| Header { key: h.key, value: h.value }));
            start..all.len()
        })
        .collect();
    (all, ranges)
}

fn record<'a>(message: &Message<'a>, topic: u32, headers: &'a [Header<'a>]) -> Record<'a> {
    Record {
        topic,
        partition: message.partition(),
        offset: message.offset().0,
        timestamp_ms: message.timestamp_ms().unwrap_or(-1),
        key: message.key(),
        value: message.value(),
        headers,
    }
}
