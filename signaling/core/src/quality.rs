//! Connection quality as clients know it: a participant's own, and that of the publishers it is subscribed to.
//!
//! In: judgements of the media node, losses of connections. Out: `ConnectionQualityUpdate`, when a class is another than the
//! one told before and still is after [`limits::QUALITY_BEAT`]; so a connection that is lost and back at once is no news. The
//! protocol has no words for direction and cause: they go into notes, with every change.
//! Newcomers of a large room, of whom there may be hundreds a second, get what is not urgent in few writes: who speaks and how well
//! those are connected whom they see with the next beat, that they are well connected themselves with the next news of the room.
//! A participant without a signal connection or with a lost transport is LOST whatever the node says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message;
use sfu_api::{ParticipantId, Quality, QualityCause, QualityDirection};

use crate::{Happening, Signaling, ids, limits, participant::Participant, room::Room, subscriptions::Phase, timers::Timer, turn::Turn};

/// How good a participant's connection is, and what that follows from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Judgement {
    /// Class.
    pub quality: Quality,
    /// Mean opinion score of the worst of its media, 1.0 to 4.5.
    pub score: f32,
    /// In which direction the worst is.
    pub direction: QualityDirection,
    /// What is the matter with it.
    pub cause: QualityCause,
}

/// See the module. Bounded by the number of participants.
#[derive(Debug, Default)]
pub(crate) struct Qualities {
    found: BTreeMap<ParticipantId, Judgement>,
    told: BTreeMap<ParticipantId, Judgement>,
    /// Whose class may be another than the one told, and since when.
    unsettled: BTreeMap<ParticipantId, Instant>,
    /// Who was found to be well connected for the first time, and is to be told with other news.
    first_found: BTreeSet<ParticipantId>,
    /// Who came to a large room, and the publishers of whom it is to be told.
    newcomers: BTreeMap<ParticipantId, BTreeSet<ParticipantId>>,
}

impl Judgement {
    const fn lost(cause: QualityCause) -> Self {
        Self { quality: Quality::Lost, score: 1.0, direction: QualityDirection::Both, cause }
    }

    /// Words of closed lists: class, direction, cause.
    #[must_use]
    pub const fn words(&self) -> (&'static str, &'static str, &'static str) {
        (self.quality.code(), self.direction.code(), self.cause.code())
    }

    fn info(self, id: ParticipantId, protocol: i32) -> proto::ConnectionQualityInfo {
        let quality = match self.quality {
            Quality::Excellent => proto::ConnectionQuality::Excellent,
            Quality::Good => proto::ConnectionQuality::Good,
            Quality::Lost if protocol > PROTOCOL_BEFORE_LOST => proto::ConnectionQuality::Lost,
            Quality::Poor | Quality::Lost => proto::ConnectionQuality::Poor,
        };
        proto::ConnectionQualityInfo { participant_sid: ids::participant_sid(id), quality: quality.into(), score: self.score }
    }
}

impl Qualities {
    /// A participant is gone; clients drop it by themselves.
    pub(crate) fn forget(&mut self, id: ParticipantId) {
        self.found.remove(&id);
        self.told.remove(&id);
        self.unsettled.remove(&id);
        self.first_found.remove(&id);
        self.newcomers.remove(&id);
    }
}

impl Room {
    /// The media node has judged a connection.
    pub(crate) fn quality_found(&mut self, id: ParticipantId, found: Judgement, turn: &mut Turn<'_>) {
        if self.members.get(id).is_none() {
            return;
        }
        self.qualities.found.insert(id, Judgement { score: found.score.clamp(1.0, 4.5), ..found });
        let is_no_news = found.quality == Quality::Excellent && !self.qualities.told.contains_key(&id);
        if is_no_news && turn.timers.is_set(Timer::UpdateBeat(self.id)) && self.is_large(turn.config) {
            self.qualities.first_found.insert(id);
        } else {
            self.quality_may_change(id, turn);
        }
    }

    /// News of a large room go out: what could wait for them goes with them.
    pub(crate) fn tell_first_qualities(&mut self, turn: &mut Turn<'_>) {
        let first_found = std::mem::take(&mut self.qualities.first_found);
        self.tell_qualities_of(first_found, turn);
        if self.qualities.unsettled.is_empty() {
            turn.timers.clear(Timer::QualityBeat(self.id));
        }
    }

    /// A participant can receive from here on. In a large room it is told a little later who speaks.
    pub(crate) fn tell_speakers_to(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        if self.is_large(turn.config) {
            self.qualities.newcomers.entry(id).or_default();
            turn.timers.set_if_unset(Timer::QualityBeat(self.id), turn.now + limits::QUALITY_BEAT);
        } else {
            self.tell_active_speakers(id, turn);
        }
    }

    fn tell_active_speakers(&self, id: ParticipantId, turn: &mut Turn<'_>) {
        let speakers = self.speakers.active();
        if let Some(conn) = self.members.conn(id).filter(|_| !speakers.is_empty()) {
            turn.out.send(conn, Message::SpeakersChanged(proto::SpeakersChanged { speakers }));
        }
    }

    /// A connection of a participant came or went.
    pub(crate) fn quality_may_change(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        self.qualities.unsettled.entry(id).or_insert(turn.now);
        turn.timers.set_if_unset(Timer::QualityBeat(self.id), turn.now + limits::QUALITY_BEAT);
    }

    pub(crate) fn tell_qualities(&mut self, turn: &mut Turn<'_>) {
        let mut settled = BTreeSet::new();
        // The beat is everybody's, and may have begun for another one, or for newcomers.
        self.qualities.unsettled.retain(|id, since| {
            let is_young = turn.now.saturating_duration_since(*since) < limits::QUALITY_BEAT;
            is_young || !settled.insert(*id)
        });
        // The youngest's turn, and all the others' with it: few writes.
        if let Some(since) = self.qualities.unsettled.values().max() {
            turn.timers.set(Timer::QualityBeat(self.id), *since + limits::QUALITY_BEAT);
        }
        self.tell_qualities_of(settled, turn);
    }

    /// To all who see them, and to newcomers what they are still to be told.
    fn tell_qualities_of(&mut self, ids: BTreeSet<ParticipantId>, turn: &mut Turn<'_>) {
        let mut updates: BTreeMap<ParticipantId, BTreeMap<ParticipantId, Judgement>> = BTreeMap::new();
        for id in ids {
            let Some(judgement) = self.present_quality(id) else { continue };
            let before = self.qualities.told.insert(id, judgement);
            if before.is_none_or(|before| before.words() != judgement.words()) {
                note_change(id, before, judgement, turn);
            }
            if before.is_some_and(|before| before.quality == judgement.quality) {
                continue;
            }
            for viewer in self.viewers_of(id) {
                updates.entry(viewer).or_default().insert(id, judgement);
            }
        }
        for (newcomer, publishers) in std::mem::take(&mut self.qualities.newcomers) {
            self.tell_active_speakers(newcomer, turn);
            let told = publishers.into_iter().filter_map(|publisher| Some((publisher, *self.qualities.told.get(&publisher)?)));
            updates.entry(newcomer).or_default().extend(told);
        }
        for (viewer, judgements) in updates {
            self.tell_judgements(viewer, &judgements.into_iter().collect::<Vec<_>>(), turn);
        }
    }

    /// A participant became the subscriber of another.
    pub(crate) fn tell_quality_of(&mut self, publisher: ParticipantId, subscriber: ParticipantId, turn: &mut Turn<'_>) {
        if self.is_large(turn.config) {
            self.qualities.newcomers.entry(subscriber).or_default().insert(publisher);
            turn.timers.set_if_unset(Timer::QualityBeat(self.id), turn.now + limits::QUALITY_BEAT);
        } else if let Some(judgement) = self.qualities.told.get(&publisher) {
            self.tell_judgements(subscriber, &[(publisher, *judgement)], turn);
        }
    }

    /// A client came back and may have missed changes.
    pub(crate) fn tell_all_qualities(&self, id: ParticipantId, turn: &mut Turn<'_>) {
        let judgements: Vec<_> = self.qualities.told.iter().filter(|(other, _)| self.views(id, **other)).map(|(id, f)| (*id, *f)).collect();
        self.tell_judgements(id, &judgements, turn);
    }

    fn tell_judgements(&self, viewer: ParticipantId, judgements: &[(ParticipantId, Judgement)], turn: &mut Turn<'_>) {
        let protocol = self.members.get(viewer).map_or(0, |participant| participant.session.protocol());
        if protocol > PROTOCOL_BEFORE_QUALITY && !judgements.is_empty() {
            let updates = judgements.iter().map(|(id, judgement)| judgement.info(*id, protocol)).collect();
            self.tell(viewer, Message::ConnectionQuality(proto::ConnectionQualityUpdate { updates }), turn);
        }
    }

    fn present_quality(&self, id: ParticipantId) -> Option<Judgement> {
        let found = self.qualities.found.get(&id);
        let participant = self.members.get(id)?;
        // One that never had media is not lost, but still on its way.
        if found.is_some() || participant.connected_at.is_some() {
            if participant.session.media.in_trouble() {
                return Some(Judgement::lost(QualityCause::Transport));
            } else if participant.session.conn().is_none() {
                return Some(Judgement::lost(QualityCause::Signal));
            }
        }
        found.copied()
    }

    /// Itself, and who is subscribed to one of its tracks.
    fn viewers_of(&self, id: ParticipantId) -> Vec<ParticipantId> {
        if self.tracks.of(id).next().is_none() {
            return vec![id];
        }
        self.members.iter().map(|viewer| viewer.id).filter(|viewer| self.views(*viewer, id)).collect()
    }

    fn views(&self, viewer: ParticipantId, id: ParticipantId) -> bool {
        let has = |viewer: &Participant| self.tracks.of(id).any(|track| viewer.subscriptions.phase(track.id) == Some(Phase::Active));
        viewer == id || self.members.get(viewer).is_some_and(has)
    }
}

impl Signaling {
    /// How many participants were told to have which quality: class, direction and cause, words of closed lists.
    #[must_use]
    pub fn quality_census(&self) -> BTreeMap<(&'static str, &'static str, &'static str), u64> {
        let mut census = BTreeMap::new();
        for judgement in self.rooms.iter().flat_map(|room| room.qualities.told.values()) {
            *census.entry(judgement.words()).or_default() += 1;
        }
        census
    }
}

/// What others will ask about is logged for everybody, the rest for those who look closely.
fn note_change(id: ParticipantId, before: Option<Judgement>, now: Judgement, turn: &mut Turn<'_>) {
    let participant = ids::participant_sid(id);
    let was = before.map(|before| before.quality.code());
    let (quality, direction, cause) = now.words();
    let Judgement { score, .. } = now;
    if now.quality.min(before.map_or(Quality::Excellent, |before| before.quality)) <= Quality::Poor {
        tracing::info!(participant, was, quality, direction, cause, score, "connection quality");
    } else {
        tracing::debug!(participant, was, quality, direction, cause, score, "connection quality");
    }
    turn.out.note(id, Happening::Quality(now));
}

/// Older clients don't know the message (LiveKit: `SupportsConnectionQuality`).
const PROTOCOL_BEFORE_QUALITY: i32 = 4;
/// Older clients don't know the class (LiveKit: `SupportsConnectionQualityLost`).
const PROTOCOL_BEFORE_LOST: i32 = 10;
