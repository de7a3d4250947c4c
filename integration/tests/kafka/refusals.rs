//! What is wrong is said before the first record, with exit code 78 and the place in the configuration.

use crate::support::{IDENTITY, LONG, Scene, Step, observed};
use pelton_integration::eventually;
use pelton_integration::process::Pelton;
use pelton_integration::scrape::free_port;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

fn refused(config: &str) -> String {
    let mut pelton = Pelton::start(config, "a");
    let status = pelton.wait(LONG);
    assert_eq!(status.code(), Some(78), "log:\n{}", pelton.log());
    pelton.log()
}

#[test]
fn all_missing_topics_are_named_at_once() {
    let scene = Scene::new("missing", &[("in", 1)]);
    let redact =
        Step { name: "redact", guest: "redact", settings: "fields: card", dead_letters: Some("dead"), ..IDENTITY };
    let log = refused(&scene.config("", &[redact]));
    for topic in ["out", "dead"] {
        assert!(log.contains(&scene.topic(topic)), "{topic}: {log}");
    }
    assert!(log.contains("kafka.topic"), "{log}");
    assert!(log.contains("transforms.redact.output"), "{log}");
}

#[test]
fn a_module_that_is_no_component_is_refused() {
    let scene = Scene::new("nomodule", &[("in", 1), ("out", 1)]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"\0asm\x01\0\0\0").unwrap();
    let module = pelton_integration::guest::module("identity");
    let config =
        scene.config("", &[IDENTITY]).replace(&module.display().to_string(), &file.path().display().to_string());
    let log = refused(&config);
    assert!(log.contains("module.load"), "{log}");
    assert!(log.contains("transforms.identity.module"), "{log}");
}

#[test]
fn a_pin_that_does_not_match_is_refused() {
    let scene = Scene::new("pin", &[("in", 1), ("out", 1)]);
    let config =
        scene.config("", &[IDENTITY]).replace("    input:", &format!("    sha256: {}\n    input:", "a".repeat(64)));
    let log = refused(&config);
    assert!(log.contains("module.load"), "{log}");
    assert!(log.contains(&"a".repeat(64)), "{log}");
}

#[test]
fn settings_that_the_guest_refuses_are_refused() {
    let scene = Scene::new("settings", &[("in", 1), ("out", 1)]);
    let redact = Step { name: "redact", guest: "redact", ..IDENTITY };
    let log = refused(&scene.config("", &[redact]));
    assert!(log.contains("module.unfit"), "{log}");
}

#[test]
fn a_broker_that_does_not_answer_ends_with_69() {
    let scene = Scene::new("down", &[]);
    let config = scene.config("", &[IDENTITY]).replace(&scene.broker.bootstrap, "127.0.0.1:1");
    let mut pelton = Pelton::start(&config, "a");
    let status = pelton.wait(LONG);
    assert_eq!(status.code(), Some(69), "log:\n{}", pelton.log());
    assert!(pelton.log().contains("kafka.unreachable"), "{}", pelton.log());
}

#[test]
fn who_is_told_to_stop_while_it_still_looks_for_a_broker_ends_at_once_with_0() {
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let scene = Scene::new("early", &[]);
    let config = scene.config("", &[IDENTITY]);
    let config = config.replace(&scene.broker.bootstrap, &silent.local_addr().unwrap().to_string());
    let port = free_port();
    let config = observed(&config, port);
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT] {
        let mut pelton = Pelton::start(&config, "a");
        eventually("it lives", LONG, || TcpStream::connect(("127.0.0.1", port)).ok());
        pelton.signal(signal);
        let told = Instant::now();
        let status = pelton.wait(LONG);
        assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
        assert_eq!(status.code(), Some(0), "{status}; log:\n{}", pelton.log());
    }
}

#[test]
fn a_module_without_the_signature_that_is_demanded_is_refused() {
    let scene = Scene::new("signature", &[("in", 1), ("out", 1)]);
    let place = tempfile::tempdir().unwrap();
    let key = |name: &str| place.path().join(name).display().to_string();
    let pelton = |args: &[&str]| {
        let status = std::process::Command::new(pelton_integration::process::binary()).args(args).status().unwrap();
        assert!(status.success(), "{args:?}");
    };
    pelton(&["keygen", &key("release")]);
    let module = pelton_integration::guest::module("identity").display().to_string();
    let config =
        scene.config(&format!("sandbox: {{ require: signature, keys: [{}] }}", key("release.pub.pem")), &[IDENTITY]);
    let signed = config.replace("    input:", &format!("    signature: {}\n    input:", key("sig")));
    let log = refused(&signed);
    assert!(log.contains("module.load") && log.contains("not signed"), "{log}");
    pelton(&["sign", "--key", &key("release.pem"), "--out", &key("sig"), &module]);
    let mut running = Pelton::start(&signed, "a");
    assert_eq!(running.stop(), Some(0), "{}", running.log());
}
