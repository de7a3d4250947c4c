//! `pelton inspect`: what a module is, needs and weighs, before anybody runs it. Needs no configuration and no cluster.

use clap::Args;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::answer::harmless;
use super::{Exit, Output, print};
use crate::config::Sandbox;
use crate::control::compiler;
use pelton_sandbox::{Ceiling, Engine, EngineConfig, Grants, Inspection, LoadError, World};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The module.
    module: PathBuf,

    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

pub(super) fn inspect(arguments: &Arguments) -> Exit {
    let bytes = match fs::read(&arguments.module) {
        Ok(bytes) => bytes,
        Err(error) => {
            eprintln!("error[io]: cannot read {}: {error}", arguments.module.display());
            return Exit::Io;
        }
    };
    match look(&bytes) {
        Ok((inspection, took)) => {
            let shown = match arguments.output {
                Output::Text => print(&text(&inspection, took)),
                Output::Json => print(&format!("{:#}\n", json(&inspection, took))),
            };
            match (shown, inspection.refusal) {
                (Exit::Ok, Some(_)) => Exit::Failed,
                (shown, _) => shown,
            }
        }
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(error) = source {
                let _ = write!(text, ": {error}");
                source = error.source();
            }
            eprintln!("error[module.load]: {}", harmless(&text));
            Exit::Failed
        }
    }
}

fn look(bytes: &[u8]) -> Result<(Inspection, Duration), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let ceiling = Ceiling { instances: 1, ..Ceiling::default() };
    let compiler = Some(compiler(&Sandbox::default()));
    let config = EngineConfig { cache_dir: None, cache_bytes: 0, ceiling, compiler, runtime: runtime.handle().clone() };
    let engine = Engine::new(config)?;
    let started = Instant::now();
    let module = engine.load_bytes(bytes, None)?;
    let took = started.elapsed();
    Inspection::of(bytes, &module).map(|inspection| (inspection, took)).map_err(|error: LoadError| error.into())
}

fn text(module: &Inspection, took: Duration) -> String {
    let mut out = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(out, "{name:<14} {}", harmless(&what));
    };
    line("sha256", module.digest.to_string());
    line("world", world(module.world).to_owned());
    line("sdk", module.sdk.clone().unwrap_or_else(|| "none".to_owned()));
    for (role, tools) in &module.producers {
        line(role, tools.iter().cloned().collect::<Vec<_>>().join(", "));
    }
    line(
        "size",
        format!(
            "{} ({} of code, {} of data, {} of names and debug information)",
            kib(module.bytes),
            kib(module.code_bytes),
            kib(module.data_bytes),
            kib(module.custom_bytes)
        ),
    );
    line("memory", format!("{} at the start", kib(module.initial_memory as usize)));
    line("compiled", format!("in {} ms", took.as_millis()));
    line("exports", module.exports.join(", "));
    let _ = writeln!(out, "imports");
    for (interface, functions) in &module.imports {
        let _ = writeln!(out, "  {}", harmless(interface));
        for function in functions {
            let _ = writeln!(out, "    {}", harmless(function));
        }
    }
    let _ = match &module.refusal {
        Some(refusal) => writeln!(out, "refused        {}: {}", harmless(&refusal.import), refusal.advice),
        None => writeln!(out, "deterministic  {}", determinism(module)),
    };
    if module.refusal.is_none() {
        let _ = write!(out, "\n{}", grants(module));
    }
    out
}

fn json(module: &Inspection, took: Duration) -> Value {
    json!({
        "sha256": module.digest.to_string(),
        "world": world(module.world),
        "sdk": module.sdk,
        "producers": module.producers,
        "bytes": module.bytes,
        "code_bytes": module.code_bytes,
        "data_bytes": module.data_bytes,
        "custom_bytes": module.custom_bytes,
        "initial_memory_bytes": module.initial_memory,
        "compile_ms": took.as_millis() as u64,
        "exports": module.exports,
        "imports": module.imports,
        "refused": module.refusal.as_ref().map(|r| json!({"import": r.import, "advice": r.advice})),
        "deterministic_by_default": module.is_deterministic(&Grants::default()),
    })
}

fn world(world: World) -> &'static str {
    match world {
        World::Typed => "transform",
        World::Packed => "transform-packed",
    }
}

fn determinism(module: &Inspection) -> &'static str {
    let asks = module.imports_any("wasi:clocks/") || module.imports_any("wasi:random/");
    match (module.is_deterministic(&Grants::default()), asks) {
        (true, false) => "yes, as long as it keeps no state between records",
        (true, true) => "yes with `clock: record` and `random: seeded`, as long as it keeps no state between records",
        (false, _) => "no",
    }
}

/// What can be granted to it; everything is at its default, which is the least.
fn grants(module: &Inspection) -> String {
    let mut lines = Vec::new();
    if module.imports_any("wasi:filesystem/") {
        lines.push("  directories: {}      # it can read files: { /lookup: ./lookup }; without a grant it finds none");
    }
    if module.imports_any("wasi:cli/environment") {
        lines.push("  environment: []      # it can ask for variables: [REGION]; without a grant it finds none");
    }
    if module.imports_any("wasi:clocks/") {
        lines.push("  clock: record        # it can ask for the time: record (the record's timestamp), real, none");
    }
    if module.imports_any("wasi:random/") {
        lines.push("  random: seeded       # it can ask for randomness: seeded (by the record's place), real, none");
    }
    match lines.as_slice() {
        [] => "grants: {}             # it can ask for nothing\n".to_owned(),
        lines => format!("grants:\n{}\n", lines.join("\n")),
    }
}

fn kib(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        _ => format!("{} KiB", bytes.div_ceil(1024)),
    }
}
