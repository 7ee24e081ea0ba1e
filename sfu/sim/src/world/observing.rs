//! What a scenario asks: what participants sent, saw and heard, and what the engine counted.

use sfu_api::{ParticipantId, TrackId};
use sfu_core::error::Discard;
use sfu_core::snapshot::Snapshot;

use super::{Who, World};
use crate::audio::AudioReport;
use crate::freeze::Report;
use crate::participant::{Participant, SendingTrack};

impl World {
    /// A participant.
    #[must_use]
    pub fn participant(&self, who: Who) -> &Participant {
        &self.participants[who.0]
    }

    /// A participant.
    pub fn participant_mut(&mut self, who: Who) -> &mut Participant {
        &mut self.participants[who.0]
    }

    /// Its id in signaling.
    #[must_use]
    pub fn id(&self, who: Who) -> ParticipantId {
        self.participants[who.0].id
    }

    /// The sending end of a track.
    ///
    /// # Panics
    /// If there is no such track.
    #[must_use]
    pub fn sender(&self, track: TrackId) -> &SendingTrack {
        self.participants[self.owners[&track]].sending(track).expect("the track is published")
    }

    /// The sending end of a track.
    ///
    /// # Panics
    /// If there is no such track.
    pub fn sender_mut(&mut self, track: TrackId) -> &mut SendingTrack {
        self.participants[self.owners[&track]].sending_mut(track).expect("the track is published")
    }

    /// Whose track it is.
    #[must_use]
    pub fn sender_of(&self, track: TrackId) -> Who {
        Who(self.owners[&track])
    }

    /// What somebody saw of a video track since its subscription.
    ///
    /// # Panics
    /// If it was never offered to that participant.
    #[must_use]
    pub fn report(&self, who: Who, track: TrackId) -> Report {
        self.participants[who.0].receiving(track).expect("the track was offered").video.report(self.now())
    }

    /// What somebody heard of an audio track since its subscription.
    ///
    /// # Panics
    /// If it was never offered to that participant.
    #[must_use]
    pub fn heard(&self, who: Who, track: TrackId) -> AudioReport {
        self.participants[who.0].receiving(track).expect("the track was offered").audio.report().clone()
    }

    /// Frames that somebody has seen of a track.
    #[must_use]
    pub fn frames(&self, who: Who, track: TrackId) -> u64 {
        self.participants[who.0].receiving(track).map_or(0, |track| track.video.report(self.now()).frames_shown)
    }

    /// The encoding or spatial layer that is on somebody's screen.
    #[must_use]
    pub fn layer(&self, who: Who, track: TrackId) -> Option<u8> {
        let receiving = self.participants[who.0].receiving(track)?;
        receiving.video.report(self.now()).current.map(|frame| frame.rung())
    }

    /// The engine's counters.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shard.snapshot()
    }

    /// Datagrams that the engine dropped for a reason.
    #[must_use]
    pub fn discarded(&self, reason: Discard) -> u64 {
        self.engines().map(|shard| shard.snapshot().discards.get(reason)).sum()
    }
}
