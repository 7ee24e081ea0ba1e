//! Connection quality as clients know it: a participant's own, and that of the publishers it is subscribed to.
//!
//! In: classes from the media node, losses of connections. Out: `ConnectionQualityUpdate`, when a class is another than the
//! one told before and still is after [`limits::QUALITY_BEAT`]; so a connection that is lost and back at once is no news.
//! A participant without a signal connection or with a lost transport is LOST whatever the node says.

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol as proto;
use livekit_protocol::signal_response::Message;
use sfu_api::{ParticipantId, Quality};

use crate::{ids, limits, participant::Participant, room::Room, subscriptions::Phase, timers::Timer, turn::Turn};

/// See the module. Bounded by the number of participants.
#[derive(Debug, Default)]
pub(crate) struct Qualities {
    found: BTreeMap<ParticipantId, Finding>,
    told: BTreeMap<ParticipantId, Finding>,
    unsettled: BTreeSet<ParticipantId>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
struct Finding {
    quality: Quality,
    score: f32,
}

impl Finding {
    const LOST: Self = Self { quality: Quality::Lost, score: 1.0 };

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
    }
}

impl Room {
    /// The media node has judged a connection.
    pub(crate) fn quality_found(&mut self, id: ParticipantId, quality: Quality, score: f32, turn: &mut Turn<'_>) {
        if self.members.get(id).is_some() {
            self.qualities.found.insert(id, Finding { quality, score: score.clamp(1.0, 4.5) });
            self.quality_may_change(id, turn);
        }
    }

    /// A connection of a participant came or went.
    pub(crate) fn quality_may_change(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        if self.qualities.found.contains_key(&id) {
            self.qualities.unsettled.insert(id);
            turn.timers.set_if_unset(Timer::QualityBeat(self.id), turn.now + limits::QUALITY_BEAT);
        }
    }

    pub(crate) fn tell_qualities(&mut self, turn: &mut Turn<'_>) {
        let mut updates: BTreeMap<ParticipantId, Vec<(ParticipantId, Finding)>> = BTreeMap::new();
        for id in std::mem::take(&mut self.qualities.unsettled) {
            let Some(finding) = self.present_quality(id) else { continue };
            let before = self.qualities.told.insert(id, finding);
            if before.is_some_and(|before| before.quality == finding.quality) {
                continue;
            }
            for viewer in self.viewers_of(id) {
                updates.entry(viewer).or_default().push((id, finding));
            }
        }
        for (viewer, findings) in updates {
            self.tell_findings(viewer, &findings, turn);
        }
    }

    /// A participant became the subscriber of another.
    pub(crate) fn tell_quality_of(&self, publisher: ParticipantId, subscriber: ParticipantId, turn: &mut Turn<'_>) {
        if let Some(finding) = self.qualities.told.get(&publisher) {
            self.tell_findings(subscriber, &[(publisher, *finding)], turn);
        }
    }

    /// A client came back and may have missed changes.
    pub(crate) fn tell_all_qualities(&self, id: ParticipantId, turn: &mut Turn<'_>) {
        let findings: Vec<_> = self.qualities.told.iter().filter(|(other, _)| self.views(id, **other)).map(|(id, f)| (*id, *f)).collect();
        self.tell_findings(id, &findings, turn);
    }

    fn tell_findings(&self, viewer: ParticipantId, findings: &[(ParticipantId, Finding)], turn: &mut Turn<'_>) {
        let protocol = self.members.get(viewer).map_or(0, |participant| participant.session.protocol());
        if protocol > PROTOCOL_BEFORE_QUALITY && !findings.is_empty() {
            let updates = findings.iter().map(|(id, finding)| finding.info(*id, protocol)).collect();
            self.tell(viewer, Message::ConnectionQuality(proto::ConnectionQualityUpdate { updates }), turn);
        }
    }

    fn present_quality(&self, id: ParticipantId) -> Option<Finding> {
        let found = self.qualities.found.get(&id)?;
        let session = &self.members.get(id)?.session;
        Some(if session.conn().is_none() || session.media.in_trouble() { Finding::LOST } else { *found })
    }

    /// Itself, and who is subscribed to one of its tracks.
    fn viewers_of(&self, id: ParticipantId) -> Vec<ParticipantId> {
        self.members.iter().map(|viewer| viewer.id).filter(|viewer| self.views(*viewer, id)).collect()
    }

    fn views(&self, viewer: ParticipantId, id: ParticipantId) -> bool {
        let has = |viewer: &Participant| self.tracks.of(id).any(|track| viewer.subscriptions.phase(track.id) == Some(Phase::Active));
        viewer == id || self.members.get(viewer).is_some_and(has)
    }
}

/// Older clients don't know the message (LiveKit: `SupportsConnectionQuality`).
const PROTOCOL_BEFORE_QUALITY: i32 = 4;
/// Older clients don't know the class (LiveKit: `SupportsConnectionQualityLost`).
const PROTOCOL_BEFORE_LOST: i32 = 10;
