//! `pelton tap` on a running process: what is processed is seen, as far as it may be; whoever looks disturbs nobody.

use crate::support::{IDENTITY, LONG, MARKER, Scene, Step, assert_each_once_in_order, numbered};
use pelton_integration::eventually;
use pelton_integration::kafka::Record;
use pelton_integration::process::{self, Pelton};
use pelton_integration::scrape::{free_port, get, post};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};

const TOKEN: &str = "only-for-this-test";
const SECRET: &str = "4111-1111-1111-1111";

/// A `pelton tap` that goes on. Killed when dropped.
struct Tapping {
    child: Child,
    out: BufReader<ChildStdout>,
    _home: tempfile::TempDir,
}

impl Tapping {
    fn start(config: &str, arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("config.yaml");
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new(process::binary())
            .args(["tap", "marker", "-c"])
            .arg(&file)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Tapping { child, out, _home: home }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// To its end: exit code, what is left of stdout, stderr.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code(), out, err)
    }
}

impl Drop for Tapping {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Setting {
    scene: Scene,
    home: tempfile::TempDir,
    port: u16,
}

impl Setting {
    fn new(name: &str) -> Self {
        let scene = Scene::new(name, &[("in", 2), ("out", 2), ("dead", 1)]);
        Setting { scene, home: tempfile::tempdir().unwrap(), port: free_port() }
    }

    fn config(&self, tap: &str) -> String {
        let socket = self.home.path().join("admin");
        let step = Step { settings: "mark: a, trap: 13", dead_letters: Some("dead"), ..MARKER };
        let admin = format!(
            "admin: {{ listen: \"127.0.0.1:{}\", token: {TOKEN}, socket: {}, tap: {tap} }}",
            self.port,
            socket.display()
        );
        self.scene.config("", &[step]).replace("admin: off", &admin)
    }

    /// Records flow as long as `wanted` wants.
    fn until<T>(&self, sent: &mut usize, what: &str, mut wanted: impl FnMut() -> Option<T>) -> T {
        eventually(what, LONG, || {
            self.scene.produce("in", &numbered(*sent, *sent + 20));
            *sent += 20;
            wanted()
        })
    }

    fn taps(pelton: &Pelton, word: &str) -> usize {
        pelton.log().lines().filter(|line| line.contains(word)).count()
    }
}

#[test]
fn records_are_seen_before_and_after_and_whoever_looks_disturbs_nobody() {
    let setting = Setting::new("tap");
    let config = setting.config("full");
    let mut pelton = Pelton::start(&config, "a");
    let (mut out, mut sent) = (setting.scene.reader("out"), 1);
    setting.until(&mut sent, "it is ready", || (get(setting.port, "/readyz")?.0 == 200).then_some(()));
    // Over the network nobody may without the token.
    assert_eq!(post(setting.port, "/api/v1/transforms/marker/tap?limit=1", None).unwrap().0, 401);
    assert_eq!(post(setting.port, "/api/v1/transforms/nobody/tap", Some(TOKEN)).unwrap().0, 404);
    assert_eq!(post(setting.port, "/api/v1/transforms/marker/tap?limit=many", Some(TOKEN)).unwrap().0, 400);

    let tap = Tapping::start(&config, &["--output", "json", "--limit", "30"]);
    setting.until(&mut sent, "it is open", || (Setting::taps(&pelton, "a tap is opened") == 1).then_some(()));
    setting.until(&mut sent, "it has seen enough", || (Setting::taps(&pelton, "a tap is closed") == 1).then_some(()));
    let (exit, lines, told) = tap.end();
    assert_eq!(exit, Some(0), "{told}");
    let seen: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(seen.len(), 30, "{lines}");
    for record in &seen {
        assert_eq!(
            (&record["topic"], &record["generation"]),
            (&setting.scene.topic("in").into(), &1.into()),
            "{record}"
        );
        let number: usize = record["before"]["value"]["text"].as_str().unwrap().parse().unwrap();
        assert_eq!(record["before"]["key"]["text"], format!("key-{number}"));
        if number.is_multiple_of(13) {
            assert_eq!((&record["outcome"], &record["code"]), (&"fault".into(), &"guest.panic".into()), "{record}");
            assert!(record["reason"].as_str().unwrap().contains("told to"), "{record}");
        } else {
            assert_eq!(record["outcome"], "emit", "{record}");
            let after = &record["after"][0];
            assert_eq!(
                (&after["topic"], &after["value"]),
                (&setting.scene.topic("out").into(), &record["before"]["value"])
            );
            assert_eq!(
                (&after["headers"][0][0]["text"], &after["headers"][0][1]["text"]),
                (&"mark".into(), &"a".into())
            );
        }
    }

    // Only what failed, as text, with the key hidden; it goes when it is killed.
    let mut failed = Tapping::start(&config, &["--failed", "--redact", "@key"]);
    setting.until(&mut sent, "it is open", || (Setting::taps(&pelton, "a tap is opened") == 2).then_some(()));
    setting.until(&mut sent, "some have failed", || (sent_letters(&setting) > 0).then_some(()));
    let first = failed.line();
    assert!(first.contains("fault guest.panic ***"), "the reason may hold the key: {first}");
    assert!(failed.line().starts_with("  - ("), "no key");
    drop(failed);
    setting.until(&mut sent, "it is closed", || (Setting::taps(&pelton, "a tap is closed") == 2).then_some(()));
    assert!(pelton.log().contains("who=uid "), "over the socket the log says who: {}", pelton.log());

    // Faster than anybody may look: nothing waits, nothing is lost.
    let flooded = Tapping::start(&config, &["--for", "3s", "--output", "json"]);
    setting.until(&mut sent, "it is open", || (Setting::taps(&pelton, "a tap is opened") == 3).then_some(()));
    setting.scene.produce("in", &numbered(sent, sent + 20_000));
    let total = sent + 20_000;
    let good = (1..total).filter(|number: &usize| !number.is_multiple_of(13)).count();
    let records = out.read(good, LONG).to_vec();
    assert_eq!(records.len(), good);
    let (exit, lines, told) = flooded.end();
    assert_eq!(exit, Some(0), "{told}");
    assert!(lines.lines().count() <= 50 * 4 + 64, "{} lines", lines.lines().count());
    assert!(told.contains("were left out so far"), "{told}");
    assert_eq!(pelton.stop(), Some(0));
    assert!(!pelton.log().contains("key-"), "no data in the log");
}

fn sent_letters(setting: &Setting) -> i64 {
    let now: Value = serde_json::from_str(&get(setting.port, "/api/v1/status").unwrap().1).unwrap();
    now["counts"]["dead_letters"].as_i64().unwrap()
}

#[test]
fn only_as_much_is_seen_as_the_configuration_allows() {
    let setting = Setting::new("tap-redacted");
    let off = setting.config("off");
    let mut pelton = Pelton::start(&off, "a");
    let mut sent = 1;
    setting.until(&mut sent, "it is ready", || (get(setting.port, "/readyz")?.0 == 200).then_some(()));
    let (exit, out, told) = Tapping::start(&off, &[]).end();
    assert_eq!((exit, out.as_str()), (Some(1), ""));
    assert!(told.contains("error[tap.off]"), "{told}");
    assert_eq!(pelton.stop(), Some(0));

    let redacted = setting.config("redacted");
    let mut pelton = Pelton::start(&redacted, "a");
    setting.until(&mut sent, "it is ready", || (get(setting.port, "/readyz")?.0 == 200).then_some(()));
    let tap = Tapping::start(&redacted, &["--output", "json", "--limit", "3", "--fields", "card", "@key"]);
    eventually("it is open", LONG, || (Setting::taps(&pelton, "a tap is opened") == 1).then_some(()));
    let card = |i| Record {
        partition: -1,
        key: Some(format!("{SECRET}-{i}").into_bytes()),
        value: Some(format!("{{\"card\":{{\"number\":\"{SECRET}\"}},\"id\":{i}}}").into_bytes()),
        ..Record::default()
    };
    eventually("it has seen enough", LONG, || {
        setting.scene.produce("in", &[card(1), card(2), card(3)]);
        (Setting::taps(&pelton, "a tap is closed") == 1).then_some(())
    });
    let (exit, lines, told) = tap.end();
    assert_eq!((exit, lines.lines().count()), (Some(0), 3), "{lines}{told}");
    assert!(lines.contains(r#""json":{"card":{"number":"text(19)"}}"#), "{lines}");
    assert!(!lines.contains(SECRET) && !pelton.log().contains(SECRET), "{lines}");
    assert_eq!(pelton.stop(), Some(0));
}

/// A plain pass without a listener, beside the same with one: each record once, in order, in both.
#[test]
fn a_tap_changes_nothing_of_what_is_written() {
    let setting = Setting::new("tap-order");
    let socket = setting.home.path().join("admin");
    let admin = format!("admin: {{ listen: \"127.0.0.1:{}\", socket: {}, tap: full }}", setting.port, socket.display());
    let config = setting.scene.config("", &[Step { name: "marker", ..IDENTITY }]).replace("admin: off", &admin);
    let mut pelton = Pelton::start(&config, "a");
    let tap = Tapping::start(&config, &["--for", "1h", "--output", "json"]);
    eventually("it is ready", LONG, || (get(setting.port, "/readyz")?.0 == 200).then_some(()));
    setting.scene.produce("in", &numbered(0, 5_000));
    assert_each_once_in_order(setting.scene.reader("out").read(5_000, LONG), 5_000);
    drop(tap);
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn four_may_look_at_a_time_and_a_transform_that_goes_ends_its_tap() {
    let setting = Setting::new("tap-four");
    let config = setting.config("full");
    let mut pelton = Pelton::start(&config, "a");
    eventually("it is ready", LONG, || (get(setting.port, "/readyz")?.0 == 200).then_some(()));
    let mut taps: Vec<Tapping> = (0..4).map(|_| Tapping::start(&config, &[])).collect();
    eventually("four look", LONG, || (Setting::taps(&pelton, "a tap is opened") == 4).then_some(()));
    let (exit, _, told) = Tapping::start(&config, &[]).end();
    assert_eq!(exit, Some(1));
    assert!(told.contains("error[tap.listeners]"), "{told}");
    // One goes; nothing flows, and it is noticed all the same.
    drop(taps.pop());
    eventually("one has gone", LONG, || (Setting::taps(&pelton, "a tap is closed") == 1).then_some(()));
    // Under another name it is another transform.
    pelton.reconfigure(&config.replace("  marker:\n", "  other:\n"));
    eventually("it is taken up", LONG, || pelton.log().contains("reloaded: workers").then_some(()));
    for tap in taps {
        let (exit, _, told) = tap.end();
        assert_eq!(exit, Some(0), "{told}");
        assert!(told.contains("the transform is no more"), "{told}");
    }
    assert_eq!(pelton.stop(), Some(0));
}
