//! DTLS handshakes that wait for their turn, so that a storm of joins does not hold up media.
//!
//! A handshake's datagram costs up to some hundred microseconds of public-key cryptography, a thousand times a media packet.
//! In: datagrams of transports whose handshake is not done. Out: one at a time, when the owner has time for it
//! ([`Shard::step_handshake`]); the owner decides how much of a turn that is.
//! Invariants: a transport's datagrams keep their order, also behind the end of the handshake; transports take turns, so that
//! one that sends much delays itself only; there is a bound per transport and for all (clients repeat what is dropped).

use std::collections::VecDeque;
use std::time::Instant;

use arrayvec::ArrayVec;
use rustc_hash::FxHashMap;

use crate::error::Discard;
use crate::ids::PeerKey;
use crate::limits::{MAX_HANDSHAKE_DATAGRAMS, MAX_WAITING_HANDSHAKES};
use crate::net::Flow;
use crate::shard::Shard;

/// See the module.
#[derive(Default)]
pub(crate) struct Handshakes {
    /// Who is next.
    turns: VecDeque<PeerKey>,
    waiting: FxHashMap<PeerKey, Datagrams>,
}

/// Of one transport, in order, with the paths by which they came.
type Datagrams = ArrayVec<(Flow, Box<[u8]>), MAX_HANDSHAKE_DATAGRAMS>;

impl Handshakes {
    fn push(&mut self, peer: PeerKey, flow: Flow, datagram: &[u8]) -> Result<(), Discard> {
        if !self.waiting.contains_key(&peer) {
            if self.waiting.len() >= MAX_WAITING_HANDSHAKES {
                return Err(Discard::HandshakeQueue);
            }
            self.turns.push_back(peer);
        }
        let datagrams = self.waiting.entry(peer).or_default();
        datagrams.try_push((flow, datagram.into())).map_err(|_| Discard::HandshakeQueue)
    }

    fn pop(&mut self) -> Option<(PeerKey, Flow, Box<[u8]>)> {
        let peer = self.turns.pop_front()?;
        let datagrams = self.waiting.get_mut(&peer)?;
        let first = if datagrams.is_empty() { None } else { Some(datagrams.remove(0)) };
        if datagrams.is_empty() {
            self.waiting.remove(&peer);
        } else {
            self.turns.push_back(peer);
        }
        first.map(|(flow, datagram)| (peer, flow, datagram))
    }

    fn has(&self, peer: PeerKey) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&peer)
    }
}

impl Shard {
    /// Takes a DTLS datagram: at once, unless it belongs to a handshake.
    pub(crate) fn receive_dtls(&mut self, now: Instant, key: PeerKey, flow: Flow, datagram: &[u8]) -> Result<(), Discard> {
        let peer = self.peers.get(key).ok_or(Discard::UnknownSource)?;
        if peer.transport.is_handshaking() || self.handshakes.has(key) {
            peer.transport.check_dtls(flow, datagram)?;
            return self.handshakes.push(key, flow, datagram);
        }
        self.handle_dtls(now, key, flow, datagram)
    }

    /// Handshakes wait: [`Self::step_handshake`] should be called soon, after media has been sent.
    #[must_use]
    pub fn has_handshakes(&self) -> bool {
        !self.handshakes.turns.is_empty()
    }

    /// Goes on with one handshake by one datagram. False if none waits. What is to be sent is in the outbox, as after a flush.
    pub fn step_handshake(&mut self, now: Instant) -> bool {
        let Some((key, flow, datagram)) = self.handshakes.pop() else { return false };
        if self.peers.contains_key(key)
            && let Err(reason) = self.handle_dtls(now, key, flow, &datagram)
        {
            self.discards.add(reason);
        }
        true
    }

    fn handle_dtls(&mut self, now: Instant, key: PeerKey, flow: Flow, datagram: &[u8]) -> Result<(), Discard> {
        let peer = self.peers.get_mut(key).ok_or(Discard::UnknownSource)?;
        let result = peer.transport.handle_dtls(now, flow, datagram, &mut self.egress.outbox);
        if result.is_ok() {
            peer.heard_at = Some(now);
        }
        self.peer_changed(key, now);
        result
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use slotmap::SlotMap;

    use super::*;
    use crate::net::Protocol;

    fn flow() -> Flow {
        let address = ([127, 0, 0, 1], 1).into();
        Flow { protocol: Protocol::Udp, local: address, remote: address }
    }

    #[test]
    fn transports_take_turns_and_keep_their_order() {
        let mut keys: SlotMap<PeerKey, ()> = SlotMap::with_key();
        let (greedy, modest) = (keys.insert(()), keys.insert(()));
        let mut waiting = Handshakes::default();
        for number in 0..5 {
            waiting.push(greedy, flow(), &[number]).unwrap();
        }
        waiting.push(modest, flow(), &[9]).unwrap();
        let order: Vec<_> = std::iter::from_fn(|| waiting.pop()).map(|(peer, _, datagram)| (peer, datagram[0])).collect();
        assert_eq!(order, [(greedy, 0), (modest, 9), (greedy, 1), (greedy, 2), (greedy, 3), (greedy, 4)]);
        assert!(!waiting.has(greedy) && waiting.waiting.is_empty());
    }

    #[test]
    fn what_waits_is_bounded_per_transport_and_for_all() {
        let mut keys: SlotMap<PeerKey, ()> = SlotMap::with_key();
        let mut waiting = Handshakes::default();
        let first = keys.insert(());
        for _ in 0..MAX_HANDSHAKE_DATAGRAMS {
            waiting.push(first, flow(), &[]).unwrap();
        }
        assert_eq!(waiting.push(first, flow(), &[]), Err(Discard::HandshakeQueue));
        for _ in 1..MAX_WAITING_HANDSHAKES {
            waiting.push(keys.insert(()), flow(), &[]).unwrap();
        }
        assert_eq!(waiting.push(keys.insert(()), flow(), &[]), Err(Discard::HandshakeQueue));
        waiting.pop().unwrap();
        waiting.push(first, flow(), &[]).unwrap();
    }
}
