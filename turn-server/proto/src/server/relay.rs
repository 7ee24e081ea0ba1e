//! Data: from a client to a peer and back (RFC 8656 sections 11 and 12). Nothing is copied or allocated here.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use crate::allocation::{Family, Inbound, RelayProtocol};
use crate::counters::Dropped;
use crate::wire::channel::{self, ChannelNumber};
use crate::wire::message::Message;

use super::{AllocationKey, Client, Output, RelayId, TurnServer};

/// What becomes of a client's packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Forward {
    /// There is nothing to forward; outputs may wait.
    Nothing,
    /// This part of it goes to a peer.
    ToPeer {
        /// From which relayed address.
        relay: RelayId,
        /// To where.
        peer: SocketAddr,
        /// Which part of the packet.
        payload: Range<usize>,
    },
}

/// In which form a peer's datagrams go to a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToClient {
    /// As ChannelData.
    Channel(Client, ChannelNumber),
    /// As Data indications from this peer.
    Indication(Client, SocketAddr),
}

impl TurnServer {
    fn allocation_of(&mut self, client: Client) -> Option<AllocationKey> {
        if let Some((last, key)) = self.last
            && last == client
        {
            return Some(key);
        }
        let key = *self.by_client.get(&client)?;
        self.last = Some((client, key));
        Some(key)
    }

    pub(super) fn channel_data(&mut self, now: Instant, client: Client, packet: &[u8]) -> Forward {
        let Some((number, payload)) = channel::parse(packet) else {
            return self.drop(Dropped::Malformed);
        };
        let Some(key) = self.allocation_of(client) else {
            return self.drop(Dropped::NoAllocation);
        };
        let allocation = &mut self.allocations[key];
        let Some(&crate::allocation::Channel { relay, reached_at, .. }) = allocation.channel(number, now) else {
            return self.drop(Dropped::NoChannel);
        };
        if allocation.expires_at <= now {
            return self.drop(Dropped::NoAllocation);
        }
        self.pass_on(now, key, relay, reached_at, payload)
    }

    pub(super) fn send_indication(&mut self, now: Instant, client: Client, message: &Message<'_>) -> Forward {
        let attributes = &message.attributes;
        let (Some(payload), [peer], true) = (attributes.data.clone(), attributes.peers.as_slice(), attributes.unknown.is_empty()) else {
            return self.drop(Dropped::Malformed);
        };
        let Some(key) = self.allocation_of(client) else {
            return self.drop(Dropped::NoAllocation);
        };
        let allocation = &mut self.allocations[key];
        if allocation.expires_at <= now || allocation.protocol == RelayProtocol::Tcp {
            return self.drop(Dropped::NoAllocation);
        }
        let Some(relay) = allocation.relay_of(Family::of(peer.ip())).map(|relay| relay.id) else {
            return self.drop(Dropped::NoPermission);
        };
        if !allocation.has_permission(peer.ip(), now) {
            return self.drop(Dropped::NoPermission);
        }
        let becomes_unfragmented = attributes.dont_fragment && !allocation.dont_fragment;
        let reached_at = match self.config.policy.reach(*peer) {
            Ok(reached_at) => reached_at,
            Err(reason) => {
                let user = allocation.user.clone();
                self.deny(client, &user, *peer, message.method, reason);
                return self.drop(Dropped::DeniedPeer);
            }
        };
        if becomes_unfragmented {
            let allocation = &mut self.allocations[key];
            allocation.dont_fragment = true;
            self.outputs.extend(allocation.relays.iter().map(|relay| Output::DontFragment(relay.id)));
        }
        self.pass_on(now, key, relay, reached_at, payload)
    }

    fn pass_on(&mut self, now: Instant, key: AllocationKey, relay: RelayId, peer: SocketAddr, payload: Range<usize>) -> Forward {
        let bytes = payload.len() as u64;
        let allocation = &mut self.allocations[key];
        let is_within_rate = allocation.to_peers.as_mut().is_none_or(|bucket| bucket.take(bytes, now))
            && self.total.as_mut().is_none_or(|bucket| bucket.take(bytes, now));
        if !is_within_rate {
            return self.drop(Dropped::OverRate);
        }
        self.counters.to_peers.packets += 1;
        self.counters.to_peers.bytes += bytes;
        Forward::ToPeer { relay, peer, payload }
    }

    /// Datagrams of a peer, so many with so many bytes together, that a relayed address has received. `None`: they are dropped.
    pub fn handle_peer(&mut self, now: Instant, relay: RelayId, source: SocketAddr, datagrams: usize, bytes: usize) -> Option<ToClient> {
        let key = (*self.relays.get(relay.0 as usize)?)?;
        let allocation = self.allocations.get_mut(key)?;
        if allocation.expires_at <= now {
            return self.drop_peer(Dropped::NoAllocation, datagrams);
        }
        let inbound = match allocation.known(source, now) {
            Some(inbound) => inbound,
            None => {
                let Some(named) = self.config.policy.name(source) else {
                    return self.drop_peer(Dropped::DeniedPeer, datagrams);
                };
                let Some(inbound) = allocation.decide(source, named, now) else {
                    return self.drop_peer(Dropped::NoPermission, datagrams);
                };
                inbound
            }
        };
        let is_within_rate = allocation.to_client.as_mut().is_none_or(|bucket| bucket.take(bytes as u64, now))
            && self.total.as_mut().is_none_or(|bucket| bucket.take(bytes as u64, now));
        if !is_within_rate {
            return self.drop_peer(Dropped::OverRate, datagrams);
        }
        let client = allocation.client;
        self.counters.to_clients.packets += datagrams as u64;
        self.counters.to_clients.bytes += bytes as u64;
        Some(match inbound {
            Inbound::Channel(number) => ToClient::Channel(client, number),
            Inbound::Named(peer) => ToClient::Indication(client, peer),
        })
    }

    const fn drop(&mut self, reason: Dropped) -> Forward {
        self.counters.drop(reason);
        Forward::Nothing
    }

    const fn drop_peer(&mut self, reason: Dropped, datagrams: usize) -> Option<ToClient> {
        self.counters.dropped[reason as usize] += datagrams as u64;
        None
    }
}
