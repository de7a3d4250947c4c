//! For every limit: obeyed, and violated with its own code. A violation is the record's, and the next record runs.

use std::time::Duration;

use pelton_sandbox::{FaultCode, Header, Limits, PrepareError, Record, Spec};

use crate::support::{Out, act, acts, instance, limits, prepare, record, refusal, run, setting, spec};

/// In both worlds: the act is punished with this code, and its neighbours are not.
fn violated(spec: &Spec, bad: &str, code: FaultCode) -> Out {
    let mut last = None;
    for world in ["packed", "typed"] {
        let mut instance = instance(world, spec.clone());
        let outcomes = acts(&mut instance, &["emit before", bad, "emit after"]);
        assert_eq!(outcomes[0].text(), "before", "{world}");
        assert_eq!(outcomes[1].code(), code, "{world}: {:?}", outcomes[1]);
        assert_eq!(outcomes[2].text(), "after", "{world}");
        last = Some(outcomes[1].clone());
    }
    last.unwrap()
}

fn obeyed(spec: &Spec, good: &str) -> Out {
    let packed = act("packed", spec.clone(), good);
    assert_eq!(act("typed", spec.clone(), good), packed, "both worlds agree");
    assert!(!matches!(packed, Out::Fault(..)), "{packed:?}");
    packed
}

#[test]
fn fuel() {
    let spec = limits(|limits| limits.fuel = 50_000_000);
    obeyed(&spec, "spin 1000000");
    violated(&spec, "spin 20000000", FaultCode::OutOfFuel);
    violated(&spec, "loop", FaultCode::OutOfFuel);
}

#[test]
fn fuel_is_given_to_each_record_and_not_to_the_batch() {
    let spec = limits(|limits| limits.fuel = 50_000_000);
    let outcomes = acts(&mut instance("packed", spec), &["spin 2500000"; 40]);
    assert!(outcomes.iter().all(|outcome| *outcome == Out::Keep), "{outcomes:?}");
}

#[test]
fn a_small_fuel_limit_is_a_limit_too() {
    let spec = limits(|limits| limits.fuel = 1_000_000);
    obeyed(&spec, "spin 10000");
    violated(&spec, "spin 3000000", FaultCode::OutOfFuel);
}

fn in_time(deadline_ms: u64) -> Spec {
    limits(|limits| {
        limits.deadline = Duration::from_millis(deadline_ms);
        limits.fuel = u64::MAX / 1024;
    })
}

#[test]
fn deadline_of_code() {
    obeyed(&in_time(60_000), "spin 1000000");
    let late = violated(&in_time(20), "loop", FaultCode::Deadline);
    assert!(late.detail().contains("ms"), "{late:?}");
}

#[test]
fn a_deadline_is_overshot_by_a_yield_and_no_more() {
    // CPU time, so that a busy machine does not count: one interval of fuel takes 60 to 120 us, here a little more. What the
    // kernel does on the thread's account only adds.
    let stopped = |_| -> f64 {
        let late = act("packed", in_time(20), "loop");
        late.detail().strip_prefix("stopped after ").unwrap().strip_suffix(" ms").unwrap().parse().unwrap()
    };
    let stopped: Vec<f64> = (0..5).map(stopped).collect();
    assert!(stopped.iter().all(|ms| *ms >= 20.0) && stopped.iter().any(|ms| *ms < 22.0), "{stopped:?} ms");
}

#[test]
fn deadline_is_given_to_each_record_and_not_to_the_batch() {
    // 100 records of about 2 ms each take far longer than one deadline
    let outcomes = acts(&mut instance("packed", in_time(100)), &["spin 2000000"; 100]);
    assert!(outcomes.iter().all(|outcome| *outcome == Out::Keep), "{outcomes:?}");
}

#[test]
fn deadline_of_waiting() {
    obeyed(&in_time(60_000), "sleep 1");
    violated(&in_time(50), "sleep 86400000", FaultCode::Deadline);
}

#[test]
fn memory() {
    let spec = limits(|limits| limits.memory = 8 << 20);
    assert_eq!(obeyed(&spec, "alloc 4000000").text(), "4000000");
    violated(&spec, "alloc 9000000", FaultCode::OutOfMemory);
}

#[test]
fn a_guest_may_be_refused_memory_and_live() {
    let spec = limits(|limits| limits.memory = 8 << 20);
    assert_eq!(obeyed(&spec, "try-alloc 9000000").text(), "refused");
    let outcomes = acts(&mut instance("packed", spec), &["try-alloc 9000000", "panic of another cause"]);
    assert_eq!(outcomes[0].text(), "refused");
    assert_eq!(outcomes[1].code(), FaultCode::Panic, "a refusal survived does not explain a panic");
}

#[test]
fn what_happened_in_an_earlier_call_explains_nothing() {
    for world in ["packed", "typed"] {
        let mut instance = instance(world, limits(|limits| limits.memory = 8 << 20));
        let earlier = acts(&mut instance, &["try-alloc 9000000", "eprint panicked at the disco"]);
        assert_eq!(earlier[0].text(), "refused");
        assert_eq!(acts(&mut instance, &["abort"])[0].code(), FaultCode::Trap, "{world}");
        assert_eq!(instance.renewals(), 0, "the same instance");
    }
}

#[test]
fn memory_that_is_kept_grows_up_to_the_limit() {
    let mut instance = instance("packed", limits(|limits| limits.memory = 8 << 20));
    let before = instance.memory_bytes();
    assert_eq!(acts(&mut instance, &["hoard 2000000"]), [Out::Keep]);
    assert!(instance.memory_bytes() >= before + 1_500_000);
    let outcomes = acts(&mut instance, &["hoard 2000000"; 8]);
    let failed = outcomes.iter().filter(|outcome| matches!(outcome, Out::Fault(FaultCode::OutOfMemory, _))).count();
    assert!((1..=4).contains(&failed), "{outcomes:?}");
    assert!(instance.memory_bytes() <= 8 << 20);
}

#[test]
fn memory_above_the_ceiling_is_refused_at_once() {
    let error = prepare("packed", limits(|limits| limits.memory = 1 << 30)).unwrap_err();
    assert!(matches!(error, PrepareError::Memory { asked, .. } if asked == 1 << 30), "{error}");
}

#[test]
fn a_module_that_does_not_fit_its_memory_is_refused() {
    let (code, _) = refusal("packed", limits(|limits| limits.memory = 128 << 10));
    assert_eq!(code, FaultCode::OutOfMemory);
}

#[test]
fn outputs() {
    let spec = limits(|limits| limits.outputs = 10);
    assert!(matches!(obeyed(&spec, "many 10"), Out::Emit(outputs) if outputs.len() == 10));
    violated(&spec, "many 11", FaultCode::OutputTooMany);
}

#[test]
fn output_bytes() {
    let spec = limits(|limits| limits.output_bytes = 100_000);
    assert_eq!(obeyed(&spec, "large 99000").text().len(), 99_000);
    violated(&spec, "large 100001", FaultCode::OutputTooLarge);
}

#[test]
fn output_bytes_beyond_the_window() {
    // the SDK's window has 256 KiB, so these go by `commit`
    let spec = limits(|limits| limits.output_bytes = 1 << 20);
    assert_eq!(obeyed(&spec, "large 1000000").text().len(), 1_000_000);
    violated(&spec, "large 1100000", FaultCode::OutputTooLarge);
    violated(&limits(|limits| limits.output_bytes = 1 << 20), "large 4000000", FaultCode::OutputTooLarge);
}

#[test]
fn output_of_a_batch_is_cut_without_blame() {
    let mut instance = instance("packed", limits(|limits| limits.batch_output_bytes = 300_000));
    let outcomes = acts(&mut instance, &["large 100000"; 20]);
    assert!(outcomes.iter().all(|outcome| outcome.text().len() == 100_000));
    assert!(instance.renewals() > 0, "it was cut");
}

#[test]
fn output_topics() {
    let to = |topic: &str| format!("to {topic}");
    assert_eq!(obeyed(&spec(), &to("audit")).only().topic, 1);
    // the SDK finds out by itself; a typed guest is told by us
    assert!(matches!(act("packed", spec(), &to("other")), Out::Reject(reason) if reason.contains("`other`")));
    assert_eq!(act("typed", spec(), &to("other")).code(), FaultCode::OutputTopic);
}

#[test]
fn a_topic_name_of_any_length_is_told_in_part() {
    let name = "x".repeat(500_000);
    let outcome = act("typed", spec(), &format!("to {name}"));
    assert_eq!(outcome.code(), FaultCode::OutputTopic);
    assert!((100..=2048).contains(&outcome.detail().len()), "{} bytes", outcome.detail().len());
}

#[test]
fn output_headers_and_partitions() {
    assert_eq!(obeyed(&spec(), "header mine").only().headers.last().unwrap().0, b"mine");
    for key in ["pelton.error.code", "__dlq.errors.x"] {
        let reserved = format!("header {key}");
        // the SDK finds out by itself; a typed guest is told by us
        assert!(matches!(act("packed", spec(), &reserved), Out::Reject(reason) if reason.contains(key)));
        assert_eq!(act("typed", spec(), &reserved).code(), FaultCode::OutputHeader);
    }
    assert_eq!(obeyed(&spec(), "partition 7").only().partition, Some(7));
    assert_eq!(act("typed", spec(), "partition -1").code(), FaultCode::Contract);
}

#[test]
fn reserved_headers_of_the_input_fail_no_output_of_the_sdk() {
    let headers =
        ["pelton.error.code", "mine", "__dlq.errors.x"].map(|key| Header { key: key.as_bytes(), value: Some(b"1") });
    let copied = run(&mut instance("packed", spec()), &[Record { headers: &headers, ..record("copy") }]);
    assert_eq!(copied[0].only().headers, [(b"mine".to_vec(), Some(b"1".to_vec()))]);
}

#[test]
fn output_timestamps() {
    assert_eq!(obeyed(&spec(), "timestamp 0").only().timestamp_ms, Some(0));
    assert_eq!(obeyed(&spec(), "timestamp -1").only().timestamp_ms, None, "the input's");
    // the SDK finds out by itself; a typed guest is told by us
    let packed = act("packed", spec(), "timestamp -86400000");
    assert!(matches!(&packed, Out::Reject(reason) if reason.contains("-86400000")), "{packed:?}");
    assert_eq!(act("typed", spec(), "timestamp -86400000").code(), FaultCode::Contract);
}

#[test]
fn input_too_large_for_the_guest_is_not_even_tried() {
    let spec = limits(|limits| limits.memory = 2 << 20);
    let large = format!("emit {}", "x".repeat(300_000));
    let out = violated(&spec, &large, FaultCode::InputTooLarge);
    assert!(!out.detail().contains('x'));
    let mut instance = instance("packed", spec);
    acts(&mut instance, &[&large]);
    assert_eq!(instance.renewals(), 0);
}

#[test]
fn a_batch_larger_than_the_guest_goes_in_parts() {
    let spec = limits(|limits| limits.memory = 4 << 20);
    let value = format!("emit {}", "x".repeat(100_000));
    for world in ["packed", "typed"] {
        let outcomes = run(&mut instance(world, spec.clone()), &vec![record(&value); 30]);
        assert!(outcomes.iter().all(|outcome| outcome.text().len() == 100_000), "{world}");
    }
}

#[test]
fn a_batch_of_large_records_goes_in_parts_however_large_the_guest_may_be() {
    let value = format!("emit {}", "x".repeat(64 << 10));
    for world in ["packed", "typed"] {
        let mut instance = instance(world, limits(|limits| limits.memory = 64 << 20));
        run(&mut instance, &[record(&value)]);
        let alone = instance.memory_bytes();
        let outcomes = run(&mut instance, &vec![record(&value); 100]);
        assert!(outcomes.iter().all(|outcome| outcome.text().len() == 64 << 10), "{world}");
        // 6.4 MiB of input, of which the guest saw two records at a time
        let grown = instance.memory_bytes() - alone;
        assert!(grown < 1 << 20, "{world}: {grown}");
    }
}

#[test]
fn log_lines_per_second() {
    let observed = |log_bytes_per_second| Spec {
        observe_guest_text: true,
        ..limits(|limits| limits.log_bytes_per_second = log_bytes_per_second)
    };
    for world in ["packed", "typed"] {
        let generation = prepare(world, observed(1 << 30)).unwrap();
        run(&mut pelton_sandbox::Instance::new(&generation).unwrap(), &[record("shout 20")]);
        assert_eq!((generation.log_counts().written, generation.log_counts().limited), (20, 0), "{world}");
        let generation = prepare(world, observed(11_300)).unwrap();
        run(&mut pelton_sandbox::Instance::new(&generation).unwrap(), &[record("shout 2000")]);
        let counts = generation.log_counts();
        assert_eq!(counts.written + counts.limited, 2_000, "{world}");
        assert!(counts.written >= 10 && counts.limited > 0, "{world}: {counts:?}");
    }
}

#[test]
fn shouting_is_charged_against_the_deadline() {
    violated(&in_time(100), "shout 100000000", FaultCode::Deadline);
}

#[test]
fn configure_has_a_deadline_of_its_own() {
    for world in ["packed", "typed"] {
        for slow in ["loop", "sleep 86400000"] {
            let mut spec = setting("configure", slow);
            spec.limits.configure_deadline = Duration::from_millis(50);
            assert_eq!(refusal(world, spec).0, FaultCode::Deadline, "{world} {slow}");
        }
        // not under the record's
        let mut spec = setting("configure", "sleep 20");
        spec.limits = Limits { deadline: Duration::from_micros(1), ..spec.limits };
        assert!(prepare(world, spec).is_ok(), "{world}");
    }
}

#[test]
fn instances_per_process() {
    use pelton_sandbox::{Ceiling, Engine, EngineConfig, Generation, Instance};
    let ceiling = Ceiling { memory: 16 << 20, instances: 2 };
    let engine = Engine::new(EngineConfig { ceiling, ..crate::support::config() }).unwrap();
    let module = engine.load(&crate::support::guest_path("packed"), None).unwrap();
    let generation = Generation::prepare(&module, spec(), 1).unwrap();
    let mut first = Instance::new(&generation).unwrap();
    let second = Instance::new(&generation).unwrap();
    assert_eq!(Instance::new(&generation).unwrap_err().code, FaultCode::Instances);
    drop(second);
    assert_eq!(acts(&mut first, &["keep"]), [Out::Keep]);
    assert!(Instance::new(&generation).is_ok());
}

#[test]
fn drain_is_the_last_call_and_has_a_deadline() {
    let with = |drain: &str| {
        let mut spec = setting("drain", drain);
        spec.limits.configure_deadline = Duration::from_millis(50);
        spec
    };
    let drained = |drain: &str| {
        let mut instance = instance("typed", with(drain));
        acts(&mut instance, &["keep"]);
        instance.drain().map_err(|fault| fault.code)
    };
    assert_eq!(drained("keep"), Ok(()));
    assert_eq!(drained("loop"), Err(FaultCode::Deadline));
    assert_eq!(drained("panic at last"), Err(FaultCode::Panic));
    assert_eq!(drained("alloc 100000000"), Err(FaultCode::OutOfMemory));
    // Not after a trap: that instance is gone already.
    let mut trapped = instance("typed", with("loop"));
    acts(&mut trapped, &["abort"]);
    assert_eq!(trapped.drain().map_err(|fault| fault.code), Ok(()));
    // A guest without one is asked for nothing.
    assert_eq!(instance("hostile", spec()).drain().map_err(|fault| fault.code), Ok(()));
}
