//! Data channels through DTLS and the network.

use std::time::Duration;

use sfu_api::Delivery;
use sfu_core::limits::{MAX_DATA_BUFFER, MAX_DATA_MESSAGE, MAX_UNOPENED_DATA};
use sfu_core::transport::{DataError, TransportEvent};
use sfu_sim::client::{ClientEvent, ClientTransport};

use crate::world::{Network, World};

#[test]
fn a_publisher_opens_its_channels_and_messages_go_both_ways() {
    let mut world = publisher(1, Network::GOOD);
    for delivery in [Delivery::Reliable, Delivery::Lossy, Delivery::DataTrack] {
        for payload in [&b"hello"[..], b"", &[7; 5000]] {
            world.client_sends(delivery, payload);
            world.server_sends(delivery, payload);
            world.run(Duration::from_millis(200));
            assert_eq!(world.server_data().last(), Some(&(delivery, payload)));
            assert_eq!(world.client_data().last(), Some(&(delivery, payload)));
        }
    }
}

#[test]
fn the_server_opens_its_channels_to_a_subscriber() {
    let mut world = subscriber(1, Network::GOOD);
    world.server_sends(Delivery::Lossy, b"one");
    world.server_sends(Delivery::Reliable, b"two");
    world.client_sends(Delivery::Reliable, b"three");
    world.run(Duration::from_millis(100));
    assert_eq!(world.client_data(), [(Delivery::Lossy, &b"one"[..]), (Delivery::Reliable, b"two")]);
    assert_eq!(world.server_data(), [(Delivery::Reliable, &b"three"[..])]);
}

#[test]
fn large_reliable_messages_arrive_whole_under_loss_and_reordering() {
    for seed in 0..4 {
        let mut world = publisher(seed, Network::reordering(0.0));
        world.network = Network::reordering(0.05);
        let messages: Vec<Vec<u8>> =
            (0..3_u8).map(|n| (0..200 * 1024_u32).map(|i| n ^ i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect()).collect();
        for message in &messages {
            world.client_sends(Delivery::Reliable, message);
            world.server_sends(Delivery::Reliable, message);
        }
        world.run_until(Duration::from_secs(300), |w| w.server_data().len() == 3 && w.client_data().len() == 3);
        let expected: Vec<_> = messages.iter().map(|message| (Delivery::Reliable, &message[..])).collect();
        assert!(world.server_data() == expected, "seed {seed}");
        assert!(world.client_data() == expected, "seed {seed}");
    }
}

#[test]
fn channels_open_although_packets_are_lost() {
    for seed in 0..20 {
        let network = Network::reordering(0.2);
        if seed % 2 == 0 {
            publisher(seed, network)
        } else {
            subscriber(seed, network)
        };
    }
}

#[test]
fn lossy_messages_may_be_lost_but_never_late_or_broken() {
    let mut world = publisher(1, Network::GOOD);
    world.network = Network::reordering(0.3);
    for n in 0..200_u8 {
        world.client_sends(Delivery::Lossy, &[n; 100]);
        world.server_sends(Delivery::Lossy, &[n; 100]);
        world.run(Duration::from_millis(20));
    }
    world.network = Network::GOOD;
    world.run(Duration::from_secs(5));
    for received in [world.server_data(), world.client_data()] {
        assert!((100..190).contains(&received.len()), "{}", received.len());
        assert!(received.iter().all(|(delivery, message)| *delivery == Delivery::Lossy && message.len() == 100));
    }
    world.server_sends(Delivery::Reliable, b"still there");
    world.run(Duration::from_secs(1));
    assert_eq!(world.client_data().last(), Some(&(Delivery::Reliable, &b"still there"[..])));
}

#[test]
fn messages_on_unknown_channels_are_ignored() {
    let mut world = publisher(1, Network::GOOD);
    assert!(world.act(|w, out| w.client.open_channel(w.now, "chat", Delivery::Reliable, out)));
    world.client_sends(Delivery::Reliable, b"known");
    world.run(Duration::from_millis(100));
    assert_eq!(world.server_data().len(), 1);
}

#[test]
fn more_channels_than_the_bound_do_no_harm() {
    let mut world = publisher(1, Network::GOOD);
    for n in 0..100 {
        world.act(|w, out| w.client.open_channel(w.now, &format!("c{n}"), Delivery::Reliable, out));
        world.run(Duration::from_millis(5));
    }
    world.client_sends(Delivery::Reliable, b"still there");
    world.run(Duration::from_millis(500));
    assert_eq!(world.server_data(), [(Delivery::Reliable, &b"still there"[..])]);
}

#[test]
fn sending_is_refused_before_the_channel_is_open_and_beyond_the_bounds() {
    let mut world = World::new(1, Network::GOOD).connected();
    let refusal = world.act_as_server(|w, out| w.server.send_data(w.now, Delivery::Reliable, b"x", out));
    assert_eq!(refusal, Err(DataError::NotOpen));
    let mut world = subscriber(1, Network::GOOD);
    let long = vec![0; MAX_DATA_MESSAGE + 1];
    assert_eq!(world.act_as_server(|w, out| w.server.send_data(w.now, Delivery::Reliable, &long, out)), Err(DataError::TooLong));
    world.server_sends(Delivery::Reliable, &long[1..]);
    world.run(Duration::from_secs(20));
    assert_eq!(world.client_data().len(), 1);
}

#[test]
fn reliable_messages_wait_for_the_channel_in_order_and_within_a_bound() {
    let mut world = World::with_client(1, Network::GOOD, |now, rng| ClientTransport::new(now, rng).with_data());
    world.server.open_data_channels();
    let send =
        |world: &mut World, delivery, message: &[u8]| world.act_as_server(|w, out| w.server.send_data(w.now, delivery, message, out));
    assert_eq!(send(&mut world, Delivery::Lossy, b"too early"), Err(DataError::NotOpen));
    let accepted = (0..1000_u32).take_while(|n| send(&mut world, Delivery::Reliable, &n.to_be_bytes().repeat(2500)) == Ok(())).count();
    assert_eq!(accepted, MAX_UNOPENED_DATA / 10_000);
    let mut world = with_channels(world.connected());
    world.server_sends(Delivery::Reliable, b"last");
    world.run(Duration::from_secs(20));
    let received: Vec<_> = world.client_data().iter().map(|(_, message)| message[..4].to_vec()).collect();
    let mut expected: Vec<_> = (0..u32::try_from(accepted).unwrap()).map(|n| n.to_be_bytes().to_vec()).collect();
    expected.push(b"last".to_vec());
    assert_eq!(received, expected);
}

#[test]
fn a_client_that_takes_no_data_loses_messages_but_not_its_transport() {
    let mut world = subscriber(1, Network::GOOD);
    world.network.loss = 1.0;
    let message = vec![0; 10_000];
    let send = |world: &mut World, delivery| world.act_as_server(|w, out| w.server.send_data(w.now, delivery, &message, out));
    let lossy = (0..100).find(|_| send(&mut world, Delivery::Lossy) == Err(DataError::Full));
    assert_eq!(lossy, Some(7));
    assert_eq!(send(&mut world, Delivery::Reliable), Ok(()));
    let reliable = (1..1000).find(|_| send(&mut world, Delivery::Reliable) == Err(DataError::Full));
    assert_eq!(reliable, Some(MAX_DATA_BUFFER / message.len()));
    assert!(!world.server_events.iter().any(|event| matches!(event, TransportEvent::Failed(_))));
}

#[test]
fn an_outage_shorter_than_consent_loses_no_reliable_data() {
    let mut world = subscriber(1, Network::GOOD);
    world.network.loss = 1.0;
    world.server_sends(Delivery::Reliable, b"late but here");
    world.run(Duration::from_secs(25));
    world.network.loss = 0.0;
    world.run(Duration::from_secs(60));
    assert_eq!(world.client_data(), [(Delivery::Reliable, &b"late but here"[..])]);
    assert_eq!(world.server_events.last(), Some(&TransportEvent::DataChannelOpen { delivery: Delivery::DataTrack }));
}

fn publisher(seed: u64, network: Network) -> World {
    let world = World::with_client(seed, network, |now, rng| ClientTransport::new(now, rng).opening_channels());
    with_channels(world.connected())
}

fn subscriber(seed: u64, network: Network) -> World {
    let mut world = World::with_client(seed, network, |now, rng| ClientTransport::new(now, rng).with_data());
    world.server.open_data_channels();
    with_channels(world.connected())
}

fn with_channels(mut world: World) -> World {
    let server = |w: &World| w.server_events.iter().filter(|e| matches!(e, TransportEvent::DataChannelOpen { .. })).count();
    let client = |w: &World| w.client_events.iter().filter(|e| matches!(e, ClientEvent::DataChannelOpen { .. })).count();
    world.run_until(Duration::from_secs(120), |w| server(w) == 3 && client(w) == 3);
    assert_eq!((server(&world), client(&world)), (3, 3), "{:?} {:?}", world.server_events, world.client_events);
    world
}
