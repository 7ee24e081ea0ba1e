//! Answers a NACK with an RTX packet (RFC 4588), encrypted again from the publisher's ring.
//!
//! Without RTX nothing is resent: the same SRTP index must not be sealed twice, and the transport-wide sequence number in
//! the header would differ from the first time.

use std::time::{Duration, Instant};

use super::DownTrack;
use super::copy::{own_block, patch_descriptor, stamp};
use super::history::{ENTRIES, Origin, widen};
use crate::egress::SendTime;
use crate::net::Outbox;
use crate::peer::Peer;
use crate::publish::UpTrack;
use crate::rtp::extension::Extensions;
use crate::rtp::header::{FIXED_LEN, FixedHeader};
use crate::rtp::payload::picture::PictureOffsets;
use crate::rtp::sequence::{low16, nearest};

/// Retransmissions per [`BUDGET_WINDOW`] and subscription: a fifth of what a 1.7 Mbit/s video has, and a keyframe.
const BUDGET: u32 = 128;
/// See [`BUDGET`].
const BUDGET_WINDOW: Duration = Duration::from_millis(250);

/// Bounds what one subscriber can make us resend.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResendBudget {
    window_start: Option<Instant>,
    used: u32,
}

impl ResendBudget {
    /// Something is left of it.
    #[must_use]
    pub fn has_left(&self, now: Instant) -> bool {
        self.is_over(now) || self.used < BUDGET
    }

    /// A packet is resent.
    fn pay(&mut self, now: Instant) {
        if self.is_over(now) {
            *self = Self { window_start: Some(now), used: 0 };
        }
        self.used += 1;
    }

    fn is_over(&self, now: Instant) -> bool {
        self.window_start.is_none_or(|start| now.saturating_duration_since(start) >= BUDGET_WINDOW)
    }
}

/// A packet that was never sent, because it was missing when the subscriber was switched to another encoding, has a number
/// too. If it has come in the meantime, RTX is the way for it.
fn recall(wire: u16, down: &mut DownTrack) {
    let Some(highest) = down.rewriter.highest() else { return };
    let output = nearest(wire, highest);
    if output > highest || highest - output >= ENTRIES as u64 {
        return;
    }
    if let Some((epoch, source)) = down.rewriter.origin(output) {
        down.history.record(output, source, epoch, None);
    }
}

/// A keyframe comes in its place; see [`DownTrack::given_up`].
fn is_given_up(wire: u16, down: &DownTrack) -> bool {
    let (Some(highest), Some(given_up)) = (down.rewriter.highest(), down.given_up) else { return false };
    nearest(wire, highest) <= given_up
}

/// The packet that went out with the number `wire` could be resent, if that may cost something now. Nothing is paid for it yet.
pub fn is_resendable(wire: u16, down: &mut DownTrack) -> bool {
    if down.rtx_payload_type.is_none() || is_given_up(wire, down) {
        return false;
    }
    if !down.history.knows(wire) {
        recall(wire, down);
    }
    down.history.may_take(wire)
}

/// Resends the packet that went out with the number `wire`; false if that is not possible any more. What is not sent costs nothing.
pub fn resend(
    wire: u16,
    up: &UpTrack,
    down: &mut DownTrack,
    peer: &mut Peer,
    outbox: &mut Outbox,
    send_time: SendTime,
    now: Instant,
) -> bool {
    if !is_resendable(wire, down) || !down.resend_budget.has_left(now) {
        return false;
    }
    let Some(origin) = down.history.look_up(wire) else { return false };
    let is_sent = send_again(wire, origin, up, down, peer, outbox, send_time).is_some();
    if is_sent {
        down.history.count_resend(wire);
        down.resend_budget.pay(now);
        down.resent.note(wire, now);
    }
    is_sent
}

/// Sends a recent packet once more for a probe, the `back`th newest; returns its length.
pub fn send_probe(
    back: u16,
    up: &UpTrack,
    down: &mut DownTrack,
    peer: &mut Peer,
    outbox: &mut Outbox,
    send_time: SendTime,
) -> Option<usize> {
    let wire = low16(down.rewriter.highest()?).wrapping_sub(back);
    let origin = down.history.look_up(wire)?;
    send_again(wire, origin, up, down, peer, outbox, send_time)
}

/// Sends a packet of nothing but padding for a probe; returns its length.
pub fn send_padding(down: &mut DownTrack, peer: &mut Peer, outbox: &mut Outbox, send_time: SendTime) -> Option<usize> {
    let payload_type = down.rtx_payload_type?;
    let flow = peer.transport.selected()?;
    let srtp = peer.transport.srtp()?;
    let (block, _) = Extensions::default().forwarded_block(None);
    let header_len = FIXED_LEN + block.len();
    let index = down.next_rtx_sequence;
    let ssrc = down.rtx_ssrc;
    // RFC 3550 section 5.1: the last byte counts the padding.
    let mut padding = [0; u8::MAX as usize];
    padding[u8::MAX as usize - 1] = u8::MAX;
    let header = FixedHeader { marker: false, has_padding: true, payload_type, sequence: low16(index), timestamp: 0, ssrc };
    let arena = outbox.arena();
    let start = arena.len();
    arena.extend_from_slice(&header.to_bytes());
    arena.extend_from_slice(&block);
    arena.extend_from_slice(&padding);
    let end = arena.len() + srtp.profile().rtp_tag_len();
    arena.resize(end, 0);
    let packet = &mut arena[start..];
    stamp(down.reads.stamp, &mut peer.bandwidth.sent, send_time, packet);
    if let Some(renumbering) = &down.renumbering {
        renumbering.apply(&mut packet[FIXED_LEN..header_len]);
    }
    srtp.sender.seal_rtp(ssrc, index, packet, header_len);
    let len = packet.len();
    outbox.close_train(flow, start, len);
    down.next_rtx_sequence += 1;
    peer.bandwidth.overhead_bytes += len as u64;
    Some(len)
}

/// Sends the packet that went out with the number `wire` on the stream of retransmissions.
fn send_again(
    wire: u16,
    origin: Origin,
    up: &UpTrack,
    down: &mut DownTrack,
    peer: &mut Peer,
    outbox: &mut Outbox,
    send_time: SendTime,
) -> Option<usize> {
    let payload_type = down.rtx_payload_type?;
    let flow = peer.transport.selected()?;
    let epoch = down.rewriter.epoch_by_id(origin.epoch).copied()?;
    let encoding = up.encodings.get(usize::from(epoch.encoding))?;
    let highest = encoding.highest()?;
    let stored = encoding.ring.get(widen(origin.source, highest))?;
    let srtp = peer.transport.srtp()?;
    let meta = stored.meta;
    let is_current = origin.epoch == down.rewriter.epoch_id();
    let filter = down.filter.as_deref().filter(|_| is_current);
    if epoch.is_thinned && !is_current && meta.payload.counts_pictures {
        // How many pictures were left out before it is forgotten. A keyframe has come since.
        return None;
    }
    // A packet that was left out, but whose number was kept, goes out empty.
    let is_filler = origin.looks.map_or_else(|| filter.is_some_and(|filter| !filter.passes(meta)), |looks| looks.is_emptied);
    let marker = || !is_filler && filter.map_or(meta.marker, |filter| filter.ends_picture(meta));
    let marker = origin.looks.map_or_else(marker, |looks| looks.marker);
    let announces = filter.is_some_and(|filter| filter.announces_with(meta));
    let pictures_left_out = filter.map_or(0, |filter| filter.pictures_left_out(meta));
    let own = own_block(meta, stored.bytes, announces, down, &epoch, &encoding.layers);
    let (common, payload) = stored.bytes.split_at(usize::from(meta.block_len));
    let payload = if is_filler { &[] } else { payload };
    let block = own.as_deref().unwrap_or(common);
    let header_len = FIXED_LEN + block.len();
    let index = down.next_rtx_sequence;
    let header = FixedHeader {
        marker,
        has_padding: false,
        payload_type,
        sequence: low16(index),
        timestamp: meta.timestamp.wrapping_add(epoch.timestamp_delta),
        ssrc: down.rtx_ssrc,
    };
    let arena = outbox.arena();
    let start = arena.len();
    arena.extend_from_slice(&header.to_bytes());
    arena.extend_from_slice(block);
    arena.extend_from_slice(&wire.to_be_bytes());
    arena.extend_from_slice(payload);
    let tag_end = arena.len() + srtp.profile().rtp_tag_len();
    arena.resize(tag_end, 0);
    let packet = &mut arena[start..];
    stamp(down.reads.stamp, &mut peer.bandwidth.sent, send_time, packet);
    if own.is_none() {
        patch_descriptor(meta.descriptor, meta.frame.number, &epoch, packet);
    }
    if let Some(renumbering) = &down.renumbering {
        renumbering.apply(&mut packet[FIXED_LEN..header_len]);
    }
    if let Some(fields) = meta.payload.picture.filter(|_| !is_filler) {
        let offsets = PictureOffsets { picture_id: epoch.picture.picture_id.wrapping_sub(pictures_left_out), ..epoch.picture };
        fields.rewrite(&mut packet[header_len + 2..], offsets);
    }
    srtp.sender.seal_rtp(down.rtx_ssrc, index, packet, header_len);
    let len = packet.len();
    outbox.close_train(flow, start, len);
    down.next_rtx_sequence += 1;
    down.sent.retransmitted += 1;
    peer.bandwidth.overhead_bytes += len as u64;
    Some(len)
}
