//! What an operator sees of the process from outside, in numbers. The data plane counts in atomics of its own
//! ([`crate::dataplane::counters`]); here they are gathered when somebody asks ([`collect`]) and written in two languages:
//! Prometheus' text for who scrapes ([`prometheus`]), OTLP for who is pushed to ([`otlp`]). Both say the same, from the same
//! [`definitions`], which [`mod@reference`] makes docs/metrics.md of.
//!
//! [`limit`] keeps the log readable.
//!
//! Promises: a scrape costs the records nothing, labels are few and bounded by the configuration, and no data of records
//! and no secret is in any of it (I10). Why none of this is done by an SDK: docs/decisions/0015-metrics.md.

pub mod collect;
pub mod definitions;
pub mod level;
pub mod limit;
pub mod otlp;
pub mod prometheus;
mod push;
mod reference;

pub use collect::{Family, Point, ReloadCounts, Running, Value};
pub use definitions::{Definition, Kind};
pub use push::{Push, Pusher};
pub use reference::reference;
