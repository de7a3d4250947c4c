//! Traces: which records are traced, and what is said about them. A record's context comes in its headers
//! ([`context`]), the [`sampler`] says whether it is traced, the data plane makes [`span`]s of it
//! ([`crate::dataplane::traced`]), and [`otlp`] writes them with the [`names`] of OpenTelemetry's conventions.
//! Everything in a span comes from the configuration or from Kafka: names of topics and transforms, partitions,
//! offsets, counts, times. Nothing of a record's key, value or headers is in any (I10), except the ids of its trace.
//! Why no SDK does this: docs/decisions/0017-traces.md.

pub mod context;
pub mod names;
pub mod otlp;
pub mod sampler;
pub mod span;

use super::collector::Collector;
use super::export::{Limits, Queue};
use super::variables::{Signal, Unfit, Variables};
use sampler::Sampler;
use span::Span;
use std::sync::Arc;

/// What the environment asks for.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    pub collector: Collector,
    pub sampler: Sampler,
    pub limits: Limits,
}

impl Settings {
    /// `None`: no traces. `application` and `instance` name the resource where the environment does not.
    ///
    /// # Errors
    /// A variable that asks for what cannot be done.
    pub fn from_env(variables: Variables<'_>, application: &str, instance: &str) -> Result<Option<Self>, Unfit> {
        let Some(collector) = Collector::from_env(variables, Signal::Traces, application, instance)? else {
            return Ok(None);
        };
        let limits = Limits::from_env(variables, Signal::Traces)?;
        Ok(Some(Settings { collector, sampler: Sampler::from_env(variables)?, limits }))
    }
}

/// What workers need to follow records: one for the process.
#[derive(Debug)]
pub struct Tracer {
    pub sampler: Sampler,
    pub queue: Arc<Queue<Span>>,
}
