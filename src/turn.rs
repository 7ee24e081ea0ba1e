//! The embedded TURN server: options become its settings, and the media node's addresses those that it relays to.
//!
//! A peer here is a media port of this very process, reached through the kernel as any other: what a client calls by its public
//! address is sent to the local one behind it, so that no NAT has to turn packets around.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use signaling_api::Secret;
use signaling_server::{DrainControl, PARTICIPANT_PREFIX, Relays};
use turn_server::{Admission, Certificates, Limits, OwnPeer, Policy, RelayAddress, SharedSecret, TurnConfig, TurnError, TurnHandle};

use crate::config::advertise::Advertise;
use crate::config::keys::ApiKey;
use crate::config::model::{Config, Turn};

/// A server that runs.
pub(crate) struct Embedded {
    pub(crate) server: TurnHandle,
    /// As participants are told.
    pub(crate) urls: Vec<String>,
    /// The server's, which it watches.
    pub(crate) certificates: Option<Arc<Certificates>>,
}

/// Starts the TURN server beside a media node that clients reach at `udp`. None: it is switched off.
pub(crate) fn start(config: &Config, keys: &[ApiKey], udp: &[SocketAddr]) -> anyhow::Result<Option<Embedded>> {
    let turn = &config.turn;
    if !turn.enabled {
        return Ok(None);
    }
    let secret = secret(turn, keys)?.context("no secret for TURN: `turn.secret_file`, or an API key that it can follow from")?;
    let certificates = certificates(config)?;
    let interfaces: Vec<IpAddr> = if_addrs::get_if_addrs().unwrap_or_default().iter().map(if_addrs::Interface::ip).collect();
    let listen = if config.media.listen.is_empty() {
        vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
    } else {
        config.media.listen.clone()
    };
    let server = turn_server::start(TurnConfig {
        udp_port: Some(turn.udp_port),
        tcp_port: Some(turn.tcp_port),
        tls_port: certificates.is_some().then_some(turn.tls_port),
        relays: relay_addresses(udp, &listen),
        listen,
        certificates: certificates.clone(),
        relay_ports: relay_ports(&turn.relay_ports)?,
        secrets: vec![SharedSecret::new(secret.expose())],
        policy: Policy {
            own: own_peers(udp, &config.media.advertise, &config.media.listen, &interfaces),
            allow: parsed(&turn.allow, "turn.allow")?,
            deny: parsed(&turn.deny, "turn.deny")?,
            ..Policy::default()
        },
        limits: Limits {
            allocations: turn.max_allocations,
            allocations_per_user: turn.max_allocations_per_user,
            allocations_per_address: turn.max_allocations_per_address,
            allocation_rate: rate(turn.max_rate.0),
            total_rate: rate(turn.max_total_rate.0),
        },
        ..TurnConfig::default()
    })
    .map_err(explain)?;
    let urls = urls(config, &hosts(udp), &server);
    Ok(Some(Embedded { server, urls, certificates }))
}

/// What participants are told: of the embedded server, if there is one, and of those elsewhere.
pub(crate) fn relays(config: &Config, keys: &[ApiKey], embedded: Option<&Embedded>) -> anyhow::Result<Option<Relays>> {
    let own = embedded.map(|embedded| embedded.urls.as_slice()).unwrap_or_default();
    let urls = [own, &config.turn.servers].concat();
    let secret = if urls.is_empty() { None } else { secret(&config.turn, keys)? };
    Ok(secret.map(|secret| Relays { urls, secret, ttl: config.turn.credential_ttl.0 }))
}

/// The secret that passwords follow from: of its own, or made from the first API key.
pub(crate) fn secret(turn: &Turn, keys: &[ApiKey]) -> anyhow::Result<Option<Secret>> {
    if !turn.secret.expose().is_empty() {
        return Ok(Some(turn.secret.clone()));
    }
    if !turn.secret_file.as_os_str().is_empty() {
        let text = std::fs::read_to_string(&turn.secret_file);
        let text = text.with_context(|| format!("`turn.secret_file` = {}", turn.secret_file.display()))?;
        let secret = text.trim();
        return if secret.is_empty() {
            Err(anyhow!("`turn.secret_file` = {} is empty", turn.secret_file.display()))
        } else {
            Ok(Some(Secret::new(secret)))
        };
    }
    Ok(keys.first().map(|key| Secret::new(SharedSecret::new(key.secret.expose()).password(b"sluice turn secret"))))
}

/// Certificate and key, if the configuration names them.
pub(crate) fn certificates(config: &Config) -> anyhow::Result<Option<Arc<Certificates>>> {
    let is_set = |path: &Path| !path.as_os_str().is_empty();
    match (is_set(&config.tls.certificate), is_set(&config.tls.key)) {
        (false, false) => Ok(None),
        (true, true) => {
            let loaded = Certificates::load(&config.tls.certificate, &config.tls.key);
            Ok(Some(loaded.context("`tls.certificate` and `tls.key`")?))
        }
        _ => Err(anyhow!("`tls.certificate` and `tls.key` go together")),
    }
}

/// `FIRST-LAST`.
pub(crate) fn relay_ports(text: &str) -> anyhow::Result<std::ops::RangeInclusive<u16>> {
    let range = text.split_once('-').and_then(|(first, last)| Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?));
    let range = range.filter(|range| !range.is_empty() && *range.start() > 0);
    range.with_context(|| format!("`turn.relay_ports` = {text:?}: write \"49152-65535\""))
}

pub(crate) fn parsed<T: std::str::FromStr<Err = String>>(list: &[String], option: &str) -> anyhow::Result<Vec<T>> {
    list.iter().map(|text| text.parse().map_err(|error| anyhow!("`{option}`: {error}"))).collect()
}

const fn rate(bytes: usize) -> Option<u64> {
    if bytes == 0 { None } else { Some(bytes as u64) }
}

/// This node's media ports, each with the address at which it is reached from here.
fn own_peers(media: &[SocketAddr], advertised: &[Advertise], listen: &[IpAddr], interfaces: &[IpAddr]) -> Vec<OwnPeer> {
    let mut unknown = 0;
    let mut own_peer = |named: SocketAddr| {
        let told = advertised.iter().find(|Advertise(address)| address.public == named.ip()).and_then(|Advertise(address)| address.local);
        let is_here = interfaces.contains(&named.ip()) || named.ip().is_loopback();
        let bound = listen.iter().find(|ip| ip.is_ipv4() == named.is_ipv4() && !ip.is_unspecified());
        let ip = match (told, is_here, bound, named.ip()) {
            (Some(local), ..) => local,
            (None, true, ..) => named.ip(),
            (None, false, Some(bound), _) => *bound,
            // a NAT in front translates it to some address of this machine. Each gets a loopback address of its own, by which
            // its answers are told from those of the others.
            (None, false, None, IpAddr::V4(_)) => {
                unknown = (unknown + 1) % 250;
                Ipv4Addr::new(127, 0, 77, 1 + unknown).into()
            }
            (None, false, None, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
        };
        OwnPeer { named, reached_at: SocketAddr::new(ip, named.port()) }
    };
    media.iter().map(|address| own_peer(*address)).collect()
}

/// Relayed addresses are named after the addresses of media: clients hear of them, nobody sends there from outside.
fn relay_addresses(media: &[SocketAddr], listen: &[IpAddr]) -> Vec<RelayAddress> {
    let of_family = |is_v4: bool| {
        let public = hosts(media).into_iter().find(|ip| ip.is_ipv4() == is_v4)?;
        let bind = listen.iter().find(|ip| ip.is_ipv4() == is_v4)?;
        Some(RelayAddress { public, bind: *bind })
    };
    [of_family(true), of_family(false)].into_iter().flatten().collect()
}

/// Where clients reach this machine: the best address of each family.
fn hosts(media: &[SocketAddr]) -> Vec<IpAddr> {
    let best = |is_v4: bool| media.iter().map(SocketAddr::ip).find(|ip| ip.is_ipv4() == is_v4);
    [best(true), best(false)].into_iter().flatten().collect()
}

fn urls(config: &Config, hosts: &[IpAddr], server: &TurnHandle) -> Vec<String> {
    let ports = server.ports();
    let domain = &config.turn.domain;
    let names: Vec<String> = if domain.is_empty() {
        hosts.iter().map(|ip| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }).collect()
    } else {
        vec![domain.clone()]
    };
    let of = |port: Option<u16>, scheme: &'static str, transport: &'static str| {
        let names = names.clone();
        port.into_iter()
            .flat_map(move |port| names.clone().into_iter().map(move |name| format!("{scheme}:{name}:{port}?transport={transport}")))
    };
    // an address is in hardly any certificate
    let tls = ports.tls.filter(|_| !domain.is_empty());
    let shared = config.server.one_port.then_some(config.server.listen.port());
    let shared_tls = shared.filter(|_| ports.tls.is_some() && !domain.is_empty());
    of(ports.udp, "turn", "udp")
        .chain(of(ports.tcp, "turn", "tcp"))
        .chain(of(tls, "turns", "tcp"))
        .chain(of(shared_tls, "turns", "tcp"))
        .chain(of(shared.filter(|_| shared_tls.is_none()), "turn", "tcp"))
        .collect()
}

fn explain(error: TurnError) -> anyhow::Error {
    match error {
        TurnError::Listen { protocol, address, source } if source.kind() == std::io::ErrorKind::AddrInUse => anyhow!(
            "port {} ({protocol}) is in use on {}: stop what listens there, change `turn.{}_port`, or switch TURN off with `turn.enabled` = false",
            address.port(),
            address.ip(),
            if protocol == "udp" { "udp" } else { "tcp_port` or `turn.tls" },
        ),
        other => anyhow::Error::from(other).context("TURN (`turn.enabled`)"),
    }
}

/// Lets the relay drain with the server, and take everybody again with it. Rooms that are open go on until the deadline and may be
/// joined, so their participants get relays until they leave; whoever got credentials in another way does not.
pub(crate) async fn drain_along(mut drain: DrainControl, server: TurnHandle) {
    let mut was_draining = false;
    while let Some(status) = drain.changed().await {
        if status.is_draining() != was_draining {
            was_draining = status.is_draining();
            server.admit(if was_draining { Admission::Only(PARTICIPANT_PREFIX.to_owned()) } else { Admission::Everybody });
        }
    }
}

/// When credentials that are issued until now have expired: as long as a removed participant's are remembered.
pub(crate) fn forget_at(ttl: Duration) -> Duration {
    signaling_server::unix_now() + ttl + Duration::from_secs(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn media_behind_a_nat_is_reached_at_the_address_behind_it() {
        let peer = |named: &str, advertise: &[&str], listen: &[&str], interfaces: &[&str]| {
            let advertised: Vec<Advertise> = advertise.iter().map(|text| (*text).to_owned().try_into().unwrap()).collect();
            let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
            own_peers(&[named.parse().unwrap()], &advertised, &ips(listen), &ips(interfaces))[0].reached_at.to_string()
        };
        assert_eq!(peer("192.168.1.5:7882", &[], &[], &["192.168.1.5"]), "192.168.1.5:7882");
        assert_eq!(peer("203.0.113.9:7882", &["203.0.113.9=>10.0.0.4"], &[], &["10.0.0.4"]), "10.0.0.4:7882");
        assert_eq!(peer("203.0.113.9:7882", &["203.0.113.9"], &["10.0.0.4"], &["10.0.0.4"]), "10.0.0.4:7882");
        assert_eq!(peer("203.0.113.9:7882", &["203.0.113.9"], &[], &["10.0.0.4"]), "127.0.77.2:7882");
        assert_eq!(peer("127.0.0.1:7882", &[], &[], &[]), "127.0.0.1:7882");
    }

    #[test]
    fn the_secret_follows_from_the_key_unless_there_is_one() {
        let keys = [ApiKey { name: "a".to_owned(), secret: Secret::new("b") }];
        let derived = secret(&Turn::default(), &keys).unwrap().unwrap();
        assert!(!derived.expose().contains('b') || derived.expose().len() == 28);
        let other = [ApiKey { name: "a".to_owned(), secret: Secret::new("c") }];
        assert_ne!(secret(&Turn::default(), &other).unwrap().unwrap(), derived);
        let own = Turn { secret: Secret::new("north"), ..Turn::default() };
        assert_eq!(secret(&own, &keys).unwrap().unwrap().expose(), "north");
    }

    #[test]
    fn a_participants_credentials_are_those_that_the_server_expects() {
        let now = Duration::from_secs(1_000_000_000);
        let (user, password) = SharedSecret::new("north").issue("PA_x", now + Duration::from_secs(60));
        assert_eq!((user.as_str(), password.as_str()), ("1000000060:PA_x", EXPECTED_PASSWORD));
    }

    /// The same as in `signaling_core::relays`.
    const EXPECTED_PASSWORD: &str = "tu8Z89pZv7/UDvDr36C7GDMcbcE=";

    #[test]
    fn ranges_of_ports_must_make_sense() {
        assert_eq!(relay_ports("49152-65535").unwrap(), 49_152..=65_535);
        for wrong in ["", "1", "0-5", "9-8", "1-70000"] {
            assert!(relay_ports(wrong).is_err(), "{wrong}");
        }
    }
}
