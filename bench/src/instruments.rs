//! What counting costs: the very calls by which a worker counts a batch (its counters, two histograms, the clock around the
//! guest's call), without the work between them. CPU time of this thread; the least of many turns, since whatever disturbs
//! only adds. To be held against the CPU that a record costs in all, which `raw` says.

use anyhow::{Result, bail};
use pelton::dataplane::counters::Counters;
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::time::{Duration, Instant};

const TURNS: usize = 200;
/// Records of one turn.
const RECORDS: usize = 128 * 200;

/// `record_us`: what a record costs in all, in microseconds of CPU.
pub(crate) fn run(record_us: f64) -> Result<bool> {
    if cfg!(not(debug_assertions)) || option_env!("CARGO_PROFILE_DEV_OPT_LEVEL").is_some() {
        println!("| records a batch | ns a batch | ns a record | share of {record_us} us |\n|---|---|---|---|");
    } else {
        bail!("this is a debug build, whose figures say nothing: use ./dev bench instruments");
    }
    let mut well = false;
    for batch in [1, 8, 128] {
        let counters = Counters::default();
        let least = (0..TURNS).map(|_| turn(&counters, batch)).min().unwrap_or_default();
        let per_batch = least.as_secs_f64() * 1e9 / (RECORDS / batch) as f64;
        let (per_record, whole) = (per_batch / batch as f64, record_us * 1e3);
        println!("| {batch} | {per_batch:.0} | {per_record:.1} | {:.2} % |", per_record / whole * 100.0);
        well = per_record / whole < 0.02;
    }
    Ok(well)
}

/// As `Open::note`, `Processor::run`, `Instance::run` and `Delivery::emit` do it.
fn turn(counters: &Counters, batch: usize) -> Duration {
    let transform = counters.transform(&"identity".into());
    let mut runs: Vec<(usize, Option<i64>, u64)> = Vec::new();
    let start = cpu();
    for first in (0..RECORDS).step_by(batch) {
        if first % 6_400 == 0 {
            runs.clear();
        }
        runs.push((0, Some(black_box(first as i64)), 0));
        for _ in 0..batch {
            if let Some(run) = black_box(&mut runs).last_mut() {
                run.2 += 1;
            }
        }
        counters.records_in.add(batch as u64);
        counters.bytes_in.add(black_box(1_016 * batch as u64));
        let since = Instant::now();
        let took = black_box(since).elapsed();
        for _ in 0..batch {
            transform.emitted.add(1);
            counters.records_out.add(1);
            counters.bytes_out.add(black_box(1_016));
        }
        transform.fuel.add(black_box(10_000));
        transform.memory.set(black_box(1 << 20));
        transform.process.observe(black_box(took.as_nanos() as u64 + 7_000), 1);
        transform.batch.observe(black_box(batch as u64), 1);
    }
    cpu() - start
}

pub(crate) fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
