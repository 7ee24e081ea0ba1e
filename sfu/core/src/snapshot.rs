//! What a shard tells about itself once a second: plain values, no ids of rooms or people.

use sfu_api::MediaKind;

use crate::egress::Forwarded;
use crate::error::DiscardCounters;
use crate::shard::Shard;
use crate::transport::srtp::SrtpProfile;

/// Datagrams that were received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Datagrams of all protocols.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Counters since the start, and what exists now.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Rooms.
    pub rooms: usize,
    /// Participants.
    pub participants: usize,
    /// Published audio tracks.
    pub audio_tracks: usize,
    /// Published video tracks.
    pub video_tracks: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Subscriptions through which media flows.
    pub live_subscriptions: usize,
    /// Transports that are up, by SRTP profile in the order of [`SrtpProfile::ALL`].
    pub transports: [usize; SrtpProfile::ALL.len()],
    /// Entries of the timer queue.
    pub deadlines: usize,
    /// What came in.
    pub received: Received,
    /// What was forwarded.
    pub forwarded: Forwarded,
    /// Packets that were resent on NACK.
    pub retransmitted: u64,
    /// What was dropped, by reason.
    pub discards: DiscardCounters,
}

impl Snapshot {
    pub(crate) fn take(shard: &Shard) -> Self {
        let tracks = |kind: MediaKind| shard.ups.values().filter(|up| up.kind() == kind && up.primary.is_none()).count();
        let mut transports = [0; SrtpProfile::ALL.len()];
        for profile in shard.peers.values().filter_map(|peer| peer.profile) {
            transports[profile as usize] += 1;
        }
        Self {
            rooms: shard.rooms.len(),
            participants: shard.participants.len(),
            audio_tracks: tracks(MediaKind::Audio),
            video_tracks: tracks(MediaKind::Video),
            subscriptions: shard.downs.len(),
            live_subscriptions: shard.downs.values().filter(|down| down.flow.live.is_some()).count(),
            transports,
            deadlines: shard.timers.len(),
            received: shard.received,
            forwarded: shard.egress.forwarded,
            retransmitted: shard.retransmitted,
            discards: shard.discards.clone(),
        }
    }
}
