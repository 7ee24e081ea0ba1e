//! The subscribers' side of a link: mirrors of what is published elsewhere, and what is asked back.

use std::time::{Duration, Instant};

use sfu_api::{Command, MediaKind, MediaSource, ParticipantId, PublishRequest, TrackId};
use slotmap::Key as _;

use super::message::{CodecWish, Message, Opened, Packet, split_frame};
use super::{Guest, LinkId, Origin};
use crate::audio::forms::{MADE, Source};
use crate::control::Found;
use crate::error::Discard;
use crate::ids::{ParticipantKey, PeerKey, RoomKey, UpKey};
use crate::media::{Mid, NegotiatedCodec};
use crate::negotiate::UpMedia;
use crate::publish::UpTrack;
use crate::publish::encoding::{Arrived, ReceivedSenderReport};
use crate::publish::ring::Meta;
use crate::room::Participant;
use crate::rtp::payload;
use crate::shard::Shard;

/// Payload type of packets with redundancy on a transport that does not exist.
const ANY_TYPE: u8 = 63;

impl Shard {
    /// Takes whole frames that have come by a link. Bad ones are counted and dropped.
    pub fn handle_relay(&mut self, now: Instant, link: LinkId, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let Some((frame, rest)) = split_frame(bytes) else {
                self.discards.add(Discard::RelayMalformed);
                return;
            };
            bytes = rest;
            let result = Message::parse(frame).ok_or(Discard::RelayMalformed).and_then(|message| self.take_message(now, link, message));
            if let Err(reason) = result {
                self.discards.add(reason);
            }
        }
    }

    fn take_message(&mut self, now: Instant, link: LinkId, message: Message<'_>) -> Found {
        let mirror = |handle| self.relay.mirror(link, handle).ok_or(Discard::RelayUnknown);
        match message {
            Message::Packet(packet) => return self.take_packet(now, link, &packet),
            Message::Attach { room, is_first } => {
                if let Some(&key) = self.directory.rooms.get(&room) {
                    self.attach_link(key, link, is_first);
                } else {
                    self.relay.push(link, &Message::Detach { room });
                    if is_first {
                        self.relay.early.keep(link, room, now);
                    }
                }
            }
            Message::Detach { room } => {
                self.relay.early.forget(link, room);
                if let Some(&key) = self.directory.rooms.get(&room) {
                    self.forget_link(key, link, now);
                }
            }
            Message::Open(opened) => return self.open_mirror(link, *opened, now),
            Message::Close { handle } => {
                let key = mirror(handle)?;
                if let Some(primary) = self.ups.get(key).and_then(|up| up.primary) {
                    self.part_codecs(primary, key, now);
                }
                let guest = self.ups.get(key).map(|up| up.participant);
                self.remove_up(key);
                self.dismiss_if_idle(guest);
            }
            Message::Muted { handle, is_muted } => {
                let track = self.ups.get(mirror(handle)?).ok_or(Discard::RelayUnknown)?.id;
                return self.set_muted(track, is_muted, now);
            }
            Message::StartOver { handle, encoding } => {
                let key = mirror(handle)?;
                let up = self.ups.get_mut(key).ok_or(Discard::RelayUnknown)?;
                let clock_rate_hz = up.codec.codec.clock_rate_hz();
                up.encodings.get_mut(usize::from(encoding)).ok_or(Discard::RelayMalformed)?.follow_new_stream(clock_rate_hz);
                self.restart_flows(key, usize::from(encoding), now);
            }
            Message::Reform { handle, has_red } => {
                let key = mirror(handle)?;
                let codec = self.ups.get(key).ok_or(Discard::RelayUnknown)?.codec.clone();
                self.change_numbers(key, NegotiatedCodec { red_payload_type: has_red.then_some(ANY_TYPE), ..codec }, now);
            }
            Message::SenderReport { handle, encoding, ntp, rtp, age_us } => {
                let up = self.ups.get_mut(mirror(handle)?).ok_or(Discard::RelayUnknown)?;
                let encoding = up.encodings.get_mut(usize::from(encoding)).ok_or(Discard::RelayMalformed)?;
                let at = now.checked_sub(Duration::from_micros(age_us.into())).unwrap_or(now);
                encoding.sender_report = Some(ReceivedSenderReport { ntp, rtp, at });
            }
            Message::Activity { handle, flowing } => {
                let key = mirror(handle)?;
                let up = self.ups.get_mut(key).ok_or(Discard::RelayUnknown)?;
                for (index, encoding) in up.encodings.iter_mut().enumerate().take(8) {
                    encoding.flows_elsewhere = flowing & (1 << index) != 0;
                }
                self.wake_up(key);
            }
            Message::Level { handle, level } => {
                let up = self.ups.get(mirror(handle)?).filter(|up| up.kind() == MediaKind::Audio).ok_or(Discard::RelayUnknown)?;
                let room = self.participants.get(up.participant).map(|guest| guest.room);
                if let Some(key) = room
                    && let Some(room) = self.rooms.get_mut(key)
                {
                    room.speakers.level(up.id.0, up.participant.data().as_ffi(), level, now);
                    if !std::mem::replace(&mut room.is_vocal, true) {
                        self.awake.vocal.push(key);
                    }
                }
            }
            Message::DataOpen { room, participant, track, handle } => {
                let &room = self.directory.rooms.get(&room).ok_or(Discard::RelayUnknown)?;
                let guest = self.guest(room, link, participant);
                self.mirror_data_track(guest, link, track, handle);
                self.carry_out_parked(track, now);
            }
            Message::DataClose { track } => {
                let guest = self.end_data_mirror(link, track);
                self.dismiss_if_idle(guest);
            }
            Message::DataPacket { track, bytes } => return self.take_data_packet(now, link, track, bytes),
            Message::Want { handle, encodings } => self.take_want(link, handle, encodings, now),
            Message::Keyframe { handle, encoding } => self.take_keyframe_want(link, handle, encoding, now),
            Message::Wanted { handle, codecs } => self.take_wishes(link, handle, codecs, now),
            Message::DataWant { track, is_wanted } => self.take_data_want(link, track, is_wanted),
        }
        Ok(())
    }

    pub(super) fn attach_link(&mut self, key: RoomKey, link: LinkId, is_first: bool) {
        let room = &mut self.rooms[key];
        room.shared.is_shared = true;
        if !room.shared.links.contains(&link) {
            room.shared.links.push(link);
        }
        let id = room.id;
        self.announce_room(key, link);
        if is_first {
            self.relay.push(link, &Message::Attach { room: id, is_first: false });
        }
    }

    /// Another shard has nobody in a room any more: what it published there is gone, and nothing crosses to it.
    pub(super) fn forget_link(&mut self, key: RoomKey, link: LinkId, now: Instant) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        let was_home = room.shared.is_home(self.relay.own);
        room.shared.links.retain(|&other| other != link);
        if !was_home && room.shared.is_home(self.relay.own) {
            self.take_over_speakers(key);
        }
        let Some(room) = self.rooms.get_mut(key) else { return };
        let (gone, left): (Vec<Guest>, Vec<Guest>) = room.shared.guests.iter().partition(|guest| guest.link == link);
        room.shared.guests = left;
        let participants = room.participants.clone();
        self.stop_crossing(&participants, link);
        self.stop_data_crossing(&participants, link);
        for guest in gone {
            self.remove_guest(guest.key, now);
        }
    }

    /// What another shard told signaling of speakers is told by this one from here on.
    pub(super) fn take_over_speakers(&mut self, key: RoomKey) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.speakers.take_over();
        if !std::mem::replace(&mut room.is_vocal, true) {
            self.awake.vocal.push(key);
        }
    }

    /// A guest is there for what it publishes.
    fn dismiss_if_idle(&mut self, guest: Option<ParticipantKey>) {
        let Some(key) = guest else { return };
        let Some(guest) = self.participants.get(key).filter(|guest| guest.is_guest && guest.ups.is_empty()) else { return };
        if self.data_tracks.has_any_of(key) {
            return;
        }
        if let Some(room) = self.rooms.get_mut(guest.room) {
            room.shared.guests.retain(|other| other.key != key);
        }
        self.participants.remove(key);
    }

    fn remove_guest(&mut self, key: ParticipantKey, now: Instant) {
        for up in self.participants.get(key).map(|guest| guest.ups.clone()).unwrap_or_default() {
            if let Some(primary) = self.ups.get(up).and_then(|up| up.primary) {
                self.part_codecs(primary, up, now);
            }
            self.remove_up(up);
        }
        self.data_tracks.forget(key);
        self.participants.remove(key);
    }

    /// The participant to whom mirrors belong; comes with its first track.
    fn guest(&mut self, room: RoomKey, link: LinkId, id: ParticipantId) -> ParticipantKey {
        let known = self.rooms[room].shared.guests.iter().find(|guest| guest.link == link && guest.id == id);
        if let Some(guest) = known {
            return guest.key;
        }
        let key = self.participants.insert(Participant { is_guest: true, ..Participant::new(id, room) });
        self.rooms[room].shared.guests.push(Guest { link, id, key });
        key
    }

    fn open_mirror(&mut self, link: LinkId, opened: Opened, now: Instant) -> Found {
        let &room = self.directory.rooms.get(&opened.room).ok_or(Discard::RelayUnknown)?;
        if self.relay.mirror(link, opened.handle).is_some() {
            return Err(Discard::RelayMalformed);
        }
        let primary = match opened.primary {
            Some(primary) => Some(self.relay.mirror(link, primary).ok_or(Discard::RelayUnknown)?),
            // A participant that has moved here under the same track id: the newer one counts.
            None => {
                if let Some(&known) = self.directory.tracks.get(&opened.track) {
                    let before = self.ups.get(known).map(|up| up.participant);
                    self.remove_up(known);
                    self.dismiss_if_idle(before);
                }
                None
            }
        };
        let guest = self.guest(room, link, opened.participant);
        let mut up = mirrored(&opened, guest).ok_or(Discard::RelayMalformed)?;
        up.crossing.origin = Some(Origin { link, handle: opened.handle });
        let key = self.ups.insert(up);
        self.relay.link(link).mirrors.insert(opened.handle, key);
        self.participants[guest].ups.push(key);
        match primary {
            Some(primary) => self.join_codecs(primary, key, now),
            None => {
                self.directory.tracks.insert(opened.track, key);
                self.carry_out_parked(opened.track, now);
            }
        }
        Ok(())
    }

    fn take_packet(&mut self, now: Instant, link: LinkId, packet: &Packet<'_>) -> Found {
        self.relay.received += 1;
        let key = self.relay.mirror(link, packet.handle).ok_or(Discard::RelayUnknown)?;
        let up = self.ups.get_mut(key).ok_or(Discard::RelayUnknown)?;
        let room = self.participants.get(up.participant).and_then(|guest| self.rooms.get(guest.room));
        let is_forwarded = !up.is_muted && up.is_heard(room.is_none_or(|room| !room.speakers.drowns(up.id.0)));
        let index = usize::from(packet.encoding);
        let encoding = up.encodings.get_mut(index).ok_or(Discard::RelayMalformed)?;
        let (info, layering) = payload::read(up.codec.codec, packet.payload);
        let meta = Meta {
            block_len: u16::try_from(packet.block.len()).map_err(|_| Discard::RelayMalformed)?,
            descriptor: packet.descriptor,
            payload: info,
            ..Meta::plain(packet.sequence, packet.timestamp, packet.marker)
        };
        let arrived = Arrived { meta, layering: &layering, block: packet.block, payload: packet.payload };
        if encoding.store(arrived, is_forwarded, now)? {
            self.egress.mark(key, index);
        }
        if up.make_form(&Source { meta: &meta, block: packet.block, payload: packet.payload }, is_forwarded, now) {
            self.egress.mark(key, MADE);
        }
        if !up.is_awake {
            self.wake_up(key);
        }
        Ok(())
    }

    /// Asks the publisher's shard for the encodings that somebody here gets or waits for. What is not wanted any more is given
    /// up only with `may_shrink`, since subscribers go to and fro.
    pub(crate) fn ask_for_encodings(&mut self, key: UpKey, may_shrink: bool) {
        let Some(up) = self.ups.get(key) else { return };
        let Some(Origin { link, handle }) = up.crossing.origin else { return };
        let mut wanted =
            up.waiting.iter().filter_map(|&down| self.downs.get(down)?.flow.wanted).fold(0, |bits, w| bits | (1 << w.encoding));
        for (index, _) in up.encodings.iter().enumerate().filter(|(_, encoding)| !encoding.live.is_empty()) {
            wanted |= 1 << index;
        }
        if up.kind() == MediaKind::Audio {
            // Both forms are made of the one that is sent.
            wanted = u8::from(wanted != 0);
        }
        let told = up.crossing.told;
        let asked = if may_shrink { wanted } else { wanted | told };
        if asked != told {
            self.ups[key].crossing.told = asked;
            self.relay.push(link, &Message::Want { handle, encodings: asked });
        }
    }

    /// Passes on that subscribers of a mirror need a keyframe.
    pub(crate) fn ask_for_keyframes(&mut self, key: UpKey, now: Instant) {
        self.ask_for_encodings(key, false);
        let Some(up) = self.ups.get_mut(key) else { return };
        let Some(Origin { link, handle }) = up.crossing.origin else { return };
        let is_video = up.codec.codec.is_video();
        for (index, encoding) in (0_u8..).zip(&mut up.encodings) {
            if !encoding.keyframe.is_wanted() {
                continue;
            }
            if !is_video || up.is_muted || up.crossing.told & (1 << index) == 0 {
                encoding.keyframe.satisfy();
            } else if encoding.keyframe.take_due(now) {
                self.relay.push(link, &Message::Keyframe { handle, encoding: index });
            }
        }
    }

    /// Passes on what subscribers here want of a mirror's codecs, if that has changed.
    pub(crate) fn tell_wishes(&mut self, key: UpKey, wishes: impl Iterator<Item = CodecWish>) {
        let Some(up) = self.ups.get_mut(key) else { return };
        let Some(Origin { link, handle }) = up.crossing.origin else { return };
        let codecs: super::message::CodecWishes = wishes.take(up.crossing.told_wishes.capacity()).collect();
        if up.crossing.told_wishes != codecs {
            up.crossing.told_wishes = codecs.clone();
            self.relay.push(link, &Message::Wanted { handle, codecs });
        }
    }

    /// True if the command was kept: the track that it names may be on its way from another shard.
    pub(crate) fn park(&mut self, now: Instant, command: &Command) -> bool {
        let is_early = match command {
            Command::Subscribe { participant, track, .. } => self.awaits(*participant, self.room_of_track(*track)),
            Command::SubscribeData { participant, track, .. } => self.awaits(*participant, self.room_of_data_track(*track)),
            _ => false,
        };
        let is_behind = !self.relay.parked.is_empty() && self.relay.parked.is_behind(command);
        (is_early || is_behind) && self.relay.parked.keep(now, command)
    }

    /// A track that is not in the participant's room (not yet, or still in another) may be announced there by another shard.
    fn awaits(&self, participant: ParticipantId, room: Option<RoomKey>) -> bool {
        let key = self.directory.participants.get(&participant);
        let own = key.and_then(|&key| self.participants.get(key)).map(|participant| participant.room);
        own != room && own.and_then(|key| self.rooms.get(key)).is_some_and(|room| room.shared.is_shared)
    }

    fn room_of_track(&self, track: TrackId) -> Option<RoomKey> {
        self.directory.tracks.get(&track).and_then(|&up| self.room_of(up))
    }

    fn room_of_data_track(&self, track: TrackId) -> Option<RoomKey> {
        Some(self.participants.get(self.data_tracks.publisher(track)?)?.room)
    }

    fn carry_out_parked(&mut self, track: TrackId, now: Instant) {
        if !self.relay.parked.is_empty() {
            for command in self.relay.parked.take(track) {
                self.carry_out(now, command);
            }
        }
    }

    /// Commands whose track has not come are answered as if nothing were on its way.
    pub(crate) fn give_up_waiting(&mut self, now: Instant) {
        self.relay.early.drop_overdue(now);
        if !self.relay.parked.is_empty() {
            for command in self.relay.parked.take_overdue(now) {
                self.carry_out(now, command);
            }
        }
    }

    /// Nothing of who has left waits.
    pub(crate) fn forget_parked(&mut self, participant: ParticipantId) {
        self.relay.parked.forget(participant);
    }
}

/// An up track that has no transport.
fn mirrored(opened: &Opened, guest: ParticipantKey) -> Option<UpTrack> {
    let is_video = opened.codec.is_video();
    let codec = NegotiatedCodec {
        codec: opened.codec,
        payload_type: 0,
        rtx_payload_type: None,
        red_payload_type: opened.has_red.then_some(ANY_TYPE),
        fmtp: opened.fmtp.clone(),
        // What is missing is asked for where it is published.
        has_nack: false,
        has_pli: false,
        has_fir: false,
        has_transport_cc: false,
        has_remb: false,
    };
    let media = UpMedia {
        mid: Mid::new(),
        kind: if is_video { MediaKind::Video } else { MediaKind::Audio },
        track_cid: None,
        is_sending: true,
        codecs: vec![codec],
        extensions: crate::media::ExtensionMap::default(),
        rids: opened.encodings.iter().filter_map(|encoding| encoding.rid).collect(),
        ssrcs: Vec::new(),
    };
    let request = PublishRequest {
        cid: String::new(),
        kind: media.kind,
        preferred_codec: String::new(),
        stereo: opened.stereo,
        dtx: opened.dtx,
        muted: opened.is_muted,
        width_px: 0,
        height_px: 0,
        layers: Vec::new(),
        red: opened.red,
        backup_codecs: opened.announced_backups.iter().map(|codec| codec.mime().to_owned()).collect(),
        backup_policy: opened.backup_policy,
        source: if opened.is_screen { MediaSource::Screen } else { MediaSource::Person },
    };
    let mut up = UpTrack::new(opened.track, guest, PeerKey::null(), &media, &request)?;
    if up.encodings.len() != opened.encodings.len() {
        return None;
    }
    for (encoding, known) in up.encodings.iter_mut().zip(&opened.encodings) {
        (encoding.width_px, encoding.height_px) = known.size;
        encoding.announced_layers.clone_from(&known.layers);
    }
    Some(up)
}
