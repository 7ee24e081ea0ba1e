//! The packet's journey OUT: select -> copy -> rewrite -> protect -> train.
//!
//! Packets wait in their publisher's ring until the batch ends. Then each encoding that got some is walked once for all
//! its live subscribers, and each of these gets one train of segments, ready for one system call. What costs time is
//! done once per encoding (which packets, how long, how padded); a subscriber costs a copy, a few patched bytes and the
//! cipher.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use slotmap::SlotMap;

use crate::audio::forms::{Form, MADE};
use crate::bandwidth::history::SentAt;
use crate::ids::{DownKey, PeerKey, UpKey};
use crate::net::Outbox;
use crate::pacing::Pacing;
use crate::peer::Peer;
use crate::publish::UpTrack;
use crate::publish::encoding::Encoding;
use crate::publish::layers::Layers;
use crate::publish::ring::{Meta, Stored};
use crate::rtp::extension::abs_send_time;
use crate::rtp::header::{FIXED_LEN, FixedHeader};
use crate::rtp::sequence::low16;
use crate::subscribe::copy::{delayed_block, may_need_own_block, own_block, patch_descriptor, stamp};
use crate::subscribe::filter::{LayerFilter, Verdict};
use crate::subscribe::history::Looks;
use crate::subscribe::rewrite::{Junction, Placed};
use crate::subscribe::selector::Reason;
use crate::subscribe::{DownTrack, FlowState};
use crate::telemetry::adaptation::Switches;

/// Packets of one encoding that are planned at once.
const RUN: usize = 64;
/// Longest train: 16 packets of 1,200 bytes are 10 ms of a 15 Mbit/s link.
const MAX_TRAIN: usize = 16;
/// Sizes that differ by at most this are made equal by RTP padding, because a train's segments must have one size.
/// libwebrtc cuts a frame into packets that differ by one byte.
const MAX_PADDING: usize = 4;
/// The owner sends and clears the outbox when it holds this much, so that it stays in the processor's cache, and so that the
/// first of many subscribers does not wait for the last one's copy.
pub(crate) const FLUSH_BYTES: usize = 64 * 1024;
/// A look into the socket costs less than a train to one subscriber. It is worth it for so many, of whom each gets one train less if
/// it finds the rest of a frame.
const SUBSCRIBERS_PER_LOOK: usize = 64;
/// How long a switch waits for the rest of the old encoding's frame (a frame's packets arrive within a few ms).
const FINISH_FRAME: Duration = Duration::from_millis(15);
/// Room for padding and for the longest authentication tag of any SRTP profile.
const TAIL: [u8; MAX_PADDING + 16] = [0; MAX_PADDING + 16];

/// Whether a flush has more to do after the outbox was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "after `More`, send and clear the outbox, then flush again"]
pub enum Progress {
    /// Everything is in the outbox.
    Done,
    /// The outbox is full.
    More,
}

/// A point in time on the shard's own clock, which begins with its first packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendTime {
    /// As the header extension has it: 24 bits, wraps every 64 s.
    pub absolute: [u8; 3],
    /// As histories have it.
    pub at: SentAt,
}

/// What is to be forwarded at the end of the batch.
#[derive(Default)]
pub struct Egress {
    /// Where packets go.
    pub outbox: Outbox,
    /// Encodings with fresh packets.
    dirty: VecDeque<(UpKey, usize)>,
    /// Next subscriber of the front encoding.
    cursor: usize,
    /// Tracks whose waiting subscribers may start, once everything fresh is forwarded.
    switching: VecDeque<UpKey>,
    /// RTP packets and bytes (with SRTP overhead) forwarded so far, without retransmissions.
    pub forwarded: Forwarded,
    /// Who waits.
    pub(crate) pacing: Pacing,
    /// First flush: absolute send times count from it.
    started: Option<Instant>,
}

/// Totals of forwarding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// RTP packets.
    pub packets: u64,
    /// Bytes on the wire without IP and UDP headers.
    pub bytes: u64,
    /// Switches from one encoding of video to another.
    pub switches: Switches,
}

/// A packet of the run with what is decided once for all subscribers.
pub(crate) struct Planned<'a> {
    pub(crate) stored: Stored<'a>,
    padding: u8,
    starts_train: bool,
    /// Some subscribers may need another extension block.
    may_differ: bool,
}

/// What is the same for all copies that are made at once.
pub(crate) struct Copying<'a> {
    pub(crate) layers: &'a Layers,
    pub(crate) send_time: SendTime,
    /// Of an audio track.
    pub(crate) form: Form,
    pub(crate) now: Instant,
}

impl Egress {
    /// Notes that an encoding has its first fresh packet since the last flush.
    pub fn mark(&mut self, up: UpKey, encoding: usize) {
        self.dirty.push_back((up, encoding));
    }

    /// Notes that a track's waiting subscribers may be able to start.
    pub fn mark_switch(&mut self, up: UpKey) {
        if !self.switching.contains(&up) {
            self.switching.push_back(up);
        }
    }

    /// How many more looks for packets are worth their time before what is fresh is forwarded: the newest packet of a picture that
    /// goes to many is not its last, and publishers send the packets of a picture at once.
    pub fn looks_for_rest(&self, ups: &SlotMap<UpKey, UpTrack>) -> usize {
        let looks = |&(up, index): &(UpKey, usize)| {
            let encoding = ups.get(up).filter(|up| up.codec.codec.is_video())?.encodings.get(index)?;
            let newest = encoding.fresh.last().and_then(|&sequence| encoding.ring.get(sequence))?;
            (!newest.meta.marker).then_some(encoding.live.len() / SUBSCRIBERS_PER_LOOK)
        };
        self.dirty.iter().filter_map(looks).max().unwrap_or(0)
    }

    /// The time of what is sent now, as copies and histories have it.
    pub fn send_time(&mut self, now: Instant) -> SendTime {
        let since = now.saturating_duration_since(*self.started.get_or_insert(now));
        #[expect(clippy::cast_possible_truncation, reason = "it wraps")]
        let at = SentAt(since.as_micros() as u32);
        SendTime { absolute: abs_send_time(since), at }
    }

    /// Forwards what is fresh, then starts those who waited. On `More` the outbox has to be sent and cleared first.
    pub fn forward(
        &mut self,
        ups: &mut SlotMap<UpKey, UpTrack>,
        downs: &mut SlotMap<DownKey, DownTrack>,
        peers: &mut SlotMap<PeerKey, Peer>,
        now: Instant,
    ) -> Progress {
        if self.release(ups, downs, peers, now) == Progress::More {
            return Progress::More;
        }
        let send_time = self.send_time(now);
        while let Some(&(up_key, index)) = self.dirty.front() {
            let Some(up) = ups.get_mut(up_key) else {
                self.next_encoding();
                continue;
            };
            let (form, is_video) = (up.form(index), up.codec.codec.is_video());
            let Some(encoding) = up.encodings.get_mut(index) else {
                self.next_encoding();
                continue;
            };
            let planned = encoding.fresh.len().min(RUN);
            let run = plan(encoding, planned);
            let copying = Copying { layers: &encoding.layers, send_time, form, now };
            while let Some(&down_key) = encoding.live.get(self.cursor) {
                if self.outbox.arena().len() >= FLUSH_BYTES {
                    return Progress::More;
                }
                self.cursor += 1;
                if let Some(down) = downs.get_mut(down_key)
                    && let Some(peer) = peers.get_mut(down.peer)
                {
                    if let Some(first) = run.first().filter(|_| encoding.resumes) {
                        down.rewriter.resume(first.stored.meta, now);
                    }
                    let count = if is_video { self.pacing.admit(&run, (down_key, down), index, peer, now) } else { run.len() };
                    forward_run(&run[..count], down, peer, &mut self.outbox, &mut self.forwarded, &copying);
                }
            }
            drop(run);
            self.cursor = 0;
            encoding.resumes = false;
            encoding.fresh.drain(..planned);
            if encoding.fresh.is_empty() {
                self.next_encoding();
                if !up.waiting.is_empty() {
                    self.mark_switch(up_key);
                }
            }
        }
        while let Some(&up_key) = self.switching.front() {
            let up = ups.get_mut(up_key).filter(|up| !up.is_muted);
            if up.is_some_and(|up| self.switch_waiting(up, downs, peers, now) == Progress::More) {
                return Progress::More;
            }
            self.switching.pop_front();
        }
        Progress::Done
    }

    /// Starts those of a track's waiting subscribers whose keyframe is here, from the ring.
    fn switch_waiting(
        &mut self,
        up: &mut UpTrack,
        downs: &mut SlotMap<DownKey, DownTrack>,
        peers: &mut SlotMap<PeerKey, Peer>,
        now: Instant,
    ) -> Progress {
        let forms = [up.form(0), up.form(MADE)];
        let UpTrack { waiting, encodings, codec, .. } = up;
        let is_video = codec.codec.is_video();
        let mut progress = Progress::Done;
        let send_time = self.send_time(now);
        waiting.retain(|&key| {
            if self.outbox.arena().len() >= FLUSH_BYTES {
                progress = Progress::More;
                return true;
            }
            let Some(down) = downs.get_mut(key) else { return false };
            let Some(wanted) = &mut down.flow.wanted else { return false };
            let (index, layer) = (wanted.encoding, wanted.layer);
            let Some(target) = encodings.get_mut(index) else { return true };
            // What is still to be forwarded to the live ones would reach this one twice.
            debug_assert!(target.fresh.is_empty());
            let Some(start) = target.keyframe_for(wanted.since, down.rewriter.newest_at(), now) else {
                // The keyframe for which no request was made may have become too old meanwhile.
                target.keyframe.want_from(wanted.since);
                return true;
            };
            if down.hold_until.is_some_and(|until| now < until) {
                return true;
            }
            // What is missing of the old encoding can still come late, but has no place after the switch.
            let old_encoding = down.flow.live.and_then(|index| encodings.get(index));
            let Some(peer) = peers.get_mut(down.peer) else { return false };
            if let Some(old) = old_encoding.filter(|_| is_video) {
                self.finish_frame(old, (key, down), peer, now);
            }
            let Some(wanted) = &mut down.flow.wanted else { return false };
            let is_whole = old_encoding.is_none_or(|old| down.flow.is_frame_complete && old.nack.missing() == 0);
            if !is_whole && now < *wanted.finish_by.get_or_insert(now + FINISH_FRAME) {
                return true;
            }
            let old = down.flow.live;
            if let Some(asked_at) = down.asked_at.take() {
                down.first_frame_after = Some(now.saturating_duration_since(asked_at));
            }
            let aligned = down.rewriter.epoch().and_then(|epoch| {
                let previous = encodings.get(usize::from(epoch.encoding))?;
                let delta = previous.timestamp_delta_from(&encodings[index], codec.codec.clock_rate_hz())?;
                Some(epoch.timestamp_delta.wrapping_add(delta))
            });
            let old_templates = down.rewriter.epoch().and_then(|e| encodings.get(usize::from(e.encoding))?.layers.template_ids());
            if let Some(previous) = old.and_then(|index| encodings.get_mut(index)) {
                previous.live.retain(|&live| live != key);
                if is_video {
                    let reason = down.target.map_or(Reason::Wish, |target| target.reason);
                    self.forwarded.switches.count(Some(index) > old, reason, down.decision.limit());
                }
            }
            let encoding = &mut encodings[index];
            encoding.live.push(key);
            down.flow = FlowState { live: Some(index), wanted: None, is_frame_complete: false };
            down.filter = encoding.layers.is_layered().then(|| Box::new(LayerFilter::new(layer)));
            if let Some(first) = encoding.ring.get(start.sequence) {
                // Both forms of audio have the clock of the one that is sent.
                let clock = u8::try_from(index).ok().filter(|_| is_video).unwrap_or(0);
                let junction = Junction { aligned, old_templates, new_templates: encoding.layers.template_ids() };
                down.rewriter.switch(clock, first.meta, junction, now);
            }
            let form = forms.get(index).copied().filter(|_| !is_video).unwrap_or(Form::Plain);
            let copying = Copying { layers: &encoding.layers, send_time, form, now };
            let highest = encoding.highest().unwrap_or(start.sequence);
            let mut next = start.sequence;
            while next <= highest {
                let end = highest.min(next + RUN as u64 - 1);
                let run = plan_range(encoding, next..=end);
                let count = if is_video { self.pacing.admit(&run, (key, down), index, peer, now) } else { run.len() };
                forward_run(&run[..count], down, peer, &mut self.outbox, &mut self.forwarded, &copying);
                next = end + 1;
            }
            false
        });
        progress
    }

    fn next_encoding(&mut self) {
        self.dirty.pop_front();
        self.cursor = 0;
    }
}

/// Plans the first `count` fresh packets.
fn plan(encoding: &Encoding, count: usize) -> ArrayVec<Planned<'_>, RUN> {
    group(encoding.fresh.iter().take(count).filter_map(|&sequence| encoding.ring.get(sequence)))
}

/// Plans packets that were forwarded to others before.
fn plan_range(encoding: &Encoding, range: std::ops::RangeInclusive<u64>) -> ArrayVec<Planned<'_>, RUN> {
    group(range.filter(|&sequence| !encoding.is_held(sequence)).filter_map(|sequence| encoding.ring.get(sequence)))
}

/// Cuts packets into trains: all segments of a train have one size, but the last may be shorter.
pub(crate) fn group<'a>(packets: impl Iterator<Item = Stored<'a>>) -> ArrayVec<Planned<'a>, RUN> {
    let planned = |stored: Stored<'a>| {
        let may_differ = may_need_own_block(stored.meta, stored.bytes);
        Planned { stored, padding: 0, starts_train: false, may_differ }
    };
    let mut run: ArrayVec<Planned<'a>, RUN> = packets.take(RUN).map(planned).collect();
    let mut start = 0;
    while start < run.len() {
        // The longest stretch whose sizes can be made equal ...
        let mut longest = run[start].stored.bytes.len();
        let mut shortest = longest;
        let mut end = start + 1;
        while end < run.len() && end - start < MAX_TRAIN {
            let len = run[end].stored.bytes.len();
            if longest.max(len) - shortest.min(len) > MAX_PADDING {
                break;
            }
            (longest, shortest) = (longest.max(len), shortest.min(len));
            end += 1;
        }
        for planned in &mut run[start..end] {
            planned.padding = u8::try_from(longest - planned.stored.bytes.len()).unwrap_or(0);
        }
        // ... and one shorter packet, which ends the train.
        if end < run.len() && end - start < MAX_TRAIN && run[end].stored.bytes.len() < longest {
            end += 1;
        }
        run[start].starts_train = true;
        start = end;
    }
    run
}

/// Forwards a run to one subscriber as trains.
pub(crate) fn forward_run(
    run: &[Planned<'_>],
    down: &mut DownTrack,
    peer: &mut Peer,
    outbox: &mut Outbox,
    forwarded: &mut Forwarded,
    with: &Copying<'_>,
) {
    let Some(flow) = peer.transport.selected() else { return };
    let Some(payload_type) = down.payload_type_of(with.form) else { return };
    let Some(srtp) = peer.transport.srtp() else { return };
    let tag_len = srtp.profile().rtp_tag_len();
    let mut train_start = outbox.arena().len();
    let mut segment_len = 0;
    let mut sent = Totals::default();
    for planned in run {
        if planned.starts_train && outbox.arena().len() > train_start {
            outbox.close_train(flow, train_start, segment_len);
            train_start = outbox.arena().len();
        }
        let meta = planned.stored.meta;
        let mut stored = planned.stored.bytes;
        let (mut marker, mut announces, mut pictures_left_out) = (meta.marker, false, 0);
        if let Some(filter) = &mut down.filter {
            match filter.judge(meta, with.layers) {
                Verdict::Pass { marker: ends_picture, announces: changes } => (marker, announces) = (ends_picture, changes),
                Verdict::LeaveOut if down.rewriter.leave_out(meta) => continue,
                // A number was kept for it: an empty packet takes that, or the subscriber would ask for it in vain.
                Verdict::LeaveOut => {
                    stored = &stored[..usize::from(meta.block_len)];
                    marker = false;
                }
            }
            pictures_left_out = filter.pictures_left_out(meta);
        }
        let Some(placed) = down.rewriter.place(meta, pictures_left_out, with.now) else { continue };
        let is_filler = stored.len() < planned.stored.bytes.len();
        let own = if announces || planned.may_differ {
            down.rewriter.epoch().and_then(|epoch| own_block(meta, stored, announces, down, &epoch, with.layers))
        } else if down.playout_delay.is_some() {
            delayed_block(meta, stored, down, &placed)
        } else {
            None
        };
        // A packet of another length is a train of its own.
        let is_alone = own.is_some() || is_filler;
        if is_alone && outbox.arena().len() > train_start {
            outbox.close_train(flow, train_start, segment_len);
            train_start = outbox.arena().len();
        }
        let padding = if is_alone { 0 } else { planned.padding };
        let arena = outbox.arena();
        let start = arena.len();
        let header = FixedHeader {
            marker,
            has_padding: padding > 0,
            payload_type,
            sequence: low16(placed.sequence),
            timestamp: placed.timestamp,
            ssrc: down.ssrc,
        };
        arena.extend_from_slice(&header.to_bytes());
        let header_len = match &own {
            None => {
                arena.extend_from_slice(stored);
                FIXED_LEN + usize::from(meta.block_len)
            }
            Some(block) => {
                arena.extend_from_slice(block);
                arena.extend_from_slice(&stored[usize::from(meta.block_len)..]);
                FIXED_LEN + block.len()
            }
        };
        let plain_len = arena.len() - start;
        // All of it at once: a length that is known costs two instructions, another one a call.
        arena.extend_from_slice(&TAIL);
        arena.truncate(start + plain_len + usize::from(padding) + tag_len);
        let packet = &mut arena[start..];
        if padding > 0 {
            packet[plain_len + usize::from(padding) - 1] = padding;
        }
        stamp(down.reads.stamp, &mut peer.bandwidth.sent, with.send_time, packet);
        patch_numbers(meta, &placed, own.is_none(), is_filler, down, header_len, packet);
        if let Some(renumbering) = &down.renumbering {
            renumbering.apply(&mut packet[FIXED_LEN..header_len]);
        }
        srtp.sender.seal_rtp(down.ssrc, placed.sequence, packet, header_len);
        let len = packet.len();
        if start == train_start {
            segment_len = len;
        }
        if down.rtx_payload_type.is_some() {
            down.history.record(placed.sequence, meta.sequence, down.rewriter.epoch_id(), Some(Looks { marker, is_emptied: is_filler }));
        }
        // A late or repaired packet says nothing about the newest frame, and neither does padding.
        if placed.is_newest && plain_len > header_len {
            down.flow.is_frame_complete = marker;
        }
        sent.late += u64::from(!placed.is_newest);
        sent.packets += 1;
        sent.octets += (plain_len - header_len) as u64;
        sent.bytes += len as u64;
        if is_alone {
            outbox.close_train(flow, train_start, segment_len);
            train_start = outbox.arena().len();
        }
    }
    outbox.close_train(flow, train_start, segment_len);
    down.sent.late += sent.late;
    down.sent.packets += sent.packets;
    down.sent.octets += sent.octets;
    forwarded.packets += sent.packets;
    forwarded.bytes += sent.bytes;
}

/// What one subscriber got of a run.
#[derive(Default)]
struct Totals {
    packets: u64,
    late: u64,
    octets: u64,
    bytes: u64,
}

/// Patches the numbers that stand behind the RTP header's own.
fn patch_numbers(
    meta: &Meta,
    placed: &Placed,
    is_common_block: bool,
    is_filler: bool,
    down: &DownTrack,
    header_len: usize,
    packet: &mut [u8],
) {
    if meta.descriptor.len > 0
        && is_common_block
        && let Some(epoch) = down.rewriter.epoch()
    {
        patch_descriptor(meta.descriptor, meta.frame.number, &epoch, packet);
    }
    if let Some(fields) = meta.payload.picture.filter(|_| !is_filler) {
        fields.rewrite(&mut packet[header_len..], placed.picture);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (padding, starts train) of packets with these sizes.
    fn grouped(sizes: &[usize]) -> Vec<(u8, bool)> {
        let meta = Meta::plain(0, 0, false);
        let bytes = [0_u8; 1500];
        let packets = sizes.iter().map(|&len| Stored { meta: &meta, bytes: &bytes[..len] });
        group(packets).iter().map(|p| (p.padding, p.starts_train)).collect()
    }

    #[test]
    fn a_frame_of_two_neighbouring_sizes_is_one_train() {
        assert_eq!(grouped(&[1100, 1100, 1101, 1101]), [(1, true), (1, false), (0, false), (0, false)]);
    }

    #[test]
    fn a_shorter_packet_ends_its_train() {
        assert_eq!(grouped(&[1200, 1200, 300, 1200]), [(0, true), (0, false), (0, false), (0, true)]);
    }

    #[test]
    fn a_longer_packet_begins_a_train() {
        assert_eq!(grouped(&[300, 1200, 1200]), [(0, true), (0, true), (0, false)]);
    }

    #[test]
    fn a_train_has_a_bounded_length() {
        let trains = grouped(&[1000; 40]).iter().filter(|(_, starts)| *starts).count();
        assert_eq!(trains, 40_usize.div_ceil(MAX_TRAIN));
    }
}
