//! The operator's tools beside a processor: where it is, moving it, and sending dead letters through again.

use crate::support::{IDENTITY, LONG, Scene, Step, assert_each_once_in_order, numbered, numbers};
use pelton_integration::kafka::Record;
use pelton_integration::process::{self, Pelton};
use pelton_integration::{eventually, kafka};
use serde_json::Value;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One call of the binary that ends by itself.
struct Called {
    exit: Option<i32>,
    out: String,
    err: String,
}

impl Called {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}:\n{}\n{}", self.out, self.err))
    }
}

fn command(scene: &Scene, config: &str, arguments: &[&str]) -> (Command, tempfile::TempDir) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("config.yaml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(process::binary());
    command.arg("-c").arg(file);
    for argument in arguments {
        command.arg(argument.replace("TOPIC:", &format!("{}.", scene.name)));
    }
    (command, home)
}

fn call(scene: &Scene, config: &str, arguments: &[&str]) -> Called {
    let (mut command, _home) = command(scene, config, arguments);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Called { exit: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A call that has to end well.
fn done(scene: &Scene, config: &str, arguments: &[&str]) -> Called {
    let called = call(scene, config, arguments);
    assert_eq!(called.exit, Some(0), "{arguments:?}\n{}\n{}", called.out, called.err);
    called
}

/// A run that can be killed. Killed when dropped.
struct Running {
    child: Child,
    home: tempfile::TempDir,
}

impl Running {
    fn start(scene: &Scene, config: &str, arguments: &[&str]) -> Self {
        let (mut command, home) = command(scene, config, arguments);
        let log = std::fs::File::create(home.path().join("log")).unwrap();
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Running { child, home }
    }

    fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of a run ---\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === offsets ===

#[test]
fn a_reset_is_refused_while_a_processor_runs_and_then_the_processor_goes_on_from_there() {
    let scene = Scene::new("reset", &[("in", 2), ("out", 2)]);
    let config = scene.config("", &[IDENTITY]);
    let fresh = done(&scene, &config, &["offsets", "show", "--output", "json"]).json();
    assert_eq!((&fresh["group"]["state"], &fresh["lag"]), (&"Dead".into(), &0.into()), "{fresh}");
    assert_eq!(fresh["partitions"][1]["committed"], Value::Null);
    let placed = |from: usize, to: usize| {
        let place = |(i, record): (usize, Record)| Record { partition: ((from + i) % 2) as i32, ..record };
        numbered(from, to).into_iter().enumerate().map(place).collect::<Vec<_>>()
    };
    scene.produce("in", &placed(0, 1_000));
    let mut pelton = Pelton::start(&config, "a");
    let mut out = scene.reader("out");
    out.read(1_000, LONG);

    let shown = eventually("everything is committed", LONG, || {
        let shown = done(&scene, &config, &["offsets", "show", "--output", "json"]).json();
        (shown["lag"] == 0).then_some(shown)
    });
    assert_eq!(shown["group"]["state"], "Stable", "{shown}");
    let member = &shown["group"]["members"][0];
    assert_eq!(member["client"], format!("pelton-{}/a/0", scene.name));
    assert_eq!(member["partitions"].as_array().unwrap().len(), 2);
    assert_eq!((&shown["partitions"][0]["committed"], &shown["partitions"][0]["low"]), (&500.into(), &0.into()));

    let dry = done(&scene, &config, &["offsets", "reset", "--to", "earliest"]);
    assert!(dry.err.contains("dry run: 2 positions would be written"), "{}", dry.err);
    assert!(dry.err.contains("1 active member"), "{}", dry.err);
    let refused = call(&scene, &config, &["offsets", "reset", "--to", "earliest", "--execute"]);
    assert_eq!(refused.exit, Some(75), "{}", refused.err);
    assert!(refused.err.contains("error[offsets.group_active]"), "{}", refused.err);
    assert!(refused.err.contains(&format!("pelton-{}/a/0", scene.name)), "{}", refused.err);
    assert_eq!(pelton.stop(), Some(0));
    assert_eq!(scene.committed("in", 2), [500, 500], "neither the dry run nor the refusal wrote anything");

    let dry = done(&scene, &config, &["offsets", "reset", "--to", "-10", "--output", "json"]).json();
    assert_eq!((&dry["executed"], &dry["changes"][1]["to"]), (&false.into(), &490.into()), "{dry}");
    assert_eq!(scene.committed("in", 2), [500, 500]);
    let reset = done(&scene, &config, &["offsets", "reset", "--to", "-10", "--execute"]);
    assert!(reset.err.contains("2 positions written"), "{}", reset.err);
    assert_eq!(scene.committed("in", 2), [490, 490]);
    let mut pelton = Pelton::start(&config, "a");
    let mut again = numbers(&out.read(1_020, LONG)[1_000..]);
    assert_eq!(pelton.stop(), Some(0));
    again.sort_unstable();
    assert_eq!(again, (980..1_000).collect::<Vec<_>>(), "the last ten of each partition, and nothing else");
    assert_eq!(scene.committed("in", 2), [500, 500]);

    // Beyond the ends it stops and says so; one partition of a topic can be meant.
    let clamped = done(&scene, &config, &["offsets", "reset", "--to", "+7", "--output", "json"]).json();
    assert_eq!(
        (&clamped["changes"][0]["to"], &clamped["changes"][0]["remark"]),
        (&500.into(), &"clamped to the end".into())
    );
    let one = ["offsets", "reset", "--to", "-9999", "--topic", "TOPIC:in", "--partition", "1", "--execute"];
    let clamped = done(&scene, &config, &one);
    assert!(clamped.out.contains("clamped to the oldest record"), "{}", clamped.out);
    assert_eq!(scene.committed("in", 2), [500, 0]);
    done(&scene, &config, &["offsets", "reset", "--to", "latest", "--execute"]);
    assert_eq!(scene.committed("in", 2), [500, 500]);

    for (arguments, what) in [
        (&["offsets", "reset", "--to", "latest", "--topic", "TOPIC:out"][..], "is no input topic"),
        (&["offsets", "reset", "--to", "latest", "--topic", "TOPIC:in", "--partition", "2"], "no partition 2"),
        (&["offsets", "reset", "--to", "yesterday"], "none of `earliest`"),
    ] {
        let refused = call(&scene, &config, arguments);
        assert_eq!(refused.exit, Some(2), "{}", refused.err);
        assert!(refused.err.contains(what), "{}", refused.err);
    }
}

#[test]
fn a_reset_by_time_goes_to_the_first_record_from_then_on() {
    let scene = Scene::new("resettime", &[]);
    let config = scene.config("", &[IDENTITY]);
    // Old records (and outputs inherit their timestamps), which the default retention would take away.
    let input = scene.topic("in");
    let keep = [("retention.ms", "-1")];
    kafka::create_topics_with(&scene.broker.bootstrap, &[(&input, 1), (&scene.topic("out"), 1)], &keep).unwrap();
    // 2023-11-14T22:13:20Z, and a record a minute.
    let at = |i: usize| 1_700_000_000_000 + i as i64 * 60_000;
    let timed = |(i, record): (usize, Record)| Record { partition: 0, timestamp_ms: Some(at(i)), ..record };
    scene.produce("in", &numbered(0, 100).into_iter().enumerate().map(timed).collect::<Vec<_>>());
    let reset = |to: &str| {
        done(&scene, &config, &["offsets", "reset", "--to", to, "--execute"]);
        scene.committed("in", 1)[0]
    };
    assert_eq!(reset("@2023-11-14T22:23:20Z"), 10, "a group that never was gets a position too");
    assert_eq!(reset("@2023-11-15T00:23:20.001+02:00"), 11);
    assert_eq!(reset(&format!("@{}", at(42))), 42);
    assert_eq!(reset("@0"), 0);
    assert_eq!(reset("@-1h"), 100, "all of them are older");
    assert_eq!(reset("@2023-11-14T23:43:20Z"), 90);
    let mut pelton = Pelton::start(&config, "a");
    assert_eq!(numbers(scene.reader("out").read(10, LONG)), (90..100).collect::<Vec<_>>());
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn tools_say_when_no_broker_answers_and_when_a_topic_is_missing() {
    let scene = Scene::new("toolsdown", &[("out", 1)]);
    let config = scene.config("", &[IDENTITY]);
    let missing = call(&scene, &config, &["offsets", "show", "--output", "json"]);
    assert_eq!((missing.exit, &missing.json()["error"]["code"]), (Some(78), &"kafka.topic".into()), "{}", missing.err);
    let none = call(&scene, &config, &["dlq", "list"]);
    assert_eq!(none.exit, Some(78), "{}", none.err);
    assert!(none.err.contains("error[dlq.none]"), "{}", none.err);
    let down = config.replace(&scene.broker.bootstrap, "127.0.0.1:1");
    let down = call(&scene, &down, &["offsets", "show"]);
    assert_eq!(down.exit, Some(69), "{}", down.err);
    assert!(down.err.contains("error[kafka.unreachable]"), "{}", down.err);
}

// === dead letters ===

const REDACT: Step<'_> = Step {
    name: "redact",
    guest: "redact",
    input: "in",
    output: "out",
    also: &[],
    settings: "fields: card",
    dead_letters: Some("dead"),
};

const REPLAY: [&str; 5] = ["dlq", "replay", "--topic", "TOPIC:dead", "--execute"];

/// Records that are a few days old in the broker's eyes would be retention's prey within the test.
fn created(i: usize) -> i64 {
    static BASE: OnceLock<i64> = OnceLock::new();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    *BASE.get_or_init(|| now() - 3_600_000) + i as i64
}

/// Record `i` as a dead letter that came from partition `i % partitions` of `in`.
fn letter(scene: &Scene, i: usize, partitions: usize, code: &str) -> Record {
    let text = |key: &str, value: String| (key.to_owned(), Some(value.into_bytes()));
    let record = numbered(i, i + 1).remove(0);
    Record {
        partition: (i % partitions) as i32,
        timestamp_ms: Some(created(i)),
        headers: vec![
            text("own", i.to_string()),
            text("__dlq.errors.topic", scene.topic("in")),
            text("__dlq.errors.partition", (i % partitions).to_string()),
            text("__dlq.errors.offset", (i / partitions).to_string()),
            text("__dlq.errors.group", scene.name.clone()),
            text("__dlq.errors.delivery.count", "1".into()),
            text("pelton.error.code", code.into()),
            text("pelton.error.transform", "redact".into()),
            text("pelton.error.digest", "00".into()),
            text("pelton.error.timestamp", created(i).to_string()),
            text("__dlq.errors.message", "no".into()),
        ],
        ..record
    }
}

fn letters(scene: &Scene, count: usize, partitions: usize) -> Vec<Record> {
    (0..count).map(|i| letter(scene, i, partitions, "guest.rejected")).collect()
}

#[test]
fn dead_letters_are_counted_shown_and_sent_through_again_as_they_were() {
    let scene = Scene::new("dlq", &[("in", 2), ("out", 2), ("dead", 2), ("mended", 2)]);
    let config = scene.config("", &[REDACT]);
    let mut sent: Vec<Record> = (0..10)
        .map(|i| Record {
            partition: i % 2,
            timestamp_ms: Some(created(i as usize)),
            key: (i != 4).then(|| format!("k{i}").into_bytes()),
            value: Some(format!(r#"{{"id":{i}}}"#).into_bytes()),
            headers: vec![("n".into(), Some(i.to_string().into_bytes())), ("n".into(), None)],
            ..Record::default()
        })
        .collect();
    let poison = [1, 4, 7];
    poison.iter().for_each(|i| sent[*i].value = Some(b"{ not json \x1b[2J".to_vec()));
    scene.produce("in", &sent);
    let mut pelton = Pelton::start(&config, "a");
    scene.reader("out").read(7, LONG);
    let mut dead = scene.reader("dead");
    dead.read(3, LONG);

    let listed = done(&scene, &config, &["dlq", "list", "--output", "json"]).json();
    let class = &listed["topics"][0]["classes"][0];
    assert_eq!(listed["topics"][0]["topic"], scene.topic("dead"));
    assert_eq!(
        (&class["transform"], &class["code"], &class["letters"]),
        (&"redact".into(), &"guest.rejected".into(), &3.into())
    );
    let cut = done(&scene, &config, &["dlq", "list", "--transform", "redact", "--limit", "2"]);
    assert!(cut.err.contains("read for 2 records only"), "{}", cut.err);
    let shown = done(&scene, &config, &["dlq", "show"]);
    assert_eq!(shown.out.lines().count(), 4, "{}", shown.out);
    assert!(shown.out.contains(&format!("{}/1@0", scene.topic("in"))), "{}", shown.out);
    assert!(!shown.out.contains("not json"), "I10: {}", shown.out);
    let shown = done(&scene, &config, &["dlq", "show", "--values", "--code", "guest.rejected"]);
    assert!(shown.out.contains(r#""{ not json \u{1b}[2J""#), "{}", shown.out);
    assert!(!shown.out.contains('\x1b'), "nothing moves the cursor");
    assert_eq!(done(&scene, &config, &["dlq", "show", "--code", "guest.deadline"]).out.lines().count(), 1);

    // Dry, then to another topic: byte for byte what was rejected.
    let replay = ["dlq", "replay", "--transform", "redact", "--to", "TOPIC:mended"];
    let dry = done(&scene, &config, &replay);
    assert!(dry.err.contains("dry run: 3 dead letters would be replayed"), "{}", dry.err);
    done(&scene, &config, &[&replay[..], &["--execute"]].concat());
    let mut mended = scene.reader("mended");
    let mut seen: Vec<Record> =
        mended.read(3, LONG).iter().map(|r| Record { offset: 0, partition: 0, ..r.clone() }).collect();
    let mut wanted: Vec<Record> = poison.iter().map(|i| Record { partition: 0, ..sent[*i].clone() }).collect();
    seen.sort();
    wanted.sort();
    assert_eq!(seen, wanted, "one time from the execution, none from the dry run, no header of ours");

    // To the source: into the same partitions, rejected again, and the run does not follow what it causes.
    let mut input = scene.reader("in");
    input.read(10, LONG);
    let replay = ["dlq", "replay", "--transform", "redact", "--execute"];
    let first = done(&scene, &config, &replay);
    assert!(first.err.contains("3 dead letters replayed"), "{}", first.err);
    let mut back: Vec<Record> = input.read(13, LONG)[10..].iter().map(|r| Record { offset: 0, ..r.clone() }).collect();
    let mut wanted: Vec<Record> = poison.iter().map(|i| sent[*i].clone()).collect();
    back.sort();
    wanted.sort();
    assert_eq!(back, wanted);
    dead.read(6, LONG);
    let second = done(&scene, &config, &[&replay[..], &["--output", "json"]].concat()).json();
    assert_eq!(
        (&second["classes"][0]["replayed"], &second["classes"][0]["before"]),
        (&3.into(), &3.into()),
        "{second}"
    );
    dead.read(9, LONG);
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn a_replay_that_is_killed_and_run_again_sends_each_dead_letter_once() {
    const COUNT: usize = 40_000;
    let scene = Scene::new("replaykill", &[("in", 4), ("out", 1), ("dead", 4)]);
    let config = scene.config("", &[REDACT]);
    scene.produce("dead", &letters(&scene, COUNT, 4));
    let mut target = scene.reader("in");
    for portion in 1..4 {
        let mut run = Running::start(&scene, &config, &REPLAY);
        eventually("some are replayed", LONG, || {
            target.poll(Duration::from_millis(10)).unwrap();
            let some = target.records.len() > portion * COUNT / 10;
            assert!(some || run.ended().is_none(), "it ended before it could be killed");
            some.then_some(())
        });
    }
    let last = done(&scene, &config, &[&REPLAY[..], &["--output", "json"]].concat()).json();
    let class = &last["classes"][0];
    let (replayed, before) = (class["replayed"].as_u64().unwrap(), class["before"].as_u64().unwrap());
    assert_eq!(replayed + before, COUNT as u64, "{last}");
    assert!(replayed > 0 && before > 0, "killed in the middle: {last}");
    let seen = target.read(COUNT, LONG);
    assert_each_once_in_order(seen, COUNT);
    for record in seen {
        let i: usize = record.text().parse().unwrap();
        assert_eq!((record.partition, record.timestamp_ms), ((i % 4) as i32, Some(created(i))));
        assert_eq!(record.headers, [("own".to_owned(), Some(i.to_string().into_bytes()))]);
    }
    let again = done(&scene, &config, &REPLAY);
    assert!(again.err.contains("0 dead letters replayed"), "{}", again.err);
}

#[test]
fn two_replays_at_once_fence_each_other_and_double_nothing() {
    const COUNT: usize = 12_000;
    let scene = Scene::new("replaytwo", &[("in", 2), ("out", 1), ("dead", 2)]);
    let config = scene.config("", &[REDACT]);
    scene.produce("dead", &letters(&scene, COUNT, 2));
    let mut runs: Vec<Running> = (0..3).map(|_| Running::start(&scene, &config, &REPLAY)).collect();
    for run in &mut runs {
        let exit = eventually("the run ends", LONG, || run.ended());
        assert!([0, 75].contains(&exit), "{exit}");
    }
    done(&scene, &config, &REPLAY);
    assert_each_once_in_order(scene.reader("in").read(COUNT, LONG), COUNT);
}

#[test]
fn filters_overlap_in_any_order_and_each_destination_has_its_own_progress() {
    let scene = Scene::new("replayfilter", &[("in", 1), ("out", 1), ("dead", 1), ("other", 1)]);
    let config = scene.config("", &[REDACT]);
    let codes = ["guest.deadline", "guest.rejected", "guest.trap"];
    scene.produce("dead", &(0..30).map(|i| letter(&scene, i, 1, codes[i % 3])).collect::<Vec<_>>());
    let mut input = scene.reader("in");
    let replay = |more: &[&str]| done(&scene, &config, &[&REPLAY[..], more].concat());
    // The first half of one code, in order; then the rest of it with others; then what is left.
    let first = replay(&["--code", "guest.rejected", "--limit", "5"]);
    assert!(first.err.contains("`--limit` ended it"), "{}", first.err);
    assert_eq!(numbers(input.read(5, LONG)), [1, 4, 7, 10, 13]);
    replay(&["--code", "guest.rejected", "--code", "guest.trap"]);
    let both: Vec<usize> = (0..30).filter(|i| i % 3 == 2 || (i % 3 == 1 && *i > 13)).collect();
    assert_eq!(numbers(&input.read(20, LONG)[5..]), both);
    replay(&[]);
    assert_eq!(numbers(&input.read(30, LONG)[20..]), (0..30).filter(|i| i % 3 == 0).collect::<Vec<_>>());
    let nothing = replay(&["--code", "guest.trap"]);
    assert!(nothing.err.contains("0 dead letters replayed"), "{}", nothing.err);
    // Elsewhere is another matter.
    replay(&["--to", "TOPIC:other"]);
    assert_eq!(numbers(scene.reader("other").read(30, LONG)), (0..30).collect::<Vec<_>>());
    assert_eq!(input.read(30, LONG).len(), 30);
    let own = call(&scene, &config, &[&REPLAY[..], &["--to", "TOPIC:dead"]].concat());
    assert_eq!(own.exit, Some(2), "{}", own.err);
}

#[test]
fn a_dead_letter_that_cannot_go_back_stops_the_replay_unless_it_may_be_left_out() {
    let scene = Scene::new("replayroute", &[("in", 1), ("out", 1), ("dead", 1), ("secret", 1)]);
    let config = scene.config("", &[REDACT]);
    let mut all: Vec<Record> = letters(&scene, 6, 1);
    // Whoever can write dead letters must not be able to make us write anywhere.
    all[3].headers[1].1 = Some(scene.topic("secret").into_bytes());
    all[5].headers.truncate(1);
    scene.produce("dead", &all);
    let mut input = scene.reader("in");
    let dry = done(&scene, &config, &REPLAY[..4]);
    assert!(dry.err.contains("dry run: 4 dead letters would be replayed"), "{}", dry.err);
    assert!(dry.err.contains("2 of them cannot be replayed"), "{}", dry.err);
    let stopped = call(&scene, &config, &REPLAY);
    assert_eq!(stopped.exit, Some(1), "{}", stopped.err);
    assert!(stopped.err.contains("error[dlq.no_route]"), "{}", stopped.err);
    assert!(stopped.err.contains(&format!("{}/0@3", scene.topic("dead"))), "{}", stopped.err);
    assert_eq!(numbers(input.read(3, LONG)), [0, 1, 2], "what came before it is done");
    let rest = done(&scene, &config, &[&REPLAY[..], &["--pass-over"]].concat());
    assert!(rest.err.contains("1 dead letter replayed"), "{}", rest.err);
    assert_eq!(numbers(input.read(4, LONG)), [0, 1, 2, 4]);
    assert_eq!(scene.reader("secret").poll(Duration::from_secs(1)).unwrap(), 0);
    let group = format!("{}/@dlq-replay/@source/redact/guest.rejected", scene.name);
    assert_eq!(kafka::committed(&scene.broker.bootstrap, &group, &scene.topic("dead"), 1).unwrap(), [5]);
}

#[test]
fn a_record_that_the_target_refuses_is_found_and_its_neighbours_pass() {
    let scene = Scene::new("replayrefused", &[("in", 1), ("out", 1), ("dead", 1)]);
    let config = scene.config("", &[REDACT]);
    let small = scene.topic("small");
    kafka::create_topics_with(&scene.broker.bootstrap, &[(&small, 1)], &[("max.message.bytes", "3000")]).unwrap();
    let mut all = letters(&scene, 9, 1);
    all[4].headers[0].1 = Some(vec![b'x'; 5_000]);
    scene.produce("dead", &all);
    let replay = [&REPLAY[..], &["--to", "TOPIC:small"]].concat();
    let stopped = call(&scene, &config, &replay);
    assert_eq!(stopped.exit, Some(1), "{}", stopped.err);
    assert!(
        stopped.err.contains(&format!("error[dlq.no_route]: the dead letter {}/0@4", scene.topic("dead"))),
        "{}",
        stopped.err
    );
    let mut target = scene.reader("small");
    assert_eq!(numbers(target.read(4, LONG)), [0, 1, 2, 3]);
    let rest = done(&scene, &config, &[&replay[..], &["--pass-over"]].concat());
    assert!(rest.err.contains("4 dead letters replayed"), "{}", rest.err);
    assert_eq!(numbers(target.read(8, LONG)), [0, 1, 2, 3, 5, 6, 7, 8]);
}

/// What is done with the transaction afterwards fails because it has failed, whatever the reason.
#[test]
fn a_record_that_is_refused_while_others_are_still_queued_is_found_too() {
    const COUNT: usize = 900;
    let scene = Scene::new("replayearly", &[("in", 1), ("out", 1), ("dead", 1)]);
    let config = scene.config("", &[REDACT]);
    let small = scene.topic("small");
    kafka::create_topics_with(&scene.broker.bootstrap, &[(&small, 1)], &[("max.message.bytes", "3000")]).unwrap();
    let mut all = letters(&scene, COUNT, 1);
    all[0].headers[0].1 = Some(vec![b'x'; 5_000]);
    scene.produce("dead", &all);
    let replay = [&REPLAY[..], &["--to", "TOPIC:small", "--pass-over"]].concat();
    let report = done(&scene, &config, &[&replay[..], &["--output", "json"]].concat()).json();
    assert_eq!(report["classes"][0]["replayed"], COUNT - 1, "{report}");
    assert_eq!(numbers(scene.reader("small").read(COUNT - 1, LONG)), (1..COUNT).collect::<Vec<_>>());
}
