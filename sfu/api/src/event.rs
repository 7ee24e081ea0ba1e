//! From a node to signaling.

use serde::{Deserialize, Serialize};

use crate::telemetry::TrackSample;
use crate::{Delivery, ParticipantId, Quality, QualityCause, QualityDirection, RoomId, TrackId, TransportRole};

/// From a node to signaling.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// Answer to a [`crate::Command::Offer`].
    Answer {
        /// For whom.
        participant: ParticipantId,
        /// Id of the offer.
        id: u32,
        /// SDP.
        sdp: String,
        /// [`crate::PeerMode::Single`]: which m-line (`a=mid`) carries which subscribed track.
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
    /// [`crate::PeerMode::Single`]: subscriptions have changed, so the client shall make an offer with so many further m-lines to
    /// receive on; none if those that it has suffice.
    MediaSections {
        /// Whose.
        participant: ParticipantId,
        /// For audio.
        audio: u32,
        /// For video.
        video: u32,
    },
    /// A [`crate::Command::Move`] was not carried out: the participant's shard could not take it. The participant is where it was.
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

/// Level of one speaker.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Speaker {
    /// Who.
    pub participant: ParticipantId,
    /// 0.0 (silence) to 1.0 (loudest), linear.
    pub level: f32,
}

/// What subscribers want of one codec of a track.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WantedCodec {
    /// `video/VP8` and so on.
    pub mime: String,
    /// Highest spatial layer that somebody wants (0 = smallest); None: nobody wants the codec.
    pub max_spatial: Option<u8>,
}
