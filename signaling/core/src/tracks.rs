//! The published tracks of a room: what a client announced, what the media node found, and in which stage each is.
//!
//! Invariant: `by_owner` lists exactly the tracks of `by_id`, each under its owner, in the order in which they came.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use livekit_protocol as proto;
use livekit_protocol::{AudioTrackFeature, TrackSource, TrackType, video_layer::Mode};
use sfu_api::{LayerInfo, MediaKind, MediaSource, ParticipantId, PublishRequest, TrackId, WantedCodec};

use crate::{codecs, ids, limits};

/// All tracks of a room.
#[derive(Debug, Default)]
pub(crate) struct Tracks {
    by_id: BTreeMap<TrackId, Track>,
    by_owner: BTreeMap<ParticipantId, Vec<TrackId>>,
}

/// One published track.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) owner: ParticipantId,
    /// The id that the client gave it.
    pub(crate) cid: String,
    pub(crate) kind: MediaKind,
    pub(crate) stage: Stage,
    pub(crate) info: proto::TrackInfo,
    pub(crate) announced_at: Instant,
    /// Its publisher has been told that somebody subscribed.
    pub(crate) subscriber_told: bool,
    /// A mute by the server that its publisher has not been told of.
    pub(crate) mute_untold: bool,
    /// What others want of it, as last told; empty: never told.
    pub(crate) wanted: Vec<WantedCodec>,
}

/// What the media node found in the session description.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct MediaFound {
    pub(crate) mid: String,
    pub(crate) mime: String,
    pub(crate) simulcast: bool,
}

/// How far a track is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Waits for the end of an earlier track of the same client id. The client has no answer yet.
    Queued,
    /// Announced to the media node; no media yet. Others don't know it.
    Pending,
    /// Its media is negotiated; others see it and may subscribe.
    Ready,
}

impl Tracks {
    pub(crate) fn insert(&mut self, track: Track) {
        self.by_owner.entry(track.owner).or_default().push(track.id);
        self.by_id.insert(track.id, track);
    }

    pub(crate) fn remove(&mut self, id: TrackId) -> Option<Track> {
        let track = self.by_id.remove(&id)?;
        if let Some(list) = self.by_owner.get_mut(&track.owner) {
            list.retain(|other| *other != id);
            if list.is_empty() {
                self.by_owner.remove(&track.owner);
            }
        }
        Some(track)
    }

    /// Takes away everything of a participant.
    pub(crate) fn remove_owner(&mut self, owner: ParticipantId) -> Vec<Track> {
        let list = self.by_owner.remove(&owner).unwrap_or_default();
        list.iter().filter_map(|id| self.by_id.remove(id)).collect()
    }

    pub(crate) fn get(&self, id: TrackId) -> Option<&Track> {
        self.by_id.get(&id)
    }

    /// A track that others may see and subscribe to.
    pub(crate) fn ready(&self, id: TrackId) -> Option<&Track> {
        self.get(id).filter(|track| track.stage == Stage::Ready)
    }

    pub(crate) fn get_mut(&mut self, id: TrackId) -> Option<&mut Track> {
        self.by_id.get_mut(&id)
    }

    /// The track that a participant names, if it is its own.
    pub(crate) fn own_mut(&mut self, owner: ParticipantId, sid: &str) -> Option<&mut Track> {
        self.get_mut(ids::parse_track_sid(sid)?).filter(|track| track.owner == owner)
    }

    pub(crate) fn of(&self, owner: ParticipantId) -> impl Iterator<Item = &Track> {
        self.by_owner.get(&owner).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }

    pub(crate) fn all_ready(&self) -> impl Iterator<Item = &Track> {
        self.by_id.values().filter(|track| track.stage == Stage::Ready)
    }

    pub(crate) fn contains(&self, id: TrackId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// What others see of a participant's tracks.
    pub(crate) fn infos_of(&self, owner: ParticipantId) -> Vec<proto::TrackInfo> {
        self.of(owner).filter(|track| track.stage == Stage::Ready).map(|track| track.info.clone()).collect()
    }
}

impl Track {
    /// What the media node has to know before the media comes.
    pub(crate) fn publish_request(&self) -> PublishRequest {
        let layers = self.info.codecs.first().map(|codec| codec.layers.as_slice()).unwrap_or_default();
        PublishRequest {
            cid: self.cid.clone(),
            kind: self.kind,
            preferred_codec: self.info.codecs.first().map(|codec| codec.mime_type.clone()).unwrap_or_default(),
            stereo: self.info.audio_features.contains(&(proto::AudioTrackFeature::TfStereo as i32)),
            dtx: !self.info.audio_features.contains(&(proto::AudioTrackFeature::TfNoDtx as i32)),
            muted: self.info.muted,
            width_px: self.info.width,
            height_px: self.info.height,
            layers: layer_infos(layers),
            backup_codecs: self.info.codecs.iter().skip(1).map(|codec| codec.mime_type.clone()).collect(),
            backup_policy: codecs::policy(self.info.backup_codec_policy()),
            red: !self.info.disable_red && self.info.encryption() == proto::encryption::Type::None,
            source: match self.info.source() {
                TrackSource::ScreenShare | TrackSource::ScreenShareAudio => MediaSource::Screen,
                TrackSource::Unknown | TrackSource::Camera | TrackSource::Microphone => MediaSource::Person,
            },
        }
    }

    /// The media is negotiated. True if that changed something.
    #[expect(deprecated, reason = "older clients read `simulcast`, newer ones the layer mode of the codec")]
    pub(crate) fn become_ready(&mut self, found: MediaFound) -> bool {
        let MediaFound { mid, mime, simulcast } = found;
        let before = (self.stage, self.info.clone());
        self.stage = Stage::Ready;
        self.info.simulcast = simulcast;
        if let Some(codec) = self.info.codecs.first_mut() {
            codec.mime_type.clone_from(&mime);
            codec.mid.clone_from(&mid);
            // What the client asked for was for the codec that it asked for, and the media may have another.
            if self.kind == MediaKind::Video && matches!(codec.video_layer_mode(), Mode::Unused | Mode::MultipleSpatialLayersPerStream) {
                codec.video_layer_mode = layer_mode(&mime).into();
            }
        }
        // What came instead of the codec that was asked for may be one of its backups.
        let mut place = 0;
        self.info.codecs.retain(|codec| {
            place += 1;
            place == 1 || !codec.mime_type.eq_ignore_ascii_case(&mime)
        });
        self.info.mid = mid;
        self.info.mime_type = mime;
        before != (self.stage, self.info.clone())
    }

    /// True if it changed something.
    pub(crate) fn set_muted(&mut self, muted: bool) -> bool {
        std::mem::replace(&mut self.info.muted, muted) != muted
    }

    /// True if it changed something.
    pub(crate) fn set_size(&mut self, width_px: u32, height_px: u32) -> bool {
        let before = (std::mem::replace(&mut self.info.width, width_px), std::mem::replace(&mut self.info.height, height_px));
        before != (width_px, height_px)
    }

    /// True if it changed something.
    #[expect(deprecated, reason = "older clients read the flags, newer ones the features")]
    pub(crate) fn set_audio_features(&mut self, features: &[i32]) -> bool {
        let features = distinct(features);
        if features == self.info.audio_features {
            return false;
        }
        self.info.stereo = features.contains(&AudioTrackFeature::TfStereo.into());
        self.info.disable_dtx = features.contains(&AudioTrackFeature::TfNoDtx.into());
        self.info.audio_features = features;
        true
    }
}

/// Layers as the media node knows them, smallest first.
pub(crate) fn layer_infos(layers: &[proto::VideoLayer]) -> Vec<LayerInfo> {
    let info = |(spatial, layer): (u8, &proto::VideoLayer)| LayerInfo {
        spatial,
        rid: layer.rid.clone(),
        width_px: layer.width,
        height_px: layer.height,
        bitrate_bps: layer.bitrate,
    };
    (0_u8..).zip(layers).map(info).collect()
}

/// Kind, source and text lengths are right; the reason if not.
pub(crate) fn check(request: &proto::AddTrackRequest) -> Result<MediaKind, proto::request_response::Reason> {
    use proto::request_response::Reason;
    let kind = match TrackType::try_from(request.r#type) {
        Ok(TrackType::Audio) => MediaKind::Audio,
        Ok(TrackType::Video) => MediaKind::Video,
        Ok(TrackType::Data) | Err(_) => return Err(Reason::UnsupportedType),
    };
    if !is_source_of(kind, request.source()) {
        return Err(Reason::InvalidRequest);
    }
    let is_short = |text: &String| text.len() <= limits::TRACK_TEXT_BYTES;
    if request.cid.is_empty() || ![&request.cid, &request.name, &request.stream].into_iter().all(is_short) {
        return Err(Reason::InvalidRequest);
    }
    Ok(kind)
}

/// A right to publish names a source, so a source stands for one kind of media.
fn is_source_of(kind: MediaKind, source: TrackSource) -> bool {
    match source {
        TrackSource::Microphone | TrackSource::ScreenShareAudio => kind == MediaKind::Audio,
        TrackSource::Camera | TrackSource::ScreenShare => kind == MediaKind::Video,
        TrackSource::Unknown => true,
    }
}

/// What a client is answered and others will see, before the media is known.
#[expect(deprecated, reason = "older clients read the flags and the common layers")]
pub(crate) fn describe(request: &proto::AddTrackRequest, id: TrackId, kind: MediaKind) -> proto::TrackInfo {
    let source = request.source();
    let layers = sorted_layers(&request.layers);
    let mut audio_features = distinct(&request.audio_features);
    for (is_on, feature) in [(request.stereo, AudioTrackFeature::TfStereo), (request.disable_dtx, AudioTrackFeature::TfNoDtx)] {
        if is_on && !audio_features.contains(&feature.into()) {
            audio_features.push(feature.into());
        }
    }
    let codecs = codecs(request, kind, &layers);
    let simulcast = kind == MediaKind::Video
        && codecs.first().is_some_and(|codec| codec.video_layer_mode() != Mode::MultipleSpatialLayersPerStream && codec.layers.len() > 1);
    proto::TrackInfo {
        sid: ids::track_sid(id, sid_hint(kind, source)),
        r#type: request.r#type,
        name: request.name.clone(),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast,
        disable_dtx: request.disable_dtx,
        source: source.into(),
        layers,
        mime_type: codecs.first().map(|codec| codec.mime_type.clone()).unwrap_or_default(),
        codecs,
        stereo: request.stereo,
        disable_red: request.disable_red,
        encryption: request.encryption().into(),
        stream: if request.stream.is_empty() { stream_of(source).to_owned() } else { request.stream.clone() },
        audio_features,
        backup_codec_policy: request.backup_codec_policy().into(),
        packet_trailer_features: distinct(&request.packet_trailer_features),
        ..Default::default()
    }
}

pub(crate) fn codecs(request: &proto::AddTrackRequest, kind: MediaKind, layers: &[proto::VideoLayer]) -> Vec<proto::SimulcastCodecInfo> {
    let prefix = match kind {
        MediaKind::Audio => "audio/",
        MediaKind::Video => "video/",
    };
    let mut seen = BTreeSet::new();
    let mut codecs: Vec<_> = request
        .simulcast_codecs
        .iter()
        .take(limits::CODECS_PER_TRACK)
        .filter(|codec| {
            !codec.codec.is_empty() && codec.codec.len() <= limits::TRACK_TEXT_BYTES && codec.cid.len() <= limits::TRACK_TEXT_BYTES
        })
        .filter(|codec| seen.insert(codec.codec.to_ascii_lowercase()))
        .map(|codec| {
            let mime = if codec.codec.contains('/') { codec.codec.clone() } else { format!("{prefix}{}", codec.codec) };
            let mode = match codec.video_layer_mode() {
                Mode::Unused if kind == MediaKind::Video => layer_mode(&mime),
                given => given,
            };
            proto::SimulcastCodecInfo {
                mime_type: mime,
                cid: codec.cid.clone(),
                layers: if codec.layers.is_empty() { layers.to_vec() } else { sorted_layers(&codec.layers) },
                video_layer_mode: mode.into(),
                ..Default::default()
            }
        })
        .collect();
    if codecs.is_empty() {
        codecs.push(proto::SimulcastCodecInfo {
            cid: request.cid.clone(),
            layers: layers.to_vec(),
            video_layer_mode: if kind == MediaKind::Video { Mode::OneSpatialLayerPerStream.into() } else { Mode::Unused.into() },
            ..Default::default()
        });
    }
    codecs
}

pub(crate) fn sorted_layers(layers: &[proto::VideoLayer]) -> Vec<proto::VideoLayer> {
    let mut layers: Vec<_> =
        layers.iter().take(limits::LAYERS_PER_TRACK).filter(|layer| layer.rid.len() <= limits::TRACK_TEXT_BYTES).cloned().collect();
    layers.sort_by_key(|layer| layer.quality);
    layers
}

fn distinct(values: &[i32]) -> Vec<i32> {
    let mut seen = BTreeSet::new();
    values.iter().take(limits::FEATURES_PER_TRACK).copied().filter(|value| seen.insert(*value)).collect()
}

fn layer_mode(mime: &str) -> Mode {
    let carries_svc = ["video/vp9", "video/av1"].iter().any(|svc| mime.eq_ignore_ascii_case(svc));
    if carries_svc { Mode::MultipleSpatialLayersPerStream } else { Mode::OneSpatialLayerPerStream }
}

/// The two letters after `TR_` that people read in logs.
fn sid_hint(kind: MediaKind, source: TrackSource) -> &'static str {
    match (kind, source) {
        (MediaKind::Video, TrackSource::Camera) => "VC",
        (MediaKind::Video, TrackSource::ScreenShare) => "VS",
        (MediaKind::Video, _) => "V",
        (MediaKind::Audio, TrackSource::Microphone) => "AM",
        (MediaKind::Audio, TrackSource::ScreenShareAudio) => "As",
        (MediaKind::Audio, _) => "A",
    }
}

/// Camera and microphone belong together, and so do the parts of a screen share.
fn stream_of(source: TrackSource) -> &'static str {
    match source {
        TrackSource::Camera | TrackSource::Microphone => "camera",
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screen",
        TrackSource::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use livekit_protocol::{VideoLayer, VideoQuality, request_response::Reason};

    use super::*;

    fn camera() -> proto::AddTrackRequest {
        let layer =
            |quality: VideoQuality, height| VideoLayer { quality: quality.into(), width: height * 16 / 9, height, ..Default::default() };
        proto::AddTrackRequest {
            cid: "cam".to_owned(),
            r#type: TrackType::Video.into(),
            source: TrackSource::Camera.into(),
            width: 1280,
            height: 720,
            layers: vec![layer(VideoQuality::High, 720), layer(VideoQuality::Low, 180), layer(VideoQuality::Medium, 360)],
            ..Default::default()
        }
    }

    #[test]
    fn a_camera_is_described_with_its_layers_smallest_first() {
        let info = describe(&camera(), TrackId(1), MediaKind::Video);
        assert!(info.sid.starts_with("TR_VC"));
        assert_eq!(info.codecs[0].layers.iter().map(|layer| layer.height).collect::<Vec<_>>(), [180, 360, 720]);
        assert_eq!(info.stream, "camera");
    }

    #[test]
    #[expect(deprecated)]
    fn svc_codecs_are_not_simulcast() {
        let mut request = camera();
        request.simulcast_codecs = vec![proto::SimulcastCodec { codec: "vp9".to_owned(), cid: "cam".to_owned(), ..Default::default() }];
        let info = describe(&request, TrackId(1), MediaKind::Video);
        assert_eq!(info.mime_type, "video/vp9");
        assert!(!info.simulcast);
        request.simulcast_codecs[0].codec = "vp8".to_owned();
        assert!(describe(&request, TrackId(1), MediaKind::Video).simulcast);
    }

    #[test]
    fn requests_that_make_no_sense_are_refused_with_a_reason() {
        assert_eq!(check(&camera()), Ok(MediaKind::Video));
        assert_eq!(check(&proto::AddTrackRequest { r#type: TrackType::Data.into(), ..camera() }), Err(Reason::UnsupportedType));
        assert_eq!(check(&proto::AddTrackRequest { r#type: 77, ..camera() }), Err(Reason::UnsupportedType));
        assert_eq!(check(&proto::AddTrackRequest { cid: String::new(), ..camera() }), Err(Reason::InvalidRequest));
        assert_eq!(check(&proto::AddTrackRequest { name: "n".repeat(999), ..camera() }), Err(Reason::InvalidRequest));
    }

    #[test]
    fn the_media_node_is_told_the_layers_in_order() {
        let track = Track {
            id: TrackId(1),
            owner: ParticipantId(1),
            cid: "cam".to_owned(),
            kind: MediaKind::Video,
            stage: Stage::Pending,
            info: describe(&camera(), TrackId(1), MediaKind::Video),
            announced_at: crate::tests::start(),
            subscriber_told: false,
            mute_untold: false,
            wanted: Vec::new(),
        };
        let layers = track.publish_request().layers;
        assert_eq!(layers.iter().map(|layer| (layer.spatial, layer.height_px)).collect::<Vec<_>>(), [(0, 180), (1, 360), (2, 720)]);
    }
}
