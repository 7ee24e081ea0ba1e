//! A queue that is being emptied: whether it is empty, somebody else's, or none.
//!
//! In: the queue's length with every report. Out: a [`Verdict`]. What is sent meanwhile is [`super::control`]'s matter.

use std::time::{Duration, Instant};

use super::control::{HIGH, LOW};

/// A queue is to be empty after this.
pub const DRAIN: Duration = Duration::from_millis(600);
/// One of up to [`OTHERS`] that has not become shorter for [`STOPPED`] is as good as empty: others' frames, behind which one's own
/// happen to come, are no queue that would go away.
const OTHERS: Duration = Duration::from_millis(40);
const STOPPED: Duration = Duration::from_millis(100);
/// It grows again if it does by so much.
const REGROWN: Duration = Duration::from_millis(10);
const SHRUNK: Duration = Duration::from_millis(3);
/// One that does not become shorter for so long is given still less: what arrived before the cut may have been taken for too
/// much, and a full queue carries just what is sent. What then stays within so much for so long is none.
const STUCK: Duration = Duration::from_millis(300);
const STEADY: Duration = Duration::from_millis(6);
const STEADY_FOR: Duration = Duration::from_millis(500);
/// One that is still so long when it should be empty is somebody else's.
const LEFT: f64 = 0.6;

/// See the module.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Drain {
    since: Instant,
    from: Duration,
    /// Rate before.
    pub before_bps: f64,
    /// Shortest since, and when it last became shorter.
    shortest: Duration,
    shrunk: Instant,
    last: Duration,
    steady: Steady,
    /// Until then what was sent before still arrives, and says nothing.
    settles_at: Option<Instant>,
    /// It did not become shorter, and still less is sent to see whether it does.
    is_experiment: bool,
}

/// How long a queue has been as long as it is.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Steady {
    since: Instant,
    shortest: Duration,
    longest: Duration,
}

/// What a report says of a queue that is being emptied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It becomes shorter.
    Shrinks,
    /// It is empty.
    Empty,
    /// It has become longer again.
    Regrown,
    /// It does not become shorter; whether it would if much less were sent is to be tried.
    Stuck,
    /// It stays what it is whatever is sent: the way has become longer.
    OtherWay,
    /// Others fill it.
    Others,
    /// It is no longer than it may be; jitter, or others who wait for it to become shorter as well.
    Tolerable,
}

impl Steady {
    fn new(queue: Duration, now: Instant) -> Self {
        Self { since: now, shortest: queue, longest: queue }
    }

    fn add(self, queue: Duration, now: Instant) -> Self {
        let (shortest, longest) = (self.shortest.min(queue), self.longest.max(queue));
        if longest - shortest > STEADY { Self::new(queue, now) } else { Self { shortest, longest, ..self } }
    }
}

impl Drain {
    /// A queue of this length is to be emptied from now on.
    #[must_use]
    pub fn new(queue: Duration, before_bps: f64, now: Instant) -> Self {
        let steady = Steady::new(queue, now);
        let (settles_at, is_experiment) = (None, false);
        Self { since: now, from: queue, before_bps, shortest: queue, shrunk: now, last: queue, steady, settles_at, is_experiment }
    }

    /// More is on its way than passes: the queue becomes longer until then, whatever is sent.
    pub fn settle_until(&mut self, at: Instant) {
        self.settles_at = Some(at);
    }

    /// A report. `is_complete`: nothing is missing; `tolerable`: longest queue that need not be emptied.
    pub fn look(&mut self, queue: Duration, is_complete: bool, round_trip: Duration, tolerable: Duration, now: Instant) -> Verdict {
        let lasts = |since: Instant| now.saturating_duration_since(since);
        if let Some(at) = self.settles_at.filter(|&at| now < at) {
            *self = Self { settles_at: Some(at), ..Self::new(queue, self.before_bps, now) };
            return Verdict::Shrinks;
        }
        if queue + SHRUNK < self.shortest {
            (self.shortest, self.shrunk) = (queue, now);
        }
        // A full queue is as steady, but drops.
        self.steady = if is_complete { self.steady.add(queue, now) } else { Steady::new(queue, now) };
        let has_regrown = queue > std::mem::replace(&mut self.last, queue) && queue > self.shortest + REGROWN;
        let is_over = lasts(self.since) > DRAIN * 2 + round_trip * 2;
        if queue < LOW || (queue < OTHERS && lasts(self.shrunk) > STOPPED + round_trip) {
            Verdict::Empty
        } else if self.is_experiment && lasts(self.steady.since) > STEADY_FOR && queue > HIGH {
            Verdict::OtherWay
        } else if !self.is_experiment && lasts(self.shrunk) > STUCK + round_trip && queue > HIGH {
            (self.is_experiment, self.steady) = (true, Steady::new(queue, now));
            Verdict::Stuck
        } else if is_over && queue > self.from.mul_f64(LEFT) && queue > HIGH {
            Verdict::Others
        } else if is_over && queue < tolerable {
            Verdict::Tolerable
        } else if has_regrown {
            Verdict::Regrown
        } else {
            Verdict::Shrinks
        }
    }

    /// Less is sent since it has regrown.
    pub fn begin_again(&mut self, queue: Duration, now: Instant) {
        (self.shortest, self.shrunk) = (queue, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Reports each 50 ms of a queue of this length (ms, by the number of the report); the first verdict that ends it, and when.
    fn run(length_ms: impl Fn(u32) -> u64) -> Option<(u32, Verdict)> {
        let start = Instant::now();
        let mut drain = Drain::new(Duration::from_millis(length_ms(0)), 1e6, start);
        (1..200).find_map(|number| {
            let queue = Duration::from_millis(length_ms(number));
            let verdict = drain.look(queue, true, 50 * MS, 45 * MS, start + 50 * MS * number);
            (!matches!(verdict, Verdict::Shrinks | Verdict::Stuck)).then_some((number, verdict))
        })
    }

    #[test]
    fn a_queue_that_shrinks_is_empty_in_the_end() {
        assert_eq!(run(|number| 100_u64.saturating_sub(u64::from(number) * 10)), Some((9, Verdict::Empty)));
    }

    #[test]
    fn one_that_is_to_come_is_waited_for() {
        let start = Instant::now();
        let mut drain = Drain::new(400 * MS, 1e6, start);
        drain.settle_until(start + 275 * MS);
        let queues = [3, 70, 160, 250, 280, 279, 160, 80, 5];
        let verdicts: Vec<Verdict> =
            (1..).zip(queues).map(|(number, ms)| drain.look(MS * ms, ms < 100, 50 * MS, 45 * MS, start + 50 * MS * number)).collect();
        assert_eq!(verdicts[..8], [Verdict::Shrinks; 8]);
        assert_eq!(verdicts[8], Verdict::Empty);
    }

    #[test]
    fn one_that_stays_what_it_is_is_none() {
        assert_eq!(run(|_| 90).map(|(_, verdict)| verdict), Some(Verdict::OtherWay));
    }

    #[test]
    fn one_that_changes_and_does_not_go_is_somebody_elses() {
        let found = run(|number| if number % 2 == 0 { 200 } else { 190 - u64::from(number % 7) * 8 });
        assert!(matches!(found, Some((_, Verdict::Others | Verdict::Regrown))), "{found:?}");
    }
}
