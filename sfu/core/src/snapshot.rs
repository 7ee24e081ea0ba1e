//! What a shard tells about itself once a second: plain values, no ids of rooms or people.

use sfu_api::MediaKind;

use crate::egress::Forwarded;
use crate::error::DiscardCounters;
use crate::rtp::payload::dependency_descriptor::Layer;
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

/// Live video subscriptions by what they get. Sizes are those of the ladder that the selector chooses from: the encodings of
/// simulcast or the spatial layers of SVC, smallest first; what is beyond the last place counts there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LayerUsage {
    /// By size.
    pub sizes: [usize; 4],
    /// By temporal layer; the last place are those without a limit.
    pub temporal: [usize; 4],
}

impl LayerUsage {
    fn count(&mut self, encoding: usize, layer: Layer, is_simulcast: bool) {
        // Without SVC nothing is known of a spatial layer, and there is one.
        let spatial = if layer.spatial == u8::MAX { 0 } else { usize::from(layer.spatial) };
        let size = if is_simulcast { encoding } else { spatial };
        self.sizes[size.min(3)] += 1;
        self.temporal[usize::from(layer.temporal).min(3)] += 1;
    }
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
    /// What live video subscriptions get.
    pub layers_current: LayerUsage,
    /// What they should get.
    pub layers_wanted: LayerUsage,
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
        let (mut layers_current, mut layers_wanted) = (LayerUsage::default(), LayerUsage::default());
        for down in shard.downs.values() {
            let Some(up) = shard.ups.get(down.up).filter(|up| up.kind() == MediaKind::Video) else { continue };
            let Some((encoding, layer)) = down.flowing() else { continue };
            layers_current.count(encoding, layer, up.is_simulcast());
            if let Some(target) = down.target {
                layers_wanted.count(target.encoding, target.layer, up.is_simulcast());
            }
        }
        Self {
            layers_current,
            layers_wanted,
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
