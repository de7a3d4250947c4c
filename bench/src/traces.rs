//! What following records costs: the very calls by which a worker does it (`Traces::batch`, `Passage`, `carry`), around headers
//! that are made anyway, against the same loop without any of it. CPU time of this thread, the least of many turns. Spans are
//! queued and not pushed: that is another thread's.

use crate::instruments::cpu;
use anyhow::{Context, Result};
use pelton::dataplane::plan::{InputTopic, OutputTopic, Plan};
use pelton::dataplane::propagation::carry;
use pelton::dataplane::traced::{Passage, Traces};
use pelton::telemetry::Variables;
use pelton::telemetry::export::{Limits, Queue};
use pelton::telemetry::traces::Tracer;
use pelton::telemetry::traces::sampler::Sampler;
use pelton::telemetry::traces::span::Settled;
use pelton_kafka::{Batch, Header, OwnedMessage, Start};
use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

const TURNS: usize = 200;
/// Records of one turn.
const RECORDS: usize = 128 * 200;
/// Every so manyth record is followed.
const FOLLOWED: usize = 100;

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

/// What is measured: its name, whether traces are on, the contexts of the followed and of the others.
type Case = (&'static str, bool, Option<&'static str>, Option<&'static str>);

const CASES: [Case; 5] = [
    ("off", false, Some(SAMPLED), None),
    ("on, no record has a context", true, None, None),
    ("on, 1 % followed, the others without a context", true, Some(SAMPLED), None),
    ("on, 1 % followed, the others with one that is not", true, Some(SAMPLED), Some(UNSAMPLED)),
    ("on, all followed", true, Some(SAMPLED), Some(SAMPLED)),
];

/// `record_us`: what a record costs in all, in microseconds of CPU. `Ok(false)`: off costs something.
pub(crate) fn run(record_us: f64) -> Result<bool> {
    println!("\n| traces | records a batch | ns a record | share of {record_us} us |\n|---|---|---|---|");
    let plan = plan();
    let mut well = true;
    for (name, on, followed, others) in CASES {
        for size in [8, 128] {
            let batches: Vec<Batch> = batches(size, followed, others);
            let (mut least, mut bare) = (Duration::MAX, Duration::MAX);
            for _ in 0..TURNS {
                let traces = on.then(traces).transpose()?;
                bare = bare.min(turn::<false>(&plan, &batches, None));
                least = least.min(turn::<true>(&plan, &batches, traces.as_ref()));
            }
            let per_record = (least.as_secs_f64() - bare.as_secs_f64()) * 1e9 / RECORDS as f64;
            let share = per_record / (record_us * 1e3);
            println!("| {name} | {size} | {per_record:.1} | {:.2} % |", share * 100.0);
            well &= on || share < 0.01;
        }
    }
    Ok(well)
}

fn traces() -> Result<Traces> {
    let limits = Limits { queue: 1_000_000, batch: 1_000_000, delay: Duration::MAX, patience: Duration::MAX };
    let sampler = Sampler::from_env(Variables(&|_| None)).context("the default sampler")?;
    Ok(Traces::new(Arc::new(Tracer { sampler, queue: Arc::new(Queue::new(limits)) }), 0))
}

/// As `Processor::run` and `Delivery::keep` do it, with two headers a record besides. `HOOKS`: with what follows records.
fn turn<const HOOKS: bool>(plan: &Plan, batches: &[Batch], traces: Option<&Traces>) -> Duration {
    let transform: Arc<str> = "identity".into();
    let mut spent = Duration::ZERO;
    for batch in batches {
        // Made in any case, and dearer than what is measured.
        let (headers, ranges) = of_batch(batch);
        let own: Vec<Vec<Header<'_>>> = batch.iter().map(|message| of_message(&message)).collect();
        let start = cpu();
        let traces = black_box(traces);
        if let Some(traces) = traces {
            traces.turn(0, false);
        }
        let followed = traces.and_then(|traces| traces.batch(plan, batch.iter(), &headers, &ranges));
        let passage = followed.as_ref().map(|f| f.through(&transform, |topic| topic == 0, std::iter::once(0)));
        let passage: Option<&Passage<'_>> = black_box(passage.as_ref());
        for (message, mut headers) in batch.iter().zip(own) {
            let message = black_box(message);
            // Without hooks: the same values in the same places, and nothing asked of them.
            if !HOOKS {
                black_box(headers);
                continue;
            }
            let place = passage.and_then(|passage| passage.find(&message));
            let propagation = passage.zip(place).map(|(passage, place)| passage.propagation(place));
            carry(propagation.as_ref(), &mut headers, |_| true);
            black_box(headers);
            if let Some(passage) = passage {
                let began = passage.begins(place);
                passage.sent(place, 0, began);
            }
            if let (Some(passage), Some(place)) = (passage, place) {
                passage.settled(place, Settled { outcome: "kept", generation: 1 }, None);
            }
        }
        if let Some(passage) = passage {
            passage.end();
        }
        spent += cpu() - start;
    }
    spent
}

fn of_batch(batch: &Batch) -> (Vec<pelton_sandbox::Header<'_>>, Vec<Range<usize>>) {
    let mut all = Vec::new();
    let ranges = batch.iter().map(|message| {
        let start = all.len();
        all.extend(of_message(&message).iter().map(|h| pelton_sandbox::Header { key: h.key, value: h.value }));
        start..all.len()
    });
    let ranges = ranges.collect();
    (all, ranges)
}

fn of_message<'a>(message: &pelton_kafka::Message<'a>) -> Vec<Header<'a>> {
    let mut headers = Vec::with_capacity(4);
    let _ = message.headers(&mut headers);
    headers
}

fn batches(size: usize, followed: Option<&str>, others: Option<&str>) -> Vec<Batch> {
    let mut batches = Vec::new();
    for first in (0..RECORDS).step_by(size) {
        let mut batch = Batch::new();
        for offset in first..first + size {
            let context = if offset % FOLLOWED == 0 { followed } else { others };
            let mut headers = vec![(b"content-type".to_vec(), Some(b"application/json".to_vec()))];
            headers.push((b"source".to_vec(), Some(b"shop".to_vec())));
            headers.extend(context.map(|context| (b"traceparent".to_vec(), Some(context.as_bytes().to_vec()))));
            batch.push_owned(0, OwnedMessage { offset: offset as i64, headers, ..OwnedMessage::default() });
        }
        batches.push(batch);
    }
    batches
}

fn plan() -> Plan {
    Plan {
        inputs: vec![InputTopic { name: "in".into(), start: Start::Earliest, partitions: 1, read: true }],
        outputs: vec![OutputTopic { name: "out".into(), partitions: 1 }],
        ..Plan::empty()
    }
}
