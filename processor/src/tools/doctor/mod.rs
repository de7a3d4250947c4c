//! `pelton doctor`: a check of everything that an installation needs, from the configuration to the brokers' clocks.
//!
//! Owns what is checked and how it is judged. It changes nothing, joins no group and fences nobody: the only thing that
//! it writes is a producer id under a transactional id that no process can have. What cannot be checked because a right
//! is missing is reported as unchecked, not as right. Shows no secret: about the configuration it says only what
//! [`crate::config`] does.
//!
//! [`installation`] is this machine and what is on it, [`host`] its limits, [`cluster`] is Kafka.

mod cluster;
mod host;
mod installation;

use crate::config::{ConfigError, Loaded};
use serde::Serialize;

/// One thing that was looked at.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// What was looked at. Stable.
    pub point: &'static str,
    /// Which one of several: a transform, a topic, a broker.
    pub about: Option<String>,
    pub status: Status,
    /// Of a warning or a failure. Stable.
    pub code: Option<&'static str>,
    /// What was found: one sentence without a full stop.
    pub message: String,
    /// What to do.
    pub advice: Option<String>,
}

/// How it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Could not be seen, and why.
    Skip,
    /// It runs, but somebody should look at it.
    Warn,
    /// It does not run, or not for long.
    Fail,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Skip => "skip",
            Status::Warn => "warn",
            Status::Fail => "fail",
        }
    }
}

impl Finding {
    fn new(point: &'static str, status: Status, message: impl Into<String>) -> Self {
        Finding { point, about: None, status, code: None, message: message.into(), advice: None }
    }

    pub fn ok(point: &'static str, message: impl Into<String>) -> Self {
        Self::new(point, Status::Ok, message)
    }

    pub fn skip(point: &'static str, message: impl Into<String>) -> Self {
        Self::new(point, Status::Skip, message)
    }

    pub fn warn(point: &'static str, code: &'static str, message: impl Into<String>, advice: &str) -> Self {
        Finding { code: Some(code), advice: Some(advice.to_owned()), ..Self::new(point, Status::Warn, message) }
    }

    pub fn fail(point: &'static str, code: &'static str, message: impl Into<String>, advice: &str) -> Self {
        Finding { code: Some(code), advice: Some(advice.to_owned()), ..Self::new(point, Status::Fail, message) }
    }

    #[must_use]
    pub fn about(self, about: impl Into<String>) -> Self {
        Finding { about: Some(about.into()), ..self }
    }

    /// An error of the configuration, or of what it refers to.
    fn of_config(point: &'static str, error: &ConfigError) -> Self {
        let message = format!("{} ({})", error.message, error.place);
        let meant = error.suggestion.as_ref().map(|meant| format!("did you mean `{meant}`?"));
        let advice = error.help.clone().or(meant);
        Finding { code: Some(error.code.as_str()), advice, ..Self::new(point, Status::Fail, message) }
    }
}

/// The configuration itself is wrong: there is nothing else to look at.
pub fn refused(errors: &[ConfigError]) -> Vec<Finding> {
    errors.iter().map(|error| Finding::of_config("config", error)).collect()
}

/// Everything but the admin server, which the command line knows how to ask. Takes some seconds, half a minute where
/// brokers do not answer.
pub fn examine(loaded: &Loaded) -> Vec<Finding> {
    let (clients, servers) = cluster::servers(loaded);
    let answers = servers.iter().any(|finding| finding.point == "server" && finding.status == Status::Ok);
    let (mut findings, partitions) = installation::examine(loaded, answers);
    let brokers = clients.as_ref().map_or(1, |of| of.brokers.len().max(1));
    findings.extend(host::examine(&loaded.config, brokers, partitions));
    findings.extend(servers);
    if let Some(clients) = clients.filter(|_| answers) {
        findings.extend(cluster::examine(loaded, &clients));
    }
    findings
}
