//! What crossing into the sandbox costs: the same work on the same records, natively and through `pelton-sandbox` with
//! every guard on, in one process, in turns. No Kafka. Owns the plan: what is measured ([`data`], [`guest`]), by whom
//! ([`contender`]), against which goals, and in which order; [`report`] says what came out.
//!
//! Everything of a call is timed: framing the batch, the call with its limits, the checks of what comes back, appending
//! the outputs to one buffer. Time is CPU time of this thread. The work itself is `bench/work`, compiled into both sides.

mod contender;
mod data;
mod guest;
mod report;

use anyhow::{Context, Result, anyhow, bail};
use boundary_work::Work;
use clap::Args;
use contender::{Contender, Reading};
use data::Data;
pub(crate) use data::{event, order};
pub(crate) use guest::Build;
use pelton_sandbox::{
    Ceiling, Digest, Engine, EngineConfig, Generation, Grants, Instance, Limits, Module, Record, Spec,
};
use report::{Column, Report, Row};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::Duration;

/// Records of a pass; two batches.
const RECORDS: usize = 200;
/// CPU time of one sample of the native side, at least.
const SAMPLE_NS: f64 = 3e6;

/// `boundary`.
#[derive(Args)]
pub(crate) struct Options {
    /// Only whether guest and native agree: no figures, no goals, no `jco opt`.
    #[arg(long)]
    quick: bool,
    /// Turns of each contender.
    #[arg(long, default_value_t = 31)]
    rounds: usize,
    /// Only the work whose name and bytes contain this, say "json 300".
    #[arg(long)]
    only: Option<String>,
    /// Measure guests with one build setting left out as well.
    #[arg(long)]
    settings: bool,
    /// Without `jco opt`, though it could be had.
    #[arg(long)]
    no_jco: bool,
}

/// What is measured, and what it should be.
const PLAN: [(Work, usize, Goal); 7] = [
    (Work::Keep, 100, Goal::None),
    (Work::Identity, 100, Goal::Ns(65.0)),
    (Work::Identity, 1_000, Goal::Ns(160.0)),
    (Work::Json, 300, Goal::Ratio(1.5)),
    (Work::Json, 1_000, Goal::Ratio(1.5)),
    (Work::JsonRaw, 300, Goal::Ratio(2.1)),
    (Work::JsonRaw, 1_000, Goal::Ratio(2.1)),
];

/// Of the best guest, by the median.
#[derive(Debug, Clone, Copy)]
enum Goal {
    None,
    /// A record takes at most so long.
    Ns(f64),
    /// It takes at most so many times what it takes natively.
    Ratio(f64),
}

/// A guest to be measured.
#[derive(Clone)]
struct Candidate {
    name: String,
    module: Module,
    limits: Limits,
    reading: Reading,
}

/// Whether no goal was missed.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let rounds = if options.quick { 3 } else { options.rounds };
    let asked = |work: Work, bytes| options.only.as_ref().is_none_or(|only| format!("{work} {bytes} B").contains(only));
    let plan: Vec<_> = PLAN.into_iter().filter(|(work, bytes, _)| asked(*work, *bytes)).collect();
    if rounds == 0 || plan.is_empty() {
        bail!("there is nothing to measure");
    }
    if cfg!(debug_assertions) && !options.quick {
        bail!("this is a debug build, whose figures say nothing: use ./dev bench boundary, or --quick");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build()?;
    let (ceiling, runtime) = (Ceiling::default(), runtime.handle().clone());
    let engine = Engine::new(EngineConfig { cache_dir: None, cache_bytes: 0, ceiling, compiler: None, runtime })?;
    let Guests { candidates, best, notes } = Guests::new(options, &engine)?;
    let mut report = Report::new(rounds, candidates.iter().map(|candidate| candidate.name.clone()), best, notes);
    for (work, bytes, goal) in plan {
        eprintln!("{work} {bytes} B");
        let (rows, outputs, digest) =
            measure(&candidates, work, bytes, rounds).with_context(|| format!("{work} {bytes} B"))?;
        report.add(Column { work, bytes, goal, rows, outputs, digest });
    }
    if options.quick {
        print!("{}", report.agreement());
        return Ok(true);
    }
    report.finish();
    print!("{}", report.table());
    eprintln!("written to {}", report.write()?.display());
    Ok(report.is_good())
}

/// Who is measured beside the native side.
struct Guests {
    candidates: Vec<Candidate>,
    /// The one that the goals are for.
    best: usize,
    /// What a reader should know.
    notes: Vec<String>,
}

impl Guests {
    fn new(options: &Options, engine: &Engine) -> Result<Self> {
        let load = |name: &str, wasm: &Path| -> Result<Candidate> {
            let module = engine.load(wasm, None).with_context(|| format!("{name}: {}", wasm.display()))?;
            Ok(Candidate { name: name.into(), module, limits: Limits::default(), reading: Reading::Frames })
        };
        let mut candidates = Vec::new();
        if options.settings {
            for build in &Build::VARIANTS {
                candidates.push(load(build.name, &build.make()?)?);
            }
        }
        let built = Build::AS_TRANSFORMS.make()?;
        let plain = load(Build::AS_TRANSFORMS.name, &built)?;
        let best = candidates.len();
        candidates.push(plain.clone());
        let another = |name: &str| Candidate { name: format!("the same, {name}"), ..plain.clone() };
        candidates.push(Candidate { reading: Reading::Fields, ..another("outputs read field by field") });
        let mut guests = Self { candidates, best, notes: Vec::new() };
        if options.quick {
            return Ok(guests);
        }
        guests.candidates.push(Candidate { limits: out_of_reach(), ..another("limits out of reach") });
        guests.notes.push(
            "The engine is the product's: fuel accounting, yields, the memory limiter and the checks of frames cannot be \
             switched off. `limits out of reach` shows that the limits' values cost nothing, not what the guards do."
                .into(),
        );
        match if options.no_jco { Err("not asked for".into()) } else { guest::optimise(&built) } {
            Ok((optimised, version)) => {
                guests.best = guests.candidates.len();
                guests.candidates.push(load("guest, then `jco opt`", &optimised)?);
                guests.notes.push(format!("with jco opt: {version}"));
            }
            Err(why) => guests.notes.push(format!("without jco opt: {why}")),
        }
        Ok(guests)
    }
}

/// Fuel, time and memory that no record comes near.
fn out_of_reach() -> Limits {
    let hour = Duration::from_secs(3600);
    Limits { deadline: hour, fuel: u64::MAX, memory: Ceiling::default().memory, ..Limits::default() }
}

/// One kind of work on values of one size, by all contenders. Returns their rows, native first, how many outputs there
/// are, and the digest of those.
fn measure(candidates: &[Candidate], work: Work, bytes: usize, rounds: usize) -> Result<(Vec<Row>, usize, Digest)> {
    let data = Data::new(RECORDS, bytes);
    let headers = data.headers();
    let records = data.records(&headers);
    let mut contenders = vec![Contender::native(work)];
    for candidate in candidates {
        let generation = Generation::prepare(&candidate.module, spec(candidate, work), 1)?;
        let instance = Instance::new(&generation).map_err(|fault| anyhow!("{fault:?}"))?;
        contenders.push(Contender::guest(instance, candidate.reading));
    }
    let (outputs, digest) = agree(&mut contenders, &records)?;
    let native = contenders.first_mut().context("the native side comes first")?;
    let repeats = (SAMPLE_NS / timed(native, &records, 10)?).ceil() as usize;
    let mut samples = vec![Vec::with_capacity(rounds); contenders.len()];
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            // another order in each round
            let at = (turn + round * 7) % contenders.len();
            samples[at].push(timed(&mut contenders[at], &records, repeats)? / records.len() as f64);
        }
    }
    let native = samples[0].clone();
    let rows = samples.into_iter().map(|ns| Row::new(ns, &native)).collect();
    Ok((rows, outputs, digest))
}

fn spec(candidate: &Candidate, work: Work) -> Spec {
    Spec {
        transform: "boundary".into(),
        settings: vec![("work".into(), work.to_string())],
        secrets: Vec::new(),
        inputs: vec!["in".into()],
        outputs: vec!["out".into()],
        limits: candidate.limits.clone(),
        grants: Grants::default(),
        observe_guest_text: false,
    }
}

/// Warms everybody up, and demands of all the same bytes. Returns how many outputs there are, and their digest.
fn agree(contenders: &mut [Contender], records: &[Record<'_>]) -> Result<(usize, Digest)> {
    let mut expected = None;
    for (i, contender) in contenders.iter_mut().enumerate() {
        for _ in 0..3 {
            contender.pass(records)?;
        }
        let found = (contender::frames(contender.sink())?, Digest::of(contender.sink()));
        let wanted = expected.get_or_insert(found);
        if found != *wanted {
            bail!("contender {i} has other outputs than native: {found:?}, not {wanted:?}");
        }
    }
    expected.context("there is nobody to agree")
}

/// CPU ns of one pass, by the mean of some.
fn timed(contender: &mut Contender, records: &[Record<'_>], passes: usize) -> Result<f64> {
    let start = cpu_ns();
    for _ in 0..passes {
        contender.pass(std::hint::black_box(records))?;
        std::hint::black_box(contender.sink());
    }
    Ok((cpu_ns() - start) / passes as f64)
}

/// CPU time of this thread.
fn cpu_ns() -> f64 {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    now.tv_sec as f64 * 1e9 + now.tv_nsec as f64
}
