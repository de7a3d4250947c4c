//! Every librdkafka error, sorted once into what the caller has to do about it. Nothing else in the workspace looks at
//! error codes.

use rdkafka_sys as sys;
use std::ffi::CStr;
use sys::rd_kafka_resp_err_t as Code;

/// What to do after a failed transactional call, in the order in which it is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nobody can mend it here: a right is missing or the configuration does not fit the broker.
    Stop,
    /// The transaction is lost, the producer is good: abort, rewind, go on.
    Abort,
    /// The same call again, with the same arguments; nothing else is legal until it has answered.
    Retry,
    /// The producer cannot go on (fenced, or its state is unknown): a new one of the same id, then rewind.
    Replace,
}

/// A transactional call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{call}: {text} ({name})")]
pub struct TxnError {
    pub fate: Fate,
    /// The librdkafka or broker error, such as `_FENCED` or `ILLEGAL_GENERATION`.
    pub name: String,
    pub text: String,
    pub call: &'static str,
    /// Somebody else has taken over this transactional id, or the coordinator timed the transaction out.
    pub fenced: bool,
}

impl TxnError {
    /// An error that did not come from librdkafka.
    pub fn own(fate: Fate, call: &'static str, name: &str, text: impl Into<String>) -> Self {
        TxnError { fate, name: name.into(), text: text.into(), call, fenced: false }
    }
}

/// A client could not be made or asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("librdkafka property `{name}` = `{value}`: {text}")]
    Property { name: String, value: String, text: String },
    #[error("cannot create the Kafka client: {text}")]
    Create { text: String },
    #[error("{call}: {text} ({name})")]
    Call { call: &'static str, name: String, text: String },
    #[error("cannot make an eventfd: {0}")]
    Wake(#[source] std::io::Error),
    #[error("`{0}` has a zero byte in it")]
    ZeroByte(String),
}

/// A record was not taken into the producer's queue.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProduceError {
    /// The local queue is full: wait until the brokers have taken some, then the same record again.
    #[error("the producer's queue is full")]
    Full,
    /// The record is larger than `message.max.bytes` allows.
    #[error("the record is larger than message.max.bytes")]
    TooLarge,
    /// The topic has no such partition.
    #[error("the topic has no such partition")]
    NoSuchPartition,
    /// The transaction cannot take records any more.
    #[error(transparent)]
    Txn(TxnError),
}

pub(crate) fn name_of(code: Code) -> String {
    // SAFETY: returns a static NUL-terminated string for every code.
    let name = unsafe { CStr::from_ptr(sys::rd_kafka_err2name(code)) };
    name.to_string_lossy().into_owned()
}

pub(crate) fn text_of(code: Code) -> String {
    // SAFETY: returns a static NUL-terminated string for every code.
    let text = unsafe { CStr::from_ptr(sys::rd_kafka_err2str(code)) };
    text.to_string_lossy().into_owned()
}

pub(crate) fn call_error(call: &'static str, code: Code) -> ClientError {
    ClientError::Call { call, name: name_of(code), text: text_of(code) }
}

/// Takes ownership of a returned error object. `Ok` for null.
pub(crate) fn check(call: &'static str, error: *mut sys::rd_kafka_error_t) -> Result<(), TxnError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null error object owned by us; it is read, then destroyed once.
    let (code, text, requires_abort, retriable) = unsafe {
        let out = (
            sys::rd_kafka_error_code(error),
            CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned(),
            sys::rd_kafka_error_txn_requires_abort(error) != 0,
            sys::rd_kafka_error_is_retriable(error) != 0,
        );
        sys::rd_kafka_error_destroy(error);
        out
    };
    Err(classify(call, code, text, requires_abort, retriable))
}

/// The one place that turns what librdkafka says into a [`Fate`]. The order is librdkafka's own advice: abort before
/// retry before fatal; before them rights and limits, which no repetition mends, and fencing.
pub(crate) fn classify(
    call: &'static str,
    code: Code,
    text: String,
    requires_abort: bool,
    retriable: bool,
) -> TxnError {
    // Whatever flag comes with it: a fenced producer's abort would only be refused too.
    let fenced = matches!(
        code,
        Code::RD_KAFKA_RESP_ERR__FENCED
            | Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH
            | Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED
    );
    let fate = match code {
        Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT
        | Code::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION
        | Code::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE => Fate::Stop,
        _ if fenced => Fate::Replace,
        _ if requires_abort => Fate::Abort,
        _ if retriable => Fate::Retry,
        _ => Fate::Replace,
    };
    TxnError { fate, name: name_of(code), text, call, fenced }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_stop_before_anything_else_then_abort_before_retry_before_replace() {
        let fate = |code, abort, retry| classify("commit", code, String::new(), abort, retry).fate;
        assert_eq!(fate(Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED, true, true), Fate::Stop);
        assert_eq!(fate(Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION, true, true), Fate::Abort);
        assert_eq!(fate(Code::RD_KAFKA_RESP_ERR__TIMED_OUT, false, true), Fate::Retry);
        assert_eq!(fate(Code::RD_KAFKA_RESP_ERR__FENCED, false, false), Fate::Replace);
        assert!(classify("commit", Code::RD_KAFKA_RESP_ERR__FENCED, String::new(), false, false).fenced);
        assert_eq!(fate(Code::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, false, false), Fate::Replace);
    }
}
