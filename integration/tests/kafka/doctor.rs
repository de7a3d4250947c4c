//! `pelton doctor` on a real Kafka: it says what is well and what is not, shows no secret, and harms nobody who is at work.

use crate::support::{IDENTITY, LONG, Scene, ask, assert_each_once_in_order, numbered, observed};
use pelton_integration::eventually;
use pelton_integration::process::Pelton;
use pelton_integration::scrape::{Scrape, free_port, get};
use serde_json::Value;

/// The findings of a point, as `about: status code`.
fn of(answer: &Value, point: &str) -> Vec<String> {
    let all = answer["findings"].as_array().unwrap().iter().filter(|finding| finding["point"] == point);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    all.map(|finding| format!("{}: {} {}", text(&finding["about"]), text(&finding["status"]), text(&finding["code"])))
        .collect()
}

fn message(answer: &Value, point: &str) -> String {
    let all = answer["findings"].as_array().unwrap();
    let found = all.iter().find(|finding| finding["point"] == point);
    found.unwrap_or_else(|| panic!("no {point}: {answer:#}"))["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_doctor_beside_a_running_process_finds_it_well_and_fences_nobody() {
    let scene = Scene::new("doctor", &[("in", 2), ("out", 2)]);
    let port = free_port();
    let config = observed(&scene.config("", &[IDENTITY]), port);
    // Before anybody runs.
    let (exit, answer) = ask(&config, &["doctor"]);
    assert_eq!((exit, &answer["ok"]), (0, &true.into()), "{answer:#}");
    assert_eq!(of(&answer, "admin"), [format!("127.0.0.1:{port}: ok -")]);
    assert!(message(&answer, "group").contains("nobody has run yet"), "{answer:#}");

    let mut pelton = Pelton::start(&config, "a");
    let mut out = scene.reader("out");
    let mut sent = 0;
    let mut produce = |count: usize| {
        scene.produce("in", &numbered(sent, sent + count));
        sent += count;
        sent
    };
    out.read(produce(1_000), LONG);
    eventually("it is ready", LONG, || (get(port, "/readyz")?.0 == 200).then_some(()));
    let mut wanted = 0;
    for _ in 0..3 {
        wanted = produce(2_000);
        let (exit, answer) = ask(&config, &["doctor"]);
        assert_eq!(exit, 0, "{answer:#}");
        assert_eq!(of(&answer, "server"), [format!("{}: ok -", scene.broker.bootstrap)], "{answer:#}");
        assert_eq!(of(&answer, "transform"), ["identity: ok -"]);
        let topics = ["in", "out"].map(|topic| format!("{}: ok -", scene.topic(topic)));
        assert_eq!(of(&answer, "topic"), topics);
        assert!(of(&answer, "replication").contains(&format!("{}: warn kafka.replication", scene.topic("out"))));
        for point in ["config", "group", "transactions", "clock", "version", "session_timeout"] {
            assert_eq!(of(&answer, point), ["-: ok -"], "{point}: {answer:#}");
        }
        assert!(message(&answer, "group").starts_with("1 member (Stable)"), "{answer:#}");
        assert!(message(&answer, "version").contains("4.0 or newer"), "{answer:#}");
        assert!(message(&answer, "admin").contains("is ready"), "{answer:#}");
        assert_eq!(of(&answer, "open_files").len() + of(&answer, "memory").len() + of(&answer, "cache").len(), 3);
    }
    assert_each_once_in_order(out.read(wanted, LONG), wanted);
    let scrape = Scrape::of(port).unwrap();
    let count =
        |name: &str| scrape.samples.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, v)| v).sum::<f64>();
    assert_eq!(count("pelton_producer_renewals_total"), 0.0, "{}", scrape.text);
    assert_eq!(count("pelton_transactions_total{result=\"rolled_back\""), 0.0, "{}", scrape.text);
    assert_eq!(pelton.stop(), Some(0));
    assert!(!pelton.log().contains("fenced"), "{}", pelton.log());
}

#[test]
fn what_is_wrong_is_told_with_its_code_and_without_secrets() {
    const SECRET: &str = "hunter2-is-not-for-anybody";
    let scene = Scene::new("patient", &[("in", 1)]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pinned = scene
        .config("", &[IDENTITY])
        .replace("admin: off", &format!("admin: {{ listen: '{}' }}", taken.local_addr().unwrap()))
        .replace("    input:", &format!("    sha256: {}\n    input:", "a".repeat(64)));
    let (exit, answer) = ask(&pinned, &["doctor"]);
    assert_eq!((exit, &answer["ok"]), (1, &false.into()));
    assert_eq!(of(&answer, "transform"), ["identity: fail module.load"], "{answer:#}");
    assert_eq!(of(&answer, "topic"), ["-: fail kafka.topic"], "{answer:#}");
    assert_eq!(of(&answer, "admin"), [format!("{}: fail admin.in_use", taken.local_addr().unwrap())]);
    assert_eq!(of(&answer, "transactions"), ["-: ok -"], "one thing that is wrong hides no other");

    // Credentials for a broker that wants none; it ends the connection, and says so in its own log only.
    let properties = format!(
        "  properties: {{ security.protocol: sasl_ssl, sasl.mechanism: PLAIN, sasl.username: me, sasl.password: {SECRET} }}\n"
    );
    let locked = scene
        .config("", &[IDENTITY])
        .replace("  session_timeout: 6s\n", &format!("  session_timeout: 6s\n{properties}"));
    let (exit, answer) = ask(&locked, &["doctor"]);
    assert_eq!(exit, 1);
    assert_eq!(of(&answer, "server"), [format!("{}: fail kafka.tls", scene.broker.bootstrap)], "{answer:#}");
    assert_eq!(of(&answer, "topic"), ["-: skip -"], "{answer:#}");
    assert!(!answer.to_string().contains(SECRET));

    // A second server that is not there is no more than a warning: clients start by the first.
    // Its name is too long for one: nobody has to be asked for it who may not answer.
    let nowhere = format!("{}.invalid:9092", "x".repeat(64));
    let spare = scene.config("", &[IDENTITY]).replace(
        &format!("bootstrap_servers: {}", scene.broker.bootstrap),
        &format!("bootstrap_servers: '{}, {nowhere}'", scene.broker.bootstrap),
    );
    let (_, answer) = ask(&spare, &["doctor"]);
    assert_eq!(
        of(&answer, "server"),
        [format!("{}: ok -", scene.broker.bootstrap), format!("{nowhere}: warn kafka.name")],
        "{answer:#}"
    );
}
