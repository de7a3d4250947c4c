//! Builds the guests, makes engines, generations and records, and collects outcomes as owned values.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use pelton_sandbox::{
    Ceiling, Clock, Engine, EngineConfig, FaultCode, Generation, Grants, Instance, Limits, Module, PrepareError,
    Randomness, Record, RunError, Settled, Spec,
};

/// Deadlines of tests that are not about deadlines: the machine may be busy, and some WASI calls wait in wall time.
const PATIENCE: Duration = Duration::from_secs(60);

/// The runtime that WASI waits on.
pub fn runtime() -> tokio::runtime::Handle {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    RUNTIME.get_or_init(build).handle().clone()
}

pub fn config() -> EngineConfig {
    EngineConfig {
        cache_dir: None,
        cache_bytes: 1 << 30,
        ceiling: Ceiling { memory: 64 << 20, instances: 64 },
        compiler: None,
        runtime: runtime(),
    }
}

/// One engine for all tests that need nothing special.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| Engine::new(config()).unwrap())
}

/// The guests of tests/guests: `packed`, `typed`, `hostile`, `sockets`.
pub fn guest_path(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(|| build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guests")));
    dir.join(format!("guest_{name}.wasm"))
}

/// A ready transform of transforms/.
pub fn transform_path(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let dir = BUILT.get_or_init(|| build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../transforms")));
    dir.join(format!("{name}.wasm"))
}

/// Builds a guest workspace; quick when nothing changed.
fn build(workspace: &Path) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--target", "wasm32-wasip2"]).current_dir(workspace);
    // what this test's own cargo set is not meant for the guests
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_") || name.contains("RUSTFLAGS")) {
        if name != "CARGO_HOME" && name != "CARGO_NET_OFFLINE" {
            cargo.env_remove(name);
        }
    }
    let status = cargo.status().unwrap();
    assert!(status.success(), "guests do not build in {}; is the target wasm32-wasip2 installed?", workspace.display());
    workspace.join("target/wasm32-wasip2/release")
}

/// Compiled once for all tests.
pub fn guest(name: &str) -> Module {
    static COMPILED: Mutex<BTreeMap<String, Module>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap();
    compiled.entry(name.into()).or_insert_with(|| engine().load(&guest_path(name), None).unwrap()).clone()
}

/// A spec with topics `in`, `out` and `audit`, and time enough.
pub fn spec() -> Spec {
    Spec {
        transform: "test".into(),
        settings: Vec::new(),
        secrets: Vec::new(),
        inputs: vec!["in".into(), "other".into()],
        outputs: vec!["out".into(), "audit".into()],
        limits: Limits { deadline: PATIENCE, configure_deadline: PATIENCE, ..Limits::default() },
        // so that the typed world gets batches
        grants: Grants { clock: Clock::Real, random: Randomness::Real, ..Grants::default() },
        observe_guest_text: false,
    }
}

pub fn limits(change: impl FnOnce(&mut Limits)) -> Spec {
    let mut spec = spec();
    change(&mut spec.limits);
    spec
}

pub fn setting(name: &str, value: &str) -> Spec {
    Spec { settings: vec![(name.into(), value.into())], ..spec() }
}

pub fn prepare(guest_name: &str, spec: Spec) -> Result<Generation, PrepareError> {
    Generation::prepare(&guest(guest_name), spec, 1)
}

pub fn instance(guest_name: &str, spec: Spec) -> Instance {
    Instance::new(&prepare(guest_name, spec).unwrap()).unwrap()
}

/// The code of the fault that keeps a module from being prepared.
pub fn refusal(guest_name: &str, spec: Spec) -> (FaultCode, String) {
    match prepare(guest_name, spec) {
        Err(PrepareError::Configure(fault)) => (fault.code, fault.detail),
        other => panic!("expected a fault of configure, got {other:?}"),
    }
}

/// An outcome that owns what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    Keep,
    Drop,
    Emit(Vec<Written>),
    Reject(String),
    Fault(FaultCode, String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    pub topic: u32,
    pub partition: Option<i32>,
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Out {
    pub fn of(settled: Settled<'_>) -> Self {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        match settled {
            Settled::Keep => Self::Keep,
            Settled::Drop => Self::Drop,
            Settled::Reject(reason) => Self::Reject(reason.into()),
            Settled::Fault(fault) => Self::Fault(fault.code, fault.detail),
            Settled::Emit(outputs) => {
                let written = |o: pelton_sandbox::OutputRecord<'_>| Written {
                    topic: o.topic,
                    partition: o.partition,
                    timestamp_ms: o.timestamp_ms,
                    key: owned(o.key),
                    value: owned(o.value),
                    headers: o.headers().map(|h| (h.key.to_vec(), owned(h.value))).collect(),
                };
                let all: Vec<_> = outputs.iter().map(written).collect();
                assert_eq!(all.len(), outputs.len());
                assert_eq!(outputs.iter().count(), outputs.len(), "outputs can be walked again");
                Self::Emit(all)
            }
        }
    }

    pub fn code(&self) -> FaultCode {
        match self {
            Self::Fault(code, _) => *code,
            other => panic!("expected a fault, got {other:?}"),
        }
    }

    pub fn detail(&self) -> &str {
        match self {
            Self::Fault(_, detail) => detail,
            other => panic!("expected a fault, got {other:?}"),
        }
    }

    pub fn only(&self) -> &Written {
        match self {
            Self::Emit(outputs) if outputs.len() == 1 => &outputs[0],
            other => panic!("expected one output, got {other:?}"),
        }
    }

    /// The text of the one value that was emitted.
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.only().value.as_deref().unwrap()).unwrap()
    }
}

/// A record of topic `in` whose value asks for `act`.
pub fn record(act: &str) -> Record<'_> {
    value(Some(act.as_bytes()))
}

pub fn value(value: Option<&[u8]>) -> Record<'_> {
    Record {
        topic: 0,
        partition: 3,
        offset: 42,
        timestamp_ms: 1_700_000_000_000,
        key: Some(b"key"),
        value,
        headers: &[],
    }
}

/// Runs a batch; checks that every record is settled once and in order.
pub fn run(instance: &mut Instance, records: &[Record<'_>]) -> Vec<Out> {
    try_run(instance, records).unwrap()
}

pub fn try_run(instance: &mut Instance, records: &[Record<'_>]) -> Result<Vec<Out>, RunError<()>> {
    let mut outcomes = Vec::new();
    instance.run(records, &mut |index, settled| {
        assert_eq!(index, outcomes.len(), "settled once each, in order");
        outcomes.push(Out::of(settled));
        Ok(())
    })?;
    assert_eq!(outcomes.len(), records.len(), "every record is settled");
    Ok(outcomes)
}

/// Runs one act in a fresh instance.
pub fn act(guest_name: &str, spec: Spec, act: &str) -> Out {
    run(&mut instance(guest_name, spec), &[record(act)]).remove(0)
}

pub fn acts(instance: &mut Instance, acts: &[&str]) -> Vec<Out> {
    let records: Vec<_> = acts.iter().map(|act| record(act)).collect();
    run(instance, &records)
}
