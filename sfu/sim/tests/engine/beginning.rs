//! The first seconds of a subscriber, of whose way nothing is known.

use std::time::Duration;

use sfu_api::{TrackId, TransportRole};
use sfu_core::media::Codec;
use sfu_core::rtp::rtcp::{write_receiver_report, write_remb};
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::TrackSpec;
use sfu_sim::road::RoadConfig;
use sfu_sim::scalability::Mode;
use sfu_sim::video::VideoConfig;
use sfu_sim::world::{ROOM, Who, World};

use crate::{MS, SECOND};

const KBIT: u64 = 1_000;

/// Cameras in three sizes up to 1.7 Mbit/s, and somebody who joins behind a road of this rate and subscribes to all of them.
fn join(seed: u64, cameras: usize, kbps: u64) -> (World, Vec<TrackId>, Who) {
    let (mut world, tracks, who) = stage(seed, cameras, &[(Duration::ZERO, kbps * KBIT)]);
    tracks.iter().for_each(|&track| world.subscribe(who, track));
    (world, tracks, who)
}

/// The same behind a road of these rates (times from now), without subscriptions.
fn stage(seed: u64, cameras: usize, rates: &[(Duration, u64)]) -> (World, Vec<TrackId>, Who) {
    let mut world = World::new(seed);
    world.has_dynacast = true;
    let tracks: Vec<TrackId> = (0..cameras)
        .map(|_| {
            let publisher = world.join(ROOM);
            let TrackSpec::Video(config) = world.simulcast(Codec::Vp8) else { unreachable!("a camera is video") };
            world.publish(publisher, TrackSpec::Video(VideoConfig { mode: Mode::L1T3, ..config }))
        })
        .collect();
    let link = LinkConfig::delayed(25 * MS);
    let who = world.join_over(ROOM, link, link);
    world.run_for(2 * SECOND);
    world.share_road(RoadConfig { rates: rates.to_vec(), queue: 300 * MS, link: LinkConfig::default(), tcp: Vec::new() }, &[who]);
    (world, tracks, who)
}

#[test]
fn on_a_good_link_there_is_a_picture_at_once_and_a_large_one_soon() {
    for (seed, cameras) in [(620, 1), (621, 3)] {
        let (mut world, tracks, who) = join(seed, cameras, 10_000);
        world.expect("there are pictures", 200 * MS, |world| tracks.iter().all(|&track| world.layer(who, track).is_some()));
        world.expect("they are large", 600 * MS, |world| tracks.iter().all(|&track| world.layer(who, track) == Some(2)));
        world.run_for(5 * SECOND);
        assert!(tracks.iter().all(|&track| world.layer(who, track) == Some(2)));
        assert_eq!(world.road_meter(who).dropped, 0);
    }
}

/// What is left are the first keyframes of many cameras, which come at once.
#[test]
fn a_narrow_link_is_not_flooded_before_anything_is_known_of_it() {
    for (seed, cameras, kbps, most_percent) in [(622, 1, 300, 0.5), (623, 1, 1_000, 0.5), (624, 9, 1_500, 4.5), (625, 4, 600, 7.0)] {
        let (mut world, tracks, who) = join(seed, cameras, kbps);
        world.run_for(10 * SECOND);
        let meter = world.road_meter(who);
        let dropped_percent = meter.dropped as f64 * 100.0 / meter.packets as f64;
        assert!(dropped_percent < most_percent, "{cameras} cameras at {kbps} kbit/s: {dropped_percent} % dropped");
        assert!(tracks.iter().all(|&track| world.frames(who, track) > 0));
    }
}

/// It has shown that it carries one camera, not that it carries another one.
#[test]
fn who_comes_later_begins_small_as_well() {
    let (mut world, tracks, who) = join(626, 2, 3_000);
    world.unsubscribe(who, tracks[1]);
    world.run_for(10 * SECOND);
    assert_eq!(world.layer(who, tracks[0]), Some(2));
    let before = world.road_meter(who).dropped;
    world.subscribe(who, tracks[1]);
    world.expect("there is a picture", 500 * MS, |world| world.layer(who, tracks[1]).is_some());
    assert!(world.layer(who, tracks[1]) < Some(2));
    world.run_for(5 * SECOND);
    assert_eq!(world.road_meter(who).dropped, before);
    assert_eq!(world.layer(who, tracks[0]), Some(2), "nobody loses anything for it");
}

/// It fell to the lot of a voice, minutes ago.
#[test]
fn after_an_old_cut_a_picture_begins_at_once_all_the_same() {
    let (mut world, tracks, who) = stage(627, 1, &[(Duration::ZERO, 10_000 * KBIT), (5 * SECOND, 20 * KBIT), (9 * SECOND, 10_000 * KBIT)]);
    let speaker = world.sender_of(tracks[0]);
    let voice = world.publish(speaker, TrackSpec::Audio { level: 30 });
    world.subscribe(who, voice);
    // Long enough that nothing is held against the way.
    world.run_for(75 * SECOND);
    let estimate = world.shard.estimate(world.id(who)).unwrap();
    assert!(estimate.cut_at.is_some(), "{estimate:?}");
    world.subscribe(who, tracks[0]);
    world.expect("there is a picture", 300 * MS, |world| world.layer(who, tracks[0]).is_some());
}

/// It has agreed to number packets, and names what it makes of them by REMB.
#[test]
fn who_says_nothing_of_packets_gets_each_camera() {
    let (mut world, tracks, who) = stage(628, 3, &[(Duration::ZERO, 20_000 * KBIT)]);
    world.participant_mut(who).report_nothing_of_packets();
    for &track in &tracks {
        world.subscribe(who, track);
        world.run_for(100 * MS);
        let mut compound = Vec::new();
        write_receiver_report(&mut compound, 1, &[]);
        write_remb(&mut compound, 1, 8_000_000, &[]);
        let datagram = world.forge_rtcp(who, TransportRole::Subscriber, compound).unwrap();
        world.inject(datagram.flow, &datagram.bytes);
        world.expect("there is a picture", SECOND, |world| world.layer(who, track).is_some());
        world.run_for(SECOND);
    }
    world.expect("all are large", 3 * SECOND, |world| tracks.iter().all(|&track| world.layer(who, track) == Some(2)));
}

/// As behind a firewall, where it takes some tries.
#[test]
fn who_takes_long_to_connect_is_not_flooded_either() {
    let (mut world, tracks, _) = stage(629, 1, &[(Duration::ZERO, 1_000 * KBIT)]);
    let lost = LinkConfig { loss: Loss::Random(Chance::new(1.0)), ..LinkConfig::default() };
    let who = world.join_over(ROOM, lost, LinkConfig::delayed(25 * MS));
    let rates = vec![(Duration::ZERO, 1_000 * KBIT)];
    world.share_road(RoadConfig { rates, queue: 300 * MS, link: LinkConfig::default(), tcp: Vec::new() }, &[who]);
    world.subscribe(who, tracks[0]);
    world.run_for(5 * SECOND);
    assert_eq!(world.frames(who, tracks[0]), 0);
    world.participant_mut(who).up.reconfigure(LinkConfig::delayed(25 * MS));
    world.expect("there is a picture", 10 * SECOND, |world| world.frames(who, tracks[0]) > 0);
    world.run_for(10 * SECOND);
    assert_eq!(world.road_meter(who).dropped, 0);
}
