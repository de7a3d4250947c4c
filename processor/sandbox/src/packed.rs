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
use crate::instance::KEPT_BYTES;
use crate::window::{Reading, Window};

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
    taken: Taken,
}

/// What `flush` and `commit` have taken of the batch that is under way.
#[derive(Default)]
struct Taken {
    /// Records of the batch.
    batch: u32,
    /// How many of them have their outcome in `side`.
    count: u32,
    /// Outcomes in the layout of the window.
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
        let (side_limit, output_bytes) = (side_limit as usize, output_bytes as usize);
        Self { window: None, configuring: false, taken: Taken { side_limit, output_bytes, ..Taken::default() } }
    }

    pub(crate) fn begin_batch(&mut self, records: u32) {
        let Taken { batch, count, side, .. } = &mut self.taken;
        (*batch, *count) = (records, 0);
        side.clear();
        side.shrink_to(KEPT_BYTES);
    }
}

impl Taken {
    /// Takes the window's outcomes.
    fn flush(&mut self, cell: Reading, buffer: &[u8]) -> wasmtime::Result<()> {
        if cell.count <= self.count || cell.count > self.batch {
            return Err(contract("`flush` with a count that does not grow, or exceeds the batch").into());
        }
        let mut rest = buffer;
        for _ in self.count..cell.count {
            frame::split_outcome(&mut rest).ok_or_else(|| contract("an outcome runs out of the window"))?;
        }
        let used = buffer.len() - rest.len();
        if used != cell.bytes as usize {
            return Err(contract("the window's byte count is not that of its outcomes").into());
        }
        if self.side.len() + used > self.side_limit {
            return Err(Full.into()); // they stay in the window, from where they are read after the trap
        }
        drive::charge(FUEL_PER_BYTE * used as u64);
        self.side.extend_from_slice(&buffer[..used]);
        self.count = cell.count;
        Ok(())
    }

    /// Takes the outcome of the next record.
    fn commit(&mut self, cell: Reading, index: u32, outcome: &[u8]) -> wasmtime::Result<()> {
        if index != self.count || index >= self.batch || cell.count != index {
            return Err(contract("`commit` of a record that is not the next one, or before a flush").into());
        }
        if outcome.len() > self.output_bytes + 4 {
            let text = format!("{} bytes of output, {} allowed", outcome.len() - 4, self.output_bytes);
            return Err(Fault::new(FaultCode::OutputTooLarge, text).into());
        }
        let mut rest = outcome;
        if frame::split_outcome(&mut rest).is_none() || !rest.is_empty() {
            return Err(contract("`commit` of something that is not one outcome").into());
        }
        if !self.side.is_empty() && self.side.len() + outcome.len() > self.side_limit {
            return Err(Full.into());
        }
        drive::charge(FUEL_PER_BYTE * outcome.len() as u64);
        self.side.extend_from_slice(outcome);
        self.count += 1;
        Ok(())
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
    taking(&mut store, "`flush` without a window", |taken, window, store| {
        taken.flush(window.read(store), window.buffer(store))
    })
}

fn commit(mut store: StoreContextMut<'_, Host>, (index, outcome): (u32, WasmList<u8>)) -> wasmtime::Result<()> {
    taking(&mut store, "`commit` without a window", |taken, window, store| {
        taken.commit(window.read(store), index, outcome.as_le_slice(store))
    })
}

/// Lends what was taken so far out of the store, in which the outcomes to take are too.
fn taking(
    store: &mut StoreContextMut<'_, Host>,
    without: &'static str,
    take: impl FnOnce(&mut Taken, &Window, &StoreContextMut<'_, Host>) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    let Some(window) = store.data().sink.window.clone() else { return Err(contract(without).into()) };
    let mut taken = std::mem::take(&mut store.data_mut().sink.taken);
    let result = take(&mut taken, &window, store);
    store.data_mut().sink.taken = taken;
    result
}

/// What is wrong with an outcome.
pub(crate) enum Flaw {
    /// What it says: its record's fault.
    Own(Box<Fault>),
    /// Where it is, or where the next one would be: the guest's accounts do not add up.
    Window(Box<Fault>),
}

impl Flaw {
    #[cold]
    fn window(why: &str) -> Self {
        Self::Window(Box::new(contract(why)))
    }
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
    let Taken { batch, count: taken, ref side, .. } = sink.taken;
    let nothing = Harvest { side, in_side: taken, window: &[], in_window: 0, left_over: None, lie: None };
    let Some(window) = &sink.window else { return nothing };
    let cell = window.read(store);
    if cell.count > batch {
        return Harvest { lie: Some(contract("the window's count exceeds the batch")), ..nothing };
    }
    // A count below what was taken (it went back, or the guest died before it counted a commit) means an empty window:
    // what was taken stands, the next record is to blame.
    let buffer = window.buffer(store);
    let early = returned && cell.count < batch;
    Harvest {
        window: buffer,
        in_window: cell.count.saturating_sub(taken),
        // more than there is: never true of what is left
        left_over: returned.then(|| buffer.len().checked_sub(cell.bytes as usize).unwrap_or(usize::MAX)),
        lie: early.then(|| contract("`process-packed` returned before every record had its outcome")),
        ..nothing
    }
}

impl<'a> Iterator for Harvest<'a> {
    /// Kind and bytes, or a flaw where the next outcome does not add up: then it is the last that is worth asking for.
    type Item = Result<(u32, &'a [u8]), Flaw>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let from_window = self.in_side == 0;
        let (rest, left) = match (self.in_side, self.in_window) {
            (0, 0) => return None,
            (0, _) => (&mut self.window, &mut self.in_window),
            _ => (&mut self.side, &mut self.in_side),
        };
        *left -= 1;
        let Some(outcome) = frame::split_outcome(rest) else {
            return Some(Err(Flaw::window("an outcome runs out of the window")));
        };
        if from_window && self.in_window == 0 && self.left_over.is_some_and(|left_over| left_over != self.window.len())
        {
            return Some(Err(Flaw::window("the window's byte count is not that of its outcomes")));
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

    /// A drop, and an emission of so many bytes, as they are in a window.
    fn outcome(bytes: usize) -> Vec<u8> {
        let head = (bytes as u32) << 2 | frame::EMIT;
        [&head.to_le_bytes()[..], &vec![7; bytes]].concat()
    }

    fn taken(batch: u32) -> Taken {
        Taken { batch, side_limit: 100, output_bytes: 40, ..Taken::default() }
    }

    /// Of the window that holds these.
    fn reading(count: u32, outcomes: &[u8]) -> Reading {
        Reading { count, bytes: outcomes.len() as u32 }
    }

    fn code(result: wasmtime::Result<()>) -> Option<FaultCode> {
        let error = result.unwrap_err();
        assert!(error.is::<Fault>() || error.is::<Full>(), "{error}");
        error.downcast_ref::<Fault>().map(|fault| fault.code)
    }

    #[test]
    fn no_nonce_is_zero_or_like_the_one_before() {
        let nonces: std::collections::BTreeSet<u64> = (0..100).map(|_| nonce()).collect();
        assert!(nonces.len() == 100 && !nonces.contains(&0), "{nonces:?}");
    }

    #[test]
    fn a_flush_takes_as_many_as_the_batch_has_and_not_one_more() {
        let two = [outcome(3), outcome(0)].concat();
        let mut taken = taken(2);
        taken.flush(reading(2, &two), &[&two[..], &[0; 50]].concat()).unwrap();
        assert_eq!((taken.count, &taken.side), (2, &two));
        assert_eq!(code(taken.flush(reading(2, &two), &two)), Some(FaultCode::Contract), "it did not grow");
        let three = [outcome(0), outcome(0), outcome(0)].concat();
        let mut fresh = self::taken(2);
        assert_eq!(code(fresh.flush(reading(3, &three), &three)), Some(FaultCode::Contract));
        assert_eq!(
            code(fresh.flush(reading(1, &three), &three)),
            Some(FaultCode::Contract),
            "other bytes than it says"
        );
        assert_eq!((fresh.count, fresh.side.len()), (0, 0));
    }

    #[test]
    fn what_is_held_beside_the_window_has_a_limit_which_may_be_reached() {
        let (half, rest) = (outcome(46), outcome(47));
        let mut taken = taken(3);
        taken.flush(reading(1, &half), &half).unwrap();
        assert_eq!(code(taken.flush(reading(2, &rest), &rest)), None, "full");
        taken.flush(reading(2, &half), &half).unwrap();
        assert_eq!((taken.side.len(), taken.count), (100, 2));
        assert_eq!(code(taken.commit(reading(2, &[]), 2, &outcome(0))), None, "full");
        let (mut first, whole) = (self::taken(3), outcome(97));
        assert_eq!(code(first.flush(reading(1, &whole), &whole)), None, "full");
    }

    #[test]
    fn a_commit_is_of_the_next_record_of_the_batch() {
        let mut taken = taken(2);
        let nothing = outcome(0);
        let at = |count| Reading { count, bytes: 0 };
        assert_eq!(code(taken.commit(at(1), 1, &nothing)), Some(FaultCode::Contract), "not the next");
        assert_eq!(code(taken.commit(at(1), 0, &nothing)), Some(FaultCode::Contract), "not flushed before");
        assert_eq!(code(taken.commit(at(0), 1, &nothing)), Some(FaultCode::Contract), "not the next");
        taken.commit(at(0), 0, &nothing).unwrap();
        taken.commit(at(1), 1, &nothing).unwrap();
        assert_eq!(code(taken.commit(at(2), 2, &nothing)), Some(FaultCode::Contract), "beyond the batch");
        assert_eq!(taken.count, 2);
    }

    #[test]
    fn a_commit_is_one_outcome_within_the_limits() {
        let mut taken = taken(9);
        let at = |count| Reading { count, bytes: 0 };
        assert_eq!(code(taken.commit(at(0), 0, &outcome(41))), Some(FaultCode::OutputTooLarge));
        assert_eq!(code(taken.commit(at(0), 0, &outcome(9)[..12])), Some(FaultCode::Contract), "half of one");
        let two = [outcome(1), outcome(1)].concat();
        assert_eq!(code(taken.commit(at(0), 0, &two)), Some(FaultCode::Contract), "two");
        taken.commit(at(0), 0, &outcome(40)).unwrap();
        taken.commit(at(1), 1, &outcome(40)).unwrap();
        assert_eq!(code(taken.commit(at(2), 2, &outcome(9))), None, "full");
        taken.commit(at(2), 2, &outcome(8)).unwrap();
        assert_eq!(taken.side.len(), 100);
        // One that is larger than all that may be held is taken if it is alone.
        let mut alone = Taken { side_limit: 10, ..self::taken(1) };
        alone.commit(at(0), 0, &outcome(40)).unwrap();
    }

    #[test]
    fn bytes_that_cross_cost_fuel() {
        let mut taken = taken(2);
        drive::charge_start();
        taken.flush(reading(1, &outcome(16)), &outcome(16)).unwrap();
        assert_eq!(drive::charged(), 40);
        taken.commit(Reading { count: 1, bytes: 0 }, 1, &outcome(26)).unwrap();
        assert_eq!(drive::charged(), 100);
    }
}
