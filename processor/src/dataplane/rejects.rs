//! A worker's last records that were rejected or failed, for people who watch: where each was and the code, but nothing
//! that it contained or that a guest said about it (I10). A record that is read again after a rollback is here twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// So many are kept (I9).
const KEPT: usize = 20;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reject {
    /// When it was found, in milliseconds since 1970.
    pub at_ms: i64,
    pub transform: Arc<str>,
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    pub code: &'static str,
}

#[derive(Debug, Default)]
pub struct Rejects(Mutex<VecDeque<Reject>>);

impl Rejects {
    pub fn note(&self, reject: Reject) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(reject);
    }

    /// The newest last.
    pub fn read(&self) -> Vec<Reject> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept() {
        let rejects = Rejects::default();
        for offset in 0..50 {
            let (transform, topic) = ("t".into(), "in".into());
            rejects.note(Reject { at_ms: 0, transform, topic, partition: 0, offset, code: "guest.trap" });
        }
        let offsets: Vec<i64> = rejects.read().iter().map(|reject| reject.offset).collect();
        assert_eq!(offsets, (30..50).collect::<Vec<_>>());
    }
}
