//! Sending a track: its frames as protected RTP packets, retransmissions (RFC 4588), sender reports.
//!
//! In: the time, keyframe requests, NACKs. Out: datagrams in an [`Outbox`], each a train of its own as a client's are. An encoding's
//! packets carry mid and rid until the server has reported on it. Numbers start anywhere.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use sfu_core::media::Codec;
use sfu_core::net::{Flow, Outbox};
use sfu_core::rtp::ntp::NtpTime;
use sfu_core::rtp::rtcp::{SenderInfo, write_sdes_cname, write_sender_report};
use sfu_core::rtp::sequence::low16;
use sfu_core::transport::srtp::SrtpSession;
use sfu_sim::sdp::extension_ids;

use super::counters::Counters;
use super::link::{SendEncoding, SendTrack};
use super::packetize;
use super::source::FrameSource;
use super::stamp::{self, Source, Stamp};
use super::wall_clock_ns;
use crate::plan::Participant;

/// Packets that can be asked for again: at 1,000 packets/s half a second.
const HISTORY: usize = 512;

/// Where packets go and what protects them.
pub(super) struct Wire<'a> {
    pub(super) srtp: &'a mut SrtpSession,
    pub(super) flow: Flow,
    pub(super) out: &'a mut Outbox,
    pub(super) transport_sequence: &'a mut u16,
    pub(super) counters: &'a mut Counters,
}

/// A track that is sent.
pub(super) struct Sending {
    track: SendTrack,
    source: FrameSource,
    streams: Vec<Stream>,
    started: Option<Instant>,
    scratch: Vec<u8>,
    level: u8,
}

struct Stream {
    encoding: SendEncoding,
    id: Source,
    /// Rollover counter and sequence number of the next packet.
    next: u64,
    next_rtx: u64,
    first_timestamp: u32,
    /// Stamped packets.
    number: u32,
    packets: u32,
    octets: u32,
    /// The server has reported on it, so it knows what it is.
    is_known: bool,
    /// By the sequence number modulo [`HISTORY`]; empty for audio.
    history: Vec<Kept>,
}

#[derive(Clone, Default)]
struct Kept {
    sequence: u64,
    timestamp: u32,
    is_last: bool,
    payload: Vec<u8>,
}

/// What differs between packets of an encoding.
struct Packet<'a> {
    payload_type: u8,
    index: u64,
    timestamp: u32,
    is_last: bool,
    ssrc: u32,
    rid: Option<(u8, &'a str)>,
    mid: &'a str,
    level: Option<u8>,
    payload: [&'a [u8]; 2],
}

impl Sending {
    pub(super) fn new(track: SendTrack, participant: &Participant) -> Option<Self> {
        let mut rng = rand::rng();
        let is_video = track.codec.is_video();
        let source = match (&participant.audio, &participant.video) {
            (_, Some(plan)) if is_video => FrameSource::video(plan, rng.random()),
            (Some(plan), _) if !is_video => FrameSource::audio(plan, rng.random()),
            _ => return None,
        };
        let stream = |(place, encoding): (usize, &SendEncoding)| Stream {
            encoding: encoding.clone(),
            id: Source::new(participant.index, is_video, place),
            next: rng.random_range(0..=0xffff),
            next_rtx: rng.random_range(0..=0xffff),
            first_timestamp: rng.random(),
            number: 0,
            packets: 0,
            octets: 0,
            is_known: false,
            history: if is_video { vec![Kept::default(); HISTORY] } else { Vec::new() },
        };
        let streams = track.encodings.iter().enumerate().map(stream).collect();
        // A voice: everybody speaks, at a level of their own.
        let level = 20 + u8::try_from(participant.index % 30).unwrap_or(0);
        Some(Self { track, source, streams, started: None, scratch: Vec::with_capacity(1_500), level })
    }

    pub(super) fn track(&self) -> &SendTrack {
        &self.track
    }

    pub(super) fn set_idle(&mut self, now: Instant, is_idle: bool) {
        self.source.set_idle(now, is_idle);
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.source.next_due()
    }

    /// Begins with the first frames.
    pub(super) fn start(&mut self, now: Instant) {
        self.started.get_or_insert(now);
        self.source.start(now);
    }

    /// Sends what is due.
    pub(super) fn poll(&mut self, now: Instant, wire: &mut Wire<'_>) {
        let Some(started) = self.started else { return };
        let Self { track, source, streams, scratch, level, .. } = self;
        let elapsed = ticks(now.saturating_duration_since(started), track.codec);
        let late = source.poll(now, |due| {
            let Some(stream) = streams.get_mut(due.encoding) else { return };
            wire.counters.sent_frames += 1;
            let timestamp = stream.first_timestamp.wrapping_add(elapsed);
            let level = (!track.codec.is_video()).then_some(*level);
            packetize::cut(track.codec, due.frame, due.bytes, due.packets, scratch, |payload| {
                if let Some(body) = payload.body_at.and_then(|at| payload.bytes.get_mut(at..)) {
                    stamp::write(body, Stamp { source: stream.id, number: stream.number, sent_at_ns: wall_clock_ns() });
                    stream.number = stream.number.wrapping_add(1);
                }
                stream.send(track, timestamp, payload.is_last, level, payload.bytes, wire);
            });
        });
        wire.counters.skipped_frames += late;
    }

    /// Sender reports of all encodings.
    pub(super) fn report(&self, now: Instant, ntp: NtpTime, compound: &mut Vec<u8>) {
        let Some(started) = self.started else { return };
        let elapsed = ticks(now.saturating_duration_since(started), self.track.codec);
        for stream in self.streams.iter().filter(|stream| stream.packets > 0) {
            let rtp_timestamp = stream.first_timestamp.wrapping_add(elapsed);
            let info = SenderInfo { ntp, rtp_timestamp, packet_count: stream.packets, octet_count: stream.octets };
            write_sender_report(compound, stream.encoding.ssrc, &info, &[]);
            write_sdes_cname(compound, stream.encoding.ssrc, "load");
        }
    }

    /// The server reports on this SSRC, so it knows what it is.
    pub(super) fn on_report(&mut self, ssrc: u32) {
        self.streams.iter_mut().filter(|stream| stream.encoding.ssrc == ssrc).for_each(|stream| stream.is_known = true);
    }

    /// The server wants a keyframe of this SSRC.
    pub(super) fn on_keyframe_request(&mut self, ssrc: u32) {
        if let Some(place) = self.streams.iter().position(|stream| stream.encoding.ssrc == ssrc) {
            self.source.request_keyframe(place);
        }
    }

    /// The server asks for a packet again. False if it has been forgotten or there is no RTX.
    pub(super) fn on_nack(&mut self, ssrc: u32, sequence: u16, wire: &mut Wire<'_>) -> bool {
        let Self { track, streams, .. } = self;
        let Some(payload_type) = track.rtx_payload_type else { return false };
        let Some(stream) = streams.iter_mut().find(|stream| stream.encoding.ssrc == ssrc) else { return false };
        let Some(kept) = stream.history.get(usize::from(sequence) % HISTORY) else { return false };
        if low16(kept.sequence) != sequence || kept.payload.is_empty() {
            return false;
        }
        let original = sequence.to_be_bytes();
        let packet = Packet {
            payload_type,
            index: stream.next_rtx,
            timestamp: kept.timestamp,
            is_last: kept.is_last,
            ssrc: stream.encoding.rtx_ssrc,
            rid: stream.encoding.rid.as_ref().map(|rid| (extension_ids::REPAIRED_RID, rid.as_str())),
            mid: &track.mid,
            level: None,
            payload: [&original, &kept.payload],
        };
        packet.seal(wire);
        stream.next_rtx += 1;
        true
    }
}

impl Stream {
    fn send(&mut self, track: &SendTrack, timestamp: u32, is_last: bool, level: Option<u8>, payload: &[u8], wire: &mut Wire<'_>) {
        let rid = self.encoding.rid.as_ref().filter(|_| !self.is_known);
        let packet = Packet {
            payload_type: track.payload_type,
            index: self.next,
            timestamp,
            // RFC 3551 section 4.1: of audio it marks the first packet of a talk spurt.
            is_last: is_last && track.codec.is_video(),
            ssrc: self.encoding.ssrc,
            rid: rid.map(|rid| (extension_ids::RID, rid.as_str())),
            mid: if self.is_known { "" } else { &track.mid },
            level,
            payload: [payload, &[]],
        };
        packet.seal(wire);
        if let Some(kept) = self.history.get_mut(usize::from(low16(self.next)) % HISTORY) {
            (kept.sequence, kept.timestamp, kept.is_last) = (self.next, timestamp, packet.is_last);
            kept.payload.clear();
            kept.payload.extend_from_slice(payload);
        }
        self.next += 1;
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(u32::try_from(payload.len()).unwrap_or(0));
    }
}

impl Packet<'_> {
    fn seal(&self, wire: &mut Wire<'_>) {
        let tag_len = wire.srtp.profile().rtp_tag_len();
        let arena = wire.out.arena();
        let start = arena.len();
        arena.extend_from_slice(&[0x90, u8::from(self.is_last) << 7 | self.payload_type]);
        arena.extend_from_slice(&low16(self.index).to_be_bytes());
        arena.extend_from_slice(&self.timestamp.to_be_bytes());
        arena.extend_from_slice(&self.ssrc.to_be_bytes());
        // RFC 8285 section 4.2: one-byte elements.
        arena.extend_from_slice(&[0xbe, 0xde, 0, 0]);
        let elements = arena.len();
        element(arena, extension_ids::TRANSPORT_CC, &wire.transport_sequence.to_be_bytes());
        *wire.transport_sequence = wire.transport_sequence.wrapping_add(1);
        if let Some(level) = self.level {
            element(arena, extension_ids::AUDIO_LEVEL, &[0x80 | level]);
        }
        element(arena, extension_ids::MID, self.mid.as_bytes());
        if let Some((id, rid)) = self.rid {
            element(arena, id, rid.as_bytes());
        }
        while !(arena.len() - elements).is_multiple_of(4) {
            arena.push(0);
        }
        arena[elements - 1] = u8::try_from((arena.len() - elements) / 4).unwrap_or(0);
        let header_len = arena.len() - start;
        self.payload.iter().for_each(|part| arena.extend_from_slice(part));
        arena.resize(arena.len() + tag_len, 0);
        wire.srtp.sender.seal_rtp(self.ssrc, self.index, &mut arena[start..], header_len);
        let len = arena.len() - start;
        wire.out.close_train(wire.flow, start, len);
        wire.counters.sent_packets += 1;
        wire.counters.sent_bytes += len as u64;
    }
}

/// An element, if there is anything to say.
fn element(block: &mut Vec<u8>, id: u8, value: &[u8]) {
    if let Some(last) = value.len().checked_sub(1).and_then(|last| u8::try_from(last).ok()).filter(|last| *last < 16) {
        block.push(id << 4 | last);
        block.extend_from_slice(value);
    }
}

fn ticks(elapsed: Duration, codec: Codec) -> u32 {
    let ticks = elapsed.as_micros() * u128::from(codec.clock_rate_hz()) / 1_000_000;
    // RTP timestamps wrap.
    (ticks & u128::from(u32::MAX)) as u32
}
