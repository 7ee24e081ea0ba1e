//! Who gets what when a subscriber's bandwidth lacks: layers, pauses, what publishers are told, and the reasons.

use std::time::Duration;

use sfu_api::telemetry::{Direction, LayerLimit, TrackSample};
use sfu_api::{Command, Event, MediaKind, TrackId, VideoWish};
use sfu_core::media::Codec;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::{TrackSpec, VoiceConfig};
use sfu_sim::scalability::Mode;
use sfu_sim::video::VideoConfig;
use sfu_sim::world::{ROOM, Who, World};

use crate::{MS, SECOND, assert_faultless, pair, states};

/// A keyframe request and its answer, at most the interval of requests apart.
const SWITCH: Duration = Duration::from_millis(500);

#[test]
fn less_bandwidth_lowers_the_layer_at_once_and_more_raises_it_after_a_while() {
    let (mut world, track, who) = pair(400, |world| world.simulcast(Codec::Vp8));
    world.expect("the full size is shown", SECOND, |world| world.layer(who, track) == Some(2));
    world.run_for(2 * SECOND);
    limit(&mut world, who, 3_000_000);
    world.run_for(SECOND);
    limit(&mut world, who, 900_000);
    world.expect("the middle size is shown", SWITCH, |world| world.layer(who, track) == Some(1));
    limit(&mut world, who, 300_000);
    world.expect("the smallest size is shown", SWITCH, |world| world.layer(who, track) == Some(0));
    limit(&mut world, who, 3_000_000);
    world.run_for(2 * SECOND);
    assert_eq!(world.layer(who, track), Some(0), "a step up takes its time");
    world.expect("the full size is back", 2 * SECOND, |world| world.layer(who, track) == Some(2));
    assert_faultless(&world, who, track);
    assert!(world.report(who, track).longest_gap < 200 * MS, "{:?}", world.report(who, track));
    assert_eq!(states(&world, who, track), [false; 0], "it was never paused");
}

#[test]
fn a_tile_of_another_size_waits_as_long_if_it_wants_the_same_layer() {
    let (mut world, track, who) = pair(412, |world| world.simulcast(Codec::Vp8));
    let wish = |width_px, height_px| VideoWish { width_px, height_px, ..VideoWish::default() };
    world.set_wish(who, track, wish(1_280, 720));
    world.run_for(2 * SECOND);
    limit(&mut world, who, 900_000);
    world.expect("the middle size is shown", SWITCH, |world| world.layer(who, track) == Some(1));
    limit(&mut world, who, 3_000_000);
    for step in 0..8 {
        world.set_wish(who, track, wish(1_270 + step, 715 + step));
        world.run_for(250 * MS);
    }
    assert_eq!(world.layer(who, track), Some(1), "a step up takes its time");
    world.expect("the full size is back", 2 * SECOND, |world| world.layer(who, track) == Some(2));
    // Who wants something else does not wait.
    world.set_wish(who, track, wish(320, 180));
    world.expect("the smallest size is shown", SWITCH, |world| world.layer(who, track) == Some(0));
    limit(&mut world, who, 100_000);
    world.run_for(SECOND);
    limit(&mut world, who, 3_000_000);
    world.set_wish(who, track, wish(1_280, 720));
    world.expect("the full size is shown", 2 * SECOND, |world| world.layer(who, track) == Some(2));
}

#[test]
fn microphones_that_are_not_forwarded_take_nothing_from_the_picture() {
    let (mut world, track, who) = pair(413, |world| world.simulcast(Codec::Vp8));
    for number in 0..40 {
        let speaker = world.join(ROOM);
        let voice = world.publish(speaker, TrackSpec::Audio { level: 20 + number });
        world.subscribe(who, voice);
    }
    world.run_for(5 * SECOND);
    // Sixteen are forwarded and have some 700 kbit/s; all of them would have 1,700.
    limit(&mut world, who, 3_000_000);
    world.run_for(5 * SECOND);
    assert_eq!(world.layer(who, track), Some(2));
    assert_faultless(&world, who, track);
}

#[test]
fn frames_of_a_camera_go_before_its_size_and_the_size_of_a_screen_goes_last() {
    let spec = |world: &mut World| {
        let mut config = VideoConfig::simulcast(Codec::Vp8, &mut world.rng("camera"));
        config.mode = Mode::L1T3;
        TrackSpec::Video(config)
    };
    for (bps, camera, screen) in [(1_500_000, (2, 15), (2, 15)), (950_000, (1, 30), (2, 7)), (400_000, (1, 15), (1, 15))] {
        for (is_screen, expected) in [(false, camera), (true, screen)] {
            let mut world = World::new(401);
            let (publisher, who) = (world.join(ROOM), world.join(ROOM));
            let spec = spec(&mut world);
            let track = if is_screen { world.publish_screen(publisher, spec) } else { world.publish(publisher, spec) };
            world.subscribe(who, track);
            world.run_for(4 * SECOND);
            limit(&mut world, who, bps);
            world.run_for(SECOND);
            let before = world.frames(who, track);
            world.run_for(4 * SECOND);
            let rate = (world.frames(who, track) - before) / 4;
            assert_eq!((world.layer(who, track), rate), (Some(expected.0), expected.1), "{bps} bit/s, screen: {is_screen}");
            assert_faultless(&world, who, track);
        }
    }
}

#[test]
fn nine_tiles_on_a_narrow_link_all_move_and_rarely_change() {
    let (mut world, who, tracks) = gallery(402, 9, Mode::L1T3);
    limit(&mut world, who, 1_500_000);
    world.run_for(SECOND);
    let before: Vec<u64> = tracks.iter().map(|&track| world.frames(who, track)).collect();
    world.run_for(30 * SECOND);
    for (&track, before) in tracks.iter().zip(before) {
        let report = world.report(who, track);
        assert!(world.frames(who, track) - before >= 30 * 7, "{report:?}");
        assert!(report.switches.len() <= 3 && report.freezes.iter().all(|&(_, time)| time < 2 * SECOND), "{report:?}");
        assert_eq!(states(&world, who, track), [false; 0]);
        assert_faultless(&world, who, track);
    }
}

#[test]
fn tiles_are_paused_from_the_last_and_the_first_keeps_its_picture() {
    let (mut world, who, tracks) = gallery(403, 4, Mode::L1T1);
    // The last one is what the subscriber looks at.
    world.set_wish(who, tracks[3], VideoWish { priority: 1, ..VideoWish::default() });
    world.run_for(SECOND);
    limit(&mut world, who, 300_000);
    world.run_for(2 * SECOND);
    let paused: Vec<Vec<bool>> = tracks.iter().map(|&track| states(&world, who, track)).collect();
    assert_eq!(paused, [vec![], vec![true], vec![true], vec![]]);
    limit(&mut world, who, 200_000);
    world.run_for(2 * SECOND);
    assert_eq!((states(&world, who, tracks[0]), states(&world, who, tracks[3])), (vec![true], vec![]));
    limit(&mut world, who, 20_000_000);
    world.expect("all are back by themselves", 8 * SECOND, |world| {
        tracks.iter().all(|&track| world.layer(who, track) == Some(2)) && states(world, who, tracks[0]) == [true, false]
    });
    for &track in &tracks {
        assert_faultless(&world, who, track);
    }
}

#[test]
fn audio_goes_on_without_a_gap_when_there_is_nothing_for_video() {
    let mut world = World::new(404);
    let (publisher, who) = (world.join(ROOM), world.join(ROOM));
    let spec = world.simulcast(Codec::Vp8);
    let (video, audio) = (world.publish(publisher, spec), world.publish(publisher, TrackSpec::Audio { level: 30 }));
    world.subscribe(who, video);
    world.subscribe(who, audio);
    world.run_for(3 * SECOND);
    limit(&mut world, who, 100_000);
    world.expect("the picture is paused", SECOND, |world| states(world, who, video) == [true]);
    let frames = world.frames(who, video);
    world.run_for(5 * SECOND);
    assert!(world.frames(who, video) <= frames + 1);
    limit(&mut world, who, 30_000);
    world.run_for(5 * SECOND);
    limit(&mut world, who, 0);
    world.expect("the picture is back", 4 * SECOND, |world| world.frames(who, video) > frames + 30);
    assert_eq!((world.layer(who, video), states(&world, who, video)), (Some(2), vec![true, false]));
    let heard = world.heard(who, audio);
    assert_eq!((heard.missing, heard.corrupted), (0, 0), "{heard:?}");
    assert_faultless(&world, who, video);
}

#[test]
fn redundancy_goes_before_a_picture_does() {
    let mut world = World::new(411);
    let (publisher, who) = (world.join(ROOM), world.join(ROOM));
    let audio = world.publish(publisher, TrackSpec::Voice(VoiceConfig { copies: Some(2), ..VoiceConfig::default() }));
    let spec = world.single(Codec::Vp8);
    let video = world.publish(publisher, spec);
    world.subscribe(who, audio);
    world.subscribe(who, video);
    world.run_for(3 * SECOND);
    // With what headers and tags add.
    let rate = u64::from(explain_one(&mut world, who).bytes) * 8 * 107 / 100;
    let with_copies = |world: &World| world.heard(who, audio).with_copies;
    assert!(with_copies(&world) > 100);
    limit(&mut world, who, rate);
    world.run_for(SECOND);
    let before = with_copies(&world);
    world.run_for(5 * SECOND);
    assert_eq!(with_copies(&world), before);
    limit(&mut world, who, rate * 20);
    world.run_for(2 * SECOND);
    assert!(with_copies(&world) > before);
    let heard = world.heard(who, audio);
    assert_eq!((heard.corrupted, heard.repeated), (0, 0), "{heard:?}");
    assert!(heard.missing <= 2, "{heard:?}");
}

#[test]
fn layers_of_svc_are_left_out_and_come_back() {
    for (codec, is_described) in [(Codec::Vp9, false), (Codec::Av1, true)] {
        let (mut world, track, who) = pair(405, |world| world.layered(codec, Mode::L3T3, is_described));
        world.run_for(3 * SECOND);
        assert_eq!(world.layer(who, track), Some(2));
        limit(&mut world, who, 1_000_000);
        world.expect("the middle layer is shown", SWITCH, |world| world.layer(who, track) == Some(1));
        limit(&mut world, who, 250_000);
        world.expect("the smallest layer is shown", SWITCH, |world| world.layer(who, track) == Some(0));
        let requests = world.sender(track).feedback(0).keyframe_requests;
        world.run_for(SECOND);
        assert_eq!(world.sender(track).feedback(0).keyframe_requests, requests, "less needs no keyframe");
        limit(&mut world, who, 0);
        world.expect("everything is shown", SWITCH, |world| world.layer(who, track) == Some(2));
        assert_faultless(&world, who, track);
    }
}

#[test]
fn layers_that_nobody_has_bandwidth_for_stop_at_the_source_and_come_back() {
    for seed in [406, 407] {
        let (mut world, track, who) =
            pair(seed, |world| if seed == 406 { world.simulcast(Codec::Vp8) } else { world.layered(Codec::Av1, Mode::L3T3, true) });
        world.has_dynacast = true;
        world.run_for(2 * SECOND);
        limit(&mut world, who, 1_000_000);
        world.run_for(2 * SECOND);
        assert_eq!(world.layer(who, track), Some(1));
        assert_eq!(told(&world, track), Some(Some(2)), "it may be back soon");
        world.expect("the publisher hears of it", 5 * SECOND, |world| told(world, track) == Some(Some(1)));
        world.run_for(10 * SECOND);
        assert_eq!((told(&world, track), world.layer(who, track)), (Some(Some(1)), Some(1)), "and it stays so");
        limit(&mut world, who, 5_000_000);
        world.expect("the full size comes back", 2 * SECOND, |world| world.layer(who, track) == Some(2));
        limit(&mut world, who, 20_000);
        world.expect("the publisher need not send anything", 8 * SECOND, |world| told(world, track) == Some(None));
        limit(&mut world, who, 5_000_000);
        world.expect("the full size comes back once more", 20 * SECOND, |world| world.layer(who, track) == Some(2));
        assert_faultless(&world, who, track);
    }
}

#[test]
fn what_a_publisher_does_not_send_is_not_kept_for_it() {
    let (mut world, who, tracks) = gallery(408, 2, Mode::L1T1);
    world.sender_mut(tracks[0]).video().unwrap().set_active(2, false);
    // Enough for one full size and a middle one.
    limit(&mut world, who, 2_800_000);
    world.run_for(5 * SECOND);
    assert_eq!((world.layer(who, tracks[0]), world.layer(who, tracks[1])), (Some(1), Some(2)));
    let limits: Vec<_> = explained(&mut world, who).iter().filter_map(|sample| Some(sample.layer?.limit)).collect();
    assert_eq!(limits, [LayerLimit::Publisher, LayerLimit::None]);
}

#[test]
fn a_publishers_loss_does_not_lower_what_its_subscribers_get() {
    let (mut world, track, who) = pair(409, |world| world.simulcast(Codec::Vp8));
    limit(&mut world, who, 2_600_000);
    world.run_for(3 * SECOND);
    let owner = world.sender_of(track);
    let lossy = LinkConfig { loss: Loss::Random(Chance::percent(10.0)), ..LinkConfig::delayed(10 * MS) };
    world.participant_mut(owner).up.reconfigure(lossy);
    let switches = world.report(who, track).switches.len();
    world.run_for(20 * SECOND);
    assert_eq!((world.layer(who, track), world.report(who, track).switches.len()), (Some(2), switches));
    assert_eq!(states(&world, who, track), [false; 0]);
}

#[test]
fn every_decision_has_a_reason() {
    let (mut world, track, who) = pair(410, |world| world.simulcast(Codec::Vp8));
    world.run_for(2 * SECOND);
    let now = explain_one(&mut world, who);
    assert_eq!((now.track, layers(&now)), (track, (Some(2), Some(2), LayerLimit::None)));
    assert!(now.limited_for >= SECOND, "{now:?}");
    world.set_wish(who, track, VideoWish { width_px: 640, height_px: 360, ..VideoWish::default() });
    assert_eq!(layers(&explain_one(&mut world, who)), (Some(1), Some(1), LayerLimit::Wish));
    limit(&mut world, who, 300_000);
    let low = explain_one(&mut world, who);
    assert_eq!(layers(&low), (Some(0), Some(1), LayerLimit::Bandwidth));
    assert!(low.limited_for <= 2 * SECOND, "{low:?}");
    limit(&mut world, who, 50_000);
    assert_eq!(layers(&explain_one(&mut world, who)), (None, Some(1), LayerLimit::Bandwidth));
    limit(&mut world, who, 0);
    world.run_for(SWITCH);
    world.set_wish(who, track, VideoWish { enabled: false, ..VideoWish::default() });
    assert_eq!(layers(&explain_one(&mut world, who)), (None, None, LayerLimit::Disabled));
    // A keyframe that does not come.
    let owner = world.sender_of(track);
    world.participant_mut(owner).down.reconfigure(LinkConfig { loss: Loss::Random(Chance::percent(100.0)), ..LinkConfig::default() });
    world.set_wish(who, track, VideoWish::default());
    assert_eq!(layers(&explain_one(&mut world, who)), (None, Some(2), LayerLimit::Keyframe));
}

/// A subscriber of so many cameras, each with three encodings.
fn gallery(seed: u64, tiles: usize, mode: Mode) -> (World, Who, Vec<TrackId>) {
    let mut world = World::new(seed);
    let who = world.join(ROOM);
    let tracks: Vec<TrackId> = (0..tiles)
        .map(|_| {
            let publisher = world.join(ROOM);
            let TrackSpec::Video(config) = world.simulcast(Codec::Vp8) else { unreachable!() };
            world.publish(publisher, TrackSpec::Video(VideoConfig { mode, ..config }))
        })
        .collect();
    for &track in &tracks {
        world.subscribe(who, track);
    }
    world.run_for(4 * SECOND);
    (world, who, tracks)
}

/// 0: no limit.
fn limit(world: &mut World, who: Who, bps: u64) {
    world.command(Command::LimitDownlink { participant: world.id(who), limit_bps: Some(bps).filter(|&bps| bps > 0) });
}

/// The highest layer that the publisher was told to send; None: it was told nothing.
fn told(world: &World, of: TrackId) -> Option<Option<u8>> {
    world.log.iter().rev().find_map(|event| match event {
        Event::WantedLayers { track, codecs, .. } if *track == of => codecs.first().map(|codec| codec.max_spatial),
        _ => None,
    })
}

/// The samples of video in the next second that is over, in the order of subscription.
fn explained(world: &mut World, who: Who) -> Vec<TrackSample> {
    world.run_for(SECOND);
    world.shard.take_samples();
    world.run_for(SECOND + 100 * MS);
    let (id, samples) = (world.id(who), world.shard.take_samples());
    let mut newest: Vec<TrackSample> = Vec::new();
    for sample in samples {
        if sample.participant == id && sample.direction == Direction::Down && sample.kind == MediaKind::Video {
            newest.retain(|other| other.track != sample.track);
            newest.push(sample);
        }
    }
    newest
}

fn explain_one(world: &mut World, who: Who) -> TrackSample {
    explained(world, who).remove(0)
}

/// Current and wanted size, and what limits.
fn layers(sample: &TrackSample) -> (Option<u8>, Option<u8>, LayerLimit) {
    let state = sample.layer.expect("a subscription to video");
    (state.current.map(|place| place.size), state.wanted.map(|place| place.size), state.limit)
}
