//! Paired measurements on one machine in one run: the processor against a bare librdkafka loop ([`raw`]) and against
//! other processors ([`peers`]), and the sandbox against the same code without one ([`boundary`]). What is compared is CPU per record, not time: other work on the
//! machine moves the latter.

mod boundary;
mod cold;
mod compare;
mod contender;
mod flame;
mod instructions;
mod instruments;
mod latency;
mod measure;
mod neighbours;
mod parallel;
mod peers;
mod profile;
mod raw;
mod reload;
mod scale;
mod shapes;
mod soak;
mod stream;
mod traces;
mod turns;

use clap::{Parser, Subcommand};
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
    /// Throughput and CPU, exactly-once: Pelton with every guard on against the bare loop with the same work, in turns.
    Raw(compare::Options),
    /// Pelton beside Kafka Streams, Flink and Benthos, on the same broker with the same input, outputs verified, in turns.
    Peers(peers::Options),
    /// 500 transforms and 1,000 partitions in one process: start, memory, threads.
    Scale(scale::Options),
    /// From exec to the first output, with compiled code in the cache.
    Start(cold::Options),
    /// A transform that computes 200 us on each record of one partition: alone, and shared by instances.
    Parallel(parallel::Options),
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
    /// How the cost of a record grows with its size, from 10 B to 900 KB, against the bare loop.
    Sizes(shapes::Options),
    /// What compression costs, both ways, against the bare loop.
    Compression(shapes::Options),
    /// A long run at a steady rate: whether anything grows, and whether every record comes out once.
    Soak(soak::Options),
    /// What counting and following records cost, by the calls that a worker makes for it. No Kafka.
    Instruments {
        /// CPU that a record costs in all, in microseconds: as `raw` says.
        #[arg(long, default_value_t = 2.0)]
        record_us: f64,
    },
    /// Instructions of the middle of the loop, counted by Valgrind, against the baseline. No Kafka.
    Instructions(instructions::Options),
    /// Where the time goes at full load, sampled by perf: whose code, which threads, and a flame graph.
    Profile(profile::Options),
    /// What Valgrind watches.
    #[command(hide = true)]
    HotPath { module: std::path::PathBuf },
    /// The bare loop itself; the benchmark starts it as a process of its own.
    #[command(hide = true)]
    RawLoop {
        bootstrap: String,
        input: String,
        output: String,
        group: String,
        #[command(flatten)]
        settings: raw::Settings,
    },
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Bench::Raw(options) => compare::run(&options),
        Bench::Start(options) => cold::run(&options),
        Bench::Peers(options) => peers::run(&options),
        Bench::Scale(options) => scale::run(&options),
        Bench::Parallel(options) => parallel::run(&options),
        Bench::Neighbours { rounds, seconds } => {
            broker::start().and_then(|broker| neighbours::run(&broker.bootstrap, rounds, Duration::from_secs(seconds)))
        }
        Bench::Instruments { record_us } => {
            instruments::run(record_us).and_then(|well| Ok(traces::run(record_us)? && well))
        }
        Bench::Boundary(options) => boundary::run(&options),
        Bench::Latency(options) => latency::run(&options),
        Bench::Sizes(options) => shapes::run("sizes", &shapes::SIZES, &options),
        Bench::Compression(options) => shapes::run("compression", &shapes::COMPRESSION, &options),
        Bench::Soak(options) => soak::run(&options),
        Bench::Reload(options) => reload::run(&options),
        Bench::Instructions(options) => instructions::run(&options),
        Bench::Profile(options) => profile::run(&options),
        Bench::HotPath { module } => instructions::hot_path(&module).map(|()| true),
        Bench::RawLoop { bootstrap, input, output, group, settings } => {
            raw::run(&bootstrap, &input, &output, &group, settings).map(|()| true)
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
