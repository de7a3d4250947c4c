//! The window and what it asks of its host.

use std::cell::RefCell;

use super::*;
use crate::settings::Topics;
use crate::testing::{Input, input};
use crate::{Outcome, Output, Outputs, Record, Reject};

struct Taker;

impl Sink for Taker {
    fn window(cell: &[u8], buffer: &[u8]) -> u64 {
        assert_eq!((cell.len(), buffer.len()), (8, SIZE));
        assert!(cell.as_ptr().addr().is_multiple_of(8));
        0x1122_3344_5566_7788
    }
    fn flush() {
        SEEN.with_borrow_mut(|seen| seen.push(Event::Flush));
    }
    fn commit(index: u32, outcome: &[u8]) {
        SEEN.with_borrow_mut(|seen| seen.push(Event::Commit(index, outcome.len())));
    }
}

#[derive(Debug, PartialEq)]
enum Event {
    Flush,
    Commit(u32, usize),
}

thread_local! {
    static SEEN: RefCell<Vec<Event>> = const { RefCell::new(Vec::new()) };
}

fn window() -> Window {
    SEEN.take();
    Window::new::<Taker>(true)
}

fn reading(window: &Window) -> (u32, u32) {
    (window.cell.0[0].load(Ordering::Acquire), window.cell.0[1].load(Ordering::Acquire))
}

/// One outcome of `bytes` bytes, its head included.
fn emit(window: &mut Window, bytes: usize) {
    window.begin_record();
    window.room(bytes - 4).extend(std::iter::repeat_n(7, bytes - 4));
    window.settle(EMIT);
}

#[test]
fn the_nonce_is_written_into_the_cell() {
    let window = window();
    assert_eq!(window.cell_bytes(), 0x1122_3344_5566_7788_u64.to_le_bytes());
}

#[test]
fn the_cell_counts_after_the_bytes_are_there() {
    let mut window = window();
    window.begin_batch();
    assert_eq!(reading(&window), (0, 0));
    emit(&mut window, 10);
    assert_eq!(reading(&window), (1, 10));
    window.begin_record();
    window.room(100).extend_from_slice(&[7; 100]);
    assert_eq!(reading(&window), (1, 10), "an outcome under way is not counted");
    window.settle(EMIT);
    assert_eq!(reading(&window), (2, 114));
}

#[test]
fn the_buffer_never_moves() {
    let mut window = window();
    let place = window.buffer.as_ptr();
    window.begin_batch();
    for bytes in [SIZE, 4, SIZE - 4, 5, SIZE + 1, 3 * SIZE, 4, SIZE / 2, SIZE / 2, SIZE / 2] {
        emit(&mut window, bytes);
        assert_eq!((window.buffer.as_ptr(), window.buffer.capacity()), (place, SIZE));
    }
}

#[test]
fn a_full_window_is_flushed_and_the_outcome_under_way_moves_to_its_start() {
    let mut window = window();
    window.begin_batch();
    emit(&mut window, SIZE - 50);
    window.begin_record();
    window.room(20).extend_from_slice(&[1; 20]);
    window.room(60).extend_from_slice(&[2; 60]);
    assert_eq!(*SEEN.take(), [Event::Flush]);
    assert_eq!(reading(&window), (1, 0), "flushed, not yet settled");
    window.settle(EMIT);
    assert_eq!(reading(&window), (2, 84));
    assert_eq!(&window.bytes()[4..24], [1; 20]);
    assert_eq!(&window.bytes()[24..], [2; 60]);
}

#[test]
fn a_head_that_does_not_fit_flushes_too() {
    let mut window = window();
    window.begin_batch();
    emit(&mut window, SIZE - 3);
    emit(&mut window, 10);
    assert_eq!(*SEEN.take(), [Event::Flush]);
    assert_eq!(reading(&window), (2, 10));
}

#[test]
fn an_outcome_larger_than_the_window_is_committed_and_counted() {
    let mut window = window();
    window.begin_batch();
    emit(&mut window, 10);
    window.begin_record();
    window.room(SIZE / 2).extend(std::iter::repeat_n(1, SIZE / 2));
    window.room(SIZE).extend(std::iter::repeat_n(2, SIZE));
    window.settle(EMIT);
    assert_eq!(*SEEN.take(), [Event::Flush, Event::Commit(1, 4 + SIZE / 2 + SIZE)]);
    assert_eq!(reading(&window), (2, 0));
    emit(&mut window, 10);
    assert_eq!(reading(&window), (3, 10));
}

#[test]
fn a_first_outcome_that_is_too_large_needs_no_flush() {
    let mut window = window();
    window.begin_batch();
    emit(&mut window, 2 * SIZE);
    assert_eq!(*SEEN.take(), [Event::Commit(0, 2 * SIZE)]);
}

#[test]
fn what_was_emitted_before_a_rejection_is_forgotten() {
    for emitted in [100, 2 * SIZE] {
        let mut window = window();
        window.begin_batch();
        window.begin_record();
        window.room(emitted).extend(std::iter::repeat_n(1, emitted));
        window.reject(&"é".repeat(1000));
        assert_eq!(reading(&window), (1, 4 + 1024));
        assert_eq!(window.bytes()[..4], (1024u32 << 2 | REJECT).to_le_bytes());
        assert!(SEEN.take().is_empty());
    }
}

fn outputs_of(build: impl for<'a> Fn(Output<'a>) -> Output<'a>, record: &Input) -> crate::testing::Written {
    let process = |record: &Record<'_>, out: &mut Outputs<'_>| -> Result<Outcome, Reject> {
        Ok(out.emit(build(record.output())))
    };
    crate::testing::run_fn(process, std::slice::from_ref(record))[0].only_output().clone()
}

#[test]
fn headers_are_inherited_added_replaced_and_removed() {
    let record = input().header("a", "1").header("b", "2").header("a", "3").null_header("n");
    let names = |build: &dyn for<'a> Fn(Output<'a>) -> Output<'a>| {
        let output = outputs_of(build, &record);
        let name = |(key, _): &(Vec<u8>, _)| String::from_utf8(key.clone()).unwrap();
        output.headers.iter().map(name).collect::<Vec<_>>().join(",")
    };
    assert_eq!(names(&|output| output), "a,b,a,n");
    assert_eq!(names(&|output| output.header("c", b"4")), "a,b,a,n,c");
    assert_eq!(names(&|output| output.replace_header("a", b"4")), "b,n,a");
    assert_eq!(names(&|output| output.header("c", b"4").replace_header("c", b"5")), "a,b,a,n,c");
    assert_eq!(names(&|output| output.without_header("b").header("b", b"5")), "a,a,n,b");
    assert_eq!(names(&|output| output.no_headers()), "");
    assert_eq!(names(&|output| output.header("c", b"4").no_headers().header("d", b"")), "d");
}

#[test]
fn an_output_is_the_input_but_for_what_is_set() {
    let record = input().key("k").value("v").timestamp_ms(7).partition(3);
    let same = outputs_of(|output| output, &record);
    assert_eq!((same.key.as_deref(), same.value_text()), (Some(&b"k"[..]), Some("v")));
    assert_eq!((same.partition, same.timestamp_ms), (None, None));
    let other = outputs_of(|o| o.no_key().tombstone().partition(5).timestamp_ms(9), &record);
    assert_eq!((other.key, other.value, other.partition, other.timestamp_ms), (None, None, Some(5), Some(9)));
}

#[test]
fn a_topic_that_is_not_granted_rejects_with_its_name() {
    let process = |record: &Record<'_>, out: &mut Outputs<'_>| Ok(out.emit(record.output().topic("elsewhere")));
    let settled = crate::testing::run_fn(process, &[input()]);
    assert!(settled[0].reason().unwrap().contains("`elsewhere`"));
}

#[test]
fn emitting_and_then_keeping_is_not_lost_in_silence() {
    let process = |record: &Record<'_>, out: &mut Outputs<'_>| {
        out.emit(record.output());
        Ok(Outcome::Keep)
    };
    assert!(crate::testing::run_fn(process, &[input()])[0].reason().is_some());
}

#[test]
fn a_record_shows_what_it_is() {
    let record = input().topic(1).partition(2).offset(3).key("k").tombstone().header("h", "1").null_header("h");
    let mut seen = 0;
    let process = |record: &Record<'_>, _: &mut Outputs<'_>| {
        assert_eq!((record.topic(), record.partition(), record.offset()), ("", 2, 3));
        assert_eq!((record.key(), record.value(), record.timestamp_ms()), (Some(&b"k"[..]), None, None));
        assert_eq!((record.header("h"), record.header("x")), (Some(None), None));
        assert_eq!(record.headers().count(), 2);
        seen += 1;
        Ok(Outcome::Drop)
    };
    assert!(crate::testing::run_fn(process, &[record])[0].is_drop());
    assert_eq!(seen, 1);
    assert!(Topics::new(["a"], ["b"]).output("a").is_err());
}
