//! Owns one worker's live store of a generation, and the loop that gives every record its outcome: batch, call, settle,
//! renew, rest. Promises exactly one outcome per record, in order, whatever the guest does, and that each turn of the
//! loop settles at least one record, so that it ends. Refuses to continue only when the caller does, or when no new
//! instance can be made.

use std::time::{Duration, Instant};

use wasmtime::Store;
use wasmtime::component::Func;

use crate::drive::{Late, Pace, drive};
use crate::fault::{Fault, FaultCode};
use crate::frame::{self, Rules};
use crate::generation::{Generation, PrepareError};
use crate::host::Host;
use crate::module::World;
use crate::packed::{self, Flaw, Full};
use crate::record::{Record, Settled};
use crate::setup::{self, diagnose};
use crate::typed;
use crate::window::{Count, watched};

/// The most records that one call gets, whatever the caller hands over.
const BATCH: usize = 128;
/// The most bytes of several records that one call gets, whatever the transform's memory: what is copied into a guest, by
/// it and out of it again should still be in the CPU's cache, and copies of all of them fit the window of the SDK.
const BATCH_BYTES: usize = 192 << 10;
/// What a buffer between host and guest keeps from one batch to the next.
pub(crate) const KEPT_BYTES: usize = 1 << 20;

/// Why `Instance::run` ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E> {
    /// `settle` refused an outcome; the records before it are settled, the others are not. The instance is made anew
    /// when it is run again.
    #[error("stopped by the caller")]
    Stopped(E),
    /// The last instance is gone and another cannot be made; the records settled so far stand.
    #[error("no new instance can be made")]
    Renewal(#[source] Fault),
}

/// A live instance. It belongs to one thread at a time; made when first needed, it renews itself after a failure.
pub struct Instance {
    generation: Generation,
    live: Option<Live>,
    pub(crate) rules: Rules,
    pub(crate) pace: Pace,
    /// Begins with the input frames of the call under way, so many bytes; what is behind them is old.
    input: Vec<u8>,
    framed: usize,
    renewals: u64,
    /// Burnt by all calls so far.
    fuel: u64,
    /// In all calls so far.
    time: Duration,
    /// Records of a batch whose failure named nobody that are still to run one by one.
    singly: usize,
}

/// What a call came to: how many of its records are settled, whether the store can be used again, and whether the failure
/// named nobody, so that the rest must run one by one. A call of one record settles it.
pub(crate) struct Turn {
    pub(crate) settled: usize,
    pub(crate) alive: bool,
    pub(crate) nameless: bool,
}

impl Turn {
    /// The store lives.
    pub(crate) fn whole(settled: usize) -> Self {
        Self { settled, alive: true, nameless: false }
    }

    /// The store is gone, and whoever is to blame is settled.
    pub(crate) fn failed(settled: usize) -> Self {
        Self { settled, alive: false, nameless: false }
    }

    /// The store is gone; after those that are settled anybody may be to blame.
    pub(crate) fn nameless(settled: usize) -> Self {
        Self { settled, alive: false, nameless: true }
    }
}

/// A store that has not failed yet.
pub(crate) struct Live {
    pub(crate) store: Store<Host>,
    pub(crate) process: Func,
    pub(crate) drain: Option<Func>,
}

/// What `process-packed` itself returns, and wasmtime around it.
type CallResult = wasmtime::Result<(Result<(), String>,)>;

/// What a call of a guest came to.
enum Ended {
    /// It returned; nothing is wrong so far.
    Returned,
    /// The record after the last outcome is to blame.
    Failed(Fault),
    /// The host cut it short; nobody is to blame.
    Cut,
}

impl Instance {
    /// Instantiates and configures.
    pub fn new(generation: &Generation) -> Result<Self, Fault> {
        let mut instance = Self::idle(generation);
        instance.live = Some(setup::renew(generation, instance.pace).map_err(fault_of)?);
        Ok(instance)
    }

    /// Instantiates and configures once, then lets go: the self-check of a generation.
    pub(crate) fn check(generation: &Generation) -> Result<(), PrepareError> {
        setup::renew(generation, Self::idle(generation).pace).map(drop)
    }

    fn idle(generation: &Generation) -> Self {
        let limits = &generation.spec().limits;
        Self {
            generation: generation.clone(),
            live: None,
            rules: generation.rules(),
            pace: Pace::new(limits.deadline, limits.fuel),
            input: Vec::new(),
            framed: 0,
            renewals: 0,
            fuel: 0,
            time: Duration::ZERO,
            singly: 0,
        }
    }

    /// Lets the instance go in good order: its `drain` runs, where it has one, within the time for `configure`. What
    /// that comes to changes nothing any more.
    pub fn drain(mut self) -> Result<(), Fault> {
        match self.live.take() {
            Some(live) => setup::drain(&self.generation, live),
            None => Ok(()),
        }
    }

    /// The number of its generation.
    pub fn generation(&self) -> u64 {
        self.generation.number()
    }

    /// Linear memory that it holds now, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.live.as_ref().map_or(0, |live| live.store.data().limiter.memory())
    }

    /// How often it was renewed after a failure.
    pub fn renewals(&self) -> u64 {
        self.renewals
    }

    /// Fuel that the guest's own code has burnt in all calls of this instance; the toll for host calls is not in it.
    pub fn fuel(&self) -> u64 {
        self.fuel
    }

    /// How long all calls of this instance took, without what was done with their outcomes.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// A call for so many records is over. What is left of its fuel tells what it took.
    pub(crate) fn note(&mut self, live: &Live, records: usize, since: Instant) {
        let left = live.store.get_fuel().unwrap_or(0);
        self.fuel = self.fuel.wrapping_add(self.pace.fuel(records).saturating_sub(left));
        self.time = self.time.saturating_add(since.elapsed());
    }

    /// Gives every record of the batch exactly one outcome, in order, to `settle`; `settle` gets the record's index.
    /// Never fails because of a record: a trap, a limit or a breach of contract is that record's `Settled::Fault`, the
    /// records before it stand, the rest run in a fresh instance.
    pub fn run<'r, E>(
        &mut self,
        records: &[Record<'r>],
        settle: &mut dyn FnMut(usize, Settled<'_>) -> Result<(), E>,
    ) -> Result<(), RunError<E>> {
        let runtime = self.generation.module().engine().runtime().clone();
        let _entered = runtime.enter();
        self.singly = 0;
        let mut done = 0;
        while done < records.len() {
            // `nameless` failures are for batches; the one record of such a turn is to blame.
            let next = if self.singly > 0 { &records[done..=done] } else { &records[done..] };
            let batch = self.fill(next);
            if batch == 0 {
                let fault = Fault::new(FaultCode::InputTooLarge, format!("{} allowed", self.input_limit()));
                settle(done, Settled::Fault(Box::new(fault))).map_err(RunError::Stopped)?;
                done += 1;
                continue;
            }
            let mut live = match self.live.take() {
                Some(live) => live,
                None => {
                    self.renewals += 1;
                    setup::renew(&self.generation, self.pace).map_err(|error| RunError::Renewal(fault_of(error)))?
                }
            };
            let mut settle_here = |index: usize, outcome: Settled<'_>| settle(done + index, outcome);
            let ran = match self.generation.world() {
                World::Packed => self.run_packed(&mut live, &records[done..done + batch], &mut settle_here),
                World::Typed => {
                    // Within a call nobody can say which record the guest is at.
                    let batch = if self.generation.follows_the_record() { 1 } else { batch };
                    typed::run(self, &mut live, &records[done..done + batch], &mut settle_here)
                }
            };
            let turn = ran.map_err(RunError::Stopped)?;
            done += turn.settled;
            self.singly = if turn.nameless { batch - turn.settled } else { self.singly.saturating_sub(turn.settled) };
            self.live = turn.alive.then_some(live);
        }
        Ok(())
    }

    fn input_limit(&self) -> usize {
        self.generation.spec().limits.input_bytes()
    }

    pub(crate) fn topics(&self) -> (&[String], &[String]) {
        let spec = self.generation.spec();
        (&spec.inputs, &spec.outputs)
    }

    /// Frames as many records as one call takes; 0 when the first one alone is too large.
    fn fill(&mut self, records: &[Record<'_>]) -> usize {
        let limit = self.input_limit();
        let (mut batch, mut bytes) = (0, 0);
        for record in records.iter().take(BATCH) {
            let most = if batch == 0 { limit } else { limit.min(BATCH_BYTES) };
            match frame::input_len(record) {
                Some(len) if bytes + len <= most => (batch, bytes) = (batch + 1, bytes + len),
                _ => break,
            }
        }
        self.input.truncate(KEPT_BYTES);
        self.input.shrink_to(KEPT_BYTES);
        self.framed = bytes;
        match self.generation.world() {
            World::Packed => frame::encode_inputs(&mut self.input, &records[..batch], bytes).map_or(0, |()| batch),
            World::Typed => batch,
        }
    }

    /// One call of `process-packed`, and what it left behind.
    fn run_packed<E>(
        &mut self,
        live: &mut Live,
        records: &[Record<'_>],
        settle: &mut dyn FnMut(usize, Settled<'_>) -> Result<(), E>,
    ) -> Result<Turn, E> {
        let since = Instant::now();
        let ended = self.call_packed(live, records);
        self.note(live, records.len(), since);
        let returned = matches!(ended, Ended::Returned);
        // First the guest is asked for room for the batch. Where it dies of that, it has not looked at any record, and the
        // cell still speaks of the batch before.
        if let Ended::Failed(fault) = &ended
            && !live.store.data().entered()
        {
            return if records.len() > 1 {
                Ok(Turn::nameless(0))
            } else {
                settle(0, Settled::Fault(Box::new(fault.clone()))).map(|()| Turn::failed(1))
            };
        }
        let mut harvest = packed::harvest(&live.store, returned);
        let mut settled = 0;
        for outcome in &mut harvest {
            let judged = outcome.and_then(|(kind, bytes)| frame::judge(kind, bytes, &self.rules).map_err(Flaw::Own));
            match judged {
                Ok(outcome) => settle(settled, outcome)?,
                Err(Flaw::Window(_)) if records.len() > 1 => {
                    return Ok(Turn::nameless(settled));
                }
                Err(Flaw::Own(fault) | Flaw::Window(fault)) => {
                    settle(settled, Settled::Fault(fault))?;
                    return Ok(Turn::failed(settled + 1));
                }
            }
            settled += 1;
        }
        let blame = match (ended, harvest.lie) {
            (Ended::Returned, None) => return Ok(Turn::whole(settled)),
            (Ended::Failed(fault), None) => Some(fault),
            (Ended::Cut, None) => None,
            // the cell lies, so it names nobody, whatever else went wrong
            (Ended::Failed(fault), Some(_)) if records.len() == 1 => Some(fault),
            (_, Some(fault)) => Some(fault),
        };
        let Some(fault) = blame.filter(|_| settled < records.len()) else {
            return Ok(Turn::failed(settled));
        };
        // A trap, a limit: the guest was at the record that comes next. But where it broke the contract its accounts are in
        // doubt.
        if fault.code == FaultCode::Contract && records.len() > 1 {
            return Ok(Turn::nameless(settled));
        }
        settle(settled, Settled::Fault(Box::new(fault)))?;
        Ok(Turn::failed(settled + 1))
    }

    fn call_packed(&mut self, live: &mut Live, records: &[Record<'_>]) -> Ended {
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX); // at most BATCH
        let (pace, input, process) = (self.pace, &self.input[..self.framed], live.process);
        let store = &mut live.store;
        store.data_mut().begin_call(records);
        store.data_mut().sink.begin_batch(count);
        if let Err(error) = store.set_fuel(pace.fuel(records.len())) {
            return Ended::Failed(diagnose(store, &error));
        }
        let Some(window) = store.data().sink.window.clone() else {
            return Ended::Failed(Fault::new(FaultCode::Contract, "no window"));
        };
        let result = watched(store, &window, |store, settled: Count<'_>| {
            let func = process.typed::<(&[u8],), (Result<(), String>,)>(&*store)?;
            Ok(drive(func.call_async(store, (input,)), || settled.get(), count, pace))
        });
        Self::ended(live, result)
    }

    /// Sorts the three layers of a call's result.
    fn ended(live: &Live, result: wasmtime::Result<Result<CallResult, Late>>) -> Ended {
        match result {
            Ok(Ok(Ok((Ok(_),)))) => Ended::Returned,
            Ok(Ok(Ok((Err(text),)))) => Ended::Failed(Fault::new(FaultCode::Contract, frame::reason(text.as_bytes()))),
            Ok(Err(late)) => Ended::Failed(late.into()),
            Err(error) | Ok(Ok(Err(error))) if error.is::<Full>() => Ended::Cut,
            Err(error) | Ok(Ok(Err(error))) => Ended::Failed(diagnose(&live.store, &error)),
        }
    }
}

/// A generation was prepared once, so what fails now is the instance.
fn fault_of(error: PrepareError) -> Fault {
    match error {
        PrepareError::Configure(fault) => fault,
        other => Fault::new(FaultCode::Contract, other.to_string()),
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("generation", &self.generation)
            .field("renewals", &self.renewals)
            .finish_non_exhaustive()
    }
}
