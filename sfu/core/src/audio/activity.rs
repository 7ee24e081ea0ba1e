//! What one microphone did in the last second, on the three time scales of Volfin and Cohen, "Dominant speaker
//! identification for multipoint videoconferencing" (2012).
//!
//! In: the level of every audio packet (RFC 6464). Out: scores that can be compared between microphones, a smoothed level,
//! and whether somebody speaks. Time is cut into frames of 20 ms, so that neither the packet duration nor a late packet
//! changes what a score means. The voice flag of RFC 6464 is not used: some encoders set it always, some never.

use std::time::{Duration, Instant};

use crate::rtp::extension::AudioLevel;

/// N1, N2 and N3 of the paper: steps of loudness in a frame, frames in a block, blocks in the window.
const STEPS: u8 = 13;
const BLOCK_FRAMES: usize = 5;
const BLOCKS: usize = 10;
const WINDOW: usize = BLOCK_FRAMES * BLOCKS;

const FRAME: Duration = Duration::from_millis(20);
/// Longest time that one packet stands for: Opus packets have up to 120 ms. After more, it was silent (DTX, mute).
const MAX_PACKET_FRAMES: u64 = 6;

/// Loudness is the level turned around: 0 is silence, 127 the loudest.
const LOUDEST: u8 = 127;
/// Loudness of one step. 13 steps of 4 dB reach from the noise of a good microphone to loud speech.
const STEP_DB: f32 = 4.0;
/// The first step begins this far above the noise.
const NOISE_MARGIN_DB: f32 = 3.0;
/// The noise is taken to be at least -73 dBov, and at most -45: what is louder may be music, but is not background.
const NOISE_RANGE: (f32, f32) = (54.0, 82.0);
/// What stays equally loud counts as noise after a while: the estimate rises slowly, and falls at once.
const NOISE_RISE_DB_PER_S: f32 = 1.0;

/// A frame of this many steps is active: 12 dB above the first.
const ACTIVE_STEPS: u8 = 3;
/// A block with this many active frames is active. Also the beginning of speech: 60 ms of sound are more than a click.
const ACTIVE_FRAMES: u8 = 3;
/// Somebody goes on speaking for this long after the last active frame: pauses between words.
const HANGOVER: Duration = Duration::from_millis(500);
/// Smoothing of the level per packet: up fast, down slowly.
const ATTACK: f32 = 0.5;
const RELEASE: f32 = 0.1;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Activity {
    epoch: Instant,
    /// Loudness of the last second's frames in steps, the newest first.
    steps: [u8; WINDOW],
    /// Frame number of the newest.
    newest: u64,
    last_packet: Instant,
    last_active: Option<Instant>,
    noise: f32,
    /// Smoothed, linear, 0 to 1.
    level: f32,
    is_speaking: bool,
}

impl Activity {
    /// A microphone of which nothing was heard.
    pub(super) fn new(now: Instant) -> Self {
        let noise = NOISE_RANGE.1;
        Self { epoch: now, steps: [0; WINDOW], newest: 0, last_packet: now, last_active: None, noise, level: 0.0, is_speaking: false }
    }

    /// Takes in the level of one packet.
    pub(super) fn hear(&mut self, level: AudioLevel, now: Instant) {
        let loudness = LOUDEST.saturating_sub(level.minus_dbov);
        self.estimate_noise(f32::from(loudness), now);
        let steps = self.steps_of(f32::from(loudness));
        let frame = self.frame(now);
        let passed = frame.saturating_sub(self.newest);
        // A short gap is what one packet stands for, or packets that come late.
        self.advance(frame, if passed <= MAX_PACKET_FRAMES { steps } else { 0 });
        self.steps[0] = if passed == 0 { self.steps[0].max(steps) } else { steps };
        if steps >= ACTIVE_STEPS {
            self.last_active = Some(now);
        }
        let linear = if loudness == 0 { 0.0 } else { 10_f32.powf(-f32::from(LOUDEST - loudness) / 20.0) };
        self.level += (linear - self.level) * if linear > self.level { ATTACK } else { RELEASE };
        self.last_packet = now;
    }

    /// Takes in that time has passed. Speech begins and ends here.
    pub(super) fn settle(&mut self, now: Instant) {
        let frame = self.frame(now);
        if frame.saturating_sub(self.newest) > MAX_PACKET_FRAMES {
            self.advance(frame, 0);
        }
        let is_recent = self.last_active.is_some_and(|at| now.saturating_duration_since(at) <= HANGOVER);
        self.is_speaking = is_recent && (self.is_speaking || active_frames(&self.steps[..BLOCK_FRAMES]) >= ACTIVE_FRAMES);
    }

    pub(super) fn is_speaking(&self) -> bool {
        self.is_speaking
    }

    pub(super) fn level(&self) -> f32 {
        self.level
    }

    /// The level, or silence where packets have stopped (DTX).
    pub(super) fn level_at(&self, now: Instant) -> f32 {
        if now.saturating_duration_since(self.last_packet) <= HANGOVER { self.level } else { 0.0 }
    }

    pub(super) fn scores(&self) -> Scores {
        let blocks = self.steps.chunks_exact(BLOCK_FRAMES).filter(|block| active_frames(block) >= ACTIVE_FRAMES).count();
        // The rates are those of the paper's exponential distributions, as Jitsi's implementation has them.
        Scores {
            immediate: score(self.steps[0], STEPS, 0.78),
            medium: score(active_frames(&self.steps[..BLOCK_FRAMES]), 5, 24.0),
            long: score(u8::try_from(blocks).unwrap_or(u8::MAX), 10, 47.0),
        }
    }

    fn estimate_noise(&mut self, loudness: f32, now: Instant) {
        let passed_s = now.saturating_duration_since(self.last_packet).as_secs_f32().min(1.0);
        self.noise = loudness.min(self.noise + NOISE_RISE_DB_PER_S * passed_s).clamp(NOISE_RANGE.0, NOISE_RANGE.1);
    }

    fn steps_of(&self, loudness: f32) -> u8 {
        let above_db = loudness - self.noise - NOISE_MARGIN_DB;
        (1..=STEPS).rev().find(|&steps| above_db >= f32::from(steps) * STEP_DB).unwrap_or(0)
    }

    /// Moves the window on to a frame; the frames up to it get `fill`.
    fn advance(&mut self, frame: u64, fill: u8) {
        let passed = usize::try_from(frame.saturating_sub(self.newest)).unwrap_or(WINDOW).min(WINDOW);
        self.steps.copy_within(..WINDOW - passed, passed);
        self.steps[..passed].fill(fill);
        self.newest = self.newest.max(frame);
    }

    fn frame(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis() / FRAME.as_millis()).unwrap_or(u64::MAX)
    }
}

fn active_frames(frames: &[u8]) -> u8 {
    u8::try_from(frames.iter().filter(|&&steps| steps >= ACTIVE_STEPS).count()).unwrap_or(u8::MAX)
}

/// How much more likely speech is than silence on each time scale.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Scores {
    pub(super) immediate: f32,
    pub(super) medium: f32,
    pub(super) long: f32,
}

/// C1, C2 and C3 of the paper: by how much a challenger has to be ahead.
const AHEAD: Scores = Scores { immediate: 3.0, medium: 2.0, long: 0.0 };
/// Scores are at least this, so that their ratio exists.
const MIN_SCORE: f32 = 1e-10;

impl Scores {
    /// Takes over from the dominant speaker: is clearly ahead now and in the last 100 ms, and ahead over the last second.
    pub(super) fn beat(&self, dominant: &Self) -> bool {
        let ahead = |own: f32, other: f32| (own / other).ln();
        ahead(self.immediate, dominant.immediate) > AHEAD.immediate
            && ahead(self.medium, dominant.medium) > AHEAD.medium
            && ahead(self.long, dominant.long) > AHEAD.long
    }
}

/// Log likelihood ratio of `active` out of `count`: binomially distributed with one half (speech) against exponentially
/// distributed with `rate` (silence).
fn score(active: u8, count: u8, rate: f32) -> f32 {
    let ways = (0..active).fold(1.0, |ways, n| ways * f32::from(count - n) / f32::from(n + 1));
    (ways.ln() - f32::from(count) * std::f32::consts::LN_2 - rate.ln() + rate * f32::from(active)).max(MIN_SCORE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use super::*;

    #[test]
    fn a_score_is_the_log_likelihood_ratio() {
        // ln C(13, 8) - 13 ln 2 - ln 0.78 + 0.78 * 8 and so on.
        for (score, expected) in [(score(8, 13, 0.78), 4.638), (score(5, 5, 24.0), 113.356), (score(10, 10, 47.0), 459.218)] {
            assert!((score - expected).abs() < 0.01, "{score} {expected}");
        }
        for score in [score(0, 13, 0.78), score(0, 5, 24.0), score(0, 10, 47.0)] {
            assert!((score - MIN_SCORE).abs() < f32::EPSILON, "silence");
        }
    }

    #[test]
    fn scores_grow_with_activity_up_to_loud_speech() {
        assert!((3..8).all(|steps| score(steps, 13, 0.78) <= score(steps + 1, 13, 0.78)));
        assert!((0..5).all(|frames| score(frames, 5, 24.0) < score(frames + 1, 5, 24.0)));
        assert!((0..10).all(|blocks| score(blocks, 10, 47.0) < score(blocks + 1, 10, 47.0)));
    }

    #[test]
    fn the_packet_duration_does_not_change_the_scores() {
        let scores = [10, 20, 40, 60, 120].map(|packet_ms| {
            let mut mic = Mic::new();
            mic.play(2_000, packet_ms, 30);
            mic.activity.scores()
        });
        assert!(scores.iter().all(|other| *other == scores[0]), "{scores:?}");
    }

    #[test]
    fn a_burst_of_late_packets_is_no_silence() {
        let mut mic = Mic::new();
        mic.play(2_000, 20, 30);
        let steady = mic.activity.scores();
        mic.now += Duration::from_millis(80);
        (0..5).for_each(|_| mic.activity.hear(AudioLevel { voice: true, minus_dbov: 30 }, mic.now));
        mic.activity.settle(mic.now);
        assert_eq!(mic.activity.scores(), steady);
    }

    #[test]
    fn a_microphone_that_sends_nothing_more_falls_silent() {
        let mut mic = Mic::new();
        mic.play(2_000, 20, 30);
        assert!(mic.activity.is_speaking());
        mic.now += Duration::from_millis(1_100);
        mic.activity.settle(mic.now);
        assert!(!mic.activity.is_speaking());
        assert!((mic.activity.scores().long - MIN_SCORE).abs() < f32::EPSILON);
    }

    #[test]
    fn a_fan_is_noise_after_a_while_and_speech_above_it_is_heard() {
        let mut mic = Mic::new();
        mic.play(1_000, 20, 90);
        mic.play(20_000, 20, 52);
        assert!(!mic.activity.is_speaking());
        mic.play(200, 20, 28);
        assert!(mic.activity.is_speaking());
    }

    #[test]
    fn somebody_who_joins_speaking_is_heard_at_once() {
        for minus_dbov in [10, 20, 30] {
            let mut mic = Mic::new();
            mic.play(100, 20, minus_dbov);
            assert!(mic.activity.is_speaking(), "-{minus_dbov} dBov");
        }
    }

    #[test]
    fn every_level_in_any_order_of_time_is_survived() {
        let mut mic = Mic::new();
        let start = mic.now;
        for minus_dbov in 0..=255 {
            for ms in [500, 0, 86_400_000, 3] {
                mic.activity.hear(AudioLevel { voice: false, minus_dbov }, start + Duration::from_millis(ms));
                mic.activity.settle(start);
                assert!((0.0..=1.0).contains(&mic.activity.level()));
            }
        }
    }

    struct Mic {
        activity: Activity,
        now: Instant,
    }

    impl Mic {
        fn new() -> Self {
            let now = Instant::now();
            Self { activity: Activity::new(now), now }
        }

        fn play(&mut self, ms: u64, packet_ms: u64, minus_dbov: u8) {
            for _ in 0..ms / packet_ms {
                self.now += Duration::from_millis(packet_ms);
                self.activity.hear(AudioLevel { voice: true, minus_dbov }, self.now);
                self.activity.settle(self.now);
            }
        }
    }
}
