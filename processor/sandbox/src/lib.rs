//! Wasmtime narrowed to what Pelton needs: an [`Engine`] loads a [`Module`], a [`Generation`] is a module prepared for
//! one transform, an [`Instance`] runs records through it. The files, in the order in which data passes them:
//!
//! `engine`, `cache`, `compiler`, `module`, `digest`, `signature` load; `grants`, `wasi`, `determinism`, `logs`,
//! `limits`, `hostcalls` say what a guest may do; `generation`, `setup`, `host` prepare it; `instance` runs batches
//! through `packed` or `typed`, watched by `drive` and `window`; `frame` checks what comes back, `fault` names what
//! went wrong and `backtrace` where, `record` is what callers see, `kept` what they can keep of it. `inspect` examines
//! a module without running it.
//!
//! Promises: a guest accesses nothing that was not granted and takes no more than its limits (I8); every record gets
//! exactly one outcome (I1); no guest text is logged unless asked for (I10); nothing a guest does panics here (I11).

mod backtrace;
mod cache;
mod compiler;
mod deferred;
mod determinism;
mod digest;
mod drive;
mod engine;
mod fault;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod generation;
mod grants;
mod host;
mod hostcalls;
mod inspect;
mod instance;
mod limits;
mod logs;
mod module;
mod packed;
mod record;
mod setup;
mod signature;
mod text;
mod typed;
mod wasi;
mod window;

pub use cache::check_cache;
pub use compiler::{CompilerProcess, work};
pub use deferred::{Deferred, NoRoom};
pub use digest::{Digest, DigestError};
pub use engine::{Ceiling, Engine, EngineConfig, EngineError};
pub use fault::{Fault, FaultCode};
pub use generation::{Generation, GenerationWatch, PrepareError, Spec};
pub use grants::{Clock, Grants, Randomness, Refusal};
pub use inspect::Inspection;
pub use instance::{Instance, RunError};
pub use limits::Limits;
pub use logs::LogCounts;
pub use module::{Demand, LoadError, Module, World};
pub use record::{Header, OutputRecord, Outputs, Record, Settled};
pub use signature::{PrivateKey, PublicKey, Signature, SignatureError, Signed};
pub use text::harmless;

/// A generation is shared by the workers, an instance moves to the thread that runs it.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    const fn moved<T: Send>() {}
    shared::<Engine>();
    shared::<Module>();
    shared::<Generation>();
    moved::<Instance>();
};
