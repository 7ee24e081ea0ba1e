//! Relations between options: what each option alone allows but the whole does not.
//!
//! In: a typed configuration and its API keys. Out: findings that name the options. No IO: the same configuration
//! gives the same findings on every machine.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sfu_node::AdvertisedAddress;
use signaling_server::{Collector, FREE_PROFILE_BYTES, IpPrefix, MAX_REQUEST_BODY_BYTES};
use tracing_subscriber::EnvFilter;

use super::advertise::Advertise;
use super::keys::ApiKey;
use super::model::Config;
use super::units::{ByteSize, Span};
use crate::doctor::relay::Url;
use crate::turn;

/// What is wrong, or looks wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    /// False: the server starts all the same.
    pub(crate) is_error: bool,
    /// For people; names the options.
    pub(crate) message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", if self.is_error { "error" } else { "warning" }, self.message)
    }
}

/// All findings; `shards` is the number of shards that `media.shards` stands for on this machine.
pub(crate) fn check(config: &Config, keys: &[ApiKey], shards: u16) -> Vec<Finding> {
    let mut findings = Vec::new();
    check_keys(config, keys, &mut findings);
    check_addresses(config, &mut findings);
    check_ports(config, shards, &mut findings);
    check_turn(config, shards, &mut findings);
    check_metrics(config, &mut findings);
    if config.limits.idle_timeout.0 < LEAST_IDLE_TIMEOUT {
        findings.push(error(format!(
            "`limits.idle_timeout` = {} is too short: clients are asked three times within it whether they are there, so it is {} at least",
            config.limits.idle_timeout,
            Span(LEAST_IDLE_TIMEOUT)
        )));
    }
    let limits = &config.limits;
    for (option, rate) in [
        ("joins_per_ip_per_second", limits.joins_per_ip_per_second),
        ("api_per_key_per_second", limits.api_per_key_per_second),
        ("api_per_ip_per_second", limits.api_per_ip_per_second),
    ] {
        if !(rate.is_finite() && rate > 0.0) {
            findings.push(error(format!("`limits.{option}` = {rate}: a rate is a number above 0")));
        }
    }
    check_memory(config, &mut findings);
    if let Err(e) = EnvFilter::builder().parse(&config.log.level) {
        findings.push(error(format!("`log.level` = {:?} is not a level: {e}", config.log.level)));
    }
    findings
}

/// A slow mobile connection takes up to a second for a ping and its answer.
const LEAST_IDLE_TIMEOUT: Duration = Duration::from_secs(3);

/// What all clients make this process hold is enough for the largest thing of one.
fn check_memory(config: &Config, findings: &mut Vec<Finding>) {
    let limits = &config.limits;
    for (option, bytes, part, part_bytes) in [
        ("all_waiting_messages", limits.all_waiting_messages.0, "`limits.max_message`", limits.max_message.0),
        ("all_large_messages", limits.all_large_messages.0, "`limits.room_profiles`", limits.room_profiles.0),
        ("all_request_bodies", limits.all_request_bodies.0, "the largest request", MAX_REQUEST_BODY_BYTES),
    ] {
        if bytes < part_bytes {
            findings.push(error(format!(
                "`limits.{option}` = {} is less than {part} = {}: a client alone would find no room",
                ByteSize(bytes),
                ByteSize(part_bytes)
            )));
        }
    }
    let of_room = usize::try_from(config.rooms.max_participants).ok().filter(|people| *people > 0).unwrap_or(usize::MAX);
    let people = of_room.min(limits.max_participants);
    let whole = limits.room_profiles.0.saturating_add(people.saturating_mul(FREE_PROFILE_BYTES));
    if (limits.room_profiles.0..whole).contains(&limits.all_large_messages.0) {
        findings.push(warning(format!(
            "`limits.all_large_messages` = {} is less than a room may have: {} of `limits.room_profiles`, and {} each of up to {people} people \
             (`rooms.max_participants`, `limits.max_participants`). Nobody could join a room that has as much",
            ByteSize(limits.all_large_messages.0),
            ByteSize(limits.room_profiles.0),
            ByteSize(FREE_PROFILE_BYTES),
        )));
    }
}

fn check_metrics(config: &Config, findings: &mut Vec<Finding>) {
    let metrics = &config.metrics;
    match metrics.listen.parse::<SocketAddr>() {
        Ok(_) => {}
        Err(_) if metrics.listen.is_empty() => {}
        Err(_) => findings.push(error(format!("`metrics.listen`: {:?} is not an address with a port", metrics.listen))),
    }
    if !config.telemetry.otlp.is_empty()
        && let Err(e) = config.telemetry.otlp.parse::<Collector>()
    {
        findings.push(error(format!("`telemetry.otlp`: {e}")));
    }
    for block in &metrics.allow {
        if let Err(e) = block.parse::<IpPrefix>() {
            findings.push(error(format!("`metrics.allow`: {e}")));
        }
    }
}

fn check_keys(config: &Config, keys: &[ApiKey], findings: &mut Vec<Finding>) {
    if keys.is_empty() {
        findings.push(error(
            "no API keys: name a file in `auth.keys_file` or set the environment variable SLUICE_AUTH__KEYS=\"key: secret\"".to_owned(),
        ));
    }
    let public = public_addresses(config);
    for key in keys {
        if key.is_development() {
            for (option, ip) in &public {
                findings.push(error(format!(
                    "Development keys are refused on a public address: key `{}` of `auth.keys` or `auth.keys_file` with `{option}` = {ip}",
                    key.name
                )));
            }
        } else if key.secret.expose().len() < MIN_SECRET_BYTES {
            findings.push(warning(format!(
                "the secret of key `{}` is shorter than {MIN_SECRET_BYTES} bytes and can be guessed from a token",
                key.name
            )));
        }
    }
    if config.demo.tokens {
        for (option, ip) in &public {
            findings.push(error(format!(
                "`demo.tokens` = true lets everybody into every room and is refused on a public address: `{option}` = {ip}"
            )));
        }
    }
}

/// RFC 7518 §3.2: an HS256 key has at least the size of the hash.
const MIN_SECRET_BYTES: usize = 32;

/// Options that let strangers reach this server, with the address that does. An unspecified address stands for all of
/// the machine's and so for public ones; a trusted proxy says that clients come from elsewhere. Media alone is no way in: clients need a token first, and get it over HTTP.
fn public_addresses(config: &Config) -> Vec<(&'static str, String)> {
    let mut public = Vec::new();
    if is_public(config.server.listen.ip()) {
        public.push(("server.listen", config.server.listen.ip().to_string()));
    }
    let advertised = config.media.advertise.iter().map(|Advertise(address)| address.public);
    public.extend(advertised.filter(|ip| is_public(*ip)).map(|ip| ("media.advertise", ip.to_string())));
    if !config.media.detect_address_with.is_empty() {
        public.push(("media.detect_address_with", config.media.detect_address_with.clone()));
    }
    public.extend(config.server.trusted_proxies.iter().map(|proxy| ("server.trusted_proxies", proxy.clone())));
    public
}

/// Neither this machine (RFC 1122 §3.2.1.3, RFC 4291 §2.5.3) nor a private network (RFC 1918, 3927, 4193, 4291).
fn is_public(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

fn check_addresses(config: &Config, findings: &mut Vec<Finding>) {
    for proxy in &config.server.trusted_proxies {
        if let Err(e) = proxy.parse::<IpPrefix>() {
            findings.push(error(format!("`server.trusted_proxies`: {e}")));
        }
    }
    for region in &config.server.regions {
        if region_of(region).is_none() {
            findings
                .push(error(format!("`server.regions`: {region:?} is not a name and an address such as \"eu=wss://call.example.org\"")));
        }
    }
    for Advertise(address) in &config.media.advertise {
        check_advertised(*address, &config.media.listen, findings);
    }
    let server = &config.media.detect_address_with;
    if !server.is_empty() && !server.starts_with("stun:") {
        findings.push(error(format!("`media.detect_address_with` = {server:?}: write it as \"stun:host:port\"")));
    }
    if !server.is_empty() && !config.media.advertise.is_empty() {
        findings.push(error("`media.detect_address_with` asks for what `media.advertise` says already: leave one of them out".to_owned()));
    }
    for ip in &config.media.listen {
        if ip.is_unspecified() && config.media.listen.len() > 1 {
            findings.push(error(format!("`media.listen`: {ip} already stands for all addresses, leave it empty")));
        }
        if ip.is_loopback() && config.media.advertise.iter().any(|Advertise(address)| !address.public.is_loopback()) {
            findings.push(error(format!("`media.listen` = {ip} can't be reached under the addresses of `media.advertise`")));
        }
    }
}

/// Name and address of an entry of `server.regions`.
pub(crate) fn region_of(entry: &str) -> Option<(&str, &str)> {
    let (name, url) = entry.split_once('=')?;
    let host = ["wss://", "ws://", "https://", "http://"].into_iter().find_map(|scheme| url.strip_prefix(scheme))?;
    let is_host = !host.is_empty() && !host.contains(|letter: char| letter.is_whitespace() || matches!(letter, '@' | '?' | '#'));
    (!name.is_empty() && is_host).then_some((name, url))
}

fn check_advertised(address: AdvertisedAddress, listen: &[IpAddr], findings: &mut Vec<Finding>) {
    let AdvertisedAddress { public, local } = address;
    if public.is_unspecified() || public.is_multicast() {
        findings.push(error(format!("`media.advertise`: clients can't send to {public}")));
    }
    let Some(local) = local else { return };
    if local.is_ipv4() != public.is_ipv4() {
        findings.push(error(format!("`media.advertise` = {address}: both addresses have to be of one family")));
    }
    if !listen.is_empty() && listen.iter().all(|bound| *bound != local && !(bound.is_unspecified() && bound.is_ipv4() == local.is_ipv4())) {
        findings.push(error(format!("`media.advertise` = {address}: `media.listen` does not have {local}")));
    }
}

fn check_ports(config: &Config, shards: u16, findings: &mut Vec<Finding>) {
    let (media, turn) = (&config.media, &config.turn);
    let has_certificate = !config.tls.certificate.as_os_str().is_empty();
    let tcp = [
        ("server.listen", Some(config.server.listen.port())),
        ("media.tcp_port", media.tcp.then_some(media.tcp_port)),
        ("turn.tcp_port", turn.enabled.then_some(turn.tcp_port)),
        ("turn.tls_port", (turn.enabled && has_certificate).then_some(turn.tls_port)),
        ("metrics.listen", config.metrics.listen.parse::<SocketAddr>().ok().map(|address| address.port())),
    ];
    let tcp = tcp.map(|(option, port)| (option, port.filter(|port| *port != 0)));
    for (index, (option, port)) in tcp.iter().enumerate() {
        let Some(port) = port else { continue };
        if let Some((other, _)) = tcp.iter().take(index).find(|(_, other)| *other == Some(*port)) {
            findings.push(error(format!("`{other}` and `{option}` both use TCP port {port}")));
        }
    }
    if media.udp_port != 0 && media.udp_port.checked_add(shards.saturating_sub(1)).is_none() {
        findings.push(error(format!(
            "`media.udp_port` = {} leaves no ports for the {shards} shards of `media.shards`: each takes one, upwards",
            media.udp_port
        )));
    }
}

fn check_turn(config: &Config, shards: u16, findings: &mut Vec<Finding>) {
    if config.server.one_port && config.server.listen.port() == 0 {
        findings.push(error("`server.one_port` needs a port in `server.listen`: clients are told of it".to_owned()));
    }
    let (turn, tls) = (&config.turn, &config.tls);
    let has_certificate = !tls.certificate.as_os_str().is_empty();
    if has_certificate == tls.key.as_os_str().is_empty() {
        findings.push(error("`tls.certificate` and `tls.key` go together".to_owned()));
    }
    for url in &turn.servers {
        if Url::parse(url).is_none() {
            findings.push(error(format!("`turn.servers`: write {url:?} as \"turn:host:port?transport=udp\"")));
        }
    }
    if !turn.servers.is_empty() && turn.secret_file.as_os_str().is_empty() && turn.secret.expose().is_empty() {
        findings.push(error("`turn.servers` need a secret that they know too, in `turn.secret_file`".to_owned()));
    }
    if !turn.enabled {
        return;
    }
    let options = [
        turn::relay_ports(&turn.relay_ports).map(|_| ()),
        turn::parsed::<turn_server::Rule>(&turn.allow, "turn.allow").map(|_| ()),
        turn::parsed::<turn_server::Prefix>(&turn.deny, "turn.deny").map(|_| ()),
    ];
    findings.extend(options.into_iter().filter_map(Result::err).map(|wrong| error(format!("{wrong:#}"))));
    if has_certificate && turn.domain.is_empty() {
        findings
            .push(warning("`turn.domain` is empty: clients are not told of TURN in TLS, because a certificate is for a name".to_owned()));
    }
    let first = config.media.udp_port;
    if turn.udp_port != 0 && first != 0 && (first..first.saturating_add(shards.max(1))).contains(&turn.udp_port) {
        findings.push(error(format!("`media.udp_port` and `turn.udp_port` both use UDP port {}", turn.udp_port)));
    }
}

fn error(message: String) -> Finding {
    Finding { is_error: true, message }
}

fn warning(message: String) -> Finding {
    Finding { is_error: false, message }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use signaling_api::Secret;

    use super::*;

    #[test]
    fn development_defaults_are_fine() {
        assert_eq!(check(&Config::development(), &[ApiKey::development()], 2), []);
    }

    #[test]
    fn development_keys_are_refused_on_a_public_address() {
        for listen in ["0.0.0.0:7880", "[::]:7880", "203.0.113.9:7880", "[2001:db8::1]:7880", "[::ffff:203.0.113.9]:7880"] {
            let mut config = Config::development();
            config.demo.tokens = false;
            config.server.listen = listen.parse().unwrap();
            let findings = check(&config, &[ApiKey::development()], 1);
            assert_eq!(findings.len(), 1, "{listen}: {findings:?}");
            assert!(findings[0].is_error);
            assert!(findings[0].message.starts_with("Development keys are refused on a public address"), "{}", findings[0]);
            assert!(findings[0].message.contains("`server.listen`") && findings[0].message.contains("`auth.keys`"));
        }
    }

    #[test]
    fn development_keys_are_refused_when_a_public_address_is_advertised() {
        let mut config = Config::development();
        config.demo.tokens = false;
        config.media.advertise = vec!["203.0.113.9".to_owned().try_into().unwrap()];
        let findings = check(&config, &[ApiKey::development()], 1);
        assert!(findings[0].message.contains("`media.advertise` = 203.0.113.9"), "{findings:?}");
    }

    #[test]
    fn development_keys_and_free_tokens_are_refused_behind_a_proxy() {
        let mut config = Config::development();
        config.server.trusted_proxies = vec!["127.0.0.1".to_owned()];
        let findings = messages_of_errors(&check(&config, &[ApiKey::development()], 1));
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings.iter().all(|message| message.contains("`server.trusted_proxies` = 127.0.0.1")), "{findings:?}");
    }

    #[test]
    fn every_shards_port_and_that_of_metrics_are_compared() {
        let mut config = public();
        config.media.udp_port = 3476;
        assert_eq!(messages(&config, 2), [""; 0]);
        assert_eq!(messages(&config, 4), ["`media.udp_port` and `turn.udp_port` both use UDP port 3478"]);
        config.media.udp_port = 7882;
        for (port, option) in [(7880, "server.listen"), (7881, "media.tcp_port"), (3478, "turn.tcp_port")] {
            config.metrics.listen = format!("10.0.0.4:{port}");
            assert_eq!(messages(&config, 1), [format!("`{option}` and `metrics.listen` both use TCP port {port}")]);
        }
        config.turn.enabled = false;
        assert_eq!(messages(&config, 1), [""; 0], "nobody has the port of TURN");
        config.metrics.listen = "10.0.0.4:7881".to_owned();
        assert_eq!(messages(&config, 1), ["`media.tcp_port` and `metrics.listen` both use TCP port 7881"]);
    }

    #[test]
    fn turn_servers_elsewhere_need_a_secret_that_they_know() {
        let mut config = public();
        config.turn.servers = vec!["turn:turn.example.org:3478?transport=udp".to_owned()];
        assert_eq!(messages(&config, 1), ["`turn.servers` need a secret that they know too, in `turn.secret_file`"]);
        config.turn.secret = Secret::new("north");
        assert_eq!(messages(&config, 1), [""; 0]);
        config.turn.servers = vec!["https://turn.example.org".to_owned()];
        assert!(messages(&config, 1)[0].contains("turn:host:port"));
    }

    fn messages_of_errors(findings: &[Finding]) -> Vec<String> {
        findings.iter().filter(|finding| finding.is_error).map(|finding| finding.message.clone()).collect()
    }

    #[test]
    fn development_keys_serve_loopback_and_private_networks() {
        for listen in ["127.0.0.1:7880", "[::1]:7880", "192.168.1.5:7880", "10.0.0.1:7880", "[fd00::1]:7880", "[fe80::1]:7880"] {
            let mut config = Config::development();
            config.server.listen = listen.parse().unwrap();
            assert_eq!(check(&config, &[ApiKey::development()], 1), [], "{listen}");
        }
    }

    #[test]
    fn the_development_secret_under_another_name_is_still_one() {
        let config = public();
        let keys = [ApiKey { name: "mine".to_owned(), secret: Secret::new("secret") }];
        assert!(check(&config, &keys, 1)[0].message.starts_with("Development keys"));
    }

    #[test]
    fn free_tokens_are_refused_on_a_public_address() {
        let mut config = public();
        config.demo.tokens = true;
        let findings = check(&config, &[strong_key()], 1);
        assert!(findings[0].message.contains("`demo.tokens`") && findings[0].message.contains("`server.listen`"), "{findings:?}");
    }

    #[test]
    fn a_short_secret_is_a_warning_that_does_not_show_it() {
        let keys = [ApiKey { name: "mine".to_owned(), secret: Secret::new("hunter2") }];
        let findings = check(&public(), &keys, 1);
        assert!(!findings[0].is_error);
        assert!(findings[0].message.contains("`mine`") && !findings[0].message.contains("hunter2"), "{}", findings[0]);
    }

    #[test]
    fn no_keys_is_an_error_that_names_both_ways() {
        let findings = check(&public(), &[], 1);
        assert!(findings[0].message.contains("auth.keys_file") && findings[0].message.contains("SLUICE_AUTH__KEYS"));
    }

    #[test]
    fn one_tcp_port_can_not_serve_two() {
        let mut config = public();
        config.media.tcp_port = 7880;
        assert_eq!(messages(&config, 1), ["`server.listen` and `media.tcp_port` both use TCP port 7880"]);
        config.media.tcp = false;
        assert_eq!(messages(&config, 1), [""; 0]);
    }

    #[test]
    fn the_last_shard_needs_a_port_too() {
        let mut config = public();
        config.media.udp_port = 65_534;
        assert_eq!(messages(&config, 2), [""; 0]);
        assert!(messages(&config, 3)[0].contains("`media.udp_port` = 65534"));
    }

    #[test]
    fn addresses_must_be_usable() {
        let mut config = public();
        config.server.trusted_proxies = vec!["10.0.0.0/40".to_owned()];
        assert!(messages(&config, 1)[0].starts_with("`server.trusted_proxies`: "));
        let mut config = public();
        config.media.advertise = vec!["0.0.0.0".to_owned().try_into().unwrap()];
        assert!(messages(&config, 1)[0].starts_with("`media.advertise`: "));
        let mut config = public();
        config.media.listen = vec!["127.0.0.1".parse().unwrap()];
        config.media.advertise = vec!["203.0.113.9".to_owned().try_into().unwrap()];
        assert!(messages(&config, 1)[0].contains("`media.listen`") && messages(&config, 1)[0].contains("`media.advertise`"));
    }

    #[test]
    fn a_region_is_a_name_and_an_address() {
        let mut config = public();
        config.server.regions = vec!["eu=wss://eu.example.org".to_owned(), "us=https://us.example.org:444".to_owned()];
        assert_eq!(messages(&config, 1), [""; 0]);
        for nonsense in ["", "eu", "=wss://a", "eu=ftp://a", "eu=wss://", "eu=wss://a@b", "wss://a?x=1"] {
            config.server.regions = vec![nonsense.to_owned()];
            assert!(messages(&config, 1)[0].starts_with("`server.regions`: "), "{nonsense}");
        }
    }

    #[test]
    fn the_local_end_of_an_advertised_address_must_be_bound_and_of_its_family() {
        let check = |advertise: &str, listen: &[&str]| {
            let mut config = public();
            config.media.advertise = vec![advertise.to_owned().try_into().unwrap()];
            config.media.listen = listen.iter().map(|ip| ip.parse().unwrap()).collect();
            messages(&config, 1)
        };
        assert_eq!(check("203.0.113.9=>10.0.0.4", &["10.0.0.4"]), [""; 0]);
        assert_eq!(check("203.0.113.9=>10.0.0.4", &["0.0.0.0"]), [""; 0]);
        assert_eq!(check("203.0.113.9=>10.0.0.4", &[]), [""; 0]);
        assert!(check("203.0.113.9=>10.0.0.4", &["10.0.0.5"])[0].contains("`media.listen` does not have 10.0.0.4"));
        assert!(check("203.0.113.9=>fd00::4", &[])[0].contains("one family"));
    }

    #[test]
    fn a_public_address_is_either_told_or_asked_for() {
        let mut config = public();
        config.media.detect_address_with = "stun:stun.example.org".to_owned();
        assert_eq!(messages(&config, 1), [""; 0]);
        config.media.advertise = vec!["203.0.113.9".to_owned().try_into().unwrap()];
        assert!(messages(&config, 1)[0].contains("`media.detect_address_with`") && messages(&config, 1)[0].contains("`media.advertise`"));
        config.media.advertise.clear();
        config.media.detect_address_with = "stun.example.org".to_owned();
        assert!(messages(&config, 1)[0].contains("stun:host:port"));
    }

    #[test]
    fn options_of_turn_must_fit_together() {
        let mut config = public();
        config.turn.tcp_port = 7881;
        config.turn.relay_ports = "9-8".to_owned();
        config.turn.allow = vec!["everybody".to_owned()];
        config.tls.key = "key.pem".into();
        let found = messages(&config, 1);
        assert_eq!(found.len(), 4, "{found:?}");
        for part in [
            "`tls.certificate` and `tls.key`",
            "`turn.relay_ports` = \"9-8\"",
            "`turn.allow`: \"everybody\"",
            "`media.tcp_port` and `turn.tcp_port`",
        ] {
            assert!(found.iter().any(|message| message.contains(part)), "{part}: {found:?}");
        }
        config.turn.enabled = false;
        assert_eq!(messages(&config, 1).len(), 1);
    }

    #[test]
    fn metrics_need_an_address_of_their_own_or_blocks() {
        let mut config = public();
        config.metrics.listen = "0.0.0.0:9090".to_owned();
        assert_eq!(messages(&config, 1), [""; 0]);
        config.metrics.listen = "0.0.0.0:7880".to_owned();
        assert!(messages(&config, 1)[0].contains("`server.listen` and `metrics.listen`"));
        config.metrics.listen = "9090".to_owned();
        assert!(messages(&config, 1)[0].starts_with("`metrics.listen`: "));
        config.metrics.listen = String::new();
        config.metrics.allow = vec!["everybody".to_owned()];
        assert!(messages(&config, 1)[0].starts_with("`metrics.allow`: "));
    }

    #[test]
    fn a_client_has_time_to_say_that_it_is_there() {
        let mut config = public();
        for (seconds, is_fine) in [(0, false), (2, false), (3, true), (3600, true)] {
            config.limits.idle_timeout = Span::secs(seconds);
            let found = messages(&config, 1);
            assert_eq!(found.is_empty(), is_fine, "{found:?}");
            assert!(is_fine || found[0].contains("`limits.idle_timeout`") && found[0].contains("3s"), "{found:?}");
        }
    }

    #[test]
    fn a_rate_is_a_number_above_0() {
        let mut config = public();
        for (rate, is_fine) in [(0.5, true), (0.0, false), (-1.0, false), (f64::NAN, false), (f64::INFINITY, false)] {
            config.limits.api_per_key_per_second = rate;
            let found = messages(&config, 1);
            assert_eq!(found.is_empty(), is_fine, "{found:?}");
            assert!(is_fine || found[0].contains("`limits.api_per_key_per_second`"), "{found:?}");
        }
    }

    #[test]
    fn what_all_clients_have_is_enough_for_one() {
        let mut config = public();
        config.limits.all_waiting_messages = ByteSize(100_000);
        config.limits.all_large_messages = ByteSize(1_000_000);
        config.limits.all_request_bodies = ByteSize(10_000_000);
        let found = messages(&config, 1);
        assert!(found[0].contains("`limits.all_waiting_messages`") && found[0].contains("`limits.max_message`"), "{found:?}");
        assert!(found[1].contains("`limits.all_large_messages`") && found[1].contains("`limits.room_profiles`"), "{found:?}");
        assert!(found[2].contains("`limits.all_request_bodies`") && found[2].contains("10 MiB"), "{found:?}");
    }

    #[test]
    fn a_newcomer_of_a_full_room_has_to_find_room_for_all_of_it() {
        let mut config = public();
        for (large_mib, of_rooms, of_all, is_fine) in [
            (8, 0, 20_000, false),
            (86, 0, 20_000, false),
            (87, 0, 20_000, true),
            (8, 1_000, 20_000, false),
            (12, 1_000, 20_000, true),
            (12, 0, 1_000, true),
        ] {
            config.limits.all_large_messages = ByteSize(large_mib << 20);
            (config.rooms.max_participants, config.limits.max_participants) = (of_rooms, of_all);
            let found = check(&config, &[strong_key()], 1);
            assert_eq!(found.is_empty(), is_fine, "{found:?}");
            assert!(is_fine || !found[0].is_error && found[0].message.contains("`rooms.max_participants`"), "{found:?}");
        }
    }

    #[test]
    fn a_log_level_must_parse() {
        let mut config = public();
        config.log.level = "info,sfu_node=loud".to_owned();
        assert!(messages(&config, 1)[0].starts_with("`log.level`"));
    }

    fn public() -> Config {
        let mut config = Config::default();
        config.server.listen = "0.0.0.0:7880".parse().unwrap();
        config
    }

    fn strong_key() -> ApiKey {
        ApiKey { name: "mine".to_owned(), secret: Secret::new("0123456789abcdef0123456789abcdef") }
    }

    fn messages(config: &Config, shards: u16) -> Vec<String> {
        check(config, &[strong_key()], shards).into_iter().map(|finding| finding.message).collect()
    }
}
