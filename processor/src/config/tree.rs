//! The configuration before it has types: scalars, lists and maps that know where they were written.
//!
//! Owns the layering, all of it in `merge`: maps are merged key by key, everything else (including lists) is replaced
//! by the later layer; a key without a value changes nothing, an explicit `null` removes what earlier layers set.
//! `Debug` leaves values out, because a tree holds secrets.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::Value;

use super::source::Source;

/// Where something was said.
#[derive(Clone, Debug)]
pub enum Origin {
    /// Nobody said it. The text adds why, where that is not plain; else it is empty.
    Default(&'static str),
    /// Bytes of a file.
    File(Arc<Source>, Range<usize>),
    /// An environment variable.
    Env(Arc<str>),
    /// The path of a `--set`.
    Set(Arc<str>),
}

#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub origin: Origin,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Map),
}

#[derive(Clone)]
pub struct Scalar {
    /// As written, after unquoting.
    pub text: String,
    pub class: Class,
}

/// What a scalar is by the look of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Null,
    Bool,
    Int,
    Float,
    Text,
}

/// Keys in the order of writing, each once.
#[derive(Clone, Debug, Default)]
pub struct Map(IndexMap<String, Entry>);

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: String,
    pub key_origin: Origin,
    pub value: Node,
}

/// Lays `over` upon `base`.
pub fn merge(base: &mut Node, over: Node) {
    match (&mut base.kind, over.kind) {
        (Kind::Map(map), Kind::Map(entries)) => entries.0.into_values().for_each(|entry| merge_entry(map, entry)),
        (_, kind) => *base = Node { kind: settle(kind), origin: over.origin },
    }
}

fn merge_entry(map: &mut Map, entry: Entry) {
    match (map.get_mut(&entry.key), entry.value.null()) {
        (Some(_), Some(Null::Blank)) => {}
        (_, Some(Null::Explicit)) => map.remove(&entry.key),
        (Some(old), None) => {
            old.key_origin = entry.key_origin;
            merge(&mut old.value, entry.value);
        }
        (None, _) => {
            let value = Node { kind: settle(entry.value.kind), ..entry.value };
            map.0.insert(entry.key.clone(), Entry { value, ..entry });
        }
    }
}

/// A map on its own is what it would be upon an empty one: without its explicit nulls.
fn settle(kind: Kind) -> Kind {
    match kind {
        Kind::Map(entries) => {
            let mut map = Map::default();
            entries.0.into_values().for_each(|entry| merge_entry(&mut map, entry));
            Kind::Map(map)
        }
        other => other,
    }
}

/// The two ways of writing nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Null {
    /// `key:` and no more.
    Blank,
    /// `key: null` or `key: ~`.
    Explicit,
}

impl Node {
    pub fn map(origin: Origin) -> Self {
        Self { kind: Kind::Map(Map::default()), origin }
    }

    pub fn text(text: impl Into<String>, origin: Origin) -> Self {
        Self { kind: Kind::Scalar(Scalar { text: text.into(), class: Class::Text }), origin }
    }

    pub fn null(&self) -> Option<Null> {
        match &self.kind {
            Kind::Scalar(Scalar { class: Class::Null, text }) if text.is_empty() => Some(Null::Blank),
            Kind::Scalar(Scalar { class: Class::Null, .. }) => Some(Null::Explicit),
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&Map> {
        match &self.kind {
            Kind::Map(map) => Some(map),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.kind {
            Kind::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Kind::Scalar(scalar) if scalar.class != Class::Null => Some(&scalar.text),
            _ => None,
        }
    }

    /// The node under a key of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key).map(|entry| &entry.value)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.kind {
            Kind::Map(map) => map.get_mut(key).map(|entry| &mut entry.value),
            _ => None,
        }
    }

    /// The node under keys of maps in maps.
    pub fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    pub fn from_json(value: &Value, origin: &Origin) -> Self {
        let scalar = |text: String, class| Kind::Scalar(Scalar { text, class });
        let kind = match value {
            Value::Null => scalar("null".to_owned(), Class::Null),
            Value::Bool(value) => scalar(value.to_string(), Class::Bool),
            Value::Number(number) if number.is_f64() => scalar(number.to_string(), Class::Float),
            Value::Number(number) => scalar(number.to_string(), Class::Int),
            Value::String(text) => scalar(text.clone(), Class::Text),
            Value::Array(items) => Kind::List(items.iter().map(|item| Self::from_json(item, origin)).collect()),
            Value::Object(entries) => Kind::Map(
                entries
                    .iter()
                    .map(|(key, value)| Entry {
                        key: key.clone(),
                        key_origin: origin.clone(),
                        value: Self::from_json(value, origin),
                    })
                    .collect(),
            ),
        };
        Self { kind, origin: origin.clone() }
    }

    pub fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(scalar) => scalar.to_json(),
            Kind::List(items) => items.iter().map(Self::to_json).collect(),
            Kind::Map(map) => map.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect(),
        }
    }
}

impl Scalar {
    /// Reads plain text as YAML 1.2's core schema does.
    pub fn plain(text: String) -> Self {
        let class = match text.as_str() {
            "" | "~" | "null" | "Null" | "NULL" => Class::Null,
            "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => Class::Bool,
            _ if integer(&text).is_some() => Class::Int,
            _ if float(&text).is_some() => Class::Float,
            _ => Class::Text,
        };
        Self { text, class }
    }

    pub fn to_json(&self) -> Value {
        match self.class {
            Class::Null => Value::Null,
            Class::Bool => Value::Bool(self.text.eq_ignore_ascii_case("true")),
            Class::Int => integer(&self.text).map_or(Value::Null, |n| {
                u64::try_from(n).map(Value::from).or_else(|_| i64::try_from(n).map(Value::from)).unwrap_or(Value::Null)
            }),
            Class::Float => float(&self.text).map_or(Value::Null, Value::from),
            Class::Text => Value::String(self.text.clone()),
        }
    }
}

/// `12`, `-3`, `0x1f`, `0o17`, within 64 bits.
pub fn integer(text: &str) -> Option<i128> {
    let digits = |text: &str, radix| {
        let plain = !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
        plain.then(|| i128::from_str_radix(text, radix).ok()).flatten()
    };
    let number = match text.as_bytes() {
        [b'0', b'x', ..] => digits(&text[2..], 16),
        [b'0', b'o', ..] => digits(&text[2..], 8),
        [b'-', ..] => digits(&text[1..], 10).map(|n| -n),
        [b'+', ..] => digits(&text[1..], 10),
        _ => digits(text, 10),
    };
    number.filter(|n| *n >= i128::from(i64::MIN) && *n <= i128::from(u64::MAX))
}

fn float(text: &str) -> Option<f64> {
    let begins = text.trim_start_matches(['-', '+']).trim_start_matches('.').starts_with(|c: char| c.is_ascii_digit());
    let shape = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E'));
    if begins && shape { text.parse().ok() } else { None }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(***)", self.class)
    }
}

impl Map {
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.values_mut()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.get(key)
    }

    pub fn get_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.0.get_mut(key)
    }

    /// Adds an entry whose key is not there yet; gives it back if it is.
    pub fn insert(&mut self, entry: Entry) -> Result<(), Box<Entry>> {
        if self.0.contains_key(&entry.key) {
            return Err(Box::new(entry));
        }
        self.0.insert(entry.key.clone(), entry);
        Ok(())
    }

    pub fn remove(&mut self, key: &str) {
        self.0.shift_remove(key);
    }

    pub fn sort_by_key<K: Ord>(&mut self, mut rank: impl FnMut(&Entry) -> K) {
        self.0.sort_by_key(|_, entry| rank(entry));
    }
}

impl FromIterator<Entry> for Map {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut map = Self::default();
        for entry in entries {
            map.remove(&entry.key);
            map.0.insert(entry.key.clone(), entry);
        }
        map
    }
}
