//! What operators see agrees with what the links and the participants did.

use std::time::Duration;

use sfu_api::MediaKind;
use sfu_api::telemetry::{Direction, LayerLimit, TrackSample};
use sfu_core::media::Codec;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::TrackSpec;
use sfu_sim::world::{Who, World};

use crate::{MS, SECOND, pair, room};

#[test]
fn round_trips_losses_and_bitrates_are_those_of_the_links() {
    let (mut world, people) = call(300);
    let away = LinkConfig { loss: Loss::Random(Chance::percent(10.0)), ..LinkConfig::delayed(40 * MS) };
    world.participant_mut(people[1]).down.reconfigure(away);
    world.participant_mut(people[1]).up.reconfigure(LinkConfig::delayed(40 * MS));
    world.run_for(5 * SECOND);
    world.shard.take_samples();
    world.run_for(20 * SECOND);
    let samples = world.shard.take_samples();
    for kind in [MediaKind::Audio, MediaKind::Video] {
        let down: Vec<_> = of(&samples, &world, people[1], Direction::Down, kind);
        assert!((18..=21).contains(&down.len()), "one a second: {}", down.len());
        for sample in &down {
            let round_trip = sample.round_trip.unwrap();
            assert!(round_trip >= 72 * MS && round_trip <= 92 * MS, "{round_trip:?}");
        }
        let (packets, lost) = (sum(&down, |s| s.packets), sum(&down, |s| s.lost));
        let share = f64::from(lost) / f64::from(packets);
        assert!((0.06..=0.14).contains(&share), "{kind:?}: {lost} of {packets}");
        let up = of(&samples, &world, people[0], Direction::Up, kind);
        // Audio gets copies on a link that loses so much.
        let (sent, arrived) = (sum(&up, |s| s.bytes), sum(&down, |s| s.bytes));
        assert!(kind == MediaKind::Audio || sent.abs_diff(arrived) <= sent / 20, "what came in goes out: {sent} and {arrived} bytes");
        assert_eq!(sum(&up, |s| s.lost), 0, "the publisher's way is clear");
    }
    let audio = of(&samples, &world, people[1], Direction::Down, MediaKind::Audio);
    let scores: Vec<f32> = audio.iter().filter_map(|sample| sample.opinion_score).collect();
    let lowest = scores.iter().copied().fold(5.0, f32::min);
    assert!((2.0..=3.6).contains(&lowest), "10 % of speech is missing now and then: {scores:?}");
    let video = of(&samples, &world, people[1], Direction::Down, MediaKind::Video);
    assert!(sum(&video, |s| s.residual) < sum(&video, |s| s.lost) / 2, "video is repaired");
    let measured = world.snapshot().measured;
    assert!(measured.worst.first().is_some_and(|&worst| worst < 4.4), "{:?}", measured.worst);
    assert_eq!(measured.samples_dropped, 0);
}

#[test]
fn a_publishers_loss_is_repaired_or_residual_and_its_bursts_are_known() {
    let (mut world, people) = call(301);
    let lossy = LinkConfig { loss: Loss::Random(Chance::percent(5.0)), ..LinkConfig::delayed(20 * MS) };
    world.participant_mut(people[0]).up.reconfigure(lossy);
    world.run_for(20 * SECOND);
    let samples = world.shard.take_samples();
    let video = of(&samples, &world, people[0], Direction::Up, MediaKind::Video);
    assert!(sum(&video, |s| s.lost) > 20 && sum(&video, |s| s.residual) * 4 < sum(&video, |s| s.lost), "NACK brings most of it back");
    let audio = of(&samples, &world, people[0], Direction::Up, MediaKind::Audio);
    let newest = audio.last().unwrap();
    assert!((1.0..=1.6).contains(&newest.burst_ratio), "random loss: {}", newest.burst_ratio);
    let totals = world.snapshot().measured;
    let media = totals.media(Direction::Up, MediaKind::Video);
    assert_eq!(media.lost, u64::from(sum(&video, |s| s.lost)));
    assert!(media.nacks >= media.lost / 2, "{} NACKed", media.nacks);
    assert!(media.keyframe_requests > 0, "the first subscriber needed a keyframe");
}

#[test]
fn each_layer_is_explained() {
    let (mut world, track, who) = pair(302, |world| world.simulcast(Codec::Vp8));
    let limit = |world: &mut World| {
        world.shard.take_samples();
        world.run_for(3 * SECOND);
        let samples = world.shard.take_samples();
        of(&samples, world, who, Direction::Down, MediaKind::Video).last().and_then(|sample| sample.layer).unwrap()
    };
    assert_eq!(limit(&mut world).limit, LayerLimit::None);
    world.want_layer(who, track, 0);
    let wished = limit(&mut world);
    assert_eq!((wished.limit, wished.current.map(|place| place.size)), (LayerLimit::Wish, Some(0)));
    world.want_layer(who, track, 2);
    world.sender_mut(track).video().unwrap().set_active(2, false);
    let lower = limit(&mut world);
    assert_eq!((lower.limit, lower.current.map(|place| place.size)), (LayerLimit::Publisher, Some(1)));
    world.set_muted(track, true);
    assert_eq!(limit(&mut world).limit, LayerLimit::Muted);
    let seconds = world.snapshot().measured.limited_seconds;
    assert!(seconds[LayerLimit::Wish as usize] >= 2 && seconds[LayerLimit::Publisher as usize] >= 2, "{seconds:?}");
}

#[test]
fn joins_and_first_frames_are_timed_once() {
    let (mut world, people) = call(303);
    world.run_for(2 * SECOND);
    let measured = world.snapshot().measured;
    // Publisher and subscriber side of each; one track of video for one subscriber.
    assert!(measured.ice.count() >= 3 && measured.ice.count() == measured.dtls.count(), "{}", measured.ice.count());
    assert_eq!((measured.first_rtp.count(), measured.first_frame.count()), (1, 1));
    assert!(measured.first_frame.sum() < 2.0, "{}", measured.first_frame.sum());
    world.leave(people[0]);
    world.run_for(SECOND);
    let after = world.snapshot().measured;
    assert_eq!(after.first_frame.count(), 1);
    assert!(after.media(Direction::Up, MediaKind::Video).packets >= measured.media(Direction::Up, MediaKind::Video).packets);
}

#[test]
fn what_nobody_takes_does_not_pile_up() {
    let (mut world, _) = call(304);
    world.run_for(Duration::from_secs(10));
    let (first, second) = (world.shard.take_samples().len(), world.shard.take_samples().len());
    assert!(first >= 30 && second == 0, "{first}");
}

/// The first publishes video and audio, the second gets it.
fn call(seed: u64) -> (World, Vec<Who>) {
    let (mut world, people) = room(seed, 2);
    let specs = [world.single(Codec::Vp8), TrackSpec::Audio { level: 30 }];
    for spec in specs {
        let track = world.publish(people[0], spec);
        world.subscribe(people[1], track);
    }
    world.run_for(3 * SECOND);
    (world, people)
}

fn of(samples: &[TrackSample], world: &World, who: Who, direction: Direction, kind: MediaKind) -> Vec<TrackSample> {
    let id = world.id(who);
    samples.iter().filter(|s| s.participant == id && s.direction == direction && s.kind == kind).copied().collect()
}

fn sum(samples: &[TrackSample], value: impl Fn(&TrackSample) -> u32) -> u32 {
    samples.iter().map(value).sum()
}
