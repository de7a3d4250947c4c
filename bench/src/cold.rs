//! From exec to the first output: a process starts into an idle group, with compiled code in its cache, and a record waits.

use crate::contender;
use crate::measure::{judge, load_average, spread, tempfile_dir, unique, write_json};
use anyhow::{Result, bail};
use clap::Args;
use pelton_integration::kafka::{self, Reader, Record, Writer};
use pelton_integration::{broker, guest};
use serde_json::json;
use std::fs;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// Seconds.
const FIRST_OUTPUT: f64 = 1.0;

/// `start`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

/// Prints what was measured; says whether the goal was met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    if options.rounds == 0 {
        bail!("there is nothing to measure");
    }
    let broker = broker::start()?;
    let bootstrap = broker.bootstrap.as_str();
    let group = format!("start-{}", unique()?);
    let (input, output, home) = (format!("{group}.in"), format!("{group}.out"), tempfile_dir()?);
    kafka::create_topics(bootstrap, &[(&input, 6), (&output, 6)])?;
    let config = format!(
        "application: {group}\ninstance: bench\nworkers: 1\nadmin: off\nkafka: {{ bootstrap_servers: {bootstrap} }}\n\
         cache_dir: {home}/cache\ntransforms:\n  measured:\n    module: {}\n    input: {{ topics: [{input}] }}\n    \
         output: {{ topic: {output} }}\n",
        guest::module("identity").display()
    );
    let writer = Writer::new(bootstrap, "none")?;
    let mut reader = Reader::new(bootstrap, &output)?;
    let mut seconds = Vec::new();
    // The first round compiles, and gives the group its positions.
    for round in 0..=options.rounds {
        writer.write(&input, &[Record { value: Some(b"x".to_vec()), ..Record::default() }])?;
        let began = Instant::now();
        let mut process = contender::run(&config, &home)?;
        while reader.poll(Duration::from_millis(5))? == 0 {
            if let Some(status) = process.0.try_wait()? {
                bail!("it ended with {status}; see {home}/log");
            }
            if began.elapsed() > LIMIT {
                bail!("nothing came out within {LIMIT:?}; see {home}/log");
            }
        }
        let took = began.elapsed().as_secs_f64();
        eprintln!(
            "{}: {took:.2} s",
            if round == 0 { "without compiled code".into() } else { format!("round {round}") }
        );
        if round > 0 {
            seconds.push(took);
        }
        process.end()?;
    }
    let _ = fs::remove_dir_all(&home);
    let [least, middle, most] = spread(seconds.iter().copied());
    println!(
        "From exec to the first visible output, idle group, compiled code cached: {least:.2} / {middle:.2} / {most:.2} s; load {}",
        load_average()
    );
    write_json("start", &json!({ "seconds": seconds, "load": load_average() }))?;
    Ok(judge(&[(
        format!("first output after {middle:.2} s"),
        middle <= FIRST_OUTPUT,
        format!("within {FIRST_OUTPUT} s"),
    )]))
}
