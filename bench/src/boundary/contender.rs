//! Who does the work: the native side or an instance of a guest. Both append what comes out to a buffer of their own, as
//! output frames (docs/reference/packed-frames.md), so that the bytes can be compared.
//!
//! The native side writes straight into that buffer, with nothing in between: it is what could be had without a sandbox.

use anyhow::{Context, Result, anyhow, bail};
use boundary_work::{Verdict, Work};
use pelton_sandbox::{Header, Instance, Record, Settled};

/// Records of one call.
const BATCH: usize = 100;
const HEAD: usize = 32;
/// "the input's timestamp"
const INHERIT: i64 = i64::MIN;

pub(crate) struct Contender {
    side: Side,
    sink: Vec<u8>,
}

enum Side {
    Native(Work),
    Guest(Box<Instance>, Reading),
}

/// How a guest's outputs are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The frames of a record's outputs at once.
    Frames,
    /// Field by field, as for a producer.
    Fields,
}

impl Contender {
    pub(crate) fn native(work: Work) -> Self {
        Self { side: Side::Native(work), sink: Vec::with_capacity(1 << 20) }
    }

    pub(crate) fn guest(instance: Instance, reading: Reading) -> Self {
        Self { side: Side::Guest(Box::new(instance), reading), sink: Vec::with_capacity(1 << 20) }
    }

    /// Does all records once; what came out is in `sink`.
    pub(crate) fn pass(&mut self, records: &[Record<'_>]) -> Result<()> {
        let sink = &mut self.sink;
        sink.clear();
        match &mut self.side {
            Side::Native(work) => records.iter().try_for_each(|record| by_native(*work, record, sink)),
            Side::Guest(instance, reading) => {
                records.chunks(BATCH).try_for_each(|batch| by_guest(instance, *reading, batch, sink))
            }
        }
    }

    pub(crate) fn sink(&self) -> &[u8] {
        &self.sink
    }
}

#[inline]
fn by_native(work: Work, record: &Record<'_>, sink: &mut Vec<u8>) -> Result<()> {
    let value = record.value.unwrap_or_default();
    if work == Work::Keep {
        return put_input(sink, record);
    }
    put(sink, INHERIT, record.key, record.headers.iter().copied(), |sink| {
        Ok(match work.apply(value, sink)? {
            Verdict::Keep | Verdict::Copy => append(sink, value)?,
            Verdict::Changed => true,
            Verdict::Drop => false,
        })
    })
}

fn by_guest(instance: &mut Instance, reading: Reading, batch: &[Record<'_>], sink: &mut Vec<u8>) -> Result<()> {
    let ran = instance.run(batch, &mut |index, settled| match &settled {
        Settled::Keep => put_input(sink, &batch[index]),
        Settled::Drop => Ok(()),
        Settled::Emit(outputs) if reading == Reading::Frames => {
            sink.extend_from_slice(outputs.frames());
            Ok(())
        }
        Settled::Emit(outputs) => outputs.iter().try_for_each(|output| {
            let value = output.value.unwrap_or_default();
            let timestamp_ms = output.timestamp_ms.unwrap_or(INHERIT);
            put(sink, timestamp_ms, output.key, output.headers(), |sink| append(sink, value))
        }),
        Settled::Reject(_) | Settled::Fault(_) => bail!("record {index}: {settled:?}"),
    });
    ran.map_err(|error| anyhow!("{error:?}"))
}

#[inline]
fn put_input(sink: &mut Vec<u8>, record: &Record<'_>) -> Result<()> {
    let value = record.value.unwrap_or_default();
    put(sink, record.timestamp_ms, record.key, record.headers.iter().copied(), |sink| append(sink, value))
}

#[inline]
fn append(sink: &mut Vec<u8>, value: &[u8]) -> Result<bool> {
    sink.extend_from_slice(value);
    Ok(true)
}

/// Appends a frame to the default topic and no partition, unless `value` says that there is none.
#[inline]
fn put<'a>(
    sink: &mut Vec<u8>,
    timestamp_ms: i64,
    key: Option<&[u8]>,
    headers: impl Iterator<Item = Header<'a>>,
    value: impl FnOnce(&mut Vec<u8>) -> Result<bool>,
) -> Result<()> {
    let start = sink.len();
    let mut head = [0u8; HEAD];
    head[8..12].copy_from_slice(&(-1i32).to_le_bytes());
    head[12..16].copy_from_slice(&len_of(key).to_le_bytes());
    head[16..24].copy_from_slice(&timestamp_ms.to_le_bytes());
    sink.extend_from_slice(&head);
    sink.extend_from_slice(key.unwrap_or_default());
    let value_start = sink.len();
    if !value(sink)? {
        sink.truncate(start);
        return Ok(());
    }
    let value_len = (sink.len() - value_start) as i32;
    let mut count = 0u32;
    for header in headers {
        sink.extend_from_slice(&(header.key.len() as u32).to_le_bytes());
        sink.extend_from_slice(&len_of(header.value).to_le_bytes());
        sink.extend_from_slice(header.key);
        sink.extend_from_slice(header.value.unwrap_or_default());
        count += 1;
    }
    let total = (sink.len() - start) as u32;
    let head = &mut sink[start..start + HEAD];
    head[0..4].copy_from_slice(&total.to_le_bytes());
    head[24..28].copy_from_slice(&value_len.to_le_bytes());
    head[28..32].copy_from_slice(&count.to_le_bytes());
    Ok(())
}

fn len_of(bytes: Option<&[u8]>) -> i32 {
    bytes.map_or(-1, |bytes| bytes.len() as i32)
}

/// How many frames `put` appended.
pub(crate) fn frames(mut sink: &[u8]) -> Result<usize> {
    let mut count = 0;
    while !sink.is_empty() {
        let total = sink.first_chunk().map(|head| u32::from_le_bytes(*head) as usize);
        sink = total.and_then(|total| sink.get(total..)).context("a frame is cut short")?;
        count += 1;
    }
    Ok(count)
}
