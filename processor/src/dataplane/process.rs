//! One batch through every transform that reads its topics: records are shown to the sandbox without a copy, and come
//! back as exactly one outcome each, in order (I1).

use super::breaker::TimeSpent;
use super::counters::Counters;
use super::isolation::Refusal;
use super::parallel::Helpers;
use super::plan::{Plan, TransformPlan};
use super::ports::Sink;
use super::runner::{Portion, Runner, Work};
use super::traced::Traces;
use super::worker::WorkerError;
use pelton_kafka::{Batch, Message, TxnError, UnreadableHeaders};
use pelton_sandbox::{Header, Record};
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
    /// By transform.
    runners: Vec<Runner>,
    helpers: Helpers,
    counters: Arc<Counters>,
    traces: Option<Arc<Traces>>,
}

impl Processor {
    pub fn new(plan: Arc<Plan>, counters: Arc<Counters>) -> Self {
        let runners =
            plan.transforms.iter().map(|transform| Runner::new(counters.transform(&transform.name))).collect();
        let mut helpers = Helpers::default();
        helpers.adopt(&plan);
        Processor { plan, runners, helpers, counters, traces: None }
    }

    /// Follows records.
    pub fn traced(mut self, traces: Option<Arc<Traces>>) -> Self {
        self.traces = traces;
        self
    }

    /// Processes `batch` into the open transaction of `sink`. With a `refusal`, transforms that write to the topic which
    /// refused settle its record by their policy, unseen by the guest.
    ///
    /// Usually in one go. A batch whose headers would fill the memory is taken in portions, and a record whose headers cannot
    /// be read is one by itself: no guest sees it without them.
    pub fn run<K: Sink>(
        &mut self,
        plan: &Arc<Plan>,
        batch: &mut Batch,
        refusal: Option<&Refusal>,
        sink: &mut K,
        spent: &mut TimeSpent,
    ) -> Result<(), Interrupted> {
        if !Arc::ptr_eq(plan, &self.plan) {
            self.adopt(plan);
        }
        let mut at = 0;
        while at < batch.len() {
            let (mut headers, unreadable) = Headers::of(batch, at);
            let alone = headers.shares.is_empty();
            let unread = unreadable.filter(|_| alone).map(|unreadable| Refusal::headers(&unreadable));
            if unread.is_some() {
                headers.shares.push(0..0);
            }
            let places = at..at + headers.shares.len();
            let refusal = unread.as_ref().or(refusal);
            self.pass(plan, batch.range(places.clone()), &headers, refusal, sink, spent)?;
            if places.len() < batch.len() {
                drop(headers);
                batch.forget_headers(places.clone());
            }
            at = places.end;
        }
        Ok(())
    }

    /// Takes consecutive messages of a batch through all transforms.
    fn pass<'b, K: Sink>(
        &mut self,
        plan: &Arc<Plan>,
        messages: impl Iterator<Item = Message<'b>> + Clone,
        Headers { all: headers, shares }: &Headers<'b>,
        refusal: Option<&Refusal>,
        sink: &mut K,
        spent: &mut TimeSpent,
    ) -> Result<(), Interrupted> {
        let followed = self.traces.as_deref().and_then(|traces| traces.batch(plan, messages.clone(), headers, shares));
        for (index, transform) in plan.transforms.iter().enumerate() {
            // A canary that is over gets records until the plan is taken up that is without it: never two generations in one
            // transaction of a partition.
            let trial = transform.trial.as_deref().filter(|trial| trial.is_canary() || !trial.is_over());
            let (portion, canary) = (Portion::for_records(shares.len()), Portion::default());
            let passage = followed.as_ref().map(|followed| transform.follow(followed));
            let (passage, counters, helpers) = (passage.as_ref(), &*self.counters, &self.helpers);
            let mut work = Work { plan, transform, index, trial, counters, helpers, passage, portion, canary };
            for (message, share) in messages.clone().zip(shares) {
                let place = message.topic() as usize;
                let Some(topic) = transform.inputs[place] else { continue };
                let tried = trial.is_some_and(|trial| trial.takes(message.partition(), plan.inputs[place].partitions));
                let portion = if tried { &mut work.canary } else { &mut work.portion };
                portion.records.push(record(&message, topic, &headers[share.clone()]));
                portion.messages.push(message);
            }
            if work.portion.messages.is_empty() && work.canary.messages.is_empty() {
                continue;
            }
            let start = Instant::now();
            let settled = self.runners[index].settle(&work, refusal, sink);
            spent.add(index, start.elapsed());
            if let Some(passage) = passage {
                passage.end();
            }
            settled?;
        }
        Ok(())
    }

    /// The worker ends in good order.
    pub fn drain(self) {
        for (runner, transform) in self.runners.into_iter().zip(&self.plan.transforms) {
            runner.drain(&transform.name);
        }
    }

    fn adopt(&mut self, plan: &Arc<Plan>) {
        let old = std::mem::replace(&mut self.plan, Arc::clone(plan));
        let mut runners: Vec<(&TransformPlan, Runner)> = old.transforms.iter().zip(self.runners.drain(..)).collect();
        let mut next = Vec::with_capacity(plan.transforms.len());
        for new in &plan.transforms {
            next.push(match runners.iter().position(|(old, _)| old.name == new.name) {
                Some(known) => {
                    let (old, runner) = runners.swap_remove(known);
                    runner.adopt(old, new)
                }
                None => Runner::new(self.counters.transform(&new.name)),
            });
        }
        // What is left is of transforms that are no more.
        runners.into_iter().for_each(|(old, runner)| runner.drain(&old.name));
        self.runners = next;
        self.helpers.adopt(plan);
    }
}

/// `topic/partition@offset`.
pub(super) fn coordinates(plan: &Plan, message: &Message<'_>) -> String {
    let topic = &plan.inputs[message.topic() as usize].name;
    format!("{topic}/{}@{}", message.partition(), message.offset())
}

/// So many headers, and those of one more record, are in memory at a time: each takes a hundred bytes or more, whatever it
/// took on its way here.
const HEADERS_MAX: usize = 8_192;

/// The headers of consecutive messages in one allocation, and each message's share of it.
struct Headers<'b> {
    all: Vec<Header<'b>>,
    shares: Vec<Range<usize>>,
}

impl<'b> Headers<'b> {
    /// Those of the messages from `at` on: of all, or of as many as may be in memory; or up to one that cannot be read.
    fn of(batch: &'b Batch, at: usize) -> (Self, Option<UnreadableHeaders>) {
        let (mut all, mut one) = (Vec::new(), Vec::new());
        let mut shares = Vec::with_capacity(batch.len() - at);
        for message in batch.range(at..batch.len()) {
            let start = all.len();
            one.clear();
            if let Err(unreadable) = message.headers(&mut one) {
                return (Headers { all, shares }, Some(unreadable));
            }
            if all.capacity() == 0 {
                // Records of a batch are much alike.
                all.reserve((one.len() * batch.len()).min(HEADERS_MAX));
            }
            all.extend(one.iter().map(|h| Header { key: h.key, value: h.value }));
            shares.push(start..all.len());
            if all.len() >= HEADERS_MAX {
                break;
            }
        }
        (Headers { all, shares }, None)
    }
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
