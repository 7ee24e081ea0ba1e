//! A participant goes to another room with its transports and tracks.

use sfu_api::{Command, Event, RoomId};
use sfu_core::media::Codec;
use sfu_sim::participant::TrackSpec;
use sfu_sim::world::{ROOM, World};

use crate::{MS, SECOND, assert_faultless, room};

const THERE: RoomId = RoomId(77);

#[test]
fn who_moves_is_seen_there_and_not_here_and_sees_who_is_there() {
    let (mut world, people) = room(130, 2);
    let carol = world.join(THERE);
    let (alice, bob) = (people[0], people[1]);
    let video = world.simulcast(Codec::Vp8);
    let video = world.publish(alice, video);
    let screen = world.single(Codec::Vp8);
    let screen = world.publish(bob, screen);
    let other = world.single(Codec::Vp8);
    let other = world.publish(carol, other);
    world.subscribe(bob, video);
    world.subscribe(alice, screen);
    world.run_for(3 * SECOND);
    assert_faultless(&world, bob, video);

    world.command(Command::Move { participant: world.id(alice), room: THERE });
    world.run_for(100 * MS);
    assert_eq!((world.snapshot().subscriptions, world.snapshot().rooms), (0, 2));
    let transports: usize = world.snapshot().transports.iter().sum();
    world.subscribe(carol, video);
    world.subscribe(alice, other);
    world.expect("carol sees alice", SECOND, |world| {
        world.participant(carol).receiving(video).is_some_and(|track| track.video.report(world.now()).frames_shown > 10)
    });
    world.expect("alice sees carol", SECOND, |world| {
        world.participant(alice).receiving(other).is_some_and(|track| track.video.report(world.now()).frames_shown > 10)
    });
    world.run_for(2 * SECOND);
    assert_faultless(&world, carol, video);
    assert_faultless(&world, alice, other);
    assert_eq!(world.snapshot().transports.iter().sum::<usize>(), transports, "on the transports that it had");
}

#[test]
fn tracks_of_a_room_that_was_left_can_not_be_subscribed_to_any_more() {
    let (mut world, people) = room(131, 2);
    let track = world.publish(people[0], TrackSpec::Audio { level: 20 });
    world.run_for(2 * SECOND);
    world.command(Command::Move { participant: world.id(people[0]), room: THERE });
    world.subscribe(people[1], track);
    world.run_for(100 * MS);
    let id = world.id(people[1]);
    assert!(world.log.iter().any(|event| matches!(event, Event::Subscription { participant, error: Some(_), .. } if *participant == id)));
}

#[test]
fn who_speaks_is_said_of_the_room_where_the_speaker_is() {
    let (mut world, people) = room(132, 2);
    world.publish(people[0], TrackSpec::Audio { level: 10 });
    world.run_for(2 * SECOND);
    world.command(Command::Move { participant: world.id(people[0]), room: THERE });
    world.run_for(3 * SECOND);
    let newest = |world: &World, of: RoomId| {
        let speakers = world.log.iter().rev().find_map(|event| match event {
            Event::Speakers { room, speakers } if *room == of => Some(speakers.len()),
            _ => None,
        });
        speakers.unwrap_or(0)
    };
    assert_eq!((newest(&world, ROOM), newest(&world, THERE)), (0, 1));
}

#[test]
fn the_last_one_who_goes_closes_the_room_and_a_move_to_where_one_is_changes_nothing() {
    let (mut world, people) = room(133, 1);
    let id = world.id(people[0]);
    for to in [THERE, THERE, ROOM] {
        world.command(Command::Move { participant: id, room: to });
        world.run_for(100 * MS);
        assert_eq!((world.snapshot().rooms, world.snapshot().participants), (1, 1));
    }
    world.leave(people[0]);
    world.run_for(100 * MS);
    assert_eq!((world.snapshot().rooms, world.snapshot().participants), (0, 0));
}
