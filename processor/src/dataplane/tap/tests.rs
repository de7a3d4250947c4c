//! A tap shows what it is asked for, within its bounds, and is closed when nobody listens.

use super::*;
use pelton_kafka::{Batch, OwnedMessage};
use pelton_sandbox::{Fault, FaultCode};

fn message(offset: i64, size: usize) -> OwnedMessage {
    OwnedMessage {
        partition: (offset % 2) as i32,
        offset,
        key: Some(b"k".to_vec()),
        value: Some(vec![b'v'; size]),
        headers: vec![(b"h".to_vec(), None)],
        ..OwnedMessage::default()
    }
}

/// Shows so many records, of 10 bytes each.
fn show(tap: &Tap, count: i64, settled: &Settled<'_>, now: Instant) {
    let mut batch = Batch::new();
    (0..count).for_each(|offset| batch.push_owned(0, message(offset, 10)));
    for message in batch.iter() {
        let seen = Seen { generation: 3, topic: &"in".into(), outputs: &[], message: &message, settled };
        tap.show(&seen, now);
    }
}

fn all(listening: &mut Listening) -> Vec<Tapped> {
    std::iter::from_fn(|| listening.records.try_recv().ok()).collect()
}

#[test]
fn it_is_open_as_long_as_somebody_listens() {
    let tap: Arc<Tap> = Arc::default();
    assert!(!tap.is_open());
    let mut first = tap.listen(Choice::default());
    let second = tap.listen(Choice::default());
    assert!(tap.is_open());
    drop(second);
    assert!(tap.is_open(), "the first still listens");
    show(&tap, 1, &Settled::Keep, Instant::now());
    let seen = all(&mut first);
    assert_eq!((seen.len(), seen[0].generation, seen[0].offset, &seen[0].said), (1, 3, 0, &Said::Keep));
    assert_eq!(seen[0].before.key.as_ref().unwrap().bytes, b"k");
    assert_eq!(seen[0].before.headers.len(), 1);
    drop(first);
    assert!(!tap.is_open());
}

#[test]
fn a_listener_gets_what_it_chose() {
    let tap: Arc<Tap> = Arc::default();
    let mut of_one = tap.listen(Choice { partition: Some(1), failed: false });
    let mut failed = tap.listen(Choice { partition: None, failed: true });
    let now = Instant::now();
    show(&tap, 4, &Settled::Keep, now);
    show(&tap, 1, &Settled::Reject("no"), now);
    let fault = Fault { code: FaultCode::ALL[0], detail: "x".repeat(5_000), backtrace: None };
    show(&tap, 1, &Settled::Fault(Box::new(fault)), now);
    assert_eq!(all(&mut of_one).iter().map(|seen| seen.offset).collect::<Vec<_>>(), [1, 3]);
    let failed = all(&mut failed);
    assert_eq!((failed.len(), &failed[0].said), (2, &Said::Reject("no".into())));
    assert!(matches!(&failed[1].said, Said::Fault(_, detail) if detail.len() == 1024));
}

#[test]
fn what_comes_too_fast_is_dropped_and_counted() {
    let tap: Arc<Tap> = Arc::default();
    let mut listening = tap.listen(Choice::default());
    let now = Instant::now();
    show(&tap, i64::from(PER_SECOND) + 7, &Settled::Drop, now);
    assert_eq!((all(&mut listening).len(), listening.dropped()), (PER_SECOND as usize, 7));
    show(&tap, 5, &Settled::Drop, now + Duration::from_secs(1));
    assert_eq!((all(&mut listening).len(), listening.dropped()), (5, 7), "another second");
    // Nobody takes them: the queue fills up, second by second.
    for second in 2..6 {
        show(&tap, 40, &Settled::Drop, now + Duration::from_secs(second));
    }
    assert_eq!((all(&mut listening).len(), listening.dropped()), (QUEUE, 7 + 160 - QUEUE as u64));
}

#[test]
fn a_worker_does_not_wait_for_another_one() {
    let tap: Arc<Tap> = Arc::default();
    let mut listening = tap.listen(Choice::default());
    let held = tap.listeners.lock().unwrap();
    show(&tap, 3, &Settled::Keep, Instant::now());
    drop(held);
    assert_eq!((all(&mut listening).len(), listening.dropped()), (0, 3));
    assert_eq!(tap.listen(Choice::default()).dropped(), 0, "what was before does not count");
}

#[test]
fn large_records_are_cut() {
    let mut room = Room(RECORD_MAX);
    let large = vec![b'x'; PIECE_MAX + 1];
    let header = Header { key: b"h", value: Some(&large) };
    let content = room.content(Some(b"k"), Some(&large), std::iter::repeat_n(header, HEADERS_MAX * 2));
    let value = content.value.unwrap();
    assert!(value.is_cut());
    assert_eq!((value.bytes.len(), value.length), (PIECE_MAX, PIECE_MAX + 1));
    assert!(!content.key.unwrap().is_cut());
    assert_eq!(content.headers.len(), HEADERS_MAX);
    let copied: usize =
        content.headers.iter().map(|(key, value)| key.bytes.len() + value.as_ref().unwrap().bytes.len()).sum();
    assert_eq!(1 + PIECE_MAX + copied, RECORD_MAX, "all together are bounded");
}
