//! `pelton config`: the merged configuration, its schema and its reference page.

use clap::{Args, Subcommand, ValueEnum};

use super::{Exit, Global, print};
use crate::config;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the configuration as merged from all layers, secrets hidden.
    Show(Show),
    /// Print the JSON schema of config files.
    Schema,
    /// Print the reference page (docs/reference/configuration.md).
    Reference,
}

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Show where each value was set.
    #[arg(long)]
    origin: bool,

    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "yaml")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

pub(super) fn config(global: &Global, command: &Command) -> Exit {
    match command {
        Command::Schema => print(&format!("{:#}\n", config::schema())),
        Command::Reference => print(&config::reference()),
        // It may be the configuration of another machine: what it refers to need not be here.
        Command::Show(show) => match global.load(false) {
            Err(errors) => global.refuse(&errors),
            Ok(loaded) => match show.output {
                Format::Yaml => print(&loaded.to_yaml(show.origin)),
                Format::Json => print(&format!("{:#}\n", loaded.to_json(show.origin))),
            },
        },
    }
}
