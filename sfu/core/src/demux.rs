//! Tells which protocol a datagram is (RFC 7983) and which peer connection it belongs to.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::ids::PeerKey;
use crate::net::Flow;

/// Protocol by first byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// 0-3
    Stun,
    /// 20-63
    Dtls,
    /// 128-191: RTP or RTCP, both protected.
    Srtp,
}

impl Kind {
    /// RFC 7983 section 7; None for what none of our protocols begins with.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Option<Self> {
        match datagram.first()? {
            0..=3 => Some(Self::Stun),
            20..=63 => Some(Self::Dtls),
            128..=191 => Some(Self::Srtp),
            _ => None,
        }
    }
}

/// User names under which a peer is known: the current one, and the one from before an ICE restart.
const UFRAGS_PER_PEER: usize = 2;

/// Finds the peer of a datagram: STUN by user name, everything else by a flow that a check has validated.
///
/// Bounded: a peer has [`UFRAGS_PER_PEER`] user names at most and `MAX_PATHS_PER_TRANSPORT` flows. A flow belongs to one
/// peer, and only that one can give it up.
#[derive(Default)]
pub struct Demux {
    by_ufrag: FxHashMap<String, PeerKey>,
    by_flow: FxHashMap<Flow, PeerKey>,
    known: FxHashMap<PeerKey, Known>,
}

/// What leads to a peer.
#[derive(Default)]
struct Known {
    ufrags: VecDeque<String>,
    flows: Vec<Flow>,
}

impl Demux {
    /// Peer with this local user name fragment.
    #[must_use]
    pub fn by_ufrag(&self, ufrag: &str) -> Option<PeerKey> {
        self.by_ufrag.get(ufrag).copied()
    }

    /// Peer for which this flow is validated.
    #[must_use]
    pub fn by_flow(&self, flow: &Flow) -> Option<PeerKey> {
        self.by_flow.get(flow).copied()
    }

    /// Makes a peer known under a user name fragment; the oldest of its others is forgotten.
    pub fn add_ufrag(&mut self, ufrag: &str, peer: PeerKey) {
        self.by_ufrag.insert(ufrag.to_owned(), peer);
        let ufrags = &mut self.known.entry(peer).or_default().ufrags;
        ufrags.push_back(ufrag.to_owned());
        if ufrags.len() > UFRAGS_PER_PEER
            && let Some(oldest) = ufrags.pop_front()
        {
            self.by_ufrag.remove(&oldest);
        }
    }

    /// A check has validated the flow for this peer; whoever had it before loses it.
    pub fn add_flow(&mut self, flow: Flow, peer: PeerKey) {
        if let Some(before) = self.by_flow.insert(flow, peer).filter(|&before| before != peer)
            && let Some(known) = self.known.get_mut(&before)
        {
            known.flows.retain(|&other| other != flow);
        }
        let flows = &mut self.known.entry(peer).or_default().flows;
        if !flows.contains(&flow) {
            flows.push(flow);
        }
    }

    /// The peer does not use the flow any more. Nothing happens if it belongs to another one.
    pub fn remove_flow(&mut self, flow: &Flow, peer: PeerKey) {
        if self.by_flow(flow) == Some(peer) {
            self.by_flow.remove(flow);
        }
        if let Some(known) = self.known.get_mut(&peer) {
            known.flows.retain(|other| other != flow);
        }
    }

    /// Forgets a peer.
    pub fn remove_peer(&mut self, peer: PeerKey) {
        let Some(known) = self.known.remove(&peer) else { return };
        for ufrag in known.ufrags {
            self.by_ufrag.remove(&ufrag);
        }
        for flow in known.flows {
            self.by_flow.remove(&flow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_names_the_protocol() {
        let kinds: Vec<_> = (0..=255_u8).map(|b| Kind::of(&[b])).collect();
        let count = |kind| kinds.iter().filter(|k| **k == kind).count();
        assert_eq!((count(Some(Kind::Stun)), count(Some(Kind::Dtls)), count(Some(Kind::Srtp))), (4, 44, 64));
        assert_eq!(Kind::of(&[]), None);
    }

    fn peers() -> (PeerKey, PeerKey) {
        let mut keys: slotmap::SlotMap<PeerKey, ()> = slotmap::SlotMap::with_key();
        (keys.insert(()), keys.insert(()))
    }

    fn flow(port: u16) -> Flow {
        let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
        Flow { protocol: crate::net::Protocol::Udp, local: address(7882), remote: address(port) }
    }

    #[test]
    fn a_flow_can_be_given_up_by_its_owner_only() {
        let (old, new) = peers();
        let mut demux = Demux::default();
        demux.add_flow(flow(1), old);
        demux.add_flow(flow(1), new);
        demux.remove_flow(&flow(1), old);
        assert_eq!(demux.by_flow(&flow(1)), Some(new));
        demux.remove_peer(old);
        assert_eq!(demux.by_flow(&flow(1)), Some(new));
    }

    #[test]
    fn a_peer_that_restarts_for_ever_is_known_by_its_last_two_names() {
        let (peer, _) = peers();
        let mut demux = Demux::default();
        for restart in 0..100 {
            demux.add_ufrag(&format!("name{restart}"), peer);
        }
        assert_eq!((demux.by_ufrag("name97"), demux.by_ufrag("name98"), demux.by_ufrag("name99")), (None, Some(peer), Some(peer)));
        demux.remove_peer(peer);
        assert_eq!(demux.by_ufrag("name99"), None);
    }
}
