//! Was one of a transaction's requests left without an answer? Then a copy of it may still be on its way, and
//! librdkafka, which has no KIP-890, would let it end or change a *later* transaction of the same epoch. The remedy is
//! a new producer of the same id: its epoch refuses whatever arrives late.
//!
//! librdkafka hides this: it asks again, and the call succeeds. Its log suppresses repeated failures. The reliable
//! source is the interceptor that sees every request end, with its answer or with the reason why there is none. (It
//! does not give the correlation id, decision 6; so requests cannot be paired, and need not be.) Runs on broker
//! threads: one relaxed add.

use rdkafka_sys as sys;
use std::ffi::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use sys::rd_kafka_resp_err_t as Code;

/// Requests that take part in a transaction: Produce, AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit.
const TRANSACTIONAL: [i16; 5] = [0, 24, 25, 26, 28];

/// Counts unanswered requests of one client.
#[derive(Debug)]
pub(crate) struct Doubt(AtomicU64);

impl Doubt {
    /// Never freed: eight bytes for each producer, so that nothing that librdkafka's threads do, however late, writes to
    /// memory that has become something else's.
    pub(crate) fn forever() -> &'static Self {
        Box::leak(Box::new(Doubt(AtomicU64::new(0))))
    }

    /// Watches the client that will be made of `conf`.
    pub(crate) fn watch(&'static self, conf: *mut sys::rd_kafka_conf_t) {
        // SAFETY: a live configuration, and an address that stays good.
        unsafe {
            let opaque = std::ptr::from_ref(self).cast_mut().cast();
            sys::rd_kafka_conf_interceptor_add_on_new(conf, NAME.as_ptr(), Some(on_new), opaque);
        }
    }

    /// Is a request of the transaction that has just ended unaccounted for? Asked after the ending call has returned: by
    /// then every request of it has been seen to end.
    pub(crate) fn exists(&self) -> bool {
        self.0.load(Ordering::Acquire) > 0
    }
}

const NAME: &std::ffi::CStr = c"pelton-doubt";

unsafe extern "C" fn on_new(
    client: *mut sys::rd_kafka_t,
    _: *const sys::rd_kafka_conf_t,
    opaque: *mut c_void,
    _: *mut c_char,
    _: usize,
) -> Code {
    // SAFETY: called from within rd_kafka_new with the client that is being made.
    unsafe { sys::rd_kafka_interceptor_add_on_response_received(client, NAME.as_ptr(), Some(on_end), opaque) }
}

/// The end of a request: `error` is 0 where an answer came, whatever it says.
#[allow(clippy::too_many_arguments, reason = "librdkafka's signature")]
unsafe extern "C" fn on_end(
    _: *mut sys::rd_kafka_t,
    _: c_int,
    _: *const c_char,
    _: i32,
    api: i16,
    _: i16,
    _: i32,
    _: usize,
    _: i64,
    error: Code,
    opaque: *mut c_void,
) -> Code {
    if error != Code::RD_KAFKA_RESP_ERR_NO_ERROR && TRANSACTIONAL.contains(&api) {
        // SAFETY: the `Doubt` given to `watch`, which is never freed.
        unsafe { &*opaque.cast::<Doubt>() }.0.fetch_add(1, Ordering::AcqRel);
    }
    Code::RD_KAFKA_RESP_ERR_NO_ERROR
}
