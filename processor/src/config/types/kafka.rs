//! The cluster and how to talk to it.
//!
//! Owns the few settings that Pelton must know and passes the rest to librdkafka under its own dotted names. Refuses
//! (in `checks::kafka`) the properties that its guarantees depend on.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Millis, RevealError, Secret};
use crate::config::librdkafka::{self, Side};

/// The cluster, and librdkafka's own properties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// Brokers to connect to first: `host:port`, separated by commas. The environment variable
    /// `KAFKA_BOOTSTRAP_SERVERS` sets it too.
    pub bootstrap_servers: BootstrapServers,

    /// librdkafka properties for all clients, under librdkafka's names: `security.protocol: sasl_ssl`. A value is a
    /// scalar, `{ env: X }` or `{ file: path }`. In environment variables write `_` for `.`:
    /// `PELTON__KAFKA__PROPERTIES__SASL_PASSWORD`.
    #[serde(default)]
    pub properties: BTreeMap<String, Secret>,

    /// For consumers only.
    #[serde(default)]
    pub consumer: ClientProperties,

    /// For producers only.
    #[serde(default)]
    pub producer: ClientProperties,

    /// After this long without a heartbeat, the group gives the process's partitions to others.
    #[serde(default = "session_timeout")]
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "30m"))]
    pub session_timeout: Millis,

    /// How members take part in the group. `consumer` is KIP-848, for brokers 4.0 and newer: the coordinator assigns
    /// partitions, and `session_timeout` is the broker's (`group.consumer.session.timeout.ms`).
    #[serde(default)]
    pub group_protocol: GroupProtocol,

    /// How the classic protocol assigns partitions. All members of a group must agree: stop the whole application to
    /// change it.
    #[serde(default)]
    pub assignment: Assignment,

    /// Members are known to the group by `instance` (`group.instance.id`): a process that is back within
    /// `session_timeout` keeps its partitions without a rebalance, and one that is gone for good holds them until
    /// then. Needs a stable `instance`.
    #[serde(default)]
    pub static_membership: bool,

    /// After this long the broker aborts a transaction that was left open. With `instance: random` the default is 10s,
    /// because no process comes back under the same name to abort it immediately.
    #[serde(default = "transaction_timeout")]
    #[schemars(extend("x-minimum" = "1s", "x-maximum" = "15m"))]
    pub transaction_timeout: Millis,
}

/// How members take part in the group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupProtocol {
    /// Members agree among themselves.
    #[default]
    Classic,
    /// The coordinator assigns (KIP-848).
    Consumer,
}

/// How the classic protocol assigns partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Assignment {
    /// Only partitions that move are stopped (`cooperative-sticky`).
    #[default]
    Cooperative,
    /// Every rebalance stops all partitions (`range`, `roundrobin`).
    Eager,
}

/// librdkafka properties for one kind of client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientProperties {
    /// librdkafka properties, as in `kafka.properties`, which they override.
    pub properties: BTreeMap<String, Secret>,
}

/// `host:port`, separated by commas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(inline, extend("format" = "pelton-servers"))]
pub struct BootstrapServers(String);

/// The default of `kafka.transaction_timeout` if `instance` is `random`.
pub const TRANSACTION_TIMEOUT_RANDOM: Millis = Millis::from_secs(10);

fn session_timeout() -> Millis {
    Millis::from_secs(10)
}

fn transaction_timeout() -> Millis {
    Millis::from_secs(30)
}

impl Kafka {
    /// Properties for consumers: the common ones (without those that only producers know), then `consumer`'s.
    ///
    /// # Errors
    /// If a value cannot be found; names the property's source, never a value.
    pub fn consumer_properties(&self) -> Result<BTreeMap<String, String>, RevealError> {
        self.properties_of(Side::Consumer, &self.consumer)
    }

    /// Properties for producers, in the same way.
    ///
    /// # Errors
    /// If a value cannot be found.
    pub fn producer_properties(&self) -> Result<BTreeMap<String, String>, RevealError> {
        self.properties_of(Side::Producer, &self.producer)
    }

    fn properties_of(&self, side: Side, own: &ClientProperties) -> Result<BTreeMap<String, String>, RevealError> {
        let common = self.properties.iter().filter(|(name, _)| librdkafka::side(name).is_none_or(|s| s.serves(side)));
        common.chain(&own.properties).map(|(name, value)| Ok((name.clone(), value.reveal()?))).collect()
    }
}

impl BootstrapServers {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BootstrapServers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        for server in text.split(',').map(str::trim) {
            let (host, port) = match server.rsplit_once(':') {
                Some((host, port)) if !host.ends_with(':') => (host, Some(port)),
                _ => (server, None),
            };
            if host.is_empty() {
                return Err("a broker is `host:port`, several are parted by commas".to_owned());
            }
            if host.contains("//") || host.contains(char::is_whitespace) {
                return Err("a broker is `host:port`, without a scheme and without blanks".to_owned());
            }
            if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
                return Err("a broker's port is a number from 1 to 65535".to_owned());
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for BootstrapServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for BootstrapServers {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<BootstrapServers> for String {
    fn from(servers: BootstrapServers) -> Self {
        servers.0
    }
}
