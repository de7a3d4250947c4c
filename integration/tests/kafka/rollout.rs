//! A new version is tried beside the running one before it takes over, and there is a way back.

use crate::support::{
    LONG, MARKER, Scene, Step, ask, assert_each_once_in_order, last_mark, numbered, numbers, with_socket,
};
use pelton_integration::eventually;
use pelton_integration::process::Pelton;
use pelton_integration::scrape::{Scrape, free_port};

#[test]
fn a_rollback_goes_back_at_once_and_holds_the_version_off_until_it_is_asked_for() {
    let scene = Scene::new("rollback", &[("in", 2), ("out", 2)]);
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("admin");
    let port = free_port();
    let config = |mark: &str| {
        let config = with_socket(&scene, &socket, Step { settings: mark, ..MARKER }, "");
        config.replace("127.0.0.1:0", &format!("127.0.0.1:{port}"))
    };
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
    let (code, answer) = ask(&b, &["reload"]);
    assert_eq!((code, answer["code"].as_str()), (1, Some("reload.held_back")), "{answer}");
    assert!(pelton.log().contains("reload.held_back"));
    let (_, answer) = ask(&b, &["transforms", "marker"]);
    assert_eq!((answer["generation"].as_u64(), answer["generations"][0]["generation"].as_u64()), (Some(1), Some(2)));
    assert_eq!(answer["held_back"], true);
    let scrape = Scrape::of(port).unwrap();
    assert_eq!(scrape.value("pelton_last_reload_successful"), Some(1.0), "the configuration itself is right");
    assert_eq!(scrape.value("pelton_transform_held_back{transform=\"marker\"}"), Some(1.0), "{}", scrape.text);
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
        with_socket(
            &scene,
            &socket,
            step,
            "    rollout: { canary: { partitions: 20%, for: 1h }, budget: { p99: 0% } }\n",
        )
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
