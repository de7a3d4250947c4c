//! Loading a configuration, as an operator meets it: layers, and errors that point at the place.

mod config_support;

use config_support::{Setup, minimal};
use pelton::config::{Admin, CacheDir, Code, ConfigErrors, Instance, Loaded, Millis, Place, Workers};

fn codes(errors: &ConfigErrors) -> Vec<&'static str> {
    errors.0.iter().map(|error| error.code.as_str()).collect()
}

/// `code path line:column` of each error.
fn summary(errors: &ConfigErrors) -> Vec<String> {
    let place = |place: &Place| match place {
        Place::File { at: Some(at), .. } => format!("{}:{}", at.position.line, at.position.column),
        Place::File { at: None, .. } => "file".to_owned(),
        other => other.to_string(),
    };
    errors.0.iter().map(|error| format!("{} {} {}", error.code, error.path, place(&error.place))).collect()
}

fn refused(setup: &Setup) -> ConfigErrors {
    setup.load().expect_err("the configuration is wrong")
}

fn loaded(setup: &Setup) -> Loaded {
    setup.load().unwrap_or_else(|errors| panic!("{errors}"))
}

// === Layers ===

#[test]
fn defaults_files_environment_and_arguments_win_in_this_order() {
    let setup = Setup::new()
        .file("a.yaml", &minimal("delivery: { commit_interval: 1s, latency: low }\nworkers: 1\n"))
        .file("b.toml", "workers = 2\n[delivery]\ncommit_interval = \"2s\"\n")
        .file("c.json", "{\"drain_limit\": \"7s\", \"workers\": 3}")
        .env("PELTON__WORKERS", "4")
        .env("PELTON__DRAIN_LIMIT", "8s")
        .set("drain_limit=9s");
    let config = loaded(&setup).config;
    assert_eq!(config.delivery.latency, pelton::config::Latency::Low);
    assert_eq!(config.delivery.commit_interval, Millis::from_secs(2));
    assert_eq!(config.workers.count(), 4);
    assert_eq!(config.drain_limit, Millis::from_secs(9));
    assert_eq!(config.kafka.session_timeout, Millis::from_secs(10));
}

#[test]
fn the_environment_reaches_properties_lists_maps_and_names_with_dashes() {
    let setup = Setup::new()
        .file("a.yaml", &minimal("").replace("redact:", "card-check:"))
        .env("PELTON__KAFKA__PROPERTIES__LINGER_MS", "5")
        .env("pelton__kafka__consumer__properties__fetch_min_bytes", "100")
        .env("PELTON__TRANSFORMS__CARD_CHECK__INPUT__TOPICS", "a, b")
        .env("PELTON__TRANSFORMS__CARD_CHECK__OUTPUT__ALSO", "[c, d]")
        .env("PELTON__TRANSFORMS__CARD_CHECK__SETTINGS", "{depth: 1.10}")
        .env("PELTON__APPLICATION", "42");
    let config = loaded(&setup).config;
    assert_eq!(config.application.as_str(), "42");
    let transform = config.transforms.values().next().expect("one transform");
    assert_eq!(transform.input.topics.iter().map(|t| t.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(transform.output.topics().map(|t| t.as_str()).collect::<Vec<_>>(), ["orders.clean", "c", "d"]);
    assert_eq!(transform.revealed_settings().expect("inline")["depth"], "1.10");
    let consumer = config.kafka.consumer_properties().expect("inline");
    assert_eq!(consumer["fetch.min.bytes"], "100");
    assert!(!consumer.contains_key("linger.ms"), "a producer's property is not handed to consumers");
    assert_eq!(config.kafka.producer_properties().expect("inline")["linger.ms"], "5");
}

#[test]
fn the_alias_for_the_brokers_wins_over_files_and_loses_to_the_full_name() {
    let setup = Setup::new().file("a.yaml", &minimal("")).env("KAFKA_BOOTSTRAP_SERVERS", "b:9092");
    assert_eq!(loaded(&setup).config.kafka.bootstrap_servers.as_str(), "b:9092");
    let setup = setup.env("PELTON__KAFKA__BOOTSTRAP_SERVERS", "c:9092");
    assert_eq!(loaded(&setup).config.kafka.bootstrap_servers.as_str(), "c:9092");
}

#[test]
fn arguments_reach_dotted_names_and_take_values_back() {
    let setup = Setup::new()
        .file("a.yaml", &minimal("workers: 3\n"))
        .set("kafka.properties.linger.ms=5")
        .set("kafka.properties.sasl.password={env: PATH}")
        .set("transforms.redact.limits.fuel=70000")
        .set("transforms.redact.settings.a.b=c")
        .set("workers=null")
        .set("admin=off");
    let config = loaded(&setup).config;
    assert_eq!(config.kafka.properties["linger.ms"].reveal().expect("inline"), "5");
    let path = std::env::var("PATH").expect("a path");
    assert_eq!(config.kafka.properties["sasl.password"].reveal().expect("a variable"), path);
    let transform = config.transforms.values().next().expect("one transform");
    assert_eq!(transform.limits.fuel, 70_000);
    assert_eq!(transform.revealed_settings().expect("inline")["a.b"], "c");
    assert_eq!((config.workers, config.admin), (Workers::Auto, Admin::Off));
}

#[test]
fn defaults_that_depend_on_the_instance() {
    let setup = Setup::new().file("a.yaml", &minimal("instance: random\n"));
    assert_eq!(loaded(&setup).config.kafka.transaction_timeout, Millis::from_secs(10));
    let setup = setup.set("kafka.transaction_timeout=12s");
    assert_eq!(loaded(&setup).config.kafka.transaction_timeout, Millis::from_secs(12));
    let stable = Setup::new().file("a.yaml", &minimal("instance: { env: POD }\n"));
    let config = loaded(&stable).config;
    assert_eq!(config.kafka.transaction_timeout, Millis::from_secs(30));
    assert!(matches!(config.instance, Instance::Env(_)));
}

#[test]
fn words_of_yaml_1_1_mean_what_they_look_like() {
    for off in ["off", "\"off\"", "false"] {
        let setup = Setup::new().file("a.yaml", &minimal(&format!("admin: {off}\ncache_dir: {off}\n")));
        let config = loaded(&setup).config;
        assert_eq!((config.admin, config.cache_dir), (Admin::Off, CacheDir::Off), "{off}");
    }
}

#[test]
fn paths_start_at_the_file_that_gives_them() {
    let setup = Setup::new()
        .file("deep/a.yaml", &minimal("cache_dir: ./cache\n"))
        .file("b.yaml", "transforms: { redact: { module: other.wasm } }");
    let loaded = loaded(&setup);
    assert_eq!(loaded.config.cache_dir, CacheDir::At(setup.path("deep/cache")));
    let transform = loaded.config.transforms.values().next().expect("one transform");
    assert_eq!(transform.module, setup.path("other.wasm"));
    assert_eq!(loaded.files, [setup.path("deep/a.yaml"), setup.path("b.yaml")]);
}

// === Errors ===

#[test]
fn all_errors_at_once_with_their_places_in_yaml() {
    let setup = Setup::new().file(
        "a.yaml",
        "\
application: my app
kafka:
  properties: { enable.auto.commit: true, lingr.ms: 5 }
  session_timeout: 10
delivery: { latency: fast, commit_interval: 5 parsecs, max_transaction_records: 0 }
workers: [1]
transforms:
  redact:
    module: m.wasm
    input: { topics: [] }
    output: { topic: x }
    limits: { deadlin: 5ms, memory: 9GiB }
    on_error: { then: dead_letter }
",
    );
    assert_eq!(
        summary(&refused(&setup)),
        [
            "config.value application 1:14",
            "config.missing kafka.bootstrap_servers 2:1",
            "config.owned_property kafka.properties.enable.auto.commit 3:17",
            "config.unknown_property kafka.properties.lingr.ms 3:43",
            "config.type kafka.session_timeout 4:20",
            "config.value delivery.latency 5:22",
            "config.value delivery.commit_interval 5:45",
            "config.range delivery.max_transaction_records 5:81",
            "config.type workers 6:10",
            "config.range transforms.redact.input.topics 10:22",
            "config.unknown_key transforms.redact.limits.deadlin 12:15",
            "config.range transforms.redact.limits.memory 12:37",
            "config.missing transforms.redact.on_error.topic 13:23",
        ]
    );
}

#[test]
fn all_errors_at_once_with_their_places_in_toml() {
    let setup = Setup::new().file(
        "a.toml",
        "\
application = 'ok'
workrs = 3
[kafka]
bootstrap_servers = 'a:1'
properties = { 'group.id' = 'x' }
session_timeout = 10
[transforms.redact]
module = 'm.wasm'
input.topics = ['a', 'b c']
output = { topic = 'x', also = 'y' }
limits.deadline = '1h'
",
    );
    assert_eq!(
        summary(&refused(&setup)),
        [
            "config.unknown_key workrs 2:1",
            "config.owned_property kafka.properties.group.id 5:16",
            "config.type kafka.session_timeout 6:19",
            "config.value transforms.redact.input.topics[1] 9:22",
            "config.type transforms.redact.output.also 10:32",
            "config.range transforms.redact.limits.deadline 11:19",
        ]
    );
}

#[test]
fn an_error_reads_like_this() {
    let setup = Setup::new().file("a.yaml", &minimal("    limits: { deadlin: 5ms }\n"));
    let text = refused(&setup).to_string().replace(&setup.root(), "");
    assert_eq!(
        text,
        "\
error[config.unknown_key]: there is no key `deadlin` here
 --> /a.yaml:9:15
  |
9 |     limits: { deadlin: *** }
  |               ^^^^^^^ did you mean `deadline`?
  = path: transforms.redact.limits.deadlin
  = help: keys here: deadline, memory, fuel, outputs, output_bytes, log, share, configure_deadline

1 error in the configuration"
    );
}

#[test]
fn an_error_for_programs_has_the_same_in_parts() {
    let setup = Setup::new().file("a.yaml", &minimal("workers: many\n")).set("delivery.latency=fast");
    let json = refused(&setup).to_json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["errors"][0]["code"], "config.value");
    assert_eq!(json["errors"][0]["path"], "workers");
    assert_eq!(json["errors"][0]["place"]["line"], 9);
    assert_eq!(json["errors"][0]["place"]["column"], 10);
    assert_eq!(json["errors"][1]["place"]["set"], "delivery.latency");
    assert_eq!(json["errors"][1]["help"], "expected `throughput`, `balanced` or `low`");
}

#[test]
fn errors_of_the_environment_and_of_arguments_name_them() {
    let setup = Setup::new()
        .file("a.yaml", &minimal(""))
        .env("PELTON__DELIVERI__LATENCY", "low")
        .env("PELTON__WORKERS", "many")
        .env("PELTON__A____B", "1")
        .set("transforms.redact.limits.deadline=5")
        .set("transforms.redact.input.topics.0=x");
    assert_eq!(
        summary(&refused(&setup)),
        [
            "config.syntax a..b environment variable PELTON__A____B",
            "config.unknown_key deliveri environment variable PELTON__DELIVERI__LATENCY",
            "config.value workers environment variable PELTON__WORKERS",
            "config.syntax transforms.redact.input.topics.0 --set transforms.redact.input.topics.0=…",
            "config.value transforms.redact.limits.deadline --set transforms.redact.limits.deadline=…",
        ]
    );
}

#[test]
fn duplicate_keys_are_errors_in_each_format() {
    let setup =
        Setup::new().file("a.yaml", &minimal("workers: 1\ndelivery: {latency: low, latency: low}\nworkers: 2\n"));
    let errors = refused(&setup);
    assert_eq!(summary(&errors), ["config.duplicate_key latency 10:26", "config.duplicate_key workers 11:1"]);
    assert!(errors.to_string().contains("note: first given here"), "{errors}");
    let setup = Setup::new().file("a.json", "{\"application\": \"a\",\n \"application\": \"b\"}");
    assert_eq!(summary(&refused(&setup)), ["config.duplicate_key application 2:2"]);
    let setup = Setup::new().file("a.toml", "application = 'a'\napplication = 'b'\n");
    assert_eq!(summary(&refused(&setup)), ["config.duplicate_key  2:1"]);
}

#[test]
fn broken_syntax_points_at_the_place() {
    for (name, text, line) in [
        ("a.yaml", "application: a\nkafka: {bootstrap_servers: [}\n", 2),
        ("a.yaml", "application: a\n\tworkers: 1\n", 2),
        ("a.yaml", "application: \"a\n", 2),
        ("a.yaml", "a: *nobody\n", 1),
        ("a.yaml", "a: !vault x\n", 1),
        ("a.yaml", "a: 1\n---\nb: 2\n", 2),
        ("a.toml", "application = 'a'\nworkers = = 3\n", 2),
        ("a.json", "{\"application\": \"a\",\n  \"workers\" 3}\n", 2),
    ] {
        let errors = refused(&Setup::new().file(name, text));
        assert_eq!(codes(&errors), ["config.syntax"], "{text}");
        let Place::File { at: Some(at), .. } = &errors.0[0].place else { panic!("{errors}") };
        assert!(at.position.line.abs_diff(line) <= 1, "{text}\n{errors}");
    }
}

#[test]
fn files_that_cannot_be_used_are_errors() {
    let setup = Setup::new().file("a.ini", "x").file("b.yaml", "- list").names(&["gone.yaml"]);
    let errors = refused(&setup);
    assert_eq!(codes(&errors), ["config.file", "config.type", "config.file"]);
    let setup = Setup::new().bytes("latin.yaml", b"application: \xff\n");
    assert_eq!(codes(&refused(&setup)), ["config.file"]);
    assert!(refused(&Setup::new().names(&["/dev/zero"])).0[0].code == Code::File);
}

#[test]
fn an_empty_file_says_nothing() {
    for text in ["", "# nothing\n", "---\n", "\u{feff}"] {
        loaded(&Setup::new().file("a.yaml", &minimal("")).file("b.yaml", text));
    }
    let errors = refused(&Setup::new().file("a.yaml", ""));
    assert_eq!(
        summary(&errors),
        [
            "config.missing application file",
            "config.missing kafka.bootstrap_servers file",
            "config.missing transforms file"
        ]
    );
}

#[test]
fn transforms_must_be_there_and_well_named() {
    let none = minimal("").split("transforms:").next().expect("a head").to_owned() + "transforms: {}\n";
    assert_eq!(codes(&refused(&Setup::new().file("a.yaml", &none))), ["config.range"]);
    for name in ["Redact", "1st", "a.b", "a b", "-x", &"x".repeat(64)] {
        let text = minimal("").replace("redact:", &format!("\"{name}\":"));
        let errors = refused(&Setup::new().file("a.yaml", &text));
        assert_eq!(codes(&errors), ["config.value"], "{name}");
    }
}

#[test]
fn what_nobody_has_built_is_not_accepted() {
    for text in [
        "    module: oci://registry/redact:1.2\n    clock: record\n",
        "    rollout: canary\n",
        "    signature: x\n",
        "    on_error: { then: pause }\n",
    ] {
        let text = minimal(text).replacen(
            "    module: redact.wasm\n",
            if text.contains("module") { "" } else { "    module: redact.wasm\n" },
            1,
        );
        assert!(Setup::new().file("a.yaml", &text).outside().load().is_err(), "{text}");
    }
}

#[test]
fn what_others_find_is_shown_at_the_key_too() {
    let text = minimal("").replace("9092\n", "9092\n  properties: { linger.ms: 5 }\n");
    let loaded = loaded(&Setup::new().file("a.yaml", &text));
    for (path, place) in [
        ("transforms.redact.input.topics", "8:22"),
        ("transforms.redact.output", "9:5"),
        ("transforms.redact.limits.memory", "6:3"),
        ("kafka.properties.linger.ms", "4:28"),
        ("kafka.consumer.properties", "2:1"),
    ] {
        let error = loaded.error(Code::Topic, path, "the topic `x` does not exist");
        let shown = error.to_string();
        assert!(shown.starts_with("error[kafka.topic]: the topic `x` does not exist\n"), "{shown}");
        assert!(shown.contains(&format!("a.yaml:{place}\n")), "{path}: {shown}");
    }
}

#[test]
fn large_files_are_read_in_no_time() {
    use std::fmt::Write;
    let mut text = "application: a\nkafka: { bootstrap_servers: 'a:1' }\ntransforms:\n".to_owned();
    for n in 0..500 {
        let next = n + 1;
        writeln!(text, "  t{n}: {{ module: m, input: {{ topics: [x{n}] }}, output: {{ topic: x{next} }} }}")
            .expect("text");
    }
    let keys: String = (0..40_000).map(|n| format!("k{n}: 1\n")).collect();
    let begin = std::time::Instant::now();
    assert_eq!(loaded(&Setup::new().file("a.yaml", &text)).config.transforms.len(), 500);
    let errors = refused(&Setup::new().file("a.yaml", &keys));
    assert!(errors.0.len() >= 200 && errors.to_string().ends_with("and perhaps more"));
    // Seconds on a busy machine, unoptimised; minutes if each key looks at all others.
    assert!(begin.elapsed() < std::time::Duration::from_secs(60), "{:?}", begin.elapsed());
}
