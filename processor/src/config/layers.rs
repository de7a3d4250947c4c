//! The layers that are not files: environment variables and `--set`.
//!
//! Owns how a flat name finds its place (`PELTON__KAFKA__PROPERTIES__LINGER_MS`, `transforms.redact.limits.fuel`) and
//! how a text becomes a value there: what the schema expects decides, so that `PELTON__APPLICATION=42` is a name and
//! `PELTON__WORKERS=4` a number. Lists are given with commas or as YAML, maps as YAML.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use super::error::{Code, ConfigError, Refused};
use super::schema::Schema;
use super::source::Source;
use super::suggest::folded;
use super::tree::{Class, Entry, Kind, Map, Node, Origin, Scalar};
use super::yaml;

const PREFIX: &str = "PELTON__";
const ALIASES: [(&str, &[&str]); 1] = [("KAFKA_BOOTSTRAP_SERVERS", &["kafka", "bootstrap_servers"])];

/// The layer of the environment. `below` is what the layers below say: a segment that names a key there, but for case
/// and punctuation, is that key, so that a transform `card-check` can be reached as `CARD_CHECK`.
pub fn environment(variables: &[(OsString, OsString)], below: &Node, errors: &mut Vec<ConfigError>) -> Vec<Node> {
    let mut found: Vec<(String, Vec<String>, &OsStr)> = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        if let Some((_, path)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
            found.push((name.to_owned(), path.iter().map(|key| (*key).to_owned()).collect(), value));
        } else if let Some(rest) = strip_prefix(name) {
            found.push((name.to_owned(), resolve(rest, below), value));
        }
    }
    // Aliases first, so that the full name wins over them; then by name, because an environment has no order.
    found.sort_by(|(a, ..), (b, ..)| (strip_prefix(a).is_some(), a).cmp(&(strip_prefix(b).is_some(), b)));
    let layer = |(name, path, value): (String, Vec<String>, &OsStr)| {
        let origin = Origin::Env(Arc::from(name.as_str()));
        let refuse = |why: &str, help: Option<&str>| {
            let error = ConfigError::new(Code::Syntax, path.join("."), &origin, format!("{name} {why}"));
            Refused::new(ConfigError { help: help.map(str::to_owned), ..error })
        };
        let Some(value) = value.to_str() else {
            return Err(refuse("is not valid UTF-8", None));
        };
        if path.iter().any(String::is_empty) {
            let help = "write `PELTON__SECTION__KEY`, such as PELTON__DELIVERY__COMMIT_INTERVAL";
            return Err(refuse("has an empty part between two `__`", Some(help)));
        }
        nested(&path, value, &origin).map_err(|why| refuse(&why, None))
    };
    found.into_iter().filter_map(|item| layer(item).map_err(|error| errors.push(*error)).ok()).collect()
}

fn strip_prefix(name: &str) -> Option<&str> {
    let head = name.get(..PREFIX.len())?;
    head.eq_ignore_ascii_case(PREFIX).then(|| &name[PREFIX.len()..])
}

/// `KAFKA__PROPERTIES__LINGER_MS` to `kafka`, `properties`, `linger.ms`.
fn resolve(name: &str, below: &Node) -> Vec<String> {
    let mut node = Some(below);
    let mut path: Vec<String> = Vec::new();
    for segment in name.split("__") {
        let existing = node.and_then(Node::as_map).and_then(|map| {
            map.iter().map(|entry| &entry.key).find(|key| punctuation_folded(key) == punctuation_folded(segment))
        });
        let properties = path.last().is_some_and(|parent| parent == "properties");
        let key = match existing {
            Some(key) => key.clone(),
            None if properties => segment.to_ascii_lowercase().replace('_', "."),
            None => segment.to_ascii_lowercase(),
        };
        node = node.and_then(|node| node.get(&key));
        path.push(key);
    }
    path
}

fn punctuation_folded(key: &str) -> String {
    folded(key).replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// The layers of `--set path=value`, in their order.
pub fn set(arguments: &[String], errors: &mut Vec<ConfigError>) -> Vec<Node> {
    let layer = |argument: &String| {
        let (path, value) = argument.split_once('=').unwrap_or((argument, ""));
        let path = path.trim();
        let origin = Origin::Set(Arc::from(path));
        let refuse =
            |why: &str| Refused::new(ConfigError::new(Code::Syntax, path, &origin, format!("`--set {path}` {why}")));
        if !argument.contains('=') {
            return Err(refuse("has no value: write `--set path=value`"));
        }
        let keys = split(path);
        if keys.iter().any(String::is_empty) {
            return Err(refuse("has an empty part between two dots"));
        }
        nested(&keys, value, &origin).map_err(|why| refuse(&why))
    };
    arguments.iter().filter_map(|argument| layer(argument).map_err(|error| errors.push(*error)).ok()).collect()
}

/// Parts a path at its dots. Below a map of plain values (properties, settings) the rest is one key: `linger.ms`.
fn split(path: &str) -> Vec<String> {
    let (mut schema, mut rest, mut keys) = (Some(Schema::root()), path, Vec::new());
    loop {
        let of_values = schema.and_then(|schema| schema.values()).is_some_and(|values| values.properties().is_none());
        match rest.split_once('.').filter(|_| !of_values) {
            Some((key, more)) => {
                schema = schema.and_then(|schema| schema.child(key));
                keys.push(key.to_owned());
                rest = more;
            }
            None => {
                keys.push(rest.to_owned());
                return keys;
            }
        }
    }
}

/// A tree that says one thing.
fn nested(path: &[String], value: &str, origin: &Origin) -> Result<Node, String> {
    let mut schema = Some(Schema::root());
    for (depth, key) in path.iter().enumerate() {
        if schema.is_some_and(|schema| schema.kinds().list) {
            let list = path[..depth].join(".");
            return Err(format!("reaches into the list `{list}`, which can only be given whole: `[a, b]`"));
        }
        schema = schema.and_then(|schema| schema.child(key));
    }
    let leaf = value_for(value, schema, origin)?;
    Ok(path.iter().rev().fold(leaf, |node, key| {
        let entry = Entry { key: key.clone(), key_origin: origin.clone(), value: node };
        Node { kind: Kind::Map(Map::from_iter([entry])), origin: origin.clone() }
    }))
}

/// What a text means where the schema has this place; without a place it is a text.
fn value_for(text: &str, schema: Option<Schema<'_>>, origin: &Origin) -> Result<Node, String> {
    let kinds = schema.map(|schema| schema.kinds()).unwrap_or_default();
    let bracketed = text.trim_start().starts_with(['{', '[']);
    if schema.is_some_and(|schema| schema.is_secret()) {
        // A password may begin with a brace: only a reference, whole and right, is read as one.
        let reference = read(text, origin).ok().filter(|_| bracketed).filter(|node| {
            let map = node.as_map();
            map.is_some_and(|map| map.len() == 1 && map.iter().all(|entry| matches!(&*entry.key, "env" | "file")))
        });
        return Ok(reference.unwrap_or_else(|| Node::text(text, origin.clone())));
    }
    if bracketed && (kinds.map || kinds.list) {
        return read(text, origin);
    }
    let plain = Scalar::plain(text.to_owned());
    if plain.class == Class::Null && !text.is_empty() {
        return Ok(Node { kind: Kind::Scalar(plain), origin: origin.clone() });
    }
    if kinds.list && !kinds.text {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Ok(Node {
            kind: Kind::List(items.map(|item| Node::text(item, origin.clone())).collect()),
            origin: origin.clone(),
        });
    }
    let as_text = schema.is_none() || plain.class == Class::Null || (kinds.text && !kinds.scalar(plain.class));
    Ok(if as_text {
        Node::text(text, origin.clone())
    } else {
        Node { kind: Kind::Scalar(plain), origin: origin.clone() }
    })
}

fn read(text: &str, origin: &Origin) -> Result<Node, String> {
    let source = Arc::new(Source::new("", text));
    let mut node = yaml::parse(&source).map_err(|errors| match errors.first().map(|error| &error.message) {
        Some(why) => format!("has a value that {why}"),
        None => "has a value that cannot be read".to_owned(),
    })?;
    relocate(&mut node, origin);
    Ok(node)
}

/// All of it comes from one argument.
fn relocate(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    match &mut node.kind {
        Kind::Scalar(_) => {}
        Kind::List(items) => items.iter_mut().for_each(|item| relocate(item, origin)),
        Kind::Map(map) => map.iter_mut().for_each(|entry| {
            entry.key_origin = origin.clone();
            relocate(&mut entry.value, origin);
        }),
    }
}
