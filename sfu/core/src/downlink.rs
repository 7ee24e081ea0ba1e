//! Between congestion control of a subscriber's transport and what is sent there: tells whoever divides the estimate up, and
//! sends the packets of probes.

use std::time::{Duration, Instant};

use sfu_api::{MediaKind, ParticipantId};

use crate::bandwidth::{Demand, Estimate};
use crate::ids::{DownKey, PeerKey};
use crate::rtp::payload::dependency_descriptor::Layer;
use crate::shard::Shard;
use crate::subscribe::Waiting;
use crate::subscribe::retransmit::{send_padding, send_probe};

/// Packets of a probe are sent this often.
const PACE: Duration = Duration::from_millis(2);
/// Recent packets that a probe sends again, one after the other.
const RECENT: u16 = 24;
/// Before a keyframe is asked for, or sent, where so much was lost: a full queue has no room for it. It arrives no earlier if it is sent
/// earlier, and meanwhile it is decided which size it should have.
const COLLAPSE_PAUSE: Duration = Duration::from_millis(60);
/// Probes at once; further ones wait. Each lasts for some 25 ms; long ones, of which there are fewer at once, for a quarter of a second.
const MAX_PROBES: usize = 64;
const MAX_LONG_PROBES: usize = 8;

/// The transports on which a probe is being sent.
#[derive(Default)]
pub(crate) struct Probing {
    peers: Vec<PeerKey>,
    next: Option<Instant>,
    /// Goes through recent packets.
    turn: u16,
}

impl Probing {
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.next
    }
}

impl Shard {
    /// After anything that may have changed a transport's estimate: whoever divides it up is told if it did.
    pub(crate) fn bandwidth_changed(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let has_collapsed = peer.bandwidth.take_collapse();
        if let Some(estimate) = peer.bandwidth.take_change() {
            tracing::trace!(?estimate, "downlink");
            if peer.allotment.is_new_cut(estimate.cut_at) {
                self.telemetry.measured.downlinks.on_cut(estimate.limit);
            }
            if !has_collapsed {
                self.allocation_due(key, now);
            }
        }
        if has_collapsed {
            if let Some(peer) = self.peers.get_mut(key) {
                peer.allotment.on_collapse();
            }
            self.hurry_allocation(key, now);
            self.give_up_lost_video(key, now);
        }
        self.consider_probe(key, now);
    }

    /// So much of a transport's video was lost that it begins anew with a keyframe: what is missing is not resent, for that
    /// would fill the queue for longer, and neither is sent what nobody could decode before the keyframe.
    fn give_up_lost_video(&mut self, key: PeerKey, now: Instant) {
        let Some(peer) = self.peers.get(key) else { return };
        for down_key in peer.downs.clone() {
            let Some(down) = self.downs.get_mut(down_key) else { continue };
            let Some(live) = down.flow.live else { continue };
            let Some(up) = self.ups.get_mut(down.up).filter(|up| up.kind() == MediaKind::Video) else { continue };
            let since = now + COLLAPSE_PAUSE;
            down.hold_until = down.hold_until.max(Some(since));
            let Some(encoding) = up.encodings.get_mut(live) else { continue };
            if !down.flow.is_frame_complete {
                down.rewriter.tear();
            }
            down.given_up = down.rewriter.highest();
            encoding.live.retain(|&other| other != down_key);
            down.flow.live = None;
            down.filter = None;
            let up_key = down.up;
            if down.flow.wanted.is_none() {
                let layer = down.target.map_or_else(Layer::default, |target| target.layer);
                down.flow.wanted = Some(Waiting { encoding: live, layer, since, finish_by: None });
                up.waiting.push(down_key);
                encoding.keyframe.want_from(since);
                self.wake_up(up_key);
            }
            if let Some(pacer) = self.peers.get_mut(key).and_then(|peer| peer.bandwidth.pacer.as_deref_mut()) {
                pacer.drop_stream(down_key);
            }
        }
    }

    /// What the way to a participant carries. None: nothing is known of it, and nothing limits it.
    #[must_use]
    pub fn estimate(&self, id: ParticipantId) -> Option<Estimate> {
        let key = self.participant(id).ok()?;
        self.peers.get(self.participants.get(key)?.downlink()?)?.bandwidth.estimate()
    }

    /// What would be sent to a participant if the way carried it. It may start a probe. Whoever says so divides what the way
    /// carries: the allocation leaves it alone from here on.
    pub fn set_demand(&mut self, id: ParticipantId, demand: Demand, now: Instant) {
        let Some(key) = self.participant(id).ok().and_then(|key| self.participants.get(key)?.downlink()) else { return };
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.allotment.is_foreign = true;
        peer.bandwidth.set_demand(demand, now);
        self.bandwidth_changed(key, now);
    }

    /// Once a second: nothing may have been heard of what was sent.
    pub(crate) fn review_bandwidth(&mut self, key: PeerKey, now: Instant) {
        let at = self.egress.send_time(now).at;
        if let Some(peer) = self.peers.get_mut(key) {
            peer.bandwidth.on_second(at, now);
            if let Some(estimate) = peer.bandwidth.estimate() {
                self.telemetry.measured.downlinks.on_second(&estimate);
            }
            self.bandwidth_changed(key, now);
        }
    }

    /// Sends what is due of probes.
    pub(crate) fn send_probes(&mut self, now: Instant) {
        if self.probing.next.is_none_or(|at| now < at) {
            return;
        }
        let mut peers = std::mem::take(&mut self.probing.peers);
        peers.retain(|&key| self.send_probe(key, now));
        self.probing.next = (!peers.is_empty()).then(|| now + PACE);
        self.probing.peers = peers;
    }

    /// Begins a probe where one is worth its while and there is a stream that can carry it.
    pub(crate) fn consider_probe(&mut self, key: PeerKey, now: Instant) {
        if self.probing.peers.len() >= MAX_PROBES || self.carrier(key).is_none() {
            return;
        }
        let is_long = |key: &&PeerKey| self.peers.get(**key).is_some_and(|peer| peer.bandwidth.is_probing_long());
        let may_be_long = self.probing.peers.iter().filter(is_long).count() < MAX_LONG_PROBES;
        // Where nobody waits for more there is nothing to find out.
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.allotment.may_probe()) else { return };
        if peer.bandwidth.start_probe(may_be_long, now) {
            self.probing.peers.push(key);
            self.probing.next.get_or_insert(now);
        }
    }

    /// The first probe need not wait for a report: it begins with the first packets, for their client knows the stream then.
    pub(crate) fn consider_first_probe(&mut self, key: PeerKey, now: Instant) {
        let carrier = self.carrier(key).and_then(|down| self.downs.get(down));
        if self.probing.peers.len() >= MAX_PROBES || carrier.is_none_or(|down| down.sent.packets == 0) {
            return;
        }
        let Some(peer) = self.peers.get_mut(key) else { return };
        peer.allotment.end_first_probe();
        if peer.bandwidth.start_first_probe(now) {
            self.probing.peers.push(key);
            self.probing.next.get_or_insert(now);
        }
    }

    /// Sends what is due of a transport's probe; false when it is over.
    fn send_probe(&mut self, key: PeerKey, now: Instant) -> bool {
        let send_time = self.egress.send_time(now);
        let Some(mut due) = self.peers.get_mut(key).and_then(|peer| peer.bandwidth.probe_due(now)) else { return false };
        let carrier = self.carrier(key);
        while due > 0 {
            let Some(down) = carrier.and_then(|down| self.downs.get_mut(down)) else { return true };
            let Some(peer) = self.peers.get_mut(key) else { return false };
            self.probing.turn = (self.probing.turn + 1) % RECENT;
            let outbox = &mut self.egress.outbox;
            let recent = self.ups.get(down.up).and_then(|up| send_probe(self.probing.turn, up, down, peer, outbox, send_time));
            let Some(sent) = recent.or_else(|| send_padding(down, peer, outbox, send_time)) else { return true };
            peer.bandwidth.on_probe_packet(sent as u64);
            due = due.saturating_sub(sent as u64);
        }
        true
    }

    /// A stream of retransmissions that probes can be sent on: of video that flows, or of any.
    fn carrier(&self, key: PeerKey) -> Option<DownKey> {
        let downs = self.peers.get(key)?.downs.iter().filter_map(|&key| Some((key, self.downs.get(key)?)));
        let is_video = |up| self.ups.get(up).is_some_and(|up| up.kind() == MediaKind::Video);
        let able = downs.filter(|(_, down)| down.rtx_payload_type.is_some() && is_video(down.up));
        able.max_by_key(|(_, down)| (down.flow.live.is_some(), down.sent.packets)).map(|(key, _)| key)
    }
}
