//! A synthetic camera with encoder: simulcast encodings of symbolic frames, as RTP payloads.
//!
//! In: the time, keyframe requests. Out: packets of the frames that are due, all encodings of one picture together. Like a
//! browser's encoder it starts every encoding with a keyframe and makes another only when asked; sequence numbers,
//! timestamps and picture ids of the encodings have nothing to do with each other. Not here: RTP headers on the wire,
//! retransmission.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use sfu_core::media::{Codec, Rid};

use crate::frame::Frame;
use crate::packetize::{self, Vp8Descriptor};

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
    /// First VP8 picture id (15 bits).
    pub first_picture_id: u16,
}

/// A source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VideoConfig {
    /// VP8 or H.264.
    pub codec: Codec,
    /// Frames per second.
    pub fps: u32,
    /// Temporal layers, 1 to 3. H.264 of browsers has one.
    pub temporal_layers: u8,
    /// Largest payload of a packet.
    pub max_payload: usize,
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
        Self { codec, fps: 30, temporal_layers: 1, max_payload: 1_180, encodings: encodings.collect() }
    }

    /// One encoding without a rid.
    #[must_use]
    pub fn single(codec: Codec, rng: &mut StdRng) -> Self {
        let encodings = vec![EncodingConfig::random(640, 360, 500_000, rng)];
        Self { codec, fps: 30, temporal_layers: 1, max_payload: 1_180, encodings }
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
    /// Latest frame of each temporal layer.
    latest: [u32; 3],
}

/// Keyframes are this many times larger than the mean frame.
const KEYFRAME_FACTOR: u32 = 4;
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
            latest: [0; 3],
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

    fn encode(&mut self, index: usize, ticks: u32, packets: &mut Vec<VideoPacket>) {
        let config = &self.config.encodings[index];
        let state = &mut self.encodings[index];
        if !state.is_active {
            return;
        }
        let is_keyframe = std::mem::take(&mut state.wants_keyframe);
        let temporal = state.step(is_keyframe, self.config.temporal_layers);
        let reference = state.reference(is_keyframe, temporal);
        let (width_px, height_px) = (config.width_px, config.height_px);
        let frame = Frame {
            encoding: u8::try_from(index).unwrap_or(u8::MAX),
            is_keyframe,
            temporal,
            width_px,
            height_px,
            number: state.number,
            reference,
        };
        let mean = state.bitrate_bps / 8 / self.config.fps.max(1) * if is_keyframe { KEYFRAME_FACTOR } else { 1 };
        let len = self.rng.random_range(mean * 3 / 4..=mean * 5 / 4);
        let bytes = frame.encode(usize::try_from(len).unwrap_or_default());
        let descriptor = Vp8Descriptor {
            picture_id: state.picture_id,
            tl0_picture_index: state.tl0_picture_index,
            temporal,
            is_layer_sync: temporal > 0 && reference == state.latest[0],
            key_index: state.key_index,
        };
        let payloads = match self.config.codec {
            Codec::H264 => packetize::h264(&bytes, is_keyframe, self.config.max_payload),
            Codec::Vp8 | Codec::Opus | Codec::Pcmu | Codec::Pcma => packetize::vp8(&bytes, is_keyframe, (width_px, height_px), descriptor, self.config.max_payload),
        };
        let (count, timestamp) = (payloads.len(), config.first_timestamp.wrapping_add(ticks));
        for (place, payload) in payloads.into_iter().enumerate() {
            let (ssrc, sequence, marker) = (config.ssrc, state.sequence, place + 1 == count);
            packets.push(VideoPacket { encoding: index, ssrc, sequence, timestamp, marker, is_keyframe, payload });
            state.sequence = state.sequence.wrapping_add(1);
        }
        state.latest[usize::from(temporal)] = state.number;
        if is_keyframe {
            state.latest = [state.number; 3];
        }
        state.number += 1;
        state.picture_id = (state.picture_id + 1) & 0x7fff;
    }
}

impl Encoding {
    /// The frame's place in the pattern; counts what the descriptor counts.
    fn step(&mut self, is_keyframe: bool, temporal_layers: u8) -> u8 {
        let pattern: &[u8] = match temporal_layers {
            0 | 1 => &[0],
            2 => &[0, 1],
            _ => &[0, 2, 1, 2],
        };
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

    /// The latest frame of a lower layer, or of the same for the base layer.
    fn reference(&self, is_keyframe: bool, temporal: u8) -> u32 {
        let lower = usize::from(temporal.max(1));
        if is_keyframe { self.number } else { self.latest.iter().take(lower).copied().max().unwrap_or(self.number) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::clock::Clock;
    use crate::seed::Seed;

    const SECOND: Duration = Duration::from_secs(1);

    fn source(codec: Codec, temporal_layers: u8) -> (VideoSource, Clock) {
        let (seed, clock) = (Seed::new(3), Clock::new());
        let config = VideoConfig { temporal_layers, ..VideoConfig::simulcast(codec, &mut seed.rng("config")) };
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
