//! What one outcome leads to: outputs in the open transaction, a dead letter beside them, nothing, or the end of the
//! worker. All outputs of a record are checked before the first is produced: half a record must never be written (I1).

use super::breaker::{Then, Verdict};
use super::counters::{Counters, REJECTED, TransformCounters};
use super::dead_letter;
use super::isolation::Refusal;
use super::plan::{OnError, Plan, TransformPlan};
use super::ports::{Refused, Sink};
use super::process::{Interrupted, coordinates};
use super::propagation::{Propagation, Room, carry};
use super::rejects::Reject;
use super::tap::Onlookers;
use super::traced::{Passage, Place};
use super::trial::Trial;
use super::worker::WorkerError;
use crate::telemetry::traces::span;
use crate::wall::unix_ms;
use pelton_kafka::{Blame, Fate, Header, Message, Offset, Output, Partitioning, ProduceError, TxnError};
use pelton_sandbox::{FaultCode, OutputRecord, Outputs, Settled};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The way out for one transform's records, into one open transaction.
pub struct Delivery<'a, K> {
    pub plan: &'a Plan,
    pub transform: &'a TransformPlan,
    pub sink: &'a mut K,
    pub counters: &'a Counters,
    /// This transform's own.
    pub counts: &'a TransformCounters,
    pub throttle: &'a mut Throttle,
    pub budgeted: &'a mut Budgeted,
    pub room: &'a mut Room,
    /// The transform's index in the plan.
    pub index: usize,
    /// Set where the outcomes are those of a canary.
    pub trial: Option<&'a Trial>,
    /// Set where some record of the batch is followed, or comes with a trace.
    pub passage: Option<&'a Passage<'a>>,
    /// Those who look at the transform's records.
    pub onlookers: Option<Onlookers<'a>>,
    /// Of the record that is being settled, where it is part of a trace.
    pub place: Option<Place>,
}

/// How far failures count against the budget already, by topic and partition: a record that is read again after a rollback
/// fails again, and is still one failure. A rebalance ends that: a partition that comes back may be another one of its name.
#[derive(Debug, Default)]
pub struct Budgeted {
    last: BTreeMap<(u32, i32), Option<Offset>>,
    rebalances: u64,
}

impl Budgeted {
    /// `rebalances`: of the worker, so far.
    fn is_news(&mut self, message: &Message<'_>, rebalances: u64) -> bool {
        if self.rebalances != rebalances {
            *self = Budgeted { rebalances, ..Budgeted::default() };
        }
        let last = self.last.entry((message.topic(), message.partition())).or_default();
        let news = last.is_none_or(|last| message.offset() > last);
        if news {
            *last = Some(message.offset());
        }
        news
    }
}

/// Lets one line of each kind through every ten seconds.
#[derive(Debug, Default)]
pub struct Throttle(HashMap<&'static str, (Instant, u64)>);

impl Throttle {
    /// `Some`: write it, and that so many were held back before it.
    fn allow(&mut self, kind: &'static str) -> Option<u64> {
        let now = Instant::now();
        match self.0.entry(kind) {
            Entry::Vacant(entry) => {
                entry.insert((now, 0));
                Some(0)
            }
            Entry::Occupied(mut entry) => {
                let (last, held) = entry.get_mut();
                if now.saturating_duration_since(*last) < Duration::from_secs(10) {
                    *held += 1;
                    return None;
                }
                *last = now;
                Some(std::mem::take(held))
            }
        }
    }
}

impl<'a, K: Sink> Delivery<'a, K> {
    /// Settles one record.
    pub fn settle(&mut self, message: &Message<'_>, settled: Settled<'_>) -> Result<(), Interrupted> {
        self.look_up(message);
        if let Some(onlookers) = &self.onlookers {
            onlookers.show(message, &settled);
        }
        match &settled {
            Settled::Keep => self.keep(message),
            Settled::Emit(outputs) => self.emit(message, outputs),
            Settled::Drop => {
                self.counts.dropped.add(1);
                self.told("dropped", None);
                Ok(())
            }
            Settled::Reject(reason) => self.reject(message, REJECTED, reason, None),
            Settled::Fault(fault) => {
                self.reject(message, fault.code.as_str(), &fault.detail, fault.backtrace.as_deref())
            }
        }
    }

    /// The input as it is, to the default output.
    fn keep(&mut self, message: &Message<'_>) -> Result<(), Interrupted> {
        let topic = self.transform.outputs[0];
        let propagation = self.propagation();
        let mut headers = self.room.lend();
        if let Err(unreadable) = message.headers(&mut headers) {
            // Not met: it would not have been shown to the guest.
            return self.refused(message, &Refusal::headers(&unreadable));
        }
        carry(propagation.as_ref(), &mut headers, |headers| self.fits(&kept(message, topic, headers)));
        let output = kept(message, topic, &headers);
        if let Err(refused) = self.sink.check(&output) {
            return self.refuse(message, refused);
        }
        self.produce(&output)?;
        let size = bytes(&output);
        self.room.take_back(headers);
        self.counts.kept.add(1);
        self.told("kept", None);
        self.counters.records_out.add(1);
        self.counters.bytes_out.add(size);
        Ok(())
    }

    fn emit(&mut self, message: &Message<'_>, outputs: &Outputs<'_>) -> Result<(), Interrupted> {
        let propagation = self.propagation();
        // One that is alone is checked right before it is produced.
        let alone = outputs.len() == 1;
        if !alone {
            for output in outputs.iter() {
                let headers = self.headers(message, &output, propagation.as_ref());
                if let Err(refused) = self.sink.check(&self.output(message, &output, &headers)) {
                    return self.refuse(message, refused);
                }
                self.room.take_back(headers);
            }
        }
        let (mut count, mut size) = (0, 0);
        for output in outputs.iter() {
            let headers = self.headers(message, &output, propagation.as_ref());
            let output = self.output(message, &output, &headers);
            if alone && let Err(refused) = self.sink.check(&output) {
                return self.refuse(message, refused);
            }
            self.produce(&output)?;
            count += 1;
            size += bytes(&output);
            self.room.take_back(headers);
        }
        // A guest that emits nothing drops the record.
        if count == 0 {
            self.counts.dropped.add(1);
        } else {
            self.counts.emitted.add(1);
            self.counts.outputs.add(count);
        }
        self.told(if count == 0 { "dropped" } else { "emitted" }, None);
        self.counters.records_out.add(count);
        self.counters.bytes_out.add(size);
        Ok(())
    }

    /// The guest's, and what they carry on of the input's trace; in the room, which is to be given back.
    fn headers<'o>(
        &mut self,
        message: &Message<'_>,
        output: &OutputRecord<'o>,
        propagation: Option<&'o Propagation<'_>>,
    ) -> Vec<Header<'o>> {
        let mut headers = self.room.lend();
        headers.extend(output.headers().map(|h| Header { key: h.key, value: h.value }));
        carry(propagation, &mut headers, |headers| self.fits(&self.output(message, output, headers)));
        headers
    }

    fn fits(&self, output: &Output<'_>) -> bool {
        self.sink.check(output) != Err(Refused::TooLarge)
    }

    fn look_up(&mut self, message: &Message<'_>) {
        self.place = self.passage.and_then(|passage| passage.find(message));
    }

    fn propagation(&self) -> Option<Propagation<'a>> {
        Some(self.passage?.propagation(self.place?))
    }

    fn produce(&mut self, output: &Output<'_>) -> Result<(), Interrupted> {
        let interrupted = |error| interrupted(error, output.topic);
        let Some(passage) = self.passage else { return self.sink.produce(output).map_err(interrupted) };
        let began = passage.begins(self.place);
        self.sink.produce(output).map_err(interrupted)?;
        passage.sent(self.place, output.topic, began);
        Ok(())
    }

    /// The record has its outcome.
    fn told(&self, outcome: &'static str, error: Option<&'static str>) {
        if let (Some(passage), Some(place)) = (self.passage, self.place) {
            let generation = self.trial.map_or(&self.transform.generation, |trial| &trial.generation).number();
            passage.settled(place, span::Settled { outcome, generation }, error);
        }
    }

    fn output<'o>(&self, message: &Message<'_>, output: &OutputRecord<'o>, headers: &'o [Header<'o>]) -> Output<'o> {
        Output {
            topic: self.transform.outputs[output.topic as usize],
            partitioning: match output.partition {
                Some(partition) => Partitioning::Fixed(partition),
                None => Partitioning::ByKey { input: message.partition() },
            },
            timestamp_ms: output.timestamp_ms.or_else(|| message.timestamp_ms()),
            key: output.key,
            value: output.value,
            headers,
        }
    }

    /// The brokers refuse this record's outputs, again and again; or it cannot be read.
    pub fn refused(&mut self, message: &Message<'_>, refusal: &Refusal) -> Result<(), Interrupted> {
        self.look_up(message);
        self.reject(message, refusal.code, &refusal.reason, None)
    }

    fn refuse(&mut self, message: &Message<'_>, refused: Refused) -> Result<(), Interrupted> {
        match refused {
            Refused::TooLarge => {
                self.reject(message, "output.message_too_large", "an output is larger than message.max.bytes", None)
            }
            Refused::NoSuchTopic => {
                self.reject(message, "output.topic_missing", "the topic of an output does not exist any more", None)
            }
            Refused::NoSuchPartition => self.reject(
                message,
                "output.partition",
                "an output names a partition that its topic does not have",
                None,
            ),
        }
    }

    /// The transform's policy for a record that has no outputs because something is wrong with it.
    fn reject(
        &mut self,
        message: &Message<'_>,
        code: &'static str,
        reason: &str,
        backtrace: Option<&str>,
    ) -> Result<(), Interrupted> {
        self.counts.refuse(code);
        self.told(if code == REJECTED { "rejected" } else { "failed" }, Some(code));
        self.counters.rejects.note(Reject {
            at_ms: unix_ms(),
            transform: Arc::clone(&self.transform.name),
            topic: Arc::clone(&self.plan.inputs[message.topic() as usize].name),
            partition: message.partition(),
            offset: message.offset().0,
            code,
        });
        let at = self.coordinates(message);
        if let Some(more) = self.throttle.allow(code) {
            let (transform, reason) = (&self.transform.name, self.loggable(reason));
            let ids = self.passage.zip(self.place).and_then(|(passage, place)| passage.ids(place));
            let (trace_id, span_id) = ids.map(|(trace, span)| (trace.to_string(), span.to_string())).unzip();
            let advice = FaultCode::named(code).map(FaultCode::advice);
            tracing::warn!(%transform, at, code, reason, more, advice, trace_id, span_id, "record rejected");
        }
        let transform = || Arc::clone(&self.transform.name);
        if let (Some(trial), OnError::Stop) = (self.trial, self.transform.on_error) {
            // What would end the process ends the trial, and the running generation gets the record.
            trial.give_up(format!("{code} at {at}"));
            return Err(given_up("the canary failed and the policy is to stop"));
        }
        match self.transform.on_error {
            OnError::DeadLetter(topic) => self.dead_letter(message, topic, (code, reason, backtrace))?,
            OnError::Skip => self.counts.skipped.add(1),
            OnError::Stop => return Err(Interrupted::Stop(WorkerError::Policy { transform: transform(), at, code })),
        }
        if self.trial.is_some() {
            // It has a budget of its own.
            return Ok(());
        }
        if !self.budgeted.is_news(message, self.counters.rebalances.get()) {
            // Its transaction was rolled back, and that is not the transform's fault.
            return Ok(());
        }
        match self.plan.allowances[self.index].breaker.failed(Instant::now()) {
            Verdict::GoOn => Ok(()),
            Verdict::Tripped(Then::Stop) => {
                Err(Interrupted::Stop(WorkerError::Budget { transform: transform(), at, code }))
            }
            Verdict::Tripped(Then::Pause) => {
                let advice = "mend the transform or what it reads and reload or restart; or raise `on_error.budget`";
                tracing::error!(
                    transform = %self.transform.name, at, code = "transform.paused", last = code, advice,
                    "the transform has used up its budget of failures: its input topics are paused until it is replaced by a reload or resumed, or the process is started again"
                );
                Ok(())
            }
        }
    }

    fn dead_letter(
        &mut self,
        message: &Message<'_>,
        topic: u32,
        (code, reason, backtrace): (&str, &str, Option<&str>),
    ) -> Result<(), Interrupted> {
        let verdict = dead_letter::Verdict {
            code,
            reason,
            backtrace,
            group: &self.plan.application,
            topic: &self.plan.inputs[message.topic() as usize].name,
            transform: &self.transform.name,
            digest: self.trial.map_or(&self.transform.digest, |trial| &trial.digest),
            at_ms: unix_ms(),
        };
        // With the reason; without it where that is too large; never without the record.
        for brief in [false, true] {
            let added = dead_letter::headers(&verdict, message, brief);
            let mut headers = Vec::new();
            // Without its own where they cannot be read: the reason says so.
            let _ = message.headers(&mut headers);
            headers.extend(added.iter().map(|(k, v)| Header { key: k.as_bytes(), value: Some(v.as_bytes()) }));
            let output = Output {
                topic,
                partitioning: Partitioning::ByInput { input: message.partition() },
                timestamp_ms: message.timestamp_ms(),
                key: message.key(),
                value: message.value(),
                headers: &headers,
            };
            if self.sink.check(&output).is_ok() {
                self.produce(&output)?;
                self.counts.dead_letters.add(1);
                return Ok(());
            }
        }
        let at = self.coordinates(message);
        Err(Interrupted::Stop(WorkerError::DeadLetter { transform: Arc::clone(&self.transform.name), at }))
    }

    fn coordinates(&self, message: &Message<'_>) -> String {
        coordinates(self.plan, message)
    }

    fn loggable<'r>(&self, reason: &'r str) -> &'r str {
        if self.plan.guest_text { dead_letter::cut(reason) } else { "(in the dead letter)" }
    }
}

impl<K> std::fmt::Debug for Delivery<'_, K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Delivery({})", self.transform.name)
    }
}

/// The input as it is, with these headers.
fn kept<'o>(message: &Message<'o>, topic: u32, headers: &'o [Header<'o>]) -> Output<'o> {
    Output {
        topic,
        partitioning: Partitioning::ByKey { input: message.partition() },
        timestamp_ms: message.timestamp_ms(),
        key: message.key(),
        value: message.value(),
        headers,
    }
}

/// The canary cannot go on: the transaction is done again, and again, until the plan comes that is without it.
pub(super) fn given_up(text: &'static str) -> Interrupted {
    Interrupted::Abort(TxnError::own(Fate::Abort, Blame::Module, "process", "CANARY", text))
}

/// Of key and value.
fn bytes(output: &Output<'_>) -> u64 {
    (output.key.map_or(0, <[u8]>::len) + output.value.map_or(0, <[u8]>::len)) as u64
}

/// A record that was checked and is refused all the same leaves the transaction in doubt: it is given up.
fn interrupted(error: ProduceError, topic: u32) -> Interrupted {
    Interrupted::Abort(match error {
        ProduceError::Txn(error) => error,
        other => {
            let topic = Some(topic);
            TxnError { topic, ..TxnError::own(Fate::Abort, Blame::Record, "produce", "REFUSED", other.to_string()) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_kafka::{Batch, OwnedMessage};

    #[test]
    fn a_record_that_fails_again_after_a_rollback_is_one_failure() {
        let mut batch = Batch::new();
        for (partition, offset) in [(1, 5), (1, 7), (2, 0)] {
            batch.push_owned(0, OwnedMessage { partition, offset, ..OwnedMessage::default() });
        }
        let mut budgeted = Budgeted::default();
        let mut news =
            |rebalances| batch.iter().map(|message| budgeted.is_news(&message, rebalances)).collect::<Vec<_>>();
        assert_eq!(news(1), [true, true, true]);
        assert_eq!(news(1), [false, false, false], "all of it is read again");
        assert_eq!(news(2), [true, true, true], "the topic may have been made anew meanwhile");
    }
}
