//! The transform of the reload tests: passes each record on with the header `mark`, whose value is the setting `mark`. The
//! setting `fail` makes `configure` refuse, `trap: N` makes it panic on every Nth number.

use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topics, Transform};

struct Marker {
    mark: String,
    trap: Option<u64>,
}

impl Transform for Marker {
    fn configure(settings: &Settings, _: &Topics) -> Result<Self, String> {
        match settings.get("fail") {
            Some(_) => Err("told to fail".into()),
            None => Ok(Self {
                mark: settings.get("mark").unwrap_or_default().to_owned(),
                trap: settings.get("trap").and_then(|n| n.parse().ok()),
            }),
        }
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        let number = record.value().and_then(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok());
        if let (Some(n), Some(number)) = (self.trap, number) {
            assert!(number % n != 0, "told to");
        }
        Ok(out.emit(record.output().header("mark", self.mark.as_bytes())))
    }
}

pelton_sdk::export!(Marker);
