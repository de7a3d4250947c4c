//! Families as OTLP's protobuf messages: the same names, labels and values as for Prometheus, all cumulative since the
//! start of the process. Also what the messages of all signals share: the resource, the scope, attributes.

use super::collect::{Family, Point, Value};
use super::definitions::Kind;
use crate::dataplane::histogram::Reading;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;

/// When the numbers begin and when they were read, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub start: u64,
    pub now: u64,
}

/// The body of one push.
pub fn encode(families: &[Family], resource: &[(String, String)], span: Span) -> Vec<u8> {
    let metrics = families.iter().filter(|family| !family.points.is_empty()).map(|family| metric(family, span));
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(self::resource(resource)),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(scope()),
                metrics: metrics.collect(),
                schema_url: String::new(),
            }],
            schema_url: String::new(),
        }],
    };
    request.encode_to_vec()
}

/// Who tells it, with these attributes.
pub(super) fn resource(attributes: &[(String, String)]) -> Resource {
    let attributes = attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    Resource { attributes, ..Default::default() }
}

pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "pelton".into(), version: env!("CARGO_PKG_VERSION").into(), ..Default::default() }
}

fn metric(family: &Family, span: Span) -> Metric {
    let definition = family.definition;
    let temporality = AggregationTemporality::Cumulative as i32;
    let numbers = || family.points.iter().filter_map(|point| number(point, span)).collect();
    let data = match definition.kind {
        Kind::Counter => {
            metric::Data::Sum(Sum { data_points: numbers(), aggregation_temporality: temporality, is_monotonic: true })
        }
        Kind::Gauge => metric::Data::Gauge(Gauge { data_points: numbers() }),
        Kind::Histogram => metric::Data::Histogram(Histogram {
            data_points: family.points.iter().filter_map(|point| histogram(point, span)).collect(),
            aggregation_temporality: temporality,
        }),
    };
    Metric {
        name: definition.name.into(),
        description: definition.help.into(),
        unit: definition.unit.into(),
        metadata: Vec::new(),
        data: Some(data),
    }
}

fn number(point: &Point, span: Span) -> Option<NumberDataPoint> {
    let value = match &point.value {
        Value::Integer(n) => number_data_point::Value::AsInt(i64::try_from(*n).unwrap_or(i64::MAX)),
        Value::Float(x) => number_data_point::Value::AsDouble(*x),
        Value::Histogram(_) => return None,
    };
    Some(NumberDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: span.start,
        time_unix_nano: span.now,
        value: Some(value),
        ..Default::default()
    })
}

fn histogram(point: &Point, span: Span) -> Option<HistogramDataPoint> {
    let Value::Histogram(reading) = &point.value else { return None };
    let Reading { bounds, buckets, sum } = reading;
    Some(HistogramDataPoint {
        attributes: attributes(point),
        start_time_unix_nano: span.start,
        time_unix_nano: span.now,
        count: reading.count(),
        sum: Some(*sum),
        bucket_counts: buckets.clone(),
        explicit_bounds: bounds.clone(),
        ..Default::default()
    })
}

fn attributes(point: &Point) -> Vec<KeyValue> {
    point.labels.iter().map(|(key, value)| attribute(key, value)).collect()
}

pub(super) fn attribute(key: &str, value: &str) -> KeyValue {
    valued(key, any_value::Value::StringValue(value.to_owned()))
}

pub(super) fn integer(key: &str, value: i64) -> KeyValue {
    valued(key, any_value::Value::IntValue(value))
}

pub(super) fn valued(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::histogram::{self as scales};
    use crate::telemetry::definitions as is;

    #[test]
    fn what_prometheus_scrapes_is_what_otlp_pushes() {
        let latency = scales::Histogram::new(&scales::LATENCY);
        latency.observe(7, 3);
        let points = |value| vec![Point { labels: vec![("transform", "t".into())], value }];
        let families = [
            Family { definition: &is::SKIPPED, points: points(Value::Integer(7)) },
            Family { definition: &is::READY, points: points(Value::Float(0.5)) },
            Family { definition: &is::LATENCY, points: points(Value::Histogram(latency.read())) },
            Family { definition: &is::FAULTS, points: Vec::new() },
        ];
        let body = encode(&families, &[("service.name".into(), "orders".into())], Span { start: 1, now: 2 });
        let request = ExportMetricsServiceRequest::decode(body.as_slice()).unwrap();
        let [of_resource] = &request.resource_metrics[..] else { panic!("one resource") };
        assert_eq!(of_resource.resource.as_ref().unwrap().attributes, [attribute("service.name", "orders")]);
        let metrics = &of_resource.scope_metrics[0].metrics;
        assert_eq!(metrics.len(), 3, "a family without points is not there");
        let Some(metric::Data::Sum(sum)) = &metrics[0].data else { panic!("a counter is a sum") };
        assert!(sum.is_monotonic && sum.aggregation_temporality == AggregationTemporality::Cumulative as i32);
        let point = &sum.data_points[0];
        assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (1, 2));
        assert_eq!(point.value, Some(number_data_point::Value::AsInt(7)));
        assert_eq!(point.attributes, [attribute("transform", "t")]);
        let Some(metric::Data::Gauge(gauge)) = &metrics[1].data else { panic!("a gauge is a gauge") };
        assert_eq!(gauge.data_points[0].value, Some(number_data_point::Value::AsDouble(0.5)));
        let Some(metric::Data::Histogram(histogram)) = &metrics[2].data else { panic!("a histogram is one") };
        let point = &histogram.data_points[0];
        assert_eq!((point.count, point.sum), (3, Some(0.021)));
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
        assert_eq!((point.explicit_bounds[1], point.bucket_counts[1]), (0.01, 3));
    }
}
