//! What the cluster says about topics, asked once at start: whether they exist, and with how many partitions.

use crate::client::{Client, Queue};
use crate::error::{ClientError, call_error, name_of};
use crate::probe::{self, Broker, Unreached};
use crate::properties::Properties;
use rdkafka_sys as sys;
use std::ffi::CString;
use std::time::Duration;

/// A short-lived client for questions.
#[derive(Debug)]
pub struct Cluster {
    /// What goes wrong on the way to a broker, where that is gathered. Dropped before the client.
    events: Option<Queue>,
    client: Client,
}

/// What the cluster says of one topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TopicInfo {
    Partitions(i32),
    Missing,
    /// This principal may not see it, whether or not it exists.
    Denied,
    /// Something else is wrong with it: the broker's error.
    Refused(String),
}

impl Cluster {
    /// Does not wait for a connection.
    pub fn new(properties: &Properties) -> Result<Self, ClientError> {
        let client = Client::new(sys::rd_kafka_type_t::RD_KAFKA_PRODUCER, properties, |conf| {
            // SAFETY: a live configuration object. Errors wait in the main queue until they are asked for.
            unsafe { sys::rd_kafka_conf_set_events(conf, sys::RD_KAFKA_EVENT_ERROR) };
        })?;
        // SAFETY: our reference to the main queue of a live client.
        let events = Queue::own(unsafe { sys::rd_kafka_queue_get_main(client.raw()) });
        Ok(Cluster { events: Some(events), client })
    }

    /// Over a consumer's handle, which needs a `group.id`. It joins nothing.
    pub(crate) fn of_consumer(properties: &Properties) -> Result<Self, ClientError> {
        Ok(Cluster { events: None, client: Client::new(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, properties, |_| {})? })
    }

    pub(crate) fn raw(&self) -> *mut sys::rd_kafka_t {
        self.client.raw()
    }

    /// Waits until a broker answers: up to `patience`, and no longer than until the credentials are refused.
    pub fn reach(&self, patience: Duration) -> Result<Vec<Broker>, Unreached> {
        probe::reach(&self.client, self.events.as_ref(), patience)
    }

    /// Blocks up to `timeout`. An error means that no broker answered.
    pub fn topic(&self, topic: &str, timeout: Duration) -> Result<TopicInfo, ClientError> {
        topic_info(&self.client, topic, timeout)
    }
}

/// Asks a broker through `client`.
pub(crate) fn topic_info(client: &Client, topic: &str, timeout: Duration) -> Result<TopicInfo, ClientError> {
    let name = CString::new(topic).map_err(|_| ClientError::ZeroByte(topic.into()))?;
    let mut metadata: *const sys::rd_kafka_metadata = std::ptr::null();
    // SAFETY: the topic handle is live through the call and destroyed after it; `metadata` is an out parameter that
    // is freed below.
    let code = unsafe {
        let topic = sys::rd_kafka_topic_new(client.raw(), name.as_ptr(), std::ptr::null_mut());
        let code = sys::rd_kafka_metadata(client.raw(), 0, topic, &mut metadata, timeout.as_millis() as i32);
        sys::rd_kafka_topic_destroy(topic);
        code
    };
    if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(call_error("metadata", code));
    }
    // SAFETY: on success `metadata` is a live object with `topic_cnt` topics; read, then freed once.
    let info = unsafe {
        let all = &*metadata;
        let info = if all.topic_cnt == 0 {
            TopicInfo::Missing
        } else {
            let topic = &*all.topics;
            match topic.err {
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => TopicInfo::Partitions(topic.partition_cnt),
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART => TopicInfo::Missing,
                sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => TopicInfo::Denied,
                other => TopicInfo::Refused(name_of(other)),
            }
        };
        sys::rd_kafka_metadata_destroy(metadata);
        info
    };
    Ok(info)
}
