//! Owns a compiled module: its digest, which of the two worlds it exports, and what it imports. Refuses anything that is
//! not a component, exports neither world, or differs from its pin. Whether its imports are granted is asked when a
//! generation is prepared.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::cache;
use crate::digest::Digest;
use crate::engine::Engine;
use crate::signature::{SignatureError, Signed};

/// The largest module file that is read.
const MAX_BYTES: u64 = 256 << 20;

/// What a module must show before it is compiled. Nothing by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Demand<'a> {
    /// No other content.
    pub digest: Option<&'a Digest>,
    /// No other origin.
    pub signed: Option<Signed<'a>>,
}

impl<'a> From<Option<&'a Digest>> for Demand<'a> {
    fn from(digest: Option<&'a Digest>) -> Self {
        Self { digest, signed: None }
    }
}

/// How a module wants its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum World {
    /// `transform`: WIT records in and out.
    Typed,
    /// `transform-packed`: flat frames and a window.
    Packed,
}

/// A compiled module. A clone is the same one.
#[derive(Clone)]
pub struct Module(Arc<Inner>);

struct Inner {
    engine: Engine,
    component: Component,
    digest: Digest,
    world: World,
    imports: Vec<String>,
}

/// A module could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the module {}", path.display())]
    Read {
        /// As given.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not the module that was pinned.
    #[error("the module's SHA-256 is {found}, but {expected} is pinned")]
    Pin {
        /// From the config.
        expected: Digest,
        /// Of the bytes.
        found: Digest,
    },
    /// It is not signed as is demanded.
    #[error("the module is not signed as `sandbox.require` demands")]
    Signature(#[from] SignatureError),
    /// A file that is no WebAssembly at all, or a core module.
    #[error("{0}")]
    NotAComponent(&'static str),
    /// It does not validate or compile.
    #[error("the module does not compile")]
    Compile(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Compiling it took more than a module may take.
    #[error(
        "the module is too complex: it cannot be compiled within {memory} MiB of memory and {seconds} s of CPU time \
         (the compiler ended with {status})"
    )]
    TooComplex {
        /// `CompilerProcess::memory`, in MiB.
        memory: u64,
        /// `CompilerProcess::time`.
        seconds: u64,
        /// How the compiler's process ended.
        status: ExitStatus,
    },
    /// There is no compiler.
    #[error("the process that compiles modules cannot be started")]
    CompilerProcess(#[source] std::io::Error),
    /// It exports neither `process` nor `process-packed`.
    #[error(
        "the module exports neither world of pelton:transform: it needs `process` (world transform) or `process-packed` \
         (world transform-packed), and has {}",
        list(exports)
    )]
    World {
        /// What it exports instead.
        exports: Vec<String>,
    },
}

impl Module {
    pub(crate) fn read(engine: &Engine, path: &Path, demand: &Demand<'_>) -> Result<Self, LoadError> {
        Self::compile(engine, &Self::bytes(path)?, demand)
    }

    pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>, LoadError> {
        let read = || {
            let size = std::fs::metadata(path)?.len();
            if size > MAX_BYTES {
                return Err(std::io::Error::other(format!(
                    "{size} bytes are more than a module may have ({MAX_BYTES})"
                )));
            }
            std::fs::read(path)
        };
        read().map_err(|source| LoadError::Read { path: path.into(), source })
    }

    /// Looks at the very bytes that are compiled: a file could change in between.
    pub(crate) fn compile(engine: &Engine, bytes: &[u8], demand: &Demand<'_>) -> Result<Self, LoadError> {
        let digest = Digest::of(bytes);
        if let Some(&expected) = demand.digest.filter(|expected| **expected != digest) {
            return Err(LoadError::Pin { expected, found: digest });
        }
        if let Some(signed) = &demand.signed {
            let by = signed.check(bytes)?;
            tracing::info!(%digest, key = by.id(), "the module's signature is right");
        }
        check_magic(bytes)?;
        let cached = engine.cache().and_then(|cache| cache.get(engine.wasmtime(), &digest));
        let was_cached = cached.is_some();
        let component = match cached {
            Some(component) => component,
            None => {
                // `from_binary`: text is not a module, and wasmtime's `new` would accept it
                let component = match engine.compiler() {
                    Some(compiler) => cache::revive(engine.wasmtime(), &compiler.compile(engine.ceiling(), bytes)?),
                    None => Component::from_binary(engine.wasmtime(), bytes),
                };
                let component = component.map_err(|error| LoadError::Compile(error.into()))?;
                if let Some(cache) = engine.cache() {
                    cache.put(&digest, &component);
                }
                component
            }
        };
        engine.count_load(was_cached);
        let world = world(engine, &component)?;
        let imports = imports(engine, &component);
        Ok(Self(Arc::new(Inner { engine: engine.clone(), component, digest, world, imports })))
    }

    /// The SHA-256 of its bytes.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Which world it exports; packed where it exports both.
    pub fn world(&self) -> World {
        self.0.world
    }

    /// The interfaces that it imports, with their versions.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    /// The imported interfaces and their functions; a function that is imported by itself has none.
    pub(crate) fn import_functions(&self) -> BTreeMap<String, Vec<String>> {
        let engine = self.0.engine.wasmtime();
        let functions = |interface: &str| -> Vec<String> {
            let ty = self.0.component.component_type();
            match ty.get_import(engine, interface).map(|import| import.ty) {
                Some(ComponentItem::ComponentInstance(instance)) => instance
                    .exports(engine)
                    .filter(|(_, export)| matches!(export.ty, ComponentItem::ComponentFunc(_)))
                    .map(|(name, _)| name.to_owned())
                    .collect(),
                _ => Vec::new(),
            }
        };
        self.0.imports.iter().map(|import| (import.clone(), functions(import))).collect()
    }

    pub(crate) fn exports(&self) -> Vec<String> {
        let ty = self.0.component.component_type();
        ty.exports(self.0.engine.wasmtime()).map(|(name, _)| name.to_owned()).collect()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.0.engine
    }

    pub(crate) fn component(&self) -> &Component {
        &self.0.component
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { digest, world, imports, .. } = &*self.0;
        f.debug_struct("Module").field("digest", digest).field("world", world).field("imports", imports).finish()
    }
}

fn check_magic(bytes: &[u8]) -> Result<(), LoadError> {
    match bytes.first_chunk::<8>() {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(LoadError::NotAComponent(
            "this is a core module, not a component: build it for wasm32-wasip2, or wrap it with `wasm-tools component new`",
        )),
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        _ => Err(LoadError::NotAComponent("this is not a WebAssembly component")),
    }
}

fn world(engine: &Engine, component: &Component) -> Result<World, LoadError> {
    let ty = component.component_type();
    let exports: Vec<String> = ty.exports(engine.wasmtime()).map(|(name, _)| name.to_owned()).collect();
    let has = |name: &str| exports.iter().any(|export| export == name);
    match (has("process-packed"), has("process")) {
        (true, _) => Ok(World::Packed),
        (false, true) => Ok(World::Typed),
        (false, false) => Err(LoadError::World { exports }),
    }
}

/// Everything but plain types, which need nothing from us.
fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    let ty = component.component_type();
    let needs = |item: &ComponentItem| !matches!(item, ComponentItem::Type(_));
    ty.imports(engine.wasmtime()).filter(|(_, import)| needs(&import.ty)).map(|(name, _)| name.to_owned()).collect()
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "no exports".into() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_may_have_so_many_bytes_and_not_one_more() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(MAX_BYTES).unwrap();
        assert_eq!(Module::bytes(file.path()).unwrap().len() as u64, MAX_BYTES);
        file.as_file().set_len(MAX_BYTES + 1).unwrap();
        let refused = Module::bytes(file.path()).unwrap_err();
        assert!(matches!(refused, LoadError::Read { source, .. } if source.to_string().contains("more than")));
    }
}
