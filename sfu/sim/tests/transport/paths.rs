//! ICE: nominations, restarts, consent, with a whole client behind the checks.

use std::time::Duration;

use sfu_api::Delivery;
use sfu_core::error::Discard;
use sfu_core::limits::{CONSENT_TIMEOUT, MAX_PATHS_PER_TRANSPORT};
use sfu_core::net::Flow;
use sfu_core::transport::{TransportEvent, username_ufrag};
use sfu_sim::client::ClientTransport;

use crate::world::{Network, World, path, server_path};

#[test]
fn a_client_that_changes_networks_is_followed() {
    let mut world = World::with_client(1, Network::GOOD, |now, rng| ClientTransport::new(now, rng).opening_channels()).connected();
    world.run(Duration::from_secs(1));
    for n in [2, 3, 1] {
        world.client.add_path(world.now, path(n));
        world.run(Duration::from_millis(300));
        world.client.nominate(world.now, path(n));
        world.run(Duration::from_millis(100));
        assert_eq!(world.server.selected(), Some(server_path(n)));
        world.client_sends(Delivery::Reliable, &[n]);
        world.server_sends(Delivery::Reliable, &[n]);
        world.run(Duration::from_millis(100));
        assert_eq!(world.server_data().last(), Some(&(Delivery::Reliable, &[n][..])));
        assert_eq!(world.client_data().last(), Some(&(Delivery::Reliable, &[n][..])));
    }
}

#[test]
fn consent_ends_30_seconds_after_the_last_check_and_comes_back_with_a_nomination() {
    let mut world = World::new(1, Network::GOOD).connected();
    world.run(Duration::from_secs(60));
    assert_eq!(world.server_events.len(), 1, "a client that keeps checking stays connected");
    world.network.loss = 1.0;
    world.run(CONSENT_TIMEOUT + Duration::from_secs(1));
    assert_eq!(world.server_events[1..], [TransportEvent::PathExpired(server_path(1)), TransportEvent::Disconnected]);
    assert_eq!((world.server.selected(), world.server.accepts_from(server_path(1))), (None, false));
    world.network.loss = 0.0;
    world.run(Duration::from_secs(3));
    assert_eq!(world.server_events.last(), Some(&TransportEvent::Recovered));
    assert_eq!(world.server.selected(), Some(server_path(1)));
    assert!(world.server.srtp().is_some(), "the keys are still the same");
}

#[test]
fn an_ice_restart_by_the_client_keeps_media_on_the_old_path_until_the_new_one_is_nominated() {
    let mut world = World::new(1, Network::GOOD).connected();
    world.client.restart_ice();
    let params = world.client.params();
    assert!(world.server.is_restart(&params));
    let old = world.server.local_ice().ufrag.clone();
    world.server.restart_ice(&mut world.rng);
    world.server.set_remote(world.now, &params).unwrap();
    assert!(!world.server.is_restart(&params));
    assert_ne!(world.server.local_ice().ufrag, old);
    assert_eq!(world.server.selected(), Some(server_path(1)));
    world.client.set_remote_ice(world.server.local_ice().clone());
    world.client.add_path(world.now, path(2));
    world.client.nominate(world.now, path(2));
    world.run(Duration::from_millis(300));
    assert_eq!(world.server.selected(), Some(server_path(2)));
    assert!(world.server_events.iter().all(|event| !matches!(event, TransportEvent::Disconnected)));
}

#[test]
fn an_ice_restart_revives_a_disconnected_transport() {
    let mut world = World::new(1, Network::GOOD).connected();
    world.client.remove_path(path(1));
    world.run(CONSENT_TIMEOUT + Duration::from_secs(1));
    assert_eq!(world.server_events.last(), Some(&TransportEvent::Disconnected));
    world.server.restart_ice(&mut world.rng);
    world.client.restart_ice();
    world.tell_client();
    // The checks are faster than the client's answer.
    world.client.add_path(world.now, path(2));
    world.run(Duration::from_millis(300));
    world.tell_server();
    world.run(Duration::from_millis(300));
    assert_eq!(world.server_events.last(), Some(&TransportEvent::Recovered));
    assert_eq!(world.server.selected(), Some(server_path(2)));
}

#[test]
fn a_client_with_more_paths_than_the_bound_keeps_the_nominated_one() {
    let mut world = World::new(1, Network::GOOD).connected();
    for n in 2..=u8::try_from(MAX_PATHS_PER_TRANSPORT * 2).unwrap() {
        world.client.add_path(world.now, path(n));
        world.run(Duration::from_millis(50));
    }
    let valid = (1..100).filter(|&n| world.server.accepts_from(server_path(n))).count();
    assert_eq!(valid, MAX_PATHS_PER_TRANSPORT);
    assert_eq!(world.server.selected(), Some(server_path(1)));
}

#[test]
fn a_transport_goes_on_by_its_other_path_when_a_connection_ends_and_is_disconnected_without_one() {
    let mut world = World::with_client(1, Network::GOOD, |now, rng| ClientTransport::new(now, rng).opening_channels()).connected();
    world.run(Duration::from_secs(1));
    world.client.add_path(world.now, path(2));
    world.run(Duration::from_millis(300));
    assert!(!world.server.close_path(server_path(3)));
    assert!(world.server.close_path(server_path(1)));
    assert_eq!((world.server.selected(), world.server.accepts_from(server_path(1))), (Some(server_path(2)), false));
    world.server_sends(Delivery::Reliable, b"still here");
    world.run(Duration::from_millis(100));
    assert_eq!(world.client_data().last(), Some(&(Delivery::Reliable, &b"still here"[..])));
    assert!(world.server.close_path(server_path(2)));
    assert_eq!(world.server.poll_event(), Some(TransportEvent::Disconnected));
    world.client.remove_path(path(1));
    world.client.add_path(world.now, path(4));
    world.run(Duration::from_millis(300));
    assert_eq!((world.server_events.last(), world.server.selected()), (Some(&TransportEvent::Recovered), Some(server_path(4))));
}

#[test]
fn an_answer_to_a_check_of_the_server_makes_its_flow_the_path() {
    let mut world = World::new(1, Network::GOOD).connected();
    world.client.add_path(world.now, path(2));
    // The client knows the path, but has not got round to checking it.
    let request = probe(&mut world, server_path(2)).unwrap();
    assert!(probe(&mut world, server_path(2)).is_none(), "one at a time");
    let answer = client_answer(&mut world, path(2), &request);
    assert_eq!(world.server.handle_answer(world.now, server_path(3), &answer), Err(Discard::StunUnknownUser), "from elsewhere");
    let mut forged = answer.clone();
    forged[25] ^= 1;
    assert!(world.server.handle_answer(world.now, server_path(2), &forged).is_err());
    assert_eq!(world.server.selected(), Some(server_path(1)));
    let outcome = world.server.handle_answer(world.now, server_path(2), &answer).unwrap();
    assert!(outcome.newly_valid && outcome.has_moved);
    assert_eq!(world.server.selected(), Some(server_path(2)));
    assert_eq!(world.server.handle_answer(world.now, server_path(2), &answer), Err(Discard::StunUnknownUser), "it counts once");
}

#[test]
fn an_answer_that_comes_late_or_with_another_password_proves_nothing() {
    let mut world = World::new(1, Network::GOOD).connected();
    let request = probe(&mut world, server_path(2)).unwrap();
    let answer = client_answer(&mut world, path(2), &request);
    world.client.restart_ice();
    let other = client_answer(&mut world, path(2), &request);
    assert!(other.is_empty(), "the client's user name is another one");
    world.now += Duration::from_secs(3);
    assert_eq!(world.server.handle_answer(world.now, server_path(2), &answer), Err(Discard::StunUnknownUser));
    assert!(!world.server.accepts_from(server_path(2)));
}

fn probe(world: &mut World, flow: Flow) -> Option<Vec<u8>> {
    let mut out = sfu_core::net::Outbox::default();
    let (now, rng) = (world.now, &mut world.rng);
    world.server.probe(now, flow, rng, &mut out)?;
    let requests: Vec<_> = out.datagrams().map(|(to, bytes)| (to, bytes.to_vec())).collect();
    assert_eq!((requests.len(), requests[0].0), (1, flow));
    Some(requests[0].1.clone())
}

fn client_answer(world: &mut World, flow: Flow, request: &[u8]) -> Vec<u8> {
    let mut out = sfu_core::net::Outbox::default();
    world.client.handle(world.now, flow, request, &mut out);
    out.datagrams().map(|(_, bytes)| bytes.to_vec()).next().unwrap_or_default()
}

#[test]
fn dtls_from_a_path_without_a_check_is_dropped() {
    let mut world = World::new(1, Network::GOOD).connected();
    let elsewhere = Flow { remote: ([203, 0, 113, 9], 1).into(), ..server_path(1) };
    assert_eq!(world.inject(elsewhere, &[22, 0xFE, 0xFD, 0, 0]), Err(Discard::UnknownSource));
}

#[test]
fn a_check_names_the_transport_that_it_is_for() {
    let mut world = World::new(1, Network::lossy(1.0)).signal();
    let ufrag = world.server.local_ice().ufrag.clone();
    let names = world.act(|w, out| {
        w.client.handle_timeout(w.now, out);
        out.datagrams().map(|(_, d)| username_ufrag(d).map(str::to_owned)).collect::<Vec<_>>()
    });
    assert_eq!(names, [Some(ufrag)]);
}
