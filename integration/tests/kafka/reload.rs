//! A changed configuration or module is taken up while records flow: each record once, each transaction by one generation;
//! what is wrong changes nothing.

use crate::support::{IDENTITY, LONG, MARKER, Scene, Step, assert_each_once_in_order, numbered};
use pelton_integration::kafka::Record;
use pelton_integration::process::Pelton;
use pelton_integration::{eventually, guest};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

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
    let config = |mark: &str| scene.config("observe: { guest_text: true }", &[Step { settings: mark, ..MARKER }]);
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
            out.poll(Duration::from_millis(50)).unwrap();
            out.records.last().is_some_and(|r| r.header("mark").as_deref() == Some(mark)).then_some(())
        });
    }
    assert_each_once_in_order(out.read(sent, LONG), sent);
    // Each instance is told before it goes.
    ["a", "b", "c"].iter().for_each(|mark| says(&pelton, &format!("mark {mark} goes after ")));
    for (partition, seen) in marks(&out.records) {
        let expected = ["a", "b", "c", "d"];
        let at = |mark: &String| expected.iter().position(|e| e == mark);
        assert!(seen.windows(2).all(|w| at(&w[0]) < at(&w[1])), "partition {partition}: {seen:?}");
    }
    assert_eq!(pelton.stop(), Some(0));
    assert!(pelton.log().contains("mark d goes after "), "{}", pelton.log());
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

/// For those whose changes are rollouts: pods of one revision have one configuration.
#[test]
fn with_reload_on_change_off_a_changed_file_waits_for_the_signal() {
    let scenes = [("watching", ""), ("waiting", "reload_on_change: false")];
    let scenes = scenes.map(|(name, settings)| (Scene::new(name, &[("in", 1), ("out", 1)]), settings));
    let config =
        |(scene, settings): &(Scene, &str), mark: &str| scene.config(settings, &[Step { settings: mark, ..MARKER }]);
    let [mut watching, mut waiting] = [0, 1].map(|i| Pelton::start(&config(&scenes[i], "mark: a"), "a"));
    [&watching, &waiting].into_iter().for_each(|pelton| says(pelton, "running"));
    waiting.reconfigure(&config(&scenes[1], "mark: b"));
    watching.reconfigure(&config(&scenes[0], "mark: b"));
    // The other's file changed before, so whoever looked at it would have seen that by now.
    says(&watching, "reloaded: workers take it up at their next transactions cause=\"file\"");
    waiting.signal(libc::SIGHUP);
    says(&waiting, "reloaded: workers");
    assert!(
        waiting.log().contains("cause=\"signal\"") && !waiting.log().contains("cause=\"file\""),
        "{}",
        waiting.log()
    );
    assert_eq!([watching.stop(), waiting.stop()], [Some(0); 2]);
}

/// As when a volume with the module is filled, or a file copied, after the configuration that names it.
#[test]
fn a_module_that_comes_after_its_configuration_is_taken_up_once_it_is_there() {
    let scene = Scene::new("late", &[("in", 1), ("out", 1)]);
    let home = tempfile::tempdir().unwrap();
    let module = home.path().join("late.wasm");
    let given = guest::test_module("marker");
    let config = |mark: &str| scene.config("", &[Step { settings: mark, ..MARKER }]);
    let later = |mark: &str| config(mark).replace(&given.display().to_string(), &module.display().to_string());
    let mut pelton = Pelton::start(&config("mark: a"), "a");
    says(&pelton, "running");
    let times = |text: &str, count: usize| {
        eventually(text, LONG, || (pelton.log().matches(text).count() == count).then_some(()));
    };
    pelton.reconfigure(&later("mark: b"));
    times("code=\"reload.refused\"", 1);
    put(&module, &fs::read(&given).unwrap());
    times("reloaded: workers", 1);
    pelton.reconfigure(&later("mark: c"));
    times("reloaded: workers", 2);
    let log = pelton.log();
    assert_eq!(log.matches("code=\"reload.refused\"").count(), 1, "refused once: {log}");
    assert!(!log.contains("reload: nothing has changed"), "nothing is read again that was read: {log}");
    // Away for a while, and back as it was: the last reload is a successful one.
    let (there, away) = (pelton.config(), pelton.config().with_extension("away"));
    fs::rename(&there, &away).unwrap();
    times("code=\"reload.refused\"", 2);
    fs::rename(&away, &there).unwrap();
    times("reload: nothing has changed", 1);
    scene.produce("in", &numbered(0, 100));
    assert!(scene.reader("out").read(100, LONG).iter().all(|r| r.header("mark").as_deref() == Some("c")));
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn what_is_wrong_or_cannot_change_is_told_and_changes_nothing() {
    let scene = Scene::new("noreload", &[("in", 1), ("out", 1)]);
    let kafka = scene.kafka("  producer: { properties: { compression.type: zstd } }\n");
    let good = scene.config(&kafka, &[MARKER]);
    let mut pelton = Pelton::start(&good, "a");
    says(&pelton, "running");
    let refused = |config: &str, expected: &str| {
        pelton.reconfigure(config);
        pelton.signal(libc::SIGHUP);
        says(&pelton, expected);
    };
    refused(&good.replace("workers: 1", "workers: many"), "`workers` cannot be `many`");
    refused(&good.replace("workers: 1", "workers: 2"), "keys=\"workers\"");
    refused(&good.replace("zstd", "lz4"), "keys=\"kafka\"");
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
        out.poll(Duration::from_millis(50)).unwrap();
        out.records.last().is_some_and(|r| r.header("mark").as_deref() == Some("z")).then_some(())
    });
    assert_each_once_in_order(out.read(200, LONG), 200);
    assert_eq!(pelton.stop(), Some(0));
}

/// I10, whatever `observe.guest_text` says: the operator gets the reason, without what must not be seen.
#[test]
fn a_secret_that_a_guest_quotes_is_not_in_why_it_is_refused() {
    const SECRET: &str = "hunter2-setting";
    let scene = Scene::new("quoted", &[("in", 1), ("out", 1)]);
    let good = scene.config("", &[MARKER]);
    let mut pelton = Pelton::start_in(&good, "a", &[], &[("PLANTED_SETTING", SECRET)]);
    says(&pelton, "running");
    pelton.reconfigure(&good.replace("mark: a", "mark: a, fail: { env: PLANTED_SETTING }"));
    pelton.signal(libc::SIGHUP);
    says(&pelton, "told to fail: ***");
    assert_eq!(pelton.stop(), Some(0));
    assert!(!pelton.log().contains(SECRET), "{}", pelton.log());
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

/// As kubelet, editors and deployments do it: another file takes the name.
fn put(module: &Path, bytes: &[u8]) {
    let next = module.with_extension("next");
    fs::write(&next, bytes).unwrap();
    fs::rename(next, module).unwrap();
}

/// The marker with so much beside it that compiling takes seconds: a core module of functions that nobody calls, and data.
/// 15 MiB, as a module of a scripting language is.
fn large(marker: &[u8]) -> Vec<u8> {
    use wasm_encoder::{
        CodeSection, DataSection, Encode, Function, FunctionSection, MemorySection, MemoryType, Module, TypeSection,
        ValType,
    };
    let mut types = TypeSection::new();
    types.ty().function([ValType::I64], [ValType::I64]);
    let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
    for n in 0..4_000_i64 {
        functions.function(0);
        let mut body = Function::new([]);
        let mut body_of = body.instructions();
        body_of.local_get(0);
        for step in 0..100 {
            body_of.i64_const(n * 1_000_003 + step).i64_mul().local_get(0).i64_xor();
        }
        body_of.end();
        code.function(&body);
    }
    let mut memories = MemorySection::new();
    let pages = MemoryType { minimum: 256, maximum: None, memory64: false, shared: false, page_size_log2: None };
    memories.memory(pages);
    let mut data = DataSection::new();
    data.active(0, &wasm_encoder::ConstExpr::i32_const(0), vec![7; 12 << 20]);
    let mut module = Module::new();
    module.section(&types).section(&functions).section(&memories).section(&code).section(&data);
    let module = module.finish();
    let mut component = marker.to_vec();
    component.push(1); // a section with a core module
    module.encode(&mut component);
    component
}

#[test]
fn records_flow_on_while_a_large_module_is_compiled_and_other_reloads_wait() {
    let scene = Scene::new("large", &[("in", 2), ("out", 2)]);
    let home = tempfile::tempdir().unwrap();
    let module = home.path().join("module.wasm");
    let small = fs::read(guest::test_module("marker")).unwrap();
    put(&module, &small);
    let named = guest::test_module("marker").display().to_string();
    // Not from the cache that tests share: it is to be compiled here and now.
    let config = |mark: &str| {
        scene
            .config("cache_dir: off", &[Step { settings: mark, ..MARKER }])
            .replace(&named, &module.display().to_string())
    };
    let mut pelton = Pelton::start(&config("mark: a"), "a");
    let mut out = scene.reader("out");
    scene.produce("in", &numbered(0, 100));
    out.read(100, LONG);
    let large = large(&small);
    assert!(large.len() > 14 << 20, "{}", large.len());
    put(&module, &large);
    pelton.signal(libc::SIGHUP);
    eventually("a compiler is at work", LONG, || (children(pelton.id()) > 0).then_some(()));
    // Meanwhile: records, and another reload that waits.
    pelton.reconfigure(&config("mark: b"));
    pelton.signal(libc::SIGHUP);
    let mut sent = 100;
    let mut rounds = 0;
    loop {
        scene.produce("in", &numbered(sent, sent + 100));
        sent += 100;
        rounds += 1;
        let before = std::time::Instant::now();
        eventually("they come out", LONG, || {
            out.poll(Duration::from_millis(20)).unwrap();
            (out.records.len() >= sent).then_some(())
        });
        assert!(before.elapsed() < Duration::from_secs(5), "the stream stood for {:?}", before.elapsed());
        if pelton.log().matches("reloaded: workers").count() >= 1 && rounds >= 3 {
            break;
        }
    }
    eventually("the last configuration counts", LONG, || {
        scene.produce("in", &numbered(sent, sent + 10));
        sent += 10;
        out.poll(Duration::from_millis(100)).unwrap();
        out.records.last().is_some_and(|r| r.header("mark").as_deref() == Some("b")).then_some(())
    });
    assert_each_once_in_order(out.read(sent, LONG), sent);
    assert_eq!(pelton.stop(), Some(0));
}

/// Children of all its threads.
fn children(id: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let of = |task: fs::DirEntry| fs::read_to_string(task.path().join("children")).unwrap_or_default();
    tasks.map(|task| of(task).split_whitespace().count()).sum()
}

#[test]
fn what_is_no_transform_any_more_is_refused_and_the_old_one_goes_on() {
    let scene = Scene::new("unfit", &[("in", 1), ("out", 1)]);
    let home = tempfile::tempdir().unwrap();
    let module = home.path().join("module.wasm");
    let good = fs::read(guest::test_module("marker")).unwrap();
    put(&module, &good);
    let named = guest::test_module("marker").display().to_string();
    let config = |mark: &str| {
        let steps = [Step { settings: mark, ..MARKER }];
        scene.config("reload_on_change: false", &steps).replace(&named, &module.display().to_string())
    };
    let mut pelton = Pelton::start(&config("mark: a"), "a");
    says(&pelton, "running");
    let mut refusals = 0;
    let mut refused = |pelton: &Pelton, what: &str, expected: &str| {
        pelton.signal(libc::SIGHUP);
        refusals += 1;
        eventually(what, LONG, || (pelton.log().matches("reload.refused").count() >= refusals).then_some(()));
        assert!(pelton.log().contains(expected), "{what}: {}", pelton.log());
    };
    put(&module, &good[..good.len() / 2]);
    refused(&pelton, "half a module", "module");
    put(&module, b"not a module");
    refused(&pelton, "text", "not a WebAssembly component");
    // The least component there is: of neither world.
    put(&module, b"\0asm\x0d\0\x01\0");
    refused(&pelton, "another world", "pelton:transform");
    // Tests may run as root, who may read anything: a file that cannot be read is a directory here.
    fs::remove_file(&module).unwrap();
    fs::create_dir(&module).unwrap();
    refused(&pelton, "no permission", "is not a file");
    fs::remove_dir(&module).unwrap();
    scene.produce("in", &numbered(0, 100));
    let mut out = scene.reader("out");
    out.read(100, LONG);
    // Module and configuration at once: one new generation.
    let mut other = good.clone();
    other.extend([0, 4, 3, b'n', b'e', b'w']); // a custom section
    put(&module, &other);
    pelton.reconfigure(&config("mark: b"));
    pelton.signal(libc::SIGHUP);
    says(&pelton, "reloaded: workers");
    scene.produce("in", &numbered(100, 200));
    out.read(200, LONG);
    let seen = marks(&out.records);
    assert_eq!(seen[&0], ["a", "b"]);
    assert_eq!(pelton.log().matches("to=\"serving\"").count(), 2, "the first, and one for both changes");
    assert_eq!(pelton.stop(), Some(0));
}

#[test]
fn a_reload_in_the_middle_of_a_rebalance_or_of_a_drain_loses_nothing() {
    let scene = Scene::new("amid", &[("in", 6), ("out", 6)]);
    let config = |mark: &str| scene.config("", &[Step { settings: mark, ..MARKER }]);
    let mut first = Pelton::start(&config("mark: 0"), "a");
    says(&first, "running");
    let mut sent = 0;
    let mut send = || {
        scene.produce("in", &numbered(sent, sent + 3_000));
        sent += 3_000;
    };
    send();
    for round in 1..=3 {
        // A member comes; a reload at once, and one when it has partitions; it goes again, reloading.
        let mut second = Pelton::start(&config(&format!("mark: {round}")), "b");
        first.reconfigure(&config(&format!("mark: {round}")));
        first.signal(libc::SIGHUP);
        send();
        says(&second, "partitions assigned");
        first.reconfigure(&config(&format!("mark: {round}x")));
        second.reconfigure(&config(&format!("mark: {round}x")));
        first.signal(libc::SIGHUP);
        second.signal(libc::SIGHUP);
        send();
        second.signal(libc::SIGHUP);
        assert_eq!(second.stop(), Some(0));
    }
    let mut out = scene.reader("out");
    assert_each_once_in_order(out.read(sent, LONG), sent);
    first.reconfigure(&config("mark: last"));
    first.signal(libc::SIGHUP);
    assert_eq!(first.stop(), Some(0));
}
