//! Control interface of a media node: the commands that signaling gives and the events that it gets back.
//!
//! Plain values only, so that a node can run in the same process or on another machine. Ids are handed out by
//! signaling and are opaque here. Every command is fire-and-forget; its outcome, if it has one, is an [`Event`].

pub mod emodel;
mod quality;
pub mod telemetry;

use serde::{Deserialize, Serialize};

pub use quality::{Quality, QualityCause, QualityDirection};
use telemetry::TrackSample;

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
    /// Codecs (named like `preferred_codec`) that the client is ready to send beside the preferred one, if [`Event::WantedLayers`]
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
    /// The client's offer for its publisher (or only) transport. Answered by [`Event::Answer`] or [`Event::NegotiationFailed`].
    Offer {
        /// From whom.
        participant: ParticipantId,
        /// Echoed in the answer.
        id: u32,
        /// SDP.
        sdp: String,
    },
    /// The client's answer to an [`Event::Offer`].
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
    /// if nobody is in it. Answered by [`Event::MoveRefused`] if it can't be done.
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

/// Bounds of the time between the capture and the display of a frame. Clients take steps of 10 ms, up to 40,950 ms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct PlayoutDelay {
    /// At least this long, in milliseconds: 0 is "as fast as it gets".
    pub min_ms: u32,
    /// At most this long, in milliseconds.
    pub max_ms: u32,
}

/// State of a transport as signaling needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TransportState {
    /// ICE and DTLS are up.
    Connected,
    /// No consent (RFC 7675) for 30 s or DTLS closed; an ICE restart can revive it only after the former.
    Disconnected,
    /// Cannot work any more; the reason says why.
    Failed(FailReason),
}

/// Stable reason codes; never renamed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FailReason {
    /// No authenticated connectivity check arrived in time.
    IceNoPath,
    /// The DTLS handshake failed or timed out.
    DtlsHandshake,
    /// The client's certificate does not match the fingerprint in its SDP.
    DtlsFingerprint,
    /// No SRTP profile in common.
    DtlsSrtpProfile,
    /// The SCTP association broke, or the client does not take its reliable data.
    DataChannel,
}

impl FailReason {
    /// The word used in SDK errors, logs and metric labels.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::IceNoPath => "ice-no-path",
            Self::DtlsHandshake => "dtls-handshake",
            Self::DtlsFingerprint => "dtls-fingerprint",
            Self::DtlsSrtpProfile => "dtls-srtp-profile",
            Self::DataChannel => "data-channel",
        }
    }
}

/// Level of one speaker.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Speaker {
    /// Who.
    pub participant: ParticipantId,
    /// 0.0 (silence) to 1.0 (loudest), linear.
    pub level: f32,
}

/// From a node to signaling.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// Answer to a [`Command::Offer`].
    Answer {
        /// For whom.
        participant: ParticipantId,
        /// Id of the offer.
        id: u32,
        /// SDP.
        sdp: String,
        /// [`PeerMode::Single`]: which m-line (`a=mid`) carries which subscribed track.
        subscribed: Vec<(String, TrackId)>,
    },
    /// A subscriber offer; the client must answer it. At most one is outstanding.
    Offer {
        /// For whom.
        participant: ParticipantId,
        /// Id to echo; starts at 1 and grows.
        id: u32,
        /// SDP.
        sdp: String,
    },
    /// An offer or answer of the client can't be used. Nothing of it was applied.
    NegotiationFailed {
        /// Whose.
        participant: ParticipantId,
        /// Which transport.
        role: TransportRole,
        /// For people.
        message: String,
    },
    /// A transport changed state.
    Transport {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        role: TransportRole,
        /// New state.
        state: TransportState,
    },
    /// A published track's media is negotiated: others may subscribe.
    TrackReady {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
        /// m-line in the publisher's SDP.
        mid: String,
        /// `audio/opus`, `video/VP8` and so on.
        mime: String,
        /// More than one rid was negotiated.
        simulcast: bool,
    },
    /// The client's offer removed the track's media (m-line inactive or gone).
    TrackEnded {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
    },
    /// A subscription's m-line is negotiated and media may flow, or it can't be had.
    Subscription {
        /// Who.
        participant: ParticipantId,
        /// To what.
        track: TrackId,
        /// None: it works.
        error: Option<SubscriptionError>,
    },
    /// A data message from a client.
    Data {
        /// From whom.
        participant: ParticipantId,
        /// How it came.
        delivery: Delivery,
        /// Its bytes.
        payload: Vec<u8>,
    },
    /// Who speaks: sent when the set or a level changes noticeably, at most every 300 ms a room. Empty: nobody.
    Speakers {
        /// Where.
        room: RoomId,
        /// Loudest (dominant) first.
        speakers: Vec<Speaker>,
    },
    /// [`PeerMode::Single`]: subscriptions have changed, so the client shall make an offer with so many further m-lines to
    /// receive on; none if those that it has suffice.
    MediaSections {
        /// Whose.
        participant: ParticipantId,
        /// For audio.
        audio: u32,
        /// For video.
        video: u32,
    },
    /// A [`Command::Move`] was not carried out: the participant's shard could not take it. The participant is where it was.
    MoveRefused {
        /// Who.
        participant: ParticipantId,
    },
    /// A wanted video subscription ceased to flow or flows again. Not sent for what the subscriber or the publisher asked
    /// for: a wish, a mute, an end. A new subscription counts as flowing.
    StreamState {
        /// Who.
        participant: ParticipantId,
        /// Of what.
        track: TrackId,
        /// New state.
        is_paused: bool,
    },
    /// How well a participant's media gets through, both ways; sent when the class changes or what it follows from, and once at the
    /// beginning.
    ConnectionQuality {
        /// Whose.
        participant: ParticipantId,
        /// Class.
        quality: Quality,
        /// Mean opinion score, 1.0 to 4.5, of the worst of its audio and video in either direction.
        score: f32,
        /// In which direction the worst is.
        direction: QualityDirection,
        /// What is the matter with it.
        cause: QualityCause,
    },
    /// The media of a further codec of a track is negotiated.
    CodecReady {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
        /// m-line in the publisher's SDP.
        mid: String,
        /// `video/VP8` and so on.
        mime: String,
        /// More than one rid was negotiated.
        simulcast: bool,
    },
    /// Which codecs and layers of a video track somebody wants, whenever that changes; more is told at once, less after half a
    /// second. Only for tracks that have several layers or codecs.
    WantedLayers {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
        /// Every codec of the track that is sent or was ever wanted, the preferred one first.
        codecs: Vec<WantedCodec>,
    },
    /// What was measured since the last event of this kind, about once a second and shard. For timelines; nothing depends on it, and
    /// it is dropped where it finds no room.
    Samples(Vec<TrackSample>),
}

/// What subscribers want of one codec of a track.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WantedCodec {
    /// `video/VP8` and so on.
    pub mime: String,
    /// Highest spatial layer that somebody wants (0 = smallest); None: nobody wants the codec.
    pub max_spatial: Option<u8>,
}

/// Why a subscription can't be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SubscriptionError {
    /// No such track in the room.
    TrackUnknown,
    /// The subscriber's client can't decode the track's codec.
    CodecUnsupported,
    /// A bound of the server was reached.
    Limit,
}
