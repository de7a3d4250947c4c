//! One batch through every transform that reads its topics: records are shown to the sandbox without a copy, and come
//! back as exactly one outcome each, in order (I1).

use super::breaker::TimeSpent;
use super::counters::Counters;
use super::isolation::Refusal;
use super::outcome::{Delivery, Throttle};
use super::plan::Plan;
use super::ports::Sink;
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
    /// One per transform: for the log lines of rejected records.
    throttles: Vec<Throttle>,
}

impl Processor {
    pub fn new(plan: Arc<Plan>, counters: Arc<Counters>) -> Self {
        let instances = plan.transforms.iter().map(|_| None).collect();
        let throttles = plan.transforms.iter().map(|_| Throttle::default()).collect();
        Processor { plan, instances, counters, throttles }
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
                let (throttle, counters) = (&mut self.throttles[index], &*self.counters);
                let mut delivery = Delivery { plan, transform, sink, counters, throttle, index };
                messages.iter().try_for_each(|message| delivery.refused(message, refusal))?;
                continue;
            }
            let stop =
                |fault| Interrupted::Stop(WorkerError::Instance { transform: Arc::clone(&transform.name), fault });
            let instance = match &mut self.instances[index] {
                Some(instance) => instance,
                empty => empty.insert(Instance::new(&transform.generation).map_err(stop)?),
            };
            let (throttle, counters) = (&mut self.throttles[index], &*self.counters);
            let mut delivery = Delivery { plan, transform, sink, counters, throttle, index };
            let start = Instant::now();
            let settle = &mut |i: usize, settled: pelton_sandbox::Settled<'_>| delivery.settle(&messages[i], settled);
            let ran = instance.run(&records, settle);
            spent.add(index, start.elapsed());
            ran.map_err(|error| match error {
                RunError::Stopped(interrupted) => interrupted,
                RunError::Renewal(fault) => stop(fault),
            })?;
        }
        self.counters.records_in.add(batch.len() as u64);
        Ok(())
    }

    /// Keeps the instances of generations that the plan has too; the others are let go.
    fn adopt(&mut self, plan: &Arc<Plan>) {
        let mut instances = std::mem::take(&mut self.instances);
        let mut throttles = std::mem::take(&mut self.throttles);
        for transform in &plan.transforms {
            let known = self.plan.transforms.iter().position(|old| old.name == transform.name);
            let same = known.filter(|i| self.plan.transforms[*i].generation.is_same(&transform.generation));
            self.instances.push(same.and_then(|i| instances[i].take()));
            self.throttles.push(known.map(|i| std::mem::take(&mut throttles[i])).unwrap_or_default());
        }
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
