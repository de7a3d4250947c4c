//! Owns the WASI subset that is linked at all: clocks, random, stdio, environment, exit, and a file system without
//! anything in it but the granted directories. Sockets and HTTP are not linked, so no setting can open them.
//!
//! Waiting (timers, file reads) goes through the async flavour, so that a deadline ends it. A read from a network mount
//! that hangs keeps its blocking thread busy even so; the record is given up in time.

use std::sync::Arc;

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiView as _};

use crate::determinism::{CurrentRecord, Random, RecordClock};
use crate::fault::{Fault, FaultCode};
use crate::generation::Generation;
use crate::grants::{Clock, Grants, Randomness};
use crate::host::Host;
use crate::logs::{GuestStream, Stdio};

/// One call may ask for so much randomness: it is charged for afterwards.
const RANDOM_BYTES: u64 = 4096;
/// Where randomness is not random: what a guest seeds its hash tables with, say.
const SEED: u128 = 0x7065_6c74_6f6e_2073_6565_6420_3120_2020;

struct Io;

impl HasData for Io {
    type Data<'a> = &'a mut ResourceTable;
}

/// Adds the subset to a linker.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let l = linker;
    io::error::add_to_linker::<Host, Io>(l, |host| &mut host.table)?;
    io::poll::add_to_linker::<Host, Io>(l, |host| &mut host.table)?;
    io::streams::add_to_linker::<Host, Io>(l, |host| &mut host.table)?;
    clocks::wall_clock::add_to_linker::<Host, WasiClocks>(l, Host::clocks)?;
    clocks::monotonic_clock::add_to_linker::<Host, WasiClocks>(l, Host::clocks)?;
    random::random::add_to_linker::<Host, WasiRandom>(l, |host| host.ctx().ctx.random())?;
    random::insecure::add_to_linker::<Host, WasiRandom>(l, |host| host.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<Host, WasiRandom>(l, |host| host.ctx().ctx.random())?;
    filesystem::preopens::add_to_linker::<Host, WasiFilesystem>(l, Host::filesystem)?;
    filesystem::types::add_to_linker::<Host, WasiFilesystem>(l, Host::filesystem)?;
    cli::environment::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::exit::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::stdin::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::stdout::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::stderr::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::terminal_input::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::terminal_output::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::terminal_stdin::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::terminal_stdout::add_to_linker::<Host, WasiCli>(l, Host::cli)?;
    cli::terminal_stderr::add_to_linker::<Host, WasiCli>(l, Host::cli)
}

/// Replaces what `link` has put there for interfaces that `component` imports and that must not be asked: each of their
/// functions is a fault that names the grant. Not refused at once, because standard libraries import much that they never
/// call.
pub(crate) fn deny(linker: &mut Linker<Host>, component: &Component, grants: &Grants) -> wasmtime::Result<()> {
    let (engine, ty) = (component.engine(), component.component_type());
    for (prefix, grant) in grants.denied() {
        for (import, item) in ty.imports(engine).filter(|(import, _)| import.starts_with(prefix)) {
            let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
            for (function, item) in interface.exports(engine) {
                let ComponentItem::ComponentFunc(_) = item.ty else { continue };
                let what = format!("{import}#{function} is not granted: see {grant}");
                linker.instance(import)?.func_new(function, move |_, _, _, _| {
                    Err(Fault::new(FaultCode::NotGranted, what.as_str()).into())
                })?;
            }
        }
    }
    Ok(())
}

/// The WASI context of one instance: exactly what is granted.
pub(crate) fn context(
    generation: &Generation,
    stdio: &Arc<Stdio>,
    current: &Arc<CurrentRecord>,
) -> wasmtime::Result<WasiCtx> {
    let (grants, logs) = (&generation.spec().grants, generation.logs());
    let mut builder = WasiCtxBuilder::new();
    if grants.clock != Clock::Real {
        builder.wall_clock(RecordClock(Arc::clone(current))).monotonic_clock(RecordClock(Arc::clone(current)));
    }
    let random = |stream| match grants.random {
        Randomness::Real => Random::system(),
        Randomness::Seeded | Randomness::None => Random::of_record(current, generation.topics(), stream),
    };
    builder.secure_random(random(0)).insecure_random(random(1));
    if grants.random != Randomness::Real {
        builder.insecure_random_seed(SEED);
    }
    builder
        .stdout(GuestStream::stdout(stdio, logs))
        .stderr(GuestStream::stderr(stdio, logs))
        .max_random_size(RANDOM_BYTES)
        .envs(&grants.environment);
    for (guest, host) in &grants.directories {
        builder.preopened_dir(host, guest, FsPerms::ReadOnly)?;
    }
    Ok(builder.build())
}
