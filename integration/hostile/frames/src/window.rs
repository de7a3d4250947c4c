//! The window by hand: announced rightly or wrongly, and written to without asking anybody.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU32, Ordering};

pub use crate::pelton::transform::packed_sink as host;

#[repr(C, align(16))]
struct Cell([AtomicU32; 4]);
static CELL: Cell = Cell([const { AtomicU32::new(0) }; 4]);
const SIZE: usize = 256 << 10;

pub struct Window {
    buffer: Vec<u8>,
    pub count: u32,
    pub used: usize,
}

thread_local! {
    static WINDOW: RefCell<Window> = const { RefCell::new(Window { buffer: Vec::new(), count: 0, used: 0 }) };
}

pub fn with<R>(act: impl FnOnce(&mut Window) -> R) -> R {
    WINDOW.with_borrow_mut(act)
}

impl Window {
    pub fn begin(&mut self) {
        (self.count, self.used) = (0, 0);
        self.publish(0, 0);
    }

    pub fn settle(&mut self, outcome: &[u8]) {
        if self.used + outcome.len() > SIZE {
            // more than fits is cut: the host must find out
            let room = SIZE - self.used;
            self.buffer[self.used..].copy_from_slice(&outcome[..room]);
            self.used = SIZE;
        } else {
            self.buffer[self.used..self.used + outcome.len()].copy_from_slice(outcome);
            self.used += outcome.len();
        }
        self.count += 1;
        self.publish(self.count, self.used);
    }

    pub fn publish(&self, count: u32, used: usize) {
        CELL.0[1].store(used as u32, Ordering::SeqCst);
        CELL.0[0].store(count, Ordering::SeqCst);
    }

    pub fn announce_again(&self) {
        tell(0, 8, &self.buffer);
    }

    pub fn flush(&mut self) {
        host::flush();
        self.used = 0;
        self.publish(self.count, 0);
    }
}

fn cell(from: usize, len: usize) -> &'static [u8] {
    unsafe { std::slice::from_raw_parts((&raw const CELL).cast::<u8>().add(from), len) }
}

/// Announces a cell that begins at word `at`, and writes the nonce there: whatever is wrong with a window, it is not that.
fn tell(at: usize, len: usize, buffer: &[u8]) {
    let nonce = host::window(cell(at * 4, len), buffer);
    CELL.0[at].store(nonce as u32, Ordering::SeqCst);
    CELL.0[at + 1].store((nonce >> 32) as u32, Ordering::SeqCst);
}

pub fn announce(lie: &str) {
    with(|window| {
        window.buffer.resize(SIZE, 0);
        let buffer = &mut window.buffer;
        match lie {
            "no window" => {}
            "misaligned" => tell(1, 8, buffer),
            "short cell" => tell(0, 4, buffer),
            "long cell" => tell(0, 16, buffer),
            "tiny" => tell(0, 8, &buffer[..100]),
            "huge" => tell(0, 8, &vec![0; 17 << 20]),
            "cell inside" => {
                let at = buffer.as_ptr().align_offset(8) + 64;
                let nonce = host::window(&buffer[at..at + 8], buffer);
                buffer[at..at + 8].copy_from_slice(&nonce.to_le_bytes());
            }
            "copy" => {
                host::window(cell(0, 8), buffer);
            }
            "beyond memory" => {
                let end = core::arch::wasm32::memory_size(0) * 65536;
                let beyond = unsafe { std::slice::from_raw_parts(std::hint::black_box(end - 4096) as *const u8, 8192) };
                tell(0, 8, beyond);
            }
            "twice" => {
                tell(0, 8, buffer);
                tell(0, 8, buffer);
            }
            "flush early" => {
                tell(0, 8, buffer);
                host::flush();
            }
            "commit early" => {
                tell(0, 8, buffer);
                host::commit(0, &[0; 4]);
            }
            _ => tell(0, 8, buffer),
        }
    });
}
