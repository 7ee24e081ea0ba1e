//! The publishing side: a published track with its encodings.

pub mod encoding;
pub mod keyframe;
pub mod nack;
pub mod numbering;
pub mod reception;
pub mod ring;
pub mod twcc;

use std::time::Instant;

use arrayvec::ArrayVec;
use sfu_api::{MediaKind, PublishRequest, TrackId};

use crate::ids::{DownKey, ParticipantKey, PeerKey};
use crate::limits::MAX_ENCODINGS;
use crate::media::{Codec, Mid, NegotiatedCodec, Rid};
use crate::negotiate::{AnnouncedTrack, EncodingWish, UpMedia};
use crate::subscribe::stream_state::StallDetector;
use encoding::Encoding;

/// A published track whose media is negotiated.
pub struct UpTrack {
    /// As signaling knows it.
    pub id: TrackId,
    /// Who publishes it.
    pub participant: ParticipantKey,
    /// On which transport.
    pub peer: PeerKey,
    /// The client's id for it.
    pub cid: String,
    /// How the client wants it encoded.
    pub wish: EncodingWish,
    /// m-line.
    pub mid: Mid,
    /// What was agreed.
    pub codec: NegotiatedCodec,
    /// Smallest first; audio and plain video have one.
    pub encodings: ArrayVec<Encoding, MAX_ENCODINGS>,
    /// Muted tracks are received but not forwarded.
    pub is_muted: bool,
    /// Every subscription, flowing or not.
    pub downs: Vec<DownKey>,
    /// Subscriptions that wait for a keyframe of the encoding that they want.
    pub waiting: Vec<DownKey>,
    /// Which encodings flowed at the last review.
    pub active_before: Vec<bool>,
    /// Whether anything flows at all.
    pub stall: StallDetector,
}

impl UpTrack {
    /// A track as agreed in `media`; None if no codec was agreed.
    #[must_use]
    pub fn new(id: TrackId, participant: ParticipantKey, peer: PeerKey, media: &UpMedia, request: &PublishRequest) -> Option<Self> {
        let codec = media.codecs.first()?.clone();
        let mut encodings = ArrayVec::new();
        if media.rids.is_empty() {
            encodings.push(Encoding::new(codec.codec, None));
        }
        for rid in media.rids.iter().take(MAX_ENCODINGS) {
            encodings.push(Encoding::new(codec.codec, Some(*rid)));
        }
        let mut track = Self {
            id,
            participant,
            peer,
            cid: request.cid.clone(),
            wish: announced(request).wish,
            mid: media.mid,
            codec,
            encodings,
            is_muted: request.muted,
            downs: Vec::new(),
            waiting: Vec::new(),
            active_before: Vec::new(),
            stall: StallDetector::default(),
        };
        track.announce_sizes(request);
        Some(track)
    }

    /// As negotiation knows it.
    #[must_use]
    pub fn announced(&self) -> AnnouncedTrack {
        AnnouncedTrack { cid: self.cid.clone(), kind: self.kind(), wish: self.wish }
    }

    /// Picture sizes as announced; without an announcement each encoding halves the next larger one.
    fn announce_sizes(&mut self, request: &PublishRequest) {
        let count = self.encodings.len();
        for (index, encoding) in self.encodings.iter_mut().enumerate() {
            let named = request.layers.iter().find(|layer| encoding.rid.is_some_and(|rid| rid.as_str() == layer.rid));
            let by_place = request.layers.get(index).filter(|_| request.layers.len() == count);
            let (width, height) = match named.or(by_place) {
                Some(layer) => (layer.width_px, layer.height_px),
                None => (request.width_px >> (count - 1 - index), request.height_px >> (count - 1 - index)),
            };
            (encoding.width_px, encoding.height_px) = (width, height);
        }
    }

    /// Index of the encoding with this rid.
    #[must_use]
    pub fn encoding_by_rid(&self, rid: &str) -> Option<usize> {
        self.encodings.iter().position(|encoding| encoding.rid.is_some_and(|own: Rid| own.as_str() == rid))
    }

    /// Audio or video.
    #[must_use]
    pub fn kind(&self) -> MediaKind {
        if self.codec.codec.is_video() { MediaKind::Video } else { MediaKind::Audio }
    }

    /// Several encodings were agreed.
    #[must_use]
    pub fn is_simulcast(&self) -> bool {
        self.encodings.len() > 1
    }

    /// The encodings as the selector sees them.
    #[must_use]
    pub fn offered(&self, now: Instant) -> ArrayVec<crate::subscribe::selector::Offered, MAX_ENCODINGS> {
        self.encodings.iter().map(|encoding| encoding.offered(now)).collect()
    }
}

/// An announcement as negotiation knows it.
#[must_use]
pub fn announced(request: &PublishRequest) -> AnnouncedTrack {
    let wish = EncodingWish { codec: Codec::by_name(&request.preferred_codec), stereo: request.stereo, dtx: request.dtx };
    AnnouncedTrack { cid: request.cid.clone(), kind: request.kind, wish }
}
