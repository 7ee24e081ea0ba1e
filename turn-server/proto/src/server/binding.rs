//! Binding requests: what a client's address looks like from here (RFC 8489 section 3), and from other addresses (RFC 5780).
//!
//! Anybody may ask. An answer is hardly longer than its request, and addresses that ask too often get none over UDP.

use std::net::{IpAddr, SocketAddr};

use crate::wire::attribute;
use crate::wire::message::Message;

use super::{Answer, Client, Moment, Transport, TurnServer};

/// Two addresses with two ports each, all of them open for UDP: enough to find out how a NAT maps and filters (RFC 5780 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Discovery {
    /// As clients reach them.
    pub addresses: [IpAddr; 2],
    /// Of both.
    pub ports: [u16; 2],
}

impl Discovery {
    /// The same place with the other address, the other port, or both. `None`: this place is none of the four.
    fn change(&self, from: SocketAddr, address: bool, port: bool) -> Option<SocketAddr> {
        let other = |index: usize, is_changed: bool| if is_changed { 1 - index } else { index };
        let ip = self.addresses.iter().position(|ip| *ip == from.ip())?;
        let port_index = self.ports.iter().position(|port| *port == from.port())?;
        Some(SocketAddr::new(self.addresses[other(ip, address)], self.ports[other(port_index, port)]))
    }
}

impl TurnServer {
    pub(super) fn binding(&mut self, at: Moment, client: Client, message: &Message<'_>) {
        if !self.may_answer_stranger(at, client) {
            return;
        }
        let attributes = &message.attributes;
        let discovery = self.config.discovery.filter(|_| client.transport == Transport::Udp);
        let answer = Answer { client, method: message.method, transaction: message.transaction, seal: None };
        let mut unknown: Vec<u16> = attributes.unknown.to_vec();
        if discovery.is_none() {
            unknown.extend(attributes.change_request.map(|_| attribute::CHANGE_REQUEST));
            unknown.extend(attributes.response_port.map(|_| attribute::RESPONSE_PORT));
        }
        if !unknown.is_empty() {
            let list: Vec<u8> = unknown.iter().flat_map(|kind| kind.to_be_bytes()).collect();
            return self.reply_error_with(&answer, 420, |writer| {
                writer.attribute(attribute::UNKNOWN_ATTRIBUTES, &list);
            });
        }
        self.counters.bindings += 1;
        let Some((discovery, other)) = discovery.and_then(|own| own.change(client.local, true, true).map(|other| (own, other))) else {
            return self.reply_success(&answer, |writer| {
                writer.xor_address(attribute::XOR_MAPPED_ADDRESS, canonical(client.remote));
            });
        };
        let (address, port) = attributes.change_request.unwrap_or_default();
        let local = discovery.change(client.local, address, port).unwrap_or(client.local);
        let mut remote = client.remote;
        remote.set_port(attributes.response_port.filter(|port| *port != 0).unwrap_or(remote.port()));
        let answer = Answer { client: Client { local, remote, ..client }, ..answer };
        self.reply_success(&answer, |writer| {
            writer.xor_address(attribute::XOR_MAPPED_ADDRESS, canonical(client.remote));
            writer.address(attribute::RESPONSE_ORIGIN, local);
            writer.address(attribute::OTHER_ADDRESS, other);
        });
    }
}

/// An IPv4 client of an IPv6 socket is told its IPv4 address.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
