//! What an attacker can send, before, during and after a connection.

use std::time::Duration;

use proptest::prelude::*;
use rand::RngExt;
use sfu_api::Delivery;
use sfu_core::error::Discard;
use sfu_core::net::Flow;
use sfu_core::transport::TransportEvent;
use sfu_sim::client::{ClientTransport, DimplClient};

use crate::world::{Network, World, path, server_path};

#[test]
fn garbage_from_elsewhere_at_every_moment_does_not_disturb_a_connection() {
    let mut world = World::with_client(3, Network::GOOD, |now, rng| ClientTransport::new(now, rng).opening_channels()).signal();
    let attacker = Flow { remote: ([203, 0, 113, 9], 9).into(), ..server_path(1) };
    for _ in 0..300 {
        for first in [0, 1, 20, 22, 23, 63] {
            let mut garbage: Vec<u8> = (0..world.rng.random_range(1..200)).map(|_| world.rng.random()).collect();
            garbage[0] = first;
            assert!(world.inject(attacker, &garbage).is_err());
        }
        world.run(Duration::from_millis(2));
    }
    assert!(world.client_is_connected() && world.server_is_connected());
    world.client_sends(Delivery::Reliable, b"fine");
    world.run(Duration::from_millis(100));
    assert_eq!(world.server_data(), [(Delivery::Reliable, &b"fine"[..])]);
    assert!(!world.server.accepts_from(attacker));
}

#[test]
fn garbage_with_the_clients_own_address_does_not_disturb_a_connection() {
    for seed in 0..20 {
        let mut world = World::with_client(seed, Network::GOOD, |now, rng| either_version(seed, now, rng)).signal();
        for _ in 0..200 {
            let mut garbage: Vec<u8> = (0..world.rng.random_range(14..100)).map(|_| world.rng.random()).collect();
            if world.rng.random_bool(0.5) {
                garbage[..3].copy_from_slice(&[world.rng.random_range(20..26), 0xFE, 0xFD]);
            } else {
                // An encrypted record of DTLS 1.3 without a length: anything is one.
                garbage[0] = [0x20, 0x22, 0x23, 0x28, 0x2A, 0x2B][world.rng.random_range(0..6)];
            }
            let _ = world.inject(server_path(1), &garbage);
            world.run(Duration::from_millis(1));
        }
        world.run(Duration::from_secs(5));
        assert!(world.client_is_connected() && world.server_is_connected(), "seed {seed}: {:?}", world.server_events);
    }
}

#[test]
fn garbage_that_looks_encrypted_does_not_disturb_a_connection_that_is_up() {
    for seed in 0..4 {
        let client = |now, rng: &mut _| either_version(seed, now, rng).opening_channels();
        let mut world = World::with_client(seed, Network::GOOD, client).connected();
        for _ in 0..2_000 {
            let mut garbage: Vec<u8> = (0..world.rng.random_range(4..300)).map(|_| world.rng.random()).collect();
            garbage[0] = world.rng.random_range(20..64);
            let _ = world.inject(server_path(1), &garbage);
        }
        world.run(Duration::from_secs(1));
        world.client_sends(Delivery::Reliable, b"fine");
        world.run(Duration::from_millis(100));
        assert_eq!(world.server_data(), [(Delivery::Reliable, &b"fine"[..])], "seed {seed}: {:?}", world.server_events);
    }
}

/// Odd seeds speak DTLS 1.3.
fn either_version(seed: u64, now: std::time::Instant, rng: &mut rand::rngs::StdRng) -> ClientTransport {
    let dtls = if seed % 2 == 1 { DimplClient::dtls13(now, seed, 1200) } else { DimplClient::new(now, seed) };
    ClientTransport::with_dtls(Box::new(dtls), rng)
}

#[test]
fn broken_hellos_with_the_clients_own_address_do_not_spoil_its_handshake() {
    let mut world = World::new(1, Network::GOOD).signal();
    world.run_until(Duration::from_secs(1), |w| w.server.accepts_from(server_path(1)));
    for length in [40_u8, 60, 90] {
        let mut hello = vec![22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12 + length];
        hello.extend([1, 0, 0, length, 0, 0, 0, 0, 0, 0, 0, length]);
        hello.resize(25 + usize::from(length), 0);
        let _ = world.inject(server_path(1), &hello);
    }
    world.run(Duration::from_secs(5));
    assert!(world.client_is_connected() && world.server_is_connected(), "{:?}", world.server_events);
}

#[test]
fn recorded_datagrams_sent_again_change_nothing() {
    let mut world = World::with_client(1, Network::GOOD, |now, rng| ClientTransport::new(now, rng).opening_channels()).signal();
    let mut recorded = Vec::new();
    for _ in 0..200 {
        world.run(Duration::from_millis(1));
        let sent = world.act(|w, out| {
            w.client.handle_timeout(w.now, out);
            out.datagrams().map(|(_, datagram)| datagram.to_vec()).collect::<Vec<_>>()
        });
        recorded.extend(sent);
    }
    let events = world.server_events.len();
    for datagram in recorded {
        let _ = world.inject(server_path(1), &datagram);
    }
    assert_eq!(world.server_events.len(), events);
    world.client_sends(Delivery::Reliable, b"fine");
    world.run(Duration::from_millis(100));
    assert_eq!(world.server_data().last(), Some(&(Delivery::Reliable, &b"fine"[..])));
}

#[test]
fn a_stranger_with_the_ufrag_but_not_the_password_gets_nothing() {
    let mut world = World::new(1, Network::GOOD).connected();
    let mut stranger = ClientTransport::new(world.now, &mut world.rng);
    let mut ice = world.server.local_ice().clone();
    ice.pwd = "a-guess-a-guess-a-guess-a".into();
    stranger.set_remote_ice(ice);
    stranger.add_path(world.now, path(66));
    let mut out = sfu_core::net::Outbox::default();
    stranger.handle_timeout(world.now, &mut out);
    let check = out.datagrams().next().unwrap().1.to_vec();
    let discard = world.inject(server_path(66), &check).unwrap_err();
    assert!(matches!(discard, Discard::StunIntegrity | Discard::StunUnknownUser));
    assert!(!world.server.accepts_from(server_path(66)));
    assert_eq!(world.server_events.len(), 1);
}

#[test]
fn a_failed_transport_is_silent() {
    let mut world = World::new(1, Network::lossy(1.0)).signal();
    world.run(Duration::from_secs(31));
    assert!(matches!(world.server_events[..], [TransportEvent::Failed(_)]));
    assert!(world.inject(server_path(1), &[22; 50]).is_err());
    assert!(world.inject(server_path(1), &[0; 50]).is_err());
    assert_eq!(world.server.next_timeout(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    #[test]
    fn arbitrary_datagrams_from_a_validated_path_never_panic(
        datagrams in prop::collection::vec((prop_oneof![Just(20_u8), Just(21), Just(22), Just(23), 0..64_u8], prop::collection::vec(any::<u8>(), 0..120)), 1..20),
        is_connected: bool,
    ) {
        let mut world = World::new(1, Network::GOOD);
        if is_connected {
            world = world.connected();
        } else {
            world = world.signal();
            world.run_until(Duration::from_secs(1), |w| w.server.accepts_from(server_path(1)));
        }
        for (first, rest) in datagrams {
            let datagram = [&[first, 0xFE, 0xFD][..], &rest].concat();
            let _ = world.inject(server_path(1), &datagram);
        }
        world.run(Duration::from_millis(100));
    }

    #[test]
    fn arbitrary_sctp_from_a_verified_client_never_panics(packets in prop::collection::vec(sctp_packet(), 1..40)) {
        let mut world = World::with_client(1, Network::GOOD, |now, rng| ClientTransport::new(now, rng).opening_channels()).connected();
        world.run(Duration::from_millis(200));
        for packet in packets {
            world.act(|w, out| w.client.send_raw_data(w.now, &packet, out));
        }
        world.run(Duration::from_secs(3));
    }
}

/// An SCTP packet with a right checksum, plausible chunk types and arbitrary contents.
fn sctp_packet() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![Just(0_u8), Just(1), Just(2), Just(3), Just(6), Just(7), Just(9), Just(10), Just(130), Just(192), any::<u8>()];
    let chunk = (kind, any::<u8>(), prop::collection::vec(any::<u8>(), 0..60));
    prop::collection::vec(chunk, 1..4).prop_map(|chunks| {
        chunks
            .into_iter()
            .flat_map(|(kind, flags, value)| {
                let length = u16::try_from(4 + value.len()).unwrap().to_be_bytes();
                let mut chunk = [&[kind, flags], &length[..], &value].concat();
                chunk.resize(chunk.len().next_multiple_of(4), 0);
                chunk
            })
            .collect()
    })
}
