//! What a transform that times out on every record does to its neighbour in the same worker: how long the neighbour's
//! records take from being sent to being visible, before the bad one has work and after its breaker has acted, in turns, and
//! how long that took. Memory is read at both ends.

use crate::contender;
use crate::measure;
use crate::stream::{Stream, visible};
use anyhow::{Context, Result, bail};
use pelton_integration::guest;
use pelton_integration::kafka::{self, Reader, Record, Writer};
use std::fs;
use std::time::{Duration, Instant};

const RATE: usize = 500;
/// Failures after which the bad one is paused.
const BUDGET: usize = 100;
const LIMIT: Duration = Duration::from_secs(120);
/// The goal: the neighbour's p99 afterwards against before.
const AT_MOST: f64 = 1.10;

struct Round {
    before_ms: [f64; 2],
    after_ms: [f64; 2],
    /// From the first bad record to the pause.
    acted: Duration,
    rss_mib: [f64; 2],
}

/// Prints one table; says whether the goal is met.
pub(crate) fn run(bootstrap: &str, rounds: usize, phase: Duration) -> Result<bool> {
    let mut all = Vec::new();
    for round in 0..rounds {
        let measured = one(bootstrap, round, phase).with_context(|| format!("round {round}"))?;
        eprintln!(
            "round {}: p99 {:.1} ms before, {:.1} after; paused after {:.2} s; RSS {:.0} then {:.0} MiB",
            round + 1,
            measured.before_ms[1],
            measured.after_ms[1],
            measured.acted.as_secs_f64(),
            measured.rss_mib[0],
            measured.rss_mib[1]
        );
        all.push(measured);
    }
    println!(
        "{RATE} records/s through `identity`, beside a transform that takes its deadline of 5 ms on every record and is \
         paused after {BUDGET} failures; one worker, 100 ms commits; {rounds} rounds of {} s each\n",
        phase.as_secs()
    );
    println!("| the neighbour's records, sent to visible | p50 ms | p99 ms min / median / max |");
    println!("|---|---|---|");
    for (name, of) in
        [("alone", (|r: &Round| r.before_ms) as fn(&Round) -> [f64; 2]), ("after the breaker", |r| r.after_ms)]
    {
        let (p50, p99) = (measure::spread(all.iter().map(|r| of(r)[0])), measure::spread(all.iter().map(|r| of(r)[1])));
        println!("| {name} | {:.1} | {:.1} / {:.1} / {:.1} |", p50[1], p99[0], p99[1], p99[2]);
    }
    let ratio = measure::spread(all.iter().map(|r| r.after_ms[1] / r.before_ms[1]));
    let acted = measure::spread(all.iter().map(|r| r.acted.as_secs_f64()));
    println!(
        "\np99 after / before: {:.2} (min {:.2}, max {:.2}; goal {AT_MOST}); the breaker acted within {:.2} s (max {:.2}); load {}",
        ratio[1],
        ratio[0],
        ratio[2],
        acted[1],
        acted[2],
        measure::load_average()
    );
    Ok(ratio[1] <= AT_MOST)
}

fn one(bootstrap: &str, round: usize, phase: Duration) -> Result<Round> {
    let unique = measure::unique()?;
    let group = format!("neighbours-{unique}-{round}");
    let topic = |name: &str| format!("{group}.{name}");
    let names = ["in", "out", "bad.in", "bad.left", "bad.right", "bad.narrow", "bad.dead"].map(topic);
    kafka::create_topics(bootstrap, &names.each_ref().map(|name| (name.as_str(), 2)))?;
    let home = measure::tempfile_dir()?;
    let config = format!(
        "application: {group}\ninstance: bench\nworkers: 1\nadmin: off\nkafka: {{ bootstrap_servers: {bootstrap} }}\n\
         transforms:\n  good:\n    module: {}\n    input: {{ topics: [{}] }}\n    output: {{ topic: {} }}\n\
         \x20 bad:\n    module: {}\n    input: {{ topics: [{}] }}\n    output: {{ topic: {}, also: [{}, {}] }}\n    \
         on_error: {{ then: dead_letter, topic: {}, budget: {{ failures: {BUDGET}, within: 1m }} }}\n",
        guest::module("identity").display(),
        names[0],
        names[1],
        guest::test_module("tester").display(),
        names[2],
        names[3],
        names[4],
        names[5],
        names[6],
    );
    let mut pelton = contender::run(&config, &home)?;
    let says = |text: &str| fs::read_to_string(format!("{home}/log")).is_ok_and(|log| log.contains(text));
    let stream = Stream::start(bootstrap, &names[0], 2, RATE)?;
    let mut reader = Reader::new(bootstrap, &names[1])?;
    let start = stream.start;
    // Until it flows.
    wait("it flows", || Ok(reader.poll(Duration::from_millis(200))? > 0))?;
    // What came while it started comes through; then it is steady.
    visible(&mut reader, start, Duration::from_secs(3))?;
    let before_ms = visible(&mut reader, start, phase)?.ms;
    let rss_before = measure::rss_mib(pelton.0.id())?;
    let bad: Vec<Record> = (0..5_000)
        .map(|i| Record { partition: i % 2, value: Some(format!("spin {i}").into_bytes()), ..Record::default() })
        .collect();
    let writer = Writer::new(bootstrap, "none")?;
    let began = Instant::now();
    writer.write(&names[2], &bad)?;
    wait("the breaker acts", || {
        reader.poll(Duration::from_millis(10))?;
        Ok(says("transform.paused"))
    })?;
    let acted = began.elapsed();
    // What was held up meanwhile comes through; then it is steady again.
    visible(&mut reader, start, Duration::from_secs(2))?;
    let after_ms = visible(&mut reader, start, phase)?.ms;
    let rss_after = measure::rss_mib(pelton.0.id())?;
    stream.stop()?;
    pelton.end()?;
    let _ = fs::remove_dir_all(&home);
    Ok(Round { before_ms, after_ms, acted, rss_mib: [rss_before, rss_after] })
}

fn wait(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !condition()? {
        if Instant::now() > deadline {
            bail!("not within {LIMIT:?}: {what}");
        }
    }
    Ok(())
}
