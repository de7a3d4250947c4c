//! What Pelton tells about itself is true, to the record; says nothing of the records; and comes whoever asks for it.

use crate::support::{
    IDENTITY, LONG, Scene, Step, TESTER, assert_each_once_in_order, numbered, numbers, observed, with_quick_statistics,
};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{metric, number_data_point};
use pelton_integration::kafka::{Record, Undecided};
use pelton_integration::process::Pelton;
use pelton_integration::scrape::{Scrape, collector, free_port, get};
use pelton_integration::{eventually, guest};
use prost::Message;
use std::io::Write;
use std::process::{Command, Stdio};

const TOPICS: [(&str, i32); 8] =
    [("in", 2), ("out", 2), ("asked", 1), ("left", 1), ("right", 1), ("narrow", 1), ("dead", 1), ("idle", 3)];

/// With the admin server on this port, and statistics that need not be waited for.
fn quickly_observed(config: &str, port: u16) -> String {
    with_quick_statistics(&observed(config, port))
}

fn asks(words: &[(&str, usize)]) -> Vec<Record> {
    let record = |word: &str| Record { partition: 0, value: Some(word.as_bytes().to_vec()), ..Record::default() };
    words.iter().flat_map(|(word, count)| (0..*count).map(|_| record(word))).collect()
}

#[test]
fn every_number_is_what_happened() {
    let scene = Scene::new("metrics", &TOPICS);
    let port = free_port();
    let idle = Step { name: "idle", input: "idle", ..IDENTITY };
    let config = quickly_observed(&scene.config("", &[IDENTITY, TESTER, idle]), port);
    scene.produce("in", &numbered(0, 100));
    scene.produce("asked", &asks(&[("left", 10), ("none", 5), ("what", 3), ("trap", 2), ("both", 4)]));
    let mut pelton = Pelton::start(&config, "a");
    scene.reader("out").read(100, LONG);
    scene.reader("dead").read(5, LONG);
    let topic = |name: &str| scene.topic(name);
    let lag = |scrape: &Scrape, name: &str| scrape.value(&format!("pelton_lag_records{{topic=\"{}\"}}", topic(name)));
    let scrape = eventually("all is committed, and known to be", LONG, || {
        let scrape = Scrape::of(port)?;
        let settled = ["in", "asked", "idle"].iter().all(|name| lag(&scrape, name) == Some(0.0))
            && scrape.value("pelton_end_to_end_latency_seconds_count") == Some(124.0);
        settled.then_some(scrape)
    });
    let is = |series: &str, value: f64| assert_eq!(scrape.value(series), Some(value), "{series}\n{}", scrape.text);
    is("pelton_ready", 1.0);
    is("pelton_records_received_total{worker=\"0\"}", 124.0);
    // 100 kept, 10 to the left, 4 to both; dead letters are not among them.
    is("pelton_records_sent_total{worker=\"0\"}", 118.0);
    let key_and_value = |r: &Record| r.key.as_ref().map_or(0, Vec::len) + r.value.as_ref().map_or(0, Vec::len);
    let kept: usize = numbered(0, 100).iter().map(key_and_value).sum();
    is("pelton_bytes_received_total{worker=\"0\"}", (kept + 10 * 4 + 5 * 4 + 3 * 4 + 2 * 4 + 4 * 4) as f64);
    is("pelton_bytes_sent_total{worker=\"0\"}", (kept + 10 * 4 + 8 * 4) as f64);
    let outcomes = |transform: &str, expected: [f64; 5]| {
        for (outcome, n) in ["kept", "dropped", "emitted", "rejected", "failed"].iter().zip(expected) {
            is(&format!("pelton_outcomes_total{{transform=\"{transform}\",outcome=\"{outcome}\"}}"), n);
        }
    };
    outcomes("identity", [100.0, 0.0, 0.0, 0.0, 0.0]);
    outcomes("tester", [0.0, 5.0, 14.0, 3.0, 2.0]);
    outcomes("idle", [0.0; 5]);
    is("pelton_faults_total{transform=\"tester\",code=\"guest.trap\"}", 2.0);
    assert_eq!(scrape.sum("pelton_faults_total"), 2.0);
    is("pelton_dead_letters_total{transform=\"tester\"}", 5.0);
    assert_eq!((scrape.sum("pelton_dead_letters_total"), scrape.sum("pelton_skipped_total")), (5.0, 0.0));
    assert!(scrape.value("pelton_transactions_total{worker=\"0\",result=\"committed\"}").unwrap() > 0.0);
    is("pelton_transactions_total{worker=\"0\",result=\"aborted\"}", 0.0);
    is("pelton_assigned_partitions{worker=\"0\"}", 6.0);
    assert!(scrape.sum("pelton_rebalances_total") >= 1.0);
    for series in ["pelton_producer_renewals_total", "pelton_calls_left_behind", "pelton_transform_paused"] {
        assert_eq!(scrape.sum(series), 0.0, "{series}");
    }
    for (transform, records) in [("identity", 100.0), ("tester", 24.0), ("idle", 0.0)] {
        let of = |name: &str| scrape.value(&format!("{name}{{transform=\"{transform}\"}}")).unwrap();
        assert_eq!(of("pelton_batch_records_sum"), records, "{transform}");
        assert_eq!(of("pelton_batch_records_count"), of("pelton_process_duration_seconds_count"), "{transform}");
        let ran = records > 0.0;
        for name in ["pelton_process_duration_seconds_sum", "pelton_guest_fuel_total", "pelton_guest_memory_bytes"] {
            assert_eq!(of(name) > 0.0, ran, "{name} of {transform}");
        }
    }
    assert_eq!(
        scrape.value("pelton_commit_duration_seconds_count"),
        scrape.value("pelton_transactions_total{worker=\"0\",result=\"committed\"}")
    );
    for name in ["in", "asked"] {
        is(&format!("pelton_lag_seconds{{topic=\"{}\"}}", topic(name)), 0.0);
    }
    assert!(scrape.sum("pelton_worker_busy_seconds_total") > 0.0);
    let digest = |module: std::path::PathBuf| {
        pelton_sandbox::Digest::of(&std::fs::read(module).unwrap()).to_string()[..12].to_owned()
    };
    for (transform, module) in [("identity", guest::module("identity")), ("tester", guest::test_module("tester"))] {
        let digest = digest(module);
        is(&format!("pelton_generation_info{{transform=\"{transform}\",generation=\"1\",digest=\"{digest}\"}}"), 1.0);
    }
    // Two modules, three transforms.
    assert_eq!(scrape.sum("pelton_compiled_cache_total"), 2.0);
    promtool(&scrape.text);
    assert_eq!(pelton.stop(), Some(0));
}

/// Prometheus' own opinion, where its tool is installed; the scraper has looked at the format, and
/// `telemetry::definitions` at the names, in any case.
fn promtool(text: &str) {
    let started =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut promtool) = started else {
        eprintln!("promtool is not installed (Debian: prometheus): only our own rules have looked at the metrics");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "promtool: {said}");
}

#[test]
fn lag_is_there_while_nothing_is_committed_and_gone_when_all_is() {
    let scene = Scene::new("lag", &TOPICS);
    let port = free_port();
    let settings = "observe: { partition_metrics: true }";
    let config = quickly_observed(&scene.config(settings, &[IDENTITY, TESTER]), port).replace(
        "on_error: { then: dead_letter,",
        "on_error: { budget: { failures: 1, within: 1m, then: pause }, then: dead_letter,",
    );
    // The input of a transaction: the position after its last record is not the end, a marker is.
    scene.produce_in_transaction("in", &numbered(0, 500));
    let mut pelton = Pelton::start(&config, "a");
    let series = |name: &str, topic: &str, partition: i32| {
        format!("pelton_lag_{name}{{topic=\"{}\",partition=\"{partition}\"}}", scene.topic(topic))
    };
    let scrape_until = |what: &str, done: &dyn Fn(&Scrape) -> bool| {
        eventually(what, LONG, || Scrape::of(port).filter(|scrape| done(scrape)))
    };
    scene.reader("out").read(500, LONG);
    let scrape = scrape_until("the marker is nothing to wait for", &|scrape| {
        [0, 1].iter().all(|p| scrape.value(&series("records", "in", *p)) == Some(0.0))
    });
    assert_eq!(scrape.value(&series("seconds", "in", 0)), Some(0.0));
    // One failure pauses the topic; what comes later is not read, and the end is as of the last fetch.
    scene.produce("asked", &asks(&[("left", 1), ("trap", 1)]));
    let scrape = scrape_until("it is paused", &|scrape| {
        scrape.value("pelton_transform_paused{transform=\"tester\",cause=\"budget\"}") == Some(1.0)
    });
    assert_eq!(scrape.value("pelton_transform_paused{transform=\"tester\",cause=\"hand\"}"), Some(0.0));
    assert_eq!(scrape.value("pelton_transform_paused{transform=\"identity\",cause=\"budget\"}"), Some(0.0));
    assert_eq!(scrape.value("pelton_ready"), Some(0.0), "a person is needed");
    assert_eq!(pelton.stop(), Some(0));

    // A worker whose transform takes all its time is behind, and says since when.
    let slow = quickly_observed(&scene.config("", &[IDENTITY, TESTER]), port);
    let mut old = asks(&[("spin", 2_000)]);
    old.iter_mut().for_each(|record| record.timestamp_ms = Some(1_700_000_000_000));
    scene.produce("asked", &old);
    let mut pelton = Pelton::start(&slow, "a");
    let of_topic = |name: &str| format!("pelton_lag_{name}{{topic=\"{}\"}}", scene.topic("asked"));
    let scrape = scrape_until("it is behind, and by how long", &|scrape| {
        scrape.value(&of_topic("records")).is_some_and(|lag| lag > 0.0)
            && scrape.value(&of_topic("seconds")).is_some_and(|lag| lag > 10_000_000.0)
    });
    let behind = scrape.value(&of_topic("records")).unwrap();
    assert!(behind < 2_000.0, "something was committed: {behind}");
    scrape_until("it has caught up", &|scrape| {
        scrape.value(&of_topic("records")) == Some(0.0) && scrape.value(&of_topic("seconds")) == Some(0.0)
    });
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn a_partition_of_which_nobody_knows_where_to_begin_is_told_and_read_once_somebody_does() {
    let scene = Scene::new("noposition", &TOPICS);
    let port = free_port();
    let config = quickly_observed(&scene.config("", &[IDENTITY]), port);
    let undecided = Undecided::begin(&scene.broker.bootstrap, &scene.name, &scene.topic("in")).unwrap();
    let mut pelton = Pelton::start(&config, "a");
    let waiting = "pelton_partitions_without_position{worker=\"0\"}";
    let reach = |value| eventually(waiting, LONG, || Scrape::of(port).filter(|s| s.value(waiting) == Some(value)));
    let to = |(record, partition): (Record, i32)| Record { partition, ..record };
    scene.produce("in", &numbered(0, 100).into_iter().zip([0, 1].into_iter().cycle()).map(to).collect::<Vec<_>>());
    // The other partition is read meanwhile.
    let mut out = scene.reader("out");
    assert!(numbers(out.read(50, LONG)).iter().all(|number| number % 2 == 1), "of the second partition");
    reach(1.0);
    undecided.abort().unwrap();
    assert_each_once_in_order(out.read(100, LONG), 100);
    reach(0.0);
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn counts_go_on_over_a_reload_and_the_generation_is_told() {
    let scene = Scene::new("metricsreload", &TOPICS);
    let port = free_port();
    let marker = Step { name: "marker", guest: "marker", settings: "mark: a", ..IDENTITY };
    let config = |mark: &str| {
        quickly_observed(&scene.config("reload_on_change: false", &[Step { settings: mark, ..marker }]), port)
    };
    scene.produce("in", &numbered(0, 100));
    let mut pelton = Pelton::start(&config("mark: a"), "a");
    scene.reader("out").read(100, LONG);
    pelton.reconfigure(&config("mark: a, fail: true"));
    pelton.signal(libc::SIGHUP);
    let reloads = |result: &str| format!("pelton_reloads_total{{result=\"{result}\"}}");
    let reach = |what: &str, series: &str, value: f64| {
        eventually(what, LONG, || Scrape::of(port).filter(|scrape| scrape.value(series) == Some(value)))
    };
    let scrape = reach("it is refused", &reloads("refused"), 1.0);
    assert_eq!(scrape.value(&reloads("applied")), Some(0.0));
    let last = "pelton_last_reload_successful";
    reach("that is told until it is mended", last, 0.0);
    pelton.reconfigure(&config("mark: b"));
    pelton.signal(libc::SIGHUP);
    let scrape = reach("it is applied", &reloads("applied"), 1.0);
    assert_eq!(scrape.value("pelton_transform_held_back{transform=\"marker\"}"), Some(0.0));
    reach("it is mended", last, 1.0);
    let told: Vec<&String> =
        scrape.samples.keys().filter(|series| series.starts_with("pelton_generation_info")).collect();
    assert!(
        matches!(&told[..], [one] if one.contains("generation=\"3\"") || one.contains("generation=\"2\"")),
        "{told:?}"
    );
    scene.produce("in", &numbered(100, 200));
    scene.reader("out").read(200, LONG);
    reach("it counts on", "pelton_outcomes_total{transform=\"marker\",outcome=\"emitted\"}", 200.0);
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn a_collector_is_pushed_to_where_the_environment_asks_for_it() {
    let scene = Scene::new("otlp", &TOPICS);
    let (port, pushed) = collector();
    let endpoint = format!("http://127.0.0.1:{port}");
    scene.produce("in", &numbered(0, 100));
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=very%20secret"),
        // Nothing but the push at the end would come within the test.
        ("OTEL_METRIC_EXPORT_INTERVAL", "3600000"),
    ];
    let mut pelton = Pelton::start_in(&scene.config("", &[IDENTITY]), "a", &[], &env);
    scene.reader("out").read(100, LONG);
    assert_eq!(pelton.stop(), Some(0));
    let push = pushed.recv_timeout(LONG).unwrap();
    assert!(push.head.starts_with("POST /v1/metrics HTTP/1.1\r\n"), "{}", push.head);
    let head = push.head.to_ascii_lowercase();
    assert!(head.contains("api-key: very secret\r\n") && head.contains("content-type: application/x-protobuf\r\n"));
    let request = ExportMetricsServiceRequest::decode(push.body.as_slice()).unwrap();
    let of = &request.resource_metrics[0];
    let attributes = format!("{:?}", of.resource.as_ref().unwrap().attributes);
    assert!(attributes.contains("service.name") && attributes.contains(&scene.name), "{attributes}");
    let metrics = &of.scope_metrics[0].metrics;
    let received = metrics.iter().find(|m| m.name == "pelton_records_received_total").unwrap();
    let Some(metric::Data::Sum(sum)) = &received.data else { panic!("{received:?}") };
    assert_eq!(sum.data_points[0].value, Some(number_data_point::Value::AsInt(100)));
    let latency = metrics.iter().find(|m| m.name == "pelton_end_to_end_latency_seconds").unwrap();
    let Some(metric::Data::Histogram(histogram)) = &latency.data else { panic!("{latency:?}") };
    assert_eq!(histogram.data_points[0].count, 100);

    // One that is away is told once, and records flow.
    let gone = format!("http://127.0.0.1:{}", free_port());
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", gone.as_str()), ("OTEL_METRIC_EXPORT_INTERVAL", "50")];
    let mut pelton = Pelton::start_in(&scene.config("", &[IDENTITY]), "a", &[], &env);
    eventually("it is told", LONG, || pelton.log().contains("telemetry.push").then_some(()));
    scene.produce("in", &numbered(100, 200));
    scene.reader("out").read(200, LONG);
    assert_eq!(pelton.stop(), Some(0));
    assert_eq!(pelton.log().matches("telemetry.push").count(), 1, "{}", pelton.log());

    // What cannot be done is told, and records flow.
    let env = [("OTEL_EXPORTER_OTLP_ENDPOINT", gone.as_str()), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")];
    let mut pelton = Pelton::start_in(&scene.config("", &[IDENTITY]), "a", &[], &env);
    scene.produce("in", &numbered(200, 300));
    scene.reader("out").read(300, LONG);
    assert_eq!(pelton.stop(), Some(0));
    assert!(pelton.log().contains("OTEL_EXPORTER_OTLP_PROTOCOL: only http/protobuf"), "{}", pelton.log());
}

#[test]
fn it_is_alive_before_it_has_started_and_started_before_it_is_ready() {
    let scene = Scene::new("startup", &TOPICS);
    let port = free_port();
    // No broker answers: the topics cannot be looked up, and the start does not come to its end.
    let config = quickly_observed(&scene.config("", &[IDENTITY]), port);
    let nowhere = config.replace(&scene.broker.bootstrap, &format!("127.0.0.1:{}", free_port()));
    let mut pelton = Pelton::start(&nowhere, "a");
    let (status, _) = eventually("it is alive", LONG, || get(port, "/livez"));
    assert_eq!(status, 200);
    let (status, body) = get(port, "/startupz").unwrap();
    assert_eq!(status, 503);
    assert!(body.contains("\"started\":false") && body.contains("modules are compiled"), "{body}");
    assert_eq!(get(port, "/readyz").unwrap().0, 503);
    assert_eq!(Scrape::of(port).unwrap().value("pelton_ready"), Some(0.0));
    pelton.kill();

    let mut pelton = Pelton::start(&config, "a");
    // Else either could be the one that finds the port taken.
    eventually("it listens", LONG, || get(port, "/livez"));
    let mut other = Pelton::start(&config, "b");
    assert_eq!(other.wait(LONG).code(), Some(78), "a port that is taken is found before anything is done");
    assert!(other.log().contains("cannot listen on") && other.log().contains("admin.listen"), "{}", other.log());
    eventually("it has started", LONG, || get(port, "/startupz").filter(|(status, _)| *status == 200));
    eventually("it is ready", LONG, || get(port, "/readyz").filter(|(status, _)| *status == 200));
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn the_log_is_json_where_that_is_asked_for() {
    let scene = Scene::new("json", &TOPICS);
    scene.produce("asked", &asks(&[("say something", 2_000), ("trap", 200), ("left", 1)]));
    let env = [("PELTON_LOG_FORMAT", "json")];
    let config = scene.config("observe: { guest_text: true }", &[TESTER]);
    let mut pelton = Pelton::start_in(&config, "a", &[], &env);
    scene.reader("dead").read(200, LONG);
    assert_eq!(pelton.stop(), Some(0));
    let lines: Vec<serde_json::Value> =
        pelton.log().lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let rejected = |line: &&serde_json::Value| line["message"] == "record rejected";
    let rejected: Vec<&serde_json::Value> = lines.iter().filter(rejected).collect();
    assert!((1..50).contains(&rejected.len()), "{} lines for 200 records", rejected.len());
    assert_eq!(rejected[0]["code"], "guest.trap");
    assert_eq!(rejected[0]["transform"], "tester");
    assert_eq!(rejected[0]["level"], "WARN");
    // What guests say has a target and a budget (16 KiB a second) of its own.
    let said: Vec<&serde_json::Value> = lines.iter().filter(|line| line["target"] == "guest").collect();
    assert!(!said.is_empty() && said.len() < 2_000, "{} lines of the guest", said.len());
    assert_eq!(said[0]["message"], "say something");
    assert_eq!((&said[0]["transform"], &said[0]["generation"]), (&"tester".into(), &1.into()));
}

/// I10: whatever happens to a record, and however much is logged.
#[test]
fn neither_a_record_s_data_nor_a_secret_is_in_the_log_or_in_the_metrics() {
    const PASSWORD: &str = "hunter2-password";
    const SETTING: &str = "hunter2-setting";
    const HEADER: &str = "hunter2-header";
    const DATA: &str = "PAYLOADMARK";
    let scene = Scene::new("secrets", &TOPICS);
    let port = free_port();
    let (collects, pushed) = collector();
    let endpoint = format!("http://user:{PASSWORD}@127.0.0.1:{collects}");
    let headers = format!("api-key={HEADER}");
    let marker = Step { name: "marker", guest: "marker", settings: "mark: { env: PLANTED_SETTING }", ..IDENTITY };
    let config = quickly_observed(&scene.config("", &[marker, TESTER]), port).replace(
        "kafka:\n",
        "kafka:\n  properties: { security.protocol: plaintext, sasl.password: { env: PLANTED_PASSWORD } }\n",
    );
    let env = [
        ("PLANTED_PASSWORD", PASSWORD),
        ("PLANTED_SETTING", SETTING),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_EXPORTER_OTLP_HEADERS", &headers),
        ("OTEL_METRIC_EXPORT_INTERVAL", "100"),
        ("PELTON_LOG", "trace"),
        ("RUST_BACKTRACE", "1"),
    ];
    let planted = |word: &str| Record {
        partition: 0,
        key: Some(format!("key-{DATA}").into_bytes()),
        value: Some(format!("{word} {DATA}").into_bytes()),
        headers: vec![(format!("header-{DATA}"), Some(DATA.into()))],
        ..Record::default()
    };
    let words = ["left", "none", "trap", "spin", DATA, "both", "big"];
    scene.produce("asked", &words.map(planted));
    scene.produce("in", &[planted("left")]);
    let mut pelton = Pelton::start_in(&config, "a", &[], &env);
    // Rejected, trapped, without end, and too large for its topic or not: all but the well-behaved.
    let dead = scene.reader("dead").read(3, LONG).len();
    assert!(dead >= 3);
    let mark = scene.reader("out").read(1, LONG)[0].header("mark");
    assert_eq!(mark.as_deref(), Some(SETTING), "the secret did reach the guest");
    let scrape = eventually("all is committed", LONG, || {
        Scrape::of(port).filter(|scrape| scrape.value("pelton_end_to_end_latency_seconds_count") == Some(8.0))
    });
    let push = pushed.recv_timeout(LONG).unwrap();
    assert_eq!(pelton.stop(), Some(0));
    let body = String::from_utf8_lossy(&push.body).into_owned();
    for (place, text) in [("the log", pelton.log()), ("the metrics", scrape.text), ("what is pushed", body)] {
        assert!(text.len() > 1_000, "{place}: {text}");
        for secret in [PASSWORD, SETTING, HEADER, DATA] {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} in {place}: {line:?}");
        }
    }
}
