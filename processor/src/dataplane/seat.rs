//! What a worker has of one transform: the instance of the running generation, that of the one on trial, and how each record
//! comes by its outcome. The running generation's outcomes count; a canary's count for the partitions that it has; a
//! shadow's are compared with the running generation's and thrown away.

use super::counters::{Counters, TransformCounters};
use super::isolation::Refusal;
use super::outcome::{Delivery, Throttle, given_up};
use super::plan::{Plan, TransformPlan};
use super::ports::Sink;
use super::process::{Interrupted, coordinates};
use super::samples::Pace;
use super::traced::Passage;
use super::trial::{Kind, Tally, Trial};
use super::utilization::nanos;
use super::worker::WorkerError;
use pelton_kafka::Message;
use pelton_sandbox::{Generation, Instance, Record, RunError, Settled};
use std::sync::Arc;
use std::time::Instant;

/// Instances are made when a record first needs them.
#[derive(Debug)]
pub(super) struct Seat {
    running: Option<Instance>,
    /// Of the generation on trial.
    candidate: Option<Instance>,
    /// For the log lines of rejected records.
    throttle: Throttle,
    sampling: Pace,
    /// Of its name, whatever the generation.
    counts: Arc<TransformCounters>,
}

/// The records of a batch that one instance is to process.
#[derive(Default)]
pub(super) struct Portion<'a> {
    pub messages: Vec<Message<'a>>,
    pub records: Vec<Record<'a>>,
}

impl Portion<'_> {
    pub fn for_records(count: usize) -> Self {
        Portion { messages: Vec::with_capacity(count), records: Vec::with_capacity(count) }
    }
}

/// What a transform is to do with a batch.
pub(super) struct Work<'a> {
    pub plan: &'a Plan,
    pub transform: &'a TransformPlan,
    /// The transform's index in the plan.
    pub index: usize,
    pub trial: Option<&'a Trial>,
    pub counters: &'a Counters,
    /// Where records are followed.
    pub passage: Option<&'a Passage<'a>>,
    /// For the running generation, and for a canary.
    pub portion: Portion<'a>,
    pub canary: Portion<'a>,
}

impl Seat {
    pub fn new(counts: Arc<TransformCounters>) -> Self {
        Seat { running: None, candidate: None, throttle: Throttle::default(), sampling: Pace::default(), counts }
    }

    /// Gives each record its outcome, in order within a partition. With a refusal, records whose outputs the brokers refuse
    /// go by the policy, unseen by the guest.
    pub fn settle<K: Sink>(
        &mut self,
        work: &Work<'_>,
        refusal: Option<&Refusal>,
        sink: &mut K,
    ) -> Result<(), Interrupted> {
        let Work { plan, transform, index, trial, counters, passage, portion, canary } = work;
        let Seat { running, candidate, throttle, sampling, counts } = self;
        let (index, passage) = (*index, *passage);
        let mut delivery =
            Delivery { plan, transform, sink, counters, counts, throttle, index, trial: None, passage, place: None };
        if let Some(refusal) = refusal.filter(|r| r.topic.is_none_or(|topic| transform.writes(topic))) {
            let mut all = portion.messages.iter().chain(&canary.messages);
            return all.try_for_each(|message| delivery.refused(message, refusal));
        }
        let Some(trial) = *trial else { return serve(running, sampling, work, &mut delivery, |_, _| ()) };
        match trial.kind {
            Kind::Canary { .. } => {
                serve(running, sampling, work, &mut delivery, |_, _| ())?;
                try_out(candidate, trial, canary, &mut delivery)
            }
            Kind::Shadow { json } => {
                let mut prints = Vec::with_capacity(portion.messages.len());
                let see = |message: &Message<'_>, settled: &Settled<'_>| {
                    prints.push(trial.differences.print(message, settled, json));
                };
                serve(running, sampling, work, &mut delivery, see)?;
                let compare = &mut |i: usize, settled: Settled<'_>| {
                    let message = &portion.messages[i];
                    let print = trial.differences.print(message, &settled, json);
                    trial.differences.compare(prints[i], print, || coordinates(plan, message));
                    Ok(())
                };
                if let Err(error) = call(candidate, &trial.generation, portion, None, Some(&trial.candidate), compare) {
                    trial.give_up(why(&error));
                }
                Ok(())
            }
        }
    }

    /// Another plan: keeps the instances of generations that this one has too, the others are let go.
    pub fn adopt(mut self, old: &TransformPlan, new: &TransformPlan) -> Self {
        self.counts.memory.set(0);
        let (mut running, mut candidate) = (self.running.take(), self.candidate.take());
        let tried = old.trial.as_ref().map(|trial| &trial.generation);
        let mut take = |generation: &Generation| {
            if old.generation.is_same(generation) {
                running.take()
            } else if tried.is_some_and(|tried| tried.is_same(generation)) {
                candidate.take()
            } else {
                None
            }
        };
        self.running = take(&new.generation);
        self.candidate = new.trial.as_ref().and_then(|trial| take(&trial.generation));
        [running, candidate].into_iter().flatten().for_each(|instance| let_go(instance, &new.name));
        self
    }

    /// The transform is no more, or the worker ends in good order.
    pub fn drain(self, transform: &str) {
        self.counts.memory.set(0);
        [self.running, self.candidate].into_iter().flatten().for_each(|instance| let_go(instance, transform));
    }
}

/// The running generation. `see` is shown each outcome before it is carried out.
fn serve<K: Sink>(
    running: &mut Option<Instance>,
    sampling: &mut Pace,
    work: &Work<'_>,
    delivery: &mut Delivery<'_, K>,
    mut see: impl FnMut(&Message<'_>, &Settled<'_>),
) -> Result<(), Interrupted> {
    let Work { plan, transform, trial, portion, .. } = work;
    let Some(first) = portion.messages.first() else { return Ok(()) };
    let counts = delivery.counts;
    let mut at_ease = false;
    let settle = &mut |i: usize, settled: Settled<'_>| {
        let message = &portion.messages[i];
        at_ease |= i == 0 && !is_failure(&settled);
        see(message, &settled);
        delivery.settle(message, settled)
    };
    let ran = call(running, &transform.generation, portion, Some(counts), trial.map(|trial| &trial.running), settle);
    ran.map_err(|error| match error {
        RunError::Stopped(interrupted) => interrupted,
        RunError::Renewal(fault) => {
            Interrupted::Stop(WorkerError::Instance { transform: Arc::clone(&transform.name), fault })
        }
    })?;
    if at_ease && sampling.is_due(Instant::now()) {
        transform.samples.take(&plan.inputs[first.topic() as usize].name, first);
    }
    Ok(())
}

/// A canary: its outcomes count, but what would stop the worker stops the trial.
fn try_out<'a, K: Sink>(
    candidate: &mut Option<Instance>,
    trial: &'a Trial,
    canary: &Portion<'_>,
    delivery: &mut Delivery<'a, K>,
) -> Result<(), Interrupted> {
    if canary.records.is_empty() {
        return Ok(());
    }
    delivery.trial = Some(trial);
    let counts = delivery.counts;
    let settle = &mut |i: usize, settled: Settled<'_>| delivery.settle(&canary.messages[i], settled);
    match call(candidate, &trial.generation, canary, Some(counts), Some(&trial.candidate), settle) {
        Ok(()) => Ok(()),
        Err(RunError::Stopped(interrupted)) => Err(interrupted),
        Err(error) => {
            trial.give_up(why(&error));
            Err(given_up("the canary cannot be instantiated any more"))
        }
    }
}

/// One instance's call, made first if need be; counted in the metrics, and where it is tried.
fn call(
    instance: &mut Option<Instance>,
    generation: &Generation,
    portion: &Portion<'_>,
    counts: Option<&TransformCounters>,
    tally: Option<&Tally>,
    settle: &mut dyn FnMut(usize, Settled<'_>) -> Result<(), Interrupted>,
) -> Result<(), RunError<Interrupted>> {
    let instance = match instance {
        Some(instance) => instance,
        empty => empty.insert(Instance::new(generation).map_err(RunError::Renewal)?),
    };
    let (fuel, time, mut failures) = (instance.fuel(), instance.time(), 0);
    let result = match tally {
        None => instance.run(&portion.records, settle),
        Some(_) => instance.run(&portion.records, &mut |i, settled| {
            failures += u64::from(is_failure(&settled));
            settle(i, settled)
        }),
    };
    let (fuel, time) = (instance.fuel().wrapping_sub(fuel), instance.time().saturating_sub(time));
    let records = portion.records.len() as u64;
    if let Some(counts) = counts {
        counts.fuel.add(fuel);
        counts.memory.set(instance.memory_bytes() as u64);
        counts.process.observe(nanos(time), 1);
        counts.batch.observe(records, 1);
    }
    if let Some(tally) = tally {
        tally.add(records, failures, time, fuel);
    }
    result
}

fn is_failure(settled: &Settled<'_>) -> bool {
    matches!(settled, Settled::Reject(_) | Settled::Fault(_))
}

fn why(error: &RunError<Interrupted>) -> String {
    match error {
        RunError::Renewal(fault) => format!("it cannot be instantiated any more: {}", fault.code.as_str()),
        RunError::Stopped(_) => "it was stopped".to_owned(),
    }
}

fn let_go(instance: Instance, transform: &str) {
    let generation = instance.generation();
    if let Err(fault) = instance.drain() {
        let code = fault.code.as_str();
        tracing::warn!(transform, generation, code, "a guest failed in its `drain`: it goes all the same");
    }
}
