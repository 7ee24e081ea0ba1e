//! Participants with one peer connection for both directions.

use sfu_api::{Command, Delivery, Event, MediaKind, TrackId, TransportRole, VideoWish};
use sfu_core::media::Codec;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::TrackSpec;
use sfu_sim::world::{ROOM, Who, World};

use crate::{MS, SECOND, assert_faultless, come_and_go};

/// People with one peer connection each.
fn singles(seed: u64, people: usize) -> (World, Vec<Who>) {
    let mut world = World::new(seed);
    let people = (0..people).map(|_| world.join_single(ROOM)).collect();
    (world, people)
}

fn packets(world: &World, who: Who, track: TrackId) -> u64 {
    world.participant(who).receiving(track).map_or(0, |track| track.packets)
}

/// Every packet of a track had the numbers that were agreed.
fn assert_numbered(world: &World, who: Who, track: TrackId) {
    assert_eq!(world.participant(who).receiving(track).unwrap().misnumbered, 0);
}

/// How often a client was asked for an offer, and for how many m-lines.
fn asked(world: &World, who: Who) -> Vec<(u32, u32)> {
    let id = world.id(who);
    let of = |event: &Event| match event {
        Event::MediaSections { participant, audio, video } if *participant == id => Some((*audio, *video)),
        _ => None,
    };
    world.log.iter().filter_map(of).collect()
}

#[test]
fn two_people_see_and_hear_each_other_over_one_connection_each() {
    for codec in [Codec::Vp8, Codec::H264] {
        let (mut world, people) = singles(300, 2);
        let video = people.iter().map(|&who| (who, world.single(codec))).collect::<Vec<_>>();
        let video: Vec<TrackId> = video.into_iter().map(|(who, spec)| world.publish(who, spec)).collect();
        let audio: Vec<TrackId> = people.iter().map(|&who| world.publish(who, TrackSpec::Audio { level: 20 })).collect();
        for (me, other) in [(0, 1), (1, 0)] {
            world.subscribe(people[me], video[other]);
            world.subscribe(people[me], audio[other]);
        }
        world.expect("pictures come both ways", SECOND, |world| {
            world.frames(people[0], video[1]) > 5 && world.frames(people[1], video[0]) > 5
        });
        world.run_for(5 * SECOND);
        for (me, other) in [(0, 1), (1, 0)] {
            assert_faultless(&world, people[me], video[other]);
            assert_numbered(&world, people[me], video[other]);
            assert_numbered(&world, people[me], audio[other]);
            assert!(world.frames(people[me], video[other]) > 140);
            let heard = world.heard(people[me], audio[other]);
            assert_eq!((heard.corrupted, heard.repeated, heard.misplaced), (0, 0, 0));
            assert!(heard.packets > 250);
        }
        // The m-lines that the clients have from the start are enough.
        assert!(people.iter().all(|&who| asked(&world, who).iter().all(|count| *count == (0, 0))));
        assert!(world.log.iter().all(|event| !matches!(event, Event::Offer { .. })), "only clients offer");
        assert!(people.iter().all(|&who| !world.participant(who).subscriber.is_connected));
    }
}

#[test]
fn both_kinds_of_participants_share_a_room() {
    let mut world = World::new(301);
    let people = [world.join_single(ROOM), world.join(ROOM)];
    let specs = people.map(|_| world.simulcast(Codec::Vp8));
    let [of_single, of_dual] = [(people[0], specs[0].clone()), (people[1], specs[1].clone())].map(|(who, spec)| world.publish(who, spec));
    world.subscribe(people[0], of_dual);
    world.subscribe(people[1], of_single);
    world.run_for(5 * SECOND);
    for (who, track) in [(people[0], of_dual), (people[1], of_single)] {
        assert_faultless(&world, who, track);
        assert_numbered(&world, who, track);
        assert!(world.frames(who, track) > 120);
    }
}

#[test]
fn a_subscription_made_before_the_first_offer_is_in_its_answer() {
    let mut world = World::new(302);
    let publisher = world.join(ROOM);
    let spec = world.single(Codec::Vp8);
    let track = world.publish(publisher, spec);
    world.run_for(SECOND);
    let who = world.enter_single(ROOM);
    world.subscribe(who, track);
    world.open_publisher(who);
    world.expect("it is shown", 300 * MS, |world| world.frames(who, track) > 0);
    world.run_for(SECOND);
    assert_faultless(&world, who, track);
    assert_eq!(
        world.log.iter().filter(|event| matches!(event, Event::Answer { participant, .. } if *participant == world.id(who))).count(),
        1
    );
    assert_eq!(asked(&world, who), []);
}

#[test]
fn an_answer_says_which_m_line_carries_which_track() {
    let (mut world, people) = singles(303, 2);
    let tracks = [world.publish(people[0], TrackSpec::Audio { level: 9 }), world.publish(people[0], TrackSpec::Audio { level: 9 })];
    for track in tracks {
        world.subscribe(people[1], track);
    }
    world.run_for(SECOND);
    let id = world.id(people[1]);
    let answer = world.log.iter().rev().find_map(|event| match event {
        Event::Answer { participant, sdp, subscribed, .. } if *participant == id => Some((sdp.clone(), subscribed.clone())),
        _ => None,
    });
    let (sdp, subscribed) = answer.unwrap();
    for track in tracks {
        let (mid, _) = subscribed.iter().find(|(_, named)| *named == track).unwrap();
        let section = sdp.split("\r\nm=").find(|section| section.contains(&format!("a=mid:{mid}\r\n"))).unwrap();
        assert!(section.contains(&format!(" TR_{}\r\n", track.0)) && section.contains("a=sendonly\r\n"), "{section}");
    }
    assert_eq!(subscribed.len(), 2);
}

#[test]
fn a_client_is_asked_for_the_m_lines_that_are_missing_and_for_no_more() {
    let (mut world, people) = singles(304, 2);
    let tracks: Vec<_> = (0..10).map(|_| world.publish(people[0], TrackSpec::Audio { level: 50 })).collect();
    world.run_for(SECOND);
    for &track in &tracks {
        world.subscribe(people[1], track);
    }
    world.expect("all are heard", 2 * SECOND, |world| tracks.iter().all(|&track| packets(world, people[1], track) > 0));
    let asked = asked(&world, people[1]);
    assert_eq!(asked.iter().map(|(audio, _)| audio).sum::<u32>(), 7, "{asked:?}");
    assert!(asked.len() <= 3, "{asked:?}");
    assert_eq!(world.participant(people[1]).receiving_lines(), 13);
}

#[test]
fn a_track_can_be_left_and_taken_again_without_new_m_lines() {
    let (mut world, people) = singles(305, 2);
    let [video, audio] = [world.simulcast(Codec::H264), TrackSpec::Audio { level: 20 }].map(|spec| world.publish(people[0], spec));
    world.subscribe(people[1], audio);
    for round in 0..6 {
        world.subscribe(people[1], video);
        let ssrc = world.participant(people[1]).receiving(video).map(|track| track.ssrc);
        world.expect("it is shown", 2 * SECOND, |world| {
            let track = world.participant(people[1]).receiving(video);
            track.is_some_and(|track| Some(track.ssrc) != ssrc && track.video.report(world.now()).frames_shown > 10)
        });
        assert_faultless(&world, people[1], video);
        assert_numbered(&world, people[1], video);
        world.unsubscribe(people[1], video);
        world.run_for(300 * MS);
        assert_eq!(world.snapshot().subscriptions, 1, "round {round}");
        assert_eq!(sending_lines(&world, people[1]), 1, "the other m-line is inactive");
    }
    let heard = world.heard(people[1], audio);
    assert_eq!((heard.corrupted, heard.repeated, heard.misplaced), (0, 0, 0));
    assert_eq!(world.participant(people[1]).receiving_lines(), 6);
}

#[test]
fn an_m_line_is_inactive_once_before_it_carries_another_track() {
    let (mut world, people) = singles(306, 2);
    let tracks: Vec<_> = (0..4).map(|_| world.publish(people[0], TrackSpec::Audio { level: 50 })).collect();
    for &track in &tracks[..3] {
        world.subscribe(people[1], track);
    }
    world.run_for(SECOND);
    world.unsubscribe(people[1], tracks[0]);
    world.subscribe(people[1], tracks[3]);
    world.expect("the fourth is heard", SECOND, |world| packets(world, people[1], tracks[3]) > 0);
    let id = world.id(people[1]);
    let mut carried: std::collections::HashMap<String, TrackId> = std::collections::HashMap::new();
    for event in &world.log {
        let Event::Answer { participant, subscribed, .. } = event else { continue };
        if *participant != id {
            continue;
        }
        for (mid, track) in subscribed {
            assert!(carried.get(mid).is_none_or(|before| before == track), "m-line {mid} changed its track at once");
        }
        carried = subscribed.iter().cloned().collect();
    }
}

#[test]
fn a_client_publishes_and_stops_while_it_receives() {
    let (mut world, people) = singles(307, 2);
    let spec = world.single(Codec::Vp8);
    let watched = world.publish(people[0], spec);
    world.subscribe(people[1], watched);
    world.run_for(SECOND);
    for _ in 0..3 {
        let spec = world.simulcast(Codec::Vp8);
        let own = world.publish(people[1], spec);
        world.subscribe(people[0], own);
        world.expect("it is shown", SECOND, |world| world.frames(people[0], own) > 10);
        assert_faultless(&world, people[0], own);
        world.unpublish(own);
        world.run_for(500 * MS);
        assert_eq!(world.snapshot().video_tracks, 1);
    }
    assert_faultless(&world, people[1], watched);
    assert!(world.report(people[1], watched).longest_gap < 100 * MS);
}

#[test]
fn a_layer_switch_is_seamless() {
    let (mut world, people) = singles(308, 2);
    let spec = world.simulcast(Codec::Vp8);
    let track = world.publish(people[0], spec);
    world.subscribe(people[1], track);
    world.run_for(2 * SECOND);
    assert_eq!(world.layer(people[1], track), Some(2));
    for layer in [0, 2, 1, 0] {
        world.want_layer(people[1], track, layer);
        world.expect("the layer changes", SECOND, |world| world.layer(people[1], track) == Some(layer));
        world.run_for(SECOND);
    }
    assert_faultless(&world, people[1], track);
    assert_numbered(&world, people[1], track);
    world.set_wish(people[1], track, VideoWish { enabled: false, ..VideoWish::default() });
    world.run_for(200 * MS);
    let before = packets(&world, people[1], track);
    world.run_for(SECOND);
    assert_eq!(packets(&world, people[1], track), before);
}

#[test]
fn loss_in_both_directions_is_repaired_on_one_transport() {
    let (mut world, people) = singles(309, 2);
    let tracks = [0, 1].map(|index| {
        let spec = world.simulcast(Codec::H264);
        world.publish(people[index], spec)
    });
    world.subscribe(people[0], tracks[1]);
    world.subscribe(people[1], tracks[0]);
    world.run_for(SECOND);
    let lossy = LinkConfig { loss: Loss::Random(Chance::percent(5.0)), ..LinkConfig::delayed(10 * MS) };
    for &who in &people {
        world.participant_mut(who).up.reconfigure(lossy);
        world.participant_mut(who).down.reconfigure(lossy);
    }
    world.run_for(15 * SECOND);
    for (me, other) in [(0, 1), (1, 0)] {
        assert_faultless(&world, people[me], tracks[other]);
        assert_numbered(&world, people[me], tracks[other]);
        let report = world.report(people[me], tracks[other]);
        assert!(report.frames_shown >= 16 * 30 - 15 && report.longest_gap < 700 * MS, "{report:?}");
        assert!(world.participant(people[me]).receiving(tracks[other]).unwrap().retransmissions > 10, "RTX towards the client");
        let resent: u64 = (0..3).map(|encoding| world.sender(tracks[other]).feedback(encoding).resent).sum();
        assert!(resent > 10, "RTX from the client");
    }
}

#[test]
fn transport_wide_numbers_are_counted_in_each_direction_by_itself() {
    let (mut world, people) = singles(310, 2);
    let tracks = [0, 1].map(|index| {
        let spec = world.single(Codec::Vp8);
        world.publish(people[index], spec)
    });
    world.subscribe(people[0], tracks[1]);
    world.subscribe(people[1], tracks[0]);
    world.run_for(5 * SECOND);
    for &who in &people {
        let participant = world.participant(who);
        let (arrived, lost) = participant.congestion;
        assert!(arrived > 250 && lost == 0, "feedback on what the client sends: {arrived}, {lost}");
        let numbers = participant.transport_sequences();
        assert!(numbers.len() > 250);
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0].wrapping_add(1)), "a gap or a repetition");
    }
}

#[test]
fn reports_go_both_ways() {
    let (mut world, people) = singles(311, 2);
    let tracks = [0, 1].map(|index| world.publish(people[index], TrackSpec::Audio { level: 20 }));
    world.subscribe(people[0], tracks[1]);
    world.subscribe(people[1], tracks[0]);
    world.run_for(5 * SECOND);
    for (me, other) in [(0, 1), (1, 0)] {
        assert!(world.sender(tracks[me]).feedback(0).reports >= 3, "receiver reports");
        assert!(world.participant(people[me]).receiving(tracks[other]).unwrap().sender_report.is_some(), "sender reports");
    }
}

#[test]
fn data_goes_both_ways_on_the_clients_channels() {
    let (mut world, people) = singles(312, 3);
    world.run_for(SECOND);
    for (delivery, text) in [(Delivery::Reliable, &b"for sure"[..]), (Delivery::Lossy, b"perhaps")] {
        assert!(world.send_data(people[0], delivery, text));
        world.run_for(200 * MS);
        for &who in &people[1..] {
            assert_eq!(world.participant_mut(who).messages.pop(), Some((delivery, text.to_vec())));
        }
    }
    assert!(world.participant(people[0]).messages.is_empty());
}

#[test]
fn the_clients_offer_restarts_ice_for_both_directions() {
    let (mut world, people) = singles(313, 2);
    let tracks = [0, 1].map(|index| {
        let spec = world.single(Codec::Vp8);
        world.publish(people[index], spec)
    });
    world.subscribe(people[0], tracks[1]);
    world.subscribe(people[1], tracks[0]);
    world.run_for(SECOND);
    let before = world.participant(people[0]).publisher.remote_ufrag().unwrap().to_owned();
    let participant = world.id(people[0]);
    world.command(Command::RestartIce { participant });
    world.run_for(500 * MS);
    assert_eq!(world.participant(people[0]).publisher.remote_ufrag(), Some(before.as_str()), "it is the client's to do");
    world.change_network(people[0]);
    world.restart_ice(people[0], TransportRole::Publisher);
    world.run_for(2 * SECOND);
    assert_ne!(world.participant(people[0]).publisher.remote_ufrag(), Some(before.as_str()));
    let frames = [world.frames(people[0], tracks[1]), world.frames(people[1], tracks[0])];
    world.run_for(SECOND);
    assert!(world.frames(people[0], tracks[1]) > frames[0] + 25 && world.frames(people[1], tracks[0]) > frames[1] + 25);
}

#[test]
fn a_new_subscription_begins_after_the_client_had_time_for_the_answer() {
    let (mut world, people) = singles(314, 2);
    let spec = world.single(Codec::Vp8);
    let track = world.publish(people[0], spec);
    world.run_for(2 * SECOND);
    // Media is faster than signaling.
    world.participant_mut(people[1]).down.reconfigure(LinkConfig::delayed(MS));
    world.subscribe(people[1], track);
    world.expect("it is shown", SECOND, |world| world.frames(people[1], track) > 0);
    assert_eq!(world.participant(people[1]).strays(), (0, 0), "a packet came before its description");
    assert_eq!(world.participant(people[1]).receiving(track).unwrap().keyframe_requests, 0);
    assert_faultless(&world, people[1], track);
}

#[test]
fn a_client_that_can_play_no_codec_of_a_track_is_told_so() {
    let mut world = World::new(315);
    let publisher = world.join(ROOM);
    let spec = world.single(Codec::H264);
    let track = world.publish(publisher, spec);
    world.run_for(SECOND);
    let who = world.enter_single(ROOM);
    world.participant_mut(who).refuses = Some(Codec::H264);
    world.open_publisher(who);
    world.subscribe(who, track);
    world.run_for(SECOND);
    let participant = world.id(who);
    let told = Event::Subscription { participant, track, error: Some(sfu_api::SubscriptionError::CodecUnsupported) };
    assert_eq!(world.log.iter().filter(|event| **event == told).count(), 1);
    assert_eq!(world.snapshot().subscriptions, 0);
}

#[test]
fn nothing_is_left_after_100_joins_and_leaves_with_one_connection() {
    let mut world = World::new(316);
    come_and_go(&mut world, 10, World::join_single);
    world.run_for(60 * SECOND);
    let snapshot = world.snapshot();
    let tracks = snapshot.audio_tracks + snapshot.video_tracks;
    assert_eq!((snapshot.rooms, snapshot.participants, tracks, snapshot.subscriptions, snapshot.deadlines), (0, 0, 0, 0, 0));
}

/// M-lines of the last answer that carry something to the client.
fn sending_lines(world: &World, who: Who) -> usize {
    let id = world.id(who);
    let last = world.log.iter().rev().find_map(|event| match event {
        Event::Answer { participant, sdp, .. } if *participant == id => Some(sdp),
        _ => None,
    });
    last.unwrap().matches("a=sendonly\r\n").count()
}

#[test]
fn a_participant_without_a_place_for_a_kind_is_asked_for_that_kind() {
    let (mut world, people) = singles(317, 2);
    let tracks: Vec<TrackId> = (0..4)
        .map(|_| {
            let spec = world.single(Codec::Vp8);
            world.publish(people[0], spec)
        })
        .collect();
    world.run_for(SECOND);
    for &track in &tracks {
        world.subscribe(people[1], track);
    }
    world.expect("all are shown", 2 * SECOND, |world| tracks.iter().all(|&track| world.frames(people[1], track) > 0));
    let asked = asked(&world, people[1]);
    let sum = |kind: MediaKind| asked.iter().map(|(audio, video)| if kind == MediaKind::Audio { audio } else { video }).sum::<u32>();
    assert_eq!((sum(MediaKind::Audio), sum(MediaKind::Video)), (0, 1), "{asked:?}");
}
