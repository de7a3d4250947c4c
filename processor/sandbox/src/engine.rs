//! Owns the one wasmtime engine of the process: its settings, each with the reason, and its pool. Promises a machine in
//! which a guest can be stopped (fuel with async yields, no epochs), in which memory never moves, and which has neither
//! threads nor shared memory nor 64-bit memories; `window` relies on the latter.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::{
    Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy, WasmBacktraceDetails,
};

use crate::cache::Cache;
use crate::compiler::CompilerProcess;
use crate::module::{Demand, LoadError, Module};

/// How the process' engine is made.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Where compiled modules are kept; nowhere by default. Must be ours and writable by nobody else.
    pub cache_dir: Option<PathBuf>,
    /// The most that the cache may hold, in bytes; what was not used for longest goes first.
    pub cache_bytes: u64,
    /// What all transforms together can get.
    pub ceiling: Ceiling,
    /// Where modules are compiled; in this process by default, which a hostile module can then make as large as it likes.
    pub compiler: Option<CompilerProcess>,
    /// The runtime whose timers and blocking threads WASI uses; it must have its time driver enabled, and run on
    /// threads of its own.
    pub runtime: tokio::runtime::Handle,
}

/// Upper limits of the process. The pool reserves address space (not memory): two memories of 4 GiB for each instance, so
/// the default takes 8 of the 128 TiB that x86-64 has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ceiling {
    /// The most memory that any transform's `Limits::memory` can ask for, in bytes.
    pub memory: u64,
    /// Live instances: transforms times workers, and one more for each generation that is being prepared.
    pub instances: u32,
}

impl Default for Ceiling {
    fn default() -> Self {
        Self { memory: 256 << 20, instances: 1_024 }
    }
}

/// The engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused the settings, or the system the address space.
    #[error("the WebAssembly engine cannot be made with a ceiling of {} instances", ceiling.instances)]
    Wasmtime {
        /// What was asked for.
        ceiling: Ceiling,
        /// wasmtime's reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A wasmtime that accepts what the window's safety excludes.
    #[error("this build of wasmtime accepts shared or 64-bit memories; Pelton must not run on it")]
    Memories,
    /// A ceiling that a 32-bit memory cannot reach, or of nothing.
    #[error("the ceiling must be at least one instance of 64 KiB to 4 GiB, not {} of {} bytes", .0.instances, .0.memory)]
    Ceiling(Ceiling),
}

/// Compiles and holds everything. Once per process; a clone is the same engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    wasmtime: wasmtime::Engine,
    cache: Option<Cache>,
    ceiling: Ceiling,
    compiler: Option<CompilerProcess>,
    runtime: tokio::runtime::Handle,
    /// Modules whose compiled form was at hand, and those that were compiled.
    cached: AtomicU64,
    compiled: AtomicU64,
}

impl Engine {
    /// Makes the engine and reserves its pool. A cache directory that cannot be trusted is not used, with a warning.
    pub fn new(config: EngineConfig) -> Result<Self, EngineError> {
        let EngineConfig { cache_dir, cache_bytes, ceiling, compiler, runtime } = config;
        let wasmtime = wasmtime::Engine::new(&settings(ceiling)?)
            .map_err(|source| EngineError::Wasmtime { ceiling, source: source.into() })?;
        forbids_threads_and_wide_memories(&wasmtime)?;
        let cache = cache_dir.and_then(|dir| Cache::open(&dir, cache_bytes, &wasmtime));
        Ok(Self(Arc::new(Inner {
            wasmtime,
            cache,
            ceiling,
            compiler,
            runtime,
            cached: AtomicU64::new(0),
            compiled: AtomicU64::new(0),
        })))
    }

    /// Reads, checks and compiles a module; slow (0.1 to 10 s) unless cached, so not for a worker thread.
    pub fn load<'a>(&self, path: &Path, demand: impl Into<Demand<'a>>) -> Result<Module, LoadError> {
        Module::read(self, path, &demand.into())
    }

    /// The bytes of a module file, if it is not too large for one.
    pub fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
        Module::bytes(path)
    }

    /// As `load`, of bytes at hand.
    pub fn load_bytes<'a>(&self, bytes: &[u8], demand: impl Into<Demand<'a>>) -> Result<Module, LoadError> {
        Module::compile(self, bytes, &demand.into())
    }

    /// How many modules were taken from the cache, and how many were compiled, since the engine was made.
    pub fn loads(&self) -> (u64, u64) {
        (self.0.cached.load(Ordering::Relaxed), self.0.compiled.load(Ordering::Relaxed))
    }

    pub(crate) fn count_load(&self, cached: bool) {
        if cached { &self.0.cached } else { &self.0.compiled }.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.0.wasmtime
    }

    pub(crate) fn cache(&self) -> Option<&Cache> {
        self.0.cache.as_ref()
    }

    /// What all instances together may have.
    pub fn ceiling(&self) -> Ceiling {
        self.0.ceiling
    }

    pub(crate) fn compiler(&self) -> Option<&CompilerProcess> {
        self.0.compiler.as_ref()
    }

    pub(crate) fn runtime(&self) -> &tokio::runtime::Handle {
        &self.0.runtime
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("ceiling", &self.0.ceiling).field("cache", &self.0.cache).finish_non_exhaustive()
    }
}

pub(crate) fn settings(ceiling: Ceiling) -> Result<Config, EngineError> {
    if ceiling.instances == 0 || !(64 << 10..=4 << 30).contains(&ceiling.memory) {
        return Err(EngineError::Ceiling(ceiling));
    }
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        // fuel is checked at function entries; fewer functions, fewer checks. Matters for untuned guests.
        .compiler_inlining(wasmtime::Inlining::Yes)
        // one mechanism for fuel and time, WASI's waits included: async calls that yield on fuel (set on each store)
        .consume_fuel(true)
        .epoch_interruption(false)
        // component-model async costs 300 ns a call and 65 an import, and we have no use for it
        .concurrency_support(false)
        // the window's address is taken before a call
        .memory_may_move(false)
        .memory_init_cow(true)
        .wasm_memory64(false)
        .shared_memory(false)
        // the same bits on every machine, where a guest computes with floating point
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        // of a fiber's stack, which also holds the host functions that the guest calls
        .max_wasm_stack(512 << 10)
        .async_stack_size(2 << 20)
        // A backtrace's names are of the name section. Debug information is the guest's, of any size, and would be read
        // anew for each frame of each trap: 34 ms for 3 MB of it. Whatever the process' environment says.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(ceiling)));
    Ok(config)
}

/// Asks the engine itself, by two modules of a single memory: a shared one, and one of 64 bits.
fn forbids_threads_and_wide_memories(engine: &wasmtime::Engine) -> Result<(), EngineError> {
    const MAGIC: [u8; 8] = [0, b'a', b's', b'm', 1, 0, 0, 0];
    let shared = [&MAGIC[..], &[5, 4, 1, 0x03, 1, 1]].concat();
    let wide = [&MAGIC[..], &[5, 4, 1, 0x05, 1, 1]].concat();
    let plain = [&MAGIC[..], &[5, 4, 1, 0x01, 1, 1]].concat();
    let accepts = |module: &[u8]| wasmtime::Module::validate(engine, module).is_ok();
    if accepts(&plain) && !accepts(&shared) && !accepts(&wide) { Ok(()) } else { Err(EngineError::Memories) }
}

/// What a component may consist of.
const CORE_INSTANCES: u32 = 32;
/// Each reserves 4 GiB of addresses.
const MEMORIES: u32 = 2;
const TABLES: u32 = 16;

fn pool(ceiling: Ceiling) -> PoolingAllocationConfig {
    let instances = ceiling.instances;
    let mut pool = PoolingAllocationConfig::default();
    // What one component may have, all of them can: none can take its neighbours' share of the pool. A component of
    // wasm32-wasip2 is 3 to 5 core instances with one memory and up to three tables; one that goes through the preview1
    // adapter has a second memory.
    pool.total_component_instances(instances)
        .total_stacks(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
        .total_memories(instances.saturating_mul(MEMORIES))
        .total_tables(instances.saturating_mul(TABLES))
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memory_size(usize::try_from(ceiling.memory).unwrap_or(usize::MAX))
        .table_elements(20_000)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        // What stays resident of a slot that is not in use: makes a renewal 30 us instead of 70. Only slots that were
        // used and are warm hold it, and of those at most `max_unused_warm_slots`.
        .linear_memory_keep_resident(2 << 20)
        .table_keep_resident(64 << 10)
        .async_stack_keep_resident(64 << 10)
        .max_unused_warm_slots(32)
        .pagemap_scan(Enabled::Auto);
    pool
}
