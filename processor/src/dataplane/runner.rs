//! What a worker has of one transform: the instance of the running generation, that of the one on trial, and how each
//! record gets its outcome. The running generation's outcomes count; a canary's count for the partitions that it has; a
//! shadow's are compared with the running generation's and discarded.

use super::counters::{Counters, TransformCounters};
use super::isolation::Refusal;
use super::outcome::{Budgeted, Delivery, Throttle, given_up};
use super::parallel::{Helpers, Parallel};
use super::plan::{Plan, TransformPlan};
use super::ports::Sink;
use super::process::{Interrupted, coordinates};
use super::propagation::Room;
use super::samples::Pace;
use super::tap::Onlookers;
use super::traced::Passage;
use super::trial::{Kind, Tally, Trial};
use super::utilization::nanos;
use super::worker::WorkerError;
use pelton_kafka::Message;
use pelton_sandbox::{Generation, Record, RunError, Settled};
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Runner {
    running: Parallel,
    /// Of the generation on trial.
    candidate: Parallel,
    /// For the log lines of rejected records.
    throttle: Throttle,
    budgeted: Budgeted,
    /// For the headers of outputs.
    room: Room,
    sampling: Pace,
    /// Of its name, whatever the generation.
    counts: Arc<TransformCounters>,
}

/// The records of a batch that one generation is to process.
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
    pub helpers: &'a Helpers,
    /// Where records are followed.
    pub passage: Option<&'a Passage<'a>>,
    /// For the running generation, and for a canary.
    pub portion: Portion<'a>,
    pub canary: Portion<'a>,
}

impl Runner {
    pub fn new(counts: Arc<TransformCounters>) -> Self {
        let (running, candidate) = Default::default();
        let (throttle, budgeted, room, sampling) = Default::default();
        Runner { running, candidate, throttle, budgeted, room, sampling, counts }
    }

    /// Gives each record its outcome, in order within a partition. With a refusal, records whose outputs the brokers refuse
    /// go by the policy, unseen by the guest.
    pub fn settle<K: Sink>(
        &mut self,
        work: &Work<'_>,
        refusal: Option<&Refusal>,
        sink: &mut K,
    ) -> Result<(), Interrupted> {
        let Work { plan, transform, index, trial, counters, helpers, passage, portion, canary } = work;
        let members = (transform.parallelism, *helpers);
        let Runner { running, candidate, throttle, budgeted, room, sampling, counts } = self;
        let (index, passage) = (*index, *passage);
        let mut delivery = Delivery {
            plan,
            transform,
            sink,
            counters,
            counts,
            throttle,
            budgeted,
            room,
            index,
            trial: None,
            passage,
            onlookers: Onlookers::of(plan, transform, &transform.generation),
            place: None,
        };
        if let Some(refusal) = refusal.filter(|r| r.topic.is_none_or(|topic| transform.writes(topic))) {
            let mut all = portion.messages.iter().chain(&canary.messages);
            return all.try_for_each(|message| delivery.refused(message, refusal));
        }
        let Some(trial) = *trial else { return serve(running, sampling, work, &mut delivery, |_, _| ()) };
        match trial.kind {
            Kind::Canary { .. } => {
                serve(running, sampling, work, &mut delivery, |_, _| ())?;
                try_out(candidate, members, trial, canary, &mut delivery)
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
                let counted = (None, Some(&trial.candidate));
                if let Err(error) = call(candidate, members, &trial.generation, portion, counted, compare) {
                    trial.give_up(why(&error));
                }
                Ok(())
            }
        }
    }

    /// Another plan: keeps the instances of generations that this one has too, the others are let go.
    pub fn adopt(mut self, old: &TransformPlan, new: &TransformPlan) -> Self {
        self.counts.memory.set(0);
        if !old.generation.is_same(&new.generation) {
            // What it makes of records that are read again is its own doing.
            self.budgeted = Budgeted::default();
        }
        let (mut running, mut candidate) = (std::mem::take(&mut self.running), std::mem::take(&mut self.candidate));
        let tried = old.trial.as_ref().map(|trial| &trial.generation);
        let mut take = |generation: &Generation| {
            if old.generation.is_same(generation) {
                std::mem::take(&mut running)
            } else if tried.is_some_and(|tried| tried.is_same(generation)) {
                std::mem::take(&mut candidate)
            } else {
                Parallel::default()
            }
        };
        self.running = take(&new.generation);
        self.candidate = new.trial.as_ref().map(|trial| take(&trial.generation)).unwrap_or_default();
        [&mut self.running, &mut self.candidate]
            .into_iter()
            .for_each(|instances| instances.let_go(new.parallelism, &new.name));
        [running, candidate].into_iter().for_each(|mut instances| instances.let_go(0, &new.name));
        self
    }

    /// The transform is no more, or the worker ends in good order.
    pub fn drain(self, transform: &str) {
        self.counts.memory.set(0);
        [self.running, self.candidate].into_iter().for_each(|mut instances| instances.let_go(0, transform));
    }
}

/// The running generation. `see` is shown each outcome before it is carried out.
fn serve<K: Sink>(
    running: &mut Parallel,
    sampling: &mut Pace,
    work: &Work<'_>,
    delivery: &mut Delivery<'_, K>,
    mut see: impl FnMut(&Message<'_>, &Settled<'_>),
) -> Result<(), Interrupted> {
    let Work { plan, transform, trial, helpers, portion, .. } = work;
    let Some(first) = portion.messages.first() else { return Ok(()) };
    let counts = delivery.counts;
    let mut at_ease = false;
    let settle = &mut |i: usize, settled: Settled<'_>| {
        let message = &portion.messages[i];
        at_ease |= i == 0 && !is_failure(&settled);
        see(message, &settled);
        delivery.settle(message, settled)
    };
    let (members, counted) = ((transform.parallelism, *helpers), (Some(counts), trial.map(|trial| &trial.running)));
    let ran = call(running, members, &transform.generation, portion, counted, settle);
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
    candidate: &mut Parallel,
    members: (usize, &Helpers),
    trial: &'a Trial,
    canary: &Portion<'_>,
    delivery: &mut Delivery<'a, K>,
) -> Result<(), Interrupted> {
    if canary.records.is_empty() {
        return Ok(());
    }
    delivery.trial = Some(trial);
    delivery.onlookers = Onlookers::of(delivery.plan, delivery.transform, &trial.generation);
    let counts = delivery.counts;
    let settle = &mut |i: usize, settled: Settled<'_>| delivery.settle(&canary.messages[i], settled);
    let counted = (Some(counts), Some(&trial.candidate));
    match call(candidate, members, &trial.generation, canary, counted, settle) {
        Ok(()) => Ok(()),
        Err(RunError::Stopped(interrupted)) => Err(interrupted),
        Err(error) => {
            trial.give_up(why(&error));
            Err(given_up("the canary cannot be instantiated any more"))
        }
    }
}

/// One generation's call; counted in the metrics, and where it is tried.
fn call(
    instances: &mut Parallel,
    members: (usize, &Helpers),
    generation: &Generation,
    portion: &Portion<'_>,
    (counts, tally): (Option<&TransformCounters>, Option<&Tally>),
    settle: &mut dyn FnMut(usize, Settled<'_>) -> Result<(), Interrupted>,
) -> Result<(), RunError<Interrupted>> {
    let mut failures = 0;
    let (result, spent) = match tally {
        None => instances.run(generation, members, &portion.records, settle),
        Some(_) => instances.run(generation, members, &portion.records, &mut |i, settled| {
            failures += u64::from(is_failure(&settled));
            settle(i, settled)
        }),
    };
    let records = portion.records.len() as u64;
    if let Some(counts) = counts {
        counts.fuel.add(spent.fuel);
        counts.memory.set(instances.memory_bytes());
        counts.process.observe(nanos(spent.time), 1);
        counts.batch.observe(records, 1);
    }
    if let Some(tally) = tally {
        tally.add(records, failures, spent.time, spent.fuel);
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
