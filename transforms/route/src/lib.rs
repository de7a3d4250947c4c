//! Sends each JSON record to the topic that one of its fields chooses.
//!
//! ```yaml
//! output: { topic: orders.other, also: [orders.eu, orders.us] }
//! settings: { field: customer.region, EU: orders.eu, US: orders.us }
//! ```
//!
//! `field` is the path of the field; every other setting maps one of its values to a topic. Records with another value,
//! or without the field, go to the default output topic, and so do tombstones. Numbers and booleans are compared as they
//! are written in JSON, exponents with their sign (`1e+2`).

use std::borrow::Cow;
use std::collections::HashMap;

use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topic, Topics, Transform};
use serde_json::Value;

struct Route {
    field: Vec<String>,
    topics: HashMap<String, Topic>,
}

impl Transform for Route {
    fn configure(settings: &Settings, topics: &Topics) -> Result<Self, String> {
        let field = settings.require("field")?.split('.').map(str::to_owned).collect();
        let routes = settings.iter().filter(|(name, _)| *name != "field");
        let topics = routes.map(|(value, topic)| Ok((value.to_owned(), topics.output(topic)?)));
        Ok(Self { field, topics: topics.collect::<Result<_, String>>()? })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        let Some(bytes) = record.value() else { return Ok(Outcome::Keep) };
        let value: Value = serde_json::from_slice(bytes)?;
        let chosen = self.field.iter().try_fold(&value, |value, key| value.get(key));
        match chosen.and_then(|value| self.topics.get(&*text(value))) {
            Some(&topic) => Ok(out.emit(record.output().topic(topic))),
            None => Ok(Outcome::Keep),
        }
    }
}

pelton_sdk::export!(Route);

fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::testing::{Case, case, input};

    fn route() -> Case<Route> {
        let case = case::<Route>().outputs(["other", "eu", "vip"]);
        case.setting("field", "customer.region").setting("EU", "eu").setting("7", "vip")
    }

    #[test]
    fn the_field_chooses_the_topic() {
        let topic = |value: &str| route().run(&[input().value(value)]).remove(0);
        assert_eq!(topic(r#"{"customer":{"region":"EU"}}"#).only_output().topic, "eu");
        assert_eq!(topic(r#"{"customer":{"region":7}}"#).only_output().topic, "vip");
        assert!(topic(r#"{"customer":{"region":"US"}}"#).is_keep());
        assert!(topic(r#"{"customer":"EU"}"#).is_keep());
        assert!(topic("{").reason().is_some());
        assert!(route().run(&[input().tombstone()])[0].is_keep());
    }

    #[test]
    fn numbers_are_compared_as_they_are_written() {
        let case = route().setting("12345678901234567890123", "eu").setting("1.10", "vip");
        let region = |number: &str| input().value(format!(r#"{{"customer":{{"region":{number}}}}}"#));
        let settled = case.run(&[region("12345678901234567890123"), region("1.10"), region("1.1")]);
        assert_eq!(settled[0].only_output().topic, "eu");
        assert_eq!(settled[1].only_output().topic, "vip");
        assert!(settled[2].is_keep());
    }

    #[test]
    fn routed_records_are_unchanged() {
        let record = input().key("k").value(r#"{"customer": {"region": "EU"}}"#).header("h", "1");
        let settled = route().run(&[record]).remove(0);
        let output = settled.only_output();
        assert_eq!(output.value_text(), Some(r#"{"customer": {"region": "EU"}}"#));
        assert_eq!((output.key.as_deref(), output.header("h")), (Some(&b"k"[..]), Some(&b"1"[..])));
    }

    #[test]
    fn a_topic_that_is_not_granted_is_refused_at_once() {
        assert!(route().setting("US", "us").configure().err().unwrap().contains("`us`"));
    }
}
