//! A steady stream of records that say when they were sent, and what became visible of it: from sent to visible.

use anyhow::{Context, Result, bail};
use pelton_integration::kafka::{Reader, Record, Writer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(2);
/// A contender that writes nothing for so long never will.
const FIRST: Duration = Duration::from_secs(60);

/// Values are `{milliseconds when sent} {number in its partition}`.
pub(crate) struct Stream {
    pub(crate) start: Instant,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Stream {
    pub(crate) fn start(bootstrap: &str, topic: &str, partitions: i32, rate: usize) -> Result<Self> {
        let (writer, topic) = (Writer::prompt(bootstrap)?, topic.to_owned());
        let (start, stop, sent) = (Instant::now(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (flag, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            // As many in each tick as are due by then, each partition in its turn.
            let (partitions, mut number) = (partitions as u64, 0_u64);
            while !flag.load(Ordering::Relaxed) {
                let now = start.elapsed().as_secs_f64();
                let due = (now * rate as f64) as u64;
                let records: Vec<Record> = (number..due)
                    .map(|i| Record {
                        partition: (i % partitions) as i32,
                        value: Some(format!("{:.3} {}", now * 1e3, i / partitions).into_bytes()),
                        ..Record::default()
                    })
                    .collect();
                writer.send(&topic, &records)?;
                number = due.max(number);
                count.store(number, Ordering::Relaxed);
                std::thread::park_timeout(TICK);
            }
            writer.flush()
        });
        Ok(Stream { start, stop, sent, thread })
    }

    /// It has ended by itself: something went wrong.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// How many were sent, and in a second.
    pub(crate) fn stop(self) -> Result<(u64, f64)> {
        let took = self.start.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the stream panicked"))??;
        let sent = self.sent.load(Ordering::Relaxed);
        Ok((sent, sent as f64 / took))
    }
}

/// When a record was sent, in milliseconds, and its number.
pub(crate) fn parse(record: &Record) -> Result<(f64, u64)> {
    let text = record.text();
    let (sent, number) = text.split_once(' ').context("a foreign record")?;
    Ok((sent.parse()?, number.parse()?))
}

/// Waits for the first records of a contender, whose log is in `home`; they stay in the reader.
pub(crate) fn await_first(reader: &mut Reader, home: &str) -> Result<()> {
    let deadline = Instant::now() + FIRST;
    while reader.poll(Duration::from_millis(100))? == 0 {
        if Instant::now() > deadline {
            bail!("nothing comes out within {FIRST:?}; see {home}/log");
        }
    }
    Ok(())
}

/// What became visible in a while.
pub(crate) struct Visible {
    /// p50 and p99 from sent to visible.
    pub(crate) ms: [f64; 2],
    pub(crate) records: usize,
    /// Offsets that no record has: a transaction takes one of each partition that it wrote to.
    pub(crate) markers: i64,
}

/// Watches for so long.
pub(crate) fn visible(reader: &mut Reader, start: Instant, phase: Duration) -> Result<Visible> {
    reader.records.clear();
    let end = Instant::now() + phase;
    let mut all = Vec::new();
    let mut offsets: BTreeMap<i32, (i64, i64)> = BTreeMap::new();
    while Instant::now() < end {
        reader.poll(Duration::from_millis(5))?;
        let now = start.elapsed().as_secs_f64() * 1e3;
        for record in reader.records.drain(..) {
            all.push(now - parse(&record)?.0);
            offsets.entry(record.partition).or_insert((record.offset, 0)).1 = record.offset + 1;
        }
    }
    let (records, taken) = (all.len(), offsets.values().map(|(first, end)| end - first).sum::<i64>());
    Ok(Visible { ms: percentiles(all)?, records, markers: taken - records as i64 })
}

pub(crate) fn percentiles(mut all: Vec<f64>) -> Result<[f64; 2]> {
    if all.len() < 100 {
        bail!("only {} records came through", all.len());
    }
    all.sort_by(f64::total_cmp);
    Ok([all[all.len() / 2], all[all.len() * 99 / 100]])
}
