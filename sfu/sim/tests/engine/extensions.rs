//! Header extensions: what of a publisher's packets reaches subscribers, and what is written for each of them.

use sfu_api::{Command, PlayoutDelay, VideoWish};
use sfu_core::media::{Codec, Extension};
use sfu_sim::participant::TrackSpec;
use sfu_sim::scalability::Mode;
use sfu_sim::sdp::extension_ids;
use sfu_sim::world::{ROOM, Who, World};

use crate::{MS, SECOND, assert_faultless, pair};

/// Newest value of an extension that somebody got with a track.
fn element(world: &World, who: Who, track: sfu_api::TrackId, extension: Extension) -> Option<Vec<u8>> {
    world.participant(who).receiving(track).unwrap().elements.get(&extension.offered_id()).cloned()
}

#[test]
fn what_a_publisher_says_of_its_packets_is_passed_on() {
    let (mut world, track, who) = pair(60, |world| world.single(Codec::Vp8));
    let said = [
        (extension_ids::VIDEO_ORIENTATION, Extension::VideoOrientation, vec![3]),
        (extension_ids::PLAYOUT_DELAY, Extension::PlayoutDelay, vec![0x00, 0xa0, 0x64]),
        (extension_ids::ABS_CAPTURE_TIME, Extension::AbsCaptureTime, vec![1, 2, 3, 4, 5, 6, 7, 8]),
    ];
    world.sender_mut(track).elements = said.iter().map(|(id, _, value)| (*id, value.clone())).collect();
    world.run_for(SECOND);
    for (_, extension, value) in said {
        assert_eq!(element(&world, who, track, extension), Some(value), "{extension:?}");
    }
    let first = element(&world, who, track, Extension::TransportCc);
    world.run_for(100 * MS);
    assert_ne!(element(&world, who, track, Extension::TransportCc), first, "each packet has its own number");
    assert_eq!(element(&world, who, track, Extension::AbsSendTime), None, "one of them is enough");
    assert_faultless(&world, who, track);
}

#[test]
fn a_capture_time_with_clock_offset_and_an_audio_level_are_passed_on() {
    let (mut world, track, who) = pair(61, |_| TrackSpec::Audio { level: 30 });
    let capture: Vec<u8> = (1..=16).collect();
    world.sender_mut(track).elements = vec![(extension_ids::ABS_CAPTURE_TIME, capture.clone())];
    world.run_for(SECOND);
    assert_eq!(element(&world, who, track, Extension::AudioLevel), Some(vec![0x80 | 30]));
    assert_eq!(element(&world, who, track, Extension::AbsCaptureTime), Some(capture));
}

#[test]
fn a_subscriber_without_transport_wide_numbers_gets_send_times() {
    let mut world = World::new(62);
    let publisher = world.join(ROOM);
    let spec = world.simulcast(Codec::Vp8);
    let track = world.publish(publisher, spec);
    let who = world.join(ROOM);
    world.participant_mut(who).refused = vec!["transport-wide-cc"];
    world.subscribe(who, track);
    world.expect("video flows", 3 * SECOND, |world| world.frames(who, track) > 10);
    let time =
        |world: &World| element(world, who, track, Extension::AbsSendTime).map(|v| u32::from_be_bytes([0, v[0], v[1], v[2]])).unwrap();
    let before = time(&world);
    world.run_for(SECOND);
    let passed = time(&world).wrapping_sub(before) & 0x00ff_ffff;
    // 18 bits behind the point; a frame interval more or less.
    assert!(passed.abs_diff(1 << 18) < (1 << 18) / 20, "{passed} in units of 2^-18 s");
    assert_eq!(element(&world, who, track, Extension::TransportCc), None);
    assert_faultless(&world, who, track);
}

#[test]
fn a_rooms_playout_delay_replaces_that_of_publishers_and_goes_again() {
    let (mut world, track, who) = pair(63, |world| world.single(Codec::Vp8));
    world.sender_mut(track).elements = vec![(extension_ids::PLAYOUT_DELAY, vec![0, 0, 1])];
    let delay = Some(PlayoutDelay { min_ms: 400, max_ms: 2_000 });
    world.command(Command::SetPlayoutDelay { room: ROOM, delay });
    world.run_for(200 * MS);
    // 40 and 200 units of 10 ms, 12 bits each.
    assert_eq!(element(&world, who, track, Extension::PlayoutDelay), Some(vec![0x02, 0x80, 0xc8]));
    // A track that is published later has it too.
    let other = world.join(ROOM);
    let spec = world.single(Codec::Vp8);
    let second = world.publish(other, spec);
    world.subscribe(who, second);
    world.expect("the other one is shown", 3 * SECOND, |world| world.frames(who, second) > 5);
    assert_eq!(element(&world, who, second, Extension::PlayoutDelay), Some(vec![0x02, 0x80, 0xc8]));
    world.command(Command::SetPlayoutDelay { room: ROOM, delay: None });
    world.run_for(200 * MS);
    assert_eq!(element(&world, who, track, Extension::PlayoutDelay), Some(vec![0, 0, 1]));
    assert_faultless(&world, who, track);
}

/// Structures are longer than a one-byte element; those who can't read two-byte elements must not get any.
#[test]
fn who_can_not_read_descriptors_gets_blocks_that_it_can_read() {
    for refused in ["dependency-descriptor", "extmap-allow-mixed"] {
        let mut world = World::new(64);
        let publisher = world.join(ROOM);
        let spec = world.layered(Codec::Vp9, Mode::L3T3_KEY, true);
        let track = world.publish(publisher, spec);
        let (plain, able) = (world.join(ROOM), world.join(ROOM));
        world.participant_mut(plain).refused = vec![refused];
        world.subscribe(plain, track);
        world.subscribe(able, track);
        world.expect("both see it", 3 * SECOND, |world| world.frames(plain, track) > 10 && world.frames(able, track) > 10);
        for layer in [0, 2, 1] {
            let wish = VideoWish { max_spatial: layer, ..VideoWish::default() };
            world.set_wish(plain, track, wish);
            world.expect("the layer is shown", SECOND, |world| world.layer(plain, track) == Some(layer));
        }
        let long_blocks = |who| world.participant(who).receiving(track).unwrap().long_blocks;
        assert_eq!(long_blocks(plain), 0, "without {refused}");
        assert!(long_blocks(able) > 0);
        assert_faultless(&world, able, track);
        assert_eq!(world.report(plain, track).frames_undecodable, 0);
    }
}
