//! Owns the typed world: WIT records in, WIT outcomes out, converted to the same frames as the packed world's so that
//! one check serves both. A failed batch does not say which record failed, so its records run again one by one, each in
//! its own call; log lines of a batch are held back until it succeeds.
//!
//! Header keys are strings here: a key that is not UTF-8 arrives with replacement characters (`keep` still writes the
//! original bytes).

use std::borrow::Cow;
use std::time::Instant;

use wasmtime::component::{ComponentType, Lift, Lower};

use crate::drive::drive;
use crate::fault::{Fault, FaultCode};
use crate::frame::{self, NewOutput};
use crate::instance::{Instance, Live, Turn};
use crate::record::{Header, Record, Settled};
use crate::setup::diagnose;

#[derive(ComponentType, Lower)]
#[component(record)]
struct HeaderIn<'a> {
    key: &'a str,
    value: Option<&'a [u8]>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
struct Message<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    #[component(name = "timestamp-ms")]
    timestamp_ms: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [HeaderIn<'a>],
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct HeaderOut {
    key: String,
    value: Option<Vec<u8>>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Output {
    topic: Option<String>,
    partition: Option<i32>,
    #[component(name = "timestamp-ms")]
    timestamp_ms: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<HeaderOut>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
enum Outcome {
    #[component(name = "keep")]
    Keep,
    #[component(name = "drop")]
    Drop,
    #[component(name = "emit")]
    Emit(Vec<Output>),
    #[component(name = "reject")]
    Reject(String),
}

/// Runs a batch. Where a batch of several fails nobody can say which of them did it: nothing is settled then.
pub(crate) fn run<E>(
    instance: &mut Instance,
    live: &mut Live,
    records: &[Record<'_>],
    settle: &mut dyn FnMut(usize, Settled<'_>) -> Result<(), E>,
) -> Result<Turn, E> {
    let since = Instant::now();
    let called = call(instance, live, records);
    instance.note(live, records.len(), since);
    let verdict = called.and_then(|verdict| match verdict {
        Ok(outcomes) if outcomes.len() != records.len() => {
            Err(contract("`process` returned another number of outcomes than it got messages"))
        }
        verdict => Ok(verdict),
    });
    let verdict = match verdict {
        Err(_) if records.len() > 1 => return Ok(Turn::nameless(0)),
        verdict => verdict,
    };
    let host = live.store.data();
    host.stdio.release(&host.logs);
    match verdict {
        Ok(Ok(outcomes)) => settle_all(instance, &outcomes, settle),
        // the guest says so of every message
        Ok(Err(reason)) => {
            for index in 0..records.len() {
                settle(index, Settled::Reject(frame::reason(reason.as_bytes())))?;
            }
            Ok(Turn::whole(records.len()))
        }
        Err(fault) => settle(0, Settled::Fault(Box::new(fault))).map(|()| Turn::failed(1)),
    }
}

/// One call of `process`, with one budget per record for all of them together.
fn call(instance: &Instance, live: &mut Live, records: &[Record<'_>]) -> Result<Result<Vec<Outcome>, String>, Fault> {
    let (inputs, _) = instance.topics();
    let keys: Vec<Cow<'_, str>> =
        records.iter().flat_map(|record| record.headers).map(|header| String::from_utf8_lossy(header.key)).collect();
    let values = records.iter().flat_map(|record| record.headers).map(|header| header.value);
    let headers: Vec<HeaderIn<'_>> = keys.iter().zip(values).map(|(key, value)| HeaderIn { key, value }).collect();
    let mut rest = headers.as_slice();
    let messages: Vec<Message<'_>> = records
        .iter()
        .map(|record| {
            let (headers, after) = rest.split_at(record.headers.len());
            rest = after;
            Message {
                topic: inputs.get(record.topic as usize).map_or("", String::as_str),
                partition: record.partition,
                offset: record.offset,
                timestamp_ms: record.timestamp_ms,
                key: record.key,
                value: record.value,
                headers,
            }
        })
        .collect();
    let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
    let process = live.process;
    let store = &mut live.store;
    store.data_mut().begin_call(records);
    if count > 1 {
        store.data().stdio.hold();
    }
    let pace = instance.pace;
    let called = store.set_fuel(pace.fuel(records.len())).and_then(|()| {
        let func = process.typed::<(&[Message<'_>],), (Result<Vec<Outcome>, String>,)>(&*store)?;
        Ok(drive(func.call_async(&mut *store, (&messages,)), || 0, 1, pace.times(count)))
    });
    match called {
        Ok(Ok(Ok((verdict,)))) => Ok(verdict),
        Ok(Err(late)) => Err(late.into()),
        Ok(Ok(Err(error))) | Err(error) => Err(diagnose(store, &error)),
    }
}

/// Settles outcomes up to the first that breaks a rule.
fn settle_all<E>(
    instance: &Instance,
    outcomes: &[Outcome],
    settle: &mut dyn FnMut(usize, Settled<'_>) -> Result<(), E>,
) -> Result<Turn, E> {
    let mut frames = Vec::new();
    for (index, outcome) in outcomes.iter().enumerate() {
        let settled = match outcome {
            Outcome::Keep => Ok(Settled::Keep),
            Outcome::Drop => Ok(Settled::Drop),
            Outcome::Reject(reason) => Ok(Settled::Reject(frame::reason(reason.as_bytes()))),
            Outcome::Emit(outputs) => {
                frames.clear();
                encode(&mut frames, outputs, instance)
                    .and_then(|()| frame::judge(frame::EMIT, &frames, &instance.rules))
            }
        };
        match settled {
            Ok(settled) => settle(index, settled)?,
            Err(fault) => {
                settle(index, Settled::Fault(fault))?;
                return Ok(Turn::failed(index + 1));
            }
        }
    }
    Ok(Turn::whole(outcomes.len()))
}

fn encode(frames: &mut Vec<u8>, outputs: &[Output], instance: &Instance) -> Result<(), Box<Fault>> {
    let (_, topics) = instance.topics();
    for output in outputs {
        let topic = match &output.topic {
            None => 0,
            Some(name) => match topics.iter().position(|topic| topic == name) {
                Some(index) => u32::try_from(index).unwrap_or(u32::MAX),
                None => return Err(Box::new(Fault::new(FaultCode::OutputTopic, name.as_str()))),
            },
        };
        let headers = output.headers.iter().map(|h| Header { key: h.key.as_bytes(), value: h.value.as_deref() });
        let new = NewOutput {
            topic,
            // -1 would pass for "none"
            partition: output.partition.map_or(-1, |partition| if partition < 0 { i32::MIN } else { partition }),
            timestamp_ms: output.timestamp_ms.unwrap_or(frame::INHERIT),
            key: output.key.as_deref(),
            value: output.value.as_deref(),
            header_count: u32::try_from(output.headers.len()).unwrap_or(u32::MAX),
            headers,
        };
        frame::encode_output(frames, new);
    }
    Ok(())
}

fn contract(why: &str) -> Fault {
    Fault::new(FaultCode::Contract, why)
}
