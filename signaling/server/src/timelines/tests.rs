//! Stays, their bounds, and what clients say of them.
#![allow(clippy::unwrap_used)]

use sfu_api::telemetry::TrackSample;
use signaling_api::EndReason;
use signaling_core::ConnId;

use super::series::CHUNK_S;
use super::*;

const TRACK: TrackId = TrackId(7);
const KEY: Key = (Direction::Down, TRACK);

fn at(second: u64) -> Duration {
    Duration::from_secs(1_700_000_000 + second)
}

fn join(timelines: &mut Timelines, id: u64, identity: &str, second: u64) {
    let what = Happening::Joined { conn: ConnId(id), room: "lobby".to_owned(), identity: identity.to_owned() };
    timelines.note(&Note { participant: ParticipantId(id), what }, at(second));
}

fn end(timelines: &mut Timelines, id: u64, second: u64) {
    let what = Happening::Ended { reason: EndReason::MediaLost, was_connected: true, after: Duration::from_secs(second) };
    timelines.note(&Note { participant: ParticipantId(id), what }, at(second));
}

fn sample(id: u64, lost: u32) -> TrackSample {
    TrackSample {
        participant: ParticipantId(id),
        track: TRACK,
        direction: Direction::Down,
        kind: MediaKind::Audio,
        interval: Duration::from_secs(1),
        packets: 50,
        bytes: 5_000,
        lost,
        residual: lost,
        round_trip: Some(Duration::from_millis(40)),
        jitter: Duration::from_millis(5),
        delay: Duration::from_millis(60),
        burst_ratio: 1.0,
        rated_loss: 0.0,
        robustness: 10.0,
        opinion_score: Some(4.4),
        video_score: None,
        layer: None,
        limited_for: Duration::ZERO,
    }
}

fn label(_: ParticipantId, _: TrackId) -> Option<TrackLabel> {
    Some(TrackLabel { sid: "TR_AM1".to_owned(), name: "mic".to_owned(), source: "microphone", publisher: "bob".to_owned() })
}

#[test]
fn a_stay_is_found_by_identity_and_sid_after_its_end_and_the_newest_wins() {
    let mut timelines = Timelines::new(1 << 20);
    join(&mut timelines, 1, "alice", 0);
    timelines.record(&[sample(1, 2)], at(1), label);
    end(&mut timelines, 1, 2);
    let found = timelines.person("lobby", "alice").unwrap();
    assert_eq!(found.tracks[&KEY].series.rows(0).len(), 1);
    assert_eq!(found.events.iter().map(|e| (e.what, e.reason)).collect::<Vec<_>>(), [("joined", ""), ("ended", "media-lost")]);
    let (sid, joined_s) = (found.sid.clone(), found.joined_s);
    join(&mut timelines, 2, "alice", 3);
    assert_eq!(timelines.person("lobby", "alice").unwrap().sid, participant_sid(ParticipantId(2)));
    assert_eq!(timelines.person("lobby", &sid).unwrap().joined_s, joined_s);
    assert!(timelines.person("other", &sid).is_none() && timelines.person("lobby", "bob").is_none());
    // An hour after its end nothing is left.
    timelines.record(&[sample(2, 0)], at(2 + REACH_S + 1), label);
    assert!(timelines.person("lobby", &sid).is_none());
}

#[test]
fn the_newest_qualities_of_a_stay_are_kept_with_their_times() {
    use sfu_api::{Quality, QualityCause, QualityDirection};
    let mut timelines = Timelines::new(0);
    join(&mut timelines, 1, "alice", 0);
    for second in 1..=100 {
        let (quality, cause) = if second % 2 == 1 { (Quality::Poor, QualityCause::Loss) } else { (Quality::Excellent, QualityCause::None) };
        let what = Happening::Quality(Judgement { quality, score: 4.0, direction: QualityDirection::Down, cause });
        timelines.note(&Note { participant: ParticipantId(1), what }, at(second));
    }
    let found = timelines.person("lobby", "alice").unwrap();
    assert_eq!((found.qualities.len(), found.events.len()), (MAX_EVENTS, 1));
    let newest = found.qualities.back().unwrap();
    assert_eq!((newest.0, newest.1.words()), (at(100), ("excellent", "down", "none")));
}

#[test]
fn memory_has_a_bound_and_the_oldest_goes_first() {
    let mut timelines = Timelines::new(40_000);
    for id in 1..=20 {
        join(&mut timelines, id, &format!("p{id}"), 0);
    }
    for second in 0..1200 {
        let lost = u32::try_from(second * 7919 % 30).unwrap();
        let samples: Vec<_> = (1..=20).map(|id| sample(id, lost)).collect();
        timelines.record(&samples, at(second), label);
        assert!(timelines.bytes() <= 40_000, "{}", timelines.bytes());
    }
    let kept = timelines.person("lobby", "p5").unwrap().tracks[&KEY].series.rows(0);
    assert!(kept.len() >= 60 && kept.len() < 1200, "{}", kept.len());
    assert_eq!(kept.last().unwrap().0, at(1199).as_secs());
    let counted: usize = timelines.people.values().flat_map(|p| p.tracks.values()).map(Track::size).sum();
    assert_eq!(timelines.bytes(), counted);
    for id in 1..=20 {
        end(&mut timelines, id, 1200);
    }
    timelines.forget_old(at(1200 + REACH_S + 1).as_secs());
    assert_eq!((timelines.bytes(), timelines.people.len(), timelines.by_name.len(), timelines.by_participant.len()), (0, 0, 0, 0));
}

/// Somebody who publishes tracks with long names and takes them back leaves something in the story of everyone in the room.
#[test]
fn tracks_that_are_over_have_no_memory_beyond_the_bound() {
    const BOUND: usize = 1 << 20;
    let mut timelines = Timelines::new(BOUND);
    for id in 1..=50 {
        join(&mut timelines, id, &format!("p{id}"), 0);
    }
    let long = |_: ParticipantId, track: TrackId| {
        Some(TrackLabel { name: "n".repeat(256), publisher: "p".repeat(256), sid: format!("TR_{}", track.0), source: "unknown" })
    };
    for second in 0..400 {
        let samples: Vec<_> = (1..=50).map(|id| TrackSample { track: TrackId(second), ..sample(id, 0) }).collect();
        timelines.record(&samples, at(second), long);
        assert!(timelines.bytes() <= BOUND, "{}", timelines.bytes());
        let labels: usize =
            timelines.people.values().flat_map(|p| p.tracks.values()).map(|t| t.label.name.len() + t.label.publisher.len()).sum();
        assert!(labels <= BOUND, "names alone take {labels} bytes");
    }
    assert!(timelines.people.values().all(|person| !person.tracks.is_empty()), "the newest are there");
    // Those who stay in the room do not keep them either, though somebody has left it a moment ago.
    end(&mut timelines, 50, 400 + REACH_S + 2 * CHUNK_S);
    timelines.record(&[], at(400 + REACH_S + 3 * CHUNK_S), long);
    assert_eq!((timelines.bytes(), timelines.chunks.len()), (0, 0));
}

/// The loop of all rooms waits for it.
#[test]
fn a_crowd_that_ended_is_forgotten_without_a_look_at_all_others() {
    let mut timelines = Timelines::new(1 << 30);
    for id in 1..=4_000 {
        join(&mut timelines, id, &format!("p{id}"), 0);
    }
    for minute in 0..10 {
        let samples: Vec<_> =
            (1..=4_000).flat_map(|id| (0..5).map(move |track| TrackSample { track: TrackId(track), ..sample(id, 0) })).collect();
        timelines.record(&samples, at(minute * 120), label);
    }
    assert_eq!(timelines.chunks.len(), 200_000);
    (1..=4_000).for_each(|id| end(&mut timelines, id, 1_200));
    timelines.forget_old(at(1_200 + REACH_S + 1).as_secs());
    assert_eq!((timelines.bytes(), timelines.people.len()), (0, 0));
}

#[test]
fn what_the_client_hears_changes_the_score_for_a_while() {
    let mut timelines = Timelines::new(1 << 20);
    join(&mut timelines, 1, "alice", 0);
    timelines.record(&[sample(1, 0)], at(1), label);
    let view = ClientView { jitter_buffer: Some(Duration::from_millis(200)), concealed: Some(0.05), ..ClientView::default() };
    let alice = timelines.present("lobby", "alice", "alice").unwrap();
    assert!(timelines.hear(alice, KEY, view, Duration::ZERO, at(1)));
    assert!(!timelines.hear(alice, (Direction::Up, TRACK), view, Duration::ZERO, at(1)), "no such track");
    for second in 2..=20 {
        timelines.record(&[sample(1, 0)], at(second), label);
    }
    let rows = timelines.person("lobby", "alice").unwrap().tracks[&KEY].series.rows(0);
    let score = |place: usize| rows[place].1.known(column::SCORE_CENTI_KNOWN).unwrap();
    assert_eq!((score(0), score(19)), (440, 440));
    assert!(score(1) < 330, "{}", score(1));
    assert_eq!(told(&rows, column::BUFFER_MS_KNOWN), 9);
}

#[test]
fn a_picture_stands_still_for_no_longer_than_time_has_passed_and_only_where_one_is_seen() {
    let mut timelines = Timelines::new(1 << 20);
    join(&mut timelines, 1, "alice", 0);
    let video = TrackSample { kind: MediaKind::Video, ..sample(1, 0) };
    let (sent, heard) = ((Direction::Up, TRACK), (Direction::Down, TrackId(8)));
    let samples = [video, TrackSample { direction: sent.0, ..video }, TrackSample { track: heard.1, ..sample(1, 0) }];
    timelines.record(&samples, at(1), label);
    let alice = timelines.present("lobby", "alice", "alice").unwrap();
    assert_eq!(timelines.may_hear(alice, at(2)), Ok(Duration::from_secs(2)), "since it joined");
    assert_eq!(timelines.may_hear(alice, at(5)), Ok(Duration::from_secs(3)), "since its report before");
    assert_eq!(timelines.may_hear(alice, at(4)), Ok(Duration::ZERO), "the clock was set back");
    let frozen = |freeze| ClientView { freeze, ..ClientView::default() };
    for (key, freeze, counted) in [
        (KEY, Duration::from_millis(300), 300),
        (KEY, Duration::from_secs(60), 300 + 3_000),
        (sent, Duration::from_secs(60), 3_300),
        (heard, Duration::from_secs(60), 3_300),
    ] {
        timelines.hear(alice, key, frozen(freeze), Duration::from_secs(3), at(5));
        assert_eq!(timelines.frozen(), Duration::from_millis(counted), "{key:?}");
    }
    (6..9).for_each(|second| timelines.record(&samples, at(second), label));
    let tracks = &timelines.person("lobby", "alice").unwrap().tracks;
    let told = [KEY, sent, heard].map(|key| told(&tracks[&key].series.rows(0), column::FREEZE_MS));
    assert_eq!(told, [1, 0, 0]);
}

/// The administrator of one room has no business with what happened in another.
#[test]
fn who_is_moved_leaves_its_story_behind_and_begins_another_one() {
    let mut timelines = Timelines::new(1 << 20);
    join(&mut timelines, 1, "alice", 0);
    timelines.record(&[sample(1, 2)], at(1), label);
    let stay = timelines.present("lobby", "alice", "alice").unwrap();
    timelines.may_hear(stay, at(2)).unwrap();
    let moved = |room: &str| Note { participant: ParticipantId(1), what: Happening::Moved { room: room.to_owned() } };
    timelines.note(&moved("backstage"), at(2));
    timelines.record(&[TrackSample { track: TrackId(8), ..sample(1, 0) }], at(3), label);
    let told = |person: &Person| {
        let tracks: Vec<TrackId> = person.tracks.keys().map(|key| key.1).collect();
        (person.events.iter().map(|event| event.what).collect::<Vec<_>>(), tracks, person.ended_s.map(|s| s - at(0).as_secs()))
    };
    let sid = participant_sid(ParticipantId(1));
    for who in ["alice", sid.as_str()] {
        assert_eq!(told(timelines.person("lobby", who).unwrap()), (vec!["joined", "moved"], vec![TRACK], Some(2)), "{who}");
        assert_eq!(told(timelines.person("backstage", who).unwrap()), (vec!["moved"], vec![TrackId(8)], None), "{who}");
    }
    assert!(timelines.present("lobby", "alice", "alice").is_none());
    let stay = timelines.present("backstage", "alice", "alice").unwrap();
    assert!(timelines.may_hear(stay, at(2)).is_err(), "a move is no reason to report more often");
    // Back again, it goes on where it was as if it had come anew.
    timelines.note(&moved("lobby"), at(10));
    assert_eq!(told(timelines.person("lobby", &sid).unwrap()), (vec!["moved"], vec![], None));
    end(&mut timelines, 1, 11);
    assert_eq!(told(timelines.person("lobby", &sid).unwrap()).0, ["moved", "ended"]);
    timelines.forget_old(at(11 + REACH_S + 1).as_secs());
    assert_eq!((timelines.bytes(), timelines.people.len(), timelines.by_name.len(), timelines.by_participant.len()), (0, 0, 0, 0));
}

/// The loop of all rooms waits for it.
#[test]
fn a_short_look_back_copies_no_more_than_it_shows() {
    let mut timelines = Timelines::new(1 << 20);
    join(&mut timelines, 1, "alice", 0);
    for second in 0..1800 {
        let gone = TrackSample { track: TrackId(8), ..sample(1, 0) };
        let there = sample(1, u32::try_from(second % 30).unwrap());
        let samples = [there, gone];
        timelines.record(&samples[..if second < 600 { 2 } else { 1 }], at(second), |_, track| {
            Some(TrackLabel { sid: format!("TR_{}", track.0), ..label(ParticipantId(1), track)? })
        });
    }
    let person = timelines.person("lobby", "alice").unwrap();
    let since_s = at(1795).as_secs();
    let copy = person.since(since_s, |_| true);
    assert_eq!(copy.tracks.keys().collect::<Vec<_>>(), [&KEY], "of the other there is nothing");
    let (whole, part) = (&person.tracks[&KEY].series, &copy.tracks[&KEY].series);
    assert_eq!(part.rows(since_s), whole.rows(since_s));
    assert!(part.size() * 10 < whole.size(), "{} of {} bytes", part.size(), whole.size());
    assert!((5..=5 + CHUNK_S).contains(&person.count_since(since_s, |_| true)));
    assert_eq!(person.count_since(0, |_| true), 1800 + 600);
    assert_eq!(person.count_since(0, |track| track.label.sid == "TR_8"), 600);
    assert!(person.since(0, |track| track.label.sid == "TR_9").tracks.is_empty());
}

fn told(rows: &[(u64, Row)], column: usize) -> usize {
    rows.iter().filter(|(_, row)| row.get(column) > 0).count()
}
