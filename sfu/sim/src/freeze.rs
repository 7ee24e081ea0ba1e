//! The receiving end of video: orders packets, assembles frames, "decodes" them and notes what a person would notice.
//!
//! In: RTP packets of one stream, original numbers (RTX already undone). Out: a [`Report`]. A frame counts as shown when
//! every byte of it and the frame that it needs are there. What no path can do and only a wrong sender does (a number used
//! twice, a timestamp that goes back, a frame glued together from two, a switch without keyframe) is counted apart from
//! what a bad network does.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use sfu_core::media::Codec;
use sfu_core::rtp::payload::dependency_descriptor::{Descriptor, Layer, Structure};

use crate::frame::Frame;
use crate::packetize;
use crate::packetize_layered::{self, Part};
use crate::player::Player;
use crate::reorder::{Ordered, Reorder};

/// A packet of the stream.
#[derive(Clone, Debug)]
struct Packet {
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
    descriptor: Vec<u8>,
}

/// The descriptor does not count: a repeated packet may say less of decode targets than the first one did.
impl PartialEq for Packet {
    fn eq(&self, other: &Self) -> bool {
        (self.timestamp, self.marker, &self.payload) == (other.timestamp, other.marker, &other.payload)
    }
}

impl Eq for Packet {}

impl Hash for Packet {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.timestamp, self.marker, &self.payload).hash(state);
    }
}

/// What was seen so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Frames shown.
    pub frames_shown: u64,
    /// Keyframes among them.
    pub keyframes_shown: u64,
    /// Whole frames that came before the first keyframe.
    pub frames_before_keyframe: u64,
    /// Whole frames whose reference was never shown.
    pub frames_undecodable: u64,
    /// Frames that lost a packet.
    pub frames_incomplete: u64,
    /// Packets given up.
    pub packets_lost: u64,
    /// Freezes as browsers count them: their start and length.
    pub freezes: Vec<(Instant, Duration)>,
    /// Longest time between two shown frames, or since the last one.
    pub longest_gap: Duration,
    /// When the first frame was shown.
    pub first_shown: Option<Instant>,
    /// The encoding that is on screen.
    pub current: Option<Frame>,
    /// Changes of the encoding on screen: when, and to which.
    pub switches: Vec<(Instant, u8)>,
    /// Frames that are no frame though no packet of them is missing.
    pub frames_corrupted: u64,
    /// Interframes of another encoding than the one on screen.
    pub switches_without_keyframe: u64,
    /// Frames whose timestamp is not after the one before.
    pub timestamps_back: u64,
    /// Longest step of the timestamp between two frames.
    pub longest_timestamp_step: Duration,
    /// VP8 picture ids that do not follow the one before, though no packet is missing between.
    pub picture_id_jumps: u64,
    /// VP8 picture ids that are used again or go back.
    pub picture_ids_back: u64,
    /// Sequence numbers used for two packets.
    pub sequences_reused: u64,
    /// `TL0PICIDX` that do not count the pictures of the base layer, though no packet is missing between.
    pub tl0_jumps: u64,
    /// Packets of a picture behind its marker.
    pub pictures_continued: u64,
    /// Pictures without a marker, though no packet is missing.
    pub pictures_unended: u64,
    /// Dependency descriptors that could not be read though no packet is missing, or contradict the payload.
    pub descriptors_wrong: u64,
    /// Frame numbers that don't ascend.
    pub frame_numbers_back: u64,
    /// Decodable frames whose descriptor refers to frames that never came.
    pub references_wrong: u64,
    /// Frames of no decode target that is announced as active.
    pub frames_unannounced: u64,
    /// Highest layer that is announced as active.
    pub announced: Option<Layer>,
    /// Bytes of RTP payload that came.
    pub payload_bytes: u64,
    /// Pictures shown of each temporal layer.
    pub temporal_shown: [u64; 3],
    /// Pictures that were there only after their turn.
    pub frames_late: u64,
}

impl Report {
    /// What only a wrong sender does, in words; empty if all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let faults = [
            (self.frames_corrupted, "corrupted frames"),
            (self.switches_without_keyframe, "switches without keyframe"),
            (self.timestamps_back, "timestamps going back"),
            (self.picture_id_jumps, "picture id jumps"),
            (self.picture_ids_back, "picture ids going back"),
            (self.sequences_reused, "sequence numbers used twice"),
            (self.tl0_jumps, "base layer indices that jump"),
            (self.pictures_continued, "packets behind a marker"),
            (self.pictures_unended, "pictures without marker"),
            (self.descriptors_wrong, "wrong descriptors"),
            (self.frame_numbers_back, "frame numbers going back"),
            (self.references_wrong, "wrong references"),
            (self.frames_unannounced, "frames that were not announced"),
        ];
        faults.into_iter().filter(|&(count, _)| count > 0).map(|(count, what)| format!("{count} {what}")).collect()
    }

    /// Time frozen altogether.
    #[must_use]
    pub fn frozen(&self) -> Duration {
        self.freezes.iter().map(|(_, length)| *length).sum()
    }
}

/// See the module.
#[derive(Debug)]
pub struct VideoReceiver {
    codec: Codec,
    reorder: Reorder<Packet>,
    assembly: Vec<Packet>,
    /// At the beginning, and after a hole was given up: packets are skipped up to the start of a frame.
    is_resyncing: bool,
    /// Timestamp of the last frame that was counted as incomplete.
    last_incomplete: Option<u32>,
    /// Nothing is missing since the last whole frame.
    is_gapless: bool,
    last_timestamp: Option<u32>,
    last_picture_id: Option<u16>,
    last_tl0: Option<u8>,
    /// What was decoded of the picture that is being received.
    picture: Option<Frame>,
    /// The picture of this timestamp had its marker.
    ended: Option<u32>,
    described: Described,
    decoder: Decoder,
    meter: FreezeMeter,
    player: Player,
    report: Report,
}

/// What the dependency descriptors told.
#[derive(Debug, Default)]
struct Described {
    structure: Option<Structure>,
    active: u32,
    last_number: Option<u16>,
    /// Frames that were decoded.
    decoded: VecDeque<u16>,
    current: Option<Descriptor>,
}

/// Picture id and base layer index of a picture, with its temporal layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct PictureIndex {
    id: u16,
    tl0: u8,
    temporal: u8,
}

/// Which frames are there to be referred to.
#[derive(Debug, Default)]
struct Decoder {
    shown: VecDeque<u32>,
    encoding: Option<u8>,
    wants_keyframe: bool,
}

/// Intervals between shown frames.
#[derive(Debug, Default)]
struct FreezeMeter {
    last: Option<Instant>,
    intervals: VecDeque<Duration>,
}

const CLOCK_RATE_HZ: u32 = 90_000;
/// Frames that may be referred to; symbolic encoders refer to the last few only.
const REMEMBERED_FRAMES: usize = 48;

impl VideoReceiver {
    /// `patience`: how long a missing packet is waited for.
    #[must_use]
    pub fn new(codec: Codec, patience: Duration) -> Self {
        Self {
            codec,
            reorder: Reorder::new(patience),
            assembly: Vec::new(),
            is_resyncing: true,
            last_incomplete: None,
            is_gapless: true,
            last_timestamp: None,
            last_picture_id: None,
            last_tl0: None,
            picture: None,
            ended: None,
            described: Described::default(),
            decoder: Decoder { wants_keyframe: true, ..Decoder::default() },
            meter: FreezeMeter::default(),
            player: Player::default(),
            report: Report::default(),
        }
    }

    /// Takes a packet in, with its dependency descriptor if it has one. An empty payload (padding only) fills its place in the
    /// sequence.
    pub fn receive(&mut self, now: Instant, sequence: u16, timestamp: u32, marker: bool, payload: &[u8], descriptor: &[u8]) {
        self.report.payload_bytes += payload.len() as u64;
        self.reorder.insert(now, sequence, Packet { timestamp, marker, payload: payload.to_vec(), descriptor: descriptor.to_vec() });
        self.poll(now);
    }

    /// Gives up what was waited for too long.
    pub fn poll(&mut self, now: Instant) {
        while let Some(ordered) = self.reorder.pop(now) {
            match ordered {
                Ordered::Gap(count) => self.skip(count),
                Ordered::Packet(packet) => self.assemble(packet, now),
            }
        }
    }

    /// When [`Self::poll`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.reorder.next_timeout()
    }

    /// Sequence numbers for a NACK.
    #[must_use]
    pub fn missing(&self) -> Vec<u16> {
        self.reorder.missing()
    }

    /// Nothing can be shown without a keyframe: time for a PLI.
    #[must_use]
    pub fn wants_keyframe(&self) -> bool {
        self.decoder.wants_keyframe
    }

    /// Codec of what comes.
    #[must_use]
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The payload type changed: what comes from here on has another codec.
    pub fn set_codec(&mut self, codec: Codec) {
        self.codec = codec;
        self.last_picture_id = None;
    }

    /// A frame says how long the player should wait, in a playout delay extension.
    pub fn hold(&mut self, value: &[u8]) {
        self.player.hold(value);
    }

    /// The track is meant to pause here; the time until the next frame is no freeze.
    pub fn pause(&mut self) {
        self.meter.last = None;
    }

    /// What was seen by now.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let mut report = self.report.clone();
        report.sequences_reused = self.reorder.reused();
        if let Some(last) = self.meter.last {
            let open = now.saturating_duration_since(last);
            report.longest_gap = report.longest_gap.max(open);
            report.freezes.extend(self.meter.is_freeze(open).then_some((last, open)));
        }
        report
    }

    fn skip(&mut self, count: u64) {
        self.report.packets_lost += count;
        if let Some(first) = self.assembly.first() {
            self.count_incomplete(first.timestamp);
        }
        self.assembly.clear();
        self.is_resyncing = true;
        self.is_gapless = false;
    }

    fn count_incomplete(&mut self, timestamp: u32) {
        if self.last_incomplete.replace(timestamp) != Some(timestamp) {
            self.report.frames_incomplete += 1;
        }
    }

    fn assemble(&mut self, packet: Packet, now: Instant) {
        if packet.payload.is_empty() {
            return;
        }
        if self.assembly.first().is_some_and(|first| first.timestamp != packet.timestamp) {
            // The frame before has no end.
            self.report.frames_corrupted += 1;
            self.assembly.clear();
        }
        let Some((starts, ends)) = self.boundaries(&packet) else {
            self.report.frames_corrupted += 1;
            return;
        };
        if self.assembly.is_empty() && !starts {
            if !self.is_resyncing {
                self.report.frames_corrupted += 1;
                self.is_resyncing = true;
            }
            self.count_incomplete(packet.timestamp);
            return;
        }
        self.is_resyncing = false;
        self.describe(&packet, (starts, ends));
        let (marker, timestamp) = (packet.marker, packet.timestamp);
        if self.ended == Some(timestamp) {
            self.report.pictures_continued += 1;
        }
        self.assembly.push(packet);
        if ends {
            self.finish(now);
        }
        if marker {
            self.ended = Some(timestamp);
            self.show(now);
        }
    }

    /// Whether a packet starts and ends its frame.
    fn boundaries(&self, packet: &Packet) -> Option<(bool, bool)> {
        let payload = &packet.payload;
        match self.codec {
            Codec::H264 => Some((packetize::starts_h264_unit(payload), packet.marker)),
            Codec::Vp9 | Codec::Av1 | Codec::H265 => self.part(payload).map(|part| (part.starts, part.ends)),
            _ => packetize::read_vp8(payload).map(|p| (p.starts_frame, packet.marker)),
        }
    }

    fn part<'a>(&self, payload: &'a [u8]) -> Option<Part<'a>> {
        match self.codec {
            Codec::Vp9 => packetize_layered::read_vp9(payload),
            Codec::H265 => packetize_layered::read_h265(payload),
            _ => packetize_layered::read_av1(payload),
        }
    }

    /// Follows the dependency descriptors.
    fn describe(&mut self, packet: &Packet, (starts, ends): (bool, bool)) {
        if packet.descriptor.is_empty() {
            return;
        }
        let known = &mut self.described;
        if let Ok(Some(structure)) = Structure::parse(&packet.descriptor) {
            known.structure = Some(structure);
        }
        let Ok(descriptor) = Descriptor::parse(&packet.descriptor, known.structure.as_ref()) else {
            self.report.descriptors_wrong += u64::from(self.is_gapless);
            known.current = None;
            return;
        };
        let mandatory = descriptor.mandatory;
        self.report.descriptors_wrong += u64::from((mandatory.starts_frame, mandatory.ends_frame) != (starts, ends));
        if let Some(active) = descriptor.active_decode_targets {
            known.active = active;
            let layers = known.structure.iter().flat_map(|s| (0..s.decode_targets()).map(|target| (target, s.layer_of(target))));
            self.report.announced = layers.filter(|(target, _)| active & (1 << target) != 0).filter_map(|(_, layer)| layer).max();
        }
        if starts {
            let step = known.last_number.map_or(1, |last| mandatory.frame_number.wrapping_sub(last));
            self.report.frame_numbers_back += u64::from(step == 0 || step > 0x8000);
            known.last_number = Some(mandatory.frame_number);
        }
        self.report.frames_unannounced += u64::from(self.is_gapless && descriptor.indications.present() & known.active == 0);
        known.current = Some(descriptor);
    }

    fn finish(&mut self, now: Instant) {
        let packets = std::mem::take(&mut self.assembly);
        let timestamp = packets.first().map_or(0, |p| p.timestamp);
        let payloads: Vec<Vec<u8>> = packets.into_iter().map(|p| p.payload).collect();
        let Some((frame, index)) = self.read(&payloads) else {
            self.report.frames_corrupted += 1;
            return;
        };
        if self.last_timestamp != Some(timestamp) || frame.spatial == 0 {
            if self.picture.is_some() {
                self.report.pictures_unended += u64::from(self.is_gapless);
                self.show(now);
            }
            self.check_timestamp(timestamp);
            if let Some(index) = index {
                self.check_picture_index(index, frame.is_keyframe);
            }
        }
        self.is_gapless = true;
        self.decode(frame, now);
    }

    /// The frame in whole payloads; the descriptor is the same in all of them.
    fn read(&self, payloads: &[Vec<u8>]) -> Option<(Frame, Option<PictureIndex>)> {
        match self.codec {
            Codec::H264 => packetize::read_h264(payloads).and_then(|bytes| Frame::decode(&bytes)).map(|frame| (frame, None)),
            Codec::Vp9 | Codec::Av1 | Codec::H265 => {
                let parts: Vec<Part<'_>> = payloads.iter().map(|payload| self.part(payload)).collect::<Option<_>>()?;
                let vp9 = parts.first()?.vp9;
                let last = parts.len() - 1;
                let is_one = |(index, part): (usize, &Part<'_>)| part.vp9 == vp9 && (part.starts, part.ends) == (index == 0, index == last);
                let is_one_frame = parts.iter().enumerate().all(is_one);
                let frame = Frame::decode(&parts.iter().flat_map(|part| part.data).copied().collect::<Vec<u8>>())?;
                let is_right = vp9.is_none_or(|own| (own.spatial, own.temporal) == (frame.spatial, frame.temporal));
                let index = vp9.map(|own| PictureIndex { id: own.picture_id, tl0: own.tl0_picture_index, temporal: own.temporal });
                (is_one_frame && is_right).then_some((frame, index))
            }
            _ => read_vp8_frame(payloads),
        }
    }

    fn check_timestamp(&mut self, timestamp: u32) {
        if let Some(last) = self.last_timestamp {
            let step = timestamp.wrapping_sub(last);
            if step == 0 || step > u32::MAX / 2 {
                self.report.timestamps_back += 1;
            } else {
                let step =
                    Duration::from_secs(1) * (step / CLOCK_RATE_HZ) + Duration::from_secs(1) * (step % CLOCK_RATE_HZ) / CLOCK_RATE_HZ;
                self.report.longest_timestamp_step = self.report.longest_timestamp_step.max(step);
            }
        }
        self.last_timestamp = Some(timestamp);
    }

    fn check_picture_index(&mut self, index: PictureIndex, is_keyframe: bool) {
        if let Some(last) = self.last_picture_id {
            let step = index.id.wrapping_sub(last) & 0x7fff;
            if step == 0 || step > 0x4000 {
                self.report.picture_ids_back += 1;
            } else if step != 1 && self.is_gapless && self.codec == Codec::Vp8 {
                self.report.picture_id_jumps += 1;
            }
        }
        // What nobody could decode before a keyframe may be missing.
        if let Some(last) = self.last_tl0.filter(|_| self.is_gapless && !is_keyframe) {
            let step = index.tl0.wrapping_sub(last);
            self.report.tl0_jumps += u64::from(step != u8::from(index.temporal == 0));
        }
        self.last_picture_id = Some(index.id);
        self.last_tl0 = Some(index.tl0);
    }

    fn decode(&mut self, frame: Frame, now: Instant) {
        let is_first = self.decoder.encoding.is_none();
        if !frame.is_keyframe && is_first {
            self.report.frames_before_keyframe += 1;
            return;
        }
        if !self.decoder.take(frame) {
            self.report.frames_undecodable += 1;
            self.report.switches_without_keyframe += u64::from(self.decoder.encoding != Some(frame.encoding));
            return;
        }
        if let Some(descriptor) = self.described.current {
            let number = descriptor.mandatory.frame_number;
            let is_there = |diff: &u16| self.described.decoded.contains(&number.wrapping_sub(*diff));
            self.report.references_wrong += u64::from(!descriptor.frame_diffs.as_slice().iter().all(is_there));
            self.described.decoded.push_back(number);
            if self.described.decoded.len() > REMEMBERED_FRAMES {
                self.described.decoded.pop_front();
            }
        }
        let is_keyframe = frame.is_keyframe || self.picture.is_some_and(|picture| picture.is_keyframe);
        self.picture = Some(Frame { is_keyframe, ..frame });
        if !matches!(self.codec, Codec::Vp9 | Codec::Av1) {
            self.show(now);
        }
    }

    /// The picture is complete: its highest layer is shown.
    fn show(&mut self, now: Instant) {
        let Some(frame) = self.picture.take() else { return };
        let report = &mut self.report;
        if report.current.is_some_and(|current| current.rung() != frame.rung()) {
            report.switches.push((now, frame.rung()));
        }
        report.current = Some(frame);
        report.first_shown.get_or_insert(now);
        report.frames_shown += 1;
        report.frames_late += u64::from(self.last_timestamp.is_some_and(|timestamp| self.player.is_late(timestamp, now)));
        report.temporal_shown[usize::from(frame.temporal).min(2)] += 1;
        report.keyframes_shown += u64::from(frame.is_keyframe);
        let (gap, freeze) = self.meter.show(now);
        report.longest_gap = report.longest_gap.max(gap);
        report.freezes.extend(freeze);
    }
}

impl Decoder {
    fn has(&self, own: u32, reference: u32) -> bool {
        own == reference || self.shown.contains(&reference)
    }

    /// True if the frame can be shown.
    fn take(&mut self, frame: Frame) -> bool {
        if frame.is_keyframe {
            self.shown.clear();
            self.encoding = Some(frame.encoding);
            self.wants_keyframe = false;
        } else if self.encoding != Some(frame.encoding) || !self.has(frame.number, frame.reference) || !self.has(frame.number, frame.below)
        {
            // A higher temporal layer can be missed without harm.
            self.wants_keyframe |= frame.temporal == 0;
            return false;
        }
        self.shown.push_back(frame.number);
        if self.shown.len() > REMEMBERED_FRAMES {
            self.shown.pop_front();
        }
        true
    }
}

impl FreezeMeter {
    /// Time since the frame before, and the freeze that it was, if any.
    fn show(&mut self, now: Instant) -> (Duration, Option<(Instant, Duration)>) {
        let Some(last) = self.last.replace(now) else { return (Duration::ZERO, None) };
        let interval = now.saturating_duration_since(last);
        let freeze = self.is_freeze(interval).then_some((last, interval));
        self.intervals.push_back(interval);
        if self.intervals.len() > 30 {
            self.intervals.pop_front();
        }
        (interval, freeze)
    }

    /// As libwebrtc counts (`video/video_quality_observer2.cc`): more than three times the mean of the last 30 intervals, and
    /// than the mean and 150 ms; five intervals must be known.
    fn is_freeze(&self, interval: Duration) -> bool {
        let Some(count) = u32::try_from(self.intervals.len()).ok().filter(|&count| count >= 5) else { return false };
        let mean = self.intervals.iter().sum::<Duration>() / count;
        interval > (mean * 3).max(mean + Duration::from_millis(150))
    }
}

/// The frame in whole payloads; the descriptor is the same in all of them.
fn read_vp8_frame(payloads: &[Vec<u8>]) -> Option<(Frame, Option<PictureIndex>)> {
    let parts: Vec<_> = payloads.iter().map(|p| packetize::read_vp8(p)).collect::<Option<_>>()?;
    let descriptor = parts.first()?.descriptor;
    let is_one_frame = parts.iter().enumerate().all(|(index, p)| p.descriptor == descriptor && p.starts_frame == (index == 0));
    let bitstream: Vec<u8> = parts.iter().flat_map(|p| p.data).copied().collect();
    let frame = Frame::decode(packetize::strip_vp8(&bitstream)?)?;
    let index = descriptor.map(|own| PictureIndex { id: own.picture_id, tl0: own.tl0_picture_index, temporal: own.temporal });
    is_one_frame.then_some((frame, index))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::clock::Clock;
    use crate::link::{Chance, Jitter, Link, LinkConfig, Loss};
    use crate::scalability::Mode;
    use crate::seed::Seed;
    use crate::video::{VideoConfig, VideoPacket, VideoSource};

    const MS: Duration = Duration::from_millis(1);
    const PATIENCE: Duration = Duration::from_millis(200);

    struct World {
        clock: Clock,
        source: VideoSource,
        receiver: VideoReceiver,
    }

    impl World {
        fn new(codec: Codec) -> Self {
            let (seed, clock) = (Seed::new(5), Clock::new());
            let config = VideoConfig { mode: Mode::L1T2, ..VideoConfig::simulcast(codec, &mut seed.rng("config")) };
            let source = VideoSource::new(config, clock.now(), seed.rng("video"));
            Self { clock, source, receiver: VideoReceiver::new(codec, PATIENCE) }
        }

        /// Packets of one encoding of the next picture.
        fn picture(&mut self, encoding: usize) -> Vec<VideoPacket> {
            self.clock.advance_to(self.source.next_picture());
            let mut packets = self.source.poll(self.clock.now());
            packets.retain(|p| p.encoding == encoding);
            packets
        }

        fn receive(&mut self, packets: &[VideoPacket]) {
            for p in packets {
                self.receiver.receive(self.clock.now(), p.sequence, p.timestamp, p.marker, &p.payload, &p.descriptor);
            }
        }

        fn report(&self) -> Report {
            self.receiver.report(self.clock.now())
        }
    }

    #[test]
    fn a_whole_stream_is_shown_without_faults() {
        for codec in [Codec::Vp8, Codec::H264] {
            let mut world = World::new(codec);
            for _ in 0..90 {
                let packets = world.picture(2);
                world.receive(&packets);
            }
            let report = world.report();
            assert_eq!((report.frames_shown, report.keyframes_shown), (90, 1), "{codec:?}");
            assert_eq!(report.faults(), Vec::<String>::new());
            assert!(report.freezes.is_empty() && !world.receiver.wants_keyframe());
            assert_eq!(report.current.unwrap().width_px, 1280);
        }
    }

    #[test]
    fn a_whole_layered_stream_is_shown_without_faults() {
        for (codec, mode, is_described) in [
            (Codec::Vp9, Mode::L3T3_KEY, false),
            (Codec::Vp9, Mode::L3T3, true),
            (Codec::Av1, Mode::L3T3_KEY, true),
            (Codec::Av1, Mode::L1T3, false),
            (Codec::H265, Mode::L1T1, false),
            (Codec::H264, Mode::L1T3, true),
        ] {
            let (seed, clock) = (Seed::new(5), Clock::new());
            let config = VideoConfig::layered(codec, mode, is_described, &mut seed.rng("config"));
            let source = VideoSource::new(config, clock.now(), seed.rng("video"));
            let mut world = World { clock, source, receiver: VideoReceiver::new(codec, PATIENCE) };
            for number in 0..90 {
                if number == 40 {
                    world.source.request_keyframe(0);
                }
                let packets = world.picture(0);
                world.receive(&packets);
            }
            let report = world.report();
            assert_eq!((report.frames_shown, report.keyframes_shown), (90, 2), "{codec:?} {mode:?}");
            assert_eq!(report.faults(), Vec::<String>::new(), "{codec:?} {mode:?} {report:?}");
            assert_eq!(report.current.unwrap().spatial, mode.spatial - 1);
            assert_eq!(report.announced.is_some(), is_described);
        }
    }

    #[test]
    fn what_is_lost_for_good_stops_the_picture_until_a_keyframe() {
        for codec in [Codec::Vp8, Codec::H264] {
            let mut world = World::new(codec);
            for number in 0..60 {
                let mut packets = world.picture(2);
                if number == 20 {
                    packets.remove(1);
                }
                if number == 50 {
                    assert!(world.receiver.wants_keyframe());
                    world.source.request_keyframe(2);
                }
                world.receive(&packets);
            }
            let report = world.report();
            assert_eq!((report.packets_lost, report.frames_incomplete), (1, 1), "{codec:?}");
            assert_eq!(report.keyframes_shown, 2);
            assert_eq!(report.faults(), Vec::<String>::new());
            assert_eq!(report.freezes.len(), 1);
            assert!(report.longest_gap > Duration::from_millis(900), "{report:?}");
        }
    }

    #[test]
    fn a_lost_frame_of_the_higher_layer_is_hardly_noticed() {
        let mut world = World::new(Codec::Vp8);
        for number in 0..60 {
            let packets = world.picture(0);
            if number != 21 {
                world.receive(&packets);
            }
        }
        let report = world.report();
        assert_eq!((report.frames_shown, report.frames_undecodable), (59, 0));
        assert!(!world.receiver.wants_keyframe());
    }

    #[test]
    fn a_network_never_causes_faults() {
        for codec in [Codec::Vp8, Codec::H264] {
            let mut world = World::new(codec);
            let config = LinkConfig {
                jitter: Jitter::Reordering(30 * MS),
                loss: Loss::Random(Chance::percent(2.0)),
                duplication: Chance::percent(2.0),
                ..LinkConfig::delayed(20 * MS)
            };
            let mut link = Link::new(config, Seed::new(6).rng("link"));
            for number in 0..600 {
                if number % 25 == 0 {
                    world.source.request_keyframe(1);
                }
                for p in world.picture(1) {
                    link.send(world.clock.now(), p.payload.len() + 40, p);
                }
                while let Some(p) = link.receive(world.clock.now()) {
                    world.receive(&[p]);
                }
            }
            let report = world.report();
            assert_eq!(report.faults(), Vec::<String>::new(), "{codec:?}");
            assert!(report.packets_lost > 10 && report.frames_shown > 100, "{report:?}");
        }
    }

    #[test]
    fn a_switch_in_the_middle_of_nowhere_is_a_fault() {
        let mut world = World::new(Codec::Vp8);
        for number in 0..20 {
            let packets = world.picture(usize::from(number >= 10));
            let mut packets = packets;
            // Someone renumbers, but does not wait for a keyframe.
            for (place, p) in packets.iter_mut().enumerate() {
                p.sequence = u16::try_from(number * 8 + place).unwrap();
                p.marker |= place == 7;
            }
            while packets.len() < 8 {
                let mut padding = packets.last().unwrap().clone();
                (padding.sequence, padding.payload) = (padding.sequence + 1, Vec::new());
                packets.push(padding);
            }
            world.receive(&packets);
        }
        assert!(world.report().switches_without_keyframe > 0);
    }

    #[test]
    fn a_frame_glued_from_two_is_a_fault() {
        let mut world = World::new(Codec::H264);
        let first = world.picture(2);
        world.receive(&first);
        let second = world.picture(2);
        let mut third = world.picture(2);
        third[0].payload.clone_from(&second[0].payload);
        world.receive(&second);
        world.receive(&third);
        assert_eq!(world.report().frames_corrupted, 1);
    }

    #[test]
    fn numbers_that_go_back_are_faults() {
        let mut world = World::new(Codec::Vp8);
        let first = world.picture(0);
        world.receive(&first);
        for mut p in world.picture(0) {
            p.timestamp = first[0].timestamp;
            p.payload[2..4].copy_from_slice(&first[0].payload[2..4]);
            world.receive(&[p]);
        }
        let report = world.report();
        assert_eq!((report.timestamps_back, report.picture_ids_back, report.pictures_continued), (1, 1, 1));
        assert_eq!(report.faults().len(), 3, "{report:?}");
    }

    #[test]
    fn an_expected_pause_is_no_freeze() {
        let mut world = World::new(Codec::Vp8);
        for number in 0..40 {
            let packets = world.picture(0);
            if !(20..30).contains(&number) {
                world.receive(&packets);
            } else if number == 20 {
                world.receiver.pause();
            }
        }
        world.clock.advance(PATIENCE);
        world.receiver.poll(world.clock.now());
        assert!(world.report().freezes.len() <= 1, "only the time at the end may count");
    }
}
