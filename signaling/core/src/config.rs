//! What an operator decides about rooms and sessions. Defaults are LiveKit's where SDKs or users rely on them.

use std::{collections::BTreeMap, time::Duration};

use livekit_protocol as proto;
use signaling_api::RoomConfig;

use crate::relays::Relays;

/// Settings of the signaling core.
#[derive(Clone, PartialEq, Debug)]
pub struct SignalingConfig {
    /// Our own version, for people who read what clients log.
    pub version: String,
    /// Id of this node, shown to clients (`ND_…`).
    pub node_id: String,
    /// Region of this node, may be empty.
    pub region: String,
    /// Where clients can go on, best first: this region and others. Empty: they are told of no other place.
    pub regions: Vec<Region>,
    /// ICE servers handed to every participant.
    pub ice_servers: Vec<proto::IceServer>,
    /// TURN servers, for which every participant gets credentials of its own.
    pub relays: Option<Relays>,
    /// Codecs that may be published, in order of preference (`video/VP8` and so on).
    pub enabled_codecs: Vec<String>,
    /// How often clients ping.
    pub ping_interval: Duration,
    /// How long a client waits for an answer to its ping.
    pub ping_timeout: Duration,
    /// How long a participant stays after its signal connection or its media is lost.
    pub resume_grace: Duration,
    /// How long a joined participant may take until its primary transport is connected.
    pub join_timeout: Duration,
    /// How long a room that nobody joined stays.
    pub empty_timeout: Duration,
    /// How long a room stays after the last participant left.
    pub departure_timeout: Duration,
    /// Participants per room; 0 means no limit of its own.
    pub max_participants: u32,
    /// In a room of more participants than this, others are not told at once of those who come and go, but now and then of all
    /// who did: otherwise what joins cost would grow with the square of the room.
    pub small_room: usize,
    /// What the participants of a room tell others of themselves, beyond [`crate::limits::FREE_PROFILE_BYTES`] of each. Beyond it a join is
    /// refused with `profile-limit`, a change or a track with `LIMIT_EXCEEDED`. So a join response has at most this, and what is free of
    /// each participant.
    pub max_profile_bytes: usize,
    /// Participants on this server.
    pub max_total_participants: usize,
    /// Rooms on this server.
    pub max_rooms: usize,
    /// A join opens a room that does not exist. Otherwise only a token with `roomCreate` does.
    pub auto_create_rooms: bool,
    /// Clients get a fresh token that often, so that a reconnect never fails on an old one.
    pub token_refresh_interval: Duration,
    /// Tracks of one participant share a media stream, so that browsers keep them in lip sync (costs latency).
    pub sync_streams: bool,
    /// An administrator may open a participant's muted track.
    pub remote_unmute: bool,
    /// Tokens of a removed participant that begin within this time after the removal are revoked with the earlier ones.
    pub revocation_leeway: Duration,
    /// Settings of rooms that requests and tokens may name.
    pub presets: BTreeMap<String, RoomConfig>,
}

/// A place where clients can go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// Its name.
    pub name: String,
    /// Address of its signaling (`wss://…`).
    pub url: String,
}

impl Default for SignalingConfig {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node_id: String::new(),
            region: String::new(),
            regions: Vec::new(),
            ice_servers: Vec::new(),
            relays: None,
            // What the media node forwards: a client publishes nothing else.
            enabled_codecs: ["audio/opus", "video/VP8", "video/H264", "video/VP9", "video/AV1", "video/H265", "video/rtx"]
                .map(str::to_owned)
                .to_vec(),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(15),
            resume_grace: Duration::from_secs(15),
            join_timeout: Duration::from_secs(60),
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
            max_participants: 0,
            small_room: 12,
            max_profile_bytes: 8 * 1024 * 1024,
            max_total_participants: 20_000,
            max_rooms: 5_000,
            auto_create_rooms: true,
            token_refresh_interval: Duration::from_secs(300),
            sync_streams: false,
            remote_unmute: false,
            // LiveKit: `RoomParticipantIdentity.revoke_token_ts`
            revocation_leeway: Duration::from_secs(60),
            presets: BTreeMap::new(),
        }
    }
}

impl SignalingConfig {
    /// How long a signal connection may be silent: every client pings, so that it misses several before this.
    pub(crate) fn silence_timeout(&self) -> Duration {
        self.ping_timeout + self.ping_interval
    }

    /// The regions in the protocol's words. How far they are is not known.
    #[must_use]
    pub fn region_infos(&self) -> Vec<proto::RegionInfo> {
        self.regions.iter().map(|region| proto::RegionInfo { region: region.name.clone(), url: region.url.clone(), distance: 0 }).collect()
    }

    /// `asked` over the settings of that name. None if there are none of that name.
    pub(crate) fn with_preset(&self, asked: RoomConfig, preset: &str) -> Option<RoomConfig> {
        if preset.is_empty() { Some(asked) } else { Some(asked.or(self.presets.get(preset)?)) }
    }

    /// What one participant is told of ICE servers.
    pub(crate) fn ice_servers_for(&self, participant_sid: &str, unix_now: Duration) -> Vec<proto::IceServer> {
        let own = self.relays.as_ref().map(|relays| relays.ice_server(participant_sid, unix_now));
        self.ice_servers.iter().cloned().chain(own).collect()
    }

    pub(crate) fn server_info(&self) -> proto::ServerInfo {
        proto::ServerInfo {
            edition: proto::server_info::Edition::Standard.into(),
            version: LIVEKIT_VERSION.to_owned(),
            protocol: PROTOCOL_VERSION,
            region: self.region.clone(),
            node_id: self.node_id.clone(),
            debug_info: format!("sluice {}", self.version),
            ..Default::default()
        }
    }

    pub(crate) fn codecs(&self) -> Vec<proto::Codec> {
        self.enabled_codecs.iter().map(|mime| proto::Codec { mime: mime.clone(), fmtp_line: String::new() }).collect()
    }
}

/// Newest version of LiveKit's client protocol that this server speaks (livekit-client 2.23 speaks the same).
pub const PROTOCOL_VERSION: i32 = 17;

/// The release of LiveKit's server whose features clients find here. SDKs compare the server's version with the release that
/// brought a feature, so with our own they would refuse RPC ("1.8.0" in livekit-client 2.23). Above "1.13.6" they would send
/// VP9 and AV1 as simulcast by rid.
pub(crate) const LIVEKIT_VERSION: &str = "1.13.6";
