//! Control interface of a media node: the commands that signaling gives and the events that it gets back.
//!
//! Plain values only, so that a node can run in the same process or on another machine. Ids are handed out by
//! signaling and are opaque here. Every command is fire-and-forget; its outcome, if it has one, is an [`Event`].

mod command;
pub mod emodel;
mod event;
mod quality;
pub mod telemetry;

use serde::{Deserialize, Serialize};

pub use command::{BackupPolicy, Command, LayerInfo, MediaLabel, MediaSource, PlayoutDelay, PublishRequest, VideoWish};
pub use event::{Event, FailReason, Speaker, SubscriptionError, TransportState, WantedCodec};
pub use quality::{Quality, QualityCause, QualityDirection};

/// A room; lives on one shard, or on several when it has outgrown that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct RoomId(pub u64);

/// One participant's stay in a room. A full reconnect is a new id, a resume keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct ParticipantId(pub u64);

/// A published track.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct TrackId(pub u64);

/// What a track carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// How many peer connections a participant has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum PeerMode {
    /// Two: one per direction.
    #[default]
    Dual,
    /// One for both directions. Its role is [`TransportRole::Publisher`], and the client makes every offer: what it is to
    /// receive goes into m-lines that it adds for that when [`Event::MediaSections`] asks for them.
    Single,
}

/// Which of a participant's transports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum TransportRole {
    /// Client to server, or both ways in [`PeerMode::Single`]; the client offers.
    Publisher,
    /// Server to client; the server offers.
    Subscriber,
}

/// Delivery of a data message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum Delivery {
    /// Ordered and retransmitted until it arrives (channel `_reliable`).
    Reliable,
    /// Unordered, never retransmitted (channel `_lossy`).
    Lossy,
    /// Packets of data tracks: as [`Self::Lossy`], on a channel of their own (`_data_track`). The node forwards them itself.
    DataTrack,
}
