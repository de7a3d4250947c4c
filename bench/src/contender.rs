//! Who is measured: Pelton with some configuration, or the bare loop, as a process with a group and topics of its own.

use crate::measure::Process;
use crate::raw::{self, Codec};
use anyhow::{Context, Result};
use boundary_work::Work;
use pelton_integration::process;
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::{fmt, fs};

/// The section `delivery`: one worker's throughput with transactions of 100 ms.
pub(crate) const EXACTLY_ONCE: &str = "{ commit_interval: 100ms, latency: throughput }";
pub(crate) const AT_LEAST_ONCE: &str = "{ commit_interval: 100ms, latency: throughput, guarantee: at_least_once }";

/// Pelton, one worker where nothing else is said.
#[derive(Clone, Debug)]
pub(crate) struct Pelton<'a> {
    /// The section `delivery`, in braces.
    pub(crate) delivery: &'a str,
    pub(crate) module: &'a Path,
    /// Further lines of the transform, indented by four.
    pub(crate) transform: String,
    /// Further topics of its output.
    pub(crate) also: Vec<String>,
    /// Of what it writes.
    pub(crate) codec: Codec,
    /// What is in its environment besides: settings, or a library to load before its own.
    pub(crate) environment: &'a [Variable],
}

/// One of an environment, `NAME=VALUE`.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    name: String,
    value: String,
}

impl FromStr for Variable {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("say NAME=VALUE")?;
        Ok(Variable { name: name.to_owned(), value: value.to_owned() })
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

/// Where it works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) bootstrap: &'a str,
    pub(crate) group: &'a str,
    pub(crate) input: &'a str,
    pub(crate) output: &'a str,
    /// A directory for its configuration and its log.
    pub(crate) home: &'a str,
}

impl<'a> Pelton<'a> {
    /// This work, done by this module.
    pub(crate) fn of(work: Work, module: &'a Path, delivery: &'a str) -> Self {
        let settings = match work {
            Work::Identity => "{ copy: \"true\" }".to_owned(),
            work => format!("{{ work: {work} }}"),
        };
        let transform = format!("    settings: {settings}\n    on_error: {{ then: stop }}\n");
        Pelton { delivery, module, transform, also: Vec::new(), codec: Codec::None, environment: &[] }
    }

    pub(crate) fn start(&self, place: Place<'_>) -> Result<Process> {
        let Place { bootstrap, group, input, output, home } = place;
        let Pelton { delivery, module, transform, also, codec, environment } = self;
        let config = format!(
            "application: {group}\ninstance: bench\nworkers: 1\nadmin: off\nkafka:\n  bootstrap_servers: {bootstrap}\n  \
             producer: {{ properties: {{ compression.type: {} }} }}\ndelivery: {delivery}\ntransforms:\n  \
             measured:\n    module: {}\n    input: {{ topics: [{input}] }}\n    \
             output: {{ topic: {output}, also: [{}] }}\n{transform}",
            codec.as_str(),
            module.display(),
            also.join(", ")
        );
        let mut command = command(&config, home)?;
        command.envs(environment.iter().map(|variable| (&variable.name, &variable.value)));
        spawn(command, &format!("{home}/log"))
    }
}

impl raw::Settings {
    pub(crate) fn start(&self, place: Place<'_>) -> Result<Process> {
        let Place { bootstrap, group, input, output, home } = place;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["raw-loop", bootstrap, input, output, group]);
        command.args(["--commit-ms", &self.commit_ms.to_string(), "--lanes", &self.lanes.to_string()]);
        command.args(["--work", &self.work.to_string(), "--codec", self.codec.as_str()]);
        if self.loose {
            command.arg("--loose");
        }
        spawn(command, &format!("{home}/log"))
    }
}

impl Default for raw::Settings {
    fn default() -> Self {
        raw::Settings { commit_ms: 100, lanes: 2, work: Work::Keep, codec: Codec::None, loose: false }
    }
}

/// Pelton with this configuration, both in the directory `home`, where its `log` is too.
pub(crate) fn run(config: &str, home: &str) -> Result<Process> {
    spawn(command(config, home)?, &format!("{home}/log"))
}

fn command(config: &str, home: &str) -> Result<Command> {
    fs::write(format!("{home}/config.yaml"), config)?;
    let mut command = Command::new(process::binary());
    command.args(["run", "-c", &format!("{home}/config.yaml")]);
    Ok(command)
}

pub(crate) fn spawn(mut command: Command, log: &str) -> Result<Process> {
    let log = fs::File::create(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(Process(command.spawn().context("cannot start it")?, 0))
}
