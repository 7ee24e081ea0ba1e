//! TCP connections between an allocation and its peers (RFC 6062).
//!
//! In: what clients ask for and what became of sockets. A connection begins at the client's wish (Connect) or at a peer's (it was
//! accepted); it then waits for a connection of the client that names it (ConnectionBind), and the two become one. Invariant: an
//! id is random, because whoever knows it and the password may have the connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use rand::{Rng, RngExt as _};

use crate::limits::{BIND_TIMEOUT, CONNECT_TIMEOUT};
use crate::server::{AllocationKey, Answer};

/// Names a connection to a peer, also on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ConnectionId(pub u32);

/// What a connection waits for.
#[derive(Debug)]
pub(crate) enum Wait {
    /// The peer's answer; then the client gets its own.
    Peer(Answer),
    /// The client's ConnectionBind.
    Bind,
    /// Nothing: both ends are one.
    Done,
}

/// A connection to a peer.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) owner: AllocationKey,
    /// As the client knows it.
    pub(crate) peer: SocketAddr,
    pub(crate) wait: Wait,
    /// When the wait is over.
    pub(crate) deadline: Option<Instant>,
}

/// All of them. Bounded by the allocations and what each may have.
#[derive(Debug, Default)]
pub(crate) struct Streams(HashMap<ConnectionId, Stream>);

impl Streams {
    /// A connection that waits for its peer, or for its client.
    pub(crate) fn open(&mut self, owner: AllocationKey, peer: SocketAddr, wait: Wait, now: Instant, rng: &mut impl Rng) -> ConnectionId {
        let timeout = if matches!(wait, Wait::Peer(_)) { CONNECT_TIMEOUT } else { BIND_TIMEOUT };
        let id = loop {
            let id = ConnectionId(rng.random());
            if !self.0.contains_key(&id) {
                break id;
            }
        };
        self.0.insert(id, Stream { owner, peer, wait, deadline: Some(now + timeout) });
        id
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Stream> {
        self.0.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Stream> {
        self.0.remove(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// RFC 6062 section 5.2: one connection at a time to a peer.
    pub(crate) fn has_peer(&self, owner: AllocationKey, peer: SocketAddr) -> bool {
        self.0.values().any(|stream| stream.owner == owner && stream.peer == peer)
    }

    pub(crate) fn of(&self, owner: AllocationKey) -> Vec<ConnectionId> {
        self.0.iter().filter(|(_, stream)| stream.owner == owner).map(|(id, _)| *id).collect()
    }

    /// Those whose wait is over.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<ConnectionId> {
        self.0.iter().filter(|(_, stream)| stream.deadline.is_some_and(|at| at <= now)).map(|(id, _)| *id).collect()
    }
}
