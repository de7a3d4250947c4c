//! OpenTelemetry's environment variables, read as its specification says: an empty one counts as unset, a signal's own
//! wins over the one for all signals. What cannot be done is refused by the variable's name; its value may be a secret
//! and is not shown (I10).

use std::fmt;
use std::time::Duration;

/// A variable that cannot be followed. Its value is not told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{variable}: {what}")]
pub struct Unfit {
    pub(super) variable: &'static str,
    pub(super) what: &'static str,
}

/// What is told of the process: metrics, traces or its log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signal {
    Metrics,
    Traces,
    Logs,
}

impl Signal {
    /// As in the metrics' labels and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Signal::Metrics => "metrics",
            Signal::Traces => "traces",
            Signal::Logs => "logs",
        }
    }

    /// In variables.
    fn name(self) -> &'static str {
        match self {
            Signal::Metrics => "METRICS",
            Signal::Traces => "TRACES",
            Signal::Logs => "LOGS",
        }
    }
}

/// The environment, or what a test says it is.
#[derive(Clone, Copy)]
pub struct Variables<'a>(pub &'a dyn Fn(&str) -> Option<String>);

/// Not its values: they may be secrets.
impl fmt::Debug for Variables<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables")
    }
}

impl Variables<'_> {
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    /// The signal's own `OTEL_EXPORTER_OTLP_…`, else the one for all signals.
    pub fn either(&self, signal: Signal, name: &str) -> Option<String> {
        self.own(signal, name).or_else(|| self.get(&format!("OTEL_EXPORTER_OTLP_{name}")))
    }

    pub fn own(&self, signal: Signal, name: &str) -> Option<String> {
        self.get(&format!("OTEL_EXPORTER_OTLP_{}_{name}", signal.name()))
    }

    /// Is this signal to be pushed? An address is enough for metrics and traces. The log must be asked for by name: who has a
    /// collector has mostly one that reads stderr, and would have each line twice.
    pub fn wants(&self, signal: Signal) -> bool {
        let off = self.get("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"));
        let wanted = match (self.get(&format!("OTEL_{}_EXPORTER", signal.name())), signal) {
            (Some(names), _) => names.split(',').any(|name| name.trim() == "otlp"),
            (None, Signal::Logs) => self.own(signal, "ENDPOINT").is_some(),
            (None, _) => self.either(signal, "ENDPOINT").is_some(),
        };
        wanted && !off
    }
}

/// A time in milliseconds, more than none.
pub fn millis(value: Option<String>, variable: &'static str, default: u64) -> Result<Duration, Unfit> {
    let millis = value.map_or(Ok(default), |value| value.trim().parse());
    match millis {
        Ok(millis) if millis > 0 => Ok(Duration::from_millis(millis)),
        _ => Err(Unfit { variable, what: "it must be a number of milliseconds" }),
    }
}

/// A number of things, at least one and at most a million: what it bounds is held in memory.
pub fn count(value: Option<String>, variable: &'static str, default: usize) -> Result<usize, Unfit> {
    match value.map_or(Ok(default), |value| value.trim().parse()) {
        Ok(count) if (1..=1_000_000).contains(&count) => Ok(count),
        _ => Err(Unfit { variable, what: "it must be a number from 1 to 1000000" }),
    }
}

/// `a=b,c=d%20e`. `None`: it is none of that.
pub fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pair = |text: &str| {
        let (key, value) = text.split_once('=')?;
        (!key.trim().is_empty()).then_some((key.trim().to_owned(), percent_decoded(value.trim())?))
    };
    text.split(',').filter(|text| !text.trim().is_empty()).map(pair).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wants(signal: Signal, variables: &[(&str, &str)]) -> bool {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
        Variables(&variable).wants(signal)
    }

    #[test]
    fn an_address_asks_for_metrics_and_traces_and_the_log_is_asked_for_by_name() {
        const BASE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        for signal in [Signal::Metrics, Signal::Traces, Signal::Logs] {
            assert!(!wants(signal, &[]));
            assert!(!wants(signal, &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]));
            assert_eq!(wants(signal, &[BASE]), signal != Signal::Logs);
            let exporter = format!("OTEL_{}_EXPORTER", signal.name());
            assert!(wants(signal, &[(exporter.as_str(), "console,otlp")]));
            assert!(!wants(signal, &[BASE, (exporter.as_str(), "none")]));
            let own = format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.name());
            assert!(wants(signal, &[(own.as_str(), "http://a/b")]));
            assert!(!wants(signal, &[(own.as_str(), "http://a/b"), ("OTEL_SDK_DISABLED", "TRUE")]));
        }
    }

    #[test]
    fn numbers_are_within_bounds() {
        assert_eq!(millis(None, "x", 7), Ok(Duration::from_millis(7)));
        assert_eq!(count(Some(" 12 ".into()), "x", 7), Ok(12));
        for wrong in ["0", "-1", "many", "99999999999999999999"] {
            assert!(millis(Some(wrong.into()), "x", 7).is_err(), "{wrong}");
            assert!(count(Some(wrong.into()), "x", 7).is_err(), "{wrong}");
        }
        assert!(count(Some("1000001".into()), "x", 7).is_err());
    }

    #[test]
    fn lists_are_pairs_with_percent_signs() {
        assert_eq!(pairs("a=b%20c, d=").unwrap(), [("a".into(), "b c".into()), ("d".into(), String::new())]);
        for wrong in ["a", "=b", "a=%2", "a=%zz", "a=%ff"] {
            assert_eq!(pairs(wrong), None, "{wrong}");
        }
    }
}
