//! Copies every record to the output topic, unchanged: the smallest transform there is, and a check of the plumbing.
//!
//! With the setting `copy: "true"` each record is emitted as a new one instead of kept. The result is the same; `keep` is
//! the cheaper way, because no bytes leave the sandbox.

use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topics, Transform};

struct Identity {
    copy: bool,
}

impl Transform for Identity {
    fn configure(settings: &Settings, _: &Topics) -> Result<Self, String> {
        let copy = settings.get("copy").map_or(Ok(false), |_| settings.parse("copy"))?;
        Ok(Self { copy })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        Ok(if self.copy { out.emit(record.output()) } else { Outcome::Keep })
    }
}

pelton_sdk::export!(Identity);

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::testing::{case, input};

    #[test]
    fn keeps() {
        assert!(case::<Identity>().run(&[input().value("x")])[0].is_keep());
    }

    #[test]
    fn copies_everything() {
        let outcomes = case::<Identity>().setting("copy", "true").run(&[input().key("k").tombstone().header("h", "1")]);
        let output = outcomes[0].only_output();
        assert_eq!((output.key.as_deref(), &output.value), (Some(&b"k"[..]), &None));
        assert_eq!(output.header("h"), Some(&b"1"[..]));
    }

    #[test]
    fn refuses_a_setting_that_is_no_bool() {
        assert!(case::<Identity>().setting("copy", "maybe").configure().is_err());
    }
}
