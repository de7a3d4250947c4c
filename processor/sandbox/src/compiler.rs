//! Owns the compiling of modules in a separate process. In a compiler a file of a few hundred bytes can expand to any
//! amount of work and memory, and its bytes do not show it; so the compiler gets limits from the operating system, and
//! takes nothing from this process. Promises that the program ends, whatever the module, and that what it is given is
//! what comes back compiled: over a pipe that nobody else holds.
//!
//! The program reads an order (three u64: the ceiling of linear memories, its own memory in bytes, its CPU seconds) and the
//! module from stdin to the end, and answers on stdout: a zero and machine code, or a one and what is wrong.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

use crate::engine::{Ceiling, settings};
use crate::module::LoadError;

const COMPILED: u8 = 0;
const REFUSED: u8 = 1;
/// A machine may be so many times slower than its CPU time says before a compiler is taken to be stuck.
const PATIENCE: u64 = 20;
/// Stacks of threads count against the memory, and a large machine would start very many.
const THREADS_MAX: usize = 8;

/// Where modules are compiled: a program that calls [`work`] and does nothing else, and what it may take for one module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompilerProcess {
    /// The program.
    pub program: PathBuf,
    /// What tells it that this is asked of it.
    pub arguments: Vec<OsString>,
    /// Of memory, in bytes.
    pub memory: u64,
    /// Of CPU time, all its threads together; whole seconds.
    pub time: Duration,
}

impl CompilerProcess {
    /// Machine code of `module`, as wasmtime serialises it.
    pub(crate) fn compile(&self, ceiling: Ceiling, module: &[u8]) -> Result<Vec<u8>, LoadError> {
        let order = [ceiling.memory, self.memory, self.time.as_secs().max(1)];
        let (status, mut answer) = self.run(&order, module).map_err(LoadError::CompilerProcess)?;
        match answer.first() {
            Some(&COMPILED) if status.success() => {
                answer.remove(0);
                Ok(answer)
            }
            Some(&REFUSED) if status.success() => {
                Err(LoadError::Compile(String::from_utf8_lossy(&answer[1..]).into_owned().into()))
            }
            _ => Err(LoadError::TooComplex { memory: self.memory >> 20, seconds: order[2], status }),
        }
    }

    fn run(&self, order: &[u64; 3], module: &[u8]) -> io::Result<(ExitStatus, Vec<u8>)> {
        let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(THREADS_MAX));
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // It reads to the end before it answers. Where it dies of what it reads, its status tells.
            let _ = stdin.write_all(&order.map(u64::to_le_bytes).concat()).and_then(|()| stdin.write_all(module));
        }
        let mut answer = Vec::new();
        let read = match child.stdout.take() {
            Some(stdout) => stdout.take(self.memory).read_to_end(&mut answer),
            None => Ok(0),
        };
        // Without a reader it cannot go on, so this ends.
        let status = child.wait()?;
        read.map(|_| (status, answer))
    }
}

/// The other side: compiles one module from stdin to stdout, within the limits that it is told, and returns whether that
/// went as it should. To be called by a fresh process with nothing else to do.
pub fn work() -> bool {
    carry_out(&mut io::stdin().lock(), &mut io::stdout().lock()).is_ok()
}

fn carry_out(input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let mut order = [[0; 8]; 3];
    input.read_exact(order.as_flattened_mut())?;
    let [ceiling, memory, seconds] = order.map(u64::from_le_bytes);
    confine(memory, seconds)?;
    let mut module = Vec::new();
    input.read_to_end(&mut module)?;
    let config = settings(Ceiling { memory: ceiling, instances: 1 }).map_err(io::Error::other)?;
    let compiled = wasmtime::Engine::new(&config).and_then(|engine| engine.precompile_component(&module));
    match compiled {
        Ok(code) => output.write_all(&[COMPILED]).and_then(|()| output.write_all(&code)),
        Err(error) => write!(output, "{}{error:#}", char::from(REFUSED)),
    }?;
    output.flush()
}

/// Gives this process its limits, for good.
fn confine(memory: u64, seconds: u64) -> io::Result<()> {
    let limit = |resource, most: u64| {
        let most = getrlimit(resource).maximum.map_or(most, |already| already.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    limit(Resource::Data, memory)?;
    limit(Resource::Cpu, seconds)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // Where the memory of a container is short, it is this process that goes, and not the one that has records.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    // Threads that wait for each other use no CPU time.
    let stuck = Duration::from_secs(seconds.saturating_mul(PATIENCE));
    std::thread::Builder::new().spawn(move || {
        std::thread::sleep(stuck);
        std::process::abort();
    })?;
    Ok(())
}
