//! The guest of the boundary benchmark: the work that the setting `work` names, written as an author would.

use boundary_work::{Verdict, Work};
use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topics, Transform};

struct Boundary {
    work: Work,
    /// The new value of a record; its memory is used again for the next one.
    value: Vec<u8>,
}

impl Transform for Boundary {
    fn configure(settings: &Settings, _: &Topics) -> Result<Self, String> {
        Ok(Self { work: settings.parse("work")?, value: Vec::new() })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        self.value.clear();
        Ok(match self.work.apply(record.value().unwrap_or_default(), &mut self.value)? {
            Verdict::Keep => Outcome::Keep,
            Verdict::Drop => Outcome::Drop,
            Verdict::Copy => out.emit(record.output()),
            Verdict::Changed => out.emit(record.output().value(&self.value)),
        })
    }
}

pelton_sdk::export!(Boundary);

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::testing::{Settled, case, input};

    fn run(work: &str, value: &str) -> Settled {
        case::<Boundary>().setting("work", work).run(&[input().value(value)]).remove(0)
    }

    #[test]
    fn each_verdict_is_an_outcome() {
        let event = r#"{"id":1,"level":"info","user":"u","msg":"m"}"#;
        assert!(run("keep", event).is_keep());
        assert_eq!(run("identity", event).only_output().value_text(), Some(event));
        assert!(run("json", &event.replace("info", "debug")).is_drop());
        assert!(run("json", event).only_output().value_text().unwrap().contains("severity"));
        assert!(run("jsonraw", "?").reason().is_some());
    }
}
