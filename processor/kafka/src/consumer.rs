//! The group member of one worker: reads into queues of its own (one per lane) and serves rebalances on the thread that
//! polls it, so that a revocation can finish open transactions before it returns (I6).
//!
//! Three librdkafka facts shape this file. Partition queues must be forwarded to our queues *before* the assignment
//! takes effect, else records appear on the consumer's main queue. The main queue must be served with the rebalance
//! callback installed: without one librdkafka drops the assignment by itself. And librdkafka must not look up where to
//! begin: see [`crate::locate`]. A partition whose starting position is not known yet is parked ([`crate::parking`]).

use crate::batch::Batch;
use crate::client::{Client, Queue, on_error};
use crate::error::{ClientError, Fate, TxnError, call_error, check, classify, name_of, text_of};
use crate::group::{GroupMetadata, NotAMember};
use crate::list::{List, entries};
use crate::locate::{self, Ask, Place};
use crate::parking::Parking;
use crate::position::{PartitionProgress, Position, TopicPartition};
use crate::properties::Properties;
use crate::statistics::{self, ConsumerStatistics};
use crate::wake::Wake;
use rdkafka_sys as sys;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sys::rd_kafka_resp_err_t as Code;

/// Where to begin with a partition for which the group has no committed position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    Earliest,
    Latest,
}

/// What happens to the assignment. Called on the polling thread, from inside [`Consumer::poll`] and [`Consumer::close`].
pub trait RebalanceHandler {
    /// New partitions. Answers with the lane of each, in the same order.
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<usize>;
    /// Partitions go. When this returns, none of them has open work of ours that could still commit. `lost`: somebody
    /// else may own them already, so nothing may be committed for them.
    fn revoked(&mut self, partitions: &[TopicPartition], lost: bool);
}

/// The consumer cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    #[error("fatal consumer error {name}: {text}")]
    Fatal { name: String, text: String },
    #[error("a rebalance failed: {0}")]
    Rebalance(#[source] TxnError),
    #[error("a record arrived on the main queue: partitions are not forwarded")]
    MainQueue,
    /// The log does not have the position any more: deleted by retention, or cut off. A new consumer begins where it can.
    #[error("partition {partition} no longer has the position that was to be read")]
    LostPlace { partition: i32 },
    /// The topic was cut off or made anew: going on anywhere would be a guess.
    #[error("the group has committed {committed} on {partition}, but the log ends at {end}")]
    BeyondEnd { partition: TopicPartition, committed: Position, end: Position },
    /// This principal lacks a right.
    #[error("the brokers refuse to let us read {what}: {text}")]
    Refused { what: String, text: String },
    #[error("the topics cannot be subscribed to")]
    Subscribe(#[from] ClientError),
}

/// One group member. Used by the thread that made it, but for [`Consumer::committed`] and [`Consumer::commit`], which
/// lane threads may call.
#[derive(Debug)]
pub struct Consumer {
    // Dropped in this order: queues before their client, what callbacks point at after it.
    lanes: Vec<Queue>,
    parking: Queue,
    client: Arc<Client>,
    wake: Arc<Wake>,
    /// Boxed: librdkafka keeps its address.
    shared: Box<Shared>,
    /// librdkafka's topic object -> index in `topics`; emptied at each rebalance, when the objects may change.
    known: RefCell<Vec<(*mut sys::rd_kafka_topic_t, u32)>>,
    scratch: RefCell<Vec<*mut sys::rd_kafka_message_t>>,
}

// SAFETY: `known`, `scratch` and `shared` are touched only by the owning thread: by `fetch`, `subscribe`, `poll`,
// `statistics` and `close`, and the callbacks inside `poll` and `close`. The other methods use the client handle, which is
// thread-safe.
unsafe impl Send for Consumer {}
// SAFETY: as above; `poll`, `fetch`, `subscribe` and `close` say that they belong to one thread.
unsafe impl Sync for Consumer {}

/// What the rebalance callback needs; its address is the callback's opaque pointer.
struct Shared {
    handler: Cell<Option<*mut dyn RebalanceHandler>>,
    /// A callback ran since this was last looked at.
    rebalanced: Cell<bool>,
    error: RefCell<Option<TxnError>>,
    /// The last text of statistics, until it is read.
    statistics: RefCell<Option<Vec<u8>>>,
    lanes: Vec<*mut sys::rd_kafka_queue_t>,
    parking: Parking,
    /// In the order of [`crate::Message::topic`].
    topics: RefCell<Vec<(Arc<str>, Start)>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("topics", &self.topics).finish_non_exhaustive()
    }
}

impl Shared {
    fn start(&self, partition: &TopicPartition) -> Start {
        let topics = self.topics.borrow();
        topics.iter().find(|(name, _)| *name == partition.topic).map_or(Start::Earliest, |(_, start)| *start)
    }

    /// Gives new partitions their queues and their first offsets, before the assignment takes effect.
    fn place(
        &self,
        rk: *mut sys::rd_kafka_t,
        raw: *mut sys::rd_kafka_topic_partition_list_t,
        partitions: &[TopicPartition],
        lanes: &[usize],
    ) {
        let wanted: Vec<_> = partitions.iter().map(|p| (p.clone(), self.start(p))).collect();
        let places = locate::locate(rk, &wanted, Ask::Together, LOCATE_LIMIT);
        for (i, (((partition, start), &lane), place)) in wanted.iter().zip(lanes).zip(places).enumerate() {
            // Parked at a real offset, never at a logical one: the answer to "where is the end" would come after the seek
            // that ends the parking, and win.
            let offset = match place {
                Place::At(position) => position,
                Place::Unknown { near, .. } => near.unwrap_or(Position(0)),
                Place::BeyondEnd { end, .. } => end,
                Place::Refused(_) => Position(0),
            };
            // SAFETY: librdkafka's list, live for the callback, with an element for each of `partitions`, in their order.
            unsafe { (*(*raw).elems.add(i)).offset = offset.0 };
            if matches!(place, Place::At(_)) {
                forward(rk, partition, self.lanes[lane]);
            } else {
                tracing::info!(%partition, ?place, "not known yet where to begin: looked up again until it is");
                forward(rk, partition, self.parking.queue());
                self.parking.park(partition, *start, lane);
            }
        }
    }
}

/// How long an assignment waits for positions; what is not known by then is looked up while the others go on.
const LOCATE_LIMIT: Duration = Duration::from_secs(3);

impl Consumer {
    /// Makes the member and subscribes. `topics` are in the order of [`crate::Message::topic`]; `wake` is notified
    /// whenever one of the queues gets something.
    pub fn new(
        properties: &Properties,
        topics: &[(Arc<str>, Start)],
        lanes: usize,
        wake: &Arc<Wake>,
    ) -> Result<Self, ClientError> {
        let mut shared = Box::new(Shared {
            handler: Cell::new(None),
            rebalanced: Cell::new(false),
            error: RefCell::new(None),
            statistics: RefCell::new(None),
            lanes: Vec::new(),
            parking: Parking::new(),
            topics: RefCell::new(topics.to_vec()),
        });
        let opaque: *mut Shared = &mut *shared;
        let client = Client::new(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, properties, |conf| {
            // SAFETY: a live configuration; `shared` outlives the client (field order of `Consumer`).
            unsafe {
                sys::rd_kafka_conf_set_opaque(conf, opaque.cast());
                sys::rd_kafka_conf_set_rebalance_cb(conf, Some(on_rebalance));
                sys::rd_kafka_conf_set_error_cb(conf, Some(on_error));
                sys::rd_kafka_conf_set_stats_cb(conf, Some(on_statistics));
            }
        })?;
        // SAFETY: a live consumer handle, here and below.
        let code = unsafe { sys::rd_kafka_poll_set_consumer(client.raw()) };
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(call_error("poll_set_consumer", code));
        }
        // SAFETY: each returned queue is owned by us.
        let queues: Vec<Queue> =
            (0..lanes).map(|_| Queue::own(unsafe { sys::rd_kafka_queue_new(client.raw()) })).collect();
        shared.lanes = queues.iter().map(Queue::raw).collect();
        // SAFETY: as above.
        let parking = Queue::own(unsafe { sys::rd_kafka_queue_new(client.raw()) });
        shared.parking.set_queue(&parking);
        // SAFETY: our reference to the group's queue.
        let main = Queue::own(unsafe { sys::rd_kafka_queue_get_consumer(client.raw()) });
        for queue in queues.iter().chain([&main]) {
            // SAFETY: the payload is static, the descriptor lives as long as `wake`, which the worker holds until its
            // consumer is gone.
            unsafe {
                sys::rd_kafka_queue_io_event_enable(queue.raw(), wake.raw_fd(), ONE.as_ptr().cast(), ONE.len());
            }
        }
        subscribe(&client, topics.iter().map(|(name, _)| name))?;
        Ok(Consumer {
            lanes: queues,
            parking,
            shared,
            client: Arc::new(client),
            wake: Arc::clone(wake),
            known: RefCell::default(),
            scratch: RefCell::default(),
        })
    }

    /// Reads other topics from now on: those of `topics` that `read` names by index. `topics` begin with those that the
    /// consumer knows already. The group tells later, by revocations and assignments, what that comes to. Owning thread
    /// only.
    pub fn subscribe(&self, topics: &[(Arc<str>, Start)], read: &[usize]) -> Result<(), ClientError> {
        *self.shared.topics.borrow_mut() = topics.to_vec();
        subscribe(&self.client, read.iter().filter_map(|index| topics.get(*index)).map(|(name, _)| name))
    }

    /// Serves rebalances (through `handler`) and notices. Never blocks by itself. Owning thread only.
    pub fn poll(&self, handler: &mut dyn RebalanceHandler) -> Result<(), ConsumerError> {
        self.with_handler(handler, || {
            loop {
                // SAFETY: a live handle. Callbacks run inside this call.
                let message = unsafe { sys::rd_kafka_consumer_poll(self.client.raw(), 0) };
                if message.is_null() {
                    break;
                }
                // SAFETY: a non-null message is ours: read, then destroyed once.
                let code = unsafe {
                    let code = (*message).err;
                    sys::rd_kafka_message_destroy(message);
                    code
                };
                match code {
                    Code::RD_KAFKA_RESP_ERR_NO_ERROR => return Err(ConsumerError::MainQueue),
                    Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED => return Err(not_in_the_group(text_of(code))),
                    // A fatal error is found by `health`; everything else mends itself or becomes a revocation.
                    code => tracing::warn!(error = name_of(code), "{}", text_of(code)),
                }
            }
            self.health()
        })?;
        self.leave_parking()
    }

    /// Lets parked partitions go whose places are known by now.
    fn leave_parking(&self) -> Result<(), ConsumerError> {
        let parking = &self.shared.parking;
        for (parked, position) in parking.found(&self.client, &self.wake)? {
            // First the queue, then the seek: what was fetched before it is dropped, what comes after it is the lane's.
            self.forward(&parked.partition, parked.lane);
            match self.seek(&[(parked.partition.clone(), position)]) {
                Ok(()) => parking.release(&parked),
                Err(error) => {
                    tracing::debug!(partition = %parked.partition, %error, "cannot begin yet");
                    forward(self.client.raw(), &parked.partition, self.parking.raw());
                    parking.not_yet(&parked);
                }
            }
        }
        parking.empty()
    }

    /// Moves up to `max` records of `lane` into `into`. Never blocks. Owning thread only.
    pub fn fetch(&self, lane: usize, max: usize, into: &mut Batch) -> Result<(), ConsumerError> {
        let Some(queue) = self.lanes.get(lane) else { return Ok(()) };
        let mut scratch = self.scratch.borrow_mut();
        let room = max.max(scratch.len());
        scratch.resize(room, ptr::null_mut());
        // SAFETY: room for `max` pointers; each returned message is ours.
        let count =
            unsafe { sys::rd_kafka_consume_batch_queue(queue.raw(), 0, scratch.as_mut_ptr(), max) }.max(0) as usize;
        let (mut lost_place, mut refused) = (None, None);
        for &message in &scratch[..count] {
            // SAFETY: a live message of ours.
            let (code, topic, partition) = unsafe { ((*message).err, (*message).rkt, (*message).partition) };
            if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR
                && let Some(topic) = self.index_of(topic)
            {
                into.push_native(topic, message);
                continue;
            }
            tracing::warn!(partition, error = name_of(code), "fetch: {}", text_of(code));
            match code {
                Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET => lost_place = Some(partition),
                // Told once, and then the partition stands still for ever.
                Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => {
                    // SAFETY: null, or the topic of a live message, whose name is NUL-terminated.
                    let topic = (!topic.is_null()).then(|| unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(topic)) });
                    let topic = topic.unwrap_or_default().to_string_lossy();
                    refused = Some((format!("partition {partition} of topic `{topic}`"), text_of(code)));
                }
                _ => {}
            }
            // SAFETY: ours, not handed on.
            unsafe { sys::rd_kafka_message_destroy(message) };
        }
        if let Some((what, text)) = refused {
            return Err(ConsumerError::Refused { what, text });
        }
        if let Some(partition) = lost_place {
            return Err(ConsumerError::LostPlace { partition });
        }
        if count == 0 { self.health() } else { Ok(()) }
    }

    /// Reads on at these positions, all of which must be assigned; records that were fetched ahead are dropped. An error
    /// means that reading may go on elsewhere: nothing may be committed for these partitions any more.
    pub fn seek(&self, positions: &[(TopicPartition, Position)]) -> Result<(), TxnError> {
        let list = List::new(positions.iter().map(|(partition, position)| (partition, position.0, -1)));
        // SAFETY: a live handle and list.
        check("seek", unsafe { sys::rd_kafka_seek_partitions(self.client.raw(), list.0, 10_000) })?;
        all_well("seek", Code::RD_KAFKA_RESP_ERR_NO_ERROR, &list)
    }

    /// Fetches nothing of these partitions any more; what was fetched ahead is dropped. Where reading goes on after
    /// [`Consumer::resume`] is for a seek to say: librdkafka's own idea of it does not follow seeks.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), TxnError> {
        let list = List::new(partitions.iter().map(|partition| (partition, -1, -1)));
        // SAFETY: a live handle and list.
        let code = unsafe { sys::rd_kafka_pause_partitions(self.client.raw(), list.0) };
        all_well("pause", code, &list)
    }

    /// Fetches them again.
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), TxnError> {
        let list = List::new(partitions.iter().map(|partition| (partition, -1, -1)));
        // SAFETY: a live handle and list.
        let code = unsafe { sys::rd_kafka_resume_partitions(self.client.raw(), list.0) };
        all_well("resume", code, &list)
    }

    /// Sends what is fetched of `partition` from now on to `lane`. The caller seeks afterwards.
    pub fn forward(&self, partition: &TopicPartition, lane: usize) {
        forward(self.client.raw(), partition, self.shared.lanes[lane]);
    }

    /// The group's committed positions, in the order asked for; `None` where there is none. Waits up to `timeout`, also
    /// for transactions that are about to decide them. Any thread.
    pub fn committed(
        &self,
        partitions: &[TopicPartition],
        timeout: Duration,
    ) -> Result<Vec<Option<Position>>, TxnError> {
        locate::committed(self.client.raw(), partitions, timeout)?.into_iter().collect()
    }

    /// Commits positions outside of any transaction and waits for the answer: for at-least-once. Any thread.
    pub fn commit(&self, progress: &[PartitionProgress]) -> Result<(), TxnError> {
        if progress.is_empty() {
            return Ok(());
        }
        let list = List::of_progress(progress);
        // SAFETY: a live handle and list.
        match unsafe { sys::rd_kafka_commit(self.client.raw(), list.0, 0) } {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
            code => Err(classify("commit", code, text_of(code), true, false)),
        }
    }

    /// Where the consumer stands, once there is news of it: as often as `statistics.interval.ms` says.
    /// Owning thread only.
    pub fn statistics(&self) -> Option<ConsumerStatistics> {
        let mut statistics = statistics::parse(&self.shared.statistics.take()?)?;
        // They are fetched from somewhere, which says nothing of where they stand.
        statistics.partitions.retain(|partition, _| !self.shared.parking.has(partition));
        Some(statistics)
    }

    /// How many assigned partitions are not read yet, because it is not known where to begin. Owning thread only.
    pub fn without_position(&self) -> usize {
        self.shared.parking.len()
    }

    /// The fence for a transaction, as of now. Any thread.
    pub fn membership(&self) -> Result<GroupMetadata, NotAMember> {
        GroupMetadata::of(self.client.raw())
    }

    /// Leaves the group, serving the last revocation through `handler`. `false`: it did not end within `limit`, and the
    /// client is destroyed without leaving. Owning thread only; nothing may be fetched afterwards.
    ///
    /// A coordinator that does not answer is not told: this librdkafka can crash when it leaves a group whose coordinator
    /// is down (mended in 2.14.2).
    pub fn close(&self, handler: &mut dyn RebalanceHandler, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        self.shared.parking.give_up();
        let any = self
            .shared
            .topics
            .borrow()
            .first()
            // One that there is not, of which no transaction can keep the position undecided.
            .map(|(name, _)| TopicPartition { topic: Arc::clone(name), partition: i32::MAX });
        // Whatever it says of that one is an answer.
        if let Err(error) = locate::committed(self.client.raw(), any.as_slice(), limit.min(Duration::from_secs(2))) {
            match error.fate {
                Fate::Stop => tracing::debug!(%error, "the group cannot be left"),
                _ => tracing::warn!(%error, "the group's coordinator does not answer"),
            }
            return false;
        }
        // SAFETY: a live handle; the queue is ours.
        let queue = Queue::own(unsafe { sys::rd_kafka_queue_new(self.client.raw()) });
        // SAFETY: a live handle and queue.
        let started = check("close", unsafe { sys::rd_kafka_consumer_close_queue(self.client.raw(), queue.raw()) });
        if let Err(error) = started {
            tracing::warn!(%error, "the consumer does not leave its group");
            return false;
        }
        let _ = self.with_handler(handler, || {
            // SAFETY: a live handle, here and below. Callbacks run inside the second call.
            while unsafe { sys::rd_kafka_consumer_closed(self.client.raw()) } == 0 && Instant::now() < deadline {
                // SAFETY: a message on this queue would be ours.
                unsafe {
                    let message = sys::rd_kafka_consume_queue(queue.raw(), 50);
                    if !message.is_null() {
                        sys::rd_kafka_message_destroy(message);
                    }
                }
            }
            Ok(())
        });
        // SAFETY: a live handle.
        unsafe { sys::rd_kafka_consumer_closed(self.client.raw()) != 0 }
    }

    fn with_handler(
        &self,
        handler: &mut dyn RebalanceHandler,
        serve: impl FnOnce() -> Result<(), ConsumerError>,
    ) -> Result<(), ConsumerError> {
        // SAFETY: only the lifetime is erased; the pointer is gone from the cell before this borrow ends, and callbacks
        // run on this thread, inside `serve`.
        let erased = unsafe { std::mem::transmute::<&mut dyn RebalanceHandler, *mut dyn RebalanceHandler>(handler) };
        self.shared.handler.set(Some(erased));
        let result = serve();
        self.shared.handler.set(None);
        if self.shared.rebalanced.take() {
            self.known.borrow_mut().clear();
        }
        if let Some(error) = self.shared.error.borrow_mut().take() {
            return Err(ConsumerError::Rebalance(error));
        }
        result
    }

    fn health(&self) -> Result<(), ConsumerError> {
        match self.client.fatal_error() {
            None => Ok(()),
            // How the newer group protocol (KIP-848) tells it.
            Some((Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, text)) => Err(not_in_the_group(text)),
            Some((code, text)) => Err(ConsumerError::Fatal { name: name_of(code), text }),
        }
    }

    fn index_of(&self, topic: *mut sys::rd_kafka_topic_t) -> Option<u32> {
        let mut known = self.known.borrow_mut();
        if let Some((_, index)) = known.iter().find(|(raw, _)| *raw == topic) {
            return Some(*index);
        }
        // SAFETY: the topic of a live message; its name is NUL-terminated.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(topic)) };
        let topics = self.shared.topics.borrow();
        let index = topics.iter().position(|(topic, _)| topic.as_bytes() == name.to_bytes())? as u32;
        known.push((topic, index));
        Some(index)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.parking.close();
        // Queues go before the client, and without wake-ups from now on: the descriptor may be closed soon.
        for queue in &self.lanes {
            // SAFETY: a live queue; a descriptor of -1 ends the events.
            unsafe { sys::rd_kafka_queue_io_event_enable(queue.raw(), -1, ptr::null(), 0) };
        }
        // SAFETY: our reference to the group's queue.
        let main = Queue::own(unsafe { sys::rd_kafka_queue_get_consumer(self.client.raw()) });
        // SAFETY: as above.
        unsafe { sys::rd_kafka_queue_io_event_enable(main.raw(), -1, ptr::null(), 0) };
    }
}

fn not_in_the_group(text: String) -> ConsumerError {
    ConsumerError::Refused { what: "as a member of the group".into(), text }
}

/// A call and all partitions of its list.
fn all_well(call: &'static str, code: Code, list: &List) -> Result<(), TxnError> {
    if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(TxnError::of_code(Fate::Stop, call, code));
    }
    match list.errors().first() {
        None => Ok(()),
        Some((partition, code)) => {
            let text = format!("{partition}: {}", text_of(*code));
            Err(TxnError { text, ..TxnError::of_code(Fate::Stop, call, *code) })
        }
    }
}

static ONE: [u8; 8] = 1_u64.to_ne_bytes();

fn subscribe<'a>(client: &Client, topics: impl Iterator<Item = &'a Arc<str>>) -> Result<(), ClientError> {
    let list = List::new(std::iter::empty());
    for topic in topics {
        let name = CString::new(topic.as_bytes()).map_err(|_| ClientError::ZeroByte(topic.to_string()))?;
        // SAFETY: a live list and string.
        unsafe { sys::rd_kafka_topic_partition_list_add(list.0, name.as_ptr(), -1) };
    }
    // SAFETY: a live handle and list.
    match unsafe { sys::rd_kafka_subscribe(client.raw(), list.0) } {
        Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(call_error("subscribe", code)),
    }
}

fn forward(rk: *mut sys::rd_kafka_t, partition: &TopicPartition, lane: *mut sys::rd_kafka_queue_t) {
    let Ok(topic) = CString::new(partition.topic.as_bytes()) else { return };
    // SAFETY: a live handle, string and lane queue; the partition queue's reference is given back.
    unsafe {
        let queue = sys::rd_kafka_queue_get_partition(rk, topic.as_ptr(), partition.partition);
        if !queue.is_null() {
            sys::rd_kafka_queue_forward(queue, lane);
            sys::rd_kafka_queue_destroy(queue);
        }
    }
}

/// Runs inside `poll` and `close`, as all callbacks do.
unsafe extern "C" fn on_statistics(_: *mut sys::rd_kafka_t, json: *mut c_char, len: usize, opaque: *mut c_void) -> i32 {
    // SAFETY: the opaque pointer is the consumer's `Shared`, alive as long as the client; `len` bytes of text, which
    // librdkafka frees after this call.
    let (shared, json) = unsafe { (&*opaque.cast::<Shared>(), std::slice::from_raw_parts(json.cast::<u8>(), len)) };
    *shared.statistics.borrow_mut() = Some(json.to_vec());
    0
}

unsafe extern "C" fn on_rebalance(
    rk: *mut sys::rd_kafka_t,
    code: Code,
    raw: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    // SAFETY: the opaque pointer is the consumer's `Shared`, alive as long as the client.
    let shared = unsafe { &*opaque.cast::<Shared>() };
    shared.rebalanced.set(true);
    // SAFETY: librdkafka's list, live for this call.
    let partitions: Vec<TopicPartition> =
        unsafe { entries(raw) }.into_iter().map(|(partition, ..)| partition).collect();
    // SAFETY: set by `with_handler` on this thread for as long as callbacks can run.
    let handler = shared.handler.get().map(|handler| unsafe { &mut *handler });
    // SAFETY: a live handle, here and below.
    let cooperative = unsafe { CStr::from_ptr(sys::rd_kafka_rebalance_protocol(rk)) } == c"COOPERATIVE";
    let result = match (code, handler) {
        (Code::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS, Some(handler)) => {
            let lanes = handler.assigned(&partitions);
            shared.place(rk, raw, &partitions, &lanes);
            assign(rk, raw, cooperative)
        }
        (_, handler) => {
            // SAFETY: a live handle.
            let lost = unsafe { sys::rd_kafka_assignment_lost(rk) } != 0;
            shared.parking.forget(&partitions);
            if let Some(handler) = handler {
                handler.revoked(&partitions, lost);
            }
            unassign(rk, raw, cooperative)
        }
    };
    if let Err(error) = result {
        *shared.error.borrow_mut() = Some(error);
    }
}

fn assign(
    rk: *mut sys::rd_kafka_t,
    list: *mut sys::rd_kafka_topic_partition_list_t,
    cooperative: bool,
) -> Result<(), TxnError> {
    if cooperative {
        // SAFETY: a live handle and list, here and below.
        return check("incremental_assign", unsafe { sys::rd_kafka_incremental_assign(rk, list) });
    }
    // SAFETY: as above.
    whole_assignment(unsafe { sys::rd_kafka_assign(rk, list) })
}

fn unassign(
    rk: *mut sys::rd_kafka_t,
    list: *mut sys::rd_kafka_topic_partition_list_t,
    cooperative: bool,
) -> Result<(), TxnError> {
    if cooperative {
        // SAFETY: a live handle and list.
        return check("incremental_unassign", unsafe { sys::rd_kafka_incremental_unassign(rk, list) });
    }
    // SAFETY: a live handle; a null list ends the assignment.
    whole_assignment(unsafe { sys::rd_kafka_assign(rk, ptr::null()) })
}

fn whole_assignment(code: Code) -> Result<(), TxnError> {
    match code {
        Code::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(TxnError::of_code(Fate::Stop, "assign", code)),
    }
}
