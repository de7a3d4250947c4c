//! The JSON schema of the configuration, generated from the types, and a cursor to walk it in parallel with a tree.
//!
//! Owns the subset of JSON Schema that is in use; a test refuses any keyword that is not known here. Beyond the standard
//! there are formats of our own (`pelton-duration`, …: what a text must parse as), `x-minimum` and `x-maximum` (bounds
//! of durations and sizes, written like them) and `x-secret`. Editors ignore those and still check the rest.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::tree::Class;
use super::types::Config;

/// The schema as a document.
pub fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
        let generator = SchemaSettings::draft2020_12().into_generator();
        generator.into_root_schema_for::<Config>().to_value()
    });
    &DOCUMENT
}

/// A place in the schema, references followed. Keywords beside a reference win over those behind it.
#[derive(Clone, Copy, Debug)]
pub struct Schema<'s> {
    document: &'s Value,
    here: &'s Value,
    behind: Option<&'s Value>,
    /// A secret that may be left out is what is behind, and as secret: its `anyOf` of that and of nothing is passed over.
    optional: bool,
}

/// What a value may be, by its look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds {
    pub map: bool,
    pub list: bool,
    pub text: bool,
    pub integer: bool,
    pub float: bool,
    pub boolean: bool,
}

impl Schema<'static> {
    pub fn root() -> Self {
        Self::at(document(), document())
    }
}

impl<'s> Schema<'s> {
    fn at(document: &'s Value, here: &'s Value) -> Self {
        let follow = |at: &Value| {
            let reference = at.get("$ref").and_then(Value::as_str).and_then(|path| path.strip_prefix('#'));
            reference.and_then(|path| document.pointer(path))
        };
        let is_secret = |of: &Value| of.get("x-secret").is_some();
        match of_optional(here).filter(|of| is_secret(follow(of).unwrap_or(of))) {
            Some(of) => Self { document, here, behind: Some(follow(of).unwrap_or(of)), optional: true },
            None => Self { document, here, behind: follow(here), optional: false },
        }
    }

    fn go(&self, to: &'s Value) -> Self {
        Self::at(self.document, to)
    }

    pub fn keyword(&self, name: &str) -> Option<&'s Value> {
        let here = self.here.get(name).filter(|_| !(self.optional && name == "anyOf"));
        here.or_else(|| self.behind?.get(name))
    }

    pub fn text(&self, keyword: &str) -> Option<&'s str> {
        self.keyword(keyword)?.as_str()
    }

    pub fn number(&self, keyword: &str) -> Option<i128> {
        let number = self.keyword(keyword)?;
        number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
    }

    pub fn flag(&self, keyword: &str) -> bool {
        self.keyword(keyword).and_then(Value::as_bool).unwrap_or(false)
    }

    /// The alternatives, except that of saying nothing.
    pub fn alternatives(&self) -> Vec<Self> {
        let list = self.keyword("anyOf").or_else(|| self.keyword("oneOf")).and_then(Value::as_array);
        let all = list.into_iter().flatten().map(|to| self.go(to));
        all.filter(|to| to.text("type") != Some("null")).collect()
    }

    /// The values that are allowed, where they are listed.
    pub fn words(&self) -> Option<Vec<&'s Value>> {
        if let Some(word) = self.keyword("const") {
            return Some(vec![word]);
        }
        if let Some(words) = self.keyword("enum").and_then(Value::as_array) {
            return Some(words.iter().collect());
        }
        let alternatives = self.alternatives();
        let words: Option<Vec<_>> = alternatives.iter().map(|to| to.keyword("const")).collect();
        words.filter(|words| !words.is_empty())
    }

    /// The fixed keys of a map.
    pub fn properties(&self) -> Option<&'s Map<String, Value>> {
        self.keyword("properties")?.as_object()
    }

    pub fn required(&self) -> impl Iterator<Item = &'s str> + use<'s> {
        self.keyword("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    pub fn property(&self, key: &str) -> Option<Self> {
        self.properties()?.get(key).map(|to| self.go(to))
    }

    /// What the values of a map with free keys are. A pattern for the keys is not looked at: `keys` says more.
    pub fn values(&self) -> Option<Self> {
        let any = self.keyword("additionalProperties").filter(|to| to.is_object());
        let patterns = || self.keyword("patternProperties").and_then(Value::as_object);
        any.or_else(|| patterns()?.values().next()).map(|to| self.go(to))
    }

    /// What the keys of a map with free keys are.
    pub fn keys(&self) -> Option<Self> {
        self.keyword("propertyNames").map(|to| self.go(to))
    }

    pub fn items(&self) -> Option<Self> {
        self.keyword("items").map(|to| self.go(to))
    }

    /// The place of a key in a map, whether fixed or free; alternatives are looked into.
    pub fn child(&self, key: &str) -> Option<Self> {
        self.property(key)
            .or_else(|| self.values())
            .or_else(|| self.alternatives().into_iter().find_map(|alternative| alternative.child(key)))
    }

    pub fn is_secret(&self) -> bool {
        self.flag("x-secret")
    }

    pub fn kinds(&self) -> Kinds {
        let mut kinds = Kinds::default();
        if let Some(words) = self.words() {
            words.into_iter().for_each(|word| kinds.add_word(word));
            return kinds;
        }
        match self.keyword("type") {
            Some(Value::String(name)) => kinds.add(name),
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).for_each(|name| kinds.add(name)),
            _ => self.alternatives().iter().for_each(|alternative| kinds = kinds.or(alternative.kinds())),
        }
        kinds
    }

    /// What is expected here, in words.
    pub fn describe(&self) -> String {
        if let Some(words) = self.words() {
            let mut words: Vec<_> = words.into_iter().filter(|word| word.is_string()).collect();
            let last = words.pop().map(quoted).unwrap_or_default();
            let first: Vec<_> = words.into_iter().map(quoted).collect();
            return if first.is_empty() { last } else { format!("{} or {last}", first.join(", ")) };
        }
        let alternatives = self.alternatives();
        if self.is_secret() {
            return "a scalar, `{ env: X }` or `{ file: path }`".to_owned();
        }
        if !alternatives.is_empty() {
            return alternatives.iter().map(Self::describe).collect::<Vec<_>>().join(" or ");
        }
        self.describe_kind()
    }

    fn describe_kind(&self) -> String {
        let text = match self.text("format") {
            Some("pelton-duration") => "a duration such as `5ms` or `10s`",
            Some("pelton-size") => "a size such as `16MiB`",
            Some("pelton-percent") => "a share such as `10%`",
            Some("pelton-topic") => "a topic's name",
            Some("pelton-path") => "a path",
            Some("pelton-address") => "an address such as `127.0.0.1:9640`",
            Some("pelton-servers") => "`host:port`, several with commas",
            Some("pelton-sha256") => "64 hexadecimal digits",
            Some("pelton-environment") => "the name of an environment variable",
            Some("pelton-application" | "pelton-instance" | "pelton-transform") => "a name",
            _ => match self.kinds() {
                Kinds { map: true, .. } => return self.describe_map(),
                Kinds { list: true, .. } => "a list",
                Kinds { text: true, .. } => "a text",
                Kinds { integer: true, .. } => "a whole number",
                Kinds { float: true, .. } => "a number",
                Kinds { boolean: true, .. } => "`true` or `false`",
                _ => "nothing",
            },
        };
        text.to_owned()
    }

    fn describe_map(&self) -> String {
        match self.properties() {
            Some(keys) if keys.len() <= 4 => {
                format!("a map with {}", keys.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))
            }
            _ => "a map".to_owned(),
        }
    }
}

/// The one alternative to null.
fn of_optional(schema: &Value) -> Option<&Value> {
    let is_null = |to: &&Value| to.get("type").and_then(Value::as_str) == Some("null");
    match schema.get("anyOf")?.as_array()?.as_slice() {
        [of, null] | [null, of] if is_null(&null) && !is_null(&of) => Some(of),
        _ => None,
    }
}

fn quoted(word: &Value) -> String {
    format!("`{}`", word.as_str().map_or_else(|| word.to_string(), str::to_owned))
}

impl Kinds {
    fn add(&mut self, name: &str) {
        match name {
            "object" => self.map = true,
            "array" => self.list = true,
            "string" => self.text = true,
            "integer" => self.integer = true,
            "number" => (self.integer, self.float) = (true, true),
            "boolean" => self.boolean = true,
            _ => {}
        }
    }

    fn add_word(&mut self, word: &Value) {
        match word {
            Value::Bool(_) => self.boolean = true,
            Value::Number(_) => self.integer = true,
            _ => self.text = true,
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            map: self.map || other.map,
            list: self.list || other.list,
            text: self.text || other.text,
            integer: self.integer || other.integer,
            float: self.float || other.float,
            boolean: self.boolean || other.boolean,
        }
    }

    pub fn scalar(self, class: Class) -> bool {
        match class {
            Class::Null => false,
            Class::Bool => self.boolean,
            Class::Int => self.integer,
            Class::Float => self.float,
            Class::Text => self.text,
        }
    }

    /// Any scalar will do: what counts is the text.
    pub fn any_scalar(self) -> bool {
        self.text && self.float && self.boolean
    }
}
