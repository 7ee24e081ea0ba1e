//! No peer outside of the policy is ever sent a byte, whatever clients do.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use turn_proto::client::User;
use turn_proto::policy::{OwnPeer, PeerPolicy};
use turn_proto::wire::channel::{ChannelNumber, header};
use turn_proto::wire::message::Class;
use turn_proto::wire::write::Writer;
use turn_proto::wire::{attribute, method};
use turn_proto::{Config, Output, RelayId};

use crate::world::*;

#[test]
fn by_default_only_own_media_addresses_are_peers() {
    let own = OwnPeer { named: "203.0.113.1:7882".parse().unwrap(), reached_at: "10.0.0.4:7882".parse().unwrap() };
    let policy = PeerPolicy { own: vec![own], ..PeerPolicy::default() };
    let mut world = World::with(Config { policy, ..config() });
    let (client, mut user) = (client(1), anna());
    world.allocate(client, &mut user);
    for denied in ["198.18.0.7:7882", "10.0.0.4:7882", "169.254.169.254:80", "127.0.0.1:7882", "224.0.0.1:1"] {
        assert_eq!(world.ask(client, &mut user, method::CREATE_PERMISSION, &[peer(denied)]).code, 403, "{denied}");
    }
    // all or nothing
    let both = [peer("203.0.113.1:1"), peer("8.8.8.8:1")];
    assert_eq!(world.ask(client, &mut user, method::CREATE_PERMISSION, &both).code, 403);
    assert_eq!(world.server.census().permissions, 0);
    assert_eq!(world.ask(client, &mut user, method::CHANNEL_BIND, &[channel(0x4000), peer("203.0.113.1:22")]).code, 403);
    assert!(world.others.iter().filter(|output| matches!(output, Output::Denied(_))).count() >= 7, "all of it is for the audit log");
    // the own one is sent to where it is, and named as the client knows it
    assert!(world.ask(client, &mut user, method::CHANNEL_BIND, &[channel(0x4000), peer("203.0.113.1:7882")]).is_success);
    world.send(client, &[&header(ChannelNumber::new(0x4000).unwrap(), 1)[..], b"x"].concat());
    assert_eq!(world.to_peers[0].1, own.reached_at);
    let relay = RelayId(*world.relays.first_key_value().unwrap().0);
    assert!(world.hears(relay, "10.0.0.4:7882").is_some());
    assert!(world.hears(relay, "203.0.113.1:7882").is_none());
}

/// Anything that a client or a peer may do.
#[derive(Debug, Clone)]
enum Step {
    Allocate { client: u16, family: Option<u8>, additional: bool, tcp: bool },
    Refresh { client: u16, seconds: u32 },
    Permit { client: u16, peers: Vec<SocketAddr> },
    Bind { client: u16, number: u16, peer: SocketAddr },
    Send { client: u16, peer: SocketAddr },
    Data { client: u16, number: u16 },
    Connect { client: u16, peer: SocketAddr },
    FromPeer { relay: u32, source: SocketAddr },
    Garbage { client: u16, bytes: Vec<u8> },
    Pass { seconds: u64 },
}

fn addresses() -> impl Strategy<Value = SocketAddr> {
    let ips = prop_oneof![
        Just("198.18.0.7"),
        Just("198.18.0.8"),
        Just("10.0.0.4"),
        Just("203.0.113.1"),
        Just("203.0.113.9"),
        Just("127.0.0.1"),
        Just("169.254.169.254"),
        Just("0.0.0.0"),
        Just("255.255.255.255"),
        Just("224.0.0.1"),
        Just("8.8.8.8"),
        Just("::1"),
        Just("::ffff:198.18.0.7"),
        Just("2600::1"),
        Just("2600:1::1"),
        Just("fe80::1"),
        Just("64:ff9b::c612:7"),
        Just("fd00:ec2::254"),
        Just("ff02::1"),
    ];
    let ports = prop_oneof![Just(7882_u16), Just(22), Just(0), Just(3478), any::<u16>()];
    prop_oneof![
        8 => (ips, ports).prop_map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port)),
        1 => (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
        1 => (any::<[u8; 16]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.into(), port)),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let client = 0..4_u16;
    let number = prop_oneof![Just(0x4000_u16), Just(0x4001), Just(0x7FFE), any::<u16>()];
    prop_oneof![
        2 => (client.clone(), proptest::option::of(1..3_u8), any::<bool>(), any::<bool>())
            .prop_map(|(client, family, additional, tcp)| Step::Allocate { client, family, additional, tcp }),
        1 => (client.clone(), prop_oneof![Just(0_u32), Just(600), any::<u32>()]).prop_map(|(client, seconds)| Step::Refresh { client, seconds }),
        4 => (client.clone(), proptest::collection::vec(addresses(), 0..4)).prop_map(|(client, peers)| Step::Permit { client, peers }),
        4 => (client.clone(), number.clone(), addresses()).prop_map(|(client, number, peer)| Step::Bind { client, number, peer }),
        6 => (client.clone(), addresses()).prop_map(|(client, peer)| Step::Send { client, peer }),
        6 => (client.clone(), number).prop_map(|(client, number)| Step::Data { client, number }),
        2 => (client.clone(), addresses()).prop_map(|(client, peer)| Step::Connect { client, peer }),
        4 => (0..6_u32, addresses()).prop_map(|(relay, source)| Step::FromPeer { relay, source }),
        1 => (client, proptest::collection::vec(any::<u8>(), 0..64)).prop_map(|(client, bytes)| Step::Garbage { client, bytes }),
        1 => (0..700_u64).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// The rule in other words than those of the code: what may be sent to.
fn may_be_reached(address: SocketAddr) -> bool {
    let is_own = ["10.0.0.4:7882", "203.0.113.9:7882"].iter().any(|own| own.parse() == Ok(address));
    let text = address.ip().to_string();
    let is_allowed = (text.starts_with("198.18.") && text != "198.18.0.8") || (text.starts_with("2600::") && address.port() == 7882);
    is_own || (is_allowed && address.port() != 0)
}

fn tight() -> Config {
    let own = |named: &str, reached_at: &str| OwnPeer { named: named.parse().unwrap(), reached_at: reached_at.parse().unwrap() };
    let policy = PeerPolicy {
        own: vec![own("203.0.113.1:7882", "10.0.0.4:7882"), own("203.0.113.9:7882", "203.0.113.9:7882")],
        allow: ["198.18.0.0/16", "[2600::/32]:7882", "0.0.0.0/1"].iter().map(|rule| rule.parse().unwrap()).collect(),
        deny: ["198.18.0.8", "0.0.0.0/5", "8.0.0.0/5", "16.0.0.0/4", "32.0.0.0/3", "64.0.0.0/2"]
            .iter()
            .map(|deny| deny.parse().unwrap())
            .collect(),
        listening: vec!["203.0.113.1:3478".parse().unwrap()],
    };
    Config { policy, ..config() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, max_shrink_iters: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_peer_outside_of_the_policy_is_ever_sent_a_byte(steps in proptest::collection::vec(steps(), 1..60)) {
        let mut world = World::with(tight());
        let mut users: Vec<User> = (0..4).map(|_| anna()).collect();
        let at = |number: u16| if number < 2 { client(number) } else { tcp_client(number) };
        for step in steps {
            match step {
                Step::Allocate { client, family, additional, tcp: is_tcp } => {
                    let mut attributes = vec![if is_tcp { tcp() } else { udp() }];
                    if let Some(number) = family {
                        attributes.push(crate::world::family(attribute::REQUESTED_ADDRESS_FAMILY, number));
                    } else if additional {
                        attributes.push(crate::world::family(attribute::ADDITIONAL_ADDRESS_FAMILY, 2));
                    }
                    world.ask(at(client), &mut users[usize::from(client)], method::ALLOCATE, &attributes);
                }
                Step::Refresh { client, seconds } => {
                    world.ask(at(client), &mut users[usize::from(client)], method::REFRESH, &[lifetime(seconds)]);
                }
                Step::Permit { client, peers } => {
                    let peers: Vec<_> = peers.iter().map(|address| peer(&address.to_string())).collect();
                    world.ask(at(client), &mut users[usize::from(client)], method::CREATE_PERMISSION, &peers);
                }
                Step::Bind { client, number, peer: to } => {
                    world.ask(at(client), &mut users[usize::from(client)], method::CHANNEL_BIND, &[channel(number), peer(&to.to_string())]);
                }
                Step::Send { client, peer } => {
                    let mut writer = Writer::new(method::SEND, Class::Indication, b"transactionn");
                    writer.xor_address(attribute::XOR_PEER_ADDRESS, peer).attribute(attribute::DATA, b"data");
                    world.send(at(client), &writer.unsigned());
                }
                Step::Data { client, number } => {
                    if let Some(number) = ChannelNumber::new(number) {
                        world.send(at(client), &[&header(number, 4)[..], b"data"].concat());
                    }
                }
                Step::Connect { client, peer: to } => {
                    world.server.handle_client(world.at(), at(client), &users[usize::from(client)].request(method::CONNECT, |writer| {
                        writer.xor_address(attribute::XOR_PEER_ADDRESS, to);
                    }));
                    world.settle();
                    world.sent.clear();
                }
                Step::FromPeer { relay, source } => {
                    if world.server.handle_peer(world.now, RelayId(relay), source, 1, 4).is_some() {
                        prop_assert!(may_be_reached(source), "{source} was heard");
                    }
                }
                Step::Garbage { client, bytes } => {
                    world.send(at(client), &bytes);
                }
                Step::Pass { seconds } => world.pass(Duration::from_secs(seconds)),
            }
            for (relay, peer, _) in world.to_peers.drain(..) {
                prop_assert!(may_be_reached(peer), "{peer} was sent something");
                prop_assert!(world.relays.contains_key(&relay.0));
            }
            for output in world.others.drain(..) {
                if let Output::Connect { peer, .. } = output {
                    prop_assert!(may_be_reached(peer), "{peer} was connected to");
                }
            }
            prop_assert!(world.relays.len() <= 8);
        }
        // and nothing is left behind
        for _ in 0..2 {
            world.pass(Duration::from_secs(3_700));
        }
        prop_assert!(world.relays.is_empty());
        prop_assert_eq!((world.server.allocation_count(), world.server.census().ports.0, world.server.census().streams), (0, 0, 0));
    }
}
