//! The engine in whole calls: participants, network, signaling, in virtual time with fixed seeds.
#![allow(clippy::unwrap_used)]

mod adaptation;
mod allocation;
mod audio;
mod bandwidth;
mod codecs;
mod data;
mod extensions;
mod forwarding;
mod hostile;
mod keyframes;
mod layers;
mod loss;
mod moving;
mod narrow;
mod noticing;
mod overload;
mod paths;
mod publishing;
mod quality;
mod remb;
mod reports;
mod sharing;
mod single;
mod storms;
mod subscribing;
mod switching;
mod telemetry;

use std::time::Duration;

use sfu_api::{Event, RoomId, TrackId};
use sfu_core::media::Codec;
use sfu_sim::participant::TrackSpec;
use sfu_sim::world::{ROOM, Who, World};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A publisher of one track and one subscriber, with media flowing.
fn pair(seed: u64, spec: impl FnOnce(&mut World) -> TrackSpec) -> (World, TrackId, Who) {
    let (world, track, subscribers) = World::fan_out(seed, spec, 1);
    (world, track, subscribers[0])
}

/// A room with so many people who publish nothing yet.
fn room(seed: u64, people: usize) -> (World, Vec<Who>) {
    let mut world = World::new(seed);
    let people = (0..people).map(|_| world.join(ROOM)).collect();
    (world, people)
}

/// Ten people at a time join, of whom every second one publishes for the next; then all of them leave.
fn come_and_go(world: &mut World, rounds: usize, join: fn(&mut World, RoomId) -> Who) {
    for _ in 0..rounds {
        let people: Vec<Who> = (0..10).map(|_| join(world, ROOM)).collect();
        for pair in people.chunks(2) {
            let spec = world.single(Codec::Vp8);
            let track = world.publish(pair[0], spec);
            world.subscribe(pair[1], track);
        }
        world.run_for(600 * MS);
        assert_eq!(world.snapshot().live_subscriptions, 5);
        for who in people {
            world.leave(who);
        }
        world.run_for(20 * MS);
    }
}

/// What somebody was told of the flow of a track, in order: true for paused.
fn states(world: &World, who: Who, of: TrackId) -> Vec<bool> {
    let id = world.id(who);
    let state = |event: &Event| match event {
        Event::StreamState { participant, track, is_paused } if *participant == id && *track == of => Some(*is_paused),
        _ => None,
    };
    world.log.iter().filter_map(state).collect()
}

/// Nothing was wrong with what somebody got of a video track.
fn assert_faultless(world: &World, who: Who, track: TrackId) {
    let report = world.report(who, track);
    assert_eq!(report.faults(), [""; 0], "{report:?}");
    assert_eq!(world.participant(who).strays(), (0, 0));
}
