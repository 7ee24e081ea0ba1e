//! Rooms larger than a shard: what is published on one shard reaches subscribers on others.
//!
//! A publisher's shard sends each packet that somebody elsewhere wants once per other shard, decrypted, in the [`message`]
//! envelope; there the track is mirrored: an up track without a transport, with its own ring, from which that shard's
//! subscribers are served and repaired like those of any track. Wishes go the other way: which encodings should cross,
//! keyframe requests, wanted layers. Mirrors belong to a participant without transports, the guest, in the same room.
//!
//! In: frames from other shards ([`Shard::handle_relay`]), the rooms that are shared ([`Shard::share_room`]). Out: frames per link
//! ([`Shard::relay_outbox`]); the owner carries them, over a ring between threads, later over a network between nodes.
//! Invariants: a packet crosses a link at most once, and only towards shards with somebody who wants it; a mirror is never
//! passed on; what a link's other end has announced is gone when it detaches.
//!
//! Shards tell each other audio levels, so that each knows who speaks; one of them, the home, tells signaling: the least. Who is in a room is agreed on with
//! `Attach` and `Detach`: whoever begins to have participants of a room attaches to the shards that signaling names, whoever
//! has none (any more) answers or says `Detach`. Not here: on which shard a participant is placed.

mod early;
mod fields;
mod incoming;
pub mod message;
mod opened;
mod outbox;
mod outgoing;
mod parked;

use std::time::{Duration, Instant};

use sfu_api::{ParticipantId, RoomId};

pub use self::outbox::{RESERVE, RelayOutbox};

use self::early::Early;
use self::message::{CodecWishes, Handle, Message};
use self::parked::Parked;
use crate::ids::{ParticipantKey, RoomKey, UpKey};
use crate::shard::Shard;

/// How long commands wait for the announcement of the track that they name; links within a node take microseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Another shard, as all shards know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct LinkId(pub u16);

/// What a shard has to do with others.
#[derive(Default)]
pub(crate) struct Relay {
    pub(crate) own: LinkId,
    /// By id.
    links: Vec<Option<Box<Link>>>,
    parked: Parked,
    early: Early,
    /// Packets that came from other shards.
    received: u64,
}

/// One other shard.
#[derive(Default)]
struct Link {
    outbox: RelayOutbox,
    /// Mirrors of what is published there.
    mirrors: rustc_hash::FxHashMap<Handle, UpKey>,
}

/// What a track has to do with other shards.
#[derive(Clone, Debug, Default)]
pub struct Crossing {
    /// Where it is published, if it is a mirror.
    pub(crate) origin: Option<Origin>,
    /// Shards that know of it, if it is published here.
    to: Vec<LinkId>,
    /// What subscribers there want of its codecs.
    wishes: Vec<(LinkId, CodecWishes)>,
    /// What the others were told to flow, a bit for each encoding; of a mirror: what was asked for.
    told: u8,
    /// Of a mirror: what its publisher's shard was told of wishes.
    told_wishes: CodecWishes,
}

/// Where a mirror comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    link: LinkId,
    handle: Handle,
}

/// What a room has to do with other shards.
#[derive(Debug, Default)]
pub struct Shared {
    /// Other shards that have participants of it.
    links: Vec<LinkId>,
    /// Those who publish elsewhere.
    guests: Vec<Guest>,
    /// Other shards have it, or had it.
    is_shared: bool,
}

/// A publisher of another shard.
#[derive(Clone, Copy, Debug)]
struct Guest {
    link: LinkId,
    id: ParticipantId,
    key: ParticipantKey,
}

impl Crossing {
    /// Of a mirror: the largest size of a codec that its publisher's shard was asked for, as
    /// [`UpTrack::review_sizes`](crate::publish::UpTrack::review_sizes) takes it.
    #[must_use]
    pub fn most_asked(&self, codec: crate::media::Codec) -> Option<usize> {
        if self.told_wishes.is_empty() {
            return Some(usize::MAX);
        }
        self.told_wishes.iter().find(|(asked, _)| *asked == codec).and_then(|(_, most)| *most).map(usize::from)
    }

    /// It is published on another shard.
    #[must_use]
    pub fn is_mirror(&self) -> bool {
        self.origin.is_some()
    }
}

impl Shared {
    /// The shard `own` tells signaling of the room's speakers and counts the room: the least of those that have it, to which
    /// all of them come without a word.
    pub(crate) fn is_home(&self, own: LinkId) -> bool {
        self.links.iter().all(|&link| own < link)
    }
}

impl Relay {
    fn link(&mut self, id: LinkId) -> &mut Link {
        let index = usize::from(id.0);
        if index >= self.links.len() {
            self.links.resize_with(index + 1, || None);
        }
        self.links[index].get_or_insert_with(Box::default)
    }

    pub(crate) fn push(&mut self, link: LinkId, message: &Message<'_>) {
        self.link(link).outbox.push(message);
    }

    pub(crate) fn push_fleeting(&mut self, link: LinkId, message: &Message<'_>) {
        self.link(link).outbox.push_fleeting(message);
    }

    fn mirror(&self, link: LinkId, handle: Handle) -> Option<UpKey> {
        self.links.get(usize::from(link.0))?.as_ref()?.mirrors.get(&handle).copied()
    }

    /// Packets from other shards, and frames that were dropped for want of room.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.received, self.links.iter().flatten().map(|link| link.outbox.dropped()).sum())
    }
}

impl Shard {
    /// Its name among shards; to be given before rooms are shared.
    pub fn set_link_id(&mut self, own: LinkId) {
        self.relay.own = own;
    }

    /// A room of which participants will join here lives on other shards too.
    pub fn share_room(&mut self, room: RoomId, others: &[LinkId]) {
        let key = self.open_room(room);
        self.rooms[key].shared.is_shared = true;
        // Until the others have answered: what they told signaling of speakers may end with that.
        self.take_over_speakers(key);
        for &link in others {
            if link != self.relay.own && !self.rooms[key].shared.links.contains(&link) {
                self.relay.push(link, &Message::Attach { room, is_first: true });
            }
        }
    }

    /// Links on which something waits; [`Self::relay_outbox`] has it.
    pub fn relay_links(&self) -> impl Iterator<Item = LinkId> + '_ {
        let links = (0..).zip(&self.relay.links);
        links.filter(|(_, link)| link.as_ref().is_some_and(|link| !link.outbox.is_empty())).map(|(id, _)| LinkId(id))
    }

    /// Packets that have come from other shards so far.
    #[must_use]
    pub fn relayed(&self) -> u64 {
        self.relay.received
    }

    /// What waits to cross a link.
    pub fn relay_outbox(&mut self, link: LinkId) -> &mut RelayOutbox {
        &mut self.relay.link(link).outbox
    }

    /// Encodings of which packets found no room on a link need a keyframe. To be called after the outboxes were emptied.
    pub fn mend_torn(&mut self, now: Instant) {
        for index in 0..self.relay.links.len() {
            while let Some((up, encoding)) = self.relay.links[index].as_mut().and_then(|link| link.outbox.take_torn()) {
                if let Some(encoding) = self.ups.get_mut(up).and_then(|up| up.encodings.get_mut(usize::from(encoding))) {
                    encoding.keyframe.want();
                    self.request_keyframes(up, now);
                }
            }
        }
    }

    /// With every review: what is to be told of tracks to other shards, and commands that have waited long enough.
    pub(crate) fn review_crossing(&mut self, up: UpKey, now: Instant) {
        let Some(track) = self.ups.get(up) else { return };
        if track.crossing.is_mirror() {
            self.ask_for_encodings(up, true);
        } else if !track.crossing.to.is_empty() {
            self.tell_activity(up, now);
        }
    }

    /// The room is here from now on: shards that have asked for it a moment ago are attached.
    pub(crate) fn take_early_links(&mut self, key: RoomKey, room: RoomId) {
        for link in self.relay.early.take(room) {
            self.attach_link(key, link, true);
        }
    }

    /// The room is about to end here.
    pub(crate) fn leave_shared(&mut self, key: RoomKey, now: Instant) {
        let Some(room) = self.rooms.get(key) else { return };
        let (id, links) = (room.id, room.shared.links.clone());
        for link in links {
            self.relay.push(link, &Message::Detach { room: id });
            self.forget_link(key, link, now);
        }
    }
}
