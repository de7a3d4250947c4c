//! W3C Trace Context, level 1: reading and writing the header `traceparent`, and how far `tracestate` is carried along.
//! Anybody may have written the headers: every length and byte is checked, and what does not follow the recommendation
//! is not a context.

use std::fmt;

/// Header names, as Kafka's instrumentations write them.
pub const TRACEPARENT: &[u8] = b"traceparent";
pub const TRACESTATE: &[u8] = b"tracestate";
/// The bytes of version 00: `00-<trace id>-<span id>-<flags>`.
pub const LENGTH: usize = 55;
/// The recommendation obliges to so many bytes of `tracestate`; longer ones are not taken along.
pub const STATE_MAX: usize = 512;

const SAMPLED: u8 = 1;

/// Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

/// What a record says about the trace that it is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Context {
    pub trace: TraceId,
    /// The span that wrote the record.
    pub span: SpanId,
    pub flags: u8,
}

impl TraceId {
    /// `None`: zero, which is no id.
    pub fn new(id: u128) -> Option<Self> {
        (id != 0).then_some(TraceId(id))
    }

    pub fn random(random: &mut fastrand::Rng) -> Self {
        TraceId(random.u128(1..))
    }

    pub fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// By which traces are sampled: the last eight bytes.
    pub fn low(self) -> u64 {
        self.0 as u64
    }
}

impl SpanId {
    /// `None`: zero, which is no id.
    pub fn new(id: u64) -> Option<Self> {
        (id != 0).then_some(SpanId(id))
    }

    pub fn random(random: &mut fastrand::Rng) -> Self {
        SpanId(random.u64(1..))
    }

    pub fn bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }
}

impl Context {
    /// `None`: it is none. Versions to come are read as the recommendation says: as far as version 00 goes.
    pub fn parse(header: &[u8]) -> Option<Self> {
        let (head, rest) = header.split_at_checked(LENGTH)?;
        let version = hex(&head[..2])?;
        match (version, rest) {
            (0xff, _) => return None,
            (0, [_, ..]) => return None,
            (_, [after, ..]) if *after != b'-' => return None,
            _ => {}
        }
        if [head[2], head[35], head[52]] != [b'-'; 3] {
            return None;
        }
        let trace = TraceId::new(u128::from(hex(&head[3..19])?) << 64 | u128::from(hex(&head[19..35])?))?;
        let span = SpanId::new(hex(&head[36..52])?)?;
        Some(Context { trace, span, flags: hex(&head[53..])? as u8 })
    }

    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// As a header's value, of version 00. Of the flags this writer knows one.
    pub fn header(&self) -> [u8; LENGTH] {
        let mut header = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace.bytes(), &mut header[3..35]);
        write_hex(&self.span.bytes(), &mut header[36..52]);
        write_hex(&[self.flags & SAMPLED], &mut header[53..]);
        header
    }

    /// The same trace, one span further, followed.
    pub fn child(trace: TraceId, span: SpanId) -> Self {
        Context { trace, span, flags: SAMPLED }
    }
}

/// Lower case alone: the recommendation knows no other. At most 16 digits.
fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number: u64, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(digit))
    })
}

fn write_hex(bytes: &[u8], into: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(into.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_recommendation_s_example_is_read_and_written() {
        let context = Context::parse(GIVEN.as_bytes()).unwrap();
        assert_eq!(context.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.span.to_string(), "b7ad6b7169203331");
        assert!(context.is_sampled());
        assert_eq!(context.header(), GIVEN.as_bytes());
    }

    #[test]
    fn what_is_not_as_the_recommendation_says_is_no_context() {
        let with = |at: usize, text: &str| {
            let mut header = GIVEN.to_owned();
            header.replace_range(at..at + text.len(), text);
            Context::parse(header.as_bytes())
        };
        assert!(with(0, "ff").is_none(), "a version that cannot be");
        assert!(with(0, "0g").is_none());
        assert!(with(3, "0AF7").is_none(), "upper case");
        assert!(with(3, &"0".repeat(32)).is_none(), "no trace");
        assert!(with(36, &"0".repeat(16)).is_none(), "no span");
        assert!(with(53, "0x").is_none());
        for dash in [2, 35, 52] {
            assert!(with(dash, "_").is_none(), "{dash}");
        }
        assert!(Context::parse(format!("{GIVEN}-x").as_bytes()).is_none(), "version 00 has an end");
        assert!(Context::parse(&GIVEN.as_bytes()[..54]).is_none());
        assert!(Context::parse(b"").is_none());
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        let later = format!("cc{}-more-to-come", &GIVEN[2..]);
        let context = Context::parse(later.as_bytes()).unwrap();
        assert_eq!(context.header(), GIVEN.as_bytes(), "and written as the version that is known");
        assert!(Context::parse(format!("cc{}", &GIVEN[2..]).as_bytes()).is_some());
        assert!(Context::parse(format!("cc{}.x", &GIVEN[2..]).as_bytes()).is_none());
        let flags = format!("{}ff", &GIVEN[..53]);
        assert_eq!(
            Context::parse(flags.as_bytes()).unwrap().header(),
            GIVEN.as_bytes(),
            "unknown flags are not passed on"
        );
        let unsampled = format!("{}fe", &GIVEN[..53]);
        assert!(!Context::parse(unsampled.as_bytes()).unwrap().is_sampled());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1u128.., span in 1u64.., flags in 0u8..2) {
            let context = Context { trace: TraceId(trace), span: SpanId(span), flags };
            prop_assert_eq!(Context::parse(&context.header()), Some(context));
        }

        #[test]
        fn no_bytes_at_all_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(context) = Context::parse(&bytes) {
                prop_assert!(context.header().len() == LENGTH);
            }
        }

        /// Near misses: one byte of a good one is another.
        #[test]
        fn one_wrong_byte_is_noticed_or_is_another_context(at in 0usize..LENGTH, byte: u8) {
            let mut header = GIVEN.as_bytes().to_vec();
            header[at] = byte;
            if let Some(context) = Context::parse(&header) {
                prop_assert!(byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte) || byte == b'-', "{}", byte);
                prop_assert_eq!(&context.header()[3..53], &header[3..53]);
            }
        }
    }
}
