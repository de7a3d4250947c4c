//! A changed configuration or module is taken up while records flow: each record once, each transaction by one generation;
//! what is wrong changes nothing.

use crate::support::{IDENTITY, LONG, Scene, Step, assert_each_once_in_order, numbered};
use pelton_integration::kafka::Record;
use pelton_integration::process::Pelton;
use pelton_integration::{eventually, guest};
use std::collections::BTreeMap;
use std::fs;

const MARKER: Step<'_> = Step { name: "marker", guest: "marker", settings: "mark: a", ..IDENTITY };

fn says(pelton: &Pelton, text: &str) {
    eventually(&format!("the log has: {text}"), LONG, || pelton.log().contains(text).then_some(()));
}

/// The marks of each partition, in order, each change once.
fn marks(records: &[Record]) -> BTreeMap<i32, Vec<String>> {
    let mut marks: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for record in records {
        let mark = record.header("mark").unwrap_or_default();
        let of = marks.entry(record.partition).or_default();
        if of.last() != Some(&mark) {
            of.push(mark);
        }
    }
    marks
}

#[test]
fn settings_change_under_a_stream_of_records_without_losing_or_mixing_any() {
    let scene = Scene::new("reload", &[("in", 4), ("out", 4)]);
    let config = |mark: &str| scene.config("", &[Step { settings: mark, ..MARKER }]);
    let mut pelton = Pelton::start(&config("mark: a"), "a");
    let mut out = scene.reader("out");
    let mut sent = 0;
    for (i, mark) in ["a", "b", "c", "d"].into_iter().enumerate() {
        if i > 0 {
            pelton.reconfigure(&config(&format!("mark: {mark}")));
            pelton.signal(libc::SIGHUP);
            // Records come while it is taken up.
            scene.produce("in", &numbered(sent, sent + 2_000));
            sent += 2_000;
            let generation = i + 1;
            says(&pelton, &format!("generation={generation}"));
        }
        scene.produce("in", &numbered(sent, sent + 2_000));
        sent += 2_000;
        eventually("the new mark is seen", LONG, || {
            out.poll(std::time::Duration::from_millis(50)).unwrap();
            out.records.last().is_some_and(|r| r.header("mark").as_deref() == Some(mark)).then_some(())
        });
    }
    assert_each_once_in_order(out.read(sent, LONG), sent);
    for (partition, seen) in marks(&out.records) {
        let expected = ["a", "b", "c", "d"];
        let at = |mark: &String| expected.iter().position(|e| e == mark);
        assert!(seen.windows(2).all(|w| at(&w[0]) < at(&w[1])), "partition {partition}: {seen:?}");
    }
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn a_module_that_takes_another_s_place_is_noticed() {
    let scene = Scene::new("swap", &[("in", 1), ("out", 1)]);
    let place = tempfile::tempdir().unwrap();
    // As kubelet mounts a ConfigMap: `module.wasm` -> `..data/module.wasm`, and `..data` changes.
    let put = |version: &str, module: &str| {
        let dir = place.path().join(version);
        fs::create_dir(&dir).unwrap();
        fs::copy(guest::module(module), dir.join("module.wasm")).unwrap();
        std::os::unix::fs::symlink(version, place.path().join("..next")).unwrap();
        fs::rename(place.path().join("..next"), place.path().join("..data")).unwrap();
    };
    put("..v1", "identity");
    std::os::unix::fs::symlink("..data/module.wasm", place.path().join("module.wasm")).unwrap();
    let module = place.path().join("module.wasm").display().to_string();
    let config = scene.config("", &[IDENTITY]).replace(&guest::module("identity").display().to_string(), &module);
    let mut pelton = Pelton::start(&config, "a");
    scene.produce("in", &numbered(0, 100));
    let mut out = scene.reader("out");
    out.read(100, LONG);
    // It wants a setting that is not there: refused, and the old one goes on.
    put("..v2", "redact");
    says(&pelton, "reload.refused");
    scene.produce("in", &numbered(100, 200));
    out.read(200, LONG);
    put("..v3", "identity");
    // The module that runs already: nothing changes.
    says(&pelton, "nothing has changed");
    // A file that is gone is no reason to stop.
    fs::remove_file(place.path().join("module.wasm")).unwrap();
    eventually("it is noticed", LONG, || (pelton.log().matches("reload.refused").count() == 2).then_some(()));
    scene.produce("in", &numbered(200, 300));
    assert_each_once_in_order(out.read(300, LONG), 300);
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn what_is_wrong_or_cannot_change_is_told_and_changes_nothing() {
    let scene = Scene::new("noreload", &[("in", 1), ("out", 1)]);
    let good = scene.config("", &[MARKER]);
    let mut pelton = Pelton::start(&good, "a");
    says(&pelton, "running");
    let refused = |config: &str, expected: &str| {
        pelton.reconfigure(config);
        pelton.signal(libc::SIGHUP);
        says(&pelton, expected);
    };
    refused(&good.replace("workers: 1", "workers: many"), "`workers` cannot be `many`");
    refused(&good.replace("workers: 1", "workers: 2"), "keys=\"workers\"");
    refused(&good.replace("mark: a", "mark: a, fail: true"), "told to fail");
    let other = good.replace(&scene.topic("out"), &scene.topic("missing"));
    refused(&other, "missing` does not exist");
    refused(&good.replace("application: ", "application: x"), "keys=\"application\"");
    scene.produce("in", &numbered(0, 100));
    let mut out = scene.reader("out");
    assert!(out.read(100, LONG).iter().all(|r| r.header("mark").as_deref() == Some("a")));
    // Many at once are one or two; the last one counts.
    pelton.reconfigure(&good.replace("mark: a", "mark: z"));
    (0..50).for_each(|_| pelton.signal(libc::SIGHUP));
    says(&pelton, "generation=2");
    scene.produce("in", &numbered(100, 200));
    eventually("the new mark is seen", LONG, || {
        out.poll(std::time::Duration::from_millis(50)).unwrap();
        out.records.last().is_some_and(|r| r.header("mark").as_deref() == Some("z")).then_some(())
    });
    assert_each_once_in_order(out.read(200, LONG), 200);
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn transforms_and_topics_come_and_go_while_records_flow() {
    let topics = ["in", "more", "out", "other", "copies"].map(|topic| (topic, 2));
    let scene = Scene::new("topology", &topics);
    let copies = Step { name: "copies", input: "more", output: "copies", ..IDENTITY };
    let one = scene.config("", &[IDENTITY]);
    let two = scene.config("", &[copies, IDENTITY]);
    let mut pelton = Pelton::start(&one, "a");
    let (mut out, mut other, mut copied) = (scene.reader("out"), scene.reader("other"), scene.reader("copies"));
    let mut sent = 0;
    let mut send = |topic: &str, count: usize| {
        scene.produce(topic, &numbered(sent, sent + count));
        sent += count;
        sent
    };
    let reconfigure = |config: &str, times: usize| {
        pelton.reconfigure(config);
        pelton.signal(libc::SIGHUP);
        eventually("it is taken up", LONG, || (pelton.log().matches("reloaded").count() == times).then_some(()));
    };
    scene.produce("more", &numbered(0, 100));
    send("in", 1000);
    // A transform comes, with a topic to read and one to write.
    reconfigure(&two, 1);
    send("in", 1000);
    assert_each_once_in_order(copied.read(100, LONG), 100);
    // It goes: its topic is not read any more.
    reconfigure(&one, 2);
    let sent_so_far = send("in", 1000);
    assert_each_once_in_order(out.read(sent_so_far, LONG), sent_so_far);
    scene.produce("more", &numbered(100, 200));
    // It comes back and goes on where it was; the other one writes elsewhere now.
    reconfigure(&two.replace(&scene.topic("out"), &scene.topic("other")), 3);
    scene.produce("in", &numbered(0, 500));
    scene.produce("more", &numbered(200, 300));
    assert_each_once_in_order(copied.read(300, LONG), 300);
    assert_each_once_in_order(other.read(500, LONG), 500);
    // Both read one topic.
    let both = scene.config("", &[Step { input: "in", ..copies }, IDENTITY]);
    reconfigure(&both, 4);
    scene.produce("in", &numbered(3000, 3100));
    out.read(sent_so_far + 100, LONG);
    assert_each_once_in_order(&out.records, sent_so_far + 100);
    copied.read(400, LONG);
    assert_eq!(copied.records.len(), 400);
    assert_eq!(scene.committed("in", 2).iter().sum::<i64>(), 3600);
    assert_eq!(pelton.stop(), Some(0));
    assert_eq!(other.records.len(), 500);
}
