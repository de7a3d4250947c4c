//! `pelton run`: from a checked configuration to a running service.

use super::Exit;
use crate::config::{ConfigError, Loaded};

/// Processes records until told to stop.
pub(super) fn run(_loaded: Loaded) -> Exit {
    eprintln!("error: this build cannot run yet");
    Exit::Internal
}

/// What only the cluster and the engine can tell: that topics exist and modules fit.
pub(super) fn check_environment(_loaded: &Loaded) -> Vec<ConfigError> {
    Vec::new()
}
