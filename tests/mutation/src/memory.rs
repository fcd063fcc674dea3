//! How much memory a piece of work holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Bytes that this thread has taken and not given back. Below 0 where it gives back what another one took.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The highest that was since the last look.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, with a look at what each thread holds. For `#[global_allocator]` of a test or a fuzz target.
#[derive(Debug)]
pub struct Meter;

// SAFETY: each call is the system allocator's own, with the arguments that came; counting touches no allocated memory and
// allocates none: the cells are constants at first, and need no drop.
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        gave(layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What a panic takes to say where it was is none of the decoder's.
fn took(bytes: usize) {
    if std::thread::panicking() {
        return;
    }
    HELD.with(|held| {
        held.set(held.get().wrapping_add_unsigned(bytes));
        PEAK.with(|peak| peak.set(peak.get().max(held.get())));
    });
}

fn gave(bytes: usize) {
    if std::thread::panicking() {
        return;
    }
    HELD.with(|held| held.set(held.get().wrapping_sub_unsigned(bytes)));
}

/// Runs `work`; what it gave, and the most bytes that this thread held for it at a time. These are 0 where [`Meter`] is not
/// the global allocator.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let done = work();
    (done, usize::try_from(PEAK.get() - before).unwrap_or(0))
}
