//! Packets that a participant seals and does not send: what a scenario sends by hand, as a malicious client could.

use std::time::Instant;

use sfu_api::{TrackId, TransportRole};
use sfu_core::rtp::header::RtpHeader;

use super::{Datagram, Participant, reversed, wire};

impl Participant {
    /// What a track sends from now on for a while, sealed and as the server gets it, but not sent.
    pub(crate) fn prebuild(&mut self, track: TrackId, end: Instant) -> Vec<(Instant, Datagram)> {
        let mut built = Vec::new();
        let Some(index) = self.sending.iter().position(|sending| sending.track == track) else { return built };
        while let Some(at) = self.sending[index].next_timeout().filter(|&at| at < end) {
            let Some(mut wire) = wire(&mut self.publisher, &mut self.transport_sequence) else { return built };
            self.sending[index].poll(at, Some(&mut wire));
            let out = &mut self.publisher.out;
            built.extend(out.datagrams().map(|(flow, bytes)| (at, Datagram { flow: reversed(flow), bytes: bytes.to_vec() })));
            out.clear();
        }
        built
    }

    /// Seals anything as RTP of this client: what a malicious one could send.
    pub(crate) fn forge(&mut self, index: u64, header_and_payload: &[u8]) -> Option<Datagram> {
        let header = RtpHeader::parse(header_and_payload).ok()?;
        let flow = self.publisher.server_flow()?;
        let srtp = self.publisher.transport.srtp()?;
        let mut bytes = header_and_payload.to_vec();
        bytes.resize(bytes.len() + srtp.profile().rtp_tag_len(), 0);
        srtp.sender.seal_rtp(header.ssrc, index, &mut bytes, header.len);
        Some(Datagram { flow, bytes })
    }

    /// Seals anything as RTCP of one side.
    pub(crate) fn forge_rtcp(&mut self, role: TransportRole, mut compound: Vec<u8>) -> Option<Datagram> {
        let side = self.side(role);
        let flow = side.server_flow()?;
        let is_sealed = side.transport.srtp()?.sender.seal_rtcp(&mut compound, 0);
        is_sealed.then_some(Datagram { flow, bytes: compound })
    }
}
