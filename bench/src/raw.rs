//! The limit: a consume-produce loop directly on librdkafka's C API, exactly-once, one thread, one or two lanes, one committer
//! thread each, the same work as the guest natively. It has no sandbox and no recovery: any error ends it. The settings are those of the processor.
#![allow(unsafe_code, reason = "the point of this loop is that nothing stands between it and librdkafka")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "every block here calls the C API with live handles of this file"
)]

use anyhow::{Result, bail};
use boundary_work::{Verdict, Work};
use clap::{Args, ValueEnum};
use rdkafka_sys as sys;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

const BATCH: usize = 1000;

static STOP: AtomicBool = AtomicBool::new(false);

extern "C" fn on_signal(_: c_int) {
    STOP.store(true, Ordering::SeqCst);
}

struct Job {
    offsets: *mut sys::rd_kafka_topic_partition_list_t,
    group: *mut sys::rd_kafka_consumer_group_metadata_t,
}
unsafe impl Send for Job {}

struct Handle(*mut sys::rd_kafka_t);
unsafe impl Send for Handle {}

struct Lane {
    producer: *mut sys::rd_kafka_t,
    topic: *mut sys::rd_kafka_topic_t,
    queue: *mut sys::rd_kafka_queue_t,
    /// By input partition: the next position, or -1.
    next: Vec<i64>,
    open: Option<Instant>,
    busy: Arc<AtomicBool>,
    jobs: Sender<Job>,
}

struct Loop {
    consumer: *mut sys::rd_kafka_t,
    input: CString,
    lanes: Vec<Lane>,
    commit: Duration,
    work: Work,
    /// The new value of a record; its memory is used again.
    value: Vec<u8>,
    loose: bool,
}

/// How it works.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// How long transactions last; short ones do without batching in the producer.
    #[arg(long)]
    pub(crate) commit_ms: u64,
    #[arg(long)]
    pub(crate) lanes: usize,
    /// What is done to each record.
    #[arg(long)]
    pub(crate) work: Work,
    /// Of what it writes.
    #[arg(long)]
    pub(crate) codec: Codec,
    /// At-least-once: flushes and commits positions where it would end a transaction.
    #[arg(long)]
    pub(crate) loose: bool,
}

/// How batches are compressed.
#[derive(Clone, Copy, Default, ValueEnum, Debug)]
pub(crate) enum Codec {
    #[default]
    None,
    Lz4,
    Zstd,
}

impl Codec {
    /// Its name, to librdkafka as on our command line.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

/// Until SIGTERM.
pub(crate) fn run(bootstrap: &str, input: &str, output: &str, group: &str, settings: Settings) -> Result<()> {
    let Settings { commit_ms, lanes, work, codec, loose } = settings;
    let commit = Duration::from_millis(commit_ms);
    unsafe {
        libc::signal(libc::SIGTERM, on_signal as *const () as usize);
        libc::signal(libc::SIGINT, on_signal as *const () as usize);
        let input = CString::new(input)?;
        let (lanes_made, value) = (Vec::new(), Vec::new());
        let mut this = Box::new(Loop { consumer: null_mut(), input, lanes: lanes_made, commit, work, value, loose });
        let linger = if commit < Duration::from_millis(20) { "0" } else { "20" };
        let conf = conf(&[
            ("bootstrap.servers", bootstrap),
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            ("isolation.level", "read_committed"),
            ("partition.assignment.strategy", "range"),
            ("fetch.wait.max.ms", "100"),
            ("fetch.queue.backoff.ms", "5"),
            ("queued.min.messages", "2000"),
            ("queued.max.messages.kbytes", "8192"),
        ])?;
        sys::rd_kafka_conf_set_opaque(conf, (&raw mut *this).cast());
        sys::rd_kafka_conf_set_rebalance_cb(conf, Some(on_rebalance));
        this.consumer = create(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, conf)?;
        sys::rd_kafka_poll_set_consumer(this.consumer);
        for lane in 0..lanes {
            let lane =
                Lane::new((bootstrap, output), &format!("{group}-{lane}"), (linger, codec, loose), this.consumer)?;
            this.lanes.push(lane);
        }
        let topics = sys::rd_kafka_topic_partition_list_new(1);
        sys::rd_kafka_topic_partition_list_add(topics, this.input.as_ptr(), -1);
        sys::rd_kafka_subscribe(this.consumer, topics);
        this.run();
        sys::rd_kafka_consumer_close(this.consumer);
    }
    Ok(())
}

impl Lane {
    unsafe fn new(
        (bootstrap, output): (&str, &str),
        id: &str,
        (linger, codec, loose): (&str, Codec, bool),
        consumer: *mut sys::rd_kafka_t,
    ) -> Result<Self> {
        unsafe {
            let conf = conf(&[
                ("bootstrap.servers", bootstrap),
                if loose { ("enable.idempotence", "true") } else { ("transactional.id", id) },
                ("delivery.report.only.error", "true"),
                ("linger.ms", linger),
                ("compression.codec", codec.as_str()),
                ("batch.size", "1000000"),
                ("batch.num.messages", "10000"),
                ("queue.buffering.max.messages", "2000000"),
                ("partitioner", "murmur2_random"),
                ("allow.auto.create.topics", "false"),
                ("retry.backoff.ms", "10"),
            ])?;
            sys::rd_kafka_conf_set_events(conf, sys::RD_KAFKA_EVENT_DR);
            let producer = create(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, conf)?;
            if !loose {
                check("init", sys::rd_kafka_init_transactions(producer, -1));
            }
            let name = CString::new(output)?;
            let busy = Arc::new(AtomicBool::new(false));
            let (jobs, queue) = channel();
            let (handle, flag) = (Handle(producer), Arc::clone(&busy));
            let positions = loose.then_some(Handle(consumer));
            std::thread::spawn(move || commit(&handle, positions.as_ref(), &queue, &flag));
            Ok(Lane {
                producer,
                topic: sys::rd_kafka_topic_new(producer, name.as_ptr(), null_mut()),
                queue: sys::rd_kafka_queue_new(consumer),
                next: Vec::new(),
                open: None,
                busy,
                jobs,
            })
        }
    }
}

impl Loop {
    unsafe fn run(&mut self) {
        let mut messages = vec![null_mut(); BATCH];
        let mut polled = Instant::now();
        while !STOP.load(Ordering::Relaxed) {
            if polled.elapsed() > Duration::from_millis(5) {
                polled = Instant::now();
                let message = unsafe { sys::rd_kafka_consumer_poll(self.consumer, 0) };
                if !message.is_null() {
                    unsafe { sys::rd_kafka_message_destroy(message) };
                }
            }
            let mut idle = true;
            for lane in 0..self.lanes.len() {
                if self.lanes[lane].busy.load(Ordering::Acquire) {
                    continue;
                }
                let count = unsafe {
                    sys::rd_kafka_consume_batch_queue(self.lanes[lane].queue, 0, messages.as_mut_ptr(), BATCH)
                };
                if count > 0 {
                    idle = false;
                    unsafe { self.copy(lane, &messages[..count as usize]) };
                }
                if self.lanes[lane].open.is_some_and(|since| since.elapsed() >= self.commit) {
                    unsafe { self.submit(lane) };
                }
            }
            if idle {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        unsafe { self.finish() };
    }

    unsafe fn copy(&mut self, lane: usize, messages: &[*mut sys::rd_kafka_message_t]) {
        let lane = &mut self.lanes[lane];
        if lane.open.is_none() {
            if !self.loose {
                check("begin", unsafe { sys::rd_kafka_begin_transaction(lane.producer) });
            }
            lane.open = Some(Instant::now());
        }
        for &message in messages {
            unsafe {
                let m = &*message;
                let partition = m.partition as usize;
                if lane.next.len() <= partition {
                    lane.next.resize(partition + 1, -1);
                }
                lane.next[partition] = m.offset + 1;
                self.value.clear();
                let (mut value, mut len) = (m.payload, m.len);
                match self.work.apply(std::slice::from_raw_parts(m.payload.cast(), m.len), &mut self.value) {
                    Ok(Verdict::Keep | Verdict::Copy) => {}
                    Ok(Verdict::Changed) => (value, len) = (self.value.as_mut_ptr().cast(), self.value.len()),
                    Ok(Verdict::Drop) => {
                        sys::rd_kafka_message_destroy(message);
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                }
                let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
                let mut args: [sys::rd_kafka_vu_t; 7] = std::mem::zeroed();
                args[0].vtype = sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_RKT;
                args[0].u.rkt = lane.topic;
                args[1].vtype = sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_PARTITION;
                args[1].u.i32_ = -1;
                args[2].vtype = sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_MSGFLAGS;
                args[2].u.i = (sys::RD_KAFKA_MSG_F_BLOCK | sys::RD_KAFKA_MSG_F_COPY) as c_int;
                args[3].vtype = sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_VALUE;
                args[3].u.mem.ptr = value;
                args[3].u.mem.size = len;
                args[4].vtype = sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_KEY;
                args[4].u.mem.ptr = m.key;
                args[4].u.mem.size = m.key_len;
                args[5].vtype = sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_TIMESTAMP;
                args[5].u.i64_ = sys::rd_kafka_message_timestamp(message, &mut kind);
                let mut count = 6;
                let mut headers = null_mut();
                if sys::rd_kafka_message_headers(message, &mut headers)
                    == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
                {
                    args[6].vtype = sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_HEADERS;
                    args[6].u.headers = sys::rd_kafka_headers_copy(headers);
                    count = 7;
                }
                check("produce", sys::rd_kafka_produceva(lane.producer, args.as_ptr(), count));
                sys::rd_kafka_message_destroy(message);
            }
        }
    }

    unsafe fn submit(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        unsafe {
            let offsets = sys::rd_kafka_topic_partition_list_new(lane.next.len() as c_int);
            for (partition, next) in lane.next.iter_mut().enumerate().filter(|(_, next)| **next >= 0) {
                let entry = sys::rd_kafka_topic_partition_list_add(offsets, self.input.as_ptr(), partition as i32);
                (*entry).offset = std::mem::replace(next, -1);
            }
            lane.open = None;
            lane.busy.store(true, Ordering::Release);
            let group = sys::rd_kafka_consumer_group_metadata(self.consumer);
            lane.jobs.send(Job { offsets, group }).expect("the committer runs");
        }
    }

    /// Commits what is open and waits for it.
    unsafe fn finish(&mut self) {
        for lane in 0..self.lanes.len() {
            self.wait(lane);
            if self.lanes[lane].open.is_some() {
                unsafe { self.submit(lane) };
            }
            self.wait(lane);
        }
    }

    fn wait(&self, lane: usize) {
        while self.lanes[lane].busy.load(Ordering::Acquire) {
            std::thread::park_timeout(Duration::from_micros(200));
        }
    }
}

/// Ends transactions; with a consumer there are none, and its positions are committed.
fn commit(producer: &Handle, positions: Option<&Handle>, jobs: &Receiver<Job>, busy: &AtomicBool) {
    while let Ok(job) = jobs.recv() {
        unsafe {
            if let Some(consumer) = positions {
                check_code("flush", sys::rd_kafka_flush(producer.0, -1));
                check_code("commit", sys::rd_kafka_commit(consumer.0, job.offsets, 0));
            } else {
                let sent = sys::rd_kafka_send_offsets_to_transaction(producer.0, job.offsets, job.group, -1);
                check("send_offsets", sent);
                check("commit", sys::rd_kafka_commit_transaction(producer.0, -1));
            }
            sys::rd_kafka_consumer_group_metadata_destroy(job.group);
            sys::rd_kafka_topic_partition_list_destroy(job.offsets);
        }
        busy.store(false, Ordering::Release);
    }
}

unsafe extern "C" fn on_rebalance(
    consumer: *mut sys::rd_kafka_t,
    code: sys::rd_kafka_resp_err_t,
    partitions: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    unsafe {
        let this = &mut *opaque.cast::<Loop>();
        if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            for i in 0..(*partitions).cnt as usize {
                let entry = &*(*partitions).elems.add(i);
                let queue = sys::rd_kafka_queue_get_partition(consumer, entry.topic, entry.partition);
                sys::rd_kafka_queue_forward(queue, this.lanes[i % this.lanes.len()].queue);
                sys::rd_kafka_queue_destroy(queue);
            }
            sys::rd_kafka_assign(consumer, partitions);
        } else {
            this.finish();
            sys::rd_kafka_assign(consumer, null());
        }
    }
}

unsafe fn conf(pairs: &[(&str, &str)]) -> Result<*mut sys::rd_kafka_conf_t> {
    unsafe {
        let conf = sys::rd_kafka_conf_new();
        let mut text = [0 as c_char; 512];
        for (name, value) in pairs {
            let (c_name, c_value) = (CString::new(*name)?, CString::new(*value)?);
            let result = sys::rd_kafka_conf_set(conf, c_name.as_ptr(), c_value.as_ptr(), text.as_mut_ptr(), text.len());
            if result != sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                bail!("{name}: {}", CStr::from_ptr(text.as_ptr()).to_string_lossy());
            }
        }
        Ok(conf)
    }
}

unsafe fn create(kind: sys::rd_kafka_type_t, conf: *mut sys::rd_kafka_conf_t) -> Result<*mut sys::rd_kafka_t> {
    let mut text = [0 as c_char; 512];
    let client = unsafe { sys::rd_kafka_new(kind, conf, text.as_mut_ptr(), text.len()) };
    if client.is_null() {
        bail!("{}", unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy());
    }
    Ok(client)
}

/// # Panics
/// On any error: this loop knows no recovery.
fn check_code(what: &str, code: sys::rd_kafka_resp_err_t) {
    assert!(code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR, "{what}: {code:?}");
}

/// # Panics
/// As above.
fn check(what: &str, error: *mut sys::rd_kafka_error_t) {
    if !error.is_null() {
        let text = unsafe { CStr::from_ptr(sys::rd_kafka_error_string(error)) }.to_string_lossy();
        panic!("{what}: {text}");
    }
}
