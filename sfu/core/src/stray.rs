//! Media from addresses that no check has come from: the address of a client may have changed without its noticing.
//!
//! In: RTP and RTCP whose flow nobody has. Out: at most one check to that flow, from the transport whose keys open the packet.
//! The packet itself is dropped, as before any path is valid; when the client answers ([`crate::transport`]), the flow is its
//! path and media goes there. Invariant: state changes only for who holds the keys, and only after an answer from that address.
//!
//! Looking for the keys costs a walk over all transports, and anybody can cause it. So it is bounded: [`WALKS_PER_SECOND`], each
//! flow once every [`SAME_FLOW`], [`MAX_TRIALS`] transports, and only those that have been [quiet](QUIET). What is not found this
//! way is found by the client's next check.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::error::Discard;
use crate::ids::PeerKey;
use crate::limits::MAX_DATAGRAM;
use crate::net::Flow;
use crate::peer::Peer;
use crate::rtp::header::{RtpHeader, is_rtcp};
use crate::shard::Shard;
use crate::transport::{StunOutcome, TransactionId};

/// Walks over all transports; so many may also come at once. Twenty walks over 5,000 transports are below 1 % of a core.
const WALKS_PER_SECOND: u32 = 20;
const BURST: u32 = 40;
/// A flow that was looked at is not looked at again before this.
const SAME_FLOW: Duration = Duration::from_millis(50);
/// Flows that are remembered for that.
const MAX_FLOWS: usize = 64;
/// Transports whose keys are tried in one walk.
const MAX_TRIALS: usize = 64;
/// A transport from which nothing authentic came for so long may be elsewhere: clients send audio every 20 ms, or congestion
/// feedback every 100 ms at the least.
const QUIET: Duration = Duration::from_millis(120);
/// Checks without an answer that are remembered; further ones push the oldest out.
const MAX_ASKED: usize = 64;

/// Budget of the walks, and whose answers are awaited.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    used: u32,
    refilled_at: Option<Instant>,
    seen: VecDeque<(Flow, Instant)>,
    asked: VecDeque<(TransactionId, PeerKey)>,
}

impl Strays {
    /// True if a packet of this flow is worth a walk, which is then paid for.
    fn admit(&mut self, now: Instant, flow: Flow) -> bool {
        let refilled_at = *self.refilled_at.get_or_insert(now);
        let regained = now.saturating_duration_since(refilled_at).as_millis() * u128::from(WALKS_PER_SECOND) / 1_000;
        if regained > 0 {
            self.used = self.used.saturating_sub(u32::try_from(regained).unwrap_or(u32::MAX));
            self.refilled_at = Some(now);
        }
        while self.seen.front().is_some_and(|&(_, at)| now.saturating_duration_since(at) >= SAME_FLOW) {
            self.seen.pop_front();
        }
        if self.used >= BURST || self.seen.len() >= MAX_FLOWS || self.seen.iter().any(|&(seen, _)| seen == flow) {
            return false;
        }
        self.used += 1;
        self.seen.push_back((flow, now));
        true
    }

    fn expect(&mut self, transaction: TransactionId, peer: PeerKey) {
        if self.asked.len() >= MAX_ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back((transaction, peer));
    }
}

impl Shard {
    /// Looks for the owner of a packet whose flow nobody has, and asks it to prove the flow. The packet is always dropped.
    pub(crate) fn receive_stray(&mut self, now: Instant, flow: Flow, datagram: &[u8]) -> Discard {
        if !self.strays.admit(now, flow) {
            return Discard::UnknownSource;
        }
        let quiet = self.peers.iter_mut().filter(|(_, peer)| is_quiet(peer, now)).take(MAX_TRIALS);
        let owner = quiet.into_iter().find_map(|(key, peer)| holds_keys_of(peer, datagram).then_some(key));
        if let Some(key) = owner
            && let Some(peer) = self.peers.get_mut(key)
            && let Some(transaction) = peer.transport.probe(now, flow, &mut self.rng, &mut self.egress.outbox)
        {
            self.strays.expect(transaction, key);
        }
        Discard::UnknownSource
    }

    /// Takes an answer to one of those checks, or to one that asked for a sign of life ([`crate::quality::asking`]).
    pub(crate) fn receive_answer(&mut self, now: Instant, flow: Flow, transaction: TransactionId, datagram: &[u8]) -> Result<(), Discard> {
        let index = self.strays.asked.iter().position(|&(asked, _)| asked == transaction);
        let owner = self.demux.by_flow(&flow);
        let key = index.map(|index| self.strays.asked[index].1).or(owner).ok_or(Discard::StunUnknownUser)?;
        if owner.is_some_and(|owner| owner != key) {
            return Err(Discard::StunForeignPath);
        }
        let peer = self.peers.get_mut(key).ok_or(Discard::UnknownEntity)?;
        let outcome = peer.transport.handle_answer(now, flow, datagram)?;
        (peer.heard_at, peer.answers) = (Some(now), true);
        if let Some(round_trip) = outcome.round_trip {
            peer.is_as_far_as(round_trip, now);
        }
        if let Some(index) = index {
            self.strays.asked.remove(index);
        }
        self.path_checked(now, key, flow, outcome);
        Ok(())
    }

    /// Carries out what a check has changed.
    pub(crate) fn path_checked(&mut self, now: Instant, key: PeerKey, flow: Flow, outcome: StunOutcome) {
        if outcome.has_moved {
            self.path_changes += 1;
            if let Some(peer) = self.peers.get_mut(key) {
                peer.bandwidth.path_changed();
            }
        }
        if let Some(evicted) = outcome.evicted {
            self.demux.remove_flow(&evicted, key);
        }
        // Not every authentic check proves its flow: one with the wrong role or unknown attributes does not.
        let is_path = self.peers.get(key).is_some_and(|peer| peer.transport.accepts_from(flow));
        if is_path && self.demux.by_flow(&flow) != Some(key) {
            self.demux.add_flow(flow, key);
        }
        self.peer_changed(key, now);
    }
}

fn is_quiet(peer: &Peer, now: Instant) -> bool {
    peer.transport.selected().is_some() && peer.heard_at.is_some_and(|at| now.saturating_duration_since(at) >= QUIET)
}

/// The packet is authentic. It then counts as received for the replay window, but is not handed on.
fn holds_keys_of(peer: &mut Peer, datagram: &[u8]) -> bool {
    let mut copy = [0; MAX_DATAGRAM];
    let Some(packet) = copy.get_mut(..datagram.len()) else { return false };
    packet.copy_from_slice(datagram);
    let Peer { transport, inbound, .. } = peer;
    let Some(srtp) = transport.srtp() else { return false };
    if is_rtcp(packet) {
        return srtp.receiver.open_rtcp(packet).is_ok();
    }
    let Ok(header) = RtpHeader::parse(packet) else { return false };
    // Only streams that are known: the keys of a transport that never sent this SSRC are not worth a trial.
    let Some(stream) = inbound.streams.get_mut(&header.ssrc) else { return false };
    srtp.receiver.open_rtp(&mut stream.srtp, packet, header.len).is_ok()
}

#[cfg(test)]
mod tests {
    // Some instant has to be the start of virtual time.
    #![allow(clippy::disallowed_methods)]

    use super::*;
    use crate::net::Protocol;

    #[test]
    fn walks_are_bounded_in_a_burst_and_over_time() {
        let mut strays = Strays::default();
        let start = Instant::now();
        let count =
            |strays: &mut Strays, at: Instant, ports: std::ops::Range<u16>| ports.filter(|&port| strays.admit(at, flow(port))).count();
        assert_eq!(count(&mut strays, start, 1..1_000), BURST as usize);
        let mut admitted = 0;
        for tenth in 1..=100 {
            admitted += count(&mut strays, start + Duration::from_millis(100) * tenth, 1..1_000);
        }
        assert_eq!(admitted, 10 * WALKS_PER_SECOND as usize);
        assert!(strays.seen.len() <= MAX_FLOWS);
    }

    #[test]
    fn one_flow_does_not_use_up_what_others_need() {
        let mut strays = Strays::default();
        let start = Instant::now();
        let admitted = (0..100).filter(|&ms| strays.admit(start + Duration::from_millis(ms), flow(1))).count();
        assert_eq!(admitted, 2);
        assert!(strays.admit(start, flow(2)));
    }

    fn flow(port: u16) -> Flow {
        Flow { protocol: Protocol::Udp, local: ([192, 0, 2, 1], 7882).into(), remote: ([203, 0, 113, 1], port).into() }
    }
}
