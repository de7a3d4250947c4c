//! What the boundary benchmark does to a record: one source for the guest and for the native side, so that what is
//! compared is the sandbox. Knows nothing of records but their value. Objects keep the order of their fields, as in
//! transforms/.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Error, Value};

/// The kinds of work, from none to much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The record passes as it is.
    Keep,
    /// A copy of the record is emitted.
    Identity,
    /// The value is parsed into a `Value`; a field goes, another gets a new name; debug records are dropped.
    Json,
    /// The same with a struct that borrows and leaves most fields unparsed.
    JsonRaw,
    /// An order, parsed whole: negative amounts are dropped; the user's name goes to upper case, the amount in cents is added.
    Order,
}

/// What becomes of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes as it is.
    Keep,
    /// Nothing is written.
    Drop,
    /// A copy of it is emitted.
    Copy,
    /// It is emitted with the value that was written.
    Changed,
}

#[derive(Deserialize, Serialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow, rename(serialize = "severity"))]
    level: &'a str,
    #[serde(borrow)]
    user: &'a RawValue,
    #[serde(borrow)]
    msg: &'a RawValue,
}

#[derive(Deserialize, Serialize)]
struct Order<'a> {
    id: u64,
    user: String,
    amount: f64,
    #[serde(borrow)]
    tags: Vec<Cow<'a, str>>,
    #[serde(borrow)]
    note: Cow<'a, str>,
    #[serde(default)]
    cents: i64,
}

impl Work {
    /// Decides about a record by its value; a new value is appended to `out`. What is not JSON should not pay for what is:
    /// only this choice is inlined.
    ///
    /// # Errors
    /// The value is not the JSON that was expected.
    #[inline]
    pub fn apply(self, value: &[u8], out: &mut Vec<u8>) -> Result<Verdict, Error> {
        match self {
            Work::Keep => Ok(Verdict::Keep),
            Work::Identity => Ok(Verdict::Copy),
            Work::Json => json(value, out),
            Work::JsonRaw => json_raw(value, out),
            Work::Order => order(value, out),
        }
    }
}

#[inline(never)]
fn json(value: &[u8], out: &mut Vec<u8>) -> Result<Verdict, Error> {
    let mut event: Value = serde_json::from_slice(value)?;
    let Some(fields) = event.as_object_mut() else { return Ok(Verdict::Drop) };
    if fields.get("level").and_then(Value::as_str) == Some("debug") {
        return Ok(Verdict::Drop);
    }
    fields.remove("tmp");
    if let Some(level) = fields.remove("level") {
        fields.insert("severity".into(), level);
    }
    serde_json::to_writer(out, &event)?;
    Ok(Verdict::Changed)
}

#[inline(never)]
fn json_raw(value: &[u8], out: &mut Vec<u8>) -> Result<Verdict, Error> {
    let event: Event<'_> = serde_json::from_slice(value)?;
    if event.level == "debug" {
        return Ok(Verdict::Drop);
    }
    serde_json::to_writer(out, &event)?;
    Ok(Verdict::Changed)
}

#[inline(never)]
fn order(value: &[u8], out: &mut Vec<u8>) -> Result<Verdict, Error> {
    let mut order: Order<'_> = serde_json::from_slice(value)?;
    if order.amount < 0.0 {
        return Ok(Verdict::Drop);
    }
    order.user = order.user.to_uppercase();
    order.cents = (order.amount * 100.0).round() as i64;
    serde_json::to_writer(out, &order)?;
    Ok(Verdict::Changed)
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Work::Keep => "keep",
            Work::Identity => "identity",
            Work::Json => "json",
            Work::JsonRaw => "jsonraw",
            Work::Order => "order",
        })
    }
}

impl FromStr for Work {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [Work::Keep, Work::Identity, Work::Json, Work::JsonRaw, Work::Order]
            .into_iter()
            .find(|work| work.to_string() == name)
            .ok_or_else(|| format!("there is no work `{name}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"id":7,"level":"info","user":"u1","tmp":"x","msg":"hello"}"#;

    fn apply(work: Work, value: &str) -> (Verdict, String) {
        let mut out = Vec::new();
        let verdict = work.apply(value.as_bytes(), &mut out).unwrap();
        (verdict, String::from_utf8(out).unwrap())
    }

    #[test]
    fn json_loses_a_field_and_renames_another() {
        let expected = r#"{"id":7,"msg":"hello","user":"u1","severity":"info"}"#;
        assert_eq!(apply(Work::Json, EVENT), (Verdict::Changed, expected.into()));
        let expected = r#"{"id":7,"severity":"info","user":"u1","msg":"hello"}"#;
        assert_eq!(apply(Work::JsonRaw, EVENT), (Verdict::Changed, expected.into()));
    }

    #[test]
    fn debug_is_dropped() {
        let debug = EVENT.replace("info", "debug");
        for work in [Work::Json, Work::JsonRaw] {
            assert_eq!(apply(work, &debug), (Verdict::Drop, String::new()));
            assert!(work.apply(b"{", &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn orders_of_negative_amounts_are_dropped_and_others_rewritten() {
        let order = r#"{"id":7,"user":"user-1-ann","amount":12.35,"tags":["a","b"],"note":"n"}"#;
        let expected = r#"{"id":7,"user":"USER-1-ANN","amount":12.35,"tags":["a","b"],"note":"n","cents":1235}"#;
        assert_eq!(apply(Work::Order, order), (Verdict::Changed, expected.into()));
        assert_eq!(apply(Work::Order, &order.replace("12.35", "-0.01")), (Verdict::Drop, String::new()));
        assert!(Work::Order.apply(b"{}", &mut Vec::new()).is_err());
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        assert_eq!("jsonraw".parse(), Ok(Work::JsonRaw));
        assert!("xml".parse::<Work>().is_err());
    }
}
