//! A synthetic camera with encoder: simulcast encodings of symbolic frames, as RTP payloads.
//!
//! In: the time, keyframe requests. Out: packets of the frames that are due, all encodings of one picture together. Like a
//! browser's encoder it starts every encoding with a keyframe and makes another only when asked; sequence numbers,
//! timestamps and picture ids of the encodings have nothing to do with each other. Not here: RTP headers on the wire,
//! retransmission.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use sfu_core::media::{Codec, Rid};
use sfu_core::rtp::payload::dependency_descriptor::Layer;

use crate::frame::Frame;
use crate::packetize::{self, Vp8Descriptor};
use crate::packetize_layered::{self, Vp9Descriptor};
use crate::scalability::{DescribedFrame, Describer, Mode};

/// One simulcast encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EncodingConfig {
    /// RTP stream id, if there are several.
    pub rid: Option<Rid>,
    /// Its SSRC.
    pub ssrc: u32,
    /// Width of the picture.
    pub width_px: u16,
    /// Height of the picture.
    pub height_px: u16,
    /// Target bitrate of the payload.
    pub bitrate_bps: u32,
    /// First sequence number.
    pub first_sequence: u16,
    /// Timestamp at the source's start.
    pub first_timestamp: u32,
    /// First VP8 or VP9 picture id (15 bits).
    pub first_picture_id: u16,
    /// First frame number of the dependency descriptor.
    pub first_frame_number: u16,
}

/// A source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VideoConfig {
    /// Any video codec.
    pub codec: Codec,
    /// Frames per second.
    pub fps: u32,
    /// Layers of each encoding. Spatial ones with VP9 and AV1 only.
    pub mode: Mode,
    /// Packets carry dependency descriptors.
    pub is_described: bool,
    /// Largest payload of a packet.
    pub max_payload: usize,
    /// Frames are larger or smaller than the mean by at most so many percent of it.
    pub spread_percent: u32,
    /// Smallest first.
    pub encodings: Vec<EncodingConfig>,
}

impl VideoConfig {
    /// What a browser sends of a 720p camera at 30 fps with three encodings: 180p, 360p, 720p. Numbers start anywhere.
    #[must_use]
    pub fn simulcast(codec: Codec, rng: &mut StdRng) -> Self {
        let sizes = [("q", 320, 180, 150_000), ("h", 640, 360, 500_000), ("f", 1280, 720, 1_700_000)];
        let encodings = sizes.into_iter().map(|(rid, width_px, height_px, bitrate_bps)| EncodingConfig {
            rid: Rid::from(rid).ok(),
            ..EncodingConfig::random(width_px, height_px, bitrate_bps, rng)
        });
        Self {
            codec,
            fps: 30,
            mode: Mode::L1T1,
            is_described: false,
            max_payload: 1_180,
            spread_percent: 25,
            encodings: encodings.collect(),
        }
    }

    /// One encoding without a rid.
    #[must_use]
    pub fn single(codec: Codec, rng: &mut StdRng) -> Self {
        let encodings = vec![EncodingConfig::random(640, 360, 500_000, rng)];
        Self { codec, fps: 30, mode: Mode::L1T1, is_described: false, max_payload: 1_180, spread_percent: 25, encodings }
    }

    /// A 720p camera with one encoding of these layers.
    #[must_use]
    pub fn layered(codec: Codec, mode: Mode, is_described: bool, rng: &mut StdRng) -> Self {
        let encodings = vec![EncodingConfig::random(1280, 720, 2_400_000, rng)];
        Self { mode, is_described, encodings, ..Self::single(codec, rng) }
    }
}

impl EncodingConfig {
    fn random(width_px: u16, height_px: u16, bitrate_bps: u32, rng: &mut StdRng) -> Self {
        Self {
            rid: None,
            ssrc: rng.random_range(1..u32::MAX),
            width_px,
            height_px,
            bitrate_bps,
            first_sequence: rng.random(),
            first_timestamp: rng.random(),
            first_picture_id: rng.random_range(0..0x8000),
            first_frame_number: rng.random(),
        }
    }
}

/// A packet without its RTP header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VideoPacket {
    /// Index of the encoding.
    pub encoding: usize,
    /// SSRC of the encoding.
    pub ssrc: u32,
    /// RTP sequence number.
    pub sequence: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Last packet of its frame.
    pub marker: bool,
    /// Of a keyframe.
    pub is_keyframe: bool,
    /// RTP payload.
    pub payload: Vec<u8>,
    /// Dependency descriptor; empty if there is none.
    pub descriptor: Vec<u8>,
}

/// See the module.
#[derive(Debug)]
pub struct VideoSource {
    config: VideoConfig,
    started: Instant,
    pictures: u32,
    encodings: Vec<Encoding>,
    rng: StdRng,
}

#[derive(Debug)]
struct Encoding {
    is_active: bool,
    wants_keyframe: bool,
    bitrate_bps: u32,
    sequence: u16,
    picture_id: u16,
    tl0_picture_index: u8,
    key_index: u8,
    number: u32,
    /// Position in the temporal pattern.
    place: usize,
    /// Latest frame of each spatial and temporal layer.
    latest: [[u32; 3]; 3],
    /// Spatial layers that are produced.
    spatial_layers: u8,
    describer: Option<Describer>,
    /// Numbers of the newest frames in the describer's count, by their own numbers.
    described: VecDeque<(u32, u16)>,
}

/// Keyframes are this many times larger than the mean frame.
const KEYFRAME_FACTOR: u32 = 4;
/// Each spatial layer has this many times the bitrate of the next smaller one.
const SHARE: u32 = 3;
const CLOCK_RATE_HZ: u64 = 90_000;

impl VideoSource {
    /// A source whose first picture is due at `start`.
    #[must_use]
    pub fn new(config: VideoConfig, start: Instant, rng: StdRng) -> Self {
        let encodings = config.encodings.iter().map(|encoding| Encoding {
            is_active: true,
            wants_keyframe: true,
            bitrate_bps: encoding.bitrate_bps,
            sequence: encoding.first_sequence,
            picture_id: encoding.first_picture_id & 0x7fff,
            tl0_picture_index: 0,
            key_index: 0,
            number: 0,
            place: 0,
            latest: [[0; 3]; 3],
            spatial_layers: config.mode.spatial,
            describer: config.is_described.then(|| {
                let [.., id_offset] = encoding.ssrc.to_be_bytes();
                Describer::new(config.mode, (encoding.width_px, encoding.height_px), encoding.first_frame_number, id_offset)
            }),
            described: VecDeque::new(),
        });
        Self { encodings: encodings.collect(), started: start, pictures: 0, config, rng }
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &VideoConfig {
        &self.config
    }

    /// When its first picture was due.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// When the next picture is due.
    #[must_use]
    pub fn next_picture(&self) -> Instant {
        self.started + Duration::from_secs(1) * self.pictures / self.config.fps.max(1)
    }

    /// Makes the next frame of an encoding a keyframe.
    pub fn request_keyframe(&mut self, encoding: usize) {
        if let Some(encoding) = self.encodings.get_mut(encoding) {
            encoding.wants_keyframe = true;
        }
    }

    /// Stops or resumes an encoding; it resumes with a keyframe.
    pub fn set_active(&mut self, encoding: usize, is_active: bool) {
        if let Some(encoding) = self.encodings.get_mut(encoding) {
            encoding.wants_keyframe |= is_active && !encoding.is_active;
            encoding.is_active = is_active;
        }
    }

    /// Produces so many spatial layers from the next picture on. More than before begin with a keyframe.
    pub fn set_spatial_layers(&mut self, encoding: usize, count: u8) {
        let Some(encoding) = self.encodings.get_mut(encoding) else { return };
        encoding.wants_keyframe |= count > encoding.spatial_layers;
        encoding.spatial_layers = count;
        if let Some(describer) = &mut encoding.describer {
            describer.set_spatial_layers(count);
        }
    }

    /// Leaves sequence numbers of an encoding out.
    pub fn skip(&mut self, encoding: usize, count: u16) {
        if let Some(encoding) = self.encodings.get_mut(encoding) {
            encoding.sequence = encoding.sequence.wrapping_add(count);
        }
    }

    /// Changes the target bitrate of an encoding.
    pub fn set_bitrate(&mut self, encoding: usize, bitrate_bps: u32) {
        if let Some(encoding) = self.encodings.get_mut(encoding) {
            encoding.bitrate_bps = bitrate_bps;
        }
    }

    /// The packets of all pictures that are due by now, in the order in which they are sent.
    pub fn poll(&mut self, now: Instant) -> Vec<VideoPacket> {
        let mut packets = Vec::new();
        while self.next_picture() <= now {
            let since_start = self.next_picture() - self.started;
            let ticks = u64::try_from(since_start.as_micros()).unwrap_or(u64::MAX) * CLOCK_RATE_HZ / 1_000_000;
            self.pictures += 1;
            for index in 0..self.encodings.len() {
                // Wraps, as timestamps do.
                let ticks = u32::try_from(ticks & u64::from(u32::MAX)).unwrap_or_default();
                self.encode(index, ticks, &mut packets);
            }
        }
        packets
    }

    /// One picture of an encoding: a frame for each of its spatial layers.
    fn encode(&mut self, index: usize, ticks: u32, packets: &mut Vec<VideoPacket>) {
        let config = &self.config.encodings[index];
        let mode = self.config.mode;
        let state = &mut self.encodings[index];
        if !state.is_active {
            return;
        }
        let is_keyframe = std::mem::take(&mut state.wants_keyframe);
        let temporal = state.step(is_keyframe, mode);
        let sizes: Vec<(u16, u16)> =
            (0..mode.spatial).map(|spatial| mode.spatial - 1 - spatial).map(|s| (config.width_px >> s, config.height_px >> s)).collect();
        let shares: u32 = (0..u32::from(mode.spatial)).map(|spatial| SHARE.pow(spatial)).sum();
        for spatial in 0..state.spatial_layers {
            let layer = Layer { spatial, temporal };
            let refers_below = mode.refers_below(layer, is_keyframe);
            let starts_sequence = is_keyframe && spatial == 0;
            let (width_px, height_px) = sizes[usize::from(spatial)];
            let own = state.number;
            let frame = Frame {
                encoding: u8::try_from(index).unwrap_or(u8::MAX),
                is_keyframe: starts_sequence,
                temporal,
                spatial,
                width_px,
                height_px,
                number: own,
                reference: state.reference(is_keyframe, layer),
                below: if refers_below { own - 1 } else { own },
            };
            let share = state.bitrate_bps / shares * SHARE.pow(spatial.into());
            let mean = share / 8 / self.config.fps.max(1) * if is_keyframe { KEYFRAME_FACTOR } else { 1 };
            let spread = self.config.spread_percent.min(100);
            let len = self.rng.random_range(mean * (100 - spread) / 100..=mean * (100 + spread) / 100);
            let bytes = frame.encode(usize::try_from(len).unwrap_or_default());
            let vp8 = Vp8Descriptor {
                picture_id: state.picture_id,
                tl0_picture_index: state.tl0_picture_index,
                temporal,
                is_layer_sync: temporal > 0 && frame.reference == state.latest[0][0],
                key_index: state.key_index,
            };
            let vp9 = Vp9Descriptor {
                picture_id: state.picture_id,
                tl0_picture_index: state.tl0_picture_index,
                temporal,
                spatial,
                is_inter_predicted: !is_keyframe,
                is_inter_layer_predicted: refers_below,
                is_not_reference_above: spatial + 1 == mode.spatial || (mode.is_key && !is_keyframe),
            };
            let max_payload = self.config.max_payload;
            let payloads = match self.config.codec {
                Codec::H264 => packetize::h264(&bytes, is_keyframe, max_payload),
                Codec::H265 => packetize_layered::h265(&bytes, is_keyframe, max_payload),
                Codec::Vp9 => {
                    let announced = if starts_sequence { &sizes[..usize::from(state.spatial_layers)] } else { &[] };
                    packetize_layered::vp9(&bytes, vp9, announced, max_payload)
                }
                Codec::Av1 => packetize_layered::av1(&bytes, starts_sequence, max_payload),
                _ => packetize::vp8(&bytes, is_keyframe, (width_px, height_px), vp8, max_payload),
            };
            let described = state.describe(&frame, layer, is_keyframe);
            let (count, timestamp) = (payloads.len(), config.first_timestamp.wrapping_add(ticks));
            let is_top = spatial + 1 == state.spatial_layers;
            for (place, payload) in payloads.into_iter().enumerate() {
                let (is_first, is_last) = (place == 0, place + 1 == count);
                let descriptor = described.as_ref().zip(state.describer.as_ref());
                let descriptor = descriptor.map(|(frame, describer)| describer.packet(frame, is_first, is_last)).unwrap_or_default();
                let (ssrc, sequence, marker) = (config.ssrc, state.sequence, is_last && is_top);
                packets.push(VideoPacket { encoding: index, ssrc, sequence, timestamp, marker, is_keyframe, payload, descriptor });
                state.sequence = state.sequence.wrapping_add(1);
            }
            let row = &mut state.latest[usize::from(spatial)];
            row[usize::from(temporal)] = own;
            if is_keyframe {
                *row = [own; 3];
            }
            state.number += 1;
        }
        state.picture_id = (state.picture_id + 1) & 0x7fff;
    }
}

impl Encoding {
    /// The picture's place in the pattern; counts what the descriptor counts.
    fn step(&mut self, is_keyframe: bool, mode: Mode) -> u8 {
        let pattern = mode.pattern();
        if is_keyframe {
            self.place = 0;
            self.key_index = (self.key_index + 1) & 0x1f;
        }
        let temporal = pattern[self.place % pattern.len()];
        self.place += 1;
        if temporal == 0 {
            self.tl0_picture_index = self.tl0_picture_index.wrapping_add(1);
        }
        temporal
    }

    /// The latest frame of a lower temporal layer, or of the same for the base layer. In a keyframe the next lower spatial
    /// layer, if there is one.
    fn reference(&self, is_keyframe: bool, layer: Layer) -> u32 {
        let lower = usize::from(layer.temporal.max(1));
        match (is_keyframe, layer.spatial) {
            (true, 0) => self.number,
            (true, _) => self.number - 1,
            (false, spatial) => self.latest[usize::from(spatial)].iter().take(lower).copied().max().unwrap_or(self.number),
        }
    }

    fn describe(&mut self, frame: &Frame, layer: Layer, is_keyframe: bool) -> Option<DescribedFrame> {
        let describer = self.describer.as_mut()?;
        let mut needed = vec![frame.reference, frame.below];
        needed.retain(|&number| number != frame.number);
        needed.dedup();
        let references: Vec<u16> = self.described.iter().filter(|(own, _)| needed.contains(own)).map(|&(_, number)| number).collect();
        let (number, described) = describer.frame(layer, is_keyframe, &references);
        self.described.push_back((frame.number, number));
        if self.described.len() > 64 {
            self.described.pop_front();
        }
        Some(described)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::clock::Clock;
    use crate::seed::Seed;

    const SECOND: Duration = Duration::from_secs(1);

    fn source(codec: Codec, temporal: u8) -> (VideoSource, Clock) {
        let (seed, clock) = (Seed::new(3), Clock::new());
        let mode = Mode { temporal, ..Mode::L1T1 };
        let config = VideoConfig { mode, ..VideoConfig::simulcast(codec, &mut seed.rng("config")) };
        (VideoSource::new(config, clock.now(), seed.rng("video")), clock)
    }

    #[test]
    fn frames_come_at_the_frame_rate_with_the_marker_at_their_end() {
        let (mut source, clock) = source(Codec::Vp8, 1);
        let packets = source.poll(clock.at(SECOND - Duration::from_millis(1)));
        for encoding in 0..3 {
            assert_eq!(packets.iter().filter(|p| p.encoding == encoding && p.marker).count(), 30);
        }
        assert_eq!(source.next_picture(), clock.at(SECOND));
    }

    #[test]
    fn the_bitrate_is_about_what_was_asked_for() {
        let (mut source, clock) = source(Codec::H264, 1);
        source.poll(clock.now());
        let packets = source.poll(clock.at(10 * SECOND));
        let bytes: usize = packets.iter().filter(|p| p.encoding == 2).map(|p| p.payload.len()).sum();
        assert!((16_000_000..18_500_000).contains(&(bytes * 8)), "{bytes}");
    }

    #[test]
    fn a_keyframe_comes_first_and_then_on_request_only() {
        let (mut source, clock) = source(Codec::Vp8, 1);
        let keyframes =
            |packets: &[VideoPacket]| packets.iter().filter(|p| p.is_keyframe && p.marker).map(|p| p.encoding).collect::<Vec<_>>();
        assert_eq!(keyframes(&source.poll(clock.at(SECOND))), [0, 1, 2]);
        source.request_keyframe(1);
        assert_eq!(keyframes(&source.poll(clock.at(2 * SECOND))), [1]);
    }

    #[test]
    fn a_resumed_encoding_starts_with_a_keyframe() {
        let (mut source, clock) = source(Codec::Vp8, 1);
        source.poll(clock.at(SECOND));
        source.set_active(2, false);
        assert!(source.poll(clock.at(2 * SECOND)).iter().all(|p| p.encoding != 2));
        source.set_active(2, true);
        assert!(source.poll(clock.at(3 * SECOND)).iter().find(|p| p.encoding == 2).unwrap().is_keyframe);
    }

    #[test]
    fn numbers_wrap_where_the_wire_wraps() {
        let seed = Seed::new(4);
        let mut config = VideoConfig::single(Codec::Vp8, &mut seed.rng("config"));
        config.encodings[0].first_sequence = u16::MAX;
        config.encodings[0].first_picture_id = 0x7fff;
        config.encodings[0].first_timestamp = u32::MAX;
        let clock = Clock::new();
        let packets = VideoSource::new(config, clock.now(), seed.rng("video")).poll(clock.at(SECOND));
        assert_eq!((packets[0].sequence, packets[1].sequence), (u16::MAX, 0));
        let frames: Vec<&VideoPacket> = packets.iter().filter(|p| p.marker).take(2).collect();
        let ids: Vec<u16> = frames.iter().map(|p| packetize::read_vp8(&p.payload).unwrap().descriptor.unwrap().picture_id).collect();
        assert_eq!(ids, [0x7fff, 0]);
        assert_eq!(frames[1].timestamp.wrapping_sub(frames[0].timestamp), 2_999);
    }

    #[test]
    fn higher_temporal_layers_are_needed_by_no_lower_one() {
        let (mut source, clock) = source(Codec::Vp8, 3);
        let packets = source.poll(clock.at(SECOND));
        let frames: Vec<Frame> = packets.chunk_by(|a, b| a.encoding == b.encoding && a.timestamp == b.timestamp).map(decode).collect();
        for frame in frames.iter().filter(|f| f.encoding == 0 && !f.is_keyframe) {
            let reference = frames.iter().find(|f| f.encoding == 0 && f.number == frame.reference).unwrap();
            assert!(reference.temporal < frame.temporal.max(1), "{frame:?} needs {reference:?}");
        }
        assert_eq!(frames.iter().filter(|f| f.encoding == 0).map(|f| f.temporal).take(5).collect::<Vec<_>>(), [0, 2, 1, 2, 0]);
    }

    fn decode(packets: &[VideoPacket]) -> Frame {
        let bitstream: Vec<u8> = packets.iter().flat_map(|p| packetize::read_vp8(&p.payload).unwrap().data).copied().collect();
        Frame::decode(packetize::strip_vp8(&bitstream).unwrap()).unwrap()
    }
}
