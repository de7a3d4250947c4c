//! A record on its way through: every byte, every null, every header, and the place where it lands.

use crate::support::{IDENTITY, LONG, Scene, Step, numbered};
use pelton_integration::kafka::{self, Record};
use pelton_integration::process::Pelton;

const CREATED: i64 = 1_700_000_000_123;

/// Every combination of null, empty and filled that Kafka knows, and headers that repeat.
fn odd_records() -> Vec<Record> {
    let parts = [None, Some(Vec::new()), Some(b"text".to_vec()), Some(vec![0, 255, 10, 0])];
    let mut records = Vec::new();
    for key in &parts {
        for value in &parts {
            let i = records.len() as i64;
            records.push(Record {
                partition: 0,
                offset: i,
                timestamp_ms: Some(CREATED + i),
                key: key.clone(),
                value: value.clone(),
                headers: match i % 3 {
                    0 => Vec::new(),
                    1 => vec![("a".into(), Some(b"1".to_vec())), ("a".into(), None), ("a".into(), Some(Vec::new()))],
                    _ => vec![("trace".into(), Some(vec![0, 1, 2])), ("Grüße".into(), Some("Grüße".into()))],
                },
            });
        }
    }
    records
}

#[test]
fn nulls_tombstones_headers_and_timestamps_pass_byte_for_byte() {
    let scene = Scene::new("bytes", &[("in", 1), ("out", 1), ("left", 1), ("right", 1)]);
    // `identity` keeps (the host writes the input again), `tee` emits (the guest writes it): both ways must agree.
    let tee = Step { name: "tee", guest: "tee", output: "left", also: &["right"], ..IDENTITY };
    let records = odd_records();
    scene.produce("in", &records);
    let mut pelton = Pelton::start(&scene.config("", &[IDENTITY, tee]), "a");
    for topic in ["out", "left", "right"] {
        let mut reader = scene.reader(topic);
        let seen = reader.read(records.len(), LONG);
        assert_eq!(seen.len(), records.len());
        for (seen, sent) in seen.iter().zip(&records) {
            // Offsets of a transactional topic are its own.
            assert_eq!(Record { offset: 0, ..seen.clone() }, Record { offset: 0, ..sent.clone() }, "{topic}");
        }
    }
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn every_codec_is_read_and_written() {
    let scene = Scene::new("codecs", &[]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let scene = Scene { broker: scene.broker, name: format!("{}-{codec}", scene.name) };
        let (input, output) = (scene.topic("in"), scene.topic("out"));
        kafka::create_topics(&scene.broker.bootstrap, &[(&input, 2), (&output, 2)]).unwrap();
        kafka::produce(&scene.broker.bootstrap, &input, codec, &numbered(0, 1_000)).unwrap();
        let settings = scene.kafka(&format!("  producer: {{ properties: {{ compression.codec: {codec} }} }}\n"));
        let mut pelton = Pelton::start(&scene.config(&settings, &[IDENTITY]), "a");
        crate::support::assert_each_once_in_order(scene.reader("out").read(1_000, LONG), 1_000);
        assert_eq!(pelton.stop(), Some(0), "{codec}");
    }
}

#[test]
fn a_key_lands_where_java_and_librdkafka_put_it_and_a_null_key_by_its_input_partition() {
    let scene = Scene::new("murmur2", &[("in", 3), ("out", 7), ("reference", 7)]);
    let keyed = numbered(0, 500);
    scene.produce("in", &keyed);
    // librdkafka's own murmur2 partitioner, which is tested against Java's.
    scene.produce("reference", &keyed);
    let unkeyed: Vec<Record> = (0..3)
        .flat_map(|partition| {
            let null =
                move |i| Record { partition, value: Some(format!("null-{partition}-{i}").into()), ..Record::default() };
            (0..20).map(null)
        })
        .collect();
    scene.produce("in", &unkeyed);
    let mut pelton = Pelton::start(&scene.config("", &[IDENTITY]), "a");
    let place = |records: &[Record]| {
        let mut places: Vec<_> = records.iter().map(|r| (r.key.clone(), r.value.clone(), r.partition)).collect();
        places.sort();
        places
    };
    let mut out = scene.reader("out");
    out.read(560, LONG);
    let (null, some): (Vec<Record>, Vec<Record>) = out.records.iter().cloned().partition(|r| r.key.is_none());
    assert_eq!(place(&some), place(scene.reader("reference").read(500, LONG)));
    assert_eq!(null.len(), 60);
    for record in null {
        let from: i32 = record.text().split('-').nth(1).unwrap().parse().unwrap();
        assert_eq!(record.partition, from, "input partition {from} of 3 to 7");
    }
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn a_poison_record_goes_to_the_dead_letters_and_its_neighbours_pass() {
    let scene = Scene::new("poison", &[("in", 1), ("out", 1), ("dead", 2)]);
    let redact =
        Step { name: "redact", guest: "redact", settings: "fields: card", dead_letters: Some("dead"), ..IDENTITY };
    let mut records: Vec<Record> = (0..300)
        .map(|i| Record {
            partition: 0,
            timestamp_ms: Some(CREATED + i),
            key: Some(format!("k{i}").into_bytes()),
            value: Some(format!(r#"{{"id":{i},"card":"4111-{i}"}}"#).into_bytes()),
            headers: vec![("n".into(), Some(i.to_string().into_bytes()))],
            ..Record::default()
        })
        .collect();
    for poison in [0, 77, 78, 299] {
        records[poison].value = Some(b"{ not json".to_vec());
    }
    scene.produce("in", &records);
    let mut pelton = Pelton::start(&scene.config("", &[redact]), "a");
    let mut out = scene.reader("out");
    let passed: Vec<i64> = out
        .read(296, LONG)
        .iter()
        .map(|r| {
            assert!(!r.text().contains("4111"), "redacted: {}", r.text());
            r.header("n").unwrap().parse().unwrap()
        })
        .collect();
    assert_eq!(passed, (0..300).filter(|i| ![0, 77, 78, 299].contains(i)).collect::<Vec<i64>>());
    let mut dead = scene.reader("dead");
    dead.read(4, LONG);
    assert_eq!(dead.records.len(), 4);
    for (letter, poison) in dead.records.iter().zip([0_i64, 77, 78, 299]) {
        let sent = &records[poison as usize];
        assert_eq!((&letter.key, &letter.value, letter.timestamp_ms), (&sent.key, &sent.value, sent.timestamp_ms));
        assert_eq!(letter.headers[0], sent.headers[0], "its own headers come first, as they were");
        assert_eq!(letter.header("__dlq.errors.topic"), Some(scene.topic("in")));
        assert_eq!(letter.header("__dlq.errors.partition").as_deref(), Some("0"));
        assert_eq!(letter.header("__dlq.errors.offset"), Some(poison.to_string()));
        assert_eq!(letter.header("__dlq.errors.group").as_deref(), Some(&*scene.name));
        assert_eq!(letter.header("pelton.error.code").as_deref(), Some("guest.rejected"));
        assert_eq!(letter.header("pelton.error.transform").as_deref(), Some("redact"));
        assert_eq!(letter.header("pelton.error.digest").map(|d| d.len()), Some(64));
        assert!(letter.header("__dlq.errors.message").is_some_and(|m| !m.is_empty()));
        assert_eq!(letter.partition, 0, "the input's partition modulo the topic's count");
    }
    assert_eq!(pelton.stop(), Some(0));
    // I10: coordinates and code are in the log, neither the record nor the guest's words.
    assert!(pelton.log().contains("guest.rejected"), "{}", pelton.log());
    assert!(!pelton.log().contains("not json"), "{}", pelton.log());
}
