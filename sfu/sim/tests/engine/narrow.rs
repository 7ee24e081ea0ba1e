//! Links that carry little more than a voice and the smallest picture.

use std::time::Duration;

use sfu_core::media::Codec;
use sfu_sim::link::LinkConfig;
use sfu_sim::participant::TrackSpec;
use sfu_sim::road::RoadConfig;
use sfu_sim::scalability::Mode;
use sfu_sim::video::VideoConfig;
use sfu_sim::world::{ROOM, World};

use crate::{MS, SECOND};

/// As a libwebrtc publisher sends it: 15 frames a second, three temporal layers.
#[test]
fn behind_300_kbit_per_second_the_smallest_picture_has_nearly_all_its_frames() {
    let mut shares = Vec::new();
    for seed in 600..604 {
        let mut world = World::new(seed);
        let publisher = world.join(ROOM);
        let TrackSpec::Video(config) = world.simulcast(Codec::Vp8) else { unreachable!() };
        let video = world.publish(publisher, TrackSpec::Video(VideoConfig { mode: Mode::L1T3, fps: 15, ..config }));
        let audio = world.publish(publisher, TrackSpec::Audio { level: 30 });
        world.run_for(2 * SECOND);
        let who = world.join(ROOM);
        let config = RoadConfig { rates: vec![(Duration::ZERO, 300_000)], queue: 300 * MS, link: LinkConfig::default(), tcp: Vec::new() };
        world.share_road(config, &[who]);
        world.subscribe(who, video);
        world.subscribe(who, audio);
        world.run_for(15 * SECOND);
        let frames = world.frames(who, video);
        world.run_for(60 * SECOND);
        shares.push((world.frames(who, video) - frames) * 100 / (15 * 60));
    }
    assert!(shares.iter().all(|&percent| percent >= 85), "{shares:?}");
}
