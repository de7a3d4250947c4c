//! `pelton reload`, `rollback`, `promote`, `pause`, `resume`, `transforms`: asks the running process of this
//! configuration through its admin server, on the Unix socket if there is one, else on the port, with the token.

use std::time::Duration;

use clap::Args;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::answer::{harmless, table};
use super::endpoint::{self, Endpoint};
use super::{Exit, Global, Output, print};

/// Longer than the slowest module takes to compile.
const PATIENCE: Duration = Duration::from_secs(120);

/// Rereads configuration and modules. Waits until they are in use or refused.
#[derive(Debug, Args)]
pub(super) struct Reload {
    /// Also load versions that were rolled back.
    #[arg(long)]
    retry: bool,

    #[command(flatten)]
    look: Look,
}

/// An order about one transform.
#[derive(Debug, Args)]
pub(super) struct OfTransform {
    /// The transform's name in the configuration.
    transform: String,

    #[command(flatten)]
    look: Look,
}

#[derive(Debug, Args)]
pub(super) struct Transforms {
    /// Only this transform, with its generations and its trial.
    transform: Option<String>,

    #[command(flatten)]
    look: Look,
}

#[derive(Debug, Args)]
pub(super) struct Look {
    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(super) output: Output,
}

pub(super) fn reload(global: &Global, order: &Reload) -> Exit {
    let path = if order.retry { "/api/v1/reload?retry=true" } else { "/api/v1/reload" };
    ask(global, &order.look, &Method::POST, path, outcome)
}

pub(super) fn roll_back(global: &Global, order: &OfTransform) -> Exit {
    let path = format!("/api/v1/transforms/{}/rollback", order.transform);
    ask(global, &order.look, &Method::POST, &path, outcome)
}

pub(super) fn promote(global: &Global, order: &OfTransform) -> Exit {
    let path = format!("/api/v1/transforms/{}/promote", order.transform);
    ask(global, &order.look, &Method::POST, &path, outcome)
}

pub(super) fn pause(global: &Global, order: &OfTransform) -> Exit {
    let path = format!("/api/v1/transforms/{}/pause", order.transform);
    ask(global, &order.look, &Method::POST, &path, held)
}

pub(super) fn resume(global: &Global, order: &OfTransform) -> Exit {
    let path = format!("/api/v1/transforms/{}/resume", order.transform);
    ask(global, &order.look, &Method::POST, &path, held)
}

fn held(answer: &Value) -> String {
    match answer["result"].as_str() {
        Some("applied") => "done: workers go by it within a tenth of a second\n".to_owned(),
        _ => "it is so already\n".to_owned(),
    }
}

pub(super) fn transforms(global: &Global, wanted: &Transforms) -> Exit {
    match &wanted.transform {
        Some(name) => ask(global, &wanted.look, &Method::GET, &format!("/api/v1/transforms/{name}"), one),
        None => ask(global, &wanted.look, &Method::GET, "/api/v1/transforms", all),
    }
}

fn outcome(answer: &Value) -> String {
    match (answer["result"].as_str(), answer["took_ms"].as_u64()) {
        (Some("applied"), Some(took)) => {
            format!("taken up in {took} ms; workers go by it from their next transactions on\n")
        }
        _ => "nothing has changed\n".to_owned(),
    }
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => harmless(text),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => harmless(&other.to_string()),
    }
}

fn all(answer: &Value) -> String {
    let rows = answer["transforms"].as_array().into_iter().flatten().map(|transform| {
        let digest = text(&transform["digest"]);
        let mut row = vec![text(&transform["name"]), text(&transform["generation"])];
        row.push(digest.get(..12).unwrap_or(&digest).to_owned());
        row.extend(["on_trial", "held_back", "paused_by", "inputs", "outputs"].map(|key| text(&transform[key])));
        row
    });
    table(
        &["TRANSFORM", "GENERATION", "DIGEST", "ON TRIAL", "HELD BACK", "PAUSED BY", "INPUTS", "OUTPUTS"],
        &rows.collect::<Vec<_>>(),
    )
}

fn one(answer: &Value) -> String {
    let rows = answer["generations"].as_array().into_iter().flatten().map(|entry| {
        let digest = text(&entry["digest"]);
        let digest = digest.get(..12).unwrap_or(&digest).to_owned();
        vec![text(&entry["generation"]), digest, text(&entry["stage"]), text(&entry["cause"])]
    });
    let mut shown = table(&["GENERATION", "DIGEST", "STAGE", "CAUSE"], &rows.collect::<Vec<_>>());
    let trial = &answer["trial"];
    if !trial.is_null() {
        let rows = ["running", "candidate"].map(|who| {
            let of = &trial[who];
            let mut row = vec![who.to_owned()];
            row.extend(["records", "failures", "p99_us", "fuel_per_record"].map(|key| text(&of[key])));
            row
        });
        shown.push_str(&format!("\n{} of generation {}:\n", text(&trial["kind"]), text(&trial["generation"])));
        shown.push_str(&table(&["", "RECORDS", "FAILURES", "P99 US", "FUEL"], &rows));
        if trial["kind"] == "shadow" {
            let (differences, compared) = (text(&trial["differences"]), text(&trial["compared"]));
            shown.push_str(&format!("{differences} of {compared} records differ\n"));
            for sample in trial["samples"].as_array().into_iter().flatten() {
                let [record, running, candidate] = ["record", "running", "candidate"].map(|key| text(&sample[key]));
                shown.push_str(&format!("  {record}: {running}, {candidate}\n"));
            }
        }
    }
    shown
}

pub(super) fn ask(global: &Global, look: &Look, method: &Method, path: &str, show: fn(&Value) -> String) -> Exit {
    let loaded = match global.load(false) {
        Ok(loaded) => loaded,
        Err(errors) => return global.refuse(&errors),
    };
    let asked = Endpoint::of(&loaded.config.admin).and_then(|endpoint| endpoint.ask_now(method, path, PATIENCE));
    let (status, answer) = match asked {
        Ok(answer) => answer,
        Err(error) => return error.refuse(),
    };
    let exit = if status.is_success() { Exit::Ok } else { Exit::Failed };
    if look.output == Output::Json {
        return print(&format!("{answer:#}\n")).or(exit);
    }
    if status.is_success() {
        return print(&show(&answer));
    }
    let exit = if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) { Exit::Auth } else { exit };
    let said = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    endpoint::refuse(exit, &said("code"), &said("message"), &said("advice"))
}
