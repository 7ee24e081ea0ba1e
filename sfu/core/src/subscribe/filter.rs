//! Which frames of a layered encoding one subscriber gets, and when it goes to another layer.
//!
//! In: packets of the encoding with what [`Layers`] says of their frames. Out: whether each is forwarded. A packet costs a
//! compare of masks; a look at dependencies is needed only while the wanted layer is another than the current one.
//! Invariants: all packets of a frame fare alike; a frame with which the layer changes has all its references on the
//! subscriber's side; the spatial layer changes with the first frame of a picture.
//! AV1 RTP specification, appendix A (decode targets, switch indications). Not here: numbers ([`super::rewrite`]).

use super::window::Window;
use crate::publish::layers::Layers;
use crate::publish::ring::Meta;
use crate::rtp::payload::dependency_descriptor::{Layer, MAX_SPATIAL_LAYERS};
use crate::rtp::sequence::low16;

/// What happens to a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is forwarded.
    Pass {
        /// Ends the picture as the subscriber sees it.
        marker: bool,
        /// Its descriptor has to say which decode targets are left.
        announces: bool,
    },
    /// It is left out.
    LeaveOut,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct LayerFilter {
    wanted: Layer,
    current: Flowing,
    /// What flowed before `since`.
    previous: Flowing,
    /// First frame of the current layer.
    since: u32,
    /// The subscriber has to hear what it can decode, with the first frame from this one on: not before what it already has.
    announces: Option<u32>,
    /// The frame that told it so.
    announced_in: Option<u32>,
    /// The current layer is as near to the wanted one as it gets.
    is_settled: bool,
    /// Frames below this one were never seen here.
    first: u32,
    newest: Option<u32>,
    /// Timestamp of the newest forwarded picture.
    picture: Option<u32>,
    forwarded: Window<4>,
    left_out: Window<4>,
    /// Frames left out since the start.
    left_out_frames: u64,
}

/// A decode target and its layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Flowing {
    mask: u32,
    layer: Layer,
}

/// Everything, because nothing is known of layers yet.
const EVERYTHING: Flowing = Flowing { mask: u32::MAX, layer: Layer { spatial: u8::MAX, temporal: u8::MAX } };

impl LayerFilter {
    /// For a subscriber that starts with a keyframe and wants up to this layer.
    #[must_use]
    pub fn new(wanted: Layer) -> Self {
        Self {
            wanted,
            current: EVERYTHING,
            previous: EVERYTHING,
            since: 0,
            announces: None,
            announced_in: None,
            is_settled: false,
            first: 0,
            newest: None,
            picture: None,
            forwarded: Window::default(),
            left_out: Window::default(),
            left_out_frames: 0,
        }
    }

    /// For a subscriber that got everything so far, up to this frame.
    #[must_use]
    pub fn open(wanted: Layer, newest: u32) -> Self {
        Self { newest: Some(newest), forwarded: Window::full(newest.into()), ..Self::new(wanted) }
    }

    /// Wants up to this layer from now on. True if that takes a keyframe.
    #[must_use]
    pub fn want(&mut self, wanted: Layer, layers: &Layers) -> bool {
        self.wanted = wanted;
        self.is_settled = layers.target_for(wanted).0 == self.current.mask;
        self.needs_keyframe(layers)
    }

    /// The wanted layer can't be had without a keyframe.
    #[must_use]
    pub fn needs_keyframe(&self, layers: &Layers) -> bool {
        if self.is_settled || self.newest.is_none() {
            return false;
        }
        let target = layers.target_for(self.wanted);
        target.1.spatial != self.current.layer.spatial && !layers.covers((self.current.mask, self.current.layer), target)
    }

    /// The layer that flows.
    #[must_use]
    pub fn current(&self) -> Layer {
        self.current.layer
    }

    /// The layer that should.
    #[must_use]
    pub fn wanted(&self) -> Layer {
        self.wanted
    }

    /// Judges the packets of the encoding, each once.
    pub fn judge(&mut self, meta: &Meta, layers: &Layers) -> Verdict {
        let frame = &meta.frame;
        if frame.is_whole() {
            return Verdict::Pass { marker: meta.marker, announces: false };
        }
        let number = u64::from(frame.number);
        let is_newer = self.newest.is_none_or(|newest| frame.number > newest);
        if is_newer {
            self.first = self.newest.map_or(frame.number, |_| self.first);
            self.newest = Some(frame.number);
        }
        let is_on_time = self.newest == Some(frame.number);
        if meta.payload.starts_keyframe && (is_on_time || self.is_overtaken_by_all(meta)) {
            self.go_to(layers.target_for(self.wanted), frame.number, layers);
        } else if !self.is_settled && (is_newer || self.is_overtaken_by_all(meta)) && self.has_references(meta) {
            self.step(meta, layers);
        }
        let passes = if is_newer { frame.targets & self.current.mask != 0 } else { self.passes(meta) };
        if !passes {
            if !self.left_out.is_marked(number) {
                self.left_out.mark(number);
                self.left_out_frames += 1;
            }
            return Verdict::LeaveOut;
        }
        self.forwarded.mark(number);
        if is_newer {
            self.picture = Some(meta.timestamp);
        }
        if frame.starts_frame && self.announces.is_some_and(|from| frame.number >= from) {
            (self.announces, self.announced_in) = (None, Some(frame.number));
        }
        Verdict::Pass { marker: self.ends_picture(meta), announces: self.announces_with(meta) }
    }

    /// The packet's descriptor has to say which decode targets are left.
    #[must_use]
    pub fn announces_with(&self, meta: &Meta) -> bool {
        meta.frame.starts_frame && self.announced_in == Some(meta.frame.number)
    }

    /// What the picture id of a VP8 packet has to be less by: the pictures before it that were left out since the subscriber
    /// started with this encoding. Other codecs' ids keep their gaps.
    #[must_use]
    pub fn pictures_left_out(&self, meta: &Meta) -> u16 {
        if !meta.payload.counts_pictures || self.left_out_frames == 0 || meta.frame.is_whole() {
            return 0;
        }
        low16(self.left_out_frames.saturating_sub(self.left_out.count_above(meta.frame.number.into()).unwrap_or(0)))
    }

    /// Whether packets of a frame that is not new are forwarded.
    #[must_use]
    pub fn passes(&self, meta: &Meta) -> bool {
        let (frame, number) = (&meta.frame, u64::from(meta.frame.number));
        let flowing = if frame.number < self.since { self.previous } else { self.current };
        frame.is_whole() || (!self.left_out.is_marked(number) && (self.forwarded.is_marked(number) || frame.targets & flowing.mask != 0))
    }

    /// Whether a packet that went out had the marker; for its repetition.
    #[must_use]
    pub fn ends_picture(&self, meta: &Meta) -> bool {
        let flowing = if meta.frame.number < self.since { self.previous } else { self.current };
        let is_top = meta.frame.ends_frame && meta.frame.layer.spatial == flowing.layer.spatial;
        meta.marker || (is_top && !self.forwarded.is_marked(u64::from(meta.frame.number) + 1))
    }

    /// A frame comes late, when all higher layers of its picture that flow have overtaken it: they stay as they are, and the
    /// layer may change behind them.
    fn is_overtaken_by_all(&self, meta: &Meta) -> bool {
        let above = 1..=u64::from(self.current.layer.spatial).min(MAX_SPATIAL_LAYERS as u64);
        self.picture == Some(meta.timestamp)
            && above.into_iter().all(|above| self.forwarded.is_marked(u64::from(meta.frame.number) + above))
    }

    /// All references of a frame were forwarded, or are missing, so that they will be: a lower layer of the same picture may
    /// come later.
    fn has_references(&self, meta: &Meta) -> bool {
        let number = u64::from(meta.frame.number);
        let lacking = meta.frame.references & !self.forwarded.below(number);
        let farthest = u64::from(u64::BITS - lacking.leading_zeros());
        lacking & self.left_out.below(number) == 0 && number.saturating_sub(farthest) >= self.first.into()
    }

    /// Goes to the wanted layer, or nearer to it, if this frame allows it. Its references are all there.
    fn step(&mut self, meta: &Meta, layers: &Layers) {
        let target = layers.target_for(self.wanted);
        self.is_settled = target.0 == self.current.mask;
        if self.is_settled {
            return;
        }
        // Where several temporal layers are missing, they may come one by one.
        let Layer { spatial, temporal } = self.current.layer;
        let nearer = (temporal.saturating_add(1)..target.1.temporal).rev().map(|temporal| layers.target_for(Layer { spatial, temporal }));
        for candidate in std::iter::once(target).chain(nearer) {
            if self.may_go_to(candidate, meta, layers) {
                self.go_to(candidate, meta.frame.number, layers);
                // Lower layers of the picture that come later fare as this one.
                self.since = meta.frame.number.saturating_sub(meta.frame.layer.spatial.into());
                return;
            }
        }
    }

    fn may_go_to(&self, (mask, layer): (u32, Layer), meta: &Meta, layers: &Layers) -> bool {
        let frame = &meta.frame;
        let is_picture_start = self.picture != Some(meta.timestamp) || self.newest != Some(frame.number);
        let has_all = || layers.covers((self.current.mask, self.current.layer), (mask, layer));
        frame.targets & mask != 0
            && (layer.spatial == self.current.layer.spatial || is_picture_start)
            && (frame.switches & mask != 0 || has_all())
    }

    fn go_to(&mut self, (mask, layer): (u32, Layer), number: u32, layers: &Layers) {
        let (before, after) = (self.current, Flowing { mask, layer });
        // A keyframe of which a higher layer came first leads where that has led: earlier pictures stay what they were.
        if before != after {
            (self.previous, self.current, self.since) = (before, after, number);
        }
        self.is_settled = mask == layers.target_for(self.wanted).0;
        self.announced_in = None;
        let (all, left) = (layers.active(), layers.announced_for(layer));
        // Whoever was told less must hear that there is more; a structure without a word on it means everything.
        let is_news = left != all || (before != EVERYTHING && layers.announced_for(before.layer) != left);
        let from = self.newest.filter(|&newest| newest > number).map_or(number, |newest| newest + 1);
        self.announces = is_news.then_some(from);
    }

    /// What the subscriber can decode of what its publisher produces, as a mask for its copies of the descriptor.
    #[must_use]
    pub fn announced(&self, layers: &Layers) -> u32 {
        layers.announced_for(self.current.layer)
    }
}
