//! Spans as OTLP's protobuf messages.

use super::context::Context;
use super::names as is;
use super::span::{Link, Span, What};
use crate::telemetry::otlp::{attribute, integer, resource, scope};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::{self as wire, ResourceSpans, ScopeSpans, Status, span, status};
use prost::Message;
use span::SpanKind;

/// Bits of a span's and a link's flags above those of the trace: it is known whether the parent is remote; it is.
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// The body of one push.
pub fn encode(attributes: &[(String, String)], spans: Vec<Span>) -> Vec<u8> {
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource(attributes)),
            scope_spans: vec![ScopeSpans {
                scope: Some(scope()),
                spans: spans.into_iter().map(message).collect(),
                schema_url: is::SCHEMA_URL.into(),
            }],
            schema_url: is::SCHEMA_URL.into(),
        }],
    };
    request.encode_to_vec()
}

fn message(span: Span) -> wire::Span {
    let (name, kind, mut attributes) = describe(&span.what);
    attributes.extend(span.error.as_ref().map(|error| attribute(is::ERROR_TYPE, error)));
    let status = span.error.map(|error| Status { message: error.to_string(), code: status::StatusCode::Error as i32 });
    let remote = span.parent.is_some_and(|parent| parent.remote);
    wire::Span {
        trace_id: span.trace.bytes().to_vec(),
        span_id: span.id.bytes().to_vec(),
        parent_span_id: span.parent.map_or(Vec::new(), |parent| parent.id.bytes().to_vec()),
        flags: flags(&Context::child(span.trace, span.id), remote),
        name,
        kind: kind as i32,
        start_time_unix_nano: span.start,
        end_time_unix_nano: span.end.max(span.start),
        attributes,
        links: span.links.all.iter().map(link).collect(),
        dropped_links_count: span.links.dropped,
        status,
        ..Default::default()
    }
}

/// A `tracestate` is not told: it is a header that anybody may have written anything into.
fn link(Link { to, remote }: &Link) -> span::Link {
    span::Link {
        trace_id: to.trace.bytes().to_vec(),
        span_id: to.span.bytes().to_vec(),
        flags: flags(to, *remote),
        ..Default::default()
    }
}

fn flags(context: &Context, remote: bool) -> u32 {
    u32::from(context.flags) | REMOTE_KNOWN | if remote { REMOTE } else { 0 }
}

/// Name, kind and attributes.
fn describe(what: &What) -> (String, SpanKind, Vec<KeyValue>) {
    match what {
        What::Transaction { group, worker, lane, records, committed } => {
            let attributes = vec![
                attribute(is::GROUP, group),
                integer(is::WORKER, *worker as i64),
                integer(is::LANE, *lane as i64),
                integer(is::MESSAGE_COUNT, count(*records)),
                attribute(is::RESULT, result(*committed)),
            ];
            (is::TRANSACTION.into(), SpanKind::Internal, attributes)
        }
        What::Receive { group, topic, partition, records } => {
            let mut attributes = operation(is::RECEIVE);
            attributes.push(attribute(is::GROUP, group));
            attributes.push(integer(is::MESSAGE_COUNT, count(*records)));
            attributes.extend(topic.as_ref().map(|topic| attribute(is::DESTINATION, topic)));
            attributes.extend(partition.map(|partition| attribute(is::PARTITION, &partition.to_string())));
            (named(is::RECEIVE, topic.as_deref()), SpanKind::Client, attributes)
        }
        What::Process { group, topic, partition, offset, transform, settled } => {
            let mut attributes = operation(is::PROCESS);
            attributes.extend([
                attribute(is::GROUP, group),
                attribute(is::DESTINATION, topic),
                attribute(is::PARTITION, &partition.to_string()),
                integer(is::OFFSET, *offset),
                attribute(is::TRANSFORM, transform),
                integer(is::GENERATION, count(settled.generation)),
                attribute(is::OUTCOME, settled.outcome),
            ]);
            (named(is::PROCESS, Some(topic)), SpanKind::Consumer, attributes)
        }
        What::Send { topic, transform, records } => {
            let mut attributes = operation(is::SEND);
            attributes.extend([
                attribute(is::DESTINATION, topic),
                attribute(is::TRANSFORM, transform),
                integer(is::MESSAGE_COUNT, count(*records)),
            ]);
            // A producer's span is one whose id the records carry; ours carry that of their processing.
            (named(is::SEND, Some(topic)), SpanKind::Client, attributes)
        }
        What::Commit { group, records, committed } => {
            let mut attributes = operation(is::COMMIT);
            attributes.extend([
                attribute(is::GROUP, group),
                integer(is::MESSAGE_COUNT, count(*records)),
                attribute(is::RESULT, result(*committed)),
            ]);
            (named(is::COMMIT, None), SpanKind::Client, attributes)
        }
    }
}

fn operation([name, kind]: [&'static str; 2]) -> Vec<KeyValue> {
    vec![attribute(is::SYSTEM, is::KAFKA), attribute(is::OPERATION_NAME, name), attribute(is::OPERATION_TYPE, kind)]
}

fn named([name, _]: [&'static str; 2], topic: Option<&str>) -> String {
    topic.map_or_else(|| name.to_owned(), |topic| format!("{name} {topic}"))
}

fn result(committed: bool) -> &'static str {
    if committed { "committed" } else { "aborted" }
}

fn count(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::traces::context::{SpanId, TraceId};
    use crate::telemetry::traces::span::{LINKS_MAX, Links, Parent, Settled};

    #[test]
    fn a_span_has_the_names_of_the_conventions() {
        let parent = Context { trace: TraceId::new(7).unwrap(), span: SpanId::new(8).unwrap(), flags: 1 };
        let mut links = Links::default();
        (0..LINKS_MAX + 3).for_each(|_| links.add(parent, true));
        let span = Span {
            trace: parent.trace,
            id: SpanId::new(9).unwrap(),
            parent: Some(Parent { id: parent.span, remote: true }),
            start: 20,
            end: 10,
            links,
            what: What::Process {
                group: "orders".into(),
                topic: "in".into(),
                partition: 3,
                offset: 41,
                transform: "redact".into(),
                settled: Settled { outcome: "failed", generation: 2 },
            },
            error: Some("guest.trap".into()),
        };
        let body = encode(&[("service.name".into(), "orders".into())], vec![span]);
        let request = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
        let scope = &request.resource_spans[0].scope_spans[0];
        assert_eq!(scope.schema_url, is::SCHEMA_URL);
        let span = &scope.spans[0];
        assert_eq!((span.name.as_str(), span.kind), ("process in", SpanKind::Consumer as i32));
        assert_eq!(span.parent_span_id, parent.span.bytes());
        assert_eq!(span.flags, 0x301);
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (20, 20), "no clock goes backwards in a span");
        assert_eq!((span.links.len(), span.dropped_links_count), (LINKS_MAX, 3));
        assert_eq!(span.status.as_ref().unwrap().code, status::StatusCode::Error as i32);
        let expected = [
            attribute("messaging.system", "kafka"),
            attribute("messaging.operation.name", "process"),
            attribute("messaging.operation.type", "process"),
            attribute("messaging.consumer.group.name", "orders"),
            attribute("messaging.destination.name", "in"),
            attribute("messaging.destination.partition.id", "3"),
            integer("messaging.kafka.offset", 41),
            attribute("pelton.transform.name", "redact"),
            integer("pelton.transform.generation", 2),
            attribute("pelton.outcome", "failed"),
            attribute("error.type", "guest.trap"),
        ];
        assert_eq!(span.attributes, expected);
    }
}
