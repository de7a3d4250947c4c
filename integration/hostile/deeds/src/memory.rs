//! Attacks on memory from within the language; what needs the instructions themselves is in wat/.

use std::cell::RefCell;
use std::hint::black_box;

use crate::Deed;

thread_local! {
    static HOARD: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

pub(crate) fn deed(verb: &str, argument: &str) -> Option<Deed> {
    match verb {
        // as fast as doubling goes, and every byte is touched
        "bomb" => {
            let mut block = vec![1u8; 1 << 16];
            loop {
                block.extend_from_within(..);
                black_box(&mut block);
            }
        }
        // a little with each record, never given back
        "hoard" => {
            let size = argument.parse().expect("a number");
            HOARD.with_borrow_mut(|hoard| hoard.push(vec![1u8; size]));
            Some(Deed::Keep)
        }
        // reads what is beyond its memory
        "beyond" => {
            let end = usize::MAX - 64;
            black_box(unsafe { black_box(end as *const u64).read_volatile() });
            Some(Deed::Keep)
        }
        // looks for traces of others in memory that was never written
        "snoop" => Some(Deed::Emit(snoop().to_string().into_bytes())),
        _ => None,
    }
}

/// Grows its memory and counts the bytes there that are not zero.
#[cfg(target_family = "wasm")]
fn snoop() -> usize {
    use core::arch::wasm32::{memory_grow, memory_size};
    let start = memory_size(0) * 65536;
    while memory_grow(0, 1) != usize::MAX {}
    let fresh = unsafe { std::slice::from_raw_parts(start as *const u8, memory_size(0) * 65536 - start) };
    fresh.iter().filter(|byte| **byte != 0).count()
}

#[cfg(not(target_family = "wasm"))]
fn snoop() -> usize {
    0
}
