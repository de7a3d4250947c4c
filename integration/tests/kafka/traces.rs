//! Records are followed from header to header through Kafka, and what is told of them is true and holds none of their data.

use crate::support::{IDENTITY, LONG, Scene, Step, TESTER, observed};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use pelton_integration::collected::{Collected, ids, text};
use pelton_integration::eventually;
use pelton_integration::kafka::Record;
use pelton_integration::process::Pelton;
use pelton_integration::scrape::{Scrape, collector, free_port};

/// Reads what the other wrote.
const NEXT: Step<'_> = Step { name: "next", input: "out", output: "end", ..IDENTITY };

const TOPICS: [(&str, i32); 8] =
    [("in", 1), ("out", 1), ("end", 1), ("asked", 1), ("left", 1), ("right", 1), ("narrow", 1), ("dead", 1)];

const FOLLOWED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNFOLLOWED: &str = "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-00";
/// What the guest `tester` sets when it is asked to.
const OWN: &str = "00-99999999999999999999999999999999-8888888888888888-01";
const DATA: &str = "PAYLOADMARK";
const STATE: &str = "vendor=PAYLOADMARK";

/// A record with data in every place that a record has.
fn record(word: &str, traceparent: Option<&str>) -> Record {
    let mut headers = vec![(format!("header-{DATA}"), Some(DATA.into()))];
    headers.extend(traceparent.map(|parent| ("traceparent".to_owned(), Some(parent.into()))));
    headers.extend(traceparent.map(|_| ("tracestate".to_owned(), Some(STATE.into()))));
    Record {
        partition: 0,
        key: Some(format!("key-{DATA}").into_bytes()),
        value: Some(format!("{word} {DATA}").into_bytes()),
        headers,
        ..Record::default()
    }
}

fn parents(record: &Record) -> Vec<String> {
    let parents = record.headers.iter().filter(|(key, _)| key == "traceparent");
    parents.map(|(_, value)| String::from_utf8(value.clone().unwrap()).unwrap()).collect()
}

/// The span whose id a record carries on.
fn of<'c>(collected: &'c Collected, record: &Record) -> &'c Span {
    let (trace, span) = ids(&record.header("traceparent").unwrap());
    let told = collected.spans.iter().find(|told| (&told.trace_id, &told.span_id) == (&trace, &span));
    told.unwrap_or_else(|| panic!("nothing is told of {trace:?} {span:?}"))
}

#[test]
fn a_record_s_trace_goes_on_in_its_outputs_and_is_told() {
    let scene = Scene::new("traces", &TOPICS);
    let port = free_port();
    let (collects, pushed) = collector();
    let endpoint = format!("http://127.0.0.1:{collects}");
    let config = observed(&scene.config("", &[IDENTITY, NEXT, TESTER]), port);
    scene.produce("in", &[Some(FOLLOWED), None, Some(UNFOLLOWED), Some(OTHER)].map(|parent| record("", parent)));
    let asked = ["bare", "own", "both", "trap"].map(|word| record(word, Some(FOLLOWED)));
    scene.produce("asked", &asked);
    scene.produce("asked", &[record("bare", Some(UNFOLLOWED)), record("trap", None)]);
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_LOGS_EXPORTER", "otlp"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        ("OTEL_BLRP_SCHEDULE_DELAY", "50"),
        ("PELTON_LOG", "trace"),
    ];
    let mut pelton = Pelton::start_in(&config, "a", &[], &env);
    let end = scene.reader("end").read(4, LONG).to_vec();
    let left = scene.reader("left").read(4, LONG).to_vec();
    let dead = scene.reader("dead").read(2, LONG).to_vec();
    let out = scene.reader("out").read(4, LONG).to_vec();
    let mut collected = Collected::default();
    let sent = "pelton_telemetry_items_total{signal=\"traces\",result=\"sent\"}";
    let scrape = eventually("the commit of all is told", LONG, || {
        collected.take(&pushed);
        // The last of a transaction; by then its other spans are told.
        let settled: i64 = collected.named("commit").iter().map(|commit| commit.links.len() as i64).sum();
        Scrape::of(port).filter(|scrape| settled >= 8 && scrape.value(sent) >= Some(8.0))
    });
    assert_eq!(scrape.value("pelton_telemetry_items_total{signal=\"traces\",result=\"dropped\"}"), Some(0.0));
    assert_eq!(pelton.stop(), Some(0));
    collected.take(&pushed);

    // Of four records two are followed, through two transforms: the second one's parent is the first one's span.
    let name = |topic: &str| format!("process {}", scene.topic(topic));
    assert_eq!(collected.named(&name("in")).len(), 2);
    assert_eq!(collected.named(&name("out")).len(), 2);
    for (at, parent) in [(0, FOLLOWED), (3, OTHER)] {
        assert_eq!(parents(&out[at]).len(), 1);
        assert_eq!(out[at].header("tracestate").as_deref(), Some(STATE), "goes on as it came");
        let (trace, before) = ids(parent);
        let (first, second) = (of(&collected, &out[at]), of(&collected, &end[at]));
        assert_eq!((&first.trace_id, &first.parent_span_id), (&trace, &before));
        assert_eq!((&second.trace_id, &second.parent_span_id), (&trace, &first.span_id));
        assert_eq!(text(&first.attributes, "messaging.kafka.offset"), at.to_string());
        assert_eq!(text(&first.attributes, "messaging.destination.name"), scene.topic("in"));
        assert_eq!(text(&first.attributes, "pelton.outcome"), "kept");
        assert_eq!(text(&second.attributes, "pelton.transform.name"), "next");
    }
    assert_eq!((parents(&out[1]), parents(&end[1])), (vec![], vec![]), "no trace begins by default");
    assert_eq!((parents(&out[2]), parents(&end[2])), (vec![UNFOLLOWED.into()], vec![UNFOLLOWED.into()]));

    // What a guest leaves out goes on, what it sets itself stands; a dead letter is the record as it was.
    let by_value = |records: &[Record], value: &str| -> Vec<Record> {
        records.iter().filter(|record| record.text().starts_with(value)).cloned().collect()
    };
    let bare = by_value(&left, "bare");
    assert_eq!(ids(&parents(&bare[0])[0]).0, ids(FOLLOWED).0);
    assert_eq!(bare[0].header("tracestate").as_deref(), Some(STATE));
    assert_eq!(text(&of(&collected, &bare[0]).attributes, "pelton.outcome"), "emitted");
    assert_eq!(bare[0].headers.len(), 2, "and nothing else");
    assert_eq!(parents(&bare[1]), [UNFOLLOWED]);
    assert_eq!(parents(&by_value(&left, "own")[0]), [OWN]);
    assert_eq!(parents(&dead[0]), [FOLLOWED]);
    assert_eq!(parents(&dead[1]), Vec::<String>::new());
    let failed: Vec<&Span> =
        collected.spans.iter().filter(|span| text(&span.attributes, "error.type") == "guest.trap").collect();
    let [failed] = failed[..] else { panic!("{failed:?}") };
    assert_eq!(failed.status.as_ref().unwrap().code, StatusCode::Error as i32);

    // Each transaction's spans are one trace, linked with those of its records.
    let processed: Vec<&Span> = collected.spans.iter().filter(|span| span.name.starts_with("process ")).collect();
    assert_eq!(processed.len(), 8);
    let links = |name: &str| -> Vec<(Vec<u8>, Vec<u8>)> {
        let links = collected.spans.iter().filter(|span| span.name.starts_with(name)).flat_map(|span| &span.links);
        links.map(|link| (link.trace_id.clone(), link.span_id.clone())).collect()
    };
    let (committed, received) = (links("commit"), links("receive"));
    for span in &processed {
        let own = (span.trace_id.clone(), span.span_id.clone());
        assert_eq!(committed.iter().filter(|link| **link == own).count(), 1, "{span:?}");
        assert!(received.contains(&(span.trace_id.clone(), span.parent_span_id.clone())));
        let batch = &span.links[0];
        assert!(collected.spans.iter().any(|span| span.span_id == batch.span_id && span.name.starts_with("receive")));
    }
    for transaction in collected.named("transaction") {
        let children = collected.spans.iter().filter(|span| span.parent_span_id == transaction.span_id);
        let names: Vec<&str> = children.map(|span| span.name.split(' ').next().unwrap()).collect();
        for part in ["receive", "send", "commit"] {
            assert!(names.contains(&part), "{names:?}");
        }
        assert_eq!(text(&transaction.attributes, "pelton.transaction.result"), "committed");
    }
    assert!(!collected.named(&format!("send {}", scene.topic("dead"))).is_empty());
    assert!(collected.schema_urls.iter().all(|url| url.starts_with("https://opentelemetry.io/schemas/")));

    // The log's line about the record that failed belongs to its trace.
    let rejected: Vec<_> =
        collected.lines.iter().filter(|(_, line)| text(&line.attributes, "code") == "guest.trap").collect();
    let (target, line) = rejected[0];
    assert_eq!((target.as_str(), line.severity_text.as_str()), ("pelton::dataplane::outcome", "WARN"));
    assert_eq!((&line.trace_id, &line.span_id), (&failed.trace_id, &failed.span_id));

    for (place, text) in collected.bodies.iter().map(|body| ("a push", String::from_utf8_lossy(body).into_owned())) {
        assert!(!text.contains(DATA), "{place}: {text}");
    }
    assert!(!pelton.log().contains(DATA), "{}", pelton.log());
}

#[test]
fn what_is_not_followed_is_not_told_and_keeps_its_bytes() {
    let scene = Scene::new("untraced", &TOPICS);
    let (collects, pushed) = collector();
    let endpoint = format!("http://127.0.0.1:{collects}");
    let records = [Some(FOLLOWED), None, Some(UNFOLLOWED)].map(|parent| record("", parent));
    let mut count = 0;
    for off in [
        ("OTEL_TRACES_SAMPLER", "always_off"),
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_SDK_DISABLED", "true"),
        // Nobody can do that: it is told, and nothing is followed.
        ("OTEL_TRACES_SAMPLER", "xray"),
    ] {
        let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_METRICS_EXPORTER", "none"), off];
        scene.produce("in", &records);
        let mut pelton = Pelton::start_in(&scene.config("", &[IDENTITY]), "a", &[], &env);
        count += records.len();
        let out = scene.reader("out").read(count, LONG)[count - records.len()..].to_vec();
        assert_eq!(pelton.stop(), Some(0));
        for (before, after) in records.iter().zip(&out) {
            assert_eq!(before.headers, after.headers, "{off:?}");
        }
        assert_eq!(pelton.log().contains("OTEL_TRACES_SAMPLER: only"), off.1 == "xray", "{}", pelton.log());
    }
    let pushes: Vec<String> = pushed.try_iter().map(|push| push.head).collect();
    assert!(pushes.is_empty(), "{pushes:?}");
}

/// A collector that is away costs neither records nor the end of the process.
#[test]
fn without_a_collector_spans_are_dropped_and_records_flow() {
    let scene = Scene::new("nocollector", &TOPICS);
    let port = free_port();
    let gone = format!("http://127.0.0.1:{}", free_port());
    let config = observed(&scene.config("", &[IDENTITY]), port);
    let env = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", gone.as_str()),
        ("OTEL_TRACES_SAMPLER", "always_on"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
        ("OTEL_BSP_SCHEDULE_DELAY", "10"),
    ];
    let mut pelton = Pelton::start_in(&config, "a", &[], &env);
    let records: Vec<Record> = (0..500).map(|i| record(&i.to_string(), None)).collect();
    scene.produce("in", &records);
    let out = scene.reader("out").read(500, LONG).to_vec();
    assert!(out.iter().all(|record| parents(record).len() == 1), "they are part of traces all the same");
    let dropped = "pelton_telemetry_items_total{signal=\"traces\",result=\"dropped\"}";
    eventually("it is counted", LONG, || {
        Scrape::of(port).filter(|scrape| scrape.value(dropped).is_some_and(|count| count >= 480.0))
    });
    assert_eq!(pelton.stop(), Some(0));
    assert_eq!(pelton.log().matches("telemetry.push").count(), 1, "{}", pelton.log());
}
