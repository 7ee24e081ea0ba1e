//! RTCP that clients send: reports, requests for what was lost, requests for keyframes.

use std::time::{Duration, Instant};

use crate::error::Discard;
use crate::ids::{DownKey, PeerKey};
use crate::publish::encoding::ReceivedSenderReport;
use crate::rtp::rtcp::{Nack, ReportBlock, RtcpPacket, SenderReport, TransportCc, packets};
use crate::shard::Shard;
use crate::subscribe::retransmit::{is_resendable, resend};
use crate::subscribe::selector::Cap;

/// A queue of this length may overflow.
const QUEUED: Duration = Duration::from_millis(40);
/// Requests for keyframes that are heard of one datagram: each has a walk over those who wait for one. Further ones are dropped, and the
/// client asks again. A client has about as many pictures on its screen.
const MAX_KEYFRAME_REQUESTS: usize = 64;

impl Shard {
    /// Takes a decrypted compound packet. What is wrong in it is counted, and costs nothing else of it as long as its end is known.
    pub(crate) fn receive_feedback(&mut self, now: Instant, key: PeerKey, compound: &[u8]) {
        let mut keyframe_requests = 0;
        for packet in packets(compound) {
            let taken = packet.and_then(|packet| self.take_element(now, key, packet, &mut keyframe_requests));
            if let Err(discard) = taken {
                self.discards.add(discard);
            }
        }
    }

    fn take_element(&mut self, now: Instant, key: PeerKey, packet: RtcpPacket<'_>, keyframe_requests: &mut usize) -> Result<(), Discard> {
        match packet {
            RtcpPacket::SenderReport(report) => {
                self.take_sender_report(now, key, &report);
                self.take_blocks(now, key, report.blocks());
            }
            RtcpPacket::ReceiverReport(report) => self.take_blocks(now, key, report.blocks()),
            RtcpPacket::Nack(nack) => return self.take_nack(now, key, &nack),
            RtcpPacket::Pli(pli) => return self.take_keyframe_requests(now, key, std::iter::once(pli.media_ssrc), keyframe_requests),
            RtcpPacket::Fir(fir) => {
                return self.take_keyframe_requests(now, key, fir.entries().map(|entry| entry.ssrc), keyframe_requests);
            }
            RtcpPacket::Remb(remb) => self.take_remb(now, key, remb.bitrate_bps),
            RtcpPacket::TransportCc(feedback) => return self.take_transport_cc(now, key, &feedback),
            RtcpPacket::CongestionFeedback(feedback) => {
                let at = self.egress.send_time(now).at;
                if let Some(peer) = self.peers.get_mut(key) {
                    peer.bandwidth.on_congestion_feedback(&feedback, at, now);
                    self.bandwidth_changed(key, now);
                }
            }
            // Names and ends of streams are signaling's matter.
            RtcpPacket::SourceDescription(_) => {}
        }
        Ok(())
    }

    fn take_sender_report(&mut self, now: Instant, key: PeerKey, report: &SenderReport<'_>) {
        let Some(stream) = self.peers.get(key).and_then(|peer| peer.inbound.streams.get(&report.ssrc)) else { return };
        let Some(carries) = stream.carries.filter(|carries| !carries.is_rtx) else { return };
        let Some(encoding) = self.ups.get_mut(carries.up).and_then(|up| up.encodings.get_mut(carries.encoding)) else { return };
        encoding.reception.on_sender_report(report.info.ntp, now);
        encoding.sender_report = Some(ReceivedSenderReport { ntp: report.info.ntp, rtp: report.info.rtp_timestamp, at: now });
        self.tell_clock(carries.up, carries.encoding, now);
    }

    fn take_blocks(&mut self, now: Instant, key: PeerKey, blocks: impl Iterator<Item = ReportBlock>) {
        for block in blocks {
            let Some(down_key) = self.down_by_ssrc(key, block.ssrc) else { continue };
            let Some(down) = self.downs.get_mut(down_key) else { continue };
            down.reported.reports += 1;
            down.reported.never_sent = down.rewriter.span().saturating_sub(down.sent.packets);
            down.reported.fraction_lost = block.fraction_lost;
            down.reported.cumulative_lost = block.cumulative_lost;
            down.reported.jitter_ticks = block.jitter_ticks;
            let lost = i64::from(block.cumulative_lost) - i64::try_from(down.reported.never_sent).unwrap_or(i64::MAX);
            if down.redundancy.on_report(lost, down.sent.packets, now) && down.red_payload_type.is_some() {
                self.retarget(down_key, now);
            }
            let Some(down) = self.downs.get_mut(down_key) else { continue };
            // On a long way the newest has not arrived when the block is written that is about the one before.
            let about = down.sender_reports.into_iter().flatten().find(|(ntp, _)| *ntp == block.last_sr);
            let Some((_, sent)) = about else { continue };
            let round_trip = now.saturating_duration_since(sent).saturating_sub(block.delay_since_last_sr.duration());
            if let Some(peer) = self.peers.get_mut(key) {
                peer.is_as_far_as(round_trip, now);
            }
        }
    }

    fn take_transport_cc(&mut self, now: Instant, key: PeerKey, feedback: &TransportCc<'_>) -> Result<(), Discard> {
        let at = self.egress.send_time(now).at;
        if let Some(peer) = self.peers.get_mut(key) {
            peer.bandwidth.on_transport_cc(feedback, at, now)?;
            self.bandwidth_changed(key, now);
        }
        Ok(())
    }

    fn take_remb(&mut self, now: Instant, key: PeerKey, bitrate_bps: u64) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.bandwidth.on_remb(bitrate_bps, now);
            self.bandwidth_changed(key, now);
        }
    }

    fn take_nack(&mut self, now: Instant, key: PeerKey, nack: &Nack<'_>) -> Result<(), Discard> {
        let Some(down_key) = self.down_by_ssrc(key, nack.media_ssrc) else { return Ok(()) };
        let Some(down) = self.downs.get_mut(down_key) else { return Ok(()) };
        let Some(up) = self.ups.get(down.up) else { return Ok(()) };
        let Some(peer) = self.peers.get_mut(key) else { return Ok(()) };
        let send_time = self.egress.send_time(now);
        // Behind a queue the first copy can't have come before.
        let queue = peer.bandwidth.estimate().map(|estimate| estimate.queue).filter(|&queue| queue >= QUEUED);
        let once_in = queue.map_or(Duration::ZERO, |queue| queue.max(peer.rtt.unwrap_or_default()));
        for sequence in nack.sequences() {
            if !down.ask_credit.take(down.sent.packets) {
                return Err(Discard::FeedbackUnfounded);
            }
            down.reported.nacks += 1;
            // Nobody shows what was lost of a picture that was paused since.
            if down.share.cap == Cap::Paused || down.resent.is_recent(sequence, once_in, now) || !is_resendable(sequence, down) {
                continue;
            }
            // What can't go, and what waits already, is not paid for.
            let is_refused = peer.bandwidth.pacer.as_ref().is_some_and(|pacer| pacer.refuses_resend(down_key, sequence));
            if is_refused || !down.resend_budget.has_left(now) || !peer.bandwidth.may_resend(now) {
                continue;
            }
            if peer.bandwidth.holds_resend(down_key, sequence, now) {
                if let Some(pacer) = &mut peer.bandwidth.pacer {
                    self.egress.pacing.list(key, pacer, now);
                }
                continue;
            }
            if resend(sequence, up, down, peer, &mut self.egress.outbox, send_time, now) {
                self.retransmitted += 1;
            }
        }
        Ok(())
    }

    fn take_keyframe_requests(
        &mut self,
        now: Instant,
        key: PeerKey,
        ssrcs: impl Iterator<Item = u32>,
        count: &mut usize,
    ) -> Result<(), Discard> {
        for ssrc in ssrcs {
            *count += 1;
            if *count > MAX_KEYFRAME_REQUESTS {
                return Err(Discard::FeedbackUnfounded);
            }
            self.take_keyframe_request(now, key, ssrc);
        }
        Ok(())
    }

    fn take_keyframe_request(&mut self, now: Instant, key: PeerKey, ssrc: u32) {
        let Some(down_key) = self.down_by_ssrc(key, ssrc) else { return };
        let Some(down) = self.downs.get_mut(down_key) else { return };
        down.reported.keyframe_requests += 1;
        let (up_key, wanted) = (down.up, down.flow.wanted.map(|wanted| wanted.encoding).or(down.flow.live));
        let Some(encoding) = wanted.and_then(|index| self.ups.get_mut(up_key)?.encodings.get_mut(index)) else { return };
        let keyframe_at = encoding.newest_keyframe_at().filter(|_| down.flow.live == wanted);
        let round_trip = self.peers.get(key).and_then(|peer| peer.rtt);
        // Where one is asked for already, that is only repeated, as often as it may be: the first may be lost.
        if !encoding.keyframe.is_wanted() {
            if !down.asking.may_ask(keyframe_at, round_trip, now) {
                return;
            }
            encoding.keyframe.want();
        }
        self.request_keyframes(up_key, now);
    }

    fn down_by_ssrc(&self, key: PeerKey, ssrc: u32) -> Option<DownKey> {
        self.peers.get(key)?.down_by_ssrc.get(&ssrc).copied()
    }
}
