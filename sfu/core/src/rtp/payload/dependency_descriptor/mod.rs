//! Dependency descriptor, an RTP header extension that tells which frames a frame needs (AV1 RTP specification, appendix A).
//!
//! In: the extension's value, and the [`Structure`] that the stream's last keyframe brought. Out: layer, role for every
//! decode target, references and chains of the packet's frame, without reading the payload.
//! Invariants: a [`Descriptor`] never names a decode target, chain or layer that its structure lacks.
//! Not here: unwrapping of frame numbers, and which structure is in force (a caller keeps the one of the newest packet
//! that carried one). Terms are those of section A.2.

mod structure;
mod write;

pub use structure::{Layer, Resolution, Structure, Template};
pub use write::{Composed, Patch, compose, patch};

use super::bits::BitReader;

/// `dt_cnt_minus_one` has five bits.
pub const MAX_DECODE_TARGETS: usize = 32;
/// `chain_cnt` is at most the number of decode targets.
pub const MAX_CHAINS: usize = MAX_DECODE_TARGETS;
/// Template ids have six bits.
pub const MAX_TEMPLATES: usize = 64;
/// Spatial ids have two bits in AV1, and three layers are the most that browsers send.
pub const MAX_SPATIAL_LAYERS: usize = 4;
/// Temporal ids have three bits in AV1.
pub const MAX_TEMPORAL_LAYERS: usize = 8;
/// References of a frame. A decoder of AV1 or VP9 has eight slots for frames.
pub const MAX_REFERENCES: usize = 8;
/// Longest value of a header extension (RFC 8285 section 4.3).
pub const MAX_LEN: usize = 255;

/// Bytes of the mandatory fields, which are all that most packets carry.
const MANDATORY_LEN: usize = 3;

/// Why a descriptor was not understood. The packet can still be forwarded, just not by layers.
#[derive(thiserror::Error, Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Malformed {
    /// Ends within a field.
    #[error("cut short")]
    CutShort,
    /// More templates, layers or references than any codec has.
    #[error("beyond a bound")]
    BeyondBound,
    /// Needs a structure that has not come.
    #[error("no structure known")]
    NoStructure,
    /// Refers to a template that the structure lacks: a packet with a newer structure was lost, or this packet is older.
    #[error("unknown template")]
    UnknownTemplate,
    /// What would be written is longer than an extension can be.
    #[error("too long to be written")]
    TooLong,
}

/// What a frame is for one decode target (table A.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Indication {
    /// Does not belong to it.
    NotPresent,
    /// Belongs to it, and no other frame of it depends on this one.
    Discardable,
    /// Belongs to it, and everything that follows in it is decodable if this frame is.
    Switch,
    /// Belongs to it.
    Required,
}

/// Indications of a frame for all decode targets, two bits each.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Indications(u64);

impl Indications {
    /// For one decode target.
    #[must_use]
    pub const fn get(self, target: usize) -> Indication {
        if target >= MAX_DECODE_TARGETS {
            return Indication::NotPresent;
        }
        match (self.0 >> (2 * target)) & 3 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }

    /// With another indication for one decode target.
    #[must_use]
    pub const fn with(self, target: usize, indication: Indication) -> Self {
        if target >= MAX_DECODE_TARGETS {
            return self;
        }
        Self(self.0 & !(3 << (2 * target)) | ((indication as u64) << (2 * target)))
    }

    /// Mask of the decode targets to which the frame belongs.
    #[must_use]
    pub fn present(self) -> u32 {
        self.mask(|indication| indication != Indication::NotPresent)
    }

    /// Mask of the decode targets to which a receiver may switch at this frame (section A.7).
    #[must_use]
    pub fn switches(self) -> u32 {
        self.mask(|indication| indication == Indication::Switch)
    }

    fn mask(self, counts: impl Fn(Indication) -> bool) -> u32 {
        (0..MAX_DECODE_TARGETS).filter(|&target| counts(self.get(target))).fold(0, |mask, target| mask | (1 << target))
    }

    fn read(bits: &mut BitReader<'_>, decode_targets: usize) -> Option<Self> {
        let mut indications = 0;
        for target in 0..decode_targets {
            indications |= u64::from(bits.read(2)?) << (2 * target);
        }
        Some(Self(indications))
    }
}

/// How many frames back each reference of a frame is; 1 is the frame before in decoding order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameDiffs {
    count: u8,
    diffs: [u16; MAX_REFERENCES],
}

impl FrameDiffs {
    /// The differences in the order of the descriptor.
    #[must_use]
    pub fn as_slice(&self) -> &[u16] {
        self.diffs.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Adds one.
    ///
    /// # Errors
    /// [`Malformed::BeyondBound`] beyond [`MAX_REFERENCES`].
    pub fn push(&mut self, diff: u16) -> Result<(), Malformed> {
        *self.diffs.get_mut(usize::from(self.count)).ok_or(Malformed::BeyondBound)? = diff;
        self.count += 1;
        Ok(())
    }
}

/// How many frames back the previous frame of each chain is; 0 if none is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChainDiffs {
    count: u8,
    diffs: [u8; MAX_CHAINS],
}

impl ChainDiffs {
    /// One difference per chain of the structure.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.diffs.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Adds that of the next chain.
    ///
    /// # Errors
    /// [`Malformed::BeyondBound`] beyond [`MAX_CHAINS`].
    pub fn push(&mut self, diff: u8) -> Result<(), Malformed> {
        *self.diffs.get_mut(usize::from(self.count)).ok_or(Malformed::BeyondBound)? = diff;
        self.count += 1;
        Ok(())
    }
}

/// Fields of every descriptor, which need no structure to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mandatory {
    /// First packet of its frame.
    pub starts_frame: bool,
    /// Last packet of its frame; frames of higher spatial layers may follow in the same picture.
    pub ends_frame: bool,
    /// Template id, 0-63.
    pub template_id: u8,
    /// Frame number as sent; counts frames (not pictures) in decoding order and wraps.
    pub frame_number: u16,
}

impl Mandatory {
    /// Reads the first three bytes.
    ///
    /// # Errors
    /// [`Malformed::CutShort`]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let [first, high, low] = *bytes.first_chunk::<MANDATORY_LEN>().ok_or(Malformed::CutShort)?;
        Ok(Self {
            starts_frame: first & 0x80 != 0,
            ends_frame: first & 0x40 != 0,
            template_id: first & 0x3f,
            frame_number: u16::from_be_bytes([high, low]),
        })
    }
}

/// A descriptor with everything that its structure says of the frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Place in the stream.
    pub mandatory: Mandatory,
    /// The packet brings a structure: it is the first of a coded video sequence. [`Structure::parse`] reads it.
    pub has_structure: bool,
    /// Decode targets that can be decoded from here on, bit 0 for decode target 0; None means "as before". A structure
    /// without a mask activates all.
    pub active_decode_targets: Option<u32>,
    /// Layer of the frame.
    pub layer: Layer,
    /// Role for each decode target.
    pub indications: Indications,
    /// References.
    pub frame_diffs: FrameDiffs,
    /// Previous frames of the chains.
    pub chain_diffs: ChainDiffs,
    /// Largest width and height with which frames of this spatial layer are shown.
    pub resolution: Option<Resolution>,
}

impl Descriptor {
    /// Reads a descriptor. One that brings a structure is read with that one, any other with `known`.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn parse(bytes: &[u8], known: Option<&Structure>) -> Result<Self, Malformed> {
        locate(bytes, known).map(|(descriptor, _)| descriptor)
    }

    /// The frame needs no other frame. (It may be the base of a layered picture, whose upper layers need it.)
    #[must_use]
    pub fn is_independent(&self) -> bool {
        self.frame_diffs.as_slice().is_empty()
    }

    /// First packet of a frame with which decoding can start without any other.
    #[must_use]
    pub fn starts_keyframe(&self) -> bool {
        self.has_structure && self.mandatory.starts_frame && self.is_independent()
    }

    /// Is the frame in this chain, whose active decode targets are in `active`? Losing it breaks the chain (section A.6,
    /// `PartOfActiveChain`).
    #[must_use]
    pub fn is_in_chain(&self, structure: &Structure, chain: usize, active: u32) -> bool {
        let protected = structure.protected_by(chain);
        protected & active != 0
            && (0..structure.decode_targets())
                .filter(|target| protected & (1 << target) != 0)
                .all(|target| matches!(self.indications.get(target), Indication::Switch | Indication::Required))
    }
}

/// Is there a structure in this descriptor?
#[must_use]
pub fn has_structure(bytes: &[u8]) -> bool {
    bytes.get(MANDATORY_LEN).is_some_and(|flags| flags & 0x80 != 0)
}

/// Where the variable parts of a descriptor stand, in bits from its start.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Behind the flags and the structure: the mask of active decode targets stands here or would.
    mask: usize,
    /// Behind the mask.
    custom: usize,
    /// Behind the last field; what follows is padding.
    end: usize,
    decode_targets: usize,
}

fn locate(bytes: &[u8], known: Option<&Structure>) -> Result<(Descriptor, Layout), Malformed> {
    let mandatory = Mandatory::parse(bytes)?;
    if bytes.len() > MAX_LEN {
        return Err(Malformed::TooLong);
    }
    let mut bits = BitReader::new(bytes);
    bits.skip(MANDATORY_LEN * 8).ok_or(Malformed::CutShort)?;
    let flags = if bytes.len() > MANDATORY_LEN { bits.read(5).ok_or(Malformed::CutShort)? } else { 0 };
    let has = |bit: u32| flags & bit != 0;
    let own;
    let (structure, mut active_decode_targets) = if has(0x10) {
        own = Structure::read(&mut bits)?;
        (&own, Some(own.all_decode_targets()))
    } else {
        (known.ok_or(Malformed::NoStructure)?, None)
    };
    let mask = bits.position();
    let decode_targets = structure.decode_targets();
    if has(0x08) {
        active_decode_targets = Some(bits.read(decode_targets).ok_or(Malformed::CutShort)?);
    }
    let custom = bits.position();
    let template = structure.template(mandatory.template_id).ok_or(Malformed::UnknownTemplate)?;
    let mut descriptor = Descriptor {
        mandatory,
        has_structure: has(0x10),
        active_decode_targets,
        layer: template.layer,
        indications: template.indications,
        frame_diffs: template.frame_diffs,
        chain_diffs: template.chain_diffs,
        resolution: structure.resolution(template.layer.spatial),
    };
    if has(0x04) {
        descriptor.indications = Indications::read(&mut bits, decode_targets).ok_or(Malformed::CutShort)?;
    }
    if has(0x02) {
        descriptor.frame_diffs = read_frame_diffs(&mut bits)?;
    }
    if has(0x01) {
        let mut diffs = ChainDiffs::default();
        for _ in 0..structure.chains() {
            diffs.push(bits.small(8).ok_or(Malformed::CutShort)?)?;
        }
        descriptor.chain_diffs = diffs;
    }
    Ok((descriptor, Layout { mask, custom, end: bits.position(), decode_targets }))
}

/// `frame_fdiffs()`: the size in units of four bits, then the difference minus one; a size of 0 ends the list.
fn read_frame_diffs(bits: &mut BitReader<'_>) -> Result<FrameDiffs, Malformed> {
    let mut diffs = FrameDiffs::default();
    loop {
        let size = usize::from(bits.small(2).ok_or(Malformed::CutShort)?);
        if size == 0 {
            return Ok(diffs);
        }
        let diff = bits.read(4 * size).ok_or(Malformed::CutShort)? + 1;
        diffs.push(u16::try_from(diff).map_err(|_| Malformed::BeyondBound)?)?;
    }
}

#[cfg(test)]
mod tests;
