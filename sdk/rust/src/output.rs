//! Output records: a builder that borrows, and the place they are written to.

use crate::record::{Header, Headers, Record, i32_in};
use crate::settings::{Topic, Topics};
use crate::transform::Outcome;
use crate::window::Window;

pub(crate) const HEAD: usize = 32;
/// "the input's timestamp"
const INHERIT: i64 = i64::MIN;
/// As a partition: the one that the key gives.
const BY_KEY: i32 = -1;
/// Prefixes of header keys that only Pelton writes, on dead letters; the host refuses them in outputs.
const RESERVED: [&[u8]; 2] = [b"__dlq.errors.", b"pelton.error."];

/// An output record under construction, made by [`Record::output`]. It borrows what it is given and allocates only for
/// added headers.
#[derive(Debug, Clone)]
#[must_use = "emit it"]
pub struct Output<'a> {
    topic: Target<'a>,
    partition: i32,
    timestamp_ms: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    inherited: &'a [u8],
    inherited_count: u32,
    added: Vec<Header<'a>>,
    /// Key, value and headers of the input, as long as the output has the same: then they are copied in one piece,
    /// which costs a guest a third of copying them one by one.
    same: Option<&'a [u8]>,
}

/// An output topic, by name or looked up before.
#[derive(Debug, Clone, Copy)]
enum Target<'a> {
    Known(Topic),
    Named(&'a str),
}

/// What [`Output::topic`] takes: a name, or a [`Topic`] that `configure` looked up.
pub trait IntoTopic<'a>: sealed::Sealed<'a> {}

mod sealed {
    pub trait Sealed<'a> {
        #[doc(hidden)]
        fn apply(self, output: &mut super::Output<'a>);
    }
}

impl<'a> IntoTopic<'a> for Topic {}
impl<'a> sealed::Sealed<'a> for Topic {
    fn apply(self, output: &mut Output<'a>) {
        output.topic = Target::Known(self);
    }
}
impl<'a> IntoTopic<'a> for &'a str {}
impl<'a> sealed::Sealed<'a> for &'a str {
    fn apply(self, output: &mut Output<'a>) {
        output.topic = Target::Named(self);
    }
}

impl<'a> Output<'a> {
    pub(crate) fn like(record: &Record<'a>) -> Self {
        Self {
            topic: Target::Known(Topic::default()),
            partition: BY_KEY,
            timestamp_ms: INHERIT,
            key: record.key(),
            value: record.value(),
            inherited: record.headers,
            inherited_count: record.header_count,
            added: Vec::new(),
            same: Some(record.body),
        }
    }

    /// The topic to write to, instead of the default output topic. A name that is not among the transform's output
    /// topics rejects the record.
    pub fn topic(mut self, topic: impl IntoTopic<'a>) -> Self {
        topic.apply(&mut self);
        self
    }

    /// A partition, instead of the one that the key gives. -1 means the one that the key gives; any other negative number
    /// rejects the record.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = partition;
        self
    }

    /// Milliseconds since 1970, instead of the input's timestamp. -1 means the input's; any other negative number
    /// rejects the record, because Kafka has no time before 1970.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        // the smallest would be taken for "the input's"
        self.timestamp_ms = timestamp_ms.max(INHERIT + 1);
        self
    }

    /// Another key.
    pub fn key(mut self, key: &'a [u8]) -> Self {
        self.key = Some(key);
        self.same = None;
        self
    }

    /// Kafka's null key.
    pub fn no_key(mut self) -> Self {
        self.key = None;
        self.same = None;
        self
    }

    /// Another value.
    pub fn value(mut self, value: &'a [u8]) -> Self {
        self.value = Some(value);
        self.same = None;
        self
    }

    /// A null value, which deletes the key from a compacted topic.
    pub fn tombstone(mut self) -> Self {
        self.value = None;
        self.same = None;
        self
    }

    /// Adds a header after the existing ones. A key that begins with `__dlq.errors.` or `pelton.error.` rejects the
    /// record: those are reserved for dead letters.
    pub fn header(self, key: &'a str, value: &'a [u8]) -> Self {
        self.header_bytes(Header { key: key.as_bytes(), value: Some(value) })
    }

    /// Like `header`, with a key that need not be UTF-8 or a value that may be null.
    pub fn header_bytes(mut self, header: Header<'a>) -> Self {
        self.added.push(header);
        self.same = None;
        self
    }

    /// Replaces all headers with this key by a single one, at the end.
    pub fn replace_header(self, key: &'a str, value: &'a [u8]) -> Self {
        self.without_header(key).header(key, value)
    }

    /// Removes all headers with this key.
    pub fn without_header(mut self, key: &str) -> Self {
        let mut inherited = Headers::new(self.inherited, self.inherited_count);
        if inherited.any(|header| header.key == key.as_bytes()) {
            self.own_inherited();
        }
        self.added.retain(|header| header.key != key.as_bytes());
        self
    }

    /// Removes all headers.
    pub fn no_headers(mut self) -> Self {
        (self.inherited, self.inherited_count) = (&[], 0);
        self.added.clear();
        self.same = None;
        self
    }

    /// Inherited headers become its own, except the reserved ones.
    fn own_inherited(&mut self) {
        let inherited = Headers::new(self.inherited, self.inherited_count).filter(|header| !is_reserved(header.key));
        self.added.splice(0..0, inherited);
        (self.inherited, self.inherited_count, self.same) = (&[], 0, None);
    }

    /// What the host would refuse, named; most outputs have neither a timestamp nor a header of their own.
    #[inline(never)]
    fn flaw(&self) -> Option<String> {
        if self.timestamp_ms < -1 && self.timestamp_ms != INHERIT {
            return Some(before_1970(self.timestamp_ms));
        }
        if self.partition < BY_KEY {
            return Some(no_partition(self.partition));
        }
        self.added.iter().find(|header| is_reserved(header.key)).map(|header| reserved(header.key))
    }

    #[inline]
    fn len(&self) -> usize {
        if let Some(body) = self.same {
            return HEAD + body.len();
        }
        let header = |h: &Header<'_>| 8 + h.key.len() + h.value.map_or(0, <[u8]>::len);
        let added: usize = self.added.iter().map(header).sum();
        HEAD + self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len) + self.inherited.len() + added
    }

    /// `len` is `self.len()`, and there is room for it.
    #[inline]
    fn write(&self, to: &mut Vec<u8>, len: usize, topic: Topic) {
        let len_of = |bytes: Option<&[u8]>| bytes.map_or(-1, |b| b.len() as i32);
        let headers = self.inherited_count + self.added.len() as u32;
        let mut head = [0u8; HEAD];
        head[0..4].copy_from_slice(&(len as u32).to_le_bytes());
        head[4..8].copy_from_slice(&topic.0.to_le_bytes());
        head[8..12].copy_from_slice(&self.partition.to_le_bytes());
        head[12..16].copy_from_slice(&len_of(self.key).to_le_bytes());
        head[16..24].copy_from_slice(&self.timestamp_ms.to_le_bytes());
        head[24..28].copy_from_slice(&len_of(self.value).to_le_bytes());
        head[28..32].copy_from_slice(&headers.to_le_bytes());
        to.extend_from_slice(&head);
        if let Some(body) = self.same {
            to.extend_from_slice(body);
            return;
        }
        to.extend_from_slice(self.key.unwrap_or_default());
        to.extend_from_slice(self.value.unwrap_or_default());
        to.extend_from_slice(self.inherited);
        for header in &self.added {
            to.extend_from_slice(&(header.key.len() as u32).to_le_bytes());
            to.extend_from_slice(&len_of(header.value).to_le_bytes());
            to.extend_from_slice(header.key);
            to.extend_from_slice(header.value.unwrap_or_default());
        }
    }
}

/// Is one of these headers reserved? Compares only first letters where that is enough, because every output needs it.
fn inherits_reserved(mut headers: &[u8]) -> bool {
    while let Some((head, rest)) = headers.split_first_chunk::<8>() {
        let [key, value] = [0, 4].map(|at| i32_in(head, at).max(0) as usize);
        if rest.get(..key).is_some_and(is_reserved) {
            return true;
        }
        headers = rest.get(key + value..).unwrap_or_default();
    }
    false
}

fn is_reserved(key: &[u8]) -> bool {
    // nearly all others end here
    matches!(key.first(), Some(b'_' | b'p')) && RESERVED.iter().any(|prefix| key.starts_with(prefix))
}

#[cold]
fn reserved(key: &[u8]) -> String {
    format!("the output's header `{}` has a name that is reserved for dead letters", key.escape_ascii())
}

#[cold]
fn no_partition(partition: i32) -> String {
    format!("the output's partition {partition} is negative, and there is none of that number")
}

#[cold]
fn before_1970(timestamp_ms: i64) -> String {
    format!("the output's timestamp {timestamp_ms} is before 1970, and Kafka has none of then")
}

/// Takes the outputs of one record.
#[derive(Debug)]
pub struct Outputs<'a> {
    pub(crate) window: &'a mut Window,
    pub(crate) topics: &'a Topics,
    pub(crate) emitted: u32,
    pub(crate) error: Option<String>,
}

impl Outputs<'_> {
    /// Writes one output record, after the previous ones. Returns [`Outcome::Emit`], so that `Ok(out.emit(..))` can end
    /// a transform; to emit several, call it several times and return `Ok(Outcome::Emit)`. An output that is not
    /// allowed, such as one to a topic that is not granted, rejects the record with all its outputs; the reason says
    /// what is wrong.
    #[inline]
    pub fn emit(&mut self, output: Output<'_>) -> Outcome {
        let topic = match output.topic {
            Target::Known(topic) => topic,
            Target::Named(name) => match self.topics.output(name) {
                Ok(topic) => topic,
                Err(error) => {
                    self.error.get_or_insert(error);
                    return Outcome::Emit;
                }
            },
        };
        if output.inherited_count > 0 && inherits_reserved(output.inherited) {
            return self.emit_own(output);
        }
        if (output.timestamp_ms != INHERIT || output.partition != BY_KEY || !output.added.is_empty())
            && let Some(flaw) = output.flaw()
        {
            self.error.get_or_insert(flaw);
            return Outcome::Emit;
        }
        let len = output.len();
        output.write(self.window.room(len), len, topic);
        self.emitted += 1;
        Outcome::Emit
    }

    /// Without the reserved inherited headers; otherwise whoever writes the input could make all its outputs fail.
    #[cold]
    fn emit_own(&mut self, mut output: Output<'_>) -> Outcome {
        output.own_inherited();
        self.emit(output)
    }

    /// How many outputs have been emitted for this record so far.
    pub fn emitted(&self) -> usize {
        self.emitted as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{input, run_fn};

    /// Key, value and headers, as text.
    fn written(change: impl Fn(Output<'_>) -> Output<'_>) -> String {
        let record = input().key("k").value("v").header("a", "1").null_header("b").header("a", "2");
        let settled = run_fn(|record, out| Ok(out.emit(change(record.output()))), &[record]);
        let output = settled[0].only_output();
        let text =
            |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or("-".into(), |b| String::from_utf8(b.clone()).unwrap());
        let headers = output.headers.iter().map(|(key, value)| format!(" {}={}", key.escape_ascii(), text(value)));
        format!("{} {}{}", text(&output.key), text(&output.value), headers.collect::<String>())
    }

    #[test]
    fn an_output_is_the_input_and_what_was_changed() {
        assert_eq!(written(|output| output), "k v a=1 b=- a=2");
        assert_eq!(written(|output| output.partition(3).timestamp_ms(7)), "k v a=1 b=- a=2");
        assert_eq!(written(|output| output.key(b"other")), "other v a=1 b=- a=2");
        assert_eq!(written(|output| output.no_key()), "- v a=1 b=- a=2");
        assert_eq!(written(|output| output.value(b"other")), "k other a=1 b=- a=2");
        assert_eq!(written(|output| output.tombstone()), "k - a=1 b=- a=2");
        assert_eq!(written(|output| output.header("c", b"3")), "k v a=1 b=- a=2 c=3");
        assert_eq!(written(|output| output.replace_header("a", b"3")), "k v b=- a=3");
        assert_eq!(written(|output| output.without_header("a")), "k v b=-");
        assert_eq!(written(|output| output.without_header("none")), "k v a=1 b=- a=2");
        assert_eq!(written(|output| output.no_headers()), "k v");
    }

    #[test]
    fn reserved_headers_of_the_input_are_not_inherited() {
        let record = input().header("__dlq.errors.topic", "t").header("a", "1").null_header("pelton.error.code");
        let names = |change: &dyn for<'a> Fn(Output<'a>) -> Output<'a>| {
            let settled = run_fn(|record, out| Ok(out.emit(change(record.output()))), std::slice::from_ref(&record));
            let name = |(key, _): &(Vec<u8>, _)| String::from_utf8(key.clone()).unwrap();
            settled[0].only_output().headers.iter().map(name).collect::<Vec<_>>().join(",")
        };
        assert_eq!(names(&|output| output), "a");
        assert_eq!(names(&|output| output.value(b"other").header("pelton.errors", b"")), "a,pelton.errors");
        assert_eq!(names(&|output| output.replace_header("a", b"2").header("c", b"3")), "a,c");
        let near = input().header("pelton.erro", "1").header("x__dlq.errors.topic", "2");
        let settled = run_fn(|record, out| Ok(out.emit(record.output())), &[near]);
        assert_eq!(settled[0].only_output().headers.len(), 2, "nothing else stays behind");
        assert!(run_fn(|_, _| Ok(Outcome::Keep), &[record])[0].is_keep());
    }

    #[test]
    fn a_reserved_header_that_is_added_rejects_with_its_name() {
        for key in ["pelton.error.code", "__dlq.errors.", "__dlq.errors.topic"] {
            for replaced in [false, true] {
                let process = |record: &Record<'_>, out: &mut Outputs<'_>| {
                    let output = record.output();
                    let output = if replaced { output.replace_header(key, b"1") } else { output.header(key, b"1") };
                    Ok(out.emit(output))
                };
                let settled = run_fn(process, &[input().header(key, "0")]);
                assert!(settled[0].reason().unwrap().contains(key), "{settled:?}");
            }
        }
    }

    #[test]
    fn a_negative_partition_rejects_with_its_number() {
        let with = |partition: i32| {
            let process =
                |record: &Record<'_>, out: &mut Outputs<'_>| Ok(out.emit(record.output().partition(partition)));
            run_fn(process, &[input().key("k")]).remove(0)
        };
        assert_eq!(with(3).only_output().partition, Some(3));
        assert_eq!(with(-1).only_output().partition, None, "by the key");
        assert!(with(-2).reason().is_some_and(|reason| reason.contains("partition -2")), "{:?}", with(-2));
    }

    #[test]
    fn a_timestamp_before_1970_rejects_with_its_number_and_is_not_taken_for_the_inputs() {
        let settled = |timestamp_ms: i64| {
            let process = |record: &Record<'_>, out: &mut Outputs<'_>| {
                out.emit(record.output());
                Ok(out.emit(record.output().timestamp_ms(timestamp_ms)))
            };
            run_fn(process, &[input().timestamp_ms(7)]).remove(0)
        };
        for timestamp_ms in [-86_400_000, -2, i64::MIN + 1] {
            let settled = settled(timestamp_ms);
            assert!(settled.reason().unwrap().contains(&timestamp_ms.to_string()), "{settled:?}");
        }
        assert!(settled(i64::MIN).reason().is_some(), "what frames call the input's is no number of an author");
        let stamps = |timestamp_ms| settled(timestamp_ms).outputs().iter().map(|o| o.timestamp_ms).collect::<Vec<_>>();
        assert_eq!((stamps(-1), stamps(0)), (vec![None, None], vec![None, Some(0)]));
    }
}
