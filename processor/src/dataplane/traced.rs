//! Traced records on their way through a worker. The loop calls in here at five places, each of them a single branch if
//! nothing is traced: a lane's turn ([`Traces::turn`]), a batch ([`Traces::batch`]), its way through one transform
//! ([`Followed::through`], [`Passage::end`]), each outcome and output ([`Passage`]), the end of a transaction
//! ([`Traces::ended`]).
//!
//! Promises: outcomes are the same whether a record is traced or not, and if it is not, so are its outputs' bytes; the
//! worker never waits for anything here; nothing of keys, values and headers is exposed (I10).

use super::lane::Ending;
use super::plan::Plan;
use super::ports::Report;
use super::propagation::Propagation;
use crate::telemetry::traces::Tracer;
use crate::telemetry::traces::context::{Context, STATE_MAX, SpanId, TRACEPARENT, TRACESTATE, TraceId};
use crate::telemetry::traces::span::{Links, Parent, Settled, Span, What};
use crate::wall::unix_nanos;
use pelton_kafka::Message;
use pelton_sandbox::Header;
use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What one worker follows. Its lanes and its processor share it; they are called by one thread, one batch at a time.
#[derive(Debug)]
pub struct Traces {
    tracer: Arc<Tracer>,
    worker: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    /// The lane whose batch is processed, and since when.
    turn: (usize, u64),
    /// By lane: the trace of its transaction, from the first batch on in which something is followed.
    open: Vec<Option<Transaction>>,
}

#[derive(Debug)]
struct Transaction {
    context: Context,
    start: u64,
    links: Links,
}

/// A batch in which some record has a context or is followed.
#[derive(Debug)]
pub struct Followed<'b> {
    traces: &'b Traces,
    plan: &'b Plan,
    lane: usize,
    /// Sorted by place.
    records: Vec<Record<'b>>,
    /// The span of its reception, where something is followed.
    receive: Option<Context>,
}

#[derive(Debug)]
struct Record<'b> {
    /// Topic, partition, offset.
    place: (u32, i32, i64),
    /// `traceparent` as it came: the last one, since later ones win. Whether it is a context or not.
    given: Option<&'b [u8]>,
    /// `tracestate`, where it is to be taken along.
    state: Option<&'b [u8]>,
    /// What `given` says.
    context: Option<Context>,
    trace: TraceId,
    followed: bool,
}

/// Of one record of a [`Passage`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(usize);

/// A batch's way through one transform.
#[derive(Debug)]
pub struct Passage<'t> {
    of: &'t Followed<'t>,
    transform: &'t Arc<str>,
    start: u64,
    /// By record: the span of its processing, where it is followed and the transform reads it.
    spans: Vec<Option<SpanId>>,
    /// All outputs by topic, those of records that are not followed too.
    outputs: Vec<(u32, AtomicU64)>,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    /// By record.
    done: Vec<Option<Done>>,
    /// By topic, an index into the plan's outputs.
    sent: Vec<(u32, Sent)>,
}

#[derive(Clone, Copy, Debug)]
struct Done {
    end: u64,
    settled: Settled,
    error: Option<&'static str>,
}

#[derive(Debug)]
struct Sent {
    start: u64,
    end: u64,
    links: Links,
}

impl Traces {
    pub fn new(tracer: Arc<Tracer>, worker: usize) -> Self {
        // Seeded by the system, through the standard library.
        let random = fastrand::Rng::with_seed(RandomState::new().hash_one(worker));
        Traces { tracer, worker, state: Mutex::new(State { random, turn: (0, 0), open: Vec::new() }) }
    }

    /// The next batch is this lane's. `new`: it begins a transaction.
    pub fn turn(&self, lane: usize, new: bool) {
        let mut state = self.lock();
        if state.open.len() <= lane {
            state.open.resize_with(lane + 1, || None);
        }
        if new {
            state.open[lane] = None;
        }
        state.turn = (lane, unix_nanos());
    }

    /// What is to be followed of a batch; `headers` are those of all its records, `ranges` say which are whose.
    pub fn batch<'f, 'b: 'f>(
        &'f self,
        plan: &'f Plan,
        messages: impl Iterator<Item = Message<'b>> + Clone,
        headers: &[Header<'b>],
        shares: &[Range<usize>],
    ) -> Option<Followed<'f>> {
        let mut state = self.lock();
        let mut records = Vec::new();
        for (message, share) in messages.clone().zip(shares) {
            records.extend(self.record(&mut state.random, &message, headers.get(share.clone()).unwrap_or_default()));
        }
        if records.is_empty() {
            return None;
        }
        records.sort_unstable_by_key(|record| record.place);
        let lane = state.turn.0;
        let receive =
            records.iter().any(|record| record.followed).then(|| self.received(&mut state, plan, messages, &records));
        Some(Followed { traces: self, plan, lane, records, receive })
    }

    fn record<'b>(
        &self,
        random: &mut fastrand::Rng,
        message: &Message<'b>,
        headers: &[Header<'b>],
    ) -> Option<Record<'b>> {
        let (mut given, mut state) = (None, None);
        for header in headers {
            if header.key == TRACEPARENT {
                given = Some(header.value.unwrap_or_default());
            } else if header.key == TRACESTATE {
                state = header.value;
            }
        }
        let context = given.and_then(Context::parse);
        let (trace, followed) = match &context {
            Some(context) => (context.trace, self.tracer.sampler.follows(context)),
            None => (self.tracer.sampler.begins(random)?, true),
        };
        let state = state.filter(|state| context.is_some() && state.len() <= STATE_MAX);
        Some(Record { place: place(message), given, state, context, trace, followed })
    }

    /// Tells the batch's reception; the first of a transaction begins the transaction's trace.
    fn received<'b>(
        &self,
        state: &mut State,
        plan: &Plan,
        messages: impl Iterator<Item = Message<'b>>,
        records: &[Record<'_>],
    ) -> Context {
        let State { random, turn: (lane, start), open } = state;
        if open.len() <= *lane {
            open.resize_with(*lane + 1, || None);
        }
        let transaction = open[*lane].get_or_insert_with(|| Transaction {
            context: Context::child(TraceId::random(random), SpanId::random(random)),
            start: *start,
            links: Links::default(),
        });
        let mut links = Links::default();
        for context in records.iter().filter(|record| record.followed).filter_map(|record| record.context) {
            links.add(context, true);
        }
        let mut places = messages.map(|message| (message.topic(), message.partition()));
        let first = places.next().unwrap_or_default();
        let (count, one_topic, one_partition) = places.fold((1, true, true), |(count, topic, partition), next| {
            (count + 1, topic && next.0 == first.0, partition && next == first)
        });
        let receive = Context::child(transaction.context.trace, SpanId::random(random));
        let topic = one_topic.then(|| plan.inputs.get(first.0 as usize).map(|input| Arc::clone(&input.name))).flatten();
        self.tracer.queue.offer([Span {
            trace: receive.trace,
            id: receive.span,
            parent: Some(Parent { id: transaction.context.span, remote: false }),
            start: *start,
            end: unix_nanos(),
            links,
            what: What::Receive {
                group: Arc::clone(&plan.application),
                topic,
                partition: one_partition.then_some(first.1),
                records: count,
            },
            error: None,
        }]);
        receive
    }

    /// A lane's transaction has ended, as `report` says, at `now`.
    pub(super) fn ended(&self, plan: &Plan, lane: usize, ending: &Ending, report: &Report, now: Instant) {
        let Some(transaction) = self.lock().open.get_mut(lane).and_then(Option::take) else { return };
        let error = match report {
            Report::Committed { .. } => None,
            Report::RolledBack { cause, .. } | Report::Stop(cause) => Some(Cow::Owned(cause.name.clone())),
            Report::Ready => Some(Cow::Borrowed("abandoned")),
        };
        let end = unix_nanos();
        let at = |then: Instant| end.saturating_sub(now.saturating_duration_since(then).as_nanos() as u64);
        let (group, records, committed) = (Arc::clone(&plan.application), ending.records, error.is_none());
        let Transaction { context, start, links } = transaction;
        let commit = Span {
            trace: context.trace,
            id: SpanId::random(&mut self.lock().random),
            parent: Some(Parent { id: context.span, remote: false }),
            start: at(ending.sealed),
            end,
            links,
            what: What::Commit { group: Arc::clone(&group), records, committed },
            error: error.clone(),
        };
        let whole = Span {
            trace: context.trace,
            id: context.span,
            parent: None,
            start: start.min(at(ending.since)),
            end,
            links: Links::default(),
            what: What::Transaction { group, worker: self.worker, lane, records, committed },
            error,
        };
        self.tracer.queue.offer([commit, whole]);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Followed<'_> {
    /// Its way through a transform that reads these topics and can write to those.
    pub fn through<'t>(
        &'t self,
        transform: &'t Arc<str>,
        reads: impl Fn(u32) -> bool,
        writes: impl Iterator<Item = u32>,
    ) -> Passage<'t> {
        let random = &mut self.traces.lock().random;
        let span = |record: &Record<'_>| (record.followed && reads(record.place.0)).then(|| SpanId::random(random));
        let spans: Vec<Option<SpanId>> = self.records.iter().map(span).collect();
        let log = Mutex::new(Log { done: vec![None; spans.len()], sent: Vec::new() });
        let outputs = writes.map(|topic| (topic, AtomicU64::new(0))).collect();
        Passage { of: self, transform, start: unix_nanos(), spans, outputs, log }
    }
}

impl Passage<'_> {
    /// Where the record is looked up, if it is part of a trace: once, for what follows.
    pub fn find(&self, message: &Message<'_>) -> Option<Place> {
        let place = place(message);
        self.of.records.binary_search_by_key(&place, |record| record.place).ok().map(Place)
    }

    /// What the outputs of a record carry on of its trace.
    pub fn propagation(&self, Place(index): Place) -> Propagation<'_> {
        let record = &self.of.records[index];
        let ours = self.spans[index].map(|span| Context::child(record.trace, span).header());
        Propagation { ours, given: record.given, state: record.state }
    }

    /// The ids of the record's processing, where it is followed.
    pub fn ids(&self, Place(index): Place) -> Option<(TraceId, SpanId)> {
        Some((self.of.records[index].trace, self.spans[index]?))
    }

    /// When an output of the record begins to be written, where it is followed.
    pub fn begins(&self, place: Option<Place>) -> Option<u64> {
        place.and_then(|place| self.ids(place)).map(|_| unix_nanos())
    }

    /// One output was written to this topic, an index into the plan's outputs; `began` is what [`Passage::begins`] said.
    pub fn sent(&self, place: Option<Place>, topic: u32, began: Option<u64>) {
        if let Some((_, count)) = self.outputs.iter().find(|(known, _)| *known == topic) {
            // One writer, as in the counters.
            count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
        let (Some(began), Some((trace, span))) = (began, place.and_then(|place| self.ids(place))) else { return };
        let mut log = self.lock();
        let known = log.sent.iter().position(|(known, _)| *known == topic).unwrap_or_else(|| {
            log.sent.push((topic, Sent { start: began, end: began, links: Links::default() }));
            log.sent.len() - 1
        });
        let sent = &mut log.sent[known].1;
        sent.end = unix_nanos();
        sent.links.add(Context::child(trace, span), false);
    }

    /// The record has its outcome, now.
    pub fn settled(&self, Place(index): Place, settled: Settled, error: Option<&'static str>) {
        if self.spans[index].is_some() {
            self.lock().done[index] = Some(Done { end: unix_nanos(), settled, error });
        }
    }

    /// The batch is through, or was interrupted: tells the spans of records and outputs. Once.
    pub fn end(&self) {
        let Followed { traces, plan, lane, records, receive } = self.of;
        let Some(receive) = receive else { return };
        let log = std::mem::take(&mut *self.lock());
        let now = unix_nanos();
        let mut state = traces.lock();
        let State { random, open, .. } = &mut *state;
        let mut transaction = open.get_mut(*lane).and_then(Option::as_mut);
        let mut spans = Vec::new();
        for (index, (record, span)) in records.iter().zip(&self.spans).enumerate() {
            let Some(id) = *span else { continue };
            let interrupted =
                Done { end: now, settled: Settled { outcome: "none", generation: 0 }, error: Some("interrupted") };
            let done = log.done.get(index).copied().flatten().unwrap_or(interrupted);
            let mut links = Links::default();
            links.add(*receive, false);
            if let Some(transaction) = &mut transaction {
                transaction.links.add(Context::child(record.trace, id), false);
            }
            let (topic, partition, offset) = record.place;
            let Some(input) = plan.inputs.get(topic as usize) else { continue };
            spans.push(Span {
                trace: record.trace,
                id,
                parent: record.context.map(|context| Parent { id: context.span, remote: true }),
                start: self.start,
                end: done.end,
                links,
                what: What::Process {
                    group: Arc::clone(&plan.application),
                    topic: Arc::clone(&input.name),
                    partition,
                    offset,
                    transform: Arc::clone(self.transform),
                    settled: done.settled,
                },
                error: done.error.map(Cow::Borrowed),
            });
        }
        for (topic, Sent { start, end, links }) in log.sent {
            let Some(output) = plan.outputs.get(topic as usize) else { continue };
            let count = self.outputs.iter().find(|(known, _)| *known == topic);
            let records = count.map_or(0, |(_, count)| count.load(Ordering::Relaxed));
            spans.push(Span {
                trace: receive.trace,
                id: SpanId::random(random),
                parent: transaction.as_ref().map(|t| Parent { id: t.context.span, remote: false }),
                start,
                end,
                links,
                what: What::Send { topic: Arc::clone(&output.name), transform: Arc::clone(self.transform), records },
                error: None,
            });
        }
        drop(state);
        traces.tracer.queue.offer(spans);
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(message: &Message<'_>) -> (u32, i32, i64) {
    (message.topic(), message.partition(), message.offset().0)
}

#[cfg(test)]
mod tests;
