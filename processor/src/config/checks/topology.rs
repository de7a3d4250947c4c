//! How topics connect transforms: one start for each topic, dead letters with a place to go, no loops.
//!
//! The search for loops covers everything a transform may write: its output, what else it may name, and its dead
//! letters. A record could go round in a loop forever, settled exactly once each time.

use std::collections::{BTreeMap, VecDeque};

use super::transforms;
use crate::config::error::{Code, ConfigError, Place};
use crate::config::tree::{Node, Origin};
use crate::config::types::Topic;

/// The brokers' own topics, which no client may write.
const INTERNAL: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// A transform as far as its topics are well formed.
struct Step<'t> {
    name: &'t str,
    node: &'t Node,
    inputs: Vec<(&'t str, &'t Node)>,
    writes: Vec<Write<'t>>,
}

struct Write<'t> {
    topic: &'t str,
    node: &'t Node,
    path: String,
    dead_letters: bool,
}

pub fn check(tree: &Node) -> Vec<ConfigError> {
    let steps: Vec<Step<'_>> = transforms(tree).map(|(name, node)| Step::of(name, node)).collect();
    let mut errors = Vec::new();
    for step in &steps {
        errors.extend(dead_letters(step.name, step.node));
        errors.extend(internal(step));
    }
    errors.extend(starts(&steps));
    errors.extend(loops(&steps));
    errors
}

impl<'t> Step<'t> {
    fn of(name: &'t str, node: &'t Node) -> Self {
        let path = |key: &str| format!("transforms.{name}.{key}");
        let inputs = list(node.at(&["input", "topics"])).filter_map(|node| Some((topic(node)?, node))).collect();
        let output = node.at(&["output", "topic"]).map(|node| (node, path("output.topic"), false));
        let also = list(node.at(&["output", "also"])).enumerate();
        let also = also.map(|(index, node)| (node, path(&format!("output.also[{index}]")), false));
        let dead = node.at(&["on_error", "topic"]).filter(|_| then(node) == Some("dead_letter"));
        let dead = dead.map(|node| (node, path("on_error.topic"), true));
        let writes = output.into_iter().chain(also).chain(dead).filter_map(|(node, path, dead_letters)| {
            topic(node).map(|topic| Write { topic, node, path, dead_letters })
        });
        Self { name, node, inputs, writes: writes.collect() }
    }
}

fn list(node: Option<&Node>) -> impl Iterator<Item = &Node> {
    node.and_then(Node::as_list).into_iter().flatten()
}

fn topic(node: &Node) -> Option<&str> {
    node.as_text().filter(|text| text.parse::<Topic>().is_ok())
}

fn then(transform: &Node) -> Option<&str> {
    transform.at(&["on_error", "then"])?.as_text()
}

fn dead_letters(name: &str, node: &Node) -> Option<ConfigError> {
    let topic = node.at(&["on_error", "topic"]);
    match (node.at(&["on_error", "then"])?, topic) {
        (then, None) if then.as_text() == Some("dead_letter") => {
            let message = format!("the dead letters of `{name}` have no topic");
            let error =
                ConfigError::new(Code::Missing, format!("transforms.{name}.on_error.topic"), &then.origin, message);
            Some(error.help("add `topic:` beside `then: dead_letter`"))
        }
        (then, Some(topic)) if matches!(then.as_text(), Some("skip" | "stop")) => {
            let message = "a topic for dead letters is given, but none are written";
            let error =
                ConfigError::new(Code::Conflict, format!("transforms.{name}.on_error.topic"), &topic.origin, message);
            Some(error.help("write `then: dead_letter`, or leave the topic out"))
        }
        _ => None,
    }
}

fn internal<'a>(step: &'a Step<'_>) -> impl Iterator<Item = ConfigError> + use<'a> {
    step.writes.iter().filter(|write| INTERNAL.contains(&write.topic)).map(|write| {
        let message = format!("`{}` is the brokers' own topic", write.topic);
        ConfigError::new(Code::Conflict, &write.path, &write.node.origin, message).help("write to another topic")
    })
}

fn starts(steps: &[Step<'_>]) -> Vec<ConfigError> {
    let mut seen: BTreeMap<&str, (&str, &Step<'_>, &Node)> = BTreeMap::new();
    let mut errors = Vec::new();
    for step in steps {
        let Some(start) = step.node.at(&["input", "start"]) else { continue };
        let Some(text) = start.as_text().filter(|text| matches!(*text, "earliest" | "latest")) else { continue };
        for (topic, input) in &step.inputs {
            // A default has no place of its own: then the topic is shown.
            let at = if matches!(start.origin, Origin::Default(_)) { *input } else { start };
            let (first, other, first_at) = *seen.entry(topic).or_insert((text, step, at));
            if first != text {
                let path = format!("transforms.{}.input.start", step.name);
                let message =
                    format!("`{}` reads `{topic}` from `{text}`, but `{}` from `{first}`", step.name, other.name);
                errors.push(
                    ConfigError::new(Code::Conflict, path, &at.origin, message)
                        .note(format!("`{first}` here"), &first_at.origin)
                        .help("a topic has one start in an application: choose one, or make two applications"),
                );
            }
        }
    }
    errors
}

/// A transform that feeds itself is one error each; then one for each loop of several that are not in another one.
fn loops(steps: &[Step<'_>]) -> Vec<ConfigError> {
    let own = steps.iter().enumerate().flat_map(|(index, step)| {
        let back =
            step.writes.iter().enumerate().filter(|(_, write)| step.inputs.iter().any(|(t, _)| *t == write.topic));
        back.map(move |(write, _)| vec![(index, write)])
    });
    let mut cycles: Vec<_> = own.collect();
    let mut readers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, step) in steps.iter().enumerate() {
        step.inputs.iter().for_each(|(topic, _)| readers.entry(topic).or_default().push(index));
    }
    let mut reported = vec![false; steps.len()];
    for start in 0..steps.len() {
        if !reported[start]
            && let Some(cycle) = shortest(steps, &readers, start)
        {
            cycle.iter().for_each(|(step, _)| reported[*step] = true);
            cycles.push(cycle);
        }
    }
    cycles.iter().map(|cycle| describe(steps, cycle)).collect()
}

/// The shortest way from a step over others back to itself: the steps, each with the write that leads on.
fn shortest(steps: &[Step<'_>], readers: &BTreeMap<&str, Vec<usize>>, start: usize) -> Option<Vec<(usize, usize)>> {
    let mut came: Vec<Option<(usize, usize)>> = vec![None; steps.len()];
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for (index, write) in steps[at].writes.iter().enumerate() {
            for &to in readers.get(write.topic).into_iter().flatten().filter(|to| **to != at) {
                if to == start {
                    return Some(way_to(at, index, &came));
                }
                if came[to].is_none() {
                    came[to] = Some((at, index));
                    queue.push_back(to);
                }
            }
        }
    }
    None
}

/// Follows `came` back to the start, which nothing came to.
fn way_to(step: usize, write: usize, came: &[Option<(usize, usize)>]) -> Vec<(usize, usize)> {
    let mut way = vec![(step, write)];
    while let Some(hop) = way.last().and_then(|(step, _)| came[*step]) {
        way.push(hop);
    }
    way.reverse();
    way
}

fn describe(steps: &[Step<'_>], cycle: &[(usize, usize)]) -> ConfigError {
    let write = |&(step, by): &(usize, usize)| &steps[step].writes[by];
    // The last write closes the loop; it is where to cut.
    let last = cycle.last().map(write);
    let first = last.map_or("", |write| write.topic);
    let way = cycle.iter().fold(first.to_owned(), |way, hop| {
        let kind = if write(hop).dead_letters { " (dead letters)" } else { "" };
        format!("{way} → [{}] → {}{kind}", steps[hop.0].name, write(hop).topic)
    });
    let message = match cycle {
        [(step, by)] if steps[*step].writes[*by].dead_letters => {
            format!("`{}` reads its own dead letters: {way}", steps[*step].name)
        }
        [(step, _)] => format!("`{}` reads what it writes: {way}", steps[*step].name),
        _ => format!("transforms feed each other in a loop: {way}"),
    };
    let help =
        "a record could go round for ever: write to another topic, or process dead letters in another application";
    match last {
        Some(write) => ConfigError::new(Code::Loop, &write.path, &write.node.origin, message).help(help),
        None => ConfigError::new(Code::Loop, "transforms", Place::Nowhere, message).help(help),
    }
}
