//! What must hold between values: topics, loops, intervals, properties, and what a configuration refers to.

mod config_support;

use config_support::{Setup, minimal};
use pelton::config::{ConfigErrors, owned_property};

/// Name, inputs, outputs (the first is `topic`), dead letters.
type Step<'a> = (&'a str, &'a [&'a str], &'a [&'a str], Option<&'a str>);

/// An application of these transforms.
fn chain(steps: &[Step<'_>]) -> String {
    let mut text = "application: a\nkafka: { bootstrap_servers: a:1 }\ntransforms:\n".to_owned();
    for (name, inputs, outputs, dead) in steps {
        let (topic, also) = outputs.split_first().expect("an output");
        text += &format!("  {name}: {{ module: m.wasm, input: {{ topics: [{}] }}, ", inputs.join(", "));
        text += &format!("output: {{ topic: {topic}, also: [{}] }}", also.join(", "));
        if let Some(dead) = dead {
            text += &format!(", on_error: {{ then: dead_letter, topic: {dead} }}");
        }
        text += " }\n";
    }
    text
}

fn messages(text: &str) -> Vec<String> {
    match Setup::new().file("a.yaml", text).load() {
        Ok(_) => Vec::new(),
        Err(ConfigErrors(errors)) => errors.iter().map(|e| format!("{}: {}", e.code, e.message)).collect(),
    }
}

#[test]
fn chains_and_shared_topics_are_right() {
    let text = chain(&[
        ("one", &["a"], &["b", "c"], Some("dlq")),
        ("two", &["a", "b"], &["d"], Some("dlq")),
        ("three", &["c", "d", "b"], &["e"], None),
        ("four", &["b"], &["e"], None),
    ]);
    assert_eq!(messages(&text), [""; 0]);
}

#[test]
fn loops_are_shown_as_a_way() {
    let loops: [(&[Step<'_>], &[&str]); 6] = [
        (&[("one", &["a"], &["a"], None)], &["`one` reads what it writes: a → [one] → a"]),
        (&[("one", &["a"], &["b", "a"], None)], &["`one` reads what it writes: a → [one] → a"]),
        (
            &[("one", &["a", "dlq"], &["b"], Some("dlq"))],
            &["`one` reads its own dead letters: dlq → [one] → dlq (dead letters)"],
        ),
        (
            &[("one", &["a"], &["b"], None), ("two", &["b"], &["c", "a"], None)],
            &["transforms feed each other in a loop: a → [one] → b → [two] → a"],
        ),
        (
            &[("one", &["a"], &["x"], Some("b")), ("two", &["b"], &["c"], None), ("three", &["c"], &["d"], Some("a"))],
            &["transforms feed each other in a loop: \
               a → [one] → b (dead letters) → [two] → c → [three] → a (dead letters)"],
        ),
        (
            &[
                ("one", &["a"], &["b"], None),
                ("two", &["b"], &["a"], None),
                ("three", &["x"], &["y"], None),
                ("four", &["y"], &["x"], None),
                ("tail", &["a"], &["z"], None),
            ],
            &[
                "transforms feed each other in a loop: a → [one] → b → [two] → a",
                "transforms feed each other in a loop: x → [three] → y → [four] → x",
            ],
        ),
    ];
    for (steps, expected) in loops {
        let expected: Vec<_> = expected.iter().map(|text| format!("config.loop: {text}")).collect();
        let mut found = messages(&chain(steps));
        found.sort();
        assert_eq!(found, expected);
    }
}

#[test]
fn a_topic_for_dead_letters_that_are_not_written_makes_no_loop_but_an_error() {
    let text = minimal("    on_error: { then: skip, topic: orders }\n");
    assert_eq!(messages(&text), ["config.conflict: a topic for dead letters is given, but none are written"]);
}

#[test]
fn a_topic_has_one_start() {
    let text = chain(&[("one", &["a"], &["b"], None), ("two", &["a"], &["c"], None)])
        .replace("topics: [a] }, output: { topic: c", "topics: [a], start: latest }, output: { topic: c");
    assert_eq!(messages(&text), ["config.conflict: `two` reads `a` from `latest`, but `one` from `earliest`"]);
}

#[test]
fn the_brokers_topics_are_not_written() {
    let text = chain(&[("one", &["a"], &["__consumer_offsets"], None)]);
    assert_eq!(messages(&text), ["config.conflict: `__consumer_offsets` is the brokers' own topic"]);
}

#[test]
fn intervals_fit_into_each_other() {
    for (more, expected) in [
        ("delivery: { commit_interval: 15s }\n", None),
        (
            "delivery: { commit_interval: 16s }\n",
            Some("a commit interval of 16s leaves no time to commit within the transaction timeout of 30s"),
        ),
        ("    limits: { deadline: 22s }\n", None),
        (
            "    limits: { deadline: 23s }\n",
            Some(
                "one record of `redact` may take 23s: too long beside a commit interval of 100ms and a transaction \
                 timeout of 30s",
            ),
        ),
        (
            "    limits: { output_bytes: 2MiB, memory: 1MiB }\n",
            Some("`redact` may put out 2MiB a record, but has only 1MiB of memory"),
        ),
        // The default for a random instance is shorter.
        (
            "delivery: { commit_interval: 6s }\ninstance: random\n",
            Some("a commit interval of 6s leaves no time to commit within the transaction timeout of 10s"),
        ),
    ] {
        let expected: Vec<_> = expected.iter().map(|text| format!("config.conflict: {text}")).collect();
        assert_eq!(messages(&minimal(more)), expected, "{more}");
    }
}

#[test]
fn a_static_member_needs_a_name_that_lasts() {
    let text = |instance: &str| {
        minimal(&format!("instance: {instance}\n")).replace("9092\n", "9092\n  static_membership: true\n")
    };
    assert_eq!(messages(&text("orders-0")), Vec::<String>::new());
    let expected =
        "config.conflict: static membership needs an identity that is the same after a restart, this one is random";
    assert_eq!(messages(&text("random")), [expected]);
}

#[test]
fn owned_properties_are_refused_with_the_key_to_use() {
    let owned = [
        "enable.auto.commit",
        "enable.auto.offset.store",
        "transactional.id",
        "enable.idempotence",
        "acks",
        "request.required.acks",
        "isolation.level",
        "group.id",
        "partition.assignment.strategy",
        "group.protocol",
        "group.remote.assignor",
        "auto.offset.reset",
        "delivery.report.only.error",
        "client.id",
        "bootstrap.servers",
        "metadata.broker.list",
        "allow.auto.create.topics",
        "partitioner",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "enable.partition.eof",
        "group.instance.id",
        "session.timeout.ms",
        "heartbeat.interval.ms",
        "message.timeout.ms",
        "transaction.timeout.ms",
        "auto.commit.interval.ms",
        "sticky.partitioning.linger.ms",
        "log_level",
        "offset.store.method",
    ];
    for name in owned {
        let reason = owned_property(name).unwrap_or_else(|| panic!("`{name}` is ours"));
        let text = minimal("").replace("9092\n", &format!("9092\n  properties: {{ {name}: x }}\n"));
        let errors = Setup::new().file("a.yaml", &text).load().expect_err("refused");
        assert_eq!(errors.0.len(), 1, "{errors}");
        assert_eq!(errors.0[0].message, format!("`{name}` is set by Pelton"));
        assert_eq!(errors.0[0].help.as_deref(), Some(reason));
    }
    for name in ["linger.ms", "security.protocol", "sasl.password", "fetch.min.bytes", "client.rack", "debug"] {
        assert_eq!(owned_property(name), None, "{name}");
    }
}

#[test]
fn properties_are_known_and_on_their_side() {
    let with = |more: &str| messages(&minimal("").replace("9092\n", &format!("9092\n{more}")));
    assert_eq!(
        with("  properties: { bootstrap.server: x, sasl.jaas.config: x }\n"),
        [
            "config.unknown_property: librdkafka 2.12.1 has no property `bootstrap.server`",
            "config.unknown_property: librdkafka 2.12.1 has no property `sasl.jaas.config`",
        ]
    );
    assert_eq!(
        with("  consumer: { properties: { linger.ms: 5 } }\n  producer: { properties: { fetch.min.bytes: 5 } }\n"),
        [
            "config.unknown_property: consumers do not know `linger.ms`",
            "config.unknown_property: producers do not know `fetch.min.bytes`",
        ]
    );
    assert_eq!(with("  consumer: { properties: { debug: all } }\n"), [""; 0]);
}

#[test]
fn a_grant_does_not_hand_out_a_secret() {
    let text = minimal("    grants: { environment: [REGION, KAFKA_PASSWORD] }\n")
        .replace("9092\n", "9092\n  properties: { sasl.password: { env: KAFKA_PASSWORD } }\n");
    let message = "`redact` would be given KAFKA_PASSWORD, which holds the value of `kafka.properties.sasl.password`";
    assert_eq!(messages(&text), [format!("config.conflict: {message}")]);
}

#[test]
fn what_is_referred_to_must_be_there() {
    let text =
        minimal("    grants: { directories: { /lookup: ./lookup } }\n    settings: { key: { file: key.txt }, p: x }\n")
            .replace("9092\n", "9092\n  properties: { sasl.password: { env: KAFKA_PASSWORD } }\n")
            + "instance: { env: POD }\n";
    let bare = Setup::new().file("a.yaml", &text);
    assert!(bare.load().is_ok(), "on another machine it is right");
    let errors = bare.outside().load().expect_err("nothing is there");
    let found: Vec<_> = errors.0.iter().map(|e| format!("{} {}", e.code, e.path)).collect();
    assert_eq!(
        found,
        [
            "config.environment kafka.properties.sasl.password",
            "config.file transforms.redact.module",
            "config.file transforms.redact.grants.directories./lookup",
            "config.environment transforms.redact.settings.key",
            "config.environment instance",
        ]
    );
    let complete = Setup::new()
        .file("a.yaml", &text)
        .beside("redact.wasm", b"\0asm")
        .beside("lookup/x", b"")
        .beside("key.txt", b"k\n")
        .env("KAFKA_PASSWORD", "p")
        .env("POD", "orders-0")
        .outside();
    let loaded = complete.load().unwrap_or_else(|errors| panic!("{errors}"));
    let transform = loaded.config.transforms.values().next().expect("one transform");
    assert_eq!(transform.revealed_settings().expect("a file")["key"], "k");
    assert_eq!(transform.secret_settings().collect::<Vec<_>>(), ["key"]);
}

#[test]
fn the_instance_is_found_or_the_error_says_what_to_set() {
    let setup = |more: &str| Setup::new().file("a.yaml", &minimal(more)).beside("redact.wasm", b"").outside();
    assert!(setup("").env("PELTON_INSTANCE", "orders-0").load().is_ok());
    assert!(setup("").load().is_ok(), "the host has a name");
    assert!(setup("instance: random\n").env("PELTON_INSTANCE", "not a name").load().is_ok());
    let errors = setup("").env("PELTON_INSTANCE", "not a name").load().expect_err("not a name");
    assert_eq!(errors.0[0].code.as_str(), "config.environment");
    assert!(errors.0[0].message.contains("PELTON_INSTANCE"), "{errors}");
}

#[test]
fn a_transform_cannot_ask_for_more_than_the_ceiling() {
    let with = |limits: &str| {
        let text =
            chain(&[("one", &["a"], &["b"], None)]).replace("input:", &format!("limits: {{ {limits} }}, input:"));
        messages(&format!("{text}sandbox: {{ ceiling: {{ memory: 32MiB, fuel: 20000, deadline: 10ms }} }}\n"))
    };
    assert_eq!(with("memory: 32MiB, fuel: 20000, deadline: 10ms"), [""; 0]);
    assert_eq!(
        with("memory: 64MiB, fuel: 20001, deadline: 11ms"),
        [
            "config.conflict: `one` asks for a memory of 64MiB; the most that a transform may have here is 32MiB",
            "config.conflict: `one` asks for a fuel of 20001; the most that a transform may have here is 20000",
            "config.conflict: `one` asks for a deadline of 11ms; the most that a transform may have here is 10ms",
        ]
    );
}

#[test]
fn what_modules_must_show_is_asked_of_each() {
    let steps = chain(&[("one", &["a"], &["b"], None)]);
    let digest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(
        messages(&format!("{steps}sandbox: {{ require: digest }}\n")),
        ["config.missing: `one` does not say which module it means"]
    );
    let pinned = steps.replace("module: m.wasm", &format!("module: m.wasm, sha256: {digest}"));
    assert_eq!(messages(&format!("{pinned}sandbox: {{ require: digest }}\n")), [""; 0]);
    assert_eq!(
        messages(&format!("{steps}sandbox: {{ require: signature }}\n")),
        ["config.missing: signatures are required, but no key is given that could have made them"]
    );
    assert_eq!(messages(&format!("{steps}sandbox: {{ require: signature, keys: [k.pem] }}\n")), [""; 0]);
}
