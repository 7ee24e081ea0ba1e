//! Scalability modes of encoders (W3C webrtc-svc): which frames refer to which, and how the dependency descriptor says it.
//!
//! In: the place of a frame in its pattern. Out: references, the structure, one descriptor a packet. Temporal layers follow
//! the pattern 0-2-1-2, so that every frame of a lower temporal layer is a point at which a receiver may go up.

use sfu_core::rtp::payload::dependency_descriptor::{
    ChainDiffs, Composed, Descriptor, FrameDiffs, Indication, Indications, Layer, MAX_LEN, Mandatory, Resolution, Structure, Template,
    compose,
};

/// A scalability mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode {
    /// Spatial layers, 1 to 3, each half as wide as the next.
    pub spatial: u8,
    /// Temporal layers, 1 to 3.
    pub temporal: u8,
    /// Spatial layers refer to lower ones in keyframes only.
    pub is_key: bool,
}

impl Mode {
    /// One layer.
    pub const L1T1: Self = Self::new(1, 1, false);
    /// Two frame rates.
    pub const L1T2: Self = Self::new(1, 2, false);
    /// Three frame rates.
    pub const L1T3: Self = Self::new(1, 3, false);
    /// Two sizes and two frame rates.
    pub const L2T2_KEY: Self = Self::new(2, 2, true);
    /// Three sizes and three frame rates, each size predicted from the next smaller one.
    pub const L3T3: Self = Self::new(3, 3, false);
    /// The same with prediction between sizes in keyframes only.
    pub const L3T3_KEY: Self = Self::new(3, 3, true);

    const fn new(spatial: u8, temporal: u8, is_key: bool) -> Self {
        Self { spatial, temporal, is_key }
    }

    /// Temporal layer of each picture, again and again.
    #[must_use]
    pub const fn pattern(self) -> &'static [u8] {
        match self.temporal {
            0 | 1 => &[0],
            2 => &[0, 1],
            _ => &[0, 2, 1, 2],
        }
    }

    /// A frame refers to the next lower spatial layer of its picture.
    #[must_use]
    pub const fn refers_below(self, layer: Layer, is_key_picture: bool) -> bool {
        layer.spatial > 0 && (is_key_picture || !self.is_key)
    }

    fn targets(self) -> impl Iterator<Item = Layer> {
        (0..self.spatial).flat_map(move |spatial| (0..self.temporal).map(move |temporal| Layer { spatial, temporal }))
    }

    /// What a frame is for each decode target; these are in the order of their layers.
    fn indications(self, layer: Layer, is_key_picture: bool) -> Indications {
        let for_target = |target: Layer| {
            let is_in = target.temporal >= layer.temporal
                && (target.spatial == layer.spatial || (target.spatial > layer.spatial && (is_key_picture || !self.is_key)));
            match (is_in, is_key_picture) {
                (false, _) => Indication::NotPresent,
                (true, true) => Indication::Switch,
                (true, false) if target.spatial > layer.spatial => Indication::Required,
                (true, false) if layer.temporal > 0 && target.temporal == layer.temporal => Indication::Discardable,
                (true, false) => Indication::Switch,
            }
        };
        self.targets().map(for_target).enumerate().fold(Indications::default(), |all, (target, one)| all.with(target, one))
    }

    /// Templates in the order of their layers: a keyframe's and the others'.
    fn templates(self) -> Vec<(Layer, bool, Template)> {
        let mut templates = Vec::new();
        let mut chain_diffs = ChainDiffs::default();
        (0..self.spatial).for_each(|_| chain_diffs.push(0).expect("few chains"));
        for layer in self.targets() {
            for is_key_picture in [true, false] {
                if is_key_picture && layer.temporal > 0 {
                    continue;
                }
                let indications = self.indications(layer, is_key_picture);
                let template = Template { layer, indications, frame_diffs: FrameDiffs::default(), chain_diffs };
                templates.push((layer, is_key_picture, template));
            }
        }
        templates
    }
}

/// Writes the dependency descriptors of one encoding.
#[derive(Debug)]
pub struct Describer {
    mode: Mode,
    structure: Structure,
    id_offset: u8,
    number: u16,
    /// Number of the newest frame in the chain of each spatial layer.
    chains: [Option<u16>; 3],
    /// Decode targets that are produced; announced with the next picture if they changed.
    active: u32,
    announced: u32,
}

/// One frame as its packets' descriptors tell it.
#[derive(Clone, Copy, Debug)]
pub struct DescribedFrame {
    descriptor: Descriptor,
    brings_structure: bool,
}

impl Describer {
    /// For an encoding whose largest picture has this size. Frame numbers start at `number`, template ids at `id_offset`.
    #[must_use]
    pub fn new(mode: Mode, size_px: (u16, u16), number: u16, id_offset: u8) -> Self {
        let templates: Vec<Template> = mode.templates().into_iter().map(|(_, _, template)| template).collect();
        let protected_by: Vec<u8> = mode.targets().map(|layer| layer.spatial).collect();
        let shift = |spatial: u8| mode.spatial - 1 - spatial;
        let resolutions: Vec<Resolution> = (0..mode.spatial)
            .map(|spatial| Resolution { width: u32::from(size_px.0 >> shift(spatial)), height: u32::from(size_px.1 >> shift(spatial)) })
            .collect();
        let structure = Structure::new(id_offset % 64, &templates, &protected_by, &resolutions).expect("the parts fit");
        let active = structure.all_decode_targets();
        Self { mode, structure, id_offset: id_offset % 64, number, chains: [None; 3], active, announced: active }
    }

    /// Produces so many spatial layers from the next picture on.
    pub fn set_spatial_layers(&mut self, count: u8) {
        let active = self.mode.targets().enumerate().filter(|(_, layer)| layer.spatial < count);
        self.active = active.fold(0, |mask, (target, _)| mask | (1 << target));
    }

    /// The next frame. `references` are numbers as this type counts them.
    pub fn frame(&mut self, layer: Layer, is_key_picture: bool, references: &[u16]) -> (u16, DescribedFrame) {
        let number = self.number;
        self.number = number.wrapping_add(1);
        let place = self.mode.templates().iter().position(|(own, is_key, _)| *own == layer && *is_key == is_key_picture);
        let template_id = (self.id_offset + u8::try_from(place.unwrap_or(0)).unwrap_or(0)) % 64;
        let starts_sequence = is_key_picture && layer.spatial == 0;
        let (mut frame_diffs, mut chain_diffs) = (FrameDiffs::default(), ChainDiffs::default());
        for &reference in references {
            frame_diffs.push(number.wrapping_sub(reference)).expect("few references");
        }
        if starts_sequence {
            self.chains = [None; 3];
        }
        for (chain, last) in (0..self.mode.spatial).zip(&mut self.chains) {
            let diff = last.map_or(0, |last| number.wrapping_sub(last));
            chain_diffs.push(u8::try_from(diff).unwrap_or(0)).expect("few chains");
            let is_in = if is_key_picture || !self.mode.is_key { chain >= layer.spatial } else { chain == layer.spatial };
            if layer.temporal == 0 && is_in {
                *last = Some(number);
            }
        }
        let announces = layer.spatial == 0
            && (self.active != self.announced || (starts_sequence && self.active != self.structure.all_decode_targets()));
        if layer.spatial == 0 {
            self.announced = self.active;
        }
        let descriptor = Descriptor {
            mandatory: Mandatory { starts_frame: false, ends_frame: false, template_id, frame_number: number },
            has_structure: false,
            active_decode_targets: announces.then_some(self.active),
            layer,
            indications: self.mode.indications(layer, is_key_picture),
            frame_diffs,
            chain_diffs,
            resolution: None,
        };
        (number, DescribedFrame { descriptor, brings_structure: starts_sequence })
    }

    /// The descriptor of one packet of a frame. The structure and the mask stand in the first one only.
    #[must_use]
    pub fn packet(&self, frame: &DescribedFrame, is_first: bool, is_last: bool) -> Vec<u8> {
        let mut descriptor = frame.descriptor;
        (descriptor.mandatory.starts_frame, descriptor.mandatory.ends_frame) = (is_first, is_last);
        descriptor.has_structure = frame.brings_structure && is_first;
        descriptor.active_decode_targets = descriptor.active_decode_targets.filter(|_| is_first);
        let mut bytes = [0; MAX_LEN];
        let len = compose(&Composed { descriptor, structure: &self.structure }, &mut bytes).expect("a descriptor fits an extension");
        bytes[..len].to_vec()
    }
}
