//! Which values may be shown to an operator, and which never.
//!
//! Owns the decision for `config show` and for the source lines in errors: a value is shown if its place is ordinary,
//! or if it is a property or setting with a harmless name. Everything else is hidden, in particular values under
//! unknown keys: `pasword: x` must not be printed because it is misspelt.

use std::ops::Range;

use super::librdkafka;
use super::schema::Schema;
use super::source::Source;
use super::tree::{Kind, Node, Origin};

/// Whether the value of a property or a setting may be shown.
pub fn harmless(section: Section, name: &str) -> bool {
    match section {
        Section::Properties => librdkafka::side(name).is_some() && !suspicious(name),
        Section::Settings => !suspicious(name),
    }
}

/// The maps that hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    Properties,
    Settings,
}

/// Whether a text names something like a secret.
pub fn suspicious(text: &str) -> bool {
    const WORDS: [&str; 14] = [
        "pass",
        "pwd",
        "secret",
        "token",
        "credential",
        "jaas",
        "private",
        ".pem",
        "pem",
        "apikey",
        "salt",
        "hmac",
        "oauthbearer.config",
        "auth",
    ];
    let text = text.to_ascii_lowercase();
    if text.ends_with(".location") && !text.contains("pass") {
        return false;
    }
    let segments = || text.split(|c: char| !c.is_ascii_alphanumeric());
    WORDS.iter().any(|word| text.contains(word)) || segments().any(|segment| segment == "key")
}

/// The bytes of `source` that must not be shown, given what was read from it.
pub fn hidden(source: &Source, tree: &Node) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    visit(tree, Some(Schema::root()), "", true, &mut |node, shown| {
        if let (false, Origin::File(from, span)) = (shown, &node.origin)
            && std::ptr::eq(&raw const **from, source)
        {
            // A block ends where the next line begins.
            let text = &source.text[span.clone()];
            ranges.push(span.start..span.start + text.trim_end().len());
        }
    });
    ranges
}

/// Calls `see` with every scalar and whether it may be shown.
fn visit(node: &Node, schema: Option<Schema<'_>>, key: &str, shown: bool, see: &mut impl FnMut(&Node, bool)) {
    match &node.kind {
        Kind::Scalar(_) => see(node, shown),
        Kind::List(items) => {
            let to = schema.and_then(|schema| schema.items());
            items.iter().for_each(|item| visit(item, to, key, to.is_some() && shown, see));
        }
        Kind::Map(map) => {
            for entry in map.iter() {
                let to = schema.and_then(|schema| schema.child(&entry.key));
                let shown = to.is_some_and(|to| allowed(to, key, &entry.key));
                visit(&entry.value, to, &entry.key, shown, see);
            }
        }
    }
}

/// Whether the value under `key` of the map `parent` may be shown.
pub fn allowed(schema: Schema<'_>, parent: &str, key: &str) -> bool {
    if !schema.is_secret() {
        return true;
    }
    harmless(if parent == "settings" { Section::Settings } else { Section::Properties }, key)
}
