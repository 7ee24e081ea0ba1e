//! Input of people who mean harm, from outside and from inside of a call.

use std::time::Duration;

use rand::RngExt as _;
use sfu_api::{Event, TransportRole};
use sfu_core::error::Discard;
use sfu_core::limits::MAX_SSRCS_PER_TRANSPORT;
use sfu_core::media::Codec;
use sfu_core::net::{Flow, Protocol};
use sfu_core::rtp::rtcp::{Pli, write_pli};
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::{Datagram, TrackSpec};
use sfu_sim::sdp::extension_ids;
use sfu_sim::world::server_address;

use crate::{MS, SECOND, assert_faultless, pair};

#[test]
fn a_hundred_thousand_mutated_datagrams_change_nothing() {
    let (mut world, track, who) = pair(120, |world| world.single(Codec::Vp8));
    world.tap(4000);
    let late = world.join(sfu_sim::world::ROOM);
    world.subscribe(late, track);
    world.run_for(6 * SECOND);
    let samples = one_in_a_kind(world.tapped());
    let mut rng = world.rng("mutations");
    let discards = |world: &sfu_sim::world::World| world.snapshot().discards.iter().map(|(_, count)| count).sum::<u64>();
    let before = discards(&world);
    let transports = world.snapshot().transports;
    for round in 0..100 {
        for _ in 0..1000 {
            let mut datagram = samples[rng.random_range(0..samples.len())].clone();
            mutate(&mut datagram, &mut rng);
            world.inject(datagram.flow, &datagram.bytes);
        }
        world.run_for(20 * MS);
        assert_eq!(world.snapshot().transports, transports, "round {round}");
    }
    // DTLS drops what it can't read without telling.
    assert!(discards(&world) - before > 80_000, "{} drops", discards(&world) - before);
    assert_faultless(&world, who, track);
    assert!(world.report(who, track).longest_gap < 100 * MS);
}

#[test]
fn datagrams_of_strangers_are_dropped_and_not_answered() {
    let (mut world, track, who) = pair(121, |world| world.single(Codec::Vp8));
    world.tap(2000);
    world.run_for(5 * SECOND);
    let stranger = Flow { protocol: Protocol::Udp, local: server_address(), remote: ([203, 0, 113, 9], 4000).into() };
    let media: Vec<Datagram> = world.tapped().iter().filter(|d| d.bytes[0] >= 128).cloned().collect();
    let before = world.discarded(Discard::UnknownSource);
    for datagram in &media {
        world.inject(stranger, &datagram.bytes);
    }
    world.run_for(100 * MS);
    assert_eq!(world.discarded(Discard::UnknownSource) - before, media.len() as u64);
    assert_eq!(world.to_strangers, 0);
    assert_faultless(&world, who, track);
}

#[test]
fn forged_checks_are_dropped_and_not_answered() {
    let (mut world, track, who) = pair(122, |world| world.single(Codec::Vp8));
    world.tap(2000);
    world.run_for(5 * SECOND);
    let stranger = Flow { protocol: Protocol::Udp, local: server_address(), remote: ([203, 0, 113, 9], 4000).into() };
    let check = world.tapped().iter().find(|d| d.bytes[0] == 0).unwrap().clone();
    let before =
        world.discarded(Discard::StunIntegrity) + world.discarded(Discard::StunMalformed) + world.discarded(Discard::StunUnknownUser);
    for at in 0..check.bytes.len() {
        let mut forged = check.bytes.clone();
        forged[at] ^= 0x55;
        world.inject(stranger, &forged);
    }
    world.run_for(100 * MS);
    let after =
        world.discarded(Discard::StunIntegrity) + world.discarded(Discard::StunMalformed) + world.discarded(Discard::StunUnknownUser);
    // The first bytes also decide which protocol it is.
    assert!(after - before >= check.bytes.len() as u64 - 8, "{} of {}", after - before, check.bytes.len());
    assert_eq!(world.to_strangers, 0);
    assert_faultless(&world, who, track);
}

#[test]
fn replayed_media_is_dropped() {
    let (mut world, track, who) = pair(123, |world| world.single(Codec::Vp8));
    world.tap(500);
    world.run_for(5 * SECOND);
    let media: Vec<Datagram> = world.tapped().iter().filter(|d| d.bytes[0] >= 128).cloned().collect();
    let before = world.discarded(Discard::SrtpReplay);
    for datagram in &media {
        world.inject(datagram.flow, &datagram.bytes);
    }
    assert_eq!(world.discarded(Discard::SrtpReplay) - before, media.len() as u64);
    world.run_for(SECOND);
    assert_faultless(&world, who, track);
}

#[test]
fn a_flood_of_ssrcs_by_an_authenticated_client_takes_no_room_from_tracks() {
    let (mut world, track, who) = pair(124, |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    let owner = world.sender_of(track);
    let flood = u32::try_from(MAX_SSRCS_PER_TRANSPORT * 8).unwrap();
    let before = world.discarded(Discard::UnknownSsrc);
    for ssrc in 0..flood {
        // An unknown payload type and no extensions.
        let packet = rtp(77, 1, 0x1000_0000 + ssrc, &[1, 2, 3]);
        let forged = world.forge(owner, &packet).unwrap();
        world.inject(forged.flow, &forged.bytes);
    }
    assert_eq!(world.discarded(Discard::UnknownSsrc) - before, u64::from(flood));
    let spec = world.simulcast(Codec::Vp8);
    let other = world.publish(owner, spec);
    world.subscribe(who, other);
    world.expect("a new track is shown", SECOND, |world| world.layer(who, other) == Some(2));
    world.run_for(SECOND);
    assert_faultless(&world, who, track);
    assert_faultless(&world, who, other);
    assert!(world.report(who, track).longest_gap < 100 * MS);
}

#[test]
fn malformed_feedback_of_an_authenticated_client_is_counted_and_dropped() {
    let (mut world, track, who) = pair(125, |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    let frames = world.frames(who, track);
    let garbage: Vec<u8> = (0..=255).collect();
    for len in 8..200 {
        let mut compound = vec![0x80 | 1, 205, 0, 2];
        compound.extend_from_slice(&garbage[..len]);
        if let Some(forged) = world.forge_rtcp(who, TransportRole::Subscriber, compound) {
            world.inject(forged.flow, &forged.bytes);
        }
    }
    world.run_for(SECOND);
    assert!(world.discarded(Discard::RtcpMalformed) > 0);
    assert!(world.frames(who, track) > frames + 25);
    assert_faultless(&world, who, track);
}

#[test]
fn padding_alone_is_not_loss() {
    let (mut world, track, who) = pair(126, |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    let (owner, ssrc) = (world.sender_of(track), world.sender(track).ssrc(0).unwrap());
    // The camera stops at a frame's end; a probe for bandwidth takes the numbers that follow.
    let newest = world.sender(track).highest(0).unwrap();
    world.sender_mut(track).video().unwrap().set_active(0, false);
    world.run_for(100 * MS);
    for step in 1..=5 {
        let sequence = u16::try_from((newest + step) & 0xffff).unwrap();
        let mut packet = rtp(96, sequence, ssrc, &[0; 50]);
        packet[0] |= 0x20;
        *packet.last_mut().unwrap() = 50;
        let forged = world.forge_at(owner, newest + step, &packet).unwrap();
        world.inject(forged.flow, &forged.bytes);
    }
    world.sender_mut(track).skip(0, 5);
    world.sender_mut(track).video().unwrap().set_active(0, true);
    world.run_for(2 * SECOND);
    assert_faultless(&world, who, track);
    assert_eq!(world.sender(track).feedback(0).nacked, 0, "nothing was lost on the way up");
    let report = world.report(who, track);
    assert_eq!((report.packets_lost, report.frames_incomplete), (0, 0));
    assert!(report.longest_gap < 250 * MS, "{report:?}");
}

#[test]
fn a_publisher_that_sends_two_streams_by_turns_does_not_begin_anew_with_every_packet() {
    let (mut world, track, who) = pair(131, |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    let owner = world.sender_of(track);
    for sequence in 0..50 {
        let forged = world.forge(owner, &rtp(96, sequence, 0x2000_0000, &[0; 50])).unwrap();
        world.inject(forged.flow, &forged.bytes);
        world.run_for(20 * MS);
    }
    let asked = world.sender(track).feedback(0).keyframe_requests;
    assert!(asked <= 4, "{asked} keyframe requests");
    // Packets of the camera since the other stream began.
    assert!(world.discarded(Discard::UnknownSsrc) > 20);
    let frames = world.frames(who, track);
    world.expect("what goes on alone is seen", 5 * SECOND, |world| world.frames(who, track) > frames + 25);
}

#[test]
fn a_video_track_is_no_microphone() {
    let (mut world, track, _) = pair(132, |world| world.single(Codec::Vp8));
    let owner = world.sender_of(track);
    world.publish(owner, TrackSpec::Audio { level: 127 });
    world.run_for(SECOND);
    let ssrc = world.sender(track).ssrc(0).unwrap();
    for step in 1..=100 {
        let sequence = world.sender(track).highest(0).unwrap() + step;
        let mut packet = rtp(96, u16::try_from(sequence & 0xffff).unwrap(), ssrc, &[]);
        packet[0] |= 0x10;
        // A level of -5 dBov with voice, under the id that the client's audio has.
        packet.extend_from_slice(&[0xbe, 0xde, 0, 1, extension_ids::AUDIO_LEVEL << 4, 0x85, 0, 0]);
        packet.extend_from_slice(&[0; 50]);
        let forged = world.forge_at(owner, sequence, &packet).unwrap();
        world.inject(forged.flow, &forged.bytes);
        world.run_for(20 * MS);
    }
    assert!(!world.log.iter().any(|event| matches!(event, Event::Speakers { .. })));
}

#[test]
fn a_peer_behind_a_dead_link_costs_the_others_nothing() {
    let (mut world, track, subscribers) = sfu_sim::world::World::fan_out(127, |world| world.simulcast(Codec::Vp8), 3);
    let dead = LinkConfig { rate_bps: Some(10_000), queue_bytes: 3000, ..LinkConfig::delayed(Duration::from_millis(500)) };
    world.participant_mut(subscribers[0]).down.reconfigure(dead);
    world.run_for(10 * SECOND);
    for &who in &subscribers[1..] {
        assert_faultless(&world, who, track);
        assert!(world.report(who, track).longest_gap < 100 * MS);
    }
    assert!(world.sender(track).feedback(2).keyframe_requests < 40, "{:?}", world.sender(track).feedback(2));
}

fn rtp(payload_type: u8, sequence: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend_from_slice(&sequence.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// A few datagrams of every protocol and length.
fn one_in_a_kind(tapped: &[Datagram]) -> Vec<Datagram> {
    let mut kinds = std::collections::BTreeMap::new();
    for datagram in tapped {
        let key = (datagram.bytes[0], datagram.bytes[1], datagram.bytes.len() / 64);
        kinds.entry(key).or_insert_with(|| datagram.clone());
    }
    assert!(kinds.len() > 10, "STUN, DTLS, RTP and RTCP");
    kinds.into_values().collect()
}

fn mutate(datagram: &mut Datagram, rng: &mut impl rand::Rng) {
    let bytes = &mut datagram.bytes;
    match rng.random_range(0..6) {
        0 => bytes.truncate(rng.random_range(0..bytes.len())),
        1 => bytes.extend((0..rng.random_range(1..64)).map(|_| 0xa5)),
        2 => {
            let from = rng.random_range(0..bytes.len());
            bytes[from..].iter_mut().for_each(|byte| *byte = rng.random());
        }
        _ => {
            for _ in 0..rng.random_range(1..5) {
                let at = rng.random_range(0..bytes.len());
                bytes[at] ^= rng.random_range(1..=255);
            }
        }
    }
    if rng.random_ratio(1, 20) {
        datagram.flow.remote.set_port(rng.random());
    }
}

#[test]
fn what_is_wrong_in_a_compound_costs_nothing_else_of_it() {
    let (mut world, track, who) = pair(134, |world| world.single(Codec::Vp8));
    world.run_for(2 * SECOND);
    let before = (world.discarded(Discard::FeedbackUnfounded), world.discarded(Discard::RtcpMalformed));
    let asked = world.sender(track).feedback(0).keyframe_requests;
    // Feedback on what was never sent, an element that does not parse, and a request for a keyframe behind them.
    let mut compound = vec![0x8f, 205, 0, 5, 0, 0, 0, 1, 0, 0, 0, 2, 0x90, 0, 0, 4, 0, 0, 0, 0, 0, 4, 0, 0];
    compound.extend_from_slice(&[0x8f, 205, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0]);
    write_pli(&mut compound, Pli { sender_ssrc: 1, media_ssrc: world.participant(who).receiving(track).unwrap().ssrc });
    let forged = world.forge_rtcp(who, TransportRole::Subscriber, compound).unwrap();
    world.inject(forged.flow, &forged.bytes);
    world.run_for(SECOND);
    assert_eq!((world.discarded(Discard::FeedbackUnfounded), world.discarded(Discard::RtcpMalformed)), (before.0 + 1, before.1 + 1));
    assert_eq!(world.sender(track).feedback(0).keyframe_requests, asked + 1);
    assert_faultless(&world, who, track);
}

#[test]
fn a_storm_of_numbers_that_are_asked_for_is_not_looked_up() {
    let (mut world, track, who) = pair(135, |world| world.single(Codec::Vp8));
    world.run_for(2 * SECOND);
    let media_ssrc = world.participant(who).receiving(track).unwrap().ssrc;
    let mut compound = vec![0x81, 205];
    let pairs = 350_u16;
    compound.extend_from_slice(&(pairs + 2).to_be_bytes());
    compound.extend_from_slice(&[0, 0, 0, 1]);
    compound.extend_from_slice(&media_ssrc.to_be_bytes());
    (0..pairs).for_each(|pair| compound.extend_from_slice(&[pair.to_be_bytes(), [0xff; 2]].concat()));
    let before = world.discarded(Discard::FeedbackUnfounded);
    for _ in 0..100 {
        let forged = world.forge_rtcp(who, TransportRole::Subscriber, compound.clone()).unwrap();
        world.inject(forged.flow, &forged.bytes);
    }
    world.run_for(100 * MS);
    let refused = world.discarded(Discard::FeedbackUnfounded) - before;
    assert_eq!(refused, 100, "each of them names more than there is to be resent");
    world.run_for(2 * SECOND);
    // Who is a victim of its own storm is heard again as more is sent.
    world.participant_mut(who).down.reconfigure(LinkConfig { loss: Loss::Random(Chance::percent(5.0)), ..LinkConfig::delayed(10 * MS) });
    let resent = world.participant(who).receiving(track).unwrap().retransmissions;
    world.run_for(5 * SECOND);
    assert!(world.participant(who).receiving(track).unwrap().retransmissions > resent + 10);
    assert_faultless(&world, who, track);
}
