//! The status page without scripts: one snapshot, in tables. Scripts refill it once a second (`status.js`), by the same
//! ids. Everything that comes from the process is escaped, topic names included; nothing is loaded from elsewhere, and
//! the browser is told not to.

use super::Status;
use super::snapshot::{Snapshot, Transform};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use std::fmt::Write;
use std::sync::Arc;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(super) async fn page(State(status): State<Arc<Status>>) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, html(&Snapshot::of(&status))).into_response()
}

pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page/status.css")).into_response()
}

pub(super) async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page/status.js")).into_response()
}

/// Between `{name}` go the parts that change.
const FRAME: &str = include_str!("page/status.html");

pub(super) fn html(snapshot: &Snapshot) -> String {
    let parts = [
        ("application", escaped(&snapshot.application)),
        ("version", escaped(snapshot.version)),
        ("ready", state(snapshot).to_owned()),
        ("state", if snapshot.ready { "well" } else { "unwell" }.to_owned()),
        ("reasons", snapshot.reasons.iter().map(|reason| format!("<li>{}</li>", escaped(reason))).collect()),
        ("numbers", numbers(snapshot)),
        ("flow", snapshot.transforms.iter().map(flow).collect()),
        ("inputs", inputs(snapshot)),
        ("stages", snapshot.transforms.iter().map(stages).collect()),
        ("trials", snapshot.transforms.iter().map(trial).collect()),
        ("rejects", rejects(snapshot)),
    ];
    // In one pass: what was put in is not looked at again.
    let mut html = String::with_capacity(FRAME.len() * 2);
    let mut rest = FRAME;
    while let Some((before, after)) = rest.split_once("{{") {
        html.push_str(before);
        let Some((name, after)) = after.split_once("}}") else { break };
        let part = parts.iter().find(|(known, _)| *known == name);
        html.push_str(part.map_or("", |(_, text)| text));
        rest = after;
    }
    html.push_str(rest);
    html
}

fn state(snapshot: &Snapshot) -> &'static str {
    match (snapshot.started, snapshot.ready) {
        (_, true) => "ready",
        (true, false) => "not ready",
        (false, false) => "starting",
    }
}

/// A row; the first cell is its heading.
fn row(cells: &[String]) -> String {
    let mut row = String::from("<tr>");
    for (index, cell) in cells.iter().enumerate() {
        let cell = escaped(cell);
        let _ = if index == 0 { write!(row, "<th scope=\"row\">{cell}</th>") } else { write!(row, "<td>{cell}</td>") };
    }
    row.push_str("</tr>");
    row
}

fn numbers(snapshot: &Snapshot) -> String {
    let (counts, rates) = (&snapshot.counts, &snapshot.rates);
    [
        ("Records in", counts.records_in, format!("{:.1}", rates.records_in)),
        ("Records out", counts.records_out, format!("{:.1}", rates.records_out)),
        ("Failures", counts.failures, format!("{:.1}", rates.failures)),
        ("Dead letters", counts.dead_letters, String::new()),
        ("Skipped", counts.skipped, String::new()),
        ("Transactions committed", counts.committed, String::new()),
        ("Transactions rolled back", counts.rolled_back, String::new()),
    ]
    .map(|(name, count, rate)| row(&[name.to_owned(), count.to_string(), rate]))
    .concat()
}

fn flow(of: &Transform) -> String {
    let state = match of.paused_by {
        None => "runs".to_owned(),
        Some(by) => format!("paused ({by})"),
    };
    row(&[
        of.name.clone(),
        of.inputs.join(", "),
        of.outputs.join(", "),
        of.dead_letters_to.clone().unwrap_or_default(),
        state,
        format!("{:.1}", of.rate),
        of.records.to_string(),
        of.failures.to_string(),
        of.generation.to_string(),
        short(&of.digest).to_owned(),
    ])
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

fn inputs(snapshot: &Snapshot) -> String {
    let one = |input: &super::snapshot::Input| {
        let seconds = input.lag_seconds.map_or_else(|| "?".to_owned(), |seconds| format!("{seconds:.1}"));
        let records = input.lag_records.map_or_else(|| "?".to_owned(), |records| records.to_string());
        row(&[input.topic.clone(), input.partitions.to_string(), records, seconds])
    };
    snapshot.inputs.iter().map(one).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn stages(of: &Transform) -> String {
    let one = |entry: &Value| {
        let [generation, digest, stage, cause] =
            ["generation", "digest", "stage", "cause"].map(|key| text(&entry[key]));
        row(&[of.name.clone(), generation, short(&digest).to_owned(), stage, cause])
    };
    of.generations.iter().map(one).collect()
}

fn trial(of: &Transform) -> String {
    if of.trial.is_null() {
        return String::new();
    }
    let [running, candidate] = ["running", "candidate"].map(|who| {
        let [records, failures] = ["records", "failures"].map(|key| text(&of.trial[who][key]));
        format!("{records} records, {failures} failures")
    });
    let [kind, generation, differences] = ["kind", "generation", "differences"].map(|key| text(&of.trial[key]));
    row(&[of.name.clone(), kind, generation, candidate, running, differences])
}

fn rejects(snapshot: &Snapshot) -> String {
    let one = |of: &super::snapshot::Rejected| {
        let ago = format!("{} s", (snapshot.at_ms - of.at_ms).max(0) / 1000);
        row(&[of.record.clone(), of.transform.clone(), of.code.to_owned(), ago])
    };
    snapshot.rejects.iter().map(one).collect()
}

/// As text of HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
