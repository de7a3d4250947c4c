//! Owns the host's half of the packed world: the imports of `packed-sink`, the side buffer that a flush fills, and the
//! walk over outcomes after a call or a trap. Promises that every outcome that the guest counted is seen exactly once and
//! in order, up to the first that does not add up. Refuses counts that shrink or exceed
//! the batch, flushes without progress, and commits out of turn.

use std::sync::Arc;

use wasmtime::component::{Linker, WasmList};
use wasmtime::{Store, StoreContextMut};

use crate::drive;
use crate::fault::{Fault, FaultCode};
use crate::frame;
use crate::host::Host;
use crate::window::Window;

pub(crate) const SINK: &str = "pelton:transform/packed-sink@0.1.0";
pub(crate) const ABI_VERSION: u32 = 1;
/// What a byte that crosses costs the host, in what a guest could compute meanwhile.
const FUEL_PER_BYTE: u64 = 2;

/// The state of one instance's outcomes.
pub(crate) struct Sink {
    /// Shared, so that a call can watch it while the store is taken.
    pub(crate) window: Option<Arc<Window>>,
    /// `window` may be called now.
    pub(crate) configuring: bool,
    /// Records of the batch that is under way.
    batch: u32,
    /// How many of them have their outcome in `side`.
    taken: u32,
    /// Outcomes taken by `flush` and `commit`, in the layout of the window.
    side: Vec<u8>,
    side_limit: usize,
    output_bytes: usize,
}

/// Raised by `flush` when the side buffer is full: ends the call without blame.
#[derive(Debug, thiserror::Error)]
#[error("the batch has more output than the host holds at once")]
pub(crate) struct Full;

impl Sink {
    pub(crate) fn new(side_limit: u32, output_bytes: u32) -> Self {
        Self {
            window: None,
            configuring: false,
            batch: 0,
            taken: 0,
            side: Vec::new(),
            side_limit: side_limit as usize,
            output_bytes: output_bytes as usize,
        }
    }

    pub(crate) fn begin_batch(&mut self, records: u32) {
        self.batch = records;
        self.taken = 0;
        self.side.clear();
        self.side.shrink_to(64 << 10);
    }
}

/// Adds `packed-sink` to a linker.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut sink = linker.instance(SINK)?;
    sink.func_wrap("window", window)?;
    sink.func_wrap("flush", flush)?;
    sink.func_wrap("commit", commit)
}

fn window(
    mut store: StoreContextMut<'_, Host>,
    (cell, buffer): (WasmList<u8>, WasmList<u8>),
) -> wasmtime::Result<(u64,)> {
    let sink = &store.data().sink;
    if !sink.configuring {
        return Err(contract("`window` called outside `configure`").into());
    }
    if sink.window.is_some() {
        return Err(contract("`window` called twice").into());
    }
    let nonce = nonce();
    let window = Window::announce(&store, cell, buffer, nonce)?;
    store.data_mut().sink.window = Some(Arc::new(window));
    Ok((nonce,))
}

/// Unpredictable enough that a copy of the cell cannot hold it by accident: `RandomState` is seeded by the system.
fn nonce() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // never zero, which an untouched cell holds
    RandomState::new().hash_one(std::time::Instant::now()) | 1
}

fn flush(mut store: StoreContextMut<'_, Host>, (): ()) -> wasmtime::Result<()> {
    let mut side = std::mem::take(&mut store.data_mut().sink.side);
    let taken = take(&store, &mut side);
    let sink = &mut store.data_mut().sink;
    sink.side = side;
    sink.taken = taken?;
    Ok(())
}

/// Copies the window's outcomes to `side`; returns the new count of taken ones.
fn take(store: &StoreContextMut<'_, Host>, side: &mut Vec<u8>) -> wasmtime::Result<u32> {
    let sink = &store.data().sink;
    let Some(window) = &sink.window else { return Err(contract("`flush` without a window").into()) };
    let cell = window.read(store);
    if cell.count <= sink.taken || cell.count > sink.batch {
        return Err(contract("`flush` with a count that does not grow, or exceeds the batch").into());
    }
    let buffer = window.buffer(store);
    let mut rest = buffer;
    for _ in sink.taken..cell.count {
        frame::split_outcome(&mut rest).ok_or_else(|| contract("an outcome runs out of the window"))?;
    }
    let used = buffer.len() - rest.len();
    if used != cell.bytes as usize {
        return Err(contract("the window's byte count is not that of its outcomes").into());
    }
    if side.len() + used > sink.side_limit {
        return Err(Full.into()); // they stay in the window, from where they are read after the trap
    }
    drive::charge(FUEL_PER_BYTE * used as u64);
    side.extend_from_slice(&buffer[..used]);
    Ok(cell.count)
}

fn commit(mut store: StoreContextMut<'_, Host>, (index, outcome): (u32, WasmList<u8>)) -> wasmtime::Result<()> {
    let mut side = std::mem::take(&mut store.data_mut().sink.side);
    let added = add(&store, &mut side, index, &outcome);
    let sink = &mut store.data_mut().sink;
    sink.side = side;
    added?;
    sink.taken += 1;
    Ok(())
}

fn add(
    store: &StoreContextMut<'_, Host>,
    side: &mut Vec<u8>,
    index: u32,
    outcome: &WasmList<u8>,
) -> wasmtime::Result<()> {
    let sink = &store.data().sink;
    let Some(window) = &sink.window else { return Err(contract("`commit` without a window").into()) };
    if index != sink.taken || index >= sink.batch || window.read(store).count != index {
        return Err(contract("`commit` of a record that is not the next one, or before a flush").into());
    }
    if outcome.len() > sink.output_bytes + 4 {
        return Err(Fault::new(
            FaultCode::OutputTooLarge,
            format!("{} bytes of output, {} allowed", outcome.len() - 4, sink.output_bytes),
        )
        .into());
    }
    let bytes = outcome.as_le_slice(store);
    let mut rest = bytes;
    if frame::split_outcome(&mut rest).is_none() || !rest.is_empty() {
        return Err(contract("`commit` of something that is not one outcome").into());
    }
    if !side.is_empty() && side.len() + bytes.len() > sink.side_limit {
        return Err(Full.into());
    }
    drive::charge(FUEL_PER_BYTE * bytes.len() as u64);
    side.extend_from_slice(bytes);
    Ok(())
}

/// What is wrong with an outcome.
pub(crate) enum Flaw {
    /// What it says: its record's fault.
    Own(Fault),
    /// Where it is, or where the next one would be: the guest's accounts do not add up.
    Window(Fault),
}

/// What a batch left behind, ready to be walked.
pub(crate) struct Harvest<'a> {
    side: &'a [u8],
    in_side: u32,
    window: &'a [u8],
    in_window: u32,
    /// How much of the window must be left after the last outcome. Known only after a normal return: after a trap the
    /// byte count may run one outcome ahead.
    left_over: Option<usize>,
    /// Set when the cell cannot be believed.
    pub(crate) lie: Option<Fault>,
}

/// Reads the cell once and lays out what it and the side buffer hold. `returned`: the call ended normally.
pub(crate) fn harvest(store: &Store<Host>, returned: bool) -> Harvest<'_> {
    let sink = &store.data().sink;
    let nothing =
        Harvest { side: &sink.side, in_side: sink.taken, window: &[], in_window: 0, left_over: None, lie: None };
    let Some(window) = &sink.window else { return nothing };
    let cell = window.read(store);
    if cell.count > sink.batch {
        return Harvest { lie: Some(contract("the window's count exceeds the batch")), ..nothing };
    }
    // A count below what was taken (it went back, or the guest died before it counted a commit) means an empty window:
    // what was taken stands, the next record is to blame.
    let buffer = window.buffer(store);
    let early = returned && cell.count < sink.batch;
    Harvest {
        window: buffer,
        in_window: cell.count.saturating_sub(sink.taken),
        // more than there is: never true of what is left
        left_over: returned.then(|| buffer.len().checked_sub(cell.bytes as usize).unwrap_or(usize::MAX)),
        lie: early.then(|| contract("`process-packed` returned before every record had its outcome")),
        ..nothing
    }
}

impl<'a> Iterator for Harvest<'a> {
    /// Kind and bytes, or a flaw where the next outcome does not add up: then it is the last that is worth asking for.
    type Item = Result<(u32, &'a [u8]), Flaw>;

    fn next(&mut self) -> Option<Self::Item> {
        let from_window = self.in_side == 0;
        let (rest, left) = match (self.in_side, self.in_window) {
            (0, 0) => return None,
            (0, _) => (&mut self.window, &mut self.in_window),
            _ => (&mut self.side, &mut self.in_side),
        };
        *left -= 1;
        let Some(outcome) = frame::split_outcome(rest) else {
            return Some(Err(Flaw::Window(contract("an outcome runs out of the window"))));
        };
        if from_window && self.in_window == 0 && self.left_over.is_some_and(|left_over| left_over != self.window.len())
        {
            return Some(Err(Flaw::Window(contract("the window's byte count is not that of its outcomes"))));
        }
        Some(Ok(outcome))
    }
}

fn contract(why: &str) -> Fault {
    Fault::new(FaultCode::Contract, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nonce_is_zero_or_like_the_one_before() {
        let nonces: std::collections::BTreeSet<u64> = (0..100).map(|_| nonce()).collect();
        assert!(nonces.len() == 100 && !nonces.contains(&0), "{nonces:?}");
    }
}
