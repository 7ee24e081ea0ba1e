//! Carries out what signaling commands: rooms, publications, subscriptions, data.
//!
//! A command for something that is gone is not an error: signaling and media learn of an end at different times. It is
//! counted as `unknown-entity`. Offers and answers are in [`crate::descriptions`], what opens and removes entities in
//! [`crate::lifecycle`].

use std::time::Instant;

use rand::RngExt as _;
use sfu_api::{
    Command, Delivery, Event, MediaKind, MediaLabel, ParticipantId, PeerMode, PlayoutDelay, PublishRequest, RoomId, SubscriptionError,
    TrackId, VideoWish,
};
use slotmap::Key;

use crate::allocation::stage::Stage;
use crate::audio::speaker::Speakers;
use crate::codecs::configurations;
use crate::error::Discard;
use crate::ids::{ParticipantKey, PeerKey, RoomKey};
use crate::limits::MAX_TRACKS_PER_PARTICIPANT;
use crate::negotiate::{DownMedia, PublisherSession};
use crate::publish::encoding::Encoding;
use crate::quality::Monitor;
use crate::relay::Shared;
use crate::room::{Participant, Room};
use crate::shard::Shard;
use crate::subscribe::DownTrack;

/// Outcome of a part of a command; the error says that what it names does not exist (any more).
pub(crate) type Found = Result<(), Discard>;

impl Shard {
    /// Carries out a command. Answers are events.
    pub fn handle_command(&mut self, now: Instant, command: Command) {
        if !self.park(now, &command) {
            self.carry_out(now, command);
        }
    }

    /// As [`Self::handle_command`], whether or not its track is known.
    pub(crate) fn carry_out(&mut self, now: Instant, command: Command) {
        let result = match command {
            Command::Join { room, participant, can_subscribe, mode } => {
                self.join(now, room, participant, can_subscribe, mode);
                Ok(())
            }
            Command::Leave { participant } => self.participant(participant).map(|key| self.leave(key, now)),
            Command::Publish { participant, track, request } => self.announce(participant, track, request),
            Command::Unpublish { track } => self.unpublish(track),
            Command::SetMuted { track, muted } => self.set_muted(track, muted, now),
            Command::Offer { participant, id, sdp } => self.offer(now, participant, id, &sdp),
            Command::Answer { participant, id, sdp } => self.answer(now, participant, id, &sdp),
            Command::RestartIce { participant } => self.restart_ice(participant),
            Command::Subscribe { participant, track, label } => self.subscribe(now, participant, track, label),
            Command::Unsubscribe { participant, track } => self.unsubscribe(participant, track),
            Command::SetWish { participant, track, wish } => self.set_wish(now, participant, track, wish),
            Command::PublishCodec { participant, track, request } => {
                self.participant(participant).and_then(|key| self.announce_codec(key, track, request))
            }
            Command::SendData { to, delivery, payload } => {
                self.send_data(now, &to, delivery, &payload);
                Ok(())
            }
            Command::PreferTcp { participant, is_preferred } => {
                self.participant(participant).map(|key| self.participants[key].prefers_tcp = is_preferred)
            }
            Command::SetPlayoutDelay { room, delay } => self.set_playout_delay(room, delay),
            Command::PublishData { participant, track, handle } => self.publish_data(participant, track, handle),
            Command::UnpublishData { track, .. } => self.unpublish_data(track),
            Command::SubscribeData { participant, track, handle } => self.subscribe_data(participant, track, handle),
            Command::UnsubscribeData { participant, track } => self.unsubscribe_data(participant, track),
            Command::Move { participant, room } => self.participant(participant).map(|key| self.move_to(key, room, now)),
            Command::LimitDownlink { participant, limit_bps } => self.limit_downlink(participant, limit_bps, now),
        };
        if let Err(reason) = result {
            self.discards.add(reason);
        }
    }

    fn join(&mut self, now: Instant, room: RoomId, id: ParticipantId, can_subscribe: bool, mode: PeerMode) {
        if let Some(&known) = self.directory.participants.get(&id) {
            self.leave(known, now);
        }
        let room_key = self.open_room(room);
        let key = self.participants.insert(Participant::new(id, room_key));
        self.awake.looks.add(key);
        self.rooms[room_key].participants.push(key);
        self.directory.participants.insert(id, key);
        match mode {
            PeerMode::Single => self.open_publisher(key, PublisherSession::both_ways(), now),
            PeerMode::Dual if can_subscribe => {
                self.open_subscriber(key, now);
            }
            PeerMode::Dual => {}
        }
    }

    fn leave(&mut self, key: ParticipantKey, now: Instant) {
        let Some(participant) = self.participants.get(key) else { return };
        for up in participant.ups.clone() {
            self.remove_up(up);
        }
        self.withdraw_data_tracks(key);
        let Some(participant) = self.participants.remove(key) else { return };
        self.unnegotiated.remove(&key);
        self.data_tracks.forget(key);
        self.directory.participants.remove(&participant.id);
        self.forget_parked(participant.id);
        let peers = [participant.publisher.map(|side| side.peer), participant.subscriber.map(|side| side.peer)];
        for peer in peers.into_iter().flatten() {
            self.close_peer(peer, now);
        }
        self.quit_room(participant.room, key, now);
    }

    /// Transports and tracks stay as they are; who subscribes to what is a matter of the new room.
    fn move_to(&mut self, key: ParticipantKey, room: RoomId, now: Instant) {
        let room_key = self.open_room(room);
        let Some(participant) = self.participants.get(key).filter(|participant| participant.room != room_key) else { return };
        let from = participant.room;
        let mut ended: Vec<_> = participant.ups.iter().filter_map(|up| self.ups.get(*up)).flat_map(|up| up.downs.clone()).collect();
        ended.extend(participant.downlink().and_then(|peer| self.peers.get(peer)).into_iter().flat_map(|peer| peer.downs.clone()));
        let tracks: Vec<_> = participant.ups.iter().filter_map(|up| self.ups.get(*up)).map(|up| up.id).collect();
        for down in ended {
            self.remove_down(down);
        }
        if let Some(room) = self.rooms.get_mut(from) {
            for track in tracks {
                room.speakers.remove(track.0);
            }
        }
        self.withdraw(key);
        self.data_tracks.forget(key);
        self.quit_room(from, key, now);
        self.rooms[room_key].participants.push(key);
        let participant = &mut self.participants[key];
        participant.room = room_key;
        // The other room has to be told.
        participant.quality = Monitor::default();
        let (ups, delay) = (participant.ups.clone(), self.rooms[room_key].playout_delay);
        for up in ups {
            if let Some(up) = self.ups.get_mut(up) {
                up.set_playout_delay(delay);
            }
        }
        self.announce_everywhere(key);
    }

    pub(crate) fn open_room(&mut self, room: RoomId) -> RoomKey {
        if let Some(&key) = self.directory.rooms.get(&room) {
            return key;
        }
        let (participants, speakers, stage) = (Vec::new(), Speakers::default(), Stage::default());
        let opened = Room { id: room, participants, speakers, stage, playout_delay: None, shared: Shared::default(), is_vocal: false };
        let key = self.rooms.insert(opened);
        self.directory.rooms.insert(room, key);
        self.take_early_links(key, room);
        key
    }

    fn quit_room(&mut self, room_key: RoomKey, key: ParticipantKey, now: Instant) {
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        room.participants.retain(|&other| other != key);
        if room.participants.is_empty() {
            self.leave_shared(room_key, now);
            if let Some(room) = self.rooms.remove(room_key) {
                self.directory.rooms.remove(&room.id);
            }
        }
    }

    fn announce(&mut self, id: ParticipantId, track: TrackId, request: PublishRequest) -> Found {
        let key = self.participant(id)?;
        let participant = &mut self.participants[key];
        if participant.pending.len() + participant.ups.len() < MAX_TRACKS_PER_PARTICIPANT {
            participant.pending.push((track, request));
        } else {
            self.events.push_back(Event::TrackEnded { participant: id, track });
        }
        Ok(())
    }

    fn unpublish(&mut self, track: TrackId) -> Found {
        let mut found = Err(Discard::UnknownEntity);
        if let Some(&up) = self.directory.tracks.get(&track) {
            self.remove_up(up);
            found = Ok(());
        }
        for participant in self.participants.values_mut() {
            if participant.pending.iter().any(|(id, _)| *id == track) {
                participant.pending.retain(|(id, _)| *id != track);
                found = Ok(());
            }
        }
        found
    }

    pub(crate) fn set_muted(&mut self, track: TrackId, muted: bool, now: Instant) -> Found {
        let Some(&key) = self.directory.tracks.get(&track) else {
            let pending = self.participants.values_mut().flat_map(|p| &mut p.pending).find(|(id, _)| *id == track);
            let (_, request) = pending.ok_or(Discard::UnknownEntity)?;
            request.muted = muted;
            return Ok(());
        };
        let downs = self.downs_of_track(key);
        let backups = self.ups[key].backups.clone();
        for backup in backups {
            if let Some(backup) = self.ups.get_mut(backup) {
                backup.is_muted = muted;
            }
        }
        let up = &mut self.ups[key];
        if up.is_muted == muted {
            return Ok(());
        }
        up.is_muted = muted;
        self.tell_muted(key, muted);
        self.wake_up(key);
        let up = &mut self.ups[key];
        if muted {
            let owner = up.participant;
            if up.kind() == MediaKind::Audio
                && let Some(participant) = self.participants.get(owner)
                && let Some(room) = self.rooms.get_mut(participant.room)
            {
                room.speakers.remove(track.0);
            }
            for down in downs {
                if let Some(down) = self.downs.get_mut(down) {
                    down.asked_at = None;
                }
                self.stop_flow(down);
            }
        } else {
            // What came while it was muted is for nobody.
            let backups = up.backups.clone();
            for key in [key].into_iter().chain(backups) {
                if let Some(up) = self.ups.get_mut(key) {
                    up.encodings.iter_mut().for_each(Encoding::forget_unsent);
                }
            }
            for down in downs {
                if let Some(peer) = self.downs.get(down).map(|down| down.peer) {
                    self.hurry_allocation(peer, now);
                }
                self.retarget(down, now);
            }
        }
        Ok(())
    }

    fn subscribe(&mut self, now: Instant, id: ParticipantId, track: TrackId, label: MediaLabel) -> Found {
        let key = self.participant(id)?;
        let Some(&up_key) = self.directory.tracks.get(&track).filter(|&&up| self.room_of(up) == Some(self.participants[key].room)) else {
            self.events.push_back(Event::Subscription { participant: id, track, error: Some(SubscriptionError::TrackUnknown) });
            return Ok(());
        };
        let peer_key = match self.participants[key].downlink() {
            Some(peer) => peer,
            None => self.open_subscriber(key, now),
        };
        if self.down_of(peer_key, track).is_some() {
            return Ok(());
        }
        let first_sequence = self.rng.random();
        let peer = &mut self.peers[peer_key];
        let (ssrc, rtx_ssrc) = (peer.allocate_ssrc(), peer.allocate_ssrc());
        let codecs = self.choices(up_key);
        let peer = &mut self.peers[peer_key];
        let up = &mut self.ups[up_key];
        let mut down = DownTrack::new(track, up_key, peer_key, up.codec.codec, &label.stream_id, (ssrc, rtx_ssrc), first_sequence);
        down.offered = configurations(&codecs);
        down.asked_at = Some(now).filter(|_| !up.is_muted);
        let down_key = self.downs.insert(down);
        peer.downs.push(down_key);
        peer.down_by_ssrc.insert(ssrc, down_key);
        up.downs.push(down_key);
        let has_rtx = up.codec.codec.is_video();
        let media = DownMedia { key: down_key.data().as_ffi(), codecs, ssrc, rtx_ssrc: has_rtx.then_some(rtx_ssrc), label };
        if let Err(error) = self.participants[key].add_down(media) {
            tracing::debug!(%error, "subscription refused");
            self.remove_down(down_key);
            self.events.push_back(Event::Subscription { participant: id, track, error: Some(SubscriptionError::Limit) });
            return Ok(());
        }
        self.unnegotiated.insert(key);
        Ok(())
    }

    fn unsubscribe(&mut self, id: ParticipantId, track: TrackId) -> Found {
        let key = self.participant(id)?;
        let peer = self.participants[key].downlink().ok_or(Discard::UnknownEntity)?;
        let down = self.down_of(peer, track).ok_or(Discard::UnknownEntity)?;
        self.remove_down(down);
        Ok(())
    }

    fn set_wish(&mut self, now: Instant, id: ParticipantId, track: TrackId, wish: VideoWish) -> Found {
        let key = self.participant(id)?;
        let peer = self.participants[key].downlink().ok_or(Discard::UnknownEntity)?;
        let down = self.down_of(peer, track).ok_or(Discard::UnknownEntity)?;
        let waiting = &mut self.downs[down];
        if !waiting.wish.enabled && wish.enabled && waiting.sent.packets == 0 {
            waiting.asked_at = Some(now);
        } else if !wish.enabled {
            waiting.asked_at = None;
        }
        let before = std::mem::replace(&mut waiting.wish, wish);
        let (peer, up) = (waiting.peer, waiting.up);
        // What was learned of the way holds as long as the same is wanted: a tile of another size may well mean the same layer.
        if self.ups.get(up).is_some_and(|up| up.wanted_place(&before, now) != up.wanted_place(&wish, now)) {
            self.downs[down].share.renew();
        }
        self.hurry_allocation(peer, now);
        self.retarget(down, now);
        if let Some(primary) = self.primary_of(self.downs[down].up) {
            self.review_wanted(primary, now);
        }
        Ok(())
    }

    fn limit_downlink(&mut self, id: ParticipantId, limit_bps: Option<u64>, now: Instant) -> Found {
        let key = self.participant(id)?;
        let peer = self.participants[key].downlink().ok_or(Discard::UnknownEntity)?;
        self.peers[peer].allotment.limit_bps = limit_bps;
        self.hurry_allocation(peer, now);
        Ok(())
    }

    fn set_playout_delay(&mut self, room: RoomId, delay: Option<PlayoutDelay>) -> Found {
        let key = *self.directory.rooms.get(&room).ok_or(Discard::UnknownEntity)?;
        let room = self.rooms.get_mut(key).ok_or(Discard::UnknownEntity)?;
        room.playout_delay = delay;
        for up in room.participants.iter().filter_map(|&participant| self.participants.get(participant)).flat_map(|p| &p.ups) {
            if let Some(up) = self.ups.get_mut(*up) {
                up.set_playout_delay(delay);
            }
        }
        Ok(())
    }

    fn send_data(&mut self, now: Instant, to: &[ParticipantId], delivery: Delivery, payload: &[u8]) {
        for id in to {
            let Some(key) = self.participant(*id).ok().and_then(|key| self.data_peer(key)) else { continue };
            let transport = &mut self.peers[key].transport;
            if let Err(error) = transport.send_data(now, delivery, payload, &mut self.egress.outbox) {
                tracing::trace!(?error, "data message dropped");
            }
            self.peer_changed(key, now);
        }
    }

    /// The transport on which a participant gets data. Who may not subscribe has none but the one it publishes on.
    pub(crate) fn data_peer(&self, key: ParticipantKey) -> Option<PeerKey> {
        let participant = self.participants.get(key)?;
        let subscriber = participant.subscriber.as_ref().map(|side| side.peer);
        subscriber.or_else(|| participant.publisher.as_ref().map(|side| side.peer))
    }
}
