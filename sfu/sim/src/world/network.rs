//! What happens to datagrams on their way: addresses that change, bottlenecks that are shared, copies, forgeries.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sfu_api::{TrackId, TransportRole};
use sfu_core::net::Flow;

use super::{Who, World};
use crate::participant::{Datagram, split};
use crate::road::{FlowMeter, Road, RoadConfig};

/// What clients call their address and the engine sees as another.
#[derive(Default)]
pub(super) struct Nat {
    outside: HashMap<SocketAddr, SocketAddr>,
    inside: HashMap<SocketAddr, SocketAddr>,
}

impl Nat {
    /// From now on the client with this address is seen at another; what is sent to where it was seen before is lost.
    fn rebind(&mut self, inside: SocketAddr) {
        let old = self.outside_of(inside);
        let new = SocketAddr::new(old.ip(), old.port() + 10_000);
        self.inside.remove(&old);
        self.outside.insert(inside, new);
        self.inside.insert(new, inside);
    }

    pub(super) fn outside_of(&self, inside: SocketAddr) -> SocketAddr {
        self.outside.get(&inside).copied().unwrap_or(inside)
    }

    /// `None`: nobody is there any more.
    pub(super) fn inside_of(&self, outside: SocketAddr) -> Option<SocketAddr> {
        let is_moved = self.outside.get(&outside).is_some_and(|&now_at| now_at != outside);
        self.inside.get(&outside).copied().or(Some(outside).filter(|_| !is_moved))
    }
}

impl World {
    /// The client's network changes: both sides go on from other addresses.
    pub fn change_network(&mut self, who: Who) {
        let now = self.now();
        let participant = &mut self.participants[who.0];
        for role in [TransportRole::Publisher, TransportRole::Subscriber] {
            let side = participant.side(role);
            let old = side.address();
            let moved = SocketAddr::new(old.ip(), old.port() + 1000);
            side.move_to(now, moved);
            self.by_address.remove(&old);
            self.by_address.insert(moved, who.0);
        }
        self.wakes[who.0] = now;
    }

    /// A NAT between the client and the engine gives both sides other addresses; the client does not notice.
    pub fn rebind_nat(&mut self, who: Who) {
        for role in [TransportRole::Publisher, TransportRole::Subscriber] {
            let inside = self.participants[who.0].side(role).address();
            self.nat.rebind(inside);
        }
    }

    /// Puts a bottleneck in front of the downlinks of these participants, which they share from now on.
    pub fn share_road(&mut self, config: RoadConfig, participants: &[Who]) {
        let road = Road::new(config, participants.len(), self.now(), split(&mut self.rng));
        let index = self.roads.len();
        self.by_road.extend(participants.iter().enumerate().map(|(flow, who)| (who.0, (index, flow))));
        self.roads.push(road);
    }

    /// What happened to somebody's downlink packets at the bottleneck.
    ///
    /// # Panics
    /// If there is none in front of that participant.
    #[must_use]
    pub fn road_meter(&self, who: Who) -> &FlowMeter {
        let (road, flow) = self.by_road[&who.0];
        self.roads[road].meter(flow)
    }

    /// Keeps copies of the next so many datagrams that reach the engine.
    pub fn tap(&mut self, count: usize) {
        self.tapped = Vec::with_capacity(count);
        self.tap_left = count;
    }

    /// The copies, with flows as the engine sees them.
    #[must_use]
    pub fn tapped(&self) -> &[Datagram] {
        &self.tapped
    }

    /// A datagram from anywhere reaches the engine now. Flows are the server's view.
    pub fn inject(&mut self, flow: Flow, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        let (now, shard) = (self.clock.now(), self.place.shard_at(flow.local));
        self.engine(shard).handle_datagram(now, flow, &mut bytes);
    }

    /// Seals an RTP packet as a participant's publisher side would, for [`Self::inject`].
    pub fn forge(&mut self, who: Who, header_and_payload: &[u8]) -> Option<Datagram> {
        let index = header_and_payload.get(2..4)?.try_into().ok().map(u16::from_be_bytes)?;
        self.forge_at(who, index.into(), header_and_payload)
    }

    /// Like [`Self::forge`], with the packet index of SRTP; its low half has to be the sequence number of the header.
    pub fn forge_at(&mut self, who: Who, index: u64, header_and_payload: &[u8]) -> Option<Datagram> {
        self.participants[who.0].forge(index, header_and_payload)
    }

    /// Seals an RTCP compound packet as a participant would, for [`Self::inject`].
    pub fn forge_rtcp(&mut self, who: Who, role: TransportRole, compound: Vec<u8>) -> Option<Datagram> {
        self.participants[who.0].forge_rtcp(role, compound)
    }

    /// What a track sends from now on for a while: sealed packets as the engine gets them, with their times, in order. They are not
    /// sent; give them to [`Shard::handle_datagram`] by hand.
    pub fn prebuild(&mut self, track: TrackId, time: Duration) -> Vec<(Instant, Datagram)> {
        let end = self.now() + time;
        self.participants[self.owners[&track]].prebuild(track, end)
    }
}
