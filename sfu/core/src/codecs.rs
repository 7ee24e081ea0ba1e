//! Several codecs of one track: which one a subscriber gets, which ones the publisher should send.
//!
//! The preferred codec of a track and each backup are up tracks of their own under one [`TrackId`]; the directory names the
//! preferred one, which lists the others. A subscription is attached to one of them: the first that its client decodes. Once
//! a backup flows under [`BackupPolicy::Regress`], that one comes first for everybody.
//! Not here: which encoding of a codec (`route`), offers (`descriptions`).

use std::time::Instant;

use sfu_api::{BackupPolicy, Event, PublishRequest, SubscriptionError, TrackId, WantedCodec};
use slotmap::Key;

use crate::control::Found;
use crate::error::Discard;
use crate::ids::{DownKey, ParticipantKey, UpKey};
use crate::limits::MAX_BACKUP_CODECS;
use crate::media::Codec;
use crate::negotiate::{DownChoice, assumed_fmtp, configuration};
use crate::publish::UpTrack;
use crate::shard::Shard;
use crate::subscribe::selector::wanted_rung;
use crate::subscribe::stream_state::PauseCause;

impl Shard {
    /// A publisher will send a further codec of one of its tracks.
    pub(crate) fn announce_codec(&mut self, key: ParticipantKey, track: TrackId, request: PublishRequest) -> Found {
        let primary = *self.directory.tracks.get(&track).ok_or(Discard::UnknownEntity)?;
        let up = self.ups.get(primary).filter(|up| up.participant == key).ok_or(Discard::UnknownEntity)?;
        let participant = self.participants.get_mut(key).ok_or(Discard::UnknownEntity)?;
        let pending = participant.pending.iter().filter(|(id, _)| *id == track).count();
        let is_known = participant.pending.iter().any(|(_, known)| known.cid == request.cid);
        if !is_known && up.backups.len() + pending < MAX_BACKUP_CODECS {
            participant.pending.push((track, request));
        }
        Ok(())
    }

    /// A backup's media is negotiated.
    pub(crate) fn join_codecs(&mut self, primary: UpKey, backup: UpKey, now: Instant) {
        let Some(up) = self.ups.get_mut(primary) else { return };
        up.backups.push(backup);
        let is_muted = up.is_muted;
        if let Some(backup) = self.ups.get_mut(backup) {
            backup.primary = Some(primary);
            backup.is_muted = is_muted;
        }
        let choices = self.choices(primary);
        let Some(added) = self.ups.get(backup).map(|up| up.configuration) else { return };
        for key in self.downs_of_track(primary) {
            let Some(down) = self.downs.get(key) else { continue };
            if down.offered.contains(&added) {
                self.choose_codec(key, now);
                continue;
            }
            // Not what was assumed when the subscriber was asked: it has to be asked again.
            let Some(owner) = self.peers.get(down.peer).map(|peer| peer.participant) else { continue };
            if let Some(participant) = self.participants.get_mut(owner) {
                participant.set_down_codecs(key.data().as_ffi(), choices.clone());
                self.unnegotiated.insert(owner);
            }
            if let Some(down) = self.downs.get_mut(key) {
                down.offered = configurations(&choices);
            }
        }
    }

    /// A backup ends; who got it gets what is left.
    pub(crate) fn part_codecs(&mut self, primary: UpKey, backup: UpKey, now: Instant) {
        let Some(up) = self.ups.get_mut(primary) else { return };
        up.backups.retain(|&other| other != backup);
        up.is_regressed &= !up.backups.is_empty();
        let left = self.ups.get(backup).map(|up| up.downs.clone()).unwrap_or_default();
        for down in left {
            self.attach(down, primary);
            self.choose_codec(down, now);
        }
    }

    /// The codecs in which a subscriber may get a track, the best first.
    pub(crate) fn choices(&self, primary: UpKey) -> Vec<DownChoice> {
        let Some(up) = self.ups.get(primary) else { return Vec::new() };
        let choice = |up: &UpTrack| DownChoice { codec: up.codec.codec, fmtp: up.codec.fmtp.clone(), has_red: up.wish.red };
        let mut choices = vec![choice(up)];
        choices.extend(up.backups.iter().filter_map(|&backup| self.ups.get(backup)).map(choice));
        for &codec in &up.announced_backups {
            if choices.iter().all(|known| known.codec != codec) {
                choices.push(DownChoice { codec, fmtp: assumed_fmtp(codec).to_owned(), has_red: false });
            }
        }
        choices
    }

    /// Every subscription to a track, whatever its codec.
    pub(crate) fn downs_of_track(&self, primary: UpKey) -> Vec<DownKey> {
        let Some(up) = self.ups.get(primary) else { return Vec::new() };
        let backups = up.backups.iter().filter_map(|&backup| self.ups.get(backup));
        up.downs.iter().copied().chain(backups.flat_map(|backup| backup.downs.iter().copied())).collect()
    }

    /// Attaches a subscription to the best codec that its client decodes, and lets that flow.
    pub(crate) fn choose_codec(&mut self, key: DownKey, now: Instant) {
        let Some(down) = self.downs.get(key) else { return };
        let Some(primary) = self.primary_of(down.up) else { return };
        let Some(up) = self.ups.get(primary) else { return };
        let in_order = up.backups.iter().copied();
        let order: Vec<UpKey> =
            if up.is_regressed { in_order.chain([primary]).collect() } else { [primary].into_iter().chain(in_order).collect() };
        let format_of = |up: &UpKey| {
            let configuration = self.ups.get(*up)?.configuration;
            down.formats.iter().find(|format| format.configuration == configuration).copied()
        };
        let chosen = order.iter().find_map(|up| Some((*up, format_of(up)?)));
        let (to, format) = match chosen {
            Some((to, format)) => (to, Some(format)),
            // It waits for a codec that is not there yet.
            None => (primary, None),
        };
        if down.up != to {
            self.attach(key, to);
        }
        let Some(down) = self.downs.get_mut(key) else { return };
        down.payload_type = format.map(|format| format.payload_type);
        down.rtx_payload_type = format.and_then(|format| format.rtx_payload_type);
        down.red_payload_type = format.and_then(|format| format.red_payload_type);
        if format.is_none() {
            self.stop_flow(key);
        }
        self.retarget(key, now);
        self.review_wanted(primary, now);
    }

    /// Moves a subscription to another codec of its track. Its numbers go on; what was sent before can't be resent.
    fn attach(&mut self, key: DownKey, to: UpKey) {
        self.stop_flow(key);
        let Some(down) = self.downs.get_mut(key) else { return };
        if let Some(from) = self.ups.get_mut(down.up) {
            from.downs.retain(|&other| other != key);
        }
        down.up = to;
        down.leave_source();
        // If the new one has stalled too, its own review says so again.
        down.stream_state.set(PauseCause::Stalled, false);
        let owner = self.peers.get(down.peer).and_then(|peer| self.participants.get(peer.participant));
        if let Some(participant) = owner.map(|participant| participant.id)
            && let Some(is_paused) = down.stream_state.take_change()
        {
            self.events.push_back(Event::StreamState { participant, track: down.track, is_paused });
        }
        if let Some(up) = self.ups.get_mut(to) {
            up.downs.push(key);
        }
    }

    /// The up track of a track's preferred codec.
    pub(crate) fn primary_of(&self, up: UpKey) -> Option<UpKey> {
        Some(self.ups.get(up)?.primary.unwrap_or(up))
    }

    /// Every 100 ms: once a backup flows, everybody may have to move to it.
    pub(crate) fn review_codecs(&mut self, primary: UpKey, now: Instant) {
        let Some(up) = self.ups.get(primary).filter(|up| up.primary.is_none() && up.codec.codec.is_video()) else { return };
        let flows = |&backup: &UpKey| {
            self.ups.get(backup).is_some_and(|up| up.offered(now).iter().any(|encoding| encoding.rungs.iter().any(|rung| rung.is_active)))
        };
        if !up.is_regressed && up.backup_policy == BackupPolicy::Regress && up.backups.iter().any(flows) {
            if let Some(up) = self.ups.get_mut(primary) {
                up.is_regressed = true;
            }
            for down in self.downs_of_track(primary) {
                self.choose_codec(down, now);
            }
        }
        self.review_wanted(primary, now);
    }

    /// Tells signaling if other codecs or layers of a track are wanted than before.
    pub(crate) fn review_wanted(&mut self, primary: UpKey, now: Instant) {
        let Some(up) = self.ups.get(primary) else { return };
        if !up.codec.codec.is_video() || !(up.has_layers() || !up.announced_backups.is_empty() || !up.backups.is_empty()) {
            return;
        }
        let current = self.wanted(primary, now);
        if up.crossing.is_mirror() {
            let wishes: Vec<_> = current.iter().filter_map(|wanted| Some((Codec::by_name(&wanted.mime)?, wanted.max_spatial))).collect();
            return self.tell_wishes(primary, wishes.into_iter());
        }
        let is_sent = |codec: &WantedCodec| up.codec.codec.mime() == codec.mime || self.sends_backup(up, &codec.mime);
        let is_awaited = current.iter().any(|codec| codec.max_spatial.is_some() && !is_sent(codec));
        let Some(up) = self.ups.get_mut(primary) else { return };
        let Some(participant) = self.participants.get(up.participant).map(|participant| participant.id) else { return };
        if let Some(codecs) = up.wanted.update(current, is_awaited, now) {
            self.events.push_back(Event::WantedLayers { participant, track: up.id, codecs });
        }
    }

    fn sends_backup(&self, up: &UpTrack, mime: &str) -> bool {
        up.backups.iter().filter_map(|&backup| self.ups.get(backup)).any(|backup| backup.codec.codec.mime() == mime)
    }

    fn wanted(&self, primary: UpKey, now: Instant) -> Vec<WantedCodec> {
        let Some(up) = self.ups.get(primary) else { return Vec::new() };
        let mut wanted: Vec<(Codec, Option<u8>)> = vec![(up.codec.codec, None)];
        let backups = up.backups.iter().filter_map(|&backup| self.ups.get(backup)).map(|backup| backup.codec.codec);
        for codec in backups.chain(up.announced_backups.iter().copied()) {
            if wanted.iter().all(|(known, _)| *known != codec) {
                wanted.push((codec, None));
            }
        }
        for down in self.downs_of_track(primary).iter().filter_map(|&key| self.downs.get(key)) {
            let Some(up) = self.ups.get(down.up) else { continue };
            let (codec, layer) = if down.payload_type.is_some() {
                (Some(up.codec.codec), self.rung_to_send(down, up, now))
            } else {
                // A codec that it could decode and that is not sent yet.
                let missing = up.announced_backups.iter().copied().find(|&codec| down.takes(configuration(codec, assumed_fmtp(codec))));
                (missing, wanted_rung(&down.wish, &up.ladder(now)))
            };
            let layer = layer.and_then(|layer| u8::try_from(layer).ok());
            for (known, most) in wanted.iter_mut().filter(|(known, _)| Some(*known) == codec) {
                debug_assert!(known.is_video());
                *most = (*most).max(layer);
            }
        }
        for (codec, layer) in up.crossing.wishes() {
            for (_, most) in wanted.iter_mut().filter(|(known, _)| *known == codec) {
                *most = (*most).max(layer);
            }
        }
        wanted.into_iter().map(|(codec, max_spatial)| WantedCodec { mime: codec.mime().to_owned(), max_spatial }).collect()
    }

    /// A client answered which codecs of a subscription it takes.
    pub(crate) fn subscription_answered(&mut self, key: DownKey, now: Instant) {
        let Some(down) = self.downs.get(key) else { return };
        let Some(participant) = self.peers.get(down.peer).and_then(|peer| self.participants.get(peer.participant)) else { return };
        let (id, track) = (participant.id, down.track);
        if down.formats.is_empty() {
            // Forgotten on both sides, so that the client may ask again.
            let primary = self.primary_of(down.up);
            self.remove_down(key);
            self.events.push_back(Event::Subscription { participant: id, track, error: Some(SubscriptionError::CodecUnsupported) });
            if let Some(primary) = primary {
                self.review_wanted(primary, now);
            }
            return;
        }
        let was_accepted = std::mem::replace(&mut self.downs[key].is_accepted, true);
        if !was_accepted {
            self.events.push_back(Event::Subscription { participant: id, track, error: None });
        }
        self.choose_codec(key, now);
    }
}

/// Payload types under which our offers name these.
pub(crate) fn configurations(choices: &[DownChoice]) -> Vec<u8> {
    choices.iter().map(|choice| configuration(choice.codec, &choice.fmtp)).collect()
}
