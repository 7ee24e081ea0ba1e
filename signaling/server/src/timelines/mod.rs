//! What happened to each participant, second by second, for an hour: kept in memory, read over REST.
//!
//! In: notes of stays, samples of the media node, what clients say of their own side. Out: one participant's story.
//! Bounds: the bytes of [`Timelines::new`] for rows, tracks and their names together, beyond which the oldest minute of anybody is
//! forgotten first, and a track of which nothing new came with its last one; [`MAX_PEOPLE`] stays, beyond which those that are over
//! longest are forgotten; [`MAX_EVENTS`] events and as many qualities of a stay.
//! Not here: who may read it (`http/quality.rs`).

mod row;
mod series;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use sfu_api::emodel::{OPUS_DELAY, Robustness, Speech, rate};
use sfu_api::telemetry::{Direction, LayerState, TrackSample};
use sfu_api::{MediaKind, ParticipantId, TrackId};
use signaling_core::{Happening, Judgement, Note, TrackLabel, participant_sid};

pub(crate) use row::{ClientView, Row, column};
use series::CHUNK_S;
pub(crate) use series::{REACH_S, Series};

/// Stays that are remembered.
const MAX_PEOPLE: usize = 20_000;
/// Events of one stay: the first and the newest.
const MAX_EVENTS: usize = 64;
/// Tracks of one stay, over time.
const MAX_SERIES: usize = 512;
/// A client's word holds for so long: SDKs' statistics are usually taken every few seconds.
const CLIENT_VIEW_S: u64 = 10;
/// A client's reports are at least so far apart; SDKs poll their statistics at most once a second.
const REPORT_INTERVAL: Duration = Duration::from_millis(900);

/// See the module.
#[derive(Debug)]
pub(crate) struct Timelines {
    max_bytes: usize,
    bytes: usize,
    people: HashMap<ParticipantId, Person>,
    /// Stays by room and identity, oldest first.
    by_name: HashMap<(String, String), Vec<ParticipantId>>,
    /// Stays in the order in which they ended.
    ended: VecDeque<ParticipantId>,
    /// Whose chunks were begun when, oldest first.
    chunks: VecDeque<(u64, ParticipantId, Key)>,
    /// Seconds for which pictures stood still, as clients say.
    frozen: Duration,
}

type Key = (Direction, TrackId);

/// One stay.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) sid: String,
    pub(crate) room: String,
    pub(crate) identity: String,
    pub(crate) joined_s: u64,
    pub(crate) ended_s: Option<u64>,
    pub(crate) events: Vec<Event>,
    /// How good its connection was since when, oldest first.
    pub(crate) qualities: VecDeque<(Duration, Judgement)>,
    /// Newest report of its client.
    heard_at: Option<Duration>,
    pub(crate) tracks: BTreeMap<Key, Track>,
}

/// Something that happened at a time.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) at: Duration,
    pub(crate) what: &'static str,
    /// Word of a closed list, empty if there is none.
    pub(crate) reason: &'static str,
}

/// One track of a stay.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) label: TrackLabel,
    pub(crate) kind: MediaKind,
    pub(crate) series: Series,
    /// Of the newest sample.
    pub(crate) robustness: f32,
    /// Since when the newest layer's limit has been what it is, in seconds of the epoch.
    pub(crate) limited_since_s: u64,
    client: Option<(u64, ClientView)>,
}

impl Person {
    fn judge(&mut self, judgement: Judgement, unix_now: Duration) {
        if self.qualities.len() >= MAX_EVENTS {
            self.qualities.pop_front();
        }
        self.qualities.push_back((unix_now, judgement));
    }
}

impl Track {
    /// Everything that it takes.
    fn size(&self) -> usize {
        self.series.size() + self.frame()
    }

    /// Without its rows. A map of such entries is never full: twice what one takes is more than its share.
    fn frame(&self) -> usize {
        2 * size_of::<(Key, Self)>() + self.label.sid.len() + self.label.name.len() + self.label.publisher.len()
    }

    /// Which layer its subscriber got in a row, and why.
    pub(crate) fn layer(row: &Row) -> Option<LayerState> {
        row::unpack(row.get(column::LAYER))
    }
}

impl Timelines {
    /// With room for so many bytes of rows; 0: no rows are kept.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            people: HashMap::new(),
            by_name: HashMap::new(),
            ended: VecDeque::new(),
            chunks: VecDeque::new(),
            frozen: Duration::ZERO,
        }
    }

    /// Bytes of all tracks with their rows.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Time for which pictures stood still, by what clients have said so far.
    pub(crate) fn frozen(&self) -> Duration {
        self.frozen
    }

    /// Something happened to a stay.
    pub(crate) fn note(&mut self, note: &Note, unix_now: Duration) {
        let id = note.participant;
        if let Happening::Joined { room, identity, .. } = &note.what {
            self.make_room();
            let person = Person {
                sid: participant_sid(id),
                room: room.clone(),
                identity: identity.clone(),
                joined_s: unix_now.as_secs(),
                ended_s: None,
                events: Vec::new(),
                qualities: VecDeque::new(),
                heard_at: None,
                tracks: BTreeMap::new(),
            };
            self.people.insert(id, person);
            self.by_name.entry((room.clone(), identity.clone())).or_default().push(id);
        }
        let Some(person) = self.people.get_mut(&id) else { return };
        let (what, reason) = match &note.what {
            Happening::Joined { .. } => ("joined", ""),
            Happening::Connected { .. } => ("connected", ""),
            Happening::Lost { is_media: true } => ("lost", "media"),
            Happening::Lost { is_media: false } => ("lost", "signal"),
            Happening::Resumed { .. } => ("resumed", ""),
            Happening::Moved { .. } => ("moved", ""),
            Happening::Quality(judgement) => return person.judge(*judgement, unix_now),
            Happening::Ended { reason, .. } => ("ended", reason.as_str()),
        };
        if person.events.len() >= MAX_EVENTS {
            // The beginning explains more than what repeats itself since.
            person.events.remove(MAX_EVENTS / 2);
        }
        person.events.push(Event { at: unix_now, what, reason });
        match &note.what {
            Happening::Moved { room } => {
                let before = std::mem::replace(&mut person.room, room.clone());
                let identity = person.identity.clone();
                self.forget_name(before, &identity, id);
                self.by_name.entry((room.clone(), identity)).or_default().push(id);
            }
            Happening::Ended { .. } => {
                person.ended_s = Some(unix_now.as_secs());
                self.ended.push_back(id);
                self.forget_old(unix_now.as_secs());
            }
            _ => {}
        }
    }

    /// Adds a second to every track that was sampled. `label` names a track that is new.
    pub(crate) fn record(
        &mut self,
        samples: &[TrackSample],
        unix_now: Duration,
        label: impl Fn(ParticipantId, TrackId) -> Option<TrackLabel>,
    ) {
        if self.max_bytes == 0 {
            return;
        }
        let now_s = unix_now.as_secs();
        for sample in samples {
            let Some(person) = self.people.get_mut(&sample.participant) else { continue };
            let key = (sample.direction, sample.track);
            if !person.tracks.contains_key(&key) {
                let Some(label) = label(sample.participant, sample.track).filter(|_| person.tracks.len() < MAX_SERIES) else { continue };
                let (series, robustness) = (Series::default(), sample.robustness);
                let track = Track { label, kind: sample.kind, series, robustness, limited_since_s: now_s, client: None };
                self.bytes += track.frame();
                person.tracks.insert(key, track);
            }
            let Some(track) = person.tracks.get_mut(&key) else { continue };
            track.robustness = sample.robustness;
            track.limited_since_s = unix_now.saturating_sub(sample.limited_for).as_secs();
            let client = track.client.take().filter(|(said_s, _)| said_s + CLIENT_VIEW_S > now_s);
            let row = Row::of(&merged(sample, client.as_ref().map(|(_, view)| view)), client.as_ref().map(|(_, view)| view));
            // What it says of a time span counts once, what it says of a state holds on.
            track.client = client.map(|(said_s, view)| (said_s, ClientView { freeze: Duration::ZERO, ..view }));
            let change = track.series.push(row, now_s);
            self.bytes = (self.bytes + change.added).saturating_sub(change.freed);
            if let Some(start_s) = change.new_chunk {
                self.chunks.push_back((start_s, sample.participant, key));
            }
        }
        self.forget_old(now_s);
        self.stay_within();
    }

    /// Somebody who is in a room, by identity or sid, if that is whose identity it is.
    pub(crate) fn present(&self, room: &str, who: &str, identity: &str) -> Option<ParticipantId> {
        let id = self.id_of(room, who)?;
        let person = self.people.get(&id)?;
        (person.identity == identity && person.ended_s.is_none()).then_some(id)
    }

    /// Counts a report of a participant, or says how long the next one has to wait.
    pub(crate) fn may_hear(&mut self, id: ParticipantId, unix_now: Duration) -> Result<(), Duration> {
        let Some(person) = self.people.get_mut(&id) else { return Ok(()) };
        let next = person.heard_at.map_or(Duration::ZERO, |at| at + REPORT_INTERVAL);
        // A clock that was set back must not silence anybody for long.
        if unix_now < next && next - unix_now <= REPORT_INTERVAL {
            return Err(next - unix_now);
        }
        person.heard_at = Some(unix_now);
        Ok(())
    }

    /// A participant says how its side of a track does. False: it has no such track.
    pub(crate) fn hear(&mut self, id: ParticipantId, key: Key, view: ClientView, unix_now: Duration) -> bool {
        let Some(track) = self.people.get_mut(&id).and_then(|person| person.tracks.get_mut(&key)) else { return false };
        self.frozen = self.frozen.saturating_add(view.freeze);
        track.client = Some((unix_now.as_secs(), view));
        true
    }

    /// The newest stay in a room of somebody by identity or sid, with a copy of what is known of the tracks that are wanted.
    pub(crate) fn person(&self, room: &str, who: &str, is_wanted: impl Fn(&Track) -> bool) -> Option<Person> {
        let person = self.people.get(&self.id_of(room, who)?)?;
        let tracks = person.tracks.iter().filter(|(_, track)| is_wanted(track)).map(|(key, track)| (*key, track.clone())).collect();
        let Person { sid, room, identity, joined_s, ended_s, events, qualities, heard_at, tracks: _ } = person;
        Some(Person {
            sid: sid.clone(),
            room: room.clone(),
            identity: identity.clone(),
            joined_s: *joined_s,
            ended_s: *ended_s,
            events: events.clone(),
            qualities: qualities.clone(),
            heard_at: *heard_at,
            tracks,
        })
    }

    /// The same, by id.
    pub(crate) fn id_of(&self, room: &str, who: &str) -> Option<ParticipantId> {
        let by_sid = signaling_core::parse_participant_sid(who).filter(|id| self.people.get(id).is_some_and(|person| person.room == room));
        by_sid.or_else(|| self.by_name.get(&(room.to_owned(), who.to_owned()))?.last().copied())
    }

    fn make_room(&mut self) {
        while self.people.len() >= MAX_PEOPLE {
            let Some(oldest) = self.ended.pop_front().or_else(|| self.people.keys().next().copied()) else { return };
            self.forget(oldest);
        }
    }

    /// Stays that ended more than the reach of a series ago.
    fn forget_old(&mut self, now_s: u64) {
        while let Some(&oldest) = self.ended.front() {
            let ended_s = self.people.get(&oldest).and_then(|person| person.ended_s);
            if ended_s.is_some_and(|ended_s| ended_s + REACH_S >= now_s) {
                return;
            }
            self.ended.pop_front();
            self.forget(oldest);
        }
        while let Some(&(start_s, id, key)) = self.chunks.front().filter(|(start_s, ..)| start_s + REACH_S + 2 * CHUNK_S < now_s) {
            self.chunks.pop_front();
            self.let_go(start_s, id, key);
        }
    }

    fn stay_within(&mut self) {
        while self.bytes > self.max_bytes {
            let Some((start_s, id, key)) = self.chunks.pop_front() else { return };
            self.let_go(start_s, id, key);
        }
    }

    /// Forgets a chunk, unless that has happened already.
    fn let_go(&mut self, start_s: u64, id: ParticipantId, key: Key) {
        let Some(person) = self.people.get_mut(&id) else { return };
        let Some(track) = person.tracks.get_mut(&key) else { return };
        let freed = if track.series.newest_start_s() == Some(start_s) {
            // Nothing younger is there: the track has ended, or there is no room for anything, and it begins anew.
            person.tracks.remove(&key).map_or(0, |track| track.size())
        } else if track.series.oldest_start_s() == Some(start_s) {
            track.series.drop_oldest()
        } else {
            0
        };
        self.bytes = self.bytes.saturating_sub(freed);
    }

    fn forget(&mut self, id: ParticipantId) {
        let Some(person) = self.people.remove(&id) else { return };
        let freed: usize = person.tracks.values().map(Track::size).sum();
        self.bytes = self.bytes.saturating_sub(freed);
        // Its places in `chunks` go with their time: to look for them would take as long as there are many.
        self.forget_name(person.room, &person.identity, id);
    }

    fn forget_name(&mut self, room: String, identity: &str, id: ParticipantId) {
        let name = (room, identity.to_owned());
        if let Some(stays) = self.by_name.get_mut(&name) {
            stays.retain(|&other| other != id);
            if stays.is_empty() {
                self.by_name.remove(&name);
            }
        }
    }
}

/// What the client measures at its own ears is better than what the node infers.
fn merged(sample: &TrackSample, client: Option<&ClientView>) -> TrackSample {
    let mut merged = *sample;
    let Some(client) = client.filter(|_| sample.kind == MediaKind::Audio && sample.direction == Direction::Down) else { return merged };
    if let Some(buffer) = client.jitter_buffer {
        merged.delay = sample.delay.saturating_sub(sample.jitter * 2).max(OPUS_DELAY) + buffer;
    }
    if let Some(concealed) = client.concealed {
        merged.rated_loss = single(concealed.clamp(0.0, 1.0));
    }
    if sample.opinion_score.is_some() {
        let robustness = Robustness { impairment: 0.0, loss: sample.robustness.into() };
        let (residual_loss, burst_ratio) = (merged.rated_loss.into(), merged.burst_ratio.into());
        merged.opinion_score = Some(single(rate(&Speech { delay: merged.delay, residual_loss, burst_ratio, robustness }).opinion_score));
    }
    merged
}

#[expect(clippy::cast_possible_truncation, reason = "scores and shares have a few digits")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use signaling_api::EndReason;
    use signaling_core::ConnId;

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
        let found = timelines.person("lobby", "alice", |_| true).unwrap();
        assert_eq!(found.tracks[&KEY].series.rows(0).len(), 1);
        assert_eq!(found.events.iter().map(|e| (e.what, e.reason)).collect::<Vec<_>>(), [("joined", ""), ("ended", "media-lost")]);
        join(&mut timelines, 2, "alice", 3);
        assert_eq!(timelines.person("lobby", "alice", |_| true).unwrap().sid, participant_sid(ParticipantId(2)));
        assert_eq!(timelines.person("lobby", &found.sid, |_| true).unwrap().joined_s, found.joined_s);
        assert!(timelines.person("other", &found.sid, |_| true).is_none() && timelines.person("lobby", "bob", |_| true).is_none());
        // An hour after its end nothing is left.
        timelines.record(&[sample(2, 0)], at(2 + REACH_S + 1), label);
        assert!(timelines.person("lobby", &found.sid, |_| true).is_none());
    }

    #[test]
    fn the_newest_qualities_of_a_stay_are_kept_with_their_times() {
        use sfu_api::{Quality, QualityCause, QualityDirection};
        let mut timelines = Timelines::new(0);
        join(&mut timelines, 1, "alice", 0);
        for second in 1..=100 {
            let (quality, cause) =
                if second % 2 == 1 { (Quality::Poor, QualityCause::Loss) } else { (Quality::Excellent, QualityCause::None) };
            let what = Happening::Quality(Judgement { quality, score: 4.0, direction: QualityDirection::Down, cause });
            timelines.note(&Note { participant: ParticipantId(1), what }, at(second));
        }
        let found = timelines.person("lobby", "alice", |_| true).unwrap();
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
        let kept = timelines.person("lobby", "p5", |_| true).unwrap().tracks[&KEY].series.rows(0);
        assert!(kept.len() >= 60 && kept.len() < 1200, "{}", kept.len());
        assert_eq!(kept.last().unwrap().0, at(1199).as_secs());
        let counted: usize = timelines.people.values().flat_map(|p| p.tracks.values()).map(Track::size).sum();
        assert_eq!(timelines.bytes(), counted);
        for id in 1..=20 {
            end(&mut timelines, id, 1200);
        }
        timelines.forget_old(at(1200 + REACH_S + 1).as_secs());
        assert_eq!((timelines.bytes(), timelines.people.len(), timelines.by_name.len()), (0, 0, 0));
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
        // Those who stay in the room do not keep them either.
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
        let view = ClientView {
            jitter_buffer: Some(Duration::from_millis(200)),
            concealed: Some(0.05),
            freeze: Duration::from_millis(300),
            ..ClientView::default()
        };
        assert!(timelines.hear(ParticipantId(1), KEY, view, at(1)));
        assert!(!timelines.hear(ParticipantId(1), (Direction::Up, TRACK), view, at(1)), "no such track");
        for second in 2..=20 {
            timelines.record(&[sample(1, 0)], at(second), label);
        }
        let rows = timelines.person("lobby", "alice", |_| true).unwrap().tracks[&KEY].series.rows(0);
        let score = |place: usize| rows[place].1.known(column::SCORE_CENTI_KNOWN).unwrap();
        assert_eq!((score(0), score(19)), (440, 440));
        assert!(score(1) < 330, "{}", score(1));
        let told = |column| rows.iter().map(|(_, row)| row.get(column)).filter(|&value| value > 0).count();
        assert_eq!((told(column::FREEZE_MS), told(column::BUFFER_MS_KNOWN)), (1, 9));
        assert_eq!(timelines.frozen(), Duration::from_millis(300));
    }
}
