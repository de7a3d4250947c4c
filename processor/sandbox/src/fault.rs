//! Owns the names of everything a guest can do wrong, and the classification of wasmtime's errors into them, in one
//! exhaustive place. Promises stable codes. Guest text (panic messages, errors) is in `detail` only, which nobody may
//! log (I10).

use std::fmt;

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::backtrace;
use crate::drive::Late;
use crate::text::{head, tail};

/// Why a record, or a module, failed. The codes are stable; operators match on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultCode {
    OutOfFuel,
    Deadline,
    OutOfMemory,
    Panic,
    Trap,
    StackOverflow,
    Contract,
    Exit,
    InputTooLarge,
    Configure,
    OutputTooLarge,
    OutputTooMany,
    OutputTopic,
    OutputHeader,
    NotGranted,
    /// No room for another instance: the one code that is not the guest's doing.
    Instances,
}

impl FaultCode {
    /// Every code, for documentation and metrics.
    pub const ALL: [Self; 16] = [
        Self::OutOfFuel,
        Self::Deadline,
        Self::OutOfMemory,
        Self::Panic,
        Self::Trap,
        Self::StackOverflow,
        Self::Contract,
        Self::Exit,
        Self::InputTooLarge,
        Self::Configure,
        Self::OutputTooLarge,
        Self::OutputTooMany,
        Self::OutputTopic,
        Self::OutputHeader,
        Self::NotGranted,
        Self::Instances,
    ];

    /// The one with this stable code.
    pub fn named(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == code)
    }

    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OutOfFuel => "guest.out_of_fuel",
            Self::Deadline => "guest.deadline",
            Self::OutOfMemory => "guest.out_of_memory",
            Self::Panic => "guest.panic",
            Self::Trap => "guest.trap",
            Self::StackOverflow => "guest.stack_overflow",
            Self::Contract => "guest.contract",
            Self::Exit => "guest.exit",
            Self::InputTooLarge => "guest.input_too_large",
            Self::Configure => "guest.configure",
            Self::OutputTooLarge => "output.too_large",
            Self::OutputTooMany => "output.too_many",
            Self::OutputTopic => "output.topic",
            Self::OutputHeader => "output.header",
            Self::NotGranted => "guest.not_granted",
            Self::Instances => "sandbox.instances",
        }
    }

    /// What happened, in one sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::OutOfFuel => "The transform executed more instructions on one record than its fuel allows.",
            Self::Deadline => "The transform worked on one record for longer than its deadline.",
            Self::OutOfMemory => "The transform asked for more memory than its limit and could not go on.",
            Self::Panic => "The transform panicked.",
            Self::Trap => {
                "The transform executed an instruction that WebAssembly forbids, such as a bad memory access."
            }
            Self::StackOverflow => "The transform overflowed its stack.",
            Self::Contract => "The transform broke the contract with Pelton.",
            Self::Exit => "The transform ended its process.",
            Self::InputTooLarge => "The record is too large for the transform's memory limit.",
            Self::Configure => "The transform refused its settings.",
            Self::OutputTooLarge => "The transform made more output from one record than its limit allows.",
            Self::OutputTooMany => "The transform made more output records from one record than its limit allows.",
            Self::OutputTopic => "The transform wrote to a topic that is not among its output topics.",
            Self::OutputHeader => "The transform wrote a header whose name is reserved for dead letters.",
            Self::NotGranted => "The transform called a function of the system that it is not granted.",
            Self::Instances => "There is no room for another instance in this process.",
        }
    }

    /// What the reader can do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::OutOfFuel => "Raise limits.fuel, or look for a loop that this record does not end.",
            Self::Deadline => "Raise limits.deadline, or look for what makes this record slow.",
            Self::OutOfMemory => "Raise limits.memory, or look for state that grows.",
            Self::Panic | Self::Trap => {
                "Run the record through the transform's own tests; the dead letter has it unchanged."
            }
            Self::StackOverflow => "Look for recursion that follows the input, such as deeply nested JSON.",
            Self::Contract => {
                "Rebuild the transform with the current SDK; a module that uses none must follow packed-frames.md."
            }
            Self::Exit => "A transform must return an outcome instead of exiting.",
            Self::InputTooLarge => "Raise limits.memory: a record may take an eighth of it.",
            Self::Configure => "Correct the transform's settings.",
            Self::OutputTooLarge => "Raise limits.output_bytes, or emit less.",
            Self::OutputTooMany => "Raise limits.outputs, or emit fewer.",
            Self::OutputTopic => "Add the topic to output.also, or correct the name in the transform.",
            Self::OutputHeader => {
                "Choose header names that begin neither with `__dlq.errors.` nor with `pelton.error.`."
            }
            Self::NotGranted => "Grant it (the detail names the grant), or build the transform without it.",
            Self::Instances => "Run fewer transforms or workers in one process, or lower their parallelism.",
        }
    }
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One failure of a guest. `Display` shows the code and its sentence only: safe to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of failure.
    pub code: FaultCode,
    /// Particulars; may hold guest text (a panic message), so it goes to dead letters and never to logs (I10). At most 2 KiB
    /// where the sandbox made it.
    pub detail: String,
    /// Guest functions that were running, innermost first.
    pub backtrace: Option<String>,
}

impl Fault {
    /// Keeps of the detail what it may be long: most are ours, but some say what the guest says, at any length.
    pub(crate) fn new(code: FaultCode, detail: impl AsRef<str>) -> Self {
        Self { code, detail: head(detail.as_ref(), DETAIL_BYTES).to_owned(), backtrace: None }
    }

    /// Memory that it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.detail.len() + self.backtrace.as_ref().map_or(0, String::len)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.code.sentence())
    }
}

impl std::error::Error for Fault {}

/// What is known about the store when a call failed.
pub(crate) struct Evidence<'a> {
    /// The limiter refused memory during this call.
    pub(crate) memory_refused: bool,
    /// What the guest wrote to stderr during this call.
    pub(crate) stderr: &'a Stderr,
}

/// What is kept of a guest's stderr.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stderr {
    /// Its end.
    pub(crate) tail: String,
    /// A line of it told of a panic, or of an allocation that failed: how Rust's library says so.
    pub(crate) panicked: bool,
    pub(crate) out_of_memory: bool,
}

impl Stderr {
    /// Takes note of a line.
    pub(crate) fn note(&mut self, line: &str) {
        self.panicked |= line.contains("panicked at ");
        self.out_of_memory |= line.contains("memory allocation of ");
    }
}

/// Details of faults are cut to so many. A dead letter has room for half of it.
const DETAIL_BYTES: usize = 2048;

/// The fault that an error of wasmtime stands for.
pub(crate) fn classify(error: &wasmtime::Error, evidence: &Evidence<'_>) -> Fault {
    // raised by our own imports
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return fault.clone();
    }
    let mut fault = match (error.downcast_ref::<I32Exit>(), error.downcast_ref::<Trap>()) {
        (Some(exit), _) => Fault::new(FaultCode::Exit, format!("exit code {}", exit.0)),
        (None, Some(trap)) => of_trap(*trap, evidence),
        (None, None) => of_host_error(error, evidence),
    };
    if let Some(trace) = error.downcast_ref::<WasmBacktrace>() {
        if is_stack_overflow(error, trace) {
            fault = Fault::new(FaultCode::StackOverflow, "the stack in linear memory is used up");
        }
        fault.backtrace = Some(backtrace::render(trace));
    }
    fault
}

fn of_trap(trap: Trap, evidence: &Evidence<'_>) -> Fault {
    let Stderr { tail: text, panicked, out_of_memory } = evidence.stderr;
    let text = tail(text.trim_end(), DETAIL_BYTES);
    match trap {
        Trap::OutOfFuel => Fault::new(FaultCode::OutOfFuel, trap.to_string()),
        Trap::StackOverflow => Fault::new(FaultCode::StackOverflow, trap.to_string()),
        // `unreachable` is how guests abort: after a panic, or when an allocation failed. Rust says which on stderr; a
        // guest that says nothing is judged by whether memory was refused.
        Trap::UnreachableCodeReached if *out_of_memory => Fault::new(FaultCode::OutOfMemory, text),
        Trap::UnreachableCodeReached if *panicked => Fault::new(FaultCode::Panic, text),
        Trap::UnreachableCodeReached if evidence.memory_refused => Fault::new(FaultCode::OutOfMemory, text),
        _ if text.is_empty() => Fault::new(FaultCode::Trap, trap.to_string()),
        _ => Fault::new(FaultCode::Trap, format!("{trap}; {text}")),
    }
}

/// Errors of wasmtime that are not traps: refused instantiations, values that cannot be lifted, WASI's own.
fn of_host_error(error: &wasmtime::Error, evidence: &Evidence<'_>) -> Fault {
    // not the whole chain: it would hold the backtrace, whose names are the guest's and of any length
    let text = error.root_cause().to_string();
    if error.is::<wasmtime::PoolConcurrencyLimitError>() {
        Fault::new(FaultCode::Instances, text)
    } else if evidence.memory_refused {
        Fault::new(FaultCode::OutOfMemory, text)
    } else {
        Fault::new(FaultCode::Contract, text)
    }
}

/// Compilers keep arrays and whatever has an address on a stack of their own, at the start of linear memory and growing down;
/// when it is used up the guest reaches below zero. What tells that from a wild pointer: the calls that led there repeat a
/// few functions, and the address is just below zero, where it is known (instructions that fill or copy only say that
/// theirs is bad).
fn is_stack_overflow(error: &wasmtime::Error, trace: &WasmBacktrace) -> bool {
    const BELOW_ZERO: u64 = 16 << 20;
    let Some(Trap::MemoryOutOfBounds) = error.downcast_ref::<Trap>() else { return false };
    // wasmtime says it only so; where it should say it otherwise, this is a plain trap
    let place = error.chain().skip(1).find_map(|cause| {
        let text = cause.to_string();
        let digits = text.strip_prefix("memory fault at wasm address 0x")?.split(' ').next()?;
        u64::from_str_radix(digits, 16).ok()
    });
    let below = place.is_none_or(|place| ((1 << 32) - BELOW_ZERO..=u64::from(u32::MAX)).contains(&place));
    below && backtrace::repeats(trace)
}

impl From<Late> for Fault {
    fn from(late: Late) -> Self {
        match late {
            Late::Time { spent } => {
                Self::new(FaultCode::Deadline, format!("stopped after {:.1} ms", spent.as_secs_f64() * 1e3))
            }
            Late::Fuel => Self::new(FaultCode::OutOfFuel, "stopped at a yield"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: &str) -> Stderr {
        let mut stderr = Stderr { tail: lines.into(), ..Stderr::default() };
        lines.lines().for_each(|line| stderr.note(line));
        stderr
    }

    #[test]
    fn codes_are_unique_and_explained() {
        let mut codes: Vec<_> = FaultCode::ALL.iter().map(|code| code.as_str()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), FaultCode::ALL.len());
        for code in FaultCode::ALL {
            assert!(code.sentence().ends_with('.') && code.advice().ends_with('.'), "{code}");
        }
    }

    #[test]
    fn out_of_memory_is_told_from_a_panic() {
        let unreachable = || wasmtime::Error::from(Trap::UnreachableCodeReached);
        let code =
            |memory_refused, lines| classify(&unreachable(), &Evidence { memory_refused, stderr: &said(lines) }).code;
        assert_eq!(code(true, "memory allocation of 99 bytes failed\n"), FaultCode::OutOfMemory);
        assert_eq!(code(true, ""), FaultCode::OutOfMemory);
        assert_eq!(code(true, "thread 'main' panicked at src/lib.rs:1:1:\nno\n"), FaultCode::Panic);
        assert_eq!(code(false, "thread 'main' panicked at src/lib.rs:1:1:\nno\n"), FaultCode::Panic);
        assert_eq!(code(false, ""), FaultCode::Trap);
    }

    #[test]
    fn faults_of_our_own_imports_pass_through_context() {
        let fault = Fault::new(FaultCode::OutputTooLarge, "x");
        let error = wasmtime::Error::from(fault.clone()).context("while calling packed-sink");
        assert_eq!(classify(&error, &Evidence { memory_refused: false, stderr: &said("") }), fault);
    }

    #[test]
    fn a_detail_is_cut_between_characters_where_the_fault_is_made() {
        let long = "é".repeat(DETAIL_BYTES);
        assert_eq!(Fault::new(FaultCode::OutputTopic, &long).detail.len(), DETAIL_BYTES);
        let odd = Fault::new(FaultCode::OutputTopic, format!("x{long}"));
        assert_eq!(odd.detail.len(), DETAIL_BYTES - 1);
        assert!((DETAIL_BYTES..DETAIL_BYTES + 200).contains(&odd.bytes()), "{}", odd.bytes());
        assert_eq!(Fault::new(FaultCode::OutputTopic, "other").detail, "other");
    }

    #[test]
    fn what_a_fault_displays_holds_no_guest_text() {
        assert!(!Fault::new(FaultCode::Panic, "card 4111").to_string().contains("4111"));
    }
}
