//! Deadlines of the peers, and the ticks of the shard.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::ids::PeerKey;

/// NACK, congestion feedback, keyframe requests and unfinished switches are looked at this often.
pub const MEDIA_TICK: Duration = Duration::from_millis(20);
/// Media ticks in a second: reports of all peers are spread over them.
pub const TICKS_PER_SECOND: u64 = 50;

/// See the module.
#[derive(Default)]
pub struct Timers {
    queue: BinaryHeap<Reverse<(Instant, PeerKey)>>,
    next_tick: Option<Instant>,
    ticks: u64,
}

impl Timers {
    /// Wakes a peer at `at`.
    pub fn schedule(&mut self, at: Instant, peer: PeerKey) {
        self.queue.push(Reverse((at, peer)));
    }

    /// Next deadline that has come, with its peer. An entry that a later `schedule` made obsolete comes up too: the caller
    /// knows by the time which one counts.
    pub fn pop_due(&mut self, now: Instant) -> Option<(Instant, PeerKey)> {
        let Reverse((at, _)) = self.queue.peek()?;
        if *at > now {
            return None;
        }
        self.queue.pop().map(|Reverse(entry)| entry)
    }

    /// Number of the media tick, if one is due. Ticks that were missed are not made up for.
    pub fn take_tick(&mut self, now: Instant) -> Option<u64> {
        self.next_tick.filter(|&at| at <= now)?;
        self.next_tick = Some(now + MEDIA_TICK);
        self.ticks += 1;
        Some(self.ticks)
    }

    /// Ticks run only while there is something to look at.
    pub fn set_ticking(&mut self, is_ticking: bool, now: Instant) {
        match (self.next_tick, is_ticking) {
            (None, true) => self.next_tick = Some(now + MEDIA_TICK),
            (Some(_), false) => self.next_tick = None,
            _ => {}
        }
    }

    /// Entries in the queue, obsolete ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Nobody waits for anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// When to look again.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let peer = self.queue.peek().map(|Reverse((at, _))| *at);
        [peer, self.next_tick].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_up_in_order_and_not_early() {
        let now = Instant::now();
        let mut timers = Timers::default();
        let later = now + Duration::from_secs(1);
        timers.schedule(later, PeerKey::default());
        timers.schedule(now, PeerKey::default());
        assert_eq!(timers.next_timeout(), Some(now));
        assert!(timers.pop_due(now).is_some());
        assert!(timers.pop_due(now).is_none());
        assert_eq!(timers.next_timeout(), Some(later));
    }

    #[test]
    fn a_missed_tick_is_not_made_up_for() {
        let now = Instant::now();
        let mut timers = Timers::default();
        assert_eq!(timers.take_tick(now), None);
        timers.set_ticking(true, now);
        let late = now + MEDIA_TICK * 10;
        assert_eq!(timers.take_tick(late), Some(1));
        assert_eq!(timers.take_tick(late), None);
    }
}
