//! `pelton validate`: everything that would stop a start, without starting.

use clap::Args;

use super::{Exit, Global, Output, print, run};
use crate::config::ConfigErrors;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Check only the configuration itself: no files, no environment variables, no cluster.
    #[arg(long)]
    no_environment: bool,

    /// How to print the result.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

pub(super) fn validate(global: &Global, arguments: &Arguments) -> Exit {
    let outside = !arguments.no_environment;
    let errors = match global.load(outside) {
        Err(errors) => errors,
        Ok(loaded) if outside => ConfigErrors(run::check_environment(&loaded)),
        Ok(_) => ConfigErrors::default(),
    };
    let exit = Exit::from(&errors);
    match arguments.output {
        Output::Json => match print(&format!("{:#}\n", errors.to_json())) {
            Exit::Ok => exit,
            failed => failed,
        },
        Output::Text if exit == Exit::Ok => print("the configuration is right\n"),
        Output::Text => global.refuse(&errors),
    }
}
