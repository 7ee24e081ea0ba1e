//! Signaling makes room for media where both share a core.
//!
//! What waits for a message is one person, what waits for a packet is a room. A lower priority alone does not do it: Linux lets a
//! thread run for the rest of its slice (a millisecond and more) before one that woke up gets the core, and telling a large room
//! of those who came takes several slices in a row. So the threads of signaling offer the core by themselves every [`STRETCH`].
//! Where nobody else wants it, an offer is a system call that returns at once. It is not made more often, because whoever offers has
//! to wait for longer where the core is wanted all the time.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Longest work between two offers, about.
const STRETCH: Duration = Duration::from_micros(200);

thread_local! {
    static OFFERED_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// To be called between two pieces of work that each take some microseconds.
pub(crate) fn give_way() {
    OFFERED_AT.with(|offered_at| {
        if offered_at.get().is_none_or(|at| at.elapsed() >= STRETCH) {
            std::thread::yield_now();
            offered_at.set(Some(Instant::now()));
        }
    });
}
