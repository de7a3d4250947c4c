//! One snapshot of the running process as text tables: for scripts, and without a terminal.

use crate::cli::answer::table;
use crate::cli::remote::text as plain;
use serde_json::Value;

fn cells(value: &Value, keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| plain(&value[*key])).collect()
}

/// The answer of `GET /api/v1/status`.
pub(super) fn text(now: &Value) -> String {
    let all = |key: &str| now[key].as_array().cloned().unwrap_or_default();
    let ready = if now["ready"] == true { "ready" } else { "not ready" };
    let mut shown = format!("{}: {ready}\n", cells(now, &["application"]).concat());
    for reason in all("reasons") {
        shown.push_str(&format!("  {}\n", plain(&reason)));
    }
    let rows = ["records_in", "records_out", "failures"].map(|key| {
        let name = key.replace('_', " ");
        vec![name, cells(&now["counts"], &[key]).concat(), cells(&now["rates"], &[key]).concat()]
    });
    shown.push_str(&table(&["", "COUNT", "PER SECOND"], &rows));
    let inputs = all("inputs");
    let rows = inputs.iter().map(|of| cells(of, &["topic", "partitions", "lag_records", "lag_seconds"]));
    shown.push('\n');
    shown.push_str(&table(&["TOPIC", "PARTITIONS", "LAG RECORDS", "LAG SECONDS"], &rows.collect::<Vec<_>>()));
    let transforms = all("transforms");
    let keys = ["name", "generation", "paused_by", "rate", "records", "failures", "dead_letters"];
    let rows = transforms.iter().map(|of| cells(of, &keys));
    let heads = ["TRANSFORM", "GENERATION", "PAUSED BY", "PER SECOND", "RECORDS", "FAILURES", "DEAD LETTERS"];
    shown.push('\n');
    shown.push_str(&table(&heads, &rows.collect::<Vec<_>>()));
    let rejects = all("rejects");
    if !rejects.is_empty() {
        let rows = rejects.iter().map(|of| cells(of, &["record", "transform", "code"]));
        shown.push('\n');
        shown.push_str(&table(&["RECENT REJECT", "TRANSFORM", "CODE"], &rows.collect::<Vec<_>>()));
    }
    shown
}
