//! Keyframes: who gets one when, and how often the publisher is asked.

use sfu_api::{TransportRole, VideoWish};
use sfu_core::media::Codec;
use sfu_core::rtp::rtcp::{Pli, write_pli};
use sfu_sim::world::{ROOM, World};

use crate::{MS, SECOND, assert_faultless, pair};

#[test]
fn keyframe_requests_of_50_subscribers_are_merged() {
    let (mut world, track, subscribers) = World::fan_out(60, |world| world.single(Codec::Vp8), 50);
    world.run_for(SECOND);
    let before = world.sender(track).feedback(0).keyframe_requests;
    for _ in 0..20 {
        for &who in &subscribers {
            let media_ssrc = world.participant(who).receiving(track).unwrap().ssrc;
            let mut compound = Vec::new();
            write_pli(&mut compound, Pli { sender_ssrc: 1, media_ssrc });
            let forged = world.forge_rtcp(who, TransportRole::Subscriber, compound).unwrap();
            world.inject(forged.flow, &forged.bytes);
        }
        world.run_for(50 * MS);
    }
    // 1000 requests in a second; at most one in 300 ms goes through.
    let asked = world.sender(track).feedback(0).keyframe_requests - before;
    assert!((1..=4).contains(&asked), "{asked} requests");
}

#[test]
fn who_asks_on_and_on_is_answered_now_and_then() {
    let (mut world, track, subscribers) = World::fan_out(66, |world| world.single(Codec::Vp8), 2);
    world.run_for(SECOND);
    let before = world.sender(track).feedback(0).keyframe_requests;
    for _ in 0..600 {
        let media_ssrc = world.participant(subscribers[0]).receiving(track).unwrap().ssrc;
        let mut compound = Vec::new();
        write_pli(&mut compound, Pli { sender_ssrc: 1, media_ssrc });
        let forged = world.forge_rtcp(subscribers[0], TransportRole::Subscriber, compound).unwrap();
        world.inject(forged.flow, &forged.bytes);
        world.run_for(50 * MS);
    }
    // Some at once, then one a second.
    let asked = world.sender(track).feedback(0).keyframe_requests - before;
    assert!((25..=35).contains(&asked), "{asked} requests in 30 s");
    for &who in &subscribers {
        assert_faultless(&world, who, track);
    }
}

#[test]
fn a_new_subscriber_sees_a_picture_within_a_round_trip() {
    let (mut world, track, _) = pair(61, |world| world.simulcast(Codec::H264));
    let late = world.join(ROOM);
    world.run_for(5 * SECOND);
    world.subscribe(late, track);
    // Signaling: 5 ms each for command, offer and answer; then request, keyframe, picture interval.
    world.expect("a picture is shown", (15 + 20 + 20 + 34 + 10) * MS, |world| world.frames(late, track) > 0);
    assert_eq!(world.report(late, track).frames_before_keyframe, 0);
}

#[test]
fn somebody_who_joins_late_sees_a_picture_within_a_second() {
    let (mut world, track, who) = pair(62, |world| world.simulcast(Codec::Vp8));
    world.run_for(5 * SECOND);
    let late = world.join(ROOM);
    world.subscribe(late, track);
    world.expect("a picture is shown", 500 * MS, |world| world.frames(late, track) > 0);
    world.run_for(SECOND);
    assert_faultless(&world, late, track);
    assert_faultless(&world, who, track);
}

#[test]
fn a_keyframe_that_grows_too_old_in_the_same_turn_is_asked_for_again() {
    let (mut world, track, who) = pair(65, |world| world.single(Codec::Vp8));
    world.turn_takes = MS;
    // Whether somebody who subscribes so long after a keyframe is shown a picture without another one.
    let mut is_replayed = |age: u32| {
        let late = world.join(ROOM);
        world.set_wish(who, track, VideoWish { enabled: false, ..VideoWish::default() });
        world.run_for(SECOND);
        let asked = |world: &World| world.sender(track).feedback(0).keyframe_requests;
        let before = asked(&world);
        world.set_wish(who, track, VideoWish::default());
        world.expect("a keyframe is asked for", 100 * MS, |world| asked(world) > before);
        world.run_for(age * MS);
        let before = asked(&world);
        world.subscribe(late, track);
        world.expect(&format!("a picture is shown {age} ms later"), 500 * MS, |world| world.frames(late, track) > 0);
        world.leave(late);
        asked(&world) == before
    };
    assert!(is_replayed(60));
    let end = (70..2_100).step_by(20).find(|&age| !is_replayed(age)).expect("it is too old at some time");
    // Every moment around that is tried.
    for age in end - 30..end + 10 {
        is_replayed(age);
    }
}

#[test]
fn a_keyframe_for_one_disturbs_nobody_else() {
    let (mut world, track, subscribers) = World::fan_out(63, |world| world.simulcast(Codec::Vp8), 5);
    for (layer, &who) in (0..3).cycle().zip(&subscribers) {
        world.want_layer(who, track, layer);
        world.run_for(700 * MS);
    }
    for (layer, &who) in (0..3).cycle().zip(&subscribers) {
        assert_eq!(world.layer(who, track), Some(layer));
        assert_faultless(&world, who, track);
        assert!(world.report(who, track).longest_gap < 120 * MS);
    }
}
