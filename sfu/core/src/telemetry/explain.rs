//! Why a subscriber gets the layer that it gets: a pure function of what is offered, wished, allotted, chosen and flowing; and
//! since when.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use sfu_api::VideoWish;
use sfu_api::telemetry::{LayerLimit, LayerPlace, LayerState};

use crate::ids::DownKey;
use crate::limits::MAX_ENCODINGS;
use crate::publish::{MAX_RUNGS, UpTrack};
use crate::rtp::payload::dependency_descriptor::Layer;
use crate::shard::Shard;
use crate::subscribe::DownTrack;
use crate::subscribe::selector::{Cap, Offered, Reason, temporal, wanted_rung};

/// What is known of a subscription to video.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// What it wants.
    pub wish: &'a VideoWish,
    /// The ladder as it is.
    pub offered: &'a [Offered],
    /// Sizes, smallest first: those that the publisher was asked for and does not send.
    pub missing: &'a [bool],
    /// How far bandwidth lets it go.
    pub cap: Cap,
    /// The publisher has muted the track.
    pub is_muted: bool,
    /// Its transport is up and its client takes the track.
    pub is_ready: bool,
    /// What was chosen: encoding, layer, why.
    pub target: Option<(usize, Layer, Reason)>,
    /// What flows.
    pub current: Option<(usize, Layer)>,
}

impl<'a> Situation<'a> {
    /// Of a subscription as it is.
    fn of(down: &'a DownTrack, up: &UpTrack, ladder: &'a Ladder, is_connected: bool) -> Self {
        Self {
            wish: &down.wish,
            offered: &ladder.offered,
            missing: &ladder.missing,
            cap: down.share.cap,
            is_muted: up.is_muted,
            is_ready: is_connected && down.payload_type.is_some(),
            target: down.target.map(|target| (target.encoding, target.layer, target.reason)),
            current: down.flowing(),
        }
    }
}

/// What a track has to offer at a time.
struct Ladder {
    offered: ArrayVec<Offered, MAX_ENCODINGS>,
    missing: ArrayVec<bool, MAX_RUNGS>,
}

impl Ladder {
    fn of(up: &UpTrack, now: Instant) -> Self {
        let offered = up.offered(now);
        let count = up.ladder(now).iter().map(|encoding| encoding.rungs.len()).sum::<usize>();
        Self { offered, missing: (0..count.min(MAX_RUNGS)).map(|rung| up.is_missing(rung, now)).collect() }
    }
}

/// What limits a subscription, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decision(Option<(LayerLimit, Instant)>);

impl Decision {
    /// What limited it when that was last looked at.
    #[must_use]
    pub fn limit(&self) -> LayerLimit {
        self.0.map_or(LayerLimit::None, |(limit, _)| limit)
    }

    /// Takes note of what limits it now; how long it has been so.
    fn note(&mut self, limit: LayerLimit, now: Instant) -> Duration {
        let known = self.0.filter(|(known, _)| *known == limit);
        let (_, since) = *self.0.insert(known.unwrap_or((limit, now)));
        now.saturating_duration_since(since)
    }
}

impl Shard {
    /// Which layer a subscription to video gets and why, and how long that has been the reason.
    pub(crate) fn explain(&mut self, key: DownKey, now: Instant) -> Option<(LayerState, Duration)> {
        let down = self.downs.get(key)?;
        let (peer, up) = (self.peers.get(down.peer)?, self.ups.get(down.up)?);
        let is_connected = peer.profile.is_some() && peer.transport.selected().is_some();
        let state = explain(&Situation::of(down, up, &Ladder::of(up, now), is_connected));
        let down = self.downs.get_mut(key)?;
        Some((state, down.decision.note(state.limit, now)))
    }
}

/// The state with what limits it.
#[must_use]
pub fn explain(situation: &Situation<'_>) -> LayerState {
    let place = |(encoding, layer): (usize, Layer)| place(situation.offered, encoding, layer);
    let current = situation.current.map(place);
    let target = situation.target.map(|(encoding, layer, _)| place((encoding, layer)));
    LayerState { current, target, limit: limit(situation, current, target), wanted: wanted(situation) }
}

/// What was asked for, were everything there.
fn wanted(situation: &Situation<'_>) -> Option<LayerPlace> {
    let rung = wanted_rung(situation.wish, situation.offered)?;
    let rates = situation.offered.iter().find(|encoding| !encoding.rungs.is_empty()).map(|encoding| encoding.frame_rates)?;
    let temporal = if situation.wish.max_fps == 0 { u8::MAX } else { temporal(situation.wish, &rates) };
    Some(LayerPlace { size: u8::try_from(rung).unwrap_or(u8::MAX), temporal })
}

fn limit(situation: &Situation<'_>, current: Option<LayerPlace>, target: Option<LayerPlace>) -> LayerLimit {
    if !situation.wish.enabled {
        return LayerLimit::Disabled;
    }
    if situation.is_muted {
        return LayerLimit::Muted;
    }
    if !situation.is_ready {
        return LayerLimit::Negotiation;
    }
    if situation.cap == Cap::Paused {
        return LayerLimit::Bandwidth;
    }
    if situation.offered.iter().flat_map(|encoding| &encoding.rungs).all(|rung| !rung.is_active) {
        return LayerLimit::Stalled;
    }
    let (Some((_, _, reason)), Some(target)) = (situation.target, target) else { return LayerLimit::Negotiation };
    if current.is_none_or(|current| current.size != target.size) {
        return LayerLimit::Keyframe;
    }
    if reason == Reason::NotFlowing {
        return LayerLimit::Publisher;
    }
    let wished = wanted_rung(situation.wish, situation.offered).unwrap_or(0);
    if reason == Reason::Bandwidth {
        // Nothing was set aside for what the publisher does not send.
        let mut larger = usize::from(target.size) + 1..=wished;
        let is_missing = |rung: usize| situation.missing.get(rung).copied().unwrap_or(false);
        let is_publishers = !larger.is_empty() && larger.all(is_missing);
        return if is_publishers { LayerLimit::Publisher } else { LayerLimit::Bandwidth };
    }
    let rungs: usize = situation.offered.iter().map(|encoding| encoding.rungs.len()).sum();
    if wished + 1 >= rungs && situation.wish.max_fps == 0 { LayerLimit::None } else { LayerLimit::Wish }
}

/// Place on the ladder; without SVC nothing is known of spatial layers, and an encoding is one place.
fn place(offered: &[Offered], encoding: usize, layer: Layer) -> LayerPlace {
    let below: usize = offered.iter().take(encoding).map(|encoding| encoding.rungs.len().max(1)).sum();
    let has_spatial = offered.get(encoding).is_some_and(|encoding| encoding.rungs.len() > 1);
    let spatial = if has_spatial && layer.spatial != u8::MAX { usize::from(layer.spatial) } else { 0 };
    LayerPlace { size: u8::try_from(below + spatial).unwrap_or(u8::MAX), temporal: layer.temporal }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscribe::selector::Rung;

    const ALL: Layer = Layer { spatial: u8::MAX, temporal: u8::MAX };
    const FIRST: Layer = Layer { spatial: 0, temporal: u8::MAX };

    fn ladder(active: [bool; 3]) -> Vec<Offered> {
        let sizes = [(320, 180), (640, 360), (1280, 720)];
        let offered = |(is_active, (width_px, height_px)): (bool, (u32, u32))| Offered {
            rungs: [Rung { width_px, height_px, is_active }].into_iter().collect(),
            frame_rates: [30; 8],
        };
        active.into_iter().zip(sizes).map(offered).collect()
    }

    fn limit_of(active: [bool; 3], change: impl FnOnce(&mut Situation<'_>)) -> LayerLimit {
        let (offered, wish) = (ladder(active), VideoWish::default());
        let mut situation = Situation {
            wish: &wish,
            offered: &offered,
            missing: &[false; 3],
            cap: Cap::None,
            is_muted: false,
            is_ready: true,
            target: Some((2, FIRST, Reason::Wish)),
            current: Some((2, ALL)),
        };
        change(&mut situation);
        explain(&situation).limit
    }

    #[test]
    fn each_limit_has_its_cause() {
        let every = [true; 3];
        let small = VideoWish { width_px: 320, height_px: 180, ..VideoWish::default() };
        let hidden = VideoWish { enabled: false, ..VideoWish::default() };
        assert_eq!(limit_of(every, |_| ()), LayerLimit::None);
        assert_eq!(limit_of(every, |s| s.is_muted = true), LayerLimit::Muted);
        assert_eq!(limit_of(every, |s| s.is_ready = false), LayerLimit::Negotiation);
        assert_eq!(limit_of([false; 3], |_| ()), LayerLimit::Stalled);
        assert_eq!(limit_of(every, |s| s.current = Some((0, ALL))), LayerLimit::Keyframe);
        assert_eq!(limit_of(every, |s| s.current = None), LayerLimit::Keyframe);
        let (offered, down) = (ladder([true, true, false]), (1, FIRST, Reason::NotFlowing));
        let state = Situation {
            wish: &small,
            offered: &offered,
            missing: &[false; 3],
            cap: Cap::None,
            is_muted: false,
            is_ready: true,
            target: Some(down),
            current: Some((1, ALL)),
        };
        assert_eq!(explain(&state).limit, LayerLimit::Publisher);
        let offered = ladder(every);
        let state = Situation { target: Some((0, FIRST, Reason::Wish)), current: Some((0, ALL)), offered: &offered, ..state };
        assert_eq!(explain(&state).limit, LayerLimit::Wish);
        assert_eq!(explain(&Situation { wish: &hidden, ..state }).limit, LayerLimit::Disabled);
    }

    #[test]
    fn bandwidth_limits_what_the_publisher_has() {
        let every = [true; 3];
        let low = |s: &mut Situation<'_>| (s.target, s.current) = (Some((1, FIRST, Reason::Bandwidth)), Some((1, ALL)));
        assert_eq!(limit_of(every, low), LayerLimit::Bandwidth);
        let slow = |s: &mut Situation<'_>| s.target = Some((2, FIRST, Reason::Bandwidth));
        assert_eq!(limit_of(every, slow), LayerLimit::Bandwidth, "a lower rate of the full size");
        let paused = |s: &mut Situation<'_>| (s.cap, s.target, s.current) = (Cap::Paused, None, None);
        assert_eq!(limit_of(every, paused), LayerLimit::Bandwidth);
        let without = |s: &mut Situation<'_>| {
            low(s);
            s.missing = &[false, false, true];
        };
        assert_eq!(limit_of(every, without), LayerLimit::Publisher, "nothing is kept for what does not come");
    }

    #[test]
    fn a_reason_is_as_old_as_it_holds() {
        let (mut decision, now, second) = (Decision::default(), Instant::now(), Duration::from_secs(1));
        assert_eq!(decision.note(LayerLimit::Bandwidth, now), Duration::ZERO);
        assert_eq!(decision.note(LayerLimit::Bandwidth, now + second), second);
        assert_eq!(decision.note(LayerLimit::Wish, now + second * 2), Duration::ZERO);
        assert_eq!(decision.note(LayerLimit::Wish, now + second * 5), second * 3);
    }

    #[test]
    fn a_spatial_layer_is_a_place_of_its_own() {
        let rung = |width_px| Rung { width_px, height_px: width_px, is_active: true };
        let svc = [Offered { rungs: [rung(320), rung(640), rung(1280)].into_iter().collect(), frame_rates: [30; 8] }];
        assert_eq!(place(&svc, 0, Layer { spatial: 2, temporal: 1 }), LayerPlace { size: 2, temporal: 1 });
        assert_eq!(place(&ladder([true; 3]), 1, ALL), LayerPlace { size: 1, temporal: u8::MAX });
    }
}
