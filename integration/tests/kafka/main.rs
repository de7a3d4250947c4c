//! Everything that claims something about Kafka, on a real one: `./dev test`, or `cargo test -p pelton-integration`.
//! One broker serves all tests of a run; each test has topics, group and processes of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod delivery;
mod doctor;
mod exactly_once;
mod faults;
mod membership;
mod metrics;
mod neighbours;
mod parallel;
mod probes;
mod records;
mod refusals;
mod reload;
mod rollout;
mod secured;
mod status;
mod support;
mod tap;
mod tools;
mod traces;
