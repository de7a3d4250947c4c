//! The instances of one generation that share a worker's batch (`parallelism`). Each takes a piece of consecutive records;
//! the worker itself runs the first piece, helpers the others. Whatever finishes first, outcomes are carried out by the
//! worker alone and in the records' order: to everything behind, a crew is one instance that is quicker.

use super::plan::Plan;
use pelton_sandbox::{Fault, Generation, Instance, Kept, Record, RunError, Settled};
use rayon::{ThreadPool, ThreadPoolBuilder};
use std::time::Duration;

/// A piece is worth handing over when it takes so long: ten times what that costs.
const PIECE_MIN: Duration = Duration::from_micros(200);

/// A worker's helping threads; they live as long as some transform of its plan wants them.
#[derive(Debug, Default)]
pub struct Helpers {
    count: usize,
    pool: Option<ThreadPool>,
}

impl Helpers {
    /// As many as the most parallel transform can use beside the worker itself.
    pub fn adopt(&mut self, plan: &Plan) {
        let count = plan.transforms.iter().map(|transform| transform.parallelism).max().unwrap_or(1).saturating_sub(1);
        if count == self.count {
            return;
        }
        let name = std::thread::current().name().unwrap_or("worker").to_owned();
        let builder = ThreadPoolBuilder::new().num_threads(count).thread_name(move |i| format!("{name}+{}", i + 1));
        self.count = count;
        self.pool = (count > 0).then(|| builder.build()).and_then(|built| {
            built
                .inspect_err(|error| {
                    let advice = "raise the limit of threads (ulimit -u, pids.max); until the next reload the worker does all itself";
                    tracing::error!(code = "worker.helpers", %error, advice, "threads for `parallelism` cannot be started");
                })
                .ok()
        });
    }
}

/// Instances are made when a record first needs them.
#[derive(Debug, Default)]
pub(super) struct Crew {
    /// The first is the worker's own.
    hands: Vec<Hand>,
    /// Smoothed time for a record, in nanoseconds.
    per_record: f64,
}

/// One instance, and what it did in a helper's hands.
#[derive(Debug)]
struct Hand {
    instance: Instance,
    kept: Kept,
    broken: Option<Fault>,
}

/// What calls have taken, of all instances together.
#[derive(Clone, Copy, Default)]
pub(super) struct Spent {
    pub fuel: u64,
    pub time: Duration,
}

impl Crew {
    /// Every record gets exactly one outcome, in order, as with [`Instance::run`]. Also says what that took, whatever it
    /// came to.
    pub fn run<E>(
        &mut self,
        generation: &Generation,
        (parallelism, helpers): (usize, &Helpers),
        records: &[Record<'_>],
        settle: &mut dyn FnMut(usize, Settled<'_>) -> Result<(), E>,
    ) -> (Result<(), RunError<E>>, Spent) {
        let pieces = if helpers.pool.is_some() { self.pieces(parallelism, records.len()) } else { 1 };
        while self.hands.len() < pieces {
            match Instance::new(generation) {
                Ok(instance) => self.hands.push(Hand { instance, kept: Kept::default(), broken: None }),
                Err(fault) => return (Err(RunError::Renewal(fault)), Spent::default()),
            }
        }
        let before = self.spent();
        let result = self.share(pieces, helpers.pool.as_ref(), records, settle);
        let after = self.spent();
        let spent = Spent { fuel: after.fuel.wrapping_sub(before.fuel), time: after.time.saturating_sub(before.time) };
        let seen = spent.time.as_nanos() as f64 / records.len().max(1) as f64;
        self.per_record += (seen - self.per_record) * 0.2;
        (result, spent)
    }

    fn share<E>(
        &mut self,
        pieces: usize,
        pool: Option<&ThreadPool>,
        records: &[Record<'_>],
        settle: &mut dyn FnMut(usize, Settled<'_>) -> Result<(), E>,
    ) -> Result<(), RunError<E>> {
        let Some((lead, others)) = self.hands.split_first_mut() else { return Ok(()) };
        let Some(pool) = pool.filter(|_| pieces > 1) else { return lead.instance.run(records, settle) };
        let size = records.len().div_ceil(pieces);
        let (first, rest) = records.split_at(size);
        pool.in_place_scope(|scope| {
            for (hand, piece) in others.iter_mut().zip(rest.chunks(size)) {
                scope.spawn(move |_| hand.work(piece));
            }
            lead.instance.run(first, settle)
        })?;
        let mut done = size;
        for (hand, piece) in others.iter_mut().zip(rest.chunks(size)) {
            hand.settle(piece, &mut |index, settled| settle(done + index, settled))?;
            done += piece.len();
        }
        Ok(())
    }

    /// How many pieces of a batch are worth their way to a helper and back.
    fn pieces(&self, parallelism: usize, records: usize) -> usize {
        let worth = (records as f64 * self.per_record / PIECE_MIN.as_nanos() as f64) as usize;
        worth.min(parallelism).min(records).max(1)
    }

    fn spent(&self) -> Spent {
        self.hands.iter().fold(Spent::default(), |sum, hand| Spent {
            fuel: sum.fuel.wrapping_add(hand.instance.fuel()),
            time: sum.time.saturating_add(hand.instance.time()),
        })
    }

    /// Linear memory of all its instances, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.hands.iter().map(|hand| hand.instance.memory_bytes() as u64).sum()
    }

    /// Lets all instances but the first `keep` go in good order.
    pub fn let_go(&mut self, keep: usize, transform: &str) {
        for hand in self.hands.drain(keep.min(self.hands.len())..) {
            let generation = hand.instance.generation();
            if let Err(fault) = hand.instance.drain() {
                let code = fault.code.as_str();
                tracing::warn!(transform, generation, code, "a guest failed in its `drain`: it goes all the same");
            }
        }
    }
}

impl Hand {
    /// On a helper's thread: outcomes are kept for the worker.
    fn work(&mut self, piece: &[Record<'_>]) {
        self.kept.clear();
        let ran = self.instance.run(piece, &mut |_, settled| self.kept.push(settled));
        self.broken = match ran {
            Err(RunError::Renewal(fault)) => Some(fault),
            // What there was no room for, the worker does again.
            Err(RunError::Stopped(_)) | Ok(()) => None,
        };
    }

    /// On the worker's thread: carries out what was kept, and does what was not done.
    fn settle<E>(
        &mut self,
        piece: &[Record<'_>],
        settle: &mut dyn FnMut(usize, Settled<'_>) -> Result<(), E>,
    ) -> Result<(), RunError<E>> {
        let done = self.kept.len();
        self.kept.settle(&mut *settle).map_err(RunError::Stopped)?;
        match self.broken.take() {
            Some(fault) => Err(RunError::Renewal(fault)),
            None => self.instance.run(&piece[done..], &mut |index, settled| settle(done + index, settled)),
        }
    }
}
