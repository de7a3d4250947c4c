//! The operator's side of the client over librdkafka's mock cluster: what becomes of a coordinator's errors, and that a
//! bounded reading ends where it was told to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use pelton_kafka::{
    Admin, At, Output, Partitioning, Position, Producer, Properties, Reader, Refusal, TopicPartition, Unreached, probe,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

type Mock = MockCluster<'static, DefaultProducerContext>;

fn mock() -> Mock {
    let mock = MockCluster::new(1).unwrap();
    mock.create_topic("in", 2, 1).unwrap();
    mock
}

fn properties(mock: &Mock) -> Properties {
    Properties::new().with("bootstrap.servers", mock.bootstrap_servers()).with("group.id", "tools")
}

fn partitions() -> Vec<TopicPartition> {
    (0..2).map(|partition| TopicPartition { topic: "in".into(), partition }).collect()
}

fn produce(mock: &Mock, partition: i32, values: std::ops::Range<u8>) {
    let properties = Properties::new().with("bootstrap.servers", mock.bootstrap_servers());
    let producer = Producer::new(&properties, &["in".into()]).unwrap();
    for value in values {
        let output = Output {
            topic: 0,
            partitioning: Partitioning::Fixed(partition),
            timestamp_ms: None,
            key: None,
            value: Some(&[value]),
            headers: &[],
        };
        producer.produce(&output).unwrap();
    }
    producer.flush(LONG).unwrap();
}

/// librdkafka 2.12.1 follows a null pointer in this case where the client is a producer.
#[test]
fn a_coordinator_that_has_moved_crashes_nobody_and_is_asked_again() {
    let mock = mock();
    let admin = Admin::new(&properties(&mock), LONG).unwrap();
    let none = Code::RD_KAFKA_RESP_ERR_NOT_COORDINATOR;
    let unstable = Code::RD_KAFKA_RESP_ERR_UNSTABLE_OFFSET_COMMIT;
    mock.request_errors(Api::OffsetFetch, &[none, none, unstable]);
    assert_eq!(admin.committed("orders", &partitions(), true).unwrap(), [None, None]);
}

#[test]
fn a_missing_right_is_told_from_a_broker_that_does_not_answer() {
    let mock = mock();
    let admin = Admin::new(&properties(&mock), LONG).unwrap();
    mock.request_errors(Api::OffsetFetch, &[Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED]);
    assert_eq!(admin.committed("orders", &partitions(), false).unwrap_err().refusal(), Refusal::Denied);
    let nowhere = properties(&mock).with("bootstrap.servers", "127.0.0.1:1");
    let admin = Admin::new(&nowhere, Duration::from_secs(1)).unwrap();
    assert_eq!(admin.offsets(&partitions(), At::End).unwrap_err().refusal(), Refusal::Unreachable);
    assert_eq!(admin.committed("orders", &partitions(), false).unwrap_err().refusal(), Refusal::Unreachable);
}

#[test]
fn a_bounded_reading_ends_at_its_end_though_records_keep_coming() {
    let mock = mock();
    produce(&mock, 0, 0..10);
    produce(&mock, 1, 10..15);
    let admin = Admin::new(&properties(&mock), LONG).unwrap();
    let end = admin.offsets(&partitions(), At::End).unwrap();
    assert_eq!(end, [Some(Position(10)), Some(Position(5))]);
    assert_eq!(admin.offsets(&partitions(), At::Low).unwrap(), [Some(Position(0)); 2]);
    produce(&mock, 0, 90..99);
    let ranges = [(0, Position(3), Position(10)), (1, Position(0), Position(5))];
    let mut reader = Reader::new(&properties(&mock), "in", &ranges).unwrap();
    let mut seen = Vec::new();
    while let Some(record) = reader.next(LONG).unwrap() {
        seen.extend(record.value.unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    // Nothing to read is an end too.
    let mut reader = Reader::new(&properties(&mock), "in", &[(0, Position(4), Position(4))]).unwrap();
    assert_eq!(reader.next(LONG).unwrap(), None);
}

#[test]
fn a_reading_that_gets_no_answer_ends_with_an_error() {
    let mock = mock();
    let nowhere = properties(&mock).with("bootstrap.servers", "127.0.0.1:1");
    let mut reader = Reader::new(&nowhere, "in", &[(0, Position(0), Position(4))]).unwrap();
    let error = reader.next(Duration::from_millis(500)).unwrap_err();
    assert_eq!(error.refusal(), Refusal::Unreachable, "{error}");
}

#[test]
fn how_a_topic_is_laid_out_is_told_and_a_missing_one_is_an_error() {
    let mock: Mock = MockCluster::new(3).unwrap();
    mock.create_topic("in", 4, 3).unwrap();
    let admin = Admin::new(&properties(&mock).with("allow.auto.create.topics", "false"), LONG).unwrap();
    let layout = admin.layout("in").unwrap();
    assert_eq!((layout.partitions, layout.replicas, layout.in_sync, layout.leaderless), (4, 3, 3, 0));
    mock.topic_error("gone", Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let error = admin.layout("gone").unwrap_err();
    assert!(error.to_string().contains("UNKNOWN_TOPIC_OR_PART"), "{error}");
}

#[test]
fn a_probe_finds_all_brokers_or_says_why_not() {
    let mock: Mock = MockCluster::new(3).unwrap();
    let of = |servers: &str| Properties::new().with("bootstrap.servers", servers);
    let servers = mock.bootstrap_servers();
    let brokers = probe(&of(servers.split(',').next().unwrap()), LONG).unwrap();
    let mut addresses: Vec<_> = brokers.iter().map(|broker| broker.address.clone()).collect();
    addresses.sort();
    let mut expected: Vec<_> = servers.split(',').map(str::to_owned).collect();
    expected.sort();
    assert_eq!(addresses, expected);
    let Err(Unreached::Reasons(reasons)) = probe(&of("127.0.0.1:1"), Duration::from_secs(5)) else {
        panic!("nobody is there");
    };
    assert!(reasons.iter().any(|reason| reason.name == "_TRANSPORT"), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.text.contains("127.0.0.1:1")), "{reasons:?}");
    // Too long for a name: nobody has to be asked who may not answer.
    let nowhere = format!("{}.invalid:9092", "x".repeat(64));
    let Err(Unreached::Reasons(reasons)) = probe(&of(&nowhere), Duration::from_secs(5)) else {
        panic!("nobody is there");
    };
    assert!(reasons.iter().any(|reason| reason.name == "_RESOLVE"), "{reasons:?}");
}
