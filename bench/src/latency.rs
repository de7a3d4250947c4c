//! From sent to visible at a steady rate below saturation, in turns: Pelton's latency profiles, and the bare loop with short and
//! long commits. With what it costs, and what it costs the broker, for which a short transaction is not cheaper than a long one.

use crate::contender::{Pelton, Place};
use crate::measure;
use crate::raw;
use crate::stream::{Stream, await_first, visible};
use anyhow::{Context, Result};
use clap::Args;
use pelton_integration::kafka::{self, Reader};
use pelton_integration::{broker, guest};
use std::fs;
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
    /// Only those whose name contains this, say "low".
    #[arg(long)]
    only: Option<String>,
}

/// Of a turn that is not counted.
const WARM_S: u64 = 30;

#[derive(Clone, Copy)]
enum Contender {
    Pelton { latency: &'static str, guarantee: &'static str },
    Raw { commit_ms: u64 },
}

const LOW: &str = "Pelton, `latency: low`";
const BARE: &str = "bare loop, 5 ms commits";
/// The goals: Benthos, at-least-once, on the machine that they were set on.
const P50_MS: f64 = 8.0;
const P99_MS: f64 = 23.0;
const CONTENDERS: [(&str, Contender); 5] = [
    (LOW, Contender::Pelton { latency: "low", guarantee: "exactly_once" }),
    ("Pelton, `latency: low`, at-least-once", Contender::Pelton { latency: "low", guarantee: "at_least_once" }),
    ("Pelton, `latency: balanced`", Contender::Pelton { latency: "balanced", guarantee: "exactly_once" }),
    (BARE, Contender::Raw { commit_ms: 5 }),
    ("bare loop, 100 ms commits", Contender::Raw { commit_ms: 100 }),
];

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
    let broker = broker::start()?;
    let bootstrap = broker.bootstrap.as_str();
    let broker_pid = measure::broker_pid();
    let asked = |(name, _): &&(&str, Contender)| options.only.as_ref().is_none_or(|only| name.contains(only));
    let contenders: Vec<_> = CONTENDERS.iter().filter(asked).collect();
    if let Some((name, contender)) = contenders.first() {
        // A JVM compiles what it does often: a broker that has just started takes twice the CPU.
        eprintln!("warming the broker up: {WARM_S} s of {name}, not counted");
        let warm = Options { seconds: WARM_S, only: None, ..*options };
        one(bootstrap, &format!("latency-{}", measure::unique()?), *contender, &warm, broker_pid)?;
    }
    let mut turns: Vec<Vec<Turn>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..options.rounds {
        for (index, (name, contender)) in contenders.iter().enumerate() {
            let group = format!("latency-{}-{round}-{index}", measure::unique()?);
            let turn = one(bootstrap, &group, *contender, options, broker_pid).with_context(|| name.to_string())?;
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
    for ((name, _), turns) in contenders.iter().zip(&turns) {
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
        let own = contenders.iter().position(|contender| contender.0 == name).map(|index| &turns[index]);
        own.map(|own| measure::spread(own.iter().map(what))[1])
    };
    let broker = |turn: &Turn| turn.broker_us.unwrap_or(f64::NAN);
    let mut goals = Vec::new();
    if let (Some(p50), Some(p99)) = (of(LOW, |turn| turn.ms[0]), of(LOW, |turn| turn.ms[1])) {
        goals.push((format!("{LOW}: p50 {p50:.1} ms"), p50 <= P50_MS, format!("at most {P50_MS} ms")));
        goals.push((format!("{LOW}: p99 {p99:.1} ms"), p99 <= P99_MS, format!("at most {P99_MS} ms")));
    }
    if let (Some(ours), Some(theirs)) = (of(LOW, broker), of(BARE, broker)) {
        let what = format!("{LOW}: the broker's CPU a record against the bare loop's {:.2}", ours / theirs);
        goals.push((what, ours < theirs, "below 1".to_owned()));
    }
    Ok(measure::judge(&goals))
}

fn one(bootstrap: &str, group: &str, contender: Contender, options: &Options, broker: Option<u32>) -> Result<Turn> {
    let (input, output) = (format!("{group}.in"), format!("{group}.out"));
    kafka::create_topics(bootstrap, &[(&input, PARTITIONS), (&output, PARTITIONS)])?;
    let home = measure::tempfile_dir()?;
    let place = Place { bootstrap, group, input: &input, output: &output, home: &home };
    let mut process = match contender {
        Contender::Raw { commit_ms } => raw::Settings { commit_ms, ..Default::default() }.start(place),
        Contender::Pelton { latency, guarantee } => {
            let delivery = format!("{{ latency: {latency}, guarantee: {guarantee} }}");
            let module = guest::module("identity");
            let (transform, also, codec) = Default::default();
            Pelton { delivery: &delivery, module: &module, transform, also, codec, preload: None }.start(place)
        }
    }?;
    let stream = Stream::start(bootstrap, &input, PARTITIONS, options.rate)?;
    let mut reader = Reader::new(bootstrap, &output)?;
    await_first(&mut reader, &home)?;
    // What came while it started comes through; then it is steady.
    visible(&mut reader, stream.start, Duration::from_secs(3))?;
    let read = |pid: u32| measure::cpu(pid);
    let (before, broker_before) = (read(process.0.id())?, broker.map(read).transpose()?);
    let seen = visible(&mut reader, stream.start, Duration::from_secs(options.seconds))?;
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
