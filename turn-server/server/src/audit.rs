//! The audit log: who wanted to reach whom and was denied. So many lines a second, and how many were left out.

use std::time::{Duration, Instant};

use turn_proto::Denial;

/// Lines a second.
const LINES: u32 = 20;

/// Writes denials to the log under the target `turn_audit`. Addresses belong there: it is what the log is for.
#[derive(Debug)]
pub(crate) struct Audit {
    window_began: Instant,
    written: u32,
    left_out: u64,
}

impl Audit {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { window_began: now, written: 0, left_out: 0 }
    }

    pub(crate) fn record(&mut self, denial: &Denial, now: Instant) {
        self.tick(now);
        if self.written >= LINES {
            self.left_out += 1;
            return;
        }
        self.written += 1;
        let Denial { client, user, peer, method, reason } = denial;
        tracing::warn!(
            target: "turn_audit",
            client = %client.remote,
            transport = client.transport.label(),
            user = ?user,
            %peer,
            method,
            reason = reason.label(),
            "peer denied"
        );
    }

    /// Says what was left out once the second is over.
    pub(crate) fn tick(&mut self, now: Instant) {
        if now.saturating_duration_since(self.window_began) < Duration::from_secs(1) {
            return;
        }
        if self.left_out > 0 {
            tracing::warn!(target: "turn_audit", denials = self.left_out, "more peers denied");
        }
        *self = Self::new(now);
    }
}
