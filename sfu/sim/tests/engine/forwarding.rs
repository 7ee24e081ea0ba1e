//! What one participant sends is what the others get.

use std::time::Duration;

use sfu_core::media::Codec;
use sfu_sim::participant::TrackSpec;
use sfu_sim::world::{ROOM, World};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn three_participants_see_and_hear_each_other() {
    let mut world = World::new(1);
    let people: Vec<_> = (0..3).map(|_| world.join(ROOM)).collect();
    let mut tracks = Vec::new();
    for &who in &people {
        let video = world.simulcast(Codec::Vp8);
        tracks.push((who, world.publish(who, video), world.publish(who, TrackSpec::Audio { level: 30 })));
    }
    for &(owner, video, audio) in &tracks {
        for &who in people.iter().filter(|&&who| who != owner) {
            world.subscribe(who, video);
            world.subscribe(who, audio);
        }
    }
    world.run_for(10 * SECOND);
    for &(owner, video, audio) in &tracks {
        for &who in people.iter().filter(|&&who| who != owner) {
            let report = world.report(who, video);
            assert_eq!(report.faults(), [""; 0]);
            assert!(report.frames_shown > 270 && report.longest_gap < Duration::from_millis(50), "{report:?}");
            assert_eq!(world.layer(who, video), Some(2));
            let heard = world.heard(who, audio);
            assert!(heard.packets > 450 && heard.corrupted + heard.repeated + heard.misplaced == 0, "{heard:?}");
            assert_eq!(world.participant(who).strays(), (0, 0));
        }
    }
}
