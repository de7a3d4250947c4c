//! Lines in Pelton's log.

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For debugging.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What an operator should look at.
    Warn,
    /// What must not happen.
    Error,
}

/// Writes a line to Pelton's log. It appears only if the operator has enabled `observe.guest_text`, is rate-limited,
/// and cut at 4 KiB; `println!` and `eprintln!` do the same at levels info and warn. In native tests it goes to stderr.
#[cfg(not(target_family = "wasm"))]
pub fn log(level: Level, message: &str) {
    eprintln!("{level:?}: {message}");
}

/// Writes a line to Pelton's log. It appears only if the operator has enabled `observe.guest_text`, is rate-limited,
/// and cut at 4 KiB; `println!` and `eprintln!` do the same at levels info and warn. In native tests it goes to stderr.
#[cfg(target_family = "wasm")]
pub fn log(level: Level, message: &str) {
    use crate::rt::bindings::pelton::transform::log as host;
    let level = match level {
        Level::Trace => host::Level::Trace,
        Level::Debug => host::Level::Debug,
        Level::Info => host::Level::Info,
        Level::Warn => host::Level::Warn,
        Level::Error => host::Level::Error,
    };
    host::log(level, message);
}
