//! From signaling to a node.

use serde::{Deserialize, Serialize};

use crate::{Delivery, MediaKind, ParticipantId, PeerMode, RoomId, TrackId};

/// From signaling to a node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Command {
    /// Puts a participant into a room; creates the room when it is the first.
    Join {
        /// Where to.
        room: RoomId,
        /// Who.
        participant: ParticipantId,
        /// False: no subscriber transport is offered until a subscription needs one.
        can_subscribe: bool,
        /// One peer connection or two.
        mode: PeerMode,
    },
    /// Removes a participant with all its tracks, subscriptions and transports. The last one closes the room.
    Leave {
        /// Who.
        participant: ParticipantId,
    },
    /// Announces a track; its media is bound to it when an offer carries its `cid`.
    Publish {
        /// Whose.
        participant: ParticipantId,
        /// Id under which the track is known from here on.
        track: TrackId,
        /// What the client said of it.
        request: PublishRequest,
    },
    /// Ends a track and every subscription to it.
    Unpublish {
        /// Which.
        track: TrackId,
    },
    /// Muted tracks are not forwarded and don't count for speakers.
    SetMuted {
        /// Which.
        track: TrackId,
        /// New state.
        muted: bool,
    },
    /// The client's offer for its publisher (or only) transport. Answered by [`crate::Event::Answer`] or [`crate::Event::NegotiationFailed`].
    Offer {
        /// From whom.
        participant: ParticipantId,
        /// Echoed in the answer.
        id: u32,
        /// SDP.
        sdp: String,
    },
    /// The client's answer to an [`crate::Event::Offer`].
    Answer {
        /// From whom.
        participant: ParticipantId,
        /// Id of the offer that it answers (0 if the client does not echo ids).
        id: u32,
        /// SDP.
        sdp: String,
    },
    /// Asks for a subscriber offer with new ICE credentials. Nothing happens in [`PeerMode::Single`], where it is the
    /// client's offer that restarts ICE.
    RestartIce {
        /// For whom.
        participant: ParticipantId,
    },
    /// Subscribes a participant to a track of its room.
    Subscribe {
        /// Who.
        participant: ParticipantId,
        /// To what.
        track: TrackId,
        /// Names in the SDP.
        label: MediaLabel,
    },
    /// Ends a subscription.
    Unsubscribe {
        /// Who.
        participant: ParticipantId,
        /// From what.
        track: TrackId,
    },
    /// Changes what a subscriber wants of a video track (or pauses an audio track).
    SetWish {
        /// Who.
        participant: ParticipantId,
        /// Of what.
        track: TrackId,
        /// What.
        wish: VideoWish,
    },
    /// Sends one message to each of the participants that have an open data channel.
    SendData {
        /// To whom, all in the same room.
        to: Vec<ParticipantId>,
        /// How.
        delivery: Delivery,
        /// Bytes of one message.
        payload: Vec<u8>,
    },
    /// Announces a data track: its packets come on the data track channel, each with the publisher's handle.
    PublishData {
        /// Whose.
        participant: ParticipantId,
        /// Id under which the data track is known from here on; not that of a media track.
        track: TrackId,
        /// What the publisher puts into its packets; unique among its data tracks.
        handle: u16,
    },
    /// Ends a data track and every subscription to it.
    UnpublishData {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
    },
    /// Subscribes a participant to a data track of its room.
    SubscribeData {
        /// Who.
        participant: ParticipantId,
        /// To what.
        track: TrackId,
        /// What the subscriber finds in the packets in place of the publisher's handle; unique among its subscriptions.
        handle: u16,
    },
    /// From its next description on, a participant is told addresses for TCP only, if there are any; or all again.
    PreferTcp {
        /// Who.
        participant: ParticipantId,
        /// False: all again.
        is_preferred: bool,
    },
    /// Ends a subscription to a data track.
    UnsubscribeData {
        /// Who.
        participant: ParticipantId,
        /// From what.
        track: TrackId,
    },
    /// Takes a participant with its transports and tracks to another room; subscriptions of it and to it end. The room is created
    /// if nobody is in it. Answered by [`crate::Event::MoveRefused`] if it can't be done.
    Move {
        /// Who.
        participant: ParticipantId,
        /// Where to.
        room: RoomId,
    },
    /// Announces a further codec of a published track; its media is bound to it when an offer carries the `cid` of the request.
    /// Of the request `cid`, `preferred_codec` and `layers` count.
    PublishCodec {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
        /// What the client said of it.
        request: PublishRequest,
    },
    /// Says with which delay subscribers of a room play video from here on. Counts as nothing for a room that nobody is in.
    SetPlayoutDelay {
        /// Where.
        room: RoomId,
        /// Bounds of the delay; None: what each publisher says.
        delay: Option<PlayoutDelay>,
    },
    /// Sends a participant no more than so much, whatever its downlink carries: how clients test what they do then.
    LimitDownlink {
        /// To whom.
        participant: ParticipantId,
        /// Bits per second; None: no such limit any more.
        limit_bps: Option<u64>,
    },
}

impl Command {
    /// The participant that it names; None if it names a track, a room or several participants.
    #[must_use]
    pub const fn participant(&self) -> Option<ParticipantId> {
        match self {
            Self::Join { participant, .. }
            | Self::Leave { participant, .. }
            | Self::Publish { participant, .. }
            | Self::Offer { participant, .. }
            | Self::Answer { participant, .. }
            | Self::RestartIce { participant, .. }
            | Self::Subscribe { participant, .. }
            | Self::Unsubscribe { participant, .. }
            | Self::SetWish { participant, .. }
            | Self::PublishData { participant, .. }
            | Self::UnpublishData { participant, .. }
            | Self::SubscribeData { participant, .. }
            | Self::PreferTcp { participant, .. }
            | Self::UnsubscribeData { participant, .. }
            | Self::Move { participant, .. }
            | Self::PublishCodec { participant, .. }
            | Self::LimitDownlink { participant, .. } => Some(*participant),
            Self::Unpublish { .. } | Self::SetMuted { .. } | Self::SendData { .. } | Self::SetPlayoutDelay { .. } => None,
        }
    }
}

/// What signaling knows of a track before its media is negotiated.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PublishRequest {
    /// The id that the client put into its SDP as the track part of `msid`.
    pub cid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Codec that the client wants to send (`video/VP8`, or without `video/`; any case), empty if it does not say. The answer
    /// lists it first, since browsers send the first codec of the answer. (LiveKit: first entry of `simulcast_codecs`.)
    pub preferred_codec: String,
    /// The client wants Opus in stereo.
    pub stereo: bool,
    /// The client wants Opus with discontinuous transmission.
    pub dtx: bool,
    /// The client starts it muted.
    pub muted: bool,
    /// Width and height in pixels of the full-size picture as announced, 0 if unknown.
    pub width_px: u32,
    /// See `width_px`.
    pub height_px: u32,
    /// Announced simulcast layers, smallest first; may be empty.
    pub layers: Vec<LayerInfo>,
    /// Opus may come with redundancy (RFC 2198). False for frames that are encrypted end to end: nobody could take them apart.
    pub red: bool,
    /// Codecs (named like `preferred_codec`) that the client is ready to send beside the preferred one, if [`crate::Event::WantedLayers`]
    /// asks for them; see [`Command::PublishCodec`].
    pub backup_codecs: Vec<String>,
    /// What happens to the preferred codec once a backup is there.
    pub backup_policy: BackupPolicy,
    /// What it shows or records.
    pub source: MediaSource,
}

/// What a track shows or records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub enum MediaSource {
    /// A camera or microphone, or not said.
    #[default]
    Person,
    /// A screen, or the sound that belongs to it. Its picture keeps its size and loses frames first.
    Screen,
}

/// What happens to the preferred codec of a track when somebody needs another one (LiveKit: `BackupCodecPolicy`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum BackupPolicy {
    /// Everybody moves to the other codec and the preferred one stops.
    #[default]
    Regress,
    /// Both are sent, each to those who can decode it; the preferred one first.
    Simulcast,
}

/// One announced simulcast layer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LayerInfo {
    /// 0 = smallest. Matches rid order `q`, `h`, `f`.
    pub spatial: u8,
    /// RTP stream id, empty if the client did not name one.
    pub rid: String,
    /// Picture width in pixels.
    pub width_px: u32,
    /// Picture height in pixels.
    pub height_px: u32,
    /// Target bitrate in bits per second, 0 if unknown.
    pub bitrate_bps: u32,
}

/// What a subscriber wants of a video track.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VideoWish {
    /// False: send nothing for now.
    pub enabled: bool,
    /// Shown size in pixels; 0 means no limit.
    pub width_px: u32,
    /// See `width_px`.
    pub height_px: u32,
    /// Highest spatial layer wanted (0 = smallest); `u8::MAX` means no limit.
    pub max_spatial: u8,
    /// Highest frame rate wanted; 0 means no limit.
    pub max_fps: u32,
    /// Who is served first when bandwidth lacks: 1 before 2 and so on, those with 0 last (LiveKit: `UpdateTrackSettings.priority`).
    pub priority: u32,
}

impl Default for VideoWish {
    fn default() -> Self {
        Self { enabled: true, width_px: 0, height_px: 0, max_spatial: u8::MAX, max_fps: 0, priority: 0 }
    }
}

/// How a subscribed track is named in the subscriber's SDP (`msid`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MediaLabel {
    /// First part of `msid`.
    pub stream_id: String,
    /// Second part of `msid`.
    pub track_id: String,
}

/// Bounds of the time between the capture and the display of a frame. Clients take steps of 10 ms, up to 40,950 ms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PlayoutDelay {
    /// At least this long, in milliseconds: 0 is "as fast as it gets".
    pub min_ms: u32,
    /// At most this long, in milliseconds.
    pub max_ms: u32,
}
