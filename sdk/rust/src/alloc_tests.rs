//! The allocator over a system that remembers every block, checks every layout, and can run out of memory.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The system's allocator, watched.
struct Watched {
    live: RefCell<BTreeMap<usize, Layout>>,
    bytes: Cell<usize>,
    limit: Cell<usize>,
}

impl Watched {
    fn grants(&self, bytes: usize) -> bool {
        self.bytes.get() + bytes <= self.limit.get()
    }

    fn note(&self, at: *mut u8, layout: Layout) {
        self.bytes.set(self.bytes.get() + layout.size());
        assert!(self.live.borrow_mut().insert(at.addr(), layout).is_none());
    }

    fn forget(&self, at: *mut u8, layout: Layout) {
        self.bytes.set(self.bytes.get() - layout.size());
        assert_eq!(self.live.borrow_mut().remove(&at.addr()), Some(layout), "freed with another layout, or not live");
    }

    fn blocks(&self) -> usize {
        self.live.borrow().len()
    }
}

// SAFETY: `System`, with bookkeeping.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !self.grants(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: as the caller promises.
        let at = unsafe { System.alloc(layout) };
        self.note(at, layout);
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        self.forget(at, layout);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) };
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.grants(size.saturating_sub(layout.size())) {
            return ptr::null_mut();
        }
        self.forget(at, layout);
        // SAFETY: as the caller promises.
        let new = unsafe { System.realloc(at, layout, size) };
        self.note(new, Layout::from_size_align(size, layout.align()).unwrap());
        new
    }
}

fn classes() -> Classes<Watched> {
    let limit = Cell::new(usize::MAX);
    Classes::over(Watched { live: RefCell::default(), bytes: Cell::new(0), limit })
}

/// What a user of the allocator holds: a block full of one byte.
struct Held {
    at: *mut u8,
    layout: Layout,
    fill: u8,
}

impl Held {
    fn new(classes: &Classes<Watched>, bytes: usize, align: usize, fill: u8) -> Self {
        let layout = Layout::from_size_align(bytes, align).unwrap();
        // SAFETY: not zero bytes.
        let held = Self { at: unsafe { classes.alloc(layout) }, layout, fill };
        held.checked().filled(0)
    }

    fn checked(self) -> Self {
        assert!(!self.at.is_null());
        assert!(self.at.addr().is_multiple_of(self.layout.align()), "{:?} at {:?}", self.layout, self.at);
        self
    }

    /// Writes everything from `start` on.
    fn filled(self, start: usize) -> Self {
        // SAFETY: within the block.
        unsafe { self.at.add(start).write_bytes(self.fill, self.layout.size() - start) };
        self
    }

    fn is_intact(&self, bytes: usize) -> bool {
        // SAFETY: within the block, and written.
        let content = unsafe { std::slice::from_raw_parts(self.at, bytes) };
        content.iter().all(|byte| *byte == self.fill)
    }

    fn resize(self, classes: &Classes<Watched>, bytes: usize) -> Self {
        let before = self.layout.size();
        // SAFETY: held, and not zero bytes.
        let at = unsafe { classes.realloc(self.at, self.layout, bytes) };
        let layout = Layout::from_size_align(bytes, self.layout.align()).unwrap();
        let held = Self { at, layout, ..self }.checked();
        assert!(held.is_intact(before.min(bytes)), "{before} to {bytes} bytes");
        held.filled(before.min(bytes))
    }

    fn free(self, classes: &Classes<Watched>) {
        assert!(self.is_intact(self.layout.size()));
        // SAFETY: held.
        unsafe { classes.dealloc(self.at, self.layout) };
    }
}

#[test]
fn each_size_has_the_smallest_class_that_holds_it() {
    let mut sizes = vec![class(0).1];
    for bytes in 0..=LARGEST {
        let (number, size) = class(bytes);
        if size != sizes[sizes.len() - 1] {
            sizes.push(size);
        }
        assert_eq!(number, sizes.len() - 1, "{bytes} bytes: classes are numbered without gaps");
        assert!(size >= bytes.max(size_of::<Idle>()), "{bytes} bytes in {size}");
        assert!(number == 0 || sizes[number - 1] < bytes, "{bytes} bytes: not the smallest");
        assert!(size - bytes < 16 || (size - bytes) * 5 <= size, "{bytes} bytes waste {}", size - bytes);
    }
    assert_eq!(sizes.len(), CLASSES);
    assert_eq!(sizes[CLASSES - 1], LARGEST);
}

#[test]
fn all_alignments_are_honoured() {
    let classes = classes();
    let mut held = Vec::new();
    for align in [1, 2, 4, 8, 16, 32, 64, 4096] {
        for bytes in [1, 3, 8, 12, 13, 24, 100, 128, 129, 1000, 5000, LARGEST, LARGEST + 1] {
            held.push(Held::new(&classes, bytes, align, 7));
        }
    }
    held.into_iter().for_each(|block| block.free(&classes));
}

#[test]
fn what_is_freed_is_given_out_again() {
    let classes = classes();
    let first = Held::new(&classes, 100, 1, 1);
    let (at, other) = (first.at, Held::new(&classes, 100, 1, 2));
    first.free(&classes);
    // 100 and 104 bytes are of one class, 200 of another
    let (large, again) = (Held::new(&classes, 200, 8, 3), Held::new(&classes, 104, 8, 4));
    assert_eq!(again.at, at);
    assert_ne!(large.at, at);
    assert_eq!(classes.system.blocks(), 3);
    [other, large, again].into_iter().for_each(|block| block.free(&classes));
    assert_eq!(classes.system.blocks(), 3, "they are idle, not gone");
}

#[test]
fn growing_and_shrinking_within_a_class_does_not_move() {
    let classes = classes();
    let block = Held::new(&classes, 130, 8, 9);
    let at = block.at;
    let block = block.resize(&classes, 160).resize(&classes, 131);
    assert_eq!(block.at, at);
    block.free(&classes);
}

#[test]
fn growing_and_shrinking_over_all_borders_keeps_what_is_there() {
    let classes = classes();
    let mut block = Held::new(&classes, 1, 8, 9);
    let sizes: Vec<usize> = (0..17).map(|log| 1 << log).flat_map(|size| [size, size + 1, size + size / 2]).collect();
    for bytes in sizes.iter().chain(sizes.iter().rev()) {
        block = block.resize(&classes, *bytes);
    }
    block.free(&classes);
    let mut block = Held::new(&classes, 10, 64, 9);
    for bytes in [70_000, 20, 40_000, 300] {
        block = block.resize(&classes, bytes);
    }
    block.free(&classes);
}

#[test]
fn large_and_overaligned_objects_go_to_the_system_as_they_are() {
    let classes = classes();
    let (large, wide) = (Held::new(&classes, LARGEST + 1, 8, 1), Held::new(&classes, 24, 32, 2));
    let live = classes.system.live.borrow().clone();
    assert_eq!(live, BTreeMap::from([(large.at.addr(), large.layout), (wide.at.addr(), wide.layout)]));
    [large, wide].into_iter().for_each(|block| block.free(&classes));
    assert_eq!(classes.system.blocks(), 0);
}

#[test]
fn zeroed_memory_is_zero_though_it_was_used() {
    let classes = classes();
    for bytes in [40, 4_000, LARGEST + 1] {
        let used = Held::new(&classes, bytes, 8, 0xff);
        let layout = used.layout;
        used.free(&classes);
        // SAFETY: not zero bytes.
        let zeroed = Held { at: unsafe { classes.alloc_zeroed(layout) }, layout, fill: 0 };
        assert!(zeroed.is_intact(bytes));
        zeroed.free(&classes);
    }
}

/// WASI's libc frees lists whose memory came from here.
#[test]
fn every_block_is_one_of_the_systems() {
    let classes = classes();
    for bytes in [1, 33, 128, 3_000, LARGEST] {
        let held = Held::new(&classes, bytes, 1, 1);
        // SAFETY: what `free` does, to a block that nobody holds afterwards.
        unsafe { classes.system.dealloc(held.at, block(class(bytes).1)) };
    }
    assert_eq!(classes.system.blocks(), 0);
}

#[test]
fn when_memory_runs_out_idle_blocks_change_their_class() {
    let classes = classes();
    classes.system.limit.set(110_000);
    let small: Vec<Held> = (0..1_000).map(|_| Held::new(&classes, 92, 8, 1)).collect();
    small.into_iter().for_each(|block| block.free(&classes));
    assert_eq!(classes.system.blocks(), 1_000);
    let large = Held::new(&classes, 60_000, 8, 2);
    assert_eq!(classes.system.blocks(), 1);
    let middle = Held::new(&classes, 20_000, 8, 3);
    middle.free(&classes);
    let large = large.resize(&classes, 90_000);
    let layout = Layout::from_size_align(20_000, 8).unwrap();
    // SAFETY: not zero bytes.
    assert!(unsafe { classes.alloc(layout) }.is_null(), "there is nothing left to give back");
    // SAFETY: held.
    assert!(unsafe { classes.realloc(large.at, large.layout, 30_000) }.is_null());
    large.free(&classes);
}

#[derive(Debug, Clone)]
enum Step {
    Take { bytes: usize, align: usize },
    Resize { which: prop::sample::Index, bytes: usize },
    Free { which: prop::sample::Index },
    GiveBack,
}

fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![8 => 1..200_usize, 4 => 1..5_000_usize, 2 => 30_000..36_000_usize, 1 => 1..200_000_usize]
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        8 => (bytes(), 0..7_u32).prop_map(|(bytes, log)| Step::Take { bytes, align: 1 << log }),
        6 => (index(), bytes()).prop_map(|(which, bytes)| Step::Resize { which, bytes }),
        7 => index().prop_map(|which| Step::Free { which }),
        1 => Just(Step::GiveBack),
    ]
}

proptest! {
    /// Against a model that only knows what it wrote where: no block overlaps another, none loses its bytes, the system
    /// gets back what it gave.
    #[test]
    fn no_block_is_given_out_twice_and_none_is_lost(steps in prop::collection::vec(step(), 1..300)) {
        let classes = classes();
        let mut held: Vec<Held> = Vec::new();
        for (fill, step) in steps.into_iter().enumerate() {
            match step {
                Step::Take { bytes, align } => held.push(Held::new(&classes, bytes, align, fill as u8)),
                Step::Resize { which, bytes } if !held.is_empty() => {
                    let block = held.swap_remove(which.index(held.len()));
                    held.push(block.resize(&classes, bytes));
                }
                Step::Free { which } if !held.is_empty() => held.swap_remove(which.index(held.len())).free(&classes),
                Step::GiveBack => {
                    classes.give_back();
                    prop_assert_eq!(classes.system.blocks(), held.len());
                }
                Step::Resize { .. } | Step::Free { .. } => {}
            }
        }
        held.into_iter().for_each(|block| block.free(&classes));
        classes.give_back();
        prop_assert_eq!(classes.system.blocks(), 0);
    }
}
