//! What happened to each participant, second by second, for an hour: kept in memory, read over REST.
//!
//! In: notes of stays, samples of the media node, what clients say of their own side. Out: one participant's story in one room: of
//! another room it says nothing, for who may read it is decided by room.
//! Bounds: the bytes of [`Timelines::new`] for rows, tracks and their names together, beyond which the oldest minute of anybody is
//! forgotten first, and a track of which nothing new came with its last one; `MAX_PEOPLE` stays, beyond which those that are over
//! longest are forgotten; [`MAX_EVENTS`] events and as many qualities of a stay.
//! Not here: who may read it (`http/quality.rs`).

mod bounds;
mod record;
mod row;
mod series;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use sfu_api::telemetry::{Direction, LayerState};
use sfu_api::{MediaKind, ParticipantId, TrackId};
use signaling_core::{Happening, Judgement, Note, TrackLabel, participant_sid};

pub(crate) use row::{ClientView, Row, column};
pub(crate) use series::{REACH_S, Series};

/// Events of one stay: the first and the newest.
const MAX_EVENTS: usize = 64;

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

    /// Somebody who is in a room, by identity or sid, if that is whose identity it is.
    pub(crate) fn present(&self, room: &str, who: &str, identity: &str) -> Option<StayId> {
        let stay = self.stay_of(room, who)?;
        let person = self.people.get(&stay)?;
        (person.identity == identity && person.ended_s.is_none()).then_some(stay)
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
}

#[cfg(test)]
mod tests;
