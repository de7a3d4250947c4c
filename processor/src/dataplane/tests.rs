//! The loop over fakes of the three ports, with a clock that is moved by hand: scenarios by name, and random schedules
//! against the invariants.

mod fakes;
mod turns;

use super::plan::{DeliveryPlan, Plan};
use super::worker::WorkerError;
use fakes::{Event, World};
use proptest::prelude::*;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

#[test]
fn records_are_committed_when_the_interval_is_over_and_not_before() {
    let mut w = World::new(1, 5);
    w.event(Event::Assign(vec![0]));
    w.steps(3);
    assert_eq!(w.visible(0), 0);
    assert_eq!(w.committed(0), None);
    w.advance(100 * MS);
    w.steps(2);
    assert_eq!(w.visible(0), 5);
    assert_eq!(w.committed(0), Some(5));
    w.check();
}

#[test]
fn while_one_lane_commits_the_other_goes_on() {
    let mut w = World::new(2, 300);
    w.event(Event::Assign(vec![0, 1]));
    w.steps(1);
    w.cork();
    w.advance(100 * MS);
    w.steps(1); // both lanes are due; both are sealed and stay so
    w.uncork_lane(0);
    w.steps(4);
    w.advance(100 * MS);
    w.steps(2);
    w.uncork_lane(0);
    w.steps(2);
    assert!(w.visible(0) > 128, "lane 0 went on: {}", w.visible(0));
    assert_eq!(w.visible(1), 0, "lane 1 is still committing");
    w.uncork();
    w.finish();
    w.check();
}

#[test]
fn a_failed_commit_is_read_again_from_the_committed_position() {
    let mut w = World::new(1, 200);
    w.event(Event::Assign(vec![0]));
    w.steps(1);
    w.advance(100 * MS);
    w.steps(2);
    let before = w.committed(0);
    w.fail_commits(1);
    w.steps(1);
    w.advance(100 * MS);
    w.steps(2);
    assert_eq!(w.committed(0), before, "nothing of the failed transaction counts");
    w.finish();
    assert_eq!(w.visible(0), 200);
    w.check();
}

#[test]
fn what_has_its_outcome_and_comes_again_is_left_out() {
    let mut w = World::new(1, 100);
    w.event(Event::Assign(vec![0]));
    w.steps(1);
    // Of an open transaction, and of one that is committed; as after a rebalance that pauses and resumes all partitions.
    w.fetch_again(0, 1);
    w.steps(2);
    w.advance(100 * MS);
    w.steps(2);
    w.fetch_again(0, 3);
    w.finish();
    assert_eq!(w.visible(0), 100);
    w.check();
}

#[test]
fn a_failed_first_commit_is_read_again_from_where_reading_began() {
    let mut w = World::new(1, 10);
    w.fail_commits(1);
    w.event(Event::Assign(vec![0]));
    w.steps(1);
    w.advance(100 * MS);
    w.steps(3);
    w.finish();
    assert_eq!(w.visible(0), 10);
    w.check();
}

#[test]
fn records_whose_transaction_could_not_begin_are_read_again() {
    let mut w = World::new(1, 300);
    w.event(Event::Assign(vec![0]));
    w.steps(2);
    w.advance(100 * MS);
    w.steps(2);
    w.fail_begins(1);
    w.finish();
    assert_eq!(w.visible(0), 300);
    w.check();
}

#[test]
fn what_is_observed_is_what_was_committed() {
    let mut w = World::new(2, 300);
    w.event(Event::Assign(vec![0, 1]));
    w.steps(1);
    w.advance(1_000 * MS);
    w.fail_commits(1);
    w.steps(1);
    assert_eq!(w.lags(), [(0, 300), (1, 300)]);
    assert_eq!(w.counters().partitions.get(), 2);
    w.finish();
    let counters = w.counters();
    assert_eq!(counters.latency.read().count(), 600, "each once, whatever was rolled back");
    assert_eq!(counters.records_in.get(), 600 + 2 * 128, "the batches that were rolled back were taken again");
    assert_eq!(counters.commit.read().count(), w.counted().committed);
    assert_eq!(w.counted().rolled_back, 1);
    assert_eq!(w.lags(), [(0, 0), (1, 0)]);
    // What is told is computed anew, and will not be within the next step.
    w.advance(500 * MS);
    w.steps(1);
    w.event(Event::Revoke { partitions: vec![0], lost: false });
    w.steps(1);
    assert_eq!(w.lags(), [(1, 0)], "it is another's now");
    assert_eq!(w.counters().rebalances.get(), 2);
}

#[test]
fn a_revocation_commits_what_is_open_before_it_returns() {
    let mut w = World::new(2, 50);
    w.event(Event::Assign(vec![0, 1]));
    w.steps(1);
    w.cork();
    w.event(Event::Revoke { partitions: vec![0], lost: false });
    w.steps(1);
    assert_eq!(w.committed(0), Some(50), "I6");
    assert_eq!(w.committed(1), None, "the other lane was left alone");
    w.uncork();
    w.finish();
    w.check();
}

#[test]
fn a_revocation_waits_for_a_commit_that_is_on_its_way() {
    let mut w = World::new(1, 50);
    w.event(Event::Assign(vec![0]));
    w.steps(1);
    w.cork();
    w.advance(100 * MS);
    w.steps(1);
    assert_eq!(w.committed(0), None);
    w.event(Event::Revoke { partitions: vec![0], lost: false });
    w.steps(1);
    assert_eq!(w.committed(0), Some(50), "I6");
    w.check();
}

#[test]
fn a_lost_assignment_commits_nothing() {
    let mut w = World::new(1, 50);
    w.event(Event::Assign(vec![0]));
    w.steps(1);
    w.event(Event::Revoke { partitions: vec![0], lost: true });
    w.steps(1);
    assert_eq!((w.committed(0), w.visible(0)), (None, 0));
    w.event(Event::Assign(vec![0]));
    w.finish();
    assert_eq!(w.visible(0), 50);
    w.check();
}

#[test]
fn a_member_that_is_out_of_its_group_commits_nothing() {
    let mut w = World::new(1, 50);
    w.event(Event::Assign(vec![0]));
    w.steps(1);
    w.out_of_group(true);
    w.advance(100 * MS);
    w.steps(2);
    assert_eq!((w.committed(0), w.visible(0)), (None, 0));
    w.out_of_group(false);
    w.finish();
    assert_eq!(w.visible(0), 50);
    w.check();
}

#[test]
fn lanes_are_evened_out_once_both_are_idle() {
    let mut w = World::new(4, 500);
    w.event(Event::Assign(vec![0, 1, 2, 3]));
    w.steps(2);
    // Partitions 1 and 3 are lane 1's: it is left with nothing.
    w.event(Event::Revoke { partitions: vec![1, 3], lost: false });
    w.steps(4);
    w.advance(100 * MS);
    w.steps(4);
    assert_eq!(w.lanes_in_use(), 2);
    w.finish();
    w.check();
}

#[test]
fn the_loop_gives_up_when_every_transaction_fails() {
    let mut w = World::new(1, 10);
    w.fail_commits(1_000);
    w.event(Event::Assign(vec![0]));
    let result = w.until_error(100, 10_000 * MS);
    assert!(matches!(result, Err(WorkerError::KeepsFailing { times: 10, .. })), "{result:?}");
    w.check();
}

#[test]
fn fencing_again_and_again_is_told_apart_from_other_failures() {
    let mut w = World::new(1, 10);
    w.fence_commits(1_000);
    w.event(Event::Assign(vec![0]));
    let result = w.until_error(100, 1_000 * MS);
    assert!(matches!(result, Err(WorkerError::IdentityClash(_))), "{result:?}");
}

#[test]
fn a_record_that_cannot_be_produced_aborts_its_whole_transaction() {
    let mut w = World::new(1, 200);
    w.event(Event::Assign(vec![0]));
    w.fail_produce_at(Some(150));
    w.steps(2);
    w.advance(100 * MS);
    w.steps(2);
    assert_eq!(w.visible(0), 0, "record 150's failure takes its neighbours along");
    w.fail_produce_at(None);
    w.finish();
    assert_eq!(w.visible(0), 200);
    w.check();
}

#[test]
fn a_coordinator_that_times_out_old_transactions_is_no_clash() {
    let mut w = World::new(1, 10);
    w.fence_commits(6);
    w.event(Event::Assign(vec![0]));
    w.steps(3);
    for _ in 0..6 {
        // Paused for longer than a transaction may last.
        w.advance(31_000 * MS);
        w.steps(4);
    }
    w.finish();
    assert_eq!(w.visible(0), 10);
    w.check();
}

#[test]
fn a_call_that_never_returns_is_left_behind_and_its_records_are_read_again() {
    let mut w = World::new(1, 300);
    w.event(Event::Assign(vec![0]));
    w.steps(1);
    w.hang(0);
    w.advance(100 * MS);
    w.steps(3);
    assert_eq!((w.visible(0), w.counted().abandoned), (0, 1));
    w.finish();
    assert_eq!(w.visible(0), 300);
    w.check();
}

#[test]
fn a_revocation_does_not_wait_for_a_call_that_never_returns() {
    let mut w = World::new(2, 50);
    w.event(Event::Assign(vec![0, 1]));
    w.steps(1);
    w.hang(0);
    w.event(Event::Revoke { partitions: vec![0], lost: false });
    w.steps(2);
    assert_eq!(w.committed(0), None, "it was given up, and the call can do nothing any more");
    assert_eq!(w.counted().abandoned, 1);
    w.event(Event::Assign(vec![0]));
    w.finish();
    assert_eq!((w.visible(0), w.visible(1)), (50, 50));
    w.check();
}

#[test]
fn calls_that_never_return_again_and_again_end_the_worker() {
    let mut w = World::new(1, 10);
    w.event(Event::Assign(vec![0]));
    let mut result = Ok(());
    for _ in 0..100 {
        w.hang(0);
        result = w.step();
        if result.is_err() {
            break;
        }
        w.advance(10_000 * MS);
    }
    assert!(matches!(result, Err(WorkerError::Stuck(_))), "{result:?}");
    w.check();
}

#[test]
fn a_producer_in_doubt_is_renewed_before_its_lane_goes_on() {
    let mut w = World::new(1, 300);
    w.event(Event::Assign(vec![0]));
    w.doubt_commits(1);
    w.steps(1);
    w.advance(100 * MS);
    w.cork();
    w.steps(1);
    w.uncork_lane(0);
    assert_eq!((w.visible(0) > 0, w.counted().renewed), (true, 1), "the commit counts at once");
    // The fake asserts that nothing begins before the sink has reported that it is ready.
    w.steps(3);
    w.uncork();
    w.finish();
    assert_eq!(w.visible(0), 300);
    w.check();
}

#[test]
fn a_revocation_does_not_wait_for_a_renewal() {
    let mut w = World::new(1, 50);
    w.event(Event::Assign(vec![0]));
    w.doubt_commits(1);
    w.steps(1);
    w.advance(100 * MS);
    w.cork();
    w.steps(1);
    w.uncork_lane(0);
    w.hang(0);
    w.event(Event::Revoke { partitions: vec![0], lost: false });
    w.steps(1);
    assert_eq!((w.committed(0), w.counted().abandoned), (Some(50), 1));
    w.check();
}

#[test]
fn a_refused_record_is_found_by_smaller_transactions_and_goes_by_its_policy() {
    let mut w = World::new(2, 600);
    w.refuse(333, false);
    w.event(Event::Assign(vec![0, 1]));
    w.finish();
    // One record of each partition has that offset; each was condemned once, alone, and everything else passed.
    assert_eq!(w.condemned(), [333, 333]);
    assert_eq!((w.visible(0), w.visible(1)), (600, 600));
    assert!(w.counted().rolled_back <= 40, "{} rollbacks", w.counted().rolled_back);
    w.check();
    // Afterwards transactions are of full size again.
    w.grow(0, 20_000);
    w.finish();
    assert_eq!(w.visible(0), 20_600);
    let sizes = w.sizes();
    assert!(sizes.iter().rev().take(20).any(|size| *size >= 128), "{sizes:?}");
}

/// Seen by the torture run on a slow machine: in transactions of one record a lane did not keep up with its other
/// partition, behind which the refused record waited for ever, in this process and in its successors.
#[test]
fn a_refused_record_is_found_although_more_comes_to_its_lane_than_goes_one_by_one() {
    let mut w = World::new(3, 100);
    w.event(Event::Assign(vec![0, 1, 2]));
    w.refuse_of(2, 50);
    let rounds = (0..2_000).find(|_| {
        w.grow(0, 5);
        w.steps(1);
        w.advance(10 * MS);
        w.visible(2) == 100
    });
    assert!(rounds.is_some(), "{} and {} of {} records are through", w.visible(2), w.visible(0), w.len(0));
    assert_eq!(w.condemned(), [50]);
    w.finish();
    assert_eq!((w.visible(0), w.paused()), (w.len(0), 0), "what was left aside goes on");
    w.check();
}

#[test]
fn a_search_ends_when_what_it_looks_for_moves_to_another_lane() {
    let mut w = World::new(4, 100);
    // Lanes: 0 and 2, 1 and 3.
    w.event(Event::Assign(vec![0, 1, 2, 3]));
    w.refuse_of(0, 50);
    (0..100).find(|_| {
        w.steps(1);
        w.advance(10 * MS);
        w.counted().rolled_back == 1
    });
    w.event(Event::Revoke { partitions: vec![1, 3], lost: false });
    w.grow(2, 400);
    // Sooner than a search would end by itself.
    (0..1_000).for_each(|_| {
        w.steps(1);
        w.advance(20 * MS);
    });
    assert_eq!(w.lanes_in_use(), 2);
    assert_eq!((w.visible(0), w.visible(2), w.paused()), (100, 500, 0));
    w.check();
}

#[test]
fn a_search_ends_when_nobody_reads_any_more_what_it_looks_for() {
    let mut w = World::new(1, 100);
    w.event(Event::Assign(vec![0]));
    w.refuse(50, false);
    (0..100).find(|_| {
        w.steps(1);
        w.advance(10 * MS);
        w.counted().rolled_back == 1
    });
    assert!(w.is_searching());
    w.want_read(false);
    w.steps(5);
    assert!(w.is_up_to_date() && !w.is_searching(), "sooner than it would end by itself");
    w.want_read(true);
    w.finish();
    assert_eq!((w.visible(0), w.condemned()), (100, vec![50]), "and begins again with what it looked for");
    w.check();
}

#[test]
fn a_refused_record_whose_dead_letter_is_refused_too_ends_the_worker_and_is_not_skipped() {
    let mut w = World::new(1, 100);
    w.refuse(50, true);
    w.event(Event::Assign(vec![0]));
    let result = w.until_error(1_000, 50 * MS);
    assert!(matches!(&result, Err(WorkerError::Refused { at, .. }) if at == "in/0@50"), "{result:?}");
    assert_eq!(w.committed(0), Some(50));
    w.check();
}

#[test]
fn a_drain_ends_within_its_limit_although_a_call_never_returns() {
    let mut w = World::new(1, 50);
    w.event(Event::Assign(vec![0]));
    w.steps(2);
    w.hang(0);
    let (result, took) = w.drain();
    // The call was left behind and its transaction rolled back: nothing is open, and nothing is lost.
    assert!(result.is_ok(), "{result:?}");
    assert!(took <= Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_transform_over_its_share_is_paused_and_reads_on_where_it_was() {
    let mut w = World::new(2, 1_000);
    w.event(Event::Assign(vec![0, 1]));
    w.steps(1);
    w.spend(Duration::from_millis(400));
    w.advance(20 * MS);
    w.steps(1);
    assert_eq!(w.paused(), 2);
    let paused_at = w.visible(0);
    w.advance(300 * MS);
    w.steps(3);
    assert_eq!(w.paused(), 2, "it still owes");
    assert!(w.visible(0) <= paused_at + 256, "what was open was committed, and nothing more was read");
    w.advance(400 * MS);
    w.steps(1);
    assert_eq!(w.paused(), 0);
    w.finish();
    assert_eq!((w.visible(0), w.visible(1)), (1_000, 1_000), "librdkafka's own idea of the place was not trusted");
    w.check();
}

#[test]
fn a_transform_over_its_budget_stays_paused_while_what_is_settled_is_committed() {
    let mut w = World::new(1, 1_000);
    w.event(Event::Assign(vec![0]));
    w.steps(1);
    w.trip();
    w.advance(20 * MS);
    w.finish();
    assert_eq!(w.paused(), 1);
    let settled = w.visible(0);
    assert!((1..1_000).contains(&settled), "{settled}");
    w.check();
    w.event(Event::Revoke { partitions: vec![0], lost: false });
    w.event(Event::Assign(vec![0]));
    w.finish();
    assert_eq!(w.visible(0), settled, "it came back paused");
    w.check();
}

#[test]
fn a_plan_is_taken_up_between_two_transactions() {
    let mut w = World::new(2, 300);
    w.event(Event::Assign(vec![0, 1]));
    w.steps(1);
    w.cork();
    w.want_another_plan();
    w.steps(3);
    assert!(!w.is_up_to_date(), "what is open by the old one is not committed yet");
    let (before, _) = (w.visible(0), w.visible(1));
    w.uncork();
    w.steps(3);
    assert!(w.is_up_to_date(), "sealed early, and taken up at once");
    assert!(w.visible(0) > before);
    w.want_another_plan();
    w.want_another_plan();
    w.finish();
    assert!(w.is_up_to_date());
    assert_eq!((w.visible(0), w.visible(1)), (300, 300));
    w.check();
}

#[test]
fn a_topic_that_nobody_reads_for_a_while_goes_on_where_it_was() {
    let mut w = World::new(2, 300);
    w.event(Event::Assign(vec![0, 1]));
    w.steps(2);
    w.want_read(false);
    w.finish();
    let seen = (w.visible(0), w.visible(1));
    assert!(seen.0 < 300, "{seen:?}");
    w.grow(0, 10);
    w.steps(20);
    assert_eq!((w.visible(0), w.visible(1)), seen, "it is not read");
    w.want_read(true);
    w.finish();
    assert_eq!((w.visible(0), w.visible(1)), (310, 300));
    w.check();
}

#[test]
fn a_topic_that_is_read_again_before_the_group_took_it_loses_nothing() {
    let mut w = World::new(1, 300);
    w.event(Event::Assign(vec![0]));
    w.steps(1);
    w.want_read(false);
    // Records are fetched and left out meanwhile.
    w.steps(10);
    assert!(w.is_up_to_date());
    assert!(w.visible(0) < 300);
    w.want_read(true);
    w.finish();
    assert_eq!(w.visible(0), 300);
    w.check();
}

#[test]
fn a_new_topic_to_write_to_is_taken_up_by_new_producers() {
    let mut w = World::new(2, 100);
    w.event(Event::Assign(vec![0, 1]));
    w.steps(3);
    w.doubt_commits(1);
    w.want_another_output();
    w.finish();
    assert!(w.is_up_to_date());
    assert_eq!((w.visible(0), w.visible(1)), (100, 100));
    w.check();
}

#[test]
fn a_plan_waits_for_a_rollback_too() {
    let mut w = World::new(1, 200);
    w.event(Event::Assign(vec![0]));
    w.steps(1);
    w.fail_commits(2);
    w.want_another_plan();
    w.finish();
    assert!(w.is_up_to_date());
    assert_eq!(w.visible(0), 200);
    w.check();
}

/// What may happen between two rounds of the loop.
#[derive(Clone, Debug)]
enum Act {
    Step,
    Advance(u64),
    Cork,
    Uncork,
    FailCommit,
    FailBegin,
    Assign(i32),
    Revoke(i32, bool),
    ProduceFails(Option<i64>),
    Grow(i32, usize),
    Hang(usize),
    Doubt,
    Refuse(i64),
    Spend(u64),
    Want,
    Read(bool),
    Output,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => Just(Act::Step),
        4 => (1..120_u64).prop_map(Act::Advance),
        1 => Just(Act::Cork),
        2 => Just(Act::Uncork),
        1 => Just(Act::FailCommit),
        1 => Just(Act::FailBegin),
        3 => (0..4).prop_map(Act::Assign),
        2 => (0..4, any::<bool>()).prop_map(|(p, lost)| Act::Revoke(p, lost)),
        1 => proptest::option::of(0..300_i64).prop_map(Act::ProduceFails),
        2 => (0..4, 1..200_usize).prop_map(|(p, n)| Act::Grow(p, n)),
        1 => (0..2_usize).prop_map(Act::Hang),
        1 => Just(Act::Doubt),
        1 => (0..100_i64).prop_map(Act::Refuse),
        2 => (1..300_u64).prop_map(Act::Spend),
        2 => Just(Act::Want),
        1 => any::<bool>().prop_map(Act::Read),
        1 => Just(Act::Output),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// I1, I3, I4 after every act, and everything settled once at the end.
    #[test]
    fn any_schedule_settles_every_record_once_in_order(
        acts in proptest::collection::vec(act(), 1..120),
        rest in prop_oneof![Just(0), Just(3), Just(70)],
    ) {
        let delivery = DeliveryPlan { rest: Duration::from_millis(rest), ..Plan::empty().delivery };
        let mut w = World::paced(4, 40, delivery);
        for act in acts {
            match act {
                Act::Step => { let _ = w.step(); }
                Act::Advance(ms) => w.advance(Duration::from_millis(ms)),
                Act::Cork => w.cork(),
                Act::Uncork => w.uncork(),
                // Fewer than the loop gives up at.
                Act::FailCommit | Act::FailBegin if w.failures_pending() >= 6 => {}
                Act::FailCommit => w.fail_commits(1),
                Act::FailBegin => w.fail_begins(1),
                Act::Assign(p) => w.event(Event::Assign(vec![p])),
                Act::Revoke(p, lost) => w.event(Event::Revoke { partitions: vec![p], lost }),
                Act::ProduceFails(at) => w.fail_produce_at(at),
                Act::Grow(p, n) => w.grow(p, n),
                Act::Hang(_) if w.counted().abandoned >= 3 => {}
                Act::Hang(lane) => w.hang(lane),
                Act::Doubt => w.doubt_commits(1),
                Act::Refuse(offset) => w.refuse(offset, false),
                Act::Want => w.want_another_plan(),
                Act::Read(read) => w.want_read(read),
                Act::Output => w.want_another_output(),
                Act::Spend(ms) => w.spend(Duration::from_millis(ms)),
            }
            w.check();
        }
        w.fail_produce_at(None);
        w.want_read(true);
        w.finish();
        w.event(Event::Assign(vec![0, 1, 2, 3]));
        w.finish();
        w.check();
        prop_assert!(w.is_up_to_date());
        for p in 0..4 {
            prop_assert_eq!(w.visible(p), w.len(p), "partition {}", p);
        }
    }
}
