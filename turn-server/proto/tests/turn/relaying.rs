//! Permissions, channels, and data both ways.

use std::time::Duration;

use turn_proto::ToClient;
use turn_proto::limits::Limits;
use turn_proto::wire::channel::{ChannelNumber, header};
use turn_proto::wire::message::{Class, Message};
use turn_proto::wire::write::{Writer, data_indication_header};
use turn_proto::wire::{attribute, method};

use crate::world::*;

fn channel_data(number: u16, payload: &[u8]) -> Vec<u8> {
    [&header(ChannelNumber::new(number).unwrap(), u16::try_from(payload.len()).unwrap())[..], payload].concat()
}

fn send_indication(peer: &str, payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(method::SEND, Class::Indication, b"transactionn");
    writer.xor_address(attribute::XOR_PEER_ADDRESS, peer.parse().unwrap()).attribute(attribute::DATA, payload);
    writer.unsigned()
}

#[test]
fn rfc8656_11_data_goes_to_a_peer_with_permission_and_back() {
    let mut world = World::new();
    let (client, _, relay) = world.ready();
    assert_eq!(world.send(client, &send_indication(PEER, b"abc")), None);
    assert_eq!(world.to_peers, [(relay, PEER.parse().unwrap(), b"abc".to_vec())]);
    assert_eq!(world.hears(relay, PEER), Some(ToClient::Indication(client, PEER.parse().unwrap())));
    assert_eq!(world.hears(relay, "198.18.0.7:9"), Some(ToClient::Indication(client, "198.18.0.7:9".parse().unwrap())), "any port");
    assert_eq!(world.hears(relay, "198.18.0.8:7882"), None, "another address");
}

#[test]
fn rfc8656_11_3_without_permission_nothing_passes() {
    let mut world = World::new();
    let (client, _, relay) = world.ready();
    assert_eq!(world.send(client, &send_indication("198.18.0.8:7882", b"abc")), None);
    assert_eq!(world.send(crate::world::client(9), &send_indication(PEER, b"abc")), None);
    assert!(world.to_peers.is_empty());
    assert_eq!(world.server.handle_peer(world.now, turn_proto::RelayId(relay.0 + 1), PEER.parse().unwrap(), 1, 1), None);
}

#[test]
fn rfc8656_9_a_permission_lasts_five_minutes() {
    let mut world = World::new();
    let (client, mut user, relay) = world.ready();
    world.pass(Duration::from_secs(299));
    assert!(world.hears(relay, PEER).is_some());
    world.pass(Duration::from_secs(1));
    assert!(world.hears(relay, PEER).is_none());
    assert_eq!(world.send(client, &send_indication(PEER, b"abc")), None);
    assert!(world.to_peers.is_empty());
    world.ask(client, &mut user, method::CREATE_PERMISSION, &[peer(PEER)]);
    assert!(world.hears(relay, PEER).is_some());
}

#[test]
fn rfc8656_12_a_channel_carries_both_ways() {
    let mut world = World::new();
    let (client, mut user, relay) = world.ready();
    assert!(world.ask(client, &mut user, method::CHANNEL_BIND, &[channel(0x4001), peer("198.18.0.9:5")]).is_success);
    world.send(client, &channel_data(0x4001, b"xyz"));
    assert_eq!(world.to_peers, [(relay, "198.18.0.9:5".parse().unwrap(), b"xyz".to_vec())]);
    let number = ChannelNumber::new(0x4001).unwrap();
    assert_eq!(world.hears(relay, "198.18.0.9:5"), Some(ToClient::Channel(client, number)));
    assert!(matches!(world.hears(relay, "198.18.0.9:6"), Some(ToClient::Indication(..))), "the channel is for one port");
    world.send(client, &channel_data(0x4002, b"xyz"));
    assert_eq!(world.to_peers.len(), 1, "another channel is not bound");
}

#[test]
fn rfc8656_12_a_channel_lasts_ten_minutes_and_its_permission_five() {
    let mut world = World::new();
    let (client, mut user, relay) = world.ready();
    world.ask(client, &mut user, method::CHANNEL_BIND, &[channel(0x4001), peer(PEER)]);
    world.pass(Duration::from_secs(301));
    assert_eq!(world.hears(relay, PEER), None);
    world.ask(client, &mut user, method::REFRESH, &[]);
    world.pass(Duration::from_secs(298));
    world.send(client, &channel_data(0x4001, b"xyz"));
    assert_eq!(world.to_peers.len(), 1);
    world.pass(Duration::from_secs(2));
    world.send(client, &channel_data(0x4001, b"xyz"));
    assert_eq!(world.to_peers.len(), 1);
}

#[test]
fn rfc8656_12_2_a_channel_has_one_peer_and_a_peer_one_channel() {
    let mut world = World::new();
    let (client, mut user, _) = world.ready();
    let bind = |world: &mut World, user: &mut _, number, to: &str| {
        world.ask(client, user, method::CHANNEL_BIND, &[channel(number), peer(to)]).code
    };
    assert_eq!(bind(&mut world, &mut user, 0x4001, PEER), 0);
    assert_eq!(bind(&mut world, &mut user, 0x4001, PEER), 0, "the same again renews it");
    assert_eq!(bind(&mut world, &mut user, 0x4001, "198.18.0.9:5"), 400);
    assert_eq!(bind(&mut world, &mut user, 0x4002, PEER), 400);
    for wrong in [0x3FFF, 0x7FFF, 0x8000, 0] {
        assert_eq!(bind(&mut world, &mut user, wrong, "198.18.0.9:5"), 400, "{wrong:x}");
    }
    assert_eq!(world.ask(client, &mut user, method::CHANNEL_BIND, &[channel(0x4003)]).code, 400);
    assert_eq!(world.ask(client, &mut user, method::CHANNEL_BIND, &[peer("198.18.0.9:5")]).code, 400);
}

#[test]
fn rfc8656_10_2_peers_of_a_family_without_address_get_443() {
    let mut world = World::new();
    let (client, mut user, _) = world.ready();
    assert_eq!(world.ask(client, &mut user, method::CREATE_PERMISSION, &[peer("[2600::1]:1")]).code, 443);
    assert_eq!(world.ask(client, &mut user, method::CHANNEL_BIND, &[channel(0x4001), peer("[2600::1]:1")]).code, 443);
    assert_eq!(world.ask(client, &mut user, method::CREATE_PERMISSION, &[]).code, 400);
}

#[test]
fn rfc8656_7_2_of_two_families_each_carries_its_own_peers() {
    let mut world = World::new();
    let (client, mut user) = (client(1), anna());
    world.ask(client, &mut user, method::ALLOCATE, &[udp(), family(attribute::ADDITIONAL_ADDRESS_FAMILY, 2)]);
    let both = [peer(PEER), peer("[2600::1]:7")];
    assert!(world.ask(client, &mut user, method::CREATE_PERMISSION, &both).is_success);
    world.ask(client, &mut user, method::CHANNEL_BIND, &[channel(0x4001), peer("[2600::1]:7")]);
    world.send(client, &send_indication(PEER, b"four"));
    world.send(client, &channel_data(0x4001, b"six"));
    let [(v4, to_v4, four), (v6, to_v6, six)] = world.to_peers.as_slice() else { panic!("{:?}", world.to_peers) };
    assert!(v4 != v6 && to_v4.is_ipv4() && to_v6.is_ipv6());
    assert_eq!((four.as_slice(), six.as_slice()), (&b"four"[..], &b"six"[..]));
    let (v4, v6) = (*v4, *v6);
    assert!(matches!(world.hears(v4, PEER), Some(ToClient::Indication(..))));
    assert!(matches!(world.hears(v6, "[2600::1]:7"), Some(ToClient::Channel(..))));
}

#[test]
fn rfc8656_5_a_request_without_allocation_gets_437() {
    let mut world = World::new();
    for method in [method::REFRESH, method::CREATE_PERMISSION, method::CHANNEL_BIND, method::CONNECT] {
        assert_eq!(world.ask(client(1), &mut anna(), method, &[peer(PEER), channel(0x4000)]).code, 437, "{method}");
    }
}

#[test]
fn an_indication_to_the_client_is_what_the_client_would_write() {
    let (header, length) = data_indication_header(PEER.parse().unwrap(), 3, b"transactionn");
    let mut writer = Writer::new(method::DATA, Class::Indication, b"transactionn");
    writer.xor_address(attribute::XOR_PEER_ADDRESS, PEER.parse().unwrap()).attribute(attribute::DATA, b"abc");
    assert_eq!([&header[..length], b"abc\0"].concat(), writer.unsigned());
}

#[test]
fn what_is_above_the_rate_is_dropped() {
    let limits = Limits { allocation_rate: Some(1_000_000), ..Limits::default() };
    let mut world = World::with(turn_proto::Config { limits, ..config() });
    let (client, _, relay) = world.ready();
    for _ in 0..1_000 {
        world.send(client, &send_indication(PEER, &[0; 1000]));
        world.server.handle_peer(world.now, relay, PEER.parse().unwrap(), 1, 1_000);
    }
    assert_eq!(world.to_peers.len(), 500, "a burst of half a second");
    assert_eq!(world.server.counters().to_clients.packets, 500);
}

#[test]
fn all_allocations_together_have_a_rate_too() {
    let limits = Limits { total_rate: Some(1_000_000), ..Limits::default() };
    let mut world = World::with(turn_proto::Config { limits, ..config() });
    let clients: Vec<_> = (1..=2)
        .map(|number| {
            let (client, mut user) = (client(number), anna());
            world.allocate(client, &mut user);
            world.ask(client, &mut user, method::CREATE_PERMISSION, &[peer(PEER)]);
            client
        })
        .collect();
    for _ in 0..500 {
        for client in &clients {
            world.send(*client, &send_indication(PEER, &[0; 1000]));
        }
    }
    assert_eq!(world.to_peers.len(), 500, "a burst of half a second, of both");
    assert_eq!(world.server.counters().dropped[turn_proto::counters::Dropped::OverRate as usize], 500);
    world.pass(std::time::Duration::from_millis(100));
    for _ in 0..200 {
        world.send(clients[0], &send_indication(PEER, &[0; 1000]));
    }
    assert_eq!(world.to_peers.len(), 600, "100 kB in a tenth of a second");
}

#[test]
fn rfc8489_3_a_binding_request_tells_where_it_came_from() {
    let mut world = World::new();
    let request = anna().request(method::BINDING, |_| {});
    assert_eq!(world.send(client(7), &request).unwrap().mapped, Some(client(7).remote));
    let mut odd = anna();
    let request = odd.request(method::BINDING, |writer| {
        writer.attribute(attribute::CHANGE_REQUEST, &[0, 0, 0, 6]);
    });
    assert_eq!(world.send(client(7), &request).unwrap().code, 420, "there are no other addresses to answer from");
}

#[test]
fn rfc5780_a_client_can_ask_to_be_answered_from_elsewhere() {
    let addresses = ["203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap()];
    let discovery = Some(turn_proto::server::Discovery { addresses, ports: [3478, 3479] });
    let mut world = World::with(turn_proto::Config { discovery, ..config() });
    for (flags, from) in [(0, "203.0.113.1:3478"), (2, "203.0.113.1:3479"), (4, "203.0.113.2:3478"), (6, "203.0.113.2:3479")] {
        let request = anna().request(method::BINDING, |writer| {
            writer.attribute(attribute::CHANGE_REQUEST, &[0, 0, 0, flags]);
        });
        world.server.handle_client(world.at(), client(7), &request);
        world.settle();
        let (to, bytes) = world.sent.pop().unwrap();
        assert_eq!(to.local, from.parse().unwrap());
        assert!(Message::parse(&bytes).unwrap().attributes.mapped == Some(client(7).remote));
    }
}
