//! Owns a prepared module: linked against exactly what it may access, with its settings, limits and number. Promises
//! that a prepared generation could be instantiated and configured at least once. Refuses imports without a grant,
//! another ABI version, limits above the ceiling, and settings that the guest itself refuses.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Weak};

use wasmtime::component::{InstancePre, Linker};

use crate::digest::Digest;
use crate::fault::Fault;
use crate::frame::Rules;
use crate::grants::{self, Grants, Refusal};
use crate::host::Host;
use crate::instance::Instance;
use crate::limits::Limits;
use crate::logs::{LogCounts, Logs};
use crate::module::{Module, World};
use crate::{logs, packed, text, wasi};

/// What a transform is, beside its module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Its name, for logs.
    pub transform: String,
    /// Passed to `configure`, in this order.
    pub settings: Vec<(String, String)>,
    /// Names of settings whose values are secrets: where `configure` fails they are left out of what the guest says of it.
    pub secrets: Vec<String>,
    /// Topics that it reads; `Record::topic` is an index into them.
    pub inputs: Vec<String>,
    /// Topics that it may write, the default one first; `OutputRecord::topic` is an index into them.
    pub outputs: Vec<String>,
    /// What it may take.
    pub limits: Limits,
    /// What it may reach.
    pub grants: Grants,
    /// Whether guest text may appear in our log (I10).
    pub observe_guest_text: bool,
}

impl Spec {
    /// How a guest may quote the values of its secret settings.
    pub(crate) fn quotes(&self) -> Vec<String> {
        let secret = self.settings.iter().filter(|(name, _)| self.secrets.contains(name));
        text::quotes(secret.map(|(_, value)| value.as_str()))
    }
}

/// A module with its settings, linked and tried once. A clone is the same one.
#[derive(Clone)]
pub struct Generation(Arc<Inner>);

/// Says whether anybody still has a generation, without keeping it.
#[derive(Clone)]
pub struct GenerationWatch(Weak<Inner>);

struct Inner {
    number: u64,
    module: Module,
    spec: Spec,
    pre: InstancePre<Host>,
    logs: Arc<Logs>,
    /// `spec.inputs`, for whom must share them.
    topics: Arc<[String]>,
}

/// A generation could not be prepared. The one that runs is untouched.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The module imports something that the transform is not granted.
    #[error("the module imports {}: {}", .0.import, .0.advice)]
    Import(Refusal),
    /// `grants.directories` names something that cannot be granted.
    #[error("cannot grant the directory {} as {guest}", host.display())]
    Directory {
        /// The path in the guest.
        guest: String,
        /// The path here.
        host: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A limit that the process does not have.
    #[error("limits.memory is {asked} bytes, but the ceiling of this process is {ceiling}")]
    Memory {
        /// `limits.memory`.
        asked: u64,
        /// `Ceiling::memory`.
        ceiling: u64,
    },
    /// A transform must have somewhere to write to.
    #[error("the transform has no output topic")]
    NoOutput,
    /// Its exports or imports have other types than the contract's.
    #[error("the module does not fit pelton:transform@0.1.0")]
    Link(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It was built for other frames than ours.
    #[error(
        "the module speaks version {found} of the packed ABI, this Pelton speaks {}; rebuild it with the current SDK",
        packed::ABI_VERSION
    )]
    Abi {
        /// What `abi-version` returned.
        found: u32,
    },
    /// It failed while it was instantiated or configured, or refused its settings (`FaultCode::Configure`). What the
    /// guest says is shown, without the secrets among its settings: it has not seen any record yet, and the operator waits for
    /// the reason.
    #[error("the module cannot be configured ({}): {}", .0.code, .0.detail)]
    Configure(Fault),
}

impl Generation {
    /// Links `module` and configures one instance of it as a check; takes up to `limits.configure_deadline`. `number`
    /// only grows, by the caller's care.
    pub fn prepare(module: &Module, spec: Spec, number: u64) -> Result<Self, PrepareError> {
        check(module, &spec)?;
        let engine = module.engine().wasmtime();
        let link = || {
            let mut linker = Linker::<Host>::new(engine);
            wasi::link(&mut linker)?;
            linker.allow_shadowing(true);
            wasi::deny(&mut linker, module.component(), &spec.grants)?;
            linker.allow_shadowing(false);
            logs::link(&mut linker)?;
            packed::link(&mut linker)?;
            linker.instantiate_pre(module.component())
        };
        let pre = link().map_err(|error| PrepareError::Link(error.into()))?;
        let logs = Logs::new(&spec.transform, number, spec.observe_guest_text, spec.limits.log_bytes_per_second);
        let topics = spec.inputs.clone().into();
        let (module, logs) = (module.clone(), Arc::new(logs));
        let generation = Self(Arc::new(Inner { number, module, spec, pre, logs, topics }));
        Instance::check(&generation)?;
        Ok(generation)
    }

    /// Whether this is a clone of it.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// To see when its last holder and its last instance are gone.
    pub fn watch(&self) -> GenerationWatch {
        GenerationWatch(Arc::downgrade(&self.0))
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.0.number
    }

    /// The digest of its module.
    pub fn digest(&self) -> Digest {
        self.0.module.digest()
    }

    /// The world of its module.
    pub fn world(&self) -> World {
        self.0.module.world()
    }

    /// What it was prepared with.
    pub fn spec(&self) -> &Spec {
        &self.0.spec
    }

    /// Lines that its guests wrote, all instances together.
    pub fn log_counts(&self) -> LogCounts {
        self.0.logs.counts()
    }

    /// Its module.
    pub fn module(&self) -> &Module {
        &self.0.module
    }

    pub(crate) fn pre(&self) -> &InstancePre<Host> {
        &self.0.pre
    }

    pub(crate) fn logs(&self) -> &Arc<Logs> {
        &self.0.logs
    }

    pub(crate) fn topics(&self) -> &Arc<[String]> {
        &self.0.topics
    }

    /// Whether what its guests see of time and chance changes from record to record.
    pub(crate) fn follows_the_record(&self) -> bool {
        self.0.spec.grants.follow_the_record(self.0.module.imports())
    }

    /// Whether the same record has the same outcome on every machine, at any time, as far as what the guest can see goes:
    /// state that it keeps between records, deadlines and the depth of the native stack are not looked at.
    pub fn is_deterministic(&self) -> bool {
        self.0.spec.grants.are_deterministic(self.0.module.imports())
    }

    pub(crate) fn rules(&self) -> Rules {
        let Spec { outputs, limits, .. } = &self.0.spec;
        Rules {
            topics: u32::try_from(outputs.len()).unwrap_or(u32::MAX),
            outputs: limits.outputs,
            output_bytes: limits.output_bytes,
        }
    }
}

impl GenerationWatch {
    /// Nobody has it any more, and no instance of it lives.
    pub fn is_gone(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl fmt::Debug for GenerationWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GenerationWatch(gone: {})", self.is_gone())
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { number, module, spec, .. } = &*self.0;
        f.debug_struct("Generation")
            .field("number", number)
            .field("transform", &spec.transform)
            .field("module", module)
            .finish()
    }
}

fn check(module: &Module, spec: &Spec) -> Result<(), PrepareError> {
    if let Some(refusal) = grants::refused(module.imports()) {
        return Err(PrepareError::Import(refusal));
    }
    if spec.outputs.is_empty() {
        return Err(PrepareError::NoOutput);
    }
    let ceiling = module.engine().ceiling().memory;
    if spec.limits.memory > ceiling {
        return Err(PrepareError::Memory { asked: spec.limits.memory, ceiling });
    }
    for (guest, host) in &spec.grants.directories {
        // opened, not looked at: it must be readable by us too
        std::fs::read_dir(host).map_err(|source| PrepareError::Directory {
            guest: guest.clone(),
            host: host.clone(),
            source,
        })?;
    }
    Ok(())
}
