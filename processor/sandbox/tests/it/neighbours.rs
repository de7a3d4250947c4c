//! One record's failure is that record's: its neighbours in the batch stand, once each and in order, in both worlds.

use pelton_sandbox::{FaultCode, Instance, RunError, Spec};

use crate::support::{Out, acts, instance, limits, prepare, record, refusal, run, setting, spec, try_run};

const WORLDS: [&str; 2] = ["packed", "typed"];

/// A batch of ten emits, with these acts in between.
fn batch<'a>(good: &'a [String], bad: &[(usize, &'a str)]) -> Vec<&'a str> {
    let mut acts: Vec<&str> = good.iter().map(String::as_str).collect();
    for (at, act) in bad {
        acts[*at] = act;
    }
    acts
}

fn good() -> Vec<String> {
    (0..10).map(|i| format!("emit {i}")).collect()
}

#[test]
fn a_panic_takes_its_own_record_only() {
    let good = good();
    for world in WORLDS {
        for at in [0, 4, 9] {
            let mut instance = instance(world, spec());
            let outcomes = acts(&mut instance, &batch(&good, &[(at, "panic at the disco")]));
            for (i, outcome) in outcomes.iter().enumerate() {
                if i == at {
                    assert_eq!(outcome.code(), FaultCode::Panic);
                    assert!(outcome.detail().contains("at the disco"), "{outcome:?}");
                } else {
                    assert_eq!(outcome.text(), i.to_string(), "{world}");
                }
            }
        }
    }
}

#[test]
fn several_failures_of_several_kinds() {
    let good = good();
    let bad = [(0, "panic"), (1, "exit 3"), (5, "trap"), (6, "many 1001"), (9, "panic")];
    for world in WORLDS {
        let mut instance = instance(world, spec());
        let outcomes = acts(&mut instance, &batch(&good, &bad));
        let codes: Vec<_> = bad.iter().map(|(at, _)| outcomes[*at].code()).collect();
        let expected = [FaultCode::Panic, FaultCode::Exit, FaultCode::Trap, FaultCode::OutputTooMany, FaultCode::Panic];
        assert_eq!(codes, expected, "{world}");
        for at in [2, 3, 4, 7, 8] {
            assert_eq!(outcomes[at].text(), at.to_string(), "{world}");
        }
    }
}

#[test]
fn all_of_a_batch_may_fail() {
    for world in WORLDS {
        let mut instance = instance(world, spec());
        let outcomes = acts(&mut instance, &["panic"; 20]);
        assert!(outcomes.iter().all(|outcome| outcome.code() == FaultCode::Panic), "{world}");
        assert_eq!(acts(&mut instance, &["keep"]), [Out::Keep]);
    }
}

#[test]
fn a_stack_overflow_is_named() {
    // WebAssembly's own, and the one that compilers keep in linear memory
    for (world, deep) in WORLDS.iter().flat_map(|world| ["recurse", "recurse-large", "recurse-two"].map(|d| (world, d)))
    {
        let outcomes = acts(&mut instance(world, spec()), &["keep", deep, "keep"]);
        assert_eq!(outcomes[1].code(), FaultCode::StackOverflow, "{world} {deep}: {:?}", outcomes[1]);
        assert_eq!((&outcomes[0], &outcomes[2]), (&Out::Keep, &Out::Keep));
    }
}

#[test]
fn a_fault_names_the_functions_that_ran() {
    let mut instance = instance("packed", spec());
    let mut backtrace = None;
    instance
        .run(&[record("panic")], &mut |_, settled| {
            if let pelton_sandbox::Settled::Fault(fault) = settled {
                backtrace = fault.backtrace;
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    assert!(backtrace.unwrap().contains("process-packed"));
}

#[test]
fn outcomes_before_a_failure_survive_flushes() {
    // 20 times 40 KB overflow the SDK's window several times
    let large = format!("large {}", 40_000);
    let mut acts_: Vec<&str> = vec![&large; 20];
    acts_[13] = "panic";
    let outcomes = acts(&mut instance("packed", spec()), &acts_);
    for (i, outcome) in outcomes.iter().enumerate() {
        if i == 13 { assert_eq!(outcome.code(), FaultCode::Panic) } else { assert_eq!(outcome.text().len(), 40_000) }
    }
}

#[test]
fn outcomes_of_every_kind_in_one_batch() {
    for world in WORLDS {
        let large = "large 500000";
        let outcomes =
            acts(&mut instance(world, spec()), &["keep", "drop", "many 3", "many 0", "reject why", large, "keep"]);
        assert_eq!(outcomes[0], Out::Keep);
        assert_eq!(outcomes[1], Out::Drop);
        assert!(matches!(&outcomes[2], Out::Emit(outputs) if outputs.len() == 3));
        assert_eq!(outcomes[3], Out::Drop);
        assert_eq!(outcomes[4], Out::Reject("why".into()));
        assert_eq!(outcomes[5].text().len(), 500_000);
        assert_eq!(outcomes[6], Out::Keep);
    }
}

#[test]
fn reasons_are_cut_to_one_kibibyte() {
    let reason = format!("reject {}", "é".repeat(2000));
    for world in WORLDS {
        let outcomes = run(&mut instance(world, spec()), &[record(&reason)]);
        assert_eq!(outcomes[0], Out::Reject("é".repeat(512)), "{world}");
    }
}

#[test]
fn an_instance_lives_as_long_as_nothing_fails() {
    for world in WORLDS {
        let mut instance = instance(world, spec());
        acts(&mut instance, &["keep"; 300]);
        assert_eq!(acts(&mut instance, &["seen"])[0].text(), "301", "{world}");
        assert_eq!(instance.renewals(), 0);
        acts(&mut instance, &["panic"]);
        assert_eq!(acts(&mut instance, &["seen"])[0].text(), "1", "{world}: a new one");
        assert_eq!(instance.renewals(), 1);
    }
}

#[test]
fn a_batch_for_which_the_guest_has_no_room_is_not_taken_for_the_one_before() {
    for world in WORLDS {
        let mut instance = instance(world, limits(|limits| limits.memory = 8 << 20));
        while instance.memory_bytes() < (8 << 20) - (64 << 10) {
            assert_eq!(acts(&mut instance, &["hoard 50000"]), [Out::Keep]);
        }
        assert_eq!(acts(&mut instance, &["emit old"; 5])[4].text(), "old");
        assert_eq!(instance.renewals(), 0);
        // one call, for which a page and what is left of the last one are too little
        let values: Vec<String> = (0..5).map(|i| format!("emit {i}{}", "x".repeat(35_000))).collect();
        let outcomes = acts(&mut instance, &values.iter().map(String::as_str).collect::<Vec<_>>());
        for (i, outcome) in outcomes.iter().enumerate() {
            assert!(outcome.text().starts_with(&i.to_string()), "{world} {i}: {}", &outcome.text()[..10]);
        }
        assert!(instance.renewals() > 0, "{world}: there was no room");
    }
}

#[test]
fn an_empty_batch_is_nothing() {
    assert!(run(&mut instance("packed", spec()), &[]).is_empty());
}

#[test]
fn the_caller_may_stop_and_go_on() {
    for world in WORLDS {
        let mut instance = instance(world, spec());
        let records = [record("seen"), record("seen"), record("seen")];
        let mut settled = 0;
        let stopped = instance.run(&records, &mut |index, _| {
            settled += 1;
            if index == 1 { Err("enough") } else { Ok(()) }
        });
        assert!(matches!(stopped, Err(RunError::Stopped("enough"))));
        assert_eq!(settled, 2);
        assert_eq!(acts(&mut instance, &["keep"]), [Out::Keep], "{world}");
    }
}

#[test]
fn an_instance_that_cannot_be_made_again_is_reported() {
    // the guest counts what it has seen in a granted file's place: here, a directory that vanishes
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("lookup");
    std::fs::create_dir(&place).unwrap();
    let mut spec = spec();
    spec.grants.directories.push(("/lookup".into(), place.clone()));
    let mut instance = Instance::new(&prepare("packed", spec).unwrap()).unwrap();
    std::fs::remove_dir(&place).unwrap();
    let mut seen = Vec::new();
    let result = instance.run(&[record("keep"), record("panic"), record("keep")], &mut |index, settled| {
        seen.push((index, Out::of(settled)));
        Ok::<_, ()>(())
    });
    assert!(matches!(result, Err(RunError::Renewal(_))), "{result:?}");
    assert_eq!(seen.len(), 2, "what was settled stands");
    std::fs::create_dir(&place).unwrap();
    assert_eq!(try_run(&mut instance, &[record("keep")]).unwrap(), [Out::Keep]);
}

#[test]
fn a_guest_that_refuses_its_settings_is_refused() {
    for world in WORLDS {
        assert_eq!(refusal(world, setting("configure", "refuse")), (FaultCode::Configure, "refused as asked".into()));
        assert_eq!(refusal(world, setting("configure", "panic")).0, FaultCode::Panic);
    }
}

/// I10: the operator waits for the reason, and gets it without what must not be seen.
#[test]
fn secret_settings_are_masked_in_why_configure_failed() {
    let (secret, long) = ("hunter2-key", "hunter2-".repeat(700));
    let spec = |act: &str, secrets: &[&str]| {
        let settings = [("configure", act), ("key", secret), ("long", long.as_str()), ("words", "as asked")];
        Spec {
            settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            secrets: secrets.iter().map(|name| (*name).to_owned()).collect(),
            ..spec()
        }
    };
    for world in WORLDS {
        let panics = format!("panic the key {secret} is bad");
        let (code, detail) = refusal(world, spec(&panics, &["key"]));
        assert!(code == FaultCode::Panic && detail.contains("the key *** is bad"), "{detail}");
        assert!(!detail.contains(secret), "{detail}");
        let (_, detail) = refusal(world, spec(&panics, &["words"]));
        assert!(detail.contains(secret), "what is no secret is told: {detail}");
        assert_eq!(refusal(world, spec("refuse", &["key", "words"])), (FaultCode::Configure, "refused ***".into()));
        // Only the end of a long text is kept, and here it begins within the secret.
        let (_, detail) = refusal(world, spec(&format!("panic {long} at the end"), &["long"]));
        assert!(detail.contains("*** at the end") && !detail.contains("hunter2"), "{detail}");
    }
}

#[test]
fn a_secret_in_memory_is_not_seen_by_the_next_instance_of_the_slot() {
    let secret = "correct-horse-battery";
    let flipped: String = secret.bytes().map(|b| char::from(b ^ 1)).collect();
    let (leave, find) = (format!("leave {secret}"), format!("find {flipped}"));
    let mut first = instance("packed", spec());
    let outcomes = acts(&mut first, &[&leave, &find]);
    assert!(outcomes[1].text().parse::<u32>().unwrap() >= 4096, "the search finds what is there: {outcomes:?}");
    // after a trap, in the same slot
    let outcomes = acts(&mut first, &["panic", &find]);
    assert_eq!(outcomes[1].text(), "0");
    acts(&mut first, &[&leave]);
    drop(first);
    // every free slot, another module's included
    let all: Vec<_> = (0..8).map(|i| instance(WORLDS[i % 2], spec())).collect();
    for mut instance in all {
        assert_eq!(acts(&mut instance, &[&find])[0].text(), "0");
    }
}
