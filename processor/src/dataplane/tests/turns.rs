//! When lanes begin and end their transactions, beside each other and after each other.

use super::super::plan::{DeliveryPlan, Plan};
use super::MS;
use super::fakes::{Event, World};
use std::time::Duration;

#[test]
fn lanes_that_begin_together_end_in_turns() {
    let mut w = World::new(2, 5);
    w.event(Event::Assign(vec![0, 1]));
    w.steps(1);
    w.advance(50 * MS);
    w.steps(2);
    assert_eq!((w.visible(0), w.visible(1)), (0, 5), "half an interval apart");
    w.grow(1, 5);
    w.steps(1);
    w.advance(50 * MS);
    w.steps(2);
    assert_eq!((w.visible(0), w.visible(1)), (5, 5));
    w.grow(0, 5);
    w.steps(1);
    w.advance(50 * MS);
    w.steps(2);
    assert_eq!((w.visible(0), w.visible(1)), (5, 10), "each has its whole interval from now on");
    w.finish();
    w.check();
}

#[test]
fn a_lane_rests_after_a_commit_and_then_waits_for_records_alone() {
    let delivery = DeliveryPlan { commit_interval: 5 * MS, rest: 3 * MS, ..Plan::empty().delivery };
    let mut w = World::paced(1, 5, delivery);
    w.event(Event::Assign(vec![0]));
    w.steps(1);
    w.advance(5 * MS);
    w.steps(2);
    assert_eq!(w.visible(0), 5);
    w.grow(0, 5);
    assert_eq!(w.due_in(), Some(3 * MS));
    w.steps(1);
    assert_eq!(w.due_in(), Some(3 * MS), "nothing is begun before");
    w.advance(3 * MS);
    assert_eq!(w.due_in(), None::<Duration>, "no reason to wake for but records");
    w.steps(1);
    assert_eq!(w.due_in(), Some(5 * MS));
    w.advance(5 * MS);
    w.steps(2);
    assert_eq!(w.visible(0), 10);
    w.check();
}
