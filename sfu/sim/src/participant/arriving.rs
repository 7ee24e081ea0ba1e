//! What comes off a participant's downlink: media and reports for its receivers, feedback for its senders.

use std::time::Instant;

use sfu_api::TransportRole;
use sfu_core::rtp::header::{RtpHeader, is_rtcp};
use sfu_core::rtp::rtcp::{RtcpPacket, packets};

use super::side::Side;
use super::{Datagram, Participant, wire};
use crate::client::Received;

impl Participant {
    /// Takes what has come off the downlink.
    pub(crate) fn receive(&mut self, now: Instant) {
        while let Some(Datagram { flow, mut bytes }) = self.down.receive(now) {
            let role = if flow.local == self.publisher.address { TransportRole::Publisher } else { TransportRole::Subscriber };
            let Side { transport, out, .. } = self.side(role);
            if transport.handle(now, flow, &bytes, out) == Received::Media {
                self.open(now, role, &mut bytes);
            }
        }
    }

    fn open(&mut self, now: Instant, role: TransportRole, bytes: &mut [u8]) {
        if is_rtcp(bytes) {
            let opened = self.side(role).transport.srtp().and_then(|srtp| srtp.receiver.open_rtcp(bytes).ok());
            let Some(compound) = opened.and_then(|len| bytes.get(..len)) else {
                self.receiving.unopened += 1;
                return;
            };
            self.reduced_rtcp += u64::from(!is_compound(compound));
            if role == TransportRole::Publisher {
                self.take_feedback(compound);
            }
            if role == self.receiving_role() {
                for packet in packets(compound).flatten() {
                    if let RtcpPacket::SenderReport(report) = packet {
                        self.receiving.on_sender_report(now, report.ssrc, report.info.ntp, report.info.rtp_timestamp);
                    }
                }
            }
            return;
        }
        let Ok(header) = RtpHeader::parse(bytes) else {
            self.receiving.unopened += 1;
            return;
        };
        let is_expected = role == self.receiving_role();
        let side = if self.is_single() { &mut self.publisher } else { &mut self.subscriber };
        let (receiving, transport) = (&mut self.receiving, &mut side.transport);
        let opened = transport.srtp().and_then(|srtp| srtp.receiver.open_rtp(receiving.replay(header.ssrc), bytes, header.len).ok());
        match opened.and_then(|opened| bytes.get(..header.len + opened.payload_len)) {
            Some(plain) if is_expected => receiving.take(now, &header, plain),
            _ => receiving.unopened += 1,
        }
    }

    /// Where media comes from the server.
    pub(super) fn receiving_role(&self) -> TransportRole {
        if self.is_single() { TransportRole::Publisher } else { TransportRole::Subscriber }
    }

    fn take_feedback(&mut self, compound: &[u8]) {
        for packet in packets(compound).flatten() {
            match packet {
                RtcpPacket::Pli(pli) => self.sending.iter_mut().for_each(|sending| sending.on_keyframe_request(pli.media_ssrc)),
                RtcpPacket::Fir(fir) => {
                    for entry in fir.entries() {
                        self.sending.iter_mut().for_each(|sending| sending.on_keyframe_request(entry.ssrc));
                    }
                }
                RtcpPacket::Nack(nack) => {
                    let Some(mut wire) = wire(&mut self.publisher, &mut self.transport_sequence) else { continue };
                    for sequence in nack.sequences() {
                        self.sending.iter_mut().for_each(|sending| sending.on_nack(nack.media_ssrc, sequence, &mut wire));
                    }
                }
                RtcpPacket::ReceiverReport(report) => {
                    for block in report.blocks() {
                        self.sending.iter_mut().for_each(|sending| sending.on_report(block.ssrc, block.cumulative_lost));
                    }
                }
                RtcpPacket::TransportCc(feedback) => {
                    for status in feedback.statuses() {
                        let (arrived, lost) = &mut self.congestion;
                        *if status.arrival.is_some() { arrived } else { lost } += 1;
                    }
                }
                _ => {}
            }
        }
    }
}

/// A report comes first, and there is a name (RFC 3550 section 6.1).
fn is_compound(bytes: &[u8]) -> bool {
    let begins_with_report = matches!(packets(bytes).next(), Some(Ok(RtcpPacket::SenderReport(_) | RtcpPacket::ReceiverReport(_))));
    let is_name = |packet| matches!(packet, Ok(RtcpPacket::SourceDescription(names)) if names.cnames().next().is_some());
    begins_with_report && packets(bytes).any(is_name)
}
