//! Owns the inspection of a module's bytes without running them: what it imports, function by function, what it
//! exports, how large it is and what produced it. Read-only; whether a transform may have such a module is decided in
//! `module` and `grants`. The bytes may come from anybody: whatever is wrong in them is an error, never a panic (I11).

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{KnownCustom, Parser, Payload};

use crate::digest::Digest;
use crate::grants::{self, Grants, Refusal};
use crate::module::{LoadError, Module, World};

/// The custom section in which an SDK says which it is.
const SDK_SECTION: &str = "pelton-sdk";

/// What there is to say of a module.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Size of the file.
    pub bytes: usize,
    /// Which world it exports.
    pub world: World,
    /// `rust 0.1.0`; none for a module that was made without an SDK.
    pub sdk: Option<String>,
    /// Interfaces and the functions of them that it imports.
    pub imports: BTreeMap<String, Vec<String>>,
    /// Names that it exports.
    pub exports: Vec<String>,
    /// The import that no grant gives, if there is one.
    pub refusal: Option<Refusal>,
    /// Linear memory that an instance begins with, all memories together.
    pub initial_memory: u64,
    /// Bytes of code, of data, and of names and debug information.
    pub code_bytes: usize,
    /// As above.
    pub data_bytes: usize,
    /// As above.
    pub custom_bytes: usize,
    /// Tools that made it, by role: `language: Rust`, `processed-by: rustc 1.95`.
    pub producers: BTreeMap<String, BTreeSet<String>>,
}

impl Inspection {
    /// Looks at the bytes of a module that was loaded.
    pub fn of(bytes: &[u8], module: &Module) -> Result<Self, LoadError> {
        let mut found = Self {
            digest: module.digest(),
            bytes: bytes.len(),
            world: module.world(),
            sdk: None,
            imports: module.import_functions(),
            exports: module.exports(),
            refusal: grants::refused(module.imports()),
            initial_memory: 0,
            code_bytes: 0,
            data_bytes: 0,
            custom_bytes: 0,
            producers: BTreeMap::new(),
        };
        for payload in Parser::new(0).parse_all(bytes) {
            found.note(&payload.map_err(|error| LoadError::Compile(error.into()))?);
        }
        Ok(found)
    }

    fn note(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::MemorySection(memories) => {
                for memory in memories.clone().into_iter().flatten() {
                    self.initial_memory = self.initial_memory.saturating_add(memory.initial.saturating_mul(64 << 10));
                }
            }
            Payload::CodeSectionStart { size, .. } => self.code_bytes += *size as usize,
            Payload::DataSection(data) => self.data_bytes += data.range().len(),
            Payload::CustomSection(section) => {
                self.custom_bytes += section.data().len();
                if section.name() == SDK_SECTION {
                    self.sdk = std::str::from_utf8(section.data()).ok().map(|text| text.trim().to_owned());
                }
                if let KnownCustom::Producers(fields) = section.as_known() {
                    for field in fields.into_iter().flatten() {
                        let made = self.producers.entry(field.name.to_owned()).or_default();
                        made.extend(
                            field
                                .values
                                .into_iter()
                                .flatten()
                                .map(|v| format!("{} {}", v.name, v.version).trim().to_owned()),
                        );
                    }
                }
            }
            _ => {}
        }
    }

    /// Whether the same record has the same outcome at any time and place with these grants.
    pub fn is_deterministic(&self, grants: &Grants) -> bool {
        let imports: Vec<String> = self.imports.keys().cloned().collect();
        self.refusal.is_none() && grants.are_deterministic(&imports)
    }

    /// Whether it imports an interface that begins so.
    pub fn imports_any(&self, prefix: &str) -> bool {
        self.imports.keys().any(|import| import.starts_with(prefix))
    }
}
