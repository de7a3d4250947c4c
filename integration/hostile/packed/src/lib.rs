//! The deeds in the packed world, through the SDK. The setting `configure` is done in `configure`.

use deeds::{Deed, deed};
use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topics, Transform};

struct Hostile;

impl Transform for Hostile {
    fn configure(settings: &Settings, _: &Topics) -> Result<Self, String> {
        match settings.get("configure").map(|text| deed(text.as_bytes())) {
            Some(Deed::Reject(reason)) => Err(reason),
            _ => Ok(Self),
        }
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        Ok(match deed(record.value().unwrap_or_default()) {
            Deed::Keep => Outcome::Keep,
            Deed::Emit(value) => out.emit(record.output().value(&value)),
            Deed::Many(count) => {
                for _ in 0..count {
                    out.emit(record.output().value(b"x"));
                }
                Outcome::Emit
            }
            Deed::Key(size) => out.emit(record.output().key(&vec![b'k'; size])),
            Deed::Headers(count, name) => {
                let output = (0..count).fold(record.output(), |output, _| output.header(&name, b""));
                out.emit(output)
            }
            Deed::To(topic) => out.emit(record.output().topic(&*topic)),
            Deed::Reject(reason) => return Err(Reject::new(reason)),
        })
    }
}

pelton_sdk::export!(Hostile);
