//! A changed configuration or module is taken up while records flow: each record once, each transaction by one generation;
//! what is wrong changes nothing.

use crate::support::{IDENTITY, LONG, Scene, Step, assert_each_once_in_order, numbered, numbers};
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
            says(&pelton, &format!("transform=\"marker\" generation={generation}"));
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
    says(&pelton, "to=\"serving\" after");
    eventually("fifty reloads have become one or two", LONG, || {
        let log = pelton.log();
        let (taken, same) = (log.matches("reloaded: workers").count(), log.matches("nothing has changed\n").count());
        assert!(taken + same < 20, "{log}");
        (taken == 1).then_some(())
    });
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

/// A configuration with a Unix socket, which takes orders.
fn with_socket(scene: &Scene, socket: &std::path::Path, step: Step<'_>, more: &str) -> String {
    let admin = format!("admin: {{ listen: \"127.0.0.1:0\", socket: {} }}", socket.display());
    scene.config("", &[step]).replace("admin: off", &admin) + more
}

/// `pelton ARGS` against the process of this configuration: exit code, and the answer.
fn ask(config: &str, args: &[&str]) -> (i32, serde_json::Value) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config.yaml");
    fs::write(&file, config).unwrap();
    let output = std::process::Command::new(pelton_integration::process::binary())
        .args(args)
        .args(["--output", "json", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    let answer = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), answer)
}

fn last_mark(out: &mut pelton_integration::kafka::Reader, mark: &str) {
    eventually(&format!("mark {mark} is seen"), LONG, || {
        out.poll(std::time::Duration::from_millis(50)).unwrap();
        out.records.last().is_some_and(|r| r.header("mark").as_deref() == Some(mark)).then_some(())
    });
}

#[test]
fn a_rollback_goes_back_at_once_and_holds_the_version_off_until_it_is_asked_for() {
    let scene = Scene::new("rollback", &[("in", 2), ("out", 2)]);
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("admin");
    let config = |mark: &str| with_socket(&scene, &socket, Step { settings: mark, ..MARKER }, "");
    let (a, b) = (config("mark: a"), config("mark: b"));
    let mut pelton = Pelton::start(&a, "a");
    let mut out = scene.reader("out");
    let mut sent = 0;
    let mut send = || {
        scene.produce("in", &numbered(sent, sent + 500));
        sent += 500;
    };
    send();
    last_mark(&mut out, "a");
    let (code, answer) = ask(&a, &["rollback", "marker"]);
    assert_eq!((code, answer["code"].as_str()), (1, Some("rollback.nothing")));
    pelton.reconfigure(&b);
    let (code, answer) = ask(&b, &["reload"]);
    assert_eq!((code, answer["result"].as_str()), (0, Some("applied")), "{answer}");
    send();
    last_mark(&mut out, "b");
    let (code, answer) = ask(&b, &["rollback", "marker"]);
    assert_eq!((code, answer["result"].as_str()), (0, Some("applied")), "{answer}");
    assert!(answer["took_ms"].as_u64().unwrap() < 1000, "it compiles nothing: {answer}");
    send();
    last_mark(&mut out, "a");
    // The configuration still asks for it; it is held off.
    let (_, answer) = ask(&b, &["reload"]);
    assert_eq!(answer["result"], "unchanged");
    assert!(pelton.log().contains("reload.held_back"));
    let (_, answer) = ask(&b, &["transforms", "marker"]);
    assert_eq!((answer["generation"].as_u64(), answer["generations"][0]["generation"].as_u64()), (Some(1), Some(2)));
    eventually("its last instance is gone", LONG, || {
        send();
        let (_, answer) = ask(&b, &["transforms", "marker"]);
        (answer["generations"][0]["stage"] == "retired").then_some(())
    });
    // Until somebody says so.
    let (_, answer) = ask(&b, &["reload", "--retry"]);
    assert_eq!(answer["result"], "applied", "{answer}");
    send();
    last_mark(&mut out, "b");
    assert_eq!(ask(&b, &["rollback", "nobody"]).0, 1);
    assert_each_once_in_order(out.read(sent, LONG), sent);
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn a_canary_that_traps_on_one_percent_is_rolled_back_by_itself() {
    let scene = Scene::new("canary", &[("in", 10), ("out", 10), ("dead", 1)]);
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("admin");
    let config = |settings: &str| {
        let step = Step { settings, dead_letters: Some("dead"), ..MARKER };
        with_socket(&scene, &socket, step, "    rollout: { canary: { partitions: 20%, for: 1h } }\n")
    };
    let (a, b) = (config("mark: a"), config("mark: b, trap: 100"));
    let mut pelton = Pelton::start(&a, "a");
    let (mut out, mut dead) = (scene.reader("out"), scene.reader("dead"));
    scene.produce("in", &numbered(1, 2_000));
    out.read(1_999, LONG);
    pelton.reconfigure(&b);
    assert_eq!(ask(&b, &["reload"]).1["result"], "applied");
    let mut sent = 2_000;
    let mut tried = serde_json::Value::Null;
    eventually("it is rolled back", LONG, || {
        scene.produce("in", &numbered(sent, sent + 200));
        sent += 200;
        let (_, answer) = ask(&b, &["transforms", "marker"]);
        if !answer["trial"].is_null() {
            tried = answer["trial"].clone();
        }
        pelton.log().contains("rollout.rolled_back").then_some(())
    });
    assert_eq!((tried["kind"].as_str(), tried["partitions"].as_f64()), (Some("canary"), Some(0.2)), "{tried}");
    // From here on only the old one: nothing fails any more.
    let (_, answer) = ask(&b, &["transforms", "marker"]);
    assert!(answer["trial"].is_null(), "{answer}");
    eventually("the old one has every partition", LONG, || {
        scene.produce("in", &numbered(sent, sent + 200));
        sent += 200;
        pelton.log().contains("to=\"retired\"").then_some(())
    });
    scene.produce("in", &numbered(sent, sent + 2_000));
    sent += 2_000;
    eventually("everything has come out", LONG, || {
        let short = std::time::Duration::from_millis(100);
        (dead.poll(short).unwrap() + out.poll(short).unwrap() == 0
            && out.records.len() + dead.records.len() + 1 >= sent)
            .then_some(())
    });
    let failed = numbers(&dead.records);
    assert!(failed.len() >= 3, "{failed:?}");
    assert!(failed.iter().all(|number| *number < sent - 2_000), "the old one fails on none: {failed:?}");
    // Each number once, in the outputs or in the dead letters; each key in order.
    let mut all = numbers(&out.records);
    all.extend(numbers(&dead.records));
    all.sort_unstable();
    assert_eq!(all, (1..sent).collect::<Vec<_>>());
    // Two partitions of ten had it.
    let with_b: std::collections::BTreeSet<i32> =
        out.records.iter().filter(|r| r.header("mark").as_deref() == Some("b")).map(|r| r.partition).collect();
    assert_eq!(with_b.into_iter().collect::<Vec<_>>(), [4, 9]);
    // The story, in five lines.
    let log = pelton.log();
    let story = ["being prepared", "to=\"trial\"", "rollout.rolled_back", "to=\"rolled_back\"", "to=\"retired\""];
    let places: Vec<Option<usize>> = story.iter().map(|line| log.rfind(line)).collect();
    assert!(places.is_sorted() && places[0].is_some(), "{places:?}\n{log}");
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn a_shadow_is_compared_and_writes_nothing_until_it_takes_over() {
    let scene = Scene::new("shadow", &[("in", 2), ("out", 2)]);
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("admin");
    let config = |mark: &str| {
        let step = Step { settings: mark, ..MARKER };
        with_socket(&scene, &socket, step, "    rollout: { shadow: { for: 1h, compare: json } }\n")
    };
    let (a, b) = (config("mark: a"), config("mark: b"));
    let mut pelton = Pelton::start(&a, "a");
    let mut out = scene.reader("out");
    scene.produce("in", &numbered(0, 500));
    out.read(500, LONG);
    pelton.reconfigure(&b);
    assert_eq!(ask(&b, &["reload"]).1["result"], "applied");
    scene.produce("in", &numbered(500, 1_500));
    let answer = eventually("both had them", LONG, || {
        let (_, answer) = ask(&b, &["transforms", "marker"]);
        (answer["trial"]["compared"].as_u64()? >= 1_000).then_some(answer)
    });
    let trial = &answer["trial"];
    assert_eq!((trial["differences"].as_u64(), trial["candidate"]["failures"].as_u64()), (Some(1_000), Some(0)));
    let sample = trial["samples"][0]["record"].as_str().unwrap();
    assert!(sample.starts_with(&scene.topic("in")), "{sample}");
    assert!(out.read(1_500, LONG).iter().all(|r| r.header("mark").as_deref() == Some("a")), "the old one counts");
    // Enough seen.
    assert_eq!(ask(&b, &["promote", "marker"]).1["result"], "applied");
    assert_eq!(ask(&b, &["promote", "marker"]).1["code"], "promote.nothing");
    scene.produce("in", &numbered(1_500, 2_000));
    last_mark(&mut out, "b");
    assert_each_once_in_order(out.read(2_000, LONG), 2_000);
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn a_version_that_fails_on_recent_records_is_refused() {
    let scene = Scene::new("selfcheck", &[("in", 1), ("out", 1)]);
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("admin");
    let config = |settings: &str| with_socket(&scene, &socket, Step { settings, ..MARKER }, "");
    let (a, b) = (config("mark: a"), config("mark: b, trap: 1"));
    let mut pelton = Pelton::start(&a, "a");
    let mut out = scene.reader("out");
    scene.produce("in", &numbered(0, 100));
    out.read(100, LONG);
    pelton.reconfigure(&b);
    let (code, answer) = ask(&b, &["reload"]);
    assert_eq!((code, answer["code"].as_str()), (1, Some("reload.refused")));
    let message = answer["message"].as_str().unwrap();
    assert!(message.contains("recent records, the last time with guest.panic"), "{message}");
    scene.produce("in", &numbered(100, 200));
    assert!(out.read(200, LONG).iter().all(|r| r.header("mark").as_deref() == Some("a")));
    assert_eq!(pelton.stop(), Some(0));
}
