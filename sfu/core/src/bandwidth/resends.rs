//! Bounds what is resent: what a full queue dropped must not be poured into it at once.

use std::time::{Duration, Instant};

/// Bytes that may be resent now.
#[derive(Default)]
pub struct ResendCredit {
    bytes: f64,
    since: Option<Instant>,
}

/// Share of the target, or of what arrives if that is more, that retransmissions may have, and for how long they may save it up.
const RESEND_SHARE: f64 = 0.4;
const RESEND_SAVING: Duration = Duration::from_millis(100);
/// A packet, about; a few may always be resent at once, and some ten in a second.
const RESEND_BYTES: f64 = 1_200.0;
const RESEND_AT_ONCE: f64 = 8.0 * RESEND_BYTES;
const RESEND_LEAST: f64 = 12_500.0;

impl ResendCredit {
    /// A packet may be resent now, on a way that carries so much.
    pub fn take(&mut self, bps: f64, now: Instant) -> bool {
        let bytes_per_s = (bps / 8.0 * RESEND_SHARE).max(RESEND_LEAST);
        let elapsed = self.since.map_or(RESEND_SAVING, |since| now.saturating_duration_since(since));
        let most = bytes_per_s * RESEND_SAVING.as_secs_f64() + RESEND_AT_ONCE;
        *self = Self { bytes: (self.bytes + bytes_per_s * elapsed.as_secs_f64()).min(most), since: Some(now) };
        let may = self.bytes > 0.0;
        if may {
            self.bytes -= RESEND_BYTES;
        }
        may
    }
}
