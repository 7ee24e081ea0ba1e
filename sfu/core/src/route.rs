//! Which encoding and which of its layers flow to which subscriber: applies the selector's choice and keeps the live and
//! waiting lists.
//!
//! Invariants: a down track is in the live list of at most one encoding, the one that `flow.live` names; it is in its
//! track's waiting list exactly if `flow.wanted` is set.

use std::time::Instant;

use sfu_api::MediaKind;

use crate::audio::forms::Form;
use crate::ids::{DownKey, PeerKey, UpKey};
use crate::rtp::payload::dependency_descriptor::Layer;
use crate::shard::Shard;
use crate::subscribe::filter::LayerFilter;
use crate::subscribe::selector::{Cap, Target, select};
use crate::subscribe::{FlowState, Waiting};

impl Shard {
    /// A subscriber's transport has come up: what it subscribed to may flow.
    pub(crate) fn start_subscriptions(&mut self, peer: PeerKey, now: Instant) {
        let downs = self.peers.get(peer).map(|peer| peer.downs.clone()).unwrap_or_default();
        for down in downs {
            self.retarget(down, now);
        }
    }

    /// There is no way to a subscriber any more: its output must not count on while nothing goes out.
    pub(crate) fn stop_subscriptions(&mut self, peer: PeerKey) {
        let downs = self.peers.get(peer).map(|peer| peer.downs.clone()).unwrap_or_default();
        for down in downs {
            self.stop_flow(down);
        }
    }

    /// Chooses again which encoding a subscriber should get; asks for its keyframe if that is another one.
    pub(crate) fn retarget(&mut self, key: DownKey, now: Instant) {
        self.choose_target(key, now);
        let Some(up) = self.downs.get(key).map(|down| down.up) else { return };
        self.wake_up(up);
        self.ask_for_encodings(up, false);
    }

    fn choose_target(&mut self, key: DownKey, now: Instant) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let Some(up) = self.ups.get_mut(down.up) else { return };
        let is_connected =
            self.peers.get_mut(down.peer).is_some_and(|peer| peer.transport.srtp().is_some() && peer.transport.selected().is_some());
        if !is_connected || down.payload_type.is_none() || up.is_muted {
            return;
        }
        if up.kind() == MediaKind::Video && self.waits_for_share(key, now) {
            return;
        }
        let Some(down) = self.downs.get_mut(key) else { return };
        let Some(up) = self.ups.get_mut(down.up) else { return };
        let offered = up.offered(now);
        down.target = match up.kind() {
            MediaKind::Video => select(&down.wish, &offered, down.share.cap),
            MediaKind::Audio => up.encoding_of_form(down.form(up)).filter(|_| down.wish.enabled).map(Target::whole),
        };
        let Some(Target { encoding: chosen, layer, .. }) = down.target else {
            self.stop_flow(key);
            return;
        };
        if chosen >= up.encodings.len() {
            up.open_form();
        }
        if down.flow.live == Some(chosen) {
            down.flow.wanted = None;
            up.waiting.retain(|&waiting| waiting != key);
            self.want_layer(key, chosen, layer, now);
            return;
        }
        if down.flow.live.is_some() && up.kind() == MediaKind::Audio {
            if up.form(0) == Form::Plain {
                self.reforming.push(key);
                return;
            }
            // What was recovered from copies under its number may come itself: the numbers of the two forms are not the same.
            self.stop_flow(key);
            return self.choose_target(key, now);
        }
        if let Some(wanted) = &mut down.flow.wanted
            && wanted.encoding == chosen
        {
            wanted.layer = layer;
            return;
        }
        if down.flow.wanted.is_none() {
            up.waiting.push(key);
        }
        // Until the keyframe of the smaller encoding is here, the larger one goes on with as few frames as it can have.
        let is_urgent = down.share.cap != Cap::None;
        let thinned = down.flow.live.filter(|&live| is_urgent && chosen < live);
        down.flow.wanted = Some(Waiting { encoding: chosen, layer, since: now, finish_by: None });
        let seen = down.rewriter.newest_at();
        let encoding = &mut up.encodings[chosen];
        if encoding.keyframe_for(now, seen, now).is_none() {
            encoding.keyframe.want();
            self.request_keyframes(self.downs[key].up, now);
        } else {
            self.egress.mark_switch(self.downs[key].up);
        }
        if let Some(live) = thinned {
            self.want_layer(key, live, Layer { spatial: 0, temporal: 0 }, now);
        }
    }

    /// Between two batches, when nothing is left to be forwarded: subscribers of audio go over to the other form. It has the
    /// same numbers, so that the next packet follows as if nothing had happened.
    pub(crate) fn change_forms(&mut self) {
        while let Some(key) = self.reforming.pop() {
            let Some(down) = self.downs.get_mut(key) else { continue };
            let Some(up) = self.ups.get_mut(down.up) else { continue };
            let Some(live) = down.flow.live else { continue };
            let Some(chosen) = up.encoding_of_form(down.form(up)).filter(|&chosen| chosen != live && chosen < up.encodings.len()) else {
                continue;
            };
            debug_assert!(up.encodings.iter().all(|encoding| encoding.fresh.is_empty()));
            up.encodings[live].live.retain(|&other| other != key);
            up.encodings[chosen].live.push(key);
            down.flow.live = Some(chosen);
        }
    }

    /// Says which layers of the encoding that flows a subscriber should get; asks for a keyframe if they can't be had without.
    fn want_layer(&mut self, key: DownKey, index: usize, layer: Layer, now: Instant) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let up_key = down.up;
        let Some(encoding) = self.ups.get_mut(up_key).and_then(|up| up.encodings.get_mut(index)) else { return };
        if !encoding.layers.is_layered() {
            return;
        }
        // Layers that show up later: the subscriber has had everything until then.
        let newest = encoding.layers.newest_frame();
        let filter = down.filter.get_or_insert_with(|| Box::new(LayerFilter::open(layer, newest)));
        if filter.want(layer, &encoding.layers) {
            encoding.keyframe.want();
            self.request_keyframes(up_key, now);
        }
    }

    /// Nothing flows to a subscriber from here on; its numbers go on where they stopped when it starts again.
    pub(crate) fn stop_flow(&mut self, key: DownKey) {
        let Some(down) = self.downs.get_mut(key) else { return };
        let Some(up) = self.ups.get_mut(down.up) else { return };
        if let Some(encoding) = down.flow.live.and_then(|index| up.encodings.get_mut(index)) {
            encoding.live.retain(|&live| live != key);
        }
        up.waiting.retain(|&waiting| waiting != key);
        down.flow = FlowState::default();
        down.filter = None;
        // What waits of it keeps nobody's place, and is not sent under a number that it has had.
        if let Some(pacer) = self.peers.get_mut(down.peer).and_then(|peer| peer.bandwidth.pacer.as_mut()) {
            pacer.drop_stream(key);
        }
    }

    /// Chooses again for all subscribers of a track, because an encoding has begun or ceased to flow.
    pub(crate) fn retarget_all(&mut self, up: UpKey, now: Instant) {
        let Some(up) = self.ups.get(up) else { return };
        for down in up.downs.clone() {
            self.retarget(down, now);
        }
    }
}
