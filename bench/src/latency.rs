//! From sent to visible at a steady rate below saturation, in turns: Pelton's latency profiles, and the bare loop with short and
//! long commits. With what it costs, and what it costs the broker, for which a short transaction is not cheaper than a long one.

use crate::contender::{Pelton, Place};
use crate::measure;
use crate::peers::{self, BENTHOS};
use crate::raw;
use crate::stream::{Stream, await_first, visible};
use crate::turns::{self, Contender, Start};
use anyhow::{Context, Result};
use boundary_work::Work;
use clap::Args;
use pelton_integration::kafka::{self, Reader};
use pelton_integration::{broker, guest};
use std::fs;
use std::path::Path;
use std::time::Duration;

const PARTITIONS: i32 = 6;

#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Records a second.
    #[arg(long, default_value_t = 1_000)]
    rate: usize,
    /// Turns of each contender.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Also Kafka Streams, Flink and Benthos, as in `peers`.
    #[arg(long)]
    peers: bool,
    /// Only those whose name contains this, say "low".
    #[arg(long)]
    only: Option<String>,
}

/// Of a turn that is not counted.
const WARM_S: u64 = 30;

/// Until a contender that has written its first record is steady, JVMs too.
const SETTLE: Duration = Duration::from_secs(10);

const LOW: &str = "Pelton, `latency: low`";
const BARE: &str = "bare loop, 5 ms commits";
/// The goals: Benthos, at-least-once, on the machine that they were set on.
const P50_MS: f64 = 8.0;
const P99_MS: f64 = 23.0;

/// One turn.
struct Turn {
    ms: [f64; 2],
    /// CPU for a record, of the contender and of the broker.
    cpu_us: f64,
    broker_us: Option<f64>,
    /// Of transactions, for a record.
    markers: f64,
}

/// Prints one table.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let asked = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only));
    let (module, built) = (guest::module("identity"), peers::built(|name| options.peers && asked(name)));
    let mut contenders = ours(&module);
    contenders.retain(|contender| asked(&contender.name));
    contenders.extend(built.iter().map(|(peer, built)| peer.contender(built, Work::Identity)));
    let broker = broker::start()?;
    let bootstrap = broker.bootstrap.as_str();
    if let Some((name, start)) = turns::first(&contenders) {
        // A JVM compiles what it does often: a broker that has just started takes twice the CPU.
        eprintln!("warming the broker up: {WARM_S} s of {name}, not counted");
        one(bootstrap, start, (options.rate, WARM_S))?;
    }
    let mut turns: Vec<Vec<Turn>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        for (index, Contender { name, start }) in contenders.iter().enumerate() {
            let Ok(start) = start else { continue };
            let turn = one(bootstrap, start, (options.rate, options.seconds)).with_context(|| name.clone())?;
            eprintln!("round {} {name}: p50 {:.1} ms, p99 {:.1} ms", round + 1, turn.ms[0], turn.ms[1]);
            turns[index].push(turn);
        }
    }
    let Options { rate, rounds, seconds, .. } = options;
    println!(
        "{rate} records/s of 20 B through identity, {PARTITIONS} partitions, one worker; {rounds} rounds of {seconds} s in turns\n"
    );
    println!(
        "| sent to visible | p50 ms | p99 ms min / median / max | CPU us a record | broker's CPU us a record | markers a record |"
    );
    println!("|---|---|---|---|---|---|");
    for (Contender { name, start }, turns) in contenders.iter().zip(&turns) {
        if let Err(reason) = start {
            println!("| {name} | not available: {reason} | | | | |");
            continue;
        }
        let p50 = measure::spread(turns.iter().map(|turn| turn.ms[0]));
        let p99 = measure::spread(turns.iter().map(|turn| turn.ms[1]));
        let cpu = measure::spread(turns.iter().map(|turn| turn.cpu_us));
        let markers = measure::spread(turns.iter().map(|turn| turn.markers));
        let broker = measure::spread(turns.iter().filter_map(|turn| turn.broker_us));
        let broker = if broker[1].is_nan() { "?".into() } else { format!("{:.0}", broker[1]) };
        println!(
            "| {name} | {:.1} | {:.1} / {:.1} / {:.1} | {:.0} | {broker} | {:.2} |",
            p50[1], p99[0], p99[1], p99[2], cpu[1], markers[1]
        );
    }
    println!("\nload {}", measure::load_average());
    let of = |name: &str, what: fn(&Turn) -> f64| {
        let own = &turns[contenders.iter().position(|contender| contender.name == name)?];
        (!own.is_empty()).then(|| measure::spread(own.iter().map(what))[1])
    };
    let broker = |turn: &Turn| turn.broker_us.unwrap_or(f64::NAN);
    let mut goals = Vec::new();
    if let (Some(p50), Some(p99)) = (of(LOW, |turn| turn.ms[0]), of(LOW, |turn| turn.ms[1])) {
        goals.push((format!("{LOW}: p50 {p50:.1} ms"), p50 <= P50_MS, format!("at most {P50_MS} ms")));
        goals.push((format!("{LOW}: p99 {p99:.1} ms"), p99 <= P99_MS, format!("at most {P99_MS} ms")));
    }
    if let (Some(ours), Some(theirs)) = (of(LOW, |turn| turn.ms[1]), of(BENTHOS, |turn| turn.ms[1])) {
        let what = format!("{LOW}: p99 against that of Benthos, at-least-once, {:.2}", ours / theirs);
        goals.push((what, ours <= theirs, "at most 1".to_owned()));
    }
    if let (Some(ours), Some(theirs)) = (of(LOW, broker), of(BARE, broker)) {
        let what = format!("{LOW}: the broker's CPU a record against the bare loop's {:.2}", ours / theirs);
        goals.push((what, ours < theirs, "below 1".to_owned()));
    }
    Ok(measure::judge(&goals))
}

fn ours(module: &Path) -> Vec<Contender<'_>> {
    let pelton = |name: &str, delivery: &'static str| Contender {
        name: name.into(),
        start: Ok(Box::new(move |place: Place<'_>| {
            Pelton { transform: String::new(), ..Pelton::of(Work::Identity, module, delivery) }.start(place)
        })),
    };
    let bare = |name: &str, commit_ms| Contender {
        name: name.into(),
        start: Ok(Box::new(move |place: Place<'_>| raw::Settings { commit_ms, ..Default::default() }.start(place))),
    };
    vec![
        pelton(LOW, "{ latency: low }"),
        pelton("Pelton, `latency: low`, at-least-once", "{ latency: low, guarantee: at_least_once }"),
        pelton("Pelton, `latency: balanced`", "{ latency: balanced }"),
        bare(BARE, 5),
        bare("bare loop, 100 ms commits", 100),
    ]
}

/// One turn of a contender, in a group and topics of its own, at this rate, measured for so many seconds.
fn one(bootstrap: &str, start: &Start<'_>, (rate, seconds): (usize, u64)) -> Result<Turn> {
    let group = format!("latency-{}", measure::unique()?);
    let (input, output) = (format!("{group}.in"), format!("{group}.out"));
    kafka::create_topics(bootstrap, &[(&input, PARTITIONS), (&output, PARTITIONS)])?;
    let home = measure::tempfile_dir()?;
    let mut process = start(Place { bootstrap, group: &group, input: &input, output: &output, home: &home })?;
    let broker = measure::broker_pid();
    let stream = Stream::start(bootstrap, &input, PARTITIONS, rate)?;
    let mut reader = Reader::new(bootstrap, &output)?;
    await_first(&mut reader, &home)?;
    // What came while it started comes through; then it is steady.
    visible(&mut reader, stream.start, SETTLE)?;
    let read = |pid: u32| measure::cpu(pid);
    let (before, broker_before) = (read(process.0.id())?, broker.map(read).transpose()?);
    let seen = visible(&mut reader, stream.start, Duration::from_secs(seconds))?;
    let each = |after: Duration, before: Duration| (after - before).as_secs_f64() * 1e6 / seen.records as f64;
    let cpu_us = each(read(process.0.id())?, before);
    let broker_us = match (broker, broker_before) {
        (Some(pid), Some(before)) => Some(each(read(pid)?, before)),
        _ => None,
    };
    stream.stop()?;
    process.end()?;
    let _ = fs::remove_dir_all(&home);
    let markers = seen.markers as f64 / seen.records as f64;
    Ok(Turn { ms: seen.ms, cpu_us, broker_us, markers })
}
