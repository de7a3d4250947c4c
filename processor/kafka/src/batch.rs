//! What one fetch returned: messages that stay in librdkafka's memory until the batch is cleared, seen through borrowed
//! views. Nothing is copied here. A message pins the whole fetch response that it came in, so a batch is cleared as soon
//! as its outcomes are produced.

use crate::error::text_of;
use crate::position::Offset;
use rdkafka_sys as sys;
use std::ffi::{CStr, c_void};
use std::ops::Range;
use std::ptr;

/// Records of one fetch, in the order in which they are to be processed.
#[derive(Default)]
pub struct Batch {
    slots: Vec<Slot>,
}

enum Slot {
    /// Index of the topic in the subscription, and a message owned by us.
    Native(u32, *mut sys::rd_kafka_message_t),
    Owned(u32, Box<OwnedMessage>),
}

// SAFETY: the messages are owned by the batch and have no thread affinity.
unsafe impl Send for Batch {}

/// A message that owns its bytes: for tests and replays, where no consumer stands behind a batch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnedMessage {
    pub partition: i32,
    pub offset: i64,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// A header of a record: keys may repeat, a value may be null.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    pub key: &'a [u8],
    pub value: Option<&'a [u8]>,
}

/// The headers of a record cannot be had: librdkafka refuses more than 100,000, and what it cannot decode.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("its headers cannot be read: {0}")]
pub struct UnreadableHeaders(pub String);

/// A borrowed view of one consumed record.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    slot: &'a Slot,
}

impl Batch {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Gives all messages back.
    pub fn clear(&mut self) {
        self.slots.clear();
    }

    pub fn get(&self, index: usize) -> Option<Message<'_>> {
        self.slots.get(index).map(|slot| Message { slot })
    }

    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> + Clone {
        self.range(0..self.slots.len())
    }

    /// Those at these places, as far as there are any.
    pub fn range(&self, places: Range<usize>) -> impl Iterator<Item = Message<'_>> + Clone {
        let slots = self.slots.get(places.start..places.end.min(self.slots.len())).unwrap_or_default();
        slots.iter().map(|slot| Message { slot })
    }

    /// Lets the memory go that the headers of these messages have taken since they were asked for: two bytes on the way
    /// here can be seventy in it. Who asks again has them decoded again.
    pub fn forget_headers(&mut self, places: Range<usize>) {
        for slot in self.slots.get(places).unwrap_or_default() {
            let Slot::Native(_, message) = slot else { continue };
            let mut headers = ptr::null_mut();
            // SAFETY: a live message. Nobody borrows its headers: they would borrow the batch. Once detached they are ours.
            unsafe {
                if sys::rd_kafka_message_detach_headers(*message, &mut headers) == NO_ERROR {
                    sys::rd_kafka_headers_destroy(headers);
                }
            }
        }
    }

    /// Gives back the messages for which `keep` says no.
    pub fn retain(&mut self, mut keep: impl FnMut(&Message<'_>) -> bool) {
        self.slots.retain(|slot| keep(&Message { slot }));
    }

    /// Adds a message that owns its bytes; `topic` is the index of its topic in the subscription.
    pub fn push_owned(&mut self, topic: u32, message: OwnedMessage) {
        self.slots.push(Slot::Owned(topic, Box::new(message)));
    }

    /// Takes over a message without error. `topic` is the index of its topic in the subscription.
    pub(crate) fn push_native(&mut self, topic: u32, message: *mut sys::rd_kafka_message_t) {
        self.slots.push(Slot::Native(topic, message));
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Slot::Native(_, message) = self {
            // SAFETY: owned by this slot, destroyed once.
            unsafe { sys::rd_kafka_message_destroy(*message) }
        }
    }
}

impl<'a> Message<'a> {
    /// The index of its topic in the consumer's subscription.
    pub fn topic(&self) -> u32 {
        match self.slot {
            Slot::Native(topic, _) | Slot::Owned(topic, _) => *topic,
        }
    }

    pub fn partition(&self) -> i32 {
        match self.slot {
            // SAFETY: a live message.
            Slot::Native(_, m) => unsafe { (**m).partition },
            Slot::Owned(_, m) => m.partition,
        }
    }

    pub fn offset(&self) -> Offset {
        match self.slot {
            // SAFETY: a live message.
            Slot::Native(_, m) => Offset(unsafe { (**m).offset }),
            Slot::Owned(_, m) => Offset(m.offset),
        }
    }

    /// `None` is Kafka's null key, which is not an empty key.
    pub fn key(&self) -> Option<&'a [u8]> {
        match self.slot {
            // SAFETY: the bytes live as long as the message, which the batch owns.
            Slot::Native(_, m) => unsafe { bytes((**m).key, (**m).key_len) },
            Slot::Owned(_, m) => m.key.as_deref(),
        }
    }

    /// `None` is a tombstone.
    pub fn value(&self) -> Option<&'a [u8]> {
        match self.slot {
            // SAFETY: the bytes live as long as the message, which the batch owns.
            Slot::Native(_, m) => unsafe { bytes((**m).payload, (**m).len) },
            Slot::Owned(_, m) => m.value.as_deref(),
        }
    }

    /// Milliseconds since 1970.
    pub fn timestamp_ms(&self) -> Option<i64> {
        match self.slot {
            Slot::Native(_, m) => {
                let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
                // SAFETY: a live message and a live out parameter.
                let timestamp = unsafe { sys::rd_kafka_message_timestamp(*m, &mut kind) };
                (kind != sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE).then_some(timestamp)
            }
            Slot::Owned(_, m) => m.timestamp_ms,
        }
    }

    /// The leader epoch that the record was read in, -1 when the broker gave none.
    pub fn leader_epoch(&self) -> i32 {
        match self.slot {
            // SAFETY: a live message.
            Slot::Native(_, m) => unsafe { sys::rd_kafka_message_leader_epoch(*m) },
            Slot::Owned(..) => -1,
        }
    }

    /// Appends the headers, in order, to `into`.
    ///
    /// # Errors
    /// They are there and cannot be read; nothing is appended. A record without them is not the same record.
    pub fn headers(&self, into: &mut Vec<Header<'a>>) -> Result<(), UnreadableHeaders> {
        match self.slot {
            Slot::Native(_, m) => {
                let mut headers = ptr::null_mut();
                // SAFETY: a live message; the headers belong to it.
                match unsafe { sys::rd_kafka_message_headers(*m, &mut headers) } {
                    NO_ERROR => {}
                    sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__NOENT => return Ok(()),
                    code => return Err(UnreadableHeaders(text_of(code))),
                }
                for index in 0.. {
                    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
                    // SAFETY: live headers and out parameters; past the end it returns an error.
                    let code =
                        unsafe { sys::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut size) };
                    if code != NO_ERROR {
                        break;
                    }
                    // SAFETY: the name is NUL-terminated; both live as long as the message.
                    let (key, value) = unsafe { (CStr::from_ptr(name).to_bytes(), bytes(value, size)) };
                    into.push(Header { key, value });
                }
            }
            Slot::Owned(_, m) => {
                into.extend(m.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }));
            }
        }
        Ok(())
    }

    /// Without headers, where they cannot be read.
    pub fn to_owned_message(&self) -> OwnedMessage {
        let mut headers = Vec::new();
        let _ = self.headers(&mut headers);
        OwnedMessage {
            partition: self.partition(),
            offset: self.offset().0,
            timestamp_ms: self.timestamp_ms(),
            key: self.key().map(<[u8]>::to_vec),
            value: self.value().map(<[u8]>::to_vec),
            headers: headers.iter().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

const NO_ERROR: sys::rd_kafka_resp_err_t = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;

/// # Safety
/// `ptr` is null or points at `len` bytes that live for `'a`.
unsafe fn bytes<'a>(ptr: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller's promise.
    (!ptr.is_null()).then(|| unsafe { std::slice::from_raw_parts(ptr.cast(), len) })
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} records)", self.slots.len())
    }
}

/// Coordinates only: a record's bytes are somebody's data (I10).
impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({}/{}@{})", self.topic(), self.partition(), self.offset())
    }
}
