//! Addresses of the clients: on loopback every participant has one of its own, so that servers see as many hosts as in the world.

use std::net::Ipv4Addr;

/// Address that a participant's signaling comes from: 127.32.0.1 and on.
#[must_use]
pub fn of_participant(index: usize) -> Ipv4Addr {
    numbered(0x7f20_0001, index)
}

/// Address of a transport's media: 127.64.0.0 and on.
#[must_use]
pub fn of_transport(index: usize) -> Ipv4Addr {
    numbered(0x7f40_0000, index)
}

/// The transport that has this address.
#[must_use]
pub fn transport_at(address: Ipv4Addr) -> Option<usize> {
    usize::try_from(u32::from(address).checked_sub(0x7f40_0000)?).ok().filter(|index| *index < RANGE)
}

/// Addresses in each range.
const RANGE: usize = 1 << 20;

fn numbered(first: u32, index: usize) -> Ipv4Addr {
    Ipv4Addr::from(first + u32::try_from(index % RANGE).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_transport_is_found_by_its_address() {
        for index in [0, 1, 255, 256, 70_000] {
            assert!(of_transport(index).is_loopback());
            assert_eq!(transport_at(of_transport(index)), Some(index));
        }
        assert_eq!(transport_at(Ipv4Addr::LOCALHOST), None);
        assert_eq!(transport_at(of_participant(3)), None);
    }
}
