//! Dead letters as an operator sees them: read back from their topic, sorted by who rejected them and why, and turned into
//! the records they were.
//!
//! Owns the reading of the headers that [`crate::dataplane::dead_letter`] writes. Headers come from outside: whoever
//! can write to the topic can write anything into them, so what is missing or odd becomes `-`, and nothing here trusts
//! a number. Topics are read with read_committed, up to the end at the time of the start, in no group.

use super::{Cluster, ToolError};
use crate::config::{Topic, TransformName};
use pelton_kafka::{At, Header, OwnedMessage, Position, Reader, TopicPartition};
use std::collections::BTreeMap;
use std::fmt;

/// Stands for a transform or a code that the headers do not name. No legal name of either.
pub const UNKNOWN: &str = "-";

const TOPIC: &[u8] = b"__dlq.errors.topic";
const CODE: &[u8] = b"pelton.error.code";
const PREFIXES: [&[u8]; 2] = [b"__dlq.errors.", b"pelton.error."];

/// What filters can tell apart, and what progress is kept for: who rejected it, and why.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Class {
    pub transform: String,
    pub code: String,
}

/// Where the record was when it was rejected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// One dead letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// The record in the dead-letter topic, its headers as they are there.
    pub record: OwnedMessage,
    pub class: Class,
    pub source: Option<Source>,
    /// When it was rejected, in milliseconds since 1970.
    pub rejected_ms: Option<i64>,
    /// The guest's words or ours; may hold data.
    pub reason: Option<String>,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub transform: Option<String>,
    /// Any of these; all, where there are none.
    pub codes: Vec<String>,
}

/// A topic of dead letters, and the transforms that write to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetterTopic {
    pub topic: String,
    pub transforms: Vec<String>,
}

/// How many of one class there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    pub letters: u64,
    pub oldest_ms: Option<i64>,
    pub newest_ms: Option<i64>,
}

impl DeadLetter {
    pub fn of(record: OwnedMessage) -> Self {
        let source = || {
            Some(Source {
                topic: text(&record, TOPIC)?.parse::<Topic>().ok()?.to_string(),
                partition: text(&record, b"__dlq.errors.partition")?.parse().ok().filter(|p| *p >= 0)?,
                offset: text(&record, b"__dlq.errors.offset")?.parse().ok().filter(|o| *o >= 0)?,
            })
        };
        let transform = text(&record, b"pelton.error.transform").filter(|name| name.parse::<TransformName>().is_ok());
        let code = text(&record, CODE).filter(|code| is_code(code));
        let class = Class { transform: transform.unwrap_or(UNKNOWN).into(), code: code.unwrap_or(UNKNOWN).into() };
        let rejected_ms = text(&record, b"pelton.error.timestamp").and_then(|ms| ms.parse().ok());
        let reason = text(&record, b"__dlq.errors.message").map(str::to_owned);
        DeadLetter { source: source(), class, rejected_ms, reason, record }
    }

    /// The headers of the record that was rejected: without those that tell of the rejection.
    ///
    /// A record that was a dead letter before it came in has such headers of its own. Ours come last and begin with the
    /// topic, so that only they are taken off; where a letter is not ours, all go.
    pub fn original_headers(&self) -> Vec<Header<'_>> {
        let headers = &self.record.headers;
        let ours = headers.iter().rposition(|(key, _)| key == TOPIC).unwrap_or(0);
        let first = if headers.iter().skip(ours).any(|(key, _)| key == CODE) { ours } else { 0 };
        let told = |(index, key): (usize, &[u8])| index >= first && PREFIXES.iter().any(|p| key.starts_with(p));
        headers
            .iter()
            .enumerate()
            .filter(|(index, (key, _))| !told((*index, key)))
            .map(|(_, (key, value))| Header { key, value: value.as_deref() })
            .collect()
    }
}

/// The last header of this name, as text.
fn text<'a>(record: &'a OwnedMessage, name: &[u8]) -> Option<&'a str> {
    let (_, value) = record.headers.iter().rev().find(|(key, _)| key == name)?;
    std::str::from_utf8(value.as_deref()?).ok()
}

/// `guest.rejected` and the like. What passes becomes part of a group's name.
fn is_code(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.'))
}

impl Filter {
    pub fn selects(&self, letter: &DeadLetter) -> bool {
        self.transform.as_ref().is_none_or(|transform| *transform == letter.class.transform)
            && (self.codes.is_empty() || self.codes.contains(&letter.class.code))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}

impl Count {
    fn add(&mut self, letter: &DeadLetter) {
        self.letters += 1;
        if let Some(ms) = letter.rejected_ms {
            self.oldest_ms = Some(self.oldest_ms.map_or(ms, |oldest| oldest.min(ms)));
            self.newest_ms = Some(self.newest_ms.map_or(ms, |newest| newest.max(ms)));
        }
    }
}

/// The dead-letter topics of the application, in the order of their names.
pub fn topics(cluster: &Cluster<'_>) -> Vec<DeadLetterTopic> {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, transform) in &cluster.config.transforms {
        if let Some(topic) = transform.dead_letters() {
            topics.entry(topic.as_str()).or_default().push(name.to_string());
        }
    }
    let named = |(topic, transforms): (&str, Vec<String>)| DeadLetterTopic { topic: topic.to_owned(), transforms };
    topics.into_iter().map(named).collect()
}

/// The topics that are meant, and whose letters in them: a transform's own, those of one topic, or all.
pub fn choose(
    cluster: &Cluster<'_>,
    transform: Option<&str>,
    topic: Option<&str>,
) -> Result<(Vec<DeadLetterTopic>, Option<String>), ToolError> {
    let all = topics(cluster);
    if let Some(name) = transform {
        let transforms = &cluster.config.transforms;
        if transforms.keys().all(|known| known.as_str() != name) {
            let known = transforms.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(ToolError::Usage(format!("there is no transform `{name}`; there are: {known}")));
        }
        let own: Vec<_> = all.into_iter().filter(|t| t.transforms.iter().any(|known| known == name)).collect();
        return match own.is_empty() {
            true => Err(ToolError::NoDeadLetters(format!(" for the transform `{name}`"))),
            false => Ok((own, Some(name.to_owned()))),
        };
    }
    match topic {
        // It need not be in the configuration: those of an earlier one can be looked at too.
        Some(topic) => {
            let transforms = all.into_iter().find(|t| t.topic == topic).map(|t| t.transforms).unwrap_or_default();
            Ok((vec![DeadLetterTopic { topic: topic.to_owned(), transforms }], None))
        }
        None if all.is_empty() => Err(ToolError::NoDeadLetters(String::new())),
        None => Ok((all, None)),
    }
}

/// Opens a topic: everything that is in it now, and its partitions.
pub fn open(cluster: &Cluster<'_>, topic: &str) -> Result<(Reader, Vec<TopicPartition>), ToolError> {
    cluster.reach()?;
    let partitions = cluster.partitions(topic)?;
    let low = cluster.admin.offsets(&partitions, At::Low)?;
    let end = cluster.admin.offsets(&partitions, At::End)?;
    let ranges: Vec<_> = partitions
        .iter()
        .zip(low.into_iter().zip(end))
        .map(|(p, (low, end))| (p.partition, low.unwrap_or(Position(0)), end.unwrap_or(Position(0))))
        .collect();
    // Prefetch is per partition: this bounds memory (I9).
    let properties = cluster.consumer.clone().with("queued.max.messages.kbytes", "8192");
    Ok((Reader::new(&properties, topic, &ranges)?, partitions))
}

/// Counts what is in a topic, reading at most `limit` records. `true`: there were more.
pub fn count(
    cluster: &Cluster<'_>,
    topic: &str,
    filter: &Filter,
    limit: u64,
) -> Result<(BTreeMap<Class, Count>, bool), ToolError> {
    let (mut reader, _) = open(cluster, topic)?;
    let mut counts: BTreeMap<Class, Count> = BTreeMap::new();
    let mut read = 0;
    while let Some(record) = reader.next(super::PATIENCE)? {
        if read == limit {
            return Ok((counts, true));
        }
        read += 1;
        let letter = DeadLetter::of(record);
        if filter.selects(&letter) {
            counts.entry(letter.class.clone()).or_default().add(&letter);
        }
    }
    Ok((counts, false))
}

/// The first `limit` letters that are meant, by partition and offset. `true`: there were more.
pub fn list(
    cluster: &Cluster<'_>,
    topic: &str,
    filter: &Filter,
    limit: usize,
) -> Result<(Vec<DeadLetter>, bool), ToolError> {
    let (mut reader, _) = open(cluster, topic)?;
    let mut letters = Vec::new();
    let mut cut = false;
    while let Some(record) = reader.next(super::PATIENCE)? {
        let letter = DeadLetter::of(record);
        if filter.selects(&letter) {
            if letters.len() == limit {
                cut = true;
                break;
            }
            letters.push(letter);
        }
    }
    letters.sort_by_key(|letter: &DeadLetter| (letter.record.partition, letter.record.offset));
    Ok((letters, cut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::dead_letter::{Verdict, headers};
    use pelton_kafka::Batch;

    type Headers = Vec<(Vec<u8>, Option<Vec<u8>>)>;

    fn header(key: &str, value: &str) -> (Vec<u8>, Option<Vec<u8>>) {
        (key.into(), Some(value.into()))
    }

    /// A record that came in with these headers, as the processor writes it to the dead letters.
    fn rejected(own: Headers, brief: bool) -> OwnedMessage {
        let mut batch = Batch::new();
        batch.push_owned(0, OwnedMessage { partition: 3, offset: 41, ..OwnedMessage::default() });
        let verdict = Verdict {
            code: "guest.rejected",
            reason: "no amount",
            backtrace: None,
            group: "orders",
            topic: "in",
            transform: "redact",
            digest: "3b1c",
            at_ms: 1_700,
        };
        let told = headers(&verdict, &batch.get(0).unwrap(), brief);
        let headers = own.into_iter().chain(told.iter().map(|(k, v)| header(k, v))).collect();
        OwnedMessage { headers, ..OwnedMessage::default() }
    }

    fn original(letter: &DeadLetter) -> Headers {
        letter.original_headers().iter().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect()
    }

    #[test]
    fn what_the_processor_writes_is_read_back() {
        let letter = DeadLetter::of(rejected(Vec::new(), false));
        assert_eq!(letter.class, Class { transform: "redact".into(), code: "guest.rejected".into() });
        assert_eq!(letter.source, Some(Source { topic: "in".into(), partition: 3, offset: 41 }));
        assert_eq!((letter.rejected_ms, letter.reason.as_deref()), (Some(1_700), Some("no amount")));
        assert_eq!(letter.source.unwrap().to_string(), "in/3@41");
    }

    #[test]
    fn its_own_headers_are_left_as_they_were() {
        let own =
            vec![header("trace", "1"), (b"null".to_vec(), None), header("trace", "2"), header("pelton.errors", "x")];
        for brief in [false, true] {
            let letter = DeadLetter::of(rejected(own.clone(), brief));
            assert_eq!(original(&letter), own);
        }
        assert_eq!(original(&DeadLetter::of(rejected(Vec::new(), false))), Vec::new());
    }

    #[test]
    fn a_record_that_had_been_a_dead_letter_before_keeps_what_that_one_told() {
        let first = rejected(vec![header("own", "1")], false).headers;
        let letter = DeadLetter::of(rejected(first.clone(), false));
        assert_eq!(original(&letter), first);
    }

    #[test]
    fn of_a_letter_that_is_not_ours_everything_that_tells_of_a_rejection_goes() {
        let headers = vec![header("__dlq.errors.message", "m"), header("own", "1"), header("__dlq.errors.topic", "t")];
        let letter = DeadLetter::of(OwnedMessage { headers, ..OwnedMessage::default() });
        assert_eq!(original(&letter), vec![header("own", "1")]);
        assert_eq!(letter.class, Class { transform: UNKNOWN.into(), code: UNKNOWN.into() });
        assert_eq!(letter.source, None, "a source has a partition and an offset");
    }

    #[test]
    fn odd_headers_are_unknown() {
        for code in ["", "a/b", "A", "a b", "-", ".x", &"x".repeat(65)] {
            let headers = vec![header("pelton.error.code", code), header("pelton.error.transform", "../x")];
            let letter = DeadLetter::of(OwnedMessage { headers, ..OwnedMessage::default() });
            assert_eq!(letter.class, Class { transform: UNKNOWN.into(), code: UNKNOWN.into() }, "{code}");
        }
        let mut odd = rejected(Vec::new(), false);
        odd.headers.push(header("__dlq.errors.partition", "-1"));
        assert_eq!(DeadLetter::of(odd).source, None);
    }

    #[test]
    fn filters() {
        let letter = DeadLetter::of(rejected(Vec::new(), false));
        let filter = |transform: Option<&str>, codes: &[&str]| Filter {
            transform: transform.map(str::to_owned),
            codes: codes.iter().map(|code| (*code).to_owned()).collect(),
        };
        assert!(Filter::default().selects(&letter));
        assert!(filter(Some("redact"), &["guest.deadline", "guest.rejected"]).selects(&letter));
        assert!(!filter(Some("other"), &[]).selects(&letter));
        assert!(!filter(None, &["guest.deadline"]).selects(&letter));
    }
}
