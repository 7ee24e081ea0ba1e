//! Layers within one encoding: which sizes and frame rates a subscriber gets, and how these change.

use std::time::Duration;

use sfu_api::{TrackId, VideoWish};
use sfu_core::media::Codec;
use sfu_sim::link::{Chance, Jitter, LinkConfig, Loss};
use sfu_sim::participant::TrackSpec;
use sfu_sim::scalability::Mode;
use sfu_sim::video::VideoConfig;
use sfu_sim::world::{Who, World};

use crate::{MS, SECOND, assert_faultless, pair};

const EDGES_16: [u16; 6] = [0, 1, 32_767, 32_768, 65_534, 65_535];
const EDGES_32: [u32; 6] = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

/// Codecs with modes, and whether the dependency descriptor is sent.
const ALL: [(Codec, Mode, bool); 15] = [
    (Codec::Vp8, Mode::L1T2, false),
    (Codec::Vp8, Mode::L1T3, false),
    (Codec::Vp8, Mode::L1T3, true),
    (Codec::H264, Mode::L1T3, true),
    (Codec::Vp9, Mode::L1T3, false),
    (Codec::Vp9, Mode::L2T2_KEY, false),
    (Codec::Vp9, Mode::L3T3, false),
    (Codec::Vp9, Mode::L3T3_KEY, false),
    (Codec::Vp9, Mode::L3T3, true),
    (Codec::Vp9, Mode::L3T3_KEY, true),
    (Codec::Av1, Mode::L1T2, true),
    (Codec::Av1, Mode::L1T3, true),
    (Codec::Av1, Mode::L2T2_KEY, true),
    (Codec::Av1, Mode::L3T3, true),
    (Codec::Av1, Mode::L3T3_KEY, true),
];

/// A camera whose numbers cross these edges within the first seconds.
fn numbered(world: &World, (codec, mode, is_described): (Codec, Mode, bool), edge16: u16, edge32: u32) -> TrackSpec {
    let mut config = VideoConfig::layered(codec, mode, is_described, &mut world.rng("camera"));
    let encoding = &mut config.encodings[0];
    encoding.first_sequence = edge16.wrapping_sub(400);
    encoding.first_timestamp = edge32.wrapping_sub(200_000);
    encoding.first_picture_id = edge16.wrapping_sub(60) & 0x7fff;
    encoding.first_frame_number = edge16.wrapping_sub(150);
    TrackSpec::Video(config)
}

#[test]
fn a_track_of_which_nothing_comes_rests_whatever_frame_rate_is_wanted() {
    let (mut world, track, who) = pair(1, |world| world.single(Codec::Vp8));
    world.set_wish(who, track, wish(u8::MAX, 15));
    world.run_for(SECOND);
    assert_eq!(world.snapshot().awake_tracks, 1);
    world.sender_mut(track).video().unwrap().set_active(0, false);
    world.run_for(30 * SECOND);
    assert_eq!(world.snapshot().awake_tracks, 0);
    world.sender_mut(track).video().unwrap().set_active(0, true);
    world.run_for(2 * SECOND);
    assert_eq!(world.snapshot().awake_tracks, 1);
}

fn wish(max_spatial: u8, max_fps: u32) -> VideoWish {
    VideoWish { max_spatial, max_fps, ..VideoWish::default() }
}

#[test]
fn every_mode_goes_up_and_down_in_size_without_a_fault_at_every_edge() {
    for case in ALL.into_iter().filter(|(_, mode, _)| mode.spatial > 1) {
        for (edge16, edge32) in EDGES_16.into_iter().zip(EDGES_32) {
            let (mut world, track, who) = pair(40, |world| numbered(world, case, edge16, edge32));
            let top = case.1.spatial - 1;
            world.expect("the full size is shown", SECOND, |world| world.layer(who, track) == Some(top));
            for layer in [0, top, 0, top / 2, top, top / 2, 0] {
                world.want_layer(who, track, layer);
                world.expect(&format!("layer {layer} is shown of {case:?}"), 600 * MS, |world| world.layer(who, track) == Some(layer));
                world.run_for(200 * MS);
                assert_eq!(world.layer(who, track), Some(layer), "{case:?}: it stays");
            }
            let report = world.report(who, track);
            assert_eq!(report.faults(), [""; 0], "{case:?} at {edge16}: {report:?}");
            assert_eq!(report.frames_undecodable + report.frames_incomplete + report.packets_lost, 0, "{case:?} at {edge16}");
            assert!(report.longest_gap < 150 * MS, "{case:?} at {edge16}: {:?}", report.longest_gap);
        }
    }
}

#[test]
fn every_mode_changes_its_frame_rate_without_a_fault_or_a_keyframe_at_every_edge() {
    for (place, case) in ALL.into_iter().enumerate() {
        // Two edges each: the numbers of all modes are made in the same places.
        for (edge16, edge32) in EDGES_16.into_iter().zip(EDGES_32).skip(place % 3 * 2).take(2) {
            let (mut world, track, who) = pair(41, |world| numbered(world, case, edge16, edge32));
            // Rates have to be measured first.
            world.run_for(2500 * MS);
            let keyframes = world.report(who, track).keyframes_shown;
            for (max_fps, expected) in
                [(8, 30 >> (case.1.temporal - 1)), (0, 30), (16, 15), (8, 30 >> (case.1.temporal - 1)), (16, 15), (0, 30)]
            {
                world.set_wish(who, track, wish(u8::MAX, max_fps));
                world.run_for(300 * MS);
                let before = world.frames(who, track);
                world.run_for(SECOND);
                let shown = world.frames(who, track) - before;
                assert!(shown.abs_diff(expected) <= 2, "{case:?} at {edge16}: {shown} frames in 1 s for {max_fps} fps");
            }
            let report = world.report(who, track);
            assert_eq!(report.keyframes_shown, keyframes, "{case:?} at {edge16}");
            assert_eq!(report.faults(), [""; 0], "{case:?} at {edge16}: {report:?}");
            assert_eq!(report.frames_undecodable + report.frames_incomplete + report.packets_lost, 0, "{case:?} at {edge16}");
        }
    }
}

/// Bits per second that somebody gets.
fn bitrate(world: &mut World, who: Who, track: TrackId) -> f64 {
    let before = world.report(who, track).payload_bytes;
    world.run_for(4 * SECOND);
    #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
    let bytes = (world.report(who, track).payload_bytes - before) as f64;
    bytes * 8.0 / 4.0
}

#[test]
fn each_layer_has_its_share_of_the_bitrate() {
    for (codec, mode, is_described) in ALL {
        let (mut world, track, who) = pair(42, |world| world.layered(codec, mode, is_described));
        world.run_for(2500 * MS);
        // 2.4 Mbit/s, of which each spatial layer has three times as much as the one below.
        let shares: Vec<f64> = match mode.spatial {
            1 => vec![2.4],
            2 => vec![0.6, 1.8],
            _ => vec![2.4 / 13.0, 7.2 / 13.0, 21.6 / 13.0],
        };
        for spatial in (0..mode.spatial).rev() {
            for (max_fps, share) in [(0, 1.0), (8, 1.0 / f64::from(1_u32 << (mode.temporal - 1)))] {
                world.set_wish(who, track, wish(spatial, max_fps));
                world.run_for(500 * MS);
                let layers =
                    if mode.is_key { &shares[usize::from(spatial)..=usize::from(spatial)] } else { &shares[..=usize::from(spatial)] };
                let expected = layers.iter().sum::<f64>() * share * 1e6;
                let got = bitrate(&mut world, who, track);
                assert!(
                    (got / expected - 1.0).abs() < 0.15,
                    "{codec:?} {mode:?} layer {spatial} at {max_fps} fps: {got} instead of {expected}"
                );
            }
        }
        assert_faultless(&world, who, track);
    }
}

#[test]
fn subscribers_of_one_track_get_what_each_wants() {
    for case in [(Codec::Vp9, Mode::L3T3_KEY, false), (Codec::Av1, Mode::L3T3_KEY, true), (Codec::Av1, Mode::L3T3, true)] {
        let (mut world, track, people) = World::fan_out(43, |world| world.layered(case.0, case.1, case.2), 3);
        for (layer, &who) in (0..).zip(&people) {
            world.want_layer(who, track, layer);
        }
        world.run_for(5 * SECOND);
        let mut before = 0;
        for (layer, &who) in (0..).zip(&people) {
            assert_eq!(world.layer(who, track), Some(layer), "{case:?}");
            let report = world.report(who, track);
            assert!(report.payload_bytes > before && report.longest_gap < 150 * MS, "{case:?}: {report:?}");
            assert_eq!(report.announced.map(|announced| announced.spatial), case.2.then_some(layer), "{case:?}");
            before = report.payload_bytes;
            assert_faultless(&world, who, track);
        }
        let usage = world.snapshot();
        assert_eq!((usage.layers_current.sizes, usage.layers_wanted.sizes), ([1, 1, 1, 0], [1, 1, 1, 0]), "{case:?}");
    }
}

#[test]
fn loss_and_reordering_cause_no_faults_while_layers_change() {
    // With those above 1000 some of the modes had faults, where a keyframe's base layer came behind the layers above it.
    let seeds = [44, 45, 1048, 1051, 1076, 1079, 1085, 1095, 1105, 1126, 1143];
    for case in ALL {
        for seed in seeds {
            let (mut world, track, who) = pair(seed, |world| world.layered(case.0, case.1, case.2));
            let rough =
                LinkConfig { jitter: Jitter::Reordering(8 * MS), loss: Loss::Random(Chance::percent(1.0)), ..LinkConfig::delayed(15 * MS) };
            let owner = world.sender_of(track);
            world.participant_mut(owner).up.reconfigure(rough);
            world.participant_mut(who).down.reconfigure(rough);
            for round in 0..6 {
                let (spatial, max_fps) = [(0, 0), (2, 8), (1, 16), (2, 0), (0, 8), (1, 0)][round];
                world.set_wish(who, track, wish(spatial, max_fps));
                world.run_for(SECOND);
                // The keyframe or the word that asks for it may be lost, and after a round in which little was sent it takes a few
                // probes to find out that there is room for more: 4.2 s at the most in 13,500 rounds.
                let wished = Some(spatial.min(case.1.spatial - 1));
                let what = format!("{case:?} seed {seed} round {round}: the layer that was asked for");
                world.expect(&what, 10 * SECOND, |world| world.layer(who, track) == wished);
            }
            let report = world.report(who, track);
            assert_eq!(report.faults(), [""; 0], "{case:?} seed {seed}: {report:?}");
            assert_eq!(world.participant(who).strays(), (0, 0));
            assert!(report.longest_gap < 700 * MS, "{case:?} seed {seed}: {report:?}");
        }
    }
}

#[test]
fn a_layer_that_the_publisher_gives_up_falls_back_and_comes_back() {
    for case in [
        (Codec::Vp9, Mode::L3T3, false),
        (Codec::Vp9, Mode::L3T3_KEY, false),
        (Codec::Vp9, Mode::L3T3_KEY, true),
        (Codec::Av1, Mode::L3T3, true),
        (Codec::Av1, Mode::L3T3_KEY, true),
    ] {
        let (mut world, track, who) = pair(46, |world| world.layered(case.0, case.1, case.2));
        world.run_for(2 * SECOND);
        world.sender_mut(track).video().unwrap().set_spatial_layers(0, 2);
        world.expect("the next smaller layer is shown", 1500 * MS, |world| world.layer(who, track) == Some(1));
        world.run_for(2 * SECOND);
        world.sender_mut(track).video().unwrap().set_spatial_layers(0, 3);
        world.expect("the full size is back", 500 * MS, |world| world.layer(who, track) == Some(2));
        world.run_for(SECOND);
        assert_faultless(&world, who, track);
        assert!(world.report(who, track).longest_gap < 1200 * MS, "{case:?}: {:?}", world.report(who, track).longest_gap);
    }
}

/// Simulcast of encodings with layers: numbers of all encodings cross an edge while encoding and rate are switched.
#[test]
fn simulcast_with_layers_switches_without_a_fault_at_every_edge() {
    for (codec, mode, is_described) in [
        (Codec::Vp8, Mode::L1T3, false),
        (Codec::Vp8, Mode::L1T3, true),
        (Codec::H264, Mode::L1T2, true),
        (Codec::Vp9, Mode::L1T3, false),
        (Codec::Vp9, Mode::L1T1, true),
        (Codec::Av1, Mode::L1T3, true),
        (Codec::Av1, Mode::L1T1, false),
        (Codec::H265, Mode::L1T1, false),
    ] {
        for (edge16, edge32) in EDGES_16.into_iter().zip(EDGES_32) {
            let (mut world, track, who) = pair(47, |world| {
                let mut config = VideoConfig { mode, is_described, ..VideoConfig::simulcast(codec, &mut world.rng("camera")) };
                for (place, encoding) in (1..).zip(&mut config.encodings) {
                    encoding.first_sequence = edge16.wrapping_sub(60 * place * place);
                    encoding.first_timestamp = edge32.wrapping_sub(50_000 * u32::from(place));
                    encoding.first_picture_id = edge16.wrapping_sub(30 * place) & 0x7fff;
                    encoding.first_frame_number = edge16.wrapping_sub(25 * place);
                }
                TrackSpec::Video(config)
            });
            world.expect("the full size is shown", SECOND, |world| world.layer(who, track) == Some(2));
            world.run_for(1500 * MS);
            for (layer, max_fps) in [(0, 0), (1, 8), (2, 16), (1, 16), (0, 8), (2, 8), (2, 0), (0, 16), (1, 0)] {
                world.set_wish(who, track, wish(layer, max_fps));
                world.expect("the layer is shown", 600 * MS, |world| world.layer(who, track) == Some(layer));
                world.run_for(250 * MS);
            }
            let report = world.report(who, track);
            assert_eq!(report.faults(), [""; 0], "{codec:?} {mode:?} at {edge16}: {report:?}");
            assert_eq!(report.frames_undecodable + report.frames_incomplete, 0, "{codec:?} {mode:?} at {edge16}");
            assert!(report.longest_gap <= 300 * MS, "{codec:?} {mode:?} at {edge16}: {:?}", report.longest_gap);
        }
    }
}

#[test]
fn who_joins_late_gets_its_layer_at_once() {
    for case in [(Codec::Vp9, Mode::L3T3_KEY, false), (Codec::Av1, Mode::L3T3, true), (Codec::Vp8, Mode::L1T3, false)] {
        let (mut world, track, _) = pair(48, |world| world.layered(case.0, case.1, case.2));
        world.run_for(3 * SECOND);
        let late = world.join(sfu_sim::world::ROOM);
        world.subscribe(late, track);
        world.want_layer(late, track, 0);
        world.expect("it is shown", SECOND, |world| world.layer(late, track) == Some(0));
        world.run_for(2 * SECOND);
        assert_faultless(&world, late, track);
        // It begins with the least frame rate.
        assert!(world.report(late, track).longest_gap < Duration::from_millis(180), "{case:?}");
    }
}
