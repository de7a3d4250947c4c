//! Which faults, in which order, with which numbers: all of it from the seed, so that the same seed gives the same
//! sequence. The kinds come in rounds, each a shuffled bag that holds every kind at least once.

use std::time::Duration;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fault {
    /// SIGKILL of a process that comes back at once under its identity.
    Kill,
    /// SIGKILL of a process that does not come back until the others have taken over.
    KillForGood,
    Terminate,
    /// SIGSTOP for less than the session timeout.
    PauseShort,
    /// SIGSTOP beyond session and transaction timeout.
    PauseLong,
    ScaleDown,
    ScaleUp,
    BrokerKill,
    BrokerPause,
    BrokerRoll,
    KillTransactionCoordinator,
    KillGroupCoordinator,
    KillOutputLeader,
    Delay,
    Cut,
    StallToBroker,
    StallToClient,
    Throttle,
    LateEndTxn,
    KillBeforeDelivery,
    KillBeforeAnswer,
    KillAfterAnswer,
    LostAnswer,
    Hijack,
    GuestTrap,
    GuestSpin,
    /// An output that its topic refuses, again and again.
    Oversize,
    /// An output topic that takes nothing for a while.
    Unwritable,
    /// A process takes up another version of its transform: at once, as a canary or a shadow, with one topic more; sometimes
    /// it is killed over it.
    Reload,
}

use Fault::*;

impl Fault {
    /// All kinds, and how often each is in a round.
    const ROUND: [(Fault, usize); 29] = [
        (Kill, 2),
        (KillForGood, 1),
        (Terminate, 2),
        (PauseShort, 2),
        (PauseLong, 1),
        (ScaleDown, 1),
        (ScaleUp, 1),
        (BrokerKill, 1),
        (BrokerPause, 1),
        (BrokerRoll, 1),
        (KillTransactionCoordinator, 1),
        (KillGroupCoordinator, 1),
        (KillOutputLeader, 1),
        (Delay, 2),
        (Cut, 3),
        (StallToBroker, 2),
        (StallToClient, 2),
        (Throttle, 1),
        (LateEndTxn, 5),
        (KillBeforeDelivery, 2),
        (KillBeforeAnswer, 2),
        (KillAfterAnswer, 2),
        (LostAnswer, 3),
        (Hijack, 2),
        (GuestTrap, 1),
        (GuestSpin, 1),
        (Oversize, 1),
        (Unwritable, 1),
        (Reload, 4),
    ];

    pub fn all() -> impl Iterator<Item = Fault> {
        Self::ROUND.iter().map(|entry| entry.0)
    }

    pub fn name(self) -> &'static str {
        match self {
            Kill => "kill",
            KillForGood => "kill-for-good",
            Terminate => "terminate",
            PauseShort => "pause-short",
            PauseLong => "pause-long",
            ScaleDown => "scale-down",
            ScaleUp => "scale-up",
            BrokerKill => "broker-kill",
            BrokerPause => "broker-pause",
            BrokerRoll => "broker-roll",
            KillTransactionCoordinator => "kill-transaction-coordinator",
            KillGroupCoordinator => "kill-group-coordinator",
            KillOutputLeader => "kill-output-leader",
            Delay => "delay",
            Cut => "cut",
            StallToBroker => "stall-to-broker",
            StallToClient => "stall-to-client",
            Throttle => "throttle",
            LateEndTxn => "late-end-txn",
            KillBeforeDelivery => "kill-before-delivery",
            KillBeforeAnswer => "kill-before-answer",
            KillAfterAnswer => "kill-after-answer",
            LostAnswer => "lost-answer",
            Hijack => "hijack",
            GuestTrap => "guest-trap",
            GuestSpin => "guest-spin",
            Oversize => "oversize",
            Unwritable => "unwritable",
            Reload => "reload",
        }
    }

    pub fn by_name(name: &str) -> Option<Self> {
        Self::all().find(|fault| fault.name() == name)
    }

    /// Does it make sense with one broker only? A kill of it leaves every partition without a leader, and Kafka 4.3.1 then
    /// ends transactions without writing their markers (docs/decisions/0010-markers-skipped.md): nobody can be exact there.
    fn fits_one_broker(self) -> bool {
        !matches!(
            self,
            BrokerKill | BrokerRoll | KillTransactionCoordinator | KillGroupCoordinator | KillOutputLeader | Unwritable
        )
    }

    /// Short enough, and heals fast enough, for a run of two minutes.
    fn fits_slice(self) -> bool {
        !matches!(self, KillForGood | PauseLong | BrokerPause | BrokerKill)
    }

    /// How long it lasts, from and to, in milliseconds.
    fn lasts_ms(self) -> (u64, u64) {
        match self {
            PauseShort => (1_000, 4_000),
            // Session 10 s, transaction 10 s.
            PauseLong => (13_000, 18_000),
            // Not back before the controller has fenced it (broker.session.timeout.ms is 6 s): a coordinator that is killed
            // and back at once acts on what it never replicated (docs/decisions/0011-quick-restart.md).
            BrokerKill | KillTransactionCoordinator | KillGroupCoordinator | KillOutputLeader => (8_000, 12_000),
            BrokerPause => (3_000, 9_000),
            Delay => (3_000, 6_000),
            StallToBroker | StallToClient => (1_000, 8_000),
            Throttle => (3_000, 5_000),
            LateEndTxn => (2_000, 4_000),
            Unwritable => (4_000, 8_000),
            _ => (0, 0),
        }
    }
}

/// One fault of the schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    pub number: u32,
    pub fault: Fault,
    pub lasts: Duration,
    /// Whom it hits: this modulo however many there are.
    pub victim: u32,
    /// How hard, where that can be said: 0 to 99.
    pub force: u32,
}

/// An endless sequence.
#[derive(Debug)]
pub struct Schedule {
    random: fastrand::Rng,
    bag: Vec<Fault>,
    rest: Vec<Fault>,
    number: u32,
}

/// What there is to hurt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    pub brokers: usize,
    pub slice: bool,
}

impl Schedule {
    pub fn new(seed: u64, extent: Extent) -> Self {
        let fits =
            |fault: Fault| (extent.brokers > 1 || fault.fits_one_broker()) && (!extent.slice || fault.fits_slice());
        let times = |(fault, times)| std::iter::repeat_n(fault, if extent.slice { 1 } else { times });
        let bag = Fault::ROUND.into_iter().filter(|entry| fits(entry.0)).flat_map(times).collect();
        Schedule { random: fastrand::Rng::with_seed(seed), bag, rest: Vec::new(), number: 0 }
    }

    /// Only these kinds, as many of each.
    pub fn only(seed: u64, kinds: &[Fault]) -> Self {
        Schedule { random: fastrand::Rng::with_seed(seed), bag: kinds.to_vec(), rest: Vec::new(), number: 0 }
    }

    /// The same without these kinds.
    pub fn without(mut self, kinds: &[Fault]) -> Self {
        self.bag.retain(|fault| !kinds.contains(fault));
        self
    }

    /// The kinds that come up.
    pub fn kinds(&self) -> usize {
        let mut kinds = self.bag.clone();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.len()
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.rest.is_empty() {
            self.rest = self.bag.clone();
            self.random.shuffle(&mut self.rest);
        }
        let fault = self.rest.pop()?;
        self.number += 1;
        let (from, to) = fault.lasts_ms();
        Some(Step {
            number: self.number,
            fault,
            lasts: Duration::from_millis(self.random.u64(from..=to)),
            victim: self.random.u32(..),
            force: self.random.u32(0..100),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Extent = Extent { brokers: 3, slice: false };

    #[test]
    fn the_same_seed_gives_the_same_faults_and_another_gives_others() {
        let steps = |seed| Schedule::new(seed, THREE).take(300).collect::<Vec<_>>();
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn a_round_holds_every_kind() {
        let schedule = Schedule::new(3, THREE);
        let round = schedule.bag.len();
        let mut kinds: Vec<Fault> = schedule.take(round).map(|step| step.fault).collect();
        kinds.sort_unstable();
        kinds.dedup();
        assert_eq!(kinds.len(), Fault::ROUND.len());
    }

    #[test]
    fn one_broker_and_the_slice_leave_at_least_fourteen_kinds() {
        for slice in [false, true] {
            let schedule = Schedule::new(3, Extent { brokers: 1, slice });
            assert!(schedule.kinds() >= 14);
            assert!(schedule.bag.iter().all(|fault| fault.fits_one_broker()));
        }
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        for fault in Fault::all() {
            assert_eq!(Fault::by_name(fault.name()), Some(fault));
        }
    }
}
