//! Each kind of damage, made by hand, must be found.

use super::findings::{Findings, Kind};
use super::oracle::Oracle;
use super::record::{Ask, Input, Outlet};
use super::verifier::{Seen, Verifier};
use std::time::Duration;

/// A run of one input partition and what a reader was shown of it.
struct Scene {
    oracle: Oracle,
    verifier: Verifier,
    findings: Findings,
    inputs: Vec<Input>,
    offset: i64,
}

impl Scene {
    fn new(asks: &[Ask]) -> Self {
        let oracle = Oracle::new(1);
        let inputs = asks.iter().map(|&ask| {
            let seq = oracle.sending(0, ask);
            Input { ask, partition: 0, seq, key: 7, key_seq: seq }
        });
        let inputs = inputs.collect();
        Scene { oracle, verifier: Verifier::new("test", 1), findings: Findings::new("test"), inputs, offset: 0 }
    }

    fn show(&mut self, seq: usize, outlet: Outlet) -> &mut Self {
        self.show_changed(seq, outlet, |_| {})
    }

    fn show_changed(&mut self, seq: usize, outlet: Outlet, change: impl FnOnce(&mut String)) -> &mut Self {
        let input = self.inputs[seq];
        let mut value = String::new();
        input.write(&mut value);
        change(&mut value);
        let source = format!("0:{seq}");
        let source = (outlet != Outlet::Dead).then_some(source.as_bytes());
        let key = input.key_text();
        let record =
            Seen { outlet, partition: 0, offset: self.offset, key: key.as_bytes(), value: value.as_bytes(), source };
        self.offset += 1;
        self.verifier.see(record, &self.findings);
        self
    }

    fn ends_with(&mut self, expected: &[(Kind, u64)]) {
        self.verifier.judge_all(&self.oracle, &self.findings);
        let found: Vec<(Kind, u64)> = self.findings.all().into_iter().map(|(kind, count, _)| (kind, count)).collect();
        assert_eq!(found, expected);
    }
}

use Ask::{Both, Left, None as Dropped, Right, Trap};
use Outlet::Dead;

#[test]
fn what_is_right_is_not_found_fault_with() {
    let mut scene = Scene::new(&[Left, Dropped, Both, Trap, Right]);
    scene.show(0, Outlet::Left).show(2, Outlet::Left).show(2, Outlet::Right).show(3, Dead).show(4, Outlet::Right);
    scene.ends_with(&[]);
    assert_eq!((scene.verifier.outputs(), scene.verifier.dead_letters()), (4, 1));
}

#[test]
fn a_lost_output_and_a_lost_dead_letter_are_found() {
    Scene::new(&[Left, Left, Trap]).show(0, Outlet::Left).ends_with(&[(Kind::Lost, 2)]);
    Scene::new(&[Both]).ends_with(&[(Kind::Lost, 1)]);
}

#[test]
fn a_loss_is_found_while_the_run_goes_on_where_the_group_has_committed() {
    let mut scene = Scene::new(&[Left, Left, Left]);
    scene.show(0, Outlet::Left);
    scene.verifier.committed(0, 2);
    scene.verifier.judge_committed(Duration::from_secs(3600), &scene.oracle, &scene.findings);
    assert!(scene.findings.is_empty(), "it is given time");
    scene.verifier.judge_committed(Duration::ZERO, &scene.oracle, &scene.findings);
    assert_eq!(scene.findings.count(Kind::Lost), 1, "seq 1, and not seq 2");
}

#[test]
fn a_duplicate_is_found() {
    Scene::new(&[Left, Left])
        .show(0, Outlet::Left)
        .show(1, Outlet::Left)
        .show(0, Outlet::Left)
        .ends_with(&[(Kind::Duplicate, 1)]);
    Scene::new(&[Trap]).show(0, Dead).show(0, Dead).ends_with(&[(Kind::Duplicate, 1)]);
}

#[test]
fn a_torn_fan_out_is_found() {
    Scene::new(&[Both, Both])
        .show(0, Outlet::Left)
        .show(0, Outlet::Right)
        .show(1, Outlet::Right)
        .ends_with(&[(Kind::Torn, 1)]);
}

#[test]
fn reordering_is_found_by_partition_and_by_key() {
    Scene::new(&[Left, Left]).show(1, Outlet::Left).show(0, Outlet::Left).ends_with(&[(Kind::Reordered, 2)]);
}

#[test]
fn an_outcome_that_was_not_asked_for_is_found() {
    Scene::new(&[Dropped]).show(0, Outlet::Left).ends_with(&[(Kind::Misplaced, 1)]);
    Scene::new(&[Left]).show(0, Dead).ends_with(&[(Kind::Lost, 1), (Kind::Misplaced, 1)]);
    let mut scene = Scene::new(&[Left, Left]);
    scene.show(0, Outlet::Left).show(1, Outlet::Left);
    scene.oracle.take_back(0);
    scene.ends_with(&[(Kind::Misplaced, 1)]);
}

#[test]
fn a_changed_value_is_found() {
    Scene::new(&[Left])
        .show_changed(0, Outlet::Left, |value| value.push('x'))
        .ends_with(&[(Kind::Lost, 1), (Kind::Altered, 1)]);
}

#[test]
fn readers_that_disagree_are_found() {
    let (mut a, mut b) = (Scene::new(&[Left, Left]), Scene::new(&[Left, Left]));
    a.show(0, Outlet::Left).show(1, Outlet::Left);
    b.show(0, Outlet::Left);
    a.verifier.agrees_with(&a.verifier, &a.findings);
    assert!(a.findings.is_empty());
    a.verifier.agrees_with(&b.verifier, &a.findings);
    assert_eq!(a.findings.count(Kind::Diverged), 1, "one has less");
    b.offset = 2;
    b.show(1, Outlet::Left);
    a.verifier.agrees_with(&b.verifier, &b.findings);
    assert_eq!(b.findings.count(Kind::Diverged), 1, "one has it elsewhere");
    b.offset = 1;
    b.show_changed(0, Outlet::Right, |_| {}).findings.all();
    b.offset = 2;
    b.show(0, Outlet::Left);
    assert_eq!(b.findings.count(Kind::Diverged), 2, "an offset that does not grow");
}
