//! The packet's journey IN: demux -> transport -> publish -> route.
//!
//! STUN goes to its peer by user name, everything else by validated flow. RTP is opened in place, bound to its encoding,
//! stored in the ring and queued for the flush at the end of the batch.

use std::time::{Duration, Instant};

use sfu_api::MediaKind;
use slotmap::Key as _;

use crate::audio::forms::{MADE, Source};
use crate::demux::Kind;
use crate::error::Discard;
use crate::ids::{DownKey, PeerKey, UpKey};
use crate::limits::MAX_DATAGRAM;
use crate::net::Flow;
use crate::peer::{Carries, Peer, Stream};
use crate::publish::UpTrack;
use crate::publish::encoding::{Arrived, Encoding};
use crate::publish::ring::Meta;
use crate::rtp::extension::Extensions;
use crate::rtp::header::{RtpHeader, is_rtcp};
use crate::rtp::payload;
use crate::rtp::sequence::nearest;
use crate::shard::Shard;
use crate::transport::{answered_transaction, username_ufrag};

/// A decrypted packet on its way into a ring.
struct Arrival<'a> {
    sequence: u64,
    header: &'a RtpHeader,
    extensions: &'a Extensions<'a>,
    payload: &'a [u8],
    payload_type: u8,
    is_repair: bool,
}

impl Shard {
    /// Takes one received datagram; it is decrypted in place. Bad ones are counted and dropped.
    pub fn handle_datagram(&mut self, now: Instant, flow: Flow, datagram: &mut [u8]) {
        self.received.packets += 1;
        self.received.bytes += datagram.len() as u64;
        if let Err(reason) = self.receive(now, flow, datagram) {
            self.discards.add(reason);
        }
    }

    /// Counts and drops media that has waited for so long that it would come too late, because more comes than this shard can send
    /// ([`crate::backlog`]). False for what is to be handled. `taken_at` is when the datagram was taken off its socket.
    pub fn sheds(&mut self, taken_at: Instant, waited: Duration, datagram: &[u8]) -> bool {
        if !self.backlog.is_late(taken_at, waited) || Kind::of(datagram) != Some(Kind::Srtp) || is_rtcp(datagram) {
            return false;
        }
        self.received.packets += 1;
        self.received.bytes += datagram.len() as u64;
        self.discards.add(Discard::Late);
        true
    }

    fn receive(&mut self, now: Instant, flow: Flow, datagram: &mut [u8]) -> Result<(), Discard> {
        if datagram.len() > MAX_DATAGRAM {
            return Err(Discard::TooLarge);
        }
        match Kind::of(datagram).ok_or(Discard::UnknownProtocol)? {
            Kind::Stun => self.receive_stun(now, flow, datagram),
            Kind::Dtls => {
                let key = self.demux.by_flow(&flow).ok_or(Discard::UnknownSource)?;
                self.receive_dtls(now, key, flow, datagram)
            }
            Kind::Srtp => {
                let Some(key) = self.demux.by_flow(&flow) else { return Err(self.receive_stray(now, flow, datagram)) };
                if is_rtcp(datagram) { self.receive_rtcp(now, key, datagram) } else { self.receive_rtp(now, key, datagram) }
            }
        }
    }

    fn receive_stun(&mut self, now: Instant, flow: Flow, datagram: &[u8]) -> Result<(), Discard> {
        if let Some(transaction) = answered_transaction(datagram) {
            return self.receive_answer(now, flow, transaction, datagram);
        }
        let ufrag = username_ufrag(datagram).ok_or(Discard::StunMalformed)?;
        let key = self.demux.by_ufrag(ufrag).ok_or(Discard::StunUnknownUser)?;
        let owner = self.demux.by_flow(&flow).filter(|&owner| owner != key);
        if owner.and_then(|owner| self.peers.get(owner)).is_some_and(|owner| owner.transport.is_heard_on(flow, now)) {
            // Somebody with credentials of its own uses the source address of a living path of somebody else.
            return Err(Discard::StunForeignPath);
        }
        let peer = self.peers.get_mut(key).ok_or(Discard::StunUnknownUser)?;
        let outcome = peer.transport.handle_stun(now, flow, datagram, &mut self.egress.outbox)?;
        peer.heard_at = Some(now);
        self.path_checked(now, key, flow, outcome);
        Ok(())
    }

    fn receive_rtcp(&mut self, now: Instant, key: PeerKey, datagram: &mut [u8]) -> Result<(), Discard> {
        let peer = self.peers.get_mut(key).ok_or(Discard::UnknownSource)?;
        let srtp = peer.transport.srtp().ok_or(Discard::SrtpNotReady)?;
        let len = srtp.receiver.open_rtcp(datagram)?;
        peer.heard_at = Some(now);
        let compound = datagram.get(..len).ok_or(Discard::RtcpMalformed)?;
        self.receive_feedback(now, key, compound);
        Ok(())
    }

    fn receive_rtp(&mut self, now: Instant, key: PeerKey, datagram: &mut [u8]) -> Result<(), Discard> {
        let header = RtpHeader::parse(datagram)?;
        let peer = self.peers.get_mut(key).ok_or(Discard::UnknownSource)?;
        let sequence = open(peer, &header, datagram)?;
        peer.heard_at = Some(now);
        let plain_len = datagram.len() - peer.transport.srtp().ok_or(Discard::SrtpNotReady)?.profile().rtp_tag_len();
        let packet = datagram.get(..plain_len).ok_or(Discard::RtpMalformed)?;
        let extensions = Extensions::parse(&header, packet, &peer.inbound.extensions);
        if let Some(transport_sequence) = extensions.transport_cc {
            peer.inbound.twcc.record(transport_sequence, now);
            if !peer.inbound.owes_feedback {
                peer.inbound.owes_feedback = true;
                self.awake.debtors.push(key);
            }
        }
        let payload = header.payload(packet)?;
        let carries = match peer.inbound.streams.get(&header.ssrc).and_then(|stream| stream.carries) {
            Some(carries) => carries,
            None => self.bind(now, key, &header, sequence, &extensions)?,
        };
        let up = self.ups.get_mut(carries.up).ok_or(Discard::UnknownSsrc)?;
        if carries.is_rtx {
            if payload.is_empty() {
                // Padding only: a probe for bandwidth.
                return Ok(());
            }
            // RFC 4588 section 4: the original sequence number, then the original payload.
            let (original, payload) = payload.split_first_chunk::<2>().ok_or(Discard::RtxMalformed)?;
            let encoding = up.encodings.get(carries.encoding).ok_or(Discard::UnknownSsrc)?;
            let highest = encoding.highest().ok_or(Discard::RtxMalformed)?;
            let numbering = encoding.numbering;
            let sequence = numbering.own(nearest(u16::from_be_bytes(*original), numbering.source(highest)));
            if sequence > highest {
                // Nobody asks for what was not sent yet.
                return Err(Discard::RtxMalformed);
            }
            let payload_type = up.codec.payload_type;
            let arrival = Arrival { sequence, header: &header, extensions: &extensions, payload, payload_type, is_repair: true };
            return self.publish(now, carries, &arrival);
        }
        if !up.carries(header.payload_type) {
            return Err(Discard::UnknownPayloadType);
        }
        // Without RTX probes are padding on the stream itself: forwarded empty, so that their numbers are no gap.
        let numbering = up.encodings.get(carries.encoding).ok_or(Discard::UnknownSsrc)?.numbering;
        let (sequence, payload_type) = (numbering.own(sequence), header.payload_type);
        let arrival = Arrival { sequence, header: &header, extensions: &extensions, payload, payload_type, is_repair: false };
        self.publish(now, carries, &arrival)
    }

    /// Stores a packet and queues it for forwarding.
    fn publish(&mut self, now: Instant, carries: Carries, arrival: &Arrival<'_>) -> Result<(), Discard> {
        let up = self.ups.get_mut(carries.up).ok_or(Discard::UnknownSsrc)?;
        let level = arrival.extensions.audio_level.filter(|_| !up.is_muted && up.kind() == MediaKind::Audio);
        let room_key = level.and(self.participants.get(up.participant)).map(|owner| owner.room);
        let is_loud = room_key.and_then(|key| self.rooms.get(key)).is_none_or(|room| room.speakers.hears(up.id.0));
        let is_forwarded = !up.is_muted && up.is_heard(is_loud);
        let normalized = up.normalized(arrival.payload, arrival.payload_type)?;
        let payload = normalized.as_deref().unwrap_or(arrival.payload);
        let encoding = up.encodings.get_mut(carries.encoding).ok_or(Discard::UnknownSsrc)?;
        let (block, descriptor) = arrival.extensions.forwarded_block(up.playout_delay.as_ref());
        let (info, layering) = payload::read(up.codec.codec, arrival.payload);
        let meta = Meta {
            block_len: u16::try_from(block.len()).unwrap_or(0),
            descriptor,
            payload: info,
            ..Meta::plain(arrival.sequence, arrival.header.timestamp, arrival.header.marker)
        };
        let arrived = Arrived { meta, layering: &layering, block: &block, payload };
        let is_first = encoding.store(arrived, is_forwarded, now)?;
        // Each shard finds out by itself who is loud enough.
        if !encoding.relayed.is_empty() && !up.is_muted {
            self.relay.packet(carries.up, carries.encoding, encoding, &arrived);
        }
        if arrival.is_repair {
            encoding.nack.on_recovered(arrival.sequence, now);
        } else {
            encoding.reception.on_packet(encoding.numbering.source(arrival.sequence), arrival.header.timestamp, now);
            if up.codec.has_nack && encoding.nack.on_packet(arrival.sequence, now) && encoding.has_audience() {
                encoding.keyframe.want();
            }
        }
        if is_first {
            self.egress.mark(carries.up, carries.encoding);
        }
        if up.make_form(&Source { meta: &meta, block: &block, payload }, is_forwarded, now) {
            self.egress.mark(carries.up, MADE);
        }
        if let (Some(level), Some(key)) = (level, room_key)
            && let Some(room) = self.rooms.get_mut(key)
        {
            self.relay.level(&room.shared, carries.up, level);
            room.speakers.level(up.id.0, up.participant.data().as_ffi(), level, now);
            if !room.is_vocal {
                room.is_vocal = true;
                self.awake.vocal.push(key);
            }
        }
        if !up.is_awake {
            self.wake_up(carries.up);
        }
        Ok(())
    }

    /// Finds out what a new SSRC carries: by what the client's description lists, by header extensions, or because there is
    /// just one track that can have this payload type.
    fn bind(
        &mut self,
        now: Instant,
        key: PeerKey,
        header: &RtpHeader,
        index: u64,
        extensions: &Extensions<'_>,
    ) -> Result<Carries, Discard> {
        let peer = self.peers.get_mut(key).ok_or(Discard::UnknownSource)?;
        let by_mid = |mid: &str| peer.inbound.tracks.iter().find(|(own, _)| own.as_str() == mid).map(|&(_, up)| up);
        let mut by_type =
            peer.inbound.tracks.iter().map(|&(_, up)| up).filter(|&up| self.ups.get(up).is_some_and(|up| accepts(up, header)));
        let up_key = match extensions.mid {
            Some(mid) => by_mid(mid),
            None => by_type.next().filter(|_| by_type.next().is_none()),
        };
        let up_key = up_key.ok_or(Discard::UnknownSsrc)?;
        let up = self.ups.get_mut(up_key).ok_or(Discard::UnknownSsrc)?;
        let is_rtx = up.codec.rtx_payload_type == Some(header.payload_type);
        if !is_rtx && !up.carries(header.payload_type) {
            return Err(Discard::UnknownPayloadType);
        }
        let rid = if is_rtx { extensions.repaired_rid.or(extensions.rid) } else { extensions.rid };
        let encoding = match rid {
            Some(rid) => up.encoding_by_rid(rid),
            None => Some(0).filter(|_| !up.is_simulcast()),
        };
        let encoding = encoding.ok_or(Discard::UnknownSsrc)?;
        let carries = Carries { up: up_key, encoding, is_rtx };
        let is_late = |known: &Encoding| known.replaced == Some(header.ssrc) && known.is_flowing(now);
        if !is_rtx && up.encodings.get(encoding).is_some_and(is_late) {
            // What comes late of a stream that was replaced does not bring it back.
            return Err(Discard::UnknownSsrc);
        }
        if let Some(stream) = peer.inbound.streams.get_mut(&header.ssrc) {
            stream.carries = Some(carries);
        }
        let Some(known) = up.encodings.get_mut(encoding).filter(|_| !is_rtx) else { return Ok(carries) };
        match known.ssrc {
            Some(ssrc) if ssrc != header.ssrc => {
                known.start_over(header.ssrc, index, up.codec.codec.clock_rate_hz());
                if let Some(stream) = peer.inbound.streams.get_mut(&ssrc) {
                    stream.carries = None;
                }
                self.tell_start_over(up_key, encoding);
                self.restart_flows(up_key, encoding, now);
            }
            _ => known.ssrc = Some(header.ssrc),
        }
        Ok(carries)
    }
}

impl Shard {
    /// An encoding goes on as another stream: who gets it begins anew with that.
    pub(crate) fn restart_flows(&mut self, up_key: UpKey, encoding: usize, now: Instant) {
        let Some(up) = self.ups.get(up_key) else { return };
        let Some(known) = up.encodings.get(encoding) else { return };
        let listeners: Vec<DownKey> = if up.codec.codec.is_video() { known.live.clone() } else { up.downs.clone() };
        for &down in &listeners {
            self.stop_flow(down);
        }
        if let Some(up) = self.ups.get_mut(up_key) {
            up.close_form();
        }
        for down in listeners {
            self.retarget(down, now);
        }
    }
}

/// Opens a packet in place. State for a new SSRC is kept only if the packet is authentic.
fn open(peer: &mut Peer, header: &RtpHeader, datagram: &mut [u8]) -> Result<u64, Discard> {
    let Peer { transport, inbound, .. } = peer;
    let srtp = transport.srtp().ok_or(Discard::SrtpNotReady)?;
    if let Some(stream) = inbound.streams.get_mut(&header.ssrc) {
        return Ok(srtp.receiver.open_rtp(&mut stream.srtp, datagram, header.len)?.index);
    }
    let mut stream = Stream::default();
    let opened = srtp.receiver.open_rtp(&mut stream.srtp, datagram, header.len)?;
    if !inbound.make_room() {
        return Err(Discard::TooManySsrcs);
    }
    inbound.streams.insert(header.ssrc, stream);
    Ok(opened.index)
}

fn accepts(up: &UpTrack, header: &RtpHeader) -> bool {
    up.carries(header.payload_type) || up.codec.rtx_payload_type == Some(header.payload_type)
}
