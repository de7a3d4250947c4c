//! Owns the window: the guest memory in which a packed guest leaves its outcomes, and the cell that says how many. Refuses
//! windows that are announced twice, outside `configure`, misaligned, overlapping or of a silly size, and those that are
//! copies (the nonce). Promises that what it reads is live memory of this store, also after a trap.
//!
//! `unsafe`: a guest call holds the store while it runs, so at a yield the count is read behind the
//! store's back. `watched` confines that to the duration of the call. Nothing else is read that way.

#![allow(unsafe_code, reason = "the count is read at yields, while the call's future holds the store")]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};

use wasmtime::component::WasmList;
use wasmtime::{AsContext, Store};

use crate::fault::{Fault, FaultCode};

const CELL_BYTES: usize = 8;
pub(crate) const MIN_BUFFER: usize = 4 << 10;
pub(crate) const MAX_BUFFER: usize = 16 << 20;

/// What a guest announced in `configure`. `WasmList` holds indices, not addresses: memory is looked up at each read.
pub(crate) struct Window {
    cell: WasmList<u8>,
    buffer: WasmList<u8>,
    nonce: u64,
}

/// The cell's content. Both numbers are the guest's claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) count: u32,
    pub(crate) bytes: u32,
}

impl Window {
    /// Checks the shape of an announcement.
    pub(crate) fn announce<T: 'static>(
        store: &impl AsContext<Data = T>,
        cell: WasmList<u8>,
        buffer: WasmList<u8>,
        nonce: u64,
    ) -> Result<Self, Fault> {
        let (at, memory) = (cell.as_le_slice(store), buffer.as_le_slice(store));
        if at.len() != CELL_BYTES {
            return Err(refuse("the window's cell must be 8 bytes"));
        }
        // Linear memories start on a page, so the host's alignment is the guest's.
        if !at.as_ptr().addr().is_multiple_of(CELL_BYTES) {
            return Err(refuse("the window's cell must be aligned to 8 bytes"));
        }
        if !(MIN_BUFFER..=MAX_BUFFER).contains(&memory.len()) {
            return Err(refuse("the window's buffer must have 4 KiB to 16 MiB"));
        }
        let (cell_range, buffer_range) = (at.as_ptr_range(), memory.as_ptr_range());
        if cell_range.start < buffer_range.end && buffer_range.start < cell_range.end {
            return Err(refuse("the window's cell lies inside its buffer"));
        }
        Ok(Self { cell, buffer, nonce })
    }

    /// After `configure`: the nonce must be in the cell. It is not where the lists were copies of the guest's memory.
    pub(crate) fn is_live<T: 'static>(&self, store: &impl AsContext<Data = T>) -> bool {
        self.cell.as_le_slice(store) == self.nonce.to_le_bytes()
    }

    /// The cell, read once.
    pub(crate) fn read<T: 'static>(&self, store: &impl AsContext<Data = T>) -> Reading {
        let cell = self.cell.as_le_slice(store);
        let word = |at| cell.get(at..at + 4).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word));
        Reading { count: word(0), bytes: word(4) }
    }

    /// The whole buffer, whatever of it is in use.
    pub(crate) fn buffer<'a, T: 'static>(&self, store: &'a impl AsContext<Data = T>) -> &'a [u8] {
        self.buffer.as_le_slice(store)
    }
}

/// Reads the count of a cell during the call for which `watched` made it.
#[derive(Clone, Copy)]
pub(crate) struct Count<'call> {
    cell: *const AtomicU32,
    call: PhantomData<&'call ()>,
}

impl Count<'_> {
    pub(crate) fn get(self) -> u32 {
        // SAFETY: `cell` was derived in `watched` from the bounds-checked, 8-aligned list of a live store (`announce`).
        // It is valid as long as `'call` lasts: `watched` keeps the store borrowed for all of it, linear memory is never
        // moved or shrunk (`Config::memory_may_move(false)`, fixed reservations of the pooling allocator) nor released
        // before its store. Nobody writes meanwhile: the guest runs on this thread, inside the future that is suspended
        // now, and threads and shared memories are refused when the engine is built. Any bit pattern is a valid u32.
        u32::from_le(unsafe { &*self.cell }.load(Ordering::Relaxed))
    }
}

/// Runs `call` with a reader of the window's count. The reader cannot outlive the call; the call must not replace the
/// store (it is borrowed by the future that it drives).
pub(crate) fn watched<T: 'static, R>(
    store: &mut Store<T>,
    window: &Window,
    call: impl for<'call> FnOnce(&'call mut Store<T>, Count<'call>) -> R,
) -> R {
    let cell = window.cell.as_le_slice(&*store).as_ptr().cast::<AtomicU32>();
    call(store, Count { cell, call: PhantomData })
}

fn refuse(why: &str) -> Fault {
    Fault::new(FaultCode::Contract, why)
}
