//! TOML to a tree with positions.
//!
//! The same promises as `yaml`: every node knows its bytes. Dates have no meaning in a configuration and are taken as
//! the text they are written in.

use std::ops::Range;
use std::sync::Arc;

use toml_edit::{Document, Item, Key, TableLike, Value};

use super::error::{Code, Refused};
use super::source::Source;
use super::tree::{Class, Entry, Kind, Map, Node, Origin, Scalar};
use super::yaml::{DEEPEST, syntax};

/// # Errors
/// The first error of syntax; a duplicate key is one.
pub fn parse(source: &Arc<Source>) -> Result<Node, Refused> {
    let text = source.text.as_str();
    let document = Document::parse(text).map_err(|why| {
        let at = why.span().map_or(0, |span| span.start);
        let message = why.message().trim().replace('\n', "; ");
        let mut error = Box::new(syntax(source, 0, at, &message));
        if message.contains("duplicate key") {
            error.code = Code::DuplicateKey;
        }
        error
    })?;
    let builder = Builder { source };
    builder.table(document.as_table(), 0..0, 0)
}

struct Builder<'s> {
    source: &'s Arc<Source>,
}

impl Builder<'_> {
    fn table(&self, table: &dyn TableLike, at: Range<usize>, depth: usize) -> Result<Node, Refused> {
        if depth > DEEPEST {
            return Err(self.too_deep(&at));
        }
        let entries = table.iter().map(|(key, item)| {
            let key_at = table.key(key).and_then(Key::span).unwrap_or_else(|| at.clone());
            let value = self.item(item, &key_at, depth + 1)?;
            Ok(Entry { key: key.to_owned(), key_origin: self.origin(key_at), value })
        });
        Ok(Node { kind: Kind::Map(entries.collect::<Result<Map, Refused>>()?), origin: self.origin(at) })
    }

    fn item(&self, item: &Item, at: &Range<usize>, depth: usize) -> Result<Node, Refused> {
        let at = item.span().unwrap_or_else(|| at.clone());
        match item {
            Item::None => Ok(Node { kind: Kind::Map(Map::default()), origin: self.origin(at) }),
            Item::Value(value) => self.value(value, at, depth),
            Item::Table(table) => self.table(table, at, depth),
            Item::ArrayOfTables(tables) => {
                let items =
                    tables.iter().map(|table| self.table(table, table.span().unwrap_or_else(|| at.clone()), depth + 1));
                Ok(Node { kind: Kind::List(items.collect::<Result<_, _>>()?), origin: self.origin(at.clone()) })
            }
        }
    }

    fn value(&self, value: &Value, at: Range<usize>, depth: usize) -> Result<Node, Refused> {
        let scalar = |text: String, class| Kind::Scalar(Scalar { text, class });
        let kind = match value {
            Value::String(text) => scalar(text.value().clone(), Class::Text),
            Value::Integer(number) => scalar(number.value().to_string(), Class::Int),
            Value::Float(_) => scalar(self.source.text[at.clone()].replace('_', ""), Class::Float),
            Value::Boolean(value) => scalar(value.value().to_string(), Class::Bool),
            Value::Datetime(date) => scalar(date.value().to_string(), Class::Text),
            Value::InlineTable(table) => return self.table(table, at, depth),
            Value::Array(items) => {
                if depth > DEEPEST {
                    return Err(self.too_deep(&at));
                }
                let items =
                    items.iter().map(|item| self.value(item, item.span().unwrap_or_else(|| at.clone()), depth + 1));
                Kind::List(items.collect::<Result<_, _>>()?)
            }
        };
        Ok(Node { kind, origin: self.origin(at) })
    }

    fn too_deep(&self, at: &Range<usize>) -> Refused {
        Box::new(syntax(self.source, 0, at.start, &format!("nested deeper than {DEEPEST} levels")))
    }

    fn origin(&self, at: Range<usize>) -> Origin {
        Origin::File(Arc::clone(self.source), at)
    }
}
