//! Copies every record to all of its output topics, in one transaction: a fan-out that is whole or absent.
//!
//! ```yaml
//! output: { topic: orders.live, also: [orders.audit, orders.archive] }
//! ```
//!
//! No settings. Keys, values, headers and timestamps stay as they are, tombstones included.

use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topic, Topics, Transform};

struct Tee {
    topics: Vec<Topic>,
}

impl Transform for Tee {
    fn configure(_: &Settings, topics: &Topics) -> Result<Self, String> {
        let topics = topics.outputs().iter().map(|name| topics.output(name));
        Ok(Self { topics: topics.collect::<Result<_, String>>()? })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        for &topic in &self.topics {
            out.emit(record.output().topic(topic));
        }
        Ok(Outcome::Emit)
    }
}

pelton_sdk::export!(Tee);

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::testing::{case, input};

    #[test]
    fn every_topic_gets_the_record_as_it_is() {
        let record = input().key("k").tombstone().header("h", "1").null_header("n");
        let settled = case::<Tee>().outputs(["live", "audit"]).run(&[record]).remove(0);
        let outputs = settled.outputs();
        assert_eq!(outputs.iter().map(|o| o.topic.as_str()).collect::<Vec<_>>(), ["live", "audit"]);
        for output in outputs {
            assert_eq!((output.key.as_deref(), &output.value), (Some(&b"k"[..]), &None));
            assert_eq!(output.headers.len(), 2);
        }
    }
}
