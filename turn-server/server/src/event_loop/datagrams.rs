//! Datagrams from clients to peers and back: read in batches, sent in trains. Nothing here allocates.

use std::io::ErrorKind;
use std::net::SocketAddr;

use mio::Token;
use rand::RngExt as _;
use turn_proto::wire::channel::{self, ChannelNumber};
use turn_proto::wire::write::data_indication_header;
use turn_proto::{Client, Forward, Moment, RelayId, ToClient, Transport};

use super::outputs::Relay;
use super::{EventLoop, FIRST_RELAY, FIRST_UDP};
use crate::train::{Cargo, Way};
use crate::udp::{BATCH, HEADROOM, Inbox};

/// Batches from one socket in one turn.
const BATCHES_PER_TURN: usize = 4;

/// Messages from one relayed address at once. Most have few; a busy one is asked again.
const RELAY_BATCH: usize = 16;

impl EventLoop {
    /// Datagrams of clients.
    pub(super) fn serve_clients(&mut self, index: usize, at: Moment) {
        for _ in 0..BATCHES_PER_TURN {
            let Some(socket) = self.udp.get(index) else { return };
            let Ok(count) = socket.receive(&mut self.inbox, BATCH) else { return };
            for slot in 0..count {
                self.pass_up(index, slot, at);
            }
            self.depart();
            self.settle(at);
            if count < BATCH {
                return;
            }
        }
        self.again.push_back(Token(FIRST_UDP + index));
    }

    /// One message of a client: one datagram, or several of equal length that came in a row.
    fn pass_up(&mut self, index: usize, slot: usize, at: Moment) {
        let received = self.udp[index].received(&self.inbox, slot);
        let client = Client { transport: Transport::Udp, remote: received.from, local: received.local };
        for begin in (0..received.len.max(1)).step_by(received.stride) {
            let begin_in_arena = Inbox::place(slot) + begin;
            let len = received.stride.min(received.len - begin);
            let datagram = &self.inbox.bytes()[begin_in_arena..begin_in_arena + len];
            let Forward::ToPeer { relay, peer, payload } = self.core.handle_client(at, client, datagram) else { continue };
            let way = Way::ToPeer(relay, peer);
            if !self.train.accepts(&way, payload.len()) {
                self.depart();
            }
            self.train.add(way, self.inbox.bytes(), begin_in_arena + payload.start..begin_in_arena + payload.end);
        }
    }

    /// Sends what is collected.
    fn depart(&mut self) {
        let Self { train, inbox, relays, udp, udp_counters, .. } = self;
        let Some((way, cargo)) = train.take() else { return };
        let (socket, from, to) = match way {
            Way::ToPeer(relay, peer) => {
                let Some(Some(Relay::Udp(socket))) = relays.get_mut(relay.0 as usize) else { return };
                (socket, None, peer)
            }
            Way::ToClient { socket, from, to } => (&mut udp[socket], Some(from), to),
        };
        match cargo {
            Cargo::Received(place) => socket.send(from, to, &inbox.bytes()[place], udp_counters),
            Cargo::Train { segment, bytes } => socket.send_train(from, to, segment, bytes, udp_counters),
        }
    }

    /// Datagrams of peers, or their connections.
    pub(super) fn serve_relay(&mut self, id: RelayId, at: Moment) {
        for _ in 0..BATCHES_PER_TURN {
            let count = match self.relays.get(id.0 as usize) {
                Some(Some(Relay::Udp(socket))) => match socket.receive(&mut self.inbox, RELAY_BATCH) {
                    Ok(count) => count,
                    // an ICMP error of an earlier datagram; what is behind it can be read
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => continue,
                    Err(_) => return,
                },
                Some(Some(Relay::Tcp { .. })) => return self.accept_peers(id, at),
                _ => return,
            };
            for slot in 0..count {
                self.pass_down(id, slot, at);
            }
            self.depart();
            if count < RELAY_BATCH {
                return;
            }
        }
        self.again.push_back(Token(FIRST_RELAY + id.0 as usize));
    }

    /// One message of a peer.
    fn pass_down(&mut self, id: RelayId, slot: usize, at: Moment) {
        let Some(Some(Relay::Udp(socket))) = self.relays.get(id.0 as usize) else { return };
        let received = socket.received(&self.inbox, slot);
        let datagrams = received.len.div_ceil(received.stride).max(1);
        let Some(to_client) = self.core.handle_peer(at.now, id, received.from, datagrams, received.len) else { return };
        let begin = Inbox::place(slot);
        let (client, channel) = match to_client {
            ToClient::Channel(client, number) => (client, Some(number)),
            ToClient::Indication(client, _) => (client, None),
        };
        let way = match client.transport {
            Transport::Udp => {
                let Some(socket) = self.udp.iter().position(|socket| serves(socket.local(), client.local)) else { return };
                Some(Way::ToClient { socket, from: client.local.ip(), to: client.remote })
            }
            Transport::Tcp | Transport::Tls => None,
        };
        // a datagram by itself gets its header in front of it, where it is
        if let (Some(way), Some(number), 1) = (way, channel, datagrams) {
            let place = begin - channel::HEADER_BYTES..begin + received.len;
            self.inbox.bytes_mut()[place.start..begin].copy_from_slice(&channel_header(number, received.len));
            if !self.train.accepts(&way, place.len()) {
                self.depart();
            }
            return self.train.add(way, self.inbox.bytes(), place);
        }
        for offset in (0..received.len.max(1)).step_by(received.stride) {
            let end = begin + received.len.min(offset + received.stride);
            let payload_len = end - begin - offset;
            let mut header = [0; HEADROOM];
            let (header_len, padding) = match to_client {
                ToClient::Channel(_, number) => {
                    header[..channel::HEADER_BYTES].copy_from_slice(&channel_header(number, payload_len));
                    (channel::HEADER_BYTES, 0)
                }
                ToClient::Indication(_, peer) => {
                    let (bytes, len) = data_indication_header(peer, len_u16(payload_len), &self.rng.random());
                    header[..len].copy_from_slice(&bytes[..len]);
                    (len, payload_len.next_multiple_of(4) - payload_len)
                }
            };
            let Some(way) = way else {
                self.streams.send_data(client, &header[..header_len], &self.inbox.bytes()[begin + offset..end]);
                continue;
            };
            if !self.train.accepts(&way, header_len + payload_len + padding) {
                self.depart();
            }
            let Self { train, inbox, .. } = self;
            train.add_parts(way, inbox.bytes(), &[&header[..header_len], &inbox.bytes()[begin + offset..end], &[0; 3][..padding]]);
        }
    }
}

fn channel_header(number: ChannelNumber, len: usize) -> [u8; channel::HEADER_BYTES] {
    channel::header(number, len_u16(len))
}

/// A datagram's length fits.
fn len_u16(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

/// True if packets of a flow with this local address came through a socket that is bound so.
pub(super) fn serves(bound: SocketAddr, local: SocketAddr) -> bool {
    local.port() == bound.port() && local.is_ipv4() == bound.is_ipv4() && (bound.ip().is_unspecified() || bound.ip() == local.ip())
}
