//! Speaks the packed ABI by hand, and lies about whatever its setting `lie` names. Records are settled as `keep` until the
//! one whose value is `now`: there it lies.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

wit_bindgen::generate!({ world: "transform-packed", path: "../../../../../sdk/wit" });

use pelton::transform::packed_sink as host;

#[repr(C, align(16))]
struct Cell([AtomicU32; 4]);
static CELL: Cell = Cell([const { AtomicU32::new(0) }; 4]);
const SIZE: usize = 8192;

struct Hostile;

thread_local! {
    static LIE: RefCell<String> = const { RefCell::new(String::new()) };
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn cell(from: usize, len: usize) -> &'static [u8] {
    unsafe { std::slice::from_raw_parts((&raw const CELL).cast::<u8>().add(from), len) }
}

/// Announces a cell that begins at word `at`, and writes the nonce there: whatever is wrong with a window, it is not that.
fn window(at: usize, len: usize, buffer: &[u8]) {
    let nonce = host::window(cell(at * 4, len), buffer);
    CELL.0[at].store(nonce as u32, Ordering::SeqCst);
    CELL.0[at + 1].store((nonce >> 32) as u32, Ordering::SeqCst);
}

fn publish(count: u32, bytes: u32) {
    CELL.0[1].store(bytes, Ordering::SeqCst);
    CELL.0[0].store(count, Ordering::SeqCst);
}

impl Guest for Hostile {
    fn abi_version() -> u32 {
        match std::env::var("ABI").as_deref() {
            Ok("announces") => {
                BUFFER.with_borrow_mut(|buffer| {
                    buffer.resize(SIZE, 0);
                    window(0, 8, buffer);
                });
                1
            }
            Ok(version) => version.parse().unwrap(),
            Err(_) => 1,
        }
    }

    fn configure(settings: Vec<(String, String)>, _: Topics) -> Result<(), String> {
        let lie = settings.into_iter().find(|(name, _)| name == "lie").map(|(_, lie)| lie).unwrap_or_default();
        BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(SIZE, 0);
            match &*lie {
                "no window" => {}
                "misaligned" => window(1, 8, buffer),
                "short cell" => window(0, 4, buffer),
                "overlapping" => {
                    let at = buffer.as_ptr().align_offset(8) + 64;
                    let nonce = host::window(&buffer[at..at + 8], buffer);
                    buffer[at..at + 8].copy_from_slice(&nonce.to_le_bytes());
                }
                // no lie: they touch, and share nothing
                "cell before" | "cell behind" => {
                    let at = buffer.as_ptr().align_offset(8);
                    let (cell, rest) = if lie == "cell before" { (at, at + 8) } else { (at + 4096, at) };
                    let nonce = host::window(&buffer[cell..cell + 8], &buffer[rest..rest + 4096]);
                    buffer[cell..cell + 8].copy_from_slice(&nonce.to_le_bytes());
                }
                "tiny" => window(0, 8, &buffer[..100]),
                // as when a component in between had copied the lists
                "copy" => {
                    host::window(cell(0, 8), buffer);
                }
                "out of bounds" => {
                    let end = core::arch::wasm32::memory_size(0) * 65536;
                    let beyond =
                        unsafe { std::slice::from_raw_parts(std::hint::black_box(end - 4096) as *const u8, 8192) };
                    window(0, 8, beyond)
                }
                "twice" => {
                    window(0, 8, buffer);
                    window(0, 8, buffer);
                }
                _ => window(0, 8, buffer),
            }
        });
        LIE.set(lie);
        Ok(())
    }

    fn process_packed(batch: Vec<u8>) -> Result<(), String> {
        LIE.with_borrow(|lie| BUFFER.with_borrow_mut(|buffer| run(lie, &batch, buffer)))
    }
}

export!(Hostile);

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn run(lie: &str, mut batch: &[u8], buffer: &mut [u8]) -> Result<(), String> {
    publish(0, 0);
    let (mut count, mut bytes) = (0, 0);
    while !batch.is_empty() {
        let total = u32_at(batch, 0) as usize;
        let key_len = (u32_at(batch, 12) as i32).max(0) as usize;
        let value_len = (u32_at(batch, 32) as i32).max(0) as usize;
        let value = &batch[40 + key_len..40 + key_len + value_len];
        if value == b"now" {
            return tell(lie, count, bytes, buffer);
        }
        put(buffer, &mut bytes, 0, &[]);
        count += 1;
        publish(count, bytes as u32);
        batch = &batch[total..];
    }
    if lie == "window later" {
        window(0, 8, buffer);
    }
    Ok(())
}

fn put(buffer: &mut [u8], at: &mut usize, kind: u32, bytes: &[u8]) {
    buffer[*at..*at + 4].copy_from_slice(&((bytes.len() as u32) << 2 | kind).to_le_bytes());
    buffer[*at + 4..*at + 4 + bytes.len()].copy_from_slice(bytes);
    *at += 4 + bytes.len();
}

/// An output frame without key; everything can be wrong about it.
fn output(topic: u32, partition: i32, timestamp: i64, header: Option<&[u8]>) -> Vec<u8> {
    let mut frame = vec![0; 32];
    frame[4..8].copy_from_slice(&topic.to_le_bytes());
    frame[8..12].copy_from_slice(&partition.to_le_bytes());
    frame[12..16].copy_from_slice(&(-1i32).to_le_bytes());
    frame[16..24].copy_from_slice(&timestamp.to_le_bytes());
    frame[24..28].copy_from_slice(&(-1i32).to_le_bytes());
    if let Some(key) = header {
        frame[28..32].copy_from_slice(&1u32.to_le_bytes());
        frame.extend_from_slice(&(key.len() as u32).to_le_bytes());
        frame.extend_from_slice(&(-1i32).to_le_bytes());
        frame.extend_from_slice(key);
    }
    let total = frame.len() as u32;
    frame[0..4].copy_from_slice(&total.to_le_bytes());
    frame
}

fn tell(lie: &str, count: u32, mut bytes: usize, buffer: &mut [u8]) -> Result<(), String> {
    let inherit = i64::MIN;
    let mut emit = |frame: &[u8]| {
        put(buffer, &mut bytes, 1, frame);
        publish(count + 1, bytes as u32);
        Ok(())
    };
    match lie {
        "count goes back" => publish(count.wrapping_sub(1), bytes as u32),
        "count goes back after a flush" => {
            host::flush();
            publish(count.wrapping_sub(1), 0)
        }
        "count beyond the batch" => publish(1_000_000, bytes as u32),
        "swinging count" => {
            for i in 0u32.. {
                publish(if i % 2 == 0 { 1 } else { 0 }, bytes as u32);
                std::hint::black_box(i);
            }
        }
        "bytes beyond the window" => publish(count + 1, u32::MAX),
        "bytes that are not outcomes" => {
            put(buffer, &mut bytes, 0, &[]);
            publish(count + 1, bytes as u32 + 100)
        }
        "outcome beyond the window" => {
            buffer[bytes..bytes + 4].copy_from_slice(&(u32::MAX << 2 | 1).to_le_bytes());
            publish(count + 1, bytes as u32 + 4)
        }
        "unknown kind" => {
            put(buffer, &mut bytes, 3, &[]);
            publish(count + 1, bytes as u32)
        }
        "keep with bytes" => {
            put(buffer, &mut bytes, 0, b"xxxx");
            publish(count + 1, bytes as u32)
        }
        "returns early" => {}
        "returns an error" => return Err("so there".into()),
        "flush of nothing" => {
            host::flush();
            publish(count, 0);
            loop {
                host::flush()
            }
        }
        "flush of too many" => {
            publish(1_000_000, bytes as u32);
            host::flush()
        }
        "flush with wrong bytes" => {
            put(buffer, &mut bytes, 0, &[]);
            publish(count + 1, bytes as u32 + 8);
            host::flush()
        }
        "commit out of turn" => host::commit(count + 1, &[0; 4]),
        "commit before a flush" => host::commit(count, &[0; 4]),
        "commit of rubbish" => {
            host::flush();
            publish(count, 0);
            host::commit(count, &[0xff; 9])
        }
        "commit uncounted" => {
            host::flush();
            publish(count, 0);
            host::commit(count, &[0; 4]);
            host::commit(count, &[0; 4])
        }
        "commit and die" => {
            host::flush();
            publish(count, 0);
            host::commit(count, &[0; 4]);
            core::arch::wasm32::unreachable()
        }
        "topic" => return emit(&output(7, -1, inherit, None)),
        "partition" => return emit(&output(0, -7, inherit, None)),
        "timestamp" => return emit(&output(0, -1, -7, None)),
        "reserved header" => return emit(&output(0, -1, inherit, Some(b"__dlq.errors.x"))),
        "half a frame" => return emit(&output(0, -1, inherit, None)[..20]),
        "frame of no length" => return emit(&[0; 40]),
        "header count" => {
            let mut frame = output(0, -1, inherit, None);
            frame[28..32].copy_from_slice(&u32::MAX.to_le_bytes());
            return emit(&frame);
        }
        "reason that is not text" => {
            put(buffer, &mut bytes, 2, b"half \xff text");
            publish(count + 1, bytes as u32)
        }
        // honest, but the memory moves under the host's feet if it can
        "grow" => {
            for _ in 0..100 {
                core::arch::wasm32::memory_grow(0, 1);
            }
            for i in 0..20_000_000u64 {
                std::hint::black_box(i);
            }
            put(buffer, &mut bytes, 0, &[]);
            publish(count + 1, bytes as u32);
            core::arch::wasm32::unreachable()
        }
        other => panic!("no such lie: {other}"),
    }
    Ok(())
}
