//! What is particular to the typed world: fields in and out, attribution, logs of batches that run again.

use pelton_sandbox::{FaultCode, Header, Instance, Record, Spec, World};

use crate::support::{Out, Written, acts, guest, instance, prepare, record, run, spec};

#[test]
fn worlds_are_told_by_their_exports() {
    assert_eq!(guest("typed").world(), World::Typed);
    assert_eq!(guest("packed").world(), World::Packed);
}

/// Everything that a record can be, in one.
fn rich<'a>(key: Option<&'a [u8]>, value: Option<&'a [u8]>, headers: &'a [Header<'a>]) -> Record<'a> {
    Record { topic: 1, partition: 7, offset: 1 << 40, timestamp_ms: -1, key, value, headers }
}

#[test]
fn records_come_and_go_unchanged_in_both_worlds() {
    let headers = [
        Header { key: b"same", value: Some(b"1") },
        Header { key: b"same", value: None },
        Header { key: b"", value: Some(b"") },
        Header { key: b"same", value: Some(b"\xff\x00") },
    ];
    let cases = [
        rich(None, Some(b"copy"), &headers),
        rich(Some(b""), Some(b"copy"), &[]),
        rich(Some(b"\xff\xfe"), None, &headers),
        rich(None, None, &[]),
    ];
    for world in ["packed", "typed"] {
        let outcomes = run(&mut instance(world, spec()), &cases);
        for (outcome, case) in outcomes.iter().zip(&cases) {
            let expected = Written {
                topic: 0,
                partition: None,
                timestamp_ms: None,
                key: case.key.map(<[u8]>::to_vec),
                value: case.value.map(<[u8]>::to_vec),
                headers: case.headers.iter().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect(),
            };
            assert_eq!(*outcome.only(), expected, "{world}");
        }
    }
}

#[test]
fn tombstones_are_not_empty_values() {
    for world in ["packed", "typed"] {
        let outcomes = acts(&mut instance(world, spec()), &["tombstone", "emit "]);
        assert_eq!(outcomes[0].only().value, None, "{world}");
        assert_eq!(outcomes[1].only().value.as_deref(), Some(&b""[..]), "{world}");
    }
}

#[test]
fn header_keys_that_are_not_text() {
    let headers = [Header { key: b"k\xff", value: Some(b"v") }];
    let case = [rich(None, Some(b"copy"), &headers)];
    let packed = run(&mut instance("packed", spec()), &case);
    assert_eq!(packed[0].only().headers[0].0, b"k\xff");
    let typed = run(&mut instance("typed", spec()), &case);
    assert_eq!(typed[0].only().headers[0].0, "k\u{fffd}".as_bytes(), "a string cannot hold it");
}

#[test]
fn the_guest_sees_where_a_record_comes_from() {
    let outcomes = run(&mut instance("typed", spec()), &[record("where"), rich(None, Some(b"where"), &[])]);
    assert_eq!(outcomes[0].text(), "in/3@42 1700000000000");
    assert_eq!(outcomes[1].text(), "other/7@1099511627776 -1");
}

#[test]
fn an_error_of_process_rejects_its_batch() {
    let mut instance = instance("typed", spec());
    assert_eq!(acts(&mut instance, &["keep", "fail the batch"]), vec![Out::Reject("as asked".into()); 2]);
    assert_eq!(instance.renewals(), 0);
}

#[test]
fn a_missing_outcome_is_attributed_by_running_singly() {
    let outcomes = acts(&mut instance("typed", spec()), &["emit a", "forget one", "emit b"]);
    assert_eq!((outcomes[0].text(), outcomes[2].text()), ("a", "b"));
    assert_eq!(outcomes[1].code(), FaultCode::Contract);
}

#[test]
fn log_lines_of_a_batch_that_runs_again_are_written_once() {
    let spec = Spec { observe_guest_text: true, ..spec() };
    let generation = prepare("typed", spec).unwrap();
    let mut instance = Instance::new(&generation).unwrap();
    let outcomes = acts(&mut instance, &["log one", "print two", "panic", "log three"]);
    assert_eq!(outcomes[2].code(), FaultCode::Panic);
    // the panic's own text is three lines of stderr: location, message, note
    let counts = generation.log_counts();
    let lines = counts.written + counts.limited;
    acts(&mut instance, &["log one", "print two", "log three"]);
    assert_eq!(generation.log_counts().written - counts.written, 3);
    assert!((3 + 2..=3 + 4).contains(&lines), "{lines} lines");
}

#[test]
fn unobserved_text_is_counted_only() {
    for world in ["packed", "typed"] {
        let generation = prepare(world, spec()).unwrap();
        acts(&mut Instance::new(&generation).unwrap(), &["print secret", "eprint secret"]);
        assert_eq!((generation.log_counts().written, generation.log_counts().unobserved), (0, 2), "{world}");
    }
}
