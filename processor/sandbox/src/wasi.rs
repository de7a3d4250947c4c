//! Owns the WASI subset that is linked at all: clocks, random, stdio, environment, exit, and a file system without
//! anything in it but the granted directories. Sockets and HTTP are not linked, so no setting can open them.
//!
//! Waiting (timers, file reads) goes through the async flavour, so that a deadline ends it. A read from a network mount
//! that hangs keeps its blocking thread busy even so; the record is given up in time.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiView as _};

use crate::grants::Grants;
use crate::host::Host;
use crate::logs::{GuestStream, Logs, Stdio};

/// One call may ask for so much randomness: it costs the guest hardly any fuel.
const RANDOM_BYTES: u64 = 4096;

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

/// The WASI context of one instance: exactly what is granted.
pub(crate) fn context(grants: &Grants, stdio: &Arc<Stdio>, logs: &Arc<Logs>) -> wasmtime::Result<WasiCtx> {
    let mut builder = WasiCtxBuilder::new();
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
