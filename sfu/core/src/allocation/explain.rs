//! Why a subscription gets what it gets.

use std::time::{Duration, Instant};

use sfu_api::{LayerLimit, LayerReport, MediaKind, SubscriptionReport};

use crate::ids::{DownKey, ParticipantKey};
use crate::publish::UpTrack;
use crate::rtp::payload::dependency_descriptor::Layer;
use crate::shard::Shard;
use crate::subscribe::DownTrack;
use crate::subscribe::selector::{Cap, wanted_rung};

/// A switch that takes less than this is no wait worth a word.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// What limits a subscription, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decision {
    limit: LayerLimit,
    since: Option<Instant>,
}

impl Decision {
    /// Takes note of what limits it now.
    pub fn note(&mut self, limit: LayerLimit, now: Instant) {
        if self.since.is_none() || self.limit != limit {
            *self = Self { limit, since: Some(now) };
        }
    }
}

impl Shard {
    /// Everything that a participant subscribes to, in the order of subscription.
    #[must_use]
    pub(crate) fn explanations(&mut self, key: ParticipantKey, now: Instant) -> Vec<SubscriptionReport> {
        let peer = self.participants.get(key).and_then(|participant| participant.downlink());
        let downs = peer.and_then(|peer| self.peers.get(peer)).map(|peer| peer.downs.clone()).unwrap_or_default();
        downs.into_iter().filter_map(|down| self.explanation(down, now)).collect()
    }

    /// Takes note of what limits a subscription.
    pub(crate) fn note_decision(&mut self, key: DownKey, now: Instant) {
        let limit = self.downs.get(key).and_then(|down| Some(limit_of(down, self.ups.get(down.up)?, now)));
        if let Some((down, limit)) = self.downs.get_mut(key).zip(limit) {
            down.decision.note(limit, now);
        }
    }

    fn explanation(&mut self, key: DownKey, now: Instant) -> Option<SubscriptionReport> {
        self.note_decision(key, now);
        let down = self.downs.get(key)?;
        let up = self.ups.get(down.up)?;
        let wanted = wished(down, up, now).map(|rung| report(up, rung, u8::MAX, now));
        let flowing = down.flowing();
        let current = flowing.map(|(encoding, layer)| report(up, rung_of(up, encoding, layer, now), layer.temporal, now));
        let bitrate = flowing.and_then(|(encoding, layer)| {
            let encoding = up.encodings.get(encoding)?;
            encoding.rates.of(if encoding.layers.is_layered() { encoding.layers.target_for(layer).0 } else { u32::MAX })
        });
        let since = down.decision.since.map(|since| now.saturating_duration_since(since).as_millis()).unwrap_or_default();
        Some(SubscriptionReport {
            track: down.track,
            current,
            wanted,
            limit: down.decision.limit,
            since_ms: u64::try_from(since).unwrap_or(u64::MAX),
            bitrate_bps: bitrate.unwrap_or(0),
        })
    }
}

/// What limits a subscription now.
fn limit_of(down: &DownTrack, up: &UpTrack, now: Instant) -> LayerLimit {
    if !down.wish.enabled || up.is_muted || down.payload_type.is_none() {
        return LayerLimit::Policy;
    }
    if down.share.cap == Cap::Paused {
        return LayerLimit::Bandwidth;
    }
    if down.flow.wanted.is_some_and(|waiting| now.saturating_duration_since(waiting.since) >= SHORT_WAIT) {
        return LayerLimit::KeyframeWait;
    }
    if up.kind() == MediaKind::Audio {
        return if down.flow.live.is_some() { LayerLimit::None } else { LayerLimit::Publisher };
    }
    let Some(wished) = wished(down, up, now) else { return LayerLimit::Publisher };
    let Some((encoding, layer)) = down.flowing() else { return LayerLimit::Publisher };
    let current = rung_of(up, encoding, layer, now);
    let (is_capped, is_thinned) = match down.share.cap {
        Cap::None | Cap::Paused => (false, false),
        Cap::UpTo(place) => (place.rung < wished, place.rung == current && place.temporal != u8::MAX && place.temporal <= layer.temporal),
    };
    // Bandwidth counts if it alone would have made it so; what a publisher lacks below that is the publisher's.
    let allowed = if let Cap::UpTo(place) = down.share.cap { place.rung.min(wished) } else { wished };
    if current < allowed || (is_capped && (current + 1..=wished).all(|rung| up.is_missing(rung, now))) {
        return LayerLimit::Publisher;
    }
    if (is_capped || is_thinned) && current <= wished {
        return if (current + 1..=wished).any(|rung| !up.is_missing(rung, now)) || is_thinned {
            LayerLimit::Bandwidth
        } else {
            LayerLimit::Publisher
        };
    }
    let highest = up.ladder(now).iter().map(|encoding| encoding.rungs.len()).sum::<usize>().saturating_sub(1);
    let slows = down.wish.max_fps > 0 && down.target.is_some_and(|target| target.layer.temporal < 7);
    if wished < highest || slows { LayerLimit::Size } else { LayerLimit::None }
}

fn wished(down: &DownTrack, up: &UpTrack, now: Instant) -> Option<usize> {
    wanted_rung(&down.wish, &up.ladder(now)).filter(|_| up.kind() == MediaKind::Video)
}

/// Place of a layer among all sizes of a track.
fn rung_of(up: &UpTrack, encoding: usize, layer: Layer, now: Instant) -> usize {
    let ladder = up.ladder(now);
    let below: usize = ladder.iter().take(encoding).map(|encoding| encoding.rungs.len()).sum();
    let own = ladder.get(encoding).map_or(1, |encoding| encoding.rungs.len());
    // Without SVC nothing is known of a spatial layer, and there is one.
    below + usize::from(layer.spatial).min(own.saturating_sub(1))
}

fn report(up: &UpTrack, rung: usize, temporal: u8, now: Instant) -> LayerReport {
    let ladder = up.ladder(now);
    let size = ladder.iter().flat_map(|encoding| &encoding.rungs).nth(rung);
    let temporal = if temporal >= 7 { u8::MAX } else { temporal };
    LayerReport {
        spatial: u8::try_from(rung).unwrap_or(u8::MAX),
        temporal,
        width_px: size.map_or(0, |size| size.width_px),
        height_px: size.map_or(0, |size| size.height_px),
    }
}
