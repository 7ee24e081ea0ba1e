//! Whole configuration files for common roles, printed from the types: `sluice config example NAME`, deploy/config/examples/.
//!
//! Each is a change of the defaults, so it can't name an option that does not exist or a value that does not parse.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::explain::{comment, toml_value};
use super::load::leaves;
use super::model::{Config, SECTIONS};
use super::units::{ByteSize, Span};

/// A role of a server.
pub(crate) struct Example {
    /// Name of its file.
    pub(crate) name: &'static str,
    /// What it is for.
    about: &'static [&'static str],
    set: fn(&mut Config),
}

/// All examples.
pub(crate) const EXAMPLES: &[Example] = &[
    Example {
        name: "single-node",
        about: &["One server with a public address; a proxy on the same machine (Caddy, nginx) ends TLS and passes WebSockets on."],
        set: |config| {
            in_earnest(config);
            behind_local_proxy(config);
            config.media.advertise = advertise("203.0.113.9");
        },
    },
    Example {
        name: "behind-nat",
        about: &[
            "A server in a private network whose router or cloud translates a public address one to one, TLS as in single-node.",
            "The NAT forwards: UDP 7882 and up (one for each shard), TCP 7881, and 3478 of both for TURN.",
        ],
        set: |config| {
            in_earnest(config);
            behind_local_proxy(config);
            config.media.advertise = advertise("203.0.113.9=>10.0.0.4");
        },
    },
    Example {
        name: "address-that-changes",
        about: &["A server behind a NAT whose public address is not known beforehand: it asks a STUN server at each start."],
        set: |config| {
            in_earnest(config);
            behind_local_proxy(config);
            config.media.detect_address_with = "stun:stun.example.org:3478".to_owned();
        },
    },
    Example {
        name: "one-port-443",
        about: &[
            "Everything on TCP port 443 without a proxy: HTTPS, WebSocket, ICE over TCP and TURN in TLS. UDP is used where it gets through.",
            "The process needs CAP_NET_BIND_SERVICE (as deploy/systemd/sluice.service has it).",
        ],
        set: |config| {
            in_earnest(config);
            with_certificate(config);
            config.server.listen = ([0_u16; 8], 443).into();
            config.server.one_port = true;
            config.media.advertise = advertise("203.0.113.9");
            config.turn.domain = "call.example.org".to_owned();
        },
    },
    Example {
        name: "turn-elsewhere",
        about: &["Calls here, TURN on machines of its own (see turn-only.toml): their secret is in both files."],
        set: |config| {
            in_earnest(config);
            behind_local_proxy(config);
            config.media.advertise = advertise("203.0.113.9");
            config.turn.enabled = false;
            config.turn.servers = [
                "turn:turn.example.org:3478?transport=udp",
                "turn:turn.example.org:3478?transport=tcp",
                "turns:turn.example.org:5349?transport=tcp",
            ]
            .map(str::to_owned)
            .to_vec();
            config.turn.secret_file = PathBuf::from("/etc/sluice/turn-secret");
        },
    },
    Example {
        name: "region",
        about: &[
            "One of several servers in different regions. Clients ask /settings/regions where they can go; Prometheus scrapes from the private network.",
        ],
        set: |config| {
            in_earnest(config);
            behind_local_proxy(config);
            config.server.region = "eu".to_owned();
            config.server.regions = ["eu=wss://eu.example.org", "us=wss://us.example.org"].map(str::to_owned).to_vec();
            config.server.drain_timeout = Span::secs(3600);
            config.media.advertise = advertise("203.0.113.9");
            config.metrics.listen = "10.0.0.4:9464".to_owned();
            config.log.format = super::LogFormat::Json;
        },
    },
    Example {
        name: "large-broadcasts",
        about: &[
            "A machine for few rooms with thousands of listeners: rooms are spread over all shards early, and nobody keeps timelines of each listener.",
        ],
        set: |config| {
            in_earnest(config);
            behind_local_proxy(config);
            config.media.advertise = advertise("203.0.113.9");
            config.media.shard_participants = 150;
            config.limits.max_connections = 30_000;
            config.limits.sockets_per_ip = 500;
            config.metrics.timelines = ByteSize(0);
        },
    },
    Example {
        name: "private-network",
        about: &["A company's own network without the internet: no TURN, no proxy that clients could come through."],
        set: |config| {
            in_earnest(config);
            with_certificate(config);
            config.server.listen = ([10, 0, 0, 4], 443).into();
            config.server.one_port = true;
            config.media.listen = vec!["10.0.0.4".parse().unwrap_or(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))];
            config.turn.enabled = false;
        },
    },
];

/// What every server has that people rely on.
fn in_earnest(config: &mut Config) {
    config.auth.keys_file = PathBuf::from("/etc/sluice/keys");
    config.server.drain_timeout = Span::secs(120);
}

fn with_certificate(config: &mut Config) {
    config.tls.certificate = PathBuf::from("/etc/sluice/fullchain.pem");
    config.tls.key = PathBuf::from("/etc/sluice/privkey.pem");
}

fn behind_local_proxy(config: &mut Config) {
    config.server.trusted_proxies = vec!["127.0.0.1".to_owned(), "::1".to_owned()];
}

fn advertise(address: &str) -> Vec<super::advertise::Advertise> {
    address.to_owned().try_into().into_iter().collect()
}

/// The file: what differs from the defaults, each with its description.
pub(crate) fn print(example: &Example) -> String {
    let mut config = Config::default();
    (example.set)(&mut config);
    let (values, defaults) = (leaves(&config), leaves(&Config::default()));
    let mut out = String::new();
    for line in example.about {
        comment(&mut out, line);
    }
    let _ = writeln!(
        out,
        "# Generated by: sluice config example {}\n# All other options have their defaults: see ../sluice.toml.",
        example.name
    );
    for section in SECTIONS {
        let is_set =
            |option: &str| values.get(&format!("{}.{option}", section.name)) != defaults.get(&format!("{}.{option}", section.name));
        let options: Vec<_> = section.options.iter().filter(|(option, _)| is_set(option)).collect();
        if options.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n[{}]", section.name);
        for (at, (option, description)) in options.into_iter().enumerate() {
            if at > 0 {
                out.push('\n');
            }
            for line in *description {
                comment(&mut out, line);
            }
            let _ = writeln!(out, "{option} = {}", toml_value(&values, &format!("{}.{option}", section.name)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use signaling_api::Secret;

    use super::*;
    use crate::config::Loader;
    use crate::config::check::check;
    use crate::config::keys::ApiKey;

    #[test]
    fn the_files_in_deploy_are_fresh_and_no_other_is_there() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/config/examples");
        for example in EXAMPLES {
            let committed = std::fs::read_to_string(folder.join(format!("{}.toml", example.name))).unwrap_or_default();
            let name = example.name;
            assert_eq!(committed, print(example), "stale: run `sluice config example {name} > deploy/config/examples/{name}.toml`");
        }
        // that of sluice-turn is tested in turn-server/server/tests
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), EXAMPLES.len() + 1);
    }

    #[test]
    fn each_loads_as_it_was_meant_and_would_be_started() {
        let folder = tempfile::tempdir().unwrap();
        let keys = [ApiKey { name: "a".to_owned(), secret: Secret::new("0123456789abcdef0123456789abcdef") }];
        for example in EXAMPLES {
            let path = folder.path().join(example.name);
            std::fs::write(&path, print(example)).unwrap();
            let loaded = Loader::new().file(&path).finish().unwrap();
            let mut meant = Config::default();
            (example.set)(&mut meant);
            assert_eq!(loaded.config, meant, "{}", example.name);
            assert_eq!(check(&loaded.config, &keys, 4), [], "{}", example.name);
        }
    }
}
