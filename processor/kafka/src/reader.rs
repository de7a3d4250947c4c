//! Reads one topic from given positions up to fixed ends, read_committed, as a member of no group: for tools that show
//! what is there now. It ends even if records keep arriving, and commits nothing.

use crate::admin::{AdminError, Refusal};
use crate::batch::{Batch, OwnedMessage};
use crate::client::{Client, on_error};
use crate::error::{ClientError, call_error, name_of, text_of};
use crate::list::List;
use crate::position::{Position, TopicPartition};
use crate::properties::Properties;
use rdkafka_sys as sys;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use sys::rd_kafka_resp_err_t as Code;

/// A bounded reading of one topic. Partitions come mixed, each in its own order.
#[derive(Debug)]
pub struct Reader {
    client: Client,
    topic: Arc<str>,
    /// The end of each partition that has not been reached.
    open: BTreeMap<i32, Position>,
}

impl Reader {
    /// Each partition is read from the first position up to, and without, the second. `properties` need a `group.id`,
    /// which librdkafka wants even where no group is joined.
    pub fn new(
        properties: &Properties,
        topic: &str,
        partitions: &[(i32, Position, Position)],
    ) -> Result<Self, ClientError> {
        let properties = properties
            .clone()
            .with("enable.auto.commit", "false")
            .with("enable.auto.offset.store", "false")
            .with("isolation.level", "read_committed")
            // The only sign of an end that is made of transaction markers.
            .with("enable.partition.eof", "true")
            // Where retention is faster than we are.
            .with("auto.offset.reset", "earliest")
            .with("allow.auto.create.topics", "false");
        let client = Client::new(sys::rd_kafka_type_t::RD_KAFKA_CONSUMER, &properties, |conf| {
            // SAFETY: a live configuration object.
            unsafe { sys::rd_kafka_conf_set_error_cb(conf, Some(on_error)) };
        })?;
        // SAFETY: a live consumer handle.
        let code = unsafe { sys::rd_kafka_poll_set_consumer(client.raw()) };
        if code != Code::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(call_error("poll_set_consumer", code));
        }
        let topic: Arc<str> = Arc::from(topic);
        let filled = partitions.iter().filter(|(_, from, end)| from < end);
        let starts: Vec<(TopicPartition, i64)> = filled
            .clone()
            .map(|(partition, from, _)| (TopicPartition { topic: Arc::clone(&topic), partition: *partition }, from.0))
            .collect();
        let list = List::new(starts.iter().map(|(partition, from)| (partition, *from, -1)));
        // SAFETY: a live handle and list, which is copied.
        match unsafe { sys::rd_kafka_assign(client.raw(), list.0) } {
            Code::RD_KAFKA_RESP_ERR_NO_ERROR => {}
            code => return Err(call_error("assign", code)),
        }
        let open = filled.map(|(partition, _, end)| (*partition, *end)).collect();
        Ok(Reader { client, topic, open })
    }

    /// The next record; `None`: all ends are reached. Blocks, but not for longer than `patience` without any news.
    pub fn next(&mut self, patience: Duration) -> Result<Option<OwnedMessage>, AdminError> {
        let mut deadline = Instant::now() + patience;
        let mut last = Code::RD_KAFKA_RESP_ERR__TIMED_OUT;
        while !self.open.is_empty() {
            // SAFETY: a live handle; a returned message is ours.
            let message = unsafe { sys::rd_kafka_consumer_poll(self.client.raw(), 100) };
            if message.is_null() {
                if Instant::now() >= deadline {
                    return Err(AdminError::of("read", self.partition(), last));
                }
                continue;
            }
            // SAFETY: a live message.
            let (code, partition, offset) = unsafe { ((*message).err, (*message).partition, (*message).offset) };
            let mut batch = Batch::new();
            // The batch gives the message back, whatever becomes of it.
            batch.push_native(0, message);
            match code {
                Code::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    let Some(end) = self.open.get(&partition) else { continue };
                    let within = offset < end.0;
                    if offset + 1 >= end.0 {
                        self.open.remove(&partition);
                    }
                    if within {
                        return Ok(batch.get(0).map(|message| message.to_owned_message()));
                    }
                    deadline = Instant::now() + patience;
                }
                Code::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                    self.open.remove(&partition);
                    deadline = Instant::now() + patience;
                }
                code => {
                    let error = AdminError::of("read", self.partition(), code);
                    if error.refusal() == Refusal::Denied || self.client.fatal_error().is_some() {
                        return Err(error);
                    }
                    // Everything else mends itself or runs into the deadline.
                    tracing::warn!(topic = %self.topic, error = name_of(code), "{}", text_of(code));
                    last = code;
                }
            }
        }
        Ok(None)
    }

    /// One that is waited for.
    fn partition(&self) -> Option<TopicPartition> {
        let (partition, _) = self.open.first_key_value()?;
        Some(TopicPartition { topic: Arc::clone(&self.topic), partition: *partition })
    }
}
