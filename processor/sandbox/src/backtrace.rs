//! Owns the rendering of a guest's backtrace. Its names are the guest's, so they may have any length, and a mangled one
//! may expand to any length: promises that neither costs more than what is kept. Rust names are demangled, C++ names
//! are not (demangling them has no bound).

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use wasmtime::WasmBacktrace;

const BYTES: usize = 4096;
const NAME_BYTES: usize = 512;

/// Functions, innermost first, one a line.
pub(crate) fn render(trace: &WasmBacktrace) -> String {
    let mut text = Bounded { text: String::new(), left: BYTES };
    for (number, frame) in trace.frames().iter().enumerate() {
        let module = &mut Bounded { text: String::new(), left: NAME_BYTES };
        let _ = module.write_str(frame.module().name().unwrap_or("<unknown>"));
        let function = name(frame.func_name(), frame.func_index());
        let offset = frame.module_offset().unwrap_or_default();
        if writeln!(text, "{number:>3}: {offset:#8x} - {}!{function}", module.text).is_err() {
            break;
        }
    }
    text.text.truncate(text.text.trim_end().len());
    text.text
}

fn name(raw: Option<&str>, index: u32) -> String {
    let mut name = Bounded { text: String::new(), left: NAME_BYTES };
    // an error is the end of the room
    let _ = match raw {
        None => write!(name, "<function {index}>"),
        Some(raw) => match rustc_demangle::try_demangle(&raw[..raw.floor_char_boundary(NAME_BYTES)]) {
            Ok(demangled) => write!(name, "{demangled:#}"),
            Err(_) => name.write_str(raw),
        },
    };
    name.text
}

/// Whether the innermost calls, as many as are kept, are of a few functions again and again.
pub(crate) fn repeats(trace: &WasmBacktrace) -> bool {
    const KEPT: usize = 20; // wasmtime's default
    let frames = trace.frames();
    let distinct: BTreeSet<u32> = frames.iter().map(wasmtime::FrameInfo::func_index).collect();
    frames.len() >= KEPT && distinct.len() * 2 <= frames.len()
}

/// Takes so much, and then refuses.
struct Bounded {
    text: String,
    left: usize,
}

impl Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let fits = &more[..more.floor_char_boundary(self.left)];
        self.text.push_str(fits);
        self.left -= fits.len();
        if fits.len() == more.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_cut() {
        assert_eq!(name(Some("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"), 1), "core::fmt::Write::write_fmt");
        assert_eq!(name(Some("process"), 1), "process");
        assert_eq!(name(None, 7), "<function 7>");
        assert_eq!(name(Some(&"x".repeat(100_000)), 1).len(), NAME_BYTES);
        assert_eq!(name(Some(&"é".repeat(NAME_BYTES)), 1).len(), NAME_BYTES);
    }

    #[test]
    fn a_name_that_unfolds_is_cut() {
        // Each `pair` of C++ names its predecessor twice: 2 to the power of 60 in full.
        let folded = (0..60).fold(String::from("_Z1fI"), |name, i| name + &format!("4pairIS{i}_S{i}_E"));
        assert!(name(Some(&folded), 1).len() <= NAME_BYTES);
        // Rust's back references do the same.
        let folded = (0..60).fold(String::from("_RC1a"), |name, _| format!("_RINvC1a1f{}B2_B2_E", &name[2..]));
        assert!(name(Some(&folded), 1).len() <= NAME_BYTES);
    }
}
