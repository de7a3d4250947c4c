//! Several instances share a worker's batches: outputs keep the records' order, failures find their records, and it begins
//! and ends with a reload.

use crate::support::{LONG, Scene, Step, TESTER};
use pelton_integration::eventually;
use pelton_integration::kafka::Record;
use pelton_integration::process::Pelton;

const TOPICS: [(&str, i32); 5] = [("in", 1), ("left", 1), ("right", 1), ("narrow", 1), ("dead", 1)];
/// 100 us a record and more.
const BUSY: Step<'_> = Step { input: "in", settings: "effort: 100000", ..TESTER };

/// What becomes of record `i`: most pass, some fail in each way, on a piece's first and last records too.
fn word(i: usize) -> &'static str {
    match i % 29 {
        3 => "trap",
        11 => "nonsense",
        17 => "none",
        23 => "both",
        _ => "left",
    }
}

fn asks(from: usize, to: usize) -> Vec<Record> {
    let value = |i: usize| Some(format!("{} {i}", word(i)).into_bytes());
    (from..to).map(|i| Record { partition: 0, value: value(i), ..Record::default() }).collect()
}

fn expected(to: usize, words: &[&str]) -> Vec<usize> {
    (0..to).filter(|i| words.contains(&word(*i))).collect()
}

fn asked(records: &[Record]) -> Vec<usize> {
    records.iter().map(|r| r.text().split(' ').nth(1).unwrap().parse().unwrap()).collect()
}

/// CPU time of each helper of the first worker, in clock ticks.
fn helpers(pelton: &Pelton) -> Vec<u64> {
    let cpu = |(name, ticks): (String, u64)| name.starts_with("worker-0+").then_some(ticks);
    pelton.threads().into_iter().filter_map(cpu).collect()
}

#[test]
fn instances_share_batches_and_outputs_keep_the_records_order() {
    let scene = Scene::new("parallel", &TOPICS);
    let alone = scene.config("", &[BUSY]);
    let shared = alone.replace("    settings:", "    parallelism: 3\n    settings:");
    scene.produce("in", &asks(0, 3_000));
    let mut pelton = Pelton::start(&shared, "a");
    let (mut left, mut dead) = (scene.reader("left"), scene.reader("dead"));
    let all = |to| (expected(to, &["left", "both"]), expected(to, &["trap", "nonsense"]));
    let check = |to: usize, left: &[Record], dead: &[Record]| {
        let (passed, failed) = all(to);
        assert!(asked(left) == passed, "lost, doubled or out of order");
        assert_eq!(asked(dead), failed);
    };
    let (passed, failed) = all(3_000);
    check(3_000, left.read(passed.len(), LONG), dead.read(failed.len(), LONG));
    let ticks = helpers(&pelton);
    assert_eq!(ticks.len(), 2, "{:?}", pelton.threads());
    assert!(ticks.iter().all(|ticks| *ticks > 0), "each helper did something: {ticks:?}");

    // Back to one at a time, while it runs.
    pelton.reconfigure(&alone);
    pelton.signal(libc::SIGHUP);
    eventually("the reload", LONG, || pelton.log().contains("reloaded: workers").then_some(()));
    scene.produce("in", &asks(3_000, 4_000));
    let (passed, failed) = all(4_000);
    check(4_000, left.read(passed.len(), LONG), dead.read(failed.len(), LONG));
    eventually("nobody is left to help", LONG, || helpers(&pelton).is_empty().then_some(()));
    assert_eq!(pelton.stop(), Some(0));
    assert_eq!(scene.committed("in", 1), [4_000]);
}

/// A piece's outputs are kept until it is their turn, up to 4 MiB; what is above, the worker does again itself.
#[test]
fn large_outputs_of_a_piece_come_out_once_and_in_order_too() {
    let scene = Scene::new("parallel-large", &TOPICS);
    let fetch = "  consumer: { properties: { queued.max.messages.kbytes: 131072 } }\n";
    let config =
        scene.config(&scene.kafka(fetch), &[BUSY]).replace("    settings:", "    parallelism: 2\n    settings:");
    let value = |i: usize| Some(format!("left {i} {}", "x".repeat(500_000)).into_bytes());
    let large: Vec<Record> = (0..120).map(|i| Record { partition: 0, value: value(i), ..Record::default() }).collect();
    scene.produce("in", &large);
    let mut pelton = Pelton::start(&config, "a");
    let mut left = scene.reader("left");
    assert_eq!(asked(left.read(120, LONG)), (0..120).collect::<Vec<_>>());
    assert_eq!(pelton.stop(), Some(0));
}
