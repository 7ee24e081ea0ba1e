//! What is sent on a transport, over about the time that arrivals are measured over.
//!
//! In: bytes sent so far, whenever the allocation looks. Out: bits per second since a look at least [`WINDOW`] ago.

use std::time::{Duration, Instant};

/// As long as the window of what arrives.
const WINDOW: Duration = Duration::from_millis(250);
/// Looks that are closer together are one: with these the window is covered.
const LOOK: Duration = Duration::from_millis(60);
const LOOKS: usize = 6;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct SentMeter {
    /// The newest last.
    looks: [Option<(Instant, u64)>; LOOKS],
}

impl SentMeter {
    /// So many bytes were sent so far; None: nobody has looked for long enough.
    pub fn look(&mut self, total_bytes: u64, now: Instant) -> Option<u64> {
        let age = |at: Instant| now.saturating_duration_since(at);
        let since = self.looks.iter().rev().flatten().find(|(at, _)| age(*at) >= WINDOW).copied();
        let newest = self.looks.last().copied().flatten();
        if newest.is_none_or(|(at, _)| age(at) >= LOOK) {
            self.looks.rotate_left(1);
            self.looks[LOOKS - 1] = Some((now, total_bytes));
        }
        let (at, bytes) = since?;
        let ms = u64::try_from(age(at).as_millis()).unwrap_or(u64::MAX).max(1);
        Some(total_bytes.saturating_sub(bytes).saturating_mul(8_000) / ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_was_sent_in_the_window_however_often_one_looks() {
        for step_ms in [10, 50, 100, 250, 1_000] {
            let (start, mut meter) = (Instant::now(), SentMeter::default());
            let mut last = None;
            // A Mbit/s for three seconds, then nothing for two.
            for ms in (0..=5_000).step_by(step_ms) {
                let ms = ms as u64;
                last = meter.look(ms.min(3_000) * 125, start + Duration::from_millis(ms));
                if ms == 3_000 {
                    assert_eq!(last, Some(1_000_000), "every {step_ms} ms");
                }
            }
            assert_eq!(last, Some(0), "every {step_ms} ms");
        }
    }
}
