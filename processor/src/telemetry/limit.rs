//! Keeps the log readable whatever happens: a place in the code that has written its share of lines is silenced for the
//! rest of a window, and the log then says how many lines were held back, and from which place. So a flood of records
//! cannot become a flood of lines, even where nobody thought of it. What was asked for at debug level and below is not
//! held back, nor are guests, which have their own budget.
//!
//! It also keeps the HTTP client from logging what it sends: headers hold secrets (I10), and no filter of an operator
//! may bring them into a log.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter};

/// Lines of one place within a window.
const LINES_MAX: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);

/// The log's own filter, besides the one that the operator gives.
#[derive(Clone, Copy, Debug)]
pub struct Limit;

/// One for the process, as the log is.
static SITES: Mutex<Option<Sites>> = Mutex::new(None);

impl<S> Filter<S> for Limit {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        !metadata.target().starts_with("ureq") || *metadata.level() <= Level::WARN
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == "guest" {
            return true;
        }
        let mut sites = SITES.lock().unwrap_or_else(PoisonError::into_inner);
        sites.get_or_insert_default().admit(metadata.callsite(), place(metadata), Instant::now())
    }
}

fn place(metadata: &'static Metadata<'static>) -> String {
    format!("{}:{}", metadata.target(), metadata.line().unwrap_or(0))
}

/// Says what was held back, every so often, for ever.
pub async fn report() {
    let mut ticks = tokio::time::interval(WINDOW);
    loop {
        ticks.tick().await;
        let held = {
            let mut sites = SITES.lock().unwrap_or_else(PoisonError::into_inner);
            sites.as_mut().map(|sites| sites.held(Instant::now())).unwrap_or_default()
        };
        for (site, lines) in held {
            tracing::warn!(site, lines, code = "log.limited", "lines like those of this place before were held back");
        }
    }
}

#[derive(Debug, Default)]
struct Sites(HashMap<Identifier, Site>);

#[derive(Debug)]
struct Site {
    place: String,
    since: Instant,
    lines: u32,
    held: u64,
}

impl Sites {
    fn admit(&mut self, id: Identifier, place: String, now: Instant) -> bool {
        let site = self.0.entry(id).or_insert_with(|| Site { place, since: now, lines: 0, held: 0 });
        if now.saturating_duration_since(site.since) >= WINDOW {
            (site.since, site.lines) = (now, 0);
        }
        site.lines += 1;
        let admitted = site.lines <= LINES_MAX;
        site.held += u64::from(!admitted);
        admitted
    }

    /// What was held back in windows that are over, once.
    fn held(&mut self, now: Instant) -> Vec<(String, u64)> {
        let over = |site: &&mut Site| site.held > 0 && now.saturating_duration_since(site.since) >= WINDOW;
        self.0.values_mut().filter(over).map(|site| (site.place.clone(), std::mem::take(&mut site.held))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That of an event which a subscriber of ours sees.
    fn id() -> Identifier {
        use tracing_subscriber::layer::SubscriberExt;
        static SEEN: Mutex<Option<Identifier>> = Mutex::new(None);
        struct Look;
        impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Look {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                *SEEN.lock().unwrap() = Some(event.metadata().callsite());
            }
        }
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Look), || tracing::info!("seen"));
        SEEN.lock().unwrap().clone().unwrap()
    }

    #[test]
    fn a_place_writes_its_share_and_then_says_how_much_was_held_back() {
        let mut sites = Sites::default();
        let id = id();
        let start = Instant::now();
        let admitted = (0..80).filter(|_| sites.admit(id.clone(), "here".into(), start)).count();
        assert_eq!(admitted, LINES_MAX as usize);
        assert_eq!(sites.held(start), [], "the window is not over");
        assert_eq!(sites.held(start + WINDOW), [("here".to_owned(), 30)]);
        assert_eq!(sites.held(start + WINDOW), [], "once");
        assert!(sites.admit(id, "here".into(), start + WINDOW), "another window");
    }
}
