//! What an operator sees of the process from outside, in numbers. The data plane counts in its own atomics
//! ([`crate::dataplane::counters`]); here they are gathered when somebody asks ([`collect`]) and written in two
//! formats: Prometheus' text for scraping ([`prometheus`]), OTLP for pushing ([`otlp`]). Both say the same, from the
//! same [`definitions`], from which [`mod@reference`] generates docs/metrics.md.
//!
//! [`traces`] traces single records from header to header, [`logs`] sends the log to a collector; both use the bounded
//! queue of [`export`]. [`variables`] and [`collector`] read the environment for all of it. [`limit`] keeps the log
//! readable.
//!
//! Promises: a scrape costs the records nothing, labels are few and bounded by the configuration, and none of it
//! contains record data or secrets (I10). Why no SDK does this: docs/decisions/0015-metrics.md.

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
