//! What the bottleneck carries, by packets that were sent at once: they arrive at its rate.

use super::history::SentAt;
use super::rate::{bits, micros};

/// See the module.
#[derive(Default)]
pub struct Trains {
    sent_at: Option<SentAt>,
    first_us: i64,
    last_us: i64,
    first_bytes: u64,
    bytes: u64,
    packets: u32,
    /// Rates of the newest ones.
    newest: [Option<f64>; 3],
}

/// A train of fewer packets says too little, for arrival times are multiples of 250 us.
const MIN_TRAIN: u32 = 3;

impl Trains {
    /// A packet arrived; in the order in which they were sent.
    pub fn on_packet(&mut self, sent_at: SentAt, arrival_us: i64, bytes: u64) {
        if self.sent_at == Some(sent_at) {
            self.last_us = self.last_us.max(arrival_us);
            self.bytes += bytes;
            self.packets += 1;
            return;
        }
        let took_us = self.last_us - self.first_us;
        if self.packets >= MIN_TRAIN && took_us > 0 {
            self.newest.rotate_left(1);
            self.newest[2] = Some(bits(self.bytes - self.first_bytes) * 1e6 / micros(took_us));
        }
        let (first_us, last_us) = (arrival_us, arrival_us);
        *self = Self { sent_at: Some(sent_at), first_us, last_us, first_bytes: bytes, bytes, packets: 1, newest: self.newest };
    }

    /// The middle one of the newest rates: loss makes one too small, jitter too large.
    #[must_use]
    pub fn bps(&self) -> Option<f64> {
        let [Some(a), Some(b), Some(c)] = self.newest else { return None };
        Some(a.min(b).max(a.max(b).min(c)))
    }
}
