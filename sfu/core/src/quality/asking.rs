//! Asks clients of whom nothing else is heard, or whose distance nothing else tells, with a check of ICE: every full agent answers (RFC
//! 8445 section 7.3).
//!
//! Who only sends gets nothing of which it could report how long it took; who only waits sends a check each 2.5 s, and reports on audio
//! come each 5 s. An answer is a sign of life and a round trip time.
//! Bounds: a check for each participant with a look, and of an answer nothing follows that media would not say as well.

use std::time::{Duration, Instant};

use super::LOOK;
use crate::ids::PeerKey;
use crate::peer::Peer;
use crate::shard::Shard;

/// A round trip time is known for so long: two looks and a little more.
const KNOWN_FOR: Duration = Duration::from_millis(2_500);

impl Peer {
    /// The client has shown how far away it is.
    pub(crate) fn is_as_far_as(&mut self, round_trip: Duration, now: Instant) {
        self.rtt = Some(round_trip);
        self.rtt_at = Some(now);
    }

    fn is_distance_known(&self, now: Instant) -> bool {
        self.rtt_at.is_some_and(|at| now.saturating_duration_since(at) < KNOWN_FOR)
    }
}

impl Shard {
    /// With each look at a participant, whose transports these are: asks on one of them, if nobody says what an answer would.
    pub(super) fn ask_if_needed(&mut self, sides: [Option<PeerKey>; 2], silent_for: Duration, is_distance_known: bool, now: Instant) {
        let mut peers = sides.into_iter().flatten().filter_map(|key| self.peers.get(key));
        if silent_for < LOOK && (is_distance_known || peers.any(|peer| peer.is_distance_known(now))) {
            return;
        }
        let is_reached = |key: &PeerKey| self.peers.get(*key).is_some_and(|peer| peer.transport.selected().is_some());
        let Some(peer) = sides.into_iter().flatten().find(is_reached).and_then(|key| self.peers.get_mut(key)) else { return };
        if let Some(flow) = peer.transport.selected() {
            // One that is not sent is made up for by the next look.
            let _ = peer.transport.probe(now, flow, &mut self.rng, &mut self.egress.outbox);
        }
    }
}
