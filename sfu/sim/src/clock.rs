//! Virtual time: moves only when the simulation says so.

use std::time::{Duration, Instant};

/// The one clock of a simulated world.
///
/// Its origin is a real `Instant`, because there is no other way to make one; nothing may depend on its value.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
    now: Instant,
}

impl Clock {
    /// A clock at zero. There is room before it, for code that subtracts.
    #[must_use]
    pub fn new() -> Self {
        Self::starting(Instant::now() + Duration::from_secs(3600))
    }

    /// A clock at zero, which is this moment: for an engine that is to go on in real time.
    #[must_use]
    pub fn starting(origin: Instant) -> Self {
        Self { origin, now: origin }
    }

    /// Current virtual time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.origin
    }

    /// The point this long after the start.
    #[must_use]
    pub fn at(&self, since_start: Duration) -> Instant {
        self.origin + since_start
    }

    /// Moves on; time never goes back.
    pub fn advance_to(&mut self, then: Instant) {
        self.now = self.now.max(then);
    }

    /// Moves on by a duration.
    pub fn advance(&mut self, by: Duration) {
        self.now += by;
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_goes_back() {
        let mut clock = Clock::new();
        clock.advance(Duration::from_secs(2));
        clock.advance_to(clock.at(Duration::from_secs(1)));
        assert_eq!(clock.elapsed(), Duration::from_secs(2));
    }
}
