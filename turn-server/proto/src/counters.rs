//! What the core counts: plain integers, read from outside.

use crate::credentials::Stranger;
use crate::policy::Denied;
use crate::quota::Exceeded;

pub use crate::quota::Exceeded as Quota;

/// Why a request was not authenticated. The words are metric labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthFailure {
    /// No integrity: how every client begins.
    Challenged,
    /// The nonce is too old, of another address, or not ours.
    StaleNonce,
    /// See [`Stranger::Unknown`].
    UnknownUser,
    /// See [`Stranger::Expired`].
    Expired,
    /// See [`Stranger::Revoked`].
    Revoked,
    /// The integrity was made with another key.
    WrongPassword,
    /// Not the user whose allocation it is (441).
    OtherUser,
    /// Required attributes are absent or contradict each other.
    Malformed,
}

impl AuthFailure {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Challenged,
        Self::StaleNonce,
        Self::UnknownUser,
        Self::Expired,
        Self::Revoked,
        Self::WrongPassword,
        Self::OtherUser,
        Self::Malformed,
    ];

    /// Label of metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Challenged => "challenged",
            Self::StaleNonce => "stale-nonce",
            Self::UnknownUser => "unknown-user",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::WrongPassword => "wrong-password",
            Self::OtherUser => "other-user",
            Self::Malformed => "malformed",
        }
    }
}

impl From<Stranger> for AuthFailure {
    fn from(stranger: Stranger) -> Self {
        match stranger {
            Stranger::Unknown => Self::UnknownUser,
            Stranger::Expired => Self::Expired,
            Stranger::Revoked => Self::Revoked,
        }
    }
}

impl Exceeded {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::User, Self::Address, Self::Total];

    /// Label of metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Address => "address",
            Self::Total => "total",
        }
    }
}

/// Why a packet was dropped. The words are metric labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dropped {
    /// Neither STUN nor ChannelData, or malformed.
    Malformed,
    /// Data of a client without an allocation.
    NoAllocation,
    /// Data on a channel that is not bound.
    NoChannel,
    /// Data from or to a peer without permission.
    NoPermission,
    /// A peer that [`crate::policy`] denies.
    DeniedPeer,
    /// Above a rate of [`crate::limits::Limits`].
    OverRate,
    /// An answer to a stranger who had enough.
    Throttled,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Malformed, Self::NoAllocation, Self::NoChannel, Self::NoPermission, Self::DeniedPeer, Self::OverRate, Self::Throttled];

    /// Label of metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NoAllocation => "no-allocation",
            Self::NoChannel => "no-channel",
            Self::NoPermission => "no-permission",
            Self::DeniedPeer => "denied-peer",
            Self::OverRate => "over-rate",
            Self::Throttled => "throttled",
        }
    }
}

/// How an Allocate request ended. The words are metric labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocated {
    /// Success.
    Ok,
    /// 486.
    Quota,
    /// 508: no port, or too many allocations.
    Capacity,
    /// 437, 440, 442, 400 and such.
    Refused,
    /// The server goes down.
    Draining,
}

impl Allocated {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Quota, Self::Capacity, Self::Refused, Self::Draining];

    /// Label of metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Quota => "quota",
            Self::Capacity => "capacity",
            Self::Refused => "refused",
            Self::Draining => "draining",
        }
    }
}

/// All counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Binding requests that were answered.
    pub bindings: u64,
    /// By [`Allocated::ALL`].
    pub allocated: [u64; Allocated::ALL.len()],
    /// By [`AuthFailure::ALL`].
    pub auth_failures: [u64; AuthFailure::ALL.len()],
    /// By [`Denied::ALL`]: requests and data.
    pub denied_peers: [u64; Denied::ALL.len()],
    /// By [`Exceeded::ALL`].
    pub quota_rejections: [u64; Exceeded::ALL.len()],
    /// By [`Dropped::ALL`].
    pub dropped: [u64; Dropped::ALL.len()],
    /// Payload from clients to peers.
    pub to_peers: Traffic,
    /// Payload from peers to clients.
    pub to_clients: Traffic,
}

/// Packets and their payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams.
    pub packets: u64,
    /// Bytes of payload.
    pub bytes: u64,
}

/// What there is at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Allocations by transport of the client (UDP, TCP, TLS), then by family of the relayed address (IPv4, IPv6).
    pub allocations: [[usize; 2]; 3],
    /// Allocations in all: one with both families counts twice above and once here.
    pub total: usize,
    /// Permissions of all allocations.
    pub permissions: usize,
    /// Channels of all allocations.
    pub channels: usize,
    /// TCP connections to peers (RFC 6062).
    pub streams: usize,
    /// Allocations that there may be in all; see [`crate::limits::Limits`].
    pub most: usize,
    /// Ports in use and in all, of the family and protocol where the most are used.
    pub ports: (usize, usize),
}

impl Counters {
    pub(crate) const fn drop(&mut self, reason: Dropped) {
        self.dropped[reason as usize] += 1;
    }

    pub(crate) const fn auth_failure(&mut self, reason: AuthFailure) {
        self.auth_failures[reason as usize] += 1;
    }

    pub(crate) const fn denied(&mut self, reason: Denied) {
        self.denied_peers[reason as usize] += 1;
    }
}
