//! `pelton metrics`: the reference page of the metrics.

use clap::Subcommand;

use super::{Exit, print};
use crate::telemetry;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the reference page (docs/metrics.md).
    Reference,
}

pub(super) fn metrics(command: &Command) -> Exit {
    match command {
        Command::Reference => print(&telemetry::reference()),
    }
}
