//! The transform of the torture run: does with each record what the record's value asks for by its first word, and says in
//! the header `src` where it read it, so that a verifier who knows nothing of Pelton can tell which input an output is of.
//!
//! | word | outcome |
//! |---|---|
//! | `none` | dropped |
//! | `say` | says its value on stdout, and is dropped |
//! | `left`, `right` | one output, to that topic |
//! | `both` | one output to each of the two |
//! | `big` | an output larger than its topic, `narrow`, takes |
//! | `bare` | one output without any header |
//! | `own` | one output that is part of another trace, [`OWN`] |
//! | `trap` | a trap |
//! | `spin` | no end |
//!
//! Before that it computes for as long as the setting `effort` says, in rounds of 2 ns or so.
//! `output` is the topic `left`; `also` are `right` and `narrow`, in this order.

use std::hint::black_box;

use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topic, Topics, Transform};

/// More than the topic `narrow` takes, and too irregular to be compressed below that.
const BIG: usize = 64 * 1024;

/// The `traceparent` of a guest that traces for itself.
const OWN: &[u8] = b"00-99999999999999999999999999999999-8888888888888888-01";

struct Tester {
    left: Topic,
    right: Topic,
    narrow: Topic,
    big: Vec<u8>,
    effort: u64,
}

impl Transform for Tester {
    fn configure(settings: &Settings, topics: &Topics) -> Result<Self, String> {
        let [left, right, narrow, ..] = topics.outputs() else { return Err("three output topics are needed".into()) };
        let mut state = 1u32;
        let big = (0..BIG).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        Ok(Self {
            left: topics.output(left)?,
            right: topics.output(right)?,
            narrow: topics.output(narrow)?,
            big: big.collect(),
            effort: settings.get("effort").and_then(|rounds| rounds.parse().ok()).unwrap_or(0),
        })
    }

    fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
        let mut work = 0_u64;
        (0..self.effort).for_each(|_| work = black_box(work).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        let value = record.value().unwrap_or_default();
        let word = value.split(|byte| *byte == b' ').next().unwrap_or_default();
        let source = format!("{}:{}", record.partition(), record.offset());
        let output = record.output().header("src", source.as_bytes());
        match word {
            b"none" => return Ok(Outcome::Drop),
            b"say" => {
                println!("{}", String::from_utf8_lossy(value));
                return Ok(Outcome::Drop);
            }
            b"left" => out.emit(output.topic(self.left)),
            b"right" => out.emit(output.topic(self.right)),
            b"both" => {
                out.emit(output.clone().topic(self.left));
                out.emit(output.topic(self.right))
            }
            b"big" => out.emit(output.topic(self.narrow).value(&self.big)),
            b"bare" => out.emit(output.no_headers().topic(self.left)),
            b"own" => out.emit(output.replace_header("traceparent", OWN).topic(self.left)),
            b"trap" => std::process::abort(),
            b"spin" => loop {
                black_box(());
            },
            _ => return Err(Reject::new("the record asks for nothing that is known here")),
        };
        Ok(Outcome::Emit)
    }
}

pelton_sdk::export!(Tester);
