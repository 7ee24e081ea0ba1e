//! Finds the address of the client behind trusted reverse proxies.
//!
//! In: the TCP peer and `X-Forwarded-For`. Out: the address that limits and logs use.
//! Invariant: a header counts only as far as trusted proxies wrote it, so a client can't choose its address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;

/// A block of addresses, `10.0.0.0/8` or a single address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpPrefix {
    network: IpAddr,
    bits: u8,
}

impl IpPrefix {
    /// This machine.
    #[must_use]
    pub const fn loopback() -> [Self; 2] {
        [Self { network: IpAddr::V4(Ipv4Addr::LOCALHOST), bits: 8 }, Self { network: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 }]
    }

    /// True if the address lies in the block. IPv4-mapped IPv6 addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.network, ip.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(ip)) => mask4(network, self.bits) == mask4(ip, self.bits),
            (IpAddr::V6(network), IpAddr::V6(ip)) => mask6(network, self.bits) == mask6(ip, self.bits),
            _ => false,
        }
    }
}

/// The text is not `address/bits`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not an address or an address block such as 10.0.0.0/8")]
pub struct InvalidPrefix(String);

impl FromStr for IpPrefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let invalid = || InvalidPrefix(text.to_owned());
        let (network, bits) = match text.split_once('/') {
            Some((network, bits)) => (network, Some(bits.parse::<u8>().map_err(|_| invalid())?)),
            None => (text, None),
        };
        let network: IpAddr = network.parse().map_err(|_| invalid())?;
        let longest = if network.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(longest);
        if bits > longest { Err(invalid()) } else { Ok(Self { network, bits }) }
    }
}

/// All hops that the request names, the nearest last. Lines of one name are one list (RFC 9110 §5.3): a proxy may append to
/// the line that is there or add its own.
#[must_use]
pub(crate) fn forwarded_for(headers: &HeaderMap) -> String {
    // What is no text is no address either, and ends the search there.
    headers.get_all("x-forwarded-for").iter().map(|line| line.to_str().unwrap_or_default()).collect::<Vec<_>>().join(",")
}

/// The client's address: the last hop that is not a trusted proxy.
#[must_use]
pub(crate) fn client_ip(tcp_peer: IpAddr, forwarded_for: &str, trusted: &[IpPrefix]) -> IpAddr {
    let is_trusted = |ip: IpAddr| trusted.iter().any(|prefix| prefix.contains(ip));
    let mut client = tcp_peer.to_canonical();
    for hop in forwarded_for.rsplit(',') {
        if !is_trusted(client) {
            break;
        }
        match hop_ip(hop.trim()) {
            Some(ip) => client = ip.to_canonical(),
            None => break,
        }
    }
    client
}

/// Some proxies add the client's port (Azure's gateways, HAProxy if asked to), and then brackets around IPv6.
fn hop_ip(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// What limits count as one client: an IPv4 address, or an IPv6 /64, which is the least that a site gets.
#[must_use]
pub(crate) fn limit_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(mask6(ip, 64))),
    }
}

fn mask4(ip: Ipv4Addr, bits: u8) -> u32 {
    ip.to_bits() & u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(bits))).unwrap_or(0)
}

fn mask6(ip: Ipv6Addr, bits: u8) -> u128 {
    ip.to_bits() & u128::MAX.checked_shl(128_u32.saturating_sub(u32::from(bits))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_prefix_contains_its_block_and_nothing_else() {
        let block = prefix("10.1.0.0/16");
        assert!(block.contains(ip("10.1.255.255")));
        assert!(block.contains(ip("::ffff:10.1.2.3")));
        assert!(!block.contains(ip("10.2.0.0")));
        assert!(!block.contains(ip("fe80::1")));
        assert!(prefix("0.0.0.0/0").contains(ip("203.0.113.9")));
        assert!(prefix("2001:db8::/32").contains(ip("2001:db8:ffff::1")));
        assert!(prefix("::/0").contains(ip("2001:db8::1")));
    }

    #[test]
    fn a_prefix_longer_than_its_address_is_refused() {
        for text in ["10.0.0.0/33", "::1/129", "10.0.0/8", "host", "10.0.0.0/-1", ""] {
            assert!(text.parse::<IpPrefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_stranger_cannot_choose_its_address() {
        assert_eq!(client_ip(ip("203.0.113.9"), "1.2.3.4", &[prefix("10.0.0.0/8")]), ip("203.0.113.9"));
    }

    #[test]
    fn the_last_hop_before_the_trusted_proxies_is_the_client() {
        let trusted = [prefix("10.0.0.0/8")];
        assert_eq!(client_ip(ip("10.0.0.1"), "6.6.6.6, 198.51.100.7, 10.0.0.2", &trusted), ip("198.51.100.7"));
        assert_eq!(client_ip(ip("10.0.0.1"), "garbage", &trusted), ip("10.0.0.1"));
        assert_eq!(client_ip(ip("10.0.0.1"), "", &trusted), ip("10.0.0.1"));
    }

    #[test]
    fn a_hop_may_have_a_port() {
        let trusted = [prefix("10.0.0.0/8")];
        for (hop, expected) in [
            ("198.51.100.7:51234", "198.51.100.7"),
            ("[2001:db8::7]:51234", "2001:db8::7"),
            ("[2001:db8::7]", "2001:db8::7"),
            ("2001:db8::7", "2001:db8::7"),
            ("[::ffff:198.51.100.7]:1", "198.51.100.7"),
            ("198.51.100.7:", "10.0.0.1"),
            ("198.51.100.7:x", "10.0.0.1"),
            ("[2001:db8::7", "10.0.0.1"),
        ] {
            assert_eq!(client_ip(ip("10.0.0.1"), hop, &trusted), ip(expected), "{hop}");
        }
        assert_eq!(client_ip(ip("10.0.0.1"), "198.51.100.7:5, 10.0.0.2:6", &trusted), ip("198.51.100.7"), "of a trusted hop too");
    }

    #[test]
    fn a_line_of_the_client_before_the_line_of_the_proxy_does_not_count() {
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-for", "192.0.2.66, 192.0.2.67".parse().unwrap());
        headers.append("x-forwarded-for", "198.51.100.7".parse().unwrap());
        assert_eq!(forwarded_for(&headers), "192.0.2.66, 192.0.2.67,198.51.100.7");
        let trusted = [prefix("10.0.0.0/8")];
        assert_eq!(client_ip(ip("10.0.0.1"), &forwarded_for(&headers), &trusted), ip("198.51.100.7"));
        headers.append("x-forwarded-for", axum::http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(client_ip(ip("10.0.0.1"), &forwarded_for(&headers), &trusted), ip("10.0.0.1"));
    }

    #[test]
    fn an_ipv6_site_is_one_client() {
        assert_eq!(limit_key(ip("2001:db8::1")), limit_key(ip("2001:db8::ffff:1")));
        assert_ne!(limit_key(ip("2001:db8:0:1::1")), limit_key(ip("2001:db8:0:2::1")));
        assert_eq!(limit_key(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn prefix(text: &str) -> IpPrefix {
        text.parse().unwrap()
    }
}
