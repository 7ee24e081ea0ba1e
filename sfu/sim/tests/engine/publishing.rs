//! A publisher's offers: tracks that come, go and come back.

use sfu_api::{Event, TrackId};
use sfu_core::media::Codec;
use sfu_sim::participant::TrackSpec;
use sfu_sim::world::World;

use crate::{MS, SECOND, assert_faultless, pair, room};

#[test]
fn tracks_are_added_and_removed_while_others_go_on() {
    let (mut world, steady, who) = pair(80, |world| world.simulcast(Codec::Vp8));
    let owner = world.sender_of(steady);
    for round in 0..4 {
        let spec = if round % 2 == 0 { world.single(Codec::H264) } else { world.simulcast(Codec::Vp8) };
        let extra = world.publish(owner, spec);
        world.subscribe(who, extra);
        world.expect("the new track is shown", SECOND, |world| world.frames(who, extra) > 10);
        assert_faultless(&world, who, extra);
        world.unpublish(extra);
        world.run_for(200 * MS);
        assert!(world.log.iter().any(|event| matches!(event, Event::TrackEnded { track, .. } if *track == extra)));
        assert_eq!(world.snapshot().video_tracks, 1);
    }
    assert_faultless(&world, who, steady);
    assert!(world.report(who, steady).longest_gap < 100 * MS);
}

#[test]
fn a_stream_that_comes_back_after_its_sequence_wrapped_is_forwarded() {
    let near_wrap = |world: &mut World| {
        let TrackSpec::Video(mut config) = world.single(Codec::Vp8) else { unreachable!() };
        config.encodings[0].first_sequence = 65_500;
        TrackSpec::Video(config)
    };
    let (mut world, first, who) = pair(81, near_wrap);
    world.run_for(3 * SECOND);
    world.unpublish(first);
    world.run_for(500 * MS);
    let second = world.republish(first);
    world.subscribe(who, second);
    world.expect("the track is shown again", SECOND, |world| world.frames(who, second) > 10);
    assert_faultless(&world, who, second);
}

#[test]
fn a_participant_may_publish_so_many_tracks_and_no_more() {
    let (mut world, people) = room(82, 1);
    for _ in 0..70 {
        world.publish(people[0], TrackSpec::Audio { level: 60 });
    }
    world.run_for(2 * SECOND);
    assert_eq!(world.snapshot().audio_tracks, sfu_core::limits::MAX_TRACKS_PER_PARTICIPANT);
}

#[test]
fn a_track_that_signaling_ends_ends_for_its_subscribers() {
    let (mut world, track, who) = pair(83, |world| world.single(Codec::Vp8));
    world.command(sfu_api::Command::Unpublish { track });
    world.run_for(100 * MS);
    let packets = world.participant(who).receiving(track).unwrap().packets;
    world.run_for(SECOND);
    assert_eq!(world.participant(who).receiving(track).unwrap().packets, packets);
    assert_eq!((world.snapshot().subscriptions, world.snapshot().video_tracks), (0, 0));
}

#[test]
fn a_subscription_to_an_unknown_track_is_refused() {
    let (mut world, people) = room(84, 1);
    let participant = world.id(people[0]);
    let label = sfu_api::MediaLabel { stream_id: "PA_1".into(), track_id: "TR_99".into() };
    world.command(sfu_api::Command::Subscribe { participant, track: TrackId(99), label });
    world.run_for(50 * MS);
    let refused = Some(sfu_api::SubscriptionError::TrackUnknown);
    assert!(world.log.iter().any(|event| matches!(event, Event::Subscription { error, .. } if *error == refused)));
}
