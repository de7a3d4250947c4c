//! Checks a whole merged tree against the schema, and prepares it for conversion into the types.
//!
//! Owns the errors about single values: unknown and missing keys, kinds, words, formats, bounds. On the way it fills in
//! defaults, makes paths relative to the file that gave them, and keeps the text of scalars where any scalar will do
//! (`1.10` stays `1.10`). A tree that passes is accepted by serde; a property test checks that the two agree.
//! Nothing here stops at the first error.

use serde_json::Value;

use super::error::{Code, ConfigError, Place};
use super::formats;
use super::schema::Schema;
use super::suggest;
use super::tree::{Class, Entry, Kind, Map, Node, Null, Origin, Scalar, integer};

/// All that is wrong with `tree` by itself. Afterwards the tree holds every default.
pub fn check(tree: &mut Node) -> Vec<ConfigError> {
    let mut checker = Checker { errors: Vec::new() };
    let whole = tree.origin.clone();
    checker.node(tree, &|| Place::whole(&whole), Schema::root(), "");
    checker.errors
}

/// Where a map or a list is given its name. A place takes looking for, and is asked for only in an error.
type Named<'n> = &'n dyn Fn() -> Place;

/// Nobody reads more; a file of another kind, given by mistake, is an error in each line.
pub const MOST_ERRORS: usize = 200;

struct Checker {
    errors: Vec<ConfigError>,
}

impl Checker {
    /// What is missing in a map is shown where the map is `named`.
    fn node(&mut self, node: &mut Node, named: Named<'_>, schema: Schema<'_>, path: &str) {
        if self.errors.len() >= MOST_ERRORS {
            return;
        }
        let kinds = schema.kinds();
        if node.null() == Some(Null::Blank) && kinds.map {
            node.kind = Kind::Map(Map::default());
        }
        let fits = match &node.kind {
            Kind::Map(_) => kinds.map,
            Kind::List(_) => kinds.list,
            Kind::Scalar(scalar) => kinds.scalar(scalar.class),
        };
        if !fits {
            return self.wrong_kind(node, schema, path);
        }
        match &mut node.kind {
            Kind::Map(map) => {
                let of_maps = schema.alternatives().into_iter().find(|alternative| alternative.kinds().map);
                self.map(map, named, of_maps.unwrap_or(schema), path);
            }
            Kind::List(items) => self.list(items, &|| Place::from(&node.origin), schema, path),
            Kind::Scalar(scalar) => {
                if kinds.any_scalar() {
                    scalar.class = Class::Text;
                }
                self.scalar(node, schema, path);
            }
        }
    }

    // === Maps ===

    fn map(&mut self, map: &mut Map, named: Named<'_>, schema: Schema<'_>, path: &str) {
        for entry in map.iter_mut() {
            let path = join(path, &entry.key);
            if let Some(keys) = schema.keys() {
                self.text(&entry.key, &entry.key_origin, keys, &path);
            }
            match schema.property(&entry.key).or_else(|| schema.values()) {
                Some(to) => self.node(&mut entry.value, &|| Place::from(&entry.key_origin), to, &path),
                None if self.errors.len() >= MOST_ERRORS => {}
                None => self.unknown_key(entry, schema, &path),
            }
        }
        self.missing(map, named, schema, path);
        self.size(map.len(), named, schema, ("minProperties", "maxProperties"), path);
        fill(map, schema);
    }

    fn unknown_key(&mut self, entry: &Entry, schema: Schema<'_>, path: &str) {
        let key = &entry.key;
        let keys = || schema.properties().into_iter().flat_map(|keys| keys.keys().map(String::as_str));
        let error =
            ConfigError::new(Code::UnknownKey, path, &entry.key_origin, format!("there is no key `{key}` here"));
        let error = error.suggest(suggest::meant(key, keys()));
        let elsewhere = keys().find(|section| schema.property(section).is_some_and(|to| to.property(key).is_some()));
        self.errors.push(match elsewhere {
            Some(section) if error.suggestion.is_none() => error.help(format!("`{key}` belongs into `{section}`")),
            _ => error.help(format!("keys here: {}", keys().collect::<Vec<_>>().join(", "))),
        });
    }

    fn missing(&mut self, map: &Map, named: Named<'_>, schema: Schema<'_>, path: &str) {
        for key in schema.required().filter(|key| map.get(key).is_none()) {
            let Some(to) = schema.property(key) else { continue };
            let path = join(path, key);
            // What is missing in a missing section is more to the point than the section.
            if to.properties().is_some() && to.required().next().is_some() {
                self.missing(&Map::default(), named, to, &path);
                continue;
            }
            let message = format!("`{path}` is missing");
            let error = ConfigError::new(Code::Missing, &path, named(), message);
            let kind = to.describe();
            self.errors.push(error.help(match path.as_str() {
                "kafka.bootstrap_servers" => format!("set it to {kind}, here or by KAFKA_BOOTSTRAP_SERVERS"),
                "transforms" => "name at least one transform, with `module`, `input` and `output`".to_owned(),
                _ => format!("set it to {kind}"),
            }));
        }
    }

    // === Lists ===

    fn list(&mut self, items: &mut [Node], at: Named<'_>, schema: Schema<'_>, path: &str) {
        self.size(items.len(), at, schema, ("minItems", "maxItems"), path);
        if let Some(to) = schema.items() {
            for (index, item) in items.iter_mut().enumerate() {
                let at = item.origin.clone();
                self.node(item, &|| Place::from(&at), to, &format!("{path}[{index}]"));
            }
        }
        if schema.flag("uniqueItems") {
            for (index, item) in items.iter().enumerate() {
                let text = item.as_text();
                if let Some(first) = items[..index].iter().find(|other| text.is_some() && other.as_text() == text) {
                    let message = format!("`{}` is given twice", text.unwrap_or_default());
                    let error = ConfigError::new(Code::Conflict, format!("{path}[{index}]"), &item.origin, message);
                    self.errors.push(error.note("first given here", &first.origin).help("name it once"));
                }
            }
        }
    }

    fn size(&mut self, n: usize, at: Named<'_>, schema: Schema<'_>, bounds: (&str, &str), path: &str) {
        let n = n as i128;
        let least = schema.number(bounds.0).filter(|least| n < *least);
        let most = schema.number(bounds.1).filter(|most| n > *most);
        if least.is_none() && most.is_none() {
            return;
        }
        let what = if path.is_empty() { "this" } else { path };
        let (message, help) = match (least, n) {
            (Some(_), 0) => (format!("`{what}` is empty"), format!("give {}", schema.describe())),
            (Some(least), n) => (format!("`{what}` has {n}, at least {least} are needed"), "add to it".to_owned()),
            _ => (format!("`{what}` has {n}, one too many"), format!("expected {}", schema.describe())),
        };
        self.errors.push(ConfigError::new(Code::Range, path, at(), message).help(help));
    }

    // === Scalars ===

    fn scalar(&mut self, node: &mut Node, schema: Schema<'_>, path: &str) {
        let Kind::Scalar(Scalar { text, class }) = &node.kind else { return };
        let (text, class) = (text.clone(), *class);
        if schema.words().is_some() {
            return self.word(&text, class, &node.origin, schema, path);
        }
        let alternatives = schema.alternatives();
        let mut fitting = alternatives.iter().filter(|to| to.kinds().scalar(class));
        match (fitting.clone().count(), class) {
            (0, Class::Int) => self.number(&text, &node.origin, schema, path),
            (0, Class::Text) => self.text(&text, &node.origin, schema, path),
            (0, _) => {}
            // `auto` and `off` come before a path, a name before nothing: the words are looked at first.
            _ => {
                let word = fitting.clone().any(|to| is_word(&listed(to), &text, class));
                if word {
                    return;
                }
                match fitting.find(|to| to.words().is_none()) {
                    Some(to) => return self.scalar(node, *to, path),
                    None => self.word(&text, class, &node.origin, schema, path),
                }
            }
        }
        if schema.text("format") == Some("pelton-path")
            && let Kind::Scalar(scalar) = &mut node.kind
        {
            scalar.text = from_its_file(&scalar.text, &node.origin);
        }
    }

    fn word(&mut self, text: &str, class: Class, origin: &Origin, schema: Schema<'_>, path: &str) {
        let words: Vec<_> = schema.alternatives().iter().chain([&schema]).flat_map(listed).collect();
        if is_word(&words, text, class) {
            return;
        }
        let message = format!("`{path}` cannot be `{}`", shown(text));
        let error = ConfigError::new(Code::Value, path, origin, message);
        let meant = suggest::meant(text, words.iter().filter_map(|word| word.as_str()));
        self.errors.push(error.suggest(meant).help(format!("expected {}", schema.describe())));
    }

    fn number(&mut self, text: &str, origin: &Origin, schema: Schema<'_>, path: &str) {
        let Some(n) = integer(text) else { return };
        let (least, most) = (schema.number("minimum"), schema.number("maximum"));
        if least.is_some_and(|least| n < least) || most.is_some_and(|most| n > most) {
            let message = format!("`{path}` cannot be {n}");
            let help = between(least.map(|n| n.to_string()).as_deref(), most.map(|n| n.to_string()).as_deref());
            self.errors.push(ConfigError::new(Code::Range, path, origin, message).help(help));
        }
    }

    fn text(&mut self, text: &str, origin: &Origin, schema: Schema<'_>, path: &str) {
        let Some(format) = schema.text("format") else { return };
        if let Err(why) = formats::check(format, text) {
            let message = format!("`{}` is not {}: {why}", shown(text), formats::name(format));
            self.errors.push(ConfigError::new(Code::Value, path, origin, message));
            return;
        }
        let (least, most) = (schema.text("x-minimum"), schema.text("x-maximum"));
        if !formats::within(format, text, least, most) {
            let message = format!("`{path}` cannot be {text}");
            self.errors.push(ConfigError::new(Code::Range, path, origin, message).help(between(least, most)));
        }
    }

    fn wrong_kind(&mut self, node: &Node, schema: Schema<'_>, path: &str) {
        let kinds = schema.kinds();
        let found = match &node.kind {
            Kind::Map(_) => "a map",
            Kind::List(_) => "a list",
            Kind::Scalar(Scalar { class, .. }) => match class {
                Class::Null => "nothing",
                Class::Bool => "`true` or `false`",
                Class::Int | Class::Float => "a number",
                Class::Text => "a text",
            },
        };
        let what = if path.is_empty() { "the configuration" } else { path };
        let message = format!("`{what}` must be {}, not {found}", schema.describe());
        let error = ConfigError::new(Code::Type, path, &node.origin, message);
        let unit = |format| schema.text("format") == Some(format);
        self.errors.push(match &node.kind {
            Kind::Scalar(Scalar { class: Class::Int | Class::Float, text }) if unit("pelton-duration") => {
                error.help(format!("a duration needs a unit: `{text}ms` or `{text}s`"))
            }
            Kind::Scalar(Scalar { class: Class::Int | Class::Float, text }) if unit("pelton-size") => {
                error.help(format!("a size needs a unit: `{text}B`, `{text}KiB` or `{text}MiB`"))
            }
            Kind::Scalar(Scalar { class: Class::Int | Class::Float, text }) if unit("pelton-percent") => {
                error.help(format!("a share needs its sign: `{text}%`"))
            }
            Kind::Scalar(Scalar { class: Class::Bool | Class::Int | Class::Float, .. }) if kinds.text => {
                error.help("put it in quotes to make it a text")
            }
            Kind::Scalar(Scalar { class: Class::Text, text }) if kinds.integer && text.contains('_') => {
                error.help("write the number without `_`")
            }
            Kind::Scalar(_) if kinds.list => error.help("write a list, even of one: `[x]`"),
            Kind::Scalar(Scalar { class: Class::Null, .. }) => error.help("give it a value, or leave the key out"),
            _ => error,
        });
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A value in a message: not so long that it hides the message, and without control characters.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() && text.chars().count() > 60 { short + "…" } else { short }
}

fn between(least: Option<&str>, most: Option<&str>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("allowed: {least} to {most}"),
        (Some(least), None) => format!("allowed: {least} and more"),
        (None, Some(most)) => format!("allowed: up to {most}"),
        (None, None) => String::new(),
    }
}

fn listed(schema: &Schema<'_>) -> Vec<Value> {
    schema.words().unwrap_or_default().into_iter().cloned().collect()
}

fn is_word(words: &[Value], text: &str, class: Class) -> bool {
    let value = Scalar { text: text.to_owned(), class }.to_json();
    words.contains(&value)
}

/// A path in a file starts at the file; one from elsewhere at the working directory.
fn from_its_file(text: &str, origin: &Origin) -> String {
    match origin {
        Origin::File(source, _) => {
            source.directory().join(text.strip_prefix("./").unwrap_or(text)).to_string_lossy().into_owned()
        }
        _ => text.to_owned(),
    }
}

/// Adds the defaults of keys that are not there, and puts the keys into the order of the schema.
fn fill(map: &mut Map, schema: Schema<'_>) {
    let Some(properties) = schema.properties() else { return };
    for key in properties.keys() {
        let default = schema.property(key).and_then(|to| to.keyword("default")).filter(|value| !value.is_null());
        if let Some(value) = default {
            let origin = Origin::Default("");
            let entry = Entry { key: key.clone(), value: Node::from_json(value, &origin), key_origin: origin };
            // A key that is there stays as it is.
            let _ = map.insert(entry);
        }
    }
    map.sort_by_key(|entry| properties.keys().position(|key| *key == entry.key).unwrap_or(usize::MAX));
}
