//! The measured table of docs/security.md, between two markers that nobody else touches.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use pelton_sandbox::World;

use super::measure::yardstick;
use super::run::Finding;

const BEGIN: &str = "<!-- ./dev hostile writes what follows -->";
const END: &str = "<!-- up to here -->";

/// Groups of attacks, with what became of them, as tables.
pub fn tables(groups: &[(&str, Vec<Finding>)]) -> String {
    let mut text = machine();
    for (title, findings) in groups {
        let _ = writeln!(text, "\n### {title}\n");
        text.push_str("| attack | ends as | CPU, ms | memory, KiB |\n|---|---|---|---|\n");
        for of_one in findings.chunk_by(|a, b| a.name == b.name) {
            text.push_str(&row(of_one));
        }
    }
    text
}

/// One attack, in one world or two.
fn row(findings: &[Finding]) -> String {
    let name = findings[0].name;
    let cpu = |found: &Finding| format!("{:.1}", found.cost.cpu.as_secs_f64() * 1e3);
    let peak = |found: &Finding| (found.cost.peak >> 10).to_string();
    let ends = match findings {
        [packed, typed] if packed.end != typed.end => format!("packed: {}; typed: {}", packed.end, typed.end),
        [only] => format!("{} ({})", only.end, world(only.world)),
        [first, ..] => first.end.clone(),
        [] => String::new(),
    };
    let all = |of: &dyn Fn(&Finding) -> String| findings.iter().map(of).collect::<Vec<_>>().join(" / ");
    format!("| {name} | {ends} | {} | {} |\n", all(&cpu), all(&peak))
}

fn world(world: World) -> &'static str {
    match world {
        World::Packed => "packed",
        World::Typed => "typed",
    }
}

fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("", |(_, name)| name);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let build = if cfg!(debug_assertions) { "debug build" } else { "release build" };
    let yardstick = yardstick().as_secs_f64() * 1e3;
    format!("Measured on {cpus} CPUs, {model}; {build}; a fixed piece of work took {yardstick:.1} ms.\n")
}

/// Puts `tables` where an earlier one was.
///
/// # Errors
/// When the page cannot be read or written, or has no place for them.
pub fn write(page: &Path, tables: &str) -> io::Result<()> {
    let text = fs::read_to_string(page)?;
    let parts = text.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?.1)));
    let (head, tail) = parts.ok_or_else(|| io::Error::other("the page has no markers"))?;
    fs::write(page, format!("{head}{BEGIN}\n{tables}{END}{tail}"))
}
