//! RTCP that we send: reports once a second, and between them what the publishers have to know soon.

use std::time::Instant;

use sfu_api::{Event, MediaKind, Speaker, TrackId, TransportRole};
use slotmap::Key as _;

use crate::ids::{DownKey, PeerKey, UpKey};
use crate::limits::MAX_UNFRAGMENTED;
use crate::peer::Peer;
use crate::publish::encoding::Encoding;
use crate::publish::remb::Arrivals;
use crate::room::Participant;
use crate::rtp::rtcp::{
    FirEntry, Pli, SenderInfo, write_fir, write_nack, write_pli, write_receiver_report, write_remb, write_sdes_cname, write_sender_report,
};
use crate::rtp::sequence::low16;
use crate::shard::Shard;
use crate::subscribe::stream_state::PauseCause;
use crate::timers::TICKS_PER_SECOND;

/// Media ticks between two looks at speakers and at which encodings flow (100 ms).
const REVIEW_TICKS: u64 = 5;
/// A track goes to sleep after so many quiet seconds: when its ring has become small, and its subscribers know that it has
/// stopped.
const QUIET_SECONDS: u8 = 15;
/// Canonical name of what we report as a receiver. Down tracks have the names of their publishers' streams, since sender
/// reports keep the publishers' clocks.
const CNAME: &str = "sluice";
/// Sender reports of several tracks share a datagram, as RFC 3550 section 6.1 wants it of mixers, until it has so many bytes: one more,
/// with the longest canonical name that there can be, still fits the smallest MTU of IPv6.
const REPORTS_BYTES: usize = MAX_UNFRAGMENTED - 28 - (4 + 4 + 2 + 255 + 4) - 20;
/// Blocks of one receiver report (RFC 3550 section 6.4.2); more of them would not fit a datagram.
const MAX_REPORT_BLOCKS: usize = 31;

impl Shard {
    /// Every 20 ms: what is due for publishers, switches that wait; every 100 ms a review; reports spread over a second.
    pub(crate) fn media_tick(&mut self, tick: u64, now: Instant) {
        // Lists keep their memory: what is woken meanwhile is behind the places that are walked.
        for place in 0..self.awake.ups.len() {
            let up = self.awake.ups[place];
            self.send_nacks(up, now);
            self.request_keyframes(up, now);
            let Some(track) = self.ups.get_mut(up) else { continue };
            if !track.waiting.is_empty() {
                self.egress.mark_switch(up);
            }
            // Reviews are spread over ticks, so that each has about as much to do.
            let turn = tick + (up.data().as_ffi() & 0xffff_ffff).saturating_sub(1);
            if turn.is_multiple_of(REVIEW_TICKS) {
                self.review_sizes(up, now);
                self.review(up, now);
                self.review_codecs(up, now);
                self.review_streams(up, now);
                self.review_crossing(up, now);
            }
            if turn.is_multiple_of(TICKS_PER_SECOND) {
                self.end_second(up, now);
            }
        }
        self.awake.ups.retain(|&up| self.ups.get(up).is_some_and(|up| up.is_awake));
        let debtors = self.awake.debtors.len();
        for place in 0..debtors {
            self.send_transport_feedback(self.awake.debtors[place], now);
        }
        self.awake.debtors.drain(..debtors);
        for key in self.awake.reports.take(tick, |key| self.peers.contains_key(key)) {
            self.send_reports(key, now);
            self.review_allocation(key, true, now);
        }
        self.review_waiting_allocations(now);
        self.sample_tracks(tick, now);
        self.judge_connections(tick, now);
        if tick.is_multiple_of(REVIEW_TICKS) {
            self.report_speakers(now);
            self.review_stages(now);
            self.review_data_crossing();
            self.give_up_waiting(now);
        }
    }

    /// The media tick looks at a track from here on, until it has been quiet for a while.
    pub(crate) fn wake_up(&mut self, key: UpKey) {
        let Some(up) = self.ups.get_mut(key) else { return };
        up.quiet_seconds = 0;
        if !std::mem::replace(&mut up.is_awake, true) {
            self.awake.ups.push(key);
        }
    }

    /// Asks for a keyframe of each encoding that needs one, not more often than is good for the picture.
    pub(crate) fn request_keyframes(&mut self, key: UpKey, now: Instant) {
        let Some(up) = self.ups.get_mut(key) else { return };
        if up.crossing.is_mirror() {
            return self.ask_for_keyframes(key, now);
        }
        let Some(peer) = self.peers.get_mut(up.peer) else { return };
        for (index, encoding) in up.encodings.iter_mut().enumerate() {
            let Some(ssrc) = encoding.ssrc else { continue };
            if !encoding.keyframe.is_wanted() {
                continue;
            }
            let is_awaited = up.waiting.iter().filter_map(|&key| self.downs.get(key)?.flow.wanted).any(|wanted| wanted.encoding == index);
            if !up.codec.codec.is_video() || up.is_muted || !(encoding.has_audience() || is_awaited) {
                // Nobody waits any more.
                encoding.keyframe.satisfy();
                continue;
            }
            if !encoding.keyframe.take_due(now) {
                continue;
            }
            begin_feedback(&mut self.scratch, peer);
            if up.codec.has_pli {
                write_pli(&mut self.scratch, Pli { sender_ssrc: peer.feedback_ssrc, media_ssrc: ssrc });
            } else if up.codec.has_fir {
                self.fir_sequence = self.fir_sequence.wrapping_add(1);
                write_fir(&mut self.scratch, peer.feedback_ssrc, &[FirEntry { ssrc, sequence: self.fir_sequence }]);
            } else {
                continue;
            }
            self.egress.send_rtcp(peer, &mut self.scratch);
        }
    }

    fn send_nacks(&mut self, key: UpKey, now: Instant) {
        let Some(up) = self.ups.get_mut(key).filter(|up| up.codec.has_nack) else { return };
        // A publisher sends us no reports about our reports; what it receives goes the same way.
        let downlink = self.participants.get(up.participant).and_then(Participant::downlink);
        let rtt = downlink.and_then(|peer| self.peers.get(peer)).and_then(|peer| peer.rtt);
        let Some(peer) = self.peers.get_mut(up.peer) else { return };
        for encoding in &mut up.encodings {
            let Some(ssrc) = encoding.ssrc else { continue };
            let due = encoding.nack.due(now, rtt);
            if due.gave_up && encoding.has_audience() {
                encoding.keyframe.want();
            }
            if due.sequences.is_empty() {
                continue;
            }
            begin_feedback(&mut self.scratch, peer);
            write_nack(
                &mut self.scratch,
                peer.feedback_ssrc,
                ssrc,
                due.sequences.iter().map(|&sequence| low16(encoding.numbering.source(sequence))),
            );
            self.egress.send_rtcp(peer, &mut self.scratch);
        }
    }

    fn send_transport_feedback(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.inbound.owes_feedback = false;
        if peer.role != TransportRole::Publisher {
            return;
        }
        let Some(media_ssrc) = peer.inbound.streams.keys().next().copied() else { return };
        begin_feedback(&mut self.scratch, peer);
        if peer.inbound.twcc.write_feedback(&mut self.scratch, peer.feedback_ssrc, media_ssrc, now) {
            self.egress.send_rtcp(peer, &mut self.scratch);
        }
        if peer.inbound.twcc.next_timeout().is_some() {
            peer.inbound.owes_feedback = true;
            self.awake.debtors.push(key);
        }
    }

    fn send_reports(&mut self, key: PeerKey, now: Instant) {
        self.review_bandwidth(key, now);
        self.review_playout(key);
        match self.peers.get(key).map(|peer| peer.role) {
            Some(TransportRole::Publisher) => {
                self.send_receiver_report(key, now);
                self.send_uplink_limit(key, now);
                // There are down tracks if it is the client's only transport.
                self.send_sender_reports(key, now);
            }
            Some(TransportRole::Subscriber) => self.send_sender_reports(key, now),
            None => {}
        }
    }

    /// How long the player of each video waits for what is resent.
    fn review_playout(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get(key) else { return };
        for &down_key in &peer.downs {
            let Some(down) = self.downs.get_mut(down_key).filter(|down| down.reads.playout_delay) else { continue };
            down.playout_delay = down.playout.review(down.reported.nacks, peer.rtt);
        }
    }

    fn send_receiver_report(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let mut blocks = Vec::new();
        for &(_, up) in &peer.inbound.tracks {
            let Some(up) = self.ups.get_mut(up) else { continue };
            for encoding in &mut up.encodings {
                blocks.extend(encoding.ssrc.and_then(|ssrc| encoding.reception.report(ssrc, now)));
            }
        }
        if blocks.is_empty() {
            return;
        }
        // One datagram for each report: a client may send more streams than one datagram has room for.
        for blocks in blocks.chunks(MAX_REPORT_BLOCKS) {
            self.scratch.clear();
            write_receiver_report(&mut self.scratch, peer.feedback_ssrc, blocks);
            write_sdes_cname(&mut self.scratch, peer.feedback_ssrc, CNAME);
            self.egress.send_rtcp(peer, &mut self.scratch);
        }
    }

    /// What a publisher without transport-wide feedback should keep to.
    fn send_uplink_limit(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let (mut arrivals, mut ssrcs) = (Arrivals::default(), Vec::new());
        for up in peer.inbound.tracks.iter().filter_map(|&(_, up)| self.ups.get(up)) {
            if up.codec.has_transport_cc {
                return;
            }
            for encoding in &up.encodings {
                let Some(ssrc) = encoding.ssrc else { continue };
                arrivals.rate_bps += encoding.rates.of(u32::MAX).filter(|_| encoding.is_flowing(now)).unwrap_or(0);
                arrivals.expected += encoding.reception.expected().unwrap_or(0);
                arrivals.received += encoding.reception.received();
                if up.codec.has_remb {
                    ssrcs.push(ssrc);
                }
            }
        }
        if ssrcs.is_empty() {
            return;
        }
        if let Some(bps) = peer.inbound.uplink.update(arrivals) {
            begin_feedback(&mut self.scratch, peer);
            write_remb(&mut self.scratch, peer.feedback_ssrc, bps, &ssrcs);
            self.egress.send_rtcp(peer, &mut self.scratch);
        }
    }

    /// Sender reports keep the publisher's wall clock, so that audio and video of one publisher stay in step whatever
    /// path their packets took; RTP time goes through the subscriber's current mapping.
    fn send_sender_reports(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        self.scratch.clear();
        for &down_key in &peer.downs.clone() {
            let Some(down) = self.downs.get_mut(down_key).filter(|down| down.sent.packets > 0) else { continue };
            let Some(up) = self.ups.get(down.up) else { continue };
            let Some(epoch) = down.rewriter.epoch() else { continue };
            let Some(report) = up.encodings.get(usize::from(epoch.encoding)).and_then(|encoding| encoding.sender_report) else { continue };
            let since = now.saturating_duration_since(report.at);
            let ntp = report.ntp.plus(since);
            // A publisher without a clock says 0 (RFC 3550 section 6.4.1), from which nothing follows for later.
            let Some(elapsed) = ntp.ticks_since(report.ntp, up.codec.codec.clock_rate_hz()) else { continue };
            #[expect(clippy::cast_possible_truncation, reason = "RFC 3550: the counters wrap at 32 bits")]
            let info = SenderInfo {
                ntp,
                rtp_timestamp: report.rtp.wrapping_add(elapsed).wrapping_add(epoch.timestamp_delta),
                packet_count: down.sent.packets as u32,
                octet_count: down.sent.octets as u32,
            };
            down.sender_reports = [Some((ntp.compact(), now)), down.sender_reports[0]];
            write_sender_report(&mut self.scratch, down.ssrc, &info, &[]);
            write_sdes_cname(&mut self.scratch, down.ssrc, &down.cname);
            if self.scratch.len() > REPORTS_BYTES {
                self.egress.send_rtcp(peer, &mut self.scratch);
                self.scratch.clear();
            }
        }
        self.egress.send_rtcp(peer, &mut self.scratch);
    }

    /// What a track's sizes cost, and which of them are missing.
    fn review_sizes(&mut self, key: UpKey, now: Instant) {
        let Some(up) = self.ups.get(key) else { return };
        let Some(primary) = up.primary.map_or(Some(up), |primary| self.ups.get(primary)) else { return };
        let codec = up.codec.codec;
        let is_mirror = primary.crossing.is_mirror();
        let most_asked = if is_mirror { primary.crossing.most_asked(codec) } else { primary.wanted.most_asked(codec.mime()) };
        if let Some(up) = self.ups.get_mut(key) {
            up.review_sizes(most_asked, now);
        }
    }

    /// Encodings and layers begin and cease to flow: subscribers get what there is.
    fn review(&mut self, key: UpKey, now: Instant) {
        let Some(up) = self.ups.get_mut(key).filter(|up| up.kind() == MediaKind::Video) else { return };
        let shape = up.shape(now);
        if shape != up.shape_before {
            up.shape_before = shape;
            self.allocation_due_for_track(key, now);
            self.retarget_all(key, now);
            return;
        }
        // A keyframe may have come torn, so that somebody could not use it to change the layer.
        let is_keyframe_needed = up.encodings.iter_mut().fold(false, |is_needed, encoding| {
            let filters = encoding.live.iter().filter_map(|&down| self.downs.get(down)?.filter.as_ref());
            let is_stuck = filters.into_iter().any(|filter| filter.needs_keyframe(&encoding.layers));
            if is_stuck {
                encoding.keyframe.want();
            }
            is_needed || is_stuck
        });
        if is_keyframe_needed {
            self.request_keyframes(key, now);
        }
    }

    /// Once a second: frame rates of layers are known anew.
    fn end_second(&mut self, key: UpKey, now: Instant) {
        let Some(up) = self.ups.get_mut(key) else { return };
        let mut is_changed = false;
        for encoding in &mut up.encodings {
            let before = encoding.layers.frame_rates();
            encoding.end_second();
            is_changed |= encoding.layers.frame_rates() != before;
        }
        let needs = |encoding: &Encoding| encoding.is_flowing(now) || encoding.nack.missing() > 0 || encoding.keyframe.is_wanted();
        up.quiet_seconds = if !up.waiting.is_empty() || up.encodings.iter().any(needs) { 0 } else { up.quiet_seconds + 1 };
        if up.quiet_seconds >= QUIET_SECONDS {
            up.is_awake = false;
        }
        // Who looks again wakes the track up: one of which nothing comes would never rest.
        let has_rate = |key: &DownKey| is_changed && self.downs.get(*key).is_some_and(|down| down.wish.max_fps > 0);
        for down in up.downs.iter().copied().filter(has_rate).collect::<Vec<_>>() {
            self.retarget(down, now);
        }
    }

    /// A video track of which nothing comes is paused for those who want it, until it comes again.
    fn review_streams(&mut self, key: UpKey, now: Instant) {
        let Some(up) = self.ups.get_mut(key).filter(|up| up.codec.codec.is_video()) else { return };
        if up.is_muted {
            // Subscribers know that nothing comes; what they were told before holds until it flows again.
            up.stall.rest();
            return;
        }
        let is_flowing = up.encodings.iter().any(|encoding| encoding.is_flowing(now));
        let Some(is_stalled) = up.stall.look(is_flowing, now) else { return };
        for down_key in up.downs.clone() {
            let Some(down) = self.downs.get(down_key) else { continue };
            if is_stalled && (!down.wish.enabled || down.payload_type.is_none()) {
                continue;
            }
            self.set_pause(down_key, PauseCause::Stalled, is_stalled);
        }
    }

    /// Who speaks comes first when bandwidth is divided.
    fn review_stages(&mut self, now: Instant) {
        let mut changed = Vec::new();
        for (key, room) in &mut self.rooms {
            let track = room.speakers.dominant().and_then(|track| self.directory.tracks.get(&TrackId(track)));
            let dominant = track.and_then(|&up| self.ups.get(up)).map(|up| up.participant);
            if room.stage.look(dominant, now) {
                changed.push(key);
            }
        }
        for room in changed {
            let Some(room) = self.rooms.get(room) else { continue };
            let downlinks = room.participants.iter().filter_map(|&key| self.participants.get(key)?.downlink());
            for peer in downlinks.collect::<Vec<_>>() {
                self.allocation_due(peer, now);
            }
        }
    }

    fn report_speakers(&mut self, now: Instant) {
        let rooms = self.awake.vocal.len();
        for place in 0..rooms {
            let key = self.awake.vocal[place];
            let Some(room) = self.rooms.get_mut(key) else { continue };
            let speakers = room.speakers.tick(now);
            room.is_vocal = !room.speakers.is_idle(now);
            if room.is_vocal {
                self.awake.vocal.push(key);
            }
            let Some(speakers) = speakers.filter(|_| room.shared.is_home(self.relay.own)) else { continue };
            let mut heard: Vec<Speaker> = Vec::new();
            for (track, level) in speakers {
                let up = self.directory.tracks.get(&TrackId(track)).and_then(|&up| self.ups.get(up));
                let Some(participant) = up.and_then(|up| self.participants.get(up.participant)).map(|participant| participant.id) else {
                    continue;
                };
                // Somebody with a microphone and a shared tab is one speaker, as loud as the louder of the two.
                match heard.iter_mut().find(|speaker| speaker.participant == participant) {
                    Some(speaker) => speaker.level = speaker.level.max(level),
                    None => heard.push(Speaker { participant, level }),
                }
            }
            self.events.push_back(Event::Speakers { room: room.id, speakers: heard });
        }
        self.awake.vocal.drain(..rooms);
    }
}

/// Empties the buffer for feedback. Who did not agree to reduced size (RFC 5506) gets a compound, in which a report and our name come
/// first (RFC 4585 section 3.1).
fn begin_feedback(out: &mut Vec<u8>, peer: &Peer) {
    out.clear();
    if !peer.inbound.takes_reduced_rtcp {
        write_receiver_report(out, peer.feedback_ssrc, &[]);
        write_sdes_cname(out, peer.feedback_ssrc, CNAME);
    }
}

impl crate::egress::Egress {
    /// Seals RTCP packets and puts them into the outbox as one datagram, if the peer's transport is up.
    pub(crate) fn send_rtcp(&mut self, peer: &mut Peer, packets: &mut Vec<u8>) {
        let Some(flow) = peer.transport.selected() else { return };
        let Some(srtp) = peer.transport.srtp() else { return };
        if !packets.is_empty() && srtp.sender.seal_rtcp(packets, 0) {
            self.outbox.push(flow, packets);
        }
    }
}
