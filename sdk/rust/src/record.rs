//! The input record, borrowed from the batch that the host handed over.

use crate::output::Output;
use crate::settings::Topics;

pub(crate) const HEAD: usize = 40;

/// One input record. Everything it returns borrows from the batch.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    topics: &'a Topics,
    topic: u32,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    pub(crate) headers: &'a [u8],
    pub(crate) header_count: u32,
    /// Key, value and headers, one after the other.
    pub(crate) body: &'a [u8],
}

/// A header of a record. Keys may repeat; they are UTF-8 by convention only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name.
    pub key: &'a [u8],
    /// `None` is a null value.
    pub value: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// The topic it was read from.
    pub fn topic(&self) -> &'a str {
        self.topics.inputs.get(self.topic as usize).map_or("", String::as_str)
    }

    /// The partition it was read from.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since 1970, if it has a timestamp.
    pub fn timestamp_ms(&self) -> Option<i64> {
        (self.timestamp_ms >= 0).then_some(self.timestamp_ms)
    }

    /// Its key; `None` is Kafka's null key, which differs from an empty key.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// Its value; `None` is a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// Its headers, in order.
    pub fn headers(&self) -> Headers<'a> {
        Headers { bytes: self.headers, left: self.header_count }
    }

    /// The value of the last header with this key, which by convention is the one that counts. The outer `None` means
    /// that there is none, the inner that it is null.
    pub fn header(&self, key: &str) -> Option<Option<&'a [u8]>> {
        self.headers().filter(|header| header.key == key.as_bytes()).last().map(|header| header.value)
    }

    /// A copy to change and emit: same key, value, headers and timestamp, to the default output topic. Headers reserved
    /// for dead letters (`__dlq.errors.`, `pelton.error.`) are not copied: only
    /// [`Outcome::Keep`](crate::Outcome::Keep) passes them on.
    pub fn output(&self) -> Output<'a> {
        Output::like(self)
    }

    /// The next frame of `batch`, which the host framed; `None` at its end.
    #[inline]
    pub(crate) fn next(batch: &mut &'a [u8], topics: &'a Topics) -> Option<Self> {
        let head: &[u8; HEAD] = batch.first_chunk()?;
        let total = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let (frame, rest) = batch.split_at_checked(total)?;
        let body = frame.get(HEAD..)?;
        let (key, after) = field(body, i32_in(head, 12))?;
        let (value, headers) = field(after, i32_in(head, 32))?;
        *batch = rest;
        Some(Self {
            topics,
            topic: i32_in(head, 4) as u32,
            partition: i32_in(head, 8),
            offset: i64_in(head, 16),
            timestamp_ms: i64_in(head, 24),
            key,
            value,
            headers,
            header_count: i32_in(head, 36) as u32,
            body,
        })
    }
}

/// The headers of a record, in order.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    left: u32,
}

impl<'a> Headers<'a> {
    pub(crate) fn new(bytes: &'a [u8], left: u32) -> Self {
        Self { bytes, left }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        let head: &[u8; 8] = self.bytes.first_chunk()?;
        let key_len = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let value_len = i32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let (key, rest) = self.bytes[8..].split_at_checked(key_len)?;
        let (value, rest) = field(rest, value_len)?;
        self.bytes = rest;
        Some(Header { key, value })
    }
}

#[inline]
pub(crate) fn field(bytes: &[u8], len: i32) -> Option<(Option<&[u8]>, &[u8])> {
    if len < 0 {
        return Some((None, bytes));
    }
    bytes.split_at_checked(len as usize).map(|(field, rest)| (Some(field), rest))
}

#[inline]
pub(crate) fn i32_in<const N: usize>(head: &[u8; N], at: usize) -> i32 {
    i32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

#[inline]
pub(crate) fn i64_in<const N: usize>(head: &[u8; N], at: usize) -> i64 {
    i64::from(i32_in(head, at + 4)) << 32 | i64::from(i32_in(head, at) as u32)
}
