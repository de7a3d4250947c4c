//! How often something happened recently: what decides between "again" and "forever".

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Moments within a sliding window.
#[derive(Debug)]
pub struct Recent {
    within: Duration,
    moments: VecDeque<Instant>,
}

impl Recent {
    pub fn new(within: Duration) -> Self {
        Recent { within, moments: VecDeque::new() }
    }

    /// As if it had never happened.
    pub fn forget(&mut self) {
        self.moments.clear();
    }

    /// Notes that it happened `now`; how often it did within the window, this time included.
    pub fn note(&mut self, now: Instant) -> usize {
        while self.moments.front().is_some_and(|at| now.saturating_duration_since(*at) > self.within) {
            self.moments.pop_front();
        }
        self.moments.push_back(now);
        self.moments.len()
    }
}
