//! Rewrites sequence numbers, timestamps and VP8 picture ids so that a subscriber sees one continuous stream.
//!
//! In: packets of the encoding that the subscriber is on. Out: the same packets, renumbered.
//! Invariants: an output number belongs to one packet only; the first packet after a switch follows the last one before
//! it; output timestamps never go back at a switch; a gap stays a gap, so that what NACK recovers later fits in.
//! RFC 3550 section 5.1 (header), RFC 7741 section 4.2 (VP8 picture id). Not here: choosing the encoding.

use std::time::{Duration, Instant};

use crate::publish::ring::Meta;
use crate::rtp::payload::vp8::Vp8Offsets;

/// Switches that are remembered for retransmission; older packets can't be resent. A power of two.
const EPOCHS: usize = 16;
/// A switch moves the output timestamp forward by at least this: 1/60 s at 90 kHz is the shortest usual frame.
const MIN_STEP: Duration = Duration::from_millis(16);
/// How far a timestamp aligned by sender reports may be ahead of the time that has passed, before it is not believed.
const MAX_LEAD: Duration = Duration::from_secs(2);

/// The constant part of the mapping between two switches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epoch {
    /// Index of the encoding.
    pub encoding: u8,
    /// First source number of the epoch; earlier packets are not forwarded.
    first: u64,
    /// Output number of that packet.
    first_output: u64,
    /// Output number = source number + this (wrapping).
    sequence_delta: u64,
    /// Output timestamp = source timestamp + this (wrapping).
    pub timestamp_delta: u32,
    /// Added to the VP8 fields.
    pub vp8: Vp8Offsets,
    /// There was such an epoch.
    is_used: bool,
}

/// Number of an epoch, modulo 256, as kept in the retransmission history.
pub type EpochId = u8;

/// A packet's place in the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Extended output sequence number, which is the SRTP index too: the first one has rollover counter zero.
    pub sequence: u64,
    /// Output timestamp.
    pub timestamp: u32,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    sequence: u64,
    timestamp: u32,
    at: Instant,
    picture_id: u16,
    tl0_picture_index: u8,
    key_index: u8,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Rewriter {
    epochs: [Epoch; EPOCHS],
    current: EpochId,
    has_epoch: bool,
    first_sequence: u64,
    last: Option<Last>,
    clock_rate_hz: u32,
}

impl Rewriter {
    /// A rewriter whose first packet gets the number `first_sequence`.
    #[must_use]
    pub fn new(clock_rate_hz: u32, first_sequence: u16) -> Self {
        Self {
            epochs: [Epoch::default(); EPOCHS],
            current: 0,
            has_epoch: false,
            // SRTP starts at rollover counter zero; packets reordered before the first one don't exist here.
            first_sequence: u64::from(first_sequence),
            last: None,
            clock_rate_hz,
        }
    }

    /// Begins a new epoch with `first` as its first packet.
    ///
    /// `aligned` is the timestamp delta that the sender reports of old and new encoding suggest, if both are known.
    pub fn switch(&mut self, encoding: u8, first: &Meta, aligned: Option<u32>, now: Instant) {
        let previous = self.epoch();
        let next_sequence = self.last.map_or(self.first_sequence, |last| last.sequence + 1);
        let timestamp_delta = match (&self.last, previous) {
            (None, _) | (_, None) => aligned.unwrap_or(0),
            (Some(last), Some(previous)) => {
                let aligned = if previous.encoding == encoding { Some(previous.timestamp_delta) } else { aligned };
                self.continue_timestamp(last, first.timestamp, aligned, now)
            }
        };
        let mut vp8 = Vp8Offsets::default();
        if let (Some(last), Some(fields)) = (&self.last, first.payload.vp8) {
            if let Some(id) = fields.picture_id {
                vp8.picture_id = last.picture_id.wrapping_add(1).wrapping_sub(id.value);
            }
            if let Some((_, index)) = fields.tl0_picture_index {
                vp8.tl0_picture_index = last.tl0_picture_index.wrapping_add(1).wrapping_sub(index);
            }
            if let Some((_, index)) = fields.key_index {
                vp8.key_index = last.key_index.wrapping_add(1).wrapping_sub(index);
            }
        }
        self.current = if self.has_epoch { self.current.wrapping_add(1) } else { self.current };
        self.has_epoch = true;
        self.epochs[usize::from(self.current) % EPOCHS] = Epoch {
            encoding,
            first: first.sequence,
            first_output: next_sequence,
            sequence_delta: next_sequence.wrapping_sub(first.sequence),
            timestamp_delta,
            vp8,
            is_used: true,
        };
    }

    /// Places a packet of the current epoch's encoding; None if it is older than the epoch.
    pub fn place(&mut self, meta: &Meta, now: Instant) -> Option<Placed> {
        let epoch = self.epochs[usize::from(self.current) % EPOCHS];
        if !self.has_epoch || meta.sequence < epoch.first {
            return None;
        }
        let placed = Placed {
            sequence: meta.sequence.wrapping_add(epoch.sequence_delta),
            timestamp: meta.timestamp.wrapping_add(epoch.timestamp_delta),
        };
        if self.last.is_none_or(|last| placed.sequence > last.sequence) {
            let new =
                Last { sequence: placed.sequence, timestamp: placed.timestamp, at: now, picture_id: 0, tl0_picture_index: 0, key_index: 0 };
            // What a packet does not say stays as it was: an empty packet has no picture id.
            let last =
                self.last.insert(self.last.map_or(new, |last| Last { sequence: new.sequence, timestamp: new.timestamp, at: now, ..last }));
            if let Some(fields) = meta.payload.vp8 {
                last.picture_id = fields.picture_id.map_or(last.picture_id, |id| id.value.wrapping_add(epoch.vp8.picture_id));
                last.tl0_picture_index =
                    fields.tl0_picture_index.map_or(last.tl0_picture_index, |(_, i)| i.wrapping_add(epoch.vp8.tl0_picture_index));
                last.key_index = fields.key_index.map_or(last.key_index, |(_, i)| i.wrapping_add(epoch.vp8.key_index));
            }
        }
        Some(placed)
    }

    /// Current epoch and its id, once there is one.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.has_epoch.then(|| self.epochs[usize::from(self.current) % EPOCHS])
    }

    /// Id of the current epoch, for the retransmission history.
    #[must_use]
    pub fn epoch_id(&self) -> EpochId {
        self.current
    }

    /// An epoch by its id, if it is remembered.
    #[must_use]
    pub fn epoch_by_id(&self, id: EpochId) -> Option<&Epoch> {
        let age = self.current.wrapping_sub(id);
        (self.has_epoch && usize::from(age) < EPOCHS).then(|| &self.epochs[usize::from(id) % EPOCHS])
    }

    /// Which packet an output number stands for, sent or not: also one that was missing when the encoding was left.
    #[must_use]
    pub fn origin(&self, output: u64) -> Option<(EpochId, u64)> {
        let known = u8::try_from(EPOCHS).unwrap_or(u8::MAX);
        let ids = (0..known).map(|age| self.current.wrapping_sub(age));
        let id = ids.take_while(|&id| self.epoch_by_id(id).is_some()).find(|&id| {
            let epoch = &self.epochs[usize::from(id) % EPOCHS];
            epoch.first_output <= output && epoch.is_used
        })?;
        Some((id, output.wrapping_sub(self.epochs[usize::from(id) % EPOCHS].sequence_delta)))
    }

    /// Highest output number so far.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.last.map(|last| last.sequence)
    }

    /// Numbers given out so far, those of packets that never came included.
    #[must_use]
    pub fn span(&self) -> u64 {
        self.last.map_or(0, |last| last.sequence.saturating_sub(self.first_sequence).saturating_add(1))
    }

    /// Output timestamp of the newest packet.
    #[must_use]
    pub fn last_timestamp(&self) -> Option<u32> {
        self.last.map(|last| last.timestamp)
    }

    /// Delta that puts `source` behind the last output timestamp, by the sender reports if they are plausible.
    fn continue_timestamp(&self, last: &Last, source: u32, aligned: Option<u32>, now: Instant) -> u32 {
        let passed = now.saturating_duration_since(last.at);
        if let Some(delta) = aligned {
            let step = source.wrapping_add(delta).wrapping_sub(last.timestamp);
            if (1..=self.ticks(passed + MAX_LEAD)).contains(&step) {
                return delta;
            }
        }
        last.timestamp.wrapping_add(self.ticks(passed.max(MIN_STEP))).wrapping_sub(source)
    }

    /// Ticks of a duration, bounded far below half of the timestamp space.
    fn ticks(&self, duration: Duration) -> u32 {
        let ticks = duration.as_micros().saturating_mul(u128::from(self.clock_rate_hz)) / 1_000_000;
        u32::try_from(ticks.min(u128::from(u32::MAX / 4))).expect("bounded by a u32")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::rtp::payload::PayloadInfo;
    use crate::rtp::payload::vp8::{PictureId, Vp8Fields};

    const EDGES: [u16; 6] = [0, 1, 32_767, 32_768, 65_534, 65_535];

    fn meta(sequence: u64, timestamp: u32) -> Meta {
        Meta { sequence, timestamp, marker: false, block_len: 0, payload: PayloadInfo::default() }
    }

    fn vp8(sequence: u64, picture_id: u16, tl0: u8, key: u8) -> Meta {
        let fields = Vp8Fields {
            picture_id: Some(PictureId { offset: 2, is_long: true, value: picture_id }),
            tl0_picture_index: Some((4, tl0)),
            key_index: Some((5, key)),
        };
        Meta { payload: PayloadInfo { vp8: Some(fields), ..PayloadInfo::default() }, ..meta(sequence, 0) }
    }

    #[test]
    fn numbers_are_continuous_over_a_switch_at_every_edge() {
        let now = Instant::now();
        for out in EDGES {
            for source in EDGES {
                let mut rewriter = Rewriter::new(90_000, out);
                let first = (1 << 16) + u64::from(source);
                rewriter.switch(0, &meta(first, 0), None, now);
                assert_eq!(rewriter.place(&meta(first, 0), now).unwrap().sequence, u64::from(out));
                assert_eq!(rewriter.place(&meta(first + 1, 0), now).unwrap().sequence, u64::from(out) + 1);
                let other = (1 << 16) + u64::from(source.wrapping_add(999));
                rewriter.switch(2, &meta(other, 0), None, now);
                assert_eq!(rewriter.place(&meta(other, 0), now).unwrap().sequence, u64::from(out) + 2);
            }
        }
    }

    #[test]
    fn a_packet_older_than_the_switch_is_not_forwarded() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 7);
        rewriter.switch(0, &meta(70_000, 0), None, now);
        assert_eq!(rewriter.place(&meta(69_999, 0), now), None);
    }

    #[test]
    fn a_gap_stays_a_gap_and_can_be_filled() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 7);
        rewriter.switch(0, &meta(70_000, 0), None, now);
        rewriter.place(&meta(70_000, 0), now).unwrap();
        assert_eq!(rewriter.place(&meta(70_002, 0), now).unwrap().sequence, 9);
        assert_eq!(rewriter.place(&meta(70_001, 0), now).unwrap().sequence, 8);
        assert_eq!(rewriter.highest(), Some(9));
    }

    #[test]
    fn timestamps_follow_the_sender_reports_over_a_switch_at_every_wrap() {
        let now = Instant::now();
        for start in [0_u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX] {
            let mut rewriter = Rewriter::new(90_000, 7);
            rewriter.switch(0, &meta(70_000, start), None, now);
            rewriter.place(&meta(70_000, start), now).unwrap();
            let later = now + Duration::from_millis(40);
            let other_start = start.wrapping_mul(31).wrapping_add(12_345);
            // The reports say: the new encoding's keyframe was captured 33 ms after the last frame.
            let aligned = start.wrapping_add(2970).wrapping_sub(other_start);
            rewriter.switch(1, &meta(90_000, other_start), Some(aligned), later);
            let placed = rewriter.place(&meta(90_000, other_start), later).unwrap();
            assert_eq!(placed.timestamp, start.wrapping_add(2970));
        }
    }

    #[test]
    fn a_timestamp_never_goes_back_even_if_the_reports_say_so() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 7);
        rewriter.switch(0, &meta(70_000, 1_000_000), None, now);
        rewriter.place(&meta(70_000, 1_000_000), now).unwrap();
        for wrong in [0_u32, 999_000, 5_000_000] {
            let mut rewriter = rewriter.clone();
            let later = now + Duration::from_millis(20);
            rewriter.switch(1, &meta(90_000, 500), Some(wrong.wrapping_sub(500)), later);
            assert_eq!(rewriter.place(&meta(90_000, 500), later).unwrap().timestamp, 1_000_000 + 1_800);
        }
    }

    #[test]
    fn every_number_leads_back_to_its_packet_over_switches() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 65_530);
        rewriter.switch(0, &meta(70_000, 0), None, now);
        let gap = rewriter.place(&meta(70_002, 0), now).unwrap().sequence - 1;
        let first = rewriter.epoch_id();
        rewriter.switch(1, &meta(90_000, 0), None, now);
        let last = rewriter.place(&meta(90_000, 0), now).unwrap().sequence;
        assert_eq!(rewriter.origin(gap), Some((first, 70_001)));
        assert_eq!(rewriter.origin(last), Some((rewriter.epoch_id(), 90_000)));
        assert_eq!(rewriter.origin(65_529), None);
    }

    #[test]
    fn returning_to_the_same_encoding_keeps_its_timestamps() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(48_000, 7);
        rewriter.switch(0, &meta(70_000, 1_000), None, now);
        rewriter.place(&meta(70_000, 1_000), now).unwrap();
        let later = now + Duration::from_secs(60);
        rewriter.switch(0, &meta(70_100, 1_000 + 60 * 48_000), None, later);
        let placed = rewriter.place(&meta(70_100, 1_000 + 60 * 48_000), later).unwrap();
        assert_eq!(placed, Placed { sequence: 8, timestamp: 1_000 + 60 * 48_000 });
    }

    #[test]
    fn vp8_fields_are_continuous_over_a_switch_at_every_wrap() {
        let now = Instant::now();
        for (id, tl0, key) in [(0_u16, 0_u8, 0_u8), (32_767, 255, 31), (32_766, 254, 30)] {
            let mut rewriter = Rewriter::new(90_000, 7);
            let a = vp8(70_000, id, tl0, key);
            rewriter.switch(0, &a, None, now);
            rewriter.place(&a, now).unwrap();
            let b = vp8(90_000, 555, 66, 7);
            rewriter.switch(1, &b, None, now);
            let offsets = rewriter.epoch().unwrap().vp8;
            assert_eq!(555_u16.wrapping_add(offsets.picture_id) & 0x7fff, id.wrapping_add(1) & 0x7fff);
            assert_eq!(66_u8.wrapping_add(offsets.tl0_picture_index), tl0.wrapping_add(1));
            assert_eq!(7_u8.wrapping_add(offsets.key_index) & 0x1f, (key + 1) & 0x1f);
        }
    }

    #[test]
    fn an_empty_packet_does_not_break_the_picture_ids() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 7);
        let a = vp8(70_000, 100, 9, 3);
        rewriter.switch(0, &a, None, now);
        rewriter.place(&a, now).unwrap();
        rewriter.place(&meta(70_001, 0), now).unwrap();
        rewriter.switch(1, &vp8(90_000, 555, 66, 7), None, now);
        assert_eq!(rewriter.epoch().unwrap().vp8.picture_id.wrapping_add(555), 101);
    }

    #[test]
    fn only_the_last_epochs_can_be_resent() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 7);
        for switch in 0..300_u64 {
            let first = meta(70_000 + switch * 10, 0);
            rewriter.switch(0, &first, None, now);
            rewriter.place(&first, now);
        }
        let id = rewriter.epoch_id();
        assert_eq!(rewriter.epoch_by_id(id).unwrap().first, 70_000 + 2990);
        assert!(rewriter.epoch_by_id(id.wrapping_sub(15)).is_some());
        assert!(rewriter.epoch_by_id(id.wrapping_sub(16)).is_none());
        assert!(rewriter.epoch_by_id(id.wrapping_add(1)).is_none());
    }
}
