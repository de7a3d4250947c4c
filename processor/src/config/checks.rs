//! What must hold between values that are each right by themselves.
//!
//! Works on the tree, not on the types, so that these errors are reported together with those of the schema: a check
//! considers what is there and well formed and is silent about the rest, which already has an error. Files: `topology`
//! (topics, starts, loops), `timing` (intervals, deadlines), `kafka` (properties), `grants` (no secret by the back
//! door), `sandbox` (what is required of all transforms), `rollout`, `outside` (what is referred to: modules,
//! directories, secrets, the identity).

mod grants;
mod kafka;
mod outside;
mod rollout;
mod sandbox;
mod timing;
mod topology;

use std::str::FromStr;

use super::error::ConfigError;
use super::tree::Node;

pub use outside::outside;

/// Everything that can be told from the configuration alone.
pub fn inside(tree: &Node) -> Vec<ConfigError> {
    let mut errors = topology::check(tree);
    errors.extend(timing::check(tree));
    errors.extend(kafka::check(tree));
    errors.extend(grants::check(tree));
    errors.extend(sandbox::check(tree));
    errors.extend(rollout::check(tree));
    errors
}

/// Names and nodes of the transforms.
fn transforms(tree: &Node) -> impl Iterator<Item = (&str, &Node)> {
    let map = tree.get("transforms").and_then(Node::as_map);
    map.into_iter().flat_map(|map| map.iter()).map(|entry| (entry.key.as_str(), &entry.value))
}

/// A well-formed value and its node.
fn value<'t, T: FromStr>(tree: &'t Node, path: &[&str]) -> Option<(T, &'t Node)> {
    let node = tree.at(path)?;
    node.as_text()?.parse().ok().map(|value| (value, node))
}
