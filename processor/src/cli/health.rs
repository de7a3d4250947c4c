//! `pelton health`: a probe for orchestrators that can only run a command, in an image that has no other.
//!
//! Exits with 0 or 1, and 2 for a wrong command line; nothing else, because that is all they understand. Of the
//! configuration only `admin` is read: a mistake elsewhere in a file that the running process has refused must not make
//! it look unhealthy.

use std::time::Duration;

use clap::Args;
use hyper::Method;
use serde_json::Value;

use super::answer::harmless;
use super::endpoint::Endpoint;
use super::{Exit, Global, Output, print};
use crate::config;

/// Less than the thirty seconds that orchestrators wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks whether records can flow (`/readyz`). Exits with 0 or 1.
#[derive(Debug, Args)]
pub(super) struct Health {
    /// Ask whether the process runs, whatever the brokers do (`/livez`).
    #[arg(long, conflicts_with = "startup")]
    live: bool,

    /// Ask whether it has started (`/startupz`).
    #[arg(long)]
    startup: bool,

    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

impl Health {
    /// The path, and the key of its answer.
    fn probe(&self) -> (&'static str, &'static str) {
        match self {
            Self { live: true, .. } => ("/livez", "alive"),
            Self { startup: true, .. } => ("/startupz", "started"),
            _ => ("/readyz", "ready"),
        }
    }
}

pub(super) fn health(global: &Global, health: &Health) -> Exit {
    let admin = match config::load_admin(&global.sources(false)) {
        Ok(admin) => admin,
        Err(errors) => {
            global.refuse(&errors);
            return Exit::Failed;
        }
    };
    let (path, key) = health.probe();
    let asked = Endpoint::to_read(&admin).and_then(|endpoint| endpoint.ask_now(&Method::GET, path, PATIENCE));
    let (status, answer) = match asked {
        Ok(answer) => answer,
        Err(error) => {
            error.refuse();
            return Exit::Failed;
        }
    };
    // Another server may answer there.
    let well = status.is_success() && answer[key] == true;
    let printed = match health.output {
        Output::Json => print(&format!("{answer:#}\n")),
        Output::Text => print(&text(key, well, &answer)),
    };
    // If it cannot be printed, the exit code still tells.
    let _ = printed;
    if well { Exit::Ok } else { Exit::Failed }
}

fn text(key: &str, well: bool, answer: &Value) -> String {
    let reasons = answer["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reasons: String = reasons.map(|reason| format!("  {}\n", harmless(reason))).collect();
    format!("{}{key}\n{reasons}", if well { "" } else { "not " })
}
