//! The words in which [`super::corpus`] describes an attack: who attacks, by which records, under which limits, what must
//! become of it, and what it may cost.

use std::time::Duration;

use pelton_sandbox::{Clock, FaultCode, Grants, Limits, Randomness, Spec, World};

/// Limits of attacks that are not about limits: so large that nothing here reaches them.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most linear memory that an attacker gets; also the engine's ceiling.
pub const MEMORY: u64 = 64 << 20;
const MIB: u64 = 1 << 20;

/// Whose module it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guest {
    /// The Rust guests `packed` and `typed`.
    Deeds,
    /// The Rust guest that speaks the packed ABI by hand.
    Frames,
    /// Another Rust guest.
    Rust(&'static str),
    /// A file of wat/attacks/, spliced into wat/packed.wat or wat/typed.wat.
    Wat(&'static str),
    /// The same, as text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// What must become of the attack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The attacking record fails with this code.
    Fault(FaultCode),
    /// Some of the attacking records fail with this code, the others are kept.
    AtTimes(FaultCode),
    /// Nothing is wrong with it.
    Keep,
    /// It emits one output whose value begins so: what the guest saw.
    Says(&'static str),
    /// It emits something.
    Emits,
    Rejects,
    /// Whichever of these codes.
    OneOf(&'static [FaultCode]),
    /// The module is never loaded: `refusal` of the error.
    Load(&'static str),
    /// The module is loaded, and never runs a record.
    Prepare(&'static str),
    /// It fails when it is made ready.
    Configure(FaultCode),
}

/// One attack.
#[derive(Debug, Clone)]
pub struct Attack {
    pub name: &'static str,
    pub guest: Guest,
    /// In which worlds, and how it ends there.
    pub outcomes: Vec<(World, Outcome)>,
    pub spec: Spec,
    /// The attacking records' values; each is tried in a batch of its own.
    pub values: Vec<String>,
    /// So many times in one batch.
    pub times: usize,
    /// It speaks falsely for its neighbours in the batch, which are the same transform's: they come out once each, as it says.
    pub drags: bool,
    /// Of one batch of five records, or one preparation, in each world.
    pub cpu: Duration,
    /// Of resident memory, in bytes.
    pub peak: u64,
    /// How often it is repeated to see what it leaves behind.
    pub repeats: usize,
    /// The most memory that all repetitions may leave behind: what the allocator keeps in reserve, once.
    pub left: u64,
}

impl Attack {
    fn new(name: &'static str, guest: Guest) -> Self {
        let limits = Limits {
            deadline: PATIENCE,
            fuel: u64::MAX / 1024,
            memory: MEMORY,
            outputs: u32::MAX,
            output_bytes: u32::MAX - 8,
            batch_output_bytes: u32::MAX,
            log_bytes_per_second: 1 << 30,
            configure_deadline: PATIENCE,
            table_elements: u32::MAX,
        };
        let spec = Spec {
            transform: "hostile".into(),
            settings: Vec::new(),
            secrets: Vec::new(),
            inputs: vec!["in".into()],
            outputs: vec!["out".into(), "audit".into()],
            limits,
            grants: Grants::default(),
            observe_guest_text: false,
        };
        Self {
            name,
            guest,
            outcomes: Vec::new(),
            spec,
            values: vec!["attack".into()],
            times: 1,
            drags: false,
            cpu: Duration::from_millis(20),
            peak: 8 * MIB,
            repeats: 20,
            left: 6 * MIB,
        }
    }

    /// By a record whose value is this.
    pub fn by(self, value: impl Into<String>) -> Self {
        Self { values: vec![value.into()], ..self }
    }

    /// By each of these.
    pub fn by_each(self, values: impl IntoIterator<Item = String>) -> Self {
        Self { values: values.into_iter().collect(), ..self }
    }

    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// With one limit that is no longer large.
    pub fn limit(mut self, change: impl FnOnce(&mut Limits)) -> Self {
        change(&mut self.spec.limits);
        self
    }

    /// Five milliseconds for each record, which is what a transform has by default.
    pub fn in_time(self) -> Self {
        let deadline = Duration::from_millis(5);
        self.limit(|limits| limits.deadline = deadline).cpu_ms(35)
    }

    pub fn grants(mut self, change: impl FnOnce(&mut Grants)) -> Self {
        change(&mut self.spec.grants);
        self
    }

    /// With the real clock and real randomness, so that a typed guest of Rust's gets batches.
    pub fn worldly(self) -> Self {
        self.grants(|grants| (grants.clock, grants.random) = (Clock::Real, Randomness::Real))
    }

    /// In `configure`, as its setting says.
    pub fn configures(mut self, name: &str, text: &str) -> Self {
        self.spec.settings.push((name.into(), text.into()));
        self
    }

    /// How it ends in both worlds.
    pub fn ends(self, outcome: Outcome) -> Self {
        self.packed(outcome.clone()).typed(outcome)
    }

    pub fn packed(mut self, outcome: Outcome) -> Self {
        self.outcomes.push((World::Packed, outcome));
        self
    }

    pub fn typed(mut self, outcome: Outcome) -> Self {
        self.outcomes.push((World::Typed, outcome));
        self
    }

    pub fn drags(self) -> Self {
        Self { drags: true, ..self }
    }

    /// The most CPU for the batch.
    pub fn cpu_ms(self, ms: u64) -> Self {
        Self { cpu: Duration::from_millis(ms), ..self }
    }

    /// The most memory above what was there before.
    pub fn peak_mib(self, mib: u64) -> Self {
        Self { peak: mib * MIB, ..self }
    }

    pub fn leaves_mib(self, mib: u64) -> Self {
        Self { left: mib * MIB, ..self }
    }

    pub fn repeats(self, repeats: usize) -> Self {
        Self { repeats, ..self }
    }
}

/// A deed of the guests `packed` and `typed`: its verb.
pub fn deed(name: &'static str, verb: impl Into<String>) -> Attack {
    Attack::new(name, Guest::Deeds).by(verb)
}

/// A lie of the guest `frames`.
pub fn lie(name: &'static str, lie: &str) -> Attack {
    Attack::new(name, Guest::Frames).by(format!("lie {lie}"))
}

/// A module of wat/attacks/.
pub fn wat(name: &'static str, file: &'static str) -> Attack {
    Attack::new(name, Guest::Wat(file))
}

/// A component with these definitions in it.
pub fn component(name: &'static str, text: impl Into<String>) -> Attack {
    Attack::new(name, Guest::Text(format!(";; @component\n{}", text.into())))
}

/// Any other module.
pub fn module(name: &'static str, guest: Guest) -> Attack {
    Attack::new(name, guest)
}
