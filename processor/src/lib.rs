//! Pelton: an exactly-once stream processor for Kafka with sandboxed WebAssembly transforms. The library behind the
//! `pelton` binary; ARCHITECTURE.md says how to read it.

pub mod admin;
mod cgroup;
pub mod cli;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod telemetry;
pub mod tools;
mod wall;
