//! One librdkafka instance and its life cycle: taking over configuration, handing logs to `tracing`, destruction.

use crate::error::ClientError;
use crate::properties::Properties;
use rdkafka_sys as sys;
use std::ffi::{CStr, c_char, c_int, c_void};

/// An `rd_kafka_t`. librdkafka locks inside: every call on it is legal from any thread.
pub(crate) struct Client {
    raw: *mut sys::rd_kafka_t,
}

// SAFETY: librdkafka's handle is documented as thread-safe.
unsafe impl Send for Client {}
// SAFETY: as above.
unsafe impl Sync for Client {}

impl Client {
    /// `prepare` installs callbacks and events on the configuration before the client exists.
    pub(crate) fn new(
        kind: sys::rd_kafka_type_t,
        properties: &Properties,
        prepare: impl FnOnce(*mut sys::rd_kafka_conf_t),
    ) -> Result<Self, ClientError> {
        let conf = properties.native()?;
        // SAFETY: a live configuration object; `on_log` has the required signature and touches only its arguments.
        unsafe { sys::rd_kafka_conf_set_log_cb(conf.0, Some(on_log)) };
        prepare(conf.0);
        let mut text = [0 as c_char; 512];
        // SAFETY: a live configuration and room for a message.
        let raw = unsafe { sys::rd_kafka_new(kind, conf.0, text.as_mut_ptr(), text.len()) };
        // On success librdkafka owns it. On failure we should, but librdkafka 2.12 may have freed its interceptors already
        // (librdkafka#4142): who destroyed it would free them twice. A failure ends the process or refuses a reload: some KB.
        std::mem::forget(conf);
        if raw.is_null() {
            // SAFETY: NUL-terminated by librdkafka.
            let text = unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned();
            return Err(ClientError::Create { text });
        }
        Ok(Client { raw })
    }

    pub(crate) fn raw(&self) -> *mut sys::rd_kafka_t {
        self.raw
    }

    /// The fatal error of this instance, once there is one: nothing works after it.
    pub(crate) fn fatal_error(&self) -> Option<(sys::rd_kafka_resp_err_t, String)> {
        let mut text = [0 as c_char; 512];
        // SAFETY: a live handle; at most `text.len()` bytes are written, NUL included.
        let code = unsafe { sys::rd_kafka_fatal_error(self.raw, text.as_mut_ptr(), text.len()) };
        if code == sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return None;
        }
        // SAFETY: NUL-terminated by librdkafka.
        Some((code, unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned()))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // A consumer has been closed by its owner, or must not be: this librdkafka can crash when it leaves a group
        // whose coordinator is down. The flag means nothing to a producer.
        // SAFETY: the last use of the handle; all queues and topics of it are destroyed by now.
        unsafe { sys::rd_kafka_destroy_flags(self.raw, sys::RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE) }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // SAFETY: a live handle; the name is NUL-terminated.
        let name = unsafe { CStr::from_ptr(sys::rd_kafka_name(self.raw)) };
        write!(f, "Client({})", name.to_string_lossy())
    }
}

/// A queue of a client. Destroyed before the client: whoever holds both declares the queue first.
pub(crate) struct Queue {
    raw: *mut sys::rd_kafka_queue_t,
}

// SAFETY: librdkafka's queues lock inside.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// Takes over one reference.
    pub(crate) fn own(raw: *mut sys::rd_kafka_queue_t) -> Self {
        Queue { raw }
    }

    pub(crate) fn raw(&self) -> *mut sys::rd_kafka_queue_t {
        self.raw
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: our reference, given back once.
        unsafe { sys::rd_kafka_queue_destroy(self.raw) }
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({:p})", self.raw)
    }
}

/// librdkafka's log lines, under the target `librdkafka`. Called from its own threads.
unsafe extern "C" fn on_log(rk: *const sys::rd_kafka_t, level: c_int, facility: *const c_char, text: *const c_char) {
    if text.is_null() || facility.is_null() {
        return;
    }
    // SAFETY: both strings are NUL-terminated and live for this call; `rk` may be null while a client is being made.
    let (client, facility, text) = unsafe {
        let client = if rk.is_null() { "".into() } else { CStr::from_ptr(sys::rd_kafka_name(rk)).to_string_lossy() };
        (client, CStr::from_ptr(facility).to_string_lossy(), CStr::from_ptr(text).to_string_lossy())
    };
    match level {
        0..=3 => tracing::error!(target: "librdkafka", %client, %facility, "{text}"),
        4 => tracing::warn!(target: "librdkafka", %client, %facility, "{text}"),
        5 | 6 => tracing::debug!(target: "librdkafka", %client, %facility, "{text}"),
        _ => tracing::trace!(target: "librdkafka", %client, %facility, "{text}"),
    }
}

/// librdkafka's notices (all brokers down, authentication failed, …). Informational: what matters comes back from calls.
pub(crate) unsafe extern "C" fn on_error(_: *mut sys::rd_kafka_t, code: c_int, reason: *const c_char, _: *mut c_void) {
    if reason.is_null() {
        return;
    }
    // SAFETY: NUL-terminated and live for this call.
    let reason = unsafe { CStr::from_ptr(reason) }.to_string_lossy();
    tracing::warn!(target: "librdkafka", code, "{reason}");
}
