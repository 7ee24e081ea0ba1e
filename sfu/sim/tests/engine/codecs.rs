//! Several codecs of one track, and what publishers are told of the wishes of others.

use sfu_api::{BackupPolicy, Event, SubscriptionError, TrackId, VideoWish, WantedCodec};
use sfu_core::media::Codec;
use sfu_sim::world::{ROOM, Who, World};

use crate::{MS, SECOND, assert_faultless, pair};

/// A simulcast camera in VP8 that could send H.264 too, and one viewer for each list of refused codecs.
fn call(seed: u64, policy: BackupPolicy, refused: &[&[&str]]) -> (World, TrackId, Vec<Who>) {
    let mut world = World::new(seed);
    let publisher = world.join(ROOM);
    let spec = world.simulcast(Codec::Vp8);
    let track = world.publish_with_backups(publisher, spec, &[Codec::H264], policy);
    let viewers: Vec<Who> = refused.iter().map(|_| world.join(ROOM)).collect();
    for (&who, refused) in viewers.iter().zip(refused) {
        world.participant_mut(who).refused_codecs = refused.iter().map(|name| (*name).to_owned()).collect();
        world.subscribe(who, track);
    }
    (world, track, viewers)
}

/// What the publisher of a track was told last: the highest layer of each codec.
fn told(world: &World, track: TrackId) -> Vec<(String, Option<u8>)> {
    let codecs = world.log.iter().rev().find_map(|event| match event {
        Event::WantedLayers { track: told, codecs, .. } if *told == track => Some(codecs.clone()),
        _ => None,
    });
    codecs.unwrap_or_default().into_iter().map(|WantedCodec { mime, max_spatial }| (mime, max_spatial)).collect()
}

fn wants(vp8: Option<u8>, h264: Option<u8>) -> Vec<(String, Option<u8>)> {
    vec![("video/VP8".to_owned(), vp8), ("video/H264".to_owned(), h264)]
}

fn codec(world: &World, who: Who, track: TrackId) -> Codec {
    world.participant(who).receiving(track).unwrap().video.codec()
}

fn assert_known_types(world: &World, who: Who, track: TrackId) {
    assert_faultless(world, who, track);
    assert_eq!(world.participant(who).receiving(track).unwrap().unknown_types, 0);
}

#[test]
fn a_backup_is_asked_for_when_somebody_cannot_decode_the_preferred_codec() {
    let (mut world, track, viewers) = call(300, BackupPolicy::Simulcast, &[&[], &["VP8"]]);
    let [able, other] = viewers[..] else { unreachable!() };
    world.expect("the publisher hears of it", 2 * SECOND, |world| told(world, track) == wants(Some(2), Some(2)));
    assert_eq!(world.frames(other, track), 0);
    let spec = world.simulcast(Codec::H264);
    world.publish_codec(track, spec);
    world.expect("both see pictures", 2 * SECOND, |world| world.frames(other, track) > 30 && world.frames(able, track) > 30);
    world.run_for(3 * SECOND);
    assert_eq!((codec(&world, able, track), codec(&world, other, track)), (Codec::Vp8, Codec::H264));
    assert!(world.log.iter().any(|event| matches!(event, Event::CodecReady { mime, simulcast: true, .. } if mime == "video/H264")));
    let readies = world.log.iter().filter(|event| matches!(event, Event::TrackReady { .. })).count();
    assert_eq!((readies, world.snapshot().video_tracks), (1, 1), "it is one track");
    for who in [able, other] {
        assert_known_types(&world, who, track);
        assert!(world.report(who, track).longest_gap < 200 * MS);
    }
}

#[test]
fn under_regression_everybody_moves_to_the_backup_and_the_preferred_codec_is_not_wanted_any_more() {
    let (mut world, track, viewers) = call(301, BackupPolicy::Regress, &[&[], &["VP8"]]);
    let [able, other] = viewers[..] else { unreachable!() };
    world.expect("the backup is wanted", 2 * SECOND, |world| told(world, track) == wants(Some(2), Some(2)));
    world.run_for(SECOND);
    let spec = world.simulcast(Codec::H264);
    let backup = world.publish_codec(track, spec);
    world.expect("everybody is on the backup", 2 * SECOND, |world| {
        codec(world, able, track) == Codec::H264 && world.frames(other, track) > 10
    });
    world.expect("the preferred codec is not wanted", SECOND, |world| told(world, track) == wants(None, Some(2)));
    // As clients do: the encoder of the preferred codec stops.
    for encoding in 0..3 {
        world.sender_mut(track).video().unwrap().set_active(encoding, false);
    }
    world.run_for(5 * SECOND);
    for who in [able, other] {
        assert_known_types(&world, who, track);
        assert!(world.report(who, track).longest_gap < 350 * MS, "{:?}", world.report(who, track));
    }
    assert_eq!(world.participant(able).receiving(track).unwrap().codec_switches, 1);

    // Losses are repaired after the change of codec, by packets of the right one.
    let lossy = sfu_sim::link::LinkConfig {
        loss: sfu_sim::link::Loss::Random(sfu_sim::link::Chance::percent(5.0)),
        ..sfu_sim::link::LinkConfig::delayed(10 * MS)
    };
    world.participant_mut(able).down.reconfigure(lossy);
    world.run_for(5 * SECOND);
    assert_known_types(&world, able, track);
    assert!(world.participant(able).receiving(track).unwrap().retransmissions > 10);

    // Mute is for the track, whatever its codec.
    world.set_muted(track, true);
    world.run_for(500 * MS);
    let frames = world.frames(other, track);
    world.run_for(SECOND);
    assert_eq!(world.frames(other, track), frames);
    world.set_muted(track, false);
    world.unpublish(backup);
    for encoding in 0..3 {
        world.sender_mut(track).video().unwrap().set_active(encoding, true);
    }
    world.expect("without the backup there is the preferred codec", 2 * SECOND, |world| codec(world, able, track) == Codec::Vp8);
    assert!(!world.log.iter().any(|event| matches!(event, Event::TrackEnded { .. })), "the track goes on");
}

#[test]
fn who_comes_when_both_codecs_flow_gets_the_one_that_it_decodes() {
    let (mut world, track, _) = call(302, BackupPolicy::Simulcast, &[&["VP8"]]);
    world.run_for(500 * MS);
    let spec = world.simulcast(Codec::H264);
    world.publish_codec(track, spec);
    world.run_for(SECOND);
    for (refused, expected) in [(None, Codec::Vp8), (Some("H264"), Codec::Vp8), (Some("VP8"), Codec::H264)] {
        let late = world.join(ROOM);
        world.participant_mut(late).refused_codecs = refused.into_iter().map(str::to_owned).collect();
        world.subscribe(late, track);
        world.expect("pictures", 2 * SECOND, |world| world.frames(late, track) > 5);
        assert_eq!(codec(&world, late, track), expected);
        assert_known_types(&world, late, track);
    }
}

#[test]
fn who_decodes_neither_codec_is_told_so() {
    let (mut world, track, viewers) = call(303, BackupPolicy::Regress, &[&[], &["VP8", "H264"]]);
    let id = world.id(viewers[1]);
    let refused = Some(SubscriptionError::CodecUnsupported);
    world.expect("the subscription is refused", 2 * SECOND, |world| {
        world.log.iter().any(|e| matches!(e, Event::Subscription { participant, error, .. } if *participant == id && *error == refused))
    });
    world.run_for(SECOND);
    assert_eq!(told(&world, track), wants(Some(2), None), "nobody needs the backup");
    assert!(world.frames(viewers[0], track) > 20);
}

#[test]
fn a_publisher_is_told_which_layers_are_wanted() {
    let (mut world, track, who) = pair(304, |world| world.simulcast(Codec::Vp8));
    let wanted = |world: &World| told(world, track).first().and_then(|(_, layer)| *layer);
    world.expect("all of them", SECOND, |world| wanted(world) == Some(2));
    world.want_layer(who, track, 0);
    world.run_for(400 * MS);
    assert_eq!(wanted(&world), Some(2), "not at once");
    world.expect("the smallest only", 300 * MS, |world| wanted(world) == Some(0));
    world.want_layer(who, track, 1);
    world.expect("more at once", 20 * MS, |world| wanted(world) == Some(1));
    world.set_wish(who, track, VideoWish { width_px: 320, height_px: 180, ..VideoWish::default() });
    world.expect("a size is a layer", SECOND, |world| wanted(world) == Some(0));
    world.set_wish(who, track, VideoWish { enabled: false, ..VideoWish::default() });
    world.expect("none", SECOND, |world| told(world, track) == [("video/VP8".to_owned(), None)]);
    let before = world.log.iter().filter(|event| matches!(event, Event::WantedLayers { .. })).count();
    world.run_for(10 * SECOND);
    assert_eq!(world.log.iter().filter(|event| matches!(event, Event::WantedLayers { .. })).count(), before, "not again");
    world.unsubscribe(who, track);
    world.subscribe(who, track);
    world.expect("all again", SECOND, |world| wanted(world) == Some(2));
}

#[test]
fn layers_that_nobody_watches_go_and_come_back_without_a_freeze_for_others() {
    let (mut world, track, viewers) = World::fan_out(305, |world| world.simulcast(Codec::Vp8), 2);
    let [steady, changing] = viewers[..] else { unreachable!() };
    world.want_layer(steady, track, 0);
    world.run_for(SECOND);
    let obey = |world: &mut World| {
        let highest = told(world, track)[0].1;
        for encoding in 0..3_usize {
            let is_wanted = highest.is_some_and(|highest| encoding <= usize::from(highest));
            world.sender_mut(track).video().unwrap().set_active(encoding, is_wanted);
        }
    };
    for _ in 0..4 {
        world.set_wish(changing, track, VideoWish { enabled: false, ..VideoWish::default() });
        world.run_for(SECOND);
        obey(&mut world);
        assert_eq!(told(&world, track)[0].1, Some(0));
        world.run_for(3 * SECOND);
        world.participant_mut(changing).receiving_mut(track).unwrap().video.pause();
        let frames = world.frames(changing, track);
        world.set_wish(changing, track, VideoWish::default());
        world.run_for(20 * MS);
        obey(&mut world);
        world.expect("pictures at once, small or large", 200 * MS, |world| world.frames(changing, track) > frames);
        world.expect("then the large ones", SECOND, |world| world.layer(changing, track) == Some(2));
    }
    assert_faultless(&world, steady, track);
    assert_faultless(&world, changing, track);
    let report = world.report(steady, track);
    assert!(report.longest_gap < 100 * MS && report.freezes.is_empty(), "{report:?}");
}
