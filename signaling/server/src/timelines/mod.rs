//! What happened to each participant, second by second, for an hour: kept in memory, read over REST.
//!
//! In: notes of stays, samples of the media node, what clients say of their own side. Out: one participant's story in one room: of
//! another room it says nothing, for who may read it is decided by room.
//! Bounds: the bytes of [`Timelines::new`] for rows, tracks and their names together, beyond which the oldest minute of anybody is
//! forgotten first, and a track of which nothing new came with its last one; [`MAX_PEOPLE`] stays, beyond which those that are over
//! longest are forgotten; [`MAX_EVENTS`] events and as many qualities of a stay.
//! Not here: who may read it (`http/quality.rs`).

mod row;
mod series;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
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
    people: HashMap<StayId, Person>,
    /// Number of the newest stay.
    newest: StayId,
    /// Stays of a participant, oldest first: one for each time that it was in a room. All but the last are over.
    by_participant: HashMap<ParticipantId, Vec<StayId>>,
    /// Stays by room and identity, oldest first.
    by_name: HashMap<(String, String), Vec<StayId>>,
    /// Stays in the order in which they ended.
    ended: VecDeque<StayId>,
    /// Whose chunks were begun when, oldest first.
    chunks: VecDeque<(u64, StayId, Key)>,
    /// Seconds for which pictures stood still, as clients say.
    frozen: Duration,
}

type Key = (Direction, TrackId);

/// A participant's time in one room. Whoever is moved to another room begins another one there, under the same id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct StayId(u64);

/// One stay.
#[derive(Debug)]
pub(crate) struct Person {
    participant: ParticipantId,
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
#[derive(Debug)]
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

impl Track {
    /// Everything that it takes.
    fn size(&self) -> usize {
        self.series.size() + self.frame()
    }

    /// Without its rows. A map of such entries is never full: twice what one takes is more than its share.
    fn frame(&self) -> usize {
        2 * size_of::<(Key, Self)>() + self.label.sid.len() + self.label.name.len() + self.label.publisher.len()
    }

    fn since(&self, since_s: u64) -> Self {
        let Self { label, kind, series, robustness, limited_since_s, client } = self;
        let (label, series) = (label.clone(), series.since(since_s));
        Self { label, kind: *kind, series, robustness: *robustness, limited_since_s: *limited_since_s, client: *client }
    }

    /// Which layer its subscriber got in a row, and why.
    pub(crate) fn layer(row: &Row) -> Option<LayerState> {
        row::unpack(row.get(column::LAYER))
    }
}

impl Person {
    fn judge(&mut self, judgement: Judgement, unix_now: Duration) {
        if self.qualities.len() >= MAX_EVENTS {
            self.qualities.pop_front();
        }
        self.qualities.push_back((unix_now, judgement));
    }

    /// How many rows [`Self::since`] has, about: what was recorded together counts as a whole.
    pub(crate) fn count_since(&self, since_s: u64, is_wanted: impl Fn(&Track) -> bool) -> u64 {
        self.tracks.values().filter(|track| is_wanted(track)).map(|track| track.series.count_since(since_s)).sum()
    }

    /// A copy with those of the wanted tracks of which there is something since a time, and no older rows.
    pub(crate) fn since(&self, since_s: u64, is_wanted: impl Fn(&Track) -> bool) -> Self {
        let is_shown = |track: &Track| is_wanted(track) && track.series.count_since(since_s) > 0;
        let tracks = self.tracks.iter().filter(|(_, track)| is_shown(track)).map(|(key, track)| (*key, track.since(since_s))).collect();
        let Self { participant, sid, room, identity, joined_s, ended_s, events, qualities, heard_at, tracks: _ } = self;
        Self {
            participant: *participant,
            sid: sid.clone(),
            room: room.clone(),
            identity: identity.clone(),
            joined_s: *joined_s,
            ended_s: *ended_s,
            events: events.clone(),
            qualities: qualities.clone(),
            heard_at: *heard_at,
            tracks,
        }
    }
}

impl Timelines {
    /// With room for so many bytes of rows; 0: no rows are kept.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            bytes: 0,
            people: HashMap::new(),
            newest: StayId::default(),
            by_participant: HashMap::new(),
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
        let (what, reason) = match &note.what {
            Happening::Joined { .. } => ("joined", ""),
            Happening::Connected { .. } => ("connected", ""),
            Happening::Lost { is_media: true } => ("lost", "media"),
            Happening::Lost { is_media: false } => ("lost", "signal"),
            Happening::Resumed { .. } => ("resumed", ""),
            Happening::Moved { .. } => ("moved", ""),
            Happening::Quality(judgement) => {
                if let Some((_, person)) = self.current(id) {
                    person.judge(*judgement, unix_now);
                }
                return;
            }
            Happening::Ended { reason, .. } => ("ended", reason.as_str()),
        };
        if let Happening::Joined { room, identity, .. } = &note.what {
            self.begin(id, room, identity, None, unix_now);
        }
        self.tell(id, Event { at: unix_now, what, reason });
        match &note.what {
            Happening::Moved { room } => {
                let Some(before) = self.end(id, unix_now) else { return };
                let (identity, heard_at) = (before.identity.clone(), before.heard_at);
                self.begin(id, room, &identity, heard_at, unix_now);
                self.tell(id, Event { at: unix_now, what, reason });
            }
            Happening::Ended { .. } => {
                self.end(id, unix_now);
                self.forget_old(unix_now.as_secs());
            }
            _ => {}
        }
    }

    fn begin(&mut self, participant: ParticipantId, room: &str, identity: &str, heard_at: Option<Duration>, unix_now: Duration) {
        self.make_room();
        self.newest = StayId(self.newest.0 + 1);
        let person = Person {
            participant,
            sid: participant_sid(participant),
            room: room.to_owned(),
            identity: identity.to_owned(),
            joined_s: unix_now.as_secs(),
            ended_s: None,
            events: Vec::new(),
            qualities: VecDeque::new(),
            heard_at,
            tracks: BTreeMap::new(),
        };
        self.people.insert(self.newest, person);
        self.by_participant.entry(participant).or_default().push(self.newest);
        self.by_name.entry((room.to_owned(), identity.to_owned())).or_default().push(self.newest);
    }

    fn tell(&mut self, participant: ParticipantId, event: Event) {
        let Some((_, person)) = self.current(participant) else { return };
        if person.events.len() >= MAX_EVENTS {
            // The beginning explains more than what repeats itself since.
            person.events.remove(MAX_EVENTS / 2);
        }
        person.events.push(event);
    }

    fn end(&mut self, participant: ParticipantId, unix_now: Duration) -> Option<&Person> {
        let (stay, person) = self.current(participant)?;
        person.ended_s = Some(unix_now.as_secs());
        self.ended.push_back(stay);
        self.people.get(&stay)
    }

    /// The stay that goes on.
    fn current(&mut self, participant: ParticipantId) -> Option<(StayId, &mut Person)> {
        let stay = *self.by_participant.get(&participant)?.last()?;
        let person = self.people.get_mut(&stay).filter(|person| person.ended_s.is_none())?;
        Some((stay, person))
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
            let Some(&stay) = self.by_participant.get(&sample.participant).and_then(|stays| stays.last()) else { continue };
            let Some(person) = self.people.get_mut(&stay).filter(|person| person.ended_s.is_none()) else { continue };
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
                self.chunks.push_back((start_s, stay, key));
            }
        }
        self.forget_old(now_s);
        self.stay_within();
    }

    /// Somebody who is in a room, by identity or sid, if that is whose identity it is.
    pub(crate) fn present(&self, room: &str, who: &str, identity: &str) -> Option<StayId> {
        let stay = self.stay_of(room, who)?;
        let person = self.people.get(&stay)?;
        (person.identity == identity && person.ended_s.is_none()).then_some(stay)
    }

    /// Counts a report of a participant and says how long it is since the one before, or says how long the next one has to wait.
    pub(crate) fn may_hear(&mut self, stay: StayId, unix_now: Duration) -> Result<Duration, Duration> {
        let Some(person) = self.people.get_mut(&stay) else { return Ok(Duration::ZERO) };
        let next = person.heard_at.map_or(Duration::ZERO, |at| at + REPORT_INTERVAL);
        // A clock that was set back must not silence anybody for long.
        if unix_now < next && next - unix_now <= REPORT_INTERVAL {
            return Err(next - unix_now);
        }
        let before = person.heard_at.replace(unix_now).unwrap_or(Duration::from_secs(person.joined_s));
        Ok(unix_now.saturating_sub(before))
    }

    /// A participant says how its side of a track has been for so long. False: it has no such track.
    pub(crate) fn hear(&mut self, stay: StayId, key: Key, view: ClientView, lasted: Duration, unix_now: Duration) -> bool {
        let Some(track) = self.people.get_mut(&stay).and_then(|person| person.tracks.get_mut(&key)) else { return false };
        // No picture stands still for longer than time has passed, and none that it does not see.
        let is_seen = track.kind == MediaKind::Video && key.0 == Direction::Down;
        let freeze = if is_seen { view.freeze.min(lasted) } else { Duration::ZERO };
        self.frozen = self.frozen.saturating_add(freeze);
        track.client = Some((unix_now.as_secs(), ClientView { freeze, ..view }));
        true
    }

    /// The newest stay in a room of somebody by identity or sid.
    pub(crate) fn person(&self, room: &str, who: &str) -> Option<&Person> {
        self.people.get(&self.stay_of(room, who)?)
    }

    fn stay_of(&self, room: &str, who: &str) -> Option<StayId> {
        let by_sid = || {
            let stays = self.by_participant.get(&signaling_core::parse_participant_sid(who)?)?;
            stays.iter().rev().find(|stay| self.people.get(stay).is_some_and(|person| person.room == room)).copied()
        };
        by_sid().or_else(|| self.by_name.get(&(room.to_owned(), who.to_owned()))?.last().copied())
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
                break;
            }
            self.ended.pop_front();
            self.forget(oldest);
        }
        while let Some(&(start_s, stay, key)) = self.chunks.front().filter(|(start_s, ..)| start_s + REACH_S + 2 * CHUNK_S < now_s) {
            self.chunks.pop_front();
            self.let_go(start_s, stay, key);
        }
    }

    fn stay_within(&mut self) {
        while self.bytes > self.max_bytes {
            let Some((start_s, stay, key)) = self.chunks.pop_front() else { return };
            self.let_go(start_s, stay, key);
        }
    }

    /// Forgets a chunk, unless that has happened already.
    fn let_go(&mut self, start_s: u64, stay: StayId, key: Key) {
        let Some(person) = self.people.get_mut(&stay) else { return };
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

    fn forget(&mut self, stay: StayId) {
        let Some(person) = self.people.remove(&stay) else { return };
        let freed: usize = person.tracks.values().map(Track::size).sum();
        self.bytes = self.bytes.saturating_sub(freed);
        // Its places in `chunks` go with their time: to look for them would take as long as there are many.
        strike(&mut self.by_participant, &person.participant, stay);
        strike(&mut self.by_name, &(person.room, person.identity), stay);
    }
}

/// Takes a stay off a list, and the list off the table if it was the last.
fn strike<K: Eq + Hash>(lists: &mut HashMap<K, Vec<StayId>>, key: &K, stay: StayId) {
    let Some(stays) = lists.get_mut(key) else { return };
    stays.retain(|&other| other != stay);
    if stays.is_empty() {
        lists.remove(key);
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
            let (quality, cause) =
                if second % 2 == 1 { (Quality::Poor, QualityCause::Loss) } else { (Quality::Excellent, QualityCause::None) };
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
}
