//! What crossing the boundary costs: CPU nanoseconds per record for the identity transform, keep and emit.
//!
//! `cargo run --release -p pelton-sandbox --example boundary`; builds transforms/ first. Everything of a call is timed:
//! framing the batch, the call with all its guards, checking the outcomes, copying the outputs.

use std::path::Path;
use std::process::Command;

use pelton_sandbox::{
    Ceiling, Engine, EngineConfig, Generation, Grants, Header, Instance, Limits, Record, Settled, Spec,
};
use rustix::time::{ClockId, clock_gettime};

const BATCH: usize = 100;
const ROUNDS: usize = 31;
const CALLS: usize = 500;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let transforms = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../transforms");
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet", "--target", "wasm32-wasip2"])
        .current_dir(&transforms)
        .status()?;
    if !status.success() {
        return Err("transforms/ does not build".into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let engine = Engine::new(EngineConfig {
        cache_dir: None,
        cache_bytes: 0,
        ceiling: Ceiling::default(),
        workshop: None,
        runtime: runtime.handle().clone(),
    })?;
    let module = engine.load(&transforms.join("target/wasm32-wasip2/release/identity.wasm"), None)?;
    println!("{:<24} {:>8} {:>8}", "CPU ns a record", "median", "best");
    for (name, copy, bytes) in [("keep 100 B", "false", 100), ("emit 100 B", "true", 100), ("emit 1 KB", "true", 1000)]
    {
        let spec = Spec {
            transform: "boundary".into(),
            settings: vec![("copy".into(), copy.into())],
            inputs: vec!["in".into()],
            outputs: vec!["out".into()],
            limits: Limits::default(),
            grants: Grants::default(),
            observe_guest_text: false,
        };
        let mut instance = Instance::new(&Generation::prepare(&module, spec, 1)?)?;
        let (median, best) = measure(&mut instance, bytes)?;
        println!("{name:<24} {median:>8.1} {best:>8.1}");
    }
    Ok(())
}

fn measure(instance: &mut Instance, bytes: usize) -> Result<(f64, f64), Failure> {
    let value = vec![b'x'; bytes];
    let headers =
        [Header { key: b"trace", value: Some(b"0123456789") }, Header { key: b"source", value: Some(b"bench") }];
    let record = Record {
        topic: 0,
        partition: 0,
        offset: 0,
        timestamp_ms: 0,
        key: Some(b"0123456789abcdef"),
        value: Some(&value),
        headers: &headers,
    };
    let batch = [record; BATCH];
    let mut sink = Vec::with_capacity(1 << 20);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let start = cpu_ns();
        for _ in 0..CALLS {
            sink.clear();
            instance.run(&batch, &mut |index, settled| match settled {
                Settled::Keep => {
                    sink.extend_from_slice(batch[index].value.unwrap_or_default());
                    Ok(())
                }
                Settled::Emit(outputs) => {
                    for output in outputs.iter() {
                        sink.extend_from_slice(output.value.unwrap_or_default());
                    }
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            })?;
        }
        rounds.push((cpu_ns() - start) / (CALLS * BATCH) as f64);
    }
    rounds.sort_by(f64::total_cmp);
    Ok((rounds[ROUNDS / 2], rounds[0]))
}

fn cpu_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}
