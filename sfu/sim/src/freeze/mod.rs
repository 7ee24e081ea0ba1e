//! The receiving end of video: orders packets, assembles frames, "decodes" them and notes what a person would notice.
//!
//! In: RTP packets of one stream, original numbers (RTX already undone). Out: a [`Report`]. A frame counts as shown when
//! every byte of it and the frame that it needs are there. A whole keyframe needs nothing: what is missing before it is not waited
//! for (libwebrtc: `packet_buffer.cc` makes a frame of what begins and ends, whatever is before it, and the finders of references hand
//! a keyframe on at once). What no path can do and only a wrong sender does (a number used
//! twice, a timestamp that goes back, a frame glued together from two, a switch without keyframe) is counted apart from
//! what a bad network does.

mod decoder;
mod depacketize;
mod descriptors;
mod meter;
mod numbering;
mod report;

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use sfu_core::media::Codec;

use crate::frame::Frame;
use crate::player::Player;
use crate::reorder::{Ordered, Reorder};

pub use report::Report;

use decoder::Decoder;
use depacketize::{boundaries, read_frame};
use descriptors::Descriptors;
use meter::FreezeMeter;
use numbering::Numbering;

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
    numbering: Numbering,
    /// What was decoded of the picture that is being received.
    picture: Option<Frame>,
    /// The picture of this timestamp had its marker.
    ended: Option<u32>,
    descriptors: Descriptors,
    decoder: Decoder,
    meter: FreezeMeter,
    player: Player,
    report: Report,
}

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
            numbering: Numbering::default(),
            picture: None,
            ended: None,
            descriptors: Descriptors::default(),
            decoder: Decoder::new(),
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
        if let Some(start) = self.whole_keyframe(timestamp) {
            let missing = self.reorder.skip_to(start);
            self.skip(missing);
            self.poll(now);
        }
    }

    /// Where a keyframe of this time begins that is whole, behind a hole.
    fn whole_keyframe(&self, timestamp: u32) -> Option<u64> {
        let mut frame: Vec<(u64, Vec<u8>)> = Vec::new();
        for (number, packet) in self.reorder.behind_hole().filter(|(_, packet)| packet.timestamp == timestamp) {
            let boundaries = boundaries(self.codec, &packet.payload, packet.marker)?;
            if frame.last().is_some_and(|&(last, _)| last + 1 != number) {
                frame.clear();
            }
            if boundaries.starts || !frame.is_empty() {
                frame.push((number, packet.payload.clone()));
            }
            if boundaries.ends && !frame.is_empty() {
                let start = frame[0].0;
                let payloads: Vec<Vec<u8>> = frame.drain(..).map(|(_, payload)| payload).collect();
                if read_frame(self.codec, &payloads).is_some_and(|(frame, _)| frame.is_keyframe) {
                    return Some(start);
                }
            }
        }
        None
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
        self.numbering.forget_picture_id();
    }

    /// A frame says how long the player should wait, in a playout delay extension.
    pub fn hold(&mut self, value: &[u8]) {
        self.player.hold(value);
    }

    /// The track is meant to pause here; the time until the next frame is no freeze.
    pub fn pause(&mut self) {
        self.meter.pause();
    }

    /// What was seen by now.
    #[must_use]
    pub fn report(&self, now: Instant) -> Report {
        let mut report = self.report.clone();
        report.sequences_reused = self.reorder.reused();
        let (gap, freeze) = self.meter.open(now);
        report.longest_gap = report.longest_gap.max(gap);
        report.freezes.extend(freeze);
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
        let Some(boundaries) = boundaries(self.codec, &packet.payload, packet.marker) else {
            self.report.frames_corrupted += 1;
            return;
        };
        if self.assembly.is_empty() && !boundaries.starts {
            if !self.is_resyncing {
                self.report.frames_corrupted += 1;
                self.is_resyncing = true;
            }
            self.count_incomplete(packet.timestamp);
            return;
        }
        self.is_resyncing = false;
        if !packet.descriptor.is_empty() {
            self.descriptors.follow(&packet.descriptor, boundaries, self.is_gapless, &mut self.report);
        }
        let (marker, timestamp) = (packet.marker, packet.timestamp);
        if self.ended == Some(timestamp) {
            self.report.pictures_continued += 1;
        }
        self.assembly.push(packet);
        if boundaries.ends {
            self.finish(now);
        }
        if marker {
            self.ended = Some(timestamp);
            self.show(now);
        }
    }

    fn finish(&mut self, now: Instant) {
        let packets = std::mem::take(&mut self.assembly);
        let timestamp = packets.first().map_or(0, |p| p.timestamp);
        let payloads: Vec<Vec<u8>> = packets.into_iter().map(|p| p.payload).collect();
        let Some((frame, index)) = read_frame(self.codec, &payloads) else {
            self.report.frames_corrupted += 1;
            return;
        };
        if self.numbering.timestamp != Some(timestamp) || frame.spatial == 0 {
            if self.picture.is_some() {
                self.report.pictures_unended += u64::from(self.is_gapless);
                self.show(now);
            }
            self.numbering.check_timestamp(timestamp, &mut self.report);
            if let Some(index) = index {
                let counts_all = self.codec == Codec::Vp8;
                self.numbering.check_index(index, frame.is_keyframe, self.is_gapless, counts_all, &mut self.report);
            }
        }
        self.is_gapless = true;
        self.decode(frame, now);
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
        self.descriptors.check_references(&mut self.report);
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
        report.frames_late += u64::from(self.numbering.timestamp.is_some_and(|timestamp| self.player.is_late(timestamp, now)));
        report.temporal_shown[usize::from(frame.temporal).min(2)] += 1;
        report.keyframes_shown += u64::from(frame.is_keyframe);
        let (gap, freeze) = self.meter.show(now);
        report.longest_gap = report.longest_gap.max(gap);
        report.freezes.extend(freeze);
    }
}

#[cfg(test)]
mod tests;
