//! Owns the creation of an instance: a store with its limits, instantiation, `configure`, and what is required of the
//! guest afterwards. All of it under the configure deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::Store;
use wasmtime::component::{ComponentType, Instance, Lower, ResourceTable};

use crate::determinism::CurrentRecord;
use crate::drive::{Pace, drive};
use crate::fault::{Evidence, Fault, FaultCode, Stderr, classify};
use crate::frame;
use crate::generation::{Generation, PrepareError};
use crate::host::Host;
use crate::hostcalls::Toll;
use crate::instance::Live;
use crate::limits::Limiter;
use crate::logs::Stdio;
use crate::module::World;
use crate::packed::{ABI_VERSION, Sink};
use crate::text::{head, masked};
use crate::wasi;

/// What a guest may hand to one host call, in bytes that the host would allocate or look at: the largest window fits.
const HOSTCALL_BYTES: usize = 24 << 20;
/// Handles of WASI resources that one instance may hold. A stream of a granted file holds up to 64 KiB of the host's memory,
/// which is nobody's limit: 8 MiB for all of them.
const HANDLES: usize = 128;
/// How much of a refusal is looked at. More than is kept, so that a secret is found before it is cut in two.
const REFUSAL_BYTES: usize = 64 << 10;

#[derive(ComponentType, Lower)]
#[component(record)]
struct Topics<'a> {
    inputs: &'a [String],
    outputs: &'a [String],
}

type Settings<'a> = &'a [(String, String)];
type Verdict = (Result<(), String>,);

/// A new store, instantiated and configured.
pub(crate) fn renew(generation: &Generation, record_pace: Pace) -> Result<Live, PrepareError> {
    let runtime = generation.module().engine().runtime().clone();
    let _entered = runtime.enter();
    let mut store = store(generation, record_pace)?;
    let term = Term::of(generation);
    let instance = watch(&term, &mut store, async |store| generation.pre().instantiate_async(store).await)?;
    let export = match generation.world() {
        World::Packed => {
            configure_packed(&term, &mut store, &instance)?;
            "process-packed"
        }
        World::Typed => {
            configure_typed(&term, &mut store, &instance)?;
            "process"
        }
    };
    let process = instance.get_func(&mut store, export).ok_or_else(|| contract("an export has vanished"))?;
    let drain = instance.get_func(&mut store, "drain");
    if let Some(drain) = &drain {
        drain.typed::<(), ()>(&store).map_err(link)?;
    }
    Ok(Live { store, process, drain })
}

/// The last call of an instance, if it wants one.
pub(crate) fn drain(generation: &Generation, live: Live) -> Result<(), Fault> {
    let Live { mut store, drain: Some(drain), .. } = live else { return Ok(()) };
    let runtime = generation.module().engine().runtime().clone();
    let _entered = runtime.enter();
    let call = async |store: &mut Store<Host>| drain.typed::<(), ()>(&*store)?.call_async(store, ()).await;
    watch(&Term::of(generation), &mut store, call).map_err(|error| match error {
        PrepareError::Configure(fault) => fault,
        other => contract(&other.to_string()),
    })
}

fn store(generation: &Generation, pace: Pace) -> Result<Store<Host>, PrepareError> {
    let spec = generation.spec();
    let stdio = Arc::new(Stdio::default());
    let current = Arc::new(CurrentRecord::default());
    let wasi = wasi::context(generation, &stdio, &current).map_err(|error| PrepareError::Link(error.into()))?;
    let host = Host {
        limiter: Limiter::new(&spec.limits),
        sink: Sink::new(spec.limits.batch_output_bytes, spec.limits.output_bytes),
        logs: Arc::clone(generation.logs()),
        stdio,
        current: generation.follows_the_record().then_some(current),
        wasi,
        table: ResourceTable::with_capacity(0),
        entries: 0,
    };
    let mut store = Store::new(generation.module().engine().wasmtime(), host);
    store.limiter(|host| &mut host.limiter);
    store.set_hostcall_fuel(HOSTCALL_BYTES);
    store.set_max_component_handles(HANDLES);
    store.data_mut().table.set_max_capacity(HANDLES);
    store.call_hook_async(Toll { interval: pace.interval });
    store.fuel_async_yield_interval(Some(pace.interval)).map_err(|error| PrepareError::Link(error.into()))?;
    Ok(store)
}

fn configure_packed(term: &Term<'_>, store: &mut Store<Host>, instance: &Instance) -> Result<(), PrepareError> {
    let spec = term.generation.spec();
    let version = instance.get_typed_func::<(), (u32,)>(&mut *store, "abi-version").map_err(link)?;
    let (found,) = watch(term, store, async |store| version.call_async(store, ()).await)?;
    if found != ABI_VERSION {
        return Err(PrepareError::Abi { found });
    }
    type Params<'a> = (Settings<'a>, Topics<'a>);
    let func = instance.get_func(&mut *store, "configure").ok_or_else(|| contract("the module has no `configure`"))?;
    let typed = func.typed::<Params<'_>, Verdict>(&*store).map_err(link)?;
    let params = (&spec.settings[..], Topics { inputs: &spec.inputs, outputs: &spec.outputs });
    store.data_mut().sink.configuring = true;
    let verdict = watch(term, store, async |store| typed.call_async(store, params).await)?;
    store.data_mut().sink.configuring = false;
    accept(term.generation, verdict)?;
    match &store.data().sink.window {
        None => Err(contract("`configure` announced no window").into()),
        Some(window) if !window.is_live(store) => {
            Err(contract("the window's cell is a copy of the guest's memory, or the guest did not write the nonce")
                .into())
        }
        Some(_) => Ok(()),
    }
}

fn configure_typed(term: &Term<'_>, store: &mut Store<Host>, instance: &Instance) -> Result<(), PrepareError> {
    let func = instance.get_func(&mut *store, "configure").ok_or_else(|| contract("the module has no `configure`"))?;
    let typed = func.typed::<(Settings<'_>,), Verdict>(&*store).map_err(link)?;
    let settings = &term.generation.spec().settings[..];
    accept(term.generation, watch(term, store, async |store| typed.call_async(store, (settings,)).await)?)
}

fn accept(generation: &Generation, (verdict,): Verdict) -> Result<(), PrepareError> {
    verdict.map_err(|text| {
        let text = masked(head(&text, REFUSAL_BYTES), &generation.spec().quotes());
        Fault::new(FaultCode::Configure, frame::reason(text.as_bytes())).into()
    })
}

/// The deadline of `configure`, which all steps of the making share.
struct Term<'a> {
    generation: &'a Generation,
    begun: Instant,
}

impl<'a> Term<'a> {
    fn of(generation: &'a Generation) -> Self {
        Term { generation, begun: Instant::now() }
    }

    /// What the next step may take: what is left, by the clock on the wall. On a machine that ran somebody else meanwhile that is
    /// too little, so there is always a tenth of the whole.
    fn left(&self) -> Duration {
        let whole = self.generation.spec().limits.configure_deadline;
        whole.saturating_sub(self.begun.elapsed()).max(whole / 10)
    }
}

/// One step of the making, or the last call. Of its failure people are told, so secrets are left out.
fn watch<T>(
    term: &Term<'_>,
    store: &mut Store<Host>,
    step: impl AsyncFnOnce(&mut Store<Host>) -> wasmtime::Result<T>,
) -> Result<T, PrepareError> {
    let pace = Pace::unfuelled(term.left());
    store.data_mut().begin_call(&[]);
    store.set_fuel(pace.fuel(1)).map_err(link)?;
    let result = drive(step(store), || 0, 1, pace);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let mut stderr = store.data().stdio.stderr();
            stderr.tail = masked(&stderr.tail, &term.generation.spec().quotes());
            Err(judge(store, &error, &stderr).into())
        }
        Err(late) => Err(Fault::from(late).into()),
    }
}

/// What an error of a call says, with the evidence of its store.
pub(crate) fn diagnose(store: &Store<Host>, error: &wasmtime::Error) -> Fault {
    judge(store, error, &store.data().stdio.stderr())
}

fn judge(store: &Store<Host>, error: &wasmtime::Error, stderr: &Stderr) -> Fault {
    classify(error, &Evidence { memory_refused: store.data().limiter.refused(), stderr })
}

fn contract(why: &str) -> Fault {
    Fault::new(FaultCode::Contract, why)
}

fn link(error: wasmtime::Error) -> PrepareError {
    PrepareError::Link(error.into())
}

impl From<Fault> for PrepareError {
    fn from(fault: Fault) -> Self {
        Self::Configure(fault)
    }
}
