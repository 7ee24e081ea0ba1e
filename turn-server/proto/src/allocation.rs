//! One allocation: its relayed addresses, permissions and channels (RFC 8656 sections 6 to 12).
//!
//! Invariants: a channel belongs to one peer and a peer to one channel; both lists are bounded; what has expired counts as absent
//! even before it is swept away.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use crate::bandwidth::Bucket;
use crate::credentials::{Algorithm, Key};
use crate::limits::{CHANNEL_LIFETIME, CHANNELS, PERMISSION_LIFETIME, PERMISSIONS};
use crate::server::{Answer, Client, RelayId};
use crate::wire::TransactionId;
use crate::wire::channel::ChannelNumber;
use crate::wire::message::MAX_PEERS;

/// Family of a relayed address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// RFC 8656 section 18.4.
    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::V4),
            2 => Some(Self::V6),
            _ => None,
        }
    }

    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::V4 => 1,
            Self::V6 => 2,
        }
    }
}

/// What a relayed address carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelayProtocol {
    /// Datagrams.
    Udp,
    /// Connections (RFC 6062).
    Tcp,
}

/// A relayed address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Relay {
    pub(crate) id: RelayId,
    pub(crate) family: Family,
    /// As clients and peers know it.
    pub(crate) address: SocketAddr,
}

/// A relayed address that is being opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) id: RelayId,
    pub(crate) family: Family,
    pub(crate) port: u16,
    pub(crate) wanted: crate::ports::Wanted,
    /// Ports that may still be tried after this one.
    pub(crate) attempts_left: u8,
}

/// An Allocate request that waits for its sockets.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) answer: Answer,
    pub(crate) opening: ArrayVec<Opening, 2>,
    /// Families that could not be had, with the error that says so.
    pub(crate) failed: ArrayVec<(Family, u16), 2>,
}

#[derive(Clone, Copy, Debug)]
struct Permission {
    ip: IpAddr,
    expires_at: Instant,
}

/// A channel to a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Channel {
    pub(crate) number: ChannelNumber,
    /// As the client knows it.
    pub(crate) named: SocketAddr,
    /// Where that is.
    pub(crate) reached_at: SocketAddr,
    pub(crate) relay: RelayId,
    expires_at: Instant,
}

/// The last decision about a peer, good until something changes.
#[derive(Clone, Copy, Debug)]
struct Hot {
    source: SocketAddr,
    verdict: Inbound,
    until: Instant,
}

/// How a datagram of a peer goes to the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Inbound {
    /// On a channel.
    Channel(ChannelNumber),
    /// As an indication from this peer.
    Named(SocketAddr),
}

/// What a client has.
#[derive(Debug)]
pub(crate) struct Allocation {
    pub(crate) client: Client,
    pub(crate) user: Box<[u8]>,
    pub(crate) key: Key,
    pub(crate) algorithm: Algorithm,
    pub(crate) protocol: RelayProtocol,
    pub(crate) dont_fragment: bool,
    pub(crate) relays: ArrayVec<Relay, 2>,
    pub(crate) lifetime: Duration,
    pub(crate) expires_at: Instant,
    /// Of the request that made it, to know its repetition.
    pub(crate) transaction: TransactionId,
    /// Token of the reserved next port.
    pub(crate) token: Option<[u8; 8]>,
    pub(crate) failed: ArrayVec<(Family, u16), 2>,
    pub(crate) pending: Option<Pending>,
    pub(crate) to_peers: Option<Bucket>,
    pub(crate) to_client: Option<Bucket>,
    /// TCP connections to peers.
    pub(crate) streams: usize,
    permissions: Vec<Permission>,
    channels: Vec<Channel>,
    hot: Option<Hot>,
}

/// Why a channel was not bound.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NotBound {
    /// The number or the peer is bound otherwise (400).
    Conflict,
    /// There are as many as there may be (508).
    Full,
}

impl Allocation {
    /// An allocation without relayed addresses yet.
    pub(crate) fn new(
        client: Client,
        user: &[u8],
        key: Key,
        algorithm: Algorithm,
        protocol: RelayProtocol,
        pending: Pending,
        now: Instant,
    ) -> Self {
        Self {
            client,
            user: user.into(),
            key,
            algorithm,
            protocol,
            dont_fragment: false,
            relays: ArrayVec::new(),
            lifetime: Duration::ZERO,
            expires_at: now,
            transaction: pending.answer.transaction,
            token: None,
            failed: ArrayVec::new(),
            pending: Some(pending),
            to_peers: None,
            to_client: None,
            streams: 0,
            permissions: Vec::new(),
            channels: Vec::new(),
            hot: None,
        }
    }

    /// The relayed address of a family.
    pub(crate) fn relay_of(&self, family: Family) -> Option<&Relay> {
        self.relays.iter().find(|relay| relay.family == family)
    }

    pub(crate) fn has_permission(&self, ip: IpAddr, now: Instant) -> bool {
        self.permission(ip, now).is_some()
    }

    fn permission(&self, ip: IpAddr, now: Instant) -> Option<Instant> {
        self.permissions
            .iter()
            .find(|permission| permission.ip == ip && permission.expires_at > now)
            .map(|permission| permission.expires_at)
    }

    /// True if all of these permissions fit.
    pub(crate) fn has_room_for(&mut self, ips: impl Iterator<Item = IpAddr>, now: Instant) -> bool {
        self.permissions.retain(|permission| permission.expires_at > now);
        let mut new = ArrayVec::<IpAddr, MAX_PEERS>::new();
        for ip in ips {
            let is_known = new.contains(&ip) || self.permissions.iter().any(|permission| permission.ip == ip);
            if !is_known && new.try_push(ip).is_err() {
                return false;
            }
        }
        self.permissions.len() + new.len() <= PERMISSIONS
    }

    /// Gives or renews a permission.
    pub(crate) fn permit(&mut self, ip: IpAddr, now: Instant) {
        let expires_at = now + PERMISSION_LIFETIME;
        match self.permissions.iter_mut().find(|permission| permission.ip == ip) {
            Some(permission) => permission.expires_at = expires_at,
            None => self.permissions.push(Permission { ip, expires_at }),
        }
        self.hot = None;
    }

    /// Binds a channel or renews it (RFC 8656 section 12.2).
    pub(crate) fn bind(
        &mut self,
        number: ChannelNumber,
        named: SocketAddr,
        reached_at: SocketAddr,
        relay: RelayId,
        now: Instant,
    ) -> Result<(), NotBound> {
        self.channels.retain(|channel| channel.expires_at > now);
        let expires_at = now + CHANNEL_LIFETIME;
        self.hot = None;
        if let Some(channel) = self.channels.iter_mut().find(|channel| channel.number == number || channel.named == named) {
            if channel.number != number || channel.named != named {
                return Err(NotBound::Conflict);
            }
            channel.expires_at = expires_at;
            return Ok(());
        }
        if self.channels.len() >= CHANNELS {
            return Err(NotBound::Full);
        }
        self.channels.push(Channel { number, named, reached_at, relay, expires_at });
        Ok(())
    }

    /// The peer of a channel.
    pub(crate) fn channel(&self, number: ChannelNumber, now: Instant) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.number == number && channel.expires_at > now)
    }

    /// The decision about a source, if it was made already.
    pub(crate) fn known(&self, source: SocketAddr, now: Instant) -> Option<Inbound> {
        self.hot.filter(|hot| hot.source == source && hot.until > now).map(|hot| hot.verdict)
    }

    /// Decides about a datagram from `source`, whose name is `named`. `None`: there is no permission.
    pub(crate) fn decide(&mut self, source: SocketAddr, named: SocketAddr, now: Instant) -> Option<Inbound> {
        let mut until = self.permission(named.ip(), now)?;
        let channel = self.channels.iter().find(|channel| channel.named == named && channel.expires_at > now);
        let verdict = channel.map_or(Inbound::Named(named), |channel| {
            until = until.min(channel.expires_at);
            Inbound::Channel(channel.number)
        });
        self.hot = Some(Hot { source, verdict, until });
        Some(verdict)
    }

    /// One of two relayed addresses is gone, and the channels through it.
    pub(crate) fn forget_relay(&mut self, relay: RelayId) {
        self.channels.retain(|channel| channel.relay != relay);
        self.hot = None;
    }

    /// Permissions and channels.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.permissions.len(), self.channels.len())
    }

    /// Forgets what has expired.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.permissions.retain(|permission| permission.expires_at > now);
        self.channels.retain(|channel| channel.expires_at > now);
    }
}
