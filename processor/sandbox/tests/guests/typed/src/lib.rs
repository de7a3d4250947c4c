//! The acts, in the typed world and without an SDK.

use acts::{Act, act};

wit_bindgen::generate!({ world: "drained-transform", path: "../../../../../sdk/wit" });

use pelton::transform::log;
use pelton::transform::types::{Header, Output};

struct Actor;

thread_local! {
    /// What to do in `drain`.
    static DRAIN: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

impl Guest for Actor {
    fn configure(settings: Vec<(String, String)>) -> Result<(), String> {
        if let Some((_, text)) = settings.iter().find(|(name, _)| name == "drain") {
            DRAIN.set(text.clone());
        }
        match settings.iter().find(|(name, _)| name == "configure") {
            Some((_, text)) if text == "refuse" => Err("refused as asked".into()),
            Some((_, text)) => {
                act(Some(text.as_bytes()));
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn drain() {
        let text = DRAIN.take();
        if !text.is_empty() {
            act(Some(text.as_bytes()));
        }
    }

    fn process(batch: Vec<Message>) -> Result<Vec<Outcome>, String> {
        if batch.iter().any(|message| message.value.as_deref() == Some(b"fail the batch")) {
            return Err("as asked".into());
        }
        let short = batch.iter().any(|message| message.value.as_deref() == Some(b"forget one"));
        let mut outcomes: Vec<_> = batch.into_iter().map(one).collect();
        if short {
            outcomes.pop();
        }
        Ok(outcomes)
    }
}

export!(Actor);

fn one(message: Message) -> Outcome {
    let value = message.value.clone();
    if let Some(text) = value.as_deref().and_then(|value| value.strip_prefix(b"log ")) {
        log::log(log::Level::Warn, &String::from_utf8_lossy(text));
        return Outcome::Keep;
    }
    if value.as_deref() == Some(b"forget one") {
        return Outcome::Keep;
    }
    if value.as_deref() == Some(b"where") {
        let place = format!("{}/{}@{} {}", message.topic, message.partition, message.offset, message.timestamp_ms);
        return Outcome::Emit(vec![copy(message, Some(place.into_bytes()))]);
    }
    match act(value.as_deref()) {
        Act::Keep => Outcome::Keep,
        Act::Drop => Outcome::Drop,
        Act::Copy => Outcome::Emit(vec![copy(message, value)]),
        Act::Tombstone => Outcome::Emit(vec![copy(message, None)]),
        Act::To(topic) => Outcome::Emit(vec![Output { topic: Some(topic), ..copy(message, value) }]),
        Act::Partition(partition) => Outcome::Emit(vec![Output { partition: Some(partition), ..copy(message, value) }]),
        Act::Timestamp(ms) => Outcome::Emit(vec![Output { timestamp_ms: Some(ms), ..copy(message, value) }]),
        Act::Header(name) => {
            let mut output = copy(message, value);
            output.headers.push(Header { key: name, value: Some(b"1".to_vec()) });
            Outcome::Emit(vec![output])
        }
        Act::Reject(reason) => Outcome::Reject(reason),
        Act::Emit(values) => {
            Outcome::Emit(values.into_iter().map(|value| copy(message.clone(), Some(value))).collect())
        }
    }
}

fn copy(message: Message, value: Option<Vec<u8>>) -> Output {
    Output { topic: None, partition: None, timestamp_ms: None, key: message.key, value, headers: message.headers }
}
