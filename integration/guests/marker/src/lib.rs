//! The transform of the reload tests: passes each record on with the header `mark`, whose value is the setting `mark`. The
//! setting `fail` makes `configure` refuse.

use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topics, Transform};

struct Marker {
    mark: String,
}

impl Transform for Marker {
    fn configure(settings: &Settings, _: &Topics) -> Result<Self, String> {
        match settings.get("fail") {
            Some(_) => Err("told to fail".into()),
            None => Ok(Self { mark: settings.get("mark").unwrap_or_default().to_owned() }),
        }
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        Ok(out.emit(record.output().header("mark", self.mark.as_bytes())))
    }
}

pelton_sdk::export!(Marker);
