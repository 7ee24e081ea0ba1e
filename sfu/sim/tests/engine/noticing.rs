//! How soon each kind of change of a link is noticed, by each kind of client.

use std::time::Duration;

use sfu_api::{Event, Quality, QualityCause, QualityDirection, TrackId};
use sfu_core::media::Codec;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::TrackSpec;
use sfu_sim::world::{ROOM, Who, World};

use crate::{MS, SECOND, room};

/// A client is to know within five seconds of a change; of these, signaling takes half a second (`signaling_core::limits::QUALITY_BEAT`).
pub(crate) const NOTICED_WITHIN: Duration = Duration::from_millis(4_500);
/// Reports on audio alone (libwebrtc: `rtcp_sender.cc`).
const AUDIO_REPORTS: Duration = Duration::from_secs(5);

/// What it looks like at first is told in time, what it is after this.
const UNDERSTOOD_WITHIN: Duration = Duration::from_secs(8);

type Ailment = (QualityDirection, QualityCause);
const FINE: Ailment = (QualityDirection::Neither, QualityCause::None);
const LOSS_UP: Ailment = (QualityDirection::Up, QualityCause::Loss);
const LOSS_DOWN: Ailment = (QualityDirection::Down, QualityCause::Loss);
const LONG: Ailment = (QualityDirection::Both, QualityCause::Delay);
const NARROW: Ailment = (QualityDirection::Down, QualityCause::Bandwidth);
const SILENT_UP: Ailment = (QualityDirection::Up, QualityCause::Silence);
const SILENT_DOWN: Ailment = (QualityDirection::Down, QualityCause::Silence);

/// What becomes of a link (to the server, from the server), and what is to be found then.
struct Change {
    name: &'static str,
    up: LinkConfig,
    down: LinkConfig,
    class: Option<Quality>,
    ailment: Ailment,
    /// It is noticed when the picture, which was left out for lack of bandwidth, is there again: how soon that is, is another matter.
    is_of_picture: bool,
    /// It may be taken for this at first.
    looks_like: Ailment,
}

fn change(name: &'static str, [up, down]: [LinkConfig; 2], class: impl Into<Option<Quality>>, ailment: Ailment) -> Change {
    Change { name, up, down, class: class.into(), ailment, is_of_picture: false, looks_like: ailment }
}

fn good() -> LinkConfig {
    LinkConfig::delayed(10 * MS)
}

/// So long a way costs a class.
fn far() -> LinkConfig {
    LinkConfig::delayed(400 * MS)
}

fn bad() -> LinkConfig {
    lossy(20.0)
}

fn dead() -> LinkConfig {
    lossy(100.0)
}

fn lossy(percent: f64) -> LinkConfig {
    LinkConfig { loss: Loss::Random(Chance::percent(percent)), ..good() }
}

/// Two who show and hear each other: all changes, one after the other, soon after each other and not, with several phases of looks.
#[test]
fn with_video_each_change_is_noticed_in_time_with_its_direction_and_cause() {
    use Quality::{Excellent, Good, Lost, Poor};
    let narrow = LinkConfig { rate_bps: Some(200_000), queue_bytes: 30_000, ..good() };
    let changes = [
        change("uplink loss", [bad(), good()], Poor, LOSS_UP),
        change("from uplink to downlink loss", [good(), bad()], Poor, LOSS_DOWN),
        change("recovery from downlink loss", [good(), good()], Excellent, FINE),
        change("downlink loss", [good(), bad()], Poor, LOSS_DOWN),
        change("from downlink to uplink loss", [bad(), good()], Poor, LOSS_UP),
        change("recovery from uplink loss", [good(), good()], Excellent, FINE),
        // What becomes longer at once looks like a queue, and whether it is one shows when less is sent.
        Change { looks_like: NARROW, ..change("a long way", [far(), far()], Good, LONG) },
        change("a short way", [good(), good()], Excellent, FINE),
        change("downlink congestion", [good(), narrow], None, NARROW),
        Change { is_of_picture: true, ..change("recovery from congestion", [good(), good()], Excellent, FINE) },
        change("silence", [dead(), good()], Lost, SILENT_UP),
        change("recovery from silence", [good(), good()], Excellent, FINE),
        change("nothing arrives", [good(), dead()], Lost, SILENT_DOWN),
        change("it arrives again", [good(), good()], Excellent, FINE),
    ];
    let mut late = Vec::new();
    for (seed, rest) in [(130, 25), (131, 12), (132, 25), (133, 12)] {
        let (mut world, people) = room(seed, 2);
        let mut pictures = Vec::new();
        for (sender, receiver) in [(1, 0), (0, 1)] {
            for spec in [TrackSpec::Audio { level: 30 }, world.simulcast(Codec::Vp8)] {
                pictures.push(world.publish(people[sender], spec));
                world.subscribe(people[receiver], pictures[pictures.len() - 1]);
            }
        }
        late.extend(noticed_late(&mut world, seed, people[1], &changes, (rest * SECOND, pictures.last().copied())));
        assert_eq!(classes(&world, people[0]), [Excellent], "the other one has nothing to do with it, {seed}");
    }
    assert_eq!(late, [""; 0]);
}

/// Its reports come each five seconds.
#[test]
fn who_listens_only_learns_of_each_change_as_soon() {
    let changes = [
        change("downlink loss", [good(), bad()], Quality::Poor, LOSS_DOWN),
        change("recovery", [good(), good()], Quality::Excellent, FINE),
        change("a long way", [far(), far()], Quality::Good, LONG),
        change("a short way", [good(), good()], Quality::Excellent, FINE),
        change("silence", [dead(), good()], Quality::Lost, SILENT_UP),
        change("recovery from silence", [good(), good()], Quality::Excellent, FINE),
        change("nothing arrives", [good(), dead()], Quality::Lost, SILENT_DOWN),
        change("it arrives again", [good(), good()], Quality::Excellent, FINE),
    ];
    let mut late = Vec::new();
    for seed in [140, 141, 142, 143] {
        let (mut world, people) = room(seed, 2);
        let track = world.publish(people[0], TrackSpec::Audio { level: 30 });
        world.subscribe(people[1], track);
        people.iter().for_each(|&who| world.participant_mut(who).report_interval = AUDIO_REPORTS);
        late.extend(noticed_late(&mut world, seed, people[1], &changes, (7 * SECOND, None)));
    }
    assert_eq!(late, [""; 0]);
}

/// How far away it is, an answer to a check says alone.
#[test]
fn who_only_speaks_learns_of_each_change_as_soon() {
    let changes = [
        change("uplink loss", [bad(), good()], Quality::Poor, LOSS_UP),
        change("recovery", [good(), good()], Quality::Excellent, FINE),
        change("a long way", [far(), far()], Quality::Good, LONG),
        change("a short way", [good(), good()], Quality::Excellent, FINE),
        change("silence", [dead(), good()], Quality::Lost, SILENT_UP),
        change("recovery from silence", [good(), good()], Quality::Excellent, FINE),
    ];
    let mut late = Vec::new();
    for seed in [144, 145, 146, 147] {
        let (mut world, people) = room(seed, 2);
        let track = world.publish(people[0], TrackSpec::Audio { level: 30 });
        world.subscribe(people[1], track);
        people.iter().for_each(|&who| world.participant_mut(who).report_interval = AUDIO_REPORTS);
        late.extend(noticed_late(&mut world, seed, people[0], &changes, (7 * SECOND, None)));
    }
    assert_eq!(late, [""; 0]);
}

/// Nothing flows either way.
#[test]
fn who_only_waits_is_missed_as_soon_though_it_says_little() {
    let changes = [
        change("a long way", [far(), far()], Quality::Good, LONG),
        change("a short way", [good(), good()], Quality::Excellent, FINE),
        change("silence", [dead(), good()], Quality::Lost, SILENT_UP),
        change("recovery from silence", [good(), good()], Quality::Excellent, FINE),
        change("silence once more", [dead(), good()], Quality::Lost, SILENT_UP),
        change("recovery once more", [good(), good()], Quality::Excellent, FINE),
    ];
    let mut late = Vec::new();
    for seed in [148, 149, 150, 151] {
        let mut world = World::new(seed);
        let who = world.join(ROOM);
        late.extend(noticed_late(&mut world, seed, who, &changes, (7 * SECOND, None)));
    }
    assert_eq!(late, [""; 0]);
}

/// Makes the changes on somebody's link one after the other, with a rest after each; those that were noticed late, with what was found.
fn noticed_late(world: &mut World, seed: u64, who: Who, changes: &[Change], (rest, picture): (Duration, Option<TrackId>)) -> Vec<String> {
    world.run_for(10 * SECOND + MS * 137 * u32::try_from(seed % 10).unwrap());
    let mut late = Vec::new();
    for Change { name, up, down, class, ailment, is_of_picture, looks_like } in changes {
        let participant = world.participant_mut(who);
        participant.up.reconfigure(*up);
        participant.down.reconfigure(*down);
        let frames = picture.filter(|_| *is_of_picture).map(|track| (track, world.frames(who, track)));
        let is_full =
            |world: &World| frames.is_none_or(|(track, before)| world.frames(who, track) > before && world.layer(who, track) == Some(2));
        assert!(world.run_until(40 * SECOND, is_full), "{seed}, {name}");
        let began = world.now();
        let is_found = |world: &World| {
            let (quality, found) = found(world, who);
            found == *ailment && class.is_none_or(|class| class == quality)
        };
        let is_seen = |world: &World| is_found(world) || found(world, who).1 == *looks_like;
        assert!(world.run_until(40 * SECOND, is_seen), "{seed}, {name}: {:?}", found(world, who));
        let seen_after = world.now() - began;
        assert!(world.run_until(40 * SECOND, is_found), "{seed}, {name}: {:?}", found(world, who));
        let took = world.now() - began;
        let limit = if looks_like == ailment { NOTICED_WITHIN } else { UNDERSTOOD_WITHIN };
        if seen_after > NOTICED_WITHIN || took > limit {
            late.push(format!("{seed}, {name}: {seen_after:?}, {took:?}, {:?}", found(world, who)));
        }
        // So that the next change does not come in the middle of this one.
        world.run_for(rest);
    }
    late
}

/// The classes that signaling was told of somebody.
pub(crate) fn classes(world: &World, who: Who) -> Vec<Quality> {
    let id = world.id(who);
    let class = |event: &Event| match event {
        Event::ConnectionQuality { participant, quality, score, .. } if *participant == id => {
            assert!((1.0..=4.5).contains(score));
            Some(*quality)
        }
        _ => None,
    };
    world.log.iter().filter_map(class).collect()
}

/// The newest class with its direction and cause.
pub(crate) fn found(world: &World, who: Who) -> (Quality, Ailment) {
    let id = world.id(who);
    let newest = world.log.iter().rev().find_map(|event| match event {
        Event::ConnectionQuality { participant, quality, direction, cause, .. } if *participant == id => {
            Some((*quality, (*direction, *cause)))
        }
        _ => None,
    });
    newest.unwrap()
}
