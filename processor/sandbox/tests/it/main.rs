//! The sandbox from outside: real guests (tests/guests, and the ready transforms), built here, run through `Instance::run`.

#![allow(clippy::unwrap_used, reason = "all of this is tests")]

mod ambient;
mod cache;
mod limits;
mod load;
mod neighbours;
mod support;
mod transforms;
mod typed;
mod wasi;
mod window;
