//! The corpus' modules: Rust guests built by cargo, WebAssembly text spliced together, each compiled once.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pelton_sandbox::{Ceiling, CompilerProcess, Engine, EngineConfig, LoadError, Module, World};

use super::attack::{Guest, MEMORY};
use crate::guest;

/// What compiling one module may take.
const COMPILER_MEMORY: u64 = 384 << 20;
const COMPILER_TIME: Duration = Duration::from_secs(10);

/// The engine that attackers and innocents share.
pub fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let ceiling = Ceiling { memory: MEMORY, instances: 16 };
        // as the product does it, with less
        let compiler = CompilerProcess {
            program: crate::process::binary(),
            arguments: vec!["compile-module".into()],
            memory: COMPILER_MEMORY,
            time: COMPILER_TIME,
        };
        let config =
            EngineConfig { cache_dir: None, cache_bytes: 0, ceiling, compiler: Some(compiler), runtime: runtime() };
        Engine::new(config).expect("the engine can be made")
    })
}

fn runtime() -> tokio::runtime::Handle {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
    RUNTIME.get_or_init(|| build().expect("a runtime can be made")).handle().clone()
}

/// The guest's module for a world, compiled before or now.
pub fn module(guest: &Guest, world: World) -> Result<Module, LoadError> {
    static COMPILED: Mutex<BTreeMap<(Guest, bool), Module>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (guest.clone(), world == World::Packed);
    if let Some(module) = compiled.get(&key) {
        return Ok(module.clone());
    }
    let module = engine().load_bytes(&bytes(guest, world), None)?;
    compiled.insert(key, module.clone());
    Ok(module)
}

/// The guest's bytes.
///
/// # Panics
/// When a guest does not build or a text is no WebAssembly.
pub fn bytes(guest: &Guest, world: World) -> Vec<u8> {
    let built = |name: &str| fs::read(guest::hostile_module(name)).expect("cargo has built it");
    match (guest, world) {
        (Guest::Bytes(bytes), _) => bytes.clone(),
        (Guest::Deeds, World::Packed) => built("hostile-packed"),
        (Guest::Deeds, World::Typed) => built("hostile-typed"),
        (Guest::Frames, _) => built("hostile-frames"),
        (Guest::Rust(name), _) => built(name),
        (Guest::Wat(file), _) => {
            let path = wat_dir().join("attacks").join(file).with_extension("wat");
            splice(world, &fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        }
        (Guest::Text(text), _) => splice(world, text),
    }
}

fn wat_dir() -> PathBuf {
    crate::root().join("integration/hostile/wat")
}

/// Puts an attack's parts into the world's text, and empty hooks where it has none. `@beside`: another component, which the
/// world's is composed with.
pub fn splice(world: World, attack: &str) -> Vec<u8> {
    let name = match world {
        World::Packed => "packed.wat",
        World::Typed => "typed.wat",
    };
    let mut text = fs::read_to_string(wat_dir().join(name)).expect("it is in the repository");
    let part = |name: &str| -> String {
        let mut parts = attack.split("\n;; @").map(|part| part.trim_start_matches(";; @"));
        parts.find_map(|part| part.strip_prefix(name)).unwrap_or_default().into()
    };
    let hooks = |mut body: String, hooks: &[(&str, &str)]| {
        for (hook, params) in hooks {
            let defined = body.match_indices(hook).any(|(at, _)| {
                body[..at].ends_with("(func ") && !body[at + hook.len()..].starts_with(|c: char| c.is_alphanumeric())
            });
            if !defined {
                body.push_str(&format!("\n(func {hook} {params})"));
            }
        }
        body
    };
    let main =
        hooks(part("main"), &[("$attack", ""), ("$configured", ""), ("$posted", ""), ("$lie", "(param i32 i32 i32)")]);
    let libc = hooks(part("libc"), &[("$realloced", "(param i32)")]);
    let others = ["component", "with", "lower", "host"].map(|place| (place, part(place)));
    for (place, body) in others.into_iter().chain([("libc", libc), ("main", main)]) {
        text = text.replace(&format!("(; @{place} ;)"), &body);
    }
    if !part("beside").is_empty() {
        text = composed(world, &text, &part("beside"));
    }
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{attack}\n{error}"))
}

/// A component that is made of two: the world's, and the instance `$beside`, which the world's imports under that name. The
/// whole imports and exports what the world's would alone.
fn composed(world: World, text: &str, beside: &str) -> String {
    let (head, body) = text.split_once("(component\n").expect("it is a component");
    let imports = body.split_once("(import \"beside\"").expect("it imports what is beside it").0;
    let (others, exports) = match world {
        World::Packed => (
            "(with \"pelton:transform/packed-sink@0.1.0\" (instance $sink)) (with \"topics\" (type $topics))",
            ["abi-version", "configure", "process-packed"].as_slice(),
        ),
        World::Typed => {
            ("(with \"pelton:transform/types@0.1.0\" (instance $types))", ["configure", "process"].as_slice())
        }
    };
    let exports: String =
        exports.iter().map(|name| format!("(export \"{name}\" (func $world' \"{name}\"))\n")).collect();
    format!(
        "{head}(component\n{imports}\n{beside}\n(component $world\n{body}\n\
         (instance $world' (instantiate $world {others} (with \"beside\" (instance $beside)) \
         (with \"pelton:transform/log@0.1.0\" (instance $log))))\n{exports})"
    )
}
