//! TCP connections to and from peers: Connect, ConnectionAttempt, ConnectionBind (RFC 6062).

use std::net::SocketAddr;
use std::time::Instant;

use crate::allocation::{Family, RelayProtocol};
use crate::counters::AuthFailure;
use crate::limits::{BIND_TIMEOUT, STREAMS_PER_ALLOCATION};
use crate::streams::{ConnectionId, Wait};
use crate::wire::attribute;
use crate::wire::message::{Class, Message};
use crate::wire::method;
use crate::wire::write::Writer;

use super::auth::Authenticated;
use super::{Answer, Output, RelayId, Transport, TurnServer};

impl TurnServer {
    pub(super) fn connect(&mut self, now: Instant, who: &Authenticated, answer: Answer, message: &Message<'_>) {
        let Some(key) = self.own_allocation(who, &answer) else { return };
        let allocation = &self.allocations[key];
        let [peer] = *message.attributes.peers.as_slice() else { return self.reply_error(&answer, 400) };
        if allocation.protocol != RelayProtocol::Tcp {
            return self.reply_error(&answer, 400);
        }
        let Some(relay) = allocation.relay_of(Family::of(peer.ip())).map(|relay| relay.id) else {
            return self.reply_error(&answer, 443);
        };
        let is_full = allocation.streams >= STREAMS_PER_ALLOCATION;
        let reached_at = match self.config.policy.reach(peer) {
            Ok(reached_at) => reached_at,
            Err(reason) => {
                self.deny(answer.client, &who.user, peer, answer.method, reason);
                return self.reply_error(&answer, 403);
            }
        };
        if self.streams.has_peer(key, peer) {
            return self.reply_error(&answer, 446);
        }
        if is_full {
            return self.reply_error(&answer, 508);
        }
        self.allocations[key].streams += 1;
        let connection = self.streams.open(key, peer, Wait::Peer(answer), now, &mut self.rng);
        self.outputs.push_back(Output::Connect { connection, relay, peer: reached_at });
    }

    /// What became of [`Output::Connect`].
    pub fn peer_connected(&mut self, now: Instant, connection: ConnectionId, is_connected: bool) {
        let Some(stream) = self.streams.get_mut(connection) else { return };
        let Wait::Peer(answer) = std::mem::replace(&mut stream.wait, Wait::Bind) else { return };
        if is_connected {
            stream.deadline = Some(now + BIND_TIMEOUT);
            self.reply_success(&answer, |writer| {
                writer.attribute(attribute::CONNECTION_ID, &connection.0.to_be_bytes());
            });
        } else {
            self.connection_closed(connection);
            self.reply_error(&answer, 447);
        }
    }

    /// A peer has connected to a relayed address. `None`: it may not, and its connection is closed.
    pub fn peer_accepted(&mut self, now: Instant, relay: RelayId, source: SocketAddr) -> Option<ConnectionId> {
        let key = (*self.relays.get(relay.0 as usize)?)?;
        let named = self.config.policy.name(source)?;
        let allocation = self.allocations.get_mut(key)?;
        let may_come = allocation.protocol == RelayProtocol::Tcp
            && allocation.has_permission(named.ip(), now)
            && allocation.streams < STREAMS_PER_ALLOCATION
            && !self.streams.has_peer(key, named);
        if !may_come {
            return None;
        }
        allocation.streams += 1;
        let client = allocation.client;
        let connection = self.streams.open(key, named, Wait::Bind, now, &mut self.rng);
        let transaction = rand::RngExt::random(&mut self.rng);
        let mut writer = Writer::new(method::CONNECTION_ATTEMPT, Class::Indication, &transaction);
        writer.attribute(attribute::CONNECTION_ID, &connection.0.to_be_bytes());
        writer.xor_address(attribute::XOR_PEER_ADDRESS, named);
        self.outputs.push_back(Output::Send { client, bytes: writer.unsigned() });
        Some(connection)
    }

    pub(super) fn connection_bind(&mut self, who: &Authenticated, answer: &Answer, message: &Message<'_>) {
        let is_own_stream = answer.client.transport != Transport::Udp && who.allocation.is_none();
        let connection = message.attributes.connection_id.map(ConnectionId).filter(|_| is_own_stream);
        let waiting =
            connection.and_then(|id| self.streams.get_mut(id).filter(|stream| matches!(stream.wait, Wait::Bind)).map(|s| (id, s)));
        let Some((connection, stream)) = waiting else {
            return self.reply_error(answer, 400);
        };
        if self.allocations.get(stream.owner).is_none_or(|owner| *owner.user != *who.user) {
            self.counters.auth_failure(AuthFailure::OtherUser);
            return self.reply_error(answer, 441);
        }
        stream.wait = Wait::Done;
        stream.deadline = None;
        self.reply_success(answer, |writer| {
            writer.attribute(attribute::CONNECTION_ID, &connection.0.to_be_bytes());
        });
        self.outputs.push_back(Output::Splice { client: answer.client, connection });
    }

    /// A connection to a peer has ended, or the one that it was spliced with.
    pub fn connection_closed(&mut self, connection: ConnectionId) {
        if let Some(stream) = self.streams.remove(connection)
            && let Some(owner) = self.allocations.get_mut(stream.owner)
        {
            owner.streams = owner.streams.saturating_sub(1);
        }
    }

    pub(super) fn expire_streams(&mut self, now: Instant) {
        for connection in self.streams.overdue(now) {
            if self.streams.get_mut(connection).is_some_and(|stream| matches!(stream.wait, Wait::Peer(_))) {
                self.peer_connected(now, connection, false);
            } else {
                self.connection_closed(connection);
            }
            self.outputs.push_back(Output::CloseConnection(connection));
        }
    }
}
