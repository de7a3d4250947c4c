//! Which lines the log lets through, and how that is changed while the process runs. The filter comes from the command
//! line; whoever sets up the log hands its handle over here, for the admin server to change.

use std::sync::OnceLock;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// A filter is short; who sends more means harm.
const LENGTH_MAX: usize = 256;

static HANDLE: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Why the filter stays as it was.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    #[error("this is no filter: {0}")]
    NoFilter(String),
    #[error("the log of this process has no filter that could be changed")]
    NoLog,
}

/// Once, with the log.
pub fn install(handle: reload::Handle<EnvFilter, Registry>) {
    let _ = HANDLE.set(handle);
}

/// From now on: `info`, or `pelton=debug,warn` as in PELTON_LOG.
///
/// # Errors
/// What is no filter; nothing has changed.
pub fn set(filter: &str) -> Result<(), Refused> {
    let filter = parse(filter)?;
    let handle = HANDLE.get().ok_or(Refused::NoLog)?;
    handle.reload(filter).map_err(|_| Refused::NoLog)
}

fn parse(filter: &str) -> Result<EnvFilter, Refused> {
    if filter.trim().is_empty() || filter.len() > LENGTH_MAX {
        return Err(Refused::NoFilter(format!("one to {LENGTH_MAX} characters are wanted")));
    }
    // Spans and fields have filters of their own, with regular expressions: not for a door to the outside.
    if !filter.chars().all(|c| c.is_ascii_alphanumeric() || "=,:_-".contains(c)) {
        return Err(Refused::NoFilter("a level, or targets with levels such as pelton=debug,warn".to_owned()));
    }
    let known = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in filter.split(',') {
        let level = directive.rsplit('=').next().unwrap_or_default();
        if !known.contains(&level) {
            return Err(Refused::NoFilter(format!("each level is one of {}", known.join(", "))));
        }
    }
    filter.parse().map_err(|error: tracing_subscriber::filter::ParseError| Refused::NoFilter(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_levels_and_targets_with_levels() {
        for filter in ["debug", "pelton=debug,info", "pelton_kafka::txn=trace,error", "off"] {
            assert!(parse(filter).is_ok(), "{filter}");
        }
        let long = format!("{}=debug", "a".repeat(300));
        for filter in [
            "",
            " ",
            "loud",
            "WARN",
            "pelton=loud",
            "pelton",
            "[span{field=\"x.*\"}]=debug",
            "info,",
            "a=b=c",
            long.as_str(),
        ] {
            assert!(matches!(parse(filter), Err(Refused::NoFilter(_))), "{filter}");
        }
    }
}
