//! The files that are made from the types, or must not drift from them: schema, reference page, examples.
//!
//! Regenerate: `pelton config schema > config/pelton.schema.json`, `pelton config reference >
//! docs/reference/configuration.md`.

mod config_support;

use std::path::Path;
use std::process::Command;

use config_support::{Setup, minimal, repository};
use pelton::config::{self, Loaded, Sources, load};
use serde_json::Value;

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

fn example(name: &str) -> Loaded {
    let sources = Sources { files: vec![repository().join("config").join(name)], ..Sources::default() };
    load(&sources).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_schema_file_is_the_generated_one() {
    let generated = format!("{:#}\n", config::schema());
    assert!(read("config/pelton.schema.json") == generated, "run: pelton config schema > config/pelton.schema.json");
}

#[test]
fn the_reference_page_is_the_generated_one() {
    let page = "docs/reference/configuration.md";
    assert!(read(page) == config::reference(), "run: pelton config reference > {page}");
}

#[test]
fn the_demo_is_right() {
    let config = example("demo.yaml").config;
    assert_eq!(config.application.as_str(), "orders-demo");
    let redact = config.transforms.values().next().expect("a transform");
    assert!(redact.module.ends_with("transforms/target/wasm32-wasip2/release/redact.wasm"));
    assert_eq!(redact.dead_letters().map(|topic| topic.as_str()), Some("orders.dlq"));
}

#[test]
fn the_full_example_holds_every_key_with_its_default() {
    let full = example("full.yaml");
    // Against the same application with nothing but what is required.
    let setup = Setup::new().file("a.yaml", &minimal(""));
    let mut bare = setup.load().unwrap_or_else(|errors| panic!("{errors}")).config;
    let module = full.config.transforms.values().next().expect("a transform").module.clone();
    bare.transforms.values_mut().for_each(|transform| transform.module = module.clone());
    assert_eq!(full.config, bare, "a value in full.yaml is not the default");
    let text = read("config/full.yaml");
    let mut keys = Vec::new();
    properties(config::schema(), &mut keys);
    for key in keys {
        assert!(text.contains(&format!("{key}:")), "config/full.yaml does not show `{key}`");
    }
    // Written there, not only the same by default.
    let origins = full.to_json(true)["origins"].clone();
    for (path, origin) in origins.as_object().expect("a map") {
        assert!(origin.as_str().is_some_and(|at| at.contains("full.yaml:")), "{path} is not in config/full.yaml");
    }
}

/// The names of all keys in a schema.
fn properties(schema: &Value, keys: &mut Vec<String>) {
    for (keyword, value) in schema.as_object().into_iter().flatten() {
        match (keyword.as_str(), value) {
            ("properties" | "$defs" | "patternProperties", Value::Object(schemas)) => {
                if keyword == "properties" {
                    keys.extend(schemas.keys().cloned());
                }
                schemas.values().for_each(|schema| properties(schema, keys));
            }
            ("anyOf" | "oneOf", Value::Array(schemas)) => schemas.iter().for_each(|schema| properties(schema, keys)),
            ("items" | "additionalProperties", schema) => properties(schema, keys),
            _ => {}
        }
    }
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    let text =
        minimal("    settings: { plain: a, odd: \"no: [x] # y\", number: 1.10, empty: \"\", line: \"a\\nb\" }\n");
    let setups = [
        Setup::new().file("a.yaml", &text).set("instance={env: POD}").set("cache_dir=off").set("admin=off"),
        Setup::new().file("a.yaml", &read("config/demo.yaml")),
        Setup::new().file("a.yaml", &read("config/full.yaml")),
    ];
    for setup in setups {
        let first = setup.load().unwrap_or_else(|errors| panic!("{errors}"));
        for text in [first.to_yaml(false), first.to_yaml(true)] {
            let again = Setup::new().file("shown.yaml", &text).load().unwrap_or_else(|errors| panic!("{text}{errors}"));
            assert_eq!(again.config, first.config, "{text}");
        }
        let json = format!("{:#}", first.to_json(false));
        let again = Setup::new().file("shown.json", &json).load().unwrap_or_else(|errors| panic!("{json}{errors}"));
        assert_eq!(again.config, first.config, "{json}");
    }
}

/// The list of property names is that of the librdkafka which is linked.
#[test]
fn the_properties_are_those_of_the_linked_librdkafka() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    // Of this platform only: what others need was never fetched.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--filter-platform", &platform, "--manifest-path"])
        .arg(manifest)
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("metadata");
    let package = metadata["packages"].as_array().expect("packages").iter().find(|p| p["name"] == "rdkafka-sys");
    let package = package.expect("rdkafka-sys is a dependency");
    let version = package["version"].as_str().expect("a version");
    assert!(version.ends_with(&format!("+{}", config::LIBRDKAFKA_VERSION)), "{version}: renew librdkafka.txt");
    let directory = Path::new(package["manifest_path"].as_str().expect("a path")).parent().expect("a directory");
    let page = std::fs::read_to_string(directory.join("librdkafka/CONFIGURATION.md")).expect("the page");
    let mut names: Vec<_> = page.lines().filter_map(property).collect();
    names.sort_unstable();
    names.dedup();
    let known: Vec<_> = config::librdkafka_properties().collect();
    assert_eq!(known, names);
}

/// The name in a row of the table, if it can be set by text.
fn property(row: &str) -> Option<&str> {
    let (name, rest) = row.split_once('|')?;
    let name = name.trim();
    let lower = name.starts_with(|c: char| c.is_ascii_lowercase());
    (lower && !rest.contains("*Type: see dedicated API*") && name != "builtin.features").then_some(name)
}
