//! The acts, through the SDK.

use acts::{Act, act};
use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topics, Transform};

struct Actor;

impl Transform for Actor {
    fn configure(settings: &Settings, _: &Topics) -> Result<Self, String> {
        match settings.get("configure") {
            Some("refuse") => Err("refused as asked".into()),
            Some(text) => {
                act(Some(text.as_bytes()));
                Ok(Self)
            }
            None => Ok(Self),
        }
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        let outcome = match act(record.value()) {
            Act::Keep => Outcome::Keep,
            Act::Drop => Outcome::Drop,
            Act::Copy => out.emit(record.output()),
            Act::Tombstone => out.emit(record.output().tombstone()),
            Act::To(topic) => out.emit(record.output().topic(&*topic)),
            Act::Header(name) => out.emit(record.output().header(&name, b"1")),
            Act::Partition(partition) => out.emit(record.output().partition(partition)),
            Act::Timestamp(ms) => out.emit(record.output().timestamp_ms(ms)),
            Act::Reject(reason) => return Err(Reject::new(reason)),
            Act::Emit(values) => {
                for value in values {
                    out.emit(record.output().value(&value));
                }
                Outcome::Emit
            }
        };
        Ok(outcome)
    }
}

pelton_sdk::export!(Actor);
