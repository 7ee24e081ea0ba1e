//! Rewrites sequence numbers, timestamps, picture ids and frame numbers so that a subscriber sees one continuous stream.
//!
//! In: packets of the encoding that the subscriber is on. Out: the same packets, renumbered.
//! Invariants: an output number belongs to one packet only; the first packet after a switch follows the last one before
//! it; output timestamps never go back at a switch; a gap stays a gap, so that what NACK recovers later fits in; what is left
//! out on purpose ([`super::filter`]) leaves no gap in sequence numbers and in the picture ids of VP8, whose decoders wait
//! for missing pictures. The picture ids of VP9 and the frame numbers of the dependency descriptor keep such gaps:
//! references are counted in them.
//! RFC 3550 section 5.1 (header), RFC 7741 section 4.2 (VP8), RFC 9628 section 4.2 (VP9), AV1 RTP specification appendix A
//! (frame number, template id). Not here: choosing the encoding.

use std::time::{Duration, Instant};

use super::window::Window;
use crate::publish::ring::Meta;
use crate::rtp::ntp::ticks_in;
use crate::rtp::payload::picture::PictureOffsets;
use crate::rtp::sequence::low16;

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
    /// Added to the fields of the VP8 or VP9 descriptor.
    pub picture: PictureOffsets,
    /// Added to the frame number of the dependency descriptor, modulo 65536.
    pub frame_number: u16,
    /// Added to its template ids, modulo 64, so that two encodings' structures are told apart.
    pub template_id: u8,
    /// There was such an epoch.
    is_used: bool,
    /// Packets were left out of it, so that its numbers can't be told by subtraction.
    pub is_thinned: bool,
}

/// What a switch has to know of the encodings besides the first packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Junction {
    /// Timestamp delta that the sender reports of old and new encoding suggest, if both are known.
    pub aligned: Option<u32>,
    /// First id and number of templates of the old encoding's structure.
    pub old_templates: Option<(u8, u8)>,
    /// The same of the new encoding's.
    pub new_templates: Option<(u8, u8)>,
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
    /// Added to the fields of its payload descriptor.
    pub picture: PictureOffsets,
    /// No later packet went out before it.
    pub is_newest: bool,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    sequence: u64,
    timestamp: u32,
    at: Instant,
    picture_id: u16,
    tl0_picture_index: u8,
    key_index: u8,
    frame_number: u16,
}

/// See the module. What each packet needs comes first, in the order in which it lies in memory.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Rewriter {
    last: Option<Last>,
    /// Above the newest source number of the epoch, forwarded or left out.
    next_source: u64,
    current: EpochId,
    has_epoch: bool,
    clock_rate_hz: u32,
    first_sequence: u64,
    epochs: [Epoch; EPOCHS],
    /// Source numbers of the epoch that were left out.
    left_out: Window<16>,
}

impl Rewriter {
    /// A rewriter whose first packet gets the number `first_sequence`.
    #[must_use]
    pub fn new(clock_rate_hz: u32, first_sequence: u16) -> Self {
        Self {
            last: None,
            next_source: 0,
            current: 0,
            has_epoch: false,
            clock_rate_hz,
            // SRTP starts at rollover counter zero; packets reordered before the first one don't exist here.
            first_sequence: u64::from(first_sequence),
            epochs: [Epoch::default(); EPOCHS],
            left_out: Window::default(),
        }
    }

    /// Begins a new epoch with `first` as its first packet.
    pub fn switch(&mut self, encoding: u8, first: &Meta, junction: Junction, now: Instant) {
        let aligned = junction.aligned;
        let previous = self.epoch();
        let next_sequence = self.last.map_or(self.first_sequence, |last| last.sequence + 1);
        let timestamp_delta = match (&self.last, previous) {
            (None, _) => aligned.unwrap_or(0),
            (Some(last), None) => self.continue_timestamp(last, first.timestamp, None, now),
            (Some(last), Some(previous)) => {
                let aligned = if previous.encoding == encoding { Some(previous.timestamp_delta) } else { aligned };
                self.continue_timestamp(last, first.timestamp, aligned, now)
            }
        };
        let mut picture = PictureOffsets::default();
        if let (Some(last), Some(fields)) = (&self.last, first.payload.picture) {
            if let Some(id) = fields.picture_id {
                picture.picture_id = last.picture_id.wrapping_add(1).wrapping_sub(id.value);
            }
            if let Some((_, index)) = fields.tl0_picture_index {
                picture.tl0_picture_index = last.tl0_picture_index.wrapping_add(1).wrapping_sub(index);
            }
            if let Some((_, index)) = fields.key_index {
                picture.key_index = last.key_index.wrapping_add(1).wrapping_sub(index);
            }
        }
        let frame_number = match &self.last {
            Some(last) if first.descriptor.len > 0 => last.frame_number.wrapping_add(1).wrapping_sub(low16(first.frame.number.into())),
            _ => 0,
        };
        let template_id = match (previous, junction.old_templates, junction.new_templates) {
            // The same structure goes on.
            (Some(previous), _, Some(_)) if previous.encoding == encoding => previous.template_id,
            (Some(previous), Some((old, count)), Some((new, _))) => {
                old.wrapping_add(previous.template_id).wrapping_add(count).wrapping_sub(new) % 64
            }
            _ => 0,
        };
        self.next_source = first.sequence;
        self.left_out = Window::default();
        self.current = if self.has_epoch { self.current.wrapping_add(1) } else { self.current };
        self.has_epoch = true;
        self.epochs[usize::from(self.current) % EPOCHS] = Epoch {
            encoding,
            first: first.sequence,
            first_output: next_sequence,
            sequence_delta: next_sequence.wrapping_sub(first.sequence),
            timestamp_delta,
            picture,
            frame_number,
            template_id,
            is_used: true,
            is_thinned: false,
        };
    }

    /// Begins a new epoch of the same encoding with `first`: what was left out in front of it leaves no gap in the numbers.
    pub fn resume(&mut self, first: &Meta, now: Instant) {
        if let Some(epoch) = self.epoch() {
            self.switch(epoch.encoding, first, Junction::default(), now);
        }
    }

    /// A frame that was begun is not ended: a number stays a gap, so that what follows is not taken for the rest of it.
    pub fn tear(&mut self) {
        if let Some(last) = &mut self.last {
            last.sequence += 1;
        }
    }

    /// The output goes on with another source, whose numbers mean something else: no earlier number leads anywhere.
    pub fn leave_source(&mut self) {
        self.has_epoch = false;
        self.epochs = [Epoch::default(); EPOCHS];
    }

    /// Places a packet of the current epoch's encoding; None if it is older than the epoch or than what is remembered.
    /// `pictures_left_out` are the VP8 pictures in front of it that the subscriber does not get.
    #[inline]
    pub fn place(&mut self, meta: &Meta, pictures_left_out: u16, now: Instant) -> Option<Placed> {
        let epoch = &self.epochs[usize::from(self.current) % EPOCHS];
        if !self.has_epoch || meta.sequence < epoch.first {
            return None;
        }
        let mut sequence = meta.sequence.wrapping_add(epoch.sequence_delta);
        let timestamp = meta.timestamp.wrapping_add(epoch.timestamp_delta);
        if meta.sequence >= self.next_source {
            self.next_source = meta.sequence + 1;
        } else if epoch.is_thinned {
            // What was left out since makes the difference smaller than it was.
            sequence = sequence.wrapping_add(self.left_out.count_above(meta.sequence)?);
        }
        let picture = PictureOffsets { picture_id: epoch.picture.picture_id.wrapping_sub(pictures_left_out), ..epoch.picture };
        let frame_number = epoch.frame_number;
        let new = Last { sequence, timestamp, at: now, picture_id: 0, tl0_picture_index: 0, key_index: 0, frame_number: 0 };
        let last = self.last.get_or_insert(new);
        let is_newest = sequence >= last.sequence;
        if is_newest {
            (last.sequence, last.timestamp, last.at) = (sequence, timestamp, now);
            // What a packet does not say stays as it was: an empty packet has no picture id.
            if let Some(fields) = &meta.payload.picture {
                if let Some(id) = fields.picture_id {
                    last.picture_id = id.value.wrapping_add(picture.picture_id);
                }
                if let Some((_, index)) = fields.tl0_picture_index {
                    last.tl0_picture_index = index.wrapping_add(picture.tl0_picture_index);
                }
                if let Some((_, index)) = fields.key_index {
                    last.key_index = index.wrapping_add(picture.key_index);
                }
            }
            if meta.descriptor.len > 0 {
                last.frame_number = low16(meta.frame.number.into()).wrapping_add(frame_number);
            }
        }
        Some(Placed { sequence, timestamp, picture, is_newest })
    }

    /// Leaves a packet of the current epoch's encoding out: what follows takes its number. False if a number was kept for it,
    /// because something behind it came first; then an empty packet has to take that.
    #[must_use = "a number that was kept must not stay a gap"]
    pub fn leave_out(&mut self, meta: &Meta) -> bool {
        let epoch = &mut self.epochs[usize::from(self.current) % EPOCHS];
        if !self.has_epoch || meta.sequence < epoch.first {
            return true;
        }
        if meta.sequence < self.next_source {
            return false;
        }
        // A gap in front of it keeps its numbers.
        self.next_source = meta.sequence + 1;
        self.left_out.mark(meta.sequence);
        epoch.sequence_delta = epoch.sequence_delta.wrapping_sub(1);
        epoch.is_thinned = true;
        true
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

    /// Which packet an output number stands for, sent or not: also one that was missing when the encoding was left. None where
    /// that can't be told, because packets were left out.
    #[must_use]
    pub fn origin(&self, output: u64) -> Option<(EpochId, u64)> {
        let known = u8::try_from(EPOCHS).unwrap_or(u8::MAX);
        let ids = (0..known).map(|age| self.current.wrapping_sub(age));
        let id = ids.take_while(|&id| self.epoch_by_id(id).is_some()).find(|&id| {
            let epoch = &self.epochs[usize::from(id) % EPOCHS];
            epoch.first_output <= output && epoch.is_used
        })?;
        let epoch = &self.epochs[usize::from(id) % EPOCHS];
        let source = output.wrapping_sub(epoch.sequence_delta);
        if !epoch.is_thinned {
            return Some((id, source));
        }
        if id != self.current {
            return None;
        }
        // The difference grows with what was left out above: the source is the one that agrees with itself.
        let mut guess = source;
        for _ in 0..u64::BITS {
            let better = source.wrapping_sub(self.left_out.count_above(guess)?);
            if better == guess {
                // What was left out shares its place with the packet before it.
                while self.left_out.is_marked(guess) {
                    guess -= 1;
                }
                return Some((id, guess));
            }
            guess = better;
        }
        None
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

    /// When the newest packet was placed.
    #[must_use]
    pub fn newest_at(&self) -> Option<Instant> {
        self.last.map(|last| last.at)
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
        let ticks = ticks_in(duration, self.clock_rate_hz);
        u32::try_from(ticks.min(u64::from(u32::MAX / 4))).expect("bounded by a u32")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;
    use crate::rtp::payload::PayloadInfo;
    use crate::rtp::payload::picture::{PictureFields, PictureId};

    const EDGES: [u16; 6] = [0, 1, 32_767, 32_768, 65_534, 65_535];

    fn meta(sequence: u64, timestamp: u32) -> Meta {
        Meta::plain(sequence, timestamp, false)
    }

    fn vp8(sequence: u64, picture_id: u16, tl0: u8, key: u8) -> Meta {
        let fields = PictureFields {
            picture_id: Some(PictureId { offset: 2, is_long: true, value: picture_id }),
            tl0_picture_index: Some((4, tl0)),
            key_index: Some((5, key)),
        };
        Meta { payload: PayloadInfo { picture: Some(fields), ..PayloadInfo::default() }, ..meta(sequence, 0) }
    }

    #[test]
    fn numbers_are_continuous_over_a_switch_at_every_edge() {
        let now = Instant::now();
        for out in EDGES {
            for source in EDGES {
                let mut rewriter = Rewriter::new(90_000, out);
                let first = (1 << 16) + u64::from(source);
                rewriter.switch(0, &meta(first, 0), Junction::default(), now);
                assert_eq!(rewriter.place(&meta(first, 0), 0, now).unwrap().sequence, u64::from(out));
                assert_eq!(rewriter.place(&meta(first + 1, 0), 0, now).unwrap().sequence, u64::from(out) + 1);
                let other = (1 << 16) + u64::from(source.wrapping_add(999));
                rewriter.switch(2, &meta(other, 0), Junction::default(), now);
                assert_eq!(rewriter.place(&meta(other, 0), 0, now).unwrap().sequence, u64::from(out) + 2);
            }
        }
    }

    fn aligned_by(delta: u32) -> Junction {
        Junction { aligned: Some(delta), ..Junction::default() }
    }

    #[test]
    fn a_packet_older_than_the_switch_is_not_forwarded() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 7);
        rewriter.switch(0, &meta(70_000, 0), Junction::default(), now);
        assert_eq!(rewriter.place(&meta(69_999, 0), 0, now), None);
    }

    #[test]
    fn a_gap_stays_a_gap_and_can_be_filled() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 7);
        rewriter.switch(0, &meta(70_000, 0), Junction::default(), now);
        rewriter.place(&meta(70_000, 0), 0, now).unwrap();
        assert_eq!(rewriter.place(&meta(70_002, 0), 0, now).unwrap().sequence, 9);
        assert_eq!(rewriter.place(&meta(70_001, 0), 0, now).unwrap().sequence, 8);
        assert_eq!(rewriter.highest(), Some(9));
    }

    #[test]
    fn timestamps_follow_the_sender_reports_over_a_switch_at_every_wrap() {
        let now = Instant::now();
        for start in [0_u32, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX] {
            let mut rewriter = Rewriter::new(90_000, 7);
            rewriter.switch(0, &meta(70_000, start), Junction::default(), now);
            rewriter.place(&meta(70_000, start), 0, now).unwrap();
            let later = now + Duration::from_millis(40);
            let other_start = start.wrapping_mul(31).wrapping_add(12_345);
            // The reports say: the new encoding's keyframe was captured 33 ms after the last frame.
            let aligned = start.wrapping_add(2970).wrapping_sub(other_start);
            rewriter.switch(1, &meta(90_000, other_start), aligned_by(aligned), later);
            let placed = rewriter.place(&meta(90_000, other_start), 0, later).unwrap();
            assert_eq!(placed.timestamp, start.wrapping_add(2970));
        }
    }

    #[test]
    fn a_timestamp_never_goes_back_even_if_the_reports_say_so() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 7);
        rewriter.switch(0, &meta(70_000, 1_000_000), Junction::default(), now);
        rewriter.place(&meta(70_000, 1_000_000), 0, now).unwrap();
        for wrong in [0_u32, 999_000, 5_000_000] {
            let mut rewriter = rewriter.clone();
            let later = now + Duration::from_millis(20);
            rewriter.switch(1, &meta(90_000, 500), aligned_by(wrong.wrapping_sub(500)), later);
            assert_eq!(rewriter.place(&meta(90_000, 500), 0, later).unwrap().timestamp, 1_000_000 + 1_800);
        }
    }

    #[test]
    fn every_number_leads_back_to_its_packet_over_switches() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 65_530);
        rewriter.switch(0, &meta(70_000, 0), Junction::default(), now);
        let gap = rewriter.place(&meta(70_002, 0), 0, now).unwrap().sequence - 1;
        let first = rewriter.epoch_id();
        rewriter.switch(1, &meta(90_000, 0), Junction::default(), now);
        let last = rewriter.place(&meta(90_000, 0), 0, now).unwrap().sequence;
        assert_eq!(rewriter.origin(gap), Some((first, 70_001)));
        assert_eq!(rewriter.origin(last), Some((rewriter.epoch_id(), 90_000)));
        assert_eq!(rewriter.origin(65_529), None);
    }

    #[test]
    fn returning_to_the_same_encoding_keeps_its_timestamps() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(48_000, 7);
        rewriter.switch(0, &meta(70_000, 1_000), Junction::default(), now);
        rewriter.place(&meta(70_000, 1_000), 0, now).unwrap();
        let later = now + Duration::from_secs(60);
        rewriter.switch(0, &meta(70_100, 1_000 + 60 * 48_000), Junction::default(), later);
        let placed = rewriter.place(&meta(70_100, 1_000 + 60 * 48_000), 0, later).unwrap();
        assert_eq!((placed.sequence, placed.timestamp), (8, 1_000 + 60 * 48_000));
    }

    #[test]
    fn vp8_fields_are_continuous_over_a_switch_at_every_wrap() {
        let now = Instant::now();
        for (id, tl0, key) in [(0_u16, 0_u8, 0_u8), (32_767, 255, 31), (32_766, 254, 30)] {
            let mut rewriter = Rewriter::new(90_000, 7);
            let a = vp8(70_000, id, tl0, key);
            rewriter.switch(0, &a, Junction::default(), now);
            rewriter.place(&a, 0, now).unwrap();
            let b = vp8(90_000, 555, 66, 7);
            rewriter.switch(1, &b, Junction::default(), now);
            let offsets = rewriter.epoch().unwrap().picture;
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
        rewriter.switch(0, &a, Junction::default(), now);
        rewriter.place(&a, 0, now).unwrap();
        rewriter.place(&meta(70_001, 0), 0, now).unwrap();
        rewriter.switch(1, &vp8(90_000, 555, 66, 7), Junction::default(), now);
        assert_eq!(rewriter.epoch().unwrap().picture.picture_id.wrapping_add(555), 101);
    }

    #[test]
    fn only_the_last_epochs_can_be_resent() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 7);
        for switch in 0..300_u64 {
            let first = meta(70_000 + switch * 10, 0);
            rewriter.switch(0, &first, Junction::default(), now);
            rewriter.place(&first, 0, now);
        }
        let id = rewriter.epoch_id();
        assert_eq!(rewriter.epoch_by_id(id).unwrap().first, 70_000 + 2990);
        assert!(rewriter.epoch_by_id(id.wrapping_sub(15)).is_some());
        assert!(rewriter.epoch_by_id(id.wrapping_sub(16)).is_none());
        assert!(rewriter.epoch_by_id(id.wrapping_add(1)).is_none());
    }

    #[test]
    fn what_is_left_out_leaves_no_gap_at_every_edge() {
        let now = Instant::now();
        for out in EDGES {
            let mut rewriter = Rewriter::new(90_000, out);
            let first = 65_530_u64;
            rewriter.switch(0, &meta(first, 0), Junction::default(), now);
            for (number, expected) in (first..first + 40).filter(|n| n % 3 != 0).zip(u64::from(out)..) {
                if (number - 1).is_multiple_of(3) {
                    assert!(number == first || rewriter.leave_out(&meta(number - 1, 0)));
                }
                assert_eq!(rewriter.place(&meta(number, 0), 0, now).unwrap().sequence, expected);
            }
        }
    }

    proptest! {
        /// Packets come in any order within reach; every third kind is left out. Whatever happens, a number is used once, and
        /// the order of numbers is the order of the source.
        #[test]
        fn late_packets_get_the_numbers_that_were_kept(order in proptest::collection::vec(0_u64..24, 200), left_out in any::<u64>()) {
            let now = Instant::now();
            let mut rewriter = Rewriter::new(90_000, 7);
            rewriter.switch(0, &meta(1_000, 0), Junction::default(), now);
            let mut arrivals: Vec<(u64, u64)> = (0..200).zip(order).map(|(n, jitter)| (n + jitter, 1_000 + n)).collect();
            arrivals.sort_unstable();
            let mut taken = std::collections::BTreeMap::new();
            for (_, source) in arrivals {
                let is_left_out = left_out & (1 << (source % 64)) != 0;
                if is_left_out && rewriter.leave_out(&meta(source, 0)) {
                    continue;
                }
                let placed = rewriter.place(&meta(source, 0), 0, now).unwrap().sequence;
                prop_assert!(taken.insert(placed, source).is_none(), "{} twice", placed);
                prop_assert_eq!(rewriter.origin(placed).map(|(_, source)| source), Some(source));
            }
            let sources: Vec<u64> = taken.values().copied().collect();
            prop_assert!(sources.is_sorted(), "{:?}", sources);
            let numbers: Vec<u64> = taken.keys().copied().collect();
            prop_assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a hole in {:?}", numbers);
        }
    }

    #[test]
    fn pictures_left_out_leave_no_gap_in_vp8_picture_ids() {
        let now = Instant::now();
        let mut rewriter = Rewriter::new(90_000, 7);
        rewriter.switch(0, &vp8(70_000, 32_766, 0, 0), Junction::default(), now);
        let placed: Vec<u16> = [(70_000, 32_766, 0), (70_002, 0, 1), (70_004, 2, 2)]
            .into_iter()
            .map(|(sequence, id, left_out)| {
                let placed = rewriter.place(&vp8(sequence, id, 0, 0), left_out, now).unwrap();
                placed.picture.picture_id.wrapping_add(id) & 0x7fff
            })
            .collect();
        assert_eq!(placed, [32_766, 32_767, 0]);
    }

    #[test]
    fn frame_numbers_and_template_ids_go_on_over_a_switch() {
        let now = Instant::now();
        let described = |sequence, number| {
            let frame = crate::publish::layers::FrameInfo { number, ..crate::publish::layers::FrameInfo::WHOLE };
            let descriptor = crate::rtp::extension::DescriptorPlace { at: 9, len: 3 };
            Meta { frame, descriptor, ..meta(sequence, 0) }
        };
        for last in [0_u32, 1, 32_767, 65_534, 65_535] {
            let mut rewriter = Rewriter::new(90_000, 7);
            rewriter.switch(0, &described(70_000, last), Junction::default(), now);
            rewriter.place(&described(70_000, last), 0, now).unwrap();
            let junction = Junction { old_templates: Some((60, 5)), new_templates: Some((0, 5)), ..Junction::default() };
            rewriter.switch(1, &described(90_000, 999), junction, now);
            let epoch = rewriter.epoch().unwrap();
            assert_eq!(999_u16.wrapping_add(epoch.frame_number), low16(u64::from(last) + 1));
            assert_eq!(epoch.template_id, 1, "60 + 5 wraps to 1");
        }
    }
}
