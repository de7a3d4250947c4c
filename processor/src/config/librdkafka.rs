//! What is known about librdkafka's own properties: names, kinds of client, and which of them Pelton sets itself.
//!
//! Owns the list of properties that cannot be passed through, each with the reason and the key to use instead. The
//! names come from librdkafka's CONFIGURATION.md (librdkafka.txt; a test compares it with the version that is linked),
//! so that a misspelt name is found before a client is made. Values are not checked: librdkafka does that.

/// The librdkafka that `librdkafka.txt` was taken from.
pub const VERSION: &str = "2.12.1";

/// Which kind of client reads a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Both,
    Consumer,
    Producer,
}

impl Side {
    /// Whether a client of kind `client` knows a property of this side.
    pub fn serves(self, client: Self) -> bool {
        self == Self::Both || self == client
    }
}

/// Every property that can be given as text.
pub fn names() -> impl Iterator<Item = &'static str> {
    table().map(|(_, name)| name)
}

/// Whose property it is; none if librdkafka has no such property.
pub fn side(name: &str) -> Option<Side> {
    table().find(|(_, known)| *known == name).map(|(side, _)| side)
}

fn table() -> impl Iterator<Item = (Side, &'static str)> {
    include_str!("librdkafka.txt").lines().filter_map(|line| {
        let (side, name) = line.split_once(' ')?;
        match side {
            "*" => Some((Side::Both, name)),
            "C" => Some((Side::Consumer, name)),
            "P" => Some((Side::Producer, name)),
            _ => None,
        }
    })
}

/// Why a property cannot be passed through, and what to use instead; none if it can.
pub fn owned_property(name: &str) -> Option<&'static str> {
    Some(match name {
        "bootstrap.servers" | "metadata.broker.list" => "use `kafka.bootstrap_servers`",
        "group.id" => "the consumer group is the application: use `application`",
        "client.id" => "clients are named after `application` and `instance`, so that brokers' logs can be read",
        "group.instance.id" => "use `kafka.static_membership`; the identity of a process is `instance`",
        "transactional.id" => {
            "transactional ids are made of `application` and `instance`, so that a restart aborts what its \
             predecessor left open"
        }
        "transaction.timeout.ms" => "use `kafka.transaction_timeout`",
        "session.timeout.ms" => "use `kafka.session_timeout`",
        "heartbeat.interval.ms" => "it follows `kafka.session_timeout`: a quarter of it, at most 3s",
        "message.timeout.ms" | "delivery.timeout.ms" => {
            "it follows `kafka.transaction_timeout`: a record must fail before its transaction does"
        }
        "enable.idempotence" | "acks" | "request.required.acks" | "enable.gapless.guarantee" => {
            "Pelton's guarantee needs idempotent producers with all acknowledgements: see `delivery.guarantee`"
        }
        "max.in.flight"
        | "max.in.flight.requests.per.connection"
        | "queuing.strategy"
        | "retries"
        | "message.send.max.retries" => {
            "the order of outputs hangs on it; idempotent producers set it (see `delivery.guarantee`)"
        }
        "delivery.report.only.error" | "produce.offset.report" => {
            "Pelton counts by transactions, not by delivery reports: there is nothing to set"
        }
        "enable.auto.commit" | "auto.commit.enable" | "auto.commit.interval.ms" => {
            "positions are committed with the outputs of their records: use `delivery.commit_interval`"
        }
        "enable.auto.offset.store" | "offset.store.method" | "offset.store.path" | "offset.store.sync.interval.ms" => {
            "Pelton keeps positions itself and sends them with each transaction: there is nothing to set"
        }
        "auto.offset.reset" => "where to begin is a matter of the topic: use `transforms.<name>.input.start`",
        "isolation.level" => "inputs are always read with `read_committed`: else aborted records would be processed",
        "partition.assignment.strategy" => "use `kafka.assignment`",
        "group.protocol" | "group.remote.assignor" | "group.protocol.type" => "use `kafka.group_protocol`",
        "enable.partition.eof" => "Pelton reads without end: there is nothing to set",
        "allow.auto.create.topics" => "topics are never made by reading a misspelt name: create them beforehand",
        "partitioner" | "sticky.partitioning.linger.ms" => {
            "the partition of an output follows Java's default partitioner, or the module names it: there is nothing to set"
        }
        "log_level" | "log.queue" => "use `-v`, `-q` or PELTON_LOG",
        _ => return None,
    })
}
