//! Rooms that live on several shards: what is published on one is had on the others as on its own.

use rand::RngExt as _;
use sfu_api::{
    BackupPolicy, Command, Delivery, Event, MediaLabel, ParticipantId, PeerMode, RoomId, SubscriptionError, TrackId, VideoWish, WantedCodec,
};
use sfu_core::media::Codec;
use sfu_core::relay::LinkId;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::{TrackSpec, VoiceConfig};
use sfu_sim::scalability::Mode;
use sfu_sim::world::{ROOM, Who, World};

use crate::reports::capture_error;
use crate::{MS, SECOND, assert_faultless};

/// A publisher on shard 0 and a subscriber on each of these shards, to whom media flows.
fn shared(seed: u64, shards: &[usize], spec: impl FnOnce(&mut World) -> TrackSpec) -> (World, TrackId, Vec<Who>) {
    let count = shards.iter().max().map_or(1, |most| most + 1);
    let mut world = World::with_shards(seed, count);
    let publisher = world.join_on(ROOM, 0);
    let people: Vec<Who> = shards.iter().map(|&shard| world.join_on(ROOM, shard)).collect();
    let spec = spec(&mut world);
    let track = world.publish(publisher, spec);
    for &who in &people {
        world.subscribe(who, track);
    }
    let all = people.clone();
    world.expect("media flows to every subscriber", 5 * SECOND, |world| {
        all.iter().all(|&who| world.participant(who).receiving(track).is_some_and(|track| track.packets > 0))
    });
    (world, track, people)
}

/// Packets that have come to a shard from others.
fn relayed(world: &mut World, shard: usize) -> u64 {
    world.engine(shard).snapshot().relayed
}

#[test]
fn subscribers_on_every_shard_get_the_same_and_each_packet_crosses_once() {
    let (mut world, track, people) = shared(400, &[0, 1, 1, 1, 2, 2], |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    let before = (world.participant(people[0]).receiving(track).unwrap().packets, relayed(&mut world, 1), relayed(&mut world, 2));
    world.run_for(10 * SECOND);
    let sent = world.participant(people[0]).receiving(track).unwrap().packets - before.0;
    for (shard, before) in [(1, before.1), (2, before.2)] {
        let crossed = relayed(&mut world, shard) - before;
        assert!(crossed.abs_diff(sent) <= 5, "{crossed} of {sent} packets crossed to shard {shard}");
    }
    for &who in &people {
        assert_faultless(&world, who, track);
        let report = world.report(who, track);
        assert!(report.frames_shown > 320 && report.longest_gap < 50 * MS, "{report:?}");
    }
    assert_eq!(world.engine(1).snapshot().video_tracks, 0, "a track counts where it is published");
    assert_eq!((1..3).map(|shard| world.engine(shard).snapshot().participants).sum::<usize>(), 5);
}

#[test]
fn both_ways_between_three_shards_with_audio() {
    let mut world = World::with_shards(401, 3);
    let people: Vec<Who> = (0..3).map(|shard| world.join_on(ROOM, shard)).collect();
    let mut tracks = Vec::new();
    for &who in &people {
        let video = world.simulcast(Codec::H264);
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
            assert_faultless(&world, who, video);
            assert_eq!(world.layer(who, video), Some(2));
            let heard = world.heard(who, audio);
            assert!(heard.packets > 440 && heard.corrupted + heard.repeated + heard.misplaced == 0, "{heard:?}");
        }
    }
}

#[test]
fn only_the_encodings_that_somebody_there_gets_cross() {
    let (mut world, track, people) = shared(402, &[0, 1, 1], |world| world.simulcast(Codec::Vp8));
    for (layers, bound) in [([2, 0, 0], 0), ([0, 1, 1], 1), ([0, 0, 2], 2), ([2, 1, 1], 1)] {
        for (&who, layer) in people.iter().zip(layers) {
            world.want_layer(who, track, layer);
        }
        for (&who, layer) in people.iter().zip(layers) {
            world.expect("the layer is shown", SECOND, |world| world.layer(who, track) == Some(layer));
        }
        // Less is wanted after a review.
        world.run_for(300 * MS);
        let before = relayed(&mut world, 1);
        world.run_for(2 * SECOND);
        let crossed = relayed(&mut world, 1) - before;
        let per_layer = [60..100, 100..180, 320..520];
        let expected: u64 =
            layers[1..].iter().collect::<std::collections::BTreeSet<_>>().iter().map(|&&l| per_layer[usize::from(l)].end).sum();
        assert!(crossed > 50 && crossed < expected, "{layers:?} (to {bound}): {crossed} packets");
    }
    for &who in &people {
        assert_faultless(&world, who, track);
        assert!(world.report(who, track).longest_gap < 150 * MS);
    }
}

#[test]
fn layers_within_an_encoding_are_chosen_on_the_subscribers_shard() {
    for (codec, mode, is_described) in [(Codec::Vp9, Mode::L3T3_KEY, false), (Codec::Av1, Mode::L3T3, true), (Codec::Vp8, Mode::L1T3, true)]
    {
        let (mut world, track, people) = shared(403, &[1, 1, 1], |world| world.layered(codec, mode, is_described));
        for (layer, &who) in (0..).zip(&people) {
            world.want_layer(who, track, layer);
        }
        world.run_for(5 * SECOND);
        for (layer, &who) in (0..).zip(&people) {
            assert_eq!(world.layer(who, track), Some(layer.min(mode.spatial - 1)), "{codec:?}");
            assert_faultless(&world, who, track);
        }
    }
}

#[test]
fn a_late_subscriber_elsewhere_sees_a_picture_soon_and_requests_are_merged() {
    let (mut world, track, people) = shared(404, &[0, 1], |world| world.simulcast(Codec::Vp8));
    let late: Vec<Who> = (0..10).map(|_| world.join_on(ROOM, 1)).collect();
    world.run_for(5 * SECOND);
    let requests = |world: &World| [0, 2].map(|layer| world.sender(track).feedback(layer).keyframe_requests);
    let before = requests(&world);
    for &who in &late {
        world.subscribe(who, track);
    }
    let all = late.clone();
    world.expect("a picture is shown", 200 * MS, |world| all.iter().all(|&who| world.frames(who, track) > 0));
    world.expect("a large one is", SECOND, |world| all.iter().all(|&who| world.layer(who, track) == Some(2)));
    let asked: Vec<u64> = before.into_iter().zip(requests(&world)).map(|(before, after)| after - before).collect();
    assert!(asked.iter().all(|&asked| asked <= 2) && asked[1] > 0, "{asked:?}");
    world.run_for(SECOND);
    for &who in people.iter().chain(&late) {
        assert_faultless(&world, who, track);
    }
}

#[test]
fn loss_behind_another_shard_is_repaired_there() {
    let (mut world, track, people) = shared(405, &[1], |world| world.single(Codec::H264));
    let lossy = LinkConfig { loss: Loss::Random(Chance::percent(5.0)), ..LinkConfig::delayed(10 * MS) };
    world.participant_mut(people[0]).down.reconfigure(lossy);
    world.run_for(15 * SECOND);
    let report = world.report(people[0], track);
    assert_faultless(&world, people[0], track);
    assert!(report.frames_shown >= 15 * 30 - 12 && report.longest_gap < 700 * MS, "{report:?}");
    assert!(world.engine(1).snapshot().retransmitted > 10);
    assert_eq!(world.snapshot().retransmitted, 0);
    assert_eq!(world.sender(track).feedback(0).nacked, 0, "the publisher has nothing to do with it");
}

#[test]
fn what_is_repaired_on_the_way_in_crosses_too() {
    let (mut world, track, people) = shared(406, &[1], |world| world.single(Codec::Vp8));
    let owner = world.sender_of(track);
    let lossy = LinkConfig { loss: Loss::Random(Chance::percent(5.0)), ..LinkConfig::delayed(10 * MS) };
    world.participant_mut(owner).up.reconfigure(lossy);
    world.run_for(15 * SECOND);
    let report = world.report(people[0], track);
    assert_faultless(&world, people[0], track);
    assert!(report.frames_shown >= 15 * 30 - 12 && report.longest_gap < 700 * MS, "{report:?}");
}

#[test]
fn a_mute_holds_on_all_shards() {
    let (mut world, track, people) = shared(407, &[0, 1], |world| world.simulcast(Codec::Vp8));
    world.run_for(SECOND);
    world.set_muted(track, true);
    world.run_for(100 * MS);
    let packets = |world: &World| [0, 1].map(|place: usize| world.participant(people[place]).receiving(track).unwrap().packets);
    let (before, crossed) = (packets(&world), relayed(&mut world, 1));
    world.run_for(3 * SECOND);
    assert_eq!((packets(&world), relayed(&mut world, 1)), (before, crossed));
    world.set_muted(track, false);
    for &who in &people {
        let frames = world.frames(who, track);
        world.expect("it goes on", SECOND, |world| world.frames(who, track) > frames + 10);
        assert_faultless(&world, who, track);
    }
}

#[test]
fn a_track_that_begins_muted_flows_when_it_is_not() {
    let mut world = World::with_shards(408, 2);
    let (publisher, viewer) = (world.join_on(ROOM, 0), world.join_on(ROOM, 1));
    let spec = world.single(Codec::Vp8);
    let track = world.publish(publisher, spec);
    world.command(Command::SetMuted { track, muted: true });
    world.subscribe(viewer, track);
    world.run_for(3 * SECOND);
    assert_eq!(world.frames(viewer, track), 0);
    world.command(Command::SetMuted { track, muted: false });
    world.expect("it is seen", SECOND, |world| world.frames(viewer, track) > 10);
    assert_faultless(&world, viewer, track);
}

#[test]
fn subscriptions_elsewhere_end_with_the_track_and_with_its_publisher() {
    let (mut world, track, people) = shared(409, &[0, 1], |world| world.single(Codec::Vp8));
    let publisher = world.sender_of(track);
    world.unpublish(track);
    world.run_for(SECOND);
    assert_eq!((0..2).map(|shard| world.engine(shard).snapshot().subscriptions).sum::<usize>(), 0);
    let again = world.republish(track);
    world.subscribe(people[1], again);
    world.expect("it is seen again", 2 * SECOND, |world| world.frames(people[1], again) > 10);
    world.leave(publisher);
    world.run_for(100 * MS);
    assert_eq!(world.engine(1).snapshot().subscriptions, 0);
    let crossed = relayed(&mut world, 1);
    world.run_for(SECOND);
    assert_eq!(relayed(&mut world, 1), crossed);
}

#[test]
fn nothing_crosses_to_a_shard_that_nobody_of_the_room_is_on_any_more() {
    let (mut world, track, people) = shared(410, &[0, 1], |world| world.single(Codec::Vp8));
    world.leave(people[1]);
    world.run_for(100 * MS);
    let crossed = relayed(&mut world, 1);
    world.run_for(2 * SECOND);
    assert_eq!(relayed(&mut world, 1), crossed);
    let back = world.join_on(ROOM, 1);
    world.subscribe(back, track);
    world.expect("it is seen again", 3 * SECOND, |world| world.frames(back, track) > 10);
    assert_faultless(&world, back, track);
    assert_faultless(&world, people[0], track);
}

#[test]
fn what_finds_no_room_is_dropped_and_counted_and_a_keyframe_mends_it() {
    let (mut world, track, people) = shared(411, &[0, 1], |world| world.simulcast(Codec::Vp8));
    world.run_for(SECOND);
    let asked = world.sender(track).feedback(2).keyframe_requests;
    // Room for what must arrive, and for no packet.
    world.ring_bytes = sfu_core::relay::RESERVE;
    world.run_for(2 * SECOND);
    let dropped = world.snapshot().relay_dropped;
    assert!(dropped > 100, "{dropped}");
    assert!(world.sender(track).feedback(2).keyframe_requests > asked);
    world.set_muted(track, true);
    world.run_for(100 * MS);
    world.set_muted(track, false);
    world.ring_bytes = 1 << 20;
    for &who in &people {
        let frames = world.frames(who, track);
        world.expect("pictures are back", SECOND, |world| world.frames(who, track) > frames + 10);
    }
    assert_faultless(&world, people[0], track);
    assert!(world.report(people[0], track).longest_gap < 400 * MS, "who is here notices nothing but the mute");
    assert_faultless(&world, people[1], track);
}

#[test]
fn an_overflow_that_ends_is_mended_by_a_keyframe_without_any_help() {
    let (mut world, track, people) = shared(412, &[1], |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    world.ring_bytes = sfu_core::relay::RESERVE;
    world.run_for(50 * MS);
    world.ring_bytes = 1 << 20;
    let frames = world.frames(people[0], track);
    world.expect("pictures are back", SECOND, |world| world.frames(people[0], track) > frames + 5);
    world.run_for(SECOND);
    assert_faultless(&world, people[0], track);
}

#[test]
fn one_shard_tells_who_speaks_in_the_whole_room_and_another_takes_over() {
    let mut world = World::with_shards(413, 3);
    let people: Vec<Who> = (0..3).map(|shard| world.join_on(ROOM, shard)).collect();
    let tracks: Vec<TrackId> =
        [20, 127, 15].into_iter().zip(&people).map(|(level, &who)| world.publish(who, TrackSpec::Audio { level })).collect();
    let newest = |world: &World| {
        let speakers =
            world.log.iter().rev().find_map(|event| if let Event::Speakers { speakers, .. } = event { Some(speakers) } else { None });
        let mut who: Vec<_> = speakers.map(|speakers| speakers.iter().map(|speaker| speaker.participant.0).collect()).unwrap_or_default();
        who.sort_unstable();
        who
    };
    world.expect("both are reported together", 3 * SECOND, |world| newest(world) == [1, 3]);
    let told = |world: &World| world.log.iter().filter(|event| matches!(event, Event::Speakers { .. })).count();
    let before = told(&world);
    world.run_for(3 * SECOND);
    assert!(told(&world) <= before + 10, "shards do not contradict each other");
    assert_eq!(newest(&world), [1, 3]);
    world.set_muted(tracks[2], true);
    world.expect("a mute ends it", SECOND, |world| newest(world) == [1]);
    world.set_muted(tracks[2], false);
    world.expect("and back", SECOND, |world| newest(world) == [1, 3]);
    world.leave(people[0]);
    world.expect("the home has moved", 2 * SECOND, |world| newest(world) == [3]);
    world.sender_mut(tracks[2]).set_level(127);
    world.expect("silence is told by the new home", 3 * SECOND, |world| newest(world).is_empty());
}

#[test]
fn messages_and_data_tracks_reach_everybody_on_every_shard() {
    let mut world = World::with_shards(414, 2);
    let people: Vec<Who> = [0, 0, 1, 1].into_iter().map(|shard| world.join_on(ROOM, shard)).collect();
    world.open_publisher(people[0]);
    world.open_publisher(people[2]);
    world.run_for(3 * SECOND);
    assert!(world.send_data(people[2], Delivery::Reliable, b"hello"));
    world.run_for(SECOND);
    for who in [people[0], people[1], people[3]] {
        assert_eq!(world.participant(who).messages, [(Delivery::Reliable, b"hello".to_vec())]);
        world.participant_mut(who).messages.clear();
    }

    let (track, publisher) = (TrackId(900), world.id(people[0]));
    let packet = |handle: u16| [&[0x18, 0][..], &handle.to_be_bytes(), &[0, 1, 0, 2, 0, 0, 0, 3], b"payload"].concat();
    world.command(Command::PublishData { participant: publisher, track, handle: 7 });
    for (who, handle) in [(people[1], 1), (people[2], 2), (people[3], 3)] {
        let participant = world.id(who);
        world.command(Command::SubscribeData { participant, track, handle });
    }
    world.run_for(100 * MS);
    assert!(world.send_data(people[0], Delivery::DataTrack, &packet(7)));
    world.run_for(SECOND);
    for (who, handle) in [(people[1], 1), (people[2], 2), (people[3], 3)] {
        assert_eq!(world.participant(who).messages, [(Delivery::DataTrack, packet(handle))]);
    }
    for who in [people[2], people[3]] {
        let participant = world.id(who);
        world.command(Command::UnsubscribeData { participant, track });
    }
    world.run_for(200 * MS);
    assert!(world.send_data(people[0], Delivery::DataTrack, &packet(7)));
    world.run_for(100 * MS);
    world.command(Command::UnpublishData { participant: publisher, track });
    world.run_for(SECOND);
    assert_eq!(people.iter().map(|&who| world.participant(who).messages.len()).collect::<Vec<_>>(), [0, 2, 1, 1]);
}

/// What the publisher of a track was told last: the highest layer of each codec.
fn told(world: &World, track: TrackId) -> Vec<Option<u8>> {
    let codecs = world.log.iter().rev().find_map(|event| match event {
        Event::WantedLayers { track: told, codecs, .. } if *told == track => Some(codecs.clone()),
        _ => None,
    });
    codecs.unwrap_or_default().into_iter().map(|WantedCodec { max_spatial, .. }| max_spatial).collect()
}

#[test]
fn the_publisher_hears_what_is_wanted_on_all_shards() {
    let (mut world, track, people) = shared(415, &[0, 1], |world| world.simulcast(Codec::Vp8));
    for (here, there, expected) in [(0, 0, 0), (0, 2, 2), (1, 0, 1), (1, 2, 2), (0, 1, 1)] {
        world.want_layer(people[0], track, here);
        world.want_layer(people[1], track, there);
        world.expect("it is told", 2 * SECOND, |world| told(world, track) == [Some(expected)]);
    }
    world.set_wish(people[0], track, VideoWish { enabled: false, ..VideoWish::default() });
    world.leave(people[1]);
    world.expect("nothing is wanted any more", 2 * SECOND, |world| told(world, track) == [None]);
}

#[test]
fn a_backup_codec_is_asked_for_and_had_across_shards() {
    let mut world = World::with_shards(416, 2);
    let publisher = world.join_on(ROOM, 0);
    let spec = world.simulcast(Codec::Vp8);
    let track = world.publish_with_backups(publisher, spec, &[Codec::H264], BackupPolicy::Simulcast);
    let (able, other) = (world.join_on(ROOM, 1), world.join_on(ROOM, 1));
    world.participant_mut(other).refused_codecs = vec!["VP8".to_owned()];
    world.subscribe(able, track);
    world.subscribe(other, track);
    world.expect("the publisher hears of it", 2 * SECOND, |world| told(world, track) == [Some(2), Some(2)]);
    let spec = world.simulcast(Codec::H264);
    let backup = world.publish_codec(track, spec);
    world.expect("both see pictures", 3 * SECOND, |world| world.frames(other, track) > 30 && world.frames(able, track) > 30);
    let codec = |world: &World, who: Who| world.participant(who).receiving(track).unwrap().video.codec();
    assert_eq!((codec(&world, able), codec(&world, other)), (Codec::Vp8, Codec::H264));
    for who in [able, other] {
        assert_faultless(&world, who, track);
    }
    world.unpublish(backup);
    world.run_for(SECOND);
    let frames = world.frames(able, track);
    world.expect("the preferred codec goes on", SECOND, |world| world.frames(able, track) > frames + 10);
}

#[test]
fn both_forms_of_audio_are_had_elsewhere() {
    for copies in [None, Some(2)] {
        let voice = VoiceConfig { codec: Codec::Opus, level: 30, copies, silence: None };
        let mut world = World::with_shards(417, 2);
        let publisher = world.join_on(ROOM, 0);
        let track = world.publish(publisher, TrackSpec::Voice(voice));
        let listeners = [world.join_on(ROOM, 1), world.join_on(ROOM, 1)];
        world.participant_mut(listeners[1]).refused_codecs = vec!["red".to_owned()];
        for who in listeners {
            world.subscribe(who, track);
        }
        world.run_for(10 * SECOND);
        for who in listeners {
            let heard = world.heard(who, track);
            assert!(heard.packets > 400 && heard.corrupted + heard.repeated + heard.misplaced + heard.missing == 0, "{heard:?}");
        }
        let with_copies = listeners.map(|who| world.heard(who, track).with_copies > 0);
        assert_eq!(with_copies, [copies.is_some(), false]);
    }
}

#[test]
fn audio_and_video_stay_in_step_behind_another_shard() {
    let mut world = World::with_shards(418, 2);
    let (publisher, viewer) = (world.join_on(ROOM, 0), world.join_on(ROOM, 1));
    let spec = world.simulcast(Codec::Vp8);
    let tracks = [world.publish(publisher, spec), world.publish(publisher, TrackSpec::Audio { level: 20 })];
    for track in tracks {
        world.subscribe(viewer, track);
    }
    world.run_for(3 * SECOND);
    for layer in [2, 0, 1] {
        world.want_layer(viewer, tracks[0], layer);
        // Until the next sender reports.
        world.run_for(2500 * MS);
        let errors = tracks.map(|track| capture_error(&world, &[publisher, viewer], track));
        assert!(errors.iter().all(|error| error.abs() < 5.0), "layer {layer}: {errors:?} ms");
    }
}

#[test]
fn who_moves_to_a_room_of_another_shard_keeps_its_connection_and_is_seen_there() {
    let there = RoomId(77);
    let mut world = World::with_shards(419, 2);
    let (alice, bob, carol) = (world.join_on(ROOM, 0), world.join_on(ROOM, 0), world.join_on(there, 1));
    let [video, other] = [alice, carol].map(|who| {
        let spec = world.single(Codec::Vp8);
        world.publish(who, spec)
    });
    world.subscribe(bob, video);
    world.run_for(3 * SECOND);
    let transports: usize = world.snapshot().transports.iter().sum();
    world.command(Command::Move { participant: world.id(alice), room: there });
    world.run_for(100 * MS);
    world.subscribe(carol, video);
    world.subscribe(alice, other);
    world.expect("they see each other", 2 * SECOND, |world| world.frames(carol, video) > 10 && world.frames(alice, other) > 10);
    assert_eq!(world.snapshot().transports.iter().sum::<usize>(), transports, "on the transports that it had");
    world.command(Command::Move { participant: world.id(alice), room: ROOM });
    world.run_for(200 * MS);
    assert_eq!(world.engine(1).snapshot().subscriptions, 0);
    world.subscribe(bob, video);
    world.expect("and back", 2 * SECOND, |world| world.frames(bob, video) > 10);
}

#[test]
fn a_command_that_overtakes_the_announcement_waits_for_it_but_not_for_ever() {
    let mut world = World::with_shards(420, 2);
    let (publisher, viewer) = (world.join_on(ROOM, 0), world.join_on(ROOM, 1));
    world.run_for(SECOND);
    let (participant, track) = (world.id(viewer), TrackId(1));
    let label = MediaLabel { stream_id: "PA_0".into(), track_id: "TR_1".into() };
    world.command(Command::Subscribe { participant, track, label: label.clone() });
    world.command(Command::SetWish { participant, track, wish: VideoWish { max_spatial: 0, ..VideoWish::default() } });
    world.run_for(100 * MS);
    let spec = world.simulcast(Codec::Vp8);
    assert_eq!(world.publish(publisher, spec), track);
    world.expect("it is seen as wished", 3 * SECOND, |world| world.frames(viewer, track) > 10);
    assert_eq!(world.layer(viewer, track), Some(0));
    let unknown = TrackId(99);
    world.command(Command::Subscribe { participant, track: unknown, label });
    let refused = |world: &World| {
        world.log.iter().any(
            |event| matches!(event, Event::Subscription { track, error: Some(SubscriptionError::TrackUnknown), .. } if *track == unknown),
        )
    };
    world.run_for(SECOND);
    assert!(!refused(&world));
    world.expect("it is refused", 2 * SECOND, refused);
}

#[test]
fn shards_that_get_a_room_at_the_same_time_learn_of_each_other() {
    let mut world = World::with_shards(428, 3);
    world.join_on(ROOM, 0);
    let publisher = world.join_on(ROOM, 2);
    // Shard 2 was told of shard 1, and asks it before that has the room.
    world.engine(2).share_room(ROOM, &[LinkId(0), LinkId(1)]);
    world.run_for(10 * MS);
    let spec = world.single(Codec::Vp8);
    let track = world.publish(publisher, spec);
    world.run_for(SECOND);
    // Shard 1 was told of shard 0 only.
    let (participant, label, now) = (ParticipantId(900), MediaLabel { stream_id: "PA_0".into(), track_id: "TR_1".into() }, world.now());
    world.engine(1).share_room(ROOM, &[LinkId(0)]);
    world.engine(1).handle_command(now, Command::Join { room: ROOM, participant, can_subscribe: true, mode: PeerMode::Dual });
    world.engine(1).handle_command(now, Command::Subscribe { participant, track, label });
    world.run_for(3 * SECOND);
    assert_eq!(world.engine(1).snapshot().subscriptions, 1);
    assert!(!world.log.iter().any(|event| matches!(event, Event::Subscription { error: Some(_), .. })));
}

#[test]
fn who_has_left_or_publishes_nothing_any_more_is_forgotten_on_the_other_shards() {
    let mut world = World::with_shards(429, 2);
    world.join_on(ROOM, 1);
    for round in 0..5 {
        let publisher = world.join_on(ROOM, 0);
        let spec = world.single(Codec::Vp8);
        world.publish(publisher, spec);
        let data = Command::PublishData { participant: world.id(publisher), track: TrackId(900 + round), handle: 7 };
        world.command(data);
        world.run_for(SECOND);
        assert_eq!((world.engine(1).snapshot().guests, world.engine(1).snapshot().data_tracks), (1, 1));
        world.leave(publisher);
        world.run_for(100 * MS);
        assert_eq!((world.engine(1).snapshot().guests, world.engine(1).snapshot().data_tracks), (0, 0), "round {round}");
        // So that the room stays where it is.
        world.join_on(ROOM, 0);
    }
}

#[test]
fn a_subscription_that_overtakes_a_move_between_shared_rooms_waits_for_it() {
    let there = RoomId(77);
    let mut world = World::with_shards(430, 2);
    let alice = world.join_on(ROOM, 0);
    world.join_on(ROOM, 1);
    world.join_on(there, 0);
    let carol = world.join_on(there, 1);
    let spec = world.single(Codec::Vp8);
    let track = world.publish(alice, spec);
    world.run_for(2 * SECOND);
    world.command(Command::Move { participant: world.id(alice), room: there });
    world.subscribe(carol, track);
    world.expect("it is seen", 2 * SECOND, |world| world.frames(carol, track) > 10);
}

#[test]
fn nothing_is_left_when_everybody_has_gone_in_any_order() {
    for seed in 421..427 {
        let mut world = World::with_shards(seed, 3);
        let mut rng = world.rng("chaos");
        let mut here: Vec<(Who, Option<TrackId>)> = Vec::new();
        for _ in 0..60 {
            match rng.random_range(0..4) {
                0 if !here.is_empty() => {
                    let (who, _) = here.swap_remove(rng.random_range(0..here.len()));
                    world.leave(who);
                }
                1 if !here.is_empty() => {
                    let place = rng.random_range(0..here.len());
                    let (who, track) = &mut here[place];
                    if track.is_none() {
                        let spec = world.simulcast(Codec::Vp8);
                        *track = Some(world.publish(*who, spec));
                    }
                }
                2 if here.len() > 1 => {
                    let (subscriber, track) = (here[0].0, here[here.len() - 1].1);
                    if let Some(track) = track {
                        world.subscribe(subscriber, track);
                    }
                }
                _ => here.push((world.join_on(ROOM, rng.random_range(0..3)), None)),
            }
            world.run_for(rng.random_range(1..300) * MS);
        }
        for (who, _) in here {
            world.leave(who);
            world.run_for(rng.random_range(0..3) * MS);
        }
        world.run_for(60 * SECOND);
        for shard in 0..3 {
            let snapshot = world.engine(shard).snapshot();
            let left = (snapshot.rooms, snapshot.participants, snapshot.video_tracks, snapshot.subscriptions);
            assert_eq!(left, (0, 0, 0, 0), "seed {seed} shard {shard}");
            assert_eq!(world.engine(shard).relay_links().count(), 0);
            assert_eq!(world.engine(shard).next_timeout(), None, "seed {seed} shard {shard}");
        }
    }
}
