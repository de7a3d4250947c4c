//! Intervals that must fit into each other: records into transactions, transactions into the broker's patience.

use super::{transforms, value};
use crate::config::error::{Code, ConfigError, Place};
use crate::config::tree::Node;
use crate::config::types::{Bytes, Millis};

pub fn check(tree: &Node) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let timeout = value::<Millis>(tree, &["kafka", "transaction_timeout"]);
    let interval = value::<Millis>(tree, &["delivery", "commit_interval"]);
    if let (Some(timeout), Some(interval)) = (timeout, interval) {
        match commits(timeout, interval) {
            Some(error) => errors.push(error),
            // Only then it can be the deadline's fault.
            None => errors.extend(transforms(tree).filter_map(|(name, at)| deadline(name, at, timeout, interval))),
        }
    }
    for (name, transform) in transforms(tree) {
        errors.extend(output_bytes(name, transform));
    }
    errors
}

type At<'t, T> = (T, &'t Node);

/// A commit begins when the interval is over and must itself have time: half of the timeout.
fn commits((timeout, timeout_at): At<'_, Millis>, (interval, at): At<'_, Millis>) -> Option<ConfigError> {
    let late = interval.as_millis().saturating_mul(2) > timeout.as_millis();
    late.then(|| {
        let message = format!(
            "a commit interval of {interval} leaves no time to commit within the transaction timeout of {timeout}"
        );
        conflict("delivery.commit_interval", at, message, ("transaction timeout", timeout_at))
            .help("make the interval at most half of `kafka.transaction_timeout`")
    })
}

/// A transaction may have to wait for the one record that is being processed, for all of its deadline; a quarter of
/// the timeout is left to commit in.
fn deadline(
    name: &str,
    transform: &Node,
    (timeout, timeout_at): At<'_, Millis>,
    (interval, _): At<'_, Millis>,
) -> Option<ConfigError> {
    let (deadline, at) = value::<Millis>(transform, &["limits", "deadline"])?;
    let most = timeout.as_millis() / 4 * 3;
    (deadline.as_millis().saturating_add(interval.as_millis()) > most).then(|| {
        let message = format!(
            "one record of `{name}` may take {deadline}: too long beside a commit interval of {interval} and a \
             transaction timeout of {timeout}"
        );
        conflict(format!("transforms.{name}.limits.deadline"), at, message, ("transaction timeout", timeout_at))
            .help("deadline and commit interval together may take three quarters of `kafka.transaction_timeout`")
    })
}

/// What a record may put out lies in the guest's memory first.
fn output_bytes(name: &str, transform: &Node) -> Option<ConfigError> {
    let (out, at) = value::<Bytes>(transform, &["limits", "output_bytes"])?;
    let (memory, memory_at) = value::<Bytes>(transform, &["limits", "memory"])?;
    (out > memory).then(|| {
        let message = format!("`{name}` may put out {out} a record, but has only {memory} of memory");
        conflict(format!("transforms.{name}.limits.output_bytes"), at, message, ("memory", memory_at))
            .help("raise `memory`, or lower `output_bytes`")
    })
}

/// An error at `at`, or at the other of the two if `at` was not said by anyone.
fn conflict(path: impl Into<String>, at: &Node, message: String, (what, other): (&str, &Node)) -> ConfigError {
    match (Place::from(&at.origin), Place::from(&other.origin)) {
        (Place::Nowhere, place) => ConfigError::new(Code::Conflict, path, place, message),
        (place, Place::Nowhere) => ConfigError::new(Code::Conflict, path, place, message),
        (place, note) => {
            ConfigError::new(Code::Conflict, path, place, message).note(format!("{what} given here"), note)
        }
    }
}
