//! Addresses and datagrams: where a packet came from, and the outbox that collects what is to be sent.

use std::net::SocketAddr;
use std::ops::Range;

use crate::limits::MAX_UNFRAGMENTED;

/// Protocol under ICE.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Framed by RFC 4571; framing is the node's work, the engine sees whole packets.
    Tcp,
}

/// One network path: how a packet came is how the answer goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Flow {
    /// UDP or TCP.
    pub protocol: Protocol,
    /// Our address, as bound.
    pub local: SocketAddr,
    /// The other end's address.
    pub remote: SocketAddr,
}

/// One send: `bytes` cut into segments of `segment_len` (the last one may be shorter), all to the same place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Train {
    /// Where to.
    pub flow: Flow,
    /// Bytes of each segment but the last, which may be shorter.
    pub segment_len: u16,
    /// Place in the outbox's arena.
    pub range: Range<usize>,
}

/// Collects outgoing datagrams in one arena, laid out so that each [`Train`] is one system call.
///
/// The owner drains it after every batch; it keeps its memory.
#[derive(Debug, Default)]
pub struct Outbox {
    arena: Vec<u8>,
    trains: Vec<Train>,
    oversized: u64,
}

impl Outbox {
    /// Adds one datagram as a train of its own.
    pub fn push(&mut self, flow: Flow, datagram: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(datagram);
        self.close_train(flow, start, datagram.len());
    }

    /// Turns everything behind `start` in the arena into one train.
    pub fn close_train(&mut self, flow: Flow, start: usize, segment_len: usize) {
        let Ok(segment_len) = u16::try_from(segment_len) else {
            self.arena.truncate(start);
            return;
        };
        if self.arena.len() > start && segment_len > 0 {
            if usize::from(segment_len) > MAX_UNFRAGMENTED {
                self.oversized += (self.arena.len() - start).div_ceil(usize::from(segment_len)) as u64;
            }
            self.trains.push(Train { flow, segment_len, range: start..self.arena.len() });
        }
    }

    /// The arena, for writing packets in place before [`Self::close_train`].
    pub fn arena(&mut self) -> &mut Vec<u8> {
        &mut self.arena
    }

    /// What is to be sent.
    #[must_use]
    pub fn trains(&self) -> &[Train] {
        &self.trains
    }

    /// Bytes of a train.
    #[must_use]
    pub fn bytes(&self, train: &Train) -> &[u8] {
        &self.arena[train.range.clone()]
    }

    /// Datagrams in order, each with its flow (simulation and tests).
    pub fn datagrams(&self) -> impl Iterator<Item = (Flow, &[u8])> {
        self.trains.iter().flat_map(|t| self.bytes(t).chunks(usize::from(t.segment_len)).map(move |d| (t.flow, d)))
    }

    /// Datagrams so far that a network with the smallest MTU of IPv6 can't carry.
    #[must_use]
    pub fn oversized(&self) -> u64 {
        self.oversized
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.trains.clear();
    }
}
