//! When a picture has its turn, and whether it is there by then: what libwebrtc's `timing.cc` and frame buffer make of arrival times.
//!
//! In: pictures that can be shown, in order, and the least delay that the sender asks for. Out: which of them are late. A player
//! shows the picture that came fastest at once, and others as much later as they were taken later. What comes after its turn
//! makes the picture stutter, and is left out where the next one is there too.

use std::time::{Duration, Instant};

/// A player waits for so long by itself, as it does for jitter and for frames of different sizes.
const OWN_PATIENCE: Duration = Duration::from_millis(40);
const TICKS_PER_MS: i64 = 90;
/// Pictures after which the fastest one counts little.
const FORGETTING: i64 = 100;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Player {
    /// The least delay, as the newest playout delay extension has it (in front of its maximum: 12 bits of 10 ms).
    hold: Duration,
    /// Time and RTP timestamp of the first picture.
    first: Option<(Instant, u32)>,
    /// How much slower than the first the fastest of late came, in microseconds.
    fastest_us: i64,
}

impl Player {
    /// A frame says how long to wait.
    pub fn hold(&mut self, value: &[u8]) {
        if let &[high, low, _] = value {
            let tens = (u64::from(high) << 4) | u64::from(low >> 4);
            self.hold = Duration::from_millis(tens * 10);
        }
    }

    /// A picture can be shown now. True if its turn was before.
    pub fn is_late(&mut self, timestamp: u32, now: Instant) -> bool {
        let (began, first) = *self.first.get_or_insert((now, timestamp));
        let passed_us = micros(now.saturating_duration_since(began));
        let taken_us = i64::from(timestamp.wrapping_sub(first).cast_signed()) * 1_000 / TICKS_PER_MS;
        let slower_us = passed_us - taken_us;
        // A way that has become longer is the measure of what comes after a while.
        self.fastest_us = slower_us.min(self.fastest_us + (slower_us - self.fastest_us) / FORGETTING);
        slower_us - self.fastest_us > micros(self.hold.max(OWN_PATIENCE))
    }
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_picture_is_late_if_it_comes_much_slower_than_the_fastest() {
        let (mut player, start) = (Player::default(), Instant::now());
        let turns = [(0, 30), (50, 75), (100, 119), (150, 200), (200, 220)];
        let late = turns.map(|(taken_ms, came_ms)| player.is_late(taken_ms * 90, start + MS * came_ms));
        // The third is the fastest, by 11 ms.
        assert_eq!(late, [false; 5]);
        assert!(player.is_late(250 * 90, start + MS * 312));
        player.hold(&[0, 0xa0, 0]);
        // Further than that it may not be behind.
        assert!(!player.is_late(300 * 90, start + MS * 418) && player.is_late(350 * 90, start + MS * 475));
    }
}
