//! The merged configuration as text that could be a config file, secrets hidden, and where each value came from.
//!
//! Promises that what it writes reads back as the same values, hidden ones aside. Owns the few rules
//! that writing YAML takes; a general writer could not add the comments.

use std::fmt::Write;

use serde_json::{Map as Object, Value};

use super::error::Place;
use super::load::Loaded;
use super::redact;
use super::schema::Schema;
use super::tree::{Class, Entry, Kind, Node, Origin, Scalar};
use super::types::HIDDEN;

impl Loaded {
    /// As YAML; with `origins`, each value is followed by a comment that says where it was written.
    pub fn to_yaml(&self, origins: bool) -> String {
        let mut text = String::new();
        let writer = Writer { origins };
        for entry in self.tree.as_map().into_iter().flat_map(|map| map.iter()) {
            writer.entry(&mut text, entry, Schema::root(), "", 0);
        }
        text
    }

    /// As JSON; with `origins`, in a map with `config` and `origins` (by path).
    pub fn to_json(&self, origins: bool) -> Value {
        let mut places = Object::new();
        let config = json(&self.tree, Some(Schema::root()), "", "", &mut places);
        if origins { serde_json::json!({"config": config, "origins": places}) } else { config }
    }
}

/// Where a value was written, as shown behind it.
fn place(origin: &Origin) -> String {
    match origin {
        Origin::Default("") => "default".to_owned(),
        Origin::Default(why) => format!("default, {why}"),
        other => Place::from(other).to_string(),
    }
}

fn json(node: &Node, schema: Option<Schema<'_>>, path: &str, key: &str, places: &mut Object<String, Value>) -> Value {
    match &node.kind {
        Kind::Map(map) => {
            let fields = map.iter().map(|entry| {
                let to = schema.and_then(|schema| schema.child(&entry.key));
                let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                if hidden(to, key, entry) {
                    places.insert(path, Value::String(place(&entry.value.origin)));
                    return (entry.key.clone(), Value::String(HIDDEN.to_owned()));
                }
                (entry.key.clone(), json(&entry.value, to, &path, &entry.key, places))
            });
            Value::Object(fields.collect())
        }
        _ => {
            places.insert(path.to_owned(), Value::String(place(&node.origin)));
            node.to_json()
        }
    }
}

/// A reference to a secret may be shown, its value may not.
fn hidden(schema: Option<Schema<'_>>, parent: &str, entry: &Entry) -> bool {
    let scalar = matches!(entry.value.kind, Kind::Scalar(_));
    scalar && !schema.is_some_and(|schema| redact::allowed(schema, parent, &entry.key))
}

struct Writer {
    origins: bool,
}

impl Writer {
    fn entry(&self, text: &mut String, entry: &Entry, schema: Schema<'_>, parent: &str, depth: usize) {
        let to = schema.child(&entry.key);
        let indent = "  ".repeat(depth);
        let key = scalar(&Scalar { text: entry.key.clone(), class: Class::Text });
        match &entry.value.kind {
            Kind::Map(map) if !map.is_empty() => {
                line(text, format_args!("{indent}{key}:"));
                for child in map.iter() {
                    self.entry(text, child, to.unwrap_or(schema), &entry.key, depth + 1);
                }
            }
            _ => {
                let value = if hidden(to, parent, entry) { format!("\"{HIDDEN}\"") } else { flow(&entry.value) };
                let comment = if self.origins { format!("  # {}", place(&entry.value.origin)) } else { String::new() };
                line(text, format_args!("{indent}{key}: {value}{comment}"));
            }
        }
    }
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(what);
    text.push('\n');
}

/// A value on one line.
fn flow(node: &Node) -> String {
    match &node.kind {
        Kind::Scalar(value) => scalar(value),
        Kind::List(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Kind::Map(map) => {
            let fields = map.iter().map(|entry| {
                let key = scalar(&Scalar { text: entry.key.clone(), class: Class::Text });
                format!("{key}: {}", flow(&entry.value))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Texts are quoted unless they are plain beyond doubt, for YAML 1.1 readers too (`off`, `no`).
fn scalar(value: &Scalar) -> String {
    let text = &value.text;
    let safe = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/+".contains(c))
        && !["y", "n", "yes", "no", "on", "off"].contains(&text.to_ascii_lowercase().as_str());
    let duration_like = text.starts_with(|c: char| c.is_ascii_digit())
        && text.ends_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric());
    let plain = Scalar::plain(text.clone()).class == value.class && (safe || duration_like);
    if value.class != Class::Text || plain { text.clone() } else { Value::String(text.clone()).to_string() }
}
