//! What orchestrators are told when Kafka goes away and when the process is told to stop.

use crate::support::{IDENTITY, LONG, Scene, assert_each_once_in_order, numbered, observed};
use pelton_integration::broker::Broker;
use pelton_integration::cluster::Cluster;
use pelton_integration::eventually;
use pelton_integration::process::Pelton;
use pelton_integration::scrape::{free_port, get};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn kafka_is_killed_the_process_lives_is_unready_within_ten_seconds_and_recovers_by_itself() {
    let home = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(1, home.path()).unwrap();
    let broker =
        Box::leak(Box::new(Broker { bootstrap: cluster.direct(), description: "its own".into(), secured: None }));
    let scene = Scene::on(broker, "probes", &[("in", 2), ("out", 2)]);
    let port = free_port();
    let mut pelton = Pelton::start(&observed(&scene.config("", &[IDENTITY]), port), "a");
    scene.produce("in", &numbered(0, 500));
    scene.reader("out").read(500, LONG);
    let ready = || get(port, "/readyz").map(|(status, body)| (status == 200, body));
    eventually("it is ready", LONG, || ready().filter(|(ready, _)| *ready));

    cluster.nodes[0].kill();
    let killed = Instant::now();
    let (_, why) = eventually("it is not ready", LONG, || {
        assert_eq!(get(port, "/livez").unwrap().0, 200);
        ready().filter(|(ready, _)| !ready)
    });
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}: {why}", killed.elapsed());
    assert!(why.contains("reaches no broker") || why.contains("not in its group"), "{why}");
    assert!(get(port, "/metrics").unwrap().1.contains("\npelton_ready 0\n"), "as the alert reads it");

    // Nobody does anything but start Kafka again.
    cluster.nodes[0].start().unwrap();
    cluster.wait_registered(LONG).unwrap();
    eventually("it is ready again", LONG, || {
        assert_eq!(get(port, "/livez").unwrap().0, 200);
        ready().filter(|(ready, _)| *ready)
    });
    scene.produce("in", &numbered(500, 1_000));
    assert_each_once_in_order(scene.reader("out").read(1_000, LONG), 1_000);
    pelton.assert_running();
    assert_eq!(pelton.stop(), Some(0));
}

/// Set when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn told_to_stop_under_load_it_is_unready_first_ends_with_0_in_time_and_doubles_nothing() {
    const DRAIN: Duration = Duration::from_secs(20);
    /// From the end of the drain to that of the process.
    const END_MAX: Duration = Duration::from_secs(5);
    let scene = Scene::new("sigterm", &[("in", 4), ("out", 4)]);
    let port = free_port();
    let config = scene.config("drain_limit: 20s", &[IDENTITY]);
    let mut first = Pelton::start(&observed(&config, port), "a");
    let mut out = scene.reader("out");
    let stop = AtomicBool::new(false);
    let count = std::thread::scope(|scope| {
        // Also where an assertion fails: the scope waits for the load.
        let stopped = Stop(&stop);
        let load = scope.spawn(|| {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                scene.produce("in", &numbered(count, count + 200));
                count += 200;
            }
            count
        });
        eventually("it flows", LONG, || (out.poll(Duration::from_millis(100)).unwrap() > 0).then_some(()));
        eventually("it is ready", LONG, || get(port, "/readyz").filter(|(status, _)| *status == 200));
        let told = Instant::now();
        first.signal(libc::SIGTERM);
        let mut answers = Vec::new();
        while first.ended().is_none() {
            answers.extend(get(port, "/readyz"));
            assert!(told.elapsed() < DRAIN + END_MAX, "log:\n{}", first.log());
        }
        drop(stopped);
        assert_eq!(first.wait(LONG).code(), Some(0), "log:\n{}", first.log());
        let unready = answers.iter().position(|(status, _)| *status == 503).expect("it was unready before its end");
        assert!(answers[unready].1.contains("told to stop"), "{}", answers[unready].1);
        assert!(answers[unready..].iter().all(|(status, _)| *status == 503), "and stayed so");
        load.join().unwrap()
    });
    let mut second = Pelton::start(&config, "a");
    assert_each_once_in_order(out.read(count, LONG), count);
    assert_eq!(second.stop(), Some(0));
}
