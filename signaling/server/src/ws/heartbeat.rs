//! Whether the loop of all rooms turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Says when the loop last turned; read by `/livez`.
#[derive(Clone)]
pub(crate) struct Heartbeat {
    started: Instant,
    beat_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), beat_ms: Arc::default() }
    }

    /// Time since the last turn.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.beat_ms.load(Ordering::Relaxed)))
    }

    pub(super) fn beat(&self, now: Instant) {
        let since_start = now.saturating_duration_since(self.started).as_millis();
        self.beat_ms.store(u64::try_from(since_start).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
