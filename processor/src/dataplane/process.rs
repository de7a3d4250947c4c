//! One batch through every transform that reads its topics: records are shown to the sandbox without a copy, and come
//! back as exactly one outcome each, in order (I1).

use super::breaker::{Breakers, TimeSpent};
use super::counters::{Counters, TransformCounters};
use super::isolation::Refusal;
use super::outcome::{Delivery, Throttle};
use super::plan::Plan;
use super::ports::Sink;
use super::utilization::nanos;
use super::worker::WorkerError;
use pelton_kafka::{Batch, Message, TxnError};
use pelton_sandbox::{Header, Instance, Record, RunError};
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

/// A worker's instances, made when a record first needs them.
#[derive(Debug)]
pub struct Processor {
    plan: Arc<Plan>,
    instances: Vec<Option<Instance>>,
    counters: Arc<Counters>,
    /// One per transform.
    counts: Vec<Arc<TransformCounters>>,
    /// One per transform: for the log lines of rejected records.
    throttles: Vec<Throttle>,
    breakers: Arc<Breakers>,
    spent: Arc<TimeSpent>,
}

impl Processor {
    pub fn new(plan: Arc<Plan>, counters: Arc<Counters>, breakers: Arc<Breakers>, spent: Arc<TimeSpent>) -> Self {
        let instances = plan.transforms.iter().map(|_| None).collect();
        let throttles = plan.transforms.iter().map(|_| Throttle::default()).collect();
        let counts = plan.transforms.iter().map(|transform| counters.transform(&transform.name)).collect();
        Processor { plan, instances, counters, counts, throttles, breakers, spent }
    }

    /// Processes `batch` into the open transaction of `sink`. With a `refusal`, transforms that write to the topic which
    /// refused settle its record by their policy, unseen by the guest.
    pub fn run<K: Sink>(
        &mut self,
        plan: &Arc<Plan>,
        batch: &Batch,
        refusal: Option<&Refusal>,
        sink: &mut K,
    ) -> Result<(), Interrupted> {
        if !Arc::ptr_eq(plan, &self.plan) {
            self.adopt(plan);
        }
        let (headers, ranges) = headers(batch);
        for (index, transform) in plan.transforms.iter().enumerate() {
            // The transform's records, and which message of the batch each of them is.
            let mut messages: Vec<Message<'_>> = Vec::with_capacity(batch.len());
            let mut records: Vec<Record<'_>> = Vec::with_capacity(batch.len());
            for (message, range) in batch.iter().zip(&ranges) {
                if let Some(topic) = transform.inputs[message.topic() as usize] {
                    records.push(record(&message, topic, &headers[range.clone()]));
                    messages.push(message);
                }
            }
            if records.is_empty() {
                continue;
            }
            if let Some(refusal) = refusal.filter(|r| r.topic.is_none_or(|topic| transform.writes(topic))) {
                let (throttle, counters, counts) = (&mut self.throttles[index], &*self.counters, &*self.counts[index]);
                let breakers = &self.breakers;
                let mut delivery = Delivery { plan, transform, sink, counters, counts, throttle, breakers, index };
                messages.iter().try_for_each(|message| delivery.refused(message, refusal))?;
                continue;
            }
            let stop =
                |fault| Interrupted::Stop(WorkerError::Instance { transform: Arc::clone(&transform.name), fault });
            let instance = match &mut self.instances[index] {
                Some(instance) => instance,
                empty => empty.insert(Instance::new(&transform.generation).map_err(stop)?),
            };
            let (throttle, counters, counts) = (&mut self.throttles[index], &*self.counters, &*self.counts[index]);
            let breakers = &self.breakers;
            let mut delivery = Delivery { plan, transform, sink, counters, counts, throttle, breakers, index };
            let (fuel, time) = (instance.fuel(), instance.time());
            let start = Instant::now();
            let settle = &mut |i: usize, settled: pelton_sandbox::Settled<'_>| delivery.settle(&messages[i], settled);
            let ran = instance.run(&records, settle);
            self.spent.add(index, start.elapsed());
            counts.fuel.add(instance.fuel().wrapping_sub(fuel));
            counts.memory.set(instance.memory_bytes() as u64);
            counts.process.observe(nanos(instance.time().saturating_sub(time)), 1);
            counts.batch.observe(records.len() as u64, 1);
            ran.map_err(|error| match error {
                RunError::Stopped(interrupted) => interrupted,
                RunError::Renewal(fault) => stop(fault),
            })?;
        }
        Ok(())
    }

    /// Keeps the instances of generations that the plan has too; the others are let go.
    fn adopt(&mut self, plan: &Arc<Plan>) {
        for (index, (old, new)) in self.plan.transforms.iter().zip(&plan.transforms).enumerate() {
            if !old.generation.is_same(&new.generation) {
                self.instances[index] = None;
                self.counts[index].memory.set(0);
            }
        }
        // What was counted of a transform stays with its name.
        self.counts = plan.transforms.iter().map(|transform| self.counters.transform(&transform.name)).collect();
        self.plan = Arc::clone(plan);
    }
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
