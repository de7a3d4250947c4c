//! Owns what a guest says: lines of the `log` import and of stdout and stderr. Promises that they cost bounded memory and
//! bounded log volume (a token bucket per transform), that lines are cut, that none can pass for several or for one of
//! ours, and that no guest text reaches our log unless the operator asked for it (I10); otherwise lines are only counted.
//! The end of stderr is kept for the detail of a fault.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, WasmStr};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::drive;
use crate::fault::Stderr;
use crate::host::Host;
use crate::text::{harmless, head};

const LOG: &str = "pelton:transform/log@0.1.0";
const LINE_BYTES: usize = 4096;
const TAIL_BYTES: usize = 4096;
/// What a line costs of `limits.log` beside its text: time, level, transform and generation are written with it.
const LINE_COST: usize = 128;
/// What a guest may write to a stream at once, before `drive` looks at the clock.
const PERMIT: usize = 4096;
/// What a byte of text costs the host, in what a guest could compute meanwhile.
const FUEL_PER_BYTE: u64 = 10;

/// The levels of the `log` import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "made by lifting")]
pub(crate) enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

/// How many lines a generation's guests produced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogCounts {
    /// Written to our log.
    pub written: u64,
    /// Held back because guest text is not observed.
    pub unobserved: u64,
    /// Dropped by the rate limit.
    pub limited: u64,
}

/// The log of one generation, shared by its instances.
#[derive(Debug)]
pub(crate) struct Logs {
    transform: String,
    generation: u64,
    observe: bool,
    rate: u32,
    bucket: Mutex<Bucket>,
    written: AtomicU64,
    unobserved: AtomicU64,
    limited: AtomicU64,
    /// Of these, since the last line that was written: it is told with the next.
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Logs {
    pub(crate) fn new(transform: &str, generation: u64, observe: bool, bytes_per_second: u32) -> Self {
        Self {
            transform: transform.into(),
            generation,
            observe,
            rate: bytes_per_second,
            bucket: Mutex::new(Bucket { tokens: bytes_per_second.into(), at: Instant::now() }),
            written: AtomicU64::new(0),
            unobserved: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    pub(crate) fn counts(&self) -> LogCounts {
        LogCounts {
            written: self.written.load(Relaxed),
            unobserved: self.unobserved.load(Relaxed),
            limited: self.limited.load(Relaxed),
        }
    }

    fn line(&self, level: Level, text: &str) {
        if !self.observe {
            self.unobserved.fetch_add(1, Relaxed);
            return;
        }
        // What is escaped grows: it is cut as it will be written, and pays for that.
        let text = harmless(head(text, LINE_BYTES));
        let text = head(&text, LINE_BYTES);
        if self.admit(text.len() + LINE_COST, Instant::now()) {
            self.written.fetch_add(1, Relaxed);
            self.write(level, text);
        } else {
            self.limited.fetch_add(1, Relaxed);
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Takes `bytes` from the bucket, which holds at most one second's worth.
    fn admit(&self, bytes: usize, now: Instant) -> bool {
        let mut bucket = lock(&self.bucket);
        let refill = now.saturating_duration_since(bucket.at).as_secs_f64() * f64::from(self.rate);
        bucket.tokens = (bucket.tokens + refill).min(f64::from(self.rate));
        bucket.at = now;
        let admitted = bucket.tokens >= bytes as f64;
        if admitted {
            bucket.tokens -= bytes as f64;
        }
        admitted
    }

    fn write(&self, level: Level, text: &str) {
        let (transform, generation) = (self.transform.as_str(), self.generation);
        // Asked only where the level is written at all.
        let dropped = || Some(self.dropped.swap(0, Relaxed)).filter(|lines| *lines > 0);
        match level {
            Level::Trace => tracing::trace!(target: "guest", transform, generation, dropped = dropped(), "{text}"),
            Level::Debug => tracing::debug!(target: "guest", transform, generation, dropped = dropped(), "{text}"),
            Level::Info => tracing::info!(target: "guest", transform, generation, dropped = dropped(), "{text}"),
            Level::Warn => tracing::warn!(target: "guest", transform, generation, dropped = dropped(), "{text}"),
            Level::Error => tracing::error!(target: "guest", transform, generation, dropped = dropped(), "{text}"),
        }
    }
}

/// Adds the `log` import to a linker.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.instance(LOG)?.func_wrap("log", |store: StoreContextMut<'_, Host>, (level, text): (Level, WasmStr)| {
        let text = text.to_str(&store)?;
        drive::charge(FUEL_PER_BYTE * text.len() as u64);
        let host = store.data();
        host.stdio.say(&host.logs, level, &text);
        Ok(())
    })
}

/// What one instance has said that is not yet logged: lines under way, lines held until a batch stands, stderr's tail.
#[derive(Debug, Default)]
pub(crate) struct Stdio(Mutex<Spoken>);

#[derive(Debug, Default)]
struct Spoken {
    lines: [Vec<u8>; 2],
    tail: VecDeque<u8>,
    /// What the lines of stderr told in this call; without the tail.
    told: Stderr,
    /// How much of stderr's line under way is of earlier calls.
    earlier: usize,
    /// `Some` while lines are held.
    held: Option<Vec<(Level, String)>>,
    held_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Out,
    Err,
}

impl Stdio {
    /// A new call begins: what was on stderr before does not explain how it ends.
    pub(crate) fn forget(&self) {
        let mut spoken = lock(&self.0);
        spoken.tail.clear();
        spoken.told = Stderr::default();
        spoken.earlier = spoken.lines[Stream::Err as usize].len();
    }

    /// What is kept of stderr since `forget`.
    pub(crate) fn stderr(&self) -> Stderr {
        let spoken = lock(&self.0);
        let (a, b) = spoken.tail.as_slices();
        let tail = String::from_utf8_lossy(&[a, b].concat()).into_owned();
        let mut stderr = Stderr { tail, ..spoken.told.clone() };
        // the line under way, too
        stderr.note(&String::from_utf8_lossy(&spoken.lines[Stream::Err as usize][spoken.earlier..]));
        stderr
    }

    /// From now on lines wait for `release`: a typed batch may have to run again.
    pub(crate) fn hold(&self) {
        lock(&self.0).held.get_or_insert_default();
    }

    /// The batch stands: its lines are logged.
    pub(crate) fn release(&self, logs: &Logs) {
        let held = {
            let mut spoken = lock(&self.0);
            spoken.held_bytes = 0;
            spoken.held.take()
        };
        for (level, text) in held.into_iter().flatten() {
            logs.line(level, &text);
        }
    }

    fn say(&self, logs: &Logs, level: Level, text: &str) {
        let text = head(text, LINE_BYTES);
        let cost = text.len() + LINE_COST;
        let mut spoken = lock(&self.0);
        let room = spoken.held_bytes + cost <= logs.rate as usize;
        match &mut spoken.held {
            Some(held) if room => held.push((level, text.into())),
            Some(_) => {
                logs.limited.fetch_add(1, Relaxed);
                return;
            }
            None => {
                drop(spoken);
                return logs.line(level, text);
            }
        }
        spoken.held_bytes += cost;
    }

    fn write(&self, logs: &Logs, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            let line = {
                let mut spoken = lock(&self.0);
                if matches!(stream, Stream::Err) {
                    spoken.tail.extend(piece);
                    let excess = spoken.tail.len().saturating_sub(TAIL_BYTES);
                    spoken.tail.drain(..excess);
                }
                let line = &mut spoken.lines[stream as usize];
                let room = LINE_BYTES.saturating_sub(line.len());
                line.extend_from_slice(&piece[..piece.len().min(room)]);
                if !piece.ends_with(b"\n") {
                    continue;
                }
                let line = std::mem::take(line);
                if matches!(stream, Stream::Err) {
                    let earlier = std::mem::take(&mut spoken.earlier);
                    spoken.told.note(&String::from_utf8_lossy(&line[earlier..]));
                }
                line
            };
            let level = match stream {
                Stream::Out => Level::Info,
                Stream::Err => Level::Warn,
            };
            self.say(logs, level, String::from_utf8_lossy(&line).trim_end());
        }
    }
}

/// A guest's stdout or stderr.
#[derive(Clone)]
pub(crate) struct GuestStream {
    stdio: Arc<Stdio>,
    logs: Arc<Logs>,
    stream: Stream,
}

impl GuestStream {
    pub(crate) fn stdout(stdio: &Arc<Stdio>, logs: &Arc<Logs>) -> Self {
        Self { stdio: Arc::clone(stdio), logs: Arc::clone(logs), stream: Stream::Out }
    }

    pub(crate) fn stderr(stdio: &Arc<Stdio>, logs: &Arc<Logs>) -> Self {
        Self { stdio: Arc::clone(stdio), logs: Arc::clone(logs), stream: Stream::Err }
    }
}

impl IsTerminal for GuestStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for GuestStream {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for GuestStream {
    async fn ready(&mut self) {}
}

#[wasmtime_wasi::async_trait]
impl OutputStream for GuestStream {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        if bytes.len() > PERMIT {
            return Err(StreamError::trap("a write of more than `check-write` permits"));
        }
        drive::charge(FUEL_PER_BYTE * bytes.len() as u64);
        self.stdio.write(&self.logs, self.stream, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

impl tokio::io::AsyncWrite for GuestStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.stdio.write(&self.logs, self.stream, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Nothing here is left half-done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_bucket_holds_one_second_and_refills() {
        let logs = Logs::new("t", 1, true, 1000);
        let start = lock(&logs.bucket).at;
        assert!(logs.admit(600, start));
        assert!(!logs.admit(600, start));
        assert!(logs.admit(600, start + Duration::from_millis(300)));
        assert!(logs.admit(1000, start + Duration::from_secs(60)));
        assert!(!logs.admit(1, start + Duration::from_secs(60)));
    }

    /// The texts that this thread logs meanwhile.
    fn logged(say: impl FnOnce()) -> Vec<String> {
        use tracing::field::{Field, Visit};
        use tracing::span::{Attributes, Id, Record};
        #[derive(Clone, Default)]
        struct Look(Arc<Mutex<Vec<String>>>);
        impl Visit for Look {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    lock(&self.0).push(format!("{value:?}"));
                }
            }
        }
        impl tracing::Subscriber for Look {
            fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
                true
            }
            fn new_span(&self, _: &Attributes<'_>) -> Id {
                Id::from_u64(1)
            }
            fn record(&self, _: &Id, _: &Record<'_>) {}
            fn record_follows_from(&self, _: &Id, _: &Id) {}
            fn event(&self, event: &tracing::Event<'_>) {
                event.record(&mut self.clone());
            }
            fn enter(&self, _: &Id) {}
            fn exit(&self, _: &Id) {}
        }
        let look = Look::default();
        tracing::subscriber::with_default(look.clone(), say);
        lock(&look.0).clone()
    }

    #[test]
    fn a_guest_cannot_write_a_line_that_looks_like_ours() {
        let logs = Logs::new("t", 1, true, 100_000);
        let texts = logged(|| {
            let stdio = Stdio::default();
            stdio.say(&logs, Level::Info, "a\n2026-01-01T00:00:00Z ERROR pelton: all is lost\x1b[2J");
            stdio.write(&logs, Stream::Out, b"b\r2026\n");
            stdio.hold();
            stdio.say(&logs, Level::Info, "c\n2026");
            stdio.release(&logs);
            stdio.say(&logs, Level::Info, &"\n".repeat(LINE_BYTES));
        });
        let forged = "a\\n2026-01-01T00:00:00Z ERROR pelton: all is lost\\u{1b}[2J";
        assert_eq!(texts[..3], [forged, "b\\r2026", "c\\n2026"]);
        assert_eq!(texts[3].len(), LINE_BYTES);
        assert_eq!((texts.len(), logs.counts().written), (4, 4));
    }

    #[test]
    fn lines_without_text_are_limited_too() {
        let logs = Logs::new("t", 1, true, 1000);
        let stdio = Stdio::default();
        for _ in 0..100 {
            stdio.say(&logs, Level::Info, "");
        }
        let direct = logs.counts();
        assert!((7..50).contains(&direct.written) && direct.written + direct.limited == 100, "{direct:?}");
        stdio.hold();
        for _ in 0..100 {
            stdio.say(&logs, Level::Info, "");
        }
        assert_eq!(logs.counts().limited - direct.limited, 93, "1,000 bytes hold seven");
    }

    #[test]
    fn unobserved_lines_are_counted_and_not_written() {
        let (stdio, logs) = (Stdio::default(), Logs::new("t", 1, false, 1000));
        stdio.write(&logs, Stream::Out, b"one\ntwo\nthr");
        stdio.write(&logs, Stream::Out, b"ee\n");
        assert_eq!(logs.counts(), LogCounts { unobserved: 3, ..LogCounts::default() });
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let (stdio, logs) = (Stdio::default(), Logs::new("t", 1, true, 1 << 20));
        for _ in 0..100 {
            stdio.write(&logs, Stream::Err, &[b'x'; 4096]);
        }
        assert_eq!(lock(&stdio.0).lines[1].len(), LINE_BYTES);
        assert_eq!(stdio.stderr().tail.len(), TAIL_BYTES);
        stdio.write(&logs, Stream::Err, b"\n");
        assert_eq!(logs.counts().written, 1);
    }

    #[test]
    fn what_is_written_is_charged() {
        let mut stream = GuestStream::stdout(&Arc::default(), &Arc::new(Logs::new("t", 1, false, 1000)));
        drive::charge_start();
        stream.write(bytes::Bytes::from_static(b"hello")).unwrap();
        assert_eq!(drive::charged(), 5 * FUEL_PER_BYTE);
    }

    #[test]
    fn the_tail_is_that_of_the_call() {
        let (stdio, logs) = (Stdio::default(), Logs::new("t", 1, false, 1000));
        stdio.write(&logs, Stream::Err, b"old\n");
        stdio.forget();
        stdio.write(&logs, Stream::Err, b"new\n");
        assert_eq!(stdio.stderr().tail, "new\n");
    }

    #[test]
    fn a_panic_is_known_however_much_is_said_after_it() {
        let (stdio, logs) = (Stdio::default(), Logs::new("t", 1, false, 1000));
        for piece in ["thread 'main' pan", "icked at a.rs:1:1:\n", &"x".repeat(10_000)] {
            stdio.write(&logs, Stream::Err, piece.as_bytes());
        }
        let stderr = stdio.stderr();
        assert!(stderr.panicked && !stderr.out_of_memory && !stderr.tail.contains("panicked"), "{stderr:?}");
        stdio.forget();
        assert!(!stdio.stderr().panicked, "another call");
    }

    #[test]
    fn a_write_of_more_than_is_permitted_traps() {
        let mut stream = GuestStream::stdout(&Arc::default(), &Arc::new(Logs::new("t", 1, false, 1000)));
        assert!(stream.write(bytes::Bytes::from(vec![b'x'; PERMIT])).is_ok());
        assert!(matches!(stream.write(bytes::Bytes::from(vec![b'x'; PERMIT + 1])), Err(StreamError::Trap(_))));
    }

    #[test]
    fn held_lines_appear_once_the_batch_stands_or_never() {
        let logs = Logs::new("t", 1, true, 1000);
        let failed = Stdio::default();
        failed.hold();
        failed.write(&logs, Stream::Out, b"of a batch that is run again\n");
        drop(failed);
        let stands = Stdio::default();
        stands.hold();
        stands.write(&logs, Stream::Out, b"of the batch that stands\n");
        assert_eq!(logs.counts().written, 0);
        stands.release(&logs);
        assert_eq!(logs.counts().written, 1);
    }
}
