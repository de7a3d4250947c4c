//! From sources to a configuration: the order of the steps, and nothing else.
//!
//! read → merge → defaults that depend on others → check → types. Errors of one step do not hide those of the next,
//! as far as that makes sense: a file that cannot be parsed ends it, because its contents are missing everywhere.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{Code, ConfigError, ConfigErrors, Place};
use super::source::{Format, Source};
use super::tree::{Kind, Map, Node, Origin, merge};
use super::types::{Admin, Config, TRANSACTION_TIMEOUT_RANDOM};
use super::{check, checks, layers, redact, toml, yaml};

/// What a configuration is made from.
#[derive(Clone, Default)]
pub struct Sources {
    /// In order; later ones win.
    pub files: Vec<PathBuf>,
    /// The environment, as `std::env::vars_os` gives it.
    pub environment: Vec<(OsString, OsString)>,
    /// `path=value`, in order.
    pub set: Vec<String>,
    /// Whether what is referred to (modules, directories, secrets, the instance's name) must be there.
    pub outside: bool,
}

/// A configuration that was found right.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// The files it came from.
    pub files: Vec<PathBuf>,
    /// What these were like before they were read.
    pub read: Stamps,
    pub(super) tree: Node,
}

impl Loaded {
    /// An error about what is at `path`, as `transforms.redact.module`, with the place where that was written.
    pub fn error(&self, code: Code, path: &str, message: impl Into<String>) -> ConfigError {
        ConfigError::new(code, path, self.place(path), message)
    }

    /// Where the value at `path` was written; where nobody wrote it, the section it would be in.
    fn place(&self, path: &str) -> Place {
        let (mut node, mut rest, mut place) = (&self.tree, path, Place::whole(&self.tree.origin));
        // Keys have dots themselves: `kafka.properties.linger.ms`.
        while let Some(entry) = node.as_map().and_then(|map| map.iter().find(|entry| leads(&entry.key, rest))) {
            let origin = if entry.value.as_map().is_some() { &entry.key_origin } else { &entry.value.origin };
            if !matches!(origin, Origin::Default(_)) {
                place = Place::from(origin);
            }
            node = &entry.value;
            rest = rest[entry.key.len()..].trim_start_matches('.');
        }
        place
    }
}

fn leads(key: &str, path: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

impl Sources {
    /// These files under this process's own environment.
    pub fn new(files: Vec<PathBuf>, set: Vec<String>) -> Self {
        Self { files, environment: std::env::vars_os().collect(), set, outside: true }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.environment.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.to_str().map(str::to_owned))
    }
}

/// Without values: they may be secrets.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set: Vec<_> = self.set.iter().map(|set| set.split('=').next().unwrap_or_default()).collect();
        f.debug_struct("Sources").field("files", &self.files).field("set", &set).finish_non_exhaustive()
    }
}

/// Reads, merges and checks.
///
/// # Errors
/// Everything that is wrong, in the order of the files.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigErrors> {
    let read = Stamps::of(sources.files.iter().cloned());
    let mut errors = Vec::new();
    let (mut tree, readable) = merged(sources, &mut errors);
    if readable {
        errors.extend(check::check(&mut tree));
        depend(&mut tree);
        // A value that is wrong by itself is not in conflict with others besides.
        let mut conflicts = checks::inside(&tree);
        conflicts.retain(|conflict| errors.iter().all(|error| error.path != conflict.path));
        errors.extend(conflicts);
        if sources.outside {
            errors.extend(checks::outside(&tree, &|name| sources.variable(name)));
        }
    }
    if !errors.is_empty() {
        return Err(sorted(errors, sources));
    }
    match serde_json::from_value(tree.to_json()) {
        Ok(config) => Ok(Loaded { config, files: sources.files.clone(), read, tree }),
        // Schema and types say the same, a property test sees to it; still no reason to panic.
        Err(_) => Err(unfit()),
    }
}

/// Some files, and what each was like at one moment (`None`: it was not there). A file that is written, replaced by a rename or
/// by a symbolic link, or made readable, has another stamp afterwards.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// Device, inode, size and time of the last write; and who may read it. Not the time of the last change of any kind: a kubelet
/// may set the owner of mounted files again and again.
type Stamp = ((u64, u64, u64, i64, i64), (u32, u32, u32));

impl Stamps {
    /// What these are like now.
    pub fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self::default().and(files)
    }

    /// And what these are like now.
    pub fn and(mut self, files: impl IntoIterator<Item = PathBuf>) -> Self {
        let stamp = |file: &PathBuf| -> Option<Stamp> {
            let meta = fs::metadata(file).ok()?;
            let content = (meta.dev(), meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
            Some((content, (meta.mode(), meta.uid(), meta.gid())))
        };
        self.0.extend(files.into_iter().map(|file| {
            let stamp = stamp(&file);
            (file, stamp)
        }));
        self
    }

    /// What the same files are like now.
    pub fn anew(&self) -> Self {
        Self::of(self.0.iter().map(|(file, _)| file.clone()))
    }
}

/// `admin` alone, whatever the rest of the configuration says, and though there is none: for a probe, which must find a
/// process that goes on by what it had.
///
/// # Errors
/// Files that cannot be read, and what is wrong with `admin`.
pub fn load_admin(sources: &Sources) -> Result<Admin, ConfigErrors> {
    const KEY: &str = "admin";
    let mut errors = Vec::new();
    let (whole, readable) = merged(sources, &mut errors);
    let entry = whole.as_map().and_then(|map| map.get(KEY)).cloned();
    let mut alone = Node { kind: Kind::Map(Map::from_iter(entry)), origin: whole.origin };
    if readable {
        errors.extend(check::check(&mut alone));
        errors.retain(|error| leads(KEY, &error.path));
    }
    if !errors.is_empty() {
        return Err(sorted(errors, sources));
    }
    let admin = alone.get(KEY).map(|node| serde_json::from_value(node.to_json()));
    admin.unwrap_or_else(|| Ok(Admin::default())).map_err(|_| unfit())
}

fn unfit() -> ConfigErrors {
    ConfigError::new(Code::Type, "", Place::Nowhere, "the configuration does not fit its types")
        .help("this is a defect of Pelton: please report it with the configuration")
        .into()
}

/// All layers in one tree, and whether each file could be read: what is in one that cannot be would be missed everywhere.
fn merged(sources: &Sources, errors: &mut Vec<ConfigError>) -> (Node, bool) {
    let mut tree = Node::map(Origin::Default(""));
    for path in &sources.files {
        match read(path) {
            Ok(layer) => lay(&mut tree, layer),
            Err(why) => errors.extend(why),
        }
    }
    let readable = errors.is_empty();
    for layer in layers::environment(&sources.environment, &tree, errors) {
        lay(&mut tree, layer);
    }
    for layer in layers::set(&sources.set, errors) {
        lay(&mut tree, layer);
    }
    (tree, readable)
}

/// The root of the first layer is where errors about the whole point to.
fn lay(tree: &mut Node, layer: Node) {
    if matches!(tree.origin, Origin::Default(_)) {
        tree.origin = layer.origin.clone();
    }
    merge(tree, layer);
}

fn read(path: &Path) -> Result<Node, Vec<ConfigError>> {
    let refuse = |why: String| {
        let place = Place::File { path: path.to_owned(), at: None };
        ConfigError::new(Code::File, "", place, format!("`{}` {why}", path.display()))
    };
    let format = Format::of(path).ok_or_else(|| {
        vec![refuse("has no known extension".to_owned()).help("call it `.yaml`, `.yml`, `.toml` or `.json`")]
    })?;
    let source = Arc::new(Source::read(path).map_err(|why| vec![refuse(why)])?);
    let tree = match format {
        Format::Yaml => yaml::parse(&source)?,
        Format::Toml => toml::parse(&source).map_err(|error| vec![*error])?,
    };
    source.hide(redact::hidden(&source, &tree));
    if tree.as_map().is_none() {
        let message = format!("`{}` holds no map of sections", path.display());
        return Err(vec![
            ConfigError::new(Code::Type, "", &tree.origin, message).help("begin with `application: name`"),
        ]);
    }
    Ok(tree)
}

/// Defaults that hang on other values.
fn depend(tree: &mut Node) {
    let random = tree.get("instance").and_then(Node::as_text) == Some("random");
    let kafka = tree.get_mut("kafka");
    if let Some(timeout) = kafka.and_then(|kafka| kafka.get_mut("transaction_timeout"))
        && random
        && matches!(timeout.origin, Origin::Default(_))
    {
        let origin = Origin::Default("because `instance` is `random`");
        *timeout = Node::text(TRANSACTION_TIMEOUT_RANDOM.to_string(), origin);
    }
}

/// By place: files in their order, then variables, then arguments, then the rest; each error once.
fn sorted(mut errors: Vec<ConfigError>, sources: &Sources) -> ConfigErrors {
    errors.sort_by_key(|error| match &error.place {
        Place::File { path, at } => {
            let file = sources.files.iter().position(|file| file == path).unwrap_or(usize::MAX);
            (0, file, at.as_ref().map_or((0, 0), |at| (at.position.line, at.position.column)))
        }
        Place::Env(_) => (1, 0, (0, 0)),
        Place::Set(_) => (2, 0, (0, 0)),
        Place::Nowhere => (3, 0, (0, 0)),
    });
    errors.dedup();
    ConfigErrors(errors)
}
