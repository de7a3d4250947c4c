//! Output frames, right and wrong.

pub const KEEP: u32 = 0;
const EMIT: u32 = 1;
const REJECT: u32 = 2;
const INHERIT: i64 = i64::MIN;

/// What an output frame says; the lengths are what it claims, the bytes what is there.
pub struct Frame<'a> {
    total: Option<u32>,
    topic: u32,
    partition: i32,
    timestamp: i64,
    key_len: i32,
    value_len: i32,
    header_count: u32,
    key: &'a [u8],
    value: &'a [u8],
    headers: Vec<u8>,
}

impl<'a> Frame<'a> {
    /// An honest one, without a key.
    pub fn of(value: &'a [u8]) -> Self {
        Self {
            total: None,
            topic: 0,
            partition: -1,
            timestamp: INHERIT,
            key_len: -1,
            value_len: value.len() as i32,
            header_count: 0,
            key: &[],
            value,
            headers: Vec::new(),
        }
    }

    fn header(mut self, key_len: u32, value_len: i32, bytes: &[u8]) -> Self {
        self.header_count += 1;
        self.headers.extend_from_slice(&key_len.to_le_bytes());
        self.headers.extend_from_slice(&value_len.to_le_bytes());
        self.headers.extend_from_slice(bytes);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let length = 32 + self.key.len() + self.value.len() + self.headers.len();
        let mut frame = Vec::with_capacity(length);
        frame.extend_from_slice(&self.total.unwrap_or(length as u32).to_le_bytes());
        frame.extend_from_slice(&self.topic.to_le_bytes());
        frame.extend_from_slice(&self.partition.to_le_bytes());
        frame.extend_from_slice(&self.key_len.to_le_bytes());
        frame.extend_from_slice(&self.timestamp.to_le_bytes());
        frame.extend_from_slice(&self.value_len.to_le_bytes());
        frame.extend_from_slice(&self.header_count.to_le_bytes());
        for part in [self.key, self.value, &self.headers] {
            frame.extend_from_slice(part);
        }
        frame
    }
}

pub fn outcome(kind: u32, bytes: &[u8]) -> Vec<u8> {
    let mut outcome = ((bytes.len() as u32) << 2 | kind).to_le_bytes().to_vec();
    outcome.extend_from_slice(bytes);
    outcome
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The outcome of this name, if it is one; most are false.
pub fn lie(name: &str) -> Option<Vec<u8>> {
    let honest = || Frame::of(b"value");
    let emit = |frame: Frame<'_>| Some(outcome(EMIT, &frame.bytes()));
    match name {
        "unknown kind" => Some(outcome(3, &[])),
        "keep with bytes" => Some(outcome(KEEP, b"xxxx")),
        "outcome past the window" => Some((u32::MAX << 2 | EMIT).to_le_bytes().to_vec()),
        "reason not text" => Some(outcome(REJECT, b"half \xff text")),
        "reason of a megabyte" => Some(outcome(REJECT, &vec![b'x'; 1 << 20])),
        "half a frame" => Some(outcome(EMIT, &honest().bytes()[..20])),
        "frame of zeros" => Some(outcome(EMIT, &[0; 64])),
        "total short" => emit(Frame { total: Some(31), ..honest() }),
        "total past the end" => emit(Frame { total: Some(38), ..honest() }),
        "total huge" => emit(Frame { total: Some(u32::MAX), ..honest() }),
        "key length negative" => emit(Frame { key_len: -2, ..honest() }),
        "key length smallest" => emit(Frame { key_len: i32::MIN, ..honest() }),
        "key past the end" => emit(Frame { key_len: 6, ..honest() }),
        "key huge" => emit(Frame { key_len: i32::MAX, ..honest() }),
        "key over value" => emit(Frame { key_len: 3, ..honest() }),
        "value length negative" => emit(Frame { value_len: -2, ..honest() }),
        "value past the end" => emit(Frame { value_len: 6, ..honest() }),
        "value huge" => emit(Frame { value_len: i32::MAX, ..honest() }),
        "bytes after headers" => emit(Frame { value_len: 4, ..honest() }),
        "headers promised" => emit(Frame { header_count: 1, ..honest() }),
        "headers by the billion" => emit(Frame { header_count: u32::MAX, ..honest() }),
        "header key huge" => emit(honest().header(u32::MAX, -1, b"k")),
        "header key past the end" => emit(honest().header(2, -1, b"k")),
        "header value negative" => emit(honest().header(1, -2, b"k")),
        "header value past the end" => emit(honest().header(1, 2, b"kv")),
        "header reserved" => emit(honest().header(14, -1, b"__dlq.errors.x")),
        "header not text" => emit(honest().header(3, 1, b"\xff\xfe\x00v")),
        "frames overlap" => {
            let mut two = Frame { total: Some(37 + 16), ..honest() }.bytes();
            two.extend_from_slice(&honest().bytes());
            Some(outcome(EMIT, &two))
        }
        "second frame cut" => {
            let mut two = honest().bytes();
            two.extend_from_slice(&honest().bytes()[..36]);
            Some(outcome(EMIT, &two))
        }
        "topic not granted" => emit(Frame { topic: 7, ..honest() }),
        "topic huge" => emit(Frame { topic: u32::MAX, ..honest() }),
        "partition negative" => emit(Frame { partition: -7, ..honest() }),
        "partition smallest" => emit(Frame { partition: i32::MIN, ..honest() }),
        "timestamp negative" => emit(Frame { timestamp: -7, ..honest() }),
        _ => None,
    }
}
