//! Which of a worker's partitions are paused, because a transform that reads them has used up its failure budget (until
//! a reload replaces it, it is resumed, or the process ends) or its share of the worker's time (until that has
//! recovered), because somebody wants it paused, or because its lane looks for a refused record in other partitions. It
//! decides; the worker carries it out.
//!
//! Two facts of librdkafka's source shape this. A resumed partition continues where a record was last handed out, which
//! after a rollback is too far, because a seek does not move that mark: so a partition is paused only once something of
//! it has been read, and sought when it is resumed. And a partition stays paused across a revocation, until somebody
//! resumes it.

use super::breaker::{Allowance, TimeSpent};
use pelton_kafka::TopicPartition;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A transform may be ahead of its share by so much: a batch takes 50 ms at most.
const CREDIT: Duration = Duration::from_millis(100);
/// How often the shares are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub struct Pauses {
    allowances: Vec<Allowance>,
    shares: Vec<Share>,
    /// What librdkafka has paused, whether it is ours now or not.
    paused: BTreeSet<TopicPartition>,
    looked: Option<Instant>,
}

/// A bucket that fills with the transform's share of the time that passes and is emptied by what it takes.
#[derive(Debug)]
struct Share {
    thousandths: u32,
    /// Negative: it is in debt, and held until it is not.
    credit: f64,
    seen: Duration,
    at: Option<Instant>,
    held: bool,
}

/// A partition that the worker has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owned {
    pub partition: TopicPartition,
    /// Something of it was read.
    pub read: bool,
    /// Its lane looks for a refused record in other partitions.
    pub aside: bool,
}

/// What is to be done.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Changes {
    pub pause: Vec<TopicPartition>,
    pub resume: Vec<TopicPartition>,
}

impl Pauses {
    pub fn new(allowances: &[Allowance]) -> Self {
        let mut pauses = Pauses { allowances: Vec::new(), shares: Vec::new(), paused: BTreeSet::new(), looked: None };
        pauses.adopt(allowances);
        pauses
    }

    /// Goes by these from now on; time spent is counted anew. Who is in debt stays so.
    pub fn adopt(&mut self, allowances: &[Allowance]) {
        let known = |allowance: &Allowance| self.allowances.iter().position(|old| old.name == allowance.name);
        let share = |allowance: &Allowance| {
            let (credit, held) = match known(allowance).map(|index| &self.shares[index]) {
                Some(share) => (share.credit, share.held),
                None => (CREDIT.as_secs_f64(), false),
            };
            let held = held && allowance.share < 1000;
            Share { thousandths: allowance.share, credit, seen: Duration::ZERO, at: None, held }
        };
        self.shares = allowances.iter().map(share).collect();
        self.allowances = allowances.to_vec();
    }

    /// Nothing is held, and nothing can be but what is left aside: the rule.
    pub fn is_idle(&self) -> bool {
        self.paused.is_empty()
            && self.allowances.iter().all(|allowance| allowance.paused().is_none())
            && self.shares.iter().all(|share| share.thousandths >= 1000)
    }

    /// Whether it is time to ask for [`Pauses::changes`].
    pub fn is_due(&self, now: Instant) -> bool {
        self.looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK_EVERY)
    }

    /// What must change for the partitions that the worker has.
    pub fn changes(&mut self, partitions: &[Owned], spent: &TimeSpent, now: Instant) -> Changes {
        self.looked = Some(now);
        for (transform, share) in self.shares.iter_mut().enumerate() {
            share.look(spent.of(transform), now);
        }
        let held = |(allowance, share): &(&Allowance, &Share)| allowance.paused().is_some() || share.held;
        let topics: Vec<&Arc<str>> = self
            .allowances
            .iter()
            .zip(&self.shares)
            .filter(held)
            .flat_map(|(allowance, _)| &allowance.topics)
            .collect();
        let mut changes = Changes::default();
        for Owned { partition, read, aside } in partitions {
            let wanted = *aside || topics.iter().any(|topic| **topic == partition.topic);
            match (wanted, self.paused.contains(partition)) {
                (true, false) if *read => {
                    self.paused.insert(partition.clone());
                    changes.pause.push(partition.clone());
                }
                (false, true) => {
                    self.paused.remove(partition);
                    changes.resume.push(partition.clone());
                }
                _ => {}
            }
        }
        changes
    }
}

impl Share {
    fn look(&mut self, spent: Duration, now: Instant) {
        if self.thousandths >= 1000 {
            return;
        }
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let earned = passed.as_secs_f64() * f64::from(self.thousandths) / 1000.0;
        let taken = spent.saturating_sub(self.seen).as_secs_f64();
        self.credit = (self.credit + earned - taken).min(CREDIT.as_secs_f64());
        (self.seen, self.at) = (spent, Some(now));
        // Until half of the credit is there again, so as not to flutter.
        self.held = if self.held { self.credit < CREDIT.as_secs_f64() / 2.0 } else { self.credit < 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::super::breaker::{Breaker, Budget, Then};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Bench {
        allowances: Vec<Allowance>,
        spent: TimeSpent,
        pauses: Pauses,
        now: Instant,
    }

    impl Bench {
        fn new(share: u32) -> Self {
            let budget = Budget { failures: 1, within: Duration::from_secs(1), then: Then::Pause };
            let of = |name: &str, topic: &str, share| Allowance {
                name: name.into(),
                topics: vec![topic.into()],
                breaker: Arc::new(Breaker::new(Some(budget))),
                by_hand: Arc::default(),
                share,
            };
            let allowances = vec![of("bad", "a", share), of("good", "b", 1000)];
            let pauses = Pauses::new(&allowances);
            Bench { allowances, spent: TimeSpent::new(2), pauses, now: Instant::now() }
        }

        fn look(&mut self, owned: &[(&str, bool)]) -> (Vec<String>, Vec<String>) {
            let partitions: Vec<Owned> =
                owned.iter().map(|(topic, read)| Owned { partition: p(topic), read: *read, aside: false }).collect();
            let changes = self.pauses.changes(&partitions, &self.spent, self.now);
            let names = |all: Vec<TopicPartition>| all.iter().map(|p| p.topic.to_string()).collect();
            (names(changes.pause), names(changes.resume))
        }
    }

    fn p(topic: &str) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition: 0 }
    }

    fn none() -> (Vec<String>, Vec<String>) {
        (Vec::new(), Vec::new())
    }

    #[test]
    fn a_tripped_breaker_pauses_the_transform_s_topics_for_good() {
        let mut bench = Bench::new(1000);
        assert!(bench.pauses.is_idle());
        assert_eq!(bench.look(&[("a", true), ("b", true)]), none());
        bench.allowances[0].breaker.failed(bench.now);
        assert!(!bench.pauses.is_idle());
        assert_eq!(bench.look(&[("a", true), ("b", true)]), (vec!["a".into()], vec![]));
        assert_eq!(bench.look(&[("a", true), ("b", true)]), none(), "once");
        assert_eq!(bench.look(&[("b", true)]), none(), "it was revoked");
        assert_eq!(bench.look(&[("a", false), ("b", true)]), none(), "and came back as it was");
    }

    #[test]
    fn a_new_generation_s_breaker_lets_the_topics_go() {
        let mut bench = Bench::new(1000);
        bench.allowances[0].breaker.failed(bench.now);
        assert_eq!(bench.look(&[("a", true)]), (vec!["a".into()], vec![]));
        bench.allowances[0].breaker = Arc::new(Breaker::new(None));
        bench.pauses.adopt(&bench.allowances);
        assert_eq!(bench.look(&[("a", true)]), (vec![], vec!["a".into()]));
        assert!(bench.pauses.is_idle());
    }

    #[test]
    fn a_pause_by_hand_outlasts_a_new_generation_and_ends_when_it_is_resumed() {
        let mut bench = Bench::new(1000);
        assert!(bench.allowances[0].pause());
        assert!(!bench.pauses.is_idle());
        assert_eq!(bench.look(&[("a", true), ("b", true)]), (vec!["a".into()], vec![]));
        bench.allowances[0].breaker = Arc::new(Breaker::new(None));
        bench.pauses.adopt(&bench.allowances);
        assert_eq!(bench.look(&[("a", true), ("b", true)]), none(), "still paused");
        assert!(bench.allowances[0].resume());
        assert_eq!(bench.look(&[("a", true), ("b", true)]), (vec![], vec!["a".into()]));
        assert!(bench.pauses.is_idle());
    }

    #[test]
    fn a_reload_does_not_forgive_a_debt_of_time() {
        let mut bench = Bench::new(250);
        bench.look(&[("a", true)]);
        bench.spent.add(0, 500 * MS);
        assert_eq!(bench.look(&[("a", true)]), (vec!["a".into()], vec![]));
        bench.pauses.adopt(&bench.allowances);
        bench.spent = TimeSpent::new(2);
        bench.now += 100 * MS;
        assert_eq!(bench.look(&[("a", true)]), none(), "still held");
        bench.look(&[("a", true)]);
        bench.now += 3_000 * MS;
        assert_eq!(bench.look(&[("a", true)]), (vec![], vec!["a".into()]));
    }

    #[test]
    fn what_was_paused_when_it_went_is_resumed_when_it_comes_back() {
        let mut bench = Bench::new(250);
        bench.look(&[("a", false)]);
        bench.spent.add(0, 500 * MS);
        assert_eq!(bench.look(&[("a", false)]), none(), "nothing of it was read: where would it go on?");
        assert_eq!(bench.look(&[("a", true)]), (vec!["a".into()], vec![]));
        bench.now += 10_000 * MS;
        assert_eq!(bench.look(&[]), none());
        assert_eq!(bench.look(&[("a", false)]), (vec![], vec!["a".into()]));
    }

    #[test]
    fn a_share_is_held_until_it_has_grown_back() {
        let mut bench = Bench::new(250);
        assert_eq!(bench.look(&[("a", true), ("b", true)]), none());
        bench.now += 100 * MS;
        bench.spent.add(0, 100 * MS);
        bench.spent.add(1, 500 * MS);
        assert_eq!(bench.look(&[("a", true), ("b", true)]), none(), "within its credit");
        bench.now += 100 * MS;
        bench.spent.add(0, 100 * MS);
        assert_eq!(bench.look(&[("a", true), ("b", true)]), (vec!["a".into()], vec![]));
        bench.now += 200 * MS;
        assert_eq!(bench.look(&[("a", true), ("b", true)]), none(), "not yet");
        bench.now += 300 * MS;
        assert_eq!(bench.look(&[("a", true), ("b", true)]), (vec![], vec!["a".into()]));
    }

    #[test]
    fn over_time_a_transform_gets_its_share_and_no_more() {
        let mut bench = Bench::new(200);
        let mut held = false;
        for _ in 0..10_000 {
            bench.now += 10 * MS;
            if !held {
                bench.spent.add(0, 10 * MS);
            }
            let (pause, resume) = bench.look(&[("a", true)]);
            held = (held || !pause.is_empty()) && resume.is_empty();
        }
        let share = bench.spent.of(0).as_secs_f64() / 100.0;
        assert!((0.19..0.21).contains(&share), "{share}");
    }
}
