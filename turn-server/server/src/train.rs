//! Datagrams that leave one after the other by the same way, collected for one system call.
//!
//! In: datagrams in the order in which they leave, each with its way. Out: one datagram, or a train: datagrams of equal length of
//! which the last may be shorter (UDP_SEGMENT). Invariant: a datagram by itself is not copied but named by its place in what was
//! received; a train fits one send. There is no waiting: a batch that was received is sent before the next one is taken.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use turn_proto::RelayId;

/// Largest UDP payload over IPv4.
pub(crate) const MAX_TRAIN_BYTES: usize = 65_507;
/// Segments that every kernel since 4.18 takes in one send.
pub(crate) const MAX_TRAIN_SEGMENTS: usize = 64;

/// From where to where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// From a relayed address to a peer.
    ToPeer(RelayId, SocketAddr),
    /// To a client: by which of the sockets, from which address of ours.
    ToClient { socket: usize, from: IpAddr, to: SocketAddr },
}

/// What is to be sent at once.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Cargo<'a> {
    /// One datagram, at this place of what was received.
    Received(Range<usize>),
    /// Datagrams of so many bytes each; the last may be shorter.
    Train { segment: usize, bytes: &'a [u8] },
}

/// Datagrams for one way.
#[derive(Debug)]
pub(crate) struct Train {
    way: Option<Way>,
    /// The only datagram, while it is not copied.
    received: Option<Range<usize>>,
    datagrams: usize,
    segment: usize,
    /// Bytes of all of them.
    len: usize,
    bytes: Vec<u8>,
}

impl Train {
    pub(crate) fn new() -> Self {
        Self { way: None, received: None, datagrams: 0, segment: 0, len: 0, bytes: Vec::with_capacity(MAX_TRAIN_BYTES) }
    }

    /// True if a datagram of this length can go with those that are there, if any. What can't is added after [`Self::take`].
    pub(crate) fn accepts(&self, way: &Way, len: usize) -> bool {
        let Some(own) = &self.way else { return true };
        // an empty datagram can't be a segment, and nothing follows a short one
        own == way
            && len > 0
            && len <= self.segment
            && self.len.is_multiple_of(self.segment)
            && self.datagrams < MAX_TRAIN_SEGMENTS
            && self.len + len <= MAX_TRAIN_BYTES
    }

    /// Adds a datagram that stands as it is to be sent in what was received.
    pub(crate) fn add(&mut self, way: Way, arena: &[u8], place: Range<usize>) {
        self.begin(way, place.len());
        if self.datagrams == 0 {
            self.received = Some(place.clone());
        } else {
            self.copy_first(arena);
            self.bytes.extend_from_slice(&arena[place.clone()]);
        }
        self.datagrams += 1;
        self.len += place.len();
    }

    /// Adds a datagram that consists of these parts.
    pub(crate) fn add_parts(&mut self, way: Way, arena: &[u8], parts: &[&[u8]]) {
        let len = parts.iter().map(|part| part.len()).sum();
        self.begin(way, len);
        self.copy_first(arena);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.datagrams += 1;
        self.len += len;
    }

    /// What is there, which is then gone.
    pub(crate) fn take(&mut self) -> Option<(Way, Cargo<'_>)> {
        let way = self.way.take()?;
        self.datagrams = 0;
        self.len = 0;
        Some((
            way,
            match self.received.take() {
                Some(place) => Cargo::Received(place),
                None => Cargo::Train { segment: self.segment, bytes: &self.bytes },
            },
        ))
    }

    fn begin(&mut self, way: Way, len: usize) {
        debug_assert!(self.accepts(&way, len), "what does not fit is added after what is there was taken");
        if self.way.is_none() {
            self.way = Some(way);
            self.segment = len.max(1);
            self.bytes.clear();
        }
    }

    fn copy_first(&mut self, arena: &[u8]) {
        if let Some(first) = self.received.take() {
            self.bytes.extend_from_slice(&arena[first]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARENA: &[u8] = b"aaabbbccddd";

    #[test]
    fn a_datagram_by_itself_stays_where_it_is() {
        let mut train = Train::new();
        assert_eq!(train.take(), None);
        train.add(way(1), ARENA, 0..3);
        assert_eq!(train.take(), Some((way(1), Cargo::Received(0..3))));
        assert_eq!(train.take(), None);
    }

    #[test]
    fn datagrams_of_one_way_and_one_length_go_together_and_a_shorter_one_is_the_last() {
        let mut train = Train::new();
        train.add(way(1), ARENA, 0..3);
        assert!(train.accepts(&way(1), 3) && !train.accepts(&way(2), 3) && !train.accepts(&way(1), 4) && !train.accepts(&way(1), 0));
        train.add(way(1), ARENA, 3..6);
        train.add(way(1), ARENA, 6..8);
        assert!(!train.accepts(&way(1), 2), "nothing follows a short one");
        assert_eq!(train.take(), Some((way(1), Cargo::Train { segment: 3, bytes: b"aaabbbcc" })));
        train.add(way(2), ARENA, 8..11);
        assert_eq!(train.take(), Some((way(2), Cargo::Received(8..11))), "nothing is left of the one before");
    }

    #[test]
    fn a_datagram_in_parts_goes_with_one_that_was_received() {
        let mut train = Train::new();
        train.add(way(1), ARENA, 0..3);
        train.add_parts(way(1), ARENA, &[b"x", b"yz"]);
        train.add(way(1), ARENA, 8..11);
        assert_eq!(train.take(), Some((way(1), Cargo::Train { segment: 3, bytes: b"aaaxyzddd" })));
    }

    #[test]
    fn a_train_fits_one_send() {
        let mut train = Train::new();
        let arena = vec![0; 65_536];
        let fill = |train: &mut Train, len: usize| {
            let mut count = 0;
            while train.accepts(&way(1), len) && count < 1_000 {
                train.add(way(1), &arena, 0..len);
                count += 1;
            }
            train.take();
            count
        };
        assert_eq!(fill(&mut train, 100), MAX_TRAIN_SEGMENTS);
        assert_eq!(fill(&mut train, 1_200), 54);
        assert_eq!(fill(&mut train, 65_507), 1);
        assert_eq!(fill(&mut train, 0), 1, "an empty datagram goes by itself");
    }

    fn way(number: u32) -> Way {
        Way::ToPeer(RelayId(number), SocketAddr::from(([192, 0, 2, 1], 7)))
    }
}
