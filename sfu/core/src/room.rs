//! Rooms and participants of a shard.

use std::time::Instant;

use sfu_api::{ParticipantId, PlayoutDelay, PublishRequest, RoomId, TrackId};

use crate::allocation::stage::Stage;
use crate::audio::speaker::Speakers;
use crate::ids::{ParticipantKey, PeerKey, RoomKey, UpKey};
use crate::negotiate::{DownChoice, DownMedia, NegotiationError, PublisherSession, SubscriberSession};
use crate::quality::Monitor;
use crate::relay::Shared;

/// A room: who is in it and who speaks.
pub struct Room {
    /// As signaling knows it.
    pub id: RoomId,
    /// Everyone in it.
    pub participants: Vec<ParticipantKey>,
    /// Audio levels.
    pub speakers: Speakers,
    /// Who counts as the speaker when bandwidth is divided.
    pub stage: Stage<ParticipantKey>,
    /// Delay with which its video is to be played, whatever publishers say.
    pub playout_delay: Option<PlayoutDelay>,
    /// Other shards that have it too.
    pub shared: Shared,
    /// Somebody is heard, so that there may be something to tell of speakers.
    pub is_vocal: bool,
}

/// A participant: its peer connections, two or one for both directions, and what is negotiated on them.
pub struct Participant {
    /// As signaling knows it.
    pub id: ParticipantId,
    /// Where.
    pub room: RoomKey,
    /// Client to server; exists from the client's first offer on, or from the join on if it is for both directions.
    pub publisher: Option<PublisherSide>,
    /// Server to client; exists from the join on, or from the first subscription on, and not at all if there is but one.
    pub subscriber: Option<SubscriberSide>,
    /// Announced tracks whose media is not negotiated yet.
    pub pending: Vec<(TrackId, PublishRequest)>,
    /// Published tracks.
    pub ups: Vec<UpKey>,
    /// How well its media gets through.
    pub quality: Monitor,
    /// When its tracks were sampled last.
    pub sampled_at: Option<Instant>,
    /// It is told addresses for TCP only.
    pub prefers_tcp: bool,
    /// It is on another shard, and here are only mirrors of its tracks.
    pub is_guest: bool,
}

impl Participant {
    /// Somebody who has just come, without transports and tracks.
    #[must_use]
    pub fn new(id: ParticipantId, room: RoomKey) -> Self {
        Self {
            id,
            room,
            publisher: None,
            subscriber: None,
            pending: Vec::new(),
            ups: Vec::new(),
            quality: Monitor::default(),
            sampled_at: None,
            prefers_tcp: false,
            is_guest: false,
        }
    }

    /// It has one peer connection for both directions.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.publisher.as_ref().is_some_and(|side| side.session.is_both_ways())
    }

    /// The transport on which it receives tracks and data.
    #[must_use]
    pub fn downlink(&self) -> Option<PeerKey> {
        let single = self.publisher.as_ref().filter(|side| side.session.is_both_ways()).map(|side| side.peer);
        single.or_else(|| self.subscriber.as_ref().map(|side| side.peer))
    }

    /// Wants a down track in its next description.
    pub fn add_down(&mut self, media: DownMedia) -> Result<(), NegotiationError> {
        if let Some(downs) = self.publisher.as_mut().and_then(|side| side.session.downs()) {
            return downs.add(media);
        }
        self.subscriber.as_mut().map_or(Ok(()), |side| side.session.add(media))
    }

    /// A down track may come in other codecs than before.
    pub fn set_down_codecs(&mut self, key: u64, codecs: Vec<DownChoice>) {
        if let Some(downs) = self.publisher.as_mut().and_then(|side| side.session.downs()) {
            downs.set_codecs(key, codecs);
        } else if let Some(side) = &mut self.subscriber {
            side.session.set_codecs(key, codecs);
        }
    }

    /// Wants a down track no longer.
    pub fn remove_down(&mut self, key: u64) {
        if let Some(downs) = self.publisher.as_mut().and_then(|side| side.session.downs()) {
            downs.remove(key);
        }
        if let Some(side) = &mut self.subscriber {
            side.session.remove(key);
        }
    }
}

/// See [`Participant::publisher`].
pub struct PublisherSide {
    /// Transport.
    pub peer: PeerKey,
    /// Descriptions.
    pub session: PublisherSession,
    /// ICE user name fragment of the client's last description; another one is a restart.
    pub remote_ufrag: Option<String>,
}

/// See [`Participant::subscriber`].
pub struct SubscriberSide {
    /// Transport.
    pub peer: PeerKey,
    /// Descriptions.
    pub session: SubscriberSession,
}
