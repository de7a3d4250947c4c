//! Properties of frames: what is encoded comes back; what is not a frame is never taken for one, and never panics.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { topics: 3, outputs: 8, output_bytes: 1 << 16 };

/// An output that owns its parts.
#[derive(Debug, Clone, PartialEq)]
struct Owned {
    topic: u32,
    partition: Option<i32>,
    timestamp_ms: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Owned {
    fn encode(&self, to: &mut Vec<u8>) {
        let headers = self.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() });
        encode_output(
            to,
            NewOutput {
                topic: self.topic,
                partition: self.partition.unwrap_or(-1),
                timestamp_ms: self.timestamp_ms.unwrap_or(INHERIT),
                key: self.key.as_deref(),
                value: self.value.as_deref(),
                headers,
                header_count: u32::try_from(self.headers.len()).unwrap(),
            },
        );
    }

    fn of(output: OutputRecord<'_>) -> Self {
        Self {
            topic: output.topic,
            partition: output.partition,
            timestamp_ms: output.timestamp_ms,
            key: output.key.map(<[u8]>::to_vec),
            value: output.value.map(<[u8]>::to_vec),
            headers: output.headers().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

prop_compose! {
    fn owned()(
        topic in 0..RULES.topics,
        partition in option::of(0..i32::MAX),
        timestamp_ms in option::of(0..i64::MAX),
        key in option::of(bytes()),
        value in option::of(bytes()),
        headers in vec((bytes(), option::of(bytes())), 0..5),
    ) -> Owned {
        Owned { topic, partition, timestamp_ms, key, value, headers }
    }
}

fn encode(outputs: &[Owned]) -> Vec<u8> {
    let mut frames = Vec::new();
    outputs.iter().for_each(|output| output.encode(&mut frames));
    frames
}

/// A walk that trusts nothing: the sum of what was found must be all that there was.
fn accounts_for_all(outputs: Outputs<'_>) {
    let header = |h: Header<'_>| HEADER_HEAD + h.key.len() + h.value.map_or(0, <[u8]>::len);
    let of = |o: OutputRecord<'_>| {
        assert_eq!(o.headers().count(), o.header_count());
        let fields = o.key.map_or(0, <[u8]>::len) + o.value.map_or(0, <[u8]>::len);
        OUTPUT_HEAD + fields + o.headers().map(header).sum::<usize>()
    };
    assert_eq!(outputs.iter().map(of).sum::<usize>(), outputs.bytes());
    assert_eq!(outputs.iter().count(), outputs.len());
    for output in outputs.iter() {
        assert!(output.topic < RULES.topics);
        assert!(output.partition.is_none_or(|partition| partition >= 0));
        assert!(output.timestamp_ms.is_none_or(|timestamp| timestamp >= 0));
    }
}

proptest! {
    #[test]
    fn outputs_come_back(outputs in vec(owned(), 0..8)) {
        let frames = encode(&outputs);
        let checked = Outputs { frames: &frames, count: check_outputs(&frames, &RULES).unwrap() };
        let back: Vec<Owned> = checked.iter().map(Owned::of).collect();
        prop_assert_eq!(back, outputs);
        accounts_for_all(checked);
    }

    #[test]
    fn arbitrary_bytes_are_judged_without_panic(bytes in vec(any::<u8>(), 0..400), kind in 0..4u32) {
        if let Ok(Settled::Emit(outputs)) = judge(kind, &bytes, &RULES) {
            accounts_for_all(outputs);
        }
        let mut rest = bytes.as_slice();
        while let Some((_, outcome)) = split_outcome(&mut rest) {
            prop_assert!(outcome.len() <= bytes.len());
        }
        prop_assert!(reason(&bytes).len() <= REASON_BYTES);
    }

    /// Nearly right is the hard case: one changed byte, wherever it is.
    #[test]
    fn a_changed_byte_is_refused_or_accounted_for(
        outputs in vec(owned(), 1..4), at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let mut frames = encode(&outputs);
        let at = at.index(frames.len());
        frames[at] = to;
        if let Ok(count) = check_outputs(&frames, &RULES) {
            let checked = Outputs { frames: &frames, count };
            accounts_for_all(checked);
        }
    }

    #[test]
    fn a_length_that_lies_is_refused(output in owned(), field in prop::sample::select(vec![0usize, 12, 24, 28]), lie in any::<u32>()) {
        let mut frame = encode(std::slice::from_ref(&output));
        let truth = u32_at(&frame, field).unwrap();
        prop_assume!(truth != lie);
        frame[field..field + 4].copy_from_slice(&lie.to_le_bytes());
        // one field alone cannot lie: the lengths must add up to the frame
        let null_for_empty = matches!((field, truth, lie), (12 | 24, 0, u32::MAX) | (12 | 24, u32::MAX, 0));
        prop_assert_eq!(check_outputs(&frame, &RULES).is_ok(), null_for_empty);
    }

    #[test]
    fn cut_short_is_refused(outputs in vec(owned(), 1..4), cut in any::<prop::sample::Index>()) {
        let frames = encode(&outputs);
        let ends: Vec<usize> = outputs.iter().scan(0, |at, output| {
            *at += encode(std::slice::from_ref(output)).len();
            Some(*at)
        }).collect();
        let cut = cut.index(frames.len());
        let whole = cut == 0 || ends.contains(&cut);
        prop_assert_eq!(check_outputs(&frames[..cut], &RULES).is_ok(), whole);
    }

    #[test]
    fn input_frames_have_the_length_they_say(
        key in option::of(bytes()), value in option::of(bytes()), headers in vec((bytes(), option::of(bytes())), 0..5),
    ) {
        let headers: Vec<_> = headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let record = Record {
            topic: 1, partition: 2, offset: 3, timestamp_ms: 4,
            key: key.as_deref(), value: value.as_deref(), headers: &headers,
        };
        let len = input_len(&record).unwrap();
        // What was there before is longer, or shorter.
        for mut frames in [vec![7; 2_000], Vec::new()] {
            encode_inputs(&mut frames, &[record, record], 2 * len).unwrap();
            prop_assert_eq!(u32_at(&frames, 0), Some(u32::try_from(len).unwrap()));
            prop_assert_eq!(&frames[..len], &frames[len..2 * len]);
            prop_assert!(frames[2 * len..].iter().all(|byte| *byte == 7));
            for wrong in [2 * len - 1, 2 * len + 1, 0] {
                prop_assert_eq!(encode_inputs(&mut frames, &[record, record], wrong), None);
            }
        }
    }
}

#[test]
fn limits_and_grants_are_named() {
    let code = |outputs: &[Owned]| check_outputs(&encode(outputs), &RULES).unwrap_err().code;
    let plain = Owned { topic: 0, partition: None, timestamp_ms: None, key: None, value: None, headers: vec![] };
    assert_eq!(code(&vec![plain.clone(); 9]), FaultCode::OutputTooMany);
    assert_eq!(code(&[Owned { value: Some(vec![0; 1 << 16]), ..plain.clone() }]), FaultCode::OutputTooLarge);
    assert_eq!(code(&[Owned { topic: 3, ..plain.clone() }]), FaultCode::OutputTopic);
    assert_eq!(code(&[Owned { partition: Some(-2), ..plain.clone() }]), FaultCode::Contract);
    assert_eq!(code(&[Owned { timestamp_ms: Some(-2), ..plain.clone() }]), FaultCode::Contract);
    let reserved = vec![(b"pelton.error.code".to_vec(), None)];
    assert_eq!(code(&[Owned { headers: reserved, ..plain }]), FaultCode::OutputHeader);
}

#[test]
fn outcomes_are_told_by_their_kind() {
    assert!(matches!(judge(0, b"", &RULES), Ok(Settled::Keep)));
    assert!(matches!(judge(1, b"", &RULES), Ok(Settled::Drop)));
    assert!(matches!(judge(2, b"why", &RULES), Ok(Settled::Reject("why"))));
    assert!(judge(0, b"x", &RULES).is_err());
    assert!(judge(3, b"", &RULES).is_err());
}

#[test]
fn bytes_after_the_headers_are_refused() {
    let header = |key: &[u8]| (key.to_vec(), Some(b"v".to_vec()));
    let mut bytes = encode(&[Owned { headers: vec![header(b"a"), header(b"b")], ..one() }]);
    assert_eq!(check_outputs(&bytes, &RULES), Ok(1));
    for fewer in [1, 0] {
        bytes[28] = fewer;
        assert_eq!(check_outputs(&bytes, &RULES).unwrap_err().code, FaultCode::Contract, "{fewer} of 2 headers");
    }
}

#[test]
fn the_limit_of_bytes_may_be_reached() {
    let bytes = encode(&[one()]);
    let rules = |output_bytes| Rules { output_bytes: output_bytes as u32, ..RULES };
    assert_eq!(check_outputs(&bytes, &rules(bytes.len())), Ok(1));
    assert_eq!(check_outputs(&bytes, &rules(bytes.len() - 1)).unwrap_err().code, FaultCode::OutputTooLarge);
}

#[test]
fn a_timestamp_may_be_unknown_but_not_before_1970() {
    let code = |timestamp_ms| {
        let bytes = encode(&[Owned { timestamp_ms: Some(timestamp_ms), ..one() }]);
        check_outputs(&bytes, &RULES).map(|_| ()).map_err(|fault| fault.code)
    };
    for known in [-1, 0, 1, i64::MAX, INHERIT] {
        assert_eq!(code(known), Ok(()), "{known}");
    }
    for unknown in [-2, i64::MIN + 1] {
        assert_eq!(code(unknown), Err(FaultCode::Contract), "{unknown}");
    }
}

fn one() -> Owned {
    Owned { topic: 0, partition: None, timestamp_ms: None, key: None, value: Some(b"v".to_vec()), headers: Vec::new() }
}
