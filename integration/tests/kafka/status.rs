//! The status page and the API say what happens during a run, and nothing of what records hold; a pause by hand loses nothing.

use crate::support::{
    IDENTITY, LONG, MARKER, Scene, Step, ask, assert_each_once_in_order, last_mark, numbered, numbers,
    with_quick_statistics,
};
use pelton_integration::eventually;
use pelton_integration::kafka::Record;
use pelton_integration::process::Pelton;
use pelton_integration::scrape::{Scrape, free_port, get, post};
use serde_json::Value;

const TOKEN: &str = "only-for-this-test";

fn status(port: u16) -> Value {
    let (code, body) = get(port, "/api/v1/status").unwrap();
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn with_admin(config: &str, port: u16) -> String {
    let admin = format!("admin: {{ listen: \"127.0.0.1:{port}\", token: {{ env: PELTON_TEST_TOKEN }} }}");
    with_quick_statistics(&config.replace("admin: off", &admin))
}

#[test]
fn page_and_api_tell_of_a_run_with_a_dead_letter() {
    let scene = Scene::new("status", &[("in", 2), ("out", 2), ("dead", 1)]);
    let port = free_port();
    let step = |settings| Step { settings, dead_letters: Some("dead"), ..MARKER };
    let config = |settings| with_admin(&scene.config("reload_on_change: false", &[step(settings)]), port);
    let env = [("PELTON_TEST_TOKEN", TOKEN)];
    let mut pelton = Pelton::start_in(&config("mark: a, trap: 50"), "a", &[], &env);
    let records: Vec<Record> = numbered(1, 100);
    scene.produce("in", &records);
    scene.reader("out").read(98, LONG);
    scene.reader("dead").read(1, LONG);
    let now = eventually("everything is told", LONG, || {
        let now = status(port);
        (now["counts"]["records_in"] == 99 && now["inputs"][0]["lag_records"] == 0 && now["ready"] == true)
            .then_some(now)
    });
    assert_eq!((&now["counts"]["failures"], &now["counts"]["dead_letters"]), (&1.into(), &1.into()), "{now}");
    let transform = &now["transforms"][0];
    assert_eq!(
        (&transform["name"], &transform["generation"], &transform["failures"]),
        (&"marker".into(), &1.into(), &1.into())
    );
    assert_eq!(
        (&transform["emitted"], &transform["kept"], &transform["dropped"]),
        (&98.into(), &0.into(), &0.into()),
        "{now}"
    );
    assert!(transform["rate_out"].is_number() && now["rates"].get("latency_p99_seconds").is_some(), "{now}");
    assert_eq!(transform["dead_letters_to"], scene.topic("dead"));
    let reject = &now["rejects"][0];
    assert_eq!(reject["code"], "guest.panic", "{now}");
    let place = reject["record"].as_str().unwrap().to_owned();
    assert!(place.starts_with(&format!("{}/", scene.topic("in"))), "{place}");
    let page = get(port, "/").unwrap().1;
    for part in ["marker", &place, "guest.panic", "serving", &scene.topic("out"), ">98<"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let partitions: Value = serde_json::from_str(&get(port, "/api/v1/partitions").unwrap().1).unwrap();
    let partitions = partitions["partitions"].as_array().unwrap().clone();
    assert_eq!(partitions.len(), 2);
    let read: i64 = partitions.iter().map(|of| of["position"].as_i64().unwrap()).sum();
    let committed: i64 = partitions.iter().map(|of| of["committed"].as_i64().unwrap()).sum();
    assert_eq!((read, committed), (99, 99), "{partitions:?}");
    let lanes: Vec<&Value> = partitions.iter().map(|of| &of["lane"]).collect();
    assert_eq!(lanes, [0, 1]);
    let shown = get(port, "/api/v1/config").unwrap().1;
    assert!(shown.contains("\"application\"") && !shown.contains(TOKEN), "{shown}");
    // Another filter for the log, for those who may.
    assert_eq!(post(port, "/api/v1/log?level=debug", None).unwrap().0, 401);
    assert_eq!(post(port, "/api/v1/log?level=loud", Some(TOKEN)).unwrap().0, 400);
    assert_eq!(post(port, "/api/v1/log?level=error", Some(TOKEN)).unwrap().0, 200);
    pelton.reconfigure(&config("mark: b, trap: 50"));
    let (code, answer) = post(port, "/api/v1/reload", Some(TOKEN)).unwrap();
    assert_eq!(code, 200, "{answer}");
    assert!(!pelton.log().contains("reloaded: workers"), "{}", pelton.log());
    assert_eq!(post(port, "/api/v1/log?level=pelton=info,warn", Some(TOKEN)).unwrap().0, 200);
    let (code, answer) = post(port, "/api/v1/reload", Some(TOKEN)).unwrap();
    assert_eq!((code, answer.contains("unchanged")), (200, true), "{answer}");
    assert!(pelton.log().contains("nothing has changed"), "{}", pelton.log());
    let now = status(port);
    assert_eq!(
        (&now["transforms"][0]["generation"], &now["transforms"][0]["previous"]["generation"]),
        (&2.into(), &1.into())
    );
    let shown = get(port, "/api/v1/config").unwrap().1;
    assert!(shown.contains("\"b\""), "it shows what is gone by now: {shown}");
    assert_eq!(pelton.stop(), Some(0));
    assert!(!pelton.log().contains(TOKEN));
}

#[test]
fn a_pause_by_hand_outlasts_a_reload_and_loses_nothing() {
    let scene = Scene::new("pause", &[("in", 2), ("out", 2), ("beside", 1), ("past", 1)]);
    let home = tempfile::tempdir().unwrap();
    let (socket, port) = (home.path().join("admin"), free_port());
    let beside = Step { name: "neighbour", input: "beside", output: "past", ..IDENTITY };
    let admin = format!("admin: {{ listen: \"127.0.0.1:{port}\", socket: {} }}", socket.display());
    let config = |settings: &str| {
        scene.config("reload_on_change: false", &[Step { settings, ..MARKER }, beside]).replace("admin: off", &admin)
    };
    let (a, b) = (config("mark: a"), config("mark: b"));
    let mut pelton = Pelton::start(&a, "a");
    let (mut out, mut past) = (scene.reader("out"), scene.reader("past"));
    scene.produce("in", &numbered(0, 1_000));
    out.read(1_000, LONG);
    assert_eq!(ask(&a, &["resume", "marker"]).1["result"], "unchanged");
    assert_eq!(ask(&a, &["pause", "marker"]), (0, serde_json::json!({ "result": "applied", "took_ms": 0 })));
    let series = "pelton_transform_paused{transform=\"marker\",cause=\"hand\"}";
    assert_eq!(Scrape::of(port).unwrap().value(series), Some(1.0));
    // A batch that was under way is finished; then nothing comes, whatever is there.
    let mut sent = 1_000;
    eventually("it is held", LONG, || {
        let before = status(port)["transforms"][0]["records"].as_u64().unwrap();
        scene.produce("in", &numbered(sent, sent + 100));
        sent += 100;
        // Its neighbour goes on: when that has had a record, this one has had its time.
        scene.produce("beside", &numbered(sent, sent + 1));
        let wanted = past.records.len() + 1;
        past.read(wanted, LONG);
        let after = status(port);
        assert_eq!(after["transforms"][0]["paused_by"], "hand");
        (after["transforms"][0]["records"].as_u64().unwrap() == before).then_some(())
    });
    let held = status(port)["transforms"][0]["records"].as_u64().unwrap();
    pelton.reconfigure(&b);
    assert_eq!(ask(&b, &["reload"]).1["result"], "applied");
    scene.produce("in", &numbered(sent, sent + 1_000));
    sent += 1_000;
    scene.produce("beside", &numbered(sent, sent + 10));
    let wanted = past.records.len() + 10;
    past.read(wanted, LONG);
    let (_, now) = ask(&b, &["top", "--once"]);
    let of = &now["transforms"][0];
    assert_eq!(
        (&of["generation"], &of["paused_by"], &of["records"]),
        (&2.into(), &"hand".into(), &held.into()),
        "{now}"
    );
    assert_eq!(get(port, "/readyz").unwrap().0, 200, "by hand: nothing is the matter");
    assert_eq!(ask(&b, &["resume", "marker"]).1["result"], "applied");
    assert_each_once_in_order(out.read(sent, LONG), sent);
    last_mark(&mut out, "b");
    assert_eq!(status(port)["transforms"][0]["paused_by"], Value::Null);
    let beside = numbers(&past.records);
    assert!(beside.is_sorted(), "{beside:?}");
    assert_eq!(pelton.stop(), Some(0));
}
