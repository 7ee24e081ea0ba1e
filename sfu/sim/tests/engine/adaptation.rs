//! Estimate and allocation together: what subscribers see behind links that carry less than what is published.

use std::time::Duration;

use sfu_api::TrackId;
use sfu_core::media::Codec;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::{TrackSpec, VoiceConfig};
use sfu_sim::road::RoadConfig;
use sfu_sim::scalability::Mode;
use sfu_sim::video::VideoConfig;
use sfu_sim::world::{ROOM, Who, World};

use crate::{MS, SECOND, states};

const KBIT: u64 = 1_000;
const MINUTE: Duration = Duration::from_secs(60);
/// A browser calls it a freeze from about here on; the bar is half a second.
const FREEZE: Duration = Duration::from_millis(500);

#[test]
fn three_links_get_three_sizes_at_once_and_nothing_freezes() {
    let (mut world, video, audio) = stage(500, Mode::L1T1);
    let viewers: Vec<Who> = [300, 1_000, 5_000].map(|kbps| viewer(&mut world, &[(Duration::ZERO, kbps * KBIT)], &[video, audio])).to_vec();
    world.run_for(20 * SECOND);
    let began = world.now();
    world.run_for(MINUTE);
    for (size, &who) in (0..).zip(&viewers) {
        let report = world.report(who, video);
        assert_eq!(world.layer(who, video), Some(size), "{report:?}");
        let frozen: Vec<_> = report.freezes.iter().filter(|&&(at, time)| at >= began && time > FREEZE).collect();
        assert!(frozen.is_empty(), "{frozen:?}");
        let switches = report.switches.iter().filter(|&&(at, _)| at >= began).count();
        assert!(switches <= 6, "{:?}", report.switches);
        assert_seamless(&world, who, video);
        let heard = world.heard(who, audio);
        assert!(heard.missing * 100 <= heard.packets, "{heard:?}");
    }
}

#[test]
fn on_a_link_for_audio_alone_the_picture_pauses_and_comes_back_with_the_link() {
    let (mut world, video, audio) = stage(501, Mode::L1T1);
    let rates = [(Duration::ZERO, 2_000 * KBIT), (15 * SECOND, 100 * KBIT), (40 * SECOND, 2_000 * KBIT)];
    let who = viewer(&mut world, &rates, &[video, audio]);
    world.run_for(14 * SECOND);
    assert_eq!(states(&world, who, video), [false; 0]);
    world.expect("the picture is paused", 5 * SECOND, |world| states(world, who, video) == [true]);
    world.run_for(3 * SECOND);
    let before = world.heard(who, audio).missing;
    world.run_for(15 * SECOND);
    assert_eq!(world.heard(who, audio).missing, before, "audio goes on without a gap");
    world.expect("the picture is back by itself", 15 * SECOND, |world| states(world, who, video) == [true, false]);
    let frames = world.frames(who, video);
    world.expect("it moves", 2 * SECOND, |world| world.frames(who, video) > frames + 30);
    assert_seamless(&world, who, video);
}

/// Row 12 of the scorecard.
#[test]
fn nine_tiles_share_a_narrow_link_without_starving_or_flapping() {
    let mut world = World::new(502);
    let tracks: Vec<TrackId> = (0..9)
        .map(|_| {
            let publisher = world.join(ROOM);
            let spec = camera(&mut world, Mode::L1T3);
            world.publish(publisher, spec)
        })
        .collect();
    world.run_for(2 * SECOND);
    let who = viewer(&mut world, &[(Duration::ZERO, 1_500 * KBIT)], &tracks);
    world.run_for(20 * SECOND);
    let began = world.now();
    let asked = |world: &World, track| (0..3).map(|layer| world.sender(track).feedback(layer).keyframe_requests).max();
    let requests: Vec<_> = tracks.iter().map(|&track| asked(&world, track)).collect();
    world.run_for(MINUTE);
    for (&track, before) in tracks.iter().zip(requests) {
        let report = world.report(who, track);
        let starved: Vec<_> = report.freezes.iter().filter(|&&(at, time)| at >= began && time > 2 * SECOND).collect();
        assert!(starved.is_empty(), "{track:?} {starved:?}");
        let switches = report.switches.iter().filter(|&&(at, _)| at >= began).count();
        assert!(switches <= 6, "{track:?} {:?}", report.switches);
        let requests = asked(&world, track).zip(before).map(|(after, before)| after - before);
        assert!(requests <= Some(4), "{track:?} {requests:?}");
        assert_seamless(&world, who, track);
    }
}

/// Row 11 of the scorecard.
#[test]
fn after_a_mute_the_picture_is_soon_as_good_as_before() {
    let (mut world, video, audio) = stage(503, Mode::L1T1);
    let who = viewer(&mut world, &[(Duration::ZERO, 3_000 * KBIT)], &[video, audio]);
    world.run_for(15 * SECOND);
    assert_eq!(world.layer(who, video), Some(2));
    world.set_muted(video, true);
    world.run_for(20 * SECOND);
    let keyframes = world.report(who, video).keyframes_shown;
    world.set_muted(video, false);
    let is_back = |world: &World| world.layer(who, video) == Some(2) && world.report(who, video).keyframes_shown > keyframes;
    world.expect("the full size is back", 3 * SECOND, is_back);
    assert_seamless(&world, who, video);
}

#[test]
fn a_publishers_loss_changes_nothing_for_subscribers_on_good_links() {
    let (mut world, video, audio) = stage(504, Mode::L1T1);
    let who = viewer(&mut world, &[(Duration::ZERO, 4_000 * KBIT)], &[video, audio]);
    world.run_for(15 * SECOND);
    let owner = world.sender_of(video);
    let lossy = LinkConfig { loss: Loss::Random(Chance::percent(10.0)), ..LinkConfig::delayed(10 * MS) };
    world.participant_mut(owner).up.reconfigure(lossy);
    let switches = world.report(who, video).switches.len();
    world.run_for(30 * SECOND);
    assert_eq!((world.layer(who, video), world.report(who, video).switches.len()), (Some(2), switches));
    assert_eq!(states(&world, who, video), [false; 0]);
}

#[test]
fn loss_and_a_long_way_leave_a_usable_picture() {
    let (mut world, video, audio) = stage(505, Mode::L1T1);
    let who = viewer(&mut world, &[(Duration::ZERO, 8_000 * KBIT)], &[video, audio]);
    let bad = LinkConfig { loss: Loss::Random(Chance::percent(3.0)), ..LinkConfig::delayed(100 * MS) };
    world.participant_mut(who).down.reconfigure(bad);
    world.participant_mut(who).up.reconfigure(bad);
    world.run_for(15 * SECOND);
    let (began, frames) = (world.now(), world.frames(who, video));
    world.run_for(30 * SECOND);
    let report = world.report(who, video);
    assert!(world.frames(who, video) - frames >= 30 * 30 * 8 / 10, "{report:?}");
    assert!(report.freezes.iter().all(|&(at, time)| at < began || time <= SECOND), "{:?}", report.freezes);
    assert_eq!(world.layer(who, video), Some(2), "{report:?}");
    let heard = world.heard(who, audio);
    assert!(heard.missing * 100 <= heard.packets * 4, "{heard:?}");
}

#[test]
fn a_voice_with_redundancy_goes_without_where_it_would_not_fit_though_no_picture_is_wanted() {
    let mut world = World::new(506);
    let publisher = world.join(ROOM);
    let audio = world.publish(publisher, TrackSpec::Voice(VoiceConfig { copies: Some(2), ..VoiceConfig::default() }));
    world.run_for(2 * SECOND);
    let who = viewer(&mut world, &[(Duration::ZERO, 1_000 * KBIT), (10 * SECOND, 100 * KBIT), (40 * SECOND, 1_000 * KBIT)], &[audio]);
    world.run_for(9 * SECOND);
    let copies = |world: &World| world.heard(who, audio).with_copies;
    assert!(copies(&world) > 300);
    world.run_for(10 * SECOND);
    let (copies_before, before) = (copies(&world), world.heard(who, audio));
    world.run_for(10 * SECOND);
    let heard = world.heard(who, audio);
    assert_eq!((copies(&world), heard.missing), (copies_before, before.missing), "{heard:?}");
    world.expect("copies come again", 60 * SECOND, |world| copies(world) > copies_before + 100);
    let queued = world.road_meter(who).waits.iter().filter(|&&(at, us)| at >= 20 * SECOND && us > 100_000).count();
    assert_eq!(queued, 0, "nothing waits");
}

/// A policer drops what is too much and delays nothing.
#[test]
fn loss_that_no_queue_announces_lowers_the_layer_too() {
    for (seed, kbps) in [(507, 1_200), (508, 1_500)] {
        let (mut world, video, audio) = stage(seed, Mode::L1T1);
        let who = world.join(ROOM);
        let link = LinkConfig { is_policed: true, ..LinkConfig::default() };
        let rates = vec![(Duration::ZERO, 8_000 * KBIT), (10 * SECOND, kbps * KBIT)];
        world.share_road(RoadConfig { rates, queue: 60 * MS, link, tcp: Vec::new() }, &[who]);
        for track in [video, audio] {
            world.subscribe(who, track);
        }
        world.run_for(10 * SECOND);
        assert_eq!(world.layer(who, video), Some(2));
        world.expect("a smaller picture is shown", 6 * SECOND, |world| world.layer(who, video) < Some(2));
        world.run_for(4 * SECOND);
        let (began, before) = (world.now(), world.road_meter(who).clone());
        world.run_for(40 * SECOND);
        let (after, report) = (world.road_meter(who), world.report(who, video));
        let dropped = (after.dropped - before.dropped) * 100 / (after.packets - before.packets);
        assert!(dropped <= 3, "{kbps} kbit/s: {dropped} % dropped, {:?}", report.switches);
        assert!(report.freezes.iter().all(|&(at, time)| at < began || time <= 1_500 * MS), "{:?}", report.freezes);
        assert!(world.frames(who, video) > 40 * 25, "{report:?}");
        assert_seamless(&world, who, video);
    }
}

/// What arrived while little was sent says nothing of what would.
#[test]
fn a_moment_of_loss_while_only_a_voice_is_heard_does_not_keep_a_picture_away() {
    for seed in 520..524 {
        let (mut world, video, audio) = stage(seed, Mode::L1T1);
        let who = world.join(ROOM);
        let link = LinkConfig { rate_bps: Some(10_000 * KBIT), queue_bytes: 300_000, ..LinkConfig::delayed(20 * MS) };
        world.participant_mut(who).down.reconfigure(link);
        world.subscribe(who, audio);
        world.run_for(20 * SECOND);
        world.participant_mut(who).down.reconfigure(LinkConfig { loss: Loss::Random(Chance::percent(15.0)), ..link });
        world.run_for(1_500 * MS);
        world.participant_mut(who).down.reconfigure(link);
        world.run_for(SECOND);
        world.subscribe(who, video);
        world.expect("a picture is shown", 2 * SECOND, |world| world.frames(who, video) > 0);
        world.expect("it is large", 10 * SECOND, |world| world.layer(who, video) == Some(2));
    }
}

/// Of nothing that flows there are no reports either.
#[test]
fn video_alone_is_resumed_after_the_link_has_recovered() {
    for seed in [509, 510] {
        let (mut world, video, _) = stage(seed, Mode::L1T1);
        let rates = [(Duration::ZERO, 5_000 * KBIT), (15 * SECOND, 100 * KBIT), (35 * SECOND, 5_000 * KBIT)];
        let who = viewer(&mut world, &rates, &[video]);
        world.run_for(34 * SECOND);
        assert_eq!(states(&world, who, video).last(), Some(&true), "it is paused");
        world.expect("it flows again by itself", 20 * SECOND, |world| states(world, who, video).last() == Some(&false));
        world.expect("it is large again", 30 * SECOND, |world| world.layer(who, video) == Some(2));
    }
}

/// Nothing was wrong with what somebody got of a track, but for keyframes that a full queue dropped.
fn assert_seamless(world: &World, who: Who, track: TrackId) {
    let report = world.report(who, track);
    let faults: Vec<String> = report.faults().into_iter().filter(|fault| !fault.ends_with("switches without keyframe")).collect();
    assert_eq!(faults, [""; 0], "{report:?}");
    assert_eq!(world.participant(who).strays(), (0, 0));
}

/// Somebody who publishes a camera with three encodings and a voice.
fn stage(seed: u64, mode: Mode) -> (World, TrackId, TrackId) {
    let mut world = World::new(seed);
    let publisher = world.join(ROOM);
    let spec = camera(&mut world, mode);
    let (video, audio) = (world.publish(publisher, spec), world.publish(publisher, TrackSpec::Audio { level: 30 }));
    world.run_for(2 * SECOND);
    (world, video, audio)
}

fn camera(world: &mut World, mode: Mode) -> TrackSpec {
    let TrackSpec::Video(config) = world.simulcast(Codec::Vp8) else { unreachable!() };
    TrackSpec::Video(VideoConfig { mode, ..config })
}

/// Somebody who joins behind a road with these rates (times from now) and subscribes.
fn viewer(world: &mut World, rates: &[(Duration, u64)], tracks: &[TrackId]) -> Who {
    let who = world.join(ROOM);
    let rates = rates.iter().map(|&(at, bps)| (at, bps)).collect();
    world.share_road(RoadConfig { rates, queue: 300 * MS, link: LinkConfig::default(), tcp: Vec::new() }, &[who]);
    for &track in tracks {
        world.subscribe(who, track);
    }
    who
}
