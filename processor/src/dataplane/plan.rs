//! What the workers follow: the application's topics, its transforms and their policies. Built from the configuration
//! by [`crate::control`], shared by all workers, never changed: a reload makes another one ([`super::desired`]).
//!
//! Topics keep their index from plan to plan: those of the next plan begin with those of the previous one, used or not.
//! So an index in flight never means another topic.

use super::breaker::Allowance;
use super::samples::Samples;
use super::tap::Tap;
use super::traced::{Followed, Passage};
use super::trial::Trial;
use pelton_kafka::Start;
use pelton_sandbox::Generation;
use std::sync::Arc;
use std::time::Duration;

/// The application as its workers see it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Also the group's name.
    pub application: Arc<str>,
    /// All transforms' input topics; a record's topic is an index into it.
    pub inputs: Vec<InputTopic>,
    /// Every topic that is written to; an output's topic is an index into it.
    pub outputs: Vec<OutputTopic>,
    pub transforms: Vec<TransformPlan>,
    /// What each of the transforms may do to the others, in their order.
    pub allowances: Vec<Allowance>,
    pub delivery: DeliveryPlan,
    /// Reasons and panic texts of guests may be logged.
    pub guest_text: bool,
}

/// A topic that is read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InputTopic {
    pub name: Arc<str>,
    pub start: Start,
    /// When it was looked up.
    pub partitions: i32,
    /// Some transform reads it; else it is here for its index.
    pub read: bool,
}

/// A topic that is written to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OutputTopic {
    pub name: Arc<str>,
    /// When it was looked up: bounds the partitions that a guest may name.
    pub partitions: i32,
}

/// One transform.
#[derive(Clone, Debug)]
pub struct TransformPlan {
    pub name: Arc<str>,
    pub generation: Generation,
    /// Module digest, as dead letters name it.
    pub digest: Arc<str>,
    /// By [`Plan::inputs`] index: this transform's own index of that topic, where it reads it.
    pub inputs: Vec<Option<u32>>,
    /// By the transform's own output index: the [`Plan::outputs`] index.
    pub outputs: Vec<u32>,
    pub on_error: OnError,
    /// So many instances share a worker's batch, at least one.
    pub parallelism: usize,
    /// Another generation that is tried beside it.
    pub trial: Option<Arc<Trial>>,
    /// The generation before, kept for a way back.
    pub previous: Option<Generation>,
    /// The configuration asks for a version that was rolled back; this one goes on instead.
    pub held_back: bool,
    /// Recent records, to check the next generation with.
    pub samples: Arc<Samples>,
    /// For those who want to see its records.
    pub tap: Arc<Tap>,
}

impl TransformPlan {
    /// Can its records end in this topic, an index into [`Plan::outputs`]?
    pub fn writes(&self, topic: u32) -> bool {
        self.outputs.contains(&topic) || self.on_error == OnError::DeadLetter(topic)
    }

    /// The way of what is followed through this transform.
    pub fn follow<'t>(&'t self, followed: &'t Followed<'_>) -> Passage<'t> {
        let reads = |topic| self.inputs.get(topic as usize).is_some_and(Option::is_some);
        let dead_letters = match self.on_error {
            OnError::DeadLetter(topic) => Some(topic),
            OnError::Skip | OnError::Stop => None,
        };
        followed.through(&self.name, reads, self.outputs.iter().copied().chain(dead_letters))
    }
}

/// What happens to a record that the guest rejected or broke on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnError {
    /// To this topic, an index into [`Plan::outputs`].
    DeadLetter(u32),
    Skip,
    Stop,
}

/// When transactions end.
#[derive(Clone, Debug)]
pub struct DeliveryPlan {
    pub exactly_once: bool,
    pub commit_interval: Duration,
    /// Also end a transaction when no record came for so long.
    pub idle: Option<Duration>,
    /// After a commit the lane waits so long with its next transaction.
    pub rest: Duration,
    pub max_records: u64,
    pub max_bytes: u64,
    /// A transaction that is not over by then is lost.
    pub transaction_timeout: Duration,
    /// Replace a producer before its next transaction when a request of the last one was never answered.
    pub renew_in_doubt: bool,
    pub drain_limit: Duration,
}

impl Plan {
    /// Of an application that does nothing, to make plans of for tests and measurements.
    pub fn empty() -> Self {
        Plan {
            application: "test".into(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            transforms: Vec::new(),
            allowances: Vec::new(),
            delivery: DeliveryPlan {
                exactly_once: true,
                commit_interval: Duration::from_millis(100),
                idle: None,
                rest: Duration::ZERO,
                max_records: 100_000,
                max_bytes: 1 << 30,
                transaction_timeout: Duration::from_secs(30),
                renew_in_doubt: true,
                drain_limit: Duration::from_secs(60),
            },
            guest_text: false,
        }
    }

    /// The longest that one record may take, if all transforms read it.
    pub fn deadline(&self) -> Duration {
        self.transforms.iter().map(|transform| transform.generation.spec().limits.deadline).sum()
    }

    /// The input topics as a consumer takes them, and the indices of those that are read.
    pub fn subscription(&self) -> (Vec<(Arc<str>, Start)>, Vec<usize>) {
        let topics = self.inputs.iter().map(|topic| (Arc::clone(&topic.name), topic.start)).collect();
        (topics, (0..self.inputs.len()).filter(|index| self.inputs[*index].read).collect())
    }

    /// The transforms that read the topic with this index.
    pub fn readers(&self, topic: u32) -> impl Iterator<Item = (usize, &TransformPlan)> {
        self.transforms
            .iter()
            .enumerate()
            .filter(move |(_, t)| t.inputs.get(topic as usize).is_some_and(Option::is_some))
    }
}
