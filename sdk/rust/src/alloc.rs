//! The guest's allocator: free lists by size class, over the system's allocator. Fuel is charged for what an allocator
//! does, and a transform mostly allocates small objects that live for one record, so a free list, which takes a dozen
//! instructions where `malloc` takes hundreds, saves about 10 % of a JSON transform. Rust tells `dealloc` the size, so
//! blocks need no header and nothing is searched.
//!
//! Promises: every block comes from the system's allocator on its own, with room for all of its class. So it may be
//! freed there as well: WASI's libc does that to lists that the host returned to it, whose memory `cabi_realloc` took
//! from here. (A block carved out of a larger one would corrupt libc's heap at the first `std::env::var`.) For the same
//! reason all idle blocks can be given back when memory runs out, which is when they move between classes.
//!
//! Objects over 32 KiB or aligned to more than 16 bytes are left entirely to the system. One of two files of this crate
//! with `unsafe`.
#![allow(unsafe_code, reason = "a global allocator deals in raw memory")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::fmt;
use std::ptr;

/// Alignment of every block; objects that need more are left to the system.
const ALIGN: usize = 16;
/// The largest object of a class.
const LARGEST: usize = 32 << 10;
/// What `malloc` puts before a block. Small classes are this much short of a multiple of 16, so that no byte is wasted.
const HEADER: usize = size_of::<usize>();
/// Up to here classes are 16 bytes apart; above there are four to a doubling, so that at most a fifth is lost.
const SMALL: usize = 128 - HEADER;
const CLASSES: usize = 41;

/// An idle block, which holds the next of its list.
struct Idle {
    next: *mut Idle,
}

/// The allocator. `A` is the system's, except in tests.
pub struct Classes<A = System> {
    idle: UnsafeCell<[*mut Idle; CLASSES]>,
    system: A,
}

// SAFETY: there is one thread, as wasm without the atomics proposal has no others.
#[cfg(all(target_family = "wasm", not(target_feature = "atomics")))]
unsafe impl Sync for Classes {}

/// The smallest class that holds `bytes`, which are at most `LARGEST`: its number and the bytes of its blocks.
#[inline]
const fn class(bytes: usize) -> (usize, usize) {
    if bytes <= SMALL {
        let steps = (bytes + HEADER).div_ceil(16);
        return (steps - 1, steps * 16 - HEADER);
    }
    let last = bytes - 1;
    let log = last.ilog2() as usize;
    // The upper three bits, 4 to 7. The first class here is that of 7 << 4, number 8.
    let quarter = last >> (log - 2);
    (log * 4 + quarter - 23, (quarter + 1) << (log - 2))
}

/// The object's class, unless it is left to the system.
#[inline]
const fn class_of(bytes: usize, align: usize) -> Option<(usize, usize)> {
    if bytes > LARGEST || align > ALIGN { None } else { Some(class(bytes)) }
}

/// The layout with which a block of `size` bytes (a class's) is requested from the system.
#[inline]
const fn block(size: usize) -> Layout {
    // SAFETY: a power of two; rounded up to it, a class's size is at most `LARGEST`.
    unsafe { Layout::from_size_align_unchecked(size, ALIGN) }
}

impl<A> Classes<A> {
    /// Without idle blocks yet.
    pub const fn over(system: A) -> Self {
        Self { idle: UnsafeCell::new([ptr::null_mut(); CLASSES]), system }
    }

    /// The head of a class's list.
    #[inline]
    fn list(&self, class: usize) -> *mut *mut Idle {
        debug_assert!(class < CLASSES);
        // SAFETY: `class` is less than `CLASSES`, as `class()` gives no other (a test tries all sizes).
        unsafe { self.idle.get().cast::<*mut Idle>().add(class) }
    }

    /// Takes an idle block of the class, if there is one.
    #[inline]
    fn pop(&self, class: usize) -> Option<*mut u8> {
        let list = self.list(class);
        // SAFETY: lists are touched by one thread (`Sync` only where there is one), and no reference to them outlives
        // a line. What is on a list is a block that nobody else holds, whose first word `push` wrote.
        unsafe {
            let head = *list;
            if head.is_null() {
                return None;
            }
            *list = (*head).next;
            Some(head.cast())
        }
    }

    /// Puts a block of the class on its list.
    ///
    /// # Safety
    /// `block` has the class's size and alignment, and is the caller's to give.
    #[inline]
    unsafe fn push(&self, class: usize, block: *mut u8) {
        let (list, idle) = (self.list(class), block.cast::<Idle>());
        // SAFETY: as in `pop`; a block holds a pointer, being of 12 bytes or more (8 where a pointer has 8).
        unsafe {
            idle.write(Idle { next: *list });
            *list = idle;
        }
    }
}

impl<A: GlobalAlloc> Classes<A> {
    /// Asks the system, and asks again after giving back what is idle.
    #[cold]
    #[inline(never)]
    fn ask(&self, of_system: impl Fn(&A) -> *mut u8) -> *mut u8 {
        let block = of_system(&self.system);
        if block.is_null() && self.give_back() { of_system(&self.system) } else { block }
    }

    /// Returns all idle blocks to the system; says whether there were any.
    fn give_back(&self) -> bool {
        let mut any = false;
        let mut bytes = 0;
        while bytes < LARGEST {
            let (number, size) = class(bytes + 1);
            while let Some(idle) = self.pop(number) {
                // SAFETY: a block of this class is nobody's, and was allocated with this layout.
                unsafe { self.system.dealloc(idle, block(size)) };
                any = true;
            }
            bytes = size;
        }
        any
    }
}

// SAFETY: blocks of a class are given out to one owner at a time, from the system or from the list on which their last
// owner put them, and have at least the size and alignment asked for. Which of the two ways a block goes depends on its
// layout alone, so `dealloc` and `realloc` take the way of `alloc`. Nothing here panics or allocates.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Classes<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(layout.size(), layout.align()) {
            // SAFETY: the size of a class is not zero.
            Some((class, size)) => self.pop(class).unwrap_or_else(|| self.ask(|a| unsafe { a.alloc(block(size)) })),
            // SAFETY: the caller's contract is the system's.
            None => self.ask(|a| unsafe { a.alloc(layout) }),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        match class_of(layout.size(), layout.align()) {
            // SAFETY: it was allocated with this layout, so it is of this class.
            Some((class, _)) => unsafe { self.push(class, at) },
            // SAFETY: the caller's contract is the system's.
            None => unsafe { self.system.dealloc(at, layout) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class_of(layout.size(), layout.align()).is_none() {
            // SAFETY: the caller's contract is the system's, which may know that fresh memory is zero.
            return self.ask(|a| unsafe { a.alloc_zeroed(layout) });
        }
        // SAFETY: the caller's contract is that of `alloc`, and what it returns has the layout's size.
        unsafe {
            let at = self.alloc(layout);
            if !at.is_null() {
                at.write_bytes(0, layout.size());
            }
            at
        }
    }

    #[inline]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match (class_of(layout.size(), layout.align()), class_of(size, layout.align())) {
            (Some((old, _)), Some((new, _))) if old == new => at,
            // SAFETY: the caller's contract is the system's. Where it fails, the block is untouched.
            (None, None) => self.ask(|a| unsafe { a.realloc(at, layout, size) }),
            // SAFETY: the caller says that `size` makes a layout. Both blocks have as many bytes as are copied, and the
            // new one is nobody else's; the old one is given up only where there is a new one.
            _ => unsafe {
                let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
                if !new.is_null() {
                    ptr::copy_nonoverlapping(at, new, layout.size().min(size));
                    self.dealloc(at, layout);
                }
                new
            },
        }
    }
}

impl<A> fmt::Debug for Classes<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Classes").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "alloc_tests.rs"]
mod tests;
