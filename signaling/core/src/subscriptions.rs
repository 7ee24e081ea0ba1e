//! One participant's subscriptions: what it wants, how far each is, and how it wants to see it.
//!
//! Not here: who may subscribe (`permissions`), telling the media node (`subscribing`).

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol as proto;
use livekit_protocol::VideoQuality;
use sfu_api::{MediaKind, TrackId, VideoWish};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    phases: BTreeMap<TrackId, Phase>,
    views: BTreeMap<TrackId, View>,
    /// Tracks of which the client was told once that it may not subscribe.
    gated: BTreeSet<TrackId>,
    /// True for paused; tracks of which the client was told a state.
    stream_states: BTreeMap<TrackId, bool>,
}

/// How far a wanted subscription is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Not permitted at present.
    Withheld,
    /// The media node was asked.
    Requested,
    /// The media node confirmed it.
    Active,
}

/// How a subscriber wants to see a track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct View {
    is_disabled: bool,
    quality: VideoQuality,
    width_px: u32,
    height_px: u32,
    max_fps: u32,
    priority: u32,
}

impl Subscriptions {
    pub(crate) fn phase(&self, track: TrackId) -> Option<Phase> {
        self.phases.get(&track).copied()
    }

    pub(crate) fn set_phase(&mut self, track: TrackId, phase: Phase) {
        self.phases.insert(track, phase);
    }

    /// True if the media node knows of it.
    pub(crate) fn is_live(&self, track: TrackId) -> bool {
        matches!(self.phase(track), Some(Phase::Requested | Phase::Active))
    }

    pub(crate) fn len(&self) -> usize {
        self.phases.len()
    }

    /// The client does not want it any more; how it wanted to see it is forgotten too.
    pub(crate) fn end(&mut self, track: TrackId) -> Option<Phase> {
        self.views.remove(&track);
        self.stream_states.remove(&track);
        self.phases.remove(&track)
    }

    /// The track is gone.
    pub(crate) fn forget(&mut self, track: TrackId) -> Option<Phase> {
        self.gated.remove(&track);
        self.end(track)
    }

    pub(crate) fn wanted(&self) -> impl Iterator<Item = (TrackId, Phase)> {
        self.phases.iter().map(|(track, phase)| (*track, *phase))
    }

    pub(crate) fn set_view(&mut self, track: TrackId, view: View) {
        self.views.insert(track, view);
    }

    pub(crate) fn disable(&mut self, track: TrackId) {
        self.views.entry(track).or_insert(View::FULL).is_disabled = true;
    }

    /// What was asked for; else, for a client that reports sizes, the smallest picture until it has reported one
    /// (LiveKit: an adaptive stream starts at LOW), and for others everything.
    pub(crate) fn view(&self, track: TrackId, is_adaptive: bool) -> View {
        let default = if is_adaptive { View { quality: VideoQuality::Low, ..View::FULL } } else { View::FULL };
        self.views.get(&track).copied().unwrap_or(default)
    }

    pub(crate) fn set_paused(&mut self, track: TrackId, is_paused: bool) {
        self.stream_states.insert(track, is_paused);
    }

    /// True for paused.
    pub(crate) fn stream_states(&self) -> impl Iterator<Item = (TrackId, bool)> {
        self.stream_states.iter().map(|(track, is_paused)| (*track, *is_paused))
    }

    pub(crate) fn mark_gated(&mut self, track: TrackId) {
        self.gated.insert(track);
    }

    pub(crate) fn was_gated(&self, track: TrackId) -> bool {
        self.gated.contains(&track)
    }

    pub(crate) fn gated(&self) -> impl Iterator<Item = TrackId> {
        self.gated.iter().copied()
    }
}

impl View {
    const FULL: Self = Self { is_disabled: false, quality: VideoQuality::High, width_px: 0, height_px: 0, max_fps: 0, priority: 0 };

    pub(crate) fn from_proto(settings: &proto::UpdateTrackSettings) -> Self {
        Self {
            is_disabled: settings.disabled,
            quality: settings.quality(),
            width_px: settings.width,
            height_px: settings.height,
            max_fps: settings.fps,
            priority: settings.priority,
        }
    }

    /// In the media node's words. A size wins over a quality (LiveKit: `UpdateTrackSettings`), and the node finds the layer for
    /// it; a quality is matched to the layers that the publisher announced.
    pub(crate) fn wish(self, kind: MediaKind, info: &proto::TrackInfo) -> VideoWish {
        let is_enabled = !self.is_disabled && (kind == MediaKind::Audio || self.has_size() || self.quality != VideoQuality::Off);
        if kind == MediaKind::Audio {
            return VideoWish { enabled: is_enabled, ..VideoWish::default() };
        }
        let layers = info.codecs.first().map(|codec| codec.layers.as_slice()).unwrap_or_default();
        let max_spatial = if self.has_size() { u8::MAX } else { self.layer_for_quality(layers) };
        VideoWish {
            enabled: is_enabled,
            width_px: self.width_px,
            height_px: self.height_px,
            max_spatial,
            max_fps: self.max_fps,
            priority: self.priority,
        }
    }

    fn has_size(self) -> bool {
        self.width_px > 0 && self.height_px > 0
    }

    /// The best layer that is not better than the quality asked for.
    fn layer_for_quality(self, layers: &[proto::VideoLayer]) -> u8 {
        let quality = i32::from(self.quality);
        if self.quality == VideoQuality::High || self.quality == VideoQuality::Off {
            return u8::MAX;
        }
        if layers.is_empty() {
            return u8::try_from(quality).unwrap_or(u8::MAX);
        }
        let found = layers.iter().rposition(|layer| layer.quality <= quality);
        found.and_then(|index| u8::try_from(index).ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn simulcast(qualities: &[(VideoQuality, u32)]) -> proto::TrackInfo {
        let layers = qualities
            .iter()
            .map(|(quality, height)| proto::VideoLayer {
                quality: (*quality).into(),
                width: height * 16 / 9,
                height: *height,
                ..Default::default()
            })
            .collect();
        proto::TrackInfo {
            width: 1280,
            height: 720,
            codecs: vec![proto::SimulcastCodecInfo { layers, ..Default::default() }],
            ..Default::default()
        }
    }

    fn three() -> proto::TrackInfo {
        simulcast(&[(VideoQuality::Low, 180), (VideoQuality::Medium, 360), (VideoQuality::High, 720)])
    }

    fn settings(quality: VideoQuality, width: u32, height: u32) -> View {
        View::from_proto(&proto::UpdateTrackSettings { quality: quality.into(), width, height, ..Default::default() })
    }

    #[test]
    fn qualities_pick_the_layer_that_the_publisher_announced_for_them() {
        for (quality, expected) in [(VideoQuality::Low, 0), (VideoQuality::Medium, 1), (VideoQuality::High, u8::MAX)] {
            let wish = settings(quality, 0, 0).wish(MediaKind::Video, &three());
            assert_eq!((wish.enabled, wish.max_spatial), (true, expected));
        }
        let two = simulcast(&[(VideoQuality::Low, 360), (VideoQuality::High, 720)]);
        assert_eq!(settings(VideoQuality::Medium, 0, 0).wish(MediaKind::Video, &two).max_spatial, 0);
        let one = simulcast(&[(VideoQuality::High, 720)]);
        assert_eq!(settings(VideoQuality::Low, 0, 0).wish(MediaKind::Video, &one).max_spatial, 0);
    }

    #[test]
    fn a_size_wins_over_a_quality_and_is_left_to_the_media_node() {
        for quality in [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High, VideoQuality::Off] {
            let wish = settings(quality, 320, 180).wish(MediaKind::Video, &three());
            assert_eq!(wish, VideoWish { width_px: 320, height_px: 180, ..VideoWish::default() }, "{quality:?}");
        }
    }

    #[test]
    fn off_and_disabled_send_nothing() {
        assert!(!settings(VideoQuality::Off, 0, 0).wish(MediaKind::Video, &three()).enabled);
        let disabled = View::from_proto(&proto::UpdateTrackSettings { disabled: true, ..Default::default() });
        assert!(!disabled.wish(MediaKind::Video, &three()).enabled);
        assert!(!disabled.wish(MediaKind::Audio, &proto::TrackInfo::default()).enabled);
    }

    #[test]
    fn a_client_that_reports_sizes_starts_small() {
        let subscriptions = Subscriptions::default();
        assert_eq!(subscriptions.view(TrackId(1), true).wish(MediaKind::Video, &three()).max_spatial, 0);
        assert_eq!(subscriptions.view(TrackId(1), false).wish(MediaKind::Video, &three()), VideoWish::default());
    }

    #[test]
    fn a_view_survives_until_its_subscription_ends() {
        let mut subscriptions = Subscriptions::default();
        subscriptions.disable(TrackId(1));
        subscriptions.set_phase(TrackId(1), Phase::Requested);
        assert!(subscriptions.view(TrackId(1), false).is_disabled);
        subscriptions.end(TrackId(1));
        assert_eq!(subscriptions.view(TrackId(1), false), View::FULL);
    }
}
