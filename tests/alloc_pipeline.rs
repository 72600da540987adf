//! Counts allocations on the whole hot path of a warm shard: from the socket's bytes through inflate, envelope,
//! shard machine, framing and outbox to the confirm. Plain WebSocket: with TLS, rustls allocates a vector per
//! record, which is several events. What zlib-ng and zstd allocate in C is not seen here; they do so when a
//! connection begins.

#[path = "../benches/support/feed.rs"]
mod feed;
#[path = "../benches/support/trace.rs"]
mod trace;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rateway::relay::Outbox;
use rateway::relay::task::Scratch;
use rateway::stream::Compression;
use trace::Trace;

struct Counting;

thread_local! {
    // Per thread, so that the test harness does not disturb the count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is being torn down has no counter any more.
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_shard_allocates_nothing_per_event() {
    for compression in [Compression::None, Compression::Zlib, Compression::Zstd] {
        let trace = Trace::record(6000, compression);
        let start = trace::start_of_time();
        let mut scratch = Scratch::default();
        let mut task = trace::connect(&trace, 0, 0, 0, trace::turn(start, 0), &mut scratch);
        let mut outbox = Outbox::new(64 << 20);
        let (mut at, mut before, mut warm_events) = (0, None, 0);
        while at < trace.events.len() {
            // Small pieces, as a socket gives them at a low rate: buffers must not be made anew for each.
            let piece = &trace.events[at..trace.events.len().min(at + 3000)];
            if before.is_none() && at > trace.events.len() / 2 {
                before = Some(ALLOCATIONS.get());
                warm_events = outbox.stats.confirmed;
            }
            at += feed::feed(&mut task, piece, trace::turn(start, 1), &mut scratch, &mut outbox);
        }
        let allocations = ALLOCATIONS.get() - before.expect("the trace is long enough");
        assert_eq!(outbox.stats.confirmed, trace.count);
        assert!(trace.json_bytes / trace.count > 300, "the events are too small to mean anything");
        let events = outbox.stats.confirmed - warm_events;
        assert!(events > 1000, "{events} events were measured");
        assert_eq!(allocations, 0, "{compression}: {allocations} allocations for {events} events");
    }
}
