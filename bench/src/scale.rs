//! One process with very many transforms and partitions: how long until it is ready and has processed what was there, its
//! memory and its threads, beside a process with one transform.

use crate::contender;
use crate::measure;
use anyhow::{Context, Result, bail};
use clap::Args;
use pelton_integration::kafka::{self, Reader, Record, Writer};
use pelton_integration::scrape::{free_port, get};
use pelton_integration::{broker, guest};
use std::fmt::Write as _;
use std::fs;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(300);
/// Records in each input topic.
const RECORDS: usize = 10;
/// The goals, for 500 transforms with 1,000 partitions.
const READY_WITHIN: f64 = 10.0;
const MEMORY_MIB: f64 = 1024.0;

/// `scale`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[arg(long, default_value_t = 500)]
    transforms: usize,
    /// Of each input topic; each transform has a topic of its own.
    #[arg(long, default_value_t = 2)]
    partitions: i32,
}

struct Seen {
    ready_s: f64,
    through_s: f64,
    rss_mib: f64,
    threads: usize,
}

/// Prints one table; says whether no goal was missed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Options { transforms, partitions } = *options;
    let broker = broker::start()?;
    let one = measure(&broker.bootstrap, 1, partitions).context("one transform")?;
    let many = measure(&broker.bootstrap, transforms, partitions).context("many transforms")?;
    println!(
        "One process, one worker, `identity` with a topic of {partitions} partitions for each transform, exactly-once; load {}\n",
        measure::load_average()
    );
    println!("| transforms | partitions | ready after s | everything through after s | RSS MiB | threads |");
    println!("|---|---|---|---|---|---|");
    for (count, Seen { ready_s, through_s, rss_mib, threads }) in [(1, &one), (transforms, &many)] {
        let partitions = count * partitions as usize;
        println!("| {count} | {partitions} | {ready_s:.1} | {through_s:.1} | {rss_mib:.0} | {threads} |");
    }
    let threads = "as many as with one transform, and 4 more at most";
    Ok(measure::judge(&[
        ("ready".to_owned(), many.ready_s <= READY_WITHIN, format!("within {READY_WITHIN} s")),
        ("memory".to_owned(), many.rss_mib <= MEMORY_MIB, format!("at most {MEMORY_MIB} MiB")),
        ("threads".to_owned(), many.threads <= one.threads + 4, threads.to_owned()),
    ]))
}

fn measure(bootstrap: &str, transforms: usize, partitions: i32) -> Result<Seen> {
    let unique = measure::unique()?;
    let (group, port) = (format!("scale-{unique}"), free_port());
    let inputs: Vec<String> = (0..transforms).map(|i| format!("{group}.in.{i}")).collect();
    let output = format!("{group}.out");
    kafka::create_topics(bootstrap, &[(&output, 6)])?;
    for some in inputs.chunks(50) {
        let topics: Vec<(&str, i32)> = some.iter().map(|name| (name.as_str(), partitions)).collect();
        kafka::create_topics(bootstrap, &topics)?;
    }
    let writer = Writer::new(bootstrap, "none")?;
    for input in &inputs {
        let record =
            |i: usize| Record { partition: i as i32 % partitions, value: Some(b"x".to_vec()), ..Record::default() };
        writer.write(input, &(0..RECORDS).map(record).collect::<Vec<_>>())?;
    }
    let module = guest::module("identity");
    let mut config = format!(
        "application: {group}\ninstance: bench\nworkers: 1\nadmin: {{ listen: \"127.0.0.1:{port}\" }}\n\
         kafka: {{ bootstrap_servers: {bootstrap} }}\ntransforms:\n"
    );
    for (i, input) in inputs.iter().enumerate() {
        let _ = writeln!(
            config,
            "  t{i}:\n    module: {}\n    input: {{ topics: [{input}] }}\n    output: {{ topic: {output} }}\n    on_error: {{ then: stop }}",
            module.display()
        );
    }
    let home = measure::tempfile_dir()?;
    let mut reader = Reader::new(bootstrap, &output)?;
    let began = Instant::now();
    let mut pelton = contender::run(&config, &home)?;
    let mut ready = None;
    while reader.records.len() < transforms * RECORDS || ready.is_none() {
        if ready.is_none() && get(port, "/readyz").is_some_and(|(status, _)| status == 200) {
            ready = Some(began.elapsed().as_secs_f64());
        }
        reader.poll(Duration::from_millis(20))?;
        if let Some(status) = pelton.0.try_wait()? {
            bail!("it ended with {status}; see {home}/log");
        }
        if began.elapsed() > LIMIT {
            bail!("{} of {} records within {LIMIT:?}; see {home}/log", reader.records.len(), transforms * RECORDS);
        }
    }
    let through_s = began.elapsed().as_secs_f64();
    let rss_mib = measure::rss_mib(pelton.0.id())?;
    let threads = fs::read_dir(format!("/proc/{}/task", pelton.0.id()))?.count();
    pelton.end()?;
    let _ = fs::remove_dir_all(&home);
    Ok(Seen { ready_s: ready.unwrap_or(f64::NAN), through_s, rss_mib, threads })
}
