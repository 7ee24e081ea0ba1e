//! Between congestion control of a subscriber's transport and what is sent there.

use std::time::Instant;

use sfu_api::ParticipantId;

use crate::bandwidth::{Demand, Estimate};
use crate::ids::PeerKey;
use crate::shard::Shard;

impl Shard {
    /// After anything that may have changed a transport's estimate: whoever divides it up is told if it did.
    pub(crate) fn bandwidth_changed(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(estimate) = peer.bandwidth.take_change() else { return };
        tracing::trace!(?estimate, "downlink");
        self.allocation_due(key, now);
    }

    /// What the way to a participant carries. None: nothing is known of it, and nothing limits it.
    #[must_use]
    pub fn estimate(&self, id: ParticipantId) -> Option<Estimate> {
        let key = self.participant(id).ok()?;
        self.peers.get(self.participants.get(key)?.downlink()?)?.bandwidth.estimate()
    }

    /// What would be sent to a participant if the way carried it. It may start a probe.
    pub fn set_demand(&mut self, id: ParticipantId, demand: Demand, now: Instant) {
        let Some(key) = self.participant(id).ok().and_then(|key| self.participants.get(key)?.downlink()) else { return };
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.bandwidth.set_demand(demand);
        self.bandwidth_changed(key, now);
    }
}
