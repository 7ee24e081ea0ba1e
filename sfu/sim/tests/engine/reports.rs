//! What reports say: lip sync, congestion feedback, who speaks.

use std::time::Duration;

use sfu_api::{Event, ParticipantId, TrackId};
use sfu_core::media::Codec;
use sfu_core::rtp::ntp::NtpTime;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::TrackSpec;
use sfu_sim::world::{Who, World};

use crate::{MS, SECOND, pair, room};

#[test]
fn sender_reports_align_sound_and_pictures_across_layer_switches() {
    let (mut world, people) = room(100, 2);
    let [video, audio] = [world.simulcast(Codec::Vp8), TrackSpec::Audio { level: 20 }].map(|spec| world.publish(people[0], spec));
    world.subscribe(people[1], video);
    world.subscribe(people[1], audio);
    world.run_for(3 * SECOND);
    for layer in [2, 0, 1, 2] {
        world.want_layer(people[1], video, layer);
        // Until the next sender reports.
        world.run_for(2500 * MS);
        let sound = capture_error(&world, &people, audio);
        let pictures = capture_error(&world, &people, video);
        assert!(sound.abs() < 5.0 && pictures.abs() < 5.0, "layer {layer}: sound {sound} ms, pictures {pictures} ms");
    }
}

#[test]
fn a_publisher_learns_of_the_arrival_of_all_its_packets() {
    let (mut world, track, _) = pair(101, |world| world.simulcast(Codec::Vp8));
    world.run_for(10 * SECOND);
    let owner = world.sender_of(track);
    let (arrived, lost) = world.participant(owner).congestion;
    assert!(arrived > 2_000 && lost == 0, "{arrived} arrived, {lost} lost");
    assert!(world.sender(track).feedback(0).reports >= 9);
}

#[test]
fn a_client_that_did_not_agree_to_reduced_size_gets_all_feedback_in_compounds() {
    for agrees in [true, false] {
        let (mut world, people) = room(105, 2);
        world.participant_mut(people[0]).takes_reduced_rtcp = agrees;
        let lossy = LinkConfig { loss: Loss::Random(Chance::percent(5.0)), ..LinkConfig::delayed(10 * MS) };
        world.participant_mut(people[0]).up.reconfigure(lossy);
        let camera = world.simulcast(Codec::Vp8);
        let track = world.publish(people[0], camera);
        world.subscribe(people[1], track);
        for layer in [2, 0, 2] {
            world.want_layer(people[1], track, layer);
            world.run_for(2 * SECOND);
        }

        let feedback = [0, 1, 2].map(|encoding| world.sender(track).feedback(encoding));
        assert!(feedback.iter().any(|told| told.keyframe_requests > 0) && feedback.iter().any(|told| told.nacked > 0), "{feedback:?}");
        let publisher = world.participant(people[0]);
        assert!(publisher.congestion.0 > 1_000, "{:?}", publisher.congestion);
        assert_eq!(publisher.reduced_rtcp > 0, agrees);
    }
}

#[test]
fn a_slow_link_delays_but_the_bitrate_fits() {
    let (mut world, track, who) = pair(102, |world| world.single(Codec::H264));
    let slow = LinkConfig { rate_bps: Some(1_000_000), queue_bytes: 60_000, ..LinkConfig::delayed(20 * MS) };
    world.participant_mut(who).down.reconfigure(slow);
    world.run_for(10 * SECOND);
    crate::assert_faultless(&world, who, track);
    assert_eq!(world.report(who, track).packets_lost, 0);
}

#[test]
fn the_loudest_speaks_first_and_silence_is_told() {
    let (mut world, people) = room(103, 3);
    let tracks: Vec<TrackId> =
        [20, 127, 127].into_iter().zip(&people).map(|(level, &who)| world.publish(who, TrackSpec::Audio { level })).collect();
    world.run_for(3 * SECOND);
    assert_eq!(speakers(&world), [world.id(people[0])]);
    world.sender_mut(tracks[0]).set_level(127);
    world.sender_mut(tracks[2]).set_level(15);
    world.run_for(4 * SECOND);
    assert_eq!(speakers(&world), [world.id(people[2])]);
    world.sender_mut(tracks[2]).set_level(127);
    world.run_for(3 * SECOND);
    assert_eq!(speakers(&world), []);
}

#[test]
fn a_muted_speaker_does_not_speak() {
    let (mut world, people) = room(104, 2);
    let track = world.publish(people[0], TrackSpec::Audio { level: 10 });
    world.run_for(2 * SECOND);
    assert_eq!(speakers(&world), [world.id(people[0])]);
    world.command(sfu_api::Command::SetMuted { track, muted: true });
    world.run_for(2 * SECOND);
    assert_eq!(speakers(&world), []);
}

fn speakers(world: &World) -> Vec<ParticipantId> {
    let newest = world.log.iter().rev().find_map(|event| if let Event::Speakers { speakers, .. } = event { Some(speakers) } else { None });
    newest.map(|speakers| speakers.iter().map(|speaker| speaker.participant).collect()).unwrap_or_default()
}

/// How far the newest packet's capture time, as the subscriber computes it by sender reports, is from the truth, in ms.
pub(crate) fn capture_error(world: &World, people: &[Who], track: TrackId) -> f64 {
    let receiving = world.participant(people[1]).receiving(track).unwrap();
    let started = world.sender(track).started().unwrap();
    let (number, timestamp, interval) = match receiving.codec {
        Codec::Opus => {
            let (number, timestamp) = receiving.audio.report().newest.unwrap();
            (number, timestamp, Duration::from_millis(20))
        }
        _ => {
            let frame = receiving.video.report(world.now()).current.unwrap();
            (frame.number, receiving.newest_timestamp.unwrap(), SECOND / 30)
        }
    };
    let (ntp, rtp) = receiving.sender_report.unwrap();
    let ticks = f64::from(timestamp.wrapping_sub(rtp).cast_signed());
    let computed = in_ms(ntp) + ticks * 1000.0 / f64::from(receiving.codec.clock_rate_hz());
    let truth = world.participant(people[0]).wall_clock.ntp_at(started + interval * number);
    computed - in_ms(truth)
}

fn in_ms(ntp: NtpTime) -> f64 {
    // Relative to 2023, so that a float has the precision.
    (ntp.duration() - NtpTime::from_unix(Duration::from_secs(1_700_000_000)).duration()).as_secs_f64() * 1000.0
}
