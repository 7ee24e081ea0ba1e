//! Which addresses a node listens on and which it tells its clients.

use std::io;
use std::net::{IpAddr, SocketAddr};

use sfu_core::net::Protocol;
use sfu_core::transport::params::Candidate;

/// How the addresses that clients are told are found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Advertised {
    /// These: behind a one-to-one NAT the public ones. Their ports are the bound ones.
    Configured(Vec<IpAddr>),
    /// Those of the network interfaces.
    Detected {
        /// Also 127.0.0.1 and ::1, for clients on this machine. Firefox ignores them, so the others are never left out.
        include_loopback: bool,
    },
}

impl Advertised {
    /// Addresses that clients are told, best first.
    pub(crate) fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::Configured(addresses) => Ok(addresses.clone()),
            Self::Detected { include_loopback } => {
                let interfaces = if_addrs::get_if_addrs()?;
                Ok(select(interfaces.iter().filter(|i| i.is_oper_up() || i.is_loopback()).map(if_addrs::Interface::ip), *include_loopback))
            }
        }
    }
}

/// Interface addresses that a client can be told, best first: IPv4 before IPv6, loopback last.
fn select(addresses: impl Iterator<Item = IpAddr>, include_loopback: bool) -> Vec<IpAddr> {
    let mut selected: Vec<IpAddr> = addresses.filter(|ip| is_usable(*ip) && (include_loopback || !ip.is_loopback())).collect();
    selected.sort_by_key(|ip| (ip.is_loopback(), ip.is_ipv6()));
    selected.dedup();
    selected
}

/// Link-local addresses need a zone, which SDP has no place for.
const fn is_usable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
    }
}

/// Candidates for sockets bound to `udp` and `tcp`, best first: all of UDP, then TCP.
///
/// A socket that is bound to one address is reached there, whatever was detected; one that is bound to all of them is reached
/// at every advertised address of its family.
pub(crate) fn candidates(advertised: &Advertised, ips: &[IpAddr], udp: &[SocketAddr], tcp: &[SocketAddr]) -> Vec<Candidate> {
    let is_configured = matches!(advertised, Advertised::Configured(_));
    let mut candidates = Vec::new();
    for (protocol, sockets) in [(Protocol::Udp, udp), (Protocol::Tcp, tcp)] {
        let at = |ip: IpAddr, socket: &SocketAddr| Candidate { protocol, address: SocketAddr::new(ip, socket.port()) };
        if !is_configured {
            let single = sockets.iter().filter(|s| !s.ip().is_unspecified());
            candidates.extend(single.map(|socket| at(socket.ip(), socket)));
        }
        for &ip in ips {
            let reachable = |s: &&SocketAddr| s.is_ipv4() == ip.is_ipv4() && (is_configured || s.ip().is_unspecified());
            candidates.extend(sockets.iter().find(reachable).map(|socket| at(ip, socket)));
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const DETECTED: Advertised = Advertised::Detected { include_loopback: true };

    #[test]
    fn link_local_addresses_are_left_out_and_loopback_comes_last() {
        let found = ips(&["127.0.0.1", "::1", "fe80::1", "169.254.0.1", "2001:db8::1", "192.168.1.5", "172.17.0.1"]);
        assert_eq!(select(found.iter().copied(), true), ips(&["192.168.1.5", "172.17.0.1", "2001:db8::1", "127.0.0.1", "::1"]));
        assert_eq!(select(found.iter().copied(), false), ips(&["192.168.1.5", "172.17.0.1", "2001:db8::1"]));
    }

    #[test]
    fn every_detected_address_is_paired_with_the_socket_of_its_family() {
        let candidates =
            candidates(&DETECTED, &ips(&["192.168.1.5", "2001:db8::1"]), &bound(&["0.0.0.0:7882", "[::]:7883"]), &bound(&["0.0.0.0:7881"]));
        assert_eq!(shown(&candidates), ["udp 192.168.1.5:7882", "udp [2001:db8::1]:7883", "tcp 192.168.1.5:7881"]);
    }

    #[test]
    fn a_socket_bound_to_one_address_is_reached_there_only() {
        let candidates = candidates(&DETECTED, &ips(&["192.168.1.5", "127.0.0.1"]), &bound(&["127.0.0.1:7882"]), &[]);
        assert_eq!(shown(&candidates), ["udp 127.0.0.1:7882"]);
    }

    #[test]
    fn configured_addresses_stand_for_bound_ones() {
        let advertised = Advertised::Configured(ips(&["203.0.113.9"]));
        let candidates = candidates(&advertised, &ips(&["203.0.113.9"]), &bound(&["10.0.0.4:7882"]), &bound(&["10.0.0.4:7881"]));
        assert_eq!(shown(&candidates), ["udp 203.0.113.9:7882", "tcp 203.0.113.9:7881"]);
    }

    #[test]
    fn the_loopback_interface_is_found() {
        assert!(DETECTED.addresses().unwrap().contains(&IpAddr::from([127, 0, 0, 1])));
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn bound(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn shown(candidates: &[Candidate]) -> Vec<String> {
        let protocol = |c: &Candidate| if c.protocol == Protocol::Udp { "udp" } else { "tcp" };
        candidates.iter().map(|c| format!("{} {}", protocol(c), c.address)).collect()
    }
}
