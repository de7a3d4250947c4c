//! The transform of the reload tests: passes each record on with the header `mark`, whose value is the setting `mark`. The
//! setting `fail` makes `configure` refuse and quote it, `trap: N` makes it panic on every Nth number.

use pelton_sdk::{Level, Outcome, Outputs, Record, Reject, Settings, Topics, Transform, log};

struct Marker {
    mark: String,
    trap: Option<u64>,
    seen: u64,
}

impl Transform for Marker {
    fn configure(settings: &Settings, _: &Topics) -> Result<Self, String> {
        match settings.get("fail") {
            Some(why) => Err(format!("told to fail: {why}")),
            None => Ok(Self {
                mark: settings.get("mark").unwrap_or_default().to_owned(),
                trap: settings.get("trap").and_then(|n| n.parse().ok()),
                seen: 0,
            }),
        }
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        self.seen += 1;
        let number = record.value().and_then(|value| std::str::from_utf8(value).ok()?.parse::<u64>().ok());
        if let (Some(n), Some(number)) = (self.trap, number) {
            assert!(number % n != 0, "told to");
        }
        Ok(out.emit(record.output().header("mark", self.mark.as_bytes())))
    }

    fn drain(&mut self) {
        log(Level::Info, &format!("mark {} goes after {} records", self.mark, self.seen));
    }
}

pelton_sdk::export!(Marker);
