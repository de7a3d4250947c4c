//! Carries an attack out and judges it. Around each attacking record stand four innocent ones, whose outcomes must come out
//! once each, in order and right; the next batch of the same instance must be served; and so must another transform of
//! the same engine. The attacker must get its code, for no more CPU and memory than its row allows.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use pelton_sandbox::{FaultCode, Generation, Grants, Instance, Limits, PrepareError, Record, Settled, Spec, World};

use super::attack::{Attack, Guest, Outcome};
use super::guests;
use super::measure::{Cost, cost, median, resident, slowness};

/// Repetitions that are not measured, at most: the pool's slots get warm.
const WARM_UP: usize = 2;

/// How an attack ended in a world, and what it cost.
#[derive(Debug, Clone)]
pub struct Finding {
    pub name: &'static str,
    pub world: World,
    /// What stopped it, in the operator's words.
    pub end: String,
    /// Of one batch, or one preparation; the median of all repetitions.
    pub cost: Cost,
    /// What resident memory grew by over all repetitions.
    pub left: i64,
    /// What was not as it must be.
    pub wrong: Vec<String>,
}

/// An outcome that owns what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Out {
    Keep,
    Drop,
    /// The values, where they are text.
    Emit(Vec<String>),
    Reject(String),
    Fault(FaultCode, String),
}

impl Out {
    fn of(settled: Settled<'_>) -> Self {
        match settled {
            Settled::Keep => Self::Keep,
            Settled::Drop => Self::Drop,
            Settled::Reject(reason) => Self::Reject(reason.into()),
            Settled::Fault(fault) => Self::Fault(fault.code, fault.detail),
            Settled::Emit(outputs) => {
                let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                Self::Emit(outputs.iter().take(10).map(|output| text(output.value)).collect())
            }
        }
    }
}

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = format!("{self:?}");
        f.write_str(&shown[..shown.floor_char_boundary(300)])
    }
}

/// Carries out an attack in all its worlds. Hold [`super::measure::alone`].
pub fn run(attack: &Attack) -> Vec<Finding> {
    attack.outcomes.iter().map(|(world, outcome)| run_in(attack, *world, outcome)).collect()
}

fn run_in(attack: &Attack, world: World, expected: &Outcome) -> Finding {
    let mut judge = Judge { attack, world, expected, wrong: Vec::new(), costs: Vec::new(), end: String::new() };
    // Beside it, and untouched by whatever happens.
    innocent(&mut judge.wrong);
    let left = match expected {
        Outcome::Load(_) => judge.repeat(Judge::load),
        Outcome::Prepare(_) | Outcome::Configure(_) => judge.repeat(Judge::prepare),
        _ => judge.records(),
    };
    let cost = Cost {
        cpu: median(&mut judge.costs.iter().map(|cost| cost.cpu).collect::<Vec<_>>()),
        peak: judge.costs.iter().map(|cost| cost.peak).max().unwrap_or_default(),
    };
    judge.bounds(cost, left);
    Finding { name: attack.name, world, end: judge.end, cost, left, wrong: judge.wrong }
}

/// What is known of an attack so far.
struct Judge<'a> {
    attack: &'a Attack,
    world: World,
    expected: &'a Outcome,
    wrong: Vec<String>,
    costs: Vec<Cost>,
    end: String,
}

impl Judge<'_> {
    fn complain(&mut self, what: String) {
        if self.wrong.len() < 5 {
            self.wrong.push(what);
        }
    }

    /// Repeats `act` and returns what resident memory grew by.
    fn repeat(&mut self, mut act: impl FnMut(&mut Self)) -> i64 {
        for _ in 0..WARM_UP.min(self.attack.repeats - 1) {
            act(self);
        }
        self.costs.clear();
        let before = resident();
        for _ in 0..self.attack.repeats {
            act(self);
        }
        let left = resident().cast_signed() - before.cast_signed();
        innocent(&mut self.wrong);
        left
    }

    fn bounds(&mut self, cost: Cost, left: i64) {
        let attack = self.attack;
        // A typed batch of n records has n budgets before its records run singly.
        let calls = match self.world {
            World::Packed => 1,
            World::Typed => 5 + attack.times as u32,
        };
        let cpu = attack.cpu * calls;
        // At load nothing is called.
        let cpu = if matches!(self.expected, Outcome::Load(_) | Outcome::Prepare(_)) { attack.cpu } else { cpu };
        if cost.cpu > cpu {
            let slowness = slowness();
            if cost.cpu > cpu.mul_f64(slowness) {
                self.complain(format!("{:?} of CPU, {cpu:?} allowed, times {slowness:.1} on this machine", cost.cpu));
            }
        }
        if cost.peak > attack.peak {
            self.complain(format!("{} KiB of memory, {} allowed", cost.peak >> 10, attack.peak >> 10));
        }
        if left > attack.left.cast_signed() {
            self.complain(format!("{} KiB left behind after {} times", left >> 10, attack.repeats));
        }
    }

    fn load(&mut self) {
        let bytes = guests::bytes(&self.attack.guest, self.world);
        let (loaded, cost) = cost(|| guests::engine().load_bytes(&bytes, None));
        self.costs.push(cost);
        let found = match loaded {
            Ok(_) => "loaded".to_owned(),
            Err(error) => {
                let variant = format!("{error:?}");
                variant.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
            }
        };
        let Outcome::Load(expected) = self.expected else { return };
        if found != *expected {
            self.complain(format!("{found} when it is loaded, not {expected}"));
        }
        self.end = match found.as_str() {
            "TooComplex" => "refused: the compiler reached its limits".into(),
            "Compile" => "refused: it does not compile".into(),
            "World" => "nothing to stop: it compiles".into(),
            other => format!("refused at load ({other})"),
        };
    }

    fn prepare(&mut self) {
        let module = match guests::module(&self.attack.guest, self.world) {
            Ok(module) => module,
            Err(error) => {
                self.costs.push(Cost::default());
                return self.complain(format!("it does not load: {error} {error:?}"));
            }
        };
        let spec = self.attack.spec.clone();
        let (prepared, cost) = cost(|| Generation::prepare(&module, spec, 1).map(drop));
        self.costs.push(cost);
        let (code, found) = match &prepared {
            Ok(()) => (None, "prepared".to_owned()),
            Err(PrepareError::Configure(fault)) => (Some(fault.code), format!("{} {}", fault.code, fault.detail)),
            Err(error) => {
                let variant = format!("{error:?}");
                (None, variant.split(['(', ' ', '{']).next().unwrap_or_default().to_owned())
            }
        };
        let right = match self.expected {
            Outcome::Configure(expected) => code == Some(*expected),
            Outcome::Prepare(expected) => found == *expected,
            _ => false,
        };
        if !right {
            self.complain(format!("{found} when it is prepared, not {:?}", self.expected));
        }
        self.end = match code {
            Some(code) => format!("refused by `configure` ({code})"),
            None => match found.as_str() {
                "Import" => "refused: nothing grants it".into(),
                "Link" => "refused: it does not fit".into(),
                "Abi" => "refused: another ABI version".into(),
                other => format!("refused before it runs ({other})"),
            },
        };
    }

    fn records(&mut self) -> i64 {
        let generation = guests::module(&self.attack.guest, self.world)
            .map_err(|error| format!("it does not load: {error:?}"))
            .and_then(|module| {
                Generation::prepare(&module, self.attack.spec.clone(), 1).map_err(|error| format!("{error:?}"))
            });
        let instance =
            generation.and_then(|generation| Instance::new(&generation).map_err(|fault| format!("{fault:?}")));
        let mut instance = match instance {
            Ok(instance) => instance,
            Err(error) => {
                self.costs.push(Cost::default());
                self.complain(error);
                return 0;
            }
        };
        let values = self.attack.values.clone();
        self.repeat(|judge| {
            for value in &values {
                judge.batch(&mut instance, value);
            }
        })
    }

    /// Two innocents, the attack, two innocents; then a batch of innocents.
    fn batch(&mut self, instance: &mut Instance, attack: &str) {
        let mut values = vec!["good a", "good b"];
        values.extend(std::iter::repeat_n(attack, self.attack.times));
        values.extend(["good c", "good d"]);
        let (outcomes, cost) = cost(|| settle(instance, &values));
        self.costs.push(cost);
        let after = settle(instance, &["good e", "good f"]);
        match (outcomes, after) {
            (Ok(outcomes), Ok(after)) => {
                self.neighbours(&values, &outcomes);
                self.attacker(attack, &outcomes[2..outcomes.len() - 2]);
                for (value, out) in ["good e", "good f"].iter().zip(&after) {
                    if *out != self.innocence(value) {
                        self.complain(format!("`{value}` of the next batch: {out}"));
                    }
                }
            }
            (Err(error), _) | (_, Err(error)) => self.complain(format!("`{}`: {error}", head(attack))),
        }
    }

    fn neighbours(&mut self, values: &[&str], outcomes: &[Out]) {
        let last = values.len() - 2;
        for (index, (value, out)) in values.iter().zip(outcomes).enumerate() {
            let innocent = index < 2 || index >= last;
            if innocent && !self.attack.drags && *out != self.innocence(value) {
                self.complain(format!("neighbour {index} (`{value}`): {out}"));
            }
        }
    }

    fn attacker(&mut self, attack: &str, outcomes: &[Out]) {
        let mut ends: Vec<String> = Vec::new();
        for out in outcomes {
            if !as_expected(self.expected, out) && !self.attack.drags {
                self.complain(format!("`{}`: {out}, not {:?}", head(attack), self.expected));
            }
            let end = match out {
                Out::Fault(code, _) => code.to_string(),
                Out::Keep => "nothing to stop: kept".into(),
                Out::Drop => "nothing to stop: dropped".into(),
                Out::Reject(_) => "rejected".into(),
                Out::Emit(values) => format!("the guest sees `{}`", values[0].chars().take(40).collect::<String>()),
            };
            if !ends.contains(&end) {
                ends.push(end);
            }
        }
        if let Outcome::AtTimes(code) = self.expected
            && !outcomes.iter().any(|out| matches!(out, Out::Fault(found, _) if found == code))
        {
            self.complain(format!("`{}` never came to {code}", head(attack)));
        }
        self.end = match self.expected {
            Outcome::Emits => "nothing to stop: emitted".into(),
            Outcome::AtTimes(code) => code.to_string(),
            Outcome::Says(text) => format!("nothing to stop: the guest is told `{text}`"),
            _ => ends.join(", "),
        };
    }

    /// What a record `good X` comes to.
    fn innocence(&self, value: &str) -> Out {
        match self.attack.guest {
            Guest::Deeds | Guest::Frames => Out::Emit(vec![value.trim_start_matches("good ").into()]),
            _ => Out::Keep,
        }
    }
}

fn head(value: &str) -> &str {
    &value[..value.floor_char_boundary(60)]
}

fn as_expected(expected: &Outcome, out: &Out) -> bool {
    match (expected, out) {
        (Outcome::Fault(expected), Out::Fault(found, _)) => expected == found,
        (Outcome::AtTimes(expected), Out::Fault(found, _)) => expected == found,
        (Outcome::OneOf(expected), Out::Fault(found, _)) => expected.contains(found),
        (Outcome::Keep | Outcome::AtTimes(_), Out::Keep) => true,
        (Outcome::Says(expected), Out::Emit(values)) => values[0].starts_with(expected),
        (Outcome::Emits, Out::Emit(_)) | (Outcome::Rejects, Out::Reject(_)) => true,
        _ => false,
    }
}

/// One batch; every record must be settled once and in order.
fn settle(instance: &mut Instance, values: &[&str]) -> Result<Vec<Out>, String> {
    let records: Vec<Record<'_>> = values
        .iter()
        .zip(0..)
        .map(|(value, offset)| Record {
            topic: 0,
            partition: 3,
            offset,
            timestamp_ms: 1_700_000_000_000,
            key: Some(b"key"),
            value: Some(value.as_bytes()),
            headers: &[],
        })
        .collect();
    let mut outcomes = Vec::new();
    let ran = instance.run(&records, &mut |index, settled| {
        if index != outcomes.len() {
            return Err(format!("record {index} is settled when it is {}'s turn", outcomes.len()));
        }
        outcomes.push(Out::of(settled));
        Ok(())
    });
    match ran {
        Ok(()) if outcomes.len() == values.len() => Ok(outcomes),
        Ok(()) => Err(format!("{} outcomes of {} records", outcomes.len(), values.len())),
        Err(error) => Err(format!("{error:?}")),
    }
}

/// Another transform of the same engine, with the limits that are delivered.
fn innocent(wrong: &mut Vec<String>) {
    static GENERATION: OnceLock<Generation> = OnceLock::new();
    let generation = GENERATION.get_or_init(|| {
        let module = guests::module(&Guest::Deeds, World::Packed).expect("it is honest");
        let spec = Spec {
            transform: "innocent".into(),
            settings: Vec::new(),
            secrets: Vec::new(),
            inputs: vec!["in".into()],
            outputs: vec!["out".into()],
            limits: Limits { configure_deadline: Duration::from_secs(60), ..Limits::default() },
            grants: Grants::default(),
            observe_guest_text: false,
        };
        Generation::prepare(&module, spec, 1).expect("it is honest")
    });
    let expected = ["a", "b", "c"].map(|text| Out::Emit(vec![text.into()]));
    let outcomes = Instance::new(generation)
        .map_err(|fault| format!("{fault:?}"))
        .and_then(|mut instance| settle(&mut instance, &["good a", "good b", "good c"]));
    if outcomes.as_deref() != Ok(&expected) {
        wrong.push(format!("another transform: {outcomes:?}"));
    }
}
