//! The window: memory at a fixed address in which the guest leaves outcomes, and the cell that says how many there are.
//! `unsafe`: the cell's bytes are shown to the host as a slice once, and changed afterwards.
//!
//! Order matters: a host that reads between two steps, or after a trap, must find every outcome that the cell counts.
//! So an outcome's bytes are written first, then the cell's byte count, then its record count, the last two with
//! release ordering.

use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the buffer.
pub(crate) const SIZE: usize = 256 << 10;
/// Kinds of outcomes.
pub(crate) const KEEP: u32 = 0;
pub(crate) const EMIT: u32 = 1;
pub(crate) const REJECT: u32 = 2;
const REASON_BYTES: usize = 1024;

/// Records settled and bytes used, as the host reads them.
#[derive(Debug)]
#[repr(C, align(8))]
struct Cell([AtomicU32; 2]);

/// What the window needs from its host.
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only a guest announces its window"))]
pub(crate) trait Sink {
    fn window(cell: &[u8], buffer: &[u8]) -> u64;
    fn flush();
    fn commit(index: u32, outcome: &[u8]);
}

/// Where outcomes go.
#[derive(Debug)]
pub(crate) struct Window {
    cell: Box<Cell>,
    /// Never grows beyond `SIZE`, its capacity, so it never moves.
    buffer: Vec<u8>,
    /// Where the outcome of the current record begins in `buffer`.
    start: usize,
    /// That outcome, when it outgrew the buffer.
    spill: Vec<u8>,
    spilled: bool,
    settled: u32,
    flush: fn(),
    commit: fn(u32, &[u8]),
}

impl Window {
    /// Allocates the window; with `announce`, tells the host about it.
    pub(crate) fn new<S: Sink>(announce: bool) -> Self {
        let window = Self {
            cell: Box::new(Cell([AtomicU32::new(0), AtomicU32::new(0)])),
            buffer: vec![0; SIZE],
            start: 0,
            spill: Vec::new(),
            spilled: false,
            settled: 0,
            flush: S::flush,
            commit: S::commit,
        };
        if announce {
            let nonce = S::window(window.cell_bytes(), &window.buffer).to_le_bytes();
            let word = |at: usize| u32::from_le_bytes([nonce[at], nonce[at + 1], nonce[at + 2], nonce[at + 3]]);
            window.cell.0[0].store(word(0).to_le(), Ordering::Release);
            window.cell.0[1].store(word(4).to_le(), Ordering::Release);
        }
        window
    }

    #[allow(unsafe_code, reason = "atomics as the bytes that the component ABI wants")]
    fn cell_bytes(&self) -> &[u8] {
        let cell: *const Cell = &*self.cell;
        // SAFETY: two `AtomicU32` are 8 initialised bytes without padding, alive as long as `self`. The slice ends with
        // the call of `window`, during which nothing is stored.
        unsafe { std::slice::from_raw_parts(cell.cast::<u8>(), size_of::<Cell>()) }
    }

    pub(crate) fn begin_batch(&mut self) {
        self.settled = 0;
        self.restart();
        self.publish();
    }

    #[inline]
    pub(crate) fn begin_record(&mut self) {
        self.start = self.buffer.len();
        if self.start + 4 > SIZE {
            self.flush();
        }
        self.buffer.extend_from_slice(&[0; 4]);
    }

    /// Where to append `len` bytes of the current outcome.
    #[inline]
    pub(crate) fn room(&mut self, len: usize) -> &mut Vec<u8> {
        if self.spilled {
            return &mut self.spill;
        }
        if len > SIZE - self.buffer.len() {
            return self.make_room(len);
        }
        &mut self.buffer
    }

    /// Ends the current outcome, with or without the bytes that were appended.
    #[inline]
    pub(crate) fn settle(&mut self, kind: u32) {
        if self.spilled {
            return self.commit(kind);
        }
        if kind == KEEP {
            self.buffer.truncate(self.start + 4);
        }
        let head = (self.buffer.len() - self.start - 4) as u32;
        self.buffer[self.start..self.start + 4].copy_from_slice(&(head << 2 | kind).to_le_bytes());
        self.settled += 1;
        self.publish();
    }

    /// Settles the current outcome without outputs.
    #[inline]
    pub(crate) fn drop_record(&mut self) {
        self.discard();
        self.settle(EMIT);
    }

    pub(crate) fn reject(&mut self, reason: &str) {
        self.discard();
        let mut end = reason.len().min(REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        self.room(end).extend_from_slice(&reason.as_bytes()[..end]);
        self.settle(REJECT);
    }

    /// Discards what the current record emitted.
    pub(crate) fn discard(&mut self) {
        if self.spilled {
            self.spilled = false;
            self.spill = Vec::new();
            self.buffer.extend_from_slice(&[0; 4]);
        }
        self.buffer.truncate(self.start + 4);
    }

    #[inline]
    fn publish(&self) {
        self.cell.0[1].store((self.buffer.len() as u32).to_le(), Ordering::Release);
        self.cell.0[0].store(self.settled.to_le(), Ordering::Release);
    }

    /// Hands over the finished outcomes; the current one moves to the buffer's start.
    #[cold]
    fn flush(&mut self) {
        if self.start > 0 {
            (self.flush)();
            self.buffer.drain(..self.start);
            self.start = 0;
            self.cell.0[1].store(0, Ordering::Release);
        }
    }

    #[cold]
    fn make_room(&mut self, len: usize) -> &mut Vec<u8> {
        self.flush();
        if len <= SIZE - self.buffer.len() {
            return &mut self.buffer;
        }
        self.spill.extend_from_slice(&self.buffer);
        self.buffer.clear();
        self.spilled = true;
        &mut self.spill
    }

    /// The buffer is empty here: it was flushed when the outcome outgrew it.
    #[cold]
    fn commit(&mut self, kind: u32) {
        let head = (self.spill.len() - 4) as u32;
        self.spill[..4].copy_from_slice(&(head << 2 | kind).to_le_bytes());
        (self.commit)(self.settled, &self.spill);
        self.spill = Vec::new();
        self.spilled = false;
        self.settled += 1;
        self.publish();
    }

    fn restart(&mut self) {
        self.buffer.clear();
        self.start = 0;
        self.spill = Vec::new();
        self.spilled = false;
    }

    /// The outcomes that are in the buffer, for tests without a host.
    #[cfg_attr(target_family = "wasm", allow(dead_code, reason = "a guest's host reads memory"))]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
