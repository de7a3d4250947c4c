//! Every librdkafka error, sorted once by what the data plane has to do about it. What a tool can do about one is in
//! [`crate::admin`]; nothing outside this crate looks at error codes.

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

/// Whose doing a failed transaction is: decides what a lane does when it happens again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blame {
    /// Brokers or the way to them: away, moving, slow. Waiting mends it; no number of failures ends the process.
    Brokers,
    /// This member's standing in its group: a rebalance is under way. Rejoining mends it.
    Membership,
    /// Somebody else has taken over this transactional id, or the coordinator timed the transaction out.
    Identity,
    /// What was written, or where to: the same record will be refused again.
    Record,
    /// A transform's module, which is about to be taken out of use.
    Module,
    /// Anything else. Tried again, but not for ever.
    Other,
}

/// A transactional call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{call}: {text} ({name})")]
pub struct TxnError {
    pub fate: Fate,
    pub blame: Blame,
    /// The librdkafka or broker error, such as `_FENCED` or `ILLEGAL_GENERATION`.
    pub name: String,
    pub text: String,
    pub call: &'static str,
    /// The topic that refused a record, where that is known: index into the producer's topics.
    pub topic: Option<u32>,
}

impl TxnError {
    /// An error that did not come from librdkafka.
    pub fn own(fate: Fate, blame: Blame, call: &'static str, name: &str, text: impl Into<String>) -> Self {
        TxnError { fate, blame, name: name.into(), text: text.into(), call, topic: None }
    }

    /// The error of one record, which fails the transaction that it is in.
    pub(crate) fn of_code(fate: Fate, call: &'static str, code: Code) -> Self {
        TxnError { fate, blame: blame(code), name: name_of(code), text: text_of(code), call, topic: None }
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

/// Turns what librdkafka says of a transactional call into a [`Fate`]. The order is librdkafka's own advice: abort before
/// retry before fatal; before them rights and limits, which no repetition mends, and fencing.
pub(crate) fn classify(
    call: &'static str,
    code: Code,
    text: String,
    requires_abort: bool,
    retriable: bool,
) -> TxnError {
    let blame = blame(code);
    let fate = match code {
        Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT
        | Code::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED
        | Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM
        | Code::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION
        | Code::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE => Fate::Stop,
        // Whatever flag comes with it: a fenced producer's abort would only be refused too.
        _ if blame == Blame::Identity => Fate::Replace,
        _ if requires_abort => Fate::Abort,
        _ if retriable => Fate::Retry,
        _ => Fate::Replace,
    };
    TxnError { fate, blame, name: name_of(code), text, call, topic: None }
}

/// Every error of librdkafka and of the protocol that this librdkafka knows, sorted once. No wildcard: a new librdkafka
/// with new errors does not compile until somebody has looked at them.
fn blame(code: Code) -> Blame {
    use Code as C;
    match code {
        // Unreachable, moving, slow; sequences and epochs out of step, which a new epoch mends.
        C::RD_KAFKA_RESP_ERR__BAD_MSG
        | C::RD_KAFKA_RESP_ERR__BAD_COMPRESSION
        | C::RD_KAFKA_RESP_ERR__DESTROY
        | C::RD_KAFKA_RESP_ERR__FAIL
        | C::RD_KAFKA_RESP_ERR__TRANSPORT
        | C::RD_KAFKA_RESP_ERR__CRIT_SYS_RESOURCE
        | C::RD_KAFKA_RESP_ERR__RESOLVE
        | C::RD_KAFKA_RESP_ERR__MSG_TIMED_OUT
        | C::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN
        | C::RD_KAFKA_RESP_ERR__TIMED_OUT
        | C::RD_KAFKA_RESP_ERR__QUEUE_FULL
        | C::RD_KAFKA_RESP_ERR__ISR_INSUFF
        | C::RD_KAFKA_RESP_ERR__NODE_UPDATE
        | C::RD_KAFKA_RESP_ERR__SSL
        | C::RD_KAFKA_RESP_ERR__WAIT_COORD
        | C::RD_KAFKA_RESP_ERR__IN_PROGRESS
        | C::RD_KAFKA_RESP_ERR__PREV_IN_PROGRESS
        | C::RD_KAFKA_RESP_ERR__AUTHENTICATION
        | C::RD_KAFKA_RESP_ERR__TIMED_OUT_QUEUE
        | C::RD_KAFKA_RESP_ERR__WAIT_CACHE
        | C::RD_KAFKA_RESP_ERR__INTR
        | C::RD_KAFKA_RESP_ERR__PARTIAL
        | C::RD_KAFKA_RESP_ERR__RETRY
        | C::RD_KAFKA_RESP_ERR__UNKNOWN_BROKER
        | C::RD_KAFKA_RESP_ERR__DESTROY_BROKER
        | C::RD_KAFKA_RESP_ERR__CONFLICT
        | C::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
        | C::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION
        | C::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT
        | C::RD_KAFKA_RESP_ERR_BROKER_NOT_AVAILABLE
        | C::RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE
        | C::RD_KAFKA_RESP_ERR_STALE_CTRL_EPOCH
        | C::RD_KAFKA_RESP_ERR_NETWORK_EXCEPTION
        | C::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS
        | C::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE
        | C::RD_KAFKA_RESP_ERR_NOT_COORDINATOR
        | C::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS
        | C::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | C::RD_KAFKA_RESP_ERR_NOT_CONTROLLER
        | C::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS
        | C::RD_KAFKA_RESP_ERR_TRANSACTION_COORDINATOR_FENCED
        | C::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR
        | C::RD_KAFKA_RESP_ERR_LOG_DIR_NOT_FOUND
        | C::RD_KAFKA_RESP_ERR_FETCH_SESSION_ID_NOT_FOUND
        | C::RD_KAFKA_RESP_ERR_INVALID_FETCH_SESSION_EPOCH
        | C::RD_KAFKA_RESP_ERR_LISTENER_NOT_FOUND
        | C::RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH
        | C::RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH
        | C::RD_KAFKA_RESP_ERR_STALE_BROKER_EPOCH
        | C::RD_KAFKA_RESP_ERR_OFFSET_NOT_AVAILABLE
        | C::RD_KAFKA_RESP_ERR_PREFERRED_LEADER_NOT_AVAILABLE
        | C::RD_KAFKA_RESP_ERR_ELIGIBLE_LEADERS_NOT_AVAILABLE
        | C::RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT
        | C::RD_KAFKA_RESP_ERR_THROTTLING_QUOTA_EXCEEDED
        | C::RD_KAFKA_RESP_ERR_REASSIGNMENT_IN_PROGRESS
        | C::RD_KAFKA_RESP_ERR_REBOOTSTRAP_REQUIRED
        | C::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE
        | C::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER
        | C::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER
        | C::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID
        | C::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING
        | C::RD_KAFKA_RESP_ERR__STATE
        | C::RD_KAFKA_RESP_ERR__FATAL
        | C::RD_KAFKA_RESP_ERR__PURGE_QUEUE
        | C::RD_KAFKA_RESP_ERR__PURGE_INFLIGHT
        | C::RD_KAFKA_RESP_ERR__INCONSISTENT
        | C::RD_KAFKA_RESP_ERR__GAPLESS_GUARANTEE => Blame::Brokers,
        // Not in the group, or not in this generation of it.
        C::RD_KAFKA_RESP_ERR__ASSIGNMENT_LOST
        | C::RD_KAFKA_RESP_ERR__MAX_POLL_EXCEEDED
        | C::RD_KAFKA_RESP_ERR__UNKNOWN_GROUP
        | C::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS
        | C::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS
        | C::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION
        | C::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID
        | C::RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS
        | C::RD_KAFKA_RESP_ERR_MEMBER_ID_REQUIRED
        | C::RD_KAFKA_RESP_ERR_FENCED_MEMBER_EPOCH
        | C::RD_KAFKA_RESP_ERR_STALE_MEMBER_EPOCH
        | C::RD_KAFKA_RESP_ERR_INVALID_SESSION_TIMEOUT
        | C::RD_KAFKA_RESP_ERR_INCONSISTENT_GROUP_PROTOCOL
        | C::RD_KAFKA_RESP_ERR_GROUP_MAX_SIZE_REACHED
        | C::RD_KAFKA_RESP_ERR_UNRELEASED_INSTANCE_ID
        | C::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID
        | C::RD_KAFKA_RESP_ERR_UNSUPPORTED_ASSIGNOR => Blame::Membership,
        // A newer epoch of this transactional id exists.
        C::RD_KAFKA_RESP_ERR__FENCED
        | C::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH
        | C::RD_KAFKA_RESP_ERR_PRODUCER_FENCED => Blame::Identity,
        // The record or its topic.
        C::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION
        | C::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
        | C::RD_KAFKA_RESP_ERR__KEY_SERIALIZATION
        | C::RD_KAFKA_RESP_ERR__VALUE_SERIALIZATION
        | C::RD_KAFKA_RESP_ERR_INVALID_MSG
        | C::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
        | C::RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE
        | C::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE
        | C::RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION
        | C::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE
        | C::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED
        | C::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP
        | C::RD_KAFKA_RESP_ERR_INVALID_RECORD
        // One of its batch was refused, and so it was too.
        | C::RD_KAFKA_RESP_ERR__INVALID_DIFFERENT_RECORD
        | C::RD_KAFKA_RESP_ERR_POLICY_VIOLATION
        | C::RD_KAFKA_RESP_ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT
        | C::RD_KAFKA_RESP_ERR_UNSUPPORTED_COMPRESSION_TYPE
        | C::RD_KAFKA_RESP_ERR_INVALID_PARTITIONS
        | C::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_ID
        | C::RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE => Blame::Record,
        // Rights and configuration (most of them stop at once, see above), and what no transaction can meet.
        C::RD_KAFKA_RESP_ERR__BEGIN
        | C::RD_KAFKA_RESP_ERR__PARTITION_EOF
        | C::RD_KAFKA_RESP_ERR__FS
        | C::RD_KAFKA_RESP_ERR__INVALID_ARG
        | C::RD_KAFKA_RESP_ERR__EXISTING_SUBSCRIPTION
        | C::RD_KAFKA_RESP_ERR__UNKNOWN_PROTOCOL
        | C::RD_KAFKA_RESP_ERR__NOT_IMPLEMENTED
        | C::RD_KAFKA_RESP_ERR__NO_OFFSET
        | C::RD_KAFKA_RESP_ERR__OUTDATED
        | C::RD_KAFKA_RESP_ERR__UNSUPPORTED_FEATURE
        | C::RD_KAFKA_RESP_ERR__KEY_DESERIALIZATION
        | C::RD_KAFKA_RESP_ERR__VALUE_DESERIALIZATION
        | C::RD_KAFKA_RESP_ERR__READ_ONLY
        | C::RD_KAFKA_RESP_ERR__NOENT
        | C::RD_KAFKA_RESP_ERR__UNDERFLOW
        | C::RD_KAFKA_RESP_ERR__INVALID_TYPE
        | C::RD_KAFKA_RESP_ERR__NOT_CONFIGURED
        | C::RD_KAFKA_RESP_ERR__APPLICATION
        | C::RD_KAFKA_RESP_ERR__NOOP
        | C::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET
        | C::RD_KAFKA_RESP_ERR__LOG_TRUNCATION
        | C::RD_KAFKA_RESP_ERR__END
        | C::RD_KAFKA_RESP_ERR_UNKNOWN
        | C::RD_KAFKA_RESP_ERR_NO_ERROR
        | C::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE
        | C::RD_KAFKA_RESP_ERR_INVALID_REQUIRED_ACKS
        | C::RD_KAFKA_RESP_ERR_INVALID_GROUP_ID
        | C::RD_KAFKA_RESP_ERR_INVALID_COMMIT_OFFSET_SIZE
        | C::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED
        | C::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED
        | C::RD_KAFKA_RESP_ERR_UNSUPPORTED_SASL_MECHANISM
        | C::RD_KAFKA_RESP_ERR_ILLEGAL_SASL_STATE
        | C::RD_KAFKA_RESP_ERR_UNSUPPORTED_VERSION
        | C::RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS
        | C::RD_KAFKA_RESP_ERR_INVALID_REPLICATION_FACTOR
        | C::RD_KAFKA_RESP_ERR_INVALID_REPLICA_ASSIGNMENT
        | C::RD_KAFKA_RESP_ERR_INVALID_CONFIG
        | C::RD_KAFKA_RESP_ERR_INVALID_REQUEST
        | C::RD_KAFKA_RESP_ERR_INVALID_TRANSACTION_TIMEOUT
        | C::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | C::RD_KAFKA_RESP_ERR_SECURITY_DISABLED
        | C::RD_KAFKA_RESP_ERR_OPERATION_NOT_ATTEMPTED
        | C::RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED
        | C::RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_AUTH_DISABLED
        | C::RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_NOT_FOUND
        | C::RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_OWNER_MISMATCH
        | C::RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
        | C::RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_AUTHORIZATION_FAILED
        | C::RD_KAFKA_RESP_ERR_DELEGATION_TOKEN_EXPIRED
        | C::RD_KAFKA_RESP_ERR_INVALID_PRINCIPAL_TYPE
        | C::RD_KAFKA_RESP_ERR_NON_EMPTY_GROUP
        | C::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND
        | C::RD_KAFKA_RESP_ERR_TOPIC_DELETION_DISABLED
        | C::RD_KAFKA_RESP_ERR_ELECTION_NOT_NEEDED
        | C::RD_KAFKA_RESP_ERR_NO_REASSIGNMENT_IN_PROGRESS
        | C::RD_KAFKA_RESP_ERR_GROUP_SUBSCRIBED_TO_TOPIC
        | C::RD_KAFKA_RESP_ERR_RESOURCE_NOT_FOUND
        | C::RD_KAFKA_RESP_ERR_DUPLICATE_RESOURCE
        | C::RD_KAFKA_RESP_ERR_UNACCEPTABLE_CREDENTIAL
        | C::RD_KAFKA_RESP_ERR_INCONSISTENT_VOTER_SET
        | C::RD_KAFKA_RESP_ERR_INVALID_UPDATE_VERSION
        | C::RD_KAFKA_RESP_ERR_FEATURE_UPDATE_FAILED
        | C::RD_KAFKA_RESP_ERR_PRINCIPAL_DESERIALIZATION_FAILURE
        | C::RD_KAFKA_RESP_ERR_UNKNOWN_SUBSCRIPTION_ID
        | C::RD_KAFKA_RESP_ERR_TELEMETRY_TOO_LARGE
        | C::RD_KAFKA_RESP_ERR_END_ALL => Blame::Other,
    }
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
        assert_eq!(fate(Code::RD_KAFKA_RESP_ERR__FENCED, true, false), Fate::Replace, "its abort would be refused too");
        assert_eq!(fate(Code::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, false, false), Fate::Replace);
    }
}
