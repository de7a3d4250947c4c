//! Each kind of damage, made by hand, must be found.

use super::findings::{Findings, Kind};
use super::oracle::Oracle;
use super::record::{Ask, Input, Outlet, Source};
use super::verifier::{Seen, Verifier};
use std::time::Duration;

/// A run of one input partition and what a reader was shown of it.
struct Scene {
    oracle: Oracle,
    verifier: Verifier,
    findings: Findings,
    /// By offset.
    inputs: Vec<Input>,
    offset: i64,
}

impl Scene {
    /// The input is what was sent.
    fn new(asks: &[Ask]) -> Self {
        let seqs: Vec<usize> = (0..asks.len()).collect();
        Scene::of(asks, &seqs)
    }

    /// The input has these of what was sent.
    fn of(asks: &[Ask], seqs: &[usize]) -> Self {
        let scene = Scene::unread(asks, seqs);
        (0..seqs.len()).for_each(|offset| scene.read(offset));
        scene
    }

    /// The input has these, and nobody has read it yet.
    fn unread(asks: &[Ask], seqs: &[usize]) -> Self {
        let oracle = Oracle::new(1);
        for ask in asks {
            oracle.sending(0, *ask);
        }
        let input = |seq: &usize| Input { ask: asks[*seq], partition: 0, seq: *seq as i64, key: 7 };
        let inputs = seqs.iter().map(input).collect();
        Scene { oracle, verifier: Verifier::new("test", 1), findings: Findings::new("test"), inputs, offset: 0 }
    }

    fn read(&self, offset: usize) {
        let mut value = String::new();
        self.inputs[offset].write(&mut value);
        self.oracle.read(0, offset as i64, self.inputs[offset].key_text().as_bytes(), value.as_bytes());
    }

    /// The outcome of an offset.
    fn show(&mut self, at: usize, outlet: Outlet) -> &mut Self {
        self.show_changed(at, outlet, |_| {})
    }

    fn show_changed(&mut self, at: usize, outlet: Outlet, change: impl FnOnce(&mut String)) -> &mut Self {
        let source = Source { partition: 0, offset: at as i64 };
        self.show_from(Some(source), self.inputs[at], outlet, change)
    }

    fn show_from(
        &mut self,
        source: Option<Source>,
        input: Input,
        outlet: Outlet,
        change: impl FnOnce(&mut String),
    ) -> &mut Self {
        let mut value = String::new();
        input.write(&mut value);
        change(&mut value);
        let key = input.key_text();
        let record =
            Seen { outlet, partition: 0, offset: self.offset, key: key.as_bytes(), value: value.as_bytes(), source };
        self.offset += 1;
        self.verifier.see(record, &self.oracle, &self.findings);
        self
    }

    fn judge_committed(&mut self, patience: Duration) {
        self.verifier.judge_committed(patience, &self.oracle, &self.findings);
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
    scene.judge_committed(Duration::from_secs(3600));
    assert!(scene.findings.is_empty(), "it is given time");
    scene.judge_committed(Duration::ZERO);
    assert_eq!(scene.findings.count(Kind::Lost), 1, "offset 1, and not offset 2");
}

#[test]
fn what_is_committed_before_the_input_is_read_is_judged_later() {
    let mut scene = Scene::unread(&[Left, Left, Left], &[0, 1, 2]);
    scene.show(0, Outlet::Left).verifier.committed(0, 2);
    scene.read(0);
    scene.judge_committed(Duration::ZERO);
    assert!(scene.findings.is_empty(), "nobody knows what offset 1 asks");
    scene.read(1);
    scene.judge_committed(Duration::ZERO);
    assert_eq!(scene.findings.count(Kind::Lost), 1);
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
    let mut scene = Scene::unread(&[Left, Left], &[0, 1]);
    scene.read(0);
    scene.show(0, Outlet::Left).show(1, Outlet::Left).ends_with(&[(Kind::Misplaced, 1)]);
}

#[test]
fn nothing_is_expected_of_a_gap_in_the_input() {
    let gap = || {
        let scene = Scene::unread(&[Left, Left, Left], &[0, 1, 2]);
        scene.read(0);
        scene.read(2);
        scene
    };
    gap().show(0, Outlet::Left).show(2, Outlet::Left).ends_with(&[]);
    gap().show(0, Outlet::Left).show(1, Outlet::Left).show(2, Outlet::Left).ends_with(&[(Kind::Misplaced, 1)]);
}

#[test]
fn input_that_is_there_again_is_to_be_processed_again() {
    let again = || Scene::of(&[Left, Both, Trap], &[0, 1, 0, 1, 2]);
    let mut right = again();
    right.show(0, Outlet::Left).show(1, Outlet::Left).show(1, Outlet::Right);
    right.show(2, Outlet::Left).show(3, Outlet::Left).show(3, Outlet::Right).show(4, Dead).ends_with(&[]);
    let mut once = again();
    once.show(0, Outlet::Left).show(1, Outlet::Left).show(1, Outlet::Right);
    once.show(3, Outlet::Right).show(4, Dead).ends_with(&[(Kind::Lost, 1), (Kind::Torn, 1)]);
    Scene::of(&[Left], &[0, 0]).show(0, Outlet::Left).ends_with(&[(Kind::Lost, 1)]);
    Scene::of(&[Left], &[0, 0])
        .show(0, Outlet::Left)
        .show(1, Outlet::Left)
        .show(1, Outlet::Left)
        .ends_with(&[(Kind::Duplicate, 1)]);
}

#[test]
fn a_changed_value_is_found() {
    Scene::new(&[Left])
        .show_changed(0, Outlet::Left, |value| value.push('x'))
        .ends_with(&[(Kind::Lost, 1), (Kind::Altered, 1)]);
}

#[test]
fn the_content_of_another_offset_is_found() {
    let mut scene = Scene::new(&[Left, Left]);
    let other = scene.inputs[1];
    scene.show_changed(0, Outlet::Left, |value| other.write(value)).show(1, Outlet::Left);
    scene.ends_with(&[(Kind::Altered, 1)]);
}

#[test]
fn an_outcome_without_a_source_that_can_be_is_found() {
    let beyond = |partition, offset| Some(Source { partition, offset });
    for source in [None, beyond(1, 0), beyond(-1, 0), beyond(0, -1), beyond(0, i64::MAX)] {
        let mut scene = Scene::new(&[Dropped]);
        let input = scene.inputs[0];
        scene.show_from(source, input, Outlet::Left, |_| {}).ends_with(&[(Kind::Altered, 1)]);
    }
}

#[test]
fn what_is_seen_before_its_input_is_read_is_compared_afterwards() {
    let mut right = Scene::unread(&[Left, Trap], &[0, 1]);
    right.show(0, Outlet::Left).show(1, Dead);
    right.read(0);
    right.judge_committed(Duration::ZERO);
    right.read(1);
    right.ends_with(&[]);

    let mut wrong = Scene::unread(&[Left, Left, Dropped], &[0, 1, 2]);
    let other = wrong.inputs[1];
    wrong.show_changed(0, Outlet::Left, |value| other.write(value)).show(1, Outlet::Left).show(2, Outlet::Left);
    assert!(wrong.findings.is_empty());
    wrong.read(0);
    wrong.judge_committed(Duration::ZERO);
    assert_eq!(wrong.findings.count(Kind::Altered), 1, "at once when it is read");
    wrong.read(1);
    wrong.read(2);
    wrong.ends_with(&[(Kind::Misplaced, 1), (Kind::Altered, 1)]);
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
