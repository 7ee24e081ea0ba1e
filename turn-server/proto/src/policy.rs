//! To whom the server relays.
//!
//! In: an address that a client names, or that a datagram for a client comes from. Out: whether it is served, and where to send.
//! The order of rules: the server's own media addresses are served; what can never be a peer is not; neither is what the operator
//! denies; what the operator allows is served, but networks that are denied by default only if the rule names them or a part of
//! them (`0.0.0.0/0` does not open 10.0.0.0/8, `10.1.0.0/16` opens itself). Everything else is denied. An IPv6 address that leads to
//! an IPv4 one (NAT64, 6to4, Teredo) is served if both are.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

/// A block of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Addresses and ports that an operator allows. As text: `203.0.113.0/24`, `203.0.113.7:7882`, `[2001:db8::/32]:1024-65535`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Addresses.
    pub prefix: Prefix,
    /// Ports.
    pub ports: RangeInclusive<u16>,
}

/// A media address of the operator's own server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnPeer {
    /// As clients know it.
    pub named: SocketAddr,
    /// Where to send to reach it from here: another address if a NAT in front translates `named`.
    pub reached_at: SocketAddr,
}

impl From<SocketAddr> for OwnPeer {
    fn from(address: SocketAddr) -> Self {
        Self { named: address, reached_at: address }
    }
}

/// Why a peer is not served. The words are metric labels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// Unspecified, broadcast, multicast, port 0, an IPv4 address in IPv6 form, or this server itself.
    Impossible,
    /// A service address of a cloud, which hands out credentials.
    Metadata,
    /// A network denied by default: loopback, link-local, private and such.
    Reserved,
    /// Denied by the operator.
    Configured,
    /// Not allowed by any rule.
    NotAllowed,
}

impl Denied {
    /// All reasons.
    pub const ALL: [Self; 5] = [Self::Impossible, Self::Metadata, Self::Reserved, Self::Configured, Self::NotAllowed];

    /// Label of metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Impossible => "impossible",
            Self::Metadata => "metadata",
            Self::Reserved => "reserved",
            Self::Configured => "configured",
            Self::NotAllowed => "not-allowed",
        }
    }
}

/// The rules. With none of them nobody is served.
#[derive(Clone, Debug, Default)]
pub struct PeerPolicy {
    /// Own media addresses, whatever network they are in.
    pub own: Vec<OwnPeer>,
    /// Rules that allow.
    pub allow: Vec<Rule>,
    /// Rules that deny, stronger than those that allow.
    pub deny: Vec<Prefix>,
    /// The server's own listening addresses: a relay to itself would be a loop. An unspecified one stands for loopback only; which
    /// other addresses the machine has must be said.
    pub listening: Vec<SocketAddr>,
}

impl PeerPolicy {
    /// Where to send to reach a peer that a client names.
    ///
    /// # Errors
    /// Nothing may be sent there.
    pub fn reach(&self, named: SocketAddr) -> Result<SocketAddr, Denied> {
        if let Some(own) = self.own.iter().find(|own| own.named == named) {
            return Ok(own.reached_at);
        }
        if named.port() == 0 || self.listening.iter().any(|own| own.port() == named.port() && is_at(own.ip(), named.ip())) {
            return Err(Denied::Impossible);
        }
        self.address(named.ip(), |ports| ports.contains(&named.port()))?;
        Ok(named)
    }

    /// The name of a peer that a datagram came from, if it may come.
    #[must_use]
    pub fn name(&self, source: SocketAddr) -> Option<SocketAddr> {
        // what has a name of its own keeps it, though another name may lead there too
        let is_own_name = self.own.iter().any(|own| own.named == source && own.reached_at == source);
        let translated = self.own.iter().find(|own| !is_own_name && own.reached_at == source);
        translated.map(|own| own.named).or_else(|| self.reach(source).ok().filter(|reached| *reached == source))
    }

    /// True if something may be sent to some port of an address: permissions are for addresses (RFC 8656 section 9).
    ///
    /// # Errors
    /// Nothing may be sent there.
    pub fn permit(&self, ip: IpAddr) -> Result<(), Denied> {
        if self.own.iter().any(|own| own.named.ip() == ip) {
            return Ok(());
        }
        self.address(ip, |_| true)
    }

    /// An IPv4 network that is reached through an IPv6 one, which a rule allows. Private networks may be what the translator is for,
    /// if a rule names them as well.
    fn behind(&self, inner: IpAddr) -> Result<(), Denied> {
        match self.address(inner, |_| true) {
            // that it is no public peer of its own does not matter: the rule for the translator speaks for it
            Err(Denied::NotAllowed) => Ok(()),
            verdict => verdict,
        }
    }

    fn address(&self, ip: IpAddr, is_port_fit: impl Fn(&RangeInclusive<u16>) -> bool) -> Result<(), Denied> {
        if is_impossible(ip) {
            return Err(Denied::Impossible);
        }
        if METADATA.contains(&ip) {
            return Err(Denied::Metadata);
        }
        if self.deny.iter().any(|prefix| prefix.contains(ip)) {
            return Err(Denied::Configured);
        }
        let reserved = || RESERVED.iter().filter(|block| block.contains(ip));
        let is_served =
            |rule: &Rule| rule.prefix.contains(ip) && is_port_fit(&rule.ports) && reserved().all(|block| block.covers(rule.prefix));
        if self.allow.iter().any(is_served) {
            return embedded(ip).map_or(Ok(()), |inner| self.behind(inner));
        }
        Err(if reserved().next().is_some() { Denied::Reserved } else { Denied::NotAllowed })
    }
}

/// The IPv4 address that an IPv6 address leads to: NAT64 (RFC 6052 section 2.1), 6to4 (RFC 3056), Teredo (RFC 4380 section 4: the
/// client's, inverted), IPv4-compatible (RFC 4291 section 2.5.5.1).
fn embedded(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else { return None };
    let bits = ip.to_bits();
    let low = bits as u32;
    let inner = match ip.segments() {
        [0x64, 0xFF9B, 0, 0, 0, 0, ..] => low,
        // not `::` and `::1`, which are addresses of their own
        [0, 0, 0, 0, 0, 0, high, _] if high > 0 => low,
        [0x2002, ..] => (bits >> 80) as u32,
        [0x2001, 0, ..] => !low,
        _ => return None,
    };
    Some(Ipv4Addr::from_bits(inner).into())
}

/// True if a socket bound to `bound` is reached at `ip`.
fn is_at(bound: IpAddr, ip: IpAddr) -> bool {
    // of an unspecified address it is not known here which addresses of the machine it stands for: those that nobody else has
    bound == ip || (bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4() && ip.is_loopback())
}

/// Addresses that no peer can have.
const fn is_impossible(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_unspecified() || ip.is_broadcast() || ip.is_multicast() || ip.octets()[0] == 0 || ip.octets()[0] >= 240,
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_multicast() || ip.to_ipv4_mapped().is_some(),
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(a: u16, b: u16, c: u16, h: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, h))
}

/// Metadata and host services: AWS, Google, Azure and others; AWS by IPv6; Azure's host; Alibaba; Oracle; AWS's time service.
const METADATA: &[IpAddr] = &[
    v4(169, 254, 169, 254),
    v4(169, 254, 170, 2),
    v4(168, 63, 129, 16),
    v4(100, 100, 100, 200),
    v4(192, 0, 0, 192),
    v6(0xFD00, 0xEC2, 0, 0x254),
    v6(0xFD20, 0xCE, 0, 0x254),
    v6(0xFD00, 0xEC2, 0, 0x123),
];

const fn block(address: IpAddr, length: u8) -> Prefix {
    Prefix { address, length }
}

/// Networks of the IANA special-purpose registries (RFC 6890) that are not for everybody to reach.
const RESERVED: &[Prefix] = &[
    block(v4(10, 0, 0, 0), 8),
    block(v4(100, 64, 0, 0), 10),
    block(v4(127, 0, 0, 0), 8),
    block(v4(169, 254, 0, 0), 16),
    block(v4(172, 16, 0, 0), 12),
    block(v4(192, 0, 0, 0), 24),
    block(v4(192, 0, 2, 0), 24),
    block(v4(192, 88, 99, 0), 24),
    block(v4(192, 168, 0, 0), 16),
    block(v4(198, 18, 0, 0), 15),
    block(v4(198, 51, 100, 0), 24),
    block(v4(203, 0, 113, 0), 24),
    // ::1, IPv4-compatible addresses
    block(v6(0, 0, 0, 0), 96),
    // addresses with an IPv4 address in them, which lead to IPv4 networks: NAT64 (RFC 6052, 8215), Teredo, 6to4
    block(v6(0x64, 0xFF9B, 0, 0), 96),
    block(v6(0x64, 0xFF9B, 1, 0), 48),
    block(v6(0x2001, 0, 0, 0), 32),
    block(v6(0x2002, 0, 0, 0), 16),
    block(v6(0x100, 0, 0, 0), 64),
    block(v6(0x2001, 2, 0, 0), 48),
    block(v6(0x2001, 0x10, 0, 0), 28),
    block(v6(0x2001, 0xDB8, 0, 0), 32),
    block(v6(0x3FFF, 0, 0, 0), 20),
    block(v6(0x5F00, 0, 0, 0), 16),
    block(v6(0xFC00, 0, 0, 0), 7),
    block(v6(0xFE80, 0, 0, 0), 10),
    block(v6(0xFEC0, 0, 0, 0), 10),
];

impl Prefix {
    /// One address.
    #[must_use]
    pub const fn single(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// True if the address is in the block.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip) {
            (IpAddr::V4(own), IpAddr::V4(ip)) => (own.to_bits() ^ ip.to_bits()).checked_shr(32 - u32::from(self.length)).unwrap_or(0) == 0,
            (IpAddr::V6(own), IpAddr::V6(ip)) => (own.to_bits() ^ ip.to_bits()).checked_shr(128 - u32::from(self.length)).unwrap_or(0) == 0,
            _ => false,
        }
    }

    /// True if all of the other block is in this one.
    #[must_use]
    pub fn covers(&self, other: Self) -> bool {
        other.length >= self.length && self.contains(other.address)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not an address or a block such as \"203.0.113.0/24\"");
        let (address, length) = text.trim().split_once('/').map_or((text.trim(), None), |(address, length)| (address, Some(length)));
        let whole = Self::single(address.parse().map_err(|_| invalid())?);
        let Some(length) = length else { return Ok(whole) };
        let length = length.parse().ok().filter(|length| *length <= whole.length).ok_or_else(invalid)?;
        Ok(Self { length, ..whole })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ports == ALL_PORTS {
            return self.prefix.fmt(f);
        }
        let (open, close) = if self.prefix.address.is_ipv6() { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.prefix, self.ports.start())?;
        if self.ports.start() == self.ports.end() { Ok(()) } else { write!(f, "-{}", self.ports.end()) }
    }
}

const ALL_PORTS: RangeInclusive<u16> = 1..=u16::MAX;

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("{text:?} is not a block with ports such as \"203.0.113.0/24\" or \"203.0.113.7:1024-65535\"");
        let trimmed = text.trim();
        if let Ok(prefix) = trimmed.parse() {
            return Ok(Self { prefix, ports: ALL_PORTS });
        }
        let (prefix, ports) = trimmed.rsplit_once(':').ok_or_else(invalid)?;
        let is_bracketed = prefix.starts_with('[') && prefix.ends_with(']');
        let prefix: Prefix = prefix.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| invalid())?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last) = (first.parse::<u16>().map_err(|_| invalid())?, last.parse::<u16>().map_err(|_| invalid())?);
        let is_valid = is_bracketed == prefix.address.is_ipv6() && first > 0 && first <= last;
        if is_valid { Ok(Self { prefix, ports: first..=last }) } else { Err(invalid()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_own_addresses_are_served_by_default() {
        let policy = PeerPolicy { own: vec![own("192.168.1.5:7882")], ..PeerPolicy::default() };
        assert_eq!(policy.reach(at("192.168.1.5:7882")), Ok(at("192.168.1.5:7882")));
        assert_eq!(policy.reach(at("192.168.1.5:22")), Err(Denied::Reserved), "another port of the same machine");
        assert_eq!(policy.permit(at("192.168.1.5:1").ip()), Ok(()), "a permission is for an address");
        assert_eq!(policy.reach(at("8.8.8.8:53")), Err(Denied::NotAllowed));
        assert_eq!(policy.permit(at("8.8.8.8:53").ip()), Err(Denied::NotAllowed));
    }

    #[test]
    fn reserved_networks_stay_denied_when_everything_is_allowed() {
        let policy = policy(&["0.0.0.0/0", "::/0"], &[]);
        assert_eq!(policy.reach(at("8.8.8.8:53")), Ok(at("8.8.8.8:53")));
        assert_eq!(policy.reach(at("[2606:4700::1]:53")), Ok(at("[2606:4700::1]:53")));
        for reserved in [
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "::1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001:0:1::",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "2001:2::1",
            "3fff::1",
            "5f00::1",
        ] {
            assert_eq!(policy.permit(reserved.parse().unwrap()), Err(Denied::Reserved), "{reserved}");
        }
        for impossible in
            ["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "ff02::1", "::ffff:8.8.8.8"]
        {
            assert_eq!(policy.permit(impossible.parse().unwrap()), Err(Denied::Impossible), "{impossible}");
        }
        for metadata in ["169.254.169.254", "169.254.170.2", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"] {
            assert_eq!(policy.permit(metadata.parse().unwrap()), Err(Denied::Metadata), "{metadata}");
        }
        assert_eq!(policy.reach(at("8.8.8.8:0")), Err(Denied::Impossible));
    }

    #[test]
    fn a_rule_that_names_a_part_of_a_reserved_network_opens_that_part() {
        let policy = policy(&["10.1.0.0/16", "127.0.0.0/8", "fd00:1::/32", "169.254.0.0/16"], &["10.1.2.0/24"]);
        assert_eq!(policy.permit(ip("10.1.0.1")), Ok(()));
        assert_eq!(policy.permit(ip("127.0.0.1")), Ok(()));
        assert_eq!(policy.permit(ip("fd00:1::1")), Ok(()));
        assert_eq!(policy.permit(ip("10.2.0.1")), Err(Denied::Reserved));
        assert_eq!(policy.permit(ip("10.1.2.1")), Err(Denied::Configured));
        assert_eq!(policy.permit(ip("169.254.169.254")), Err(Denied::Metadata), "no rule opens it");
    }

    #[test]
    fn what_an_address_leads_to_is_denied_as_if_it_were_named() {
        let policy = policy(&["64:ff9b::/96", "2002::/16", "2001::/32", "::/96", "10.1.0.0/16"], &["8.8.4.0/24"]);
        for (address, verdict) in [
            ("64:ff9b::808:808", Ok(())),
            ("2002:808:808::1", Ok(())),
            // Teredo: the client's address inverted
            ("2001:0:808:808::f7f7:f7f7", Ok(())),
            ("64:ff9b::a9fe:a9fe", Err(Denied::Metadata)),
            ("2002:a9fe:a9fe::1", Err(Denied::Metadata)),
            ("2001:0:808:808::5601:5601", Err(Denied::Metadata)),
            ("::a9fe:a9fe", Err(Denied::Metadata)),
            ("64:ff9b::7f00:1", Err(Denied::Reserved)),
            ("64:ff9b::a00:1", Err(Denied::Reserved)),
            ("2002:7f00:1::", Err(Denied::Reserved)),
            ("64:ff9b::e000:1", Err(Denied::Impossible)),
            ("64:ff9b::", Err(Denied::Impossible)),
            ("64:ff9b::808:401", Err(Denied::Configured)),
            // this one a rule names
            ("64:ff9b::a01:1", Ok(())),
        ] {
            assert_eq!(policy.permit(ip(address)), verdict, "{address}");
        }
    }

    #[test]
    fn a_translated_own_address_is_reached_inside_and_named_outside() {
        let outside = OwnPeer { named: at("203.0.113.9:7882"), reached_at: at("10.0.0.4:7882") };
        let policy = PeerPolicy { own: vec![outside, own("10.0.0.5:7882")], ..PeerPolicy::default() };
        assert_eq!(policy.reach(outside.named), Ok(outside.reached_at));
        assert_eq!(policy.name(outside.reached_at), Some(outside.named));
        assert_eq!(policy.name(at("10.0.0.5:7882")), Some(at("10.0.0.5:7882")));
        assert_eq!(policy.name(at("10.0.0.4:22")), None);
        assert_eq!(policy.name(outside.named), None, "nothing comes from there");
    }

    #[test]
    fn the_server_does_not_relay_to_itself() {
        let mut policy = policy(&["127.0.0.0/8", "0.0.0.0/0"], &[]);
        policy.listening = vec![at("0.0.0.0:3478"), at("8.8.4.4:3479")];
        assert_eq!(policy.reach(at("127.0.0.1:3478")), Err(Denied::Impossible));
        assert_eq!(policy.reach(at("8.8.4.4:3479")), Err(Denied::Impossible));
        assert!(policy.reach(at("8.8.4.4:3478")).is_ok());
    }

    #[test]
    fn ports_of_a_rule_bound_where_is_sent_and_not_the_permission() {
        let policy = policy(&["8.8.8.8:1000-2000", "[2606:4700::/32]:53"], &[]);
        assert!(policy.reach(at("8.8.8.8:1000")).is_ok() && policy.reach(at("8.8.8.8:2000")).is_ok());
        assert_eq!(policy.reach(at("8.8.8.8:2001")), Err(Denied::NotAllowed));
        assert!(policy.reach(at("[2606:4700::1]:53")).is_ok());
        assert_eq!(policy.permit(ip("8.8.8.8")), Ok(()));
    }

    #[test]
    fn rules_read_back_as_they_are_shown() {
        for text in ["203.0.113.0/24", "203.0.113.7/32:7882", "[2001:db8::/32]:1024-65535", "::/0"] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), text);
        }
        for text in ["", "host", "1.2.3.4/33", "1.2.3.4:0", "1.2.3.4:9-8", "[1.2.3.4]:9", "2001:db8::/129", "1.2.3.4:70000"] {
            assert!(text.parse::<Rule>().is_err(), "{text}");
        }
    }

    fn policy(allow: &[&str], deny: &[&str]) -> PeerPolicy {
        PeerPolicy {
            allow: allow.iter().map(|rule| rule.parse().unwrap()).collect(),
            deny: deny.iter().map(|prefix| prefix.parse().unwrap()).collect(),
            ..PeerPolicy::default()
        }
    }

    fn own(text: &str) -> OwnPeer {
        at(text).into()
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
