//! Prometheus' text format 0.0.4, which every scraper reads. Families without points are left out: a series appears
//! when there is something to report.

use super::collect::{Family, Point, Value};
use std::fmt::Write;

/// Of what [`render`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text of all families.
pub fn render(families: &[Family]) -> String {
    let mut text = String::new();
    for Family { definition, points } in families.iter().filter(|family| !family.points.is_empty()) {
        let (name, kind) = (definition.name, definition.kind.as_str());
        push(&mut text, format_args!("# HELP {name} {}\n", escape(definition.help, false)));
        push(&mut text, format_args!("# TYPE {name} {kind}\n"));
        for Point { labels, value } in points {
            match value {
                Value::Integer(n) => sample(&mut text, name, labels, None, format_args!("{n}")),
                Value::Float(x) => sample(&mut text, name, labels, None, format_args!("{x}")),
                Value::Histogram(reading) => {
                    let bucket = format!("{name}_bucket");
                    let mut count = 0;
                    for (bound, n) in reading.bounds.iter().zip(&reading.buckets) {
                        count += n;
                        sample(&mut text, &bucket, labels, Some(&bound.to_string()), format_args!("{count}"));
                    }
                    let count = reading.count();
                    sample(&mut text, &bucket, labels, Some("+Inf"), format_args!("{count}"));
                    sample(&mut text, &format!("{name}_sum"), labels, None, format_args!("{}", reading.sum));
                    sample(&mut text, &format!("{name}_count"), labels, None, format_args!("{count}"));
                }
            }
        }
    }
    text
}

fn sample(
    text: &mut String,
    name: &str,
    labels: &[(&'static str, String)],
    le: Option<&str>,
    value: std::fmt::Arguments<'_>,
) {
    text.push_str(name);
    let labels = labels.iter().map(|(label, value)| (*label, value.as_str())).chain(le.map(|le| ("le", le)));
    let mut open = false;
    for (label, value) in labels {
        push(text, format_args!("{}{label}=\"{}\"", if open { ',' } else { '{' }, escape(value, true)));
        open = true;
    }
    push(text, format_args!("{} {value}\n", if open { "}" } else { "" }));
}

/// Label values escape the quote too; a name of a transform or topic needs none of it.
fn escape(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(what);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::histogram::{BATCH, Histogram};
    use crate::telemetry::definitions as is;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let histogram = Histogram::new(&BATCH);
        histogram.observe(3, 2);
        histogram.observe(500, 1);
        let transform = || vec![("transform", "a\"b\\c\nd".to_owned())];
        let families = [
            Family { definition: &is::SKIPPED, points: vec![Point { labels: transform(), value: Value::Integer(7) }] },
            Family { definition: &is::FAULTS, points: Vec::new() },
            Family { definition: &is::READY, points: vec![Point { labels: Vec::new(), value: Value::Float(0.5) }] },
            Family {
                definition: &is::BATCH_RECORDS,
                points: vec![Point { labels: transform(), value: Value::Histogram(histogram.read()) }],
            },
        ];
        let text = render(&families);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "# HELP pelton_skipped_total Rejected or failed records skipped because the policy is skip."
        );
        assert_eq!(lines[1], "# TYPE pelton_skipped_total counter");
        assert_eq!(lines[2], r#"pelton_skipped_total{transform="a\"b\\c\nd"} 7"#);
        assert_eq!(lines[5], "pelton_ready 0.5");
        assert_eq!(lines[8], r#"pelton_batch_records_bucket{transform="a\"b\\c\nd",le="1"} 0"#);
        assert_eq!(lines[10], r#"pelton_batch_records_bucket{transform="a\"b\\c\nd",le="4"} 2"#);
        assert_eq!(lines[15], r#"pelton_batch_records_bucket{transform="a\"b\\c\nd",le="128"} 2"#);
        assert_eq!(lines[16], r#"pelton_batch_records_bucket{transform="a\"b\\c\nd",le="+Inf"} 3"#);
        assert_eq!(lines[17], r#"pelton_batch_records_sum{transform="a\"b\\c\nd"} 506"#);
        assert_eq!(lines[18], r#"pelton_batch_records_count{transform="a\"b\\c\nd"} 3"#);
        assert_eq!(lines.len(), 19, "a family without points is not there:\n{text}");
    }
}
