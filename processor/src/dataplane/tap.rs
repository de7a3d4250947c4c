//! A tap on a transform: copies of records as they are processed, before and after, for somebody who asked for them. A
//! worker never waits for it: without a listener it costs one relaxed load per batch, with one a copy of at most
//! [`PER_SECOND`] records a second, and what finds no room is dropped and counted.
//!
//! It shows what a transform said when it said it: the transaction may still be rolled back, and the record processed
//! again. Who may view them, and what is hidden, is decided in [`crate::admin`]; nothing is ever written anywhere
//! (I10), and all of it is bounded (I9).

use super::plan::{Plan, TransformPlan};
use pelton_kafka::Message;
use pelton_sandbox::{Generation, Header, Settled};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Copies for one listener. What comes faster is dropped.
pub const PER_SECOND: u32 = 50;
/// Records on their way to one listener.
const QUEUE: usize = 64;
/// Of one key, value or header, and of all of a record together, in bytes; the rest is cut off.
const PIECE_MAX: usize = 16 << 10;
const RECORD_MAX: usize = 64 << 10;
/// Headers of one record, and outputs of one input.
const HEADERS_MAX: usize = 32;
const OUTPUTS_MAX: usize = 16;

/// Of one transform, whatever its generation: it stays over reloads.
#[derive(Debug, Default)]
pub struct Tap {
    open: AtomicBool,
    listeners: Mutex<Vec<Listener>>,
    /// Not shown to anybody, because another worker was at it.
    missed: AtomicU64,
}

/// What a listener wants to see.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    pub partition: Option<i32>,
    /// Only what was rejected or failed.
    pub failed: bool,
}

#[derive(Debug)]
struct Listener {
    choice: Choice,
    send: Sender<Tapped>,
    dropped: Arc<AtomicU64>,
    /// The present second, and how many it has had.
    second: Instant,
    taken: u32,
}

/// One who listens, until this is dropped.
#[derive(Debug)]
pub struct Listening {
    tap: Arc<Tap>,
    pub records: Receiver<Tapped>,
    dropped: Arc<AtomicU64>,
    missed: u64,
}

/// One record, before and after. Bytes may be cut.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tapped {
    pub generation: u64,
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub before: Content,
    pub said: Said,
}

/// What the transform said of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    Keep,
    Drop,
    Emit {
        outputs: Vec<Written>,
        /// There were more than are here.
        more: usize,
    },
    /// With the guest's reason.
    Reject(String),
    /// With its code and particulars, which may hold what a guest said.
    Fault(&'static str, String),
}

/// One output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    pub topic: Arc<str>,
    pub content: Content,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Content {
    pub key: Option<Piece>,
    pub value: Option<Piece>,
    pub headers: Vec<(Piece, Option<Piece>)>,
}

/// Bytes, or the beginning of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Piece {
    pub bytes: Vec<u8>,
    /// How many there were.
    pub length: usize,
}

impl Piece {
    pub fn is_cut(&self) -> bool {
        self.bytes.len() < self.length
    }
}

impl Tap {
    /// Whether anybody looks. Asked once a batch.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Relaxed)
    }

    pub fn listen(self: &Arc<Self>, choice: Choice) -> Listening {
        let (send, records) = channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Listener { choice, send, dropped: Arc::clone(&dropped), second: Instant::now(), taken: 0 });
        self.open.store(true, Ordering::Relaxed);
        Listening { tap: Arc::clone(self), records, dropped, missed: self.missed.load(Ordering::Relaxed) }
    }

    /// Shows one record to those who want it. Never waits, neither for them nor for another worker.
    fn show(&self, seen: &Seen<'_>, now: Instant) {
        let Ok(mut listeners) = self.listeners.try_lock() else {
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let mut copy = None;
        for listener in listeners.iter_mut().filter(|listener| listener.wants(seen)) {
            match listener.has_room(now) {
                true => drop(listener.send.try_send(copy.get_or_insert_with(|| seen.copy()).clone())),
                false => drop(listener.dropped.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }
}

impl Listener {
    fn wants(&self, seen: &Seen<'_>) -> bool {
        let partition = self.choice.partition.is_none_or(|partition| partition == seen.message.partition());
        partition && (!self.choice.failed || matches!(seen.settled, Settled::Reject(_) | Settled::Fault(_)))
    }

    /// Under the rate, and in the queue, to which nobody else adds meanwhile.
    fn has_room(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.taken) = (now, 0);
        }
        let room = self.taken < PER_SECOND && self.send.capacity() > 0;
        self.taken += u32::from(room);
        room
    }
}

impl Listening {
    /// Records that this listener wanted and has not got; those that another worker's hand kept from everybody count too.
    pub fn dropped(&self) -> u64 {
        let missed = self.tap.missed.load(Ordering::Relaxed).saturating_sub(self.missed);
        self.dropped.load(Ordering::Relaxed) + missed
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut listeners = self.tap.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| !Arc::ptr_eq(&listener.dropped, &self.dropped));
        self.tap.open.store(!listeners.is_empty(), Ordering::Relaxed);
    }
}

/// A worker's view of a tap that is open, for one batch.
#[derive(Debug)]
pub struct Onlookers<'a> {
    tap: &'a Tap,
    plan: &'a Plan,
    generation: u64,
    /// The transform's own, by its own index.
    outputs: Vec<Arc<str>>,
}

impl<'a> Onlookers<'a> {
    /// `None`: nobody looks.
    pub fn of(plan: &'a Plan, transform: &'a TransformPlan, generation: &Generation) -> Option<Self> {
        transform.tap.is_open().then(|| Onlookers {
            tap: &transform.tap,
            plan,
            generation: generation.number(),
            outputs: transform.outputs.iter().map(|index| Arc::clone(&plan.outputs[*index as usize].name)).collect(),
        })
    }

    pub fn show(&self, message: &Message<'_>, settled: &Settled<'_>) {
        let topic = &self.plan.inputs[message.topic() as usize].name;
        let seen = Seen { generation: self.generation, topic, outputs: &self.outputs, message, settled };
        self.tap.show(&seen, Instant::now());
    }
}

/// One record and what was said of it, as the worker has them.
#[derive(Clone, Copy, Debug)]
struct Seen<'a> {
    generation: u64,
    topic: &'a Arc<str>,
    outputs: &'a [Arc<str>],
    message: &'a Message<'a>,
    settled: &'a Settled<'a>,
}

impl Seen<'_> {
    fn copy(&self) -> Tapped {
        let mut room = Room(RECORD_MAX);
        let message = self.message;
        let mut headers = Vec::new();
        let _ = message.headers(&mut headers);
        let headers = headers.iter().map(|h| Header { key: h.key, value: h.value });
        let before = room.content(message.key(), message.value(), headers);
        let said = match self.settled {
            Settled::Keep => Said::Keep,
            Settled::Drop => Said::Drop,
            Settled::Emit(outputs) => Said::Emit {
                outputs: outputs
                    .iter()
                    .take(OUTPUTS_MAX)
                    .map(|output| Written {
                        topic: self.outputs.get(output.topic as usize).cloned().unwrap_or_default(),
                        content: room.content(output.key, output.value, output.headers()),
                    })
                    .collect(),
                more: outputs.len().saturating_sub(OUTPUTS_MAX),
            },
            Settled::Reject(reason) => Said::Reject((*reason).to_owned()),
            Settled::Fault(fault) => {
                let detail = &fault.detail[..fault.detail.floor_char_boundary(1024)];
                Said::Fault(fault.code.as_str(), detail.to_owned())
            }
        };
        Tapped {
            generation: self.generation,
            topic: Arc::clone(self.topic),
            partition: message.partition(),
            offset: message.offset().0,
            timestamp_ms: message.timestamp_ms(),
            before,
            said,
        }
    }
}

/// Bytes that may still be copied of a record.
struct Room(usize);

impl Room {
    fn content<'h>(
        &mut self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = Header<'h>>,
    ) -> Content {
        let (key, value) = (key.map(|key| self.piece(key)), value.map(|value| self.piece(value)));
        let header = |h: Header<'h>| (self.piece(h.key), h.value.map(|value| self.piece(value)));
        Content { key, value, headers: headers.take(HEADERS_MAX).map(header).collect() }
    }

    fn piece(&mut self, bytes: &[u8]) -> Piece {
        let part = &bytes[..bytes.len().min(PIECE_MAX).min(self.0)];
        self.0 -= part.len();
        Piece { bytes: part.to_vec(), length: bytes.len() }
    }
}

#[cfg(test)]
mod tests;
