//! The command line: what goes to stdout, what to stderr, and how the process ends.

mod config_support;

use std::process::{Command, Output};

use config_support::{Setup, minimal};
use serde_json::Value;

fn pelton(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pelton"));
    // Nothing of the machine's own settings.
    command.env_clear().args(arguments).envs(environment.iter().copied());
    command.output().expect("pelton runs")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn a_wrong_configuration_ends_with_78_for_every_command() {
    let setup = Setup::new().file("a.yaml", &minimal("workers: many\n"));
    let file = setup.path("a.yaml").display().to_string();
    for arguments in
        [&["-c", &file][..], &["run", "-c", &file], &["validate", "-c", &file], &["-c", &file, "config", "show"]]
    {
        let output = pelton(arguments, &[]);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        assert_eq!(out(&output), "");
        assert!(err(&output).contains("error[config.value]: `workers` cannot be `many`"), "{}", err(&output));
        assert!(!err(&output).contains('\x1b'), "no colours where it is not a terminal");
    }
    assert!(err(&pelton(&["-c", &file, "--color", "always"], &[])).contains("\x1b[1;31m"));
}

#[test]
fn validate_prints_for_programs() {
    let setup = Setup::new().file("a.yaml", &minimal("workers: many\n")).file("b.yaml", &minimal(""));
    let arguments = |name| ["validate", "--no-environment", "--output", "json", "-c", name];
    let bad = setup.path("a.yaml").display().to_string();
    let output = pelton(&arguments(bad.as_str()), &[]);
    assert_eq!(output.status.code(), Some(78));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["ok"], &json["errors"][0]["place"]["line"]), (&Value::from(false), &Value::from(9)));
    let good = setup.path("b.yaml").display().to_string();
    let output = pelton(&arguments(good.as_str()), &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json, serde_json::json!({"ok": true, "errors": []}));
}

#[test]
fn validate_looks_at_the_environment_unless_told_not_to() {
    let setup = Setup::new().file("a.yaml", &minimal(""));
    let file = setup.path("a.yaml").display().to_string();
    let output = pelton(&["validate", "--no-environment", "-c", &file], &[]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "the configuration is right\n"));
    let output = pelton(&["validate", "-c", &file], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("redact.wasm` does not exist"), "{}", err(&output));
}

#[test]
fn files_come_from_the_environment_too() {
    let setup = Setup::new().file("a.yaml", &minimal("workers: 1\n")).file("b.yaml", "workers: 2\n");
    let files = format!("{},{}", setup.path("a.yaml").display(), setup.path("b.yaml").display());
    let output = pelton(&["config", "show", "--origin"], &[("PELTON_CONFIG", &files), ("PELTON__DRAIN_LIMIT", "3s")]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let shown = out(&output);
    assert!(shown.contains(&format!("workers: 2  # {}:1:10\n", setup.path("b.yaml").display())), "{shown}");
    assert!(shown.contains("drain_limit: 3s  # environment variable PELTON__DRAIN_LIMIT\n"), "{shown}");
    assert!(shown.contains("commit_interval: 100ms  # default\n"), "{shown}");
    let output = pelton(&["config", "show", "--output", "json", "--set", "workers=3"], &[("PELTON_CONFIG", &files)]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["workers"], 3);
}

#[test]
fn usage() {
    for arguments in
        [&[][..], &["--nonsense"], &["validate", "--output", "xml"], &["--set", "novalue", "run"], &["-v", "-q", "run"]]
    {
        assert_eq!(pelton(arguments, &[]).status.code(), Some(2), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["validate", "--help"]] {
        assert_eq!(pelton(arguments, &[]).status.code(), Some(0), "{arguments:?}");
    }
    let output = pelton(&["run"], &[("PELTON_CONFIG", "")]);
    assert_eq!(output.status.code(), Some(78));
    assert!(err(&output).contains("no config file was given: name one with `-c FILE` or PELTON_CONFIG"));
}

#[test]
fn a_refusal_to_run_is_json_where_the_log_is_whatever_its_filter() {
    let setup = Setup::new().file("a.yaml", &minimal("workers: many\nworkerz: 2\n"));
    let file = setup.path("a.yaml").display().to_string();
    let json = [("PELTON_LOG_FORMAT", "json"), ("PELTON_LOG", "off")];
    let output = pelton(&["run", "-c", &file], &json);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(78), ""));
    let lines: Vec<Value> = err(&output).lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.len(), 3, "the module is not there either: {lines:?}");
    let of = |code: &str| lines.iter().find(|line| line["code"] == code).unwrap_or_else(|| panic!("{code}: {lines:?}"));
    let unknown = of("config.unknown_key");
    assert_eq!((&unknown["level"], &unknown["path"]), (&"ERROR".into(), &"workerz".into()));
    assert_eq!(unknown["suggestion"], "workers");
    assert!(unknown["place"].as_str().is_some_and(|place| place.starts_with(&format!("{file}:"))), "{unknown}");
    assert_eq!(of("config.value")["path"], "workers");
    let output = pelton(&["run"], &json);
    assert!(err(&output).lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{}", err(&output));
    assert!(err(&output).contains("no config file was given"), "{}", err(&output));
}

#[test]
fn tools_refuse_what_they_cannot_understand_before_they_ask_a_broker() {
    let setup = Setup::new().file("a.yaml", &minimal(""));
    let file = setup.path("a.yaml").display().to_string();
    for arguments in [
        &["offsets", "reset"][..],
        &["offsets", "reset", "--to", "10"],
        &["offsets", "reset", "--to", "@yesterday"],
        &["offsets", "reset", "--to", "latest", "--partition", "1"],
        &["dlq", "show", "--transform", "a", "--topic", "b"],
        &["dlq", "replay", "--execute"],
        &["dlq", "replay", "--transform", "nobody"],
        &["dlq", "replay", "--topic", "a", "--to", "a"],
    ] {
        let output = pelton(&[&["-c", file.as_str()][..], arguments].concat(), &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "");
    }
    // A value may begin with a hyphen; nothing is left to refuse but the configuration.
    let output = pelton(&["offsets", "reset", "--to", "-10", "--set", "workers=many", "-c", &file], &[]);
    assert_eq!(output.status.code(), Some(78), "{}", err(&output));
    for arguments in [&["offsets", "--help"][..], &["offsets", "reset", "--help"], &["dlq", "replay", "--help"]] {
        assert_eq!(pelton(arguments, &[]).status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn the_schema_is_printed() {
    let output = pelton(&["config", "schema"], &[]);
    let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(&schema, pelton::config::schema());
}

#[test]
fn arguments_may_stand_before_and_after_the_command() {
    let setup = Setup::new().file("a.yaml", &minimal("")).file("b.yaml", "workers: 2\n");
    let (a, b) = (setup.path("a.yaml").display().to_string(), setup.path("b.yaml").display().to_string());
    for arguments in [["-c", &a, "-c", &b, "config", "show"], ["config", "show", "-c", &a, "-c", &b]] {
        assert!(out(&pelton(&arguments, &[])).contains("workers: 2\n"), "{arguments:?}");
    }
}

#[test]
fn modules_are_signed_and_verified_without_a_configuration() {
    let place = tempfile::tempdir().expect("a directory");
    let path = |name: &str| place.path().join(name).display().to_string();
    std::fs::write(path("m.wasm"), "module").expect("a file");
    let (key, public, module) = (path("k.pem"), path("k.pub.pem"), path("m.wasm"));
    let done = pelton(&["keygen", &path("k")], &[]);
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    let again = pelton(&["keygen", &path("k")], &[]);
    assert_eq!(again.status.code(), Some(74), "a key is never overwritten");
    assert_eq!(pelton(&["sign", "--key", &key, &module], &[]).status.code(), Some(0));
    let verified = pelton(&["verify", "--key", &public, &module], &[]);
    assert_eq!(verified.status.code(), Some(0), "{}", err(&verified));
    std::fs::write(&module, "another").expect("a file");
    let refused = pelton(&["verify", "--key", &public, &module], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("error[module.signature]"), "{}", err(&refused));
    let wrong = pelton(&["sign", "--key", &public, &module], &[]);
    assert!(err(&wrong).contains("is not an Ed25519 private key"), "{}", err(&wrong));
}

#[test]
fn what_is_no_module_is_said_to_be_none() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("m.wasm").display().to_string();
    std::fs::write(&file, "\0asm\x01\0\0\0").expect("a file");
    let output = pelton(&["inspect", &file], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("core module"), "{}", err(&output));
    assert_eq!(pelton(&["inspect", "/no/such/file"], &[]).status.code(), Some(74));
}
