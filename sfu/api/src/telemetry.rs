//! What a node measures of each track, about once a second: for timelines and whoever wants to understand one participant.
//!
//! Plain values; what is summed over all tracks leaves the node as metrics and not this way.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{MediaKind, ParticipantId, TrackId};

/// Name and version of the score of video: label of metrics, field of REST answers. Not a mean opinion score: no model of
/// interactive video is validated for what an SFU can see. See `sfu_core::quality::rating`.
pub const VIDEO_MODEL: &str = "sluice-video/1";

/// Which way media went.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the participant to the node.
    Up,
    /// From the node to the participant.
    Down,
}

impl Direction {
    /// Both, in declaration order.
    pub const ALL: [Self; 2] = [Self::Up, Self::Down];

    /// The word in REST answers and metric labels: as the node sees it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Up => "in",
            Self::Down => "out",
        }
    }
}

/// What decided which layer of a video track its subscriber gets. The words are metric labels and never change.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerLimit {
    /// Nothing: it gets the best that the publisher has.
    None,
    /// It asked for a smaller size or a lower rate.
    Wish,
    /// It asked for nothing (a hidden element, a disabled track).
    Disabled,
    /// The publisher has muted the track.
    Muted,
    /// The publisher does not send the layer that was wished for.
    Publisher,
    /// The publisher sends nothing at all though the track is not muted.
    Stalled,
    /// A better layer is chosen; its keyframe is awaited.
    Keyframe,
    /// The subscriber's connection or its negotiation is not ready.
    Negotiation,
    /// The subscriber's bandwidth does not carry more.
    Bandwidth,
}

impl LayerLimit {
    /// Every limit, in declaration order.
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::Wish,
        Self::Disabled,
        Self::Muted,
        Self::Publisher,
        Self::Stalled,
        Self::Keyframe,
        Self::Negotiation,
        Self::Bandwidth,
    ];

    /// The word in REST answers, logs and metric labels.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Wish => "wish",
            Self::Disabled => "disabled",
            Self::Muted => "muted",
            Self::Publisher => "publisher",
            Self::Stalled => "stalled",
            Self::Keyframe => "keyframe",
            Self::Negotiation => "negotiation",
            Self::Bandwidth => "bandwidth",
        }
    }

    /// A sentence for people.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::None => "the best layer that the publisher has",
            Self::Wish => "the subscriber asked for no more: the element is small, or its app set a limit",
            Self::Disabled => "the subscriber asked for nothing: the element is hidden, or its app switched the track off",
            Self::Muted => "the publisher has muted the track",
            Self::Publisher => "the publisher does not send the layer that the subscriber should get",
            Self::Stalled => "the publisher sends nothing, though the track is not muted",
            Self::Keyframe => "a keyframe of the chosen layer is awaited",
            Self::Negotiation => "the subscriber's connection is not up, or its client has not accepted the track yet",
            Self::Bandwidth => "the subscriber's bandwidth does not carry more",
        }
    }
}

/// A place on the ladder of sizes that a track has: encodings of simulcast, or spatial layers of SVC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LayerPlace {
    /// 0 = smallest.
    pub size: u8,
    /// Temporal layer up to which; `u8::MAX`: all.
    pub temporal: u8,
}

/// Which layer a subscriber gets, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LayerState {
    /// What flows; None: nothing does.
    pub current: Option<LayerPlace>,
    /// What should flow; None: nothing should.
    pub target: Option<LayerPlace>,
    /// What keeps it from being the best.
    pub limit: LayerLimit,
    /// What its subscriber asked for, were everything there; None: nothing.
    pub wanted: Option<LayerPlace>,
}

/// One track of one participant since the sample before.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct TrackSample {
    /// Whose connection it is about.
    pub participant: ParticipantId,
    /// Which track: its own ([`Direction::Up`]) or one that it is subscribed to.
    pub track: TrackId,
    /// Which way.
    pub direction: Direction,
    /// Audio or video.
    pub kind: MediaKind,
    /// Time that the sample stands for.
    pub interval: Duration,
    /// RTP packets by their numbers, lost ones included, without retransmissions.
    pub packets: u32,
    /// Payload bytes of those that arrived (up) or were sent (down).
    pub bytes: u32,
    /// Lost at first.
    pub lost: u32,
    /// Of `packets`, those that were never repaired.
    pub residual: u32,
    /// Between the participant and the node, if known.
    pub round_trip: Option<Duration>,
    /// Interarrival jitter (RFC 3550), of the worst stream of the track.
    pub jitter: Duration,
    /// Delay that the score assumes: mouth to ear for audio, one way for video.
    pub delay: Duration,
    /// `BurstR` of the loss that repair left; 1 where it is not measured.
    pub burst_ratio: f32,
    /// Share of loss that the score assumes, 0.0 to 1.0: of the newest report, that of the publisher's way included for audio.
    pub rated_loss: f32,
    /// Packet loss robustness (`Bpl`) that the score of audio assumes; 0 for video.
    pub robustness: f32,
    /// Mean opinion score of audio ([`crate::emodel::MODEL`]); None where nothing flows.
    pub opinion_score: Option<f32>,
    /// Score of video, 0 to 100 ([`VIDEO_MODEL`]); None where nothing flows.
    pub video_score: Option<f32>,
    /// Of a video subscription.
    pub layer: Option<LayerState>,
    /// How long `layer.limit` has been what it is.
    pub limited_for: Duration,
}
