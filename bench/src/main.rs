//! Paired measurements on one machine in one run: the processor against a bare librdkafka loop ([`raw`]), and the sandbox
//! against the same code without one ([`boundary`]). What is compared is CPU per record, not time: other work on the
//! machine moves the latter.

mod boundary;
mod instruments;
mod latency;
mod measure;
mod neighbours;
mod raw;
mod reload;
mod stream;
mod traces;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use measure::{Contender, Load, Sample};
use pelton_integration::broker;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Identity over 1 KB records, exactly-once: Pelton with every guard on against the bare loop, in turns.
    Smoke {
        /// Records of one run.
        #[arg(long, default_value_t = 400_000)]
        records: usize,
        /// Turns of each contender.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Fail unless Pelton does this share of the bare loop's records per CPU-second.
        #[arg(long, default_value_t = 0.5)]
        at_least: f64,
    },
    /// What a transform that times out on every record does to its neighbour's latency, before and after its breaker acts.
    Neighbours {
        /// Rounds, each with a process of its own.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Seconds of each measurement.
        #[arg(long, default_value_t = 15)]
        seconds: u64,
    },
    /// The same work on the same records, through the sandbox with every guard on and natively, in turns. No Kafka.
    Boundary(boundary::Options),
    /// From sent to visible at a steady rate, by latency profile, against the bare loop.
    Latency(latency::Options),
    /// Swaps of a module under load: nothing lost, doubled or mixed; latency and memory before and after.
    Reload(reload::Options),
    /// What counting and following records cost, by the calls that a worker makes for it. No Kafka.
    Instruments {
        /// CPU that a record costs in all, in microseconds: as `smoke` says.
        #[arg(long, default_value_t = 2.0)]
        record_us: f64,
    },
    /// The bare loop itself; the benchmark starts it as a process of its own.
    #[command(hide = true)]
    Raw {
        bootstrap: String,
        input: String,
        output: String,
        group: String,
        #[arg(default_value_t = 100)]
        commit_ms: u64,
    },
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Bench::Smoke { records, rounds, at_least } => smoke(records, rounds, at_least),
        Bench::Neighbours { rounds, seconds } => {
            broker::start().and_then(|broker| neighbours::run(&broker.bootstrap, rounds, Duration::from_secs(seconds)))
        }
        Bench::Instruments { record_us } => {
            instruments::run(record_us).and_then(|well| Ok(traces::run(record_us)? && well))
        }
        Bench::Boundary(options) => boundary::run(&options),
        Bench::Latency(options) => latency::run(&options),
        Bench::Reload(options) => reload::run(&options),
        Bench::Raw { bootstrap, input, output, group, commit_ms } => {
            raw::run(&bootstrap, &input, &output, &group, Duration::from_millis(commit_ms)).map(|()| true)
        }
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn smoke(records: usize, rounds: usize, at_least: f64) -> Result<bool> {
    if rounds == 0 {
        bail!("at least one round");
    }
    let broker = broker::start()?;
    eprintln!("Kafka: {} at {}", broker.description, broker.bootstrap);
    eprintln!("loading {records} records of 1 KB");
    let load = Load::new(&broker.bootstrap, records, 1_000).context("loading")?;
    let (mut pelton, mut raw): (Vec<Sample>, Vec<Sample>) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for contender in [Contender::Raw, Contender::Pelton] {
            let sample = load.measure(contender, round).with_context(|| format!("{contender:?}, round {round}"))?;
            eprintln!("round {} {contender:?}: {sample}", round + 1);
            match contender {
                Contender::Raw => raw.push(sample),
                Contender::Pelton => pelton.push(sample),
            }
        }
    }
    println!(
        "identity 1 KB, exactly-once, 6 partitions, 1 worker, 2 lanes, 100 ms commits; {rounds} rounds in turns\n"
    );
    println!("| contender | CPU us/record min / median / max | records/s median | peak RSS MiB |");
    println!("|---|---|---|---|");
    for (name, samples) in [("bare librdkafka loop", &raw), ("Pelton, every guard on", &pelton)] {
        let cpu = measure::spread(samples.iter().map(|s| s.cpu_us));
        let rate = measure::spread(samples.iter().map(|s| s.per_second));
        let rss = samples.iter().map(|s| s.rss_mib).fold(0.0, f64::max);
        println!("| {name} | {:.2} / {:.2} / {:.2} | {:.0} | {rss:.0} |", cpu[0], cpu[1], cpu[2], rate[1]);
    }
    let ratios = measure::spread(raw.iter().zip(&pelton).map(|(raw, pelton)| raw.cpu_us / pelton.cpu_us));
    println!(
        "\nrecords per CPU-second, Pelton / bare loop: {:.2} (min {:.2}, max {:.2}); load {}",
        ratios[1],
        ratios[0],
        ratios[2],
        measure::load_average()
    );
    if ratios[1] < at_least {
        println!("below {at_least}");
    }
    Ok(ratios[1] >= at_least)
}
