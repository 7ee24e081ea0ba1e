//! What a participant publishes: a source, its RTP streams, and the answers to the server's feedback.
//!
//! As libwebrtc does it: mid and rid in every packet until a receiver report shows that the server knows the stream, RTX on
//! an SSRC of its own with the repaired rid, a sender report a second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;
use sfu_api::TrackId;
use sfu_core::media::{Codec, Rid};
use sfu_core::net::{Flow, Outbox};
use sfu_core::rtp::ntp::WallClock;
use sfu_core::rtp::rtcp::{SenderInfo, write_sdes_cname, write_sender_report};
use sfu_core::rtp::sequence::{low16, nearest};
use sfu_core::transport::srtp::SrtpSession;

use crate::audio;
use crate::sdp::{self, PublishedMedia, extension_ids};
use crate::video::{VideoConfig, VideoSource};

/// What to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TrackSpec {
    /// Opus with RFC 6464 levels in -dBov; below 127 it is marked as voice.
    Audio {
        /// 0 (loudest) to 127 (silence).
        level: u8,
    },
    /// Audio with more to say about it.
    Voice(VoiceConfig),
    /// Video, one encoding or simulcast.
    Video(VideoConfig),
}

/// A microphone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VoiceConfig {
    /// Opus or G.711.
    pub codec: Codec,
    /// Level as in [`TrackSpec::Audio`].
    pub level: u8,
    /// Copies of earlier frames in each packet, if the server takes redundancy; None: redundancy is not offered.
    pub copies: Option<usize>,
    /// Packets of speech, then of silence, in turns: of silence only every 20th is sent (RFC 7587 section 3.1.3). None: every
    /// packet is sent.
    pub silence: Option<(u32, u32)>,
}

impl Default for VoiceConfig {
    fn default() -> Self {
        Self { codec: Codec::Opus, level: 30, copies: None, silence: None }
    }
}

impl VoiceConfig {
    /// True if a packet is part of a silence and not sent.
    fn is_silent(&self, number: u32) -> bool {
        let Some((speech, silence)) = self.silence else { return false };
        let place = number % (speech + silence);
        place >= speech && !(place - speech).is_multiple_of(20)
    }
}

impl TrackSpec {
    /// The microphone.
    fn voice(&self) -> Option<VoiceConfig> {
        match *self {
            Self::Audio { level } => Some(VoiceConfig { level, ..VoiceConfig::default() }),
            Self::Voice(config) => Some(config),
            Self::Video(_) => None,
        }
    }

    /// Its codec.
    #[must_use]
    pub fn codec(&self) -> Codec {
        match self {
            Self::Audio { .. } => Codec::Opus,
            Self::Voice(config) => config.codec,
            Self::Video(config) => config.codec,
        }
    }
}

/// Where sealed packets go.
pub(super) struct Wire<'a> {
    pub(super) srtp: &'a mut SrtpSession,
    pub(super) flow: Flow,
    pub(super) transport_sequence: &'a mut u16,
    pub(super) out: &'a mut Outbox,
}

/// What the server told a sender.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Feedback {
    /// Keyframe requests: PLI and FIR.
    pub keyframe_requests: u64,
    /// Packets that were asked for again.
    pub nacked: u64,
    /// Packets that were sent again.
    pub resent: u64,
    /// Blocks in receiver reports.
    pub reports: u64,
    /// Lost packets as the newest report counts them.
    pub reported_lost: i32,
}

/// A published track.
#[derive(Debug)]
pub struct SendingTrack {
    /// As signaling knows it.
    pub track: TrackId,
    /// Its m-line.
    pub media: PublishedMedia,
    /// `a=mid`.
    pub(super) mid: String,
    /// The server answered that it takes redundancy.
    pub sends_red: bool,
    /// Packets that the microphone sent.
    pub voiced: u64,
    /// Newest frames, for copies of them: timestamp and frame.
    voice_history: VecDeque<(u32, Vec<u8>)>,
    /// Header extensions that every packet carries besides: ids of [`extension_ids`] and values.
    pub elements: Vec<(u8, Vec<u8>)>,
    spec: TrackSpec,
    source: Option<Source>,
    streams: Vec<Stream>,
    is_paused: bool,
    rng: Option<StdRng>,
}

#[derive(Debug)]
enum Source {
    Audio { started: Instant, sent: u32, first_timestamp: u32 },
    Video(Box<VideoSource>),
}

/// One encoding on the wire.
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    rtx_ssrc: u32,
    rid: Option<Rid>,
    /// Extended sequence number of the newest packet; the rollover counter of SRTP starts at zero.
    highest: Option<u64>,
    next_rtx: u64,
    history: VecDeque<Sent>,
    is_known: bool,
    packets: u32,
    octets: u32,
    /// Timestamp of the source's start.
    first_timestamp: u32,
    feedback: Feedback,
}

#[derive(Clone, Debug)]
struct Sent {
    sequence: u64,
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
    descriptor: Vec<u8>,
}

/// A packet about to be sent.
struct Outgoing<'a> {
    payload_type: u8,
    index: u64,
    timestamp: u32,
    marker: bool,
    ssrc: u32,
    /// Whether the stream names itself, by which extension.
    rid_extension: u8,
    level: Option<u8>,
    /// Further header extensions: ids and values.
    elements: &'a [(u8, Vec<u8>)],
    descriptor: &'a [u8],
    payload: &'a [&'a [u8]],
}

/// Packets kept for retransmission.
const HISTORY: usize = 1024;

impl SendingTrack {
    pub(super) fn new(track: TrackId, spec: TrackSpec, mid: String, mut rng: StdRng) -> Self {
        let mut stream = |ssrc: u32, rid: Option<Rid>, first_timestamp: u32| Stream {
            ssrc,
            rtx_ssrc: rng.random_range(1..u32::MAX),
            rid,
            highest: None,
            next_rtx: rng.random_range(0..0x1_0000),
            history: VecDeque::new(),
            is_known: false,
            packets: 0,
            octets: 0,
            first_timestamp,
            feedback: Feedback::default(),
        };
        let streams: Vec<Stream> = match &spec {
            TrackSpec::Audio { .. } | TrackSpec::Voice(_) => vec![stream(0, None, 0)],
            TrackSpec::Video(config) => config.encodings.iter().map(|e| stream(e.ssrc, e.rid, e.first_timestamp)).collect(),
        };
        let has_red = spec.voice().is_some_and(|voice| voice.copies.is_some());
        let rids = streams.iter().filter_map(|stream| stream.rid).collect();
        let media = PublishedMedia { cid: cid(track), codec: spec.codec(), rids, ssrcs: None, is_sending: true, has_red };
        let mut sending = Self {
            track,
            media,
            mid,
            sends_red: false,
            voiced: 0,
            voice_history: VecDeque::new(),
            elements: Vec::new(),
            spec,
            source: None,
            streams,
            is_paused: false,
            rng: None,
        };
        if let (TrackSpec::Audio { .. } | TrackSpec::Voice(_), [stream]) = (&sending.spec, &mut sending.streams[..]) {
            (stream.ssrc, stream.first_timestamp) = (rng.random_range(1..u32::MAX), rng.random());
        }
        if let ([stream], true) = (&sending.streams[..], sending.media.rids.is_empty()) {
            sending.media.ssrcs = Some((stream.ssrc, stream.rtx_ssrc));
        }
        sending.rng = Some(rng);
        sending
    }

    /// The camera or microphone.
    #[must_use]
    pub fn spec(&self) -> &TrackSpec {
        &self.spec
    }

    /// What the server said about an encoding.
    #[must_use]
    pub fn feedback(&self, encoding: usize) -> Feedback {
        self.streams.get(encoding).map(|stream| stream.feedback).unwrap_or_default()
    }

    /// SSRC of an encoding.
    #[must_use]
    pub fn ssrc(&self, encoding: usize) -> Option<u32> {
        self.streams.get(encoding).map(|stream| stream.ssrc)
    }

    /// Extended sequence number of an encoding's newest packet.
    #[must_use]
    pub fn highest(&self, encoding: usize) -> Option<u64> {
        self.streams.get(encoding).and_then(|stream| stream.highest)
    }

    /// Leaves numbers out, for packets that somebody sends by hand.
    pub fn skip(&mut self, encoding: usize, count: u16) {
        if let Some(stream) = self.streams.get_mut(encoding) {
            stream.highest = stream.highest.map(|highest| highest + u64::from(count));
        }
        if let Some(video) = self.video() {
            video.skip(encoding, count);
        }
    }

    /// When the source's first packet was sent.
    #[must_use]
    pub fn started(&self) -> Option<Instant> {
        match self.source.as_ref()? {
            Source::Audio { started, .. } => Some(*started),
            Source::Video(source) => Some(source.started()),
        }
    }

    /// The camera, once it runs.
    pub fn video(&mut self) -> Option<&mut VideoSource> {
        match self.source.as_mut()? {
            Source::Video(source) => Some(source),
            Source::Audio { .. } => None,
        }
    }

    /// The level of a microphone.
    pub fn set_level(&mut self, new: u8) {
        if let TrackSpec::Audio { level } | TrackSpec::Voice(VoiceConfig { level, .. }) = &mut self.spec {
            *level = new;
        }
    }

    /// A paused track sends nothing; its encoder stands still and goes on with keyframes.
    pub(super) fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
        for encoding in 0..self.streams.len() {
            if let Some(video) = self.video() {
                video.set_active(encoding, !is_paused);
            }
        }
    }

    /// The server says up to which layer somebody wants it: encodings of simulcast, or spatial layers of the only one.
    pub(crate) fn send_up_to(&mut self, highest: Option<u8>) {
        let count = self.streams.len();
        let is_paused = self.is_paused;
        let Some(video) = self.video() else { return };
        let wanted = highest.map_or(0, |highest| usize::from(highest) + 1);
        if count > 1 {
            (0..count).for_each(|encoding| video.set_active(encoding, encoding < wanted && !is_paused));
        } else {
            video.set_active(0, wanted > 0 && !is_paused);
            if wanted > 0 {
                let layers = u8::try_from(wanted).unwrap_or(u8::MAX).min(video.config().mode.spatial);
                video.set_spatial_layers(0, layers);
            }
        }
    }

    /// The m-line sends no more.
    pub(super) fn stop(&mut self) {
        self.media.is_sending = false;
        self.set_paused(true);
    }

    /// The m-line sends again, the same streams under another name.
    pub(super) fn resume(&mut self, track: TrackId) {
        self.track = track;
        self.media.cid = cid(track);
        self.media.is_sending = true;
        self.set_paused(false);
    }

    pub(super) fn next_timeout(&self) -> Option<Instant> {
        match self.source.as_ref()? {
            Source::Audio { started, sent, .. } => Some(*started + audio::PACKET_TIME * *sent),
            Source::Video(source) => Some(source.next_picture()),
        }
    }

    /// Sends what is due; without a wire it is lost. The first call with one starts the source.
    pub(super) fn poll(&mut self, now: Instant, mut wire: Option<&mut Wire<'_>>) {
        if self.source.is_none() && self.media.is_sending && wire.is_some() {
            self.start(now);
        }
        let Self { source, spec, streams, mid, is_paused, sends_red, voiced, voice_history, elements, .. } = self;
        match (source, &*spec) {
            (Some(Source::Audio { started, sent, first_timestamp }), TrackSpec::Audio { .. } | TrackSpec::Voice(_)) => {
                let Some(voice) = spec.voice() else { return };
                while *started + audio::PACKET_TIME * *sent <= now {
                    let number = *sent;
                    *sent += 1;
                    let Some(stream) = streams.first_mut().filter(|_| !*is_paused && !voice.is_silent(number)) else { continue };
                    let timestamp = first_timestamp.wrapping_add(number.wrapping_mul(audio::packet_ticks(voice.codec)));
                    let sequence = stream.highest.map_or(u64::from(low16(u64::from(*first_timestamp))), |highest| highest + 1);
                    let frame = audio::encode(number);
                    let own_type = sdp::payload_type(voice.codec);
                    let copies = voice.copies.filter(|_| *sends_red);
                    let (payload_type, payload) = match copies {
                        Some(count) => {
                            let newest = voice_history.iter().rev().take(count).rev();
                            let copies: Vec<(u32, Vec<u8>)> = newest
                                .map(|(at, frame)| (timestamp.wrapping_sub(*at), frame.clone()))
                                .filter(|(offset, _)| *offset <= 0x3fff)
                                .collect();
                            (sdp::RED_PAYLOAD_TYPE, audio::with_copies(own_type, &copies, &frame))
                        }
                        None => (own_type, frame.clone()),
                    };
                    voice_history.push_back((timestamp, frame));
                    if voice_history.len() > 8 {
                        voice_history.pop_front();
                    }
                    *voiced += 1;
                    let sent = Sent { sequence, timestamp, marker: false, payload, descriptor: Vec::new() };
                    let place = Place { payload_type, is_kept: false, mid, elements };
                    stream.send(place, sent, Some(voice.level), wire.as_deref_mut());
                }
            }
            (Some(Source::Video(source)), TrackSpec::Video(config)) => {
                for packet in source.poll(now) {
                    let Some(stream) = streams.get_mut(packet.encoding).filter(|_| !*is_paused) else { continue };
                    let sequence = stream.highest.map_or(u64::from(packet.sequence), |highest| nearest(packet.sequence, highest));
                    let (payload, descriptor) = (packet.payload, packet.descriptor);
                    let sent = Sent { sequence, timestamp: packet.timestamp, marker: packet.marker, payload, descriptor };
                    let place = Place { payload_type: sdp::payload_type(config.codec), is_kept: true, mid, elements };
                    stream.send(place, sent, None, wire.as_deref_mut());
                }
            }
            _ => {}
        }
    }

    fn start(&mut self, now: Instant) {
        let Some(rng) = self.rng.take() else { return };
        self.source = Some(match &self.spec {
            TrackSpec::Audio { .. } | TrackSpec::Voice(_) => {
                let first_timestamp = self.streams.first().map_or(0, |stream| stream.first_timestamp);
                Source::Audio { started: now, sent: 0, first_timestamp }
            }
            TrackSpec::Video(config) => Source::Video(Box::new(VideoSource::new(config.clone(), now, rng))),
        });
    }

    /// Sender reports of all streams that have sent something.
    pub(super) fn report(&self, now: Instant, wall_clock: &WallClock, compound: &mut Vec<u8>) {
        let Some(started) = self.started().filter(|_| self.media.is_sending) else { return };
        let ntp = wall_clock.ntp_at(now);
        let elapsed = ntp.ticks_since(wall_clock.ntp_at(started), self.media.codec.clock_rate_hz()).unwrap_or(0);
        for stream in self.streams.iter().filter(|stream| stream.packets > 0) {
            let rtp_timestamp = stream.first_timestamp.wrapping_add(elapsed);
            let info = SenderInfo { ntp, rtp_timestamp, packet_count: stream.packets, octet_count: stream.octets };
            write_sender_report(compound, stream.ssrc, &info, &[]);
            write_sdes_cname(compound, stream.ssrc, "simulated");
        }
    }

    /// The server wants a keyframe of this SSRC.
    pub(super) fn on_keyframe_request(&mut self, ssrc: u32) {
        let Some(encoding) = self.streams.iter().position(|stream| stream.ssrc == ssrc) else { return };
        self.streams[encoding].feedback.keyframe_requests += 1;
        if let Some(video) = self.video() {
            video.request_keyframe(encoding);
        }
    }

    /// The server reports on this SSRC, so it knows what it is.
    pub(super) fn on_report(&mut self, ssrc: u32, lost: i32) {
        for stream in self.streams.iter_mut().filter(|stream| stream.ssrc == ssrc) {
            stream.is_known = true;
            stream.feedback.reports += 1;
            stream.feedback.reported_lost = lost;
        }
    }

    /// The server asks for a packet again.
    pub(super) fn on_nack(&mut self, ssrc: u32, sequence: u16, wire: &mut Wire<'_>) {
        let codec = self.media.codec;
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) else { return };
        stream.feedback.nacked += 1;
        let Some(sent) = stream.history.iter().rev().find(|sent| low16(sent.sequence) == sequence).cloned() else { return };
        stream.feedback.resent += 1;
        let outgoing = Outgoing {
            payload_type: sdp::payload_type(codec) + 1,
            index: stream.next_rtx,
            timestamp: sent.timestamp,
            marker: sent.marker,
            ssrc: stream.rtx_ssrc,
            rid_extension: extension_ids::REPAIRED_RID,
            level: None,
            elements: &self.elements,
            descriptor: &sent.descriptor,
            payload: &[&sequence.to_be_bytes(), &sent.payload],
        };
        seal(&outgoing, &self.mid, stream.rid, wire);
        stream.next_rtx += 1;
    }
}

/// How a packet of a track is sent.
struct Place<'a> {
    payload_type: u8,
    /// It can be asked for again.
    is_kept: bool,
    mid: &'a str,
    elements: &'a [(u8, Vec<u8>)],
}

impl Stream {
    fn send(&mut self, place: Place<'_>, sent: Sent, level: Option<u8>, wire: Option<&mut Wire<'_>>) {
        let Place { payload_type, is_kept, mid, elements } = place;
        let outgoing = Outgoing {
            payload_type,
            index: sent.sequence,
            timestamp: sent.timestamp,
            marker: sent.marker,
            ssrc: self.ssrc,
            rid_extension: extension_ids::RID,
            level,
            elements,
            descriptor: &sent.descriptor,
            payload: &[&sent.payload],
        };
        let (mid, rid) = if self.is_known { ("", None) } else { (mid, self.rid) };
        if let Some(wire) = wire {
            seal(&outgoing, mid, rid, wire);
        }
        self.highest = Some(self.highest.map_or(sent.sequence, |highest| highest.max(sent.sequence)));
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(u32::try_from(sent.payload.len()).unwrap_or(0));
        if is_kept {
            self.history.push_back(sent);
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
    }
}

fn seal(packet: &Outgoing<'_>, mid: &str, rid: Option<Rid>, wire: &mut Wire<'_>) {
    let mut block = Vec::with_capacity(24);
    // RFC 8285 section 4.3: two-byte headers where a value is too long for one.
    let is_long = packet.descriptor.len() > 16;
    let mut element = |id: u8, value: &[u8]| {
        let len = u8::try_from(value.len()).unwrap_or(0);
        if is_long {
            block.extend([id, len]);
        } else {
            block.push((id << 4) | (len - 1));
        }
        block.extend_from_slice(value);
    };
    element(extension_ids::TRANSPORT_CC, &wire.transport_sequence.to_be_bytes());
    *wire.transport_sequence = wire.transport_sequence.wrapping_add(1);
    if let Some(level) = packet.level {
        element(extension_ids::AUDIO_LEVEL, &[(u8::from(level < 127) << 7) | level]);
    }
    if !mid.is_empty() {
        element(extension_ids::MID, mid.as_bytes());
    }
    if let Some(rid) = rid {
        element(packet.rid_extension, rid.as_bytes());
    }
    packet.elements.iter().for_each(|(id, value)| element(*id, value));
    if !packet.descriptor.is_empty() {
        element(extension_ids::DEPENDENCY_DESCRIPTOR, packet.descriptor);
    }
    block.resize(block.len().next_multiple_of(4), 0);
    let words = u16::try_from(block.len() / 4).unwrap_or(0);
    let mut bytes = vec![0x90, (u8::from(packet.marker) << 7) | packet.payload_type];
    bytes.extend_from_slice(&low16(packet.index).to_be_bytes());
    bytes.extend_from_slice(&packet.timestamp.to_be_bytes());
    bytes.extend_from_slice(&packet.ssrc.to_be_bytes());
    bytes.extend_from_slice(if is_long { &[0x10, 0] } else { &[0xbe, 0xde] });
    bytes.extend_from_slice(&words.to_be_bytes());
    bytes.extend_from_slice(&block);
    let header_len = bytes.len();
    packet.payload.iter().for_each(|part| bytes.extend_from_slice(part));
    bytes.resize(bytes.len() + wire.srtp.profile().rtp_tag_len(), 0);
    wire.srtp.sender.seal_rtp(packet.ssrc, packet.index, &mut bytes, header_len);
    wire.out.push(wire.flow, &bytes);
}

/// The client's own name for a track.
pub(crate) fn cid(track: TrackId) -> String {
    format!("cid-{}", track.0)
}

/// How often reports are sent, unless a test says otherwise.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);
