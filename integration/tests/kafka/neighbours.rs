//! One transform that fails or takes too much is held; the others go on, and nothing is lost or doubled by it.

use crate::support::{IDENTITY, LONG, Scene, Step, TESTER, assert_each_once_in_order, numbered};
use pelton_integration::eventually;
use pelton_integration::kafka::Record;
use pelton_integration::process::Pelton;

const BAD: Step<'_> = Step {
    input: "bad.in",
    output: "bad.left",
    also: &["bad.right", "bad.narrow"],
    dead_letters: Some("bad.dead"),
    ..TESTER
};

const TOPICS: [(&str, i32); 7] =
    [("in", 2), ("out", 2), ("bad.in", 2), ("bad.left", 1), ("bad.right", 1), ("bad.narrow", 1), ("bad.dead", 2)];

fn asks(word: &str, count: usize) -> Vec<Record> {
    let record = |i: usize| Record {
        partition: (i % 2) as i32,
        value: Some(format!("{word} {i}").into_bytes()),
        ..Record::default()
    };
    (0..count).map(record).collect()
}

/// The numbers of those that came, in order.
fn asked(records: &[Record]) -> Vec<usize> {
    let mut numbers: Vec<usize> =
        records.iter().map(|r| r.text().split(' ').nth(1).unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn a_transform_over_its_budget_is_paused_and_goes_on_after_a_restart() {
    let scene = Scene::new("budget", &TOPICS);
    let with_budget = scene.config("", &[IDENTITY, BAD]).replace(
        "on_error: { then: dead_letter,",
        "on_error: { budget: { failures: 40, within: 1m, then: pause }, then: dead_letter,",
    );
    scene.produce("bad.in", &asks("spin", 1_000));
    scene.produce("in", &numbered(0, 1_000));
    let mut pelton = Pelton::start(&with_budget, "a");
    eventually("it is paused", LONG, || pelton.log().contains("transform.paused").then_some(()));
    // The neighbour takes records that came before and after.
    scene.produce("in", &numbered(1_000, 2_000));
    assert_each_once_in_order(scene.reader("out").read(2_000, LONG), 2_000);
    assert_eq!(pelton.stop(), Some(0));
    let failed = scene.reader("bad.dead").read(40, LONG).len();
    assert!((40..=40 + 128).contains(&failed), "{failed} dead letters: at most the batch in which it tripped");
    let committed: i64 = scene.committed("bad.in", 2).iter().sum();
    assert_eq!(committed, failed as i64, "what is settled is committed, and nothing else");

    // Mended: here, the budget is taken away.
    let mut pelton = Pelton::start(&scene.config("", &[IDENTITY, BAD]), "a");
    assert_eq!(asked(scene.reader("bad.dead").read(1_000, LONG)), (0..1_000).collect::<Vec<_>>(), "each once");
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn a_budget_can_end_the_process() {
    let scene = Scene::new("budgetstop", &TOPICS);
    let config = scene.config("", &[BAD]).replace(
        "on_error: { then: dead_letter,",
        "on_error: { budget: { failures: 5, within: 1m, then: stop }, then: dead_letter,",
    );
    scene.produce("bad.in", &asks("trap", 20));
    let mut pelton = Pelton::start(&config, "a");
    let status = pelton.wait(LONG);
    assert_eq!(status.code(), Some(1), "{}", pelton.log());
    assert!(pelton.log().contains("transform.over_budget"), "{}", pelton.log());
}

#[test]
fn a_trap_leaves_the_names_of_the_functions_that_ran() {
    let scene = Scene::new("backtrace", &TOPICS);
    scene.produce("bad.in", &asks("trap", 1));
    let mut pelton = Pelton::start(&scene.config("", &[BAD]), "a");
    let mut dead = scene.reader("bad.dead");
    let letter = &dead.read(1, LONG)[0];
    assert_eq!(letter.header("pelton.error.code").as_deref(), Some("guest.trap"));
    let backtrace = letter.header("pelton.error.backtrace").unwrap();
    assert!(backtrace.contains("tester::Tester"), "{backtrace}");
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn a_share_slows_a_transform_down_and_loses_nothing() {
    let scene = Scene::new("share", &TOPICS);
    let config =
        scene.config("", &[IDENTITY, BAD]).replace("    on_error:", "    limits: { share: 200 }\n    on_error:");
    // Each takes its deadline of 5 ms: 300 of them are more than a second of work, six with a fifth of the time.
    scene.produce("bad.in", &asks("spin", 300));
    scene.produce("in", &numbered(0, 5_000));
    let mut pelton = Pelton::start(&config, "a");
    assert_each_once_in_order(scene.reader("out").read(5_000, LONG), 5_000);
    let dead = asked(scene.reader("bad.dead").read(300, LONG));
    assert_eq!(dead, (0..300).collect::<Vec<_>>(), "paused and resumed again and again: each once");
    assert_eq!(pelton.stop(), Some(0));
}
