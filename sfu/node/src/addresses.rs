//! Which addresses a node listens on and which it tells its clients.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use sfu_core::net::Protocol;
use sfu_core::transport::params::Candidate;

use crate::reflexive::public_addresses;

/// How the addresses that clients are told are found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Advertised {
    /// These, best first: behind a one-to-one NAT the public ones. Their ports are the bound ones.
    Configured(Vec<AdvertisedAddress>),
    /// Those of the network interfaces.
    Detected {
        /// Also 127.0.0.1 and ::1, for clients on this machine. Firefox ignores them, so the others are never left out.
        include_loopback: bool,
        /// Also, and first, where this STUN server (`stun:host:port`) sees this machine: behind a one-to-one NAT whose address
        /// is not known beforehand.
        stun_server: Option<String>,
    },
}

/// An address that clients are told. As text: `203.0.113.9`, or with the address that a NAT translates it to,
/// `203.0.113.9=>10.0.0.4`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AdvertisedAddress {
    /// Where clients send to.
    pub public: IpAddr,
    /// Address of this machine at which that arrives. `None`: at any of the same family.
    pub local: Option<IpAddr>,
}

impl From<IpAddr> for AdvertisedAddress {
    fn from(public: IpAddr) -> Self {
        Self { public, local: None }
    }
}

impl fmt::Display for AdvertisedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.public.fmt(f)?;
        self.local.map_or(Ok(()), |local| write!(f, "=>{local}"))
    }
}

impl FromStr for AdvertisedAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = |text: &str| {
            let text = text.trim();
            text.parse::<IpAddr>().map_err(|_| format!("{text:?} is not an IP address; write \"203.0.113.9\" or \"203.0.113.9=>10.0.0.4\""))
        };
        match text.split_once("=>") {
            Some((public, local)) => Ok(Self { public: address(public)?, local: Some(address(local)?) }),
            None => Ok(Self::from(address(text)?)),
        }
    }
}

/// Addresses of this machine's interfaces, loopback included.
///
/// # Errors
/// The system does not tell.
pub fn interface_addresses() -> io::Result<Vec<IpAddr>> {
    Ok(if_addrs::get_if_addrs()?.into_iter().map(|interface| interface.ip()).collect())
}

impl Advertised {
    /// Addresses that clients are told, best first.
    pub(crate) fn addresses(&self) -> io::Result<Vec<AdvertisedAddress>> {
        match self {
            Self::Configured(addresses) => Ok(addresses.clone()),
            Self::Detected { include_loopback, stun_server: _ } => {
                let up = if_addrs::get_if_addrs()?.into_iter().filter(|i| i.is_oper_up() || i.is_loopback());
                Ok(select(up.map(|interface| interface.ip()), *include_loopback).into_iter().map(AdvertisedAddress::from).collect())
            }
        }
    }

    /// Where the STUN server sees this machine, if one is to be asked. Blocks until it answers or has not.
    pub(crate) fn seen_from_outside(&self) -> io::Result<Vec<AdvertisedAddress>> {
        match self {
            Self::Detected { stun_server: Some(server), .. } => public_addresses(server),
            _ => Ok(Vec::new()),
        }
    }

    /// A local end of a translation that no interface of this machine has.
    pub(crate) fn missing_local(&self) -> io::Result<Option<IpAddr>> {
        let Self::Configured(addresses) = self else { return Ok(None) };
        let locals: Vec<IpAddr> = addresses.iter().filter_map(|address| address.local).collect();
        if locals.is_empty() {
            return Ok(None);
        }
        let interfaces = if_addrs::get_if_addrs()?;
        Ok(locals.into_iter().find(|local| interfaces.iter().all(|interface| interface.ip() != *local)))
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
/// at every advertised address of its family. A configured address leads to the socket of its local end, if it has one.
pub(crate) fn candidates(
    advertised: &Advertised,
    addresses: &[AdvertisedAddress],
    udp: &[SocketAddr],
    tcp: &[SocketAddr],
) -> Vec<Candidate> {
    let is_configured = matches!(advertised, Advertised::Configured(_));
    let mut candidates = Vec::new();
    for (protocol, sockets) in [(Protocol::Udp, udp), (Protocol::Tcp, tcp)] {
        let at = |ip: IpAddr, socket: &SocketAddr| Candidate { protocol, address: SocketAddr::new(ip, socket.port()) };
        if !is_configured {
            let single = sockets.iter().filter(|s| !s.ip().is_unspecified());
            candidates.extend(single.map(|socket| at(socket.ip(), socket)));
        }
        for &AdvertisedAddress { public, local } in addresses {
            let is_reached = |socket: &&SocketAddr| {
                let is_bound_there = match local {
                    Some(local) => socket.ip() == local || socket.ip().is_unspecified(),
                    None => is_configured || socket.ip().is_unspecified(),
                };
                is_bound_there && socket.is_ipv4() == local.unwrap_or(public).is_ipv4()
            };
            candidates.extend(sockets.iter().find(is_reached).map(|socket| at(public, socket)));
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const DETECTED: Advertised = Advertised::Detected { include_loopback: true, stun_server: None };

    #[test]
    fn link_local_addresses_are_left_out_and_loopback_comes_last() {
        let found = ips(&["127.0.0.1", "::1", "fe80::1", "169.254.0.1", "2001:db8::1", "192.168.1.5", "172.17.0.1"]);
        assert_eq!(select(found.iter().copied(), true), ips(&["192.168.1.5", "172.17.0.1", "2001:db8::1", "127.0.0.1", "::1"]));
        assert_eq!(select(found.iter().copied(), false), ips(&["192.168.1.5", "172.17.0.1", "2001:db8::1"]));
    }

    #[test]
    fn every_detected_address_is_paired_with_the_socket_of_its_family() {
        let candidates = candidates(
            &DETECTED,
            &told(&["192.168.1.5", "2001:db8::1"]),
            &bound(&["0.0.0.0:7882", "[::]:7883"]),
            &bound(&["0.0.0.0:7881"]),
        );
        assert_eq!(shown(&candidates), ["udp 192.168.1.5:7882", "udp [2001:db8::1]:7883", "tcp 192.168.1.5:7881"]);
    }

    #[test]
    fn a_socket_bound_to_one_address_is_reached_there_only() {
        let candidates = candidates(&DETECTED, &told(&["192.168.1.5", "127.0.0.1"]), &bound(&["127.0.0.1:7882"]), &[]);
        assert_eq!(shown(&candidates), ["udp 127.0.0.1:7882"]);
    }

    #[test]
    fn configured_addresses_stand_for_bound_ones() {
        let advertised = Advertised::Configured(told(&["203.0.113.9"]));
        let candidates = candidates(&advertised, &told(&["203.0.113.9"]), &bound(&["10.0.0.4:7882"]), &bound(&["10.0.0.4:7881"]));
        assert_eq!(shown(&candidates), ["udp 203.0.113.9:7882", "tcp 203.0.113.9:7881"]);
    }

    #[test]
    fn several_configured_addresses_of_both_families_keep_their_order() {
        let addresses = told(&["203.0.113.9", "2001:db8::9", "10.0.0.4"]);
        let candidates = candidates(&Advertised::Configured(addresses.clone()), &addresses, &bound(&["0.0.0.0:7882", "[::]:7882"]), &[]);
        assert_eq!(shown(&candidates), ["udp 203.0.113.9:7882", "udp [2001:db8::9]:7882", "udp 10.0.0.4:7882"]);
    }

    #[test]
    fn a_translated_address_leads_to_the_socket_of_its_local_end() {
        let addresses = told(&["203.0.113.9=>10.0.0.4", "203.0.113.10=>10.0.1.4", "203.0.113.11=>10.0.2.4"]);
        let advertised = Advertised::Configured(addresses.clone());
        let several = candidates(&advertised, &addresses, &bound(&["10.0.0.4:7000", "10.0.1.4:7001"]), &[]);
        assert_eq!(shown(&several), ["udp 203.0.113.9:7000", "udp 203.0.113.10:7001"]);
        let one_for_all = candidates(&advertised, &addresses, &bound(&["0.0.0.0:7000"]), &[]);
        assert_eq!(one_for_all.len(), 3);
    }

    #[test]
    fn an_advertised_address_reads_back_as_it_is_shown() {
        for text in ["203.0.113.9", "2001:db8::9", "203.0.113.9=>10.0.0.4"] {
            assert_eq!(text.parse::<AdvertisedAddress>().unwrap().to_string(), text);
        }
        assert_eq!("203.0.113.9 => 10.0.0.4".parse::<AdvertisedAddress>().unwrap().local, Some(IpAddr::from([10, 0, 0, 4])));
        for text in ["", "host", "203.0.113.9=>", "203.0.113.9=10.0.0.4", "203.0.113.9:7882"] {
            assert!(text.parse::<AdvertisedAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_local_end_has_to_be_an_address_of_this_machine() {
        let missing = |text: &str| Advertised::Configured(told(&[text])).missing_local().unwrap();
        assert_eq!(missing("203.0.113.9=>127.0.0.1"), None);
        assert_eq!(missing("203.0.113.9=>192.0.2.77"), Some(IpAddr::from([192, 0, 2, 77])));
        assert_eq!(missing("203.0.113.9"), None);
    }

    #[test]
    fn the_loopback_interface_is_found() {
        assert!(DETECTED.addresses().unwrap().contains(&IpAddr::from([127, 0, 0, 1]).into()));
    }

    fn told(list: &[&str]) -> Vec<AdvertisedAddress> {
        list.iter().map(|text| text.parse().unwrap()).collect()
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
