//! Owns the loop that polls a guest call, and with it the deadline and the fuel of each record. Promises: code is
//! charged in CPU time of this thread, waiting (WASI timers and files) in wall time, so that a busy machine kills
//! nobody; budgets restart only when the count of settled records grows; a call always ends. Precision is one yield of
//! fuel (`interval`), 60 to 120 us of plain code.
//!
//! The guest yields every `interval` units of fuel. Only there are the clock and the count read, so a record that is
//! quicker than an interval costs nothing here. Host functions cost fuel too: they `charge` what they take, and
//! `pay` yields once for each interval of it (`hostcalls`).

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Fuel between two yields: the measured optimum, 0.6 to 2 us of CPU each (packed-abi.md section 2).
const INTERVAL: u64 = 1_000_000;

/// How long host functions may work before the clock is looked at: a quarter of the deadline, and at least as long as a few
/// intervals of plain code take.
fn unseen_max(deadline: Duration) -> Duration {
    (deadline / 4).max(Duration::from_micros(300))
}

/// What one record may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) deadline: Duration,
    /// Yields without progress after which the fuel is spent.
    yields: u64,
    /// Fuel between two yields.
    pub(crate) interval: u64,
    budget: u64,
}

impl Pace {
    pub(crate) fn new(deadline: Duration, fuel: u64) -> Self {
        // A small budget gets shorter intervals, so that it still counts ten of them.
        let interval = (fuel / 10).clamp(10_000, INTERVAL);
        Self { deadline, yields: (fuel / interval).max(1), interval, budget: fuel }
    }

    /// Only a deadline: for `configure`.
    pub(crate) fn unfuelled(deadline: Duration) -> Self {
        Self { deadline, yields: u64::MAX, interval: INTERVAL, budget: u64::MAX / 4 }
    }

    /// `n` budgets in one, for a call whose records cannot be told apart.
    pub(crate) fn times(self, n: u32) -> Self {
        Self { deadline: self.deadline.saturating_mul(n), yields: self.yields.saturating_mul(n.into()), ..self }
    }

    /// Fuel for a call of `n` records. A record is stopped up to two intervals late, so each gets two more; with less,
    /// a record could be charged for its predecessors' excess.
    pub(crate) fn fuel(self, n: usize) -> u64 {
        self.budget.saturating_add(2 * self.interval).saturating_mul(n as u64).min(u64::MAX / 2)
    }
}

/// Why a call was given up. The store is dead then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Late {
    Time { spent: Duration },
    Fuel,
}

thread_local! {
    static ALARM: (Arc<Alarm>, Waker) = {
        let alarm = Arc::new(Alarm { rung: AtomicBool::new(false), thread: std::thread::current() });
        (Arc::clone(&alarm), Waker::from(alarm))
    };
    /// Fuel that host functions have charged and that is not paid yet.
    static DEBT: Cell<u64> = const { Cell::new(0) };
    /// What host functions did since the deadline was last looked at.
    static HOST: Cell<HostTime> = const { Cell::new(HostTime::none(Duration::MAX)) };
    /// The next yield is for the clock alone, and no interval of fuel.
    static FREE: Cell<bool> = const { Cell::new(false) };
}

/// Wakes a thread that waits in `drive`. A yield of fuel wakes at once, from this thread.
struct Alarm {
    rung: AtomicBool,
    thread: std::thread::Thread,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // SeqCst is not needed: `unpark` and `park_timeout` order the flag.
        self.rung.store(true, Relaxed);
        if self.thread.id() != std::thread::current().id() {
            self.thread.unpark();
        }
    }
}

/// The guest owes so much fuel for what a host function does for it. To be called on the thread that drives the guest.
pub(crate) fn charge(fuel: u64) {
    DEBT.set(DEBT.get().saturating_add(fuel));
}

/// Yields as often as what is owed makes intervals: `drive` then counts them as the guest's own.
pub(crate) async fn pay(interval: u64) {
    while DEBT.get() >= interval {
        DEBT.set(DEBT.get() - interval);
        yield_once().await;
    }
}

/// Time in host functions, on this thread. One may call the guest, which may call another: what counts is the outermost.
#[derive(Clone, Copy)]
struct HostTime {
    depth: u32,
    since: Option<Instant>,
    before: Duration,
    /// Unseen.
    most: Duration,
}

impl HostTime {
    const fn none(most: Duration) -> Self {
        HostTime { depth: 0, since: None, before: Duration::ZERO, most }
    }

    fn spent(&self) -> Duration {
        self.before + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The deadline is looked at.
    fn start_anew() {
        let host = HOST.get();
        HOST.set(HostTime { since: host.since.map(|_| Instant::now()), before: Duration::ZERO, ..host });
    }
}

/// A host function begins.
pub(crate) fn enter_host() {
    let host = HOST.get();
    let since = host.since.or_else(|| Some(Instant::now()));
    HOST.set(HostTime { depth: host.depth + 1, since, ..host });
}

/// A host function has returned. Yields, without a price, where they have taken long since the deadline was last looked at.
pub(crate) async fn leave_host() {
    let host = HOST.get();
    let spent = host.spent();
    let depth = host.depth.saturating_sub(1);
    HOST.set(if depth == 0 {
        HostTime { depth, since: None, before: spent, ..host }
    } else {
        HostTime { depth, ..host }
    });
    if spent > host.most {
        FREE.set(true);
        yield_once().await;
    }
}

async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
pub(crate) fn charged() -> u64 {
    DEBT.get()
}

#[cfg(test)]
pub(crate) fn charge_start() {
    DEBT.set(0);
}

/// CPU time of this thread: a record is not blamed for time in which the kernel ran somebody else.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// What the record that runs now has taken.
struct Account {
    settled: u32,
    since: Instant,
    cpu: Duration,
    waited: Duration,
    yields: u64,
}

impl Account {
    fn open(settled: u32, now: Instant) -> Self {
        Self { settled, since: now, cpu: cpu(), waited: Duration::ZERO, yields: 0 }
    }

    fn spent(&self) -> Duration {
        cpu().saturating_sub(self.cpu) + self.waited
    }
}

/// Polls `call` to its end, or until the record that runs exceeds `pace`. `settled` tells how many records are done; it
/// may lie: only growth up to `records` buys a new budget.
pub(crate) fn drive<F: Future>(
    call: F,
    settled: impl Fn() -> u32,
    records: u32,
    pace: Pace,
) -> Result<F::Output, Late> {
    let mut call = pin!(call);
    DEBT.set(0);
    FREE.set(false);
    HOST.set(HostTime::none(unseen_max(pace.deadline)));
    ALARM.with(|(alarm, waker)| {
        let mut cx = Context::from_waker(waker);
        let mut account: Option<Account> = None;
        loop {
            // Cleared before the poll: a wake from here on is either a yield or news, and both mean "poll again".
            alarm.rung.store(false, Relaxed);
            if let Poll::Ready(output) = call.as_mut().poll(&mut cx) {
                return Ok(output);
            }
            let now = Instant::now();
            HostTime::start_anew();
            let free = FREE.take();
            let count = settled();
            let record = match &mut account {
                Some(record) if count <= record.settled || count > records => record,
                _ => {
                    account = Some(Account::open(count.min(records), now));
                    continue_or_wait(alarm, account.as_mut(), pace);
                    continue;
                }
            };
            if alarm.rung.load(Relaxed) && !free {
                record.yields += 1;
                if record.yields > pace.yields {
                    return Err(Late::Fuel);
                }
            }
            // The wall clock is read without a system call; only when it is late is the CPU's asked.
            if now - record.since > pace.deadline {
                let spent = record.spent();
                if spent > pace.deadline {
                    return Err(Late::Time { spent });
                }
            }
            continue_or_wait(alarm, account.as_mut(), pace);
        }
    })
}

/// Returns at once after a yield; otherwise the guest waits, and so do we, on its time.
fn continue_or_wait(alarm: &Alarm, account: Option<&mut Account>, pace: Pace) {
    if alarm.rung.load(Relaxed) {
        return;
    }
    let Some(record) = account else { return };
    let start = Instant::now();
    // not zero, which would spin
    let left = pace.deadline.saturating_sub(record.spent()).max(Duration::from_micros(50));
    std::thread::park_timeout(left);
    record.waited += start.elapsed();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    fn pace(deadline_ms: u64, fuel: u64) -> Pace {
        Pace::new(Duration::from_millis(deadline_ms), fuel)
    }

    /// A guest that yields `n` times, burning no time, and settles a record every `every` yields.
    fn yields(n: u64, every: u64, count: &AtomicU32) -> impl Future<Output = ()> + '_ {
        let mut at = 0;
        std::future::poll_fn(move |cx| {
            if at == n {
                return Poll::Ready(());
            }
            at += 1;
            if at % every == 0 {
                count.fetch_add(1, Relaxed);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    #[test]
    fn fuel_is_counted_from_the_last_progress() {
        let count = AtomicU32::new(0);
        let read = || count.load(Relaxed);
        assert_eq!(drive(yields(900, 9, &count), read, 100, pace(5_000, 10_000_000)), Ok(()));
        count.store(0, Relaxed);
        assert_eq!(drive(yields(900, 20, &count), read, 100, pace(5_000, 10_000_000)), Err(Late::Fuel));
    }

    #[test]
    fn the_last_interval_of_the_budget_is_still_the_records() {
        let count = AtomicU32::new(0);
        let (pace, never) = (pace(5_000, 10_000_000), u64::MAX);
        // The first yield opens the account.
        assert_eq!(drive(yields(pace.yields + 1, never, &count), || 0, 1, pace), Ok(()));
        assert_eq!(drive(yields(pace.yields + 2, never, &count), || 0, 1, pace), Err(Late::Fuel));
    }

    #[test]
    fn a_count_beyond_the_batch_buys_nothing() {
        let count = AtomicU32::new(0);
        assert_eq!(drive(yields(900, 1, &count), || count.load(Relaxed), 3, pace(5_000, 10_000_000)), Err(Late::Fuel));
    }

    #[test]
    fn a_count_that_swings_buys_nothing() {
        let swing = Cell::new(0);
        let count = AtomicU32::new(0);
        let read = || {
            swing.set(1 - swing.get());
            swing.get()
        };
        assert_eq!(drive(yields(900, 1, &count), read, 100, pace(5_000, 10_000_000)), Err(Late::Fuel));
    }

    #[test]
    fn waiting_is_charged_in_wall_time() {
        let mut polls = 0;
        let waits = std::future::poll_fn(|_| {
            polls += 1;
            Poll::<()>::Pending
        });
        let late = drive(waits, || 0, 1, pace(5, u64::MAX / 8));
        assert!(matches!(late, Err(Late::Time { spent }) if spent >= Duration::from_millis(5)), "{late:?}");
        assert!(polls < 20, "it slept through it: {polls} polls");
    }

    #[test]
    fn a_wait_that_ends_in_time_is_nobodys_fault() {
        let (waker_out, waker_in) = std::sync::mpsc::channel::<Waker>();
        let rung = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&rung);
        let other = std::thread::spawn(move || {
            let waker = waker_in.recv().unwrap();
            flag.store(true, Relaxed);
            waker.wake();
        });
        let call = std::future::poll_fn(|cx| {
            if rung.load(Relaxed) {
                return Poll::Ready(7);
            }
            let _ = waker_out.send(cx.waker().clone());
            Poll::Pending
        });
        assert_eq!(drive(call, || 0, 1, pace(60_000, u64::MAX / 8)), Ok(7));
        other.join().unwrap();
    }

    #[test]
    fn what_host_functions_charge_is_fuel() {
        let calls = |n: u64| async move {
            for _ in 0..n {
                charge(100_000);
                pay(INTERVAL).await;
            }
        };
        assert_eq!(drive(calls(99), || 0, 1, pace(60_000, 10_000_000)), Ok(()));
        assert_eq!(drive(calls(120), || 0, 1, pace(60_000, 10_000_000)), Err(Late::Fuel));
        assert_eq!(drive(async { charge(u64::MAX) }, || 0, 1, pace(60_000, 10_000_000)), Ok(()));
        assert_eq!(drive(calls(99), || 0, 1, pace(60_000, 10_000_000)), Ok(()), "a debt is not handed on");
    }

    #[test]
    fn a_debt_is_paid_by_the_interval_and_the_rest_stays() {
        let pays = async {
            charge(3 * INTERVAL + 7);
            pay(INTERVAL).await;
        };
        assert_eq!(drive(pays, || 0, 1, pace(60_000, 10_000_000)), Ok(()));
        assert_eq!(charged(), 7);
    }

    #[test]
    fn a_host_function_that_takes_long_has_the_clock_looked_at_and_costs_no_fuel() {
        // Burns CPU time, not only time.
        let spin = |time: Duration| {
            let start = Instant::now();
            while start.elapsed() < time {
                std::hint::spin_loop();
            }
        };
        let work = |each: Duration, calls: u32| async move {
            for _ in 0..calls {
                enter_host();
                spin(each / 2);
                // What it calls back, and that calls another.
                enter_host();
                leave_host().await;
                spin(each / 2);
                leave_host().await;
            }
        };
        let start = Instant::now();
        let late = drive(work(Duration::from_millis(2), 500), || 0, 1, pace(10, u64::MAX / 8));
        assert!(matches!(late, Err(Late::Time { .. })), "{late:?}");
        assert!(start.elapsed() < Duration::from_millis(500), "{:?} of a second", start.elapsed());
        // A look each 50 ms, and one interval of fuel.
        let cheap = work(Duration::from_millis(1), 180);
        assert_eq!(drive(cheap, || 0, 1, pace(200, 10_000)), Ok(()), "more looks than intervals");
        let many = work(Duration::from_micros(20), 50_000);
        let late = drive(many, || 0, 1, pace(10, u64::MAX / 8));
        assert!(matches!(late, Err(Late::Time { .. })), "each is quick, all of them are a second: {late:?}");
    }

    #[test]
    fn small_budgets_are_counted_in_shorter_intervals() {
        assert_eq!(pace(1, 500_000_000).interval, 1_000_000);
        assert_eq!(pace(1, 1_000_000).interval, 100_000);
        assert_eq!(pace(1, 1).yields, 1);
    }

    #[test]
    fn budgets_add_up() {
        let one = pace(5, 500_000_000);
        let three = one.times(3);
        assert_eq!((three.deadline, three.yields), (Duration::from_millis(15), 3 * one.yields));
        assert_eq!((one.yields, three.interval), (500, one.interval));
        assert_eq!(one.fuel(2), 2 * (500_000_000 + 2 * INTERVAL));
        assert_eq!(one.fuel(usize::MAX), u64::MAX / 2, "it never overflows");
        let free = Pace::unfuelled(Duration::from_secs(1));
        assert_eq!((free.deadline, free.yields), (Duration::from_secs(1), u64::MAX));
        assert!(free.fuel(1) > u64::MAX / 5);
    }
}
