//! No grant gives a guest what the configuration treats as a secret elsewhere.

use super::transforms;
use crate::config::error::{Code, ConfigError};
use crate::config::tree::{Entry, Map, Node};

pub fn check(tree: &Node) -> Vec<ConfigError> {
    let secrets: Vec<(String, &Node)> = secret_variables(tree).collect();
    let granted = transforms(tree).flat_map(|(name, transform)| {
        let names = transform.at(&["grants", "environment"]).and_then(Node::as_list);
        names.into_iter().flatten().enumerate().map(move |(index, node)| (name, index, node))
    });
    let clash = granted.filter_map(|(name, index, node)| {
        let variable = node.as_text()?;
        let (path, secret) = secrets.iter().find(|(_, secret)| secret.as_text() == Some(variable))?;
        let message = format!("`{name}` would be given {variable}, which holds the value of `{path}`");
        let path = format!("transforms.{name}.grants.environment[{index}]");
        let error = ConfigError::new(Code::Conflict, path, &node.origin, message);
        Some(error.note("read here", &secret.origin).help("give the guest a variable of its own"))
    });
    clash.collect()
}

/// The variables that Kafka's properties are read from.
fn secret_variables(tree: &Node) -> impl Iterator<Item = (String, &Node)> {
    let sections =
        [&["kafka", "properties"][..], &["kafka", "consumer", "properties"], &["kafka", "producer", "properties"]];
    sections.into_iter().flat_map(|path| {
        let map = tree.at(path).and_then(Node::as_map);
        let variable = move |entry: &'_ Entry| format!("{}.{}", path.join("."), entry.key);
        map.into_iter().flat_map(Map::iter).filter_map(move |entry| Some((variable(entry), entry.value.get("env")?)))
    })
}
