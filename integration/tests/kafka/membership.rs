//! Ways to take part in the group: the classic protocol with either assignment, KIP-848, static members.

use crate::support::{IDENTITY, LONG, Scene, assert_each_once_in_order, numbered};
use pelton_integration::eventually;
use pelton_integration::kafka::Reader;
use pelton_integration::process::Pelton;
use std::time::{Duration, Instant};

/// One process, two, one again, one killed: nothing is lost, doubled or out of order.
fn rebalances(name: &str, kafka: &str) {
    const ROUND: usize = 4_000;
    let scene = Scene::new(name, &[("in", 4), ("out", 4)]);
    let config = scene.config(&scene.kafka(kafka), &[IDENTITY]);
    let mut out = scene.reader("out");
    let mut produced = 0;
    let mut feed = || {
        scene.produce("in", &numbered(produced, produced + ROUND));
        produced += ROUND;
        produced
    };
    let mut first = Pelton::start(&config, "a");
    let count = feed();
    await_records(&mut out, count);
    feed();
    let mut second = Pelton::start(&config, "b");
    feed();
    eventually("both have two partitions", LONG, || {
        (first.log().contains("owned=2") && second.log().contains("owned=2")).then_some(())
    });
    let count = feed();
    await_records(&mut out, count);
    feed();
    assert_eq!(second.stop(), Some(0), "{}", second.log());
    let count = feed();
    await_records(&mut out, count);
    feed();
    first.kill();
    let mut third = Pelton::start(&config, "c");
    let count = feed();
    assert_each_once_in_order(out.read(count, LONG), count);
    third.assert_running();
    assert_eq!(third.stop(), Some(0), "{}", third.log());
}

fn await_records(out: &mut Reader, count: usize) {
    eventually("outputs", LONG, || {
        out.poll(Duration::from_millis(50)).unwrap();
        (out.records.len() >= count).then_some(())
    });
}

#[test]
fn eager_assignment_loses_and_doubles_nothing() {
    rebalances("eager", "  assignment: eager\n");
}

#[test]
fn the_consumer_protocol_loses_and_doubles_nothing() {
    rebalances("kip848", "  group_protocol: consumer\n");
}

#[test]
fn a_static_member_that_is_back_in_time_causes_no_rebalance_and_waits_for_nobody() {
    let scene = Scene::new("static", &[("in", 4), ("out", 4)]);
    // A session that is not over in this test: whoever waited for it would fail.
    let kafka = scene.kafka("  static_membership: true\n").replace("session_timeout: 6s", "session_timeout: 60s");
    let config = scene.config(&kafka, &[IDENTITY]);
    let mut out = scene.reader("out");
    let mut a = Pelton::start(&config, "a");
    let mut b = Pelton::start(&config, "b");
    eventually("both have two partitions", LONG, || {
        (a.log().contains("owned=2") && b.log().contains("owned=2")).then_some(())
    });
    scene.produce("in", &numbered(0, 4_000));
    await_records(&mut out, 4_000);
    scene.produce("in", &numbered(4_000, 8_000));
    let rebalances = |p: &Pelton| p.log().matches("partitions revoked").count();
    let before = rebalances(&b);
    a.kill();
    let killed = Instant::now();
    let mut a = Pelton::start(&config, "a");
    assert_each_once_in_order(out.read(8_000, LONG), 8_000);
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}: it waited for the session");
    assert_eq!(rebalances(&b), before, "the others kept what they had");
    assert_eq!(a.stop(), Some(0));
    assert_eq!(b.stop(), Some(0));
}
