//! The publishing side: a published track with its encodings.

pub mod encoding;
pub mod keyframe;
mod ladder;
pub mod layers;
pub mod nack;
pub mod numbering;
pub mod rates;
pub mod reception;
pub mod remb;
pub mod ring;
pub mod twcc;
pub mod wanted;

use std::time::Instant;

use arrayvec::ArrayVec;
use sfu_api::{BackupPolicy, MediaKind, MediaSource, PlayoutDelay, PublishRequest, TrackId};

use crate::audio::forms::{self, Form};
use crate::error::Discard;
use crate::ids::{DownKey, ParticipantKey, PeerKey, UpKey};
use crate::limits::{MAX_BACKUP_CODECS, MAX_ENCODINGS};
use crate::media::{Codec, Mid, NegotiatedCodec, Rid};
use crate::negotiate::{AnnouncedTrack, EncodingWish, UpMedia, configuration};
use crate::relay::Crossing;
use crate::rtp::extension::playout_delay_value;
use crate::rtp::payload::dependency_descriptor::MAX_SPATIAL_LAYERS;
use crate::rtp::payload::red::RedPayload;
use crate::subscribe::selector::Offered;
use crate::subscribe::stream_state::StallDetector;
use encoding::Encoding;
use wanted::Wanted;

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
    /// Payload type under which our offers name its codec.
    pub configuration: u8,
    /// Smallest first; plain video has one. Audio has one, and the made form of Opus behind it, once a subscriber needs that.
    pub encodings: ArrayVec<Encoding, MAX_ENCODINGS>,
    /// Muted tracks are received but not forwarded.
    pub is_muted: bool,
    /// A microphone whose packets are not forwarded, because many others are louder.
    is_drowned: bool,
    /// Every subscription, flowing or not.
    pub downs: Vec<DownKey>,
    /// Subscriptions that wait for a keyframe of the encoding that they want.
    pub waiting: Vec<DownKey>,
    /// What could be had at the last review.
    pub shape_before: ArrayVec<Shape, MAX_ENCODINGS>,
    /// Further codecs of the same track; only the preferred one has them.
    pub backups: Vec<UpKey>,
    /// The preferred codec of the same track, if this is another one.
    pub primary: Option<UpKey>,
    /// Further codecs that the client is ready to send.
    pub announced_backups: Vec<Codec>,
    /// What happens to the preferred codec once a backup flows.
    pub backup_policy: BackupPolicy,
    /// Everybody who can goes to the backup.
    pub is_regressed: bool,
    /// What the publisher was told of the wishes of others.
    pub wanted: Wanted,
    /// First packet since somebody listens to the made form; None while nobody does.
    made_since: Option<u64>,
    /// Whether anything flows at all.
    pub stall: StallDetector,
    /// Share of packets that never came, in the last second.
    pub residual_share: f64,
    /// Value of the playout delay extension that subscribers get, whatever the publisher says.
    pub playout_delay: Option<[u8; 3]>,
    /// It shows a screen: its size matters more than its frame rate.
    pub is_screen: bool,
    /// Since when each of its sizes, counted over all encodings and their layers, does not come though its publisher should send
    /// it.
    absent_since: ArrayVec<Option<Instant>, MAX_RUNGS>,
    /// What it has to do with other shards.
    pub crossing: Crossing,
    /// The media tick looks at it.
    pub is_awake: bool,
    /// Seconds in which nothing came of it and nobody waited for it.
    pub quiet_seconds: u8,
}

/// Sizes of a track.
pub const MAX_RUNGS: usize = MAX_ENCODINGS * MAX_SPATIAL_LAYERS;

/// What of an encoding can be had, as far as a change of it matters to subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// A bit for each spatial layer that flows.
    flowing: u8,
    rungs: usize,
    is_layered: bool,
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
        let backups = request.backup_codecs.iter().filter_map(|name| Codec::by_name(name));
        let is_other = |other: &Codec| *other != codec.codec && other.is_video() == codec.codec.is_video();
        let announced_backups = backups.filter(is_other).take(MAX_BACKUP_CODECS).collect();
        let mut track = Self {
            id,
            participant,
            peer,
            cid: request.cid.clone(),
            wish: announced(request).wish,
            mid: media.mid,
            configuration: configuration(codec.codec, &codec.fmtp),
            codec,
            encodings,
            is_muted: request.muted,
            is_drowned: false,
            downs: Vec::new(),
            waiting: Vec::new(),
            shape_before: ArrayVec::new(),
            backups: Vec::new(),
            primary: None,
            announced_backups,
            backup_policy: request.backup_policy,
            is_regressed: false,
            wanted: Wanted::default(),
            made_since: None,
            stall: StallDetector::default(),
            residual_share: 0.0,
            playout_delay: None,
            is_screen: request.source == MediaSource::Screen,
            absent_since: ArrayVec::new(),
            crossing: Crossing::default(),
            is_awake: false,
            quiet_seconds: 0,
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
            encoding.announced_bps = named.or(by_place).map(|layer| layer.bitrate_bps).into_iter().collect();
        }
        if let ([only], true) = (&mut self.encodings[..], request.layers.len() > 1) {
            only.announced_layers = request.layers.iter().take(MAX_SPATIAL_LAYERS).map(|l| (l.width_px, l.height_px)).collect();
            only.announced_bps = request.layers.iter().take(MAX_SPATIAL_LAYERS).map(|layer| layer.bitrate_bps).collect();
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
        self.codec.codec.is_video() && self.encodings.len() > 1
    }

    /// Its publisher can leave layers out.
    #[must_use]
    pub fn has_layers(&self) -> bool {
        self.is_simulcast() || self.encodings.iter().any(Encoding::has_layers)
    }

    /// A packet of the track itself may have this payload type.
    #[must_use]
    pub fn carries(&self, payload_type: u8) -> bool {
        self.codec.payload_type == payload_type || self.codec.red_payload_type == Some(payload_type)
    }

    /// `audio/red` if the client agreed to send redundancy, as LiveKit names such tracks; else the codec.
    #[must_use]
    pub fn mime(&self) -> &'static str {
        if self.codec.red_payload_type.is_some() { "audio/red" } else { self.codec.codec.mime() }
    }

    /// In which form the packets of an encoding are.
    #[must_use]
    pub fn form(&self, encoding: usize) -> Form {
        if (encoding == forms::MADE) == self.codec.red_payload_type.is_none() && self.has_forms() { Form::Red } else { Form::Plain }
    }

    /// The encoding whose packets have this form; None if there can be none.
    #[must_use]
    pub fn encoding_of_form(&self, form: Form) -> Option<usize> {
        if self.form(0) == form { Some(0) } else { Some(forms::MADE).filter(|_| self.has_forms()) }
    }

    /// Opus that nobody has encrypted can go out in both forms.
    fn has_forms(&self) -> bool {
        self.codec.codec == Codec::Opus && self.wish.red
    }

    /// Makes room for the made form.
    pub fn open_form(&mut self) {
        if self.has_forms() && self.encodings.len() <= forms::MADE {
            self.encodings.push(Encoding::new(self.codec.codec, None));
        }
    }

    /// Forgets the made form: its packets would not follow those that come now.
    pub fn close_form(&mut self) {
        if !self.codec.codec.is_video() {
            self.encodings.truncate(forms::MADE);
            self.made_since = None;
        }
    }

    /// The payload as it is stored, where that is not what came.
    ///
    /// # Errors
    /// [`Discard::RedMalformed`].
    pub fn normalized(&self, payload: &[u8], payload_type: u8) -> Result<Option<RedPayload>, Discard> {
        let Some(red) = self.codec.red_payload_type else { return Ok(None) };
        let payload = forms::normalized(payload, payload_type == red, self.codec.payload_type, self.configuration);
        payload.ok_or(Discard::RedMalformed).map(Some)
    }

    /// Takes note of whether a packet is loud enough to be forwarded, and returns that. After some that were not, the numbers
    /// that subscribers see go on without a gap.
    pub fn is_heard(&mut self, is_heard: bool) -> bool {
        if is_heard && self.is_drowned {
            self.encodings.iter_mut().for_each(|encoding| encoding.resumes = true);
        }
        self.is_drowned = !is_heard;
        is_heard
    }

    /// Makes the other form of an audio packet that was stored, if somebody listens to it. True if that has its first fresh
    /// packet.
    pub fn make_form(&mut self, source: &forms::Source<'_>, is_forwarded: bool, now: Instant) -> bool {
        if !self.has_forms() {
            return false;
        }
        let is_red = self.form(0) == Form::Red;
        let Some((sent, [made, ..])) = self.encodings.split_first_mut() else { return false };
        if made.live.is_empty() && self.waiting.is_empty() {
            self.made_since = None;
            return false;
        }
        let since = *self.made_since.get_or_insert(source.meta.sequence);
        if is_red {
            forms::strip(source, self.configuration, made, since, is_forwarded, now)
        } else {
            forms::add_copies(source, self.configuration, sent, made, is_forwarded, now)
        }
    }

    /// What subscribers are told of the delay with which to play; audio follows its video.
    pub fn set_playout_delay(&mut self, delay: Option<PlayoutDelay>) {
        let delay = delay.filter(|_| self.kind() == MediaKind::Video);
        self.playout_delay = delay.map(|delay| playout_delay_value(delay.min_ms, delay.max_ms));
    }

    /// The encodings as the selector sees them.
    #[must_use]
    pub fn offered(&self, now: Instant) -> ArrayVec<Offered, MAX_ENCODINGS> {
        self.encodings.iter().map(|encoding| encoding.offered(now)).collect()
    }

    /// The encodings as they could be if everything announced were sent; for what the publisher is told.
    #[must_use]
    pub fn ladder(&self, now: Instant) -> ArrayVec<Offered, MAX_ENCODINGS> {
        self.encodings.iter().map(|encoding| encoding.ladder(now)).collect()
    }

    /// What could be had now.
    #[must_use]
    pub fn shape(&self, now: Instant) -> ArrayVec<Shape, MAX_ENCODINGS> {
        let shape = |encoding: &Encoding| {
            let rungs = encoding.offered(now).rungs;
            let flowing = (0..).zip(&rungs).fold(0, |bits, (place, rung)| bits | (u8::from(rung.is_active) << place));
            Shape { flowing, rungs: rungs.len(), is_layered: encoding.layers.is_layered() }
        };
        self.encodings.iter().map(shape).collect()
    }
}

/// An announcement as negotiation knows it.
#[must_use]
pub fn announced(request: &PublishRequest) -> AnnouncedTrack {
    let codec = Codec::by_name(&request.preferred_codec);
    let wish = EncodingWish { codec, stereo: request.stereo, dtx: request.dtx, red: request.red };
    AnnouncedTrack { cid: request.cid.clone(), kind: request.kind, wish }
}
