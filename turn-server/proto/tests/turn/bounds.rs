//! Memory and answers under floods.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use turn_proto::client::{Told, User};
use turn_proto::wire::{attribute, method};
use turn_proto::{Client, Output};

use crate::world::*;

/// Packets of a flood: garbage, challenges, wrong passwords, data of nobody; from as many addresses.
fn flood_packet(rng: &mut StdRng, user: &mut User, number: u32) -> Vec<u8> {
    match number % 5 {
        0 => (0..rng.random_range(0..200)).map(|_| rng.random()).collect(),
        1 => User::new("stranger", "").request(method::ALLOCATE, |writer| {
            writer.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        }),
        2 => user.request(method::ALLOCATE, |_| {}),
        3 => User::new("", "").request(method::BINDING, |_| {}),
        _ => [&[0x40, 0, 0, 100][..], &[7; 100]].concat(),
    }
}

#[test]
fn a_hundred_thousand_packets_of_strangers_leave_memory_flat() {
    let mut world = World::new();
    let mut rng = StdRng::seed_from_u64(1);
    let mut user = User::new("anna", "wrong");
    user.told = Some(Told { realm: b"example.org".to_vec(), nonce: b"obMatJos2gAAAnonsense".to_vec(), algorithms: None });
    let flood = |world: &mut World, rng: &mut StdRng, user: &mut User, packets: u32| {
        for number in 0..packets {
            let client = Client { remote: SocketAddr::new(Ipv4Addr::from_bits(rng.random()).into(), rng.random()), ..client(0) };
            let packet = flood_packet(rng, user, number);
            world.server.handle_client(world.at(), client, &packet);
            while world.server.poll_output().is_some() {}
            if number.is_multiple_of(1000) {
                world.now += Duration::from_millis(100);
                world.server.handle_timeout(world.now);
            }
        }
    };
    // queues get their size once
    flood(&mut world, &mut rng, &mut user, 1_000);
    let kept = allocation_counter::measure(|| flood(&mut world, &mut rng, &mut user, 100_000));
    assert_eq!(kept.bytes_current, 0, "{kept:?}");
    assert_eq!(world.server.allocation_count(), 0);
}

#[test]
fn an_address_that_did_not_ask_gets_little() {
    let mut world = World::new();
    let (mut asked, mut answered) = (0, 0);
    for second in 0..10 {
        for _ in 0..1_000 {
            let packet = User::new("stranger", "").request(method::ALLOCATE, |_| {});
            asked += packet.len();
            world.server.handle_client(world.at(), client(second), &packet);
            while let Some(output) = world.server.poll_output() {
                if let Output::Send { bytes, .. } = output {
                    answered += bytes.len();
                }
            }
        }
        world.now += Duration::from_secs(1);
    }
    assert!(answered < asked, "{answered} bytes for {asked}");
    assert!(world.server.counters().dropped[turn_proto::counters::Dropped::Throttled as usize] > 8_000);
}

#[test]
fn over_a_stream_nobody_is_a_victim() {
    let mut world = World::new();
    for _ in 0..1_000 {
        let packet = User::new("stranger", "").request(method::ALLOCATE, |_| {});
        assert_eq!(world.send(tcp_client(1), &packet).unwrap().code, 401);
    }
}

#[test]
fn permissions_and_channels_are_bounded() {
    let mut world = World::new();
    let (client, mut user, _) = world.ready();
    let codes: Vec<u16> =
        (0..80_u8).map(|n| world.ask(client, &mut user, method::CREATE_PERMISSION, &[peer(&format!("198.18.1.{n}:1"))]).code).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 63);
    assert!(codes[63..].iter().all(|code| *code == 508));
    let bound = (0..80_u16)
        .filter(|n| {
            world.ask(client, &mut user, method::CHANNEL_BIND, &[channel(0x4000 + n), peer(&format!("198.18.0.7:{}", n + 1))]).code == 0
        })
        .count();
    assert_eq!(bound, 64);
    world.pass(Duration::from_secs(301));
    assert!(world.ask(client, &mut user, method::CREATE_PERMISSION, &[peer("198.18.2.1:1")]).is_success, "what has expired makes room");
}

#[test]
fn an_address_that_is_named_twice_is_one_permission() {
    let mut world = World::new();
    let (client, mut user, _) = world.ready();
    for n in 0..62 {
        assert!(world.ask(client, &mut user, method::CREATE_PERMISSION, &[peer(&format!("198.18.1.{n}:1"))]).is_success);
    }
    let twice = [peer("198.18.2.1:1"), peer("198.18.2.1:2")];
    assert!(world.ask(client, &mut user, method::CREATE_PERMISSION, &twice).is_success, "it is the last one that fits");
    assert_eq!(world.ask(client, &mut user, method::CREATE_PERMISSION, &[peer("198.18.2.2:1")]).code, 508);
}

#[test]
fn ports_that_are_reserved_and_never_fetched_are_bounded() {
    let mut world = World::with(turn_proto::Config { relay_ports: 50_000..=51_999, ..config() });
    let mut user = anna();
    for _ in 0..600 {
        assert!(world.ask(client(1), &mut user, method::ALLOCATE, &[udp(), (attribute::EVEN_PORT, vec![0x80])]).is_success);
        assert!(world.ask(client(1), &mut user, method::REFRESH, &[lifetime(0)]).is_success);
    }
    assert_eq!(world.server.census().ports.0, 256);
    world.pass(Duration::from_secs(31));
    assert_eq!(world.server.census().ports.0, 0);
}

#[test]
fn a_datagram_is_relayed_without_allocating() {
    let mut world = World::new();
    let (client, mut user, relay) = world.ready();
    world.ask(client, &mut user, method::CHANNEL_BIND, &[channel(0x4001), peer(PEER)]);
    let packet = [&[0x40, 1, 0, 100][..], &[7; 100]].concat();
    let (at, source) = (world.at(), PEER.parse().unwrap());
    let used = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            world.server.handle_client(at, client, &packet);
            world.server.handle_peer(at.now, relay, source, 1, 100);
        }
    });
    assert_eq!(used.count_total, 0);
    assert_eq!((world.server.counters().to_peers.packets, world.server.counters().to_clients.packets), (1_000, 1_000));
}
