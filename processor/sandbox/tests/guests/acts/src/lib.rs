//! What a test asks of a guest, by the record's value: `verb` or `verb argument`. The same in both worlds.

use std::cell::{Cell, RefCell};
use std::hint::black_box;
use std::io::Read;
use std::time::Duration;

/// What becomes of the record.
pub enum Act {
    Keep,
    Drop,
    /// A copy of the input with each of these values.
    Emit(Vec<Vec<u8>>),
    /// One output to the topic of this name.
    To(String),
    /// One output with a header of this name.
    Header(String),
    /// A copy of the input, everything included.
    Copy,
    Tombstone,
    Partition(i32),
    Timestamp(i64),
    Reject(String),
}

thread_local! {
    static SEEN: Cell<u64> = const { Cell::new(0) };
    static HOARD: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

pub fn act(value: Option<&[u8]>) -> Act {
    SEEN.set(SEEN.get() + 1);
    let Some(value) = value else { return Act::Copy };
    let text = String::from_utf8_lossy(value);
    let (verb, argument) = text.split_once(' ').unwrap_or((&text, ""));
    let number = || argument.parse::<u64>().unwrap();
    let size = || number() as usize;
    match verb {
        "keep" => Act::Keep,
        "drop" => Act::Drop,
        "copy" => Act::Copy,
        "tombstone" => Act::Tombstone,
        "reject" => Act::Reject(argument.into()),
        "to" => Act::To(argument.into()),
        "header" => Act::Header(argument.into()),
        "partition" => Act::Partition(argument.parse().unwrap()),
        "timestamp" => Act::Timestamp(argument.parse().unwrap()),
        "emit" => Act::Emit(vec![argument.into()]),
        "many" => Act::Emit(vec![b"x".to_vec(); size()]),
        "large" => Act::Emit(vec![vec![b'x'; size()]]),
        "panic" => panic!("{argument}"),
        // `unreachable`, without a word
        "abort" => std::process::abort(),
        "exit" => std::process::exit(argument.parse().unwrap()),
        "trap" => {
            black_box(unsafe { black_box(usize::MAX as *const u8).read_volatile() });
            Act::Keep
        }
        "recurse" => Act::Emit(vec![recurse(black_box(u64::MAX)).to_le_bytes().to_vec()]),
        // one function, and two by turns
        "recurse-large" => Act::Emit(vec![recurse_large(black_box(u64::MAX)).to_le_bytes().to_vec()]),
        "recurse-two" => Act::Emit(vec![ping(black_box(u64::MAX)).to_le_bytes().to_vec()]),
        "spin" => {
            spin(number());
            Act::Keep
        }
        "loop" => loop {
            black_box(());
        },
        "sleep" => {
            std::thread::sleep(Duration::from_millis(number()));
            Act::Keep
        }
        // what it allocates is used, and given back
        "alloc" => {
            let block = black_box(vec![1u8; size()]);
            Act::Emit(vec![block.len().to_string().into_bytes()])
        }
        // never given back: memory grows
        "hoard" => HOARD.with_borrow_mut(|hoard| {
            hoard.push(vec![1u8; size()]);
            Act::Keep
        }),
        "try-alloc" => {
            let mut block = Vec::<u8>::new();
            let refused = block.try_reserve(size()).is_err();
            black_box(&block);
            Act::Emit(vec![if refused { b"refused".to_vec() } else { b"granted".to_vec() }])
        }
        "seen" => Act::Emit(vec![SEEN.get().to_string().into_bytes()]),
        "print" => {
            println!("{argument}");
            Act::Keep
        }
        "shout" => {
            for _ in 0..number() {
                println!("{}", "x".repeat(1000));
            }
            Act::Keep
        }
        "eprint" => {
            eprintln!("{argument}");
            Act::Keep
        }
        // seconds since 1970, and the monotonic clock's nanoseconds before and after
        "now" => {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            let start = std::time::Instant::now();
            spin(1000);
            Act::Emit(vec![format!("{} {}", since.as_millis(), start.elapsed().as_nanos()).into_bytes()])
        }
        "clock-flood" => {
            for _ in 0..number() {
                black_box(std::time::Instant::now());
            }
            Act::Keep
        }
        // what the system's generator says, twice
        "random" => Act::Emit(vec![format!("{:?} {:?}", random(), random()).into_bytes()]),
        "random-flood" => {
            for _ in 0..number() {
                black_box(random_bytes(4096));
            }
            Act::Keep
        }
        // 0/0 with a payload, through arithmetic
        "nan" => {
            let nan = f64::from_bits(black_box(0x7ff4_dead_beef_0001));
            let other = f64::from_bits(black_box(0xfff8_0000_0000_0042));
            let made = [nan + other, other * nan, black_box(0.0) / black_box(0.0), -(nan - 1.0)];
            Act::Emit(vec![made.map(|n| format!("{:016x}", n.to_bits())).join(" ").into_bytes()])
        }
        "environment" => {
            let all: Vec<_> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
            Act::Emit(vec![all.join(",").into_bytes()])
        }
        "read" => Act::Emit(vec![outcome(std::fs::File::open(argument).and_then(|file| {
            let mut text = String::new();
            file.take(1000).read_to_string(&mut text)?;
            Ok(text)
        }))]),
        "write" => Act::Emit(vec![outcome(std::fs::write(argument, "x").map(|()| "written".into()))]),
        "remove" => Act::Emit(vec![outcome(std::fs::remove_file(argument).map(|()| "removed".into()))]),
        "list" => Act::Emit(vec![outcome(std::fs::read_dir(argument).map(|dir| dir.count().to_string()))]),
        // leaves a secret in memory that nobody owns any more
        "leave" => {
            let secret = argument.repeat(4096).into_bytes();
            black_box(&secret);
            std::mem::forget(secret);
            Act::Keep
        }
        // looks for a secret in all of memory; the argument has the lowest bit of each byte flipped, so as not to find itself
        "find" => {
            let memory = unsafe { std::slice::from_raw_parts(1024 as *const u8, core_pages() * 65536 - 1024) };
            let found = |window: &&[u8]| window.iter().zip(argument.bytes()).all(|(a, b)| a ^ 1 == b);
            Act::Emit(vec![memory.windows(argument.len()).filter(found).count().to_string().into_bytes()])
        }
        verb => panic!("unknown verb {verb}"),
    }
}

#[cfg(target_family = "wasm")]
fn core_pages() -> usize {
    core::arch::wasm32::memory_size(0)
}
#[cfg(not(target_family = "wasm"))]
fn core_pages() -> usize {
    0
}

fn outcome(result: std::io::Result<String>) -> Vec<u8> {
    match result {
        Ok(text) => text.into_bytes(),
        Err(error) => format!("error: {:?}", error.kind()).into_bytes(),
    }
}

#[cfg(target_family = "wasm")]
fn random_bytes(n: u64) -> Vec<u8> {
    wasip2::random::random::get_random_bytes(n)
}
#[cfg(not(target_family = "wasm"))]
fn random_bytes(n: u64) -> Vec<u8> {
    vec![0; n as usize]
}

fn random() -> [u8; 4] {
    random_bytes(4).try_into().unwrap()
}

#[inline(never)]
fn spin(n: u64) {
    let mut x = n;
    for i in 0..n {
        x = black_box(x.wrapping_mul(6364136223846793005).wrapping_add(i));
    }
}

/// Deep in WebAssembly's own stack; its frames hardly touch linear memory.
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
