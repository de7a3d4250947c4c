//! The ready transforms, end to end.

use std::time::Duration;

use pelton_sandbox::{Generation, Instance, Spec};

use crate::support::{Out, engine, instance, record, run, setting, spec, transform_path, value};

fn start(name: &str, spec: Spec) -> Instance {
    let module = engine().load(&transform_path(name), None).unwrap();
    Instance::new(&Generation::prepare(&module, spec, 1).unwrap()).unwrap()
}

#[test]
fn identity_keeps_or_copies() {
    let records = [record("a"), value(None), record("")];
    assert_eq!(run(&mut start("identity", spec()), &records), [Out::Keep, Out::Keep, Out::Keep]);
    let copies = run(&mut start("identity", setting("copy", "true")), &records);
    let values: Vec<_> = copies.iter().map(|copy| copy.only().value.as_deref()).collect();
    assert_eq!(values, [Some(&b"a"[..]), None, Some(b"")]);
}

#[test]
fn what_a_batch_takes_is_told() {
    for mut instance in [start("identity", spec()), instance("typed", spec())] {
        assert_eq!((instance.fuel(), instance.time()), (0, Duration::ZERO));
        let mut took = || {
            let before = instance.fuel();
            run(&mut instance, &[record("keep"), record("keep")]);
            instance.fuel() - before
        };
        took();
        let (second, third) = (took(), took());
        assert!(second > 100, "{second}");
        assert_eq!(second, third, "the same records burn the same");
        assert!(instance.time() > Duration::ZERO);
    }
}

#[test]
fn redact_removes_keeps_and_rejects() {
    let records = [record(r#"{"card":1,"n":2}"#), record(r#"{"n":2}"#), record("{")];
    let outcomes = run(&mut start("redact", setting("fields", "card")), &records);
    assert_eq!(outcomes[0].text(), r#"{"n":2}"#);
    assert_eq!(outcomes[1], Out::Keep);
    assert!(matches!(&outcomes[2], Out::Reject(reason) if reason.contains("line 1")), "{:?}", outcomes[2]);
}

#[test]
fn route_names_topics_by_index() {
    let mut spec = setting("field", "region");
    spec.settings.push(("EU".into(), "audit".into()));
    let outcomes = run(&mut start("route", spec), &[record(r#"{"region":"EU"}"#), record(r#"{"region":"US"}"#)]);
    assert_eq!(outcomes[0].only().topic, 1);
    assert_eq!(outcomes[1], Out::Keep);
}

#[test]
fn split_makes_many() {
    let outcomes = run(&mut start("split", setting("field", "items")), &[record(r#"{"items":[1,2,3]}"#)]);
    assert!(matches!(&outcomes[0], Out::Emit(outputs) if outputs.len() == 3));
}
