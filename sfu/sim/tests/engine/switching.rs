//! Simulcast: which layer a subscriber gets, and how it changes.

use sfu_api::VideoWish;
use sfu_core::media::Codec;
use sfu_sim::link::{Jitter, LinkConfig};
use sfu_sim::participant::{Datagram, TrackSpec};
use sfu_sim::video::VideoConfig;
use sfu_sim::world::World;

use crate::{MS, SECOND, assert_faultless, pair};

const EDGES_16: [u16; 6] = [0, 1, 32_767, 32_768, 65_534, 65_535];
const EDGES_32: [u32; 6] = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
/// A request and the keyframe over links of 10 ms, until the next picture, and the picture after it.
const KEYFRAME_ROUND_TRIP: std::time::Duration = std::time::Duration::from_millis(20 + 20 + 34 + 34);

/// Numbers of all encodings cross an edge while layers are switched every 400 ms.
fn switches_across_edges(codec: Codec) {
    for (edge16, edge32) in EDGES_16.into_iter().zip(EDGES_32) {
        let numbered = |world: &mut World| {
            let mut config = VideoConfig::simulcast(codec, &mut world.rng("camera"));
            // In 3.6 s: about 110 frames, and packets from 110 (q) to 700 (f).
            for (place, encoding) in (1..).zip(&mut config.encodings) {
                encoding.first_sequence = edge16.wrapping_sub(60 * place * place);
                encoding.first_timestamp = edge32.wrapping_sub(50_000 * u32::from(place));
                encoding.first_picture_id = edge16.wrapping_sub(30 * place) & 0x7fff;
            }
            TrackSpec::Video(config)
        };
        let (mut world, track, who) = pair(u64::from(edge16), numbered);
        world.expect("the full size is shown", SECOND, |world| world.layer(who, track) == Some(2));
        let first = world.report(who, track).switches.len();
        for layer in [0, 1, 2, 1, 0, 2, 0, 1, 2] {
            world.want_layer(who, track, layer);
            world.expect("the layer is shown", 400 * MS, |world| world.layer(who, track) == Some(layer));
            world.run_for(150 * MS);
        }
        assert_faultless(&world, who, track);
        let report = world.report(who, track);
        assert_eq!(report.switches.len() - first, 9, "edge {edge16}");
        assert!(report.longest_gap <= KEYFRAME_ROUND_TRIP, "edge {edge16}: {:?}", report.longest_gap);
        assert_eq!(report.frames_incomplete + report.frames_undecodable, 0, "edge {edge16}");
    }
}

#[test]
fn vp8_switches_are_seamless_at_every_edge() {
    switches_across_edges(Codec::Vp8);
}

#[test]
fn h264_switches_are_seamless_at_every_edge() {
    switches_across_edges(Codec::H264);
}

#[test]
fn the_smallest_layer_that_covers_the_shown_size_is_sent() {
    let (mut world, track, who) = pair(20, |world| world.simulcast(Codec::Vp8));
    for ((width_px, height_px), layer) in [((300, 170), 0), ((640, 360), 1), ((1920, 1080), 2), ((320, 180), 0)] {
        world.set_wish(who, track, VideoWish { width_px, height_px, ..VideoWish::default() });
        world.expect("the layer fits", SECOND, |world| world.layer(who, track) == Some(layer));
    }
    assert_faultless(&world, who, track);
}

#[test]
fn a_subscriber_that_wants_nothing_gets_nothing_until_it_does() {
    let (mut world, track, who) = pair(21, |world| world.simulcast(Codec::Vp8));
    world.set_wish(who, track, VideoWish { enabled: false, ..VideoWish::default() });
    world.run_for(100 * MS);
    let before = world.participant(who).receiving(track).unwrap().packets;
    world.run_for(2 * SECOND);
    assert_eq!(world.participant(who).receiving(track).unwrap().packets, before);
    let frames = world.frames(who, track);
    world.set_wish(who, track, VideoWish::default());
    world.expect("it is shown again", 300 * MS, |world| world.frames(who, track) > frames + 3);
    assert_faultless(&world, who, track);
}

#[test]
fn a_switch_waits_for_the_end_of_the_frame() {
    let (mut world, parts) = in_mid_frame(22);
    parts.inject(&mut world, &parts.old_rest);
    world.run_for(30 * MS);
    let report = world.report(parts.who, parts.track);
    assert_eq!(report.switches.last().map(|&(_, layer)| layer), Some(0));
    assert_eq!((report.frames_incomplete, report.frames_corrupted), (0, 0));
    assert_faultless(&world, parts.who, parts.track);
}

#[test]
fn a_switch_does_not_wait_longer_than_a_frame_takes() {
    let (mut world, parts) = in_mid_frame(23);
    world.run_for(50 * MS);
    assert_eq!(world.layer(parts.who, parts.track), Some(0));
}

#[test]
fn switches_over_a_reordering_uplink_glue_no_frames_together_and_leave_no_hole() {
    // With seed 1 an overtaken packet, forwarded late, was taken for the end of the newest frame.
    for seed in [1, 24, 28, 29] {
        let (mut world, track, who) = pair(seed, |world| world.simulcast(Codec::Vp8));
        let config = LinkConfig { jitter: Jitter::Reordering(8 * MS), ..LinkConfig::delayed(10 * MS) };
        let owner = world.sender_of(track);
        world.participant_mut(owner).up.reconfigure(config);
        for layer in [0, 2, 1, 0, 1, 2, 0, 2] {
            world.want_layer(who, track, layer);
            world.run_for(SECOND);
            assert_eq!(world.layer(who, track), Some(layer));
        }
        assert_faultless(&world, who, track);
        let report = world.report(who, track);
        assert!(report.frames_incomplete == 0 && report.longest_gap < 300 * MS, "seed {seed}: {report:?}");
    }
}

#[test]
fn a_layer_that_stops_flowing_falls_back_and_comes_back() {
    let (mut world, track, who) = pair(25, |world| world.simulcast(Codec::Vp8));
    world.run_for(SECOND);
    world.sender_mut(track).video().unwrap().set_active(2, false);
    world.expect("the next smaller layer is shown", 1100 * MS, |world| world.layer(who, track) == Some(1));
    world.run_for(2 * SECOND);
    world.sender_mut(track).video().unwrap().set_active(2, true);
    world.expect("the full size is back", 500 * MS, |world| world.layer(who, track) == Some(2));
    assert_faultless(&world, who, track);
    assert!(world.report(who, track).longest_gap < 1100 * MS, "{:?}", world.report(who, track));
}

/// A world in which the old layer's frame has begun and the new layer's keyframe is complete.
struct Parts {
    track: sfu_api::TrackId,
    who: sfu_sim::world::Who,
    old_rest: Vec<Datagram>,
}

impl Parts {
    fn inject(&self, world: &mut World, datagrams: &[Datagram]) {
        for datagram in datagrams {
            world.inject(datagram.flow, &datagram.bytes);
        }
    }
}

fn in_mid_frame(seed: u64) -> (World, Parts) {
    let (mut world, track, who) = pair(seed, |world| world.simulcast(Codec::Vp8));
    world.run_for(SECOND);
    let (small, full) = (world.sender(track).ssrc(0).unwrap(), world.sender(track).ssrc(2).unwrap());
    world.sender_mut(track).video().unwrap().request_keyframe(0);
    // The next picture of the camera is carried by hand, those after it are not sent at all.
    let built = world.prebuild(track, 200 * MS);
    let first = built[0].0;
    let picture: Vec<Datagram> = built.into_iter().filter(|&(at, _)| at == first).map(|(_, datagram)| datagram).collect();
    let of = |ssrc: u32| picture.iter().filter(move |d| d.bytes[8..12] == ssrc.to_be_bytes()).cloned().collect::<Vec<_>>();
    let (old, new) = (of(full), of(small));
    assert!(old.len() > 2);
    let parts = Parts { track, who, old_rest: old[1..].to_vec() };
    world.want_layer(who, track, 0);
    world.run_for(10 * MS);
    parts.inject(&mut world, &old[..1]);
    world.run_for(MS);
    parts.inject(&mut world, &new);
    world.run_for(12 * MS);
    assert_eq!(world.layer(who, track), Some(2), "the old frame is not complete");
    (world, parts)
}
