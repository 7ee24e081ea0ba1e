//! Frame dependency structure (A.8.2 `template_dependency_structure`): what all frames of a coded video sequence have in
//! common. It comes with the first packet of a keyframe and stays in force until the next one.

use arrayvec::ArrayVec;

use super::super::bits::{BitReader, BitWriter};
use super::{
    ChainDiffs, FrameDiffs, Indication, Indications, MANDATORY_LEN, MAX_CHAINS, MAX_DECODE_TARGETS, MAX_SPATIAL_LAYERS, MAX_TEMPLATES,
    MAX_TEMPORAL_LAYERS, Malformed, has_structure,
};

/// A spatial and a temporal layer; the order is by spatial layer first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Layer {
    /// 0 is the smallest picture.
    pub spatial: u8,
    /// 0 is the lowest frame rate.
    pub temporal: u8,
}

/// Width and height in pixels, each 1 to 65 536.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resolution {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// What many frames have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Template {
    /// Layer of such a frame.
    pub layer: Layer,
    /// Its role for each decode target.
    pub indications: Indications,
    /// Its references, 1-16 frames back.
    pub frame_diffs: FrameDiffs,
    /// Previous frames of the chains, 0-15 frames back.
    pub chain_diffs: ChainDiffs,
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Structure {
    /// Id of the first template, 0-63; ids wrap at 64.
    id_offset: u8,
    templates: ArrayVec<Template, MAX_TEMPLATES>,
    /// Layer of each decode target: the highest of its frames.
    targets: ArrayVec<Layer, MAX_DECODE_TARGETS>,
    chains: u8,
    /// Chain of each decode target, if there are chains.
    protected_by: [u8; MAX_DECODE_TARGETS],
    /// Per spatial layer, or empty.
    resolutions: ArrayVec<Resolution, MAX_SPATIAL_LAYERS>,
}

impl Structure {
    /// Reads the structure of a descriptor that brings one; None if it brings none.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        if !has_structure(bytes) {
            return Ok(None);
        }
        let mut bits = BitReader::new(bytes);
        bits.skip(MANDATORY_LEN * 8 + 5).ok_or(Malformed::CutShort)?;
        Self::read(&mut bits).map(Some)
    }

    /// Makes a structure from its parts, for senders: the first template's id (0-63), templates in order of their layers,
    /// the chain of each decode target (all 0 if there are no chains), and per spatial layer its resolution (or none).
    ///
    /// # Errors
    /// [`Malformed::BeyondBound`] if the parts can't be written: wrong counts, layers out of order, differences too large.
    pub fn new(id_offset: u8, templates: &[Template], protected_by: &[u8], resolutions: &[Resolution]) -> Result<Self, Malformed> {
        let mut structure = Self {
            id_offset,
            templates: templates.iter().copied().take(MAX_TEMPLATES).collect(),
            targets: protected_by.iter().take(MAX_DECODE_TARGETS).map(|_| Layer::default()).collect(),
            chains: 0,
            protected_by: [0; MAX_DECODE_TARGETS],
            resolutions: resolutions.iter().copied().take(MAX_SPATIAL_LAYERS).collect(),
        };
        structure.chains = templates.first().map_or(0, |first| first.chain_diffs.count);
        for (own, &chain) in structure.protected_by.iter_mut().zip(protected_by) {
            *own = chain;
        }
        structure.find_target_layers();
        // What can be written reads back the same; everything else is out of bounds.
        let mut out = [0; 2048];
        let mut bits = BitWriter::new(&mut out);
        let is_written = structure.write(&mut bits);
        let len = bits.finish().filter(|_| is_written).ok_or(Malformed::BeyondBound)?;
        let read = Self::read(&mut BitReader::new(&out[..len]))?;
        let is_whole =
            templates.len() <= MAX_TEMPLATES && protected_by.len() <= MAX_DECODE_TARGETS && resolutions.len() <= MAX_SPATIAL_LAYERS;
        if is_whole && read == structure { Ok(structure) } else { Err(Malformed::BeyondBound) }
    }

    /// Id of the first template.
    #[must_use]
    pub const fn id_offset(&self) -> u8 {
        self.id_offset
    }

    /// The same structure with its template ids moved, modulo 64.
    #[must_use]
    pub fn shifted(&self, by: u8) -> Self {
        Self { id_offset: self.id_offset.wrapping_add(by) % 64, ..self.clone() }
    }

    /// Templates in the order of their ids.
    #[must_use]
    pub fn templates(&self) -> &[Template] {
        &self.templates
    }

    /// Template by its id on the wire (0-63).
    #[must_use]
    pub fn template(&self, id: u8) -> Option<&Template> {
        self.templates.get(usize::from(id.wrapping_sub(self.id_offset) % 64))
    }

    /// Number of decode targets, 1-32.
    #[must_use]
    pub fn decode_targets(&self) -> usize {
        self.targets.len()
    }

    /// Mask with a bit for every decode target.
    #[must_use]
    pub fn all_decode_targets(&self) -> u32 {
        mask_of(self.targets.len())
    }

    /// Highest layer that a decode target contains.
    #[must_use]
    pub fn layer_of(&self, target: usize) -> Option<Layer> {
        self.targets.get(target).copied()
    }

    /// The decode target to forward for a wish: the best one of at most this layer. The spatial layer counts first.
    #[must_use]
    pub fn decode_target_for(&self, wanted: Layer) -> Option<usize> {
        let fits = |layer: &Layer| layer.spatial <= wanted.spatial && layer.temporal <= wanted.temporal;
        let candidates = self.targets.iter().enumerate().filter(|(_, layer)| fits(layer));
        // Among equals the first one: encoders list the better ones first.
        candidates.rev().max_by_key(|&(_, layer)| layer).map(|(target, _)| target)
    }

    /// Mask of the decode targets that remain decodable if only layers up to `limit` are forwarded. Never 0 for a limit
    /// from [`Structure::layer_of`].
    #[must_use]
    pub fn decode_targets_up_to(&self, limit: Layer) -> u32 {
        let remains = |layer: &Layer| layer.spatial <= limit.spatial && layer.temporal <= limit.temporal;
        self.targets.iter().enumerate().filter(|(_, layer)| remains(layer)).fold(0, |mask, (target, _)| mask | (1 << target))
    }

    /// Number of chains, 0 if the structure has no protection by chains.
    #[must_use]
    pub fn chains(&self) -> usize {
        usize::from(self.chains)
    }

    /// Chain that protects a decode target.
    #[must_use]
    pub fn chain_of(&self, target: usize) -> Option<usize> {
        let is_protected = self.chains > 0 && target < self.targets.len();
        self.protected_by.get(target).filter(|_| is_protected).map(|&chain| usize::from(chain))
    }

    /// Mask of the decode targets that a chain protects.
    #[must_use]
    pub fn protected_by(&self, chain: usize) -> u32 {
        (0..self.targets.len()).filter(|&target| self.chain_of(target) == Some(chain)).fold(0, |mask, target| mask | (1 << target))
    }

    /// Highest spatial layer of any template.
    #[must_use]
    pub fn max_spatial(&self) -> u8 {
        // Templates are in the order of spatial layers.
        self.templates.last().map_or(0, |template| template.layer.spatial)
    }

    /// Highest temporal layer of any template.
    #[must_use]
    pub fn max_temporal(&self) -> u8 {
        self.templates.iter().map(|template| template.layer.temporal).max().unwrap_or(0)
    }

    /// Largest size with which a spatial layer is shown, if the structure says it.
    #[must_use]
    pub fn resolution(&self, spatial: u8) -> Option<Resolution> {
        self.resolutions.get(usize::from(spatial)).copied()
    }

    /// Reads `template_dependency_structure()`.
    pub(super) fn read(bits: &mut BitReader<'_>) -> Result<Self, Malformed> {
        let id_offset = bits.small(6).ok_or(Malformed::CutShort)?;
        let decode_targets = usize::from(bits.small(5).ok_or(Malformed::CutShort)?) + 1;
        let mut structure = Self {
            id_offset,
            templates: ArrayVec::new(),
            targets: (0..decode_targets).map(|_| Layer::default()).collect(),
            chains: 0,
            protected_by: [0; MAX_DECODE_TARGETS],
            resolutions: ArrayVec::new(),
        };
        structure.read_layers(bits)?;
        for template in &mut structure.templates {
            template.indications = Indications::read(bits, decode_targets).ok_or(Malformed::CutShort)?;
        }
        for template in &mut structure.templates {
            while bits.flag().ok_or(Malformed::CutShort)? {
                template.frame_diffs.push(u16::from(bits.small(4).ok_or(Malformed::CutShort)?) + 1)?;
            }
        }
        structure.read_chains(bits).ok_or(Malformed::CutShort)?;
        structure.find_target_layers();
        structure.read_resolutions(bits).ok_or(Malformed::CutShort)?;
        Ok(structure)
    }

    /// `template_layers()`, table A.2.
    fn read_layers(&mut self, bits: &mut BitReader<'_>) -> Result<(), Malformed> {
        let mut layer = Layer::default();
        loop {
            let is_possible = usize::from(layer.spatial) < MAX_SPATIAL_LAYERS && usize::from(layer.temporal) < MAX_TEMPORAL_LAYERS;
            if !is_possible {
                return Err(Malformed::BeyondBound);
            }
            self.templates.try_push(Template { layer, ..Template::default() }).map_err(|_| Malformed::BeyondBound)?;
            match bits.small(2).ok_or(Malformed::CutShort)? {
                SAME_LAYER => {}
                NEXT_TEMPORAL => layer.temporal += 1,
                NEXT_SPATIAL => layer = Layer { spatial: layer.spatial + 1, temporal: 0 },
                _ => return Ok(()),
            }
        }
    }

    /// `template_chains()`.
    fn read_chains(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        let decode_targets = u32::try_from(self.targets.len()).ok()?;
        let chains = bits.non_symmetric(decode_targets + 1)?;
        self.chains = u8::try_from(chains).ok().filter(|&chains| usize::from(chains) <= MAX_CHAINS)?;
        if chains == 0 {
            return Some(());
        }
        for protected_by in self.protected_by.iter_mut().take(self.targets.len()) {
            *protected_by = u8::try_from(bits.non_symmetric(chains)?).ok()?;
        }
        for template in &mut self.templates {
            for _ in 0..chains {
                template.chain_diffs.push(bits.small(4)?).ok()?;
            }
        }
        Some(())
    }

    /// `decode_target_layers()`: nothing to read, the highest layer of a target's templates.
    fn find_target_layers(&mut self) {
        for (target, layer) in self.targets.iter_mut().enumerate() {
            *layer = Layer::default();
            for template in self.templates.iter().filter(|template| template.indications.get(target) != Indication::NotPresent) {
                layer.spatial = layer.spatial.max(template.layer.spatial);
                layer.temporal = layer.temporal.max(template.layer.temporal);
            }
        }
    }

    /// `resolutions_present_flag` and `render_resolutions()`.
    fn read_resolutions(&mut self, bits: &mut BitReader<'_>) -> Option<()> {
        if !bits.flag()? {
            return Some(());
        }
        for _ in 0..=self.max_spatial() {
            let resolution = Resolution { width: bits.read(16)? + 1, height: bits.read(16)? + 1 };
            self.resolutions.try_push(resolution).ok()?;
        }
        Some(())
    }

    /// Writes `template_dependency_structure()`; false if a value does not fit its field.
    pub(super) fn write(&self, bits: &mut BitWriter<'_>) -> bool {
        let Ok(decode_targets) = u32::try_from(self.targets.len()) else { return false };
        if self.templates.is_empty() || decode_targets == 0 || u32::from(self.chains) > decode_targets || self.id_offset > 63 {
            return false;
        }
        bits.write(6, u32::from(self.id_offset));
        bits.write(5, decode_targets - 1);
        for (template, next) in self.templates.iter().zip(self.templates.iter().skip(1)) {
            let step = match next.layer {
                layer if layer == template.layer => SAME_LAYER,
                Layer { spatial, .. } if spatial == template.layer.spatial => NEXT_TEMPORAL,
                _ => NEXT_SPATIAL,
            };
            bits.write(2, u32::from(step));
        }
        bits.write(2, u32::from(LAST_TEMPLATE));
        for template in &self.templates {
            for target in 0..self.targets.len() {
                bits.write(2, template.indications.get(target) as u32);
            }
        }
        for template in &self.templates {
            for &diff in template.frame_diffs.as_slice() {
                bits.write(1, 1);
                bits.write(4, u32::from(diff.wrapping_sub(1)));
            }
            bits.write(1, 0);
        }
        bits.write_non_symmetric(decode_targets + 1, u32::from(self.chains));
        if self.chains > 0 {
            for &chain in self.protected_by.iter().take(self.targets.len()) {
                if chain >= self.chains {
                    return false;
                }
                bits.write_non_symmetric(u32::from(self.chains), u32::from(chain));
            }
            for template in &self.templates {
                for &diff in template.chain_diffs.as_slice() {
                    bits.write(4, u32::from(diff));
                }
            }
        }
        bits.write(1, u32::from(!self.resolutions.is_empty()));
        for resolution in &self.resolutions {
            bits.write(16, resolution.width.wrapping_sub(1));
            bits.write(16, resolution.height.wrapping_sub(1));
        }
        true
    }
}

/// `next_layer_idc` (table A.2).
const SAME_LAYER: u8 = 0;
const NEXT_TEMPORAL: u8 = 1;
const NEXT_SPATIAL: u8 = 2;
const LAST_TEMPLATE: u8 = 3;

/// A mask of the lowest `count` (at most 32) bits.
const fn mask_of(count: usize) -> u32 {
    if count >= 32 { u32::MAX } else { (1 << count) - 1 }
}
