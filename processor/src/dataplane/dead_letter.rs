//! The headers of a dead letter. The record itself stays as it was: key, value, timestamp and its own headers, byte for
//! byte; further headers say what went wrong, with the names of KIP-1191 (`__dlq.errors.*`) and our own.

use pelton_kafka::Message;

/// Reasons are cut to this many bytes.
const REASON_MAX: usize = 1024;
/// Backtraces to so many: a dozen functions with long names.
const BACKTRACE_MAX: usize = 2048;

/// What went wrong with a record.
#[derive(Clone, Copy, Debug)]
pub struct Verdict<'a> {
    /// Stable: `guest.rejected`, `guest.deadline`, `output.too_large`, …
    pub code: &'a str,
    /// The guest's words or ours; may hold data, so it goes nowhere else (I10).
    pub reason: &'a str,
    /// The guest's functions that ran when it failed, innermost first.
    pub backtrace: Option<&'a str>,
    pub group: &'a str,
    pub topic: &'a str,
    pub transform: &'a str,
    pub digest: &'a str,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// Names and texts, in the order in which they are written. `brief`: without reason and backtrace, for a record that would
/// otherwise be too large for its topic.
pub fn headers(verdict: &Verdict<'_>, message: &Message<'_>, brief: bool) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("__dlq.errors.topic", verdict.topic.to_owned()),
        ("__dlq.errors.partition", message.partition().to_string()),
        ("__dlq.errors.offset", message.offset().to_string()),
        ("__dlq.errors.group", verdict.group.to_owned()),
        ("__dlq.errors.delivery.count", "1".to_owned()),
        ("pelton.error.code", verdict.code.to_owned()),
        ("pelton.error.transform", verdict.transform.to_owned()),
        ("pelton.error.digest", verdict.digest.to_owned()),
        ("pelton.error.timestamp", verdict.at_ms.to_string()),
    ];
    if !brief {
        headers.push(("__dlq.errors.message", cut(verdict.reason).to_owned()));
        let backtrace = verdict.backtrace.map(|text| &text[..text.floor_char_boundary(BACKTRACE_MAX)]);
        headers.extend(backtrace.map(|text| ("pelton.error.backtrace", text.to_owned())));
    }
    headers
}

/// At most [`REASON_MAX`] bytes, never in the middle of a character.
pub fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_kafka::{Batch, OwnedMessage};

    #[test]
    fn coordinates_and_reason_are_in_the_headers_that_others_know() {
        let mut batch = Batch::new();
        batch.push_owned(0, OwnedMessage { partition: 3, offset: 41, ..OwnedMessage::default() });
        let verdict = Verdict {
            code: "guest.rejected",
            reason: "no amount",
            backtrace: Some("0: at the disco"),
            group: "orders",
            topic: "in",
            transform: "redact",
            digest: "3b1c",
            at_ms: 1700,
        };
        let message = batch.get(0).unwrap();
        let all = headers(&verdict, &message, false);
        let get = |name: &str| all.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        // Partition and offset are different numbers in different headers: each is read back.
        assert_eq!(get("__dlq.errors.topic"), Some("in"));
        assert_eq!(get("__dlq.errors.partition"), Some("3"));
        assert_eq!(get("__dlq.errors.offset"), Some("41"));
        assert_eq!(get("__dlq.errors.group"), Some("orders"));
        assert_eq!(get("__dlq.errors.message"), Some("no amount"));
        assert_eq!(get("pelton.error.backtrace"), Some("0: at the disco"));
        assert_eq!(get("pelton.error.code"), Some("guest.rejected"));
        assert_eq!(get("pelton.error.transform"), Some("redact"));
        assert_eq!(get("pelton.error.digest"), Some("3b1c"));
        assert_eq!(get("pelton.error.timestamp"), Some("1700"));
        assert!(
            headers(&verdict, &message, true)
                .iter()
                .all(|(n, _)| *n != "__dlq.errors.message" && *n != "pelton.error.backtrace")
        );
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let long = "é".repeat(600);
        assert_eq!(cut(&long).len(), 1024);
        assert_eq!(cut(&format!("x{long}")).len(), 1023);
        assert_eq!(cut("short"), "short");
    }
}
