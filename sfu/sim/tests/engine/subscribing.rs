//! Subscriptions that come and go, mute, and leaving.

use sfu_api::{Event, TransportRole, TransportState};
use sfu_core::media::Codec;
use sfu_core::transport::srtp::SrtpProfile;
use sfu_sim::participant::TrackSpec;
use sfu_sim::world::{ROOM, World};

use crate::{MS, SECOND, assert_faultless, come_and_go, pair, room};

#[test]
fn video_goes_on_seamlessly_after_a_mute() {
    let (mut world, track, who) = pair(70, |world| world.simulcast(Codec::Vp8));
    world.run_for(SECOND);
    for pause in [300 * MS, 3 * SECOND, 20 * SECOND] {
        world.set_muted(track, true);
        world.run_for(50 * MS);
        world.participant_mut(who).receiving_mut(track).unwrap().video.pause();
        world.run_for(pause);
        let frames = world.frames(who, track);
        world.set_muted(track, false);
        world.expect("pictures are back", 450 * MS, |world| world.frames(who, track) > frames);
        world.run_for(SECOND);
        assert_eq!(world.layer(who, track), Some(2));
    }
    assert_faultless(&world, who, track);
    assert_eq!(world.report(who, track).frames_incomplete, 0);
}

#[test]
fn sound_goes_on_in_its_place_after_a_mute() {
    let (mut world, track, who) = pair(71, |_| TrackSpec::Audio { level: 20 });
    world.run_for(SECOND);
    for _ in 0..3 {
        world.set_muted(track, true);
        world.run_for(2 * SECOND);
        let before = world.heard(who, track).packets;
        world.run_for(SECOND);
        assert_eq!(world.heard(who, track).packets, before, "nothing is forwarded of a muted track");
        world.set_muted(track, false);
        world.expect("sound is back", 200 * MS, |world| world.heard(who, track).packets > before);
        world.run_for(SECOND);
    }
    let heard = world.heard(who, track);
    // The pause is in the timestamps too: players see silence, not sound that is late.
    assert_eq!((heard.corrupted, heard.repeated, heard.misplaced), (0, 0, 0), "{heard:?}");
}

#[test]
fn a_track_muted_on_the_server_alone_is_not_forwarded() {
    let (mut world, track, who) = pair(72, |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    world.command(sfu_api::Command::SetMuted { track, muted: true });
    world.run_for(100 * MS);
    let before = world.participant(who).receiving(track).unwrap().packets;
    world.run_for(SECOND);
    assert_eq!(world.participant(who).receiving(track).unwrap().packets, before);
    world.command(sfu_api::Command::SetMuted { track, muted: false });
    world.expect("it is back", 300 * MS, |world| world.participant(who).receiving(track).unwrap().packets > before + 10);
    assert_faultless(&world, who, track);
}

#[test]
fn a_track_can_be_left_and_taken_again_with_no_more_than_two_m_lines() {
    let (mut world, people) = room(73, 2);
    let [video, audio] = [world.simulcast(Codec::Vp8), TrackSpec::Audio { level: 20 }].map(|spec| world.publish(people[0], spec));
    world.subscribe(people[1], audio);
    for round in 0..5 {
        world.subscribe(people[1], video);
        let ssrc = world.participant(people[1]).receiving(video).map(|track| track.ssrc);
        world.expect("it is shown", 2 * SECOND, |world| {
            let track = world.participant(people[1]).receiving(video);
            track.is_some_and(|track| Some(track.ssrc) != ssrc && track.video.report(world.now()).frames_shown > 10)
        });
        assert_faultless(&world, people[1], video);
        world.unsubscribe(people[1], video);
        world.run_for(300 * MS);
        assert_eq!(world.snapshot().subscriptions, 1, "round {round}");
        assert!(m_lines(&world) <= 4, "data, audio and two for video");
    }
    let heard = world.heard(people[1], audio);
    assert_eq!((heard.corrupted, heard.repeated, heard.misplaced), (0, 0, 0));
}

#[test]
fn many_tracks_come_in_few_offers() {
    let (mut world, people) = room(74, 2);
    let tracks: Vec<_> = (0..20).map(|_| world.publish(people[0], TrackSpec::Audio { level: 50 })).collect();
    world.run_for(SECOND);
    let before = offers(&world);
    for &track in &tracks {
        world.subscribe(people[1], track);
    }
    world.expect("all are heard", 2 * SECOND, |world| {
        tracks.iter().all(|&track| world.participant(people[1]).receiving(track).is_some_and(|t| t.packets > 0))
    });
    assert!(offers(&world) - before <= 2, "{} offers", offers(&world) - before);
}

#[test]
fn leaving_ends_everything_that_others_had_of_it() {
    let (mut world, track, who) = pair(75, |world| world.simulcast(Codec::Vp8));
    let owner = world.sender_of(track);
    world.leave(owner);
    world.run_for(200 * MS);
    let snapshot = world.snapshot();
    assert_eq!((snapshot.participants, snapshot.subscriptions, snapshot.video_tracks), (1, 0, 0));
    let packets = world.participant(who).receiving(track).unwrap().packets;
    world.run_for(SECOND);
    assert_eq!(world.participant(who).receiving(track).unwrap().packets, packets);
}

#[test]
fn nothing_is_left_after_200_joins_and_leaves() {
    let mut world = World::new(76);
    come_and_go(&mut world, 20, World::join);
    // Deadlines of transports that are gone come up within consent's time.
    world.run_for(60 * SECOND);
    let snapshot = world.snapshot();
    let tracks = snapshot.audio_tracks + snapshot.video_tracks;
    assert_eq!((snapshot.rooms, snapshot.participants, tracks, snapshot.subscriptions), (0, 0, 0, 0));
    assert_eq!(snapshot.transports, [0; SrtpProfile::ALL.len()]);
    assert_eq!(snapshot.deadlines, 0);
    assert_eq!(world.shard.next_timeout(), None);
    let states = world.log.iter().filter(|event| matches!(event, Event::Transport { state: TransportState::Failed(_), .. }));
    assert_eq!(states.count(), 0);
}

#[test]
fn a_participant_that_rejoins_replaces_itself() {
    let (mut world, track, who) = pair(77, |world| world.single(Codec::Vp8));
    let participant = world.id(who);
    world.command(sfu_api::Command::Join { room: ROOM, participant, can_subscribe: true, mode: sfu_api::PeerMode::Dual });
    world.run_for(SECOND);
    let snapshot = world.snapshot();
    assert_eq!((snapshot.participants, snapshot.subscriptions), (2, 0));
    assert!(world.sender(track).feedback(0).reports > 0);
    assert!(world.participant_mut(who).side(TransportRole::Subscriber).is_connected);
}

fn offers(world: &World) -> usize {
    world.log.iter().filter(|event| matches!(event, Event::Offer { .. })).count()
}

fn m_lines(world: &World) -> usize {
    let last = world.log.iter().rev().find_map(|event| if let Event::Offer { sdp, .. } = event { Some(sdp) } else { None });
    last.unwrap().lines().filter(|line| line.starts_with("m=")).count()
}
