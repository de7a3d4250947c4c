//! Owns outcomes that are carried out later than their call: a batch shared by several instances is settled in the
//! order of its records, by one thread. Promises that what comes out is what went in, and refuses what it has no room
//! for, so that a guest cannot make it grow.

use crate::fault::Fault;
use crate::record::{Outputs, Settled};

/// Outcomes of consecutive records, owned. Its memory is used again.
#[derive(Debug, Default)]
pub struct Deferred {
    outcomes: Vec<Outcome>,
    /// Output frames and reasons, one after the other.
    bytes: Vec<u8>,
    /// What the faults among the outcomes take, in bytes.
    faults: usize,
}

/// `end` is where its share of the bytes ends; it begins where the one before ended.
#[derive(Debug)]
enum Outcome {
    Keep,
    Drop,
    Emit { count: u32, end: usize },
    Reject { end: usize },
    Fault(Box<Fault>),
}

/// There is no room for another outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

impl Deferred {
    /// Bytes from which on nothing more is taken. The last outcome that is may go beyond, as far as `output_bytes` allows.
    pub const ROOM: usize = 4 << 20;

    /// How many outcomes.
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// Forgets all, and gives back what is more than its room.
    pub fn clear(&mut self) {
        self.outcomes.clear();
        self.bytes.clear();
        self.faults = 0;
        self.bytes.shrink_to(Self::ROOM);
    }

    /// Copies one more.
    pub fn push(&mut self, settled: Settled<'_>) -> Result<(), NoRoom> {
        if self.bytes.len() + self.faults >= Self::ROOM {
            return Err(NoRoom);
        }
        let outcome = match settled {
            Settled::Keep => Outcome::Keep,
            Settled::Drop => Outcome::Drop,
            Settled::Emit(Outputs { frames, count }) => Outcome::Emit { count, end: self.copy(frames) },
            Settled::Reject(reason) => Outcome::Reject { end: self.copy(reason.as_bytes()) },
            Settled::Fault(fault) => {
                self.faults += fault.bytes();
                Outcome::Fault(fault)
            }
        };
        self.outcomes.push(outcome);
        Ok(())
    }

    /// Hands them out in order, with their index, until `settle` refuses one. None is left afterwards.
    pub fn settle<E>(&mut self, mut settle: impl FnMut(usize, Settled<'_>) -> Result<(), E>) -> Result<(), E> {
        let Self { outcomes, bytes, .. } = self;
        let mut start = 0;
        let mut share = |end: usize| &bytes[std::mem::replace(&mut start, end)..end];
        outcomes.drain(..).enumerate().try_for_each(|(index, outcome)| {
            let settled = match outcome {
                Outcome::Keep => Settled::Keep,
                Outcome::Drop => Settled::Drop,
                Outcome::Emit { count, end } => Settled::Emit(Outputs { frames: share(end), count }),
                // whole, as it was put in
                Outcome::Reject { end } => Settled::Reject(str::from_utf8(share(end)).unwrap_or_default()),
                Outcome::Fault(fault) => Settled::Fault(fault),
            };
            settle(index, settled)
        })
    }

    fn copy(&mut self, bytes: &[u8]) -> usize {
        self.bytes.extend_from_slice(bytes);
        self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::FaultCode;

    fn emit(frames: &[u8], count: u32) -> Settled<'_> {
        Settled::Emit(Outputs { frames, count })
    }

    #[test]
    fn what_comes_out_is_what_went_in_twice_over() {
        let mut kept = Deferred::default();
        for _ in 0..2 {
            kept.clear();
            let all = || {
                let fault = Box::new(Fault::new(FaultCode::Trap, "why"));
                [
                    Settled::Keep,
                    emit(b"abc", 2),
                    Settled::Drop,
                    Settled::Reject("no"),
                    Settled::Fault(fault),
                    emit(b"d", 1),
                ]
            };
            all().into_iter().for_each(|settled| kept.push(settled).unwrap());
            assert_eq!(kept.len(), 6);
            let (mut seen, mut places) = (Vec::new(), Vec::new());
            kept.settle(|index, settled| {
                places.push(index);
                seen.push(format!("{settled:?}"));
                Ok::<(), ()>(())
            })
            .unwrap();
            assert_eq!(places, [0, 1, 2, 3, 4, 5]);
            assert_eq!(seen, all().map(|settled| format!("{settled:?}")));
            assert!(kept.is_empty());
        }
    }

    #[test]
    fn whoever_refuses_one_gets_no_more_and_nothing_is_left() {
        let mut kept = Deferred::default();
        (0..5).for_each(|_| kept.push(emit(b"x", 1)).unwrap());
        let mut seen = 0;
        let refused = kept.settle(|index, _| {
            seen += 1;
            if index == 2 { Err("enough") } else { Ok(()) }
        });
        assert_eq!((refused, seen, kept.len()), (Err("enough"), 3, 0));
    }

    #[test]
    fn a_guest_cannot_make_it_grow() {
        let mut kept = Deferred::default();
        let large = vec![7; Deferred::ROOM / 2 + 1];
        kept.push(emit(&large, 1)).unwrap();
        kept.push(emit(&large, 1)).unwrap();
        assert_eq!(kept.push(Settled::Keep), Err(NoRoom));
        assert_eq!(kept.len(), 2, "what was taken stands");
        kept.clear();
        assert!(kept.bytes.capacity() <= Deferred::ROOM);
        kept.push(Settled::Keep).unwrap();
    }

    #[test]
    fn a_guest_cannot_make_it_grow_by_failing() {
        let mut kept = Deferred::default();
        let fault = || Settled::Fault(Box::new(Fault::new(FaultCode::OutputTopic, "x".repeat(4096))));
        let most = Deferred::ROOM / 2048;
        let taken = (0..=most).take_while(|_| kept.push(fault()).is_ok()).count();
        assert!((most / 2..=most).contains(&taken), "{taken} faults of 2 KiB in 4 MiB");
        assert_eq!(kept.push(Settled::Keep), Err(NoRoom));
        kept.clear();
        kept.push(fault()).unwrap();
    }
}
