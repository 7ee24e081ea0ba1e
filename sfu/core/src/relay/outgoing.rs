//! The publisher's side of a link: announcements of what is published here, its packets, and the wishes that come back.

use std::time::{Duration, Instant};

use slotmap::{Key, KeyData};

use super::message::{CodecWishes, Handle, Message, Opened, OpenedEncoding, Packet};
use super::{LinkId, Relay, Shared};
use crate::ids::{ParticipantKey, RoomKey, UpKey};
use crate::publish::UpTrack;
use crate::publish::encoding::{Arrived, Encoding};
use crate::publish::ring::Meta;
use crate::rtp::extension::AudioLevel;
use crate::shard::Shard;

/// A keyframe may be so much older than the wish for it.
const RELAYED_AGE: Duration = Duration::from_millis(250);

/// How a track of this shard is called on links.
pub(super) fn handle_of(up: UpKey) -> Handle {
    Handle(up.data().as_ffi())
}

fn key_of(handle: Handle) -> UpKey {
    KeyData::from_ffi(handle.0).into()
}

impl Relay {
    /// A packet that was just stored crosses to every shard with somebody who wants its encoding.
    pub(crate) fn packet(&mut self, up: UpKey, index: usize, encoding: &Encoding, arrived: &Arrived<'_>) {
        for &link in &encoding.relayed {
            self.send_packet(link, up, index, &arrived.meta, arrived.block, arrived.payload);
        }
    }

    fn send_packet(&mut self, link: LinkId, up: UpKey, index: usize, meta: &Meta, block: &[u8], payload: &[u8]) {
        let Ok(encoding) = u8::try_from(index) else { return };
        let packet = Packet {
            handle: handle_of(up),
            encoding,
            sequence: meta.sequence,
            timestamp: meta.timestamp,
            marker: meta.marker,
            descriptor: meta.descriptor,
            block,
            payload,
        };
        self.link(link).outbox.push_media(&Message::Packet(packet), up, encoding);
    }

    /// The level of an audio packet goes to all shards of the room: each knows who speaks.
    pub(crate) fn level(&mut self, shared: &Shared, up: UpKey, level: AudioLevel) {
        for &link in &shared.links {
            self.link(link).outbox.push_fleeting(&Message::Level { handle: handle_of(up), level });
        }
    }
}

impl Shard {
    /// Tells another shard of everything that is published here in a room.
    pub(super) fn announce_room(&mut self, room: RoomKey, link: LinkId) {
        let participants = self.rooms.get(room).map(|room| room.participants.clone()).unwrap_or_default();
        for participant in participants {
            self.announce_participant(participant, link);
        }
    }

    fn announce_participant(&mut self, key: ParticipantKey, link: LinkId) {
        let ups = self.participants.get(key).map(|participant| participant.ups.clone()).unwrap_or_default();
        // Backups name their preferred codec, which is announced first.
        let (primary, backup): (Vec<_>, Vec<_>) = ups.into_iter().partition(|&up| self.ups.get(up).is_some_and(|up| up.primary.is_none()));
        for up in primary.into_iter().chain(backup) {
            self.announce_up(up, link);
        }
        self.announce_data_tracks(key, link);
    }

    /// Tells the other shards of a room what a participant publishes, when it has come into that room.
    pub(crate) fn announce_everywhere(&mut self, key: ParticipantKey) {
        for link in self.links_of(key) {
            self.announce_participant(key, link);
        }
    }

    /// The shards with which a participant's room is shared.
    pub(crate) fn links_of(&self, key: ParticipantKey) -> Vec<LinkId> {
        let room = self.participants.get(key).and_then(|participant| self.rooms.get(participant.room));
        room.map(|room| room.shared.links.clone()).unwrap_or_default()
    }

    /// Tells the other shards of a new track.
    pub(crate) fn announce_track(&mut self, up: UpKey) {
        let Some(owner) = self.ups.get(up).map(|up| up.participant) else { return };
        for link in self.links_of(owner) {
            self.announce_up(up, link);
        }
    }

    fn announce_up(&mut self, key: UpKey, link: LinkId) {
        let Some(up) = self.ups.get_mut(key) else { return };
        let Some(participant) = self.participants.get(up.participant) else { return };
        let Some(room) = self.rooms.get(participant.room) else { return };
        if up.crossing.is_mirror() || up.crossing.to.contains(&link) {
            return;
        }
        up.crossing.to.push(link);
        // The made form of audio is made anew where it is needed.
        let sent = if up.kind() == sfu_api::MediaKind::Video { up.encodings.len() } else { 1 };
        let encoding = |encoding: &Encoding| OpenedEncoding {
            rid: encoding.rid,
            size: (encoding.width_px, encoding.height_px),
            layers: encoding.announced_layers.clone(),
        };
        let opened = Opened {
            handle: handle_of(key),
            room: room.id,
            participant: participant.id,
            track: up.id,
            primary: up.primary.map(handle_of),
            codec: up.codec.codec,
            fmtp: up.codec.fmtp.clone(),
            has_red: up.codec.red_payload_type.is_some(),
            stereo: up.wish.stereo,
            dtx: up.wish.dtx,
            red: up.wish.red,
            is_muted: up.is_muted,
            is_screen: up.is_screen,
            encodings: up.encodings.iter().take(sent).map(encoding).collect(),
            announced_backups: up.announced_backups.iter().copied().collect(),
            backup_policy: up.backup_policy,
        };
        let flowing = up.crossing.told;
        self.relay.push(link, &Message::Open(Box::new(opened)));
        self.relay.push(link, &Message::Activity { handle: handle_of(key), flowing });
    }

    /// Ends a participant's tracks for the other shards, while it moves to another room.
    pub(crate) fn withdraw(&mut self, key: ParticipantKey) {
        for up in self.participants.get(key).map(|participant| participant.ups.clone()).unwrap_or_default() {
            let Some(track) = self.ups.get_mut(up) else { continue };
            let to = std::mem::take(&mut track.crossing.to);
            track.crossing.wishes.clear();
            track.encodings.iter_mut().for_each(|encoding| encoding.relayed.clear());
            for link in to {
                self.relay.push(link, &Message::Close { handle: handle_of(up) });
            }
        }
        self.withdraw_data_tracks(key);
    }

    /// A track is gone.
    pub(crate) fn close_crossing(&mut self, key: UpKey, up: &UpTrack) {
        for &link in &up.crossing.to {
            self.relay.push(link, &Message::Close { handle: handle_of(key) });
        }
        if let Some(origin) = up.crossing.origin {
            self.relay.link(origin.link).mirrors.remove(&origin.handle);
        }
    }

    /// Tells every shard that knows a track of something about it.
    fn tell(&mut self, key: UpKey, message: &Message<'_>) {
        let Some(up) = self.ups.get(key) else { return };
        for &link in &up.crossing.to {
            self.relay.push(link, message);
        }
    }

    pub(crate) fn tell_muted(&mut self, key: UpKey, is_muted: bool) {
        self.tell(key, &Message::Muted { handle: handle_of(key), is_muted });
    }

    pub(crate) fn tell_start_over(&mut self, key: UpKey, index: usize) {
        if let Ok(encoding) = u8::try_from(index) {
            self.tell(key, &Message::StartOver { handle: handle_of(key), encoding });
        }
    }

    pub(crate) fn tell_form(&mut self, key: UpKey) {
        if let Some(has_red) = self.ups.get(key).map(|up| up.codec.red_payload_type.is_some()) {
            self.tell(key, &Message::Reform { handle: handle_of(key), has_red });
        }
    }

    /// The clock of an encoding, to every shard to which the track flows.
    pub(crate) fn tell_clock(&mut self, key: UpKey, index: usize, now: Instant) {
        let Some(up) = self.ups.get(key) else { return };
        let mut links: Vec<LinkId> = up.encodings.iter().flat_map(|encoding| encoding.relayed.iter().copied()).collect();
        links.sort_unstable();
        links.dedup();
        for link in links {
            self.send_clock(link, key, index, now);
        }
    }

    fn send_clock(&mut self, link: LinkId, key: UpKey, index: usize, now: Instant) {
        let report = self.ups.get(key).and_then(|up| up.encodings.get(index)?.sender_report);
        let (Some(report), Ok(encoding)) = (report, u8::try_from(index)) else { return };
        let age_us = u32::try_from(now.saturating_duration_since(report.at).as_micros()).unwrap_or(u32::MAX);
        let message = Message::SenderReport { handle: handle_of(key), encoding, ntp: report.ntp, rtp: report.rtp, age_us };
        self.relay.push(link, &message);
    }

    /// Tells the other shards when encodings begin or cease to flow.
    pub(super) fn tell_activity(&mut self, key: UpKey, now: Instant) {
        let Some(up) = self.ups.get_mut(key) else { return };
        let flowing = (0..).zip(&up.encodings).fold(0, |bits, (index, encoding)| bits | (u8::from(encoding.is_flowing(now)) << index));
        if std::mem::replace(&mut up.crossing.told, flowing) != flowing {
            self.tell(key, &Message::Activity { handle: handle_of(key), flowing });
        }
    }

    /// The track of this shard that another one means.
    fn own_track(&self, link: LinkId, handle: Handle) -> Option<UpKey> {
        let key = key_of(handle);
        self.ups.get(key).filter(|up| up.crossing.to.contains(&link)).map(|_| key)
    }

    /// Another shard says which encodings of a track it wants.
    pub(super) fn take_want(&mut self, link: LinkId, handle: Handle, wanted: u8, now: Instant) {
        let Some(key) = self.own_track(link, handle) else { return };
        let Self { ups, relay, .. } = self;
        let Some(up) = ups.get_mut(key) else { return };
        let mut has_begun = false;
        for (index, encoding) in up.encodings.iter_mut().enumerate().take(8) {
            let is_wanted = wanted & (1 << index) != 0;
            let was_wanted = encoding.relayed.contains(&link);
            if was_wanted && !is_wanted {
                encoding.relayed.retain(|&other| other != link);
            }
            if !is_wanted || was_wanted {
                continue;
            }
            has_begun = true;
            // What has not been forwarded yet crosses too: it is stored, and nobody sends it later.
            // Its subscribers there may have seen newer pictures than that of an old keyframe.
            let start = encoding.keyframe_for(now, now.checked_sub(RELAYED_AGE), now).filter(|_| !up.is_muted);
            if let Some(start) = start {
                let range = start.sequence..=encoding.highest().unwrap_or(start.sequence);
                for stored in range.filter_map(|sequence| encoding.ring.get(sequence)) {
                    let (block, payload) = stored.bytes.split_at(usize::from(stored.meta.block_len));
                    relay.send_packet(link, key, index, stored.meta, block, payload);
                }
            }
            encoding.relayed.push(link);
        }
        if has_begun {
            for index in 0..up.encodings.len() {
                self.send_clock(link, key, index, now);
            }
        }
    }

    /// A subscriber of another shard needs a keyframe.
    pub(super) fn take_keyframe_want(&mut self, link: LinkId, handle: Handle, index: u8, now: Instant) {
        let Some(key) = self.own_track(link, handle) else { return };
        if let Some(encoding) = self.ups.get_mut(key).and_then(|up| up.encodings.get_mut(usize::from(index))) {
            encoding.keyframe.want();
            self.request_keyframes(key, now);
        }
    }

    /// What the subscribers of another shard want of a track's codecs.
    pub(super) fn take_wishes(&mut self, link: LinkId, handle: Handle, codecs: CodecWishes, now: Instant) {
        let Some(key) = self.own_track(link, handle) else { return };
        let Some(up) = self.ups.get_mut(key) else { return };
        up.crossing.wishes.retain(|(other, _)| *other != link);
        up.crossing.wishes.push((link, codecs));
        self.review_wanted(key, now);
    }

    /// Another shard has nothing to do any more with the tracks of these.
    pub(super) fn stop_crossing(&mut self, participants: &[ParticipantKey], link: LinkId) {
        for up in participants.iter().filter_map(|&key| self.participants.get(key)).flat_map(|participant| &participant.ups) {
            if let Some(up) = self.ups.get_mut(*up) {
                up.crossing.to.retain(|&other| other != link);
                up.crossing.wishes.retain(|(other, _)| *other != link);
                up.encodings.iter_mut().for_each(|encoding| encoding.relayed.retain(|&other| other != link));
            }
        }
    }
}

impl super::Crossing {
    /// What is wanted of the track's codecs on other shards.
    pub(crate) fn wishes(&self) -> impl Iterator<Item = super::message::CodecWish> + '_ {
        self.wishes.iter().flat_map(|(_, codecs)| codecs.iter().copied())
    }
}
