//! Logs: to stderr, as text or JSON, filtered by `-v`, `-q` and PELTON_LOG.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use super::{Global, LogFormat, Paint};

/// Once, before the first event. A second call changes nothing.
pub(super) fn init(global: &Global) {
    let level = match (global.verbose, global.quiet) {
        (0, 0) => "info",
        (0, 1) => "warn",
        (0, _) => "error",
        (1, _) => "info,pelton=debug,pelton_kafka=debug,pelton_sandbox=debug",
        (2, _) => "debug",
        _ => "trace",
    };
    let filter = std::env::var("PELTON_LOG").ok().and_then(|text| text.parse::<EnvFilter>().ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // It fails only where a subscriber is there already: then that one stands.
    let _ = match global.log_format {
        LogFormat::Text => builder.with_ansi(global.paint() == Paint::On && std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
