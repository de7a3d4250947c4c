//! Attacks on time: code without end, waits without end, and host functions that are called without end.

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use crate::Deed;

pub(crate) fn deed(verb: &str, argument: &str) -> Option<Deed> {
    match verb {
        "loop" => loop {
            black_box(());
        },
        "sleep" => std::thread::sleep(Duration::from_secs(86_400)),
        "recurse" => {
            black_box(recurse(black_box(u64::MAX)));
        }
        "recurse-large" => {
            black_box(recurse_large(black_box(u64::MAX)));
        }
        // two functions by turns, as a parser's do
        "recurse-two" => {
            black_box(ping(black_box(u64::MAX)));
        }
        "allocate" => loop {
            black_box(vec![0u8; 1000]);
        },
        "fill" => {
            let mut block = vec![0u8; 4 << 20];
            for i in 0u8.. {
                black_box(&mut block).fill(black_box(i));
            }
        }
        "stdout" => loop {
            let _ = std::io::stdout().write_all(&[b'x'; 4000]);
        },
        "stdout-lines" => loop {
            println!("{}", "x".repeat(100));
        },
        "stderr" => loop {
            let _ = std::io::stderr().write_all(&[b'x'; 4000]);
        },
        _ => calls(verb, argument)?,
    }
    Some(Deed::Keep)
}

/// Deep in WebAssembly's own stack: the frames hardly touch linear memory.
#[inline(never)]
fn recurse(n: u64) -> u64 {
    if n == 0 { 0 } else { recurse(n - 1).wrapping_mul(3) ^ n }
}

/// Deep in the stack that the compiler keeps in linear memory.
#[inline(never)]
fn recurse_large(n: u64) -> u64 {
    let block = black_box([n; 1000]);
    if n == 0 { 0 } else { recurse_large(n - 1) ^ block[n as usize % 1000] }
}

#[inline(never)]
fn ping(n: u64) -> u64 {
    let block = black_box([n; 500]);
    if n == 0 { 0 } else { pong(n - 1) ^ block[n as usize % 500] }
}

#[inline(never)]
fn pong(n: u64) -> u64 {
    let block = black_box([n; 700]);
    if n == 0 { 0 } else { ping(n - 1).wrapping_add(block[n as usize % 700]) }
}

#[cfg(not(target_family = "wasm"))]
fn calls(_: &str, _: &str) -> Option<()> {
    None
}

/// Calls of WASI's functions.
#[cfg(target_family = "wasm")]
fn calls(verb: &str, argument: &str) -> Option<()> {
    use wasip2::clocks::{monotonic_clock, wall_clock};
    use wasip2::io::poll;
    match verb {
        "clocks" => loop {
            black_box((monotonic_clock::now(), wall_clock::now()));
        },
        "random" => loop {
            black_box(wasip2::random::random::get_random_bytes(4096));
        },
        "random-large" => drop(wasip2::random::random::get_random_bytes(u64::MAX)),
        "poll-never" => monotonic_clock::subscribe_duration(u64::MAX).block(),
        "poll-busy" => loop {
            monotonic_clock::subscribe_duration(0).block();
        },
        // one call that names the same pollable so often
        "poll-many" => {
            let never = monotonic_clock::subscribe_duration(u64::MAX);
            black_box(poll::poll(&vec![&never; argument.parse().expect("a number")]));
        }
        // so many timers at once
        "timers" => {
            let timers: Vec<_> = (0..50).map(|_| monotonic_clock::subscribe_duration(u64::MAX)).collect();
            black_box(poll::poll(&timers.iter().collect::<Vec<_>>()));
        }
        "handles" => loop {
            std::mem::forget(monotonic_clock::subscribe_duration(0));
        },
        "environment-busy" => loop {
            black_box(wasip2::cli::environment::get_environment());
        },
        // more than a stream says that it takes
        "write-large" => {
            let _ = wasip2::cli::stdout::get_stdout().write(&vec![b'x'; 8 << 20]);
        }
        "write-zeroes" => {
            let _ = wasip2::cli::stdout::get_stdout().write_zeroes(u64::MAX);
        }
        "write-flush" => loop {
            let _ = wasip2::cli::stdout::get_stdout().blocking_write_and_flush(&[b'x'; 4096]);
        },
        "splice" => loop {
            let (from, to) = (wasip2::cli::stdin::get_stdin(), wasip2::cli::stdout::get_stdout());
            let _ = black_box(to.blocking_splice(&from, u64::MAX));
        },
        _ => return None,
    }
    Some(())
}
