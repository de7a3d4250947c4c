//! Partitions that are assigned before it is known where to begin with them: another member's transaction is undecided,
//! or a leader or the coordinator is down. Each is fetched into a queue that nobody reads, while a separate thread
//! looks up its position; the worker that owns it continues with the others.

use crate::client::{Client, Queue};
use crate::consumer::{ConsumerError, Start};
use crate::locate::{Ask, Place, locate};
use crate::position::{Position, TopicPartition};
use crate::wake::Wake;
use rdkafka_sys as sys;
use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use sys::rd_kafka_resp_err_t as Code;

const LOOKUP_LIMIT: Duration = Duration::from_secs(1);
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
    /// That it takes long.
    told: bool,
}

/// Used by the consumer's owning thread only.
pub(crate) struct Parking {
    queue: Cell<*mut sys::rd_kafka_queue_t>,
    stays: Cell<u64>,
    waiting: RefCell<Vec<Parked>>,
    lookup: RefCell<Option<Lookup>>,
    again_at: Cell<Option<Instant>>,
}

/// A thread that asks the brokers.
struct Lookup {
    of: Vec<Parked>,
    thread: JoinHandle<Vec<Place>>,
}

impl Parking {
    pub fn new() -> Self {
        Parking {
            queue: Cell::new(ptr::null_mut()),
            stays: Cell::new(0),
            waiting: RefCell::default(),
            lookup: RefCell::default(),
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
            Some(Lookup { of, thread }) => {
                self.again_at.set(Some(now + LOOKUP_PAUSE));
                // A thread that panicked has found nothing; the next asks again.
                self.judge(of, thread.join().unwrap_or_default(), now)?
            }
            None => Vec::new(),
        };
        let waiting = self.waiting.borrow();
        if waiting.len() > found.len() && self.again_at.get().is_none_or(|at| at <= now) {
            *lookup = Some(Lookup::start(waiting.clone(), client, wake));
        }
        Ok(found)
    }

    fn judge(
        &self,
        of: Vec<Parked>,
        places: Vec<Place>,
        now: Instant,
    ) -> Result<Vec<(Parked, Position)>, ConsumerError> {
        let mut found = Vec::new();
        let mut waiting = self.waiting.borrow_mut();
        for (asked, place) in of.into_iter().zip(places) {
            // Revoked since; or revoked and parked again.
            let Some(parked) = waiting.iter_mut().find(|parked| parked.number == asked.number) else { continue };
            let since = match place {
                Place::BeyondEnd { .. } => Some(*parked.beyond_end_since.get_or_insert(now)),
                _ => parked.beyond_end_since.take(),
            };
            match place {
                Place::At(position) => found.push((asked, position)),
                Place::Unknown { leaderless, .. } => parked.tell_if_long(leaderless, now),
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

    /// Waits for a lookup that is under way: it uses the client.
    pub fn close(&self) {
        if let Some(lookup) = self.lookup.borrow_mut().take() {
            let _ = lookup.thread.join();
        }
    }
}

impl Parked {
    fn tell_if_long(&mut self, leaderless: bool, now: Instant) {
        if self.told || now.saturating_duration_since(self.since) < UNKNOWN_LONG {
            return;
        }
        self.told = true;
        let advice = if leaderless {
            "look whether the partition has a leader"
        } else {
            "look for a transaction that hangs (`kafka-transactions.sh find-hanging`) and at the group's coordinator"
        };
        tracing::warn!(
            partition = %self.partition, code = "input.no_position", advice,
            "nothing is read: it is not known yet where to begin"
        );
    }
}

impl Lookup {
    fn start(of: Vec<Parked>, client: &Arc<Client>, wake: &Arc<Wake>) -> Self {
        let wanted: Vec<_> = of.iter().map(|parked| (parked.partition.clone(), parked.start)).collect();
        let (client, wake) = (Arc::clone(client), Arc::clone(wake));
        let thread = std::thread::spawn(move || {
            let places = locate(client.raw(), &wanted, Ask::Now, LOOKUP_LIMIT);
            wake.notify();
            places
        });
        Lookup { of, thread }
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
            after(vec![Place::Unknown { near: None, leaderless: true }], 31).unwrap(),
            0,
            "the leader went away: counted anew"
        );
        assert_eq!(after(vec![beyond()], 40).unwrap(), 0);
        let error = after(vec![beyond()], 71).unwrap_err();
        assert!(matches!(error, ConsumerError::BeyondEnd { end: Position(7), .. }), "{error}");
    }

    #[test]
    fn a_missing_right_is_told_and_not_waited_for() {
        let parking = Parking::new();
        parking.park(&partition(), Start::Earliest, 0);
        let refused = vec![Place::Refused("committed: not authorised".into())];
        assert!(matches!(parking.judge(parked(&parking), refused, Instant::now()), Err(ConsumerError::Refused { .. })));
    }
}
