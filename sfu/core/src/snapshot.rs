//! What a shard tells about itself once a second: plain values, no ids of rooms or people.

use sfu_api::MediaKind;

use crate::egress::Forwarded;
use crate::error::DiscardCounters;
use crate::net::{Flow, Protocol};
use crate::rtp::payload::dependency_descriptor::Layer;
use crate::shard::Shard;
use crate::subscribe::stream_state::PauseCause;
use crate::telemetry::totals::Measured;
use crate::transport::DtlsVersion;
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
    /// Transports that are up, by DTLS version in the order of [`DtlsVersion::ALL`].
    pub dtls: [usize; DtlsVersion::ALL.len()],
    /// Transports that are up and have a path, in the order of [`PathKind::ALL`].
    pub paths: [usize; PathKind::ALL.len()],
    /// How often a transport that was up went on by another path.
    pub path_changes: u64,
    /// Datagrams made that are larger than [`MAX_UNFRAGMENTED`](crate::limits::MAX_UNFRAGMENTED).
    pub oversized: u64,
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
    /// What was measured of tracks and transports.
    pub measured: Measured,
    /// Participants that publish something.
    pub publishers: usize,
    /// Of `subscriptions` and `live_subscriptions`, those of audio.
    pub audio_subscriptions: [usize; 2],
    /// Live video subscriptions that are told that they are paused, by cause: stalled, bandwidth.
    pub paused: [usize; 2],
    /// Packets that came from other shards.
    pub relayed: u64,
    /// Frames for other shards that found no room on their way.
    pub relay_dropped: u64,
    /// Publishers of other shards of which something is mirrored here.
    pub guests: usize,
    /// Data tracks that are known here, mirrored ones among them.
    pub data_tracks: usize,
    /// Tracks that every media tick looks at: those of which something comes, or came a moment ago.
    pub awake_tracks: usize,
}

/// What a path is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathKind {
    /// UDP or TCP.
    pub protocol: Protocol,
    /// IPv6, not IPv4.
    pub is_ipv6: bool,
}

impl PathKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [
        Self { protocol: Protocol::Udp, is_ipv6: false },
        Self { protocol: Protocol::Udp, is_ipv6: true },
        Self { protocol: Protocol::Tcp, is_ipv6: false },
        Self { protocol: Protocol::Tcp, is_ipv6: true },
    ];

    fn of(flow: Flow) -> Self {
        Self { protocol: flow.protocol, is_ipv6: flow.remote.is_ipv6() }
    }
}

impl Snapshot {
    pub(crate) fn take(shard: &Shard) -> Self {
        let tracks =
            |kind: MediaKind| shard.ups.values().filter(|up| up.kind() == kind && up.primary.is_none() && !up.crossing.is_mirror()).count();
        let mut transports = [0; SrtpProfile::ALL.len()];
        let mut dtls = [0; DtlsVersion::ALL.len()];
        let mut paths = [0; PathKind::ALL.len()];
        for (profile, peer) in shard.peers.values().filter_map(|peer| Some((peer.profile?, peer))) {
            transports[profile as usize] += 1;
            if let Some(version) = peer.transport.dtls_version() {
                dtls[version as usize] += 1;
            }
            let kind = peer.transport.selected().map(PathKind::of);
            if let Some(index) = PathKind::ALL.iter().position(|&known| Some(known) == kind) {
                paths[index] += 1;
            }
        }
        let (mut layers_current, mut layers_wanted) = (LayerUsage::default(), LayerUsage::default());
        let (mut audio_subscriptions, mut paused) = ([0; 2], [0; 2]);
        for down in shard.downs.values() {
            if shard.ups.get(down.up).is_some_and(|up| up.kind() == MediaKind::Audio) {
                audio_subscriptions[0] += 1;
                audio_subscriptions[1] += usize::from(down.flow.live.is_some());
                continue;
            }
            paused[0] += usize::from(down.stream_state.holds(PauseCause::Stalled));
            paused[1] += usize::from(down.stream_state.holds(PauseCause::Bandwidth));
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
            // A shared room counts where its home is.
            rooms: shard.rooms.values().filter(|room| room.shared.is_home(shard.relay.own)).count(),
            participants: shard.participants.values().filter(|participant| !participant.is_guest).count(),
            audio_tracks: tracks(MediaKind::Audio),
            video_tracks: tracks(MediaKind::Video),
            subscriptions: shard.downs.len(),
            live_subscriptions: shard.downs.values().filter(|down| down.flow.live.is_some()).count(),
            transports,
            dtls,
            paths,
            path_changes: shard.path_changes,
            oversized: shard.egress.outbox.oversized(),
            deadlines: shard.timers.len(),
            received: shard.received,
            forwarded: shard.egress.forwarded,
            retransmitted: shard.retransmitted + shard.egress.pacing.resent,
            discards: shard.discards.clone(),
            measured: shard.telemetry.measured.clone(),
            publishers: shard.participants.values().filter(|participant| !participant.is_guest && !participant.ups.is_empty()).count(),
            audio_subscriptions,
            paused,
            awake_tracks: shard.awake.ups.len(),
            relayed: shard.relay.counts().0,
            relay_dropped: shard.relay.counts().1,
            guests: shard.participants.values().filter(|participant| participant.is_guest).count(),
            data_tracks: shard.data_tracks.len(),
        }
    }
}
