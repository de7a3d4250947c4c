//! What a collector was told by OTLP, read back: spans and lines of the log, with what the tests ask about them.

use crate::scrape::Pushed;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::sync::mpsc::Receiver;

/// Everything that was pushed, by signal.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    pub spans: Vec<Span>,
    /// Lines, with their targets.
    pub lines: Vec<(String, LogRecord)>,
    /// Of all spans' scopes.
    pub schema_urls: Vec<String>,
    pub bodies: Vec<Vec<u8>>,
}

impl Collected {
    /// Takes what has been pushed since.
    ///
    /// # Panics
    /// When a push is not what its path says.
    pub fn take(&mut self, pushed: &Receiver<Pushed>) {
        for Pushed { head, body } in pushed.try_iter() {
            match head.split(' ').nth(1) {
                Some("/v1/traces") => self.spans(&body),
                Some("/v1/logs") => self.lines(&body),
                Some("/v1/metrics") => {}
                other => panic!("a push to {other:?}"),
            }
            self.bodies.push(body);
        }
    }

    fn spans(&mut self, body: &[u8]) {
        let request = ExportTraceServiceRequest::decode(body).expect("spans");
        for scope in request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans) {
            assert!(!scope.spans.is_empty(), "a push for nothing");
            self.schema_urls.push(scope.schema_url);
            self.spans.extend(scope.spans);
        }
    }

    fn lines(&mut self, body: &[u8]) {
        let request = ExportLogsServiceRequest::decode(body).expect("log records");
        for scope in request.resource_logs.into_iter().flat_map(|resource| resource.scope_logs) {
            let target = scope.scope.map(|scope| scope.name).unwrap_or_default();
            self.lines.extend(scope.log_records.into_iter().map(|record| (target.clone(), record)));
        }
    }

    /// Spans of this name.
    pub fn named(&self, name: &str) -> Vec<&Span> {
        self.spans.iter().filter(|span| span.name == name).collect()
    }
}

/// Its value as text, empty where there is none.
pub fn text(attributes: &[KeyValue], key: &str) -> String {
    let attribute = attributes.iter().find(|attribute| attribute.key == key);
    match attribute.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => other.map_or_else(String::new, |other| format!("{other:?}")),
    }
}

/// As in a `traceparent` and in a link: trace and span.
pub fn ids(traceparent: &str) -> (Vec<u8>, Vec<u8>) {
    let parts: Vec<&str> = traceparent.split('-').collect();
    let [_, trace, span, _] = parts[..] else { panic!("no traceparent: {traceparent}") };
    (bytes(trace), bytes(span))
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
    (0..hex.len()).step_by(2).map(byte).collect()
}
