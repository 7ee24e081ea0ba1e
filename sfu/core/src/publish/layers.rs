//! What layers an encoding has, and for every packet which subscribers need it: asked once per packet, for all of them.
//!
//! In: the dependency descriptor where there is one, else the VP8 or VP9 payload descriptor. Out: a [`FrameInfo`] that a
//! subscriber's filter compares with its own decode target. A decode target is a set of layers that can be decoded by
//! itself; the dependency descriptor names up to 32 of them (AV1 RTP specification, appendix A). For payload descriptors
//! they are numbered here: decode target `spatial * 8 + temporal` has all layers up to these.
//! RFC 7741 section 4.2 (VP8), RFC 9628 section 4.2 (VP9). Not here: who gets what.

use crate::rtp::payload::Layering;
use crate::rtp::payload::dependency_descriptor::{
    Descriptor, Layer, MAX_SPATIAL_LAYERS, MAX_TEMPORAL_LAYERS, Mandatory, Structure, has_structure,
};
use crate::rtp::payload::vp9::Vp9Payload;

/// A spatial layer that so many pictures lack is not offered. Encoders that drop a layer for a while, because the link does
/// not carry it, drop it from every picture.
const ABSENT_PICTURES: u8 = 8;
/// Decode targets of one spatial layer where payload descriptors name the layers.
const TEMPORAL_SLOTS: usize = MAX_TEMPORAL_LAYERS;

/// A packet's frame as the filters of subscribers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameInfo {
    /// Decode targets that the frame belongs to, one bit each.
    pub targets: u32,
    /// Decode targets with which a subscriber may go on from here that has all references.
    pub switches: u32,
    /// Bit i: the frame with the number i + 1 below this one must have been decoded.
    pub references: u64,
    /// Counts frames in decoding order, with gaps; the low 16 bits are those of the dependency descriptor, if it has one.
    pub number: u32,
    /// Its layer.
    pub layer: Layer,
    /// First packet of the frame.
    pub starts_frame: bool,
    /// Last packet of the frame; frames of higher spatial layers may follow in the same picture.
    pub ends_frame: bool,
}

impl FrameInfo {
    /// A packet of a stream that has no layers, or says nothing of them: everybody gets it.
    pub const WHOLE: Self = Self {
        targets: u32::MAX,
        switches: u32::MAX,
        references: 0,
        number: 0,
        layer: Layer { spatial: 0, temporal: 0 },
        starts_frame: false,
        ends_frame: false,
    };

    /// The packet says nothing of layers.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.targets == u32::MAX && self.number == 0
    }
}

/// What a packet turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Classified {
    /// It can be forwarded.
    Known {
        /// Its frame.
        frame: FrameInfo,
        /// The dependency descriptor's word on it, which counts more than what the payload looks like.
        starts_keyframe: Option<bool>,
    },
    /// Its structure has not come yet.
    Waits,
}

/// A structure and the number of the frame that brought it.
struct Known {
    structure: Structure,
    since: u32,
}

/// See the module.
pub struct Layers {
    current: Option<Box<Known>>,
    /// For packets that come late.
    previous: Option<Box<Known>>,
    /// Decode targets of the structure that are produced.
    active: u32,
    /// Newest frame (dependency descriptor) or picture (payload descriptor) number.
    newest: Option<u32>,
    /// Newest frame with its references, where these are guessed from the payload descriptor.
    guessed: (u32, u64),
    /// Newest frame of each layer; 0: none.
    latest: [[u32; MAX_TEMPORAL_LAYERS]; MAX_SPATIAL_LAYERS],
    /// Pictures since the newest frame of each spatial layer; None: there was none.
    absent: [Option<u8>; MAX_SPATIAL_LAYERS],
    /// Spatial layers (a bit each) of VP9 to which higher ones do not refer, between keyframes: who gets those lacks these.
    unreferenced: u8,
    sizes: [(u32, u32); MAX_SPATIAL_LAYERS],
    is_layered: bool,
    picture: Option<u32>,
    pictures: [u32; MAX_TEMPORAL_LAYERS],
    rates: [u32; MAX_TEMPORAL_LAYERS],
}

impl Default for Layers {
    fn default() -> Self {
        Self {
            current: None,
            previous: None,
            active: 0,
            newest: None,
            guessed: (0, 0),
            latest: Default::default(),
            absent: [None; MAX_SPATIAL_LAYERS],
            unreferenced: 0,
            sizes: [(0, 0); MAX_SPATIAL_LAYERS],
            is_layered: false,
            picture: None,
            pictures: [0; MAX_TEMPORAL_LAYERS],
            rates: [0; MAX_TEMPORAL_LAYERS],
        }
    }
}

impl Layers {
    /// Takes note of a packet and says what its frame is.
    pub fn classify(&mut self, descriptor: Option<&[u8]>, layering: &Layering, timestamp: u32) -> Classified {
        if let Some(bytes) = descriptor
            && let Ok(mandatory) = Mandatory::parse(bytes)
        {
            return self.by_dependency(bytes, mandatory, timestamp);
        }
        let frame = match layering {
            // Numbers of both kinds don't mix: what comes without its descriptor is not told apart.
            _ if self.current.is_some() => None,
            Layering::None => None,
            Layering::Vp8 { picture_id, temporal, is_sync, is_keyframe } => {
                self.by_vp8(*picture_id, *temporal, *is_sync, *is_keyframe, timestamp)
            }
            Layering::Vp9(payload) => self.by_vp9(payload, timestamp),
        };
        if frame.is_none() {
            self.count_picture(timestamp, 0);
        }
        Classified::Known { frame: frame.unwrap_or(FrameInfo::WHOLE), starts_keyframe: None }
    }

    /// There is more than one layer to choose from.
    #[must_use]
    pub fn is_layered(&self) -> bool {
        self.current.as_ref().map_or(self.is_layered, |known| known.structure.decode_targets() > 1)
    }

    /// Spatial layers, 1 to 4.
    #[must_use]
    pub fn spatial_layers(&self) -> usize {
        match &self.current {
            Some(known) => {
                (0..known.structure.decode_targets()).filter_map(|target| known.structure.layer_of(target)).map(|layer| layer.spatial).max()
            }
            None => (0_u8..).zip(&self.absent).filter(|(_, absent)| absent.is_some()).map(|(spatial, _)| spatial).max(),
        }
        .map_or(1, |highest| usize::from(highest) + 1)
    }

    /// Packets of this spatial layer come.
    #[must_use]
    pub fn is_active(&self, spatial: u8) -> bool {
        match &self.current {
            Some(known) => (0..known.structure.decode_targets())
                .filter(|target| self.active & (1 << target) != 0)
                .any(|target| known.structure.layer_of(target).is_some_and(|layer| layer.spatial == spatial)),
            None => self.absent.get(usize::from(spatial)).copied().flatten().is_some_and(|pictures| pictures <= ABSENT_PICTURES),
        }
    }

    /// Picture size of a spatial layer as the stream itself says it; (0, 0) if it does not.
    #[must_use]
    pub fn size(&self, spatial: usize) -> (u32, u32) {
        self.sizes.get(spatial).copied().unwrap_or_default()
    }

    /// Frames per second up to each temporal layer in the last second; 0 where nothing was seen yet.
    #[must_use]
    pub fn frame_rates(&self) -> [u32; MAX_TEMPORAL_LAYERS] {
        self.rates
    }

    /// Once a second: from counts to rates.
    pub fn end_second(&mut self) {
        let mut sum = 0;
        for (rate, count) in self.rates.iter_mut().zip(std::mem::take(&mut self.pictures)) {
            sum += count;
            *rate = sum;
        }
    }

    /// The decode target to forward for a wish, as a mask of one bit, and its layer: the best one that is produced and not
    /// beyond the wish, else the least.
    #[must_use]
    pub fn target_for(&self, wanted: Layer) -> (u32, Layer) {
        let Some(known) = &self.current else {
            let layer = Layer {
                spatial: wanted.spatial.min(low8(MAX_SPATIAL_LAYERS - 1)),
                temporal: wanted.temporal.min(low8(MAX_TEMPORAL_LAYERS - 1)),
            };
            return (1 << (usize::from(layer.spatial) * TEMPORAL_SLOTS + usize::from(layer.temporal)), layer);
        };
        let targets = (0..known.structure.decode_targets()).filter_map(|target| Some((target, known.structure.layer_of(target)?)));
        let active = targets.clone().filter(|(target, _)| self.active & (1 << target) != 0);
        let fits = |(_, layer): &(usize, Layer)| layer.spatial <= wanted.spatial && layer.temporal <= wanted.temporal;
        // Among equals the first one: encoders list the better ones first.
        let best = active.clone().filter(fits).reduce(|best, other| if other.1 > best.1 { other } else { best });
        let least = || active.reduce(|least, other| if other.1 < least.1 { other } else { least });
        match best.or_else(least) {
            Some((target, layer)) => (1 << target, layer),
            None => (u32::MAX, Layer::default()),
        }
    }

    /// Everything of the one decode target is in the other one too: who has this has that.
    #[must_use]
    pub fn covers(&self, (mask, layer): (u32, Layer), (other_mask, other_layer): (u32, Layer)) -> bool {
        match &self.current {
            Some(known) => known
                .structure
                .templates()
                .iter()
                .map(|template| template.indications.present())
                .all(|present| present & other_mask == 0 || present & mask != 0),
            None => {
                let is_within = other_layer.spatial <= layer.spatial && other_layer.temporal <= layer.temporal;
                let is_lacking = other_layer.spatial < layer.spatial && self.unreferenced & (1 << other_layer.spatial) != 0;
                is_within && (!is_lacking || mask == u32::MAX)
            }
        }
    }

    /// Decode targets that a subscriber up to this layer can decode, as its copies of the descriptor announce them.
    #[must_use]
    pub fn announced_for(&self, layer: Layer) -> u32 {
        let Some(known) = &self.current else { return 0 };
        let is_in = |target: &usize| {
            known.structure.layer_of(*target).is_some_and(|own| own.spatial <= layer.spatial && own.temporal <= layer.temporal)
        };
        self.active & (0..known.structure.decode_targets()).filter(is_in).fold(0, |mask, target| mask | (1 << target))
    }

    /// Highest frame number so far.
    #[must_use]
    pub fn newest_frame(&self) -> u32 {
        if self.current.is_some() { self.newest.unwrap_or(0) } else { self.guessed.0 }
    }

    /// Decode targets that the publisher produces.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.active
    }

    /// The structure by which a frame's descriptor is read.
    #[must_use]
    pub fn structure_for(&self, number: u32) -> Option<&Structure> {
        let current = self.current.as_ref()?;
        let known = if number >= current.since { Some(current) } else { self.previous.as_ref() };
        known.map(|known| &known.structure)
    }

    /// First template id of the structure in force, and how many there are.
    #[must_use]
    pub fn template_ids(&self) -> Option<(u8, u8)> {
        let structure = &self.current.as_ref()?.structure;
        Some((structure.id_offset(), low8(structure.templates().len())))
    }

    fn by_dependency(&mut self, bytes: &[u8], mandatory: Mandatory, timestamp: u32) -> Classified {
        let number = unwrap_number(self.newest, mandatory.frame_number, 16);
        let is_newest = self.newest.is_none_or(|newest| number >= newest);
        if has_structure(bytes) {
            self.take_structure(bytes, number);
        }
        let Some(structure) = self.structure_for(number) else {
            // What comes before the first structure is older than everything that can be shown, or waits for it.
            return Classified::Waits;
        };
        let Ok(descriptor) = Descriptor::parse(bytes, Some(structure)) else {
            return if is_newest {
                Classified::Waits
            } else {
                Classified::Known { frame: FrameInfo { targets: 0, number, ..FrameInfo::WHOLE }, starts_keyframe: Some(false) }
            };
        };
        if is_newest {
            self.newest = Some(number);
            if let Some(active) = descriptor.active_decode_targets {
                self.active = active;
            }
            self.count_picture(timestamp, descriptor.layer.temporal);
        }
        let references = descriptor.frame_diffs.as_slice().iter().fold(0_u64, |bits, &diff| match diff {
            1..=64 => bits | (1 << (diff - 1)),
            // Beyond what is remembered of a subscriber: no switch happens here.
            _ => u64::MAX,
        });
        let frame = FrameInfo {
            targets: descriptor.indications.present(),
            switches: descriptor.indications.switches(),
            references,
            number,
            layer: descriptor.layer,
            starts_frame: mandatory.starts_frame,
            ends_frame: mandatory.ends_frame,
        };
        Classified::Known { frame, starts_keyframe: Some(descriptor.starts_keyframe()) }
    }

    fn take_structure(&mut self, bytes: &[u8], number: u32) {
        let Ok(Some(structure)) = Structure::parse(bytes) else { return };
        if self.current.as_ref().is_some_and(|known| number < known.since || known.structure == structure) {
            return;
        }
        for (spatial, size) in (0..).zip(&mut self.sizes) {
            *size = structure.resolution(spatial).map_or((0, 0), |resolution| (resolution.width, resolution.height));
        }
        self.previous = self.current.replace(Box::new(Known { structure, since: number }));
    }

    fn by_vp8(
        &mut self,
        picture_id: Option<(u16, u32)>,
        temporal: u8,
        is_sync: bool,
        is_keyframe: bool,
        timestamp: u32,
    ) -> Option<FrameInfo> {
        let (id, bits) = picture_id?;
        let number = unwrap_number(self.newest, id, bits);
        let layer = Layer { spatial: 0, temporal };
        let from = |temporal: u8| (0xff_u32 << temporal) & 0xff;
        let newest = |temporal: u8| self.latest[0].get(usize::from(temporal)).copied().filter(|&number| number > 0);
        // A frame of layer k continues layers 0 to k. One with the sync bit needs the base layer only, but those after it may
        // need layer k - 1, so that layers are gone up one by one.
        let needed = match temporal {
            _ if is_keyframe => [None, None],
            0 => [newest(0), None],
            above => [newest(0), newest(above - 1)],
        };
        let references = self.references(number, needed.into_iter().flatten());
        let switches = match temporal {
            _ if is_keyframe => from(0),
            0 => 1,
            above if is_sync => 1 << above.min(7),
            _ => 0,
        };
        self.note(number, number, layer, timestamp);
        self.is_layered |= temporal > 0;
        Some(FrameInfo { targets: from(temporal), switches, references, number, layer, starts_frame: false, ends_frame: false })
    }

    fn by_vp9(&mut self, payload: &Vp9Payload, timestamp: u32) -> Option<FrameInfo> {
        let id = payload.fields.picture_id?;
        let layer = Layer { spatial: payload.spatial, temporal: payload.temporal };
        if usize::from(layer.spatial) >= MAX_SPATIAL_LAYERS {
            return None;
        }
        if let Some(structure) = payload.structure {
            self.is_layered |= structure.spatial_layers > 1 || structure.temporal_layers > 1;
            for (spatial, (absent, size)) in self.absent.iter_mut().zip(&mut self.sizes).enumerate() {
                *absent = (spatial < usize::from(structure.spatial_layers)).then_some(0);
                let resolution = structure.resolutions.and_then(|all| all.get(spatial).copied()).unwrap_or_default();
                *size = (resolution.0.into(), resolution.1.into());
            }
        }
        let picture = unwrap_number(self.newest, id.value, if id.is_long { 15 } else { 7 });
        // Four numbers a picture, one per spatial layer.
        let number = picture.wrapping_mul(4).wrapping_add(layer.spatial.into());
        let own = |spatial: u8| (0xff_u32 << layer.temporal & 0xff) << (8 * u32::from(spatial));
        let mut targets = own(layer.spatial);
        if payload.is_inter_predicted {
            let bit = 1 << layer.spatial;
            self.unreferenced = if payload.is_not_reference_for_upper_spatial { self.unreferenced | bit } else { self.unreferenced & !bit };
        }
        if !payload.is_not_reference_for_upper_spatial {
            targets |= (layer.spatial + 1..low8(MAX_SPATIAL_LAYERS)).fold(0, |mask, above| mask | own(above));
        }
        let switches = if !payload.is_inter_predicted {
            targets
        } else if payload.is_switching_up_point {
            own(layer.spatial)
        } else {
            0
        };
        let below = payload.is_inter_layer_predicted.then(|| number.wrapping_sub(1));
        let references = if !payload.is_inter_predicted {
            self.references(number, below.into_iter())
        } else if payload.is_flexible {
            let diffs = payload.references;
            let listed = diffs.as_slice().iter().map(|&diff| number.wrapping_sub(u32::from(diff) * 4));
            self.references(number, listed.chain(below))
        } else {
            let row = self.latest[usize::from(layer.spatial)];
            let newest = row.iter().take(usize::from(layer.temporal) + 1).copied().max().filter(|&number| number > 0);
            self.references(number, newest.into_iter().chain(below))
        };
        self.note(picture, number, layer, timestamp);
        self.is_layered |= layer > Layer::default();
        Some(FrameInfo { targets, switches, references, number, layer, starts_frame: payload.starts_frame, ends_frame: payload.ends_frame })
    }

    /// References as a mask. All packets of a frame have those of its first.
    fn references(&mut self, number: u32, needed: impl Iterator<Item = u32>) -> u64 {
        if self.guessed.0 == number {
            return self.guessed.1;
        }
        let references = needed.fold(0_u64, |bits, needed| match number.wrapping_sub(needed) {
            0 => bits,
            back @ 1..=64 => bits | (1 << (back - 1)),
            _ => u64::MAX,
        });
        if number > self.guessed.0 {
            self.guessed = (number, references);
        }
        references
    }

    /// Takes note of a frame that payload descriptors describe.
    fn note(&mut self, newest: u32, number: u32, layer: Layer, timestamp: u32) {
        if self.newest.is_none_or(|known| newest >= known) {
            self.newest = Some(newest);
            self.count_picture(timestamp, layer.temporal);
        }
        let (spatial, temporal) = (usize::from(layer.spatial), usize::from(layer.temporal));
        if let Some(latest) = self.latest.get_mut(spatial).and_then(|row| row.get_mut(temporal)) {
            *latest = number.max(*latest);
        }
        if let Some(absent) = self.absent.get_mut(spatial) {
            *absent = Some(0);
        }
    }

    fn count_picture(&mut self, timestamp: u32, temporal: u8) {
        if self.picture.replace(timestamp) == Some(timestamp) {
            return;
        }
        if let Some(count) = self.pictures.get_mut(usize::from(temporal)) {
            *count += 1;
        }
        for pictures in self.absent.iter_mut().flatten() {
            *pictures = pictures.saturating_add(1);
        }
    }
}

/// The number next to `newest` whose low bits are these. The first one stands above a whole range, so that older ones exist.
fn unwrap_number(newest: Option<u32>, value: u16, bits: u32) -> u32 {
    let range = 1_u32 << bits;
    let value = u32::from(value) & (range - 1);
    let Some(newest) = newest else { return range + value };
    let ahead = value.wrapping_sub(newest) & (range - 1);
    if ahead < range / 2 { newest.wrapping_add(ahead) } else { newest.wrapping_add(ahead).wrapping_sub(range) }
}

fn low8(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}
