//! What holds for every tree, schema and text: against models, with generated input. Failing seeds are printed by
//! proptest and kept beside this file.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::schema::Schema;
use super::source::Source;
use super::tree::{Node, Origin, merge};
use super::types::{Bytes, Config, Millis, Percent};
use super::{check, formats, layers, redact, schema, suggest, yaml};

const NONE: Origin = Origin::Default("");

fn yaml_tree(text: &str) -> Node {
    yaml::parse(&Arc::new(Source::new("test.yaml", text))).expect("valid YAML")
}

// === Layers ===

/// Maps of maps over few keys, so that layers meet.
fn layer() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![any::<u8>().prop_map(Value::from), Just(Value::Null), Just(json!(["a", "b"]))];
    let tree = leaf.prop_recursive(3, 24, 4, |inner| {
        proptest::collection::btree_map("[a-c]", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
    });
    proptest::collection::btree_map("[a-c]", tree, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// What layering means, said in another way: the value of each path is that of the last layer that speaks of it.
fn model(base: Value, over: Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (key, value) in over {
                match (base.shift_remove(&key), value) {
                    (_, Value::Null) => {}
                    (None, value) => drop(base.insert(key, model(json!({}), value))),
                    (Some(old), value) => drop(base.insert(key, model(old, value))),
                }
            }
            Value::Object(base)
        }
        (_, Value::Object(over)) => model(json!({}), Value::Object(over)),
        (_, over) => over,
    }
}

proptest! {
    #[test]
    fn later_layers_win_at_each_leaf_and_maps_merge(layers in proptest::collection::vec(layer(), 1..5)) {
        let mut tree = Node::map(NONE);
        let mut expected = json!({});
        for layer in layers {
            merge(&mut tree, Node::from_json(&layer, &NONE));
            expected = model(expected, layer);
        }
        prop_assert_eq!(tree.to_json(), expected);
    }
}

#[test]
fn a_key_without_a_value_says_nothing_and_null_takes_back() {
    let mut tree = yaml_tree("kafka: {a: 1, b: 2}\nworkers: 4");
    merge(&mut tree, yaml_tree("kafka:\nworkers: null"));
    assert_eq!(tree.to_json(), json!({"kafka": {"a": 1, "b": 2}}));
}

#[test]
fn merge_keys_and_aliases_stand_for_what_they_name() {
    let tree = yaml_tree("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a");
    assert_eq!(tree.to_json(), json!({"a": {"x": 1, "y": 2}, "b": {"y": 3, "x": 1}, "c": {"x": 1, "y": 2}}));
}

#[test]
fn aliases_cannot_blow_up_memory() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..6 {
        let names = format!("*a{}, ", level - 1).repeat(10);
        text += &format!("a{level}: &a{level} [{}]\n", names.trim_end_matches(", "));
    }
    let errors = yaml::parse(&Arc::new(Source::new("bomb.yaml", text))).expect_err("too large");
    assert!(errors[0].message.contains("more than 100000 values"), "{}", errors[0]);
}

#[test]
fn deep_nesting_is_an_error_in_each_format() {
    for (name, text) in [
        ("deep.yaml", "[".repeat(100_000)),
        ("deep.yaml", format!("a: {}", "{a: ".repeat(1_000))),
        ("deep.yaml", (0..1_000).map(|depth| " ".repeat(depth) + "a:\n").collect()),
    ] {
        assert!(yaml::parse(&Arc::new(Source::new(name, text))).is_err());
    }
    for text in [format!("a = {}", "[".repeat(100_000)), format!("{}a = 1", "a.".repeat(100_000))] {
        assert!(super::toml::parse(&Arc::new(Source::new("deep.toml", text))).is_err());
    }
}

// === Units ===

proptest! {
    #[test]
    fn durations_go_both_ways(ms in 0..u64::MAX) {
        let text = Millis::from_millis(ms).to_string();
        prop_assert_eq!(text.parse::<Millis>(), Ok(Millis::from_millis(ms)), "{}", text);
    }

    #[test]
    fn sizes_go_both_ways(bytes in prop_oneof![any::<u64>(), (0..1_u64 << 20).prop_map(|n| n << 20), (0..9_999_u64).prop_map(|n| n * 1_000)]) {
        let text = Bytes::new(bytes).to_string();
        prop_assert_eq!(text.parse::<Bytes>(), Ok(Bytes::new(bytes)), "{}", text);
    }

    #[test]
    fn no_text_breaks_a_format(text in "\\PC{0,40}") {
        for format in FORMATS {
            let _ = formats::check(format, &text);
        }
        let _ = (suggest::meant(&text, ["deadline"].into_iter()), redact::suspicious(&text));
    }
}

#[test]
fn durations_and_sizes_as_people_write_them() {
    for (text, ms) in
        [("5ms", 5), ("100ms", 100), ("1s", 1_000), ("1.5s", 1_500), ("0.25s", 250), ("2m", 120_000), ("1h", 3_600_000)]
    {
        assert_eq!(text.parse::<Millis>(), Ok(Millis::from_millis(ms)), "{text}");
    }
    for (text, bytes) in [("16MiB", 16 << 20), ("500KB", 500_000), ("0.5GiB", 1 << 29), ("64kib", 64 << 10), ("7B", 7)]
    {
        assert_eq!(text.parse::<Bytes>(), Ok(Bytes::new(bytes)), "{text}");
    }
    for text in
        ["", "5", "ms", "-5ms", "5 ms", "5us", "1.0005s", "1e3s", "99999999999999999999s", "1..5s", ".5s", "5.s"]
    {
        assert!(text.parse::<Millis>().is_err(), "{text}");
    }
    for (text, hundredths) in [("10%", 1000), ("0.5%", 50), ("100%", 10_000), ("0.01%", 1), ("300%", 30_000), ("0%", 0)]
    {
        let percent = Percent::of_hundredths(hundredths);
        assert_eq!((text.parse(), percent.to_string().as_str()), (Ok(percent), text));
    }
    for text in ["", "5", "%", "-1%", "1 %", "0.001%", "1e2%", "99999999999%"] {
        assert!(text.parse::<Percent>().is_err(), "{text}");
    }
    for text in ["", "5", "16M", "-1B", "16 MiB", "0.3B", "99999999999GiB", "MiB"] {
        assert!(text.parse::<Bytes>().is_err(), "{text}");
    }
}

// === Schema, checker and types say the same ===

/// All that `formats` knows.
const FORMATS: [&str; 13] = [
    "pelton-duration",
    "pelton-size",
    "pelton-percent",
    "pelton-application",
    "pelton-instance",
    "pelton-topic",
    "pelton-transform",
    "pelton-environment",
    "pelton-guest-path",
    "pelton-sha256",
    "pelton-servers",
    "pelton-address",
    "pelton-path",
];

/// The checker knows a subset of JSON Schema: a keyword outside of it would be promised to editors and not be checked.
#[test]
fn the_schema_uses_only_keywords_that_are_checked() {
    const CHECKED: [&str; 22] = [
        "$ref",
        "type",
        "properties",
        "required",
        "additionalProperties",
        "patternProperties",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "items",
        "minItems",
        "maxItems",
        "uniqueItems",
        "anyOf",
        "oneOf",
        "const",
        "enum",
        "minimum",
        "maximum",
        "x-minimum",
        "x-maximum",
        "x-secret",
    ];
    // `pattern` repeats for editors what `format` checks by parsing; the agreement test below sees to it.
    const SAID: [&str; 7] = ["$schema", "$defs", "title", "description", "default", "format", "pattern"];
    fn walk(schema: &Value) {
        let Some(keywords) = schema.as_object() else { return };
        for (keyword, value) in keywords {
            let name = keyword.as_str();
            assert!(CHECKED.contains(&name) || SAID.contains(&name), "`{name}` in {schema:#}");
            match name {
                "properties" | "patternProperties" | "$defs" => {
                    value.as_object().into_iter().flatten().for_each(|(_, to)| walk(to))
                }
                "anyOf" | "oneOf" => value.as_array().into_iter().flatten().for_each(walk),
                "items" | "additionalProperties" | "propertyNames" => walk(value),
                "format" => {
                    let format = value.as_str().unwrap_or_default();
                    assert!(FORMATS.contains(&format) || ["uint64", "uint32"].contains(&format), "{format}");
                }
                _ => {}
            }
        }
    }
    walk(schema());
}

/// Every kind of key, so that mutations reach everything.
fn rich() -> Value {
    json!({
        "application": "orders",
        "instance": {"env": "POD"},
        "kafka": {
            "bootstrap_servers": "a:1,b:2",
            "properties": {"linger.ms": 5, "sasl.password": {"file": "/run/secret"}},
            "consumer": {"properties": {"fetch.min.bytes": true}},
            "transaction_timeout": "20s",
        },
        "delivery": {"guarantee": "at_least_once", "latency": "low", "max_transaction_records": 7},
        "workers": 3,
        "transforms": {
            "one": {
                "module": "one.wasm",
                "sha256": "ab".repeat(32),
                "input": {"topics": ["a", "b"], "start": "latest"},
                "output": {"topic": "c", "also": ["d"]},
                "settings": {"x": 1.5, "y": {"env": "Y"}},
                "limits": {"deadline": "7ms", "memory": "1MiB", "fuel": 20_000, "outputs": 2},
                "grants": {"directories": {"/lookup": "."}, "environment": ["REGION"]},
                "on_error": {"then": "dead_letter", "topic": "dlq"},
            },
            "two": {"module": "two.wasm", "input": {"topics": ["e"]}, "output": {"topic": "f"}},
        },
        "cache_dir": "off",
        "observe": {"guest_text": true},
        "admin": {"listen": "[::1]:1"},
    })
}

fn value() -> impl Strategy<Value = Value> {
    const WORDS: [&str; 20] = [
        "",
        "auto",
        "off",
        "random",
        "5ms",
        "99h",
        "0ms",
        "16MiB",
        "9GiB",
        "a",
        "a b",
        "1",
        "earliest",
        "stop",
        "low",
        "127.0.0.1:1",
        "/x",
        "..",
        "env",
        "a:b",
    ];
    prop_oneof![
        proptest::sample::select(&WORDS[..]).prop_map(Value::from),
        prop_oneof![Just(0_i64), Just(1), Just(-1), Just(256), Just(257), Just(i64::MAX), any::<i64>()]
            .prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(json!(1.5)),
        Just(json!([])),
        Just(json!(["a"])),
        Just(json!(["a", "a"])),
        Just(json!([1])),
        Just(json!({})),
        Just(json!({"env": "X"})),
        Just(json!({"env": "X", "file": "y"})),
        Just(json!({"file": "x"})),
        Just(json!({"listen": "x"})),
    ]
}

/// Something to do to one place of a configuration.
#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    Add(String, Value),
}

fn change() -> impl Strategy<Value = Change> {
    let key = "(deadline|topic|also|env|workers|x|/x|UPPER|two)";
    prop_oneof![
        4 => value().prop_map(Change::Replace),
        1 => Just(Change::Remove),
        2 => (key, value()).prop_map(|(key, value)| Change::Add(key, value)),
    ]
}

fn places(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    let escape = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| places(value, &format!("{at}/{}", escape(key)), all)),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, value)| places(value, &format!("{at}/{n}"), all)),
        _ => {}
    }
}

fn apply(config: &mut Value, at: usize, change: Change) {
    let mut all = Vec::new();
    places(config, "", &mut all);
    let place = all[at % all.len()].clone();
    match change {
        Change::Replace(value) => *config.pointer_mut(&place).expect("a place") = value,
        Change::Remove => {
            let Some((parent, key)) = place.rsplit_once('/') else { return };
            if let Some(map) = config.pointer_mut(parent).and_then(Value::as_object_mut) {
                map.shift_remove(&key.replace("~1", "/").replace("~0", "~"));
            }
        }
        Change::Add(key, value) => {
            if let Some(map) = config.pointer_mut(&place).and_then(Value::as_object_mut) {
                map.insert(key, value);
            }
        }
    }
}

static VALIDATOR: LazyLock<jsonschema::Validator> =
    LazyLock::new(|| jsonschema::validator_for(schema()).expect("a valid schema"));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn schema_checker_and_types_agree(changes in proptest::collection::vec((any::<usize>(), change()), 0..4)) {
        let mut config = rich();
        changes.into_iter().for_each(|(at, change)| apply(&mut config, at, change));
        let mut tree = Node::from_json(&config, &NONE);
        let errors = check::check(&mut tree);
        if errors.is_empty() {
            prop_assert!(VALIDATOR.is_valid(&config), "editors refuse what we take: {config:#}");
            let taken = serde_json::from_value::<Config>(tree.to_json());
            prop_assert!(taken.is_ok(), "{}: {config:#}", taken.expect_err("an error"));
        } else if VALIDATOR.is_valid(&config) {
            // The schema cannot say what a duration is; it must be able to say everything else.
            let subtle = |code| matches!(code, super::Code::Value | super::Code::Range);
            prop_assert!(errors.iter().all(|error| subtle(error.code)), "{errors:?}: {config:#}");
        }
    }
}

/// Every bound in the schema: the value at it is taken, the next one is not.
#[test]
fn bounds_are_where_the_schema_says() {
    fn errors_with(path: &[String], value: Value) -> Vec<super::Code> {
        let mut config = rich();
        let mut place = &mut config;
        for key in path {
            place = place.as_object_mut().expect("a map").entry(key.clone()).or_insert(json!({}));
        }
        *place = value;
        let errors = check::check(&mut Node::from_json(&config, &NONE));
        errors.into_iter().map(|error| error.code).collect()
    }
    fn walk(schema: Schema<'_>, path: &mut Vec<String>, seen: &mut usize) {
        for here in schema.alternatives().into_iter().chain([schema]) {
            for (keyword, step) in [("minimum", -1), ("maximum", 1)] {
                if let Some(bound) = here.number(keyword) {
                    let value = |n: i128| Value::from(i64::try_from(n).expect("fits"));
                    assert_eq!(errors_with(path, value(bound)), [], "{path:?}");
                    assert_eq!(errors_with(path, value(bound + step)), [super::Code::Range], "{path:?}");
                    *seen += 1;
                }
                let Some(bound) = here.text(&format!("x-{keyword}")) else { continue };
                assert_eq!(errors_with(path, bound.into()), [], "{path:?}");
                *seen += 1;
                let beyond = match (bound.parse::<Millis>(), bound.parse::<Bytes>()) {
                    (Ok(bound), _) => {
                        bound.as_millis().checked_add_signed(step as i64).map(|n| Millis::from_millis(n).to_string())
                    }
                    (_, Ok(bound)) => bound.get().checked_add_signed(step as i64).map(|n| Bytes::new(n).to_string()),
                    _ => match bound.parse::<Percent>() {
                        Ok(bound) => bound
                            .hundredths()
                            .checked_add_signed(step as i32)
                            .map(|n| Percent::of_hundredths(n).to_string()),
                        Err(_) => panic!("{bound} is neither a duration nor a size nor a share"),
                    },
                };
                if let Some(beyond) = beyond {
                    assert_eq!(errors_with(path, beyond.into()), [super::Code::Range], "{path:?}");
                }
            }
        }
        for key in schema.properties().into_iter().flat_map(|keys| keys.keys()) {
            path.push(key.clone());
            walk(schema.property(key).expect("a property"), path, seen);
            path.pop();
        }
        if let Some(values) = schema.values().filter(|values| values.properties().is_some()) {
            path.push("one".to_owned());
            walk(values, path, seen);
            path.pop();
        }
    }
    let mut seen = 0;
    walk(Schema::root(), &mut Vec::new(), &mut seen);
    assert!(seen >= 26, "{seen}");
}

#[test]
fn a_checked_tree_holds_every_default() {
    let minimal = json!({
        "application": "a",
        "kafka": {"bootstrap_servers": "a:1"},
        "transforms": {"t": {"module": "m", "input": {"topics": ["x"]}, "output": {"topic": "y"}}},
    });
    let mut tree = Node::from_json(&minimal, &NONE);
    assert_eq!(check::check(&mut tree), []);
    let from_tree: Config = serde_json::from_value(tree.to_json()).expect("fits");
    let from_types: Config = serde_json::from_value(minimal).expect("fits");
    assert_eq!(from_tree, from_types);
    // The other way round: what the types write is what the schema takes.
    let mut written = serde_json::to_value(&from_types).expect("writes");
    let mut tree = Node::from_json(&written, &NONE);
    assert_eq!(check::check(&mut tree), []);
    sort(&mut written);
    let mut filled = tree.to_json();
    sort(&mut filled);
    assert_eq!(filled, written);
}

fn sort(value: &mut Value) {
    if let Value::Object(map) = value {
        map.values_mut().for_each(sort);
        let mut entries: Vec<_> = std::mem::take(map).into_iter().collect();
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        *map = Map::from_iter(entries);
    }
}

// === Flat names ===

#[test]
fn every_key_of_the_schema_can_be_set_from_the_environment() {
    fn walk(schema: Schema<'_>, path: &mut Vec<String>, see: &mut impl FnMut(&[String])) {
        see(path);
        for key in schema.properties().into_iter().flat_map(|keys| keys.keys()) {
            path.push(key.clone());
            walk(schema.property(key).expect("a property"), path, see);
            path.pop();
        }
        if let Some(values) = schema.values().filter(|values| values.properties().is_some()) {
            path.push("one".to_owned());
            walk(values, path, see);
            path.pop();
        }
    }
    let mut seen = 0;
    walk(Schema::root(), &mut Vec::new(), &mut |path| {
        if path.is_empty() {
            return;
        }
        seen += 1;
        let name = format!("PELTON__{}", path.join("__").to_uppercase());
        let mut errors = Vec::new();
        let layers = layers::environment(&[(name.clone().into(), "x".into())], &Node::map(NONE), &mut errors);
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        assert!(layers[0].at(&keys).is_some(), "{name}: {errors:?}");
    });
    assert!(seen > 40, "{seen}");
}

#[test]
fn the_admin_token_may_be_a_reference_and_is_never_shown() {
    let text = |token: &str| {
        format!(
            "application: a\nkafka: {{ bootstrap_servers: \"a:1\" }}\nadmin: {{ token: {token} }}\ntransforms: {{ t: {{ module: m, input: {{ topics: [a] }}, output: {{ topic: b }} }} }}\n"
        )
    };
    let schema = Schema::root().child("admin").unwrap().child("token").unwrap();
    assert!(schema.is_secret());
    for token in ["{ env: X }", "{ file: /x }", "hunter2"] {
        let mut tree = yaml_tree(&text(token));
        assert!(check::check(&mut tree).is_empty(), "{token}");
    }
}
