//! `./dev stack`: Kafka, Pelton and Prometheus on this machine, without an image: orders flow through the example transform and
//! a few bad records through another one. Until Ctrl-C there are the status page, its API and Prometheus to look at. With
//! `--check` the stack judges itself: every query of the Grafana dashboard and every alert is evaluated against that
//! Prometheus, and must find data.

mod checks;
mod feed;
mod prometheus;

use anyhow::{Context, Result, bail};
use clap::Parser;
use feed::Feed;
use pelton_integration::process::Pelton;
use pelton_integration::scrape::{free_port, get};
use pelton_integration::{broker, guest, kafka, within};
use prometheus::Prometheus;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Kafka, Pelton and Prometheus, to look at or to check.
#[derive(Parser)]
struct Args {
    /// End by itself after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Evaluate every query and every alert, and end.
    #[arg(long)]
    check: bool,
    /// Records a second.
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// Of the status page.
    #[arg(long, default_value_t = 9640)]
    port: u16,
}

const START: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    match stack(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn stack(args: &Args) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    pelton_integration::stop_on_signals(&stop)?;
    let kafka = broker::start()?;
    let topics = ["orders", "orders.clean", "orders.dlq", "asks", "left", "right", "narrow", "silent"];
    let partitions = topics.map(|topic| (topic, 3));
    kafka::create_topics(&kafka.bootstrap, &partitions).context("the topics cannot be made")?;
    eprintln!("Kafka:       {} at {}", kafka.description, kafka.bootstrap);
    // A check beside a running stack is not to find its port taken.
    let port = if args.check { free_port() } else { args.port };
    let mut pelton = Pelton::start(&config(&kafka.bootstrap, port), "stack");
    let ready = within(START, || {
        pelton.assert_running();
        get(port, "/readyz").filter(|(status, _)| *status == 200)
    });
    if ready.is_none() {
        bail!("Pelton is not ready within {START:?}; its log:\n{}", pelton.log());
    }
    eprintln!("Pelton:      http://127.0.0.1:{port}/ is the status page");
    let prometheus = Prometheus::start(port)?;
    eprintln!("Prometheus:  {}/", prometheus.address);
    let feed = Feed::start(&kafka.bootstrap, args.rate, &stop);
    let result = if args.check {
        checks::all(&prometheus, &pelton)
    } else {
        within(Duration::from_secs(args.seconds.unwrap_or(u32::MAX.into())), || {
            pelton.assert_running();
            stop.load(Ordering::Relaxed).then_some(())
        });
        Ok(())
    };
    stop.store(true, Ordering::Relaxed);
    feed.end()?;
    match pelton.stop() {
        Some(0) => result,
        status => bail!("Pelton ended with {status:?}; its log:\n{}", pelton.log()),
    }
}

/// The example transform, and one that fails in the ways that its records ask for.
fn config(bootstrap: &str, port: u16) -> String {
    format!(
        "application: stack\nworkers: 1\nkafka: {{ bootstrap_servers: \"{bootstrap}\" }}\nadmin: {{ listen: \"127.0.0.1:{port}\" }}\n\
         transforms:\n  redact:\n    module: {}\n    input: {{ topics: [orders] }}\n    output: {{ topic: orders.clean }}\n    \
         settings: {{ fields: \"card.number,card.cvc\", drop: test }}\n    on_error: {{ then: dead_letter, topic: orders.dlq }}\n\
         \x20 asked:\n    module: {}\n    input: {{ topics: [asks] }}\n    output: {{ topic: left, also: [right, narrow] }}\n    \
         on_error: {{ then: skip }}\n",
        guest::module("redact").display(),
        guest::test_module("tester").display(),
    )
}
