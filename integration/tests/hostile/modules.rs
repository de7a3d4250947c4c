//! Modules that were cut off or hit by a flipped bit: a clean error, or a module that is held to its limits like any other.

use std::time::Duration;

use pelton_integration::hostile::attack::Guest;
use pelton_integration::hostile::{guests, measure};
use pelton_sandbox::{
    Ceiling, Engine, EngineConfig, Generation, Grants, Instance, Limits, LoadError, Record, Spec, World,
};

/// In this process, so that a panic or a crash of the compiler is seen.
fn engine(runtime: &tokio::runtime::Runtime) -> Engine {
    let ceiling = Ceiling { memory: 16 << 20, instances: 4 };
    let runtime = runtime.handle().clone();
    Engine::new(EngineConfig { cache_dir: None, cache_bytes: 0, ceiling, compiler: None, runtime })
        .expect("the engine can be made")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime can be made")
}

/// Loads it, and where that goes, runs it. Whether it went.
fn survives(engine: &Engine, bytes: &[u8]) -> bool {
    let Ok(module) = engine.load_bytes(bytes, None) else { return false };
    let limits = Limits {
        deadline: Duration::from_millis(5),
        configure_deadline: Duration::from_millis(50),
        fuel: 20_000_000,
        ..Limits::default()
    };
    let spec = Spec {
        transform: "mutant".into(),
        settings: Vec::new(),
        secrets: Vec::new(),
        inputs: vec!["in".into()],
        outputs: vec!["out".into()],
        limits,
        grants: Grants::default(),
        observe_guest_text: false,
    };
    let Ok(generation) = Generation::prepare(&module, spec, 1) else { return false };
    let Ok(mut instance) = Instance::new(&generation) else { return false };
    let record = |offset| Record {
        topic: 0,
        partition: 0,
        offset,
        timestamp_ms: 0,
        key: Some(b"key"),
        value: Some(b"good value"),
        headers: &[],
    };
    let records = [0, 1, 2, 3, 4].map(record);
    let mut settled = 0;
    // where it cannot be renewed it is given up; that is an answer too
    let ran = instance.run(&records, &mut |index, _| {
        assert_eq!(index, settled, "in order, once each");
        settled += 1;
        Ok::<_, ()>(())
    });
    if ran.is_ok() {
        assert_eq!(settled, records.len());
    }
    true
}

fn flips(bytes: &[u8], count: usize, seed: u64) {
    let runtime = runtime();
    let engine = engine(&runtime);
    assert!(survives(&engine, bytes), "as it is");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut lived = 0;
    for _ in 0..count {
        let bit = random.usize(..bytes.len() * 8);
        let mut mutant = bytes.to_vec();
        mutant[bit / 8] ^= 1 << (bit % 8);
        lived += usize::from(survives(&engine, &mutant));
    }
    println!("seed {seed}: {lived} of {count} lived");
    assert!(survives(&engine, bytes), "the host is as it was");
}

#[test]
fn a_module_that_is_cut_anywhere_is_refused() {
    let _alone = measure::alone();
    let runtime = runtime();
    let engine = engine(&runtime);
    let bytes = guests::bytes(&Guest::Rust("hostile-sockets"), World::Packed);
    for length in (0..bytes.len()).step_by(97) {
        let error = engine.load_bytes(&bytes[..length], None).unwrap_err();
        let clean = matches!(error, LoadError::NotAComponent(_) | LoadError::Compile(_) | LoadError::World { .. });
        assert!(clean, "{length} bytes: {error:?}");
    }
}

#[test]
fn a_bit_that_flips_in_a_module_of_rust_hurts_nobody() {
    let _alone = measure::alone();
    flips(&guests::bytes(&Guest::Frames, World::Packed), 15, 17);
}

#[test]
fn a_bit_that_flips_in_a_small_module_hurts_nobody() {
    let _alone = measure::alone();
    for (world, seed) in [(World::Packed, 23), (World::Typed, 42)] {
        flips(&guests::splice(world, ""), 1_500, seed);
    }
}

#[test]
fn a_file_larger_than_a_module_may_be_is_not_read() {
    let _alone = measure::alone();
    let runtime = runtime();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("large.wasm");
    std::fs::File::create(&path).unwrap().set_len(300 << 20).unwrap();
    let (error, cost) = measure::cost(|| engine(&runtime).load(&path, None).unwrap_err());
    assert!(matches!(error, LoadError::Read { .. }), "{error:?}");
    assert!(cost.peak < 16 << 20, "{cost:?}");
}
