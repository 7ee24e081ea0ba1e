//! What a participant receives: streams by SSRC as the server's offer announces them, and the feedback of a browser.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use sfu_api::TrackId;
use sfu_core::media::{Codec, Extension, ExtensionMap};
use sfu_core::publish::twcc::TwccReceiver;
use sfu_core::rtp::extension::Extensions;
use sfu_core::rtp::header::RtpHeader;
use sfu_core::rtp::ntp::{CompactNtp, NtpTime};
use sfu_core::rtp::rtcp::{Pli, ReportBlock, write_nack, write_pli, write_receiver_report, write_remb};
use sfu_core::rtp::sequence::nearest;
use sfu_core::transport::srtp::InboundStream;

use crate::audio::AudioReceiver;
use crate::freeze::VideoReceiver;
use crate::participant::remb::RembEstimator;
use crate::sdp::{Format, OfferedMedia};

/// How long a player waits for a missing packet.
const PATIENCE: Duration = Duration::from_millis(600);
/// Between two requests for one packet: libwebrtc's round trip time when it knows none.
const NACK_INTERVAL: Duration = Duration::from_millis(100);
const MAX_NACKS: u8 = 10;
/// Between two requests for a keyframe; libwebrtc waits as long for one.
const PLI_INTERVAL: Duration = Duration::from_millis(200);
const OWN_SSRC: u32 = 1;

/// A received track.
#[derive(Debug)]
pub struct ReceivingTrack {
    /// Codec as offered.
    pub codec: Codec,
    /// SSRC as offered.
    pub ssrc: u32,
    /// Pictures.
    pub video: VideoReceiver,
    /// Sound.
    pub audio: AudioReceiver,
    /// RTP packets, without retransmissions.
    pub packets: u64,
    /// Retransmissions.
    pub retransmissions: u64,
    /// RTP timestamp of the newest packet.
    pub newest_timestamp: Option<u32>,
    /// Newest sender report: wall clock, RTP timestamp.
    pub sender_report: Option<(NtpTime, u32)>,
    /// PLIs sent.
    pub keyframe_requests: u64,
    /// Times that the codec on the wire changed.
    pub codec_switches: u64,
    /// Packets whose payload type no offer named.
    pub unknown_types: u64,
    formats: Vec<(u8, Format)>,
    /// Packets expected and received at the last report.
    reported: (i64, i64),
    /// Newest value of each header extension, by its id in the offer.
    pub elements: BTreeMap<u8, Vec<u8>>,
    /// Packets whose extension block had two-byte headers.
    pub long_blocks: u64,
    /// Packets with another payload type than agreed, or without a transport-wide sequence number.
    pub misnumbered: u64,
    extensions: ExtensionMap,
    rtx_ssrc: Option<u32>,
    sender_report_at: Option<Instant>,
    first: Option<u64>,
    highest: Option<u64>,
    last_packet: Option<Instant>,
    last_pli: Option<Instant>,
    nacked: BTreeMap<u16, (Instant, u8)>,
}

/// All streams of a subscriber transport.
#[derive(Default)]
pub(super) struct Receiving {
    tracks: HashMap<TrackId, ReceivingTrack>,
    by_ssrc: HashMap<u32, (TrackId, bool)>,
    replay: HashMap<u32, InboundStream>,
    /// Packets that did not open, among them any that the server sent twice.
    pub(super) unopened: u64,
    /// Packets of streams that no offer announced.
    pub(super) unannounced: u64,
    /// Transport-wide sequence numbers in the order of arrival.
    pub(super) transport_sequences: Vec<u16>,
    /// Arrival times for congestion feedback.
    twcc: TwccReceiver,
    /// It takes the numbers of packets and says nothing of them.
    pub(super) is_reticent: bool,
    /// What it uses if it does not know that.
    pub(super) remb: Option<RembEstimator>,
}

impl Receiving {
    /// What the newest offer announces is all there is.
    pub(super) fn announce(&mut self, media: &[OfferedMedia]) {
        self.by_ssrc.clear();
        for media in media {
            let Some(track) = media.track_id.strip_prefix("TR_").and_then(|id| id.parse().ok()).map(TrackId) else { continue };
            self.by_ssrc.insert(media.ssrc, (track, false));
            self.by_ssrc.extend(media.rtx_ssrc.map(|ssrc| (ssrc, (track, true))));
            match self.tracks.get_mut(&track).filter(|known| known.ssrc == media.ssrc) {
                Some(known) => {
                    known.formats.clone_from(&media.formats);
                    known.extensions = extension_map(media);
                }
                None => {
                    self.tracks.insert(track, ReceivingTrack::new(media));
                }
            }
        }
    }

    pub(super) fn track(&self, track: TrackId) -> Option<&ReceivingTrack> {
        self.tracks.get(&track)
    }

    pub(super) fn track_mut(&mut self, track: TrackId) -> Option<&mut ReceivingTrack> {
        self.tracks.get_mut(&track)
    }

    /// Where the state for opening this packet is.
    pub(super) fn replay(&mut self, ssrc: u32) -> &mut InboundStream {
        self.replay.entry(ssrc).or_default()
    }

    /// Takes a decrypted packet in.
    pub(super) fn take(&mut self, now: Instant, header: &RtpHeader, plain: &[u8]) {
        let Some((track, is_rtx)) = self.by_ssrc.get(&header.ssrc).copied() else {
            self.unannounced += 1;
            return;
        };
        let Some(track) = self.tracks.get_mut(&track) else { return };
        let Ok(payload) = header.payload(plain) else {
            self.unopened += 1;
            return;
        };
        let transport_sequence = Extensions::parse(header, plain, &track.extensions).transport_cc;
        let is_agreed =
            |(payload_type, format): &(u8, Format)| *payload_type == header.payload_type && matches!(format, Format::Rtx(_)) == is_rtx;
        track.misnumbered += u64::from(!track.formats.iter().any(is_agreed) || transport_sequence.is_none());
        self.transport_sequences.extend(transport_sequence);
        if let Some(sequence) = transport_sequence {
            self.twcc.record(sequence, now);
        }
        let block = plain.get(header.extension.clone()).unwrap_or_default();
        let elements = read_elements(header.extension_profile, block);
        let sent = elements.get(&Extension::AbsSendTime.offered_id()).and_then(|value| value.as_slice().try_into().ok());
        if let (Some(remb), Some(sent)) = (&mut self.remb, sent) {
            remb.on_packet(now, sent, plain.len());
        }
        track.take(now, header, is_rtx, payload, elements);
    }

    pub(super) fn on_sender_report(&mut self, now: Instant, ssrc: u32, ntp: NtpTime, rtp: u32) {
        for track in self.tracks.values_mut().filter(|track| track.ssrc == ssrc) {
            track.sender_report = Some((ntp, rtp));
            track.sender_report_at = Some(now);
        }
    }

    /// NACKs and PLIs that are due, and with `with_reports` a receiver report.
    pub(super) fn feedback(&mut self, now: Instant, with_reports: bool, compound: &mut Vec<u8>) {
        if with_reports {
            let mut blocks: Vec<ReportBlock> = self.tracks.values_mut().filter_map(|track| track.block(now)).collect();
            blocks.sort_by_key(|block| block.ssrc);
            if !blocks.is_empty() {
                write_receiver_report(compound, OWN_SSRC, &blocks);
            }
        }
        while !self.is_reticent && self.twcc.write_feedback(compound, OWN_SSRC, OWN_SSRC, now) {}
        if let Some(bps) = self.remb.as_mut().and_then(|remb| remb.due(now)) {
            let mut ssrcs: Vec<u32> = self.by_ssrc.iter().filter(|(_, (_, is_rtx))| !is_rtx).map(|(&ssrc, _)| ssrc).collect();
            ssrcs.sort_unstable();
            write_remb(compound, OWN_SSRC, bps, &ssrcs);
        }
        let live = self.by_ssrc.values().filter(|(_, is_rtx)| !is_rtx).map(|&(track, _)| track);
        let mut live: Vec<TrackId> = live.collect();
        live.sort_unstable();
        for track in live {
            if let Some(track) = self.tracks.get_mut(&track).filter(|track| track.codec.is_video()) {
                track.feedback(now, compound);
            }
        }
    }
}

impl ReceivingTrack {
    fn new(media: &OfferedMedia) -> Self {
        Self {
            codec: media.codec,
            ssrc: media.ssrc,
            video: VideoReceiver::new(media.codec, PATIENCE),
            audio: AudioReceiver::new(media.codec),
            packets: 0,
            retransmissions: 0,
            newest_timestamp: None,
            sender_report: None,
            keyframe_requests: 0,
            codec_switches: 0,
            unknown_types: 0,
            formats: media.formats.clone(),
            reported: (0, 0),
            elements: BTreeMap::new(),
            long_blocks: 0,
            misnumbered: 0,
            extensions: extension_map(media),
            rtx_ssrc: media.rtx_ssrc,
            sender_report_at: None,
            first: None,
            highest: None,
            last_packet: None,
            last_pli: None,
            nacked: BTreeMap::new(),
        }
    }

    /// SSRC of retransmissions, if offered.
    #[must_use]
    pub fn rtx_ssrc(&self) -> Option<u32> {
        self.rtx_ssrc
    }

    fn take(&mut self, now: Instant, header: &RtpHeader, is_rtx: bool, payload: &[u8], elements: BTreeMap<u8, Vec<u8>>) {
        self.last_packet = Some(now);
        self.long_blocks += u64::from(header.extension_profile != 0xbede);
        let descriptor = elements.get(&Extension::DependencyDescriptor.offered_id()).cloned().unwrap_or_default();
        if let Some(value) = elements.get(&Extension::PlayoutDelay.offered_id()) {
            self.video.hold(value);
        }
        self.elements.extend(elements);
        if is_rtx {
            self.retransmissions += 1;
            if let Some((original, payload)) = payload.split_first_chunk::<2>() {
                let sequence = u16::from_be_bytes(*original);
                self.video.receive(now, sequence, header.timestamp, header.marker, payload, &descriptor);
            }
            return;
        }
        self.packets += 1;
        self.newest_timestamp = Some(header.timestamp);
        let extended = self.highest.map_or(0x1_0000 + u64::from(header.sequence), |highest| nearest(header.sequence, highest));
        self.first.get_or_insert(extended);
        self.highest = Some(self.highest.map_or(extended, |highest| highest.max(extended)));
        if self.codec.is_video() {
            match self.formats.iter().find(|(payload_type, _)| *payload_type == header.payload_type) {
                Some(&(_, Format::Codec(codec))) if codec != self.video.codec() => {
                    self.video.set_codec(codec);
                    self.codec_switches += 1;
                }
                Some((_, Format::Codec(_))) => {}
                Some((_, Format::Red(_) | Format::Rtx(_))) | None => self.unknown_types += 1,
            }
            self.video.receive(now, header.sequence, header.timestamp, header.marker, payload, &descriptor);
        } else {
            match self.formats.iter().find(|(payload_type, _)| *payload_type == header.payload_type) {
                Some((_, Format::Codec(_))) => self.audio.receive(header.timestamp, payload),
                Some((_, Format::Red(block_type))) => self.audio.receive_with_copies(header.timestamp, *block_type, payload),
                Some((_, Format::Rtx(_))) | None => self.unknown_types += 1,
            }
        }
    }

    fn feedback(&mut self, now: Instant, compound: &mut Vec<u8>) {
        self.video.poll(now);
        let missing = self.video.missing();
        if missing.is_empty() {
            self.nacked.clear();
        } else {
            let due: Vec<u16> = missing.iter().copied().filter(|sequence| is_due(self.nacked.get(sequence), now)).collect();
            self.nacked.retain(|sequence, _| missing.contains(sequence));
            for &sequence in &due {
                let (at, tries) = self.nacked.entry(sequence).or_insert((now, 0));
                (*at, *tries) = (now, *tries + 1);
            }
            write_nack(compound, OWN_SSRC, self.ssrc, due);
        }
        // A browser asks only while packets come that it can't show.
        let is_receiving = self.last_packet.is_some_and(|at| now - at < PLI_INTERVAL);
        let is_due = self.last_pli.is_none_or(|at| now - at >= PLI_INTERVAL);
        if self.video.wants_keyframe() && is_receiving && is_due {
            self.last_pli = Some(now);
            self.keyframe_requests += 1;
            write_pli(compound, Pli { sender_ssrc: OWN_SSRC, media_ssrc: self.ssrc });
        }
    }

    /// Packets that are missing by their numbers; negative if some came twice.
    #[must_use]
    pub fn lost(&self) -> i64 {
        let expected = self.first.zip(self.highest).map_or(0, |(first, highest)| highest + 1 - first);
        i64::try_from(expected).unwrap_or(i64::MAX) - i64::try_from(self.packets).unwrap_or(i64::MAX)
    }

    fn block(&mut self, now: Instant) -> Option<ReportBlock> {
        let (first, highest) = (self.first?, self.highest?);
        let (expected, received) = (i64::try_from(highest + 1 - first).ok()?, i64::try_from(self.packets).ok()?);
        let lost = expected - received;
        // RFC 3550 appendix A.3.
        let (expected_before, received_before) = std::mem::replace(&mut self.reported, (expected, received));
        let (expected_now, lost_now) = (expected - expected_before, (expected - expected_before) - (received - received_before));
        let fraction = if expected_now > 0 { (lost_now.max(0) * 256 / expected_now).min(255) } else { 0 };
        let (last_sr, delay_since_last_sr) = match (self.sender_report, self.sender_report_at) {
            (Some((ntp, _)), Some(at)) => (ntp.compact(), CompactNtp::from_duration(now - at)),
            _ => (CompactNtp::default(), CompactNtp::default()),
        };
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(0),
            cumulative_lost: i32::try_from(lost).unwrap_or(0),
            highest_sequence: u32::try_from(highest & 0xffff_ffff).unwrap_or(0),
            jitter_ticks: 0,
            last_sr,
            delay_since_last_sr,
        })
    }
}

fn is_due(before: Option<&(Instant, u8)>, now: Instant) -> bool {
    before.is_none_or(|&(at, tries)| tries < MAX_NACKS && now - at >= NACK_INTERVAL)
}

/// Elements of an extension block by their ids (RFC 8285 sections 4.2 and 4.3).
fn read_elements(profile: u16, mut block: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut elements = BTreeMap::new();
    while let [head, rest @ ..] = block {
        let (id, len, rest) = match (profile, rest) {
            (_, rest) if *head == 0 => {
                block = rest;
                continue;
            }
            (0xbede, rest) => (head >> 4, usize::from(head & 0x0f) + 1, rest),
            (_, [len, rest @ ..]) => (*head, usize::from(*len), rest),
            _ => break,
        };
        let Some((value, tail)) = rest.split_at_checked(len) else { break };
        elements.insert(id, value.to_vec());
        block = tail;
    }
    elements
}

fn extension_map(media: &OfferedMedia) -> ExtensionMap {
    let mut map = ExtensionMap::default();
    map.set(Extension::TransportCc, media.transport_cc.unwrap_or(0));
    map
}
