//! What `parallelism` brings: a transform that computes long on each record, on one partition, alone and with its batches
//! shared, in turns. The broker needs a CPU too: on a machine with two, what is left of the second one bounds the gain.

use crate::contender::{Pelton, Place};
use crate::measure::{self, Form, Load, Sample, spread};
use crate::raw::Codec;
use anyhow::{Context, Result, bail};
use boundary_work::Work;
use clap::Args;
use pelton_integration::{broker, guest};

/// Rounds of the guest that take 200 us or so.
const EFFORT: u32 = 150_000;
/// The goal, for two instances.
const AT_LEAST: f64 = 1.8;

/// `parallel`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Records of one run.
    #[arg(long, default_value_t = 30_000)]
    records: usize,
    /// Turns of each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Instances that share a batch; the goal is for two.
    #[arg(long, default_value_t = 2)]
    instances: usize,
}

/// Prints one table; says whether the goal is met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let Options { records, rounds, instances } = *options;
    if rounds == 0 || instances < 2 {
        bail!("at least one round, and two instances");
    }
    let broker = broker::start()?;
    let value = |i| format!("left {i} {}", "x".repeat(80)).into_bytes();
    let load = Load::new(&broker.bootstrap, (1, records), value, (Work::Keep, Form::Bytes))?;
    let module = guest::test_module("tester");
    let (mut alone, mut shared): (Vec<Sample>, Vec<Sample>) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for (count, samples) in [(1, &mut alone), (instances, &mut shared)] {
            let start = |place: Place<'_>| {
                let also = ["right", "narrow"].map(|name| place.output.replace(".left", &format!(".{name}"))).to_vec();
                let transform = format!(
                    "    parallelism: {count}\n    settings: {{ effort: {EFFORT} }}\n    on_error: {{ then: stop }}\n"
                );
                let codec = Codec::None;
                Pelton { delivery: "{ latency: balanced }", module: &module, transform, also, codec, environment: &[] }
                    .start(place)
            };
            let topics = ["left", "right", "narrow"];
            let sample = load.measure((&format!("{count}-{round}"), &topics), start).context("measuring")?;
            eprintln!("round {}, {count} instances: {sample}", round + 1);
            samples.push(sample);
        }
    }
    println!("{records} records on one partition, one worker, exactly-once; {rounds} rounds in turns\n");
    println!("| instances | records/s min / median / max | CPU us a record |");
    println!("|---|---|---|");
    for (count, samples) in [(1, &alone), (instances, &shared)] {
        let (rate, cpu) = (spread(samples.iter().map(|s| s.per_second)), spread(samples.iter().map(|s| s.cpu_us)));
        println!("| {count} | {:.0} / {:.0} / {:.0} | {:.1} |", rate[0], rate[1], rate[2], cpu[1]);
    }
    let gain = spread(shared.iter().zip(&alone).map(|(shared, alone)| shared.per_second / alone.per_second));
    println!(
        "\nrecords/s, {instances} instances / 1: {:.2} (min {:.2}, max {:.2}; goal for two {AT_LEAST}); load {}",
        gain[1],
        gain[0],
        gain[2],
        measure::load_average()
    );
    Ok(instances != 2 || gain[1] >= AT_LEAST)
}
