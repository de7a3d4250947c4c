//! `pelton top`: how the running process stands. On a terminal a view that is drawn anew until somebody has seen enough;
//! elsewhere, and where it is asked for, one snapshot.
//!
//! [`once`] is the snapshot, [`feed`] asks the admin server in a thread of its own, [`screen`] has the terminal and gives it
//! back whatever happens, [`view`] draws.

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

/// How everything stands. `q` and Ctrl-C end it, the arrow keys go through the partitions.
#[derive(Debug, Args)]
pub(super) struct Top {
    /// One snapshot, then the end. So it is anyway with `--output json`, where the output is no terminal, and on one that
    /// is dumb.
    #[arg(long)]
    once: bool,

    /// How long until it is drawn anew; at least 100ms.
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
