//! What asks for another plan: signals, changed files, orders from the admin server. They are carried out one at a
//! time, on a thread that may block; reloads requested meanwhile become one.

use super::reload::{Outcome, Reloader};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often trials are.
const JUDGE_EVERY: Duration = Duration::from_millis(500);

/// Takes orders. A clone is the same one.
#[derive(Clone, Debug)]
pub struct Triggers(UnboundedSender<Asked>);

#[derive(Debug)]
struct Asked {
    order: Order,
    cause: String,
    /// Who waits for the outcome.
    reply: Option<oneshot::Sender<Outcome>>,
}

/// What can be asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// `retry`: also what was rolled back.
    Reload {
        retry: bool,
    },
    RollBack {
        transform: String,
    },
    Promote {
        transform: String,
    },
}

impl Triggers {
    /// Carries orders out from now on, and looks after trials, until the runtime ends.
    pub fn new(reloader: &Arc<Reloader>) -> Self {
        let (ask, asked) = unbounded_channel();
        tokio::spawn(carry_out(Arc::clone(reloader), asked));
        Triggers(ask)
    }

    pub fn reload(&self, cause: &str) {
        // Nobody listens when the process ends.
        let _ = self.0.send(Asked { order: Order::Reload { retry: false }, cause: cause.to_owned(), reply: None });
    }

    /// Waits for the outcome; `None`: the process ends.
    pub async fn ask(&self, order: Order, cause: &str) -> Option<Outcome> {
        let (reply, outcome) = oneshot::channel();
        self.0.send(Asked { order, cause: cause.to_owned(), reply: Some(reply) }).ok()?;
        outcome.await.ok()
    }
}

async fn carry_out(reloader: Arc<Reloader>, mut asked: UnboundedReceiver<Asked>) {
    let mut ticks = tokio::time::interval(JUDGE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Taken from the queue, but not to be mixed with what was before it.
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(asked) => asked,
            None => tokio::select! {
                asked = asked.recv() => match asked {
                    Some(asked) => asked,
                    None => return,
                },
                _ = ticks.tick() => {
                    reloader.look_after();
                    continue;
                }
            },
        };
        let (order, mut cause, mut waiting) = (first.order, first.cause, Vec::from_iter(first.reply));
        if let Order::Reload { .. } = order {
            while let Ok(later) = asked.try_recv() {
                if later.order != order {
                    next = Some(later);
                    break;
                }
                cause = later.cause;
                waiting.extend(later.reply);
            }
        }
        let (reloader, counts) = (Arc::clone(&reloader), Arc::clone(&reloader.counts));
        // Compiling takes seconds.
        let done = tokio::task::spawn_blocking(move || match order {
            Order::Reload { retry } => reloader.reload(&cause, retry),
            Order::RollBack { transform } => reloader.roll_back(&transform, &cause),
            Order::Promote { transform } => reloader.promote(&transform, &cause),
        });
        let outcome = done.await.unwrap_or_else(|error| {
            counts.failed.fetch_add(1, Ordering::Relaxed);
            counts.note(false);
            let advice = "report it with the log; nothing has changed";
            tracing::error!(code = "reload.broken", advice, %error, "a reload panicked; nothing has changed");
            Outcome::Refused { code: "reload.broken", message: "a reload panicked".into(), advice }
        });
        for reply in waiting {
            let _ = reply.send(outcome.clone());
        }
    }
}

/// Looks at the files that the configuration is made of. What differs from what the last reload read asks for another one, once
/// it has stood still for a look: a file that is being written is not read. By polling, because a mounted volume tells nobody
/// of its changes.
pub async fn watch(reloader: Arc<Reloader>, triggers: Triggers) {
    let (mut seen, mut asked) = (None, None);
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let read = reloader.read();
        let look = (read.anew(), read);
        let (now, read) = &look;
        if now == read {
            (asked, seen) = (None, None);
        } else if asked.as_ref() == Some(&look) {
            // What was asked for is still waited for.
            seen = None;
        } else if seen.as_ref() == Some(&look) {
            (asked, seen) = (Some(look), None);
            triggers.reload("file");
        } else {
            seen = Some(look);
        }
    }
}
