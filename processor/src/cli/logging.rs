//! Logs: to stderr, as text or JSON, filtered by `-v`, `-q` and PELTON_LOG, with a limit on the lines of one place
//! ([`crate::telemetry::limit`]). The same lines go to a collector if the environment asks for it
//! ([`crate::telemetry::logs`]).

use std::io::IsTerminal;

use tracing_subscriber::filter::FilterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, reload};

use super::{Global, LogFormat, Paint};
use crate::config::ConfigErrors;
use crate::telemetry::level;
use crate::telemetry::limit::Limit;
use crate::telemetry::logs::Export;

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
    let given = std::env::var("PELTON_LOG").ok().filter(|text| !text.is_empty());
    let filter = match given.map(|text| text.parse::<EnvFilter>()) {
        Some(Ok(filter)) => filter,
        None => EnvFilter::new(level),
        Some(Err(error)) => {
            eprintln!("PELTON_LOG is no filter ({error}); `{level}` is used");
            EnvFilter::new(level)
        }
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = match global.log_format {
        LogFormat::Text => layer.with_ansi(global.paint() == Paint::On && std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let (filter, handle) = reload::Layer::new(filter);
    level::install(handle);
    // It fails only where a subscriber is there already: then that one stands.
    // One filter for both: the limit counts each line once.
    let layers = layer.and_then(Export).with_filter(filter.and(Limit));
    let _ = tracing_subscriber::registry().with(layers).try_init();
}

/// Why the process does not start, as JSON, one line for each error: past the log's filter and limit, since whoever narrowed
/// the log wants to know this all the same.
pub(super) fn refused(errors: &ConfigErrors, remark: Option<&str>) {
    const TARGET: &str = "pelton::config";
    let whole = tracing_subscriber::fmt().json().flatten_event(true).with_writer(std::io::stderr).finish();
    tracing::subscriber::with_default(whole, || {
        for error in &errors.0 {
            let (code, path, place) = (error.code.as_str(), &error.path, &error.place);
            let (suggestion, advice) = (error.suggestion.as_deref(), error.help.as_deref());
            let note = error.note.as_ref().map(|(text, place)| format!("{text} ({place})"));
            tracing::error!(target: TARGET, code, path, %place, suggestion, advice, note, "{}", error.message);
        }
        remark.inspect(|remark| tracing::error!(target: TARGET, "{remark}"));
    });
}
