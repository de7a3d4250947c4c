//! The delivery guarantee, and how often transactions commit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Bytes, Millis};

/// The delivery guarantee, and how often transactions commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Delivery {
    /// What readers of the outputs can rely on.
    pub guarantee: Guarantee,

    /// How long a transaction gathers records before it commits, at most; outputs become visible that much later.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "60s"))]
    pub commit_interval: Millis,

    /// What to favour when throughput and latency conflict.
    pub latency: Latency,

    /// Input records after which a transaction commits without waiting for the interval.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_transaction_records: u64,

    /// Bytes of input (keys and values) after which a transaction commits without waiting for the interval.
    #[schemars(extend("x-minimum" = "64KiB", "x-maximum" = "1GiB"))]
    pub max_transaction_bytes: Bytes,

    /// Take a new producer epoch before the next transaction if a request of the last one was never answered, so that
    /// a request still on its way cannot end a later transaction. librdkafka lacks KIP-890, which would do this on the
    /// broker; with this switched off, such a late request can commit half a transaction.
    pub renew_in_doubt: bool,
}

/// What readers of the outputs can rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Guarantee {
    /// Outputs, dead letters and positions in one transaction: readers with `isolation.level=read_committed` see each
    /// record's outcome once.
    ExactlyOnce,
    /// No transactions: a record may be processed again after a crash or a rebalance.
    AtLeastOnce,
}

/// What to favour when throughput and latency conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Latency {
    /// Transactions last as long as the commit interval; batches to the brokers are as large as possible.
    Throughput,
    /// A quiet moment ends a transaction before the interval is over.
    Balanced,
    /// Records are sent at once, and a transaction gathers for only a few milliseconds, whatever the interval.
    Low,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            guarantee: Guarantee::ExactlyOnce,
            commit_interval: Millis::from_millis(100),
            latency: Latency::Balanced,
            max_transaction_records: 100_000,
            max_transaction_bytes: Bytes::mib(64),
            renew_in_doubt: true,
        }
    }
}
