//! How the cost of a record grows with its size, and what compression costs: Pelton against the bare loop, exactly-once,
//! each record copied by the guest, input and output compressed alike.

use crate::contender::{EXACTLY_ONCE, Pelton};
use crate::measure::{Form, Load, Sample, load_average, noisy, spread, write_json};
use crate::raw::{self, Codec};
use crate::turns::PARTITIONS;
use anyhow::{Result, bail};
use boundary_work::Work;
use clap::Args;
use pelton_integration::{broker, guest};
use serde_json::{Value, json};

/// `sizes` and `compression`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Turns of each contender.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Only the shape whose name contains this, say "1 KB".
    #[arg(long)]
    only: Option<String>,
}

pub(crate) struct Shape {
    name: &'static str,
    bytes: usize,
    records: usize,
    codec: Codec,
}

const fn plain(name: &'static str, bytes: usize, records: usize) -> Shape {
    Shape { name, bytes, records, codec: Codec::None }
}

/// The last is about the largest that brokers take where nobody has said otherwise.
pub(crate) const SIZES: [Shape; 6] = [
    plain("10 B", 10, 2_000_000),
    plain("100 B", 100, 1_500_000),
    plain("1 KB", 1_000, 400_000),
    plain("10 KB", 10_000, 150_000),
    plain("100 KB", 100_000, 15_000),
    plain("900 KB", 900_000, 1_500),
];

/// Half of a value is words, half is noise: it compresses as real ones do.
pub(crate) const COMPRESSION: [Shape; 3] = [
    Shape { name: "1 KB, none", bytes: 1_000, records: 400_000, codec: Codec::None },
    Shape { name: "1 KB, lz4", bytes: 1_000, records: 400_000, codec: Codec::Lz4 },
    Shape { name: "1 KB, zstd", bytes: 1_000, records: 400_000, codec: Codec::Zstd },
];

/// Prints one table.
pub(crate) fn run(name: &str, shapes: &[Shape], options: &Options) -> Result<bool> {
    let asked = |shape: &&Shape| options.only.as_ref().is_none_or(|only| shape.name.contains(only));
    let shapes: Vec<&Shape> = shapes.iter().filter(asked).collect();
    if options.rounds == 0 || shapes.is_empty() {
        bail!("there is nothing to measure");
    }
    let (module, broker) = (guest::module("identity"), broker::start()?);
    let mut rows = Vec::new();
    for shape in shapes {
        eprintln!("{}: loading {} records", shape.name, shape.records);
        let load = Load::compressed(
            &broker.bootstrap,
            (PARTITIONS, shape.records),
            noisy(shape.bytes),
            (Work::Identity, Form::Bytes, shape.codec.as_str()),
        )?;
        let (mut bare, mut pelton) = (Vec::new(), Vec::new());
        for round in 0..options.rounds {
            bare.push(load.measure((&format!("bare-{round}"), &["out"]), |place| {
                raw::Settings { work: Work::Identity, codec: shape.codec, ..Default::default() }.start(place)
            })?);
            pelton.push(load.measure((&format!("pelton-{round}"), &["out"]), |place| {
                Pelton { codec: shape.codec, ..Pelton::of(Work::Identity, &module, EXACTLY_ONCE) }.start(place)
            })?);
            eprintln!("{}, round {}: bare loop {}; Pelton {}", shape.name, round + 1, bare[round], pelton[round]);
        }
        rows.push((shape, bare, pelton));
    }
    println!(
        "Each record copied by the guest, exactly-once, 100 ms commits, {PARTITIONS} partitions, 1 worker, {} rounds in turns; load {}\n",
        options.rounds,
        load_average()
    );
    println!(
        "| record | bare loop, CPU us a record | Pelton | Pelton / bare loop | Pelton, records/s | MB/s | peak RSS MiB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (shape, bare, pelton) in &rows {
        let middle = |some: &[Sample], what: fn(&Sample) -> f64| spread(some.iter().map(what))[1];
        let (own, theirs) = (middle(pelton, |s| s.cpu_us), middle(bare, |s| s.cpu_us));
        let per_second = middle(pelton, |s| s.per_second);
        let rss = pelton.iter().map(|s| s.rss_mib).fold(0.0, f64::max);
        println!(
            "| {} | {theirs:.2} | {own:.2} | {:.2} | {per_second:.0} | {:.0} | {rss:.0} |",
            shape.name,
            own / theirs,
            per_second * shape.bytes as f64 / 1e6
        );
    }
    let path = write_json(name, &Value::from(rows.iter().map(as_json).collect::<Vec<_>>()))?;
    eprintln!("written to {}", path.display());
    Ok(true)
}

fn as_json((shape, bare, pelton): &(&Shape, Vec<Sample>, Vec<Sample>)) -> Value {
    let all = |some: &[Sample]| -> Vec<Value> {
        let one = |s: &Sample| json!({ "cpu_us": s.cpu_us, "per_second": s.per_second, "rss_mib": s.rss_mib });
        some.iter().map(one).collect()
    };
    json!({ "shape": shape.name, "records": shape.records, "bare": all(bare), "pelton": all(pelton) })
}
