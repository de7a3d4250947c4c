//! Does a broker answer, and if not, why not? librdkafka's calls only say that they had no answer; what went wrong (a
//! name, a certificate, a password) it reports in events, which are gathered here.

use crate::client::{Client, Queue};
use crate::error::{ClientError, name_of, text_of};
use crate::metadata::Cluster;
use crate::properties::Properties;
use rdkafka_sys as sys;
use std::ffi::CStr;
use std::time::{Duration, Instant};
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

/// What kind of thing keeps a broker from answering.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It refuses the credentials.
    Authentication,
    /// No TLS connection comes about.
    Tls,
    /// Nobody knows its name.
    Name,
    /// Anything else.
    Silence,
}

impl Unreached {
    /// The most telling one.
    pub fn cause(&self) -> Cause {
        match self {
            Unreached::Reasons(reasons) => cause(reasons),
            Unreached::Client(_) => Cause::Silence,
        }
    }
}

/// What comes later on the way to an answer tells more than what comes earlier.
fn cause(reasons: &[Reason]) -> Cause {
    let has = |names: &[&str]| reasons.iter().any(|reason| names.contains(&reason.name.as_str()));
    if has(&["_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM"]) {
        Cause::Authentication
    } else if has(&["_SSL"]) || reasons.iter().any(|reason| reason.text.contains("SSL handshake failed")) {
        Cause::Tls
    } else if has(&["_RESOLVE"]) {
        Cause::Name
    } else {
        Cause::Silence
    }
}

/// Asks whoever is at `bootstrap.servers` of these properties, once connected and authenticated, which brokers there are.
/// Blocks up to `patience`. `properties` are a producer's.
pub fn probe(properties: &Properties, patience: Duration) -> Result<Vec<Broker>, Unreached> {
    Cluster::new(properties)?.reach(patience)
}

/// So long is one answer waited for. What librdkafka reports meanwhile is looked at afterwards: soon at first, since it tries
/// refused credentials again and again.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const FIRST_ANSWER_MAX: Duration = Duration::from_secs(1);

/// `events`: where `client` tells its errors.
pub(crate) fn reach(client: &Client, events: Option<&Queue>, patience: Duration) -> Result<Vec<Broker>, Unreached> {
    let deadline = Instant::now() + patience;
    let mut told = Vec::new();
    let mut longest = FIRST_ANSWER_MAX;
    loop {
        let wait = deadline.saturating_duration_since(Instant::now()).min(longest);
        longest = ANSWER_MAX;
        let code = match brokers(client, wait) {
            Ok(brokers) => return Ok(brokers),
            Err(code) => code,
        };
        reasons(events, &mut told);
        let over = Instant::now() >= deadline;
        if over && told.is_empty() {
            let text = format!("no answer within {} s: {}", patience.as_secs(), text_of(code));
            told.push(Reason { name: name_of(code), text });
        }
        // Who asks again with credentials that are refused may be locked out.
        if over || cause(&told) == Cause::Authentication {
            return Err(Unreached::Reasons(told));
        }
    }
}

fn brokers(client: &Client, wait: Duration) -> Result<Vec<Broker>, Code> {
    let mut metadata: *const sys::rd_kafka_metadata = std::ptr::null();
    let ms = wait.as_millis().try_into().unwrap_or(i32::MAX);
    // SAFETY: a live client; on success `metadata` is freed below.
    let code = unsafe { sys::rd_kafka_metadata(client.raw(), 0, std::ptr::null_mut(), &mut metadata, ms) };
    if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(code);
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

/// A connection that breaks during the handshake is called a refusal by librdkafka too (`rd_kafka_broker_handle_SaslHandshake`).
fn told_apart(code: Code, text: &str) -> Code {
    if code == Code::RD_KAFKA_RESP_ERR__AUTHENTICATION && text.contains("handshake failed: Local: ") {
        Code::RD_KAFKA_RESP_ERR__TRANSPORT
    } else {
        code
    }
}

/// Adds what has been told since.
fn reasons(events: Option<&Queue>, reasons: &mut Vec<Reason>) {
    let Some(events) = events else { return };
    loop {
        // SAFETY: a live queue; a returned event is ours, read and destroyed once.
        unsafe {
            let event = sys::rd_kafka_queue_poll(events.raw(), 0);
            if event.is_null() {
                return;
            }
            if sys::rd_kafka_event_type(event) == sys::RD_KAFKA_EVENT_ERROR {
                let code = sys::rd_kafka_event_error(event);
                let text = sys::rd_kafka_event_error_string(event);
                let text =
                    if text.is_null() { text_of(code) } else { CStr::from_ptr(text).to_string_lossy().into_owned() };
                // The same happens at each try, after another time.
                let text = text.split(" (after ").next().unwrap_or_default().to_owned();
                let reason = Reason { name: name_of(told_apart(code, &text)), text };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_breaks_during_the_handshake_is_no_refusal_of_the_credentials() {
        let code = Code::RD_KAFKA_RESP_ERR__AUTHENTICATION;
        let broken = "sasl_ssl://b:9093/bootstrap: SASL PLAIN mechanism handshake failed: Local: Broker transport failure: \
                      broker's supported mechanisms: (n/a)";
        assert_eq!(told_apart(code, broken), Code::RD_KAFKA_RESP_ERR__TRANSPORT);
        let mechanism = "sasl_ssl://b:9093/bootstrap: SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: \
                         broker's supported mechanisms: SCRAM-SHA-512";
        let refused = "sasl_ssl://b:9093/1: SASL authentication error: Authentication failed";
        assert_eq!([mechanism, refused].map(|text| told_apart(code, text)), [code, code]);
    }
}
