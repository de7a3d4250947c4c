//! Over TLS, logged in, and with no more rights than it needs: as in production.

use crate::support::{IDENTITY, LONG, Scene, ask, assert_each_once_in_order, numbered};
use pelton_integration::broker::{self, PLAIN, Secured};
use pelton_integration::process::Pelton;
use pelton_integration::rights::{self, Operation, Resource};
use std::fs;

const SCRAM: (&str, &str) = ("scram-user", "scram-password");

type Right = (Resource, String, Operation);

/// What docs/guide/operating.md says that Pelton needs.
fn needed(scene: &Scene) -> Vec<Right> {
    use Operation::{RD_KAFKA_ACL_OPERATION_READ as READ, RD_KAFKA_ACL_OPERATION_WRITE as WRITE};
    let application = format!("{}/", scene.name);
    vec![
        (Resource::RD_KAFKA_RESOURCE_TOPIC, scene.topic("in"), READ),
        (Resource::RD_KAFKA_RESOURCE_TOPIC, scene.topic("out"), WRITE),
        (Resource::RD_KAFKA_RESOURCE_GROUP, scene.name.clone(), READ),
        (Resource::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID, application, WRITE),
    ]
}

fn give(scene: &Scene, user: &str, rights: &[Right]) {
    let rights: Vec<_> = rights.iter().map(|(of, name, operation)| (*of, name.as_str(), *operation)).collect();
    rights::allow(&scene.broker.bootstrap, user, &rights).unwrap();
}

/// Of an identity over the secure listener, with authority and password in files of `home`.
fn config(
    scene: &Scene,
    at: &Secured,
    home: &std::path::Path,
    mechanism: &str,
    (user, password): (&str, &str),
) -> String {
    let (authority, secret) = (home.join("ca.pem"), home.join("password"));
    fs::write(&authority, &at.certificate).unwrap();
    fs::write(&secret, password).unwrap();
    let properties = format!(
        "  properties: {{ security.protocol: sasl_ssl, ssl.ca.location: {}, sasl.mechanism: {mechanism}, sasl.username: {user}, sasl.password: {{ file: {} }} }}\n",
        authority.display(),
        secret.display()
    );
    let plain = scene.config(&scene.kafka(&properties), &[IDENTITY]);
    plain.replace(&scene.broker.bootstrap, &at.bootstrap)
}

#[test]
fn records_pass_over_tls_for_who_logs_in_by_plain_or_scram_and_has_the_rights() {
    let (broker, at) = broker::secured();
    rights::make_user(&broker.bootstrap, SCRAM.0, SCRAM.1).unwrap();
    for (mechanism, user) in [("PLAIN", PLAIN), ("SCRAM-SHA-512", SCRAM)] {
        let scene = Scene::on(broker, "secured", &[("in", 2), ("out", 2)]);
        give(&scene, user.0, &needed(&scene));
        let home = tempfile::tempdir().unwrap();
        let config = config(&scene, at, home.path(), mechanism, user);
        let (exit, answer) = ask(&config, &["doctor"]);
        assert_eq!(exit, 0, "{mechanism}: {answer:#}");
        let mut pelton = Pelton::start(&config, "a");
        scene.produce("in", &numbered(0, 2_000));
        assert_each_once_in_order(scene.reader("out").read(2_000, LONG), 2_000);
        assert_eq!(pelton.stop(), Some(0));
        assert!(!pelton.log().contains(user.1), "{}", pelton.log());
    }
}

/// What a process that was started so says before it ends, and its exit code.
fn ended(config: &str) -> (Option<i32>, String) {
    let mut pelton = Pelton::start(config, "a");
    let status = pelton.wait(LONG);
    (status.code(), pelton.log())
}

#[test]
fn a_right_that_is_missing_ends_the_process_with_77_and_its_name() {
    let (broker, at) = broker::secured();
    let home = tempfile::tempdir().unwrap();
    for (without, expected) in [
        (Resource::RD_KAFKA_RESOURCE_TOPIC, ["kafka.denied", "transforms.identity.input.topics"]),
        (Resource::RD_KAFKA_RESOURCE_GROUP, ["kafka.read_refused", "as a member of the group"]),
        (Resource::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID, ["kafka.denied", "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"]),
    ] {
        let user = format!("without-{}", without as u32);
        rights::make_user(&broker.bootstrap, &user, SCRAM.1).unwrap();
        let scene = Scene::on(broker, "rights", &[("in", 1), ("out", 1)]);
        let rights: Vec<Right> = needed(&scene).into_iter().filter(|(of, ..)| *of != without).collect();
        give(&scene, &user, &rights);
        let (code, log) = ended(&config(&scene, at, home.path(), "SCRAM-SHA-512", (&user, SCRAM.1)));
        assert_eq!(code, Some(77), "{without:?}: {log}");
        expected.into_iter().for_each(|text| assert!(log.contains(text), "{without:?}, {text}: {log}"));
    }
}

#[test]
fn what_may_be_seen_and_not_read_ends_the_process_with_77_too() {
    let (broker, at) = broker::secured();
    let home = tempfile::tempdir().unwrap();
    for (seen, protocol, expected) in [
        (Resource::RD_KAFKA_RESOURCE_TOPIC, "", "of topic `"),
        (Resource::RD_KAFKA_RESOURCE_GROUP, "", "as a member of the group"),
        (Resource::RD_KAFKA_RESOURCE_GROUP, "  group_protocol: consumer\n", "as a member of the group"),
    ] {
        let user = format!("sees-{}{}", seen as u32, protocol.len());
        rights::make_user(&broker.bootstrap, &user, SCRAM.1).unwrap();
        let scene = Scene::on(broker, "describe", &[("in", 1), ("out", 1)]);
        let rights: Vec<Right> = needed(&scene)
            .into_iter()
            .map(|(of, name, operation)| match operation {
                Operation::RD_KAFKA_ACL_OPERATION_READ if of == seen => {
                    (of, name, Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE)
                }
                operation => (of, name, operation),
            })
            .collect();
        give(&scene, &user, &rights);
        let config = config(&scene, at, home.path(), "SCRAM-SHA-512", (&user, SCRAM.1));
        let (code, log) = ended(&config.replacen("kafka:\n", &format!("kafka:\n{protocol}"), 1));
        assert_eq!(code, Some(77), "{expected}: {log}");
        assert!(log.contains("kafka.read_refused") && log.contains(expected), "{expected}: {log}");
    }
}

#[test]
fn who_may_not_log_in_or_trusts_another_authority_is_told_why() {
    let (broker, at) = broker::secured();
    let home = tempfile::tempdir().unwrap();
    let scene = Scene::on(broker, "stranger", &[("in", 1), ("out", 1)]);
    let wrong = config(&scene, at, home.path(), "PLAIN", (PLAIN.0, "not its password"));
    let codes = |config: &str| {
        let (exit, answer) = ask(config, &["doctor"]);
        let findings = answer["findings"].as_array().unwrap().iter();
        let of_server = findings.filter(|finding| finding["point"] == "server");
        (exit, of_server.map(|finding| finding["code"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(codes(&wrong), (1, vec!["kafka.authentication".into()]));
    let (code, log) = ended(&wrong);
    assert_eq!(code, Some(77), "{log}");
    assert!(log.contains("error[kafka.authentication]: the brokers refuse the credentials"), "{log}");
    assert!(!log.contains("not its password"), "{log}");
    let (exit, answer) = ask(&wrong, &["offsets", "show"]);
    assert_eq!((exit, &answer["error"]["code"]), (77, &"kafka.authentication".into()), "{answer:#}");
    let own = config(&scene, at, home.path(), "PLAIN", PLAIN).replace(
        &format!("ssl.ca.location: {}", home.path().join("ca.pem").display()),
        "ssl.endpoint.identification.algorithm: https",
    );
    assert_eq!(codes(&own), (1, vec!["kafka.tls".into()]), "signed by nobody whom the system trusts");
    let (code, log) = ended(&own);
    assert_eq!(code, Some(69), "{log}");
    assert!(log.contains("error[kafka.tls]"), "{log}");
}
