//! Every bound of the core with what happens at it.

use std::time::Duration;

/// Bounds that an operator may set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Allocations in all; a further one gets 508. Each has at least one socket.
    pub allocations: usize,
    /// Allocations of one user; a further one gets 486.
    pub allocations_per_user: usize,
    /// Allocations from one IPv4 address or IPv6 /64; a further one gets 486.
    pub allocations_per_address: usize,
    /// Bytes a second that one allocation may relay in each direction; what is above is dropped. `None`: no limit.
    pub allocation_rate: Option<u64>,
    /// Bytes a second of all allocations together, likewise.
    pub total_rate: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { allocations: 10_000, allocations_per_user: 16, allocations_per_address: 1_000, allocation_rate: None, total_rate: None }
    }
}

/// Permissions of one allocation; a request beyond gets 508. A client asks for one per candidate address of its peers.
pub(crate) const PERMISSIONS: usize = 64;
/// Channels of one allocation; a request beyond gets 508.
pub(crate) const CHANNELS: usize = 64;
/// TCP connections of one allocation (RFC 6062); a further one is refused.
pub(crate) const STREAMS_PER_ALLOCATION: usize = 16;
/// Ports kept for the second allocation of a pair, of all clients; the oldest is given up.
pub(crate) const RESERVATIONS: usize = 256;
/// Users that are known to be gone; the one that would expire first is forgotten.
pub(crate) const REVOKED_USERS: usize = 65_536;
/// Ports tried for one relayed address before the answer is 508.
pub(crate) const PORT_ATTEMPTS: u8 = 8;

/// RFC 8656 section 3.2: the default lifetime.
pub(crate) const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);
/// RFC 8656 section 7.2: an hour is recommended as the longest.
pub(crate) const MAX_LIFETIME: Duration = Duration::from_secs(3600);
/// RFC 8656 section 9: a permission lasts five minutes; the client can't choose it.
pub(crate) const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// RFC 8656 section 12: a channel lasts ten minutes.
pub(crate) const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
/// RFC 8656 section 7.2: a reserved port is kept for at least 30 seconds.
pub(crate) const RESERVATION_LIFETIME: Duration = Duration::from_secs(30);
/// RFC 8489 section 9.2: a nonce lasts at most an hour. Clients renew theirs with one more round trip.
pub(crate) const NONCE_LIFETIME: Duration = Duration::from_secs(1200);
/// RFC 6062 section 5.2 and 5.3: how long a connection waits for its ConnectionBind.
pub(crate) const BIND_TIMEOUT: Duration = Duration::from_secs(30);
/// RFC 6062 section 5.2: a peer that has not answered in this time gives 447.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// Answers that one address (IPv6: /64) gets without a password: at once, and then a second. Sources can be forged over UDP, and an
/// answer is up to four times as long as its request, so this is what a victim can be sent: 8 kB/s.
pub(crate) const STRANGER_BURST: u16 = 256;
/// See [`STRANGER_BURST`].
pub(crate) const STRANGER_PER_SECOND: u16 = 64;
