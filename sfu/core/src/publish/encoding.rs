//! One simulcast encoding of a published track: everything that belongs to its SSRC.

use std::time::{Duration, Instant};

use crate::error::Discard;
use crate::ids::DownKey;
use crate::media::{Codec, Rid};
use crate::publish::keyframe::KeyframeRequester;
use crate::publish::nack::NackGenerator;
use crate::publish::numbering::Numbering;
use crate::publish::reception::Reception;
use crate::publish::ring::{Meta, Ring, RingSize};
use crate::quality::traffic::UplinkMeter;
use crate::rtp::ntp::NtpTime;
use crate::subscribe::selector::Offered;

/// An encoding without packets for this long is not offered to subscribers. Longer than the frame interval of a 2 fps
/// screen share, shorter than what a viewer takes for a frozen picture.
const ACTIVE_WINDOW: Duration = Duration::from_millis(800);
/// A subscriber may start at a keyframe that is this old, with what followed it, without asking for a new one.
const REPLAY_AGE: Duration = Duration::from_millis(300);
/// And if not more packets than this have followed: they are sent in one burst.
const REPLAY_PACKETS: u64 = 48;

/// A ring that is four times too large for this long gives memory back.
const SHRINK_AFTER_SECONDS: u8 = 10;

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
    /// SSRC, once known.
    pub ssrc: Option<u32>,
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
    /// Extended sequence numbers that arrived since the last flush, in order of arrival.
    pub fresh: Vec<u64>,
    /// For the judgement of the connection.
    pub meter: UplinkMeter,
    highest: Option<u64>,
    newest_keyframe: Option<KeyframeStart>,
    last_packet_at: Option<Instant>,
    /// Packets of the running stream that are or were in the ring.
    stored: u64,
    second: Second,
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
            ssrc: None,
            numbering: Numbering::default(),
            reception: Reception::new(codec.clock_rate_hz()),
            nack: NackGenerator::default(),
            ring,
            keyframe: KeyframeRequester::default(),
            sender_report: None,
            live: Vec::new(),
            fresh: Vec::new(),
            meter: UplinkMeter::default(),
            highest: None,
            newest_keyframe: None,
            last_packet_at: None,
            stored: 0,
            second: Second::default(),
            least: size,
            quiet_seconds: 0,
        }
    }

    /// Stores a packet. With `is_forwarded` it is queued for the next flush; true if it is the first one in the queue.
    ///
    /// # Errors
    /// See [`Ring::insert`].
    pub fn store(&mut self, meta: Meta, block: &[u8], payload: &[u8], is_forwarded: bool, now: Instant) -> Result<bool, Discard> {
        self.ring.insert(meta, block, payload)?;
        self.second.bytes += block.len() + payload.len();
        self.second.packets += 1;
        self.stored += 1;
        self.last_packet_at = Some(now);
        self.highest = Some(self.highest.map_or(meta.sequence, |highest| highest.max(meta.sequence)));
        if meta.payload.starts_keyframe {
            self.note_keyframe(meta, now);
        }
        let is_first = is_forwarded && self.fresh.is_empty();
        if is_forwarded {
            self.fresh.push(meta.sequence);
        }
        Ok(is_first)
    }

    /// The sender goes on with another SSRC, whose first packet has the index `first`. Its timestamps begin anywhere.
    pub fn start_over(&mut self, ssrc: u32, first: u64, clock_rate_hz: u32) {
        self.ssrc = Some(ssrc);
        if let Some(highest) = self.highest {
            self.numbering.start_over(first, highest);
        }
        self.reception = Reception::new(clock_rate_hz);
        self.stored = 0;
        self.nack = NackGenerator::default();
        self.sender_report = None;
        self.newest_keyframe = None;
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
    /// are all still here.
    #[must_use]
    pub fn keyframe_for(&self, waiting_since: Instant, now: Instant) -> Option<KeyframeStart> {
        let start = self.newest_keyframe.filter(|start| self.ring.get(start.sequence).is_some())?;
        let followers = self.highest.unwrap_or(0).saturating_sub(start.sequence);
        if followers >= self.ring.reach() {
            return None;
        }
        let is_new = start.at >= waiting_since;
        let is_young = now.saturating_duration_since(start.at) <= REPLAY_AGE && followers <= REPLAY_PACKETS;
        (is_new || is_young).then_some(start)
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

    /// As the selector sees it.
    #[must_use]
    pub fn offered(&self, now: Instant) -> Offered {
        let is_active = self.last_packet_at.is_some_and(|at| now.saturating_duration_since(at) <= ACTIVE_WINDOW);
        Offered { width_px: self.width_px, height_px: self.height_px, is_active }
    }

    /// Once a second: fits the ring to the rate that was seen, so that it reaches back a second. It grows at once and
    /// shrinks after a while.
    pub fn end_second(&mut self) {
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
