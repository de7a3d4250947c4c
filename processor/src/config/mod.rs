//! Configuration: layers in, types out, and errors that say where.
//!
//! Layers, later ones winning: defaults, files in the order given, environment, `--set`. They are merged as trees that
//! remember where each value was written (`tree`), checked as a whole (`check`, `checks`), and only then taken into the
//! types that the rest of the program sees (`types`). Why not figment: docs/decisions/0001-config-layers.md.
//! Promises all errors at once, each with its place, and no secret in any of them.

mod check;
mod checks;
mod error;
mod formats;
mod layers;
mod librdkafka;
mod load;
mod redact;
mod reference;
mod render;
mod schema;
mod show;
mod source;
mod suggest;
mod toml;
mod tree;
mod types;
mod yaml;

#[cfg(test)]
mod tests;

pub use error::{Code, ConfigError, ConfigErrors, Place};
pub use librdkafka::{Side, VERSION as LIBRDKAFKA_VERSION, names as librdkafka_properties, owned_property, side};
pub use load::{Loaded, Sources, Stamps, load, load_admin};
pub use reference::reference;
pub use render::{Paint, Snippet};
pub use schema::document as schema;
pub use source::Position;
pub use types::*;
