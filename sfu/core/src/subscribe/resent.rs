//! When packets were last resent, so that an impatient client does not fill a queue with copies of them.
//!
//! A libwebrtc receiver that does not know its round trip time asks again every 100 ms. Behind a queue of 300 ms it asks four times
//! before the answer to the first request can have come, and each answer makes the queue longer. libwebrtc's own senders resend a
//! packet once in a round trip for that reason (`rtp_packet_history.cc`). Where nothing is queued a second copy costs little and
//! helps where the first one is lost too, so there none is refused.
//!
//! Invariant: what was forgotten may be resent.

use std::time::{Duration, Instant};

/// Packets that are remembered; the oldest one makes room. A client asks for as many in half a second.
const ENTRIES: usize = 64;

/// A number on the wire, and when its packet was resent.
type Entry = (u16, Instant);

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Resent {
    /// None until something is resent.
    entries: Option<Box<[Option<Entry>; ENTRIES]>>,
    next: usize,
}

impl Resent {
    /// The packet was resent within this time.
    #[must_use]
    pub fn is_recent(&self, wire: u16, within: Duration, now: Instant) -> bool {
        let Some(entries) = self.entries.as_deref().filter(|_| !within.is_zero()) else { return false };
        let is_it = |&(number, at): &Entry| number == wire && now.saturating_duration_since(at) < within;
        entries.iter().flatten().any(is_it)
    }

    /// The packet is resent now.
    pub fn note(&mut self, wire: u16, now: Instant) {
        let entries = self.entries.get_or_insert_with(|| Box::new([None; ENTRIES]));
        entries[self.next % ENTRIES] = Some((wire, now));
        self.next = (self.next + 1) % ENTRIES;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_packet_is_recent_for_as_long_as_is_asked() {
        let (mut resent, now) = (Resent::default(), Instant::now());
        assert!(!resent.is_recent(7, 100 * MS, now));
        resent.note(7, now);
        assert!(resent.is_recent(7, 100 * MS, now + 99 * MS) && !resent.is_recent(7, 100 * MS, now + 100 * MS));
        assert!(!resent.is_recent(8, 100 * MS, now) && !resent.is_recent(7, Duration::ZERO, now));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let (mut resent, now) = (Resent::default(), Instant::now());
        (0..=64).for_each(|wire| resent.note(wire, now));
        assert!(!resent.is_recent(0, MS, now));
        assert!((1..=64).all(|wire| resent.is_recent(wire, MS, now)));
    }
}
