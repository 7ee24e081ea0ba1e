//! A client publishes: tracks are announced, become ready when their media is negotiated, are muted, and end.

use livekit_protocol as proto;
use livekit_protocol::{request_response, request_response::Reason, signal_response::Message};
use prost::Message as _;
use sfu_api::{Command, MediaKind, ParticipantId, TrackId};

use crate::{
    agents::News,
    ids, limits, permissions,
    room::Room,
    tracks,
    tracks::{MediaFound, Stage, Track},
    turn::Turn,
};

impl Room {
    pub(crate) fn add_track(&mut self, id: ParticipantId, request: proto::AddTrackRequest, turn: &mut Turn<'_>) {
        if let Err((reason, message)) = self.try_add_track(id, &request, turn) {
            self.reply(id, 0, reason, message, Some(request_response::Request::AddTrack(request)), turn);
        }
    }

    fn try_add_track(
        &mut self,
        id: ParticipantId,
        request: &proto::AddTrackRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(), (Reason, &'static str)> {
        let Some(participant) = self.members.get(id) else { return Ok(()) };
        if !participant.grants.allows_source(permissions::source_from_proto(request.source())) {
            return Err((Reason::NotAllowed, "does not have permission to publish this source"));
        }
        let kind =
            tracks::check(request).map_err(|reason| (reason, "no such type of track, not of this source, or its texts are too long"))?;
        if !request.sid.is_empty() {
            return self.add_codec(id, request, turn);
        }
        let same_cid = self.tracks.of(id).filter(|track| track.cid == request.cid).map(|track| (track.id, track.stage)).last();
        let stage = match same_cid {
            // The client asks again because it has not seen the answer.
            Some((track, Stage::Pending)) => {
                self.answer_add_track(track, turn);
                return Ok(());
            }
            Some((_, Stage::Queued)) => return Err((Reason::Queued, "waits for the end of an earlier track")),
            Some((_, Stage::Ready)) => Stage::Queued,
            None => Stage::Pending,
        };
        self.make_room_for_track(id, turn)?;

        let track_id = self.unused_track_id(turn);
        let info = tracks::describe(request, track_id, kind);
        self.check_profile(id, info.encoded_len(), turn)?;
        self.tracks.insert(Track {
            id: track_id,
            owner: id,
            cid: request.cid.clone(),
            kind,
            stage,
            info,
            announced_at: turn.now,
            subscriber_told: false,
            mute_untold: false,
            wanted: Vec::new(),
        });
        self.weigh(id);
        if stage == Stage::Queued {
            return Err((Reason::Queued, "waits for the end of an earlier track"));
        }
        self.publish_to_node(track_id, turn);
        self.answer_add_track(track_id, turn);
        Ok(())
    }

    pub(crate) fn unused_track_id(&self, turn: &mut Turn<'_>) -> TrackId {
        loop {
            let id = TrackId(ids::random_id(turn.rng));
            if !self.tracks.contains(id) && !self.data_tracks.contains(id) {
                return id;
            }
        }
    }

    fn make_room_for_track(&mut self, id: ParticipantId, turn: &mut Turn<'_>) -> Result<(), (Reason, &'static str)> {
        let too_many = (Reason::LimitExceeded, "too many tracks");
        if self.tracks.of(id).count() >= limits::TRACKS_PER_PARTICIPANT {
            return Err(too_many);
        }
        let mut waiting = self.tracks.of(id).filter(|track| track.stage != Stage::Ready).peekable();
        let oldest = waiting.peek().map(|track| (track.id, track.announced_at));
        if waiting.count() < limits::PENDING_TRACKS {
            return Ok(());
        }
        let (oldest, announced_at) = oldest.ok_or(too_many)?;
        if turn.now.saturating_duration_since(announced_at) < limits::PENDING_TRACK_AGE {
            return Err(too_many);
        }
        self.end_track(oldest, true, turn);
        Ok(())
    }

    fn publish_to_node(&self, id: TrackId, turn: &mut Turn<'_>) {
        let Some(track) = self.tracks.get(id) else { return };
        turn.out.media(Command::Publish { participant: track.owner, track: id, request: track.publish_request() });
    }

    fn answer_add_track(&self, id: TrackId, turn: &mut Turn<'_>) {
        let Some(track) = self.tracks.get(id) else { return };
        let Some(conn) = self.members.conn(track.owner) else { return };
        let response = proto::TrackPublishedResponse { cid: track.cid.clone(), track: Some(track.info.clone()) };
        turn.out.send(conn, Message::TrackPublished(response));
    }

    /// The media node has the media: others see the track and get it. Said again, its description changed.
    pub(crate) fn track_ready(&mut self, owner: ParticipantId, id: TrackId, found: MediaFound, turn: &mut Turn<'_>) {
        let Some(track) = self.tracks.get_mut(id).filter(|track| track.owner == owner && track.stage != Stage::Queued) else {
            turn.counters.stale_events += 1;
            return;
        };
        let is_new = track.stage == Stage::Pending;
        let is_changed = track.become_ready(found);
        if let Some(participant) = self.members.get_mut(owner) {
            participant.is_publisher = true;
            if !std::mem::replace(&mut participant.has_published, true) && !participant.is_dependent() {
                turn.news.push(News::Published(self.id, owner));
            }
        }
        if is_new {
            self.announce_track(owner, turn);
            self.subscribe_all_to(id, turn);
        } else if is_changed {
            self.announce_soon(owner, false, turn);
        }
    }

    pub(crate) fn track_ended(&mut self, owner: ParticipantId, id: TrackId, turn: &mut Turn<'_>) {
        if self.tracks.get(id).is_none_or(|track| track.owner != owner) {
            turn.counters.stale_events += 1;
            return;
        }
        self.end_track(id, false, turn);
    }

    /// `tell_owner`: the server ends it, the client does not know.
    pub(crate) fn end_track(&mut self, id: TrackId, tell_owner: bool, turn: &mut Turn<'_>) {
        let Some(track) = self.tracks.remove(id) else { return };
        self.weigh(track.owner);
        for (_, subscriptions, _) in self.members.wishes_mut() {
            subscriptions.forget(id);
        }
        if track.stage != Stage::Queued {
            turn.out.media(Command::Unpublish { track: id });
        }
        if tell_owner && let Some(owner) = self.members.get_mut(track.owner) {
            let track_sid = track.info.sid.clone();
            match owner.session.conn() {
                Some(conn) => turn.out.send(conn, Message::TrackUnpublished(proto::TrackUnpublishedResponse { track_sid })),
                None => owner.session.keep_track_end(track_sid),
            }
        }
        if track.stage == Stage::Ready {
            self.announce_soon(track.owner, false, turn);
        }
        self.unqueue(track.owner, &track.cid, turn);
    }

    /// The next track of the same client id takes its turn.
    fn unqueue(&mut self, owner: ParticipantId, cid: &str, turn: &mut Turn<'_>) {
        let next = self.tracks.of(owner).find(|track| track.stage == Stage::Queued && track.cid == cid).map(|track| track.id);
        let Some(track) = next.and_then(|id| self.tracks.get_mut(id)) else { return };
        track.stage = Stage::Pending;
        track.announced_at = turn.now;
        let id = track.id;
        self.publish_to_node(id, turn);
        self.answer_add_track(id, turn);
    }

    pub(crate) fn client_mute(&mut self, id: ParticipantId, request: proto::MuteTrackRequest, turn: &mut Turn<'_>) {
        let Some(track) = self.tracks.own_mut(id, &request.sid).map(|track| track.id) else {
            self.reply(id, 0, Reason::NotFound, "no such track", Some(request_response::Request::Mute(request)), turn);
            return;
        };
        self.set_muted(track, request.muted, turn);
    }

    /// Tells the media node and others, not the owner: its answer to a mute of its own would cross with the next one.
    pub(crate) fn set_muted(&mut self, id: TrackId, muted: bool, turn: &mut Turn<'_>) {
        let Some(track) = self.tracks.get_mut(id) else { return };
        if !track.set_muted(muted) {
            return;
        }
        let (stage, owner) = (track.stage, track.owner);
        if stage != Stage::Queued {
            turn.out.media(Command::SetMuted { track: id, muted });
        }
        if stage == Stage::Ready {
            self.announce_soon(owner, false, turn);
        }
    }

    pub(crate) fn update_audio_track(&mut self, id: ParticipantId, update: proto::UpdateLocalAudioTrack, turn: &mut Turn<'_>) {
        let change = |track: &mut Track| track.set_audio_features(&update.features);
        if let Err((reason, message)) = self.change_track(id, &update.track_sid, MediaKind::Audio, change, turn) {
            self.reply(id, 0, reason, message, Some(request_response::Request::UpdateAudioTrack(update)), turn);
        }
    }

    pub(crate) fn update_video_track(&mut self, id: ParticipantId, update: proto::UpdateLocalVideoTrack, turn: &mut Turn<'_>) {
        let change = |track: &mut Track| track.set_size(update.width, update.height);
        if let Err((reason, message)) = self.change_track(id, &update.track_sid, MediaKind::Video, change, turn) {
            self.reply(id, 0, reason, message, Some(request_response::Request::UpdateVideoTrack(update)), turn);
        }
    }

    /// `change` says whether it changed something.
    fn change_track(
        &mut self,
        id: ParticipantId,
        sid: &str,
        kind: MediaKind,
        change: impl FnOnce(&mut Track) -> bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), (Reason, &'static str)> {
        if !self.may_change(id, turn) {
            return Err((Reason::LimitExceeded, "too many changes"));
        }
        let track = self.tracks.own_mut(id, sid).filter(|track| track.kind == kind).ok_or((Reason::NotFound, "no such track"))?;
        // Others don't know a track before it is ready.
        if change(track) && track.stage == Stage::Ready {
            self.announce_soon(id, false, turn);
        }
        Ok(())
    }

    /// Counts a change that a participant asks for; false if these are too many.
    pub(crate) fn may_change(&mut self, id: ParticipantId, turn: &Turn<'_>) -> bool {
        self.members.get_mut(id).is_some_and(|participant| participant.change_requests.take(1, turn.now))
    }
}
