//! Transports, tracks and subscriptions come and go.
//!
//! Invariant: what is removed is gone from every list and table that named it.

use std::time::Instant;

use rand::RngExt as _;
use sfu_api::{Event, MediaKind, ParticipantId, TrackId, TransportRole};
use slotmap::Key;

use crate::error::Discard;
use crate::ids::{DownKey, ParticipantKey, PeerKey, RoomKey, UpKey};
use crate::negotiate::{PublisherSession, SubscriberSession};
use crate::peer::Peer;
use crate::room::{PublisherSide, SubscriberSide};
use crate::shard::Shard;
use crate::transport::Transport;

impl Shard {
    /// The client itself has ended a track.
    pub(crate) fn end_up(&mut self, key: UpKey, now: Instant) {
        if let Some(primary) = self.ups.get(key).and_then(|up| up.primary) {
            self.part_codecs(primary, key, now);
        }
        if let Some(up) = self.ups.get(key).filter(|up| up.primary.is_none())
            && let Some(participant) = self.participants.get(up.participant)
        {
            self.events.push_back(Event::TrackEnded { participant: participant.id, track: up.id });
            let (owner, track) = (up.participant, up.id);
            if let Some(owner) = self.participants.get_mut(owner) {
                // A backup that was announced must not come back as a track of its own.
                owner.pending.retain(|&(pending, _)| pending != track);
            }
        }
        self.remove_up(key);
    }

    pub(crate) fn remove_up(&mut self, key: UpKey) {
        let Some(up) = self.ups.get(key) else { return };
        for backup in up.backups.clone() {
            self.remove_up(backup);
        }
        let Some(up) = self.ups.get(key) else { return };
        for down in up.downs.clone() {
            self.remove_down(down);
        }
        let Some(up) = self.ups.remove(key) else { return };
        self.sample_last_up(&up);
        self.close_crossing(key, &up);
        match up.primary.and_then(|primary| self.ups.get_mut(primary)) {
            Some(primary) => primary.backups.retain(|&other| other != key),
            None => {
                self.directory.tracks.remove(&up.id);
            }
        }
        if let Some(participant) = self.participants.get_mut(up.participant) {
            participant.ups.retain(|&other| other != key);
            if up.kind() == MediaKind::Audio
                && let Some(room) = self.rooms.get_mut(participant.room)
            {
                room.speakers.remove(up.id.0);
            }
        }
        if let Some(peer) = self.peers.get_mut(up.peer) {
            peer.inbound.tracks.retain(|&(_, other)| other != key);
            // The streams stay known with their replay windows, but carry nothing until they are bound again.
            for stream in peer.inbound.streams.values_mut() {
                stream.carries = stream.carries.filter(|carries| carries.up != key);
            }
        }
    }

    /// Ends a subscription on both sides and in the subscriber's description.
    pub(crate) fn remove_down(&mut self, key: DownKey) {
        self.stop_flow(key);
        let Some(down) = self.downs.remove(key) else { return };
        self.sample_last_down(&down);
        if let Some(up) = self.ups.get_mut(down.up) {
            up.downs.retain(|&other| other != key);
        }
        let Some(peer) = self.peers.get_mut(down.peer) else { return };
        peer.downs.retain(|&other| other != key);
        peer.down_by_ssrc.remove(&down.ssrc);
        let owner = peer.participant;
        if let Some(participant) = self.participants.get_mut(owner) {
            participant.remove_down(key.data().as_ffi());
            self.unnegotiated.insert(owner);
        }
    }

    pub(crate) fn open_subscriber(&mut self, key: ParticipantKey, now: Instant) -> PeerKey {
        let peer = self.open_peer(key, TransportRole::Subscriber, now);
        let mut session = SubscriberSession::new();
        session.enable_data();
        self.peers[peer].transport.open_data_channels();
        self.participants[key].subscriber = Some(SubscriberSide { peer, session });
        self.unnegotiated.insert(key);
        peer
    }

    /// The publisher side; with `session` the client's only one, if that is for both ways.
    pub(crate) fn open_publisher(&mut self, key: ParticipantKey, session: PublisherSession, now: Instant) {
        let peer = self.open_peer(key, TransportRole::Publisher, now);
        if session.is_both_ways() {
            self.peers[peer].transport.expect_data_channels();
        }
        self.participants[key].publisher = Some(PublisherSide { peer, session, remote_ufrag: None });
    }

    pub(crate) fn open_peer(&mut self, participant: ParticipantKey, role: TransportRole, now: Instant) -> PeerKey {
        let transport = Transport::new(now, &self.config.certificate, &self.config.ufrag_prefix, &mut self.rng);
        let ufrag = transport.local_ice().ufrag.clone();
        let peer = self.peers.insert(Peer::new(participant, role, transport, self.rng.random(), now));
        self.demux.add_ufrag(&ufrag, peer);
        self.awake.reports.add(peer);
        self.peer_changed(peer, now);
        peer
    }

    /// New ICE credentials; the old ones stay known until the peer is gone.
    pub(crate) fn restart_peer(&mut self, key: PeerKey) {
        let peer = &mut self.peers[key];
        peer.milestones.on_restart(&mut self.telemetry.measured);
        let transport = &mut peer.transport;
        transport.restart_ice(&mut self.rng);
        let ufrag = transport.local_ice().ufrag.clone();
        self.demux.add_ufrag(&ufrag, key);
    }

    pub(crate) fn close_peer(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get(key) else { return };
        for down in peer.downs.clone() {
            self.remove_down(down);
        }
        if let Some(mut peer) = self.peers.remove(key) {
            peer.transport.close(now, &mut self.egress.outbox);
        }
        self.demux.remove_peer(key);
    }

    pub(crate) fn participant(&self, id: ParticipantId) -> Result<ParticipantKey, Discard> {
        self.directory.participants.get(&id).copied().ok_or(Discard::UnknownEntity)
    }

    pub(crate) fn room_of(&self, up: UpKey) -> Option<RoomKey> {
        Some(self.participants.get(self.ups.get(up)?.participant)?.room)
    }

    pub(crate) fn down_of(&self, peer: PeerKey, track: TrackId) -> Option<DownKey> {
        self.peers.get(peer)?.downs.iter().copied().find(|&down| self.downs.get(down).is_some_and(|down| down.track == track))
    }
}
