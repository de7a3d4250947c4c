//! What traces say about a batch, its transaction and its outputs; what they do not; and that the spans fit together.

use super::*;
use crate::dataplane::plan::{InputTopic, OutputTopic};
use crate::dataplane::propagation::carry;
use crate::telemetry::Variables;
use crate::telemetry::export::{Limits, Queue};
use crate::telemetry::traces::sampler::Sampler;
use pelton_kafka::{Batch, Blame, Fate, OwnedMessage, Position, Start, TopicPartition, TxnError};
use proptest::prelude::*;
use std::time::Duration;

const FOLLOWED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNFOLLOWED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const MARK: &str = "PAYLOADMARK";

fn traces(sampler: &str) -> Traces {
    let variable = |name: &str| match name {
        "OTEL_TRACES_SAMPLER" => Some(sampler.to_owned()),
        "OTEL_TRACES_SAMPLER_ARG" => Some("0.5".to_owned()),
        _ => None,
    };
    let limits = Limits { queue: 10_000, batch: 10_000, delay: Duration::MAX, patience: Duration::MAX };
    let sampler = Sampler::from_env(Variables(&variable)).unwrap();
    Traces::new(Arc::new(Tracer { sampler, queue: Arc::new(Queue::new(limits)) }), 3)
}

fn plan() -> Plan {
    let input = |name: &str| InputTopic { name: name.into(), start: Start::Earliest, partitions: 4, read: true };
    let output = |name: &str| OutputTopic { name: name.into(), partitions: 1 };
    Plan { inputs: vec![input("in"), input("other")], outputs: vec![output("out"), output("dead")], ..Plan::empty() }
}

/// One record for each, at offsets 0, 1, …; `None`: without a context.
fn batch(contexts: &[Option<&str>]) -> Batch {
    let mut batch = Batch::new();
    for (offset, context) in contexts.iter().enumerate() {
        let mut headers = vec![("x".into(), Some(MARK.into()))];
        headers.extend(context.map(|context| ("traceparent".into(), Some(context.into()))));
        headers.push(("tracestate".into(), Some(format!("vendor={MARK}").into_bytes())));
        let (key, value) = (Some(MARK.into()), Some(MARK.into()));
        batch.push_owned(
            0,
            OwnedMessage { partition: 2, offset: offset as i64, key, value, headers, ..Default::default() },
        );
    }
    batch
}

fn headers(batch: &Batch) -> (Vec<Header<'_>>, Vec<Range<usize>>) {
    let mut all = Vec::new();
    let ranges = batch.iter().map(|message| {
        let (start, mut own) = (all.len(), Vec::new());
        message.headers(&mut own).unwrap();
        all.extend(own.iter().map(|h| Header { key: h.key, value: h.value }));
        start..all.len()
    });
    let ranges = ranges.collect();
    (all, ranges)
}

const KEPT: Settled = Settled { outcome: "kept", generation: 7 };

/// Takes a batch through a transform that keeps every record; says what the outputs' `traceparent`s are.
fn keep(traces: &Traces, plan: &Plan, batch: &Batch) -> Vec<Option<String>> {
    let (headers, ranges) = headers(batch);
    let Some(followed) = traces.batch(plan, batch.iter(), &headers, &ranges) else { return Vec::new() };
    let transform: Arc<str> = "identity".into();
    let passage = followed.through(&transform, |topic| topic == 0, [0, 1].into_iter());
    let mut outputs = Vec::new();
    for message in batch.iter() {
        let mut headers = Vec::new();
        message.headers(&mut headers).unwrap();
        let place = passage.find(&message);
        let propagation = place.map(|place| passage.propagation(place));
        let began = passage.begins(place);
        carry(propagation.as_ref(), &mut headers, |_| true);
        passage.sent(place, 0, began);
        place.into_iter().for_each(|place| passage.settled(place, KEPT, None));
        let parent = headers.iter().find(|header| header.key == TRACEPARENT);
        outputs.push(parent.map(|header| String::from_utf8(header.value.unwrap().to_vec()).unwrap()));
    }
    passage.end();
    outputs
}

fn end(traces: &Traces, plan: &Plan, records: u64, report: &Report) {
    let now = Instant::now();
    let ending = Ending {
        since: now,
        sealed: now,
        records,
        progress: vec![(TopicPartition { topic: "in".into(), partition: 2 }, Position(0))],
        runs: Vec::new(),
        alone: None,
        arrivals: 0,
    };
    traces.ended(plan, 0, &ending, report, now);
}

fn told(traces: &Traces) -> Vec<Span> {
    let spans = traces.tracer.queue.taken();
    let pushed = crate::telemetry::traces::otlp::encode(&[], spans.clone());
    assert!(!String::from_utf8_lossy(&pushed).contains(MARK), "I10");
    assert!(spans.iter().all(|span| span.start <= span.end), "{spans:?}");
    spans
}

fn named(spans: &[Span], is: impl Fn(&What) -> bool) -> Vec<&Span> {
    spans.iter().filter(|span| is(&span.what)).collect()
}

#[test]
fn a_followed_record_is_told_from_its_reception_to_its_commit() {
    let (traces, plan, batch) = (traces(""), plan(), batch(&[None, Some(FOLLOWED), Some(UNFOLLOWED)]));
    traces.turn(0, true);
    let outputs = keep(&traces, &plan, &batch);
    end(&traces, &plan, 3, &Report::Committed { ready: true });
    let spans = told(&traces);
    let [receive] = named(&spans, |what| matches!(what, What::Receive { .. }))[..] else { panic!("{spans:?}") };
    let [process] = named(&spans, |what| matches!(what, What::Process { .. }))[..] else { panic!("{spans:?}") };
    let [send] = named(&spans, |what| matches!(what, What::Send { .. }))[..] else { panic!("{spans:?}") };
    let [commit] = named(&spans, |what| matches!(what, What::Commit { .. }))[..] else { panic!("{spans:?}") };
    let [whole] = named(&spans, |what| matches!(what, What::Transaction { .. }))[..] else { panic!("{spans:?}") };
    assert_eq!(spans.len(), 5);

    let input = Context::parse(FOLLOWED.as_bytes()).unwrap();
    assert_eq!((process.trace, process.parent), (input.trace, Some(Parent { id: input.span, remote: true })));
    let own = Context::child(process.trace, process.id);
    assert_eq!(outputs[0], None, "it has no trace");
    assert_eq!(outputs[1].as_deref().unwrap().as_bytes(), own.header(), "the readers' parent is the processing");
    assert_eq!(outputs[2].as_deref(), Some(UNFOLLOWED), "as it came");
    let What::Process { topic, partition, offset, transform, settled, .. } = &process.what else { panic!() };
    assert_eq!((&**topic, *partition, *offset, &**transform, *settled), ("in", 2, 1, "identity", KEPT));

    // One trace for the transaction, linked with the record's both ways.
    for span in [receive, send, commit] {
        assert_eq!((span.trace, span.parent), (whole.trace, Some(Parent { id: whole.id, remote: false })));
    }
    let linked = |span: &Span| span.links.all.iter().map(|link| (link.to, link.remote)).collect::<Vec<_>>();
    assert_eq!(linked(receive), [(input, true)]);
    assert_eq!(linked(process), [(Context::child(receive.trace, receive.id), false)]);
    assert_eq!(linked(send), [(own, false)]);
    assert_eq!(linked(commit), [(own, false)]);
    let What::Receive { topic, partition, records, .. } = &receive.what else { panic!() };
    assert_eq!((topic.as_deref(), *partition, *records), (Some("in"), Some(2), 3));
    assert!(matches!(&send.what, What::Send { topic, records: 3, .. } if &**topic == "out"));
    assert!(matches!(commit.what, What::Commit { records: 3, committed: true, .. }));
    assert!(matches!(whole.what, What::Transaction { worker: 3, lane: 0, committed: true, .. }));
    assert!(whole.start <= receive.start);
}

#[test]
fn nothing_is_told_where_nothing_is_followed() {
    let plan = plan();
    for (sampler, context) in
        [("", None), ("", Some(UNFOLLOWED)), ("always_off", Some(FOLLOWED)), ("", Some("rubbish"))]
    {
        let traces = traces(sampler);
        traces.turn(0, true);
        let outputs = keep(&traces, &plan, &batch(&[context]));
        end(&traces, &plan, 1, &Report::Committed { ready: true });
        assert_eq!(told(&traces), [], "{sampler} {context:?}");
        assert!(outputs.iter().all(|output| output.as_deref() == context), "bytes are as they were");
    }
}

#[test]
fn a_trace_begins_with_a_record_that_came_without() {
    let (traces, plan) = (traces("parentbased_always_on"), plan());
    traces.turn(0, true);
    let outputs = keep(&traces, &plan, &batch(&[None, Some("rubbish"), Some(UNFOLLOWED)]));
    let spans = told(&traces);
    let processed = named(&spans, |what| matches!(what, What::Process { .. }));
    assert_eq!(processed.len(), 2);
    assert_ne!(processed[0].trace, processed[1].trace);
    for (span, output) in processed.iter().zip(&outputs) {
        assert_eq!(span.parent, None);
        assert_eq!(output.as_deref().unwrap().as_bytes(), Context::child(span.trace, span.id).header());
    }
    let receive = named(&spans, |what| matches!(what, What::Receive { .. }));
    assert_eq!(receive[0].links.all, [], "there is nothing before them");
}

#[test]
fn a_transaction_that_fails_says_so_and_the_next_one_has_a_trace_of_its_own() {
    let (traces, plan, batch) = (traces(""), plan(), batch(&[Some(FOLLOWED)]));
    traces.turn(0, true);
    keep(&traces, &plan, &batch);
    let cause = TxnError::own(Fate::Abort, Blame::Brokers, "commit", "_TIMED_OUT", MARK);
    end(&traces, &plan, 1, &Report::RolledBack { cause, committed: Vec::new() });
    let first = told(&traces);
    let failed = named(&first, |what| matches!(what, What::Commit { .. } | What::Transaction { .. }));
    assert_eq!(failed.len(), 2);
    assert!(failed.iter().all(|span| span.error.as_deref() == Some("_TIMED_OUT")));
    // The other lane's goes on; this one's, of which no report came, is forgotten.
    traces.turn(1, true);
    keep(&traces, &plan, &batch);
    traces.turn(0, true);
    keep(&traces, &plan, &batch);
    traces.turn(0, true);
    keep(&traces, &plan, &batch);
    traces.turn(0, false);
    keep(&traces, &plan, &batch);
    end(&traces, &plan, 2, &Report::Committed { ready: true });
    let spans = told(&traces);
    let [whole] = named(&spans, |what| matches!(what, What::Transaction { .. }))[..] else { panic!("{spans:?}") };
    assert_ne!(whole.trace, failed[0].trace);
    let receives = named(&spans, |what| matches!(what, What::Receive { .. }));
    assert_eq!(receives.iter().filter(|span| span.trace == whole.trace).count(), 2, "two batches");
    let commit = named(&spans, |what| matches!(what, What::Commit { .. }))[0];
    assert_eq!(commit.links.all.len(), 2);
}

#[test]
fn a_record_without_an_outcome_was_interrupted_and_a_failed_one_says_by_what() {
    let (traces, plan, batch) = (traces(""), plan(), batch(&[Some(FOLLOWED), Some(FOLLOWED)]));
    traces.turn(0, true);
    let (headers, ranges) = headers(&batch);
    let followed = traces.batch(&plan, batch.iter(), &headers, &ranges).unwrap();
    let transform: Arc<str> = "t".into();
    let unread = followed.through(&transform, |topic| topic == 1, std::iter::empty());
    let passage = followed.through(&transform, |_| true, std::iter::empty());
    let failed = Settled { outcome: "failed", generation: 1 };
    let first = passage.find(&batch.get(0).unwrap()).unwrap();
    passage.settled(first, failed, Some("guest.trap"));
    assert_eq!(unread.ids(first), None, "it is not read by that transform");
    unread.end();
    passage.end();
    let spans = told(&traces);
    let errors: Vec<_> = spans.iter().filter_map(|span| span.error.as_deref()).collect();
    assert_eq!(errors, ["guest.trap", "interrupted"]);
}

proptest! {
    /// Whatever the headers are: every link and parent within Pelton is a span that was told, ids are never twice, and what
    /// is not followed keeps its bytes.
    #[test]
    fn spans_hold_together(
        which in prop::collection::vec(0usize..5, 1..40),
        sampler in prop::sample::select(vec!["", "parentbased_traceidratio", "traceidratio", "always_on"]),
    ) {
        let other = "00-11111111111111111111111111111111-b7ad6b7169203331-01";
        let choices = [None, Some(FOLLOWED), Some(UNFOLLOWED), Some("00-rubbish"), Some(other)];
        let contexts: Vec<Option<&str>> = which.iter().map(|choice| choices[*choice]).collect();
        let (traces, plan) = (traces(sampler), plan());
        traces.turn(0, true);
        let outputs = keep(&traces, &plan, &batch(&contexts));
        end(&traces, &plan, contexts.len() as u64, &Report::Committed { ready: true });
        let spans = told(&traces);
        let ids: std::collections::BTreeSet<_> = spans.iter().map(|span| span.id.bytes()).collect();
        prop_assert_eq!(ids.len(), spans.len());
        for span in &spans {
            if let Some(parent) = span.parent.filter(|parent| !parent.remote) {
                prop_assert!(ids.contains(&parent.id.bytes()));
            }
            for link in span.links.all.iter().filter(|link| !link.remote) {
                prop_assert!(ids.contains(&link.to.span.bytes()));
            }
        }
        let processed = named(&spans, |what| matches!(what, What::Process { .. }));
        for (offset, (output, context)) in outputs.iter().zip(&contexts).enumerate() {
            let own = processed.iter().find(|s| matches!(s.what, What::Process { offset: at, .. } if at == offset as i64));
            match own {
                Some(span) => {
                    let header = Context::child(span.trace, span.id).header();
                    prop_assert_eq!(output.as_deref().map(str::as_bytes), Some(&header[..]));
                }
                None => prop_assert_eq!(output.as_deref(), *context),
            }
        }
    }
}
