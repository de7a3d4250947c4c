//! Owns the shapes that cross this crate's border: what a caller hands in (`Record`, `Header`) and what it gets back for
//! each of them (`Settled`, `Outputs`, `OutputRecord`). Everything is borrowed; nothing here checks anything, that is
//! `frame`'s work and done before a `Settled` exists.

use crate::fault::Fault;
use crate::frame::Frames;

/// One input record, borrowed from the consumer's batch.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// An index into `Spec::inputs`.
    pub topic: u32,
    /// The partition it came from.
    pub partition: i32,
    /// Its own offset.
    pub offset: i64,
    /// Milliseconds since 1970, -1 where it carries none.
    pub timestamp_ms: i64,
    /// `None` is Kafka's null key, which is not an empty key.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// In order, repeats included.
    pub headers: &'a [Header<'a>],
}

/// A header of a record. Keys may repeat and need not be UTF-8; a value may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// UTF-8 by convention only.
    pub key: &'a [u8],
    /// `None` is a null value.
    pub value: Option<&'a [u8]>,
}

/// What became of one input record.
#[derive(Debug)]
pub enum Settled<'a> {
    /// The input goes to the first output topic as it is.
    Keep,
    /// Nothing is written.
    Drop,
    /// These are written, in this order. At least one.
    Emit(Outputs<'a>),
    /// The guest refused the record, for this reason (cut to 1 KiB). Guest text: not for logs (I10).
    Reject(&'a str),
    /// The guest failed on this record, or broke a limit or the contract.
    Fault(Box<Fault>),
}

/// It is handed on for every record (decision 20).
const _: () = assert!(size_of::<Settled<'static>>() <= 32);

/// The checked outputs of one input record.
#[derive(Debug, Clone, Copy)]
pub struct Outputs<'a> {
    pub(crate) frames: &'a [u8],
    pub(crate) count: u32,
}

impl<'a> Outputs<'a> {
    /// How many records.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Never true inside `Settled::Emit`: an emit of nothing is a `Drop`.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of all frames: keys, values, headers and 32 to 40 bytes a record besides.
    pub fn bytes(&self) -> usize {
        self.frames.len()
    }

    /// Their frames (docs/reference/packed-frames.md), one after the other, as the guest wrote them. Equal bytes are equal
    /// outputs.
    pub fn frames(&self) -> &'a [u8] {
        self.frames
    }

    /// The records, in the guest's order. May be called again.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = OutputRecord<'a>> + use<'a> {
        Frames::new(self.frames)
    }
}

/// One record that a guest wants written.
#[derive(Debug, Clone, Copy)]
pub struct OutputRecord<'a> {
    /// An index into `Spec::outputs`, in range.
    pub topic: u32,
    /// `None`: by the key; without one, by the input's partition. Not negative; whether the topic has it is not known here.
    pub partition: Option<i32>,
    /// `None`: the input's.
    pub timestamp_ms: Option<i64>,
    /// `None` is a null key.
    pub key: Option<&'a [u8]>,
    /// `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    pub(crate) headers: &'a [u8],
    pub(crate) header_count: u32,
}

impl<'a> OutputRecord<'a> {
    /// How many headers.
    pub fn header_count(&self) -> usize {
        self.header_count as usize
    }

    /// The headers, in order.
    #[inline]
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        crate::frame::Headers::new(self.headers, self.header_count)
    }
}
