//! Whether the ports of the configuration can be had, and who has them if not.

use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use super::finding::Finding;
use crate::sources::Checked;

/// One port of the configuration.
struct Port {
    protocol: &'static str,
    address: SocketAddr,
    option: &'static str,
}

/// Every port that a server with this configuration opens.
pub(super) fn check(checked: &Checked) -> Vec<Finding> {
    ports(checked).iter().map(check_one).collect()
}

fn ports(checked: &Checked) -> Vec<Port> {
    let config = &checked.config;
    let mut ports = vec![Port { protocol: "tcp", address: config.server.listen, option: "server.listen" }];
    if let Ok(address) = config.metrics.listen.parse() {
        ports.push(Port { protocol: "tcp", address, option: "metrics.listen" });
    }
    let turn = &config.turn;
    let has_certificate = !config.tls.certificate.as_os_str().is_empty();
    let unspecified = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    for &ip in if config.media.listen.is_empty() { &unspecified } else { &config.media.listen } {
        if config.media.tcp {
            ports.push(Port { protocol: "tcp", address: SocketAddr::new(ip, config.media.tcp_port), option: "media.tcp_port" });
        }
        if turn.enabled {
            ports.push(Port { protocol: "udp", address: SocketAddr::new(ip, turn.udp_port), option: "turn.udp_port" });
            ports.push(Port { protocol: "tcp", address: SocketAddr::new(ip, turn.tcp_port), option: "turn.tcp_port" });
        }
        if turn.enabled && has_certificate {
            ports.push(Port { protocol: "tcp", address: SocketAddr::new(ip, turn.tls_port), option: "turn.tls_port" });
        }
        for shard in 0..checked.shards {
            let port = if config.media.udp_port == 0 { 0 } else { config.media.udp_port.saturating_add(shard) };
            ports.push(Port { protocol: "udp", address: SocketAddr::new(ip, port), option: "media.udp_port" });
        }
    }
    ports
}

fn check_one(port: &Port) -> Finding {
    let Port { protocol, address, option } = port;
    let bound = if *protocol == "udp" { UdpSocket::bind(address).map(drop) } else { TcpListener::bind(address).map(drop) };
    let name = format!("{protocol} {address} (`{option}`)");
    match bound {
        Ok(()) => Finding::ok("port", format!("{name} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let holder = holder(protocol, address.port()).map_or_else(String::new, |holder| format!(" by {holder}"));
            Finding::failed(
                "port",
                "port-in-use",
                format!("{name} is in use{holder}"),
                format!("stop what listens there, or change `{option}`"),
            )
        }
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            let option = if *option == "server.listen" || *option == "metrics.listen" { option } else { "media.listen" };
            Finding::failed(
                "port",
                "no-such-address",
                format!("{} is no address of this machine", address.ip()),
                format!("change `{option}`"),
            )
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::failed(
            "port",
            "port-needs-rights",
            format!("{name} needs more rights"),
            format!("AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, or a port from 1024 on in `{option}`"),
        ),
        Err(error) => Finding::failed("port", "port-unusable", format!("{name}: {error}"), format!("change `{option}`")),
    }
}

/// Name and number of the process that has a port, as far as this user may see it: the kernel's socket tables name inodes
/// (proc(5), `/proc/net/tcp`), the processes' descriptors too.
fn holder(protocol: &str, port: u16) -> Option<String> {
    let tables = ["", "6"].map(|family| fs::read_to_string(format!("/proc/net/{protocol}{family}")).unwrap_or_default());
    let inodes: Vec<String> = tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(|line| inode_of(line, port)).collect();
    for process in fs::read_dir("/proc").ok()?.filter_map(Result::ok) {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else { continue };
        for descriptor in descriptors.filter_map(Result::ok) {
            let Ok(target) = fs::read_link(descriptor.path()) else { continue };
            let inode = target.to_str().and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']'));
            if inode.is_some_and(|inode| inodes.iter().any(|known| known == inode)) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                return Some(format!("{} (process {pid})", name.trim()));
            }
        }
    }
    None
}

/// `sl local_address remote_address st tx:rx tr:when retrnsmt uid timeout inode`.
fn inode_of(line: &str, port: u16) -> Option<String> {
    let columns: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, local) = columns.get(1)?.rsplit_once(':')?;
    // listening TCP, or UDP without a peer
    let is_open = matches!(*columns.get(3)?, "0A" | "07");
    (is_open && u16::from_str_radix(local, 16).ok()? == port).then(|| columns.get(9).map(|inode| (*inode).to_owned()))?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_port_in_use_names_its_holder() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = Port { protocol: "tcp", address: taken.local_addr().unwrap(), option: "server.listen" };
        let finding = check_one(&port);
        assert_eq!(finding.cause, "port-in-use");
        assert!(finding.detail.contains(&format!("(process {})", std::process::id())), "{}", finding.detail);
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = Port { protocol: "udp", address: taken.local_addr().unwrap(), option: "media.udp_port" };
        assert!(check_one(&port).detail.contains("process"), "{}", check_one(&port).detail);
        drop(taken);
        assert_eq!(check_one(&port).cause, "");
    }

    #[test]
    fn a_foreign_address_is_told_from_a_taken_port() {
        let port = Port { protocol: "udp", address: "203.0.113.7:7882".parse().unwrap(), option: "media.udp_port" };
        assert_eq!((check_one(&port).cause, check_one(&port).remedy.as_str()), ("no-such-address", "change `media.listen`"));
    }
}
