//! The client over librdkafka's mock cluster: what becomes of errors that brokers answer with, and whether queues,
//! rebalances and seeks hold together. The mock has no isolation and no fencing; nothing here claims exactly-once.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use pelton_kafka::{
    Batch, Blame, Consumer, ConsumerError, Fate, Header, Offset, Output, PartitionProgress, Partitioning, Position,
    ProduceError, Producer, Properties, RebalanceHandler, Start, TopicPartition, TxnError, Wake,
};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Code};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

type Mock = MockCluster<'static, DefaultProducerContext>;

fn mock(topics: &[(&str, i32)]) -> Mock {
    let mock = MockCluster::new(1).unwrap();
    topics.iter().for_each(|(name, partitions)| mock.create_topic(name, *partitions, 1).unwrap());
    mock
}

fn producer(mock: &Mock, transactional: bool, topics: &[&str]) -> Producer {
    let mut properties = Properties::new()
        .with("bootstrap.servers", mock.bootstrap_servers())
        .with("enable.idempotence", "true")
        .with("delivery.report.only.error", "true")
        .with("sticky.partitioning.linger.ms", "0")
        .with("linger.ms", "5")
        .with("message.max.bytes", "10000");
    if transactional {
        properties.set("transactional.id", "test");
        properties.set("transaction.timeout.ms", "10000");
    }
    let names: Vec<Arc<str>> = topics.iter().map(|t| Arc::from(*t)).collect();
    let producer = Producer::new(&properties, &names).unwrap();
    if transactional {
        producer.init(LONG).unwrap();
    }
    producer
}

fn record(value: &[u8], partitioning: Partitioning) -> Output<'_> {
    Output {
        topic: 0,
        partitioning,
        timestamp_ms: Some(1_700_000_000_000),
        key: None,
        value: Some(value),
        headers: &[],
    }
}

const ANY: Partitioning = Partitioning::Fixed(0);

#[derive(Default)]
struct Events {
    owned: Vec<TopicPartition>,
    revocations: usize,
    lanes: usize,
}

impl RebalanceHandler for Events {
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Vec<usize> {
        self.owned.extend_from_slice(partitions);
        partitions.iter().map(|p| p.partition as usize % self.lanes).collect()
    }

    fn revoked(&mut self, partitions: &[TopicPartition], _: bool) {
        self.revocations += 1;
        self.owned.retain(|p| !partitions.contains(p));
    }
}

struct Member {
    consumer: Consumer,
    events: Events,
    wake: Arc<Wake>,
    seen: BTreeMap<i32, Vec<Offset>>,
}

impl Member {
    fn join(mock: &Mock, topic: &str, lanes: usize) -> Self {
        let properties = Properties::new()
            .with("bootstrap.servers", mock.bootstrap_servers())
            .with("group.id", "group")
            .with("session.timeout.ms", "6000")
            .with("heartbeat.interval.ms", "300")
            .with("partition.assignment.strategy", "cooperative-sticky")
            .with("enable.auto.commit", "false")
            .with("auto.offset.reset", "earliest")
            .with("fetch.wait.max.ms", "20");
        let wake = Arc::new(Wake::new().unwrap());
        let consumer = Consumer::new(&properties, &[(topic.into(), Start::Earliest)], lanes, &wake).unwrap();
        Member { consumer, events: Events { lanes, ..Events::default() }, wake, seen: BTreeMap::new() }
    }

    /// Serves the group and reads whatever is there.
    fn turn(&mut self) {
        self.consumer.poll(&mut self.events).unwrap();
        let mut batch = Batch::new();
        for lane in 0..self.events.lanes {
            self.consumer.fetch(lane, 100, &mut batch).unwrap();
            for message in batch.iter() {
                assert_eq!(message.partition() as usize % self.events.lanes, lane, "a record in another lane's queue");
                self.seen.entry(message.partition()).or_default().push(message.offset());
            }
            batch.clear();
        }
        self.wake.wait(Duration::from_millis(10));
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + LONG;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.seen.iter().map(|(p, o)| (p, o.len())));
            self.turn();
        }
    }
}

fn fill(mock: &Mock, partitions: i32, count: usize) {
    let producer = producer(mock, false, &["in"]);
    for i in 0..count {
        let partition = Partitioning::Fixed(i as i32 % partitions);
        producer.produce(&record(b"x", partition)).unwrap();
    }
    producer.flush(LONG).unwrap();
}

#[test]
fn a_commit_takes_milliseconds_not_the_hundred_of_the_rust_wrapper() {
    let mock = mock(&[("out", 2)]);
    let producer = producer(&mock, true, &["out"]);
    let transaction = |_| {
        let start = Instant::now();
        producer.begin().unwrap();
        producer.produce(&record(b"x", ANY)).unwrap();
        producer.commit().unwrap();
        start.elapsed()
    };
    let mut took: Vec<Duration> = (0..20).map(transaction).collect();
    took.sort_unstable();
    // Of the quicker half, since a stall of the machine is not the wrapper's.
    assert!(took[10] < Duration::from_millis(60), "{took:?}");
}

/// librdkafka 2.12 frees the interceptors of a configuration whose client it cannot make, and would again.
#[test]
fn a_producer_that_cannot_be_made_is_an_error_and_frees_nothing_twice() {
    let properties = Properties::new().with("security.protocol", "ssl").with("ssl.ca.location", "/no/such/file.pem");
    for _ in 0..3 {
        let error = Producer::new(&properties, &[]).unwrap_err().to_string();
        assert!(error.contains("ssl.ca.location"), "{error}");
    }
}

#[test]
fn an_abort_with_records_in_flight_returns_although_nobody_else_polls() {
    let mock = mock(&[("out", 2)]);
    let producer = producer(&mock, true, &["out"]);
    producer.begin().unwrap();
    for _ in 0..1000 {
        producer.produce(&record(b"x", ANY)).unwrap();
    }
    let start = Instant::now();
    producer.abort().unwrap();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

/// A cluster with a member in its group: what a transaction needs. Joining takes seconds, so cases share one.
struct Stage {
    mock: Mock,
    member: Member,
}

impl Stage {
    fn new() -> Self {
        let mock = mock(&[("out", 1), ("in", 1)]);
        let mut member = Member::join(&mock, "in", 1);
        member.until("membership", |m| !m.events.owned.is_empty());
        Stage { mock, member }
    }

    /// One transaction of a new producer, in which `api` is answered with `codes` first.
    fn transact(&mut self, api: Api, codes: &[Code]) -> (Producer, Result<(), TxnError>) {
        self.member.turn();
        let producer = producer(&self.mock, true, &["out"]);
        let group = self.member.consumer.membership().unwrap();
        let progress = [PartitionProgress {
            partition: TopicPartition { topic: "in".into(), partition: 0 },
            position: Position(1),
            leader_epoch: -1,
        }];
        self.mock.request_errors(api, codes);
        let result = producer
            .begin()
            .and_then(|()| match producer.produce(&record(b"x", ANY)) {
                Ok(()) => Ok(()),
                Err(ProduceError::Txn(error)) => Err(error),
                Err(other) => panic!("{other}"),
            })
            .and_then(|()| producer.send_offsets(&progress, &group, Duration::from_secs(5)))
            .and_then(|()| producer.commit());
        self.mock.clear_request_errors(api);
        (producer, result)
    }

    /// What the transaction's calls make of `code` as the answer to every `api`.
    fn fate_of(&mut self, api: Api, code: Code) -> (Fate, Blame, &'static str) {
        let (_, result) = self.transact(api, &[code; 8]);
        let error = result.expect_err("the injected error must come out");
        (error.fate, error.blame, error.call)
    }

    /// Is the producer in doubt after a commit in which `api` was answered with `codes` first?
    fn doubt_after(&mut self, api: Api, codes: &[Code]) -> bool {
        let (producer, result) = self.transact(api, codes);
        result.unwrap_or_else(|error| panic!("{api:?} {codes:?}: {error}"));
        producer.in_doubt()
    }
}

#[test]
fn a_stale_member_aborts() {
    let mut stage = Stage::new();
    for code in [
        Code::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID,
        Code::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID,
    ] {
        let (fate, blame, call) = stage.fate_of(Api::TxnOffsetCommit, code);
        assert_eq!((fate, blame, call), (Fate::Abort, Blame::Membership, "send_offsets_to_transaction"), "{code:?}");
    }
}

#[test]
fn a_fenced_producer_is_replaced_and_known_as_fenced() {
    let mut stage = Stage::new();
    for api in [Api::AddPartitionsToTxn, Api::AddOffsetsToTxn, Api::EndTxn] {
        let (fate, blame, _) = stage.fate_of(api, Code::RD_KAFKA_RESP_ERR_PRODUCER_FENCED);
        assert_eq!((fate, blame), (Fate::Replace, Blame::Identity), "{api:?}");
    }
}

#[test]
fn a_transaction_that_the_coordinator_does_not_know_replaces_the_producer() {
    let mut stage = Stage::new();
    let (fate, blame, _) = stage.fate_of(Api::EndTxn, Code::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE);
    assert_eq!((fate, blame), (Fate::Replace, Blame::Brokers));
}

#[test]
fn a_record_that_the_broker_finds_too_large_aborts() {
    let mut stage = Stage::new();
    let (fate, _, call) = stage.fate_of(Api::Produce, Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
    assert_eq!((fate, call), (Fate::Abort, "commit_transaction"));
}

#[test]
fn a_right_that_is_missing_stops() {
    let mut stage = Stage::new();
    for (api, code) in [
        (Api::AddPartitionsToTxn, Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        (Api::AddOffsetsToTxn, Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        (Api::AddOffsetsToTxn, Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED),
        (Api::TxnOffsetCommit, Code::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED),
        (Api::EndTxn, Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED),
    ] {
        assert_eq!(stage.fate_of(api, code).0, Fate::Stop, "{api:?} {code:?}");
    }
}

#[test]
fn a_topic_that_refuses_is_the_records_fault() {
    let mut stage = Stage::new();
    for (api, code) in [
        (Api::AddPartitionsToTxn, Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_INVALID_RECORD),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP),
        (Api::Produce, Code::RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE),
    ] {
        let (fate, blame, _) = stage.fate_of(api, code);
        assert_eq!((fate, blame), (Fate::Abort, Blame::Record), "{api:?} {code:?}");
    }
}

#[test]
fn a_producer_id_that_the_coordinator_has_forgotten_aborts_with_a_new_epoch() {
    let mut stage = Stage::new();
    for code in [Code::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID, Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_ID_MAPPING] {
        for api in [Api::AddPartitionsToTxn, Api::AddOffsetsToTxn] {
            let (fate, blame, _) = stage.fate_of(api, code);
            assert_eq!((fate, blame), (Fate::Abort, Blame::Brokers), "{api:?} {code:?}");
        }
    }
}

#[test]
fn a_state_that_does_not_fit_replaces_the_producer() {
    let mut stage = Stage::new();
    for api in [Api::AddPartitionsToTxn, Api::AddOffsetsToTxn, Api::TxnOffsetCommit] {
        let (fate, blame, _) = stage.fate_of(api, Code::RD_KAFKA_RESP_ERR_INVALID_TXN_STATE);
        assert_eq!((fate, blame), (Fate::Replace, Blame::Brokers), "{api:?}");
    }
    let (fate, blame, _) = stage.fate_of(Api::Produce, Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!((fate, blame), (Fate::Replace, Blame::Brokers));
}

#[test]
fn a_coordinator_that_moves_or_is_busy_is_waited_for_and_leaves_no_doubt() {
    let mut stage = Stage::new();
    use Code as C;
    for (api, code) in [
        (Api::AddPartitionsToTxn, C::RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::AddPartitionsToTxn, C::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::AddPartitionsToTxn, C::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::AddOffsetsToTxn, C::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE),
        (Api::AddOffsetsToTxn, C::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::TxnOffsetCommit, C::RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (Api::TxnOffsetCommit, C::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (Api::EndTxn, C::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS),
        (Api::Produce, C::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        (Api::Produce, C::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS),
    ] {
        assert!(!stage.doubt_after(api, &[code]), "{api:?} {code:?}");
    }
    // Here librdkafka drops the connection with the second try on it: whether that leaves doubt is a matter of timing.
    for code in [C::RD_KAFKA_RESP_ERR_NOT_COORDINATOR, C::RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE] {
        stage.doubt_after(Api::EndTxn, &[code]);
    }
}

/// The hole that KIP-890 closes on the broker: the call succeeds, and a copy of the request is still on its way.
#[test]
fn a_request_without_an_answer_leaves_the_producer_in_doubt_although_the_commit_succeeds() {
    let mut stage = Stage::new();
    for api in [Api::AddPartitionsToTxn, Api::AddOffsetsToTxn, Api::TxnOffsetCommit, Api::EndTxn, Api::Produce] {
        assert!(stage.doubt_after(api, &[Code::RD_KAFKA_RESP_ERR__TRANSPORT]), "{api:?}");
    }
    assert!(!stage.doubt_after(Api::EndTxn, &[]), "nothing was lost");
}

#[test]
fn a_commit_with_a_refused_record_names_its_topic() {
    let mock = mock(&[("other", 1), ("out", 1)]);
    let producer = producer(&mock, true, &["other", "out"]);
    mock.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 3]);
    producer.begin().unwrap();
    producer.produce(&Output { topic: 1, ..record(b"x", ANY) }).unwrap();
    let failed = producer.commit().unwrap_err();
    assert_eq!((failed.topic, failed.name.as_str(), failed.blame), (Some(1), "MSG_SIZE_TOO_LARGE", Blame::Record));
    assert!(producer.failed_delivery().is_none(), "told once");
    producer.abort().unwrap();
}

/// Whoever waits for room in the queue asks: what a failed transaction has queued stays there until its abort.
#[test]
fn a_transaction_that_has_failed_says_so_before_the_next_record() {
    let mock = mock(&[("out", 1)]);
    let producer = producer(&mock, true, &["out"]);
    producer.begin().unwrap();
    producer.check_open().unwrap();
    producer.produce(&record(b"x", ANY)).unwrap();
    producer.commit().unwrap();
    mock.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 3]);
    producer.begin().unwrap();
    producer.produce(&record(b"x", ANY)).unwrap();
    let deadline = Instant::now() + LONG;
    let failed = loop {
        if let Err(failed) = producer.check_open() {
            break failed;
        }
        assert!(Instant::now() < deadline, "it is open for ever");
    };
    assert!(matches!(&failed, ProduceError::Txn(error) if error.fate == Fate::Abort), "{failed:?}");
    producer.abort().unwrap();
    producer.begin().unwrap();
    producer.check_open().unwrap();
    producer.abort().unwrap();
}

#[test]
fn a_failed_delivery_without_transactions_fails_the_flush_once() {
    let mock = mock(&[("out", 1)]);
    let producer = producer(&mock, false, &["out"]);
    mock.request_errors(Api::Produce, &[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 3]);
    producer.produce(&record(b"x", ANY)).unwrap();
    let error = producer.flush(LONG).unwrap_err();
    assert_eq!((error.fate, error.name.as_str()), (Fate::Abort, "MSG_SIZE_TOO_LARGE"));
}

#[test]
fn sizes_and_partitions_are_refused_before_anything_is_queued() {
    let mock = mock(&[("out", 2)]);
    let producer = producer(&mock, true, &["out"]);
    producer.begin().unwrap();
    let big = vec![0; 10_001];
    assert!(!producer.fits(&record(&big, ANY)));
    assert!(matches!(producer.produce(&record(&big, ANY)), Err(ProduceError::TooLarge)));
    assert!(producer.fits(&record(&big[..9_000], ANY)));
    // What librdkafka counts besides the bytes is counted here, too: one more is refused by both.
    assert!(producer.fits(&record(&big[..10_000 - 36], ANY)));
    producer.produce(&record(&big[..10_000 - 36], ANY)).unwrap();
    assert!(!producer.fits(&record(&big[..10_000 - 35], ANY)));
    assert!(matches!(producer.produce(&record(&big[..10_000 - 35], ANY)), Err(ProduceError::TooLarge)));
    let header = [Header { key: b"h", value: Some(&big[..2_000]) }];
    assert!(!producer.fits(&Output { headers: &header, ..record(&big[..9_000], ANY) }));
    // The topic's partitions are known once something was sent to it.
    producer.produce(&record(b"x", ANY)).unwrap();
    producer.commit().unwrap();
    producer.begin().unwrap();
    assert!(matches!(producer.produce(&record(b"x", Partitioning::Fixed(2))), Err(ProduceError::NoSuchPartition)));
    producer.abort().unwrap();
}

#[test]
fn records_come_through_the_lanes_queues_and_a_seek_goes_back_exactly() {
    let mock = mock(&[("in", 4)]);
    fill(&mock, 4, 400);
    let mut member = Member::join(&mock, "in", 2);
    member.until("all records", |m| m.seen.values().map(Vec::len).sum::<usize>() == 400);
    for offsets in member.seen.values() {
        assert_eq!(*offsets, (0..100).map(Offset).collect::<Vec<_>>());
    }
    member.seen.clear();
    let to = TopicPartition { topic: "in".into(), partition: 1 };
    member.consumer.seek(&[(to, Position(90))]).unwrap();
    member.until("the records again", |m| m.seen.get(&1).is_some_and(|o| o.len() == 10));
    assert_eq!(member.seen[&1], (90..100).map(Offset).collect::<Vec<_>>());
    assert_eq!(member.seen.len(), 1, "the other partitions were left alone");
}

#[test]
fn a_topic_that_may_not_be_read_is_told_and_not_waited_for() {
    let mock = mock(&[("in", 1)]);
    fill(&mock, 1, 10);
    let mut member = Member::join(&mock, "in", 1);
    member.until("all records", |m| m.seen.values().map(Vec::len).sum::<usize>() == 10);
    mock.request_errors(Api::Fetch, &[Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 3]);
    let deadline = Instant::now() + LONG;
    let error = loop {
        member.consumer.poll(&mut member.events).unwrap();
        match member.consumer.fetch(0, 100, &mut Batch::new()) {
            Ok(()) => assert!(Instant::now() < deadline, "nobody says so"),
            Err(error) => break error,
        }
        member.wake.wait(Duration::from_millis(10));
    };
    assert!(matches!(&error, ConsumerError::Refused { what, .. } if what == "partition 0 of topic `in`"), "{error}");
}

/// `ListConsumerGroupOffsets` was used for the second question, which ended the process (`eonce->refcnt > 0`) where the
/// coordinator answered after its time was over.
#[test]
fn partitions_whose_place_was_not_known_are_read_once_a_slow_coordinator_says_it() {
    let mock = mock(&[("in", 4)]);
    fill(&mock, 4, 40);
    mock.request_errors(Api::OffsetFetch, &[Code::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 1_000]);
    let mut member = Member::join(&mock, "in", 2);
    member.until("an assignment without places", |m| m.consumer.without_position() == 4);
    assert!(member.seen.is_empty());
    mock.broker_round_trip_time(1, Duration::from_millis(550)).unwrap();
    mock.clear_request_errors(Api::OffsetFetch);
    member.until("all records", |m| m.seen.values().map(Vec::len).sum::<usize>() == 40);
    assert_eq!(member.consumer.without_position(), 0);
    for offsets in member.seen.values() {
        assert_eq!(*offsets, (0..10).map(Offset).collect::<Vec<_>>());
    }
}

#[test]
fn partitions_move_to_a_second_member_and_back_and_no_record_is_missed() {
    let mock = mock(&[("in", 4)]);
    let mut first = Member::join(&mock, "in", 2);
    first.until("all partitions", |m| m.events.owned.len() == 4);
    let mut second = Member::join(&mock, "in", 2);
    let deadline = Instant::now() + LONG;
    while first.events.owned.len() != 2 || second.events.owned.len() != 2 {
        assert!(Instant::now() < deadline, "{:?} {:?}", first.events.owned, second.events.owned);
        first.turn();
        second.turn();
    }
    assert!(first.events.revocations > 0);
    assert!(second.consumer.close(&mut second.events, LONG), "the group is left");
    assert!(second.events.owned.is_empty(), "the last revocation came through the handler");
    first.until("all partitions again", |m| m.events.owned.len() == 4);
    fill(&mock, 4, 40);
    first.until("all records", |m| m.seen.values().map(Vec::len).sum::<usize>() == 40);
}

#[test]
fn whoever_has_left_the_group_proves_nothing() {
    let mock = mock(&[("in", 1)]);
    let mut member = Member::join(&mock, "in", 1);
    assert!(member.consumer.membership().is_err(), "not a member yet");
    member.until("membership", |m| !m.events.owned.is_empty());
    assert!(member.consumer.membership().is_ok());
    assert!(member.consumer.close(&mut member.events, LONG));
    assert!(member.consumer.membership().is_err(), "generation -1 and no member id would not be fenced");
}

#[test]
fn null_keys_go_by_the_input_partition_and_dead_letters_whatever_their_key() {
    let mock = mock(&[("in", 3)]);
    let producer = producer(&mock, false, &["in"]);
    let keyed = Output { key: Some(b"21"), ..record(b"keyed", Partitioning::ByKey { input: 7 }) };
    let null = record(b"null", Partitioning::ByKey { input: 7 });
    let dead = Output { key: Some(b"21"), ..record(b"dead", Partitioning::ByInput { input: 8 }) };
    for output in [&keyed, &null, &dead] {
        producer.produce(output).unwrap();
    }
    producer.flush(LONG).unwrap();
    let mut member = Member::join(&mock, "in", 1);
    let mut places = BTreeMap::new();
    let deadline = Instant::now() + LONG;
    while places.len() < 3 {
        assert!(Instant::now() < deadline);
        member.consumer.poll(&mut member.events).unwrap();
        let mut batch = Batch::new();
        member.consumer.fetch(0, 10, &mut batch).unwrap();
        for message in batch.iter() {
            places.insert(message.value().unwrap().to_vec(), message.partition());
        }
        member.wake.wait(Duration::from_millis(10));
    }
    assert_eq!(places[&b"null"[..]], 7 % 3);
    assert_eq!(places[&b"dead"[..]], 8 % 3);
    assert_eq!(places[&b"keyed"[..]], pelton_kafka::partition_for_key(b"21", 3));
}
