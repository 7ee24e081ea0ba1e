//! Rooms and participants of a shard.

use sfu_api::{ParticipantId, PlayoutDelay, PublishRequest, RoomId, TrackId};

use crate::audio::speaker::Speakers;
use crate::ids::{ParticipantKey, PeerKey, RoomKey, UpKey};
use crate::negotiate::{PublisherSession, SubscriberSession};
use crate::quality::Monitor;

/// A room: who is in it and who speaks.
pub struct Room {
    /// As signaling knows it.
    pub id: RoomId,
    /// Everyone in it.
    pub participants: Vec<ParticipantKey>,
    /// Audio levels.
    pub speakers: Speakers,
    /// Delay with which its video is to be played, whatever publishers say.
    pub playout_delay: Option<PlayoutDelay>,
}

/// A participant: two peer connections and what is negotiated on them.
pub struct Participant {
    /// As signaling knows it.
    pub id: ParticipantId,
    /// Where.
    pub room: RoomKey,
    /// Client to server; exists from the client's first offer on.
    pub publisher: Option<PublisherSide>,
    /// Server to client; exists from the join on, or from the first subscription on.
    pub subscriber: Option<SubscriberSide>,
    /// Announced tracks whose media is not negotiated yet.
    pub pending: Vec<(TrackId, PublishRequest)>,
    /// Published tracks.
    pub ups: Vec<UpKey>,
    /// How well its media gets through.
    pub quality: Monitor,
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
