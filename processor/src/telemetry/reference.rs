//! docs/metrics.md, generated from the definitions. A test keeps the file in step.

use super::definitions::{ALL, Definition, Kind};
use crate::dataplane::counters::CODES;
use crate::dataplane::histogram::{BATCH, COMMIT, LATENCY, PROCESS, Scale};

const HEAD: &str = include_str!("reference_head.md");

/// The page.
pub fn reference() -> String {
    let mut page = HEAD.to_owned();
    for Definition { name, kind, unit, labels, help, notes } in ALL {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = if labels.is_empty() { String::new() } else { format!(", labels {}", labels.join(", ")) };
        let unit = match *unit {
            "1" => String::new(),
            "s" => ", seconds".into(),
            "By" => ", bytes".into(),
            unit => format!(", {}s", unit.trim_matches(['{', '}'])),
        };
        let buckets = match (kind, scale(name)) {
            (Kind::Histogram, Some(scale)) => format!(" Buckets up to {}.", bounds(scale)),
            _ => String::new(),
        };
        page += &format!("\n### `{name}`\n{kind}{unit}{labels}. {help}{buckets}\n\n{notes}\n", kind = title(*kind));
    }
    let codes: Vec<String> = CODES.iter().map(|code| format!("`{code}`")).collect();
    page += &format!(
        "\n## Values of labels\n\
         | label | values |\n|---|---|\n\
         | `worker` | 0 to `workers` - 1 |\n\
         | `transform` | the names under `transforms` |\n\
         | `topic` | the input topics |\n\
         | `partition` | with `observe.partition_metrics`: the partitions that this process has |\n\
         | `outcome` | `kept`, `dropped`, `emitted`, `rejected`, `failed` |\n\
         | `code` | {} |\n\
         | `result` of transactions | `committed`, `aborted` |\n\
         | `result` of reloads | `applied`, `refused`, `failed` |\n\
         | `result` of the cache | `hit`, `miss` |\n\
         | `result` of spans and log records | `sent`, `dropped` |\n\
         | `signal` | `traces`, `logs` |\n",
        codes.join(", ")
    );
    page
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "Counter",
        Kind::Gauge => "Gauge",
        Kind::Histogram => "Histogram",
    }
}

fn scale(name: &str) -> Option<&'static Scale> {
    Some(match name {
        "pelton_process_duration_seconds" => &PROCESS,
        "pelton_batch_records" => &BATCH,
        "pelton_commit_duration_seconds" => &COMMIT,
        "pelton_end_to_end_latency_seconds" => &LATENCY,
        _ => return None,
    })
}

fn bounds(scale: &Scale) -> String {
    let bounds: Vec<String> = scale.bounds.iter().map(|bound| (*bound as f64 / scale.units).to_string()).collect();
    bounds.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_histogram_says_its_buckets() {
        for definition in ALL.iter().filter(|definition| definition.kind == Kind::Histogram) {
            assert!(scale(definition.name).is_some(), "{}", definition.name);
        }
    }

    #[test]
    fn the_page_in_docs_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == reference(), "run: cargo run -q -p pelton -- metrics reference > docs/metrics.md");
    }
}
