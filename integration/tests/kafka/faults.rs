//! What Pelton does by itself when it is paused, robbed of its identity, or when a topic refuses what it writes.

use crate::support::{IDENTITY, LONG, Scene, Step, assert_each_once_in_order, numbered, numbers};
use pelton_integration::broker::Broker;
use pelton_integration::cluster::Cluster;
use pelton_integration::eventually;
use pelton_integration::kafka::{self, Record};
use pelton_integration::process::Pelton;
use std::time::{Duration, Instant};

#[test]
fn a_process_paused_past_all_timeouts_wakes_as_a_zombie_writes_nothing_and_recovers_by_itself() {
    const PART: usize = 6_000;
    let scene = Scene::new("zombie", &[("in", 4), ("out", 4)]);
    let config = scene.config("", &[IDENTITY]);
    let mut out = scene.reader("out");
    let mut a = Pelton::start(&config, "a");
    let mut b = Pelton::start(&config, "b");
    scene.produce("in", &numbered(0, PART));
    out.read(PART, LONG);
    for process in [&a, &b] {
        eventually("both own partitions", LONG, || process.log().contains("owned=2").then_some(()));
    }
    // Stopped in the middle of what it does: records are on their way.
    scene.produce("in", &numbered(PART, 2 * PART));
    a.signal(libc::SIGSTOP);
    // Session and transaction are over, and the other has done the rest, when everything is visible.
    scene.produce("in", &numbered(2 * PART, 3 * PART));
    assert_each_once_in_order(out.read(3 * PART, LONG), 3 * PART);
    let rolled_back = |log: &str| log.contains("lost=true") || log.contains("rolled back");
    let before = a.log().matches("partitions assigned").count();
    a.signal(libc::SIGCONT);
    scene.produce("in", &numbered(3 * PART, 4 * PART));
    assert_each_once_in_order(out.read(4 * PART, LONG), 4 * PART);
    eventually("it is back in the group", LONG, || {
        (a.log().matches("partitions assigned").count() > before).then_some(())
    });
    assert!(rolled_back(&a.log()), "{}", a.log());
    a.assert_running();
    b.assert_running();
    assert_eq!(a.stop(), Some(0));
    assert_eq!(b.stop(), Some(0));
    out.poll(Duration::from_secs(1)).unwrap();
    assert_each_once_in_order(&out.records, 4 * PART);
}

#[test]
fn two_processes_with_one_identity_end_with_a_clear_error_and_double_nothing() {
    let scene = Scene::new("clash", &[("in", 4), ("out", 4)]);
    let config = scene.config("", &[IDENTITY]);
    let mut out = scene.reader("out");
    let first = Pelton::start(&config, "same");
    let second = Pelton::start(&config, "same");
    let mut count = 0;
    let clash = |p: &Pelton| p.log().contains("kafka.identity_clash");
    eventually("one of them gives up", LONG, || {
        scene.produce("in", &numbered(count, count + 200));
        count += 200;
        out.poll(Duration::from_millis(100)).unwrap();
        (clash(&first) || clash(&second)).then_some(())
    });
    let (mut loser, mut other) = if clash(&first) { (first, second) } else { (second, first) };
    assert_eq!(loser.wait(LONG).code(), Some(78), "{}", loser.log());
    assert!(loser.log().contains("`instance`"), "the log says what to do: {}", loser.log());
    // The other gives up too or goes on, as it happens; alone, the next one has all of it.
    let _ = other.stop();
    let mut third = Pelton::start(&config, "same");
    assert_each_once_in_order(out.read(count, LONG), count);
    assert_eq!(third.stop(), Some(0));
}

#[test]
fn a_record_that_its_topic_refuses_is_found_among_thousands_and_goes_to_the_dead_letters() {
    const COUNT: usize = 4_000;
    const POISON: usize = 2_345;
    let scene = Scene::new("poison", &[("in", 2), ("dead", 1)]);
    let topic = scene.topic("out");
    kafka::create_topics_with(&scene.broker.bootstrap, &[(&topic, 2)], &[("max.message.bytes", "20000")]).unwrap();
    let step = Step { dead_letters: Some("dead"), ..IDENTITY };
    // Batches small enough for the topic, so that only the one record is at fault.
    let kafka = scene.kafka("  producer: { properties: { batch.size: 10000 } }\n");
    let config = scene.config(&kafka, &[step]);
    let mut records = numbered(0, COUNT);
    records[POISON].value = Some(format!("{POISON} {}", "x".repeat(30_000)).into_bytes());
    scene.produce("in", &records);
    let mut pelton = Pelton::start(&config, "a");
    let dead = scene.reader("dead").read(1, LONG).to_vec();
    let mut out = scene.reader("out");
    let passed = out.read(COUNT - 1, LONG);
    assert_eq!(dead[0].header("pelton.error.code").as_deref(), Some("output.refused"));
    assert!(dead[0].header("__dlq.errors.message").unwrap().contains("MSG_SIZE_TOO_LARGE"), "{dead:?}");
    assert_eq!(dead[0].value, records[POISON].value, "byte for byte");
    let mut seen = numbers(passed);
    seen.push(POISON);
    seen.sort_unstable();
    assert_eq!(seen, (0..COUNT).collect::<Vec<_>>());
    scene.produce("in", &numbered(COUNT, COUNT + 100));
    out.read(COUNT + 99, LONG);
    assert_eq!(pelton.stop(), Some(0), "{}", pelton.log());
    assert_eq!(scene.committed("in", 2).iter().sum::<i64>(), COUNT as i64 + 100);
}

#[test]
fn a_record_that_a_compacted_topic_refuses_is_found_in_its_batch_and_costs_no_other() {
    let scene = Scene::new("compact", &[("in", 1), ("dead", 1)]);
    let topic = scene.topic("out");
    kafka::create_topics_with(&scene.broker.bootstrap, &[(&topic, 1)], &[("cleanup.policy", "compact")]).unwrap();
    // All in one batch, so that the culprit is not the first of it.
    let kafka = scene.kafka("  producer: { properties: { linger.ms: 300 } }\n");
    let config = scene.config(&kafka, &[Step { dead_letters: Some("dead"), ..IDENTITY }]);
    let mut records = numbered(0, 100);
    records[60].key = None;
    scene.produce("in", &records);
    let mut pelton = Pelton::start(&config, "a");
    let dead = scene.reader("dead").read(1, LONG).to_vec();
    assert_eq!(dead[0].header("pelton.error.code").as_deref(), Some("output.refused"));
    assert!(dead[0].header("__dlq.errors.message").unwrap().contains("INVALID_RECORD"), "{dead:?}");
    assert_eq!(dead[0].text(), "60");
    let mut out = scene.reader("out");
    let passed = numbers(out.read(99, LONG));
    assert_eq!(passed, (0..100).filter(|number| *number != 60).collect::<Vec<_>>());
    assert_eq!(pelton.stop(), Some(0), "{}", pelton.log());
}

#[test]
fn an_output_topic_that_is_deleted_costs_its_records_their_policy_and_heals_when_it_is_back() {
    let scene = Scene::new("gone", &[("in", 1), ("out", 1), ("dead", 1)]);
    let step = Step { dead_letters: Some("dead"), ..IDENTITY };
    let config = scene.config("", &[step]);
    let mut pelton = Pelton::start(&config, "a");
    scene.produce("in", &numbered(0, 100));
    scene.reader("out").read(100, LONG);
    kafka::delete_topic(&scene.broker.bootstrap, &scene.topic("out")).unwrap();
    scene.produce("in", &numbered(100, 200));
    let mut dead = scene.reader("dead");
    let letters = dead.read(100, LONG);
    assert_eq!(numbers(letters), (100..200).collect::<Vec<_>>());
    assert_eq!(letters[0].header("pelton.error.code").as_deref(), Some("output.topic_missing"));
    kafka::create_topics(&scene.broker.bootstrap, &[(&scene.topic("out"), 1)]).unwrap();
    let mut out = scene.reader("out");
    let mut count = 200;
    eventually("records reach the topic again", LONG, || {
        scene.produce("in", &numbered(count, count + 1));
        count += 1;
        out.poll(Duration::from_millis(300)).unwrap();
        dead.poll(Duration::from_millis(10)).unwrap();
        (!out.records.is_empty()).then_some(())
    });
    // Also the last of them: a process that is told to stop takes no more records.
    eventually("all have come", LONG, || {
        out.poll(Duration::from_millis(100)).unwrap();
        dead.poll(Duration::from_millis(100)).unwrap();
        (out.records.len() + dead.records.len() >= count - 100).then_some(())
    });
    pelton.assert_running();
    assert_eq!(pelton.stop(), Some(0));
    let mut all = numbers(&out.records);
    all.extend(numbers(&dead.records));
    all.sort_unstable();
    assert_eq!(all, (100..count).collect::<Vec<_>>(), "each record once, here or there");
}

#[test]
fn sigterm_is_obeyed_within_the_drain_limit_though_the_broker_hangs_or_is_gone() {
    let home = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(1, home.path()).unwrap();
    for hang in [true, false] {
        let broker =
            Box::leak(Box::new(Broker { bootstrap: cluster.direct(), description: "its own".into(), secured: None }));
        let scene = Scene::on(broker, "drain", &[("in", 2), ("out", 2)]);
        let config = scene.config("drain_limit: 8s", &[IDENTITY]);
        let mut pelton = Pelton::start(&config, "a");
        scene.produce("in", &numbered(0, 1_000));
        scene.reader("out").read(1_000, LONG);
        if hang {
            cluster.nodes[0].pause();
        } else {
            cluster.nodes[0].kill();
        }
        let told = Instant::now();
        pelton.signal(libc::SIGTERM);
        let status = pelton.wait(LONG);
        // Nothing was open; whether the group could be left is not the operator's concern at this moment.
        assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
        assert!(matches!(status.code(), Some(0 | 75)), "{status}; log:\n{}", pelton.log());
        cluster.nodes[0].resume();
    }
}

#[test]
fn headers_without_end_pass_within_bounds_of_memory_and_more_than_can_be_read_are_a_dead_letter() {
    const COUNT: usize = 150;
    const HEADERS: usize = 50_000;
    let scene = Scene::new("headers", &[("in", 1), ("out", 1), ("dead", 1)]);
    let config = scene.config("", &[Step { dead_letters: Some("dead"), ..IDENTITY }]);
    let with = |number: usize, headers: usize| Record {
        partition: 0,
        value: Some(number.to_string().into_bytes()),
        headers: vec![(String::new(), None); headers],
        ..Record::default()
    };
    // Two bytes each on the way, a hundred in memory: 750 MB in all. The first ones let batches grow.
    scene.produce("in", &(0..1_000).map(|number| with(number, 0)).collect::<Vec<_>>());
    for first in (0..COUNT).step_by(10) {
        scene.produce("in", &(first..first + 10).map(|number| with(1_000 + number, HEADERS)).collect::<Vec<_>>());
    }
    scene.produce("in", &[with(2_000, 100_001), with(2_001, 1)]);
    let mut pelton = Pelton::start(&config, "a");
    let mut out = scene.reader("out");
    let passed = out.read(1_000 + COUNT + 1, LONG);
    assert!(numbers(passed).into_iter().eq((0..1_000 + COUNT).chain([2_001])), "each once, in order");
    assert!(passed[1_000..1_000 + COUNT].iter().all(|record| record.headers.len() == HEADERS));
    let dead = scene.reader("dead").read(1, LONG).to_vec();
    assert_eq!(
        (dead[0].text().as_str(), dead[0].header("pelton.error.code").as_deref()),
        ("2000", Some("input.headers"))
    );
    let peak = pelton.peak_memory_mib();
    assert!(peak < 400, "{peak} MiB");
    assert_eq!(pelton.stop(), Some(0), "{}", pelton.log());
}

#[test]
fn memory_is_bounded_by_the_configuration_however_long_the_backlog() {
    const COUNT: usize = 300_000;
    let scene = Scene::new("backlog", &[("in", 4), ("out", 4)]);
    let config = scene.config("", &[IDENTITY]);
    let value = vec![b'x'; 1_000];
    let record = Record { partition: -1, value: Some(value), ..Record::default() };
    for portion in 0..10 {
        let key = |i: usize| Some(format!("{portion}-{i}").into_bytes());
        let records: Vec<Record> = (0..COUNT / 10).map(|i| Record { key: key(i), ..record.clone() }).collect();
        scene.produce("in", &records);
    }
    let mut pelton = Pelton::start(&config, "a");
    eventually("the backlog is gone", LONG, || {
        pelton.assert_running();
        (scene.committed("in", 4).iter().sum::<i64>() == COUNT as i64).then_some(())
    });
    // 300 MB of input: 8 MiB prefetched a partition, 64 MiB queued a lane (two of them), and what the process is itself.
    let peak = pelton.peak_memory_mib();
    eprintln!("peak memory with a backlog of 300 MB: {peak} MiB");
    assert!(peak < 4 * 8 + 2 * 64 + 120, "{peak} MiB");
    assert_eq!(pelton.stop(), Some(0));
}
