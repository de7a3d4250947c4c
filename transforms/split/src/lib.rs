//! Turns one JSON record with an array into one record per item.
//!
//! ```yaml
//! settings: { field: items, key: sku }
//! ```
//!
//! `field` is the path of the array. Each item becomes a record's value, with the headers and the timestamp of the whole.
//! With `key`, that field of the item becomes its key; otherwise the items share the key of the whole. An empty array
//! becomes nothing; a tombstone is dropped; a record without the array is rejected.

use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topics, Transform};
use serde_json::Value;

struct Split {
    field: Vec<String>,
    key: Option<String>,
    /// Reused from item to item.
    buffer: Vec<u8>,
}

impl Transform for Split {
    fn configure(settings: &Settings, _: &Topics) -> Result<Self, String> {
        let field = settings.require("field")?.split('.').map(str::to_owned).collect();
        Ok(Self { field, key: settings.get("key").map(str::to_owned), buffer: Vec::new() })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        let Some(bytes) = record.value() else { return Ok(Outcome::Drop) };
        let whole: Value = serde_json::from_slice(bytes)?;
        let array = self.field.iter().try_fold(&whole, |value, key| value.get(key));
        let items = array.and_then(Value::as_array).ok_or_else(|| Reject::new("the array is missing"))?;
        for item in items {
            self.buffer.clear();
            serde_json::to_writer(&mut self.buffer, item)?;
            let output = record.output().value(&self.buffer);
            match &self.key {
                None => out.emit(output),
                Some(name) => {
                    let key = item.get(name).ok_or_else(|| Reject::new("an item has no key"))?;
                    let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                    out.emit(output.key(key.as_bytes()))
                }
            };
        }
        Ok(Outcome::Emit)
    }
}

pelton_sdk::export!(Split);

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::testing::{Case, case, input};

    fn split() -> Case<Split> {
        case::<Split>().setting("field", "order.items")
    }

    #[test]
    fn every_item_becomes_a_record() {
        let record = input().key("o1").value(r#"{"order":{"items":[{"sku":"a","n":1},{"sku":"b"}]}}"#).header("h", "1");
        let settled = split().setting("key", "sku").run(&[record]).remove(0);
        let outputs = settled.outputs();
        let keys: Vec<_> = outputs.iter().map(|output| output.key.as_deref().unwrap()).collect();
        assert_eq!(keys, [b"a", b"b"]);
        assert_eq!(outputs[0].value_text(), Some(r#"{"sku":"a","n":1}"#));
        assert_eq!(outputs[1].header("h"), Some(&b"1"[..]));
    }

    #[test]
    fn numbers_stay_as_they_are_written_in_keys_too() {
        let record = input().value(r#"{"order":{"items":[{"sku":12345678901234567890123,"price":1.10}]}}"#);
        let settled = split().setting("key", "sku").run(&[record]).remove(0);
        let output = settled.only_output();
        assert_eq!(output.key.as_deref(), Some(&b"12345678901234567890123"[..]));
        assert_eq!(output.value_text(), Some(r#"{"sku":12345678901234567890123,"price":1.10}"#));
    }

    #[test]
    fn without_a_key_setting_the_items_share_the_key() {
        let settled = split().run(&[input().key("o1").value(r#"{"order":{"items":[1,2]}}"#)]).remove(0);
        assert!(settled.outputs().iter().all(|output| output.key.as_deref() == Some(b"o1")));
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert!(split().run(&[input().value(r#"{"order":{"items":[]}}"#)])[0].is_drop());
        assert!(split().run(&[input().tombstone()])[0].is_drop());
    }

    #[test]
    fn a_record_without_the_array_or_the_key_is_rejected_whole() {
        assert!(split().run(&[input().value("{}")])[0].reason().is_some());
        let value = r#"{"order":{"items":[{"sku":"a"},{}]}}"#;
        assert!(split().setting("key", "sku").run(&[input().value(value)])[0].reason().is_some());
    }
}
