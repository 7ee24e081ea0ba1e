//! One simulcast encoding of a published track: everything that belongs to its SSRC.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;

use crate::error::Discard;
use crate::ids::DownKey;
use crate::media::{Codec, Rid};
use crate::publish::keyframe::KeyframeRequester;
use crate::publish::layers::{Classified, Layers};
use crate::publish::nack::NackGenerator;
use crate::publish::numbering::Numbering;
use crate::publish::rates::{LayerRates, WINDOW};
use crate::publish::reception::Reception;
use crate::publish::ring::{Meta, Ring, RingSize};
use crate::quality::traffic::UplinkMeter;
use crate::relay::LinkId;
use crate::rtp::ntp::NtpTime;
use crate::rtp::payload::Layering;
use crate::rtp::payload::dependency_descriptor::{MAX_LEN, MAX_SPATIAL_LAYERS, has_structure};
use crate::subscribe::selector::{Offered, Rung};
use crate::telemetry::sampler::UplinkSampler;

/// An encoding without packets for this long is not offered to subscribers. Longer than the frame interval of a 2 fps
/// screen share, shorter than what a viewer takes for a frozen picture.
const ACTIVE_WINDOW: Duration = Duration::from_millis(800);
/// A subscriber may start at a keyframe that is this old, with what followed it, without asking for a new one.
const REPLAY_AGE: Duration = Duration::from_millis(300);
/// And if not more packets than this have followed: they are sent in one burst.
const REPLAY_PACKETS: u64 = 48;
/// Who has seen pictures as new as the keyframe, give or take so much, would see them again. Encodings of one picture don't
/// arrive at once: publishers pace them. Of audio nothing is heard twice.
const REPLAY_OVERLAP: Duration = Duration::from_millis(50);

/// Packets whose structure has not come that are kept for it: what a keyframe's first packet can be late by. When there are
/// more, they are given up and another keyframe is asked for.
const MAX_HELD: usize = 128;
/// A ring that is four times too large for this long gives memory back.
const SHRINK_AFTER_SECONDS: u8 = 10;
/// The keyframe with which a layer begins to be sent is about so many times as large as other frames: whoever waits for it must not find it
/// too expensive because of that. Later ones are part of what it costs.
const KEYFRAME_SIZE: usize = 4;

/// Mapping between the publisher's clock and its RTP timestamps (RFC 3550 section 6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceivedSenderReport {
    /// Publisher's wall clock.
    pub ntp: NtpTime,
    /// The same moment in RTP ticks.
    pub rtp: u32,
    /// When it arrived.
    pub at: Instant,
}

/// A packet as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Arrived<'a> {
    /// What is known of it.
    pub meta: Meta,
    /// What its payload descriptor says of layers.
    pub layering: &'a Layering,
    /// Extension block for subscribers.
    pub block: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
}

/// First packet of the newest keyframe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyframeStart {
    /// Its extended sequence number.
    pub sequence: u64,
    timestamp: u32,
    /// When it arrived.
    pub at: Instant,
}

/// See the module.
pub struct Encoding {
    /// Its name in a simulcast track.
    pub rid: Option<Rid>,
    /// Announced picture size in pixels, 0 if unknown.
    pub width_px: u32,
    /// See `width_px`.
    pub height_px: u32,
    /// Announced sizes of its spatial layers, smallest first; empty if none were announced.
    pub announced_layers: ArrayVec<(u32, u32), MAX_SPATIAL_LAYERS>,
    /// Announced bitrates of its spatial layers, smallest first; empty if none were announced.
    pub announced_bps: ArrayVec<u32, MAX_SPATIAL_LAYERS>,
    /// Its layers, as its packets tell.
    pub layers: Layers,
    /// What they cost.
    pub rates: LayerRates,
    /// SSRC, once known.
    pub ssrc: Option<u32>,
    /// Its SSRC before that.
    pub replaced: Option<u32>,
    /// From the SSRC's packet indexes to the encoding's own numbers.
    pub numbering: Numbering,
    /// Decrypted packets.
    pub ring: Ring,
    /// Receiver statistics.
    pub reception: Reception,
    /// What is missing.
    pub nack: NackGenerator,
    /// Keyframes wanted from the publisher.
    pub keyframe: KeyframeRequester,
    /// Newest sender report.
    pub sender_report: Option<ReceivedSenderReport>,
    /// Subscribers that get this encoding now; dense, walked for every packet.
    pub live: Vec<DownKey>,
    /// Other shards to which its packets cross.
    pub relayed: Vec<LinkId>,
    /// Of a mirror: it flows where it is published, whether or not it crosses.
    pub flows_elsewhere: bool,
    /// Extended sequence numbers that arrived since the last flush, in order of arrival.
    pub fresh: Vec<u64>,
    /// What was stored before the next fresh packet was not forwarded, on purpose: that leaves no gap in the numbers of outputs.
    pub resumes: bool,
    /// Packets that wait for the structure of their dependency descriptor.
    held: ArrayVec<u64, MAX_HELD>,
    /// For the judgement of the connection.
    pub meter: UplinkMeter,
    /// For metrics and timelines.
    pub sampler: UplinkSampler,
    highest: Option<u64>,
    newest_keyframe: Option<KeyframeStart>,
    last_packet_at: Option<Instant>,
    /// Packets of the running stream that are or were in the ring.
    stored: u64,
    /// Payloads of all packets that came.
    payload_bytes: u64,
    second: Second,
    /// See [`REPLAY_OVERLAP`].
    replay_overlap: Duration,
    /// In frames of usual size; audio has none that are larger.
    keyframe_size: usize,
    /// Timestamp of the keyframe with which it began to flow.
    opening: Option<u32>,
    /// Size that the ring began with.
    least: RingSize,
    /// Seconds in which a quarter of the ring would have been enough.
    quiet_seconds: u8,
}

/// What arrived in the running second; sizes the ring.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    bytes: usize,
    packets: usize,
}

impl Encoding {
    /// An encoding of which nothing has arrived yet.
    #[must_use]
    pub fn new(codec: Codec, rid: Option<Rid>) -> Self {
        let size = if codec.is_video() { RingSize::VIDEO } else { RingSize::AUDIO };
        let ring = Ring::new(size);
        Self {
            rid,
            width_px: 0,
            height_px: 0,
            announced_layers: ArrayVec::new(),
            announced_bps: ArrayVec::new(),
            layers: Layers::default(),
            rates: LayerRates::default(),
            ssrc: None,
            replaced: None,
            numbering: Numbering::default(),
            reception: Reception::new(codec.clock_rate_hz()),
            nack: NackGenerator::default(),
            ring,
            keyframe: KeyframeRequester::default(),
            sender_report: None,
            live: Vec::new(),
            relayed: Vec::new(),
            flows_elsewhere: false,
            fresh: Vec::new(),
            resumes: false,
            held: ArrayVec::new(),
            meter: UplinkMeter::default(),
            sampler: UplinkSampler::default(),
            highest: None,
            newest_keyframe: None,
            last_packet_at: None,
            stored: 0,
            payload_bytes: 0,
            second: Second::default(),
            replay_overlap: if codec.is_video() { REPLAY_OVERLAP } else { Duration::ZERO },
            keyframe_size: if codec.is_video() { KEYFRAME_SIZE } else { 1 },
            opening: None,
            least: size,
            quiet_seconds: 0,
        }
    }

    /// Its publisher can leave spatial layers out.
    #[must_use]
    pub fn has_layers(&self) -> bool {
        self.announced_layers.len() > 1 || self.layers.is_layered()
    }

    /// Stores a packet, of whose frame `meta` says nothing yet. With `is_forwarded` it is queued for the next flush; true if the
    /// queue was empty before.
    ///
    /// # Errors
    /// See [`Ring::insert`].
    pub fn store(&mut self, arrived: Arrived<'_>, is_forwarded: bool, now: Instant) -> Result<bool, Discard> {
        let Arrived { mut meta, layering, block, payload } = arrived;
        let descriptor = Some(described(&meta, block)).filter(|bytes| !bytes.is_empty());
        let is_held = match self.layers.classify(descriptor, layering, meta.timestamp) {
            Classified::Known { frame, starts_keyframe } => {
                meta.frame = frame;
                meta.payload.starts_keyframe = starts_keyframe.unwrap_or(meta.payload.starts_keyframe);
                false
            }
            Classified::Waits => {
                meta.payload.starts_keyframe = false;
                true
            }
        };
        self.ring.insert(meta, block, payload)?;
        self.second.bytes += block.len() + payload.len();
        self.second.packets += 1;
        if meta.payload.starts_keyframe && self.last_packet_at.is_none_or(|at| now.saturating_duration_since(at) > WINDOW) {
            self.opening = Some(meta.timestamp);
        }
        let usual = if self.opening == Some(meta.timestamp) { self.keyframe_size } else { 1 };
        self.rates.count(meta.frame.targets, (block.len() + payload.len()) / usual, now);
        self.payload_bytes += payload.len() as u64;
        self.stored += 1;
        self.last_packet_at = Some(now);
        self.highest = Some(self.highest.map_or(meta.sequence, |highest| highest.max(meta.sequence)));
        if meta.payload.starts_keyframe {
            self.note_keyframe(meta, now);
        }
        let was_empty = self.fresh.is_empty();
        if is_held {
            if self.held.try_push(meta.sequence).is_err() {
                self.held.clear();
                self.keyframe.want();
            }
        } else if is_forwarded {
            self.fresh.push(meta.sequence);
        }
        if !self.held.is_empty() && !is_held && descriptor.is_some_and(has_structure) {
            self.release_held(is_forwarded);
        }
        Ok(was_empty && !self.fresh.is_empty())
    }

    /// The structure is here: what waited for it can be read.
    fn release_held(&mut self, is_forwarded: bool) {
        let mut held = std::mem::take(&mut self.held);
        held.sort_unstable();
        for sequence in held {
            let Some(stored) = self.ring.get(sequence) else { continue };
            let timestamp = stored.meta.timestamp;
            let bytes: ArrayVec<u8, MAX_LEN> = described(stored.meta, stored.bytes).iter().copied().collect();
            match self.layers.classify(Some(&bytes), &Layering::None, timestamp) {
                Classified::Known { frame, .. } => {
                    if let Some(meta) = self.ring.meta_mut(sequence) {
                        meta.frame = frame;
                    }
                    if is_forwarded {
                        self.fresh.push(sequence);
                    }
                }
                Classified::Waits => {
                    // There was room for all of them.
                    let _ = self.held.try_push(sequence);
                }
            }
        }
    }

    /// The sender goes on with another SSRC, whose first packet has the index `first`. Its timestamps begin anywhere.
    pub fn start_over(&mut self, ssrc: u32, first: u64, clock_rate_hz: u32) {
        self.replaced = self.ssrc.replace(ssrc);
        if let Some(highest) = self.highest {
            self.numbering.start_over(first, highest);
        }
        self.follow_new_stream(clock_rate_hz);
    }

    /// What comes next has nothing to do with what came, but that its numbers go on.
    pub fn follow_new_stream(&mut self, clock_rate_hz: u32) {
        self.reception = Reception::new(clock_rate_hz);
        self.stored = 0;
        self.nack = NackGenerator::default();
        self.sender_report = None;
        self.newest_keyframe = None;
        self.layers = Layers::default();
        self.rates.clear();
        self.held.clear();
    }

    /// Nothing of what is stored goes to anybody any more, except again on NACK.
    pub fn forget_unsent(&mut self) {
        self.fresh.clear();
        self.held.clear();
        self.newest_keyframe = None;
    }

    /// The packet waits for the structure that it is read by. It goes out when that is here, to everybody, and not before: sent
    /// twice, its number would be sealed with two contents.
    #[must_use]
    pub fn is_held(&self, sequence: u64) -> bool {
        self.held.contains(&sequence)
    }

    /// A keyframe may be several packets that could start it (SPS, then IDR): the first of them counts.
    fn note_keyframe(&mut self, meta: Meta, now: Instant) {
        self.keyframe.satisfy();
        self.nack.on_keyframe(meta.sequence);
        let start = KeyframeStart { sequence: meta.sequence, timestamp: meta.timestamp, at: now };
        match &mut self.newest_keyframe {
            Some(known) if known.timestamp == meta.timestamp => known.sequence = known.sequence.min(meta.sequence),
            Some(known) if known.sequence > meta.sequence => {}
            newest => *newest = Some(start),
        }
    }

    /// The keyframe with which a subscriber can start now: one that began after it asked, or a young one whose followers
    /// are all still here, if the subscriber has not seen newer pictures: `seen` is when it was sent the newest one.
    #[must_use]
    pub fn keyframe_for(&self, waiting_since: Instant, seen: Option<Instant>, now: Instant) -> Option<KeyframeStart> {
        let start = self.newest_keyframe.filter(|start| self.ring.get(start.sequence).is_some())?;
        let followers = self.highest.unwrap_or(0).saturating_sub(start.sequence);
        if followers >= self.ring.reach() {
            return None;
        }
        let is_new = start.at >= waiting_since;
        let is_young = now.saturating_duration_since(start.at) <= REPLAY_AGE && followers <= REPLAY_PACKETS;
        let is_news = seen.is_none_or(|seen| start.at + self.replay_overlap > seen);
        (is_new || (is_young && is_news)).then_some(start)
    }

    /// When the newest keyframe began to come.
    #[must_use]
    pub fn newest_keyframe_at(&self) -> Option<Instant> {
        self.newest_keyframe.map(|start| start.at)
    }

    /// Highest extended sequence number so far.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Packets of the running stream that came, by whichever way.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Payload bytes of all packets that came, by whichever way.
    #[must_use]
    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    /// Packets have arrived lately.
    #[must_use]
    pub fn is_flowing(&self, now: Instant) -> bool {
        self.flows_elsewhere || self.last_packet_at.is_some_and(|at| now.saturating_duration_since(at) <= ACTIVE_WINDOW)
    }

    /// Somebody gets its packets, here or by way of another shard.
    #[must_use]
    pub fn has_audience(&self) -> bool {
        !(self.live.is_empty() && self.relayed.is_empty())
    }

    /// As the selector sees it.
    #[must_use]
    pub fn offered(&self, now: Instant) -> Offered {
        let is_flowing = self.is_flowing(now);
        let count = match self.last_packet_at {
            Some(_) => self.layers.spatial_layers(),
            None => self.announced_layers.len().max(1),
        };
        let rungs = (0..count.min(MAX_SPATIAL_LAYERS)).map(|spatial| {
            let (width_px, height_px) = self.size(spatial, count);
            let is_active = is_flowing && (count == 1 || u8::try_from(spatial).is_ok_and(|spatial| self.layers.is_active(spatial)));
            Rung { width_px, height_px, is_active }
        });
        Offered { rungs: rungs.collect(), frame_rates: self.layers.frame_rates() }
    }

    /// As announced, where that is more than what comes now: what could be had if somebody wanted it. A publisher that was told
    /// to send fewer layers would otherwise never be told to send more.
    #[must_use]
    pub fn ladder(&self, now: Instant) -> Offered {
        let offered = self.offered(now);
        if self.announced_layers.len() <= offered.rungs.len() {
            return offered;
        }
        let announced = self.announced_layers.iter().take(MAX_SPATIAL_LAYERS);
        let rungs = announced.map(|&(width_px, height_px)| Rung { width_px, height_px, is_active: true }).collect();
        Offered { rungs, ..offered }
    }

    /// Picture size of one of so many spatial layers: as the stream says, else as announced, else each is half of the next.
    fn size(&self, spatial: usize, count: usize) -> (u32, u32) {
        match self.layers.size(spatial) {
            size if size != (0, 0) && count > 1 => size,
            _ if self.announced_layers.len() == count && count > 1 => self.announced_layers[spatial],
            _ => (self.width_px >> (count - 1 - spatial), self.height_px >> (count - 1 - spatial)),
        }
    }

    /// Once a second: fits the ring to the rate that was seen, so that it reaches back a second. It grows at once and
    /// shrinks after a while.
    pub fn end_second(&mut self) {
        self.layers.end_second();
        let Second { bytes, packets } = std::mem::take(&mut self.second);
        let (size, least) = (self.ring.size(), self.least);
        // A quarter more, for keyframes and the unused end of a lap.
        let wanted = RingSize { bytes: (bytes + bytes / 4).max(least.bytes), packets: packets.max(least.packets) };
        if wanted.bytes > size.bytes || wanted.packets > size.packets {
            self.quiet_seconds = 0;
            self.ring.resize(RingSize { bytes: wanted.bytes.max(size.bytes), packets: wanted.packets.max(size.packets) });
        } else if wanted.bytes * 4 <= size.bytes {
            self.quiet_seconds += 1;
            if self.quiet_seconds >= SHRINK_AFTER_SECONDS {
                self.quiet_seconds = 0;
                self.ring.resize(RingSize { bytes: wanted.bytes * 2, packets: wanted.packets * 2 });
            }
        } else {
            self.quiet_seconds = 0;
        }
    }

    /// Timestamp delta that maps `other`'s RTP time onto this encoding's, by the sender reports of both.
    #[must_use]
    pub fn timestamp_delta_from(&self, other: &Self, clock_rate_hz: u32) -> Option<u32> {
        let (mine, theirs) = (self.sender_report?, other.sender_report?);
        let ticks = theirs.ntp.ticks_since(mine.ntp, clock_rate_hz)?;
        Some(mine.rtp.wrapping_add(ticks).wrapping_sub(theirs.rtp))
    }
}

/// The dependency descriptor in a packet's block; empty if it has none.
#[must_use]
pub fn described<'a>(meta: &Meta, block: &'a [u8]) -> &'a [u8] {
    block.get(usize::from(meta.descriptor.at)..).and_then(|rest| rest.get(..usize::from(meta.descriptor.len))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::rtp::extension::{DescriptorPlace, Extensions};
    use crate::rtp::payload::dependency_descriptor::{
        Composed, Descriptor, FrameDiffs, Indication, Indications, Layer, Mandatory, Structure, Template, compose,
    };

    /// Descriptors of a stream with two temporal layers, whose template ids begin here.
    struct Sender(Structure);

    impl Sender {
        fn new(id_offset: u8) -> Self {
            let template = |temporal, first| Template {
                layer: Layer { spatial: 0, temporal },
                indications: Indications::default().with(0, first).with(1, Indication::Switch),
                ..Template::default()
            };
            let templates = [template(0, Indication::Switch), template(1, Indication::NotPresent)];
            Self(Structure::new(id_offset, &templates, &[0, 0], &[]).unwrap())
        }

        /// A packet that is its whole frame; the first frame is a keyframe.
        fn packet(&self, number: u16) -> Vec<u8> {
            let temporal = u8::try_from(number % 2).unwrap();
            let id = (self.0.id_offset() + temporal) % 64;
            let template = *self.0.template(id).unwrap();
            let mut frame_diffs = FrameDiffs::default();
            (0..u16::from(number > 0)).for_each(|_| frame_diffs.push(1 + u16::from(temporal == 0)).unwrap());
            let descriptor = Descriptor {
                mandatory: Mandatory { starts_frame: true, ends_frame: true, template_id: id, frame_number: number },
                has_structure: number == 0,
                active_decode_targets: None,
                layer: template.layer,
                indications: template.indications,
                frame_diffs,
                chain_diffs: template.chain_diffs,
                resolution: None,
            };
            let mut out = [0; MAX_LEN];
            let len = compose(&Composed { descriptor, structure: &self.0 }, &mut out).unwrap();
            out[..len].to_vec()
        }
    }

    fn store(encoding: &mut Encoding, sequence: u64, descriptor: &[u8], now: Instant) -> bool {
        let mut extensions = Extensions::default();
        extensions.dependency_descriptor = Some(descriptor);
        let (block, descriptor): (_, DescriptorPlace) = extensions.forwarded_block(None);
        let block_len = u16::try_from(block.len()).unwrap();
        let meta = Meta { block_len, descriptor, ..Meta::plain(sequence, u32::try_from(sequence).unwrap() * 3000, true) };
        encoding.store(Arrived { meta, layering: &Layering::None, block: &block, payload: b"frame" }, true, now).unwrap()
    }

    #[test]
    fn packets_that_overtake_their_structure_wait_for_it() {
        let (now, sender) = (Instant::now(), Sender::new(60));
        let mut encoding = Encoding::new(Codec::Av1, None);
        for number in [2, 1, 3] {
            assert!(!store(&mut encoding, 1000 + u64::from(number), &sender.packet(number), now), "nothing to forward yet");
        }
        assert!((1001..=1003).all(|sequence| encoding.is_held(sequence)), "not even to who starts now");
        assert!(store(&mut encoding, 1000, &sender.packet(0), now));
        assert_eq!(encoding.fresh, [1000, 1001, 1002, 1003]);
        assert!(!(1000..=1003).any(|sequence| encoding.is_held(sequence)));
        let targets: Vec<u32> = (1000..1004).map(|sequence| encoding.ring.get(sequence).unwrap().meta.frame.targets).collect();
        assert_eq!(targets, [0b11, 0b10, 0b11, 0b10]);
        assert!(encoding.ring.get(1000).unwrap().meta.payload.starts_keyframe);
    }

    #[test]
    fn what_waits_for_a_structure_is_bounded_and_then_given_up_for_a_keyframe() {
        let (now, sender) = (Instant::now(), Sender::new(3));
        let mut encoding = Encoding::new(Codec::Av1, None);
        for number in 1..=u16::try_from(MAX_HELD).unwrap() {
            store(&mut encoding, u64::from(number), &sender.packet(number), now);
        }
        assert!(!encoding.keyframe.is_wanted());
        store(&mut encoding, 500, &sender.packet(500), now);
        assert!(encoding.keyframe.is_wanted() && encoding.held.is_empty());
    }
}
