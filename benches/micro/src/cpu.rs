//! CPU time of the calling thread, user and system.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// CPU time that a piece of work takes, without what measuring it costs.
pub struct Stopwatch {
    overhead: Duration,
}

impl Stopwatch {
    /// Finds out what measuring costs: a thread's CPU clock is a system call.
    #[must_use]
    pub fn calibrated() -> Self {
        let mut laps: Vec<Duration> = (0..1_001).map(|_| lap(|| ()).0).collect();
        laps.sort_unstable();
        Self { overhead: laps[laps.len() / 2] }
    }

    /// What measuring costs, which [`Self::time`] leaves out.
    #[must_use]
    pub const fn overhead(&self) -> Duration {
        self.overhead
    }

    /// Does the work.
    pub fn time<T>(&self, work: impl FnOnce() -> T) -> (Duration, T) {
        let (took, result) = lap(work);
        (took.saturating_sub(self.overhead), result)
    }
}

fn lap<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let before = thread_time();
    let result = work();
    (thread_time().saturating_sub(before), result)
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
