//! Data tracks: packets that a participant sends on its data track channel, forwarded to whoever subscribed.
//!
//! In: packets with the publisher's handle. Out: the same packets, each with the subscriber's handle in its place. The rest,
//! which may be encrypted end to end, is not looked at.
//! Invariants: a publisher's handle names at most one of its tracks; a track has at most one subscription of each participant;
//! whoever leaves is gone from all tables.
//!
//! Header (LiveKit's data track packet, version 0): 3 bits of version, 3 of flags; handle in bytes 2 and 3; sequence number,
//! frame number and timestamp up to byte 12.

use std::time::Instant;

use rustc_hash::FxHashMap;
use sfu_api::{Delivery, ParticipantId, TrackId};

use crate::control::Found;
use crate::error::Discard;
use crate::ids::ParticipantKey;
use crate::limits::MAX_DATA_TRACKS_PER_PARTICIPANT;
use crate::relay::LinkId;
use crate::relay::message::Message;
use crate::shard::Shard;

/// Data tracks of a shard.
#[derive(Default)]
pub(crate) struct DataTracks {
    tracks: FxHashMap<TrackId, DataTrack>,
    by_handle: FxHashMap<(ParticipantKey, u16), TrackId>,
    /// Tracks of other shards that were ever known; zero where no room is shared.
    mirrors: usize,
}

struct DataTrack {
    publisher: ParticipantKey,
    handle: u16,
    subscribers: Vec<Subscriber>,
    /// Where it is published, if that is another shard.
    origin: Option<LinkId>,
    /// Of a mirror: that shard knows that somebody here wants it.
    is_asked_for: bool,
    /// Shards with somebody who wants it.
    relayed: Vec<LinkId>,
}

/// Who gets a track, and under which handle.
#[derive(Clone, Copy)]
struct Subscriber {
    participant: ParticipantKey,
    handle: u16,
}

impl DataTracks {
    fn publish(&mut self, publisher: ParticipantKey, track: TrackId, handle: u16, origin: Option<LinkId>) {
        self.end(track);
        if let Some(&replaced) = self.by_handle.get(&(publisher, handle)) {
            self.end(replaced);
        }
        if self.by_handle.keys().filter(|(owner, _)| *owner == publisher).count() < MAX_DATA_TRACKS_PER_PARTICIPANT {
            self.by_handle.insert((publisher, handle), track);
            self.tracks
                .insert(track, DataTrack { publisher, handle, subscribers: Vec::new(), origin, is_asked_for: false, relayed: Vec::new() });
            self.mirrors += usize::from(origin.is_some());
        }
    }

    fn end(&mut self, track: TrackId) -> bool {
        let Some(ended) = self.tracks.remove(&track) else { return false };
        self.by_handle.remove(&(ended.publisher, ended.handle));
        true
    }

    /// A subscription that is there already gets the new handle.
    fn subscribe(&mut self, track: TrackId, subscriber: Subscriber) {
        let Some(track) = self.tracks.get_mut(&track) else { return };
        match track.subscribers.iter_mut().find(|known| known.participant == subscriber.participant) {
            Some(known) => *known = subscriber,
            None => track.subscribers.push(subscriber),
        }
    }

    fn unsubscribe(&mut self, track: TrackId, participant: ParticipantKey) -> bool {
        let Some(track) = self.tracks.get_mut(&track) else { return false };
        let before = track.subscribers.len();
        track.subscribers.retain(|subscriber| subscriber.participant != participant);
        track.subscribers.len() < before
    }

    /// A participant is gone.
    pub(crate) fn forget(&mut self, participant: ParticipantKey) {
        self.by_handle.retain(|(owner, _), _| *owner != participant);
        self.tracks.retain(|_, track| track.publisher != participant);
        for track in self.tracks.values_mut() {
            track.subscribers.retain(|subscriber| subscriber.participant != participant);
        }
    }

    /// Whose track it is, if one with this id is announced.
    pub(crate) fn publisher(&self, track: TrackId) -> Option<ParticipantKey> {
        self.tracks.get(&track).map(|known| known.publisher)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.tracks.len()
    }

    /// A participant publishes something.
    pub(crate) fn has_any_of(&self, participant: ParticipantKey) -> bool {
        self.by_handle.keys().any(|(owner, _)| *owner == participant)
    }

    fn subscriber(&self, track: TrackId, place: usize) -> Option<Subscriber> {
        self.tracks.get(&track)?.subscribers.get(place).copied()
    }
}

impl Shard {
    pub(crate) fn publish_data(&mut self, id: ParticipantId, track: TrackId, handle: u16) -> Found {
        let key = self.participant(id)?;
        self.data_tracks.publish(key, track, handle, None);
        for link in self.links_of(key) {
            self.announce_data_tracks(key, link);
        }
        Ok(())
    }

    pub(crate) fn unpublish_data(&mut self, track: TrackId) -> Found {
        let publisher = self.data_tracks.tracks.get(&track).map(|known| known.publisher);
        for link in publisher.map(|publisher| self.links_of(publisher)).unwrap_or_default() {
            self.relay_data(link, &Message::DataClose { track });
        }
        if self.data_tracks.end(track) { Ok(()) } else { Err(Discard::UnknownEntity) }
    }

    pub(crate) fn subscribe_data(&mut self, id: ParticipantId, track: TrackId, handle: u16) -> Found {
        let participant = self.participant(id)?;
        let publisher = self.data_tracks.tracks.get(&track).ok_or(Discard::UnknownEntity)?.publisher;
        let room_of = |key| self.participants.get(key).map(|participant| participant.room);
        if publisher == participant || room_of(publisher) != room_of(participant) {
            return Err(Discard::UnknownEntity);
        }
        self.data_tracks.subscribe(track, Subscriber { participant, handle });
        self.review_data_crossing();
        Ok(())
    }

    pub(crate) fn unsubscribe_data(&mut self, id: ParticipantId, track: TrackId) -> Found {
        let participant = self.participant(id)?;
        if self.data_tracks.unsubscribe(track, participant) { Ok(()) } else { Err(Discard::UnknownEntity) }
    }

    /// A packet came on a participant's data track channel.
    pub(crate) fn forward_data_track(&mut self, now: Instant, publisher: ParticipantKey, mut packet: Vec<u8>) -> Result<(), Discard> {
        let handle = handle_of(&packet).ok_or(Discard::DataTrackMalformed)?;
        let track = *self.data_tracks.by_handle.get(&(publisher, handle)).ok_or(Discard::UnknownDataTrack)?;
        if let Some(known) = self.data_tracks.tracks.get(&track).filter(|known| known.origin.is_none()) {
            for &link in &known.relayed {
                self.relay.push_fleeting(link, &Message::DataPacket { track, bytes: &packet });
            }
        }
        let mut place = 0;
        while let Some(subscriber) = self.data_tracks.subscriber(track, place) {
            place += 1;
            let Some(key) = self.data_peer(subscriber.participant) else { continue };
            set_handle(&mut packet, subscriber.handle);
            let transport = &mut self.peers[key].transport;
            if let Err(error) = transport.send_data(now, Delivery::DataTrack, &packet, &mut self.egress.outbox) {
                tracing::trace!(?error, "packet of a data track dropped");
            }
            self.peer_changed(key, now);
        }
        Ok(())
    }
}

/// Data tracks of shared rooms; see [`crate::relay`].
impl Shard {
    fn relay_data(&mut self, link: LinkId, message: &Message<'_>) {
        self.relay.push(link, message);
    }

    /// Tells another shard of a participant's data tracks. What it knows already it takes for the same.
    pub(crate) fn announce_data_tracks(&mut self, key: ParticipantKey, link: LinkId) {
        let Some(owner) = self.participants.get(key) else { return };
        let Some(room) = self.rooms.get(owner.room).map(|room| room.id) else { return };
        let id = owner.id;
        let own = self.data_tracks.tracks.iter().filter(|(_, known)| known.publisher == key && known.origin.is_none());
        let mut own: Vec<(TrackId, u16)> = own.map(|(&track, known)| (track, known.handle)).collect();
        own.sort_unstable();
        for (track, handle) in own {
            self.relay_data(link, &Message::DataOpen { room, participant: id, track, handle });
        }
    }

    /// A participant's data tracks end for other shards.
    pub(crate) fn withdraw_data_tracks(&mut self, key: ParticipantKey) {
        let own: Vec<TrackId> =
            self.data_tracks.tracks.iter().filter(|(_, known)| known.publisher == key).map(|(&track, _)| track).collect();
        for link in self.links_of(key) {
            for &track in &own {
                self.relay_data(link, &Message::DataClose { track });
            }
        }
    }

    /// A data track of another shard is published. One that is known stays as it is.
    pub(crate) fn mirror_data_track(&mut self, guest: ParticipantKey, link: LinkId, track: TrackId, handle: u16) {
        let known = self.data_tracks.tracks.get(&track);
        if known.is_none_or(|known| (known.publisher, known.handle, known.origin) != (guest, handle, Some(link))) {
            self.data_tracks.publish(guest, track, handle, Some(link));
        }
    }

    /// A data track of another shard has ended; whose it was.
    pub(crate) fn end_data_mirror(&mut self, link: LinkId, track: TrackId) -> Option<ParticipantKey> {
        let publisher = self.data_tracks.tracks.get(&track).filter(|known| known.origin == Some(link))?.publisher;
        self.data_tracks.end(track);
        Some(publisher)
    }

    pub(crate) fn take_data_packet(&mut self, now: Instant, link: LinkId, track: TrackId, bytes: &[u8]) -> Found {
        let known = self.data_tracks.tracks.get(&track).filter(|known| known.origin == Some(link)).ok_or(Discard::RelayUnknown)?;
        self.forward_data_track(now, known.publisher, bytes.to_vec())
    }

    /// Another shard wants packets of a data track of this one, or not any more.
    pub(crate) fn take_data_want(&mut self, link: LinkId, track: TrackId, is_wanted: bool) {
        let Some(known) = self.data_tracks.tracks.get_mut(&track).filter(|known| known.origin.is_none()) else { return };
        known.relayed.retain(|&other| other != link);
        if is_wanted {
            known.relayed.push(link);
        }
    }

    /// Asks for packets of data tracks that somebody here subscribes to, and for no others.
    pub(crate) fn review_data_crossing(&mut self) {
        if self.data_tracks.mirrors == 0 {
            return;
        }
        let Self { data_tracks, relay, .. } = self;
        for (&track, known) in &mut data_tracks.tracks {
            let Some(link) = known.origin else { continue };
            let is_wanted = !known.subscribers.is_empty();
            if std::mem::replace(&mut known.is_asked_for, is_wanted) != is_wanted {
                relay.push(link, &Message::DataWant { track, is_wanted });
            }
        }
    }

    /// Nothing of these participants' data tracks crosses to another shard any more.
    pub(crate) fn stop_data_crossing(&mut self, participants: &[ParticipantKey], link: LinkId) {
        for known in self.data_tracks.tracks.values_mut().filter(|known| participants.contains(&known.publisher)) {
            known.relayed.retain(|&other| other != link);
        }
    }
}

/// None if the packet is not one of version 0 with a whole header.
fn handle_of(packet: &[u8]) -> Option<u16> {
    let header = packet.first_chunk::<HEADER_LEN>()?;
    (header[0] >> VERSION_SHIFT == 0).then(|| u16::from_be_bytes([header[2], header[3]]))
}

fn set_handle(packet: &mut [u8], handle: u16) {
    if let Some(field) = packet.get_mut(2..4) {
        field.copy_from_slice(&handle.to_be_bytes());
    }
}

const HEADER_LEN: usize = 12;
const VERSION_SHIFT: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_header_of_a_known_version_has_a_handle() {
        let packet = [0b0001_1000, 0, 0x12, 0x34, 0, 1, 0, 2, 0, 0, 0, 3, 0xff];
        assert_eq!(handle_of(&packet), Some(0x1234));
        assert_eq!(handle_of(&packet[..12]), Some(0x1234));
        assert_eq!(handle_of(&packet[..11]), None);
        assert_eq!(handle_of(&[0b0011_1000, 0, 0x12, 0x34, 0, 1, 0, 2, 0, 0, 0, 3]), None);
        assert_eq!(handle_of(&[]), None);
    }

    #[test]
    fn nothing_is_left_of_who_is_forgotten() {
        let mut keys = slotmap::SlotMap::<ParticipantKey, ()>::with_key();
        let (alice, bob) = (keys.insert(()), keys.insert(()));
        let mut tracks = DataTracks::default();
        tracks.publish(alice, TrackId(1), 7, None);
        tracks.publish(bob, TrackId(2), 7, None);
        tracks.subscribe(TrackId(1), Subscriber { participant: bob, handle: 1 });
        tracks.subscribe(TrackId(2), Subscriber { participant: alice, handle: 1 });
        tracks.forget(alice);
        assert_eq!((tracks.tracks.len(), tracks.by_handle.len()), (1, 1));
        assert!(tracks.subscriber(TrackId(2), 0).is_none());
    }

    #[test]
    fn a_handle_that_is_used_again_names_the_new_track() {
        let mut keys = slotmap::SlotMap::<ParticipantKey, ()>::with_key();
        let alice = keys.insert(());
        let mut tracks = DataTracks::default();
        tracks.publish(alice, TrackId(1), 7, None);
        tracks.publish(alice, TrackId(2), 7, None);
        assert_eq!(tracks.by_handle.get(&(alice, 7)), Some(&TrackId(2)));
        assert!(!tracks.tracks.contains_key(&TrackId(1)));
    }
}
