//! The producer of one lane: transactional for exactly-once, merely idempotent for at-least-once.
//!
//! Records go straight to `rd_kafka_produceva` with cached topic handles, which keeps headers and timestamps and costs a
//! third of the wrappers' futures. Transactional calls are the C ones: the Rust wrapper's commit waits 100 ms in `flush`.
//! Only failed deliveries are reported; a small thread takes those reports, because abort and flush wait for it.
//!
//! `produce` and `begin` belong to the worker, everything else to the lane's committer; never both at once.

use crate::batch::Header;
use crate::client::{Client, Queue, on_error};
use crate::doubt::Doubt;
use crate::error::{ClientError, Fate, ProduceError, TxnError, check, classify, text_of};
use crate::group::GroupMetadata;
use crate::list::List;
use crate::metadata::{self, TopicInfo};
use crate::murmur2::partition_for_key;
use crate::position::PartitionProgress;
use crate::properties::Properties;
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use sys::rd_kafka_resp_err_t as Code;

/// How a record finds its partition. The input's partition decides where there is no key, so that a replay writes the
/// same records to the same places in the same order (I3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Partitioning {
    /// Murmur2 of the key, as Java does it; a null key goes by the input's partition.
    ByKey {
        input: i32,
    },
    /// The input's partition modulo the topic's count, whatever the key: dead letters.
    ByInput {
        input: i32,
    },
    Fixed(i32),
}

/// One record to write. Everything is copied before `produce` returns.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// Index into the topics that the producer was made with.
    pub topic: u32,
    pub partitioning: Partitioning,
    /// Milliseconds since 1970; `None`: the time of the call.
    pub timestamp_ms: Option<i64>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Producer {
    topics: Vec<Topic>,
    pump: Option<JoinHandle<()>>,
    shared: Arc<Pumped>,
    message_max_bytes: usize,
    client: Client,
    doubt: &'static Doubt,
}

#[derive(Debug)]
struct Topic(*mut sys::rd_kafka_topic_t);

// SAFETY: topic handles are thread-safe in librdkafka.
unsafe impl Send for Topic {}
// SAFETY: as above.
unsafe impl Sync for Topic {}

/// What the pump thread shares with the producer.
#[derive(Debug)]
struct Pumped {
    events: Queue,
    closing: AtomicBool,
    failed: AtomicU64,
    /// The first delivery that failed since this was last asked for.
    first_failure: Mutex<Option<TxnError>>,
    topics: Vec<Arc<str>>,
}

impl Producer {
    /// Does not talk to a broker. `properties` with a `transactional.id` make it transactional.
    pub fn new(properties: &Properties, topics: &[Arc<str>]) -> Result<Self, ClientError> {
        let doubt = Doubt::forever();
        let client = Client::new(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, properties, |conf| {
            doubt.watch(conf);
            // Event mode: with no delivery reports at all, flush would look only every 10 ms.
            // SAFETY: a live configuration object.
            unsafe {
                sys::rd_kafka_conf_set_events(conf, sys::RD_KAFKA_EVENT_DR);
                sys::rd_kafka_conf_set_error_cb(conf, Some(on_error));
            }
        })?;
        let handles = topics.iter().map(|name| topic(&client, name)).collect::<Result<_, _>>()?;
        let shared = Arc::new(Pumped {
            // SAFETY: our reference to the main queue of a live client.
            events: Queue::own(unsafe { sys::rd_kafka_queue_get_main(client.raw()) }),
            closing: AtomicBool::new(false),
            failed: AtomicU64::new(0),
            first_failure: Mutex::new(None),
            topics: topics.to_vec(),
        });
        let pump = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("producer-events".into()).spawn(move || shared.pump())
        };
        let message_max_bytes = properties.get("message.max.bytes").and_then(|v| v.parse().ok()).unwrap_or(1_000_000);
        Ok(Producer {
            topics: handles,
            pump: Some(pump.map_err(|e| ClientError::Create { text: e.to_string() })?),
            shared,
            message_max_bytes,
            client,
            doubt,
        })
    }

    /// Fences every earlier producer of this transactional id and ends what it left open. Blocks up to `timeout`; the
    /// same call again after [`Fate::Retry`].
    pub fn init(&self, timeout: Duration) -> Result<(), TxnError> {
        // SAFETY: a live handle, here and in the calls below.
        check("init_transactions", unsafe { sys::rd_kafka_init_transactions(self.client.raw(), ms(timeout)) })
    }

    /// Local; tens of microseconds.
    pub fn begin(&self) -> Result<(), TxnError> {
        // All deliveries of the last transaction are over, or it would not have ended.
        self.shared.failed.store(0, Ordering::Release);
        let _ = self.failed_delivery();
        // SAFETY: a live handle.
        check("begin_transaction", unsafe { sys::rd_kafka_begin_transaction(self.client.raw()) })
    }

    /// Blocks for two round trips, at most `timeout`. After [`Fate::Retry`] again with the same arguments.
    pub fn send_offsets(
        &self,
        progress: &[PartitionProgress],
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<(), TxnError> {
        let list = List::of_progress(progress);
        // SAFETY: live handle, list and metadata.
        check("send_offsets_to_transaction", unsafe {
            sys::rd_kafka_send_offsets_to_transaction(self.client.raw(), list.0, group.raw(), ms(timeout))
        })
    }

    /// Flushes and commits; blocks as long as the transaction may last (librdkafka advises against any other timeout). A
    /// delivery that fails ends it early: librdkafka's own flush would wait until its neighbours' time is over, which the
    /// gap in the sequence keeps from being taken.
    pub fn commit(&self) -> Result<(), TxnError> {
        // SAFETY: a live handle, here and below.
        while unsafe { sys::rd_kafka_flush(self.client.raw(), ms(LOOK)) } != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            if self.shared.failed.load(Ordering::Acquire) > 0 {
                break;
            }
        }
        if let Some((code, text)) = self.client.fatal_error() {
            return Err(classify("commit_transaction", code, text, false, false));
        }
        if self.shared.failed.load(Ordering::Acquire) > 0
            && let Some(failed) = self.failed_delivery()
        {
            return Err(TxnError { call: "commit_transaction", ..failed });
        }
        // SAFETY: as above.
        check("commit_transaction", unsafe { sys::rd_kafka_commit_transaction(self.client.raw(), -1) })
    }

    /// Drops what is queued and aborts; blocks like [`Producer::commit`].
    pub fn abort(&self) -> Result<(), TxnError> {
        // SAFETY: a live handle.
        check("abort_transaction", unsafe { sys::rd_kafka_abort_transaction(self.client.raw(), -1) })
    }

    /// Waits until every record is acknowledged; for at-least-once. Says what the first failed delivery failed with.
    pub fn flush(&self, timeout: Duration) -> Result<(), TxnError> {
        // SAFETY: a live handle.
        let code = unsafe { sys::rd_kafka_flush(self.client.raw(), ms(timeout)) };
        if let Some((code, text)) = self.client.fatal_error() {
            // What was queued is thrown away then, without a failed delivery.
            return Err(classify("flush", code, text, true, true));
        }
        // A failure that is known is told at once: the next try would not know of it any more.
        let failed = self.shared.failed.swap(0, Ordering::AcqRel);
        let first = self.failed_delivery();
        if failed == 0 && code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(TxnError::of_code(Fate::Retry, "flush", code));
        }
        match first {
            Some(first) if failed > 0 => {
                let text = format!("{failed} records were not delivered: {}", first.text);
                Err(TxnError { call: "flush", text, ..first })
            }
            _ => Ok(()),
        }
    }

    /// Why the first failed delivery failed since this was last asked; complete once `commit` or `abort` has returned. Says
    /// more than those: which topic refused what.
    pub fn failed_delivery(&self) -> Option<TxnError> {
        self.shared.first_failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Nothing is queued or on its way.
    pub fn is_empty(&self) -> bool {
        // SAFETY: a live handle.
        unsafe { sys::rd_kafka_outq_len(self.client.raw()) == 0 }
    }

    /// It takes no records any more, whatever it is told: it must be replaced.
    pub fn has_died(&self) -> bool {
        self.client.fatal_error().is_some()
    }

    /// A request of an ended transaction never got its answer: before the next one begins this producer must be replaced,
    /// else what is still on its way could end that one.
    pub fn in_doubt(&self) -> bool {
        self.doubt.exists()
    }

    /// What the cluster says of the topic with this index now. Blocks up to `timeout`.
    pub fn topic_info(&self, topic: u32, timeout: Duration) -> Result<TopicInfo, ClientError> {
        metadata::topic_info(&self.client, &self.shared.topics[topic as usize], timeout)
    }

    /// Drops what is queued and forgets failed deliveries; for at-least-once, before a rewind.
    pub fn purge(&self) {
        // SAFETY: a live handle. Queued messages and those in flight are dropped and reported as failed.
        unsafe {
            sys::rd_kafka_purge(self.client.raw(), sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT);
            sys::rd_kafka_flush(self.client.raw(), 5_000);
        }
        self.shared.failed.store(0, Ordering::Release);
        *self.shared.first_failure.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Would this record be taken, by its size? Asked for all outputs of an input before the first of them is produced,
    /// because a produced record cannot be taken back without aborting the transaction.
    pub fn fits(&self, output: &Output<'_>) -> bool {
        // A header costs its bytes and two varints of at most five bytes.
        let headers: usize = output.headers.iter().map(|h| 10 + h.key.len() + h.value.map_or(0, <[u8]>::len)).sum();
        let size = RECORD_OVERHEAD + output.key.map_or(0, <[u8]>::len) + output.value.map_or(0, <[u8]>::len) + headers;
        size <= self.message_max_bytes
    }

    /// Whether a record would be taken now, as far as the transaction is concerned: one that has failed takes none. Asks
    /// librdkafka with no record at all, which it objects to last.
    pub fn check_open(&self) -> Result<(), ProduceError> {
        // SAFETY: a live handle, and no arguments.
        match check("produce", unsafe { sys::rd_kafka_produceva(self.client.raw(), ptr::null(), 0) }) {
            Err(error) if error.name != "_INVALID_ARG" => {
                Err(ProduceError::Txn(TxnError { fate: Fate::Abort, ..error }))
            }
            _ => Ok(()),
        }
    }

    /// Queues one record. Never blocks; copies everything.
    pub fn produce(&self, output: &Output<'_>) -> Result<(), ProduceError> {
        let (partition, opaque) = match output.partitioning {
            Partitioning::Fixed(partition) => (partition, ptr::null_mut()),
            Partitioning::ByKey { input } => (UNASSIGNED, opaque(input, false)),
            Partitioning::ByInput { input } => (UNASSIGNED, opaque(input, true)),
        };
        let headers = native_headers(output.headers);
        let mut args = Args::default();
        args.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT, |u| u.rkt = self.topics[output.topic as usize].0);
        args.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION, |u| u.i32_ = partition);
        args.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS, |u| u.i = sys::RD_KAFKA_MSG_F_COPY as c_int);
        args.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_OPAQUE, |u| u.ptr = opaque);
        args.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE, |u| u.mem = mem(output.value));
        args.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY, |u| u.mem = mem(output.key));
        if let Some(timestamp) = output.timestamp_ms {
            args.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP, |u| u.i64_ = timestamp);
        }
        if !headers.is_null() {
            args.push(sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS, |u| u.headers = headers);
        }
        // SAFETY: `args` holds `len` initialised arguments; key and value are copied (F_COPY); on success librdkafka owns
        // the headers.
        let error = unsafe { sys::rd_kafka_produceva(self.client.raw(), args.vus.as_ptr(), args.len) };
        let Err(error) = check("produce", error) else { return Ok(()) };
        if !headers.is_null() {
            // SAFETY: not taken over, so still ours.
            unsafe { sys::rd_kafka_headers_destroy(headers) };
        }
        Err(match error.name.as_str() {
            "_QUEUE_FULL" => ProduceError::Full,
            "MSG_SIZE_TOO_LARGE" => ProduceError::TooLarge,
            "_UNKNOWN_PARTITION" => ProduceError::NoSuchPartition,
            // Whatever else: this transaction takes no more records, and its abort will tell how bad it is.
            _ => ProduceError::Txn(TxnError { fate: Fate::Abort, topic: Some(output.topic), ..error }),
        })
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        // SAFETY: a live queue; ends the pump's present poll.
        unsafe { sys::rd_kafka_queue_yield(self.shared.events.raw()) };
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
    }
}

impl Pumped {
    /// Takes reports of failed deliveries until the producer is dropped.
    fn pump(&self) {
        while !self.closing.load(Ordering::Acquire) {
            // SAFETY: a live queue; a returned event is ours.
            let event = unsafe { sys::rd_kafka_queue_poll(self.events.raw(), 1_000) };
            if event.is_null() {
                continue;
            }
            // SAFETY: a live event and its messages, destroyed once at the end.
            unsafe {
                if sys::rd_kafka_event_type(event) == sys::RD_KAFKA_EVENT_DR {
                    loop {
                        let message = sys::rd_kafka_event_message_next(event);
                        if message.is_null() {
                            break;
                        }
                        self.delivery_failed((*message).err, (*message).rkt);
                    }
                }
                sys::rd_kafka_event_destroy(event);
            }
        }
    }

    fn delivery_failed(&self, code: Code, topic: *mut sys::rd_kafka_topic_t) {
        // Purged records are the consequence of an abort, never its cause.
        if matches!(
            code,
            Code::RD_KAFKA_RESP_ERR_NO_ERROR
                | Code::RD_KAFKA_RESP_ERR__PURGE_QUEUE
                | Code::RD_KAFKA_RESP_ERR__PURGE_INFLIGHT
        ) {
            return;
        }
        let mut first = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| {
            // SAFETY: the topic of a live message; its name is NUL-terminated.
            let name = unsafe { CStr::from_ptr(sys::rd_kafka_topic_name(topic)) };
            let topic = self.topics.iter().position(|t| t.as_bytes() == name.to_bytes()).map(|i| i as u32);
            let text = format!("topic `{}`: {}", name.to_string_lossy(), text_of(code));
            TxnError { topic, ..classify("produce", code, text, true, false) }
        });
        drop(first);
        // Last: whoever sees the count finds the reason.
        self.failed.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once, before the client goes (field order of `Producer`).
        unsafe { sys::rd_kafka_topic_destroy(self.0) }
    }
}

fn topic(client: &Client, name: &str) -> Result<Topic, ClientError> {
    let c_name = CString::new(name).map_err(|_| ClientError::ZeroByte(name.into()))?;
    // SAFETY: a live handle; the topic configuration is taken over by rd_kafka_topic_new.
    let raw = unsafe {
        let conf = sys::rd_kafka_default_topic_conf_dup(client.raw());
        sys::rd_kafka_topic_conf_set_partitioner_cb(conf, Some(on_partition));
        sys::rd_kafka_topic_new(client.raw(), c_name.as_ptr(), conf)
    };
    if raw.is_null() {
        return Err(ClientError::Create { text: format!("topic `{name}` was refused") });
    }
    Ok(Topic(raw))
}

/// What librdkafka counts for a record besides its key, value and headers (RD_KAFKAP_MESSAGE_V2_MAX_OVERHEAD).
const RECORD_OVERHEAD: usize = 36;
/// How often a flush looks whether it is still worth waiting for.
const LOOK: Duration = Duration::from_millis(50);
const UNASSIGNED: i32 = -1;
/// In the opaque of a record: the partition goes by the input's even when there is a key.
const BY_INPUT: usize = 1 << 32;

fn opaque(input: i32, by_input: bool) -> *mut c_void {
    ptr::without_provenance_mut((input.max(0) as usize) | if by_input { BY_INPUT } else { 0 })
}

/// Runs with the topic's present number of partitions, so that a grown topic is noticed without a restart.
/// (`sticky.partitioning.linger.ms` is 0, else null keys would not come here.)
unsafe extern "C" fn on_partition(
    _: *const sys::rd_kafka_topic_t,
    key: *const c_void,
    key_len: usize,
    partitions: i32,
    _: *mut c_void,
    opaque: *mut c_void,
) -> i32 {
    let opaque = opaque.addr();
    if key.is_null() || opaque & BY_INPUT != 0 {
        return ((opaque & 0x7fff_ffff) % partitions.max(1) as usize) as i32;
    }
    // SAFETY: librdkafka passes the record's key, `key_len` bytes that live for this call.
    partition_for_key(unsafe { std::slice::from_raw_parts(key.cast(), key_len) }, partitions.max(1))
}

/// Arguments of one produce call.
struct Args {
    vus: [sys::rd_kafka_vu_t; 8],
    len: usize,
}

impl Default for Args {
    fn default() -> Self {
        // SAFETY: a tag of 0 (END) and a union of plain data, for which all zeroes are valid.
        Args { vus: unsafe { std::mem::zeroed() }, len: 0 }
    }
}

impl Args {
    fn push(&mut self, kind: sys::rd_kafka_vtype_t, set: impl FnOnce(&mut sys::rd_kafka_vu_s__bindgen_ty_1)) {
        self.vus[self.len].vtype = kind;
        set(&mut self.vus[self.len].u);
        self.len += 1;
    }
}

/// Null is a null pointer; an empty slice's pointer is not.
fn mem(bytes: Option<&[u8]>) -> sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
    sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
        ptr: bytes.map_or(ptr::null_mut(), |b| b.as_ptr().cast_mut().cast()),
        size: bytes.map_or(0, <[u8]>::len),
    }
}

/// Null where there are none.
fn native_headers(headers: &[Header<'_>]) -> *mut sys::rd_kafka_headers_t {
    if headers.is_empty() {
        return ptr::null_mut();
    }
    // SAFETY: a fresh object; names and values are copied, with their lengths given.
    unsafe {
        let native = sys::rd_kafka_headers_new(headers.len());
        for header in headers {
            sys::rd_kafka_header_add(
                native,
                header.key.as_ptr().cast(),
                header.key.len() as isize,
                header.value.map_or(ptr::null(), |v| v.as_ptr().cast()),
                header.value.map_or(0, |v| v.len() as isize),
            );
        }
        native
    }
}

fn ms(timeout: Duration) -> c_int {
    timeout.as_millis().try_into().unwrap_or(c_int::MAX)
}
