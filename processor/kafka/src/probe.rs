//! Does a broker answer, and if not, why not? librdkafka's calls say only that they had no answer; what went wrong on the
//! way (a name, a certificate, a password) it tells in events, which are gathered here.

use crate::client::{Client, Queue};
use crate::error::{ClientError, name_of, text_of};
use crate::properties::Properties;
use rdkafka_sys as sys;
use std::ffi::CStr;
use std::time::Duration;
use sys::rd_kafka_resp_err_t as Code;

/// One broker of the cluster, as it wants to be reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    pub id: i32,
    /// `host:port`.
    pub address: String,
}

/// One thing that went wrong on the way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason {
    /// librdkafka's name, such as `_RESOLVE`, `_SSL`, `_AUTHENTICATION`, `_TRANSPORT`.
    pub name: String,
    pub text: String,
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub enum Unreached {
    #[error(transparent)]
    Client(#[from] ClientError),
    /// In the order in which they were told, each once.
    #[error("{}", .0.iter().map(|reason| reason.text.as_str()).collect::<Vec<_>>().join("; "))]
    Reasons(Vec<Reason>),
}

/// Asks whoever is at `bootstrap.servers` of these properties, once connected and authenticated, which brokers there are.
/// Blocks up to `patience`. `properties` are a producer's.
pub fn probe(properties: &Properties, patience: Duration) -> Result<Vec<Broker>, Unreached> {
    let client = Client::new(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, properties, |conf| {
        // SAFETY: a live configuration object. Errors wait in the main queue until they are asked for.
        unsafe { sys::rd_kafka_conf_set_events(conf, sys::RD_KAFKA_EVENT_ERROR) };
    })?;
    // SAFETY: our reference to the main queue of a live client; it is dropped before the client.
    let events = Queue::own(unsafe { sys::rd_kafka_queue_get_main(client.raw()) });
    let mut metadata: *const sys::rd_kafka_metadata = std::ptr::null();
    let ms = patience.as_millis().try_into().unwrap_or(i32::MAX);
    // SAFETY: a live client; on success `metadata` is freed below.
    let code = unsafe { sys::rd_kafka_metadata(client.raw(), 0, std::ptr::null_mut(), &mut metadata, ms) };
    if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        let mut reasons = reasons(&events);
        if reasons.is_empty() {
            let text = format!("no answer within {} s: {}", patience.as_secs(), text_of(code));
            reasons.push(Reason { name: name_of(code), text });
        }
        return Err(Unreached::Reasons(reasons));
    }
    // SAFETY: on success `metadata` is live, with as many brokers as it says, whose hosts are NUL-terminated; freed once.
    unsafe {
        let all = &*metadata;
        let brokers = (0..all.broker_cnt.max(0) as usize).map(|index| {
            let broker = &*all.brokers.add(index);
            let host = CStr::from_ptr(broker.host).to_string_lossy();
            // An address of version 6 has colons itself.
            let host = if host.contains(':') { format!("[{host}]") } else { host.into_owned() };
            Broker { id: broker.id, address: format!("{host}:{}", broker.port) }
        });
        let brokers = brokers.collect();
        sys::rd_kafka_metadata_destroy(metadata);
        Ok(brokers)
    }
}

fn reasons(events: &Queue) -> Vec<Reason> {
    let mut reasons: Vec<Reason> = Vec::new();
    loop {
        // SAFETY: a live queue; a returned event is ours, read and destroyed once.
        unsafe {
            let event = sys::rd_kafka_queue_poll(events.raw(), 0);
            if event.is_null() {
                return reasons;
            }
            if sys::rd_kafka_event_type(event) == sys::RD_KAFKA_EVENT_ERROR {
                let code = sys::rd_kafka_event_error(event);
                let text = sys::rd_kafka_event_error_string(event);
                let text =
                    if text.is_null() { text_of(code) } else { CStr::from_ptr(text).to_string_lossy().into_owned() };
                // The same happens at each try, after another time.
                let text = text.split(" (after ").next().unwrap_or_default().to_owned();
                let reason = Reason { name: name_of(code), text };
                // That all are down follows from the others.
                let follows = code == Code::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN;
                if !follows && !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
            sys::rd_kafka_event_destroy(event);
        }
    }
}
