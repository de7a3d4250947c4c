//! What is fuzzed, one function a target: each takes any bytes and must neither panic nor hang (I11), and what it lets
//! through must hold what it promises. `tests/corpus.rs` runs them on a stable toolchain over `corpus/` and mutations of
//! it; `libfuzzer/` runs the same functions under cargo-fuzz (`./dev fuzz`).

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use pelton::config::{self, Sources};
use pelton_sandbox::{
    Ceiling, Engine, EngineConfig, Generation, Grants, Instance, Limits, Record, Settled, Spec, fuzzing,
};

/// What a guest claims to be outcomes: kinds, lengths, frames, headers.
pub fn outcomes(data: &[u8]) {
    fuzzing::outcomes(data);
}

/// A module file: loaded, prepared and given three records.
///
/// # Panics
/// When a record is not settled exactly once, or this machine cannot run the sandbox at all.
pub fn module(data: &[u8]) {
    let Ok(module) = engine().load_bytes(data, None) else { return };
    let limits = Limits {
        deadline: Duration::from_millis(50),
        configure_deadline: Duration::from_millis(200),
        fuel: 20_000_000,
        ..Limits::default()
    };
    let spec = Spec {
        transform: "fuzz".into(),
        settings: Vec::new(),
        secrets: Vec::new(),
        inputs: vec!["in".into()],
        outputs: vec!["out".into()],
        limits,
        grants: Grants::default(),
        observe_guest_text: false,
    };
    let Ok(generation) = Generation::prepare(&module, spec, 1) else { return };
    let Ok(mut instance) = Instance::new(&generation) else { return };
    let record = |offset| Record {
        topic: 0,
        partition: 0,
        offset,
        timestamp_ms: 0,
        key: Some(b"key"),
        value: Some(b"{\"a\":1}"),
        headers: &[],
    };
    let records = [record(0), record(1), record(2)];
    let mut settled = 0;
    let ran = instance.run(&records, &mut |index, outcome| {
        assert_eq!(index, settled, "in order, once each");
        settled += 1;
        if let Settled::Emit(outputs) = outcome {
            assert_eq!(outputs.iter().count(), outputs.len());
        }
        Ok::<_, ()>(())
    });
    assert!(ran.is_err() || settled == records.len(), "{settled} of {} settled", records.len());
}

/// A configuration file; the first byte chooses its format.
///
/// # Panics
/// When a configuration that was found right is another one once it was written down and read again.
pub fn config(data: &[u8]) {
    let Some((format, text)) = data.split_first() else { return };
    let extension = ["yaml", "toml", "json"][usize::from(*format) % 3];
    if let Some(loaded) = load(text, extension) {
        let written = loaded.to_yaml(false);
        let again = load(written.as_bytes(), "yaml").unwrap_or_else(|| panic!("cannot be read again:\n{written}"));
        assert_eq!(again.to_yaml(false), written);
    }
}

fn load(text: &[u8], extension: &str) -> Option<config::Loaded> {
    let mut file = tempfile::Builder::new().suffix(&format!(".{extension}")).tempfile().ok()?;
    file.write_all(text).ok()?;
    let sources = Sources { files: vec![file.path().to_owned()], ..Sources::default() };
    match config::load(&sources) {
        Ok(loaded) => Some(loaded),
        Err(errors) => {
            assert!(!errors.0.is_empty(), "refused without a reason");
            // Shown as an operator sees them.
            let _ = errors.to_json().to_string();
            None
        }
    }
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<(tokio::runtime::Runtime, Engine)> = OnceLock::new();
    let (_, engine) = ENGINE.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let runtime = runtime.unwrap_or_else(|error| panic!("no runtime: {error}"));
        let ceiling = Ceiling { instances: 8, ..Ceiling::default() };
        let config = EngineConfig {
            cache_dir: None,
            cache_bytes: 0,
            ceiling,
            compiler: None,
            runtime: runtime.handle().clone(),
        };
        let engine = Engine::new(config).unwrap_or_else(|error| panic!("no engine: {error}"));
        (runtime, engine)
    });
    engine
}
