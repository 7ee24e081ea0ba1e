//! Clients without transport-wide feedback, which estimate their downlinks by themselves.

use std::time::Duration;

use sfu_api::{Event, TrackId};
use sfu_core::bandwidth::Limit;
use sfu_core::media::Codec;
use sfu_sim::link::LinkConfig;
use sfu_sim::participant::{RembStyle, TrackSpec};
use sfu_sim::road::RoadConfig;
use sfu_sim::world::{ROOM, Who, World};

use crate::{MS, SECOND};

const KBIT: u64 = 1_000;
const STYLES: [RembStyle; 2] = [RembStyle::Keeping, RembStyle::Following];

#[test]
fn what_such_a_client_says_is_the_estimate() {
    let (world, [_, _], who) = call(520, RembStyle::Keeping, &[(Duration::ZERO, 5_000)], true);
    let estimate = world.shard.estimate(world.id(who)).unwrap();
    assert_eq!(estimate.limit, Limit::Client);
    assert!(estimate.target_bps > 1_500 * KBIT, "{estimate:?}");
}

#[test]
fn a_picture_that_it_lost_comes_back_with_the_link() {
    for (seed, style) in (521..).zip(STYLES) {
        for with_audio in [true, false] {
            let rates = [(Duration::ZERO, 2_500), (15 * SECOND, 100), (35 * SECOND, 2_500)];
            let (mut world, [video, audio], who) = call(seed, style, &rates, with_audio);
            assert_eq!(states(&world, who, video), [false; 0]);
            world.run_for(4 * SECOND);
            world.expect("the picture is paused", 5 * SECOND, |world| states(world, who, video).first() == Some(&true));
            world.run_for(17 * SECOND);
            let at = |world: &World| world.layer(who, video);
            // The longest time between two tries.
            world.expect("the picture is back by itself", 45 * SECOND, |world| states(world, who, video).last() == Some(&false));
            world.expect("it is as good as before", 90 * SECOND, |world| at(world) == Some(2));
            world.run_for(20 * SECOND);
            assert_eq!((at(&world), states(&world, who, video).last()), (Some(2), Some(&false)), "and stays so");
            if with_audio {
                let heard = world.heard(who, audio);
                assert!(heard.missing * 20 <= heard.packets, "{heard:?}");
            }
        }
    }
}

#[test]
fn on_a_narrow_link_it_has_what_fits_and_rarely_less() {
    for (seed, style) in (525..).zip(STYLES) {
        let (mut world, [video, audio], who) = call(seed, style, &[(Duration::ZERO, 5_000), (12 * SECOND, 1_000)], true);
        world.run_for(20 * SECOND);
        let began = world.now();
        world.run_for(60 * SECOND);
        let report = world.report(who, video);
        assert_eq!(world.layer(who, video), Some(1), "{report:?}");
        let frozen: Duration = report.freezes.iter().filter(|&&(at, _)| at >= began).map(|&(_, time)| time).sum();
        assert!(frozen <= 3 * SECOND, "{:?}", report.freezes);
        let switches = report.switches.iter().filter(|&&(at, _)| at >= began).count();
        assert!(switches <= 6, "{:?}", report.switches);
        assert_eq!(states(&world, who, video), [false; 0], "{style:?}");
        let heard = world.heard(who, audio);
        assert!(heard.missing * 20 <= heard.packets, "{heard:?}");
    }
}

#[test]
fn on_a_good_link_it_has_everything_and_what_begins_later_too() {
    for (seed, style) in (529..).zip(STYLES) {
        let (mut world, [video, _], who) = call(seed, style, &[(Duration::ZERO, 8_000)], true);
        world.run_for(30 * SECOND);
        assert_eq!((world.layer(who, video), world.report(who, video).switches.len()), (Some(2), 0), "{style:?}");
        let publisher = world.sender_of(video);
        let spec = world.simulcast(Codec::Vp8);
        let second = world.publish(publisher, spec);
        world.subscribe(who, second);
        world.expect("the second one is large at once", 2 * SECOND, |world| world.layer(who, second) == Some(2));
        world.run_for(30 * SECOND);
        for track in [video, second] {
            assert_eq!((world.layer(who, track), world.report(who, track).switches.len()), (Some(2), 0), "{style:?}");
            assert_eq!(states(&world, who, track), [false; 0]);
        }
    }
}

/// A camera with three encodings and a voice (muted without `with_audio`), and after ten seconds of a subscriber behind a road of
/// these rates in kbit/s.
fn call(seed: u64, style: RembStyle, rates: &[(Duration, u64)], with_audio: bool) -> (World, [TrackId; 2], Who) {
    let mut world = World::new(seed);
    let publisher = world.join(ROOM);
    let camera = world.simulcast(Codec::Vp8);
    let (video, audio) = (world.publish(publisher, camera), world.publish(publisher, TrackSpec::Audio { level: 30 }));
    world.run_for(2 * SECOND);
    world.set_muted(audio, !with_audio);
    let who = world.join(ROOM);
    world.participant_mut(who).estimate_by_itself(style);
    let rates = rates.iter().map(|&(at, kbps)| (at, kbps * KBIT)).collect();
    world.share_road(RoadConfig { rates, queue: 300 * MS, link: LinkConfig::default(), tcp: Vec::new() }, &[who]);
    world.subscribe(who, video);
    world.subscribe(who, audio);
    world.run_for(10 * SECOND);
    (world, [video, audio], who)
}

/// True for paused.
fn states(world: &World, who: Who, of: TrackId) -> Vec<bool> {
    let id = world.id(who);
    let state = |event: &Event| match event {
        Event::StreamState { participant, track, is_paused } if *participant == id && *track == of => Some(*is_paused),
        _ => None,
    };
    world.log.iter().filter_map(state).collect()
}
