//! No allocation for a record in a steady state: a batch costs as many however many records it has. Counts what this
//! thread allocates in Rust; what librdkafka takes for a record that it queues is its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use pelton_integration::guest;
use pelton_integration::rig::{Compiled, Rig, batch};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

fn note() {
    // A thread that ends has none any more.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: hands everything on to the system's allocator.
#[allow(unsafe_code, reason = "an allocator is unsafe")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise, here and below.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of a batch of so many records with so many headers, after some of the same kind.
fn of_batch(module: &Compiled, settings: &[(&str, &str)], (records, headers): (usize, usize)) -> u64 {
    let mut rig = Rig::new(module, settings).unwrap();
    let mut batch = batch(records, 300, headers);
    for _ in 0..5 {
        rig.run(&mut batch).unwrap();
    }
    let before = COUNT.get();
    rig.run(&mut batch).unwrap();
    let count = COUNT.get() - before;
    assert_eq!(rig.outputs(), 6 * records as u64);
    count
}

#[test]
fn the_counter_counts() {
    let before = COUNT.get();
    let boxes: Vec<Box<u8>> = (0..9).map(Box::new).collect();
    assert_eq!((COUNT.get() - before, boxes.len()), (10, 9));
}

#[test]
fn a_batch_allocates_as_much_whatever_its_size() {
    let module = Compiled::new(&guest::module("identity")).unwrap();
    for (what, settings) in [("kept", [].as_slice()), ("emitted", &[("copy", "true")])] {
        for headers in [0, 4] {
            let [small, large] = [8, 128].map(|records| of_batch(&module, settings, (records, headers)));
            eprintln!("{what}, {headers} headers: {small} allocations for 8 records, {large} for 128");
            assert_eq!(small, large, "{what}, {headers} headers");
            assert!(large <= 64, "{what}, {headers} headers: {large}");
        }
    }
}
