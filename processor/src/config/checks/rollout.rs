//! A new version is tried in one way at a time.

use super::transforms;
use crate::config::error::{Code, ConfigError};
use crate::config::tree::Node;

pub fn check(tree: &Node) -> Vec<ConfigError> {
    let both = |(name, node): (&str, &Node)| {
        let (shadow, canary) = (node.at(&["rollout", "shadow"])?, node.at(&["rollout", "canary"])?);
        shadow.as_map().and(canary.as_map())?;
        let message = format!("`{name}` asks for a shadow and a canary");
        let error =
            ConfigError::new(Code::Conflict, format!("transforms.{name}.rollout.canary"), &canary.origin, message);
        Some(error.help("leave one of them out: first a shadow, in the next reload a canary"))
    };
    transforms(tree).filter_map(both).collect()
}
