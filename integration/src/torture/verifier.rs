//! One reader's judgement: it is shown every record of the output topics and knows what was put in. Pure; it is shown
//! records by [`super::readers`] while the run goes on, and again from the beginning at its end.
//!
//! It judges what it can at once (duplicates, order, content, foreign outcomes); whether something is missing it judges
//! where the group has committed, after giving the record time to become visible, and for all at the end.

use super::findings::{Findings, Kind};
use super::oracle::Oracle;
use super::record::{Ask, Input, Outlet};
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, VecDeque};
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
    /// The guest's header: `{partition}:{offset}` of the input. Dead letters have none.
    pub source: Option<&'a [u8]>,
}

/// Where on an output partition, and what was there.
type Log = HashMap<(Outlet, i32), Vec<(i64, u64)>>;

#[derive(Debug)]
pub struct Verifier {
    name: &'static str,
    /// By input partition and seq: the outlets on which it was seen.
    seen: Vec<Vec<u8>>,
    /// By input partition: below this everything is judged.
    judged: Vec<i64>,
    /// The last seq of an input partition on an output partition.
    order: HashMap<(Outlet, i32, i32), i64>,
    /// The last of each key on an output topic.
    keys: HashMap<(Outlet, u32), i64>,
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

    /// Judges a record. Returns the input that it is of.
    pub fn see(&mut self, record: Seen<'_>, findings: &Findings) -> Option<Input> {
        let name = self.name;
        let Seen { outlet, partition, offset, .. } = record;
        let place = || format!("{}-{partition}@{offset} ({name})", outlet.name());
        *(if outlet == Outlet::Dead { &mut self.dead_letters } else { &mut self.outputs }) += 1;
        self.remember(&record, findings);
        let Some(input) = Input::parse(record.value) else {
            findings.add(Kind::Altered, || format!("{}: {}", place(), String::from_utf8_lossy(record.value)));
            return None;
        };
        let of = || format!("{} is of partition {} seq {} ({:?})", place(), input.partition, input.seq, input.ask);
        let Some(seen) = usize::try_from(input.partition).ok().and_then(|p| self.seen.get_mut(p)) else {
            findings.add(Kind::Altered, of);
            return None;
        };
        let source = format!("{}:{}", input.partition, input.seq);
        let says = if outlet == Outlet::Dead { None } else { Some(source.as_bytes()) };
        if record.key != input.key_text().as_bytes() || record.source != says {
            findings.add(Kind::Altered, || format!("{}: another key or source", of()));
        }
        if input.ask.outlets() & outlet as u8 == 0 {
            findings.add(Kind::Misplaced, of);
        }
        let at = input.seq as usize;
        if seen.len() <= at {
            seen.resize(at + 1, 0);
        }
        if seen[at] & outlet as u8 != 0 {
            findings.add(Kind::Duplicate, of);
            return Some(input);
        }
        seen[at] |= outlet as u8;
        let last = self.order.entry((outlet, partition, input.partition)).or_insert(-1);
        if input.seq <= *last {
            findings.add(Kind::Reordered, || format!("{} comes after seq {last}", of()));
        }
        *last = input.seq.max(*last);
        let last = self.keys.entry((outlet, input.key)).or_insert(-1);
        if input.key_seq <= *last {
            findings.add(Kind::Reordered, || format!("{}: number {} of its key after {last}", of(), input.key_seq));
        }
        *last = input.key_seq.max(*last);
        Some(input)
    }

    fn remember(&mut self, record: &Seen<'_>, findings: &Findings) {
        let mut hasher = DefaultHasher::new();
        (record.key, record.value, record.source).hash(&mut hasher);
        let log = self.log.entry((record.outlet, record.partition)).or_default();
        if let Some((last, _)) = log.last().filter(|(last, _)| *last >= record.offset) {
            let place = format!("{}-{}", record.outlet.name(), record.partition);
            findings.add(Kind::Diverged, || format!("{}: offset {} after {last} on {place}", self.name, record.offset));
        }
        log.push((record.offset, hasher.finish()));
    }

    /// The group has committed this position: what is below must become visible soon.
    pub fn committed(&mut self, partition: i32, position: i64) {
        self.waiting.push_back((Instant::now(), partition, position));
    }

    /// Judges the positions whose time is up.
    pub fn judge_committed(&mut self, patience: Duration, oracle: &Oracle, findings: &Findings) {
        while let Some(&(since, partition, position)) = self.waiting.front() {
            if since.elapsed() < patience {
                break;
            }
            self.waiting.pop_front();
            self.judge(partition, position, oracle, findings);
        }
    }

    /// Judges everything: nothing more will come.
    pub fn judge_all(&mut self, oracle: &Oracle, findings: &Findings) {
        self.waiting.clear();
        let sent = oracle.sent();
        for partition in 0..oracle.partitions() {
            let end = sent[partition as usize];
            self.judge(partition, end, oracle, findings);
            if self.seen[partition as usize].len() as i64 > end {
                findings.add(Kind::Misplaced, || {
                    format!("{}: partition {partition} has outcomes beyond its {end} records", self.name)
                });
            }
        }
    }

    /// Is there an outcome for everything below `to`?
    fn judge(&mut self, partition: i32, to: i64, oracle: &Oracle, findings: &Findings) {
        let from = self.judged[partition as usize];
        let seen = &self.seen[partition as usize];
        for (seq, ask) in (from..).zip(oracle.range(partition, from, to)) {
            let expected = ask.outlets();
            let missing = expected & !seen.get(seq as usize).copied().unwrap_or(0);
            if missing == 0 {
                continue;
            }
            let kind = if ask == Ask::Both && missing != expected { Kind::Torn } else { Kind::Lost };
            findings.add(kind, || {
                let at: Vec<_> = Outlet::ALL.iter().filter(|o| **o as u8 & missing != 0).map(|o| o.name()).collect();
                format!("partition {partition} seq {seq} ({ask:?}) is not on {} ({})", at.join(", "), self.name)
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
