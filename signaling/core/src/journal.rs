//! What the outside is told of stays, for logs, metrics and timelines: arrivals, connections, losses, ends.
//!
//! Invariants: a stay has one [`Happening::Joined`] and at most one [`Happening::Ended`] behind it; [`Happening::Connected`] comes at
//! most once between them.

use std::{collections::BTreeMap, time::Duration};

use livekit_protocol as proto;
use livekit_protocol::DisconnectReason;
use sfu_api::{FailReason, MediaKind, ParticipantId, TrackId};
use signaling_api::EndReason;

use crate::{ConnId, Judgement, Signaling};

/// Something that happened to a participant's stay.
#[derive(Clone, PartialEq, Debug)]
pub struct Note {
    /// Whose.
    pub participant: ParticipantId,
    /// What.
    pub what: Happening,
}

/// See [`Note`].
#[derive(Clone, PartialEq, Debug)]
pub enum Happening {
    /// It is in a room.
    Joined {
        /// By which signal connection.
        conn: ConnId,
        /// Name of the room.
        room: String,
        /// Unique in its room.
        identity: String,
    },
    /// Its media is connected for the first time.
    Connected {
        /// Since the join.
        after: Duration,
    },
    /// Its media or signal connection is lost; it may come back.
    Lost {
        /// True for media.
        is_media: bool,
    },
    /// It resumed on a new signal connection.
    Resumed {
        /// Which.
        conn: ConnId,
    },
    /// It is in another room.
    Moved {
        /// Name of the room.
        room: String,
    },
    /// Its connection is as good or bad as this from here on, or so for another reason.
    Quality(Judgement),
    /// It is gone.
    Ended {
        /// Why.
        reason: EndReason,
        /// Media was connected before.
        was_connected: bool,
        /// Since the join.
        after: Duration,
    },
}

/// How people know a published track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackLabel {
    /// Id in LiveKit's protocol (`TR_…`).
    pub sid: String,
    /// As its publisher calls it; may be empty.
    pub name: String,
    /// Word of a closed list.
    pub source: &'static str,
    /// Identity of its publisher.
    pub publisher: String,
}

/// Word for a source of media.
#[must_use]
pub(crate) const fn source_word(source: proto::TrackSource) -> &'static str {
    match source {
        proto::TrackSource::Unknown => "unknown",
        proto::TrackSource::Camera => "camera",
        proto::TrackSource::Microphone => "microphone",
        proto::TrackSource::ScreenShare => "screen_share",
        proto::TrackSource::ScreenShareAudio => "screen_share_audio",
    }
}

impl Signaling {
    /// How people know a track of the room in which a participant is. None: one of them is gone.
    #[must_use]
    pub fn track_label(&self, participant: ParticipantId, track: TrackId) -> Option<TrackLabel> {
        let room = self.rooms.get(self.directory.room_of(participant)?)?;
        let track = room.tracks.get(track)?;
        Some(TrackLabel {
            sid: track.info.sid.clone(),
            name: track.info.name.clone(),
            source: source_word(track.info.source()),
            publisher: room.members.get(track.owner).map(|owner| owner.identity().to_owned()).unwrap_or_default(),
        })
    }

    /// How many tracks are ready, by kind (`audio`, `video`), source and codec, all words of closed lists.
    #[must_use]
    pub fn track_census(&self) -> BTreeMap<(&'static str, &'static str, &'static str), u64> {
        let mut census = BTreeMap::new();
        for track in self.rooms.iter().flat_map(|room| room.tracks.all_ready()) {
            let kind = if track.kind == MediaKind::Audio { "audio" } else { "video" };
            *census.entry((kind, source_word(track.info.source()), codec_word(&track.info.mime_type))).or_default() += 1;
        }
        census
    }
}

/// Codecs as metric labels.
pub const CODEC_WORDS: [&str; 9] = ["opus", "red", "pcmu", "pcma", "vp8", "vp9", "h264", "h265", "av1"];

/// What a client names is one of ours or `other`.
fn codec_word(mime: &str) -> &'static str {
    let name = mime.rsplit('/').next().unwrap_or(mime);
    CODEC_WORDS.into_iter().find(|word| word.eq_ignore_ascii_case(name)).unwrap_or("other")
}

/// What clients are told: LiveKit's protocol has fewer words.
pub(crate) const fn told(reason: EndReason) -> DisconnectReason {
    match reason {
        EndReason::ClientLeft | EndReason::GaveUp => DisconnectReason::ClientInitiated,
        EndReason::DuplicateIdentity => DisconnectReason::DuplicateIdentity,
        EndReason::Removed => DisconnectReason::ParticipantRemoved,
        EndReason::RoomDeleted => DisconnectReason::RoomDeleted,
        EndReason::RoomClosed => DisconnectReason::RoomClosed,
        EndReason::ServerShutdown => DisconnectReason::ServerShutdown,
        EndReason::Moved => DisconnectReason::Migration,
        EndReason::Declined => DisconnectReason::UserRejected,
        EndReason::NotAvailable => DisconnectReason::UserUnavailable,
        EndReason::AgentFailed => DisconnectReason::AgentError,
        EndReason::JoinTimeout | EndReason::IceNoPath => DisconnectReason::JoinFailure,
        EndReason::MediaLost => DisconnectReason::ConnectionTimeout,
        EndReason::SignalLost => DisconnectReason::SignalClose,
        EndReason::NegotiationFailed | EndReason::StateMismatch => DisconnectReason::StateMismatch,
        EndReason::Simulated => DisconnectReason::ServerShutdown,
        _ => DisconnectReason::MediaFailure,
    }
}

/// The node's word for it is ours.
pub(crate) const fn of_media(reason: FailReason) -> EndReason {
    match reason {
        FailReason::IceNoPath => EndReason::IceNoPath,
        FailReason::DtlsHandshake => EndReason::DtlsHandshake,
        FailReason::DtlsFingerprint => EndReason::DtlsFingerprint,
        FailReason::DtlsSrtpProfile => EndReason::DtlsSrtpProfile,
        FailReason::DataChannel => EndReason::DataChannel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_words_are_the_same() {
        for reason in [
            FailReason::IceNoPath,
            FailReason::DtlsHandshake,
            FailReason::DtlsFingerprint,
            FailReason::DtlsSrtpProfile,
            FailReason::DataChannel,
        ] {
            assert_eq!(of_media(reason).as_str(), reason.code());
            let told_as = told(of_media(reason));
            assert!([DisconnectReason::MediaFailure, DisconnectReason::JoinFailure].contains(&told_as), "{reason:?}");
        }
    }

    #[test]
    fn every_end_is_told_as_something_that_clients_know() {
        for &reason in EndReason::ALL {
            assert_ne!(told(reason), DisconnectReason::UnknownReason, "{reason}");
        }
    }
}
