//! What the configuration refers to and must exist: modules, directories, secrets, the name of this process.
//!
//! Reads the file system and the environment, never the network. Skipped by `validate --no-environment`, which checks a
//! configuration on a machine other than its target.

use std::path::Path;

use super::transforms;
use crate::config::error::{Code, ConfigError};
use crate::config::tree::{Entry, Map, Node};
use crate::config::types::{EnvironmentName, Instance};

/// `env` is the environment that references are looked up in.
pub fn outside(tree: &Node, env: &dyn Fn(&str) -> Option<String>) -> Vec<ConfigError> {
    let mut errors: Vec<_> = transforms(tree).flat_map(|(name, transform)| files(name, transform)).collect();
    errors.extend(identity(tree, env));
    let mut references = Vec::new();
    for path in
        [&["kafka", "properties"][..], &["kafka", "consumer", "properties"], &["kafka", "producer", "properties"]]
    {
        collect(&path.join("."), tree.at(path), &mut references);
    }
    for (name, transform) in transforms(tree) {
        collect(&format!("transforms.{name}.settings"), transform.get("settings"), &mut references);
    }
    errors.extend(references.iter().filter_map(|(path, entry)| reference(path, entry, env)));
    errors
}

fn files(name: &str, transform: &Node) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    if let Some((path, node)) = transform.get("module").and_then(|node| Some((node.as_text()?, node)))
        && let Err(why) = is_file(Path::new(path))
    {
        let error = ConfigError::new(
            Code::File,
            format!("transforms.{name}.module"),
            &node.origin,
            format!("the module `{path}` {why}"),
        );
        errors.push(error.help("build it, or correct the path, which starts at the file that names it"));
    }
    for entry in entries(transform.at(&["grants", "directories"])) {
        if let Some(path) = entry.value.as_text()
            && !Path::new(path).is_dir()
        {
            let key = format!("transforms.{name}.grants.directories.{}", entry.key);
            let message = format!("`{path}` is granted, but is not a directory");
            errors
                .push(ConfigError::new(Code::File, key, &entry.value.origin, message).help("make it, or take it out"));
        }
    }
    errors
}

/// A file that can be read. Opens no FIFO and no device, which could block.
fn is_file(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => Err("is not a file".to_owned()),
        Ok(_) => std::fs::File::open(path).map(drop).map_err(|why| format!("cannot be read: {why}")),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Err("does not exist".to_owned()),
        Err(why) => Err(format!("cannot be read: {why}")),
    }
}

fn identity(tree: &Node, env: &dyn Fn(&str) -> Option<String>) -> Option<ConfigError> {
    let node = tree.get("instance")?;
    let instance = match (node.as_text(), node.get("env").and_then(Node::as_text)) {
        (Some(text), _) => text.parse::<Instance>().ok()?,
        (None, Some(name)) => Instance::Env(name.parse::<EnvironmentName>().ok()?),
        (None, None) => return None,
    };
    let why = instance.identity_in(env).err()?;
    let error =
        ConfigError::new(Code::Environment, "instance", &node.origin, format!("no name for this process: {why}"));
    Some(error.help("set PELTON_INSTANCE or `instance`; where there is nothing stable, `instance: random`"))
}

fn entries(node: Option<&Node>) -> impl Iterator<Item = &Entry> {
    node.and_then(Node::as_map).into_iter().flat_map(Map::iter)
}

/// The entries of a map of secrets that refer to something.
fn collect<'t>(section: &str, node: Option<&'t Node>, into: &mut Vec<(String, &'t Entry)>) {
    let references = entries(node).filter(|entry| entry.value.as_map().is_some());
    into.extend(references.map(|entry| (format!("{section}.{}", entry.key), entry)));
}

fn reference(path: &str, entry: &Entry, env: &dyn Fn(&str) -> Option<String>) -> Option<ConfigError> {
    let of = |key: &str| entry.value.get(key).and_then(Node::as_text);
    let message = match (of("env"), of("file")) {
        (Some(name), None) if env(name).is_none() => format!("the environment variable {name} is not set"),
        (None, Some(file)) => format!("the file `{file}` {}", is_file(Path::new(file)).err()?),
        _ => return None,
    };
    let error = ConfigError::new(Code::Environment, path, &entry.value.origin, message);
    Some(error.help("provide it before the start; its content is never shown"))
}
