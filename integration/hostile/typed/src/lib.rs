//! The deeds in the typed world, without an SDK. The setting `configure` is done in `configure`.

use deeds::{Deed, deed};

wit_bindgen::generate!({ world: "transform", path: "../../../sdk/wit" });

use pelton::transform::types::{Header, Output};

struct Hostile;

impl Guest for Hostile {
    fn configure(settings: Vec<(String, String)>) -> Result<(), String> {
        match settings.iter().find(|(name, _)| name == "configure").map(|(_, text)| deed(text.as_bytes())) {
            Some(Deed::Reject(reason)) => Err(reason),
            _ => Ok(()),
        }
    }

    fn process(batch: Vec<Message>) -> Result<Vec<Outcome>, String> {
        Ok(batch.into_iter().map(one).collect())
    }
}

export!(Hostile);

fn one(message: Message) -> Outcome {
    let deed = deed(message.value.as_deref().unwrap_or_default());
    let output = |value: Option<Vec<u8>>| Output {
        topic: None,
        partition: None,
        timestamp_ms: None,
        key: message.key.clone(),
        value,
        headers: Vec::new(),
    };
    match deed {
        Deed::Keep => Outcome::Keep,
        Deed::Emit(value) => Outcome::Emit(vec![output(Some(value))]),
        Deed::Many(count) => Outcome::Emit((0..count).map(|_| output(Some(b"x".to_vec()))).collect()),
        Deed::Key(size) => Outcome::Emit(vec![Output { key: Some(vec![b'k'; size]), ..output(None) }]),
        Deed::Headers(count, name) => {
            let headers = (0..count).map(|_| Header { key: name.clone(), value: Some(Vec::new()) }).collect();
            Outcome::Emit(vec![Output { headers, ..output(None) }])
        }
        Deed::To(topic) => Outcome::Emit(vec![Output { topic: Some(topic), ..output(None) }]),
        Deed::Reject(reason) => Outcome::Reject(reason),
    }
}
