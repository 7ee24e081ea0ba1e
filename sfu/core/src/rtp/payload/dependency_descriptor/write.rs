//! Writes descriptors: a publisher's with changes for one subscriber, or a new one.
//!
//! When an SFU stops forwarding a decode target it must say so, or the receiver waits for frames that never come (section
//! A.4, `active_decode_targets_bitmask`). When it switches between encodings, frame numbers must go on and template ids of
//! two structures must not be confused. Everything else of a descriptor is passed on bit by bit.

use super::super::bits::{BitReader, BitWriter};
use super::{Descriptor, MANDATORY_LEN, MAX_LEN, Malformed, Structure, locate};

/// Changes to a descriptor; the default changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Patch {
    /// Mask to announce. Bits beyond the structure's decode targets are ignored.
    pub active_decode_targets: Option<u32>,
    /// Added to the frame number, modulo 65536.
    pub frame_number: u16,
    /// Added to the template id, and to the first template's id of a structure that comes with it, modulo 64.
    pub template_id: u8,
}

/// Flag bits behind the mandatory fields.
const HAS_STRUCTURE: u8 = 0x80;
const HAS_MASK: u8 = 0x40;

/// Writes a copy of the descriptor with the patch applied, and says how long it is. `known` is the structure as the
/// publisher sent it, as for [`Descriptor::parse`].
///
/// # Errors
/// [`Malformed`] as for parsing, and [`Malformed::TooLong`] if `out` or an extension is too short for the result.
pub fn patch(bytes: &[u8], known: Option<&Structure>, patch: Patch, out: &mut [u8]) -> Result<usize, Malformed> {
    let (descriptor, layout) = locate(bytes, known)?;
    let mandatory = descriptor.mandatory;
    let limit = out.len().min(MAX_LEN);
    let Some(out) = out.get_mut(..limit) else { return Err(Malformed::TooLong) };
    let mut from = BitReader::new(bytes);
    let mut to = BitWriter::new(out);
    to.write(2, u32::from(bytes[0] >> 6));
    to.write(6, u32::from(mandatory.template_id.wrapping_add(patch.template_id) % 64));
    to.write(16, u32::from(mandatory.frame_number.wrapping_add(patch.frame_number)));
    from.skip(MANDATORY_LEN * 8).ok_or(Malformed::CutShort)?;

    let flags = bytes.get(MANDATORY_LEN).copied().unwrap_or(0);
    let Some(mask) = patch.active_decode_targets else {
        if bytes.len() > MANDATORY_LEN {
            copy_flags_and_structure(&mut from, &mut to, flags, patch.template_id, layout.mask)?;
            to.copy_until(&mut from, layout.end);
        }
        return to.finish().ok_or(Malformed::TooLong);
    };
    if bytes.len() > MANDATORY_LEN {
        copy_flags_and_structure(&mut from, &mut to, flags | HAS_MASK, patch.template_id, layout.mask)?;
    } else {
        to.write(5, u32::from(HAS_MASK >> 3));
    }
    to.write(layout.decode_targets, mask);
    if bytes.len() > MANDATORY_LEN {
        from.skip(layout.custom - layout.mask).ok_or(Malformed::CutShort)?;
        to.copy_until(&mut from, layout.end);
    }
    to.finish().ok_or(Malformed::TooLong)
}

fn copy_flags_and_structure(
    from: &mut BitReader<'_>,
    to: &mut BitWriter<'_>,
    flags: u8,
    template_shift: u8,
    end: usize,
) -> Result<(), Malformed> {
    from.skip(5).ok_or(Malformed::CutShort)?;
    to.write(5, u32::from(flags >> 3));
    if flags & HAS_STRUCTURE != 0 {
        let id_offset = from.small(6).ok_or(Malformed::CutShort)?;
        to.write(6, u32::from(id_offset.wrapping_add(template_shift) % 64));
        to.copy_until(from, end);
    }
    Ok(())
}

/// A descriptor to be written from values, by the sender of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Composed<'a> {
    /// The frame. Its layer is that of its template and is not written; its mask is, if it is there.
    pub descriptor: Descriptor,
    /// Structure in force.
    pub structure: &'a Structure,
}

/// Writes a descriptor from values and says how long it is. A structure is written if the descriptor says that it has one;
/// what differs from the template is written as custom fields.
///
/// # Errors
/// [`Malformed::UnknownTemplate`], [`Malformed::BeyondBound`] if a value fits no field, [`Malformed::TooLong`].
pub fn compose(composed: &Composed<'_>, out: &mut [u8]) -> Result<usize, Malformed> {
    let Composed { descriptor, structure } = *composed;
    let mandatory = descriptor.mandatory;
    let template = structure.template(mandatory.template_id).ok_or(Malformed::UnknownTemplate)?;
    let has_custom_indications = descriptor.indications != template.indications;
    let has_custom_frame_diffs = descriptor.frame_diffs != template.frame_diffs;
    let has_custom_chain_diffs = descriptor.chain_diffs != template.chain_diffs;
    let all = structure.all_decode_targets();
    // A structure without a mask means all of them.
    let mask = descriptor.active_decode_targets.filter(|&mask| !(descriptor.has_structure && mask == all));
    let limit = out.len().min(MAX_LEN);
    let Some(out) = out.get_mut(..limit) else { return Err(Malformed::TooLong) };
    let mut to = BitWriter::new(out);
    to.write(1, u32::from(mandatory.starts_frame));
    to.write(1, u32::from(mandatory.ends_frame));
    to.write(6, u32::from(mandatory.template_id));
    to.write(16, u32::from(mandatory.frame_number));
    let flags = [descriptor.has_structure, mask.is_some(), has_custom_indications, has_custom_frame_diffs, has_custom_chain_diffs];
    if flags == [false; 5] {
        return to.finish().ok_or(Malformed::TooLong);
    }
    for flag in flags {
        to.write(1, u32::from(flag));
    }
    if descriptor.has_structure && !structure.write(&mut to) {
        return Err(Malformed::BeyondBound);
    }
    if let Some(mask) = mask {
        to.write(structure.decode_targets(), mask);
    }
    if has_custom_indications {
        for target in 0..structure.decode_targets() {
            to.write(2, descriptor.indications.get(target) as u32);
        }
    }
    if has_custom_frame_diffs {
        for &diff in descriptor.frame_diffs.as_slice() {
            let (size, coded) = match diff.checked_sub(1).ok_or(Malformed::BeyondBound)? {
                coded @ 0..=0xf => (1, coded),
                coded @ 0x10..=0xff => (2, coded),
                coded @ 0x100..=0xfff => (3, coded),
                _ => return Err(Malformed::BeyondBound),
            };
            to.write(2, size);
            to.write(4 * size as usize, u32::from(coded));
        }
        to.write(2, 0);
    }
    if has_custom_chain_diffs {
        let diffs = descriptor.chain_diffs.as_slice();
        if diffs.len() != structure.chains() {
            return Err(Malformed::BeyondBound);
        }
        for &diff in diffs {
            to.write(8, u32::from(diff));
        }
    }
    to.finish().ok_or(Malformed::TooLong)
}
