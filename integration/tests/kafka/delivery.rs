//! Policies and routes: what happens to a record besides passing.

use crate::support::{IDENTITY, LONG, Scene, Step, numbered, numbers};
use pelton_integration::eventually;
use pelton_integration::kafka::Record;
use pelton_integration::process::Pelton;
use std::time::Duration;

fn json(key: &str, value: &str) -> Record {
    Record { partition: -1, key: Some(key.into()), value: Some(value.into()), ..Record::default() }
}

#[test]
fn a_policy_of_stop_ends_the_process_before_the_record_and_commits_what_came_before() {
    let scene = Scene::new("stop", &[("in", 1), ("out", 1)]);
    let redact = Step { name: "redact", guest: "redact", settings: "fields: card", ..IDENTITY };
    let config = scene.config("", &[redact]);
    let mut pelton = Pelton::start(&config, "a");
    scene.produce("in", &(0..10).map(|i| json("k", &format!(r#"{{"id":{i}}}"#))).collect::<Vec<_>>());
    scene.reader("out").read(10, LONG);
    scene.produce("in", &[json("k", "poison")]);
    let status = pelton.wait(LONG);
    assert_eq!(status.code(), Some(1), "log:\n{}", pelton.log());
    assert!(pelton.log().contains("transform.stopped"), "{}", pelton.log());
    assert_eq!(scene.committed("in", 1), [10], "the record is still there for whoever mends it");
}

#[test]
fn split_makes_many_records_of_one_and_route_sends_each_where_its_field_says() {
    let scene = Scene::new("chain", &[("in", 2), ("items", 2), ("other", 2), ("eu", 2), ("us", 2)]);
    let split =
        Step { name: "split", guest: "split", input: "in", output: "items", settings: "field: items", ..IDENTITY };
    let route = Step {
        name: "route",
        guest: "route",
        input: "items",
        output: "other",
        also: &["eu", "us"],
        settings: r#"field: region, eu: "TOPIC:eu", us: "TOPIC:us""#,
        ..IDENTITY
    };
    let config = scene.config("", &[split, route]);
    let mut pelton = Pelton::start(&config, "a");
    let order =
        r#"{"items":[{"region":"eu","n":1},{"region":"us","n":2},{"region":"eu","n":3},{"region":"mars","n":4}]}"#;
    scene.produce("in", &[json("o", order)]);
    let values = |topic: &str, count| -> Vec<String> {
        scene.reader(topic).read(count, LONG).iter().map(Record::text).collect()
    };
    assert_eq!(values("eu", 2), [r#"{"region":"eu","n":1}"#, r#"{"region":"eu","n":3}"#]);
    assert_eq!(values("us", 1), [r#"{"region":"us","n":2}"#]);
    assert_eq!(values("other", 1), [r#"{"region":"mars","n":4}"#]);
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn an_output_larger_than_kafka_takes_goes_to_the_dead_letters_without_half_a_record_written() {
    let scene = Scene::new("large", &[("in", 1), ("left", 1), ("right", 1), ("dead", 1)]);
    let tee =
        Step { name: "tee", guest: "tee", output: "left", also: &["right"], dead_letters: Some("dead"), ..IDENTITY };
    // What the producer takes is less than what came in: neither output fits, but the limit of a dead letter is the
    // same, so it is set between the record with one set of headers and nothing at all.
    let kafka = scene.kafka("  producer: { properties: { message.max.bytes: 60000 } }\n");
    let config = scene.config(&kafka, &[tee]);
    let mut pelton = Pelton::start(&config, "a");
    let big = Record { partition: 0, key: Some("big".into()), value: Some(vec![b'x'; 60_100]), ..Record::default() };
    scene.produce("in", &numbered(0, 5));
    scene.reader("right").read(5, LONG);
    scene.produce("in", &[big]);
    let status = pelton.wait(LONG);
    // The dead letter is as large as the record: it cannot be written, and a record is never skipped for that.
    assert_eq!(status.code(), Some(1), "log:\n{}", pelton.log());
    assert!(pelton.log().contains("dead_letter.unwritable"), "{}", pelton.log());
    assert_eq!(scene.committed("in", 1), [5]);
    assert_eq!(scene.reader("left").read(5, LONG).len(), 5, "no half of the large one");
}

#[test]
fn start_latest_passes_over_what_was_there_and_counts_only_where_nothing_is_committed() {
    let scene = Scene::new("latest", &[("in", 2), ("out", 2)]);
    scene.produce("in", &numbered(0, 100));
    let config = scene.config("", &[IDENTITY]).replace(
        &format!("topics: [{}]", scene.topic("in")),
        &format!("topics: [{}], start: latest", scene.topic("in")),
    );
    let mut pelton = Pelton::start(&config, "a");
    eventually("partitions", LONG, || pelton.log().contains("owned=2").then_some(()));
    let mut out = scene.reader("out");
    // Assigned is not yet fetching, and each partition begins on its own: feed until both have a committed position.
    let mut next = 100;
    eventually("outputs of both partitions", LONG, || {
        scene.produce("in", &numbered(next, next + 10));
        next += 10;
        out.poll(Duration::from_millis(500)).unwrap();
        [0, 1].iter().all(|p| out.records.iter().any(|r| r.partition == *p)).then_some(())
    });
    assert!(numbers(&out.records).iter().all(|n| *n >= 100), "old records were read");
    assert_eq!(pelton.stop(), Some(0));
    let away: Vec<usize> = (next..next + 50).collect();
    scene.produce("in", &numbered(next, next + 50));
    let mut pelton = Pelton::start(&config, "a");
    eventually("what came while no process ran", LONG, || {
        out.poll(Duration::from_millis(500)).unwrap();
        let seen = numbers(&out.records);
        away.iter().all(|n| seen.contains(n)).then_some(())
    });
    assert_eq!(pelton.stop(), Some(0));
}
