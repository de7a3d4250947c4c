//! Owns the byte layout of packed frames (docs/reference/packed-frames.md): writes input frames, and checks whatever a
//! guest claims to be outcomes. Promises that no byte sequence makes it panic or loop, and that what it accepted can be
//! walked again without checks. Refuses every length that does not add up, and every topic, partition, timestamp and
//! header that is not a guest's to use.

use crate::fault::{Fault, FaultCode};
use crate::record::{Header, OutputRecord, Outputs, Record, Settled};

const INPUT_HEAD: usize = 40;
const OUTPUT_HEAD: usize = 32;
const HEADER_HEAD: usize = 8;
/// "the input's timestamp"
pub(crate) const INHERIT: i64 = i64::MIN;
/// Kinds of outcomes.
const KEEP: u32 = 0;
pub(crate) const EMIT: u32 = 1;
const REJECT: u32 = 2;
const REASON_BYTES: usize = 1024;
/// Header keys that only Pelton writes: on dead letters.
const RESERVED: [&[u8]; 2] = [b"__dlq.errors.", b"pelton.error."];

/// The limits that a record's outputs are held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Output topics granted: indices below this.
    pub(crate) topics: u32,
    pub(crate) outputs: u32,
    pub(crate) output_bytes: u32,
}

/// Bytes of the input frame of `record`, or `None` where it cannot be framed at all (over 2 GiB).
pub(crate) fn input_len(record: &Record<'_>) -> Option<usize> {
    let mut total = INPUT_HEAD + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
    for header in record.headers {
        total += HEADER_HEAD + header.key.len() + header.value.map_or(0, <[u8]>::len);
    }
    (total <= i32::MAX as usize).then_some(total)
}

/// Writes the input frames of `records` to the beginning of `out`, which grows where they do not fit; what is behind them
/// is old. `None`: `total` is not the sum of their [`input_len`], and what is there is not to be used.
pub(crate) fn encode_inputs(out: &mut Vec<u8>, records: &[Record<'_>], total: usize) -> Option<()> {
    if out.len() < total {
        out.resize(total, 0);
    }
    let mut room = Room(&mut out[..total]);
    records.iter().try_for_each(|record| encode_input(&mut room, record))?;
    room.0.is_empty().then_some(())
}

/// What is left of the memory to write to. Writing into bytes that are there costs less than appending them.
struct Room<'a>(&'a mut [u8]);

impl<'a> Room<'a> {
    #[inline]
    fn take<const N: usize>(&mut self) -> Option<&'a mut [u8; N]> {
        let (taken, rest) = std::mem::take(&mut self.0).split_first_chunk_mut()?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let (taken, rest) = std::mem::take(&mut self.0).split_at_mut_checked(bytes.len())?;
        taken.copy_from_slice(bytes);
        self.0 = rest;
        Some(())
    }
}

/// Every length fits: it is at most that of the frame, which is at most i32::MAX.
#[inline]
fn encode_input(room: &mut Room<'_>, record: &Record<'_>) -> Option<()> {
    let before = room.0.len();
    let head = room.take::<INPUT_HEAD>()?;
    room.put(record.key.unwrap_or_default())?;
    room.put(record.value.unwrap_or_default())?;
    for Header { key, value } in record.headers {
        let [key_len, value_len] = [key.len() as u32, len_of(*value).cast_unsigned()];
        *room.take()? = (u64::from(value_len) << 32 | u64::from(key_len)).to_le_bytes();
        room.put(key)?;
        room.put(value.unwrap_or_default())?;
    }
    let total = before - room.0.len();
    head[0..4].copy_from_slice(&(total as u32).to_le_bytes());
    head[4..8].copy_from_slice(&record.topic.to_le_bytes());
    head[8..12].copy_from_slice(&record.partition.to_le_bytes());
    head[12..16].copy_from_slice(&len_of(record.key).to_le_bytes());
    head[16..24].copy_from_slice(&record.offset.to_le_bytes());
    head[24..32].copy_from_slice(&record.timestamp_ms.to_le_bytes());
    head[32..36].copy_from_slice(&len_of(record.value).to_le_bytes());
    head[36..40].copy_from_slice(&(record.headers.len() as u32).to_le_bytes());
    Some(())
}

/// An output as the typed world hands it over. It came out of one guest memory, so its lengths fit.
pub(crate) struct NewOutput<'a, H> {
    pub(crate) topic: u32,
    pub(crate) partition: i32,
    pub(crate) timestamp_ms: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: H,
    pub(crate) header_count: u32,
}

/// Appends the frame of an output.
pub(crate) fn encode_output<'a, H: Iterator<Item = Header<'a>>>(out: &mut Vec<u8>, output: NewOutput<'a, H>) {
    let start = out.len();
    out.extend_from_slice(&[0; OUTPUT_HEAD]);
    out.extend_from_slice(output.key.unwrap_or_default());
    out.extend_from_slice(output.value.unwrap_or_default());
    for header in output.headers {
        out.extend_from_slice(&(header.key.len() as u32).to_le_bytes());
        out.extend_from_slice(&len_of(header.value).to_le_bytes());
        out.extend_from_slice(header.key);
        out.extend_from_slice(header.value.unwrap_or_default());
    }
    let total = (out.len() - start) as u32;
    let head = &mut out[start..start + OUTPUT_HEAD];
    head[0..4].copy_from_slice(&total.to_le_bytes());
    head[4..8].copy_from_slice(&output.topic.to_le_bytes());
    head[8..12].copy_from_slice(&output.partition.to_le_bytes());
    head[12..16].copy_from_slice(&len_of(output.key).to_le_bytes());
    head[16..24].copy_from_slice(&output.timestamp_ms.to_le_bytes());
    head[24..28].copy_from_slice(&len_of(output.value).to_le_bytes());
    head[28..32].copy_from_slice(&output.header_count.to_le_bytes());
}

fn len_of(bytes: Option<&[u8]>) -> i32 {
    bytes.map_or(-1, |b| b.len() as i32)
}

/// Splits the next outcome off `window`: its kind and its bytes. `None`: cut short.
#[inline]
pub(crate) fn split_outcome<'a>(window: &mut &'a [u8]) -> Option<(u32, &'a [u8])> {
    let head = u32_at(window, 0)?;
    let end = 4 + (head >> 2) as usize; // at most 2^30 + 3
    let bytes = window.get(4..end)?;
    *window = &window[end..];
    Some((head & 3, bytes))
}

/// What an outcome of the window means, or whose limit or rule it breaks.
///
/// Here and below values are small enough for registers, faults in boxes: one that is written field by field and read as a
/// whole makes the CPU wait, for as long as half of a record's checks take.
#[inline]
pub(crate) fn judge<'a>(kind: u32, bytes: &'a [u8], rules: &Rules) -> Result<Settled<'a>, Box<Fault>> {
    match kind {
        KEEP if bytes.is_empty() => Ok(Settled::Keep),
        EMIT if bytes.is_empty() => Ok(Settled::Drop),
        EMIT => Ok(Settled::Emit(Outputs { frames: bytes, count: check_outputs(bytes, rules)? })),
        REJECT => Ok(Settled::Reject(reason(bytes))),
        _ => Err(contract("an outcome of an unknown kind, or a keep with bytes")),
    }
}

/// A reason as text: its longest valid UTF-8 beginning of at most 1 KiB.
pub(crate) fn reason(bytes: &[u8]) -> &str {
    let bytes = &bytes[..bytes.len().min(REASON_BYTES)];
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

/// Checks the output frames of one record against layout, grants and limits. Returns how many there are.
pub(crate) fn check_outputs(bytes: &[u8], rules: &Rules) -> Result<u32, Box<Fault>> {
    if bytes.len() > rules.output_bytes as usize {
        return Err(too_large(bytes.len(), rules));
    }
    let (mut rest, mut count) = (bytes, 0u32);
    while !rest.is_empty() {
        if count == rules.outputs {
            return Err(too_many(rules));
        }
        let total = check_output(rest, rules)?;
        rest = &rest[total..];
        count += 1;
    }
    Ok(count)
}

/// The length of the frame at the start of `bytes`, all of it checked.
#[inline]
fn check_output(bytes: &[u8], rules: &Rules) -> Result<usize, Box<Fault>> {
    let frame = RawFrame::read(bytes).ok_or_else(|| contract("an output frame whose lengths do not add up"))?;
    if frame.topic >= rules.topics {
        return Err(not_granted(frame.topic, rules));
    }
    if frame.partition < -1 {
        return Err(contract("a negative output partition"));
    }
    if frame.timestamp_ms < -1 && frame.timestamp_ms != INHERIT {
        return Err(contract("a negative output timestamp"));
    }
    let mut rest = frame.headers;
    // each header takes at least eight bytes, so a count that lies ends with the bytes
    for _ in 0..frame.header_count {
        let (header, after) = split_header(rest).ok_or_else(|| contract("a header whose lengths do not add up"))?;
        if RESERVED.iter().any(|prefix| header.key.starts_with(prefix)) {
            return Err(fault(FaultCode::OutputHeader, "a header key that is reserved for dead letters"));
        }
        rest = after;
    }
    if rest.is_empty() { Ok(frame.total) } else { Err(contract("an output frame with bytes after its headers")) }
}

#[cold]
fn too_large(bytes: usize, rules: &Rules) -> Box<Fault> {
    fault(FaultCode::OutputTooLarge, format!("{bytes} bytes of output, {} allowed", rules.output_bytes))
}

#[cold]
fn too_many(rules: &Rules) -> Box<Fault> {
    fault(FaultCode::OutputTooMany, format!("more than {} outputs", rules.outputs))
}

#[cold]
fn not_granted(topic: u32, rules: &Rules) -> Box<Fault> {
    fault(FaultCode::OutputTopic, format!("output topic number {topic}, {} granted", rules.topics))
}

#[cold]
fn contract(what: &str) -> Box<Fault> {
    fault(FaultCode::Contract, what)
}

fn fault(code: FaultCode, detail: impl AsRef<str>) -> Box<Fault> {
    Box::new(Fault::new(code, detail))
}

struct RawFrame<'a> {
    total: usize,
    topic: u32,
    partition: i32,
    timestamp_ms: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    header_count: u32,
    headers: &'a [u8],
}

impl<'a> RawFrame<'a> {
    #[inline]
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let total = u32_at(bytes, 0)? as usize;
        let frame = bytes.get(..total)?;
        let head: &[u8; OUTPUT_HEAD] = frame.first_chunk()?;
        let (key, rest) = split_bytes(&frame[OUTPUT_HEAD..], i32_in(head, 12))?;
        let (value, headers) = split_bytes(rest, i32_in(head, 24))?;
        Some(Self {
            total,
            topic: i32_in(head, 4).cast_unsigned(),
            partition: i32_in(head, 8),
            timestamp_ms: i64::from(i32_in(head, 20)) << 32 | i64::from(i32_in(head, 16).cast_unsigned()),
            key,
            value,
            header_count: i32_in(head, 28).cast_unsigned(),
            headers,
        })
    }
}

/// `at` is a constant below `OUTPUT_HEAD - 3`.
#[inline]
fn i32_in(head: &[u8; OUTPUT_HEAD], at: usize) -> i32 {
    i32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

#[inline]
fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b))
}

#[inline]
fn split_bytes(bytes: &[u8], len: i32) -> Option<(Option<&[u8]>, &[u8])> {
    match usize::try_from(len) {
        Ok(len) => bytes.split_at_checked(len).map(|(field, rest)| (Some(field), rest)),
        Err(_) => (len == -1).then_some((None, bytes)),
    }
}

#[inline]
fn split_header(bytes: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEADER_HEAD>()?;
    let lengths = u64::from_le_bytes(*head);
    let (key_len, value_len) = (lengths as u32, ((lengths >> 32) as u32).cast_signed());
    let (key, rest) = rest.split_at_checked(key_len as usize)?;
    let (value, rest) = split_bytes(rest, value_len)?;
    Some((Header { key, value }, rest))
}

/// Walks frames that `check_outputs` accepted.
pub(crate) struct Frames<'a>(&'a [u8]);

impl<'a> Frames<'a> {
    #[inline]
    pub(crate) fn new(checked: &'a [u8]) -> Self {
        Self(checked)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = OutputRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<OutputRecord<'a>> {
        let frame = RawFrame::read(self.0)?;
        self.0 = &self.0[frame.total..];
        Some(OutputRecord {
            topic: frame.topic,
            partition: (frame.partition >= 0).then_some(frame.partition),
            timestamp_ms: (frame.timestamp_ms >= 0).then_some(frame.timestamp_ms),
            key: frame.key,
            value: frame.value,
            headers: frame.headers,
            header_count: frame.header_count,
        })
    }
}

/// Walks headers that `check_outputs` accepted.
pub(crate) struct Headers<'a>(&'a [u8], u32);

impl<'a> Headers<'a> {
    #[inline]
    pub(crate) fn new(checked: &'a [u8], count: u32) -> Self {
        Self(checked, count)
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    #[inline]
    fn next(&mut self) -> Option<Header<'a>> {
        self.1 = self.1.checked_sub(1)?;
        let (header, rest) = split_header(self.0)?;
        self.0 = rest;
        Some(header)
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
