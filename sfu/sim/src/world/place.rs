//! When a world begins and at which addresses it is.

use std::net::SocketAddr;

use super::shards::link;
use crate::clock::Clock;

/// Port of the first shard.
const FIRST_PORT: u16 = 7882;

/// When a world begins and at which addresses it is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its clock, at zero.
    pub clock: Clock,
    /// The engine's address.
    pub server: SocketAddr,
    /// How the addresses of clients begin.
    pub clients: [u8; 2],
}

impl Place {
    /// Nowhere and at no time that matters.
    #[must_use]
    pub fn anywhere() -> Self {
        Self { clock: Clock::new(), server: server_address(), clients: [10, 0] }
    }

    /// Where a shard is: a port for each.
    pub(super) fn address_of(&self, shard: usize) -> SocketAddr {
        SocketAddr::new(self.server.ip(), self.server.port() + link(shard).0)
    }

    pub(super) fn shard_at(&self, address: SocketAddr) -> usize {
        usize::from(address.port().saturating_sub(self.server.port()))
    }
}

/// Where the engine is.
#[must_use]
pub fn server_address() -> SocketAddr {
    ([192, 0, 2, 1], FIRST_PORT).into()
}
