//! `pelton doctor`: what [`crate::tools::doctor`] finds, and whether the admin server can bind its address, as a list.

use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::time::Duration;

use super::answer::{counted, harmless};
use super::endpoint::Endpoint;
use super::{Exit, Global, Output, logging, print};
use crate::config::{Admin, Config};
use crate::tools::doctor::{self, Finding, Status};

/// For the admin server, which answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// Checks everything that an installation needs. It can run beside running processes and disturbs none of them. Exits
/// with 1 if something fails; warnings are for you to judge.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

pub(super) fn doctor(global: &Global, arguments: &Doctor) -> Exit {
    // librdkafka's complaints are among the findings.
    if global.verbose > 0 {
        logging::init(global);
    }
    let findings = match global.load(true) {
        Ok(loaded) => {
            let mut findings = doctor::examine(&loaded);
            findings.extend(admin(&loaded.config));
            findings
        }
        Err(errors) => doctor::refused(&errors.0),
    };
    let worst = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok);
    let exit = if worst == Status::Fail { Exit::Failed } else { Exit::Ok };
    let shown = match arguments.output {
        Output::Json => format!("{:#}\n", json!({ "ok": exit == Exit::Ok, "findings": findings })),
        Output::Text => text(&findings),
    };
    print(&shown).or(exit)
}

/// What is wrong comes last, right above the prompt.
fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| finding.status);
    for finding in sorted {
        let about = finding.about.as_ref().map(|about| format!(" {}", harmless(about))).unwrap_or_default();
        let code = finding.code.map(|code| format!(" [{code}]")).unwrap_or_default();
        let status = finding.status.as_str();
        text += &format!("{status:<5} {}{about}: {}{code}\n", finding.point, harmless(&finding.message));
        if let Some(advice) = &finding.advice {
            text += &format!("      = help: {}\n", harmless(advice));
        }
    }
    let count = |status| findings.iter().filter(|finding| finding.status == status).count() as u64;
    let (failures, warnings) = (count(Status::Fail), count(Status::Warn));
    text + &format!("{}, {}\n", counted(failures, "failure", "failures"), counted(warnings, "warning", "warnings"))
}

/// Its port is free, or the process that is meant has it.
fn admin(config: &Config) -> Vec<Finding> {
    const POINT: &str = "admin";
    let Admin::On(on) = &config.admin else {
        return vec![Finding::ok(POINT, "off: there are no probes, no metrics and no orders")];
    };
    let mut findings = Vec::new();
    let endpoint = Endpoint::to_read(&config.admin).and_then(|endpoint| {
        let answer = endpoint.ask_now(&Method::GET, "/api/v1/status", PATIENCE)?;
        Ok((endpoint.name(), answer))
    });
    match endpoint {
        Ok((name, (StatusCode::OK, answer))) if answer["version"].is_string() => {
            findings.push(running(config, &answer).about(name));
            return findings;
        }
        Ok((name, _)) => findings.push(taken("somebody answers there who is not Pelton").about(name)),
        // Nobody answers: whoever starts will listen there.
        Err(_) => findings.push(
            match TcpListener::bind(on.listen) {
                Ok(_) => Finding::ok(POINT, "free"),
                Err(why) => taken(&why.to_string()),
            }
            .about(on.listen.to_string()),
        ),
    }
    findings
}

fn taken(why: &str) -> Finding {
    Finding::fail("admin", "admin.in_use", why, "set `admin.listen` to an address of its own, or stop who is there")
}

fn running(config: &Config, answer: &Value) -> Finding {
    let version = answer["version"].as_str().unwrap_or_default();
    let application = answer["application"].as_str().unwrap_or_default();
    if answer["started"] == true && application != config.application.as_str() {
        return taken(&format!("the application `{application}` runs there"));
    }
    let reasons = answer["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let reasons = reasons.collect::<Vec<_>>().join("; ");
    if answer["ready"] == true {
        return Finding::ok("admin", format!("this application runs there, version {version}, and is ready"));
    }
    let message = format!("this application runs there, version {version}, and is not ready: {reasons}");
    Finding::warn("admin", "admin.not_ready", message, "`pelton top` and its log say more")
}
