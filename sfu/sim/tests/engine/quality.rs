//! Classes of connections, and subscriptions that cease to flow.

use sfu_api::{Command, Quality, QualityCause, QualityDirection, TrackId, VideoWish};
use sfu_core::media::Codec;
use sfu_core::subscribe::stream_state::STALL;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::TrackSpec;
use sfu_sim::scalability::Mode;
use sfu_sim::world::{Who, World};

use crate::noticing::{NOTICED_WITHIN, classes, found};
use crate::{MS, SECOND, pair, room, states};

#[test]
fn perfect_links_are_excellent_and_that_is_told_once() {
    let (mut world, people, _) = call(120);
    world.run_for(20 * SECOND);
    for &who in &people {
        assert_eq!(classes(&world, who), [Quality::Excellent]);
    }
}

#[test]
fn a_subscribers_loss_is_its_own_and_passes() {
    let (mut world, people, _) = call(121);
    world.run_for(5 * SECOND);
    world.participant_mut(people[1]).down.reconfigure(lossy(20.0));
    world.run_for(NOTICED_WITHIN);
    assert_eq!(classes(&world, people[1]).last(), Some(&Quality::Poor), "{:?}", classes(&world, people[1]));
    assert_eq!(classes(&world, people[0]), [Quality::Excellent], "the publisher's packets all arrive");
    assert_eq!(found(&world, people[1]).1, (QualityDirection::Down, QualityCause::Loss));
    world.participant_mut(people[1]).down.reconfigure(LinkConfig::delayed(10 * MS));
    world.run_for(NOTICED_WITHIN);
    assert_eq!(classes(&world, people[1]).last(), Some(&Quality::Excellent));
    assert_eq!(classes(&world, people[0]), [Quality::Excellent]);
}

#[test]
fn a_publishers_loss_does_not_lower_its_subscribers() {
    let (mut world, people, _) = call(122);
    world.run_for(5 * SECOND);
    world.participant_mut(people[0]).up.reconfigure(lossy(20.0));
    world.run_for(20 * SECOND);
    assert_eq!(found(&world, people[0]), (Quality::Poor, (QualityDirection::Up, QualityCause::Loss)));
    assert_eq!(classes(&world, people[1]), [Quality::Excellent]);
}

#[test]
fn a_long_way_costs_too() {
    let (mut world, people, _) = call(123);
    let far = LinkConfig::delayed(400 * MS);
    for direction in [0, 1] {
        let participant = world.participant_mut(people[1]);
        if direction == 0 { &mut participant.up } else { &mut participant.down }.reconfigure(far);
    }
    world.run_for(20 * SECOND);
    let class = classes(&world, people[1]).last().copied();
    assert!(class < Some(Quality::Excellent) && class > Some(Quality::Lost), "{class:?}");
    assert_eq!(found(&world, people[1]).1.1, QualityCause::Delay);
}

#[test]
fn who_is_not_heard_is_lost_and_found_again() {
    let (mut world, people, _) = call(124);
    world.run_for(5 * SECOND);
    world.participant_mut(people[1]).up.reconfigure(lossy(100.0));
    world.run_for(10 * SECOND);
    assert_eq!(classes(&world, people[1]).last(), Some(&Quality::Lost));
    world.participant_mut(people[1]).up.reconfigure(LinkConfig::delayed(10 * MS));
    world.run_for(10 * SECOND);
    assert!(classes(&world, people[1]).last() > Some(&Quality::Lost));
}

#[test]
fn a_layer_that_ceases_costs_a_class_while_somebody_wants_it() {
    let (mut world, track, who) = pair(125, |world| world.simulcast(Codec::Vp8));
    let owner = world.sender_of(track);
    world.run_for(5 * SECOND);
    world.sender_mut(track).video().unwrap().set_active(2, false);
    world.run_for(NOTICED_WITHIN);
    assert_eq!(classes(&world, owner), [Quality::Excellent, Quality::Good]);
    world.want_layer(who, track, 1);
    world.run_for(NOTICED_WITHIN + 4 * SECOND);
    assert_eq!(classes(&world, owner).last(), Some(&Quality::Excellent));
}

#[test]
fn a_layer_of_svc_that_ceases_costs_a_class_too() {
    let (mut world, track, _) = pair(128, |world| world.layered(Codec::Av1, Mode::L3T3, true));
    let owner = world.sender_of(track);
    world.run_for(5 * SECOND);
    world.sender_mut(track).video().unwrap().set_spatial_layers(0, 2);
    world.run_for(NOTICED_WITHIN);
    assert_eq!(found(&world, owner), (Quality::Good, (QualityDirection::Up, QualityCause::Bandwidth)));
    world.sender_mut(track).video().unwrap().set_spatial_layers(0, 3);
    world.run_for(NOTICED_WITHIN + SECOND);
    assert_eq!(classes(&world, owner).last(), Some(&Quality::Excellent));
}

#[test]
fn a_subscriber_without_bandwidth_learns_so_and_its_publisher_does_not() {
    for (limit_bps, expected) in [(1_000_000, Quality::Good), (100_000, Quality::Poor)] {
        let (mut world, track, who) = pair(129, |world| world.simulcast(Codec::Vp8));
        world.run_for(5 * SECOND);
        let participant = world.id(who);
        world.command(Command::LimitDownlink { participant, limit_bps: Some(limit_bps) });
        world.run_for(NOTICED_WITHIN);
        assert_eq!(found(&world, who), (expected, (QualityDirection::Down, QualityCause::Bandwidth)));
        assert_eq!(classes(&world, world.sender_of(track)), [Quality::Excellent]);
        world.command(Command::LimitDownlink { participant, limit_bps: None });
        world.run_for(NOTICED_WITHIN);
        assert_eq!(classes(&world, who).last(), Some(&Quality::Excellent));
    }
}

#[test]
fn a_track_that_stops_is_paused_for_its_subscribers_until_it_goes_on() {
    let (mut world, track, who) = pair(126, |world| world.single(Codec::Vp8));
    world.sender_mut(track).video().unwrap().set_active(0, false);
    world.run_for(STALL / 2);
    assert_eq!(states(&world, who, track), [false; 0], "a short pause is none");
    world.run_for(STALL);
    assert_eq!(states(&world, who, track), [true]);
    world.run_for(STALL * 2);
    assert_eq!(states(&world, who, track), [true], "told once");
    world.sender_mut(track).video().unwrap().set_active(0, true);
    world.run_for(SECOND);
    assert_eq!(states(&world, who, track), [true, false]);
}

#[test]
fn what_was_asked_for_is_no_pause() {
    let (mut world, track, who) = pair(127, |world| world.single(Codec::Vp8));
    world.set_muted(track, true);
    world.run_for(STALL * 2);
    world.set_muted(track, false);
    world.run_for(SECOND);
    world.set_wish(who, track, VideoWish { enabled: false, ..VideoWish::default() });
    world.run_for(SECOND);
    world.sender_mut(track).video().unwrap().set_active(0, false);
    world.run_for(STALL * 2);
    assert_eq!(states(&world, who, track), [false; 0]);
}

/// The first publishes video and audio, the second gets it.
fn call(seed: u64) -> (World, Vec<Who>, Vec<TrackId>) {
    let (mut world, people) = room(seed, 2);
    let specs = [world.single(Codec::Vp8), TrackSpec::Audio { level: 30 }];
    let tracks: Vec<TrackId> = specs.into_iter().map(|spec| world.publish(people[0], spec)).collect();
    for &track in &tracks {
        world.subscribe(people[1], track);
    }
    world.run_for(3 * SECOND);
    (world, people, tracks)
}

fn lossy(percent: f64) -> LinkConfig {
    LinkConfig { loss: Loss::Random(Chance::percent(percent)), ..LinkConfig::delayed(10 * MS) }
}
