//! Bounds on memory. libFuzzer's own limit on single allocations needs a sanitizer; this one counts what Rust allocates,
//! and is exact.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn took(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
    PEAK.fetch_max(live, Relaxed);
}

// SAFETY: everything is the system allocator's; counting touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        took(bytes);
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

/// Does `work`, which never holds more than `times` its input and a little, and keeps nothing.
///
/// What is made once (a table, a thread's random numbers) is kept by the first run; so only what a second run keeps as
/// well has leaked.
pub fn bounded(input_bytes: usize, times: usize, work: impl Fn()) {
    const A_LITTLE: usize = 64 * 1024;
    for is_last in [false, true] {
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        work();
        let held = PEAK.load(Relaxed) - before;
        assert!(held <= input_bytes * times + A_LITTLE, "{input_bytes} bytes of input held {held} bytes");
        if LIVE.load(Relaxed) == before {
            return;
        }
        assert!(!is_last, "{} bytes were kept", LIVE.load(Relaxed) - before);
    }
}
