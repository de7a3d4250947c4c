//! The instances of one generation that share a worker's batch (`parallelism`). Each takes a piece of consecutive
//! records; the worker itself runs the first piece, helpers the others. Whichever finishes first, only the worker
//! carries out outcomes, in the records' order: to everything downstream, they look like one faster instance.

use super::plan::Plan;
use pelton_sandbox::{Deferred, Fault, Generation, Instance, Record, RunError, Settled};
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
pub(super) struct Parallel {
    /// The first is the worker's own.
    members: Vec<Member>,
    /// Smoothed time for a record, in nanoseconds.
    per_record: f64,
}

/// One instance, and what it did on a helper's thread.
#[derive(Debug)]
struct Member {
    instance: Instance,
    deferred: Deferred,
    broken: Option<Fault>,
}

/// What calls have taken, of all instances together.
#[derive(Clone, Copy, Default)]
pub(super) struct Spent {
    pub fuel: u64,
    pub time: Duration,
}

impl Parallel {
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
        while self.members.len() < pieces {
            match Instance::new(generation) {
                Ok(instance) => self.members.push(Member { instance, deferred: Deferred::default(), broken: None }),
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
        let Some((lead, others)) = self.members.split_first_mut() else { return Ok(()) };
        let Some(pool) = pool.filter(|_| pieces > 1) else { return lead.instance.run(records, settle) };
        let size = records.len().div_ceil(pieces);
        let (first, rest) = records.split_at(size);
        pool.in_place_scope(|scope| {
            for (member, piece) in others.iter_mut().zip(rest.chunks(size)) {
                scope.spawn(move |_| member.work(piece));
            }
            lead.instance.run(first, settle)
        })?;
        let mut done = size;
        for (member, piece) in others.iter_mut().zip(rest.chunks(size)) {
            member.settle(piece, &mut |index, settled| settle(done + index, settled))?;
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
        self.members.iter().fold(Spent::default(), |sum, member| Spent {
            fuel: sum.fuel.wrapping_add(member.instance.fuel()),
            time: sum.time.saturating_add(member.instance.time()),
        })
    }

    /// Linear memory of all its instances, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.members.iter().map(|member| member.instance.memory_bytes() as u64).sum()
    }

    /// Lets all instances but the first `keep` go in good order.
    pub fn let_go(&mut self, keep: usize, transform: &str) {
        for member in self.members.drain(keep.min(self.members.len())..) {
            let generation = member.instance.generation();
            if let Err(fault) = member.instance.drain() {
                let code = fault.code.as_str();
                tracing::warn!(transform, generation, code, "a guest failed in its `drain`: it goes all the same");
            }
        }
    }
}

impl Member {
    /// On a helper's thread: outcomes are deferred for the worker.
    fn work(&mut self, piece: &[Record<'_>]) {
        self.deferred.clear();
        let ran = self.instance.run(piece, &mut |_, settled| self.deferred.push(settled));
        self.broken = match ran {
            Err(RunError::Renewal(fault)) => Some(fault),
            // What there was no room for, the worker does again.
            Err(RunError::Stopped(_)) | Ok(()) => None,
        };
    }

    /// On the worker's thread: carries out what was deferred, and does what was not done.
    fn settle<E>(
        &mut self,
        piece: &[Record<'_>],
        settle: &mut dyn FnMut(usize, Settled<'_>) -> Result<(), E>,
    ) -> Result<(), RunError<E>> {
        let done = self.deferred.len();
        self.deferred.settle(&mut *settle).map_err(RunError::Stopped)?;
        match self.broken.take() {
            Some(fault) => Err(RunError::Renewal(fault)),
            None => self.instance.run(&piece[done..], &mut |index, settled| settle(done + index, settled)),
        }
    }
}
