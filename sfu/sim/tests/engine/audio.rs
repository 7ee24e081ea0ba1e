//! Audio in its forms: with redundancy (RFC 2198) and plain, across lossy links, with silences, as G.711.

use std::time::Duration;

use sfu_api::{Event, SubscriptionError, TrackId};
use sfu_core::limits::MAX_HEARD_TRACKS;
use sfu_core::media::Codec;
use sfu_sim::audio::AudioReport;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::{TrackSpec, VoiceConfig};
use sfu_sim::world::{ROOM, Who, World};

use crate::{MS, SECOND};

const PLAIN: VoiceConfig = VoiceConfig { codec: Codec::Opus, level: 30, copies: None, silence: None };
const WITH_COPIES: VoiceConfig = VoiceConfig { copies: Some(2), ..PLAIN };

fn lossy(percent: f64) -> LinkConfig {
    LinkConfig { loss: Loss::Random(Chance::percent(percent)), ..LinkConfig::delayed(10 * MS) }
}

/// A microphone and one listener for each list of codecs that it refuses.
fn call(seed: u64, voice: VoiceConfig, refused: &[&[&str]]) -> (World, TrackId, Vec<Who>) {
    let mut world = World::new(seed);
    let speaker = world.join(ROOM);
    let track = world.publish(speaker, TrackSpec::Voice(voice));
    let listeners: Vec<Who> = refused.iter().map(|_| world.join(ROOM)).collect();
    for (&who, refused) in listeners.iter().zip(refused) {
        world.participant_mut(who).refused_codecs = refused.iter().map(|name| (*name).to_owned()).collect();
        world.subscribe(who, track);
    }
    let all = listeners.clone();
    world.expect("everybody hears the speaker", 5 * SECOND, |world| {
        all.iter().all(|&who| world.participant(who).receiving(track).is_some_and(|track| track.packets > 10))
    });
    (world, track, listeners)
}

/// What was heard is what was said, each frame once and in its place.
fn assert_intact(world: &World, who: Who, track: TrackId) -> AudioReport {
    let heard = world.heard(who, track);
    assert_eq!((heard.corrupted, heard.misplaced), (0, 0), "{heard:?}");
    assert_eq!(world.participant(who).receiving(track).unwrap().unknown_types, 0);
    assert_eq!(world.participant(who).strays(), (0, 0));
    heard
}

fn seconds_of_packets(seconds: u64) -> u64 {
    seconds * 50
}

#[test]
fn redundancy_goes_to_those_who_take_it_and_others_get_the_same_frames_plain() {
    let (mut world, track, listeners) = call(200, WITH_COPIES, &[&[], &["red"]]);
    assert!(world.sender(track).sends_red);
    world.run_for(10 * SECOND);
    let [with, plain] = [listeners[0], listeners[1]].map(|who| assert_intact(&world, who, track));
    assert!(with.with_copies > seconds_of_packets(9), "{with:?}");
    assert_eq!(plain.with_copies, 0);
    for heard in [with, plain] {
        assert_eq!((heard.missing, heard.recovered, heard.repeated), (0, 0, 0), "{heard:?}");
        assert!(heard.packets > seconds_of_packets(9));
    }
    assert!(world.log.iter().any(|event| matches!(event, Event::TrackReady { mime, .. } if mime == "audio/red")));
}

#[test]
fn what_is_lost_upstream_is_recovered_from_copies_for_both_kinds_of_listeners() {
    for seed in 201..204 {
        let (mut world, track, listeners) = call(seed, WITH_COPIES, &[&[], &["red"]]);
        let speaker = world.sender_of(track);
        world.participant_mut(speaker).up.reconfigure(lossy(10.0));
        world.run_for(20 * SECOND);
        for &who in &listeners {
            let heard = assert_intact(&world, who, track);
            // Two copies miss three in a row: one in a thousand packets.
            assert!(heard.missing <= 6, "seed {seed}: {heard:?}");
            assert_eq!(heard.repeated, 0, "{heard:?}");
        }
        let plain = world.heard(listeners[1], track);
        assert_eq!(plain.recovered, 0, "the listener knows nothing of copies");
        assert!(world.heard(listeners[0], track).recovered > 50);
    }
}

#[test]
fn a_listener_with_redundancy_loses_nothing_downstream() {
    let (mut world, track, listeners) = call(205, WITH_COPIES, &[&[], &["red"]]);
    for &who in &listeners {
        world.participant_mut(who).down.reconfigure(lossy(10.0));
    }
    world.run_for(20 * SECOND);
    let [with, plain] = [listeners[0], listeners[1]].map(|who| assert_intact(&world, who, track));
    assert!(with.missing <= 6 && with.recovered > 50, "{with:?}");
    assert!(plain.missing > 50, "{plain:?}");
}

#[test]
fn plain_audio_gets_redundancy_while_a_link_loses_packets() {
    let (mut world, track, listeners) = call(206, PLAIN, &[&[], &[], &["red"]]);
    let [lossy_one, clean, without] = listeners[..] else { unreachable!() };
    world.run_for(3 * SECOND);
    assert_eq!(world.heard(lossy_one, track).with_copies, 0, "nothing is lost");
    for who in [lossy_one, without] {
        world.participant_mut(who).down.reconfigure(lossy(8.0));
    }
    world.expect("copies come", 5 * SECOND, |world| world.heard(lossy_one, track).with_copies > 0);
    let missing = world.heard(lossy_one, track).missing;
    world.run_for(20 * SECOND);
    let heard = assert_intact(&world, lossy_one, track);
    assert!(heard.missing - missing <= 4 && heard.recovered > 40, "{missing} missing before, {heard:?}");
    assert_eq!(assert_intact(&world, clean, track).with_copies, 0);
    assert_eq!(assert_intact(&world, without, track).with_copies, 0);

    // The link is good again.
    world.participant_mut(lossy_one).down.reconfigure(LinkConfig::delayed(10 * MS));
    world.run_for(60 * SECOND);
    let before = world.heard(lossy_one, track);
    world.run_for(5 * SECOND);
    let after = assert_intact(&world, lossy_one, track);
    assert_eq!((after.with_copies, after.missing), (before.with_copies, before.missing));
    assert!(after.packets >= before.packets + seconds_of_packets(4), "sound goes on");
}

#[test]
fn what_is_lost_before_it_reaches_the_server_brings_no_redundancy() {
    let (mut world, track, listeners) = call(213, PLAIN, &[&[]]);
    let speaker = world.sender_of(track);
    world.participant_mut(speaker).up.reconfigure(lossy(5.0));
    world.run_for(30 * SECOND);
    let heard = assert_intact(&world, listeners[0], track);
    assert!(heard.missing > 30, "{heard:?}");
    assert_eq!(heard.with_copies, 0);
    // What the listener's own way loses does.
    world.participant_mut(listeners[0]).down.reconfigure(lossy(5.0));
    world.expect("copies come", 6 * SECOND, |world| world.heard(listeners[0], track).with_copies > 0);
}

#[test]
fn a_change_of_form_loses_and_repeats_nothing() {
    let (mut world, track, listeners) = call(207, PLAIN, &[&[]]);
    let who = listeners[0];
    let id = world.id(who);
    let ssrc = world.participant(who).receiving(track).unwrap().ssrc;
    for (round, losses) in (0..20_u64).zip((1_i32..).flat_map(|losses| [losses; 2])) {
        // A report by hand, between packets and with them in one batch: every other one says that half is lost.
        let mut compound = Vec::new();
        let block = sfu_core::rtp::rtcp::ReportBlock {
            ssrc,
            fraction_lost: if round % 2 == 0 { 128 } else { 0 },
            cumulative_lost: losses * 25,
            highest_sequence: 0,
            jitter_ticks: 0,
            last_sr: sfu_core::rtp::ntp::CompactNtp::default(),
            delay_since_last_sr: sfu_core::rtp::ntp::CompactNtp::default(),
        };
        sfu_core::rtp::rtcp::write_receiver_report(&mut compound, 1, &[block]);
        let datagram = world.forge_rtcp(who, sfu_api::TransportRole::Subscriber, compound).unwrap();
        world.inject(datagram.flow, &datagram.bytes);
        world.run_for(Duration::from_millis(1_000 + 3 * round));
    }
    world.run_for(40 * SECOND);
    let heard = assert_intact(&world, who, track);
    assert_eq!((heard.missing, heard.repeated), (0, 0), "participant {id:?}: {heard:?}");
    assert!(heard.with_copies > 0);
}

#[test]
fn a_silence_is_neither_loss_nor_the_end_of_a_stream() {
    for (seed, voice) in [(208, PLAIN), (209, WITH_COPIES)] {
        let silent = VoiceConfig { silence: Some((100, 200)), ..voice };
        let (mut world, track, listeners) = call(seed, silent, &[&[], &["red"]]);
        world.run_for(30 * SECOND);
        let sent = world.sender(track).voiced;
        assert!(sent < seconds_of_packets(15), "two thirds of the time nothing is said");
        for &who in &listeners {
            let heard = assert_intact(&world, who, track);
            assert_eq!(heard.repeated, 0, "{heard:?}");
            assert_eq!(heard.with_copies > 0, who == listeners[0] && voice.copies.is_some());
        }
        let feedback = world.sender(track).feedback(0);
        assert_eq!((feedback.reported_lost, feedback.nacked), (0, 0), "{feedback:?}");
        // Nobody has lost anything, so what was heard is what was sent.
        let last = world.participant(listeners[1]).receiving(track).unwrap().packets;
        assert!(last + 10 >= sent - 20 && last <= sent, "{last} of {sent}");
    }
}

#[test]
fn who_speaks_is_known_in_every_form() {
    for (seed, voice) in [(210, WITH_COPIES), (211, VoiceConfig { codec: Codec::Pcmu, ..PLAIN })] {
        let (mut world, track, _) = call(seed, voice, &[&["red"]]);
        world.run_for(2 * SECOND);
        let speaker = world.id(world.sender_of(track));
        let is_heard =
            |event: &Event| matches!(event, Event::Speakers { speakers, .. } if speakers.iter().any(|s| s.participant == speaker));
        assert!(world.log.iter().any(is_heard));
        world.sender_mut(track).set_level(127);
        world.run_for(2 * SECOND);
        assert!(
            matches!(world.log.iter().rev().find(|e| matches!(e, Event::Speakers { .. })), Some(Event::Speakers { speakers, .. }) if speakers.is_empty())
        );
    }
}

#[test]
fn g711_passes_with_its_own_clock() {
    for (seed, codec) in [(212, Codec::Pcmu), (213, Codec::Pcma)] {
        let (mut world, track, listeners) = call(seed, VoiceConfig { codec, ..PLAIN }, &[&[]]);
        let who = listeners[0];
        world.run_for(5 * SECOND);
        world.set_muted(track, true);
        world.run_for(3 * SECOND);
        world.set_muted(track, false);
        world.run_for(5 * SECOND);
        let heard = assert_intact(&world, who, track);
        assert!(heard.packets > seconds_of_packets(9), "{heard:?}");
        // 160 ticks of 8 kHz a packet; `misplaced` has checked each step, over the pause too.
        let (_, ticks) = heard.newest.unwrap();
        let receiving = world.participant(who).receiving(track).unwrap();
        let (_, reported) = receiving.sender_report.unwrap();
        assert!(ticks.wrapping_sub(reported).cast_signed().abs() < 2 * 8_000, "reports are in the same clock");
        assert!(world.log.iter().any(|event| matches!(event, Event::TrackReady { mime, .. } if mime == codec.mime())));
    }
}

#[test]
fn who_does_not_take_the_codec_is_told_so_and_others_hear() {
    let (mut world, track, listeners) = call(214, VoiceConfig { codec: Codec::Pcma, ..PLAIN }, &[&[]]);
    let deaf = world.join(ROOM);
    world.participant_mut(deaf).refused_codecs = vec!["PCMA".to_owned()];
    world.subscribe(deaf, track);
    let id = world.id(deaf);
    let refused = Some(SubscriptionError::CodecUnsupported);
    world.expect("the subscription is refused", SECOND, |world| {
        world.log.iter().any(|e| matches!(e, Event::Subscription { participant, error, .. } if *participant == id && *error == refused))
    });
    world.run_for(2 * SECOND);
    assert_eq!(world.participant(deaf).receiving(track).map_or(0, |track| track.packets), 0);
    assert_eq!(assert_intact(&world, listeners[0], track).missing, 0);
}

#[test]
fn of_many_microphones_the_loudest_are_forwarded_and_another_one_as_soon_as_it_is_loud() {
    // On one shard, and in a room of which every second microphone is on another one.
    for shards in [1, 2] {
        the_loudest_are_forwarded(World::with_shards(230, shards));
    }
}

fn the_loudest_are_forwarded(mut world: World) {
    let shards = world.shards();
    let mut place = 0;
    let mut publish = |level| {
        place += 1;
        let speaker = world.join_on(ROOM, place % shards);
        world.publish(speaker, TrackSpec::Voice(VoiceConfig { level, ..PLAIN }))
    };
    let loud: Vec<TrackId> = (0..MAX_HEARD_TRACKS).map(|_| publish(25)).collect();
    let quiet: Vec<TrackId> = (0..3).map(|_| publish(80)).collect();
    let listener = world.join_on(ROOM, shards - 1);
    loud.iter().chain(&quiet).for_each(|&track| world.subscribe(listener, track));
    let packets = |world: &World, track| world.participant(listener).receiving(track).map_or(0, |receiving| receiving.packets);
    let gained = |world: &mut World, time, tracks: &[TrackId]| -> Vec<u64> {
        let before: Vec<u64> = tracks.iter().map(|&track| packets(world, track)).collect();
        world.run_for(time);
        tracks.iter().zip(before).map(|(&track, before)| packets(world, track) - before).collect()
    };
    world.run_for(6 * SECOND);
    let all: Vec<TrackId> = loud.iter().chain(&quiet).copied().collect();
    let heard = gained(&mut world, 4 * SECOND, &all);
    assert!(heard[..loud.len()].iter().all(|&packets| packets >= seconds_of_packets(4) - 2), "{heard:?}");
    assert!(heard[loud.len()..].iter().all(|&packets| packets == 0), "{heard:?}");

    world.sender_mut(quiet[1]).set_level(10);
    let heard = gained(&mut world, SECOND, &quiet);
    assert!(heard[1] >= seconds_of_packets(1) - 10, "{heard:?}");
    assert_eq!((heard[0], heard[2]), (0, 0));
    for &track in &all {
        assert_intact(&world, listener, track);
    }
    // Numbers have no gap where packets were left out on purpose, so that nothing is asked for.
    assert_eq!(world.participant(listener).receiving(quiet[1]).unwrap().lost(), 0);
}
