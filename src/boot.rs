//! The first lines of the log: what was found, what clients are told and why, and what will hurt.

use std::net::IpAddr;

use sfu_node::NodeHandle;
use tracing::{info, warn};

use crate::certificates;
use crate::doctor::machine;
use crate::sources::Checked;

/// Writes them.
pub(crate) fn report(checked: &Checked, node: &NodeHandle) {
    let media = &checked.config.media;
    for candidate in node.candidates() {
        let ip = candidate.address.ip();
        let why = why(checked, ip);
        info!(address = %candidate.address, protocol = ?candidate.protocol, why, "clients are told");
    }
    let is_public = |ip: IpAddr| !ip.is_loopback() && !is_private(ip);
    let has_public = node.candidates().iter().any(|candidate| is_public(candidate.address.ip()));
    if !has_public && !checked.config.server.listen.ip().is_loopback() {
        warn!("only private addresses are told: clients elsewhere can't connect; set `media.advertise` or `media.detect_address_with`");
    }
    info!(shards = checked.shards, udp_port = media.udp_port, tcp = media.tcp, "media");
    let certificates = checked.config.certificates().map(certificates::check);
    for finding in [machine::descriptors(checked), machine::buffers()].into_iter().chain(machine::disks(checked)).chain(certificates) {
        if finding.cause.is_empty() {
            info!(check = finding.check, "{}", finding.detail);
        } else {
            warn!(check = finding.check, cause = finding.cause, remedy = finding.remedy, "{}", finding.detail);
        }
    }
}

fn why(checked: &Checked, ip: IpAddr) -> &'static str {
    let media = &checked.config.media;
    if media.advertise.iter().any(|advertise| advertise.0.public == ip) {
        "media.advertise"
    } else if sfu_node::interface_addresses().unwrap_or_default().contains(&ip) {
        "address of an interface"
    } else {
        "found by media.detect_address_with"
    }
}

/// RFC 1918, RFC 6598, RFC 3927, RFC 4193, RFC 4291 section 2.5.6.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || (ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_addresses_are_known() {
        for (ip, expected) in [
            ("10.1.2.3", true),
            ("192.168.0.1", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("203.0.113.9", false),
            ("fd00::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(ip.parse().is_ok_and(is_private), expected, "{ip}");
        }
    }
}
