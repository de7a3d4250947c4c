//! Pelton's Kafka client: exactly what the data plane needs from librdkafka, and the workspace's only Kafka FFI.
//!
//! In the order in which a record meets them: [`Consumer`] (own queues, batch consume, rebalance callbacks served on the
//! calling thread), [`Batch`] and [`Message`] (borrowed views of what was consumed), [`Producer`] (transactional or
//! idempotent, cached topics, Java's partitioner), [`GroupMetadata`] (the fence that goes into each transaction). Beside
//! them stand the operator's tools: [`Admin`] (offsets, groups, how topics and brokers are set up), [`probe()`] (why a broker does not
//! answer) and [`Reader`] (a topic up to a fixed end, in no group).
//!
//! It promises: no blocking call hides behind a name that does not say so; every librdkafka error becomes one [`Fate`];
//! [`Offset`] (a record's own) and [`Position`] (next to read) are never mixed. It does not decide what to do about a fate.
#![allow(unsafe_code, reason = "this crate is the FFI boundary to librdkafka; each block says why it is sound")]

mod admin;
mod batch;
mod client;
mod consumer;
mod describe;
mod doubt;
mod error;
mod group;
mod list;
mod locate;
mod metadata;
mod murmur2;
mod parking;
mod position;
mod probe;
mod producer;
mod properties;
mod reader;
mod statistics;
mod wake;

pub use admin::{Admin, AdminError, At, GroupInfo, Member, Refusal};
pub use batch::{Batch, Header, Message, OwnedMessage, UnreadableHeaders};
pub use consumer::{Consumer, ConsumerError, RebalanceHandler, Start};
pub use describe::{Layout, Resource};
pub use error::{Blame, ClientError, Fate, ProduceError, TxnError};
pub use group::{GroupMetadata, NotAMember};
pub use metadata::{Cluster, TopicInfo};
pub use murmur2::{murmur2, partition_for_key};
pub use position::{Offset, PartitionProgress, Position, TopicPartition};
pub use probe::{Broker, Cause, Reason, Unreached, probe};
pub use producer::{Output, Partitioning, Producer};
pub use properties::Properties;
pub use reader::Reader;
pub use statistics::{ConsumerStatistics, PartitionStatistics};
pub use wake::Wake;

/// The version of librdkafka that is linked in, such as `2.12.1`.
pub fn librdkafka_version() -> String {
    // SAFETY: returns a pointer to a static NUL-terminated string.
    unsafe { std::ffi::CStr::from_ptr(rdkafka_sys::rd_kafka_version_str()) }.to_string_lossy().into_owned()
}
