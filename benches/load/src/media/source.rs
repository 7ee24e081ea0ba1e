//! When which packets are due: a microphone and a camera with its encoder, of symbolic frames.
//!
//! In: the time, keyframe requests. Out: frames with sizes. The encoder behaves as libwebrtc's: each encoding begins with a keyframe
//! and makes another when asked, at most one in [`KEYFRAME_INTERVAL`]; a keyframe is several times larger than the mean frame, and
//! those behind it pay for that; other sizes vary. Not here: packets ([`super::packetize`]), RTP ([`super::sender`]).

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::packetize::{self, Frame};
use crate::plan::{AudioPlan, FrameSize, VideoPlan};

/// Between two keyframes of an encoding (libwebrtc, `kMinKeyFrameRequestIntervalMs`).
const KEYFRAME_INTERVAL: Duration = Duration::from_millis(300);
/// A keyframe is this many times larger than the mean frame.
const KEYFRAME_FACTOR: f64 = 5.0;
/// While participants join, sources send this seldom, so that the cost of joins can be told from that of media.
const IDLE_INTERVAL: Duration = Duration::from_millis(500);

/// A frame of an encoding that is to be sent.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Due {
    /// Place of the encoding.
    pub encoding: usize,
    /// The frame.
    pub frame: Frame,
    /// Bytes of its bodies.
    pub bytes: usize,
    /// Packets to cut it into.
    pub packets: usize,
}

/// A camera or a microphone.
#[derive(Debug)]
pub struct FrameSource {
    interval: Duration,
    next: Option<Instant>,
    is_idle: bool,
    encodings: Vec<Encoding>,
    rng: StdRng,
}

#[derive(Debug)]
struct Encoding {
    size: FrameSize,
    size_px: (u16, u16),
    has_keyframes: bool,
    number: u32,
    key_index: u8,
    wants_keyframe: bool,
    last_keyframe: Option<Instant>,
    /// Bytes that keyframes took beyond the mean and later frames have to save.
    debt: f64,
}

impl FrameSource {
    /// A microphone.
    #[must_use]
    pub fn audio(plan: &AudioPlan, seed: u64) -> Self {
        let size = FrameSize::Packets { count: 1, payload_bytes: plan.payload_bytes };
        let interval = Duration::from_millis(plan.interval_ms.into());
        Self::new(interval, vec![Encoding::new(size, (0, 0), false)], seed)
    }

    /// A camera.
    #[must_use]
    pub fn video(plan: &VideoPlan, seed: u64) -> Self {
        let encoding = |plan: &crate::plan::EncodingPlan| Encoding::new(plan.size, (plan.width_px, plan.height_px), true);
        Self::new(Duration::from_secs_f64(1.0 / plan.fps), plan.encodings.iter().map(encoding).collect(), seed)
    }

    fn new(interval: Duration, encodings: Vec<Encoding>, seed: u64) -> Self {
        Self { interval, next: None, is_idle: false, encodings, rng: StdRng::seed_from_u64(seed) }
    }

    /// Starts to run, somewhere within the first interval: sources must not all send at once.
    pub fn start(&mut self, now: Instant) {
        let phase = self.interval.mul_f64(self.rng.random_range(0.0..1.0));
        self.next.get_or_insert(now + phase);
    }

    /// Sends only a little, or all again.
    pub fn set_idle(&mut self, now: Instant, is_idle: bool) {
        if std::mem::replace(&mut self.is_idle, is_idle) != is_idle && self.next.is_some() {
            self.next = None;
            self.start(now);
        }
    }

    /// When something is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.next
    }

    /// Somebody can't decode this encoding.
    pub fn request_keyframe(&mut self, encoding: usize) {
        if let Some(encoding) = self.encodings.get_mut(encoding) {
            encoding.wants_keyframe = true;
        }
    }

    /// Frames that are due: one of each encoding, or none. If the caller was late by several, the others are skipped, as by a
    /// camera whose encoder was busy; returns how many.
    pub fn poll(&mut self, now: Instant, mut emit: impl FnMut(Due)) -> u64 {
        let Some(due) = self.next.filter(|due| *due <= now) else { return 0 };
        let interval = if self.is_idle { IDLE_INTERVAL } else { self.interval };
        let late = u32::try_from(now.saturating_duration_since(due).as_nanos() / interval.as_nanos().max(1)).unwrap_or(u32::MAX);
        self.next = Some(due + interval * late.saturating_add(1));
        for (index, encoding) in self.encodings.iter_mut().enumerate() {
            let (frame, bytes, packets) = encoding.frame(now, self.interval, self.is_idle, &mut self.rng);
            emit(Due { encoding: index, frame, bytes, packets });
        }
        u64::from(late)
    }
}

impl Encoding {
    fn new(size: FrameSize, size_px: (u16, u16), has_keyframes: bool) -> Self {
        Self { size, size_px, has_keyframes, number: 0, key_index: 0, wants_keyframe: true, last_keyframe: None, debt: 0.0 }
    }

    fn frame(&mut self, now: Instant, interval: Duration, is_idle: bool, rng: &mut StdRng) -> (Frame, usize, usize) {
        let is_allowed = self.last_keyframe.is_none_or(|at| now.saturating_duration_since(at) >= KEYFRAME_INTERVAL);
        let is_keyframe = self.has_keyframes && self.wants_keyframe && is_allowed;
        if is_keyframe {
            self.wants_keyframe = false;
            self.last_keyframe = Some(now);
            self.key_index = self.key_index.wrapping_add(1);
        }
        self.number = self.number.wrapping_add(1);
        let frame = Frame { is_keyframe, number: self.number, key_index: self.key_index, size_px: self.size_px };
        let (bytes, packets) = match self.size {
            FrameSize::Packets { count, payload_bytes } => (count * payload_bytes, count),
            FrameSize::Bitrate { bps } => {
                let mean = f64::from(bps) / 8.0 * interval.as_secs_f64();
                let bytes = if is_keyframe {
                    self.debt += mean * (KEYFRAME_FACTOR - 1.0);
                    mean * KEYFRAME_FACTOR
                } else {
                    let saved = (mean * 0.2).min(self.debt);
                    self.debt -= saved;
                    mean * rng.random_range(0.6..1.4) - saved
                } as usize;
                (bytes, packetize::packets_of(bytes))
            }
        };
        if is_idle { (frame, bytes / packets.max(1), 1) } else { (frame, bytes, packets) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::EncodingPlan;
    use sfu_core::media::Codec;

    fn camera(size: FrameSize, fps: f64) -> FrameSource {
        let encoding = EncodingPlan { rid: None, width_px: 640, height_px: 360, size };
        FrameSource::video(&VideoPlan { codec: Codec::Vp8, fps, encodings: vec![encoding] }, 7)
    }

    /// Frames of so many seconds, polled each millisecond; keyframes are requested at these milliseconds.
    fn run(source: &mut FrameSource, seconds: u64, requests_at_ms: &[u64]) -> Vec<(u64, Due)> {
        let began = Instant::now();
        source.start(began);
        let mut frames = Vec::new();
        for ms in 0..seconds * 1_000 {
            if requests_at_ms.contains(&ms) {
                source.request_keyframe(0);
            }
            source.poll(began + Duration::from_millis(ms), |due| frames.push((ms, due)));
        }
        frames
    }

    #[test]
    fn a_camera_keeps_its_frame_rate_and_bitrate() {
        let frames = run(&mut camera(FrameSize::Bitrate { bps: 1_700_000 }, 30.0), 20, &[]);
        assert!((599..=601).contains(&frames.len()), "{}", frames.len());
        let bits: usize = frames.iter().map(|(_, due)| due.bytes * 8).sum();
        let mean = bits / 20;
        assert!((1_600_000..1_800_000).contains(&mean), "{mean}");
    }

    #[test]
    fn a_camera_starts_with_a_keyframe_and_makes_others_when_asked() {
        let frames = run(&mut camera(FrameSize::Bitrate { bps: 500_000 }, 30.0), 10, &[1_000, 5_000, 5_050, 5_100]);
        let keyframes: Vec<u64> = frames.iter().filter(|(_, due)| due.frame.is_keyframe).map(|(ms, _)| *ms).collect();
        assert_eq!(keyframes.len(), 4, "{keyframes:?}");
        assert!(keyframes[0] < 34 && (1_000..1_040).contains(&keyframes[1]) && (5_000..5_040).contains(&keyframes[2]));
        assert!(keyframes[3] - keyframes[2] >= 300, "the second of a burst waits: {keyframes:?}");
    }

    #[test]
    fn a_keyframe_is_larger_than_what_follows() {
        let frames = run(&mut camera(FrameSize::Bitrate { bps: 500_000 }, 30.0), 1, &[]);
        assert!(frames[0].1.frame.is_keyframe);
        assert!(frames[1..].iter().all(|(_, due)| due.bytes * 3 < frames[0].1.bytes));
    }

    #[test]
    fn frames_of_fixed_packets_are_all_alike() {
        let frames = run(&mut camera(FrameSize::Packets { count: 8, payload_bytes: 1_100 }, 62.5), 8, &[]);
        assert!((499..=501).contains(&frames.len()));
        assert!(frames.iter().all(|(_, due)| (due.packets, due.bytes) == (8, 8_800)));
    }

    #[test]
    fn a_microphone_sends_fifty_packets_a_second() {
        let mut source = FrameSource::audio(&AudioPlan { payload_bytes: 80, interval_ms: 20 }, 1);
        let frames = run(&mut source, 10, &[]);
        assert!((499..=501).contains(&frames.len()));
        assert!(frames.iter().all(|(_, due)| (due.packets, due.bytes, due.frame.is_keyframe) == (1, 80, false)));
    }

    #[test]
    fn an_idle_source_sends_one_packet_twice_a_second() {
        let mut source = camera(FrameSize::Bitrate { bps: 1_700_000 }, 30.0);
        source.set_idle(Instant::now(), true);
        let frames = run(&mut source, 10, &[]);
        assert!((19..=21).contains(&frames.len()), "{}", frames.len());
        assert!(frames.iter().all(|(_, due)| due.packets == 1));
    }

    #[test]
    fn what_a_busy_machine_missed_is_skipped_and_told() {
        let mut source = camera(FrameSize::Bitrate { bps: 500_000 }, 30.0);
        let began = Instant::now();
        source.start(began);
        let mut frames = 0;
        let skipped = source.poll(began + Duration::from_secs(1), |_| frames += 1);
        assert_eq!(frames, 1);
        assert!((28..=30).contains(&skipped), "{skipped}");
    }
}
