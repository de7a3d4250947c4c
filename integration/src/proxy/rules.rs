//! What the proxy does to whom: rules that hold until they are lifted, and traps that wait for one EndTxn. Pure state
//! behind one lock; the connections ([`super::link`]) ask it about each message.

use super::frame::{self, EndTxn, Request};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// The clients of one process under test, by the client ids it gives them: `pelton-{application}/{instance}/…` its
/// producers, `pelton-{application}-{instance}-…` its consumers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    pub application: String,
    pub instance: String,
}

impl Process {
    fn owns(&self, client_id: &str) -> bool {
        let Some(rest) = client_id.strip_prefix("pelton-").and_then(|r| r.strip_prefix(self.application.as_str()))
        else {
            return false;
        };
        let separator = |text: &str| text.starts_with(['/', '-']);
        let Some(rest) = separator(rest).then(|| &rest[1..]).and_then(|r| r.strip_prefix(self.instance.as_str()))
        else {
            return false;
        };
        separator(rest)
    }
}

/// Whom a rule is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    All,
    /// The connections to the broker at this place.
    Broker(usize),
    Process(Process),
}

impl Scope {
    pub(super) fn covers(&self, place: usize, client_id: &str) -> bool {
        match self {
            Scope::All => true,
            Scope::Broker(at) => *at == place,
            Scope::Process(process) => process.owns(client_id),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    ToBroker,
    ToClient,
}

/// What happens to messages.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Effect {
    /// Each arrives later by this, both ways; their order stays.
    Delay(Duration),
    /// None arrives until the rule is lifted, then all do, in order: what TCP makes of a network that loses packets one
    /// way. A client that gives up its connection in the meantime does not take back what it has sent.
    Stall(Direction),
    /// So many bytes a second, for each connection and direction.
    Throttle(u32),
}

/// What to do about the next EndTxn that commits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Trap {
    /// Hold it back and cut the connection. The client asks again and goes on; when its next transaction has begun, what
    /// was held arrives.
    Late,
    /// The process gets no further than this request, which never arrives.
    BeforeDelivery,
    /// The request is done, its answer and everything after is not seen by the process.
    BeforeAnswer,
    /// The process sees the answer, and nothing it does thereafter arrives.
    AfterAnswer,
    /// The request is done, its answer lost with the connection.
    LostAnswer,
}

/// A trap that went off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sprung {
    pub transactional_id: String,
}

/// Lifts a rule or a trap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handle(u64);

/// What was held back, until it is delivered.
#[derive(Debug)]
pub(super) struct Held {
    pub frame: Vec<u8>,
    pub place: usize,
    pub client_id: String,
    pub since: Instant,
}

/// What the proxy has seen and done.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counts {
    pub connections: u64,
    pub cut: u64,
    pub commits: u64,
    pub aborts: u64,
    pub inits: u64,
    pub late: Late,
    pub lost_answers: u64,
}

/// Late EndTxn requests.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Late {
    pub held: u64,
    /// Delivered when the client's next transaction had begun.
    pub delivered: u64,
    /// Delivered at last though no next transaction had been seen.
    pub without_begin: u64,
    /// Of all delivered: the broker did what they asked.
    pub accepted: u64,
    /// Of all delivered: the broker refused them.
    pub refused: u64,
}

/// What a connection is to do with a request.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Pass,
    /// Not delivered; the connection stays as it is (and is frozen).
    Swallow,
    /// Not delivered; the connection is cut.
    SwallowAndCut,
}

/// What a connection is to do with a response.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Answered {
    Pass,
    /// Pass it, then call [`Rules::freeze`].
    PassThenFreeze(String),
    Swallow,
    SwallowAndCut,
}

struct Armed {
    handle: Handle,
    process: Process,
    trap: Trap,
    left: u32,
    sprung: Sender<Sprung>,
}

/// A request whose answer is of interest.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Awaited {
    AddPartitions,
    EndTxn { transactional_id: String },
}

#[derive(Default)]
pub(super) struct Rules {
    next: u64,
    rules: Vec<(Handle, Scope, Effect)>,
    armed: Vec<Armed>,
    /// EndTxn requests that a trap lets pass and whose answers it waits for: handle and transactional id.
    awaiting: Vec<(Handle, String)>,
    pub held: Vec<Held>,
    pub counts: Counts,
}

impl Rules {
    fn handle(&mut self) -> Handle {
        self.next += 1;
        Handle(self.next)
    }

    pub fn add(&mut self, scope: Scope, effect: Effect) -> Handle {
        let handle = self.handle();
        self.rules.push((handle, scope, effect));
        handle
    }

    pub fn arm(&mut self, process: Process, trap: Trap, times: u32, sprung: Sender<Sprung>) -> Handle {
        let handle = self.handle();
        self.armed.push(Armed { handle, process, trap, left: times, sprung });
        handle
    }

    pub fn lift(&mut self, handle: Handle) {
        self.rules.retain(|rule| rule.0 != handle);
        self.armed.retain(|armed| armed.handle != handle);
        self.awaiting.retain(|awaiting| awaiting.0 != handle);
    }

    pub fn delay(&self, place: usize, client_id: &str) -> Duration {
        self.effects(place, client_id).filter_map(|e| if let Effect::Delay(by) = e { Some(by) } else { None }).sum()
    }

    pub fn stalled(&self, place: usize, client_id: &str, direction: Direction) -> bool {
        self.effects(place, client_id).any(|effect| effect == Effect::Stall(direction))
    }

    pub fn throttle(&self, place: usize, client_id: &str) -> Option<u32> {
        self.effects(place, client_id).filter_map(|e| if let Effect::Throttle(b) = e { Some(b) } else { None }).min()
    }

    fn effects(&self, place: usize, client_id: &str) -> impl Iterator<Item = Effect> {
        self.rules.iter().filter(move |rule| rule.1.covers(place, client_id)).map(|rule| rule.2)
    }

    /// A request arrived. Says what to do with it, and whether its answer is to be shown to [`Rules::answered`].
    pub fn asked(&mut self, place: usize, request: &Request<'_>, bytes: &[u8]) -> (Asked, Option<Awaited>) {
        match request.api {
            frame::ADD_PARTITIONS_TO_TXN => (Asked::Pass, Some(Awaited::AddPartitions)),
            frame::INIT_PRODUCER_ID => {
                self.counts.inits += 1;
                (Asked::Pass, None)
            }
            frame::END_TXN => match request.end_txn() {
                Some(end) => self.ending(place, request.client_id, &end, bytes),
                None => (Asked::Pass, None),
            },
            _ => (Asked::Pass, None),
        }
    }

    fn ending(&mut self, place: usize, client_id: &str, end: &EndTxn<'_>, bytes: &[u8]) -> (Asked, Option<Awaited>) {
        if !end.commit {
            self.counts.aborts += 1;
            return (Asked::Pass, None);
        }
        self.counts.commits += 1;
        let Some(at) = self.armed.iter().position(|a| a.left > 0 && a.process.owns(client_id)) else {
            return (Asked::Pass, None);
        };
        let transactional_id = end.transactional_id.to_owned();
        let (trap, handle) = (self.armed[at].trap, self.armed[at].handle);
        match trap {
            // One of a client at a time: the second would be the retry of the first.
            Trap::Late if self.held.iter().any(|held| held.client_id == client_id) => (Asked::Pass, None),
            Trap::Late => {
                self.counts.late.held += 1;
                self.held.push(Held {
                    frame: bytes.to_vec(),
                    place,
                    client_id: client_id.to_owned(),
                    since: Instant::now(),
                });
                self.spring(at, transactional_id);
                (Asked::SwallowAndCut, None)
            }
            Trap::BeforeDelivery => {
                self.freeze_at(at, transactional_id);
                (Asked::Swallow, None)
            }
            Trap::BeforeAnswer | Trap::AfterAnswer | Trap::LostAnswer => {
                self.armed[at].left -= 1;
                self.awaiting.push((handle, transactional_id.clone()));
                (Asked::Pass, Some(Awaited::EndTxn { transactional_id }))
            }
        }
    }

    /// An awaited answer arrived. `begun`: a held request whose client's next transaction has begun with this.
    pub fn answered(&mut self, client_id: &str, awaited: &Awaited, bytes: &[u8]) -> (Answered, Option<Held>) {
        match awaited {
            Awaited::AddPartitions => {
                let held = match frame::add_partitions_error(bytes) {
                    Some(0) => self.held.iter().position(|held| held.client_id == client_id),
                    _ => None,
                };
                (Answered::Pass, held.map(|at| self.held.remove(at)))
            }
            Awaited::EndTxn { transactional_id } => (self.end_answered(transactional_id, bytes), None),
        }
    }

    /// What has been held for `limit` or longer; no more held here.
    pub fn overdue(&mut self, limit: Duration) -> Vec<Held> {
        self.held.extract_if(.., |held| held.since.elapsed() >= limit).collect()
    }

    fn end_answered(&mut self, transactional_id: &str, bytes: &[u8]) -> Answered {
        let Some(at) = self.awaiting.iter().position(|(_, id)| id == transactional_id) else { return Answered::Pass };
        let (handle, _) = self.awaiting.remove(at);
        let Some(at) = self.armed.iter().position(|armed| armed.handle == handle) else { return Answered::Pass };
        if frame::end_txn_error(bytes) != Some(0) {
            // Not applied: the client will ask again.
            self.armed[at].left += 1;
            return Answered::Pass;
        }
        match self.armed[at].trap {
            Trap::BeforeAnswer => {
                self.freeze_at(at, transactional_id.to_owned());
                Answered::Swallow
            }
            Trap::LostAnswer => {
                self.counts.lost_answers += 1;
                let _ = self.armed[at].sprung.send(Sprung { transactional_id: transactional_id.to_owned() });
                Answered::SwallowAndCut
            }
            _ => Answered::PassThenFreeze(transactional_id.to_owned()),
        }
    }

    /// The answer that [`Answered::PassThenFreeze`] was about has been written.
    pub fn freeze(&mut self, client_id: &str, transactional_id: &str) {
        let armed = |a: &Armed| a.trap == Trap::AfterAnswer && a.process.owns(client_id);
        if let Some(at) = self.armed.iter().position(armed) {
            self.freeze_at(at, transactional_id.to_owned());
        }
    }

    /// Nothing of the process passes any more, until the trap is lifted.
    fn freeze_at(&mut self, at: usize, transactional_id: String) {
        let (handle, scope) = (self.armed[at].handle, Scope::Process(self.armed[at].process.clone()));
        for direction in [Direction::ToBroker, Direction::ToClient] {
            self.rules.push((handle, scope.clone(), Effect::Stall(direction)));
        }
        self.armed[at].left = 1;
        self.spring(at, transactional_id);
    }

    fn spring(&mut self, at: usize, transactional_id: String) {
        self.armed[at].left -= 1;
        let _ = self.armed[at].sprung.send(Sprung { transactional_id });
    }
}
