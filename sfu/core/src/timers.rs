//! Deadlines of the peers, the ticks of the shard, and what a tick looks at.
//!
//! Invariant: a tick costs what is due in it. Tracks that nothing comes of and nobody waits for, transports that owe no feedback
//! and rooms in which nobody is heard are not looked at; what everybody has once in a while comes in turns.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::ids::{ParticipantKey, PeerKey, RoomKey, UpKey};

/// NACK, congestion feedback, keyframe requests and unfinished switches are looked at this often.
pub const MEDIA_TICK: Duration = Duration::from_millis(20);
/// Media ticks in a second: reports of all peers are spread over them.
pub const TICKS_PER_SECOND: u64 = 50;
/// Media ticks between two looks at a participant's connection: a second.
pub const LOOK_TICKS: u64 = 50;

/// What media ticks look at.
pub struct Awake {
    /// Tracks of which something comes, or that somebody waits for; those that `is_awake` marks.
    pub ups: Vec<UpKey>,
    /// Transports with unreported arrivals; those that `owes_feedback` marks.
    pub debtors: Vec<PeerKey>,
    /// Rooms in which somebody is heard; those that `is_vocal` marks.
    pub vocal: Vec<RoomKey>,
    /// Transports and when their reports are sent: once a second.
    pub reports: Rota<PeerKey>,
    /// Transports whose bandwidth is to be divided before their turn; those that their `Allotment` marks.
    pub allocations: Vec<PeerKey>,
    /// Participants and when their connections are judged: once a second.
    pub looks: Rota<ParticipantKey>,
}

impl Default for Awake {
    fn default() -> Self {
        let (ups, debtors, vocal, allocations) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { ups, debtors, vocal, allocations, reports: Rota::new(TICKS_PER_SECOND), looks: Rota::new(LOOK_TICKS) }
    }
}

/// Turns that come round: everybody has one of a fixed number of ticks, and each tick has about as many.
#[derive(Debug)]
pub struct Rota<K> {
    turns: Vec<Vec<K>>,
    next: usize,
}

impl<K: Copy> Rota<K> {
    fn new(ticks: u64) -> Self {
        Self { turns: (0..ticks).map(|_| Vec::new()).collect(), next: 0 }
    }

    /// Somebody has a turn from now on.
    pub fn add(&mut self, key: K) {
        let turn = self.next;
        self.next = (turn + 1) % self.turns.len();
        self.turns[turn].push(key);
    }

    /// Whose turn it is. Those who are gone are forgotten.
    pub fn take(&mut self, tick: u64, exists: impl Fn(K) -> bool) -> Vec<K> {
        let turn = usize::try_from(tick % self.turns.len() as u64).unwrap_or(0);
        let keys = &mut self.turns[turn];
        keys.retain(|&key| exists(key));
        keys.clone()
    }
}

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
    fn everybody_has_one_turn_and_turns_are_even() {
        let mut rota = Rota::new(50);
        (0..1000).for_each(|key| rota.add(key));
        let mut seen: Vec<i32> = (7..57).flat_map(|tick| rota.take(tick, |key| key != 3)).collect();
        assert!((7..57).all(|tick| (19..=20).contains(&rota.take(tick, |_| true).len())));
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).filter(|&key| key != 3).collect::<Vec<_>>());
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
