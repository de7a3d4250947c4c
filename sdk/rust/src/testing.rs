//! Native tests of a transform: build records, run them, check owned outcomes. The code under test takes the same path
//! through frames and window as in a guest.
//!
//! ```
//! use pelton_sdk::{Outcome, Outputs, Record, Reject, Settings, Topics, Transform, testing};
//! # struct Copy;
//! # impl Transform for Copy {
//! #     fn configure(_: &Settings, _: &Topics) -> Result<Self, String> { Ok(Self) }
//! #     fn process(&mut self, record: &Record<'_>, out: &mut Outputs<'_>) -> Result<Outcome, Reject> {
//! #         out.emit(record.output());
//! #         Ok(out.emit(record.output().topic("audit").tombstone()))
//! #     }
//! # }
//! let outcomes = testing::case::<Copy>()
//!     .outputs(["copies", "audit"])
//!     .setting("unused", "x")
//!     .run(&[testing::input().key("k").value("v").header("trace", "1")]);
//! let outputs = outcomes[0].outputs();
//! assert_eq!((outputs[0].topic.as_str(), outputs[0].value_text()), ("copies", Some("v")));
//! assert_eq!((outputs[1].topic.as_str(), outputs[1].value_text()), ("audit", None));
//! ```

use std::cell::RefCell;
use std::marker::PhantomData;

use crate::batch;
use crate::output::{HEAD, Outputs};
use crate::record::{Headers, Record, field, i32_in, i64_in};
use crate::settings::{Settings, Topics};
use crate::transform::{Outcome, Reject, Transform};
use crate::window::{EMIT, KEEP, Sink, Window};

/// An input record, to be filled in.
pub fn input() -> Input {
    Input::default()
}

/// An input record: by default from topic `input`, partition 0, offset 0, without key, headers or timestamp, and with
/// an empty value.
#[derive(Debug, Clone)]
#[must_use]
pub struct Input {
    topic: u32,
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Default for Input {
    fn default() -> Self {
        let (key, value, headers) = (None, Some(Vec::new()), Vec::new());
        Self { topic: 0, partition: 0, offset: 0, timestamp_ms: -1, key, value, headers }
    }
}

impl Input {
    /// The topic, as an index into [`Case::inputs`].
    pub fn topic(mut self, index: u32) -> Self {
        self.topic = index;
        self
    }

    /// The partition.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = partition;
        self
    }

    /// The offset.
    pub fn offset(mut self, offset: i64) -> Self {
        self.offset = offset;
        self
    }

    /// Milliseconds since 1970.
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = timestamp_ms;
        self
    }

    /// A key.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// A value.
    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.value = Some(value.as_ref().to_vec());
        self
    }

    /// A null value.
    pub fn tombstone(mut self) -> Self {
        self.value = None;
        self
    }

    /// One more header.
    pub fn header(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((key.as_ref().to_vec(), Some(value.as_ref().to_vec())));
        self
    }

    /// One more header, with a null value.
    pub fn null_header(mut self, key: impl AsRef<[u8]>) -> Self {
        self.headers.push((key.as_ref().to_vec(), None));
        self
    }

    fn frame(&self, to: &mut Vec<u8>) {
        let len_of = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(-1, |b| b.len() as i32).to_le_bytes();
        let start = to.len();
        to.extend_from_slice(&[0; 4]);
        to.extend_from_slice(&self.topic.to_le_bytes());
        to.extend_from_slice(&self.partition.to_le_bytes());
        to.extend_from_slice(&len_of(&self.key));
        to.extend_from_slice(&self.offset.to_le_bytes());
        to.extend_from_slice(&self.timestamp_ms.to_le_bytes());
        to.extend_from_slice(&len_of(&self.value));
        to.extend_from_slice(&(self.headers.len() as u32).to_le_bytes());
        to.extend_from_slice(self.key.as_deref().unwrap_or_default());
        to.extend_from_slice(self.value.as_deref().unwrap_or_default());
        for (key, value) in &self.headers {
            to.extend_from_slice(&(key.len() as u32).to_le_bytes());
            to.extend_from_slice(&len_of(value));
            to.extend_from_slice(key);
            to.extend_from_slice(value.as_deref().unwrap_or_default());
        }
        let total = (to.len() - start) as u32;
        to[start..start + 4].copy_from_slice(&total.to_le_bytes());
    }
}

/// A transform to test: inputs `input`, outputs `output`, no settings.
pub fn case<T: Transform>() -> Case<T> {
    Case { settings: Vec::new(), inputs: vec!["input".into()], outputs: vec!["output".into()], transform: PhantomData }
}

/// The surroundings of a transform under test.
#[derive(Debug, Clone)]
#[must_use]
pub struct Case<T> {
    settings: Vec<(String, String)>,
    inputs: Vec<String>,
    outputs: Vec<String>,
    transform: PhantomData<T>,
}

impl<T: Transform> Case<T> {
    /// One more setting.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Other input topics.
    pub fn inputs<'a>(mut self, topics: impl IntoIterator<Item = &'a str>) -> Self {
        self.inputs = topics.into_iter().map(str::to_owned).collect();
        self
    }

    /// Other output topics, the default one first.
    pub fn outputs<'a>(mut self, topics: impl IntoIterator<Item = &'a str>) -> Self {
        self.outputs = topics.into_iter().map(str::to_owned).collect();
        self
    }

    /// Configures the transform; returns it, or its objection to its settings.
    pub fn configure(&self) -> Result<T, String> {
        T::configure(&Settings::new(self.settings.clone()), &self.topics())
    }

    /// Configures the transform and runs the records through it.
    ///
    /// # Panics
    /// If `configure` refuses.
    #[track_caller]
    pub fn run(&self, records: &[Input]) -> Vec<Settled> {
        let mut transform = match self.configure() {
            Ok(transform) => transform,
            Err(error) => panic!("configure refused: {error}"),
        };
        run(&self.topics(), records, |record, out| transform.process(record, out))
    }

    fn topics(&self) -> Topics {
        Topics { inputs: self.inputs.clone(), outputs: self.outputs.clone() }
    }
}

/// Runs the records through a plain function, with input topic `input` and output topic `output`.
pub fn run_fn(
    process: impl FnMut(&Record<'_>, &mut Outputs<'_>) -> Result<Outcome, Reject>,
    records: &[Input],
) -> Vec<Settled> {
    run(&Topics::new(["input"], ["output"]), records, process)
}

/// What happened to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Passed on unchanged.
    Keep,
    /// Dropped.
    Drop,
    /// These were written.
    Emit(Vec<Written>),
    /// Rejected, for this reason.
    Reject(String),
}

/// An output record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The topic's name.
    pub topic: String,
    /// The partition, if one was chosen.
    pub partition: Option<i32>,
    /// Milliseconds since 1970; `None`: the input's.
    pub timestamp_ms: Option<i64>,
    /// `None`: null.
    pub key: Option<Vec<u8>>,
    /// `None`: null.
    pub value: Option<Vec<u8>>,
    /// In order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Written {
    /// The value as text; `None` for a tombstone or if it is not UTF-8.
    pub fn value_text(&self) -> Option<&str> {
        std::str::from_utf8(self.value.as_deref()?).ok()
    }

    /// The value of the last header with this key; `None` if there is none or it is null.
    pub fn header(&self, key: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|(k, _)| k == key.as_bytes())?.1.as_deref()
    }
}

impl Settled {
    /// Whether it was passed on unchanged.
    pub fn is_keep(&self) -> bool {
        *self == Self::Keep
    }

    /// Whether it was dropped.
    pub fn is_drop(&self) -> bool {
        *self == Self::Drop
    }

    /// The reason, if it was rejected.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Reject(reason) => Some(reason),
            _ => None,
        }
    }

    /// What was emitted; nothing for other outcomes.
    pub fn outputs(&self) -> &[Written] {
        match self {
            Self::Emit(outputs) => outputs,
            _ => &[],
        }
    }

    /// The one record that was emitted.
    ///
    /// # Panics
    /// For any other outcome.
    #[track_caller]
    pub fn only_output(&self) -> &Written {
        match self.outputs() {
            [output] => output,
            _ => panic!("expected one output, got {self:?}"),
        }
    }
}

thread_local! {
    static HANDED_OVER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Stands in for the host: records are run one at a time, so a flush has nothing to take.
struct Native;

impl Sink for Native {
    fn window(_: &[u8], _: &[u8]) -> u64 {
        0
    }
    fn flush() {}
    fn commit(_: u32, outcome: &[u8]) {
        HANDED_OVER.with_borrow_mut(|bytes| bytes.extend_from_slice(outcome));
    }
}

fn run(
    topics: &Topics,
    records: &[Input],
    mut process: impl FnMut(&Record<'_>, &mut Outputs<'_>) -> Result<Outcome, Reject>,
) -> Vec<Settled> {
    let mut window = Window::new::<Native>(false);
    let one = |record: &Input| {
        let mut frame = Vec::new();
        record.frame(&mut frame);
        HANDED_OVER.with_borrow_mut(Vec::clear);
        batch::run(&frame, topics, &mut window, &mut process);
        let large = HANDED_OVER.take();
        settled(topics, if large.is_empty() { window.bytes() } else { &large })
    };
    records.iter().map(one).collect()
}

fn settled(topics: &Topics, outcome: &[u8]) -> Settled {
    let (head, bytes) = outcome.split_at(4);
    let kind = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) & 3;
    match kind {
        KEEP => Settled::Keep,
        EMIT if bytes.is_empty() => Settled::Drop,
        EMIT => Settled::Emit(written(topics, bytes)),
        _ => Settled::Reject(String::from_utf8_lossy(bytes).into_owned()),
    }
}

/// Decodes frames that this crate wrote.
fn written(topics: &Topics, mut bytes: &[u8]) -> Vec<Written> {
    let mut outputs = Vec::new();
    while let Some(head) = bytes.first_chunk::<HEAD>() {
        let (frame, rest) = bytes.split_at(i32_in(head, 0) as usize);
        let parts = field(&frame[HEAD..], i32_in(head, 12))
            .and_then(|(key, rest)| field(rest, i32_in(head, 24)).map(|(value, headers)| (key, value, headers)));
        let Some((key, value, headers)) = parts else { break };
        let (partition, timestamp_ms) = (i32_in(head, 8), i64_in(head, 16));
        let header_count = i32_in(head, 28) as u32;
        debug_assert_eq!(Headers::new(headers, u32::MAX).count(), header_count as usize, "all headers are counted");
        outputs.push(Written {
            topic: topics.outputs[i32_in(head, 4) as usize].clone(),
            partition: (partition >= 0).then_some(partition),
            timestamp_ms: (timestamp_ms >= 0).then_some(timestamp_ms),
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            headers: Headers::new(headers, header_count)
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        });
        bytes = rest;
    }
    outputs
}
