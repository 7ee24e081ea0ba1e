//! One transport of a client: ICE and DTLS from the simulation, and on top what it sends and receives, with a browser's feedback.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Instant;

use sfu_core::media::{Extension, ExtensionMap};
use sfu_core::net::{Flow, Outbox, Protocol};
use sfu_core::rtp::extension::Extensions;
use sfu_core::rtp::header::{RtpHeader, is_rtcp};
use sfu_core::rtp::ntp::NtpTime;
use sfu_core::rtp::rtcp::{RtcpPacket, TransportCcHead, TransportCcTime, packets, write_receiver_report, write_transport_cc};
use sfu_core::rtp::sequence::{low16, nearest};
use sfu_core::transport::params::LocalParams;
use sfu_core::transport::srtp::InboundStream;
use sfu_sim::client::{ClientEvent, ClientTransport, Received};
use tokio::sync::oneshot;

use super::counters::Measured;
use super::link::{ReceiveTrack, Remote, SendTrack};
use super::receiver::{OWN_SSRC, Receiving};
use super::sender::{Sending, Wire};
use crate::plan::Participant;

/// Candidates that are checked; servers have one per network interface.
const MAX_CANDIDATES: usize = 8;
/// Statuses that wait for feedback; beyond it the oldest are not reported.
const MAX_ARRIVALS: usize = 4_096;

/// See the module.
pub(super) struct Transport {
    pub(super) participant: usize,
    pub(super) group: usize,
    pub(super) is_connected: bool,
    pub(super) failure: Option<String>,
    local: SocketAddr,
    client: ClientTransport,
    remote: Option<Remote>,
    candidates: Vec<SocketAddr>,
    has_selected: bool,
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
    sending: Vec<Sending>,
    receiving: Vec<Receiving>,
    /// SSRC, place in `receiving`, retransmissions, replay window.
    streams: Vec<(u32, usize, bool, InboundStream)>,
    transport_sequence: u16,
    feedback: Feedback,
}

/// Arrivals for transport-wide congestion control.
#[derive(Default)]
struct Feedback {
    extension: Option<u8>,
    map: ExtensionMap,
    /// Sequence number of the first of `arrivals`, extended.
    base: u64,
    arrivals: VecDeque<Option<TransportCcTime>>,
    has_begun: bool,
    count: u8,
}

/// What a turn of the media thread has in common for all transports.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) out: &'a mut Outbox,
    pub(super) measured: &'a mut Measured,
}

impl Transport {
    pub(super) fn new(participant: usize, group: usize, local: SocketAddr, client: ClientTransport) -> Self {
        Self {
            participant,
            group,
            is_connected: false,
            failure: None,
            local,
            client,
            remote: None,
            candidates: Vec::new(),
            has_selected: false,
            waiting: Vec::new(),
            sending: Vec::new(),
            receiving: Vec::new(),
            streams: Vec::new(),
            transport_sequence: 1,
            feedback: Feedback::default(),
        }
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn is_sender(&self) -> bool {
        !self.sending.is_empty()
    }

    pub(super) fn connect(&mut self, turn: &mut Turn<'_>, remote: Remote) {
        if self.remote.as_ref() == Some(&remote) {
            return;
        }
        let params = LocalParams { ice: remote.ice.clone(), fingerprint: remote.fingerprint, candidates: Vec::new() };
        self.client.set_remote(&params);
        self.remote = Some(remote);
        self.client.handle_timeout(turn.now, turn.out);
    }

    pub(super) fn add_candidate(&mut self, turn: &mut Turn<'_>, address: SocketAddr) {
        if self.candidates.contains(&address) || self.candidates.len() >= MAX_CANDIDATES || !address.is_ipv4() || self.has_selected {
            return;
        }
        self.candidates.push(address);
        self.client.add_path(turn.now, self.flow(address));
        self.client.handle_timeout(turn.now, turn.out);
    }

    fn flow(&self, remote: SocketAddr) -> Flow {
        Flow { protocol: Protocol::Udp, local: self.local, remote }
    }

    pub(super) fn when_connected(&mut self, reply: oneshot::Sender<Result<(), String>>) {
        match &self.failure {
            Some(reason) => drop(reply.send(Err(reason.clone()))),
            None if self.is_connected => drop(reply.send(Ok(()))),
            None => self.waiting.push(reply),
        }
    }

    /// What it sends; a track that is sent already goes on.
    pub(super) fn set_sending(&mut self, now: Instant, tracks: Vec<SendTrack>, participant: &Participant, is_idle: bool) {
        self.sending.retain(|sending| tracks.contains(sending.track()));
        for track in tracks {
            if self.sending.iter().all(|sending| *sending.track() != track)
                && let Some(mut sending) = Sending::new(track, participant)
            {
                sending.set_idle(now, is_idle);
                self.sending.push(sending);
            }
        }
        self.start_sending(now);
    }

    pub(super) fn set_receiving(&mut self, tracks: Vec<ReceiveTrack>) {
        self.feedback.set_extension(tracks.iter().find_map(|track| track.transport_cc));
        let mut before = std::mem::take(&mut self.receiving);
        let mut streams = std::mem::take(&mut self.streams);
        for track in tracks {
            let is_same = |old: &Receiving| old.track().name == track.name && old.track().ssrc == track.ssrc;
            let receiving = match before.iter().position(is_same) {
                Some(place) => {
                    let mut receiving = before.swap_remove(place);
                    receiving.redescribe(track);
                    receiving
                }
                None => Receiving::new(track),
            };
            let place = self.receiving.len();
            let ssrcs = [(Some(receiving.track().ssrc), false), (receiving.track().rtx_ssrc, true)];
            for (ssrc, is_rtx) in ssrcs {
                let Some(ssrc) = ssrc else { continue };
                let known = streams.iter().position(|stream| stream.0 == ssrc).map(|at| streams.swap_remove(at).3);
                self.streams.push((ssrc, place, is_rtx, known.unwrap_or_default()));
            }
            self.receiving.push(receiving);
        }
    }

    pub(super) fn set_idle(&mut self, now: Instant, is_idle: bool) {
        self.sending.iter_mut().for_each(|sending| sending.set_idle(now, is_idle));
    }

    fn start_sending(&mut self, now: Instant) {
        if self.is_connected {
            self.sending.iter_mut().for_each(|sending| sending.start(now));
        }
    }

    /// Tracks that have come to life.
    pub(super) fn live_tracks(&self) -> usize {
        self.receiving.iter().filter(|receiving| receiving.is_live()).count()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.sending.iter().filter_map(Sending::next_due).min()
    }

    /// Sends the media that is due.
    pub(super) fn send_due(&mut self, turn: &mut Turn<'_>) {
        let Self { client, sending, transport_sequence, .. } = self;
        let Some(flow) = client.selected() else { return };
        let Some(srtp) = client.srtp() else { return };
        let mut wire = Wire { srtp, flow, out: turn.out, transport_sequence, counters: &mut turn.measured.counters };
        for sending in sending.iter_mut().filter(|sending| sending.next_due().is_some_and(|due| due <= turn.now)) {
            sending.poll(turn.now, &mut wire);
        }
    }

    /// Takes a datagram.
    pub(super) fn receive(&mut self, turn: &mut Turn<'_>, remote: SocketAddr, arrived_at_ns: u64, datagram: &mut [u8]) {
        turn.measured.counters.received_total_bytes += datagram.len() as u64;
        // RFC 7983 section 7
        if matches!(datagram.first(), Some(128..=191)) {
            if is_rtcp(datagram) {
                self.receive_rtcp(turn, datagram);
            } else {
                self.receive_rtp(turn, arrived_at_ns, datagram);
            }
            return;
        }
        let flow = self.flow(remote);
        if self.client.handle(turn.now, flow, datagram, turn.out) == Received::Control {
            self.take_events(turn.now);
        }
    }

    fn take_events(&mut self, now: Instant) {
        while let Some(event) = self.client.poll_event() {
            match event {
                ClientEvent::Connected { .. } => {
                    self.is_connected = true;
                    self.start_sending(now);
                    self.waiting.drain(..).for_each(|reply| drop(reply.send(Ok(()))));
                }
                ClientEvent::Failed(reason) => self.fail(&reason),
                ClientEvent::Closed => self.fail("the server closed DTLS"),
                ClientEvent::PathValid(_)
                | ClientEvent::DataChannelOpen { .. }
                | ClientEvent::Data { .. }
                | ClientEvent::CheckRefused(_) => {}
            }
        }
        if !self.has_selected
            && let Some(selected) = self.client.selected()
        {
            // One path is enough; checks of the others would only be load.
            self.has_selected = true;
            let others = self.candidates.iter().map(|address| self.flow(*address)).filter(|flow| *flow != selected);
            others.collect::<Vec<_>>().into_iter().for_each(|flow| self.client.remove_path(flow));
        }
    }

    fn fail(&mut self, reason: &str) {
        self.failure.get_or_insert_with(|| reason.to_owned());
        self.waiting.drain(..).for_each(|reply| drop(reply.send(Err(reason.to_owned()))));
    }

    fn receive_rtp(&mut self, turn: &mut Turn<'_>, arrived_at_ns: u64, datagram: &mut [u8]) {
        let Self { client, receiving, streams, feedback, .. } = self;
        let counters = &mut turn.measured.counters;
        counters.received_packets += 1;
        counters.received_bytes += datagram.len() as u64;
        let Ok(header) = RtpHeader::parse(datagram) else {
            counters.unopened += 1;
            return;
        };
        feedback.observe(arrived_at_ns, &header, datagram);
        let Some(stream) = streams.iter_mut().find(|stream| stream.0 == header.ssrc) else {
            counters.unannounced += 1;
            return;
        };
        let Some(srtp) = client.srtp() else { return };
        let Ok(opened) = srtp.receiver.open_rtp(&mut stream.3, datagram, header.len) else {
            counters.unopened += 1;
            return;
        };
        let Ok(payload) = header.payload(datagram.get(..header.len + opened.payload_len).unwrap_or_default()) else {
            counters.damaged += 1;
            return;
        };
        let Some(receiving) = receiving.get_mut(stream.1) else { return };
        if stream.2 {
            receiving.take_rtx(&header, payload, counters);
        } else {
            receiving.take(turn.now, arrived_at_ns, &header, payload, turn.measured);
        }
    }

    fn receive_rtcp(&mut self, turn: &mut Turn<'_>, datagram: &mut [u8]) {
        let Self { client, receiving, sending, transport_sequence, .. } = self;
        turn.measured.counters.received_rtcp += 1;
        let (now, Some(flow)) = (turn.now, client.selected()) else { return };
        let Some(srtp) = client.srtp() else { return };
        let Ok(len) = srtp.receiver.open_rtcp(datagram) else {
            turn.measured.counters.unopened += 1;
            return;
        };
        for packet in packets(&datagram[..len]).flatten() {
            match packet {
                RtcpPacket::SenderReport(report) => {
                    let track = receiving.iter_mut().find(|receiving| receiving.track().ssrc == report.ssrc);
                    track.into_iter().for_each(|track| track.on_sender_report(now, report.info.ntp));
                    let blocks = report.blocks();
                    blocks.for_each(|block| sending.iter_mut().for_each(|sending| sending.on_report(block.ssrc)));
                }
                RtcpPacket::ReceiverReport(report) => {
                    report.blocks().for_each(|block| sending.iter_mut().for_each(|sending| sending.on_report(block.ssrc)));
                }
                RtcpPacket::Nack(nack) => {
                    for sequence in nack.sequences() {
                        turn.measured.counters.nacked += 1;
                        let counters = &mut turn.measured.counters;
                        let mut wire = Wire { srtp, flow, out: turn.out, transport_sequence, counters };
                        let is_resent = sending.iter_mut().any(|sending| sending.on_nack(nack.media_ssrc, sequence, &mut wire));
                        turn.measured.counters.resent += u64::from(is_resent);
                    }
                }
                RtcpPacket::Pli(pli) => {
                    turn.measured.counters.keyframe_requests += 1;
                    sending.iter_mut().for_each(|sending| sending.on_keyframe_request(pli.media_ssrc));
                }
                RtcpPacket::Fir(fir) => {
                    for entry in fir.entries() {
                        turn.measured.counters.keyframe_requests += 1;
                        sending.iter_mut().for_each(|sending| sending.on_keyframe_request(entry.ssrc));
                    }
                }
                RtcpPacket::TransportCc(_) => turn.measured.counters.feedback_received += 1,
                _ => {}
            }
        }
    }

    /// Does what is due of ICE and DTLS, and sends feedback: NACKs and PLIs each time, the others if asked to.
    pub(super) fn tick(&mut self, turn: &mut Turn<'_>, with_feedback: bool, with_reports: bool, ntp: NtpTime) {
        if self.client.next_timeout().is_some_and(|at| at <= turn.now) {
            self.client.handle_timeout(turn.now, turn.out);
            self.take_events(turn.now);
        }
        let Self { client, receiving, sending, feedback, .. } = self;
        let Some(flow) = client.selected() else { return };
        let Some(srtp) = client.srtp() else { return };
        let mut seal = |compound: &mut Vec<u8>, out: &mut Outbox| {
            if !compound.is_empty() && srtp.sender.seal_rtcp(compound, 0) {
                out.push(flow, compound);
            }
            compound.clear();
        };
        let mut compound = Vec::new();
        if with_reports {
            sending.iter().for_each(|sending| sending.report(turn.now, ntp, &mut compound));
            let blocks: Vec<_> = receiving.iter_mut().filter_map(|receiving| receiving.block(turn.now)).collect();
            if !blocks.is_empty() {
                write_receiver_report(&mut compound, OWN_SSRC, &blocks);
            }
            if compound.len() > MAX_COMPOUND {
                seal(&mut compound, turn.out);
            }
        }
        receiving.iter_mut().for_each(|receiving| receiving.feedback(turn.now, &mut compound, &mut turn.measured.counters));
        if with_feedback {
            let media_ssrc = receiving.first().map_or(0, |receiving| receiving.track().ssrc);
            while feedback.write(media_ssrc, &mut compound) {
                turn.measured.counters.feedback_sent += 1;
                seal(&mut compound, turn.out);
            }
        }
        seal(&mut compound, turn.out);
    }
}

/// Bytes of RTCP after which another datagram is begun.
const MAX_COMPOUND: usize = 400;

impl Feedback {
    fn set_extension(&mut self, extension: Option<u8>) {
        self.extension = extension;
        self.map = ExtensionMap::default();
        if let Some(id) = extension {
            self.map.set(Extension::TransportCc, id);
        }
    }

    fn observe(&mut self, arrived_at_ns: u64, header: &RtpHeader, datagram: &[u8]) {
        if self.extension.is_none() {
            return;
        }
        let Some(wire) = Extensions::parse(header, datagram, &self.map).transport_cc else { return };
        if !std::mem::replace(&mut self.has_begun, true) {
            self.base = 0x1_0000 + u64::from(wire);
        }
        let sequence = nearest(wire, self.base + self.arrivals.len() as u64);
        // What comes after its feedback is not reported again.
        let Some(place) = sequence.checked_sub(self.base).and_then(|place| usize::try_from(place).ok()) else { return };
        if place >= MAX_ARRIVALS {
            (self.base, self.arrivals) = (sequence, VecDeque::new());
        }
        let place = usize::try_from(sequence - self.base).unwrap_or(0);
        while self.arrivals.len() <= place {
            self.arrivals.push_back(None);
        }
        // Units of 250 us; they wrap.
        let units = (arrived_at_ns / (u64::from(TransportCcTime::UNIT_US) * 1_000)) & u64::from(u32::MAX);
        self.arrivals[place] = Some(TransportCcTime(u32::try_from(units).unwrap_or(0)));
    }

    /// Appends one feedback packet; false if there is nothing to say.
    fn write(&mut self, media_ssrc: u32, compound: &mut Vec<u8>) -> bool {
        let head = TransportCcHead { sender_ssrc: OWN_SSRC, media_ssrc, base_sequence: low16(self.base), feedback_count: self.count };
        let written = write_transport_cc(compound, head, self.arrivals.iter().copied());
        if written == 0 {
            // Nothing but losses: whoever sent that has noticed by now.
            self.base += self.arrivals.len() as u64;
            self.arrivals.clear();
            return false;
        }
        self.arrivals.drain(..written);
        self.base += written as u64;
        self.count = self.count.wrapping_add(1);
        true
    }
}
