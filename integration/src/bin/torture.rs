//! `./dev torture`: see [`pelton_integration::torture`]. The exit status says whether the run passed.

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use pelton_integration::torture::controls::Control;
use pelton_integration::torture::schedule::Fault;
use pelton_integration::torture::{self, Options, StaticMembers};
use pelton_integration::{cache, process};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Hurts brokers, processes and the network while records flow, and judges every record.
#[derive(Parser)]
struct Args {
    /// How long faults go on.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Decides all faults; by default another every time.
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 3)]
    brokers: usize,
    /// Processes that run when nothing is done to them.
    #[arg(long, default_value_t = 3)]
    processes: usize,
    /// Input records a second.
    #[arg(long, default_value_t = 600)]
    rate: u64,
    /// What the tests run: two minutes, one broker, two processes, two controls.
    #[arg(long)]
    slice: bool,
    /// Only these kinds of fault.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Without these kinds of fault.
    #[arg(long, value_delimiter = ',')]
    without: Vec<String>,
    /// Only these negative controls; `none` for none.
    #[arg(long, value_delimiter = ',')]
    controls: Option<Vec<String>>,
    /// Which processes are static members of the group.
    #[arg(long, value_enum, default_value_t = Members::Some)]
    static_members: Members,
    /// Where logs and report go; by default under target/torture.
    #[arg(long)]
    home: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Members {
    None,
    Some,
    All,
}

fn main() -> ExitCode {
    let outcome = options(&Args::parse()).and_then(|options| {
        println!("first faults: {}, …", torture::outlook(&options, 40));
        torture::run(&options)
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options(args: &Args) -> Result<Options> {
    let seed = match args.seed {
        Some(seed) => seed,
        // Short enough to be typed again.
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64 % 1_000_000,
    };
    let kinds = |names: &[String]| -> Result<Vec<Fault>> {
        let fault = |name: &String| Fault::by_name(name).with_context(|| format!("no fault is called `{name}`"));
        names.iter().map(fault).collect()
    };
    let controls = match &args.controls {
        Some(names) if names.iter().all(|name| name == "none") => Vec::new(),
        Some(names) => names
            .iter()
            .map(|name| Control::by_name(name).with_context(|| format!("no control is called `{name}`")))
            .collect::<Result<_>>()?,
        None if args.slice => vec![Control::AtLeastOnce, Control::NoRenewal],
        None => Control::ALL.to_vec(),
    };
    let pelton = process::binary();
    let saboteur = pelton.with_file_name("saboteur");
    if controls.iter().any(|control| control.is_sabotage()) && !saboteur.exists() {
        bail!("{} is not built", saboteur.display());
    }
    let home = args.home.clone().unwrap_or_else(|| cache().join(format!("torture/{seed}")));
    Ok(Options {
        seed,
        lasts: Duration::from_secs_f64(if args.slice { 60.0 } else { args.minutes * 60.0 }),
        brokers: if args.slice { 1 } else { args.brokers },
        processes: if args.slice { 2 } else { args.processes },
        rate: args.rate,
        slice: args.slice,
        only: kinds(&args.only)?,
        without: kinds(&args.without)?,
        controls,
        static_members: match args.static_members {
            Members::None => StaticMembers::None,
            Members::Some => StaticMembers::Some,
            Members::All => StaticMembers::All,
        },
        pelton,
        saboteur,
        home,
    })
}
