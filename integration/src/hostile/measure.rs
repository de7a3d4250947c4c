//! What an attack costs the host: CPU time of the whole process and of the compilers that it started, and resident memory
//! of the process, at its peak and afterwards. Only meaningful while nothing else runs in the process: hold [`alone`].

use std::ffi::c_int;
use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Tests of one process run side by side; these must not.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// By all threads, and by child processes that have ended.
    pub cpu: Duration,
    /// How far resident memory rose above where it began, in bytes.
    pub peak: u64,
}

/// Runs `act` and says what it cost.
pub fn cost<R>(act: impl FnOnce() -> R) -> (R, Cost) {
    trim();
    // From here on `VmHWM` is the peak of what follows.
    let reset = fs::write("/proc/self/clear_refs", "5");
    let (before, start) = (status("VmRSS:"), cpu());
    let result = act();
    let cpu = cpu().saturating_sub(start);
    let peak = if reset.is_ok() { status("VmHWM:") } else { status("VmRSS:") };
    (result, Cost { cpu, peak: peak.saturating_sub(before) })
}

/// CPU that the [`yardstick`] is taken to need where the table in docs/security.md is from, and so, presumably, the corpus'
/// bounds. Carried over from another machine, where it took 16.5 ms (release 3.3 ms) and the 42 attacks of more than 8 ms that
/// no deadline ends took 1.51 times (median) what the table says.
const YARDSTICK: Duration = Duration::from_micros(if cfg!(debug_assertions) { 11_000 } else { 2_200 });
/// A machine that is slower than that says nothing about bounds.
const SLOWEST: f64 = 4.0;

/// How much more CPU time the same work takes on this machine, at this moment, than where bounds were set: 1 or more. A machine
/// that shares its cores with others may need twice as much from one hour to the next.
pub fn slowness() -> f64 {
    (yardstick().as_secs_f64() / YARDSTICK.as_secs_f64()).clamp(1.0, SLOWEST)
}

/// CPU time of a fixed piece of work.
pub fn yardstick() -> Duration {
    let start = cpu();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..STEPS {
        state ^= std::hint::black_box(state) << 13;
        state ^= state >> 7;
        state ^= state << 17;
    }
    std::hint::black_box(state);
    cpu().saturating_sub(start)
}

const STEPS: u32 = 2_000_000;

/// Memory that the process has now, in bytes, without what the allocator keeps in reserve.
pub fn resident() -> u64 {
    trim();
    status("VmRSS:")
}

/// Gives free memory back to the system: what stays is in use, and what comes is new.
#[allow(unsafe_code, reason = "functions of the C library")]
fn trim() {
    /// glibc's own; set, it no longer grows with what was freed, up to 64 MiB.
    const END_MAX: c_int = 128 << 10;
    // SAFETY: numbers only, here and below; both may be called at any time from any thread.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, END_MAX) };
    // SAFETY: it looks at free blocks only.
    unsafe { libc::malloc_trim(0) };
    // Not the free end of a thread's own arena: that is given back when a large block is freed.
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGE)));
}

/// Large enough for glibc to look at the end of the arena, and too small to be mapped by itself.
const LARGE: usize = 100 << 10;

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0)) + children()
}

/// Of children that were waited for, in steps of 10 ms.
fn children() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").expect("/proc is there");
    // after the name, which is in parentheses: state is field 3, cutime and cstime are 16 and 17
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// A line of kibibytes in `/proc/self/status`.
fn status(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("Linux says so");
    line.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") << 10
}

/// The one in the middle.
pub fn median<T: Ord + Copy>(values: &mut [T]) -> T {
    values.sort_unstable();
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_never_called_quicker_than_it_is() {
        let slow: Vec<f64> = (0..5).map(|_| slowness()).collect();
        assert!(slow.iter().all(|slow| (1.0..=SLOWEST).contains(slow)), "{slow:?}");
    }
}
