//! What clients make this process hold beside what each of them has a bound of its own for: many times a little is much.
//!
//! In: how many bytes are to be held, what of and for which address. Out: [`Held`], which lets go when it is dropped, or nothing: then
//! whoever wanted to have them held is refused, a request with 503 `unavailable`, a connection that is open with 1013 `overloaded`.
//! Invariants: what is held of a kind for those who ask has at most its bound, and for one address (IPv6: one /64) at most a
//! [`SHARES`]th of it or one thing. What members are told counts once for all of them, and is refused to nobody: each queue has a bound
//! of its own.
//! Counted is what is on the wire: decoded it may take several times as much.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::{IntCounter, IntGauge};

use crate::config::ServerLimits;
use crate::metrics::Metrics;
use crate::proxy::limit_key;

/// Everything that has a bound for all clients together. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Holdings {
    /// Messages of more than [`LARGE_BYTES`] that are not written yet: what newcomers are told of large rooms, and large changes.
    pub(crate) messages: Holding,
    /// Frames of more than [`LARGE_FRAME_BYTES`] that wait for their place with the signaling loop.
    pub(crate) frames: Holding,
    /// Bodies of more than [`LARGE_BYTES`] of requests that are not answered yet.
    pub(crate) bodies: Holding,
}

/// Messages and bodies up to this size are not counted: their number is bounded, and who asks for little is not to be refused because
/// of those who ask for much.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;
/// The same of frames, of which there is one for each connection: all of `max_connections` together 80 MB.
pub(crate) const LARGE_FRAME_BYTES: usize = 4 * 1024;
/// No address has more than this part of a kind, so that a few clients can't take it from everybody. One thing at a time it always
/// has, as long as there is room for it.
const SHARES: usize = 4;

/// One kind.
#[derive(Clone)]
pub(crate) struct Holding(Arc<Kind>);

struct Kind {
    limit: usize,
    held: Mutex<Tally>,
    gauge: IntGauge,
    refusals: IntCounter,
}

#[derive(Default)]
struct Tally {
    all: usize,
    /// Of those that have some.
    by_address: HashMap<IpAddr, usize>,
}

/// What one address may have of a kind.
#[derive(Clone)]
pub(crate) struct Share {
    of: Holding,
    address: IpAddr,
}

/// As much is held as may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoRoom;

/// Bytes that are held.
pub(crate) struct Held {
    of: Holding,
    /// None: for many.
    address: Option<IpAddr>,
    bytes: usize,
}

impl Holdings {
    pub(crate) fn new(limits: &ServerLimits, metrics: &Metrics) -> Self {
        let holding = |what, limit| {
            let (gauge, refusals) = metrics.holding(what);
            Holding(Arc::new(Kind { limit, held: Mutex::default(), gauge, refusals }))
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
    /// For what is held for clients of this address.
    pub(crate) fn share_of(&self, address: IpAddr) -> Share {
        Share { of: self.clone(), address: limit_key(address) }
    }

    /// What is held once for one member or many, whether there is room for it or not.
    pub(crate) fn keep(&self, bytes: usize) -> Held {
        self.0.tally().all += bytes;
        self.0.gauge.add(signed(bytes));
        Held { of: self.clone(), address: None, bytes }
    }
}

impl Share {
    /// Of what is large; what is not is not counted.
    pub(crate) fn take_large(&self, bytes: usize) -> Result<Option<Held>, NoRoom> {
        if bytes <= LARGE_BYTES { Ok(None) } else { self.take(bytes).map(Some).ok_or(NoRoom) }
    }

    /// None: there is no room for so many bytes more, and that is counted.
    pub(crate) fn take(&self, bytes: usize) -> Option<Held> {
        let mut held = Held { of: self.of.clone(), address: Some(self.address), bytes: 0 };
        held.grow(bytes).then_some(held)
    }
}

impl Kind {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// So many bytes more; false: there is no room for them.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let kind = &*self.of.0;
        let mut tally = kind.tally();
        let own = self.address.and_then(|address| tally.by_address.get(&address).copied()).unwrap_or_default();
        let is_alone = own == self.bytes;
        let fits = |held: usize, limit: usize| held.checked_add(bytes).is_some_and(|held| held <= limit);
        if !fits(tally.all, kind.limit) || !(is_alone || fits(own, kind.limit / SHARES)) {
            kind.refusals.inc();
            return false;
        }
        tally.all += bytes;
        if let Some(address) = self.address {
            tally.by_address.insert(address, own + bytes);
        }
        self.bytes += bytes;
        kind.gauge.add(signed(bytes));
        true
    }

    /// As many bytes as it turned out to be; false: there is no room for them.
    pub(crate) fn resize(&mut self, bytes: usize) -> bool {
        if let Some(more) = bytes.checked_sub(self.bytes) {
            return self.grow(more);
        }
        self.shrink(self.bytes - bytes);
        true
    }

    fn shrink(&mut self, bytes: usize) {
        let kind = &*self.of.0;
        let mut tally = kind.tally();
        tally.all -= bytes;
        if let Some(address) = self.address
            && let Some(own) = tally.by_address.get_mut(&address)
        {
            *own -= bytes;
            if *own == 0 {
                tally.by_address.remove(&address);
            }
        }
        self.bytes -= bytes;
        kind.gauge.sub(signed(bytes));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shrink(self.bytes);
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

    fn share(holding: &Holding, last: u8) -> Share {
        holding.share_of(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn what_is_let_go_makes_room_for_others() {
        let Holdings { messages, frames, .. } = holdings(100);
        let first = share(&messages, 1).take(60).unwrap();
        let other = share(&messages, 2);
        assert!(other.take(41).is_none() && share(&frames, 2).take(100).is_some(), "each kind has its own");
        let second = other.take(40).unwrap();
        assert_eq!((messages.0.gauge.get(), messages.0.refusals.get()), (100, 1));
        drop(first);
        assert!(share(&messages, 1).take(60).is_some());
        drop(second);
        assert_eq!((messages.0.gauge.get(), messages.0.tally().by_address.len()), (0, 0));
    }

    #[test]
    fn what_could_not_grow_keeps_what_it_had() {
        let Holdings { messages, .. } = holdings(100);
        let mut held = share(&messages, 1).take(0).unwrap();
        assert!(held.grow(80) && !held.grow(21) && held.grow(20) && !held.grow(usize::MAX));
        assert!(held.resize(50) && !held.resize(101) && held.resize(60));
        assert!(share(&messages, 2).take(41).is_none() && share(&messages, 2).take(40).is_some());
        drop(held);
        assert!(share(&messages, 1).take(100).is_some());
    }

    #[test]
    fn an_address_has_its_share_and_one_thing_however_large() {
        let Holdings { messages, .. } = holdings(100);
        let (one, other) = (share(&messages, 1), share(&messages, 2));
        let few: Vec<_> = std::iter::from_fn(|| one.take(10)).collect();
        assert_eq!(few.len(), 2, "a quarter");
        let large = other.take(80).expect("it has nothing else");
        assert!(other.take(1).is_none() && share(&messages, 3).take(1).is_none());
        drop(few);
        assert!(other.take(1).is_none(), "beside it nothing");
        drop(large);
        assert!(other.take(1).is_some());
    }

    #[test]
    fn what_is_told_to_many_counts_once_and_is_not_refused() {
        let Holdings { messages, .. } = holdings(100);
        let kept = [messages.keep(90), messages.keep(90)];
        assert_eq!((messages.0.gauge.get(), messages.0.refusals.get()), (180, 0));
        assert!(share(&messages, 1).take(1).is_none());
        drop(kept);
        assert!(share(&messages, 1).take(100).is_some());
    }
}
