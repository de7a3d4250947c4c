//! Judges a trial: is the new generation worse than the running one by more than its budget allows, or has the trial
//! run its time? Looks only at counts; [`super::reload`] acts on the verdict.

use crate::config::{Rollout, TrialBudget};
use crate::dataplane::trial::{Kind, Reading, Trial};
use pelton_sandbox::Limits;
use std::time::Duration;

/// Fewer records say nothing.
const RECORDS_MIN: u64 = 100;
/// Nor do fewer failures: with one or two a share is chance.
const FAILURES_MIN: u64 = 3;
/// A 99th percentile of fewer is chance too.
const RECORDS_FOR_COST: u64 = 1_000;

/// What costs less than this is cheap, however many times cheaper the running generation is: a canary's batches are smaller,
/// so that each of its records bears more of what a call costs.
#[derive(Clone, Copy)]
struct Cheap {
    time: Duration,
    fuel: f64,
}

impl Cheap {
    /// A twentieth of the deadline, a ten-thousandth of the fuel.
    fn of(limits: &Limits) -> Self {
        Cheap { time: limits.deadline / 20, fuel: limits.fuel as f64 / 10_000.0 }
    }
}

/// How long a trial of this configuration lasts and of what kind it is; `None`: a new generation takes over at once.
pub(super) fn kind(rollout: &Rollout) -> Option<(Kind, Duration)> {
    match (&rollout.shadow, &rollout.canary) {
        (Some(shadow), _) => {
            let json = shadow.compare == crate::config::Compare::Json;
            Some((Kind::Shadow { json }, shadow.lasting.duration()))
        }
        (None, Some(canary)) => Some((Kind::Canary { share: canary.partitions.fraction() }, canary.lasting.duration())),
        (None, None) => None,
    }
}

/// What is to become of a trial.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    GoOn,
    TakeOver,
    RollBack(String),
}

pub(super) fn judge(trial: &Trial, budget: &TrialBudget, lasting: Duration) -> Verdict {
    if let Some(why) = trial.broken() {
        return Verdict::RollBack(why);
    }
    let cheap = Cheap::of(&trial.generation.spec().limits);
    match violation(&trial.running.read(), &trial.candidate.read(), budget, cheap) {
        Some(why) => Verdict::RollBack(why),
        None if trial.since.elapsed() >= lasting => Verdict::TakeOver,
        None => Verdict::GoOn,
    }
}

/// In what the candidate is worse than it may be.
fn violation(running: &Reading, candidate: &Reading, budget: &TrialBudget, cheap: Cheap) -> Option<String> {
    if candidate.records < RECORDS_MIN {
        return None;
    }
    let share = |reading: &Reading| reading.failures as f64 / reading.records.max(1) as f64;
    let allowed = share(running) + budget.failures.fraction();
    if candidate.failures >= FAILURES_MIN && share(candidate) > allowed {
        return Some(format!(
            "{} of {} records failed, {:.2}%; the running generation {:.2}%, the budget allows {} more",
            candidate.failures,
            candidate.records,
            share(candidate) * 100.0,
            share(running) * 100.0,
            budget.failures
        ));
    }
    if running.records.min(candidate.records) < RECORDS_FOR_COST {
        // Too little to compare.
        return None;
    }
    let times = candidate.p99.as_secs_f64() / running.p99.as_secs_f64().max(1e-9);
    if budget.p99.hundredths() > 0 && times > budget.p99.fraction() && candidate.p99 > cheap.time {
        let (new, old) = (candidate.p99.as_micros(), running.p99.as_micros());
        return Some(format!("the 99th percentile of a record's time is {new} us, of the running generation {old} us"));
    }
    let fuel = (running.fuel.max(1.0) * budget.fuel.fraction()).max(cheap.fuel);
    if budget.fuel.hundredths() > 0 && candidate.fuel > fuel {
        return Some(format!(
            "a record takes {:.0} fuel, of the running generation {:.0}",
            candidate.fuel, running.fuel
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Percent;

    fn reading(records: u64, failures: u64, fuel: f64, micros: u64) -> Reading {
        Reading { records, failures, fuel, p99: Duration::from_micros(micros) }
    }

    fn judged(running: &Reading, candidate: &Reading, budget: &TrialBudget) -> Option<String> {
        violation(running, candidate, budget, Cheap { time: Duration::from_micros(25), fuel: 200.0 })
    }

    #[test]
    fn one_percent_of_failures_is_too_many_by_default_and_chance_is_not() {
        let budget = TrialBudget::default();
        let running = reading(10_000, 0, 100.0, 10);
        let of = |records, failures| judged(&running, &reading(records, failures, 100.0, 10), &budget);
        assert_eq!(of(99, 99), None, "too few records");
        assert_eq!(of(200, 2), None, "too few failures");
        assert!(of(300, 3).is_some_and(|why| why.starts_with("3 of 300 records failed, 1.00%")));
        assert_eq!(of(1000, 5), None, "within the budget");
        assert!(of(1000, 6).is_some());
    }

    #[test]
    fn failures_that_the_running_generation_has_too_are_not_held_against_it() {
        let running = reading(10_000, 500, 100.0, 10);
        let budget = TrialBudget::default();
        assert_eq!(judged(&running, &reading(1000, 54, 100.0, 10), &budget), None);
        assert!(judged(&running, &reading(1000, 56, 100.0, 10), &budget).is_some());
    }

    #[test]
    fn time_and_fuel_count_relative_to_the_running_generation() {
        let (running, budget) = (reading(10_000, 0, 100.0, 10), TrialBudget::default());
        assert_eq!(judged(&running, &reading(1000, 0, 290.0, 29), &budget), None);
        assert!(judged(&running, &reading(1000, 0, 100.0, 31), &budget).is_some_and(|why| why.contains("31 us")));
        assert!(judged(&running, &reading(1000, 0, 310.0, 10), &budget).is_some_and(|why| why.contains("310 fuel")));
        let cheap = reading(10_000, 0, 10.0, 1);
        assert_eq!(judged(&cheap, &reading(1000, 0, 199.0, 24), &budget), None, "many times as much, but cheap");
        let off = TrialBudget { p99: Percent::whole(0), fuel: Percent::whole(0), ..budget.clone() };
        assert_eq!(judged(&running, &reading(1000, 0, 9999.0, 9999), &off), None);
        let none = reading(999, 0, 0.0, 0);
        assert_eq!(judged(&none, &reading(1000, 0, 9999.0, 9999), &budget), None, "too little to compare with");
    }
}
