//! Data tracks: who publishes which, who subscribes to them, and under which handles their packets travel.
//!
//! The packets themselves pass through the media node, which puts the subscriber's handle in place of the publisher's.
//! Invariants: a handle names one data track of its publisher, and one subscription of its subscriber; the media node was
//! asked for exactly the subscriptions that have a handle, and these are those to tracks that the subscriber may have.
//! Clients subscribe by hand; `auto_subscribe` is about media.

use std::collections::BTreeMap;

use livekit_protocol as proto;
use livekit_protocol::{
    data_track_frame_encoding, data_track_schema_encoding, data_track_subscriber_handles::PublishedDataTrack, request_response,
    request_response::Reason, signal_response::Message,
};
use prost::Message as _;
use sfu_api::{Command, ParticipantId, TrackId};

use crate::{ids, limits, room::Room, turn::Turn};

/// The data tracks of a room.
#[derive(Debug, Default)]
pub(crate) struct DataTracks {
    by_handle: BTreeMap<(ParticipantId, u16), DataTrack>,
    by_id: BTreeMap<TrackId, (ParticipantId, u16)>,
}

/// One published data track.
#[derive(Debug)]
pub(crate) struct DataTrack {
    pub(crate) id: TrackId,
    pub(crate) owner: ParticipantId,
    pub(crate) info: proto::DataTrackInfo,
}

/// What one participant wants of data tracks.
#[derive(Debug, Default)]
pub(crate) struct DataSubscriptions {
    /// With the handle of those that are live.
    wanted: BTreeMap<TrackId, Option<u16>>,
    last_handle: u16,
}

impl DataTracks {
    fn insert(&mut self, handle: u16, track: DataTrack) {
        self.by_id.insert(track.id, (track.owner, handle));
        self.by_handle.insert((track.owner, handle), track);
    }

    fn remove(&mut self, id: TrackId) -> Option<DataTrack> {
        self.by_handle.remove(&self.by_id.remove(&id)?)
    }

    pub(crate) fn get(&self, id: TrackId) -> Option<&DataTrack> {
        self.by_handle.get(self.by_id.get(&id)?)
    }

    pub(crate) fn contains(&self, id: TrackId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn of(&self, owner: ParticipantId) -> impl Iterator<Item = &DataTrack> {
        self.by_handle.range((owner, 0)..=(owner, u16::MAX)).map(|(_, track)| track)
    }

    fn at(&self, owner: ParticipantId, handle: u32) -> Option<&DataTrack> {
        self.by_handle.get(&(owner, u16::try_from(handle).ok()?))
    }

    /// What others see of a participant's data tracks.
    pub(crate) fn infos_of(&self, owner: ParticipantId) -> Vec<proto::DataTrackInfo> {
        self.of(owner).map(|track| track.info.clone()).collect()
    }
}

impl DataSubscriptions {
    /// A handle that no other subscription has; none if all are in use.
    fn free_handle(&mut self) -> Option<u16> {
        let used: std::collections::BTreeSet<u16> = self.wanted.values().copied().flatten().collect();
        // Zero is no handle. The next one, so that late packets of an ended subscription are nobody's.
        let next = |handle: u16| handle.checked_add(1).unwrap_or(1);
        let mut handle = next(self.last_handle);
        for _ in 0..=limits::DATA_SUBSCRIPTIONS {
            if !used.contains(&handle) {
                self.last_handle = handle;
                return Some(handle);
            }
            handle = next(handle);
        }
        None
    }
}

/// Names have a length that others can bear.
pub(crate) fn is_schema_named(schema: &proto::DataTrackSchemaId) -> bool {
    let custom = schema.encoding.as_ref().and_then(|encoding| encoding.value.as_ref());
    let is_known = match custom {
        Some(data_track_schema_encoding::Value::Custom(name)) => is_encoding_name(name),
        _ => true,
    };
    is_known && !schema.name.is_empty() && schema.name.len() <= limits::TRACK_TEXT_BYTES
}

fn is_encoding_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= limits::DATA_ENCODING_BYTES
}

fn check(request: &proto::PublishDataTrackRequest) -> Result<u16, (Reason, &'static str)> {
    let handle = u16::try_from(request.pub_handle).ok().filter(|handle| *handle > 0);
    let handle = handle.ok_or((Reason::InvalidHandle, "handle should be > 0 AND < 65536"))?;
    if request.name.is_empty() || request.name.len() > limits::TRACK_TEXT_BYTES {
        return Err((Reason::InvalidName, "name should not be empty and should not exceed 256 characters"));
    }
    let is_encoded = match request.frame_encoding.as_ref().and_then(|encoding| encoding.value.as_ref()) {
        Some(data_track_frame_encoding::Value::Custom(name)) => is_encoding_name(name),
        _ => true,
    };
    if !is_encoded || !request.schema.as_ref().is_none_or(is_schema_named) {
        return Err((Reason::InvalidRequest, "encoding identifier is empty or exceeds the maximum length"));
    }
    Ok(handle)
}

impl Room {
    pub(crate) fn publish_data_track(&mut self, id: ParticipantId, request: proto::PublishDataTrackRequest, turn: &mut Turn<'_>) {
        if let Err((reason, message)) = self.try_publish_data_track(id, &request, turn) {
            self.reply(id, 0, reason, message, Some(request_response::Request::PublishDataTrack(request)), turn);
        }
    }

    fn try_publish_data_track(
        &mut self,
        id: ParticipantId,
        request: &proto::PublishDataTrackRequest,
        turn: &mut Turn<'_>,
    ) -> Result<(), (Reason, &'static str)> {
        if !self.may_change(id, turn) {
            return Err((Reason::LimitExceeded, "too many changes"));
        }
        if !self.members.get(id).is_some_and(|participant| participant.grants.can_publish_data) {
            return Err((Reason::NotAllowed, "does not have permission to publish data"));
        }
        let handle = check(request)?;
        if self.data_tracks.at(id, request.pub_handle).is_some() {
            return Err((Reason::DuplicateHandle, "a data track with same handle already exists"));
        }
        if self.data_tracks.of(id).any(|track| track.info.name == request.name) {
            return Err((Reason::DuplicateName, "a data track with same name already exists"));
        }
        if self.data_tracks.of(id).count() >= limits::TRACKS_PER_PARTICIPANT {
            return Err((Reason::LimitExceeded, "too many data tracks"));
        }
        let track = self.unused_track_id(turn);
        let info = proto::DataTrackInfo {
            pub_handle: request.pub_handle,
            sid: ids::data_track_sid(track),
            name: request.name.clone(),
            encryption: request.encryption().into(),
            frame_encoding: request.frame_encoding.clone(),
            schema: request.schema.clone(),
        };
        self.check_profile(id, info.encoded_len(), turn)?;
        self.data_tracks.insert(handle, DataTrack { id: track, owner: id, info: info.clone() });
        turn.out.media(Command::PublishData { participant: id, track, handle });
        self.tell(id, Message::PublishDataTrackResponse(proto::PublishDataTrackResponse { info: Some(info) }), turn);
        if let Some(participant) = self.members.get_mut(id) {
            participant.is_publisher = true;
        }
        self.announce_track(id, turn);
        Ok(())
    }

    pub(crate) fn unpublish_data_track(&mut self, id: ParticipantId, request: proto::UnpublishDataTrackRequest, turn: &mut Turn<'_>) {
        let Some(track) = self.data_tracks.at(id, request.pub_handle).map(|track| track.id) else {
            let request = request_response::Request::UnpublishDataTrack(request);
            self.reply(id, 0, Reason::NotFound, "no such data track", Some(request), turn);
            return;
        };
        self.end_data_track(track, turn);
    }

    /// A participant may not publish data any more.
    pub(crate) fn end_data_tracks_of(&mut self, owner: ParticipantId, turn: &mut Turn<'_>) {
        let tracks: Vec<_> = self.data_tracks.of(owner).map(|track| track.id).collect();
        for track in tracks {
            self.end_data_track(track, turn);
        }
    }

    /// A participant goes to another room.
    pub(crate) fn end_data_subscriptions_of(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get_mut(id) else { return };
        let wanted = std::mem::take(&mut participant.data_subscriptions.wanted);
        for track in wanted.into_iter().filter_map(|(track, handle)| handle.map(|_| track)) {
            turn.out.media(Command::UnsubscribeData { participant: id, track });
        }
        self.tell_handles_again(id, turn);
    }

    /// A participant is gone, and with it its data tracks; the media node knows.
    pub(crate) fn forget_data_tracks_of(&mut self, owner: ParticipantId, turn: &mut Turn<'_>) {
        let tracks: Vec<_> = self.data_tracks.of(owner).map(|track| track.id).collect();
        for track in tracks {
            self.data_tracks.remove(track);
            self.forget_data_subscriptions(track, turn);
        }
    }

    fn end_data_track(&mut self, id: TrackId, turn: &mut Turn<'_>) {
        let Some(track) = self.data_tracks.remove(id) else { return };
        turn.out.media(Command::UnpublishData { participant: track.owner, track: id });
        self.forget_data_subscriptions(id, turn);
        let response = proto::UnpublishDataTrackResponse { info: Some(track.info) };
        self.tell(track.owner, Message::UnpublishDataTrackResponse(response), turn);
        self.announce_soon(track.owner, false, turn);
    }

    fn forget_data_subscriptions(&mut self, track: TrackId, turn: &mut Turn<'_>) {
        let had_it = |(id, _, wishes): (ParticipantId, _, &mut DataSubscriptions)| wishes.wanted.remove(&track).flatten().map(|_| id);
        let subscribers: Vec<_> = self.members.wishes_mut().filter_map(had_it).collect();
        for subscriber in subscribers {
            self.tell_handles(subscriber, turn);
        }
    }

    pub(crate) fn update_data_subscription(&mut self, id: ParticipantId, update: &proto::UpdateDataSubscription, turn: &mut Turn<'_>) {
        for wish in update.updates.iter().take(limits::SIDS_PER_MESSAGE) {
            let track = ids::parse_data_track_sid(&wish.track_sid).filter(|track| self.data_tracks.contains(*track));
            let Some(participant) = self.members.get_mut(id) else { return };
            let subscriptions = &mut participant.data_subscriptions;
            match track {
                Some(track) if wish.subscribe => {
                    if subscriptions.wanted.len() < limits::DATA_SUBSCRIPTIONS {
                        subscriptions.wanted.entry(track).or_default();
                        self.reconsider_data(id, track, turn);
                    }
                }
                Some(track) => {
                    if let Some(Some(_)) = subscriptions.wanted.remove(&track) {
                        turn.out.media(Command::UnsubscribeData { participant: id, track });
                    }
                }
                None => turn.counters.invalid_messages += 1,
            }
        }
        self.tell_handles(id, turn);
    }

    /// Makes a wanted subscription live or not, as rights are. True if that changed something.
    fn reconsider_data(&mut self, id: ParticipantId, track: TrackId, turn: &mut Turn<'_>) -> bool {
        let is_allowed = self.may_have_data(id, track);
        let Some(participant) = self.members.get_mut(id) else { return false };
        let subscriptions = &mut participant.data_subscriptions;
        match subscriptions.wanted.get(&track).copied() {
            Some(None) if is_allowed => {
                let Some(handle) = subscriptions.free_handle() else { return false };
                subscriptions.wanted.insert(track, Some(handle));
                turn.out.media(Command::SubscribeData { participant: id, track, handle });
                true
            }
            Some(Some(_)) if !is_allowed => {
                subscriptions.wanted.insert(track, None);
                turn.out.media(Command::UnsubscribeData { participant: id, track });
                true
            }
            _ => false,
        }
    }

    fn may_have_data(&self, id: ParticipantId, track: TrackId) -> bool {
        let Some(subscriber) = self.members.get(id) else { return false };
        let Some(track) = self.data_tracks.get(track).filter(|track| track.owner != id) else { return false };
        let owner = self.members.get(track.owner).filter(|owner| !owner.is_hidden());
        subscriber.grants.can_subscribe && owner.is_some_and(|owner| owner.gate.allows(&subscriber.grants, track.id))
    }

    /// Rights of a subscriber changed.
    pub(crate) fn reconsider_data_subscriber(&mut self, id: ParticipantId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get(id) else { return };
        let wanted: Vec<_> = participant.data_subscriptions.wanted.keys().copied().collect();
        let mut has_changed = false;
        for track in wanted {
            has_changed |= self.reconsider_data(id, track, turn);
        }
        if has_changed {
            self.tell_handles(id, turn);
        }
    }

    /// A publisher changed who may subscribe, or is shown or hidden from here on.
    pub(crate) fn reconsider_data_publisher(&mut self, owner: ParticipantId, turn: &mut Turn<'_>) {
        if self.data_tracks.of(owner).next().is_some() {
            for subscriber in self.members.ids() {
                self.reconsider_data_subscriber(subscriber, turn);
            }
        }
    }

    /// Whose packets the subscriber finds under which handle.
    pub(crate) fn tell_handles(&self, id: ParticipantId, turn: &mut Turn<'_>) {
        let Some(participant) = self.members.get(id) else { return };
        let named = |(track, handle): (&TrackId, &Option<u16>)| {
            let track = self.data_tracks.get(*track)?;
            let owner = self.members.get(track.owner)?;
            let published = PublishedDataTrack {
                publisher_identity: owner.identity().to_owned(),
                publisher_sid: owner.sid.clone(),
                track_sid: track.info.sid.clone(),
            };
            Some((u32::from((*handle)?), published))
        };
        let sub_handles = participant.data_subscriptions.wanted.iter().filter_map(named).collect();
        self.tell(id, Message::DataTrackSubscriberHandles(proto::DataTrackSubscriberHandles { sub_handles }), turn);
    }

    /// A client came back: it learns again what is under which handle.
    pub(crate) fn tell_handles_again(&self, id: ParticipantId, turn: &mut Turn<'_>) {
        // Also if nothing is left of what it had.
        if self.members.get(id).is_some_and(|participant| participant.data_subscriptions.last_handle > 0) {
            self.tell_handles(id, turn);
        }
    }

    /// The client believes to publish this data track.
    pub(crate) fn knows_data_track(&self, owner: ParticipantId, published: &proto::PublishDataTrackResponse) -> bool {
        let sid = published.info.as_ref().map(|info| info.sid.as_str());
        sid.is_some_and(|sid| self.data_tracks.of(owner).any(|track| track.info.sid == sid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_not_used_again_soon_and_never_twice() {
        let mut subscriptions = DataSubscriptions::default();
        assert_eq!(subscriptions.free_handle(), Some(1));
        subscriptions.wanted.insert(TrackId(1), Some(1));
        assert_eq!(subscriptions.free_handle(), Some(2));
        subscriptions.last_handle = u16::MAX;
        assert_eq!(subscriptions.free_handle(), Some(2), "neither 0 nor one in use");
    }

    #[test]
    fn a_handle_of_no_16_bits_or_a_nameless_track_is_refused() {
        let request = |pub_handle, name: &str| proto::PublishDataTrackRequest { pub_handle, name: name.to_owned(), ..Default::default() };
        assert_eq!(check(&request(65_535, "a")), Ok(65_535));
        for handle in [0, 65_536, u32::MAX] {
            assert_eq!(check(&request(handle, "a")).map_err(|(reason, _)| reason), Err(Reason::InvalidHandle));
        }
        for name in ["", &"n".repeat(257)] {
            assert_eq!(check(&request(1, name)).map_err(|(reason, _)| reason), Err(Reason::InvalidName));
        }
    }
}
