//! The application's topics: gathered from the configuration, after those of the previous plan so that each keeps its
//! index, and looked up in the cluster, which must have them.

use super::prepare::Problems;
use crate::config::{Code, Config, Start};
use crate::dataplane::plan::{InputTopic, OutputTopic, Plan};
use pelton_kafka::{Cause, Cluster, Properties, TopicInfo, Unreached};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a broker may take to answer at start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where no TLS connection comes about.
pub(crate) const TLS_ADVICE: &str =
    "look at `ssl.ca.location`, at the names in the broker's certificate, and whether this port speaks TLS";

/// All topics of the application, each once, after those of the plan before.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    pub inputs: Vec<InputTopic>,
    pub outputs: Vec<OutputTopic>,
    /// Those that are still to be looked up, with the place that first names each.
    unknown: BTreeMap<Arc<str>, String>,
}

impl Topics {
    pub(super) fn of(config: &Config, old: Option<&Plan>) -> Self {
        let inputs = old.map(|old| old.inputs.iter().map(|input| InputTopic { read: false, ..input.clone() }));
        let mut topics = Topics {
            inputs: inputs.into_iter().flatten().collect(),
            outputs: old.map(|old| old.outputs.clone()).unwrap_or_default(),
            unknown: BTreeMap::new(),
        };
        for (name, transform) in &config.transforms {
            let start = match transform.input.start {
                Start::Earliest => pelton_kafka::Start::Earliest,
                Start::Latest => pelton_kafka::Start::Latest,
            };
            for topic in &transform.input.topics {
                topics.input(topic.as_str(), start, format!("transforms.{name}.input.topics"));
            }
            for topic in transform.output.topics() {
                topics.output(topic.as_str(), format!("transforms.{name}.output"));
            }
            if let Some(topic) = transform.dead_letters() {
                topics.output(topic.as_str(), format!("transforms.{name}.on_error.topic"));
            }
        }
        topics
    }

    fn input(&mut self, topic: &str, start: pelton_kafka::Start, at: String) {
        match self.inputs.iter_mut().find(|known| &*known.name == topic) {
            Some(known) => (known.start, known.read) = (start, true),
            None => {
                let name = self.name(topic, at);
                self.inputs.push(InputTopic { name, start, partitions: 0, read: true });
            }
        }
    }

    fn output(&mut self, topic: &str, at: String) {
        if !self.outputs.iter().any(|known| &*known.name == topic) {
            let name = self.name(topic, at);
            self.outputs.push(OutputTopic { name, partitions: 0 });
        }
    }

    fn name(&mut self, topic: &str, at: String) -> Arc<str> {
        let topic: Arc<str> = Arc::from(topic);
        self.unknown.entry(Arc::clone(&topic)).or_insert(at);
        topic
    }

    /// The index of an output topic, which `of` has seen.
    pub(super) fn output_index(&self, topic: &str) -> u32 {
        let index = self.outputs.iter().position(|known| &*known.name == topic);
        index.expect("`of` has seen all output and dead-letter topics") as u32
    }

    /// Asks the cluster for those that are not known. Blocks, until a broker answers or for [`PATIENCE`].
    pub(super) fn look_up(&mut self, properties: &Properties, problems: &mut Problems<'_>) {
        if self.unknown.is_empty() {
            return;
        }
        let cluster = match Cluster::new(&properties.clone().with("allow.auto.create.topics", "false")) {
            Ok(cluster) => cluster,
            Err(error) => {
                problems.add(Code::Property, "kafka", error.to_string(), "correct the librdkafka properties");
                return;
            }
        };
        if let Err(error) = cluster.reach(PATIENCE) {
            return unreached(&error, problems);
        }
        for (topic, at) in &self.unknown {
            match cluster.topic(topic, PATIENCE) {
                Ok(TopicInfo::Partitions(count)) => {
                    let inputs = self.inputs.iter_mut().filter(|input| input.name == *topic);
                    inputs.for_each(|input| input.partitions = count);
                    let outputs = self.outputs.iter_mut().filter(|output| output.name == *topic);
                    outputs.for_each(|output| output.partitions = count);
                }
                Ok(TopicInfo::Missing) => problems.add(
                    Code::Topic,
                    at,
                    format!("the topic `{topic}` does not exist"),
                    "create it (Pelton never creates topics), or correct the name",
                ),
                Ok(TopicInfo::Denied) => problems.add(
                    Code::Denied,
                    at,
                    format!("the topic `{topic}` is not for this principal to see"),
                    "give this principal Read on an input topic, Write on an output or dead-letter topic",
                ),
                Ok(TopicInfo::Refused(error)) => problems.add(
                    Code::Topic,
                    at,
                    format!("the broker says of topic `{topic}`: {error}"),
                    "see the error's name in Kafka's manual; start again when the topic is whole",
                ),
                // None answers any more: the same would be said of every topic.
                Err(error) => return unreached(&error.into(), problems),
            }
        }
    }
}

fn unreached(error: &Unreached, problems: &mut Problems<'_>) {
    let (code, what, advice) = diagnosis(error, PATIENCE);
    problems.add(code, "kafka.bootstrap_servers", format!("{what}: {error}"), advice);
}

/// Why there was no answer within `patience`, and what to do.
pub(crate) fn diagnosis(error: &Unreached, patience: Duration) -> (Code, String, &'static str) {
    match error.cause() {
        Cause::Authentication => (
            Code::Authentication,
            "the brokers refuse the credentials".to_owned(),
            "correct `sasl.mechanism` and the credentials in `kafka.properties`, or what the brokers know of them",
        ),
        Cause::Tls => (Code::Tls, "no TLS connection to a broker comes about".to_owned(), TLS_ADVICE),
        Cause::Name | Cause::Silence => (
            Code::Unreachable,
            format!("no broker answered within {}s", patience.as_secs()),
            "check the address, the network and, in `kafka.properties`, security.protocol",
        ),
    }
}
