//! Partitions that are assigned before it is known where to begin with them: another member's transaction is undecided,
//! or a leader or the coordinator is down. Each is fetched into a queue that nobody reads, while a separate thread
//! looks up its position; the worker that owns it continues with the others.

use crate::client::{Client, Queue};
use crate::consumer::{ConsumerError, Start};
use crate::locate::{Ask, Place, Why, locate};
use crate::position::{Position, TopicPartition};
use crate::wake::Wake;
use rdkafka_sys as sys;
use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use sys::rd_kafka_resp_err_t as Code;

/// Twice as long after each lookup that learnt nothing, up to the second: a coordinator may be slow.
const LOOKUP_LIMIT: Duration = Duration::from_secs(2);
const LOOKUP_LIMIT_MAX: Duration = Duration::from_secs(16);
const LOOKUP_PAUSE: Duration = Duration::from_millis(100);
/// So many records of parked partitions are dropped at a time.
const EMPTIED_MAX: usize = 10_000;
/// A new leader shows the whole log soon. What the log still lacks after so long was cut off.
const BEYOND_END_MAX: Duration = Duration::from_secs(30);

/// From so long on it is told that a place is still unknown.
const UNKNOWN_LONG: Duration = Duration::from_secs(30);

/// One stay of a partition in the parking.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    /// Tells one stay of a partition from the next: what was found for an earlier one is out of date.
    number: u64,
    pub partition: TopicPartition,
    pub start: Start,
    pub lane: usize,
    beyond_end_since: Option<Instant>,
    since: Instant,
    /// The last lookup that asked for its place in vain: those for which that is longest ago come first.
    in_vain: u64,
    /// That it takes long.
    told: bool,
}

/// Used by the consumer's owning thread only.
pub(crate) struct Parking {
    queue: Cell<*mut sys::rd_kafka_queue_t>,
    stays: Cell<u64>,
    lookups: Cell<u64>,
    waiting: RefCell<Vec<Parked>>,
    lookup: RefCell<Option<Lookup>>,
    /// Of the next lookup.
    limit: Cell<Duration>,
    again_at: Cell<Option<Instant>>,
}

/// A thread that asks the brokers.
struct Lookup {
    of: Vec<Parked>,
    thread: JoinHandle<Vec<Place>>,
    given_up: Arc<AtomicBool>,
}

impl Parking {
    pub fn new() -> Self {
        Parking {
            queue: Cell::new(ptr::null_mut()),
            stays: Cell::new(0),
            lookups: Cell::new(0),
            waiting: RefCell::default(),
            lookup: RefCell::default(),
            limit: Cell::new(LOOKUP_LIMIT),
            again_at: Cell::new(None),
        }
    }

    /// The queue nobody reads; the consumer keeps it alive.
    pub fn set_queue(&self, queue: &Queue) {
        self.queue.set(queue.raw());
    }

    pub fn queue(&self) -> *mut sys::rd_kafka_queue_t {
        self.queue.get()
    }

    pub fn park(&self, partition: &TopicPartition, start: Start, lane: usize) {
        // A lookup that goes on without it ends soon: it is not to wait for those that hang.
        self.limit.set(LOOKUP_LIMIT);
        self.give_up();
        let number = self.stays.get();
        self.stays.set(number + 1);
        let partition = partition.clone();
        self.waiting.borrow_mut().push(Parked {
            number,
            partition,
            start,
            lane,
            beyond_end_since: None,
            since: Instant::now(),
            in_vain: 0,
            told: false,
        });
    }

    pub fn len(&self) -> usize {
        self.waiting.borrow().len()
    }

    pub fn has(&self, partition: &TopicPartition) -> bool {
        self.waiting.borrow().iter().any(|parked| parked.partition == *partition)
    }

    pub fn forget(&self, partitions: &[TopicPartition]) {
        self.waiting.borrow_mut().retain(|parked| !partitions.contains(&parked.partition));
    }

    /// A lookup that is under way ends with its present question.
    pub fn give_up(&self) {
        if let Some(lookup) = &*self.lookup.borrow() {
            lookup.given_up.store(true, Ordering::Relaxed);
        }
    }

    /// Its place is known, but reading cannot begin there yet.
    pub fn not_yet(&self, parked: &Parked) {
        let advice = "look at the partition's leader; the process goes on trying";
        let mut waiting = self.waiting.borrow_mut();
        if let Some(parked) = waiting.iter_mut().find(|other| other.number == parked.number) {
            parked.tell_if_long(advice, Instant::now());
        }
    }

    /// Its place was taken up.
    pub fn release(&self, parked: &Parked) {
        self.waiting.borrow_mut().retain(|other| other.number != parked.number);
    }

    /// Those whose places have been found since. Never blocks; `wake` is notified when there is something.
    pub fn found(&self, client: &Arc<Client>, wake: &Arc<Wake>) -> Result<Vec<(Parked, Position)>, ConsumerError> {
        let now = Instant::now();
        let mut lookup = self.lookup.borrow_mut();
        let found = match lookup.take() {
            Some(unfinished) if !unfinished.thread.is_finished() => {
                *lookup = Some(unfinished);
                return Ok(Vec::new());
            }
            Some(Lookup { of, thread, given_up }) => {
                self.again_at.set(Some(now + LOOKUP_PAUSE));
                if !given_up.load(Ordering::Relaxed) {
                    // Taken back by the first thing that is learnt.
                    self.limit.set(LOOKUP_LIMIT_MAX.min(self.limit.get() * 2));
                }
                // A thread that panicked has found nothing; the next asks again.
                self.judge(of, thread.join().unwrap_or_default(), now)?
            }
            None => Vec::new(),
        };
        let waiting = self.waiting.borrow();
        if waiting.len() > found.len() && self.again_at.get().is_none_or(|at| at <= now) {
            *lookup = Some(Lookup::start(waiting.clone(), self.limit.get(), client, wake));
        }
        Ok(found)
    }

    fn judge(
        &self,
        of: Vec<Parked>,
        places: Vec<Place>,
        now: Instant,
    ) -> Result<Vec<(Parked, Position)>, ConsumerError> {
        if places.iter().any(|place| !matches!(place, Place::Unknown { .. })) {
            self.limit.set(LOOKUP_LIMIT);
        }
        self.lookups.set(self.lookups.get() + 1);
        let mut found = Vec::new();
        let mut waiting = self.waiting.borrow_mut();
        for (asked, place) in of.into_iter().zip(places) {
            // Revoked since; or revoked and parked again.
            let Some(parked) = waiting.iter_mut().find(|parked| parked.number == asked.number) else { continue };
            if let Place::Unknown { why: Why::NotAsked, .. } = place {
                parked.tell_if_long(advice(Why::NotAsked), now);
                continue;
            }
            let since = match place {
                Place::BeyondEnd { .. } => Some(*parked.beyond_end_since.get_or_insert(now)),
                _ => parked.beyond_end_since.take(),
            };
            match place {
                Place::At(position) => found.push((asked, position)),
                Place::Unknown { why, .. } => {
                    parked.in_vain = self.lookups.get();
                    parked.tell_if_long(advice(why), now);
                }
                Place::BeyondEnd { committed, end, .. }
                    if since.is_some_and(|since| now.saturating_duration_since(since) >= BEYOND_END_MAX) =>
                {
                    return Err(ConsumerError::BeyondEnd { partition: asked.partition, committed, end });
                }
                Place::BeyondEnd { .. } => {}
                Place::Refused(text) => {
                    return Err(ConsumerError::Refused { what: "the group's positions".into(), text });
                }
            }
        }
        waiting.sort_by_key(|parked| parked.in_vain);
        Ok(found)
    }

    /// Drops what was fetched; what is left is for the next time, the worker has other things to do.
    pub fn empty(&self) -> Result<(), ConsumerError> {
        for _ in 0..EMPTIED_MAX {
            // SAFETY: a live queue; a returned message is ours, read and destroyed once.
            let (code, partition) = unsafe {
                let message = sys::rd_kafka_consume_queue(self.queue.get(), 0);
                if message.is_null() {
                    return Ok(());
                }
                let read = ((*message).err, (*message).partition);
                sys::rd_kafka_message_destroy(message);
                read
            };
            // Its log does not begin where it was parked: it fetches no more, and cannot be moved.
            if code == Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET {
                return Err(ConsumerError::LostPlace { partition });
            }
        }
        Ok(())
    }

    /// Waits for the question that is under way: it uses the client.
    pub fn close(&self) {
        self.give_up();
        if let Some(lookup) = self.lookup.borrow_mut().take() {
            let _ = lookup.thread.join();
        }
    }
}

fn advice(why: Why) -> &'static str {
    match why {
        Why::Leaderless => "look whether the partition has a leader",
        Why::Undecided | Why::NotAsked => {
            "look for a transaction that hangs (`kafka-transactions.sh find-hanging`) and at the group's coordinator"
        }
    }
}

impl Parked {
    fn tell_if_long(&mut self, advice: &str, now: Instant) {
        if self.told || now.saturating_duration_since(self.since) < UNKNOWN_LONG {
            return;
        }
        self.told = true;
        tracing::warn!(
            partition = %self.partition, code = "input.no_position", advice,
            "nothing is read: it is not known yet where to begin"
        );
    }
}

impl Lookup {
    fn start(of: Vec<Parked>, limit: Duration, client: &Arc<Client>, wake: &Arc<Wake>) -> Self {
        let wanted: Vec<_> = of.iter().map(|parked| (parked.partition.clone(), parked.start)).collect();
        let (client, wake) = (Arc::clone(client), Arc::clone(wake));
        let given_up = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&given_up);
        let thread = std::thread::spawn(move || {
            let places = locate(client.raw(), &wanted, Ask::Singly(&ended), limit);
            wake.notify();
            places
        });
        Lookup { of, thread, given_up }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beyond() -> Place {
        Place::BeyondEnd { committed: Position(100), end: Position(7) }
    }

    fn parked(parking: &Parking) -> Vec<Parked> {
        parking.waiting.borrow().clone()
    }

    fn partition() -> TopicPartition {
        TopicPartition { topic: "in".into(), partition: 3 }
    }

    #[test]
    fn a_place_that_was_found_for_an_earlier_stay_is_not_taken() {
        let (parking, now) = (Parking::new(), Instant::now());
        parking.park(&partition(), Start::Earliest, 0);
        let asked = parked(&parking);
        parking.forget(&[partition()]);
        parking.park(&partition(), Start::Earliest, 0);
        let found = parking.judge(asked, vec![Place::At(Position(5))], now).unwrap();
        assert!(found.is_empty(), "another member may have gone on from there");
        let found = parking.judge(parked(&parking), vec![Place::At(Position(9))], now).unwrap();
        assert_eq!(found[0].1, Position(9));
        assert_eq!(parked(&parking).len(), 1, "it stays until the seek has succeeded");
        parking.release(&found[0].0);
        assert!(parked(&parking).is_empty());
    }

    #[test]
    fn a_log_that_stays_shorter_than_what_was_committed_is_an_error_and_a_leader_that_lags_is_not() {
        let (parking, start) = (Parking::new(), Instant::now());
        parking.park(&partition(), Start::Earliest, 0);
        let after = |places: Vec<Place>, seconds| {
            parking.judge(parked(&parking), places, start + Duration::from_secs(seconds)).map(|found| found.len())
        };
        assert_eq!(after(vec![beyond()], 0).unwrap(), 0);
        assert_eq!(after(vec![beyond()], 29).unwrap(), 0);
        assert_eq!(
            after(vec![Place::Unknown { near: None, why: Why::Leaderless }], 31).unwrap(),
            0,
            "the leader went away: counted anew"
        );
        assert_eq!(after(vec![beyond()], 40).unwrap(), 0);
        let error = after(vec![beyond()], 71).unwrap_err();
        assert!(matches!(error, ConsumerError::BeyondEnd { end: Position(7), .. }), "{error}");
    }

    #[test]
    fn those_that_were_not_asked_for_longest_come_first_however_often_they_were_before() {
        let (parking, now) = (Parking::new(), Instant::now());
        let name = |partition| TopicPartition { topic: "in".into(), partition };
        (0..3).for_each(|number| parking.park(&name(number), Start::Earliest, 0));
        let unknown = |why| Place::Unknown { near: None, why };
        let order = || parked(&parking).iter().map(|parked| parked.partition.partition).collect::<Vec<_>>();
        let judge = |places| parking.judge(parked(&parking), places, now).unwrap().len();
        // Partition 2 is asked for in each of three lookups, and only then there is no time for the others.
        judge(vec![unknown(Why::Undecided), unknown(Why::NotAsked), unknown(Why::Leaderless)]);
        assert_eq!(order(), [1, 0, 2]);
        judge(vec![unknown(Why::NotAsked), unknown(Why::NotAsked), unknown(Why::Leaderless)]);
        judge(vec![unknown(Why::NotAsked), unknown(Why::NotAsked), unknown(Why::Leaderless)]);
        assert_eq!(order(), [1, 0, 2]);
        judge(vec![unknown(Why::Undecided), unknown(Why::Undecided), unknown(Why::NotAsked)]);
        assert_eq!(order(), [2, 1, 0], "it waits no longer for having been asked for more often");
        parking.limit.set(LOOKUP_LIMIT_MAX);
        judge(vec![unknown(Why::Undecided), unknown(Why::Undecided), unknown(Why::NotAsked)]);
        assert_eq!(parking.limit.get(), LOOKUP_LIMIT_MAX);
        assert_eq!(judge(vec![unknown(Why::Undecided), Place::At(Position(5)), unknown(Why::NotAsked)]), 1);
        assert_eq!(parking.limit.get(), LOOKUP_LIMIT, "the coordinator answers");
        parking.limit.set(LOOKUP_LIMIT_MAX);
        parking.park(&name(3), Start::Earliest, 0);
        assert_eq!(parking.limit.get(), LOOKUP_LIMIT, "a new one is not to wait long");
    }

    #[test]
    fn a_missing_right_is_told_and_not_waited_for() {
        let parking = Parking::new();
        parking.park(&partition(), Start::Earliest, 0);
        let refused = vec![Place::Refused("committed: not authorised".into())];
        assert!(matches!(parking.judge(parked(&parking), refused, Instant::now()), Err(ConsumerError::Refused { .. })));
    }
}
