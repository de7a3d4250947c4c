//! Removes fields from JSON records: card numbers, addresses, whatever must not travel on.
//!
//! ```yaml
//! settings: { fields: "card, customer.ssn, items.price", drop: test }
//! ```
//!
//! A dot leads into an object; an array on the way means each of its items. Records that lack the fields pass unchanged,
//! tombstones too. With `drop`, records in which that field is `true` are dropped: test orders, say. A value that is not JSON is rejected, never passed on: it could hold what should have been removed.

use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topics, Transform};
use serde_json::Value;

struct Redact {
    /// Each a path of keys.
    fields: Vec<Vec<String>>,
    /// Records in which this is `true` are dropped.
    drop: Option<Vec<String>>,
}

impl Transform for Redact {
    fn configure(settings: &Settings, _: &Topics) -> Result<Self, String> {
        settings.require("fields")?;
        let path = |field: &str| field.split('.').map(str::to_owned).collect();
        let drop = settings.get("drop").map(path);
        let fields: Vec<_> = settings.list("fields").into_iter().map(path).collect();
        if fields.is_empty() {
            return Err("the setting `fields` names no field".into());
        }
        Ok(Self { fields, drop })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        let Some(bytes) = record.value() else { return Ok(Outcome::Keep) };
        let mut value: Value = serde_json::from_slice(bytes).map_err(not_json)?;
        if self.drop.as_ref().is_some_and(|path| is_true(&value, path)) {
            return Ok(Outcome::Drop);
        }
        let mut removed = false;
        for field in &self.fields {
            removed |= remove(&mut value, field);
        }
        if !removed {
            return Ok(Outcome::Keep);
        }
        let redacted = serde_json::to_vec(&value)?;
        Ok(out.emit(record.output().value(&redacted)))
    }
}

pelton_sdk::export!(Redact);

/// Whether anything was there to remove.
fn remove(value: &mut Value, path: &[String]) -> bool {
    match (value, path) {
        (Value::Array(items), _) => items.iter_mut().fold(false, |removed, item| remove(item, path) | removed),
        (Value::Object(fields), [last]) => fields.shift_remove(last).is_some(),
        (Value::Object(fields), [first, rest @ ..]) => fields.get_mut(first).is_some_and(|value| remove(value, rest)),
        _ => false,
    }
}

fn is_true(value: &Value, path: &[String]) -> bool {
    path.iter().try_fold(value, |value, key| value.get(key)) == Some(&Value::Bool(true))
}

/// Where, but not what: the reason goes into headers.
fn not_json(error: serde_json::Error) -> Reject {
    Reject::new(format!("not JSON at line {} column {}", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::testing::{Settled, case, input};

    fn redact(fields: &str, value: &str) -> Settled {
        case::<Redact>().setting("fields", fields).run(&[input().value(value)]).remove(0)
    }

    #[test]
    fn fields_go_and_the_rest_keeps_its_order() {
        let settled = redact("card, ssn", r#"{"z":1,"card":"4111","a":[2],"ssn":3}"#);
        assert_eq!(settled.only_output().value_text(), Some(r#"{"z":1,"a":[2]}"#));
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        let settled = redact("card", r#"{"card":1,"id":12345678901234567890123,"a":1.10,"n":-0.0}"#);
        let expected = r#"{"id":12345678901234567890123,"a":1.10,"n":-0.0}"#;
        assert_eq!(settled.only_output().value_text(), Some(expected));
    }

    #[test]
    fn paths_lead_into_objects_and_arrays() {
        let settled = redact("a.b.c,items.price", r#"{"a":{"b":{"c":1,"d":2}},"items":[{"price":1},{"n":2}]}"#);
        assert_eq!(settled.only_output().value_text(), Some(r#"{"a":{"b":{"d":2}},"items":[{},{"n":2}]}"#));
    }

    #[test]
    fn nothing_to_remove_is_kept_byte_for_byte() {
        assert!(redact("card", r#"{ "a" : 1 }"#).is_keep());
        assert!(redact("a.b", r#"{"a":"b"}"#).is_keep());
        assert!(case::<Redact>().setting("fields", "x").run(&[input().tombstone()])[0].is_keep());
    }

    #[test]
    fn what_is_not_json_is_rejected_without_quoting_it() {
        let settled = redact("card", r#"{"card":4111"#);
        assert!(!settled.reason().unwrap().contains("4111"), "{settled:?}");
    }

    #[test]
    fn records_that_are_marked_are_dropped() {
        let marked = |value: &str| {
            let case = case::<Redact>().setting("fields", "card").setting("drop", "meta.test");
            case.run(&[input().value(value)]).remove(0)
        };
        assert!(marked(r#"{"meta":{"test":true}}"#).is_drop());
        assert!(marked(r#"{"meta":{"test":"true"}}"#).is_keep());
        assert!(marked(r#"{"card":1}"#).only_output().value_text() == Some("{}"));
    }

    #[test]
    fn fields_must_be_named() {
        assert!(case::<Redact>().configure().is_err());
        assert!(case::<Redact>().setting("fields", " , ").configure().is_err());
    }
}
