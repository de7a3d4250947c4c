//! `pelton top`: the state of the running process. On a terminal a view that is redrawn until somebody ends it;
//! elsewhere, or on request, one snapshot.
//!
//! [`once`] is the snapshot, [`feed`] asks the admin server on its own thread, [`screen`] takes the terminal and
//! restores it whatever happens, [`view`] draws.

mod feed;
mod once;
mod screen;
mod view;

#[cfg(test)]
#[path = "../../../tests/pty_support/mod.rs"]
mod pty_support;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use hyper::Method;

use super::endpoint::Endpoint;
use super::{Exit, Global, Output, remote};
use crate::config::Millis;

/// Shows the state of everything. `q` and Ctrl-C end it, the arrow keys scroll the partitions.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// Print one snapshot and exit. Implied by `--output json`, and if the output is not a terminal or is a dumb one.
    #[arg(long)]
    once: bool,

    /// Time between redraws; at least 100ms.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    interval: Duration,

    #[command(flatten)]
    look: remote::Look,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = text.parse::<Millis>().map_err(|error| error.to_string())?.duration();
    if interval < Duration::from_millis(100) { Err("it is at least 100ms".to_owned()) } else { Ok(interval) }
}

pub(super) fn top(global: &Global, top: &Top) -> Exit {
    if top.once || top.look.output == Output::Json || !drawable() {
        return remote::ask(global, &top.look, &Method::GET, "/api/v1/status", once::text);
    }
    let loaded = match global.load(false) {
        Ok(loaded) => loaded,
        Err(errors) => return global.refuse(&errors),
    };
    let endpoint = match Endpoint::to_read(&loaded.config.admin) {
        Ok(endpoint) => endpoint,
        Err(error) => return error.refuse(),
    };
    match screen::show(&endpoint, top.interval) {
        Ok(()) => Exit::Ok,
        Err(why) => {
            eprintln!("error: the terminal cannot be used: {why}\n  = help: `pelton top --once` needs none");
            Exit::Io
        }
    }
}

/// Keys are read from stdin.
fn drawable() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    std::io::stdout().is_terminal() && std::io::stdin().is_terminal() && !dumb
}
