//! What differs in one subscriber's copy of a packet: numbers, and sometimes the extension block.
//!
//! Nearly all copies are the publisher's packet with a few bytes patched in place. A copy gets a block of its own where its
//! dependency descriptor has to say something else in another length: which decode targets are left for this subscriber, or
//! template ids of a structure; where the subscriber can't read the block that the others get; and where its player has to hear
//! how long to wait.

use super::DownTrack;
use super::rewrite::{Epoch, Placed};
use crate::bandwidth::history::SendHistory;
use crate::egress::SendTime;
use crate::publish::encoding::described;
use crate::publish::layers::Layers;
use crate::publish::ring::Meta;
use crate::rtp::extension::{
    Block, DescriptorPlace, SendStamp, TRANSPORT_CC_OFFSET, is_two_byte, stamp_send_time, with_descriptor, with_playout_delay,
};
use crate::rtp::header::FIXED_LEN;
use crate::rtp::payload::dependency_descriptor::{MAX_LEN, Patch, patch};
use crate::rtp::sequence::low16;

/// Flags of the fourth byte of a descriptor: a structure, a mask of active decode targets.
const HAS_STRUCTURE: u8 = 0x80;
const HAS_MASK: u8 = 0x40;

/// Some subscriber may need a block of its own for this packet, whatever its layer.
#[must_use]
pub fn may_need_own_block(meta: &Meta, stored: &[u8]) -> bool {
    meta.descriptor.len > 3 && (flags(meta, stored) & (HAS_STRUCTURE | HAS_MASK) != 0 || is_two_byte(stored))
}

/// The block of this subscriber's copy, if it is not the common one. With `announces` its layer changes here.
#[must_use]
pub fn own_block(meta: &Meta, stored: &[u8], announces: bool, down: &DownTrack, epoch: &Epoch, layers: &Layers) -> Option<Block> {
    if meta.descriptor.len == 0 {
        return None;
    }
    let block = stored.get(..usize::from(meta.block_len))?;
    if !down.reads.descriptors {
        return is_two_byte(block).then(|| with_descriptor(block, meta.descriptor, &[]));
    }
    let flags = flags(meta, stored);
    let left = down.filter.as_ref().map(|filter| filter.announced(layers));
    let is_mask_wrong = flags & HAS_MASK != 0 && left.is_some_and(|left| left != layers.active());
    let has_foreign_ids = flags & HAS_STRUCTURE != 0 && epoch.template_id != 0;
    if !announces && !is_mask_wrong && !has_foreign_ids {
        return None;
    }
    let changes = Patch {
        active_decode_targets: left.filter(|_| announces || is_mask_wrong),
        frame_number: epoch.frame_number,
        template_id: epoch.template_id,
    };
    let mut changed = [0; MAX_LEN];
    let len = patch(described(meta, block), layers.structure_for(meta.frame.number), changes, &mut changed).ok()?;
    Some(with_descriptor(block, meta.descriptor, changed.get(..len)?))
}

/// The block of this subscriber's copy, if its player is to be told how long to wait: with the first packet of a frame, which is
/// where libwebrtc looks for it. A frame that comes with a delay keeps that.
#[must_use]
pub fn delayed_block(meta: &Meta, stored: &[u8], down: &mut DownTrack, placed: &Placed) -> Option<Block> {
    if !down.flow.is_frame_complete || !placed.is_newest || stored.len() <= usize::from(meta.block_len) {
        return None;
    }
    let delay = down.playout_delay.take()?;
    let (mut block, place) = with_playout_delay(stored.get(..usize::from(meta.block_len))?, meta.descriptor, delay)?;
    if let Some(epoch) = down.rewriter.epoch() {
        patch_descriptor_in(&mut block, place, meta.frame.number, &epoch);
    }
    Some(block)
}

/// Patches the numbers of the dependency descriptor in a copy of the common block; `packet` begins with the RTP header.
pub fn patch_descriptor(place: DescriptorPlace, frame_number: u32, epoch: &Epoch, packet: &mut [u8]) {
    if let Some(block) = packet.get_mut(FIXED_LEN..) {
        patch_descriptor_in(block, place, frame_number, epoch);
    }
}

fn patch_descriptor_in(block: &mut [u8], place: DescriptorPlace, frame_number: u32, epoch: &Epoch) {
    let at = usize::from(place.at);
    if place.len < 3 || (epoch.frame_number == 0 && epoch.template_id == 0) {
        return;
    }
    if let Some([first, number @ ..]) = block.get_mut(at..at + 3) {
        *first = (*first & 0xc0) | (first.wrapping_add(epoch.template_id) & 0x3f);
        number.copy_from_slice(&low16(frame_number.into()).wrapping_add(epoch.frame_number).to_be_bytes());
    }
}

/// Writes what the copy says of its sending; `packet` begins with the RTP header and has its final length.
pub fn stamp(stamp: SendStamp, sent: &mut SendHistory, time: SendTime, packet: &mut [u8]) {
    match stamp {
        SendStamp::TransportCc => {
            let sequence = sent.record(time.at, packet);
            if let Some(bytes) = packet.get_mut(TRANSPORT_CC_OFFSET..TRANSPORT_CC_OFFSET + 2) {
                bytes.copy_from_slice(&sequence.to_be_bytes());
            }
        }
        SendStamp::AbsSendTime => stamp_send_time(packet, time.absolute),
        SendStamp::Nothing => {}
    }
}

fn flags(meta: &Meta, stored: &[u8]) -> u8 {
    if meta.descriptor.len > 3 { stored.get(usize::from(meta.descriptor.at) + 3).copied().unwrap_or(0) } else { 0 }
}
