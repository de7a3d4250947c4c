//! A guest reaches what was granted and nothing else.

use std::fs;
use std::os::unix::fs::symlink;

use pelton_sandbox::{PrepareError, Spec};

use crate::support::{acts, engine, guest_path, instance, prepare, spec};

#[test]
fn sockets_are_refused_by_name() {
    let module = engine().load(&guest_path("sockets"), None).unwrap();
    let error = pelton_sandbox::Generation::prepare(&module, spec(), 1).unwrap_err();
    let PrepareError::Import(refusal) = &error else { panic!("{error:?}") };
    assert!(refusal.import.starts_with("wasi:sockets/"), "{refusal:?}");
    assert!(error.to_string().contains("no network"), "{error}");
}

#[test]
fn the_environment_is_what_was_granted() {
    assert!(std::env::vars().count() > 0, "there is something to see");
    for world in ["packed", "typed"] {
        assert_eq!(acts(&mut instance(world, spec()), &["environment"])[0].text(), "");
        let mut granted = spec();
        granted.grants.environment.push(("REGION".into(), "eu".into()));
        assert_eq!(acts(&mut instance(world, granted), &["environment"])[0].text(), "REGION=eu");
    }
}

#[test]
fn without_a_grant_there_is_no_file_system() {
    let outcomes =
        acts(&mut instance("packed", spec()), &["read /etc/passwd", "list /", "read ../secret", "write /tmp/x"]);
    for outcome in outcomes {
        assert!(outcome.text().starts_with("error:"), "{outcome:?}");
    }
}

#[test]
fn a_granted_directory_is_read_only_and_leads_nowhere_else() {
    let place = tempfile::tempdir().unwrap();
    let lookup = place.path().join("lookup");
    fs::create_dir(&lookup).unwrap();
    fs::write(lookup.join("table"), "granted").unwrap();
    fs::write(place.path().join("secret"), "secret").unwrap();
    symlink(place.path().join("secret"), lookup.join("absolute")).unwrap();
    symlink("../secret", lookup.join("relative")).unwrap();
    symlink("table", lookup.join("inside")).unwrap();
    let mut granted = spec();
    granted.grants.directories.push(("/lookup".into(), lookup.clone()));
    for world in ["packed", "typed"] {
        let mut instance = instance(world, granted.clone());
        let ok = acts(&mut instance, &["read /lookup/table", "read /lookup/inside", "list /lookup"]);
        assert_eq!((ok[0].text(), ok[1].text(), ok[2].text()), ("granted", "granted", "4"), "{world}");
        let refused = [
            "read /lookup/../secret",
            "read /lookup/absolute",
            "read /lookup/relative",
            "read /etc/passwd",
            "list /",
            "write /lookup/new",
            "write /lookup/table",
            "remove /lookup/table",
        ];
        for (outcome, act) in acts(&mut instance, &refused).iter().zip(refused) {
            assert!(outcome.text().starts_with("error:"), "{world} {act}: {outcome:?}");
        }
    }
    assert_eq!(fs::read_to_string(lookup.join("table")).unwrap(), "granted");
    assert!(!lookup.join("new").exists());
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let mut granted: Spec = spec();
    granted.grants.directories.push(("/lookup".into(), "/no/such/place".into()));
    let error = prepare("packed", granted).unwrap_err();
    assert!(error.to_string().contains("/no/such/place"), "{error}");
}

#[test]
fn files_can_be_read_in_configure() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("table"), "x").unwrap();
    let mut granted = crate::support::setting("configure", "read /lookup/table");
    granted.grants.directories.push(("/lookup".into(), place.path().into()));
    assert!(prepare("packed", granted).is_ok());
}

/// What the host returns to WASI's libc comes from the guest's allocator and is freed by libc's: both must agree.
#[test]
fn a_file_can_be_read_again_and_again() {
    let place = tempfile::tempdir().unwrap();
    let text = "0123456789abcdef".repeat(60);
    fs::write(place.path().join("table"), &text).unwrap();
    let mut granted = spec();
    granted.grants.directories.push(("/lookup".into(), place.path().into()));
    let mut instance = instance("packed", granted);
    for _ in 0..60 {
        let outcomes = acts(&mut instance, &["read /lookup/table"; 50]);
        assert!(outcomes.iter().all(|outcome| outcome.text() == text), "{outcomes:?}");
    }
    assert_eq!(instance.renewals(), 0);
}
