//! Lies about the window. Each is told by a guest that speaks the ABI by hand (tests/guests/hostile): records are kept
//! until the one that says `now`, where it lies.

use std::time::Duration;

use pelton_sandbox::{FaultCode, Instance, PrepareError, Spec};

use crate::support::{Out, acts, instance, prepare, refusal, setting};

/// Ten records, the lie in the sixth: the five before it stand, the sixth is to blame, the others run.
fn told(lie: &str) -> Out {
    let mut instance = instance("hostile", setting("lie", lie));
    lie_in(&mut instance, lie)
}

fn lie_in(instance: &mut Instance, lie: &str) -> Out {
    let mut records = ["x"; 10];
    records[5] = "now";
    let mut outcomes = acts(instance, &records);
    let lied = outcomes.remove(5);
    assert_eq!(outcomes, vec![Out::Keep; 9], "{lie}");
    lied
}

#[test]
fn an_honest_guest_by_hand_is_served() {
    assert_eq!(acts(&mut instance("hostile", setting("lie", "none")), &["x"; 300]), vec![Out::Keep; 300]);
}

#[test]
fn windows_that_are_refused_at_load() {
    let lies = [
        ("no window", "announced no window"),
        ("misaligned", "aligned to 8 bytes"),
        ("short cell", "must be 8 bytes"),
        ("overlapping", "inside its buffer"),
        ("tiny", "4 KiB to 16 MiB"),
        ("copy", "is a copy"),
        ("twice", "called twice"),
        ("out of bounds", "out of bounds"),
    ];
    for (lie, why) in lies {
        let (code, detail) = refusal("hostile", setting("lie", lie));
        assert_eq!(code, FaultCode::Contract, "{lie}: {detail}");
        assert!(detail.contains(why), "{lie}: {detail}");
    }
}

#[test]
fn a_window_that_touches_its_cell_and_is_as_small_as_may_be_is_taken() {
    for place in ["cell before", "cell behind"] {
        prepare("hostile", setting("lie", place)).unwrap();
    }
}

fn abi(value: &str) -> Spec {
    let mut spec = setting("lie", "no window");
    spec.grants.environment.push(("ABI".into(), value.into()));
    spec
}

#[test]
fn a_window_that_is_announced_before_configure_is_refused() {
    let (code, detail) = refusal("hostile", abi("announces"));
    assert_eq!(code, FaultCode::Contract);
    assert!(detail.contains("outside `configure`"), "{detail}");
}

#[test]
fn another_version_of_the_abi_is_refused_by_number() {
    let error = prepare("hostile", abi("2")).unwrap_err();
    assert!(matches!(error, PrepareError::Abi { found: 2 }), "{error}");
}

#[test]
fn a_window_that_is_announced_later_is_refused() {
    let outcomes = acts(&mut instance("hostile", setting("lie", "window later")), &["x"; 3]);
    // all three were settled before the call died of it
    assert_eq!(outcomes, vec![Out::Keep; 3]);
}

#[test]
fn counts_and_bytes_that_lie_are_the_lying_records_fault() {
    let lies = [
        "bytes beyond the window",
        "bytes that are not outcomes",
        "outcome beyond the window",
        "unknown kind",
        "keep with bytes",
        "returns early",
        "returns an error",
        "flush of nothing",
        "commit out of turn",
        "commit of rubbish",
        "partition",
        "timestamp",
        "half a frame",
        "frame of no length",
        "header count",
    ];
    for lie in lies {
        let lied = told(lie);
        assert_eq!(lied.code(), FaultCode::Contract, "{lie}: {lied:?}");
    }
}

#[test]
fn what_a_frame_may_not_name() {
    assert_eq!(told("topic").code(), FaultCode::OutputTopic);
    assert_eq!(told("reserved header").code(), FaultCode::OutputHeader);
}

#[test]
fn a_reason_that_is_not_text_is_cut_where_it_stops_being_text() {
    // an error of the guest's, but a rejection all the same; it returned early, so the next record is blamed for that
    let outcomes = acts(&mut instance("hostile", setting("lie", "reason that is not text")), &["x", "now"]);
    assert_eq!(outcomes, [Out::Keep, Out::Reject("half ".into())]);
}

#[test]
fn a_count_that_lies_names_nobody_so_the_batch_runs_record_by_record() {
    for lie in ["count goes back", "count goes back after a flush", "count beyond the batch"] {
        assert_eq!(told(lie).code(), FaultCode::Contract, "{lie}");
    }
}

#[test]
fn a_swinging_count_buys_no_time() {
    let mut spec = setting("lie", "swinging count");
    spec.limits.deadline = Duration::from_millis(30);
    spec.limits.fuel = u64::MAX / 1024;
    let mut records = ["x"; 10];
    records[5] = "now";
    let outcomes = acts(&mut instance("hostile", spec), &records);
    let late = outcomes.iter().filter(|outcome| matches!(outcome, Out::Fault(FaultCode::Deadline, _))).count();
    assert!(late >= 1, "{outcomes:?}");
    assert_eq!(outcomes[6..], vec![Out::Keep; 4], "{outcomes:?}");
}

#[test]
fn flushes_and_commits_that_cheat_hurt_no_neighbour() {
    // alone in its batch the liar is found out, or its lie is none
    for lie in ["commit uncounted", "commit before a flush", "flush with wrong bytes", "flush of too many"] {
        told(lie);
    }
    assert_eq!(told("flush of too many").code(), FaultCode::Contract);
}

#[test]
fn an_outcome_that_was_committed_and_not_counted_stands() {
    let mut records = ["x"; 10];
    records[5] = "now";
    let mut outcomes = acts(&mut instance("hostile", setting("lie", "commit and die")), &records);
    // the record after it is blamed for the trap
    assert_eq!(outcomes.remove(6).code(), FaultCode::Trap);
    assert_eq!(outcomes, vec![Out::Keep; 9]);
}

#[test]
fn memory_that_grows_during_a_call_keeps_the_window_readable() {
    // the guest grows its memory by 100 pages, works on through many yields, settles, and traps: read after the trap
    let outcomes = acts(&mut instance("hostile", setting("lie", "grow")), &["x", "x", "now", "x"]);
    assert_eq!(outcomes[..3], [Out::Keep, Out::Keep, Out::Keep]);
    assert_eq!(outcomes[3].code(), FaultCode::Trap);
}

#[test]
fn every_lie_ends() {
    // as often as there are records, and no oftener, an instance is made
    for lie in ["count beyond the batch", "flush of too many", "returns early"] {
        let generation = prepare("hostile", setting("lie", lie)).unwrap();
        let mut instance = Instance::new(&generation).unwrap();
        acts(&mut instance, &["now"; 50]);
        assert!(instance.renewals() <= 50, "{lie}");
    }
}
