//! The configuration file of `sluice-turn`: every option with its default, and what it means for the server.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use turn_server::{Certificates, Limits, Policy, Prefix, RelayAddress, Rule, SharedSecret, TurnConfig};

/// Every option. Unknown ones are an error.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    listen: Vec<IpAddr>,
    udp_port: u16,
    tcp_port: u16,
    tls_port: u16,
    udp: bool,
    tcp: bool,
    certificate: PathBuf,
    key: PathBuf,
    relay: Vec<String>,
    relay_ports: String,
    realm: String,
    secret_file: PathBuf,
    users_file: PathBuf,
    allow: Vec<String>,
    deny: Vec<String>,
    tcp_relays: bool,
    discovery: String,
    max_allocations: usize,
    max_allocations_per_user: usize,
    max_allocations_per_address: usize,
    max_rate_bytes: u64,
    max_total_rate_bytes: u64,
    max_streams: usize,
    max_streams_per_address: usize,
    /// Address of `/metrics`.
    pub(super) metrics: Option<SocketAddr>,
    #[serde(deserialize_with = "span")]
    pub(super) drain: Duration,
    pub(super) log_level: String,
}

impl Default for File {
    fn default() -> Self {
        let (defaults, limits) = (TurnConfig::default(), Limits::default());
        Self {
            listen: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
            udp_port: 3478,
            tcp_port: 3478,
            tls_port: 5349,
            udp: true,
            tcp: true,
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            relay: Vec::new(),
            relay_ports: format!("{}-{}", defaults.relay_ports.start(), defaults.relay_ports.end()),
            realm: defaults.realm,
            secret_file: PathBuf::new(),
            users_file: PathBuf::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            tcp_relays: defaults.tcp_relays,
            discovery: String::new(),
            max_allocations: limits.allocations,
            max_allocations_per_user: limits.allocations_per_user,
            max_allocations_per_address: limits.allocations_per_address,
            max_rate_bytes: 0,
            max_total_rate_bytes: 0,
            max_streams: defaults.max_streams,
            max_streams_per_address: defaults.max_streams_per_address,
            metrics: None,
            drain: Duration::from_secs(300),
            log_level: "info".to_owned(),
        }
    }
}

fn span<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(serde::de::Error::custom)
}

impl File {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Every option with its default, as a file.
    pub(super) fn describe() -> String {
        include_str!("sluice-turn.toml").trim_end().to_owned()
    }

    /// Secrets of time-limited users: one a line, the first one is issued with. SLUICE_TURN_SECRET replaces the file.
    pub(super) fn secrets(&self) -> anyhow::Result<Vec<SharedSecret>> {
        if let Ok(secret) = std::env::var("SLUICE_TURN_SECRET") {
            return Ok(vec![SharedSecret::new(secret)]);
        }
        Ok(lines(&self.secret_file, "secret_file")?.into_iter().map(SharedSecret::new).collect())
    }

    /// What the server is started with.
    pub(super) fn config(&self) -> anyhow::Result<TurnConfig> {
        let secrets = self.secrets()?;
        let user = |line: String| {
            let (user, password) = line.split_once(':').context("`users_file`: a line is not \"user: password\"")?;
            Ok((user.trim().to_owned(), password.trim().to_owned()))
        };
        let users = lines(&self.users_file, "users_file")?.into_iter().map(user).collect::<anyhow::Result<Vec<_>>>()?;
        if secrets.is_empty() && users.is_empty() {
            bail!("nobody may use this server: `secret_file`, SLUICE_TURN_SECRET or `users_file`");
        }
        let certificates = match (self.certificate.as_os_str().is_empty(), self.key.as_os_str().is_empty()) {
            (true, true) => None,
            (false, false) => Some(Certificates::load(&self.certificate, &self.key)?),
            _ => bail!("`certificate` and `key` go together"),
        };
        let (first, last) = self.relay_ports.split_once('-').context("`relay_ports`: write \"49152-65535\"")?;
        let relay_ports = first.trim().parse()?..=last.trim().parse()?;
        if relay_ports.is_empty() || *relay_ports.start() == 0 {
            bail!("`relay_ports` = {:?} is empty", self.relay_ports);
        }
        let parsed = |list: &[String]| list.iter().map(|text| text.parse::<Rule>()).collect::<Result<Vec<_>, _>>();
        let deny = self.deny.iter().map(|text| text.parse::<Prefix>()).collect::<Result<Vec<_>, _>>();
        Ok(TurnConfig {
            udp_port: self.udp.then_some(self.udp_port),
            tcp_port: self.tcp.then_some(self.tcp_port),
            tls_port: certificates.is_some().then_some(self.tls_port),
            listen: self.listen.clone(),
            certificates,
            relays: self.relays()?,
            relay_ports,
            realm: self.realm.clone(),
            users,
            secrets,
            policy: Policy {
                allow: parsed(&self.allow).map_err(|error| anyhow::anyhow!("`allow`: {error}"))?,
                deny: deny.map_err(|error| anyhow::anyhow!("`deny`: {error}"))?,
                // a TCP relay would reach what is for the operator
                listening: self.metrics.into_iter().collect(),
                ..Policy::default()
            },
            limits: Limits {
                allocations: self.max_allocations,
                allocations_per_user: self.max_allocations_per_user,
                allocations_per_address: self.max_allocations_per_address,
                allocation_rate: Some(self.max_rate_bytes).filter(|rate| *rate > 0),
                total_rate: Some(self.max_total_rate_bytes).filter(|rate| *rate > 0),
            },
            tcp_relays: self.tcp_relays,
            discovery: self.second()?,
            max_streams: self.max_streams,
            max_streams_per_address: self.max_streams_per_address,
        })
    }

    fn relays(&self) -> anyhow::Result<Vec<RelayAddress>> {
        let relay = |text: &String| {
            let (public, bind) = text.split_once("=>").unwrap_or((text, text));
            let address = |text: &str| text.trim().parse::<IpAddr>().with_context(|| format!("`relay`: {text:?} is not an address"));
            anyhow::Ok(RelayAddress { public: address(public)?, bind: address(bind)? })
        };
        let relays = self.relay.iter().map(relay).collect::<anyhow::Result<Vec<_>>>()?;
        for relay in &relays {
            let is_twice = relays.iter().filter(|other| other.public.is_ipv4() == relay.public.is_ipv4()).count() > 1;
            if is_twice || relay.public.is_unspecified() || relay.public.is_ipv4() != relay.bind.is_ipv4() {
                bail!("`relay`: one address of each family, the one that peers see, with \"=>\" and the one to bind behind a NAT");
            }
        }
        if !relays.is_empty() {
            return Ok(relays);
        }
        let specific: Vec<_> = self.listen.iter().filter(|ip| !ip.is_unspecified()).collect();
        if specific.is_empty() {
            bail!("`relay` is needed: the address that peers see");
        }
        let first_of = |is_v4: bool| specific.iter().find(|ip| ip.is_ipv4() == is_v4).map(|ip| RelayAddress { public: **ip, bind: **ip });
        Ok([first_of(true), first_of(false)].into_iter().flatten().collect())
    }

    fn second(&self) -> anyhow::Result<Option<(IpAddr, u16)>> {
        if self.discovery.is_empty() {
            return Ok(None);
        }
        let address: SocketAddr = self.discovery.parse().context("`discovery`: write the second address and port as \"192.0.2.2:3479\"")?;
        Ok(Some((address.ip(), address.port())))
    }
}

/// Lines that are neither empty nor comments.
fn lines(path: &Path, option: &str) -> anyhow::Result<Vec<String>> {
    if path.as_os_str().is_empty() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("`{option}` = {}", path.display()))?;
    Ok(text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_described_file_has_every_option_with_its_default() {
        let described = File::describe();
        let uncommented: String = described
            .lines()
            .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
            .fold(String::new(), |text, line| text + line + "\n");
        // options that are off have no default to write
        let file: File = toml::from_str(&uncommented).unwrap();
        assert_eq!(format!("{file:?}"), format!("{:?}", File::default()));
        let options = format!("{file:?}").matches(": ").count();
        assert!(uncommented.lines().count() + 1 >= options.min(26), "{uncommented}");
    }

    #[test]
    fn the_example_in_deploy_would_be_started() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/examples/turn-only.toml");
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("turn-secret");
        fs::write(&secret, "north\n").unwrap();
        // what it names is on the machine that it is for
        let file = File { secret_file: secret, certificate: PathBuf::new(), key: PathBuf::new(), ..File::read(&path).unwrap() };
        let config = file.config().unwrap();
        assert_eq!((config.relays.len(), config.policy.allow.len(), config.secrets.len()), (1, 1, 1));
    }

    #[test]
    fn an_unknown_option_is_an_error() {
        assert!(toml::from_str::<File>("lisen = []").unwrap_err().to_string().contains("lisen"));
    }

    #[test]
    fn a_server_that_nobody_may_use_does_not_start() {
        let file = File { relay: vec!["192.0.2.1".to_owned()], ..File::default() };
        assert!(file.config().unwrap_err().to_string().contains("nobody"));
    }

    #[test]
    fn the_relay_address_is_the_listening_one_unless_it_is_told() {
        let file = File { listen: vec!["192.0.2.1".parse().unwrap()], ..File::default() };
        assert_eq!(file.relays().unwrap(), [RelayAddress { public: "192.0.2.1".parse().unwrap(), bind: "192.0.2.1".parse().unwrap() }]);
        assert!(File::default().relays().is_err());
        let file = File { relay: vec!["203.0.113.9=>10.0.0.4".to_owned()], ..File::default() };
        assert_eq!(file.relays().unwrap(), [RelayAddress { public: "203.0.113.9".parse().unwrap(), bind: "10.0.0.4".parse().unwrap() }]);
        for wrong in ["0.0.0.0", "203.0.113.9=>::1", "host"] {
            assert!(File { relay: vec![wrong.to_owned()], ..File::default() }.relays().is_err(), "{wrong}");
        }
    }
}
