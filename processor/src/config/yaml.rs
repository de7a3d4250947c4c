//! YAML (and JSON, which is read as YAML) to a tree with positions.
//!
//! Takes the parser's events and builds the tree itself, so that every node keeps its bytes. Promises to report all
//! duplicate keys at once, and a bound on depth and size (aliases count as what they stand for). Reads scalars as YAML
//! 1.2 does: `no` and `off` are texts. Merge keys (`<<: *name`) work; refuses tags other than `!!str`, keys that are
//! not scalars, and a second document.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span, Tag};

use super::error::{Code, ConfigError, Place, Refused};
use super::redact;
use super::render::Snippet;
use super::source::Source;
use super::tree::{Class, Entry, Kind, Map, Node, Origin, Scalar};

/// Nobody nests deeper; everything that walks a tree relies on it.
pub const DEEPEST: usize = 64;
/// 500 transforms with every key are a quarter of it.
pub const MOST_NODES: usize = 100_000;

/// # Errors
/// The first error of syntax, or all duplicate keys.
pub fn parse(source: &Arc<Source>) -> Result<Node, Vec<ConfigError>> {
    let text = source.text.strip_prefix('\u{feff}').unwrap_or(&source.text);
    let shift = source.text.len() - text.len();
    let mut options = Options::default();
    options.set_emit_comments(false);
    options.flow_nesting_limit = DEEPEST;
    options.block_nesting_limit = DEEPEST;
    let mut builder = Builder { shift, ..Builder::new(source) };
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|why| vec![builder.syntax(&why)])?;
        builder.take(event, &span).map_err(|why| vec![*why])?;
    }
    if !builder.duplicates.is_empty() {
        return Err(builder.duplicates);
    }
    let whole = || Origin::File(Arc::clone(source), 0..0);
    Ok(builder.root.filter(|root| root.null().is_none()).unwrap_or_else(|| Node::map(whole())))
}

struct Builder<'s> {
    source: &'s Arc<Source>,
    /// Bytes before what the parser sees: a byte order mark.
    shift: usize,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    root: Option<Node>,
    /// Where the last event began: what a syntax error may be about starts there.
    last: usize,
    duplicates: Vec<ConfigError>,
}

/// A collection whose end has not come yet.
struct Open {
    start: usize,
    anchor: usize,
    nodes_before: usize,
    what: Collection,
}

enum Collection {
    List(Vec<Node>),
    Map { map: Map, key: Option<(String, Range<usize>)>, merged: Vec<Node> },
}

impl<'s> Builder<'s> {
    fn new(source: &'s Arc<Source>) -> Self {
        Self {
            source,
            shift: 0,
            open: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            root: None,
            last: 0,
            duplicates: Vec::new(),
        }
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Refused> {
        let bytes = span.byte_range().map_or(0..0, |range| range.start + self.shift..range.end + self.shift);
        self.last = bytes.start;
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = self.scalar(text, style, tag, &bytes)?;
                self.count(1, &bytes)?;
                let node = Node { kind: Kind::Scalar(scalar), origin: self.origin(bytes) };
                self.remember(anchor, &node, 1);
                self.add(node)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(bytes, anchor, tag.as_deref(), Collection::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                let what = Collection::Map { map: Map::default(), key: None, merged: Vec::new() };
                self.begin(bytes, anchor, tag.as_deref(), what)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id) else {
                    return Err(self.refuse(&bytes, "this alias stands inside of what it stands for"));
                };
                let (node, size) = (Node { origin: self.origin(bytes.clone()), ..node.clone() }, *size);
                self.count(size, &bytes)?;
                self.add(node)
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(self.refuse(&bytes, "a config file is one document, a second begins here"))
            }
            _ => Ok(()),
        }
    }

    fn begin(&mut self, at: Range<usize>, anchor: usize, tag: Option<&Tag>, what: Collection) -> Result<(), Refused> {
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
            return Err(self.refuse(&at, "tags have no meaning here"));
        }
        self.count(1, &at)?;
        if self.open.len() >= DEEPEST {
            return Err(self.refuse(&at, &format!("nested deeper than {DEEPEST} levels")));
        }
        self.open.push(Open { start: at.start, anchor, nodes_before: self.nodes - 1, what });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Refused> {
        let Some(Open { start, anchor, nodes_before, what }) = self.open.pop() else {
            return Ok(());
        };
        let kind = match what {
            Collection::List(items) => Kind::List(items),
            Collection::Map { mut map, merged, .. } => {
                merged.into_iter().for_each(|node| fill(&mut map, node));
                Kind::Map(map)
            }
        };
        let node = Node { kind, origin: self.origin(start..start + 1) };
        self.remember(anchor, &node, self.nodes - nodes_before);
        self.add(node)
    }

    /// Puts a finished node where it belongs.
    fn add(&mut self, node: Node) -> Result<(), Refused> {
        let keyless = |open: &Open| matches!(open.what, Collection::Map { key: None, .. });
        let name = if self.open.last().is_some_and(keyless) { Some(self.key(&node)?) } else { None };
        match self.open.last_mut().map(|open| &mut open.what) {
            None => self.root = Some(node),
            Some(Collection::List(items)) => items.push(node),
            Some(Collection::Map { map, key, merged }) => match key.take() {
                None => *key = name,
                Some((name, _)) if name == "<<" && mergeable(&node) => merged.push(node),
                Some((name, at)) => {
                    let key_origin = Origin::File(Arc::clone(self.source), at);
                    if let Err(entry) = map.insert(Entry { key: name, key_origin, value: node }) {
                        let first = map.get(&entry.key).map(|entry| Place::from(&entry.key_origin));
                        let message = format!("`{}` is given twice in one map", entry.key);
                        let error = ConfigError::new(Code::DuplicateKey, entry.key, &entry.key_origin, message);
                        let error = error.help("keep one of the two");
                        self.duplicates.push(match first {
                            Some(first) => error.note("first given here", first),
                            None => error,
                        });
                    }
                }
            },
        }
        Ok(())
    }

    fn key(&self, node: &Node) -> Result<(String, Range<usize>), Refused> {
        let at = match &node.origin {
            Origin::File(_, at) => at.clone(),
            _ => 0..0,
        };
        match &node.kind {
            Kind::Scalar(scalar) => Ok((scalar.text.clone(), at)),
            _ => Err(self.refuse(&at, "a key must be a plain word")),
        }
    }

    fn scalar(
        &self,
        text: Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<Cow<'_, Tag>>,
        at: &Range<usize>,
    ) -> Result<Scalar, Refused> {
        match tag {
            Some(tag) if tag.is_yaml_core_schema_tag("str") => {
                Ok(Scalar { text: text.into_owned(), class: Class::Text })
            }
            Some(_) => Err(self.refuse(at, "tags have no meaning here")),
            // The parser writes `~` for what is not there.
            None if at.is_empty() && style == ScalarStyle::Plain => Ok(Scalar::plain(String::new())),
            None if style == ScalarStyle::Plain => Ok(Scalar::plain(text.into_owned())),
            None => Ok(Scalar { text: text.into_owned(), class: Class::Text }),
        }
    }

    fn remember(&mut self, anchor: usize, node: &Node, size: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
    }

    fn count(&mut self, nodes: usize, at: &Range<usize>) -> Result<(), Refused> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MOST_NODES {
            return Err(
                self.refuse(at, &format!("more than {MOST_NODES} values, aliases counted as what they stand for"))
            );
        }
        Ok(())
    }

    fn origin(&self, at: Range<usize>) -> Origin {
        Origin::File(Arc::clone(self.source), at)
    }

    fn syntax(&self, why: &ScanError) -> ConfigError {
        let at = why.marker().byte_offset().map_or(self.source.text.len(), |at| at + self.shift);
        let error = syntax(self.source, self.last, at, &why.kind().to_string());
        if self.source.text[self.source.line(at)].contains('\t') {
            return error.help("YAML is indented with blanks, not with tabs");
        }
        error.help("check indentation, quotes and brackets above this place")
    }

    fn refuse(&self, at: &Range<usize>, why: &str) -> Refused {
        Box::new(syntax(self.source, self.last, at.start, why))
    }
}

/// An error in a text that has no tree, so that it cannot be known what in it is secret. Its line is shown only where
/// nothing from `since` (where understanding ended) to its end looks like a secret.
pub fn syntax(source: &Source, since: usize, at: usize, why: &str) -> ConfigError {
    let line = source.line(at);
    let from = source.line(since.min(at)).start;
    let at = at.min(source.text.len());
    let snippet = if redact::suspicious(&source.text[from..line.end]) {
        Snippet::of(source, at..at + 1)
    } else {
        Snippet::plain(source, at)
    };
    let place = Place::File { path: source.path.clone(), at: Some(snippet) };
    ConfigError::new(Code::Syntax, "", place, format!("cannot be read: {why}"))
}

fn mergeable(node: &Node) -> bool {
    match &node.kind {
        Kind::Map(_) => true,
        Kind::List(items) => items.iter().all(|item| item.as_map().is_some()),
        Kind::Scalar(_) => false,
    }
}

/// `<<`: what the map does not say itself is taken from another, or from several, the first of them first.
fn fill(map: &mut Map, node: Node) {
    match node.kind {
        Kind::Map(other) => other.iter().for_each(|entry| {
            // A key that is there already stays.
            let _ = map.insert(entry.clone());
        }),
        Kind::List(items) => items.into_iter().for_each(|item| fill(map, item)),
        Kind::Scalar(_) => {}
    }
}
