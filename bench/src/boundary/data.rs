//! The records: JSON events of one size with a key of 16 bytes and two headers. Every tenth is a debug event.

use pelton_sandbox::{Header, Record};

/// What the records borrow from.
pub(crate) struct Data(Vec<Event>);

struct Event {
    key: String,
    value: String,
    trace: String,
}

impl Data {
    pub(crate) fn new(records: usize, bytes: usize) -> Self {
        let made = |i| Event { key: format!("key-{i:012}"), value: event(bytes, i), trace: format!("{i:016}") };
        Self((0..records).map(made).collect())
    }

    pub(crate) fn headers(&self) -> Vec<[Header<'_>; 2]> {
        self.0
            .iter()
            .map(|Event { trace, .. }| {
                let trace = Header { key: b"trace-id", value: Some(trace.as_bytes()) };
                [trace, Header { key: b"source", value: Some(b"orders") }]
            })
            .collect()
    }

    pub(crate) fn records<'a>(&'a self, headers: &'a [[Header<'a>; 2]]) -> Vec<Record<'a>> {
        let record = |(offset, (event, headers)): (i64, (&'a Event, &'a [Header<'a>; 2]))| Record {
            topic: 0,
            partition: 0,
            offset,
            timestamp_ms: 1_700_000_000_000 + offset,
            key: Some(event.key.as_bytes()),
            value: Some(event.value.as_bytes()),
            headers,
        };
        (0..).zip(self.0.iter().zip(headers)).map(record).collect()
    }
}

/// An event of exactly `bytes` bytes, if those are enough for the fields that the work wants: strings of up to 60 bytes,
/// a number after every third, spaces at the end.
pub(crate) fn event(bytes: usize, i: usize) -> String {
    let level = if i % 10 == 9 { "debug" } else { "info" };
    let mut event =
        format!(r#"{{"id":{},"level":"{level}","user":"u{}","tmp":"x","msg":"hello""#, 100_000 + i, i % 977);
    let mut field = 0;
    while event.len() + 40 < bytes {
        let text = (bytes - event.len() - 20).min(60);
        event += &format!(r#","f{field}":"{}""#, &"abcdefghij".repeat(6)[..text]);
        field += 1;
        if field % 3 == 0 {
            event += &format!(r#","n{field}":{}"#, i * 31 + field);
        }
    }
    event.push('}');
    let spaces = bytes.saturating_sub(event.len());
    event + &" ".repeat(spaces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_of_the_size_asked_for() {
        for bytes in [100, 300, 1_000] {
            for i in [0, 9, 199] {
                let value = event(bytes, i);
                assert_eq!(value.len(), bytes, "{value}");
                let parsed: serde_json::Value = serde_json::from_str(&value).unwrap();
                assert_eq!(parsed["level"] == "debug", i % 10 == 9);
            }
        }
    }
}
