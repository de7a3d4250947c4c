//! The time of day, for what is shown to others: records' ages, spans, lists. Decisions use `Instant`.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970; 0 where the clock says that it is earlier.
pub(crate) fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Milliseconds since 1970, as Kafka counts.
pub(crate) fn unix_ms() -> i64 {
    (unix_nanos() / 1_000_000) as i64
}
