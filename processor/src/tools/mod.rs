//! What an operator does with an application from the outside: show its positions and move them ([`offsets`]), show its
//! dead letters ([`dead_letters`]), replay them ([`replay`]), and check that everything around it is well ([`doctor`]).
//!
//! Owns the work; arguments and the format of results belong to [`crate::cli`]. Promises that nothing is written unless
//! it was asked for, and that no call waits forever. Refuses to change positions under a running processor. It shares
//! no state with one: everything it knows comes from the brokers.

pub mod dead_letters;
pub mod doctor;
pub mod instant;
pub mod offsets;
pub mod replay;
pub mod target;

use crate::config::{Config, ConfigErrors, Loaded, Topic};
use crate::control::{diagnosis, prepare};
use pelton_kafka::{
    Admin, AdminError, ClientError, Properties, Refusal, TopicInfo, TopicPartition, TxnError, Unreached,
};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// How long a broker may take for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why a tool did not do what it was asked. Codes are stable.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error(transparent)]
    Config(ConfigErrors),
    #[error("cannot make a Kafka client: {0}")]
    Client(#[from] ClientError),
    #[error("{what}: {0}", what = diagnosis(.0, PATIENCE).1)]
    Unreached(#[source] Unreached),
    #[error("the brokers do not answer: {0}")]
    Unreachable(#[source] AdminError),
    #[error("a right is missing: {0}")]
    Denied(#[source] AdminError),
    #[error("the brokers refuse: {0}")]
    Refused(#[source] AdminError),
    #[error("the topic `{0}` does not exist, or cannot be seen")]
    NoTopic(String),
    #[error("{0}")]
    Usage(String),
    #[error("the group `{group}` has active members: {members}")]
    Active { group: String, members: String },
    #[error("after the write the group's position of {partition} is {found}, not {wanted}")]
    NotWritten { partition: TopicPartition, wanted: i64, found: String },
    #[error("the configuration has no dead-letter topic{0}")]
    NoDeadLetters(String),
    #[error("the dead letter {letter} cannot be replayed: {why}")]
    NoRoute { letter: String, why: String },
    #[error("another replay of the same topic to the same place has taken over: {0}")]
    Fenced(#[source] TxnError),
    #[error("the brokers refuse to write: {0}")]
    WriteDenied(#[source] TxnError),
    #[error("the brokers refuse a record: {0}")]
    RecordRefused(#[source] TxnError),
    #[error("a transaction failed, and everything since the last commit is undone: {0}")]
    Failed(#[source] TxnError),
}

impl ToolError {
    /// Stable.
    pub fn code(&self) -> &'static str {
        match self {
            ToolError::Config(_) => "config",
            ToolError::Client(_) => "kafka.client",
            ToolError::Unreached(error) => diagnosis(error, PATIENCE).0.as_str(),
            ToolError::Unreachable(_) => "kafka.unreachable",
            ToolError::Denied(_) | ToolError::WriteDenied(_) => "kafka.denied",
            ToolError::Refused(_) => "kafka.refused",
            ToolError::NoTopic(_) => "kafka.topic",
            ToolError::Usage(_) => "usage",
            ToolError::Active { .. } => "offsets.group_active",
            ToolError::NotWritten { .. } => "offsets.not_written",
            ToolError::NoDeadLetters(_) => "dlq.none",
            ToolError::NoRoute { .. } => "dlq.no_route",
            ToolError::Fenced(_) => "dlq.replay_fenced",
            ToolError::RecordRefused(_) => "dlq.refused",
            ToolError::Failed(_) => "dlq.replay_failed",
        }
    }

    /// What to do.
    pub fn advice(&self) -> &'static str {
        match self {
            ToolError::Config(_) => "correct the configuration",
            ToolError::Client(_) => "correct the librdkafka properties",
            ToolError::Unreached(error) => diagnosis(error, PATIENCE).2,
            ToolError::Unreachable(_) => {
                "look at `kafka.bootstrap_servers` and at the brokers; run it again when they answer"
            }
            ToolError::Denied(_) | ToolError::WriteDenied(_) => {
                "grant what docs/guide/operating.md lists under \"Resume and replay\""
            }
            ToolError::Refused(_) => "the name in brackets is Kafka's; its manual says more",
            ToolError::NoTopic(_) => "create it (Pelton never creates topics), or correct the name",
            ToolError::Usage(_) => "see `--help`",
            ToolError::Active { .. } => {
                "stop every process of the application and wait for `kafka.session_timeout`; then run it again"
            }
            ToolError::NotWritten { .. } => "something else commits for this group: find it, then run it again",
            ToolError::NoDeadLetters(_) => {
                "set `on_error: { then: dead_letter, topic: … }`, or name a topic with `--topic`"
            }
            ToolError::NoRoute { .. } | ToolError::RecordRefused(_) => {
                "those before it are replayed; send this kind elsewhere with `--to TOPIC`, or leave it out with `--pass-over`"
            }
            ToolError::Fenced(_) => "nothing is lost or doubled; let one of the two run",
            ToolError::Failed(_) => "run it again: it goes on where it was, without loss or repetition",
        }
    }
}

impl From<AdminError> for ToolError {
    fn from(error: AdminError) -> Self {
        match error.refusal() {
            Refusal::Unreachable => ToolError::Unreachable(error),
            Refusal::Denied => ToolError::Denied(error),
            Refusal::Active | Refusal::Other => ToolError::Refused(error),
        }
    }
}

/// What all tools need: the application, and a client for questions.
#[derive(Debug)]
pub struct Cluster<'a> {
    pub config: &'a Config,
    pub admin: Admin,
    reached: Cell<bool>,
    consumer: Properties,
    producer: Properties,
}

impl<'a> Cluster<'a> {
    /// Reveals secrets; does not wait for a connection.
    pub fn new(loaded: &'a Loaded) -> Result<Self, ToolError> {
        let (consumer, producer) =
            prepare::clients(loaded).map_err(|errors| ToolError::Config(ConfigErrors(errors)))?;
        let name = format!("pelton-{}/@tools", loaded.config.application);
        let ours = |p: Properties| p.with("client.id", name.as_str()).with("allow.auto.create.topics", "false");
        let (consumer, producer) = (ours(consumer), ours(producer));
        // Under the application's own name, where it has rights; nobody ever joins it.
        let consumer = consumer.with("group.id", format!("{}/@tools", loaded.config.application));
        let admin = Admin::new(&consumer, PATIENCE)?;
        Ok(Cluster { config: &loaded.config, admin, reached: Cell::new(false), consumer, producer })
    }

    pub fn application(&self) -> &str {
        self.config.application.as_str()
    }

    /// Before the first question: waits until a broker answers. Where none does this says why, which the calls of [`Admin`]
    /// do not.
    pub fn reach(&self) -> Result<(), ToolError> {
        if !self.reached.get() {
            let cluster = pelton_kafka::Cluster::new(&self.producer)?;
            cluster.reach(PATIENCE).map_err(ToolError::Unreached)?;
            self.reached.set(true);
        }
        Ok(())
    }

    /// For producers of a tool's own.
    pub fn producer(&self) -> &Properties {
        &self.producer
    }

    /// All partitions of a topic, which must exist.
    pub fn partitions(&self, topic: &str) -> Result<Vec<TopicPartition>, ToolError> {
        match self.admin.topic(topic)? {
            TopicInfo::Partitions(count) => {
                let topic: Arc<str> = Arc::from(topic);
                Ok((0..count).map(|partition| TopicPartition { topic: Arc::clone(&topic), partition }).collect())
            }
            TopicInfo::Missing | TopicInfo::Denied | TopicInfo::Refused(_) => Err(ToolError::NoTopic(topic.to_owned())),
        }
    }

    /// Every input topic of the application, each once, in the order of their names.
    pub fn inputs(&self) -> Vec<&'a Topic> {
        let mut topics: Vec<_> = self.config.transforms.values().flat_map(|t| &t.input.topics).collect();
        topics.sort();
        topics.dedup();
        topics
    }
}
