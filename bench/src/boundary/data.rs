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

/// An order of about `bytes` bytes: half of the amounts are negative.
pub(crate) fn order(bytes: usize, i: usize) -> String {
    const WORDS: [&str; 8] = ["order", "customer", "amount", "currency", "delivery", "street", "number", "received"];
    let word = |n: usize| WORDS[(i / 7 + n * 3) % WORDS.len()];
    // Spread by a prime; never whole, which some would write without a point.
    let cents = ((i * 7_919) % 200_000) as i64 - 100_000;
    let amount = if cents % 100 == 0 { cents + 1 } else { cents } as f64 / 100.0;
    let mut order = format!(
        r#"{{"id":{i},"user":"user-{:05}-{}","amount":{amount:.2},"tags":["{}","{}","{}","{}"],"note":""#,
        (i * 31) % 100_000,
        word(0),
        word(1),
        word(2),
        word(3),
        word(4)
    );
    for n in 5.. {
        if order.len() + 12 > bytes {
            break;
        }
        order += word(n);
        order.push(' ');
    }
    order + "\"}"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_orders_are_negative() {
        let amount = |i| serde_json::from_str::<serde_json::Value>(&order(300, i)).unwrap()["amount"].as_f64().unwrap();
        assert_eq!((0..200_000).filter(|i| amount(*i) < 0.0).count(), 100_000);
        assert!((285..=300).contains(&order(300, 123_456).len()));
    }

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
