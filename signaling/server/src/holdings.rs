//! What clients make this process hold beside what each of them has a bound of its own for: many times a little is much.
//!
//! In: how many bytes are to be held, and what of. Out: [`Held`], which lets go when it is dropped, or nothing: then whoever wanted to
//! have them held is refused, with the code `overloaded` or `unavailable`, and comes again.
//! Invariant: what is held of a kind has at most its bound. Counted is what is on the wire: decoded it may take several times as much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::{IntCounter, IntGauge};

use crate::config::ServerLimits;
use crate::metrics::Metrics;

/// Everything that has a bound for all clients together. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Holdings {
    /// Messages of more than [`LARGE_BYTES`] that are not written yet: what newcomers are told of large rooms.
    pub(crate) messages: Holding,
    /// Frames that wait for their place with the signaling loop.
    pub(crate) frames: Holding,
    /// Bodies of more than [`LARGE_BYTES`] of requests that are not answered yet.
    pub(crate) bodies: Holding,
}

/// Messages and bodies up to this size are not counted: their number is bounded, and who asks for little is not to be refused because
/// of those who ask for much.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

/// One kind.
#[derive(Clone)]
pub(crate) struct Holding(Arc<Kind>);

struct Kind {
    limit: usize,
    held: AtomicUsize,
    gauge: IntGauge,
    refusals: IntCounter,
}

/// Bytes that are held.
pub(crate) struct Held {
    of: Holding,
    bytes: usize,
}

impl Holdings {
    pub(crate) fn new(limits: &ServerLimits, metrics: &Metrics) -> Self {
        let holding = |what, limit| {
            let (gauge, refusals) = metrics.holding(what);
            Holding(Arc::new(Kind { limit, held: AtomicUsize::new(0), gauge, refusals }))
        };
        let [messages, frames, bodies] = KINDS;
        Self {
            messages: holding(messages, limits.all_large_messages_bytes),
            frames: holding(frames, limits.all_waiting_frames_bytes),
            bodies: holding(bodies, limits.all_request_bodies_bytes),
        }
    }
}

/// Words for metrics.
pub(crate) const KINDS: [&str; 3] = ["messages", "frames", "bodies"];

impl Holding {
    /// None: there is no room for so many bytes more, and that is counted.
    pub(crate) fn take(&self, bytes: usize) -> Option<Held> {
        let mut held = Held { of: self.clone(), bytes: 0 };
        held.grow(bytes).then_some(held)
    }
}

impl Held {
    /// So many bytes more; false: there is no room for them.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let kind = &*self.of.0;
        let add = |held: usize| held.checked_add(bytes).filter(|held| *held <= kind.limit);
        let is_held = kind.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok();
        if is_held {
            self.bytes += bytes;
            kind.gauge.add(signed(bytes));
        } else {
            kind.refusals.inc();
        }
        is_held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.0.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.of.0.gauge.sub(signed(self.bytes));
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn holdings(limit: usize) -> Holdings {
        let limits = ServerLimits { all_large_messages_bytes: limit, all_waiting_frames_bytes: limit, ..ServerLimits::default() };
        Holdings::new(&limits, &Metrics::register(&prometheus::Registry::new()).unwrap())
    }

    #[test]
    fn what_is_let_go_makes_room_for_others() {
        let Holdings { messages, frames, .. } = holdings(100);
        let first = messages.take(60).unwrap();
        assert!(messages.take(41).is_none() && frames.take(100).is_some(), "each kind has its own");
        let second = messages.take(40).unwrap();
        assert_eq!((messages.0.gauge.get(), messages.0.refusals.get()), (100, 1));
        drop(first);
        assert!(messages.take(60).is_some());
        drop(second);
        assert_eq!(messages.0.gauge.get(), 0);
    }

    #[test]
    fn what_could_not_grow_keeps_what_it_had() {
        let Holdings { messages, .. } = holdings(100);
        let mut held = messages.take(0).unwrap();
        assert!(held.grow(80) && !held.grow(21) && held.grow(20) && !held.grow(usize::MAX));
        drop(held);
        assert!(messages.take(100).is_some());
    }
}
