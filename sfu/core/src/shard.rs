//! One shard: every entity of one thread, and the calls that drive it.
//!
//! The owner reads the clock and the sockets and calls, for every batch: [`Shard::handle_datagram`] (but for what
//! [`Shard::sheds`]) and [`Shard::handle_command`] for what has come, [`Shard::handle_timeout`] when [`Shard::next_timeout`] has passed,
//! [`Shard::flush`] and, as long as it says `More`, again after sending; then [`Shard::poll_event`] until it is empty.
//! After every flush it sends what is in [`Shard::outbox`] and clears it. With what is left of its time it goes on with handshakes
//! ([`Shard::step_handshake`]). Where rooms are shared with other shards it brings what they sent ([`Shard::handle_relay`]) and
//! carries what is for them ([`Shard::relay_outbox`]).
//!
//! This file owns and routes. The journey of a packet is in [`crate::ingress`] and [`crate::egress`], commands are in
//! [`crate::control`], descriptions in [`crate::descriptions`], RTCP is in [`crate::feedback`] and [`crate::reports`].

use std::collections::VecDeque;
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rustc_hash::{FxHashMap, FxHashSet};
use sfu_api::{Delivery, Event, ParticipantId, RoomId, TrackId, TransportRole, TransportState};
use slotmap::SlotMap;

use crate::backlog::Backlog;
use crate::data_tracks::DataTracks;
use crate::demux::Demux;
use crate::downlink::Probing;
use crate::egress::{Egress, Progress};
use crate::error::DiscardCounters;
use crate::handshakes::Handshakes;
use crate::ids::{DownKey, ParticipantKey, PeerKey, RoomKey, UpKey};
use crate::net::{Flow, Outbox};
use crate::peer::Peer;
use crate::publish::UpTrack;
use crate::relay::Relay;
use crate::room::{Participant, Room};
use crate::snapshot::{Received, Snapshot};
use crate::stray::Strays;
use crate::subscribe::DownTrack;
use crate::telemetry::Telemetry;
use crate::timers::{Awake, Timers};
use crate::transport::params::Candidate;
use crate::transport::{Certificate, TransportEvent};

/// What a shard is told at its start.
pub struct ShardConfig {
    /// Addresses that clients are told, best first.
    pub candidates: Vec<Candidate>,
    /// DTLS certificate.
    pub certificate: Certificate,
    /// Every local ICE user name fragment begins with this, so that a shared TCP listener finds the shard.
    pub ufrag_prefix: String,
    /// Entropy for credentials and SSRCs; from the operating system, or fixed in a simulation.
    pub seed: [u8; 32],
}

/// Who is known under which id.
#[derive(Default)]
pub(crate) struct Directory {
    pub(crate) rooms: FxHashMap<RoomId, RoomKey>,
    pub(crate) participants: FxHashMap<ParticipantId, ParticipantKey>,
    pub(crate) tracks: FxHashMap<TrackId, UpKey>,
}

/// See the module.
pub struct Shard {
    pub(crate) config: ShardConfig,
    pub(crate) rng: StdRng,
    pub(crate) directory: Directory,
    pub(crate) demux: Demux,
    pub(crate) backlog: Backlog,
    pub(crate) rooms: SlotMap<RoomKey, Room>,
    pub(crate) participants: SlotMap<ParticipantKey, Participant>,
    pub(crate) peers: SlotMap<PeerKey, Peer>,
    pub(crate) ups: SlotMap<UpKey, UpTrack>,
    pub(crate) downs: SlotMap<DownKey, DownTrack>,
    pub(crate) data_tracks: DataTracks,
    pub(crate) egress: Egress,
    pub(crate) timers: Timers,
    /// Transports on which a probe is being sent.
    pub(crate) probing: Probing,
    /// What the media tick looks at.
    pub(crate) awake: Awake,
    /// DTLS handshakes that wait for their turn.
    pub(crate) handshakes: Handshakes,
    /// Rooms that are shared with other shards.
    pub(crate) relay: Relay,
    pub(crate) events: VecDeque<Event>,
    /// Participants whose subscriber session may need an offer; looked at in the flush, so that many changes make one offer.
    pub(crate) unnegotiated: FxHashSet<ParticipantKey>,
    /// Subscribers of audio that should get another form of it, at the end of the batch.
    pub(crate) reforming: Vec<DownKey>,
    pub(crate) discards: DiscardCounters,
    pub(crate) received: Received,
    /// Packets resent on NACK.
    pub(crate) retransmitted: u64,
    /// Connected transports that went on by another path.
    pub(crate) path_changes: u64,
    /// Media from addresses that nobody has, and what is done about it.
    pub(crate) strays: Strays,
    /// What operators see.
    pub(crate) telemetry: Telemetry,
    /// Command number of the last full intra request (RFC 5104 section 4.3.1.2).
    pub(crate) fir_sequence: u8,
    /// Buffer for RTCP that is being written.
    pub(crate) scratch: Vec<u8>,
    flushed_at: Option<Instant>,
}

impl Shard {
    /// An empty shard.
    #[must_use]
    pub fn new(config: ShardConfig) -> Self {
        let rng = StdRng::from_seed(config.seed);
        Self {
            config,
            rng,
            directory: Directory::default(),
            demux: Demux::default(),
            backlog: Backlog::default(),
            rooms: SlotMap::with_key(),
            participants: SlotMap::with_key(),
            peers: SlotMap::with_key(),
            ups: SlotMap::with_key(),
            downs: SlotMap::with_key(),
            data_tracks: DataTracks::default(),
            egress: Egress::default(),
            timers: Timers::default(),
            probing: Probing::default(),
            awake: Awake::default(),
            handshakes: Handshakes::default(),
            relay: Relay::default(),
            events: VecDeque::new(),
            unnegotiated: FxHashSet::default(),
            reforming: Vec::new(),
            discards: DiscardCounters::default(),
            received: Received::default(),
            retransmitted: 0,
            path_changes: 0,
            strays: Strays::default(),
            telemetry: Telemetry::default(),
            fir_sequence: 0,
            scratch: Vec::new(),
            flushed_at: None,
        }
    }

    /// True if datagrams of this flow are taken: an authentic check came by it, and its consent has not ended.
    #[must_use]
    pub fn is_path(&self, flow: &Flow) -> bool {
        let peer = self.demux.by_flow(flow).and_then(|key| self.peers.get(key));
        peer.is_some_and(|peer| peer.transport.accepts_from(*flow))
    }

    /// The TCP connection of a flow has ended. Whoever used it goes on by another path, or is reported as disconnected.
    pub fn flow_closed(&mut self, now: Instant, flow: Flow) {
        let Some(key) = self.demux.by_flow(&flow) else { return };
        self.demux.remove_flow(&flow, key);
        let Some(peer) = self.peers.get_mut(key) else { return };
        let before = peer.transport.selected();
        peer.transport.close_path(flow);
        let has_moved = peer.transport.selected().is_some_and(|now| before.is_some_and(|before| before != now));
        if has_moved {
            self.path_changes += 1;
            peer.bandwidth.path_changed();
        }
        self.peer_changed(key, now);
    }

    /// End of a batch: offers that became necessary, and all packets that are to be forwarded.
    pub fn flush(&mut self, now: Instant) -> Progress {
        self.flushed_at = Some(now);
        self.send_offers(now);
        let progress = self.egress.forward(&mut self.ups, &mut self.downs, &mut self.peers, now);
        if progress == Progress::Done {
            self.change_forms();
        }
        progress
    }

    /// How often to look for further datagrams before [`Self::flush`], because a picture that goes to many is not complete: what
    /// comes with the rest of it costs half.
    #[must_use]
    pub fn looks_for_rest(&self) -> usize {
        self.egress.looks_for_rest(&self.ups)
    }

    /// Media waits for its turn; the owner should give as little time to anything else as it can.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.backlog.is_standing()
    }

    /// What is to be sent; the owner clears it.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.egress.outbox
    }

    /// Next message to signaling.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        // Offers that did not fit into the last flush and handshakes that wait are due at once.
        let offers = self.flushed_at.filter(|_| !self.unnegotiated.is_empty() || self.has_handshakes());
        [self.timers.next_timeout(), offers, self.probing.next_timeout(), self.egress.pacing.next_timeout()].into_iter().flatten().min()
    }

    /// Lets everything happen whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, key)) = self.timers.pop_due(now) {
            let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.scheduled == Some(at)) else { continue };
            peer.scheduled = None;
            peer.transport.handle_timeout(now, &mut self.egress.outbox);
            self.peer_changed(key, now);
        }
        self.send_probes(now);
        self.timers.set_ticking(!self.peers.is_empty(), now);
        if let Some(tick) = self.timers.take_tick(now) {
            self.media_tick(tick, now);
        }
    }

    /// Plain counters, taken about once a second.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(self)
    }

    /// After anything was fed to a peer's transport: takes its events and its next deadline.
    pub(crate) fn peer_changed(&mut self, key: PeerKey, now: Instant) {
        if let Some(peer) = self.peers.get_mut(key) {
            peer.milestones.look(peer.transport.selected().is_some(), now, &mut self.telemetry.measured);
        }
        while let Some(event) = self.peers.get_mut(key).and_then(|peer| peer.transport.poll_event()) {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.milestones.on_event(&event, now, &mut self.telemetry.measured);
            }
            self.transport_event(key, event, now);
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        if let Some(at) = peer.transport.next_timeout()
            && peer.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            peer.scheduled = Some(at);
            self.timers.schedule(at, key);
        }
        self.timers.set_ticking(true, now);
    }

    fn transport_event(&mut self, key: PeerKey, event: TransportEvent, now: Instant) {
        let Some(peer) = self.peers.get(key) else { return };
        let owner = peer.participant;
        let Some(participant) = self.participants.get(owner) else { return };
        let (id, role) = (participant.id, peer.role);
        match event {
            TransportEvent::Connected { profile } => {
                if let Some(peer) = self.peers.get_mut(key) {
                    peer.profile = Some(profile);
                }
                self.report_transport(id, role, TransportState::Connected);
                self.start_subscriptions(key, now);
            }
            TransportEvent::Recovered => {
                self.report_transport(id, role, TransportState::Connected);
                self.start_subscriptions(key, now);
            }
            TransportEvent::PathExpired(flow) => self.demux.remove_flow(&flow, key),
            TransportEvent::Disconnected => {
                self.report_transport(id, role, TransportState::Disconnected);
                self.stop_subscriptions(key);
            }
            TransportEvent::Failed(reason) => {
                self.report_transport(id, role, TransportState::Failed(reason));
                self.stop_subscriptions(key);
            }
            TransportEvent::Data { delivery: Delivery::DataTrack, payload } => {
                if let Err(reason) = self.forward_data_track(now, owner, payload) {
                    self.discards.add(reason);
                }
            }
            TransportEvent::Data { delivery, payload } => {
                self.events.push_back(Event::Data { participant: id, delivery, payload });
            }
            TransportEvent::DataChannelOpen { .. } => {}
        }
    }

    fn report_transport(&mut self, participant: ParticipantId, role: TransportRole, state: TransportState) {
        self.events.push_back(Event::Transport { participant, role, state });
    }
}
