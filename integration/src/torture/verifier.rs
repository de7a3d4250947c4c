//! One reader's judgement: it is shown every record of the output topics and knows what was put in. Pure; it is shown
//! records by [`super::readers`] while the run goes on, and again from the beginning at its end.
//!
//! An outcome is of one offset of the input, which it names. Duplicates and order are judged at once; content and
//! foreign outcomes as soon as the input is read that far; whether something is missing where the group has committed,
//! after giving the record time to become visible, and for all at the end.

use super::findings::{Findings, Kind};
use super::oracle::{Found, Oracle};
use super::record::{Ask, Input, Outlet, Source};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

/// A record of an output topic.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub outlet: Outlet,
    pub partition: i32,
    pub offset: i64,
    pub key: &'a [u8],
    pub value: &'a [u8],
    /// Where in the input it says it is from, if it says so as it should.
    pub source: Option<Source>,
}

/// The same, understood.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    outlet: Outlet,
    partition: i32,
    offset: i64,
    source: Source,
    /// What its value says.
    input: Input,
}

/// No partition of a run is longer: what says so is not looked for.
const LONGEST: i64 = 1 << 28;

/// Where on an output partition, and what was there.
type Log = HashMap<(Outlet, i32), Vec<(i64, u64)>>;

#[derive(Debug)]
pub struct Verifier {
    name: &'static str,
    /// By input partition and offset: the outlets on which it was seen.
    seen: Vec<Vec<u8>>,
    /// By input partition, then by offset: what is to be compared with input that is not read yet.
    unread: Vec<BTreeMap<(i64, Outlet), Outcome>>,
    /// By input partition: below this everything is judged.
    judged: Vec<i64>,
    /// The last offset of an input partition on an output partition.
    order: HashMap<(Outlet, i32, i32), i64>,
    /// The last offset of an input partition's key on an output topic.
    keys: HashMap<(Outlet, i32, u32), i64>,
    log: Log,
    /// Committed positions whose outputs are given time to become visible.
    waiting: VecDeque<(Instant, i32, i64)>,
    outputs: u64,
    dead_letters: u64,
}

impl Verifier {
    pub fn new(name: &'static str, partitions: i32) -> Self {
        Verifier {
            name,
            seen: vec![Vec::new(); partitions as usize],
            unread: vec![BTreeMap::new(); partitions as usize],
            judged: vec![0; partitions as usize],
            order: HashMap::new(),
            keys: HashMap::new(),
            log: HashMap::new(),
            waiting: VecDeque::new(),
            outputs: 0,
            dead_letters: 0,
        }
    }

    pub fn outputs(&self) -> u64 {
        self.outputs
    }

    pub fn dead_letters(&self) -> u64 {
        self.dead_letters
    }

    /// Judges a record. Returns where in the input it is from, and what it says was there.
    pub fn see(&mut self, record: Seen<'_>, oracle: &Oracle, findings: &Findings) -> Option<(Source, Input)> {
        let name = self.name;
        let Seen { outlet, partition, offset, .. } = record;
        *(if outlet == Outlet::Dead { &mut self.dead_letters } else { &mut self.outputs }) += 1;
        self.remember(&record, findings);
        let (Some(source), Some(input)) = (self.known(record.source), Input::parse(record.value)) else {
            findings.add(Kind::Altered, || {
                let (place, text) = (place(outlet, partition, offset, name), String::from_utf8_lossy(record.value));
                format!("{place}: {text}, from {:?}", record.source)
            });
            return None;
        };
        let outcome = Outcome { outlet, partition, offset, source, input };
        let of = || outcome.text(name);
        if record.key != input.key_text().as_bytes() {
            findings.add(Kind::Altered, || format!("{}: another key", of()));
        }
        if !self.is_first(outlet, source) {
            findings.add(Kind::Duplicate, of);
            return Some((source, input));
        }
        let lasts = [
            (self.order.entry((outlet, partition, source.partition)).or_insert(-1), "input partition"),
            (self.keys.entry((outlet, source.partition, input.key)).or_insert(-1), "key"),
        ];
        for (last, what) in lasts {
            if source.offset <= *last {
                findings.add(Kind::Reordered, || format!("{} comes after offset {last} of its {what}", of()));
            }
            *last = source.offset.max(*last);
        }
        let found = oracle.at(source);
        if found == Found::NotYetRead {
            self.unread[source.partition as usize].insert((source.offset, outlet), outcome);
        } else {
            outcome.compare(found, name, findings);
        }
        Some((source, input))
    }

    /// A source, if it can be one.
    fn known(&self, source: Option<Source>) -> Option<Source> {
        let partitions = 0..self.seen.len() as i32;
        source.filter(|source| partitions.contains(&source.partition) && (0..LONGEST).contains(&source.offset))
    }

    /// Notes an outcome of this source, and says whether there was none on this outlet before.
    fn is_first(&mut self, outlet: Outlet, source: Source) -> bool {
        let (seen, at) = (&mut self.seen[source.partition as usize], source.offset as usize);
        if seen.len() <= at {
            seen.resize(at + 1, 0);
        }
        let first = seen[at] & outlet as u8 == 0;
        seen[at] |= outlet as u8;
        first
    }

    fn remember(&mut self, record: &Seen<'_>, findings: &Findings) {
        let mut hasher = DefaultHasher::new();
        (record.key, record.value, record.source).hash(&mut hasher);
        let log = self.log.entry((record.outlet, record.partition)).or_default();
        if let Some((last, _)) = log.last().filter(|(last, _)| *last >= record.offset) {
            let place = place(record.outlet, record.partition, record.offset, self.name);
            findings.add(Kind::Diverged, || format!("{place} after offset {last}"));
        }
        log.push((record.offset, hasher.finish()));
    }

    /// The group has committed this position: what is below must become visible soon.
    pub fn committed(&mut self, partition: i32, position: i64) {
        self.waiting.push_back((Instant::now(), partition, position));
    }

    /// Judges the positions whose time is up.
    pub fn judge_committed(&mut self, patience: Duration, oracle: &Oracle, findings: &Findings) {
        self.compare(oracle, findings);
        while let Some(&(since, partition, position)) = self.waiting.front() {
            // Of input that is not read yet nobody knows what it asks.
            if since.elapsed() < patience || oracle.end(partition) < position {
                break;
            }
            self.waiting.pop_front();
            self.judge(partition, position, oracle, findings);
        }
    }

    /// Judges everything: the input is read to its end, and nothing more will come.
    pub fn judge_all(&mut self, oracle: &Oracle, findings: &Findings) {
        self.waiting.clear();
        self.compare(oracle, findings);
        for (partition, end) in (0..).zip(oracle.ends()) {
            self.judge(partition, end, oracle, findings);
            for outcome in std::mem::take(&mut self.unread[partition as usize]).into_values() {
                findings.add(Kind::Misplaced, || format!("{}, which ends at {end}", outcome.text(self.name)));
            }
        }
    }

    /// Compares what has been seen before its input was read.
    fn compare(&mut self, oracle: &Oracle, findings: &Findings) {
        for (partition, unread) in (0..).zip(&mut self.unread).filter(|(_, unread)| !unread.is_empty()) {
            let still = unread.split_off(&(oracle.end(partition), Outlet::ALL[0]));
            for outcome in std::mem::replace(unread, still).into_values() {
                outcome.compare(oracle.at(outcome.source), self.name, findings);
            }
        }
    }

    /// Is there an outcome for everything below `to`?
    fn judge(&mut self, partition: i32, to: i64, oracle: &Oracle, findings: &Findings) {
        let from = self.judged[partition as usize];
        let seen = &self.seen[partition as usize];
        for (offset, input) in (from..).zip(oracle.range(partition, from, to)) {
            let Some(Input { ask, seq, .. }) = input else { continue };
            let expected = ask.outlets();
            let missing = expected & !seen.get(offset as usize).copied().unwrap_or(0);
            if missing == 0 {
                continue;
            }
            let kind = if ask == Ask::Both && missing != expected { Kind::Torn } else { Kind::Lost };
            findings.add(kind, || {
                let at: Vec<_> = Outlet::ALL.iter().filter(|o| **o as u8 & missing != 0).map(|o| o.name()).collect();
                let of = format!("offset {offset} of input partition {partition} (seq {seq}, {ask:?})");
                format!("{of} is not on {} ({})", at.join(", "), self.name)
            });
        }
        self.judged[partition as usize] = to.max(from);
    }

    /// How many records it was shown.
    pub fn count(&self) -> usize {
        self.log.values().map(Vec::len).sum()
    }

    /// I6: both were shown the same.
    pub fn agrees_with(&self, other: &Verifier, findings: &Findings) {
        let mut places: Vec<_> = self.log.keys().chain(other.log.keys()).collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            let none = Vec::new();
            let (mine, theirs) = (self.log.get(place).unwrap_or(&none), other.log.get(place).unwrap_or(&none));
            if mine == theirs {
                continue;
            }
            let at = mine.iter().zip(theirs).take_while(|(a, b)| a == b).count();
            findings.add(Kind::Diverged, || {
                let offset = |log: &[(i64, u64)]| log.get(at).map_or_else(|| "the end".into(), |e| e.0.to_string());
                let (a, b) = (offset(mine), offset(theirs));
                format!("{}-{}: {} has {a} where {} has {b}", place.0.name(), place.1, self.name, other.name)
            });
        }
    }
}

impl Outcome {
    /// Is this what was put in at its source, and does that have an outcome here?
    fn compare(self, found: Found, name: &str, findings: &Findings) {
        let expected = match found {
            Found::Input(input) => input.ask.outlets(),
            Found::Nothing | Found::NotYetRead => 0,
        };
        if expected & self.outlet as u8 == 0 {
            findings.add(Kind::Misplaced, || format!("{}: there is {found:?}", self.text(name)));
        }
        if matches!(found, Found::Input(input) if input != self.input) {
            findings.add(Kind::Altered, || format!("{}: there is {found:?}", self.text(name)));
        }
    }

    fn text(self, name: &str) -> String {
        format!(
            "{} is {:?} from input {}",
            place(self.outlet, self.partition, self.offset, name),
            self.input,
            self.source
        )
    }
}

/// Where a record is, and who saw it.
fn place(outlet: Outlet, partition: i32, offset: i64, name: &str) -> String {
    format!("{}-{partition}@{offset} ({name})", outlet.name())
}
