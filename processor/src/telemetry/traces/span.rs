//! Spans as workers make them: ids, times, and numbers and names that already exist, so that making one formats no
//! text. [`super::otlp`] decides what a collector sees.
//!
//! ```text
//! the record's trace:        … producer ──► process ──► (its outputs' readers) …
//!                                            ▲   ▲  ▲
//! the transaction's trace:   transaction ─┬─ receive (links to producers)
//!                                         ├─ send ──┘ (links)
//!                                         └─ commit ─┘ (links)
//! ```

use super::context::{Context, SpanId, TraceId};
use std::borrow::Cow;
use std::sync::Arc;

/// Links of one span; what is more is counted. The specification's default.
pub const LINKS_MAX: usize = 128;

/// One span, when it is over.
#[derive(Clone, PartialEq, Debug)]
pub struct Span {
    pub trace: TraceId,
    pub id: SpanId,
    pub parent: Option<Parent>,
    /// Nanoseconds since 1970.
    pub start: u64,
    pub end: u64,
    pub links: Links,
    pub what: What,
    /// Why it failed: a code of ours or the name of a broker's error.
    pub error: Option<Cow<'static, str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parent {
    pub id: SpanId,
    /// In another process.
    pub remote: bool,
}

/// At most [`LINKS_MAX`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Links {
    pub all: Vec<Link>,
    pub dropped: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Link {
    pub to: Context,
    pub remote: bool,
}

impl Links {
    pub fn add(&mut self, to: Context, remote: bool) {
        if self.all.len() < LINKS_MAX {
            self.all.push(Link { to, remote });
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What {
    /// From the first record to the report of the end; only of transactions in which something is followed.
    Transaction { group: Arc<str>, worker: usize, lane: usize, records: u64, committed: bool },
    /// A batch, taken and made part of its transaction. Topic and partition where it has but one.
    Receive { group: Arc<str>, topic: Option<Arc<str>>, partition: Option<i32>, records: u64 },
    /// One record through one transform.
    Process { group: Arc<str>, topic: Arc<str>, partition: i32, offset: i64, transform: Arc<str>, settled: Settled },
    /// Records of one batch and transform handed to the producer, for one topic.
    Send { topic: Arc<str>, transform: Arc<str>, records: u64 },
    /// Outputs and positions, from the seal to the report.
    Commit { group: Arc<str>, records: u64, committed: bool },
}

/// How a record came by its outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settled {
    pub outcome: &'static str,
    pub generation: u64,
}
