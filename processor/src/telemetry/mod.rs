//! What an operator sees of the process from outside, in numbers. The data plane counts in atomics of its own
//! ([`crate::dataplane::counters`]); here they are gathered when somebody asks ([`collect`]) and written in two languages:
//! Prometheus' text for who scrapes ([`prometheus`]), OTLP for who is pushed to ([`otlp`]). Both say the same, from the same
//! [`definitions`], which [`mod@reference`] makes docs/metrics.md of.
//!
//! [`traces`] follows single records from header to header, [`logs`] gives the log to a collector; both go through the bounded
//! queue of [`export`]. [`variables`] and [`collector`] are the environment's word on all of it. [`limit`] keeps the log readable.
//!
//! Promises: a scrape costs the records nothing, labels are few and bounded by the configuration, and no data of records
//! and no secret is in any of it (I10). Why none of this is done by an SDK: docs/decisions/0015-metrics.md.

pub mod collect;
mod collector;
pub mod definitions;
pub mod export;
pub mod level;
pub mod limit;
pub mod logs;
pub mod otlp;
mod process;
pub mod prometheus;
mod push;
mod reference;
pub mod traces;
mod variables;

pub use collect::{Exports, Family, Point, ReloadCounts, Running, Value};
pub use collector::Collector;
pub use definitions::{Definition, Kind};
pub use push::{Push, Pusher};
pub use reference::reference;
pub use variables::{Signal, Unfit, Variables};
