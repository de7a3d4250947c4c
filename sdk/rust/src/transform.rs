//! What an author implements and returns.

use std::fmt;

use crate::output::Outputs;
use crate::record::Record;
use crate::settings::{Settings, Topics};

/// A transform with settings, caches or counters of its own.
///
/// ```
/// use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topics, Transform};
///
/// /// Lets records of at least `min_bytes` pass.
/// struct AtLeast(usize);
///
/// impl Transform for AtLeast {
///     fn configure(settings: &Settings, _: &Topics) -> Result<Self, String> {
///         settings.parse("min_bytes").map(Self)
///     }
///     fn process(&mut self, record: &Record<'_>, _: &mut Outputs<'_>) -> Result<Outcome, Reject> {
///         let long = record.value().is_some_and(|value| value.len() >= self.0);
///         Ok(if long { Outcome::Keep } else { Outcome::Drop })
///     }
/// }
/// pelton_sdk::export!(AtLeast);
/// ```
pub trait Transform: Sized + 'static {
    /// Called once per instance. An error keeps the module from starting (on a reload, the old one keeps running); its
    /// text is shown to the operator.
    fn configure(settings: &Settings, topics: &Topics) -> Result<Self, String>;

    /// Called for each record, in order within a partition. Decides what happens to it.
    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject>;

    /// Called before the instance ends in good order: on a reload, or when the process ends. It can log but has no
    /// outputs, because those of all records are written. Not called after a panic or an exceeded limit, nor when the
    /// process is killed.
    fn drain(&mut self) {}
}

/// What happens to a record, unless it is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It goes to the default output topic unchanged, byte for byte.
    Keep,
    /// Nothing is written.
    Drop,
    /// What was given to [`Outputs::emit`] is written, if anything was.
    Emit,
}

/// Hands the record to the transform's error policy: dead letter, skip or stop. `?` turns any error that can be
/// displayed into one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject(String);

impl Reject {
    /// `reason` goes into the dead letter's headers, cut to 1 KiB.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.0
    }
}

/// For `?`. `Reject` itself has no `Display`, so that this does not overlap with std's identity conversion.
impl<E: fmt::Display> From<E> for Reject {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}
