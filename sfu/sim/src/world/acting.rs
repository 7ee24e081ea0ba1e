//! What participants do when a scenario says so: join, publish, subscribe, mute, leave.

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt as _;
use sfu_api::{
    BackupPolicy, Command, Delivery, MediaKind, MediaLabel, MediaSource, ParticipantId, PeerMode, PublishRequest, RoomId, TrackId,
    TransportRole, VideoWish,
};
use sfu_core::media::Codec;
use sfu_core::rtp::ntp::{NtpTime, WallClock};

use super::{Who, World};
use crate::clock::Clock;
use crate::link::{Link, LinkConfig};
use crate::participant::{Participant, TrackSpec, cid, split};
use crate::scalability::Mode;
use crate::video::VideoConfig;

/// Sending ends of further codecs have numbers from here on.
const CODEC_SENDERS: u64 = 1_000_000;

/// M-lines per kind that livekit-client has from the start, with one peer connection.
const LINES_TO_RECEIVE: usize = 3;

impl World {
    /// Somebody joins over links with 10 ms of delay.
    pub fn join(&mut self, room: RoomId) -> Who {
        self.join_on(room, 0)
    }

    /// Somebody joins on one of several shards, over links with 10 ms of delay.
    pub fn join_on(&mut self, room: RoomId, shard: usize) -> Who {
        let link = LinkConfig::delayed(Duration::from_millis(10));
        self.enter(room, link, link, PeerMode::Dual, shard)
    }

    /// Somebody joins with one peer connection and offers it at once, with three m-lines per kind to receive on.
    pub fn join_single(&mut self, room: RoomId) -> Who {
        let who = self.enter_single(room);
        self.open_publisher(who);
        who
    }

    /// Like [`Self::join_single`], but offers only after [`Self::open_publisher`].
    pub fn enter_single(&mut self, room: RoomId) -> Who {
        let link = LinkConfig::delayed(Duration::from_millis(10));
        self.enter(room, link, link, PeerMode::Single, 0)
    }

    /// Somebody joins.
    pub fn join_over(&mut self, room: RoomId, up: LinkConfig, down: LinkConfig) -> Who {
        self.enter(room, up, down, PeerMode::Dual, 0)
    }

    fn enter(&mut self, room: RoomId, up: LinkConfig, down: LinkConfig, mode: PeerMode, shard: usize) -> Who {
        let index = self.participants.len();
        let id = ParticipantId(index as u64 + 1);
        let addresses = [0, 1].map(|side| self.address(index, side));
        let links = (Link::new(up, split(&mut self.rng)), Link::new(down, split(&mut self.rng)));
        let offset = Duration::from_millis(self.rng.random_range(0..1_000_000));
        let participant = Participant::new(self.now(), (id, room), addresses, links, wall_clock(&self.clock, offset), &mut self.rng);
        let participant = match mode {
            PeerMode::Dual => participant,
            PeerMode::Single => participant.with_one_connection(LINES_TO_RECEIVE),
        };
        self.wakes.push(participant.next_timeout());
        self.participants.push(participant);
        self.by_address.extend(addresses.map(|address| (address, index)));
        self.by_id.insert(id, index);
        self.placing.shards.insert(id, shard);
        self.command(Command::Join { room, participant: id, can_subscribe: true, mode });
        Who(index)
    }

    fn address(&self, index: usize, side: u16) -> SocketAddr {
        let [.., high, low] = index.to_be_bytes();
        let [a, b] = self.place.clients;
        ([a, b, high, low], 5000 + side).into()
    }

    /// Somebody leaves; the client is gone at once, the engine learns it from signaling.
    pub fn leave(&mut self, who: Who) {
        let participant = &mut self.participants[who.0];
        participant.is_gone = true;
        let id = participant.id;
        for side in [&participant.publisher, &participant.subscriber] {
            self.by_address.remove(&side.address());
        }
        self.command(Command::Leave { participant: id });
    }

    /// Opens the publisher side for data alone.
    pub fn open_publisher(&mut self, who: Who) {
        self.participants[who.0].want_offer();
        self.send_offer(who.0);
    }

    /// A 720p camera with three encodings.
    pub fn simulcast(&mut self, codec: Codec) -> TrackSpec {
        TrackSpec::Video(VideoConfig::simulcast(codec, &mut self.rng))
    }

    /// A 360p camera with one encoding.
    pub fn single(&mut self, codec: Codec) -> TrackSpec {
        TrackSpec::Video(VideoConfig::single(codec, &mut self.rng))
    }

    /// A 720p camera with one encoding of several layers.
    pub fn layered(&mut self, codec: Codec, mode: Mode, is_described: bool) -> TrackSpec {
        TrackSpec::Video(VideoConfig::layered(codec, mode, is_described, &mut self.rng))
    }

    /// Announces a track and offers it.
    pub fn publish(&mut self, who: Who, spec: TrackSpec) -> TrackId {
        let track = TrackId(self.next_track);
        self.next_track += 1;
        let request = publish_request(track, &spec);
        self.publish_as(who, track, spec, |participant| Command::Publish { participant, track, request })
    }

    /// Announces a shared screen and offers it.
    pub fn publish_screen(&mut self, who: Who, spec: TrackSpec) -> TrackId {
        let track = TrackId(self.next_track);
        self.next_track += 1;
        let request = PublishRequest { source: MediaSource::Screen, ..publish_request(track, &spec) };
        self.publish_as(who, track, spec, |participant| Command::Publish { participant, track, request })
    }

    /// A camera that is ready to send other codecs too.
    pub fn publish_with_backups(&mut self, who: Who, spec: TrackSpec, backups: &[Codec], policy: BackupPolicy) -> TrackId {
        let track = TrackId(self.next_track);
        self.next_track += 1;
        let mut request = publish_request(track, &spec);
        request.backup_codecs = backups.iter().map(|codec| codec.mime().to_owned()).collect();
        request.backup_policy = policy;
        self.publish_as(who, track, spec, |participant| Command::Publish { participant, track, request })
    }

    /// A further codec of a track, on an m-line of its own; returns the id under which its sending end is known here.
    pub fn publish_codec(&mut self, track: TrackId, spec: TrackSpec) -> TrackId {
        let sender = TrackId(CODEC_SENDERS + self.next_track);
        self.next_track += 1;
        let request = publish_request(sender, &spec);
        self.publish_as(self.sender_of(track), sender, spec, |participant| Command::PublishCodec { participant, track, request })
    }

    fn publish_as(&mut self, who: Who, sender: TrackId, spec: TrackSpec, command: impl FnOnce(ParticipantId) -> Command) -> TrackId {
        let rng = split(&mut self.rng);
        let participant = &mut self.participants[who.0];
        participant.publish(sender, spec, rng);
        let id = participant.id;
        self.owners.insert(sender, who.0);
        self.command(command(id));
        self.send_offer(who.0);
        sender
    }

    /// The client takes a track out of its offer.
    pub fn unpublish(&mut self, track: TrackId) {
        let owner = self.owners[&track];
        self.participants[owner].stop(track);
        self.ready.retain(|&other| other != track);
        self.send_offer(owner);
    }

    /// The client sends a track again that it took out, on the same m-line with the same streams; returns its new id.
    pub fn republish(&mut self, old: TrackId) -> TrackId {
        let owner = self.owners[&old];
        let track = TrackId(self.next_track);
        self.next_track += 1;
        let request = publish_request(track, self.sender(old).spec());
        self.participants[owner].resume(old, track);
        self.owners.insert(track, owner);
        let participant = self.participants[owner].id;
        self.command(Command::Publish { participant, track, request });
        self.send_offer(owner);
        track
    }

    /// Subscribes, as soon as the track is ready.
    pub fn subscribe(&mut self, who: Who, track: TrackId) {
        if !self.ready.contains(&track) {
            self.wanted.push((who.0, track));
            return;
        }
        let participant = self.participants[who.0].id;
        let owner = self.owners[&track];
        let label = MediaLabel { stream_id: format!("PA_{owner}"), track_id: format!("TR_{}", track.0) };
        self.command(Command::Subscribe { participant, track, label });
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, who: Who, track: TrackId) {
        let participant = self.participants[who.0].id;
        self.command(Command::Unsubscribe { participant, track });
    }

    /// Says what a subscriber wants.
    pub fn set_wish(&mut self, who: Who, track: TrackId, wish: VideoWish) {
        let participant = self.participants[who.0].id;
        self.command(Command::SetWish { participant, track, wish });
    }

    /// Says which encoding a subscriber wants, smallest is 0.
    pub fn want_layer(&mut self, who: Who, track: TrackId, max_spatial: u8) {
        self.set_wish(who, track, VideoWish { max_spatial, ..VideoWish::default() });
    }

    /// Mutes or unmutes at the source and in signaling.
    pub fn set_muted(&mut self, track: TrackId, muted: bool) {
        self.participants[self.owners[&track]].pause(track, muted);
        self.command(Command::SetMuted { track, muted });
    }

    /// New ICE credentials on one side, begun as that side does.
    pub fn restart_ice(&mut self, who: Who, role: TransportRole) {
        match role {
            TransportRole::Publisher => {
                self.participants[who.0].restart_publisher();
                self.send_offer(who.0);
            }
            TransportRole::Subscriber => {
                let participant = self.participants[who.0].id;
                self.command(Command::RestartIce { participant });
            }
        }
    }

    /// Sends a message to everybody else in the room. False if the sender's channel is not open.
    pub fn send_data(&mut self, who: Who, delivery: Delivery, payload: &[u8]) -> bool {
        let now = self.now();
        self.wakes[who.0] = now;
        self.participants[who.0].send_data(now, delivery, payload)
    }
}

fn wall_clock(clock: &Clock, offset: Duration) -> WallClock {
    // 2023, plus what the clock is wrong by.
    WallClock { at: clock.at(Duration::ZERO), ntp: NtpTime::from_unix(Duration::from_secs(1_700_000_000) + offset) }
}

fn publish_request(track: TrackId, spec: &TrackSpec) -> PublishRequest {
    let largest = match spec {
        TrackSpec::Video(config) => config.encodings.last().map_or((0, 0), |e| (e.width_px, e.height_px)),
        TrackSpec::Audio { .. } | TrackSpec::Voice(_) => (0, 0),
    };
    PublishRequest {
        cid: cid(track),
        kind: if spec.codec().is_video() { MediaKind::Video } else { MediaKind::Audio },
        preferred_codec: spec.codec().mime().to_owned(),
        stereo: false,
        dtx: false,
        muted: false,
        width_px: largest.0.into(),
        height_px: largest.1.into(),
        layers: Vec::new(),
        red: true,
        backup_codecs: Vec::new(),
        backup_policy: BackupPolicy::default(),
        source: MediaSource::default(),
    }
}
