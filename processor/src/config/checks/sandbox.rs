//! What the operator requires of all transforms, each of which may have been written by somebody else.

use std::fmt::Display;
use std::str::FromStr;

use super::{transforms, value};
use crate::config::error::{Code, ConfigError};
use crate::config::tree::Node;
use crate::config::types::{Bytes, Millis};

pub fn check(tree: &Node) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for (name, transform) in transforms(tree) {
        for key in ["deadline", "configure_deadline"] {
            errors.extend(above::<Millis>(tree, name, transform, key));
        }
        for key in ["memory", "output_bytes", "log"] {
            errors.extend(above::<Bytes>(tree, name, transform, key));
        }
        for key in ["fuel", "outputs"] {
            errors.extend(above::<u64>(tree, name, transform, key));
        }
    }
    errors.extend(proofs(tree));
    errors
}

fn above<T: FromStr + PartialOrd + Display>(
    tree: &Node,
    name: &str,
    transform: &Node,
    key: &str,
) -> Option<ConfigError> {
    let (asked, at) = value::<T>(transform, &["limits", key])?;
    let (most, most_at) = value::<T>(tree, &["sandbox", "ceiling", key])?;
    (asked > most).then(|| {
        let path = format!("transforms.{name}.limits.{key}");
        let message =
            format!("`{name}` asks for a {key} of {asked}; the most that a transform may have here is {most}");
        let error = ConfigError::new(Code::Conflict, path, &at.origin, message);
        error.note("the ceiling", &most_at.origin).help("ask for less, or have the operator raise `sandbox.ceiling`")
    })
}

fn proofs(tree: &Node) -> Vec<ConfigError> {
    let Some(require) = tree.at(&["sandbox", "require"]) else { return Vec::new() };
    match require.as_text() {
        Some("digest") => transforms(tree)
            .filter(|(_, transform)| transform.get("sha256").is_none())
            .map(|(name, transform)| {
                let at = transform.get("module").unwrap_or(transform);
                let message = format!("`{name}` does not say which module it means");
                let error = ConfigError::new(Code::Missing, format!("transforms.{name}.sha256"), &at.origin, message);
                error.note("required here", &require.origin).help("set it to the module's `sha256sum`")
            })
            .collect(),
        Some("signature") if tree.at(&["sandbox", "keys"]).and_then(Node::as_list).is_none_or(<[Node]>::is_empty) => {
            let message = "signatures are required, but no key is given that could have made them";
            let error = ConfigError::new(Code::Missing, "sandbox.keys", &require.origin, message);
            vec![error.help("name the public keys, or make a pair with `pelton keygen`")]
        }
        _ => Vec::new(),
    }
}
