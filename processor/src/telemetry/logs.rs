//! The log for an OTLP collector, beside the one on stderr: the same lines, with the same filter and limit. [`Export`]
//! is part of the log from the start and does nothing until [`install`] gives it a queue. What a pushing thread itself
//! logs stays on stderr: otherwise failures to push would be pushed too, and their failures in turn.
//!
//! A line has its target as the scope's name, its message as the body, its fields as attributes; the fields `trace_id` and
//! `span_id` become the record's own. There is no more data in it than on stderr (I10).

use super::export::Queue;
use super::otlp::{resource, valued};
use crate::wall::unix_nanos;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use prost::Message;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Longer texts are cut: the queue is bounded in lines, and lines are to be bounded too (I9).
const TEXT_MAX: usize = 4_096;

static QUEUE: OnceLock<Arc<Queue<Line>>> = OnceLock::new();

thread_local! {
    static LEFT_OUT: Cell<bool> = const { Cell::new(false) };
}

/// One line of the log.
#[derive(Clone, PartialEq, Debug)]
pub struct Line {
    target: &'static str,
    record: LogRecord,
}

/// From now on lines go into this queue too. Once.
pub fn install(queue: Arc<Queue<Line>>) {
    let _ = QUEUE.set(queue);
}

/// What this thread logs is not told to a collector.
pub(super) fn leave_out_this_thread() {
    LEFT_OUT.set(true);
}

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct Export;

impl<S: Subscriber> Layer<S> for Export {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if let Some(queue) = QUEUE.get()
            && !LEFT_OUT.get()
        {
            queue.offer([line(event)]);
        }
    }
}

fn line(event: &Event<'_>) -> Line {
    let (metadata, now) = (event.metadata(), unix_nanos());
    let severity = match *metadata.level() {
        Level::ERROR => SeverityNumber::Error,
        Level::WARN => SeverityNumber::Warn,
        Level::INFO => SeverityNumber::Info,
        Level::DEBUG => SeverityNumber::Debug,
        Level::TRACE => SeverityNumber::Trace,
    };
    let mut record = LogRecord {
        time_unix_nano: now,
        observed_time_unix_nano: now,
        severity_number: severity as i32,
        severity_text: metadata.level().as_str().into(),
        ..Default::default()
    };
    event.record(&mut Fields(&mut record));
    Line { target: metadata.target(), record }
}

/// The body of one push.
pub(crate) fn encode(attributes: &[(String, String)], lines: Vec<Line>) -> Vec<u8> {
    let mut by_target: BTreeMap<&'static str, Vec<LogRecord>> = BTreeMap::new();
    for Line { target, record } in lines {
        by_target.entry(target).or_default().push(record);
    }
    let scope = |target: &str| InstrumentationScope {
        name: target.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    };
    let of_target =
        |(target, log_records)| ScopeLogs { scope: Some(scope(target)), log_records, schema_url: String::new() };
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(resource(attributes)),
            scope_logs: by_target.into_iter().map(of_target).collect(),
            schema_url: String::new(),
        }],
    };
    request.encode_to_vec()
}

/// Takes an event's fields into a record.
struct Fields<'a>(&'a mut LogRecord);

impl Fields<'_> {
    fn text(&mut self, name: &str, text: &str) {
        let text = &text[..text.floor_char_boundary(TEXT_MAX)];
        match name {
            "message" => self.0.body = Some(AnyValue { value: Some(Value::StringValue(text.into())) }),
            "trace_id" => self.0.trace_id = id(text, 16),
            "span_id" => self.0.span_id = id(text, 8),
            _ => self.add(name, Value::StringValue(text.into())),
        }
    }

    fn add(&mut self, name: &str, value: Value) {
        self.0.attributes.push(valued(name, value));
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field.name(), &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), Value::IntValue(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), Value::DoubleValue(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), Value::BoolValue(value));
    }
}

/// Of so many bytes, written in hexadecimal; empty where it is not that.
fn id(text: &str, bytes: usize) -> Vec<u8> {
    let digits = text.as_bytes();
    if digits.len() != 2 * bytes || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Vec::new();
    }
    let byte = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    digits.chunks_exact(2).filter_map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::export::Limits;
    use crate::telemetry::limit::Limit;
    use std::sync::Mutex;
    use std::time::Duration;
    use tracing_subscriber::layer::SubscriberExt;

    /// The lines that these events make.
    fn lines(log: impl FnOnce()) -> Vec<Line> {
        struct Look(Arc<Mutex<Vec<Line>>>);
        impl<S: Subscriber> Layer<S> for Look {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                self.0.lock().unwrap().push(line(event));
            }
        }
        let seen = Arc::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Look(Arc::clone(&seen))), log);
        Arc::try_unwrap(seen).unwrap().into_inner().unwrap()
    }

    #[test]
    fn lines_are_limited_as_on_stderr_and_a_thread_that_pushes_is_left_out() {
        let long = Duration::from_secs(3_600);
        let queue = Arc::new(Queue::new(Limits { queue: 1_000, batch: 1_000, delay: long, patience: long }));
        install(Arc::clone(&queue));
        let log = || {
            let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::sink);
            let layers = stderr.and_then(Export).with_filter(Limit);
            tracing::subscriber::with_default(tracing_subscriber::registry().with(layers), || {
                (0..80).for_each(|_| tracing::info!("again"));
            });
        };
        log();
        assert_eq!(queue.taken().len(), 50, "each line counts once, for both");
        let pushing = std::thread::spawn(move || {
            leave_out_this_thread();
            let log = || tracing::warn!(code = "telemetry.push", "the collector is away");
            tracing::subscriber::with_default(tracing_subscriber::registry().with(Export), log);
        });
        pushing.join().unwrap();
        assert_eq!(queue.taken(), [], "else it would tell the collector about the collector");
    }

    #[test]
    fn a_line_keeps_its_level_target_message_fields_and_ids() {
        let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
        let none: Option<&str> = None;
        let lines = lines(|| {
            tracing::warn!(target: "guest", code = "guest.trap", more = 3u64, at = %"in/0@1", ok = true, x = 0.5,
                trace_id = trace, span_id = span, absent = none, "record {}", "rejected");
            tracing::info!(trace_id = "short", span_id = "0xb7ad6b71692033", "{}", "é".repeat(3_000));
        });
        let body = encode(&[("service.name".into(), "orders".into())], lines);
        let request = ExportLogsServiceRequest::decode(body.as_slice()).unwrap();
        let scopes = &request.resource_logs[0].scope_logs;
        let of = |target: &str| {
            let scope = scopes.iter().find(|scope| scope.scope.as_ref().unwrap().name == target).unwrap();
            scope.log_records[0].clone()
        };
        let record = of("guest");
        assert_eq!((record.severity_number, record.severity_text.as_str()), (SeverityNumber::Warn as i32, "WARN"));
        assert_eq!(record.body.unwrap().value, Some(Value::StringValue("record rejected".into())));
        assert_eq!((record.trace_id[0], record.span_id[7]), (0x0a, 0x31));
        let expected = [
            valued("code", Value::StringValue("guest.trap".into())),
            valued("more", Value::IntValue(3)),
            valued("at", Value::StringValue("in/0@1".into())),
            valued("ok", Value::BoolValue(true)),
            valued("x", Value::DoubleValue(0.5)),
        ];
        assert_eq!(record.attributes, expected);
        let long = of(module_path!());
        assert!((long.trace_id.is_empty()) && long.span_id.is_empty(), "no ids");
        let Some(Value::StringValue(text)) = long.body.unwrap().value else { panic!("a text") };
        assert_eq!(text.len(), TEXT_MAX);
    }
}
