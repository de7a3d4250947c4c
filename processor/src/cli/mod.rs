//! The command line: what can be asked of `pelton`, and how the answer is printed.
//!
//! Owns arguments, exit codes and the format of output; each subcommand is a file. Data goes to stdout, everything
//! else to stderr. Refuses to decide anything about records: `run` hands a checked configuration to the service.

mod answer;
mod config_cmd;
mod dlq;
mod doctor;
mod endpoint;
mod exit;
mod health;
mod inspect;
mod logging;
mod manual;
mod metrics_cmd;
mod offsets;
mod remote;
pub mod run;
mod sign;
mod tap;
mod top;
mod validate;

use std::ffi::OsString;
use std::fmt;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub use exit::Exit;

use crate::config::{self, Code, ConfigErrors, Loaded, Paint, Sources};
use crate::control::{COMPILE_MODULE, Genuine, Parts};

/// Exactly-once stream processor for Kafka with sandboxed WebAssembly transforms.
#[derive(Debug, Parser)]
#[command(name = "pelton", version, about, disable_help_subcommand = true, after_help = AFTER)]
struct Cli {
    #[command(flatten)]
    global: Global,

    #[command(subcommand)]
    command: Option<Command>,
}

const AFTER: &str = "\
Without a command, -c means `run`. Settings can also come from the environment: PELTON__DELIVERY__COMMIT_INTERVAL=1s.
Exit codes: 0 ok, 1 failed, 2 usage, 69 unavailable, 70 internal, 74 io, 75 temporary, 77 auth, 78 config.";

/// Read if no file is named: the place of the image's and the chart's configuration.
const USUAL: &str = "/etc/pelton/config.yaml";
const NO_FILE: &str =
    "no config file was given: name one with `-c FILE` or PELTON_CONFIG, or put it at /etc/pelton/config.yaml";

/// What every command takes.
#[derive(Debug, Args)]
pub struct Global {
    /// Config file (.yaml, .toml, .json); repeatable, later ones win. Without one, /etc/pelton/config.yaml if it exists.
    #[arg(short, long, value_name = "FILE", global = true, env = "PELTON_CONFIG", value_delimiter = ',', value_parser = file())]
    config: Vec<PathBuf>,

    /// Sets one value; wins over all files and the environment.
    #[arg(long, value_name = "PATH=VALUE", global = true, value_parser = assignment)]
    set: Vec<Assignment>,

    /// Format of the log.
    #[arg(long, value_name = "FORMAT", global = true, env = "PELTON_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// More log output; repeatable. PELTON_LOG has the last word.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    /// Only warnings; twice: only errors.
    #[arg(short, long, global = true, action = ArgAction::Count, conflicts_with = "verbose")]
    quiet: u8,

    /// When to use colours.
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto")]
    color: Color,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Process records until told to stop.
    Run,
    /// Check the configuration, and that the cluster and the modules fit it.
    Validate(validate::Arguments),
    /// Check everything that an installation needs: modules, brokers, topics, rights, limits, clocks.
    Doctor(doctor::Doctor),
    /// Show the configuration, its schema or its reference.
    #[command(subcommand)]
    Config(config_cmd::Command),
    /// Show what a module is, needs and weighs, and which grants it can use.
    Inspect(inspect::Arguments),
    /// Create a key pair for signing modules.
    Keygen(sign::Keygen),
    /// Sign a module.
    Sign(sign::Sign),
    /// Check a module's signature.
    Verify(sign::Verify),
    /// Show the application's positions in its input topics, or move them.
    #[command(subcommand)]
    Offsets(offsets::Command),
    /// Show dead letters, or replay them.
    #[command(subcommand)]
    Dlq(dlq::Command),
    /// Make the running process reread its configuration and modules.
    Reload(remote::Reload),
    /// Return a transform to its previous version, or end the trial of the next one.
    Rollback(remote::OfTransform),
    /// Let the version on trial take over now.
    Promote(remote::OfTransform),
    /// Hold a transform's input topics until it is resumed; a reload does not end that.
    Pause(remote::OfTransform),
    /// Resume a transform that was paused, by hand or because its failure budget was used up.
    Resume(remote::OfTransform),
    /// Ask the running process whether it is ready: a probe, exit 0 or 1.
    Health(health::Health),
    /// Show the state of the running process, live.
    Top(top::Top),
    /// Show records of a transform while they are processed, if the configuration allows it.
    Tap(tap::Tap),
    /// Show which version of each transform the running process has.
    Transforms(remote::Transforms),
    /// Print a script that completes commands and options in a shell.
    Completions(manual::Completions),
    /// Print the manual, or write its pages.
    Man(manual::Manual),
    /// The metrics.
    #[command(subcommand, hide = true)]
    Metrics(metrics_cmd::Command),
    /// Compile a module from stdin to stdout: for Pelton itself.
    #[command(name = COMPILE_MODULE, hide = true)]
    CompileModule,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// The whole program: parses, does, prints, and says how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    main_with(arguments, &Genuine)
}

/// The same, with workers of other parts.
pub fn main_with(arguments: impl IntoIterator<Item = OsString>, parts: &impl Parts) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(why) => {
            let exit = if why.use_stderr() { Exit::Usage } else { Exit::Ok };
            // Nobody is left to tell that the terminal is gone.
            let _ = why.print();
            return exit;
        }
    };
    let Cli { global, command } = cli;
    match command {
        None if global.files().is_empty() => {
            let _ = Cli::command().print_help();
            Exit::Usage
        }
        None | Some(Command::Run) => start(&global, parts),
        Some(Command::Validate(arguments)) => validate::validate(&global, &arguments),
        Some(Command::Doctor(arguments)) => doctor::doctor(&global, &arguments),
        Some(Command::Config(command)) => config_cmd::config(&global, &command),
        Some(Command::Inspect(arguments)) => inspect::inspect(&arguments),
        Some(Command::Keygen(arguments)) => sign::keygen(&arguments),
        Some(Command::Sign(arguments)) => sign::sign(&arguments),
        Some(Command::Verify(arguments)) => sign::verify(&arguments),
        Some(Command::Offsets(command)) => offsets::offsets(&global, &command),
        Some(Command::Dlq(command)) => dlq::dlq(&global, &command),
        Some(Command::Reload(order)) => remote::reload(&global, &order),
        Some(Command::Rollback(order)) => remote::roll_back(&global, &order),
        Some(Command::Promote(order)) => remote::promote(&global, &order),
        Some(Command::Pause(order)) => remote::pause(&global, &order),
        Some(Command::Resume(order)) => remote::resume(&global, &order),
        Some(Command::Health(probe)) => health::health(&global, &probe),
        Some(Command::Top(top)) => top::top(&global, &top),
        Some(Command::Tap(wanted)) => tap::tap(&global, &wanted),
        Some(Command::Transforms(wanted)) => remote::transforms(&global, &wanted),
        Some(Command::Completions(wanted)) => manual::completions(&wanted),
        Some(Command::Man(wanted)) => manual::manual(&wanted),
        Some(Command::Metrics(command)) => metrics_cmd::metrics(&command),
        Some(Command::CompileModule) if pelton_sandbox::work() => Exit::Ok,
        Some(Command::CompileModule) => Exit::Failed,
    }
}

fn start(global: &Global, parts: &impl Parts) -> Exit {
    logging::init(global);
    match global.load(true) {
        Ok(loaded) => run::run(global, &loaded, parts),
        Err(errors) => global.refuse_to_run(&errors),
    }
}

impl Global {
    /// `outside`: whether what the configuration refers to must exist.
    fn load(&self, outside: bool) -> Result<Loaded, ConfigErrors> {
        config::load(&self.sources(outside))
    }

    fn sources(&self, outside: bool) -> Sources {
        let set = self.set.iter().map(|Assignment(text)| text.clone()).collect();
        let mut files = self.files();
        if files.is_empty() && Path::new(USUAL).exists() {
            files.push(PathBuf::from(USUAL));
        }
        Sources { outside, ..Sources::new(files, set) }
    }

    /// Those that are named. An empty PELTON_CONFIG names none.
    fn files(&self) -> Vec<PathBuf> {
        self.config.iter().filter(|path| !path.as_os_str().is_empty()).cloned().collect()
    }

    /// Whether what is missing may be in a file that nobody named.
    fn lacks_a_file(&self, errors: &ConfigErrors) -> bool {
        self.sources(false).files.is_empty() && errors.0.iter().any(|error| error.code == Code::Missing)
    }

    /// Shows errors to a person.
    fn refuse(&self, errors: &ConfigErrors) -> Exit {
        eprintln!("{}", errors.render(self.paint()));
        if self.lacks_a_file(errors) {
            eprintln!("{NO_FILE}");
        }
        Exit::from(errors)
    }

    /// The same when a program reads the log.
    fn refuse_to_run(&self, errors: &ConfigErrors) -> Exit {
        if self.log_format == LogFormat::Text {
            return self.refuse(errors);
        }
        logging::refused(errors, self.lacks_a_file(errors).then_some(NO_FILE));
        Exit::from(errors)
    }

    fn paint(&self) -> Paint {
        let empty = |name| std::env::var_os(name).is_none_or(|value: OsString| value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match self.color {
            Color::Always => Paint::On,
            Color::Auto if std::io::stderr().is_terminal() && empty("NO_COLOR") && !dumb => Paint::On,
            _ => Paint::Off,
        }
    }
}

/// Writes to stdout. A reader that has gone (`| head`) is no failure.
fn print(text: &str) -> Exit {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: cannot write to stdout: {why}");
            Exit::Io
        }
        _ => Exit::Ok,
    }
}

/// Takes an empty text too: an empty PELTON_CONFIG is as good as none.
fn file() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// `path=value`. Its value may be a secret, and `Debug` leaves it out.
#[derive(Clone)]
struct Assignment(String);

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=***", self.0.split('=').next().unwrap_or_default())
    }
}

fn assignment(text: &str) -> Result<Assignment, String> {
    match text.split_once('=') {
        Some((path, _)) if !path.trim().is_empty() => Ok(Assignment(text.to_owned())),
        _ => Err("write it as path=value, such as delivery.commit_interval=1s".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
