//! Speaks the packed ABI by hand (docs/reference/packed-frames.md) and lies where a record asks for it: `lie NAME`. A record
//! `good X` comes out as X. The setting `lie` is told in `configure`, `abi` is the version that it claims to speak.

mod frame;
mod window;

use frame::{Frame, KEEP, outcome, u32_at};
use window::{Window, host};

wit_bindgen::generate!({ world: "transform-packed", path: "../../../sdk/wit" });

struct Hostile;

impl Guest for Hostile {
    fn abi_version() -> u32 {
        match std::env::var("ABI").as_deref() {
            Ok("announces") => {
                window::announce("");
                1
            }
            Ok("loops") => loop {
                std::hint::black_box(());
            },
            Ok(version) => version.parse().expect("a number"),
            Err(_) => 1,
        }
    }

    fn configure(settings: Vec<(String, String)>, _: Topics) -> Result<(), String> {
        let lie = settings.iter().find(|(name, _)| name == "lie").map_or("", |(_, lie)| lie);
        if lie == "refusal" {
            return Err("x".repeat(4 << 20));
        }
        window::announce(lie);
        Ok(())
    }

    fn process_packed(batch: Vec<u8>) -> Result<(), String> {
        window::with(|window| run(&batch, window))
    }
}

export!(Hostile);

fn run(mut batch: &[u8], window: &mut Window) -> Result<(), String> {
    window.begin();
    while !batch.is_empty() {
        let total = u32_at(batch, 0) as usize;
        let key_len = (u32_at(batch, 12) as i32).max(0) as usize;
        let value_len = (u32_at(batch, 32) as i32).max(0) as usize;
        let value = &batch[40 + key_len..40 + key_len + value_len];
        match std::str::from_utf8(value).expect("text").split_once(' ') {
            Some(("good", text)) => window.settle(&outcome(1, &Frame::of(text.as_bytes()).bytes())),
            Some(("lie", lie)) => match frame::lie(lie) {
                Some(false_outcome) => window.settle(&false_outcome),
                None => {
                    if let Some(end) = tell(lie, window) {
                        return end;
                    }
                }
            },
            _ => window.settle(&outcome(KEEP, &[])),
        }
        batch = &batch[total..];
    }
    Ok(())
}

/// A lie about the cell or by an import. `Some`: the call ends there.
fn tell(lie: &str, window: &mut Window) -> Option<Result<(), String>> {
    let keep = outcome(KEEP, &[]);
    match lie {
        "never" => return Some(Ok(())),
        "error" => return Some(Err("so there".into())),
        "error large" => return Some(Err("x".repeat(4 << 20))),
        "skipped" => {}
        "twice" => {
            window.settle(&keep);
            window.settle(&keep);
        }
        "counted twice" => {
            window.settle(&keep);
            window.publish(window.count + 1, window.used);
            window.count += 1;
        }
        "count goes back" => {
            window.publish(window.count.wrapping_sub(1), window.used);
            return Some(Ok(()));
        }
        "count beyond the batch" => {
            window.publish(u32::MAX, window.used);
            return Some(Ok(()));
        }
        "count beyond the batch for ever" => {
            window.publish(u32::MAX, window.used);
            loop {
                std::hint::black_box(());
            }
        }
        "count swings" => {
            let count = window.count;
            for i in 0u32.. {
                window.publish(count + i % 2, window.used);
            }
        }
        "count creeps" => {
            let count = window.count;
            loop {
                for step in 0..1000 {
                    window.publish(count + step % 3, window.used);
                    for _ in 0..100_000 {
                        std::hint::black_box(());
                    }
                }
            }
        }
        "bytes short" => {
            window.settle(&keep);
            window.publish(window.count, window.used - 4);
            return Some(Ok(()));
        }
        "bytes beyond the window" => {
            window.settle(&keep);
            window.publish(window.count, u32::MAX as usize);
            return Some(Ok(()));
        }
        "window again" => window.announce_again(),
        "flush of nothing" => {
            window.flush();
            loop {
                host::flush();
            }
        }
        "flush of too many" => {
            window.publish(u32::MAX, window.used);
            host::flush();
        }
        "flush with wrong bytes" => {
            window.settle(&keep);
            window.publish(window.count, window.used + 8);
            host::flush();
        }
        "flush that goes back" => {
            window.flush();
            window.publish(0, 0);
            return Some(Ok(()));
        }
        "commit out of turn" => {
            window.flush();
            host::commit(window.count + 1, &keep);
        }
        "commit of the past" => {
            window.flush();
            host::commit(0, &keep);
        }
        "commit before a flush" => host::commit(window.count, &keep),
        "commit of rubbish" => {
            window.flush();
            host::commit(window.count, &[0xff; 9]);
        }
        "commit of nothing" => {
            window.flush();
            host::commit(window.count, &[]);
        }
        "commit of two" => {
            window.flush();
            host::commit(window.count, &[0; 8]);
        }
        "commit twice" => {
            window.flush();
            host::commit(window.count, &keep);
            host::commit(window.count, &keep);
        }
        "commit beyond memory" => {
            window.flush();
            let all = core::arch::wasm32::memory_size(0) * 65536;
            let beyond = unsafe { std::slice::from_raw_parts(std::hint::black_box(all - 8) as *const u8, 64) };
            host::commit(window.count, beyond);
        }
        "commit large" => {
            window.flush();
            host::commit(window.count, &outcome(1, &vec![0; 4 << 20]));
        }
        other => panic!("no such lie: {other}"),
    }
    None
}
