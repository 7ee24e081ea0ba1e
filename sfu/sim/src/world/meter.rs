//! Counts what calls of the engine cost.

use std::time::Duration;

/// What calls of the engine cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    /// Processor time of the thread, for example; without it nothing is counted.
    pub clock: Option<fn() -> Duration>,
    /// All calls of all shards together.
    pub spent: Duration,
    /// Datagrams that the engine sent and received.
    pub datagrams: u64,
}

impl Meter {
    pub(super) fn time<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let Some(clock) = self.clock else { return call() };
        let before = clock();
        let result = call();
        self.spent += clock().saturating_sub(before);
        result
    }
}
