//! How many TCP connections may be open: in all, and from one address.
//!
//! In: the address of a connection that was accepted. Out: its [`Place`], or none. A place is given back on drop.
//! Reverse proxies that are trusted have no bound of their own: whom they bring is bounded by its own address, at the door.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{Rate, ServerLimits};
use crate::gate::{Gate, Pass};
use crate::proxy::IpPrefix;

/// Shared by all connections of a listener.
pub(super) struct Places {
    all: Arc<Semaphore>,
    per_address: Gate,
    trusted: Vec<IpPrefix>,
}

/// Of one connection.
pub(crate) struct Place {
    _among_all: OwnedSemaphorePermit,
    _of_its_address: Option<Pass>,
}

/// Why there is none; the word is a metric label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    All,
    OfAddress,
}

impl Taken {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::OfAddress => "address",
        }
    }
}

impl Places {
    pub(super) fn new(limits: &ServerLimits, trusted: Vec<IpPrefix>) -> Self {
        let per_address = limits.sockets_per_ip.saturating_add(limits.plain_connections_per_ip);
        // busy addresses alone never fill the table
        let addresses = limits.tracked_ips.max(limits.max_connections.saturating_add(1));
        Self {
            all: Arc::new(Semaphore::new(limits.max_connections)),
            per_address: Gate::new(per_address, Rate::UNLIMITED, addresses),
            trusted,
        }
    }

    pub(super) fn take(&self, ip: IpAddr) -> Result<Place, Taken> {
        let is_trusted = self.trusted.iter().any(|proxy| proxy.contains(ip));
        let of_its_address =
            if is_trusted { None } else { Some(self.per_address.enter(ip, Instant::now()).map_err(|_| Taken::OfAddress)?) };
        let among_all = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Taken::All)?;
        Ok(Place { _among_all: among_all, _of_its_address: of_its_address })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn places() -> Places {
        let limits =
            ServerLimits { max_connections: 4, sockets_per_ip: 1, plain_connections_per_ip: 1, tracked_ips: 1, ..ServerLimits::default() };
        Places::new(&limits, vec!["10.0.0.0/8".parse().unwrap()])
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_takes_no_more_than_its_places_and_gets_them_back() {
        let places = places();
        let first = places.take(ip("192.0.2.1")).unwrap();
        let _second = places.take(ip("192.0.2.1")).unwrap();
        assert_eq!(places.take(ip("192.0.2.1")).err(), Some(Taken::OfAddress));
        let _other = places.take(ip("192.0.2.2")).unwrap();
        drop(first);
        places.take(ip("192.0.2.1")).unwrap();
    }

    #[test]
    fn a_trusted_proxy_is_bounded_by_what_there_is_in_all() {
        let places = places();
        let all: Vec<_> = (0..4).map(|_| places.take(ip("10.1.2.3")).unwrap()).collect();
        assert_eq!(places.take(ip("10.1.2.3")).err(), Some(Taken::All));
        assert_eq!(places.take(ip("192.0.2.1")).err(), Some(Taken::All));
        drop(all);
        let _first = places.take(ip("192.0.2.1")).unwrap();
        places.take(ip("192.0.2.1")).unwrap();
    }
}
