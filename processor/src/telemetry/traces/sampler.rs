//! Which records are traced, as `OTEL_TRACES_SAMPLER` says. Its default here is `parentbased_always_off`, not the
//! specification's `parentbased_always_on`: only records that their sender traces are traced, because a processor of
//! hundreds of thousands of records a second must not write a span for each of them just because a collector was named.
//!
//! Ratios are computed from the trace's id, by the same rule as in OpenTelemetry's SDKs, so that those who use the same
//! ratio sample the same traces.

use super::context::{Context, TraceId};
use crate::telemetry::variables::{Unfit, Variables};
use std::fmt;

/// Decides for each record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sampler {
    root: Root,
    parent_based: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Root {
    On,
    Off,
    /// Traces whose id has a low half below that, halved.
    Below(u64),
}

impl Sampler {
    /// # Errors
    /// A sampler that is not known here, a ratio that is none.
    pub fn from_env(variables: Variables<'_>) -> Result<Self, Unfit> {
        let ratio = || match variables.get("OTEL_TRACES_SAMPLER_ARG").map_or(Ok(1.0), |text| text.trim().parse::<f64>())
        {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Root::of(ratio)),
            _ => Err(Unfit { variable: "OTEL_TRACES_SAMPLER_ARG", what: "it must be a number from 0 to 1" }),
        };
        let name = variables.get("OTEL_TRACES_SAMPLER");
        let name = name.as_deref().map_or("parentbased_always_off", str::trim);
        let (parent_based, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let root = match root {
            "always_on" => Root::On,
            "always_off" => Root::Off,
            "traceidratio" => ratio()?,
            _ => {
                let what = "only always_on, always_off and traceidratio are known, each also as parentbased_…";
                return Err(Unfit { variable: "OTEL_TRACES_SAMPLER", what });
            }
        };
        Ok(Sampler { root, parent_based })
    }

    /// Is a record followed that came with this context?
    pub fn follows(&self, context: &Context) -> bool {
        if self.parent_based { context.is_sampled() } else { self.root.admits(context.trace.low()) }
    }

    /// A trace that begins with a record that came without a context, if one does.
    pub fn begins(&self, random: &mut fastrand::Rng) -> Option<TraceId> {
        if self.root == Root::Off {
            return None;
        }
        let low = random.u64(..);
        self.root.admits(low).then(|| TraceId::new(u128::from(random.u64(..)) << 64 | u128::from(low)))?
    }
}

impl Root {
    fn of(ratio: f64) -> Self {
        Root::Below((ratio * (1u64 << 63) as f64) as u64)
    }

    fn admits(self, low: u64) -> bool {
        match self {
            Root::On => true,
            Root::Off => false,
            Root::Below(bound) => low >> 1 < bound,
        }
    }
}

/// As the variable says it.
impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parent = if self.parent_based { "parentbased_" } else { "" };
        match self.root {
            Root::On => write!(f, "{parent}always_on"),
            Root::Off => write!(f, "{parent}always_off"),
            Root::Below(bound) => write!(f, "{parent}traceidratio({})", bound as f64 / (1u64 << 63) as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::traces::context::SpanId;

    fn sampler(name: &str, ratio: &str) -> Result<Sampler, Unfit> {
        let variable = |variable: &str| match variable {
            "OTEL_TRACES_SAMPLER" => Some(name.to_owned()),
            "OTEL_TRACES_SAMPLER_ARG" => Some(ratio.to_owned()),
            _ => None,
        };
        Sampler::from_env(Variables(&variable))
    }

    fn context(low: u64, flags: u8) -> Context {
        Context { trace: TraceId::new(1 << 64 | u128::from(low)).unwrap(), span: SpanId::new(1).unwrap(), flags }
    }

    #[test]
    fn unless_told_otherwise_only_what_others_follow_is_followed() {
        let default = sampler("", "").unwrap();
        assert_eq!(default.to_string(), "parentbased_always_off");
        assert!(default.follows(&context(u64::MAX, 1)) && !default.follows(&context(0, 0)));
        assert_eq!(default.begins(&mut fastrand::Rng::with_seed(1)), None);
    }

    #[test]
    fn a_parent_decides_where_the_sampler_is_based_on_it() {
        let begins = |sampler: &Sampler| sampler.begins(&mut fastrand::Rng::with_seed(1)).is_some();
        for (name, ratio, followed, unfollowed, root) in [
            ("parentbased_always_on", "", true, false, true),
            ("parentbased_traceidratio", "1", true, false, true),
            ("parentbased_traceidratio", "0", true, false, false),
            ("always_on", "", true, true, true),
            ("always_off", "", false, false, false),
            ("traceidratio", "", true, true, true),
            ("traceidratio", "0.0", false, false, false),
        ] {
            let sampler = sampler(name, ratio).unwrap();
            assert_eq!(sampler.follows(&context(7, 1)), followed, "{name}");
            assert_eq!(sampler.follows(&context(7, 0)), unfollowed, "{name}");
            assert_eq!(begins(&sampler), root, "{name} {ratio}");
        }
    }

    #[test]
    fn a_ratio_of_the_records_begins_traces_that_others_with_that_ratio_follow() {
        let root = sampler("parentbased_traceidratio", "0.01").unwrap();
        let other = sampler("traceidratio", "0.01").unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let begun: Vec<TraceId> = (0..100_000).filter_map(|_| root.begins(&mut random)).collect();
        assert!((900..1_100).contains(&begun.len()), "{}", begun.len());
        let follows = |trace: &TraceId| other.follows(&Context { trace: *trace, ..context(0, 0) });
        assert!(begun.iter().all(follows));
        assert!(other.follows(&context(0, 0)) && !other.follows(&context(u64::MAX, 1)));
    }

    #[test]
    fn what_is_no_sampler_is_refused_by_the_variable_s_name() {
        for name in ["jaeger_remote", "parentbased_", "on"] {
            assert!(sampler(name, "").unwrap_err().to_string().starts_with("OTEL_TRACES_SAMPLER:"), "{name}");
        }
        for ratio in ["1.1", "-0.1", "NaN", "half"] {
            let refused = sampler("traceidratio", ratio).unwrap_err().to_string();
            assert!(refused.starts_with("OTEL_TRACES_SAMPLER_ARG:"), "{ratio}");
        }
    }
}
