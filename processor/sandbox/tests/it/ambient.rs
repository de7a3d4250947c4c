//! Time and chance, as they are granted.

use pelton_sandbox::{Clock, FaultCode, Grants, Instance, Randomness, Record, Spec};

use crate::support::{Out, acts, guest, instance, prepare, record, run, setting, spec};

const WORLDS: [&str; 2] = ["packed", "typed"];

/// Nothing is granted.
fn bare() -> Spec {
    Spec { grants: Grants::default(), ..spec() }
}

fn granted(clock: Clock, random: Randomness) -> Spec {
    Spec { grants: Grants { clock, random, ..Grants::default() }, ..bare() }
}

fn at(value: &str, offset: i64, timestamp_ms: i64) -> Record<'_> {
    Record { offset, timestamp_ms, ..record(value) }
}

#[test]
fn by_default_the_clock_is_the_record_s_and_stands_still() {
    for world in WORLDS {
        let batch = [at("now", 1, 1_000), at("keep", 2, 2_000), at("now", 3, 86_400_000), at("now", 4, -1)];
        let outcomes = run(&mut instance(world, bare()), &batch);
        let seen: Vec<_> = [0, 2, 3].map(|i: usize| outcomes[i].text().to_owned()).into();
        assert_eq!(seen, ["1000 0", "86400000 0", "0 0"], "{world}");
    }
}

#[test]
fn a_real_clock_is_granted() {
    for world in WORLDS {
        let outcome = &run(&mut instance(world, granted(Clock::Real, Randomness::Real)), &[at("now", 1, 1_000)])[0];
        let (wall, spun) = outcome.text().split_once(' ').unwrap();
        assert!(wall.parse::<u64>().unwrap() > 1_700_000_000_000, "{world}: {outcome:?}");
        assert_ne!(spun, "0", "{world}");
    }
}

#[test]
fn by_default_chance_depends_on_the_record_alone() {
    for world in WORLDS {
        let mut first = instance(world, bare());
        let together = run(&mut first, &[at("random", 1, 5), at("random", 2, 5), at("random", 1, 6)]);
        assert_eq!(together[0], together[2], "{world}: the same place");
        assert_ne!(together[0].text(), together[1].text(), "{world}");
        let (one, two) = together[0].text().split_once(' ').unwrap();
        assert_ne!(one, two, "{world}: it goes on");
        let alone = run(&mut instance(world, bare()), &[at("random", 2, 99)]);
        assert_eq!(alone[0], together[1], "{world}: in another batch, of another instance");
    }
}

#[test]
fn real_randomness_is_granted() {
    for world in WORLDS {
        let mut instance = instance(world, granted(Clock::Record, Randomness::Real));
        let outcomes = acts(&mut instance, &["random", "random"]);
        assert_ne!(outcomes[0].text(), outcomes[1].text(), "{world}");
    }
}

#[test]
fn what_is_not_granted_is_a_fault_that_names_the_grant() {
    for world in WORLDS {
        let mut instance = instance(world, granted(Clock::None, Randomness::None));
        let outcomes = acts(&mut instance, &["keep", "now", "random", "keep"]);
        assert_eq!(outcomes[1].code(), FaultCode::NotGranted, "{world}: {:?}", outcomes[1]);
        assert!(outcomes[1].detail().contains("grants.clock"), "{:?}", outcomes[1]);
        assert_eq!(outcomes[2].code(), FaultCode::NotGranted, "{world}: {:?}", outcomes[2]);
        assert!(outcomes[2].detail().contains("grants.random"), "{:?}", outcomes[2]);
        assert_eq!((&outcomes[0], &outcomes[3]), (&Out::Keep, &Out::Keep), "{world}");
    }
}

#[test]
fn in_configure_it_is_always_the_same_moment() {
    let said = |_| {
        let generation = prepare("packed", Spec { grants: Grants::default(), ..setting("configure", "now") }).unwrap();
        run(&mut Instance::new(&generation).unwrap(), &[record("keep")])
    };
    assert_eq!(said(1), said(2));
}

#[test]
fn host_calls_cost_fuel() {
    for (world, flood) in WORLDS.into_iter().flat_map(|world| [(world, "clock-flood"), (world, "random-flood")]) {
        let mut spec = bare();
        spec.limits.fuel = 50_000_000;
        let outcomes = acts(
            &mut instance(world, spec),
            &[&format!("{flood} 10"), &format!("{flood} 1000000"), &format!("{flood} 10")],
        );
        assert_eq!(outcomes[1].code(), FaultCode::OutOfFuel, "{world} {flood}");
        assert_eq!((&outcomes[0], &outcomes[2]), (&Out::Keep, &Out::Keep), "{world} {flood}");
    }
}

#[test]
fn not_a_number_has_one_spelling() {
    for world in WORLDS {
        assert_eq!(
            acts(&mut instance(world, bare()), &["nan"])[0].text(),
            "7ff8000000000000 7ff8000000000000 7ff8000000000000 fff8000000000000",
            "{world}"
        );
    }
}

#[test]
fn which_generations_are_deterministic() {
    let deterministic = |spec| prepare("packed", spec).unwrap().is_deterministic();
    assert!(deterministic(bare()));
    assert!(deterministic(granted(Clock::None, Randomness::None)));
    assert!(!deterministic(granted(Clock::Real, Randomness::Seeded)));
    assert!(!deterministic(granted(Clock::Record, Randomness::Real)));
    let mut with_files = bare();
    with_files.grants.directories.push(("/x".into(), std::env::temp_dir()));
    assert!(!deterministic(with_files), "files change");
    assert!(guest("packed").imports().iter().any(|import| import.starts_with("wasi:clocks/")), "it could look");
}

#[test]
fn ten_thousand_records_come_out_the_same_twice() {
    let acts = ["now", "random", "nan", "keep", "many 3", "reject why"];
    let act = |i: i64| if i % 97 == 50 { "panic" } else { acts[i as usize % acts.len()] };
    let records: Vec<Record<'_>> = (0..10_000).map(|i| at(act(i), i, 1_600_000_000_000 + i * 7)).collect();
    for world in WORLDS {
        let all = |batch: usize| -> Vec<Out> {
            let mut instance = instance(world, bare());
            records.chunks(batch).flat_map(|batch| run(&mut instance, batch)).collect()
        };
        let (once, again) = (all(100), all(37));
        assert!(once == again, "{world}: in other batches, by other instances");
    }
}
