//! Networks that change, break and come back under a call.

use sfu_api::{Event, TransportRole, TransportState};
use sfu_core::media::Codec;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::world::{Who, World};

use crate::{MS, SECOND, assert_faultless, pair};

#[test]
fn ice_restarts_of_both_sides_are_not_seen() {
    let (mut world, track, who) = pair(90, |world| world.simulcast(Codec::Vp8));
    let owner = world.sender_of(track);
    for _ in 0..3 {
        let before = ufrags(&world, owner, who);
        world.restart_ice(owner, TransportRole::Publisher);
        world.run_for(2 * SECOND);
        world.restart_ice(who, TransportRole::Subscriber);
        world.run_for(4 * SECOND);
        let after = ufrags(&world, owner, who);
        assert!(before.0 != after.0 && before.1 != after.1);
    }
    assert_faultless(&world, who, track);
    assert!(world.report(who, track).longest_gap < 100 * MS, "{:?}", world.report(who, track));
}

#[test]
fn a_change_of_the_subscribers_network_interrupts_shortly() {
    let (mut world, track, who) = pair(91, |world| world.simulcast(Codec::Vp8));
    world.run_for(SECOND);
    world.change_network(who);
    world.run_for(10 * SECOND);
    assert_eq!(world.report(who, track).faults(), [""; 0]);
    assert!(world.report(who, track).longest_gap < SECOND, "{:?}", world.report(who, track));
}

#[test]
fn a_change_of_the_publishers_network_interrupts_shortly() {
    let (mut world, track, who) = pair(92, |world| world.simulcast(Codec::Vp8));
    world.run_for(SECOND);
    let owner = world.sender_of(track);
    world.change_network(owner);
    world.run_for(10 * SECOND);
    assert_faultless(&world, who, track);
    assert!(world.report(who, track).longest_gap < SECOND, "{:?}", world.report(who, track));
}

#[test]
fn consent_ends_in_silence_and_a_restart_brings_everything_back() {
    let (mut world, track, who) = pair(93, |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    set_down(&mut world, who, true);
    world.run_for(40 * SECOND);
    assert_eq!(last_state(&world, who), Some(TransportState::Disconnected));
    let sent = world.participant(who).down.counters().sent;
    world.run_for(5 * SECOND);
    assert_eq!(world.participant(who).down.counters().sent, sent, "nothing is sent without consent");
    set_down(&mut world, who, false);
    world.restart_ice(who, TransportRole::Subscriber);
    let frames = world.frames(who, track);
    world.expect("pictures are back", 4 * SECOND, |world| world.frames(who, track) > frames + 10);
    assert_eq!(last_state(&world, who), Some(TransportState::Connected));
    assert_eq!(world.report(who, track).faults(), [""; 0]);
}

#[test]
fn a_flow_taken_over_by_another_peer_returns_with_the_owners_next_check() {
    let (mut world, track, who) = pair(94, |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    let owner = world.sender_of(track);
    // The subscriber's checks come from the publisher's address: forged by somebody in the room.
    world.tap(200);
    world.run_for(5 * SECOND);
    let ufrag = world.participant(who).subscriber.remote_ufrag().unwrap().to_owned();
    let is_check = |d: &&sfu_sim::participant::Datagram| d.bytes[0] == 0 && contains(&d.bytes, ufrag.as_bytes());
    let check = world.tapped().iter().find(is_check).unwrap().clone();
    let flow = world.participant(owner).publisher.server_flow().unwrap();
    world.inject(flow, &check.bytes);
    let frames = world.frames(who, track);
    world.run_for(6 * SECOND);
    assert!(world.frames(who, track) > frames + 60, "{} frames", world.frames(who, track) - frames);
}

#[test]
fn a_closed_connection_is_reported_and_its_client_comes_back_by_a_new_one() {
    let (mut world, track, who) = pair(95, |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    let flow = world.participant(who).subscriber.server_flow().unwrap();
    assert!(world.shard.is_path(&flow));
    world.shard.flow_closed(world.now(), flow);
    assert!(!world.shard.is_path(&flow));
    world.run_for(10 * MS);
    assert_eq!(last_state(&world, who), Some(TransportState::Disconnected));
    world.change_network(who);
    let frames = world.frames(who, track);
    world.expect("pictures are back", SECOND, |world| world.frames(who, track) > frames + 5);
    assert_eq!(last_state(&world, who), Some(TransportState::Connected));
    assert_eq!(world.report(who, track).faults(), [""; 0]);
    assert!(world.report(who, track).longest_gap < SECOND, "{:?}", world.report(who, track));
}

#[test]
fn the_end_of_a_strangers_connection_changes_nothing() {
    let (mut world, track, who) = pair(96, |world| world.single(Codec::Vp8));
    let flow = world.participant(who).subscriber.server_flow().unwrap();
    let stranger = sfu_core::net::Flow { remote: ([203, 0, 113, 9], 9).into(), ..flow };
    assert!(!world.shard.is_path(&stranger));
    world.shard.flow_closed(world.now(), stranger);
    world.run_for(3 * SECOND);
    assert_faultless(&world, who, track);
    assert_eq!(world.shard.snapshot().path_changes, 0);
}

#[test]
fn paths_are_counted_by_kind_and_changes_by_transport() {
    let (mut world, _, who) = pair(97, |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    let before = world.shard.snapshot();
    let connected = before.transports.iter().sum::<usize>();
    assert_eq!((before.paths, before.dtls.iter().sum::<usize>(), before.path_changes), ([connected, 0, 0, 0], connected, 0));
    world.change_network(who);
    world.run_for(SECOND);
    let changes = world.shard.snapshot().path_changes;
    assert_eq!((world.shard.snapshot().paths[0], changes), (connected, 1), "the subscriber's only connected transport moved");
}

#[test]
fn a_nat_that_gives_a_publisher_another_address_interrupts_for_less_than_its_next_check_would_take() {
    for seed in 100..104 {
        let (mut world, track, who) = pair(seed, |world| world.simulcast(Codec::Vp8));
        let owner = world.sender_of(track);
        world.run_for(2 * SECOND + 300 * MS * u32::try_from(seed - 100).unwrap());
        world.rebind_nat(owner);
        world.run_for(5 * SECOND);
        assert!(world.report(who, track).longest_gap < 400 * MS, "{:?}", world.report(who, track));
        assert_faultless(&world, who, track);
    }
}

#[test]
fn a_nat_that_gives_a_subscriber_another_address_interrupts_for_less_than_its_next_check_would_take() {
    for seed in 110..114 {
        let (mut world, track, who) = pair(seed, |world| world.simulcast(Codec::Vp8));
        world.run_for(2 * SECOND + 300 * MS * u32::try_from(seed - 110).unwrap());
        let before = world.shard.snapshot().path_changes;
        world.rebind_nat(who);
        world.run_for(5 * SECOND);
        assert_eq!(world.report(who, track).faults(), [""; 0]);
        // These clients send nothing but a report every second.
        assert!(world.report(who, track).longest_gap < 1_100 * MS, "{:?}", world.report(who, track));
        assert_eq!(world.shard.snapshot().path_changes - before, 1);
    }
}

#[test]
fn media_that_somebody_repeats_from_another_address_moves_nothing() {
    let (mut world, track, who) = pair(120, |world| world.single(Codec::Vp8));
    let owner = world.sender_of(track);
    world.run_for(SECOND);
    // Somebody on the way holds packets back and sends them from its own address: authentic, never seen, and a lie.
    let stolen = world.prebuild(track, 300 * MS);
    world.set_muted(track, true);
    world.run_for(SECOND);
    let flow = world.participant(owner).publisher.server_flow().unwrap();
    let elsewhere = sfu_core::net::Flow { remote: ([203, 0, 113, 66], 6666).into(), ..flow };
    let (strangers, changes) = (world.to_strangers, world.shard.snapshot().path_changes);
    for (_, datagram) in &stolen {
        world.inject(elsewhere, &datagram.bytes);
        world.run_for(20 * MS);
    }
    assert!((1..=5).contains(&(world.to_strangers - strangers)), "{} checks were sent there", world.to_strangers - strangers);
    assert!(!world.shard.is_path(&elsewhere));
    world.set_muted(track, false);
    let frames = world.frames(who, track);
    world.expect("pictures are back", 4 * SECOND, |world| world.frames(who, track) > frames + 10);
    assert_eq!(world.shard.snapshot().path_changes, changes);
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn ufrags(world: &World, owner: Who, who: Who) -> (String, String) {
    let of = |ufrag: Option<&str>| ufrag.unwrap_or_default().to_owned();
    (of(world.participant(owner).publisher.remote_ufrag()), of(world.participant(who).subscriber.remote_ufrag()))
}

fn set_down(world: &mut World, who: Who, is_down: bool) {
    let loss = if is_down { Loss::Random(Chance::new(1.0)) } else { Loss::None };
    let config = LinkConfig { loss, ..LinkConfig::delayed(10 * MS) };
    world.participant_mut(who).up.reconfigure(config);
    world.participant_mut(who).down.reconfigure(config);
}

fn last_state(world: &World, who: Who) -> Option<TransportState> {
    let id = world.id(who);
    world.log.iter().rev().find_map(|event| match event {
        Event::Transport { participant, role: TransportRole::Subscriber, state } if *participant == id => Some(*state),
        _ => None,
    })
}
