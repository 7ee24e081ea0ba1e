//! Puts packets into the order of their sequence numbers; waits for what is missing as long as a player would.
//!
//! In: packets as they arrive. Out: packets without holes, or the size of a hole that was given up. Invariant: what comes
//! out only moves forward. A number that comes twice with different content is counted: nobody may send that.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use sfu_core::rtp::sequence;

/// What comes out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ordered<T> {
    /// The next packet.
    Packet(T),
    /// So many packets were waited for in vain.
    Gap(u64),
}

/// See the module.
#[derive(Debug)]
pub struct Reorder<T> {
    patience: Duration,
    /// Next number to come out.
    next: Option<u64>,
    waiting: BTreeMap<u64, (Instant, T)>,
    /// Number and digest of what was received lately.
    recent: VecDeque<(u64, u64)>,
    reused: u64,
}

/// Numbers that are remembered for comparison.
const REMEMBERED: usize = 1024;

impl<T: Hash> Reorder<T> {
    /// `patience`: how long a hole is waited for, counted from the arrival of the packet behind it.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { patience, next: None, waiting: BTreeMap::new(), recent: VecDeque::new(), reused: 0 }
    }

    /// Takes a packet in; late ones and repetitions are dropped.
    pub fn insert(&mut self, now: Instant, wire: u16, packet: T) {
        let highest = self.waiting.last_key_value().map(|(&number, _)| number).or(self.next);
        // The first number is put far from zero, so that a slightly older one still has a place.
        let number = highest.map_or(0x1_0000 + u64::from(wire), |reference| sequence::nearest(wire, reference));
        let next = *self.next.get_or_insert(number);
        let digest = digest(&packet);
        match self.recent.iter().find(|&&(known, _)| known == number) {
            Some(&(_, known)) => {
                self.reused += u64::from(known != digest);
                return;
            }
            None => self.recent.push_back((number, digest)),
        }
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
        if number >= next {
            self.waiting.insert(number, (now, packet));
        }
    }

    /// What can come out by now.
    pub fn pop(&mut self, now: Instant) -> Option<Ordered<T>> {
        let next = self.next?;
        let entry = self.waiting.first_entry()?;
        let (number, arrived) = (*entry.key(), entry.get().0);
        if number == next {
            self.next = Some(next + 1);
            return Some(Ordered::Packet(entry.remove().1));
        }
        if now.saturating_duration_since(arrived) < self.patience {
            return None;
        }
        self.next = Some(number);
        Some(Ordered::Gap(number - next))
    }

    /// What has come behind the first hole, in order, by number; nothing if there is no hole.
    pub fn behind_hole(&self) -> impl DoubleEndedIterator<Item = (u64, &T)> {
        let has_hole = self.waiting.first_key_value().is_some_and(|(&number, _)| Some(number) != self.next);
        self.waiting.iter().filter(move |_| has_hole).map(|(&number, (_, packet))| (number, packet))
    }

    /// Everything before this number is not waited for any more; returns how much of it had not come.
    pub fn skip_to(&mut self, number: u64) -> u64 {
        let Some(next) = self.next.filter(|&next| next < number) else { return 0 };
        let behind = self.waiting.split_off(&number);
        let came = std::mem::replace(&mut self.waiting, behind).len() as u64;
        self.next = Some(number);
        number - next - came
    }

    /// Numbers that are waited for, oldest first.
    #[must_use]
    pub fn missing(&self) -> Vec<u16> {
        let Some(mut next) = self.next else { return Vec::new() };
        let mut missing = Vec::new();
        for &number in self.waiting.keys() {
            missing.extend((next..number).map(sequence::low16));
            next = number + 1;
        }
        missing
    }

    /// When patience ends for the oldest hole.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        let (&number, &(arrived, _)) = self.waiting.first_key_value()?;
        (Some(number) != self.next).then(|| arrived + self.patience)
    }

    /// Numbers that came again with other content.
    #[must_use]
    pub fn reused(&self) -> u64 {
        self.reused
    }
}

fn digest(packet: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    packet.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const PATIENCE: Duration = Duration::from_millis(100);

    fn drain(reorder: &mut Reorder<u16>, now: Instant) -> Vec<Ordered<u16>> {
        std::iter::from_fn(|| reorder.pop(now)).collect()
    }

    #[test]
    fn packets_come_out_in_order_across_the_wrap() {
        for start in [0_u16, 1, 32_767, 32_768, 65_533, 65_534, 65_535] {
            let (clock, mut reorder) = (Clock::new(), Reorder::new(PATIENCE));
            let number = |offset: u16| start.wrapping_add(offset);
            for offset in [0, 3, 1, 2] {
                reorder.insert(clock.now(), number(offset), number(offset));
            }
            let expected: Vec<_> = (0..4).map(|offset| Ordered::Packet(number(offset))).collect();
            assert_eq!(drain(&mut reorder, clock.now()), expected, "start {start}");
        }
    }

    #[test]
    fn a_hole_is_waited_for_and_then_given_up() {
        let (clock, mut reorder) = (Clock::new(), Reorder::new(PATIENCE));
        for number in [5, 8] {
            reorder.insert(clock.now(), number, number);
        }
        assert_eq!(drain(&mut reorder, clock.now()), [Ordered::Packet(5)]);
        assert_eq!(reorder.missing(), [6, 7]);
        assert_eq!(reorder.next_timeout(), Some(clock.now() + PATIENCE));
        assert_eq!(drain(&mut reorder, clock.now() + PATIENCE), [Ordered::Gap(2), Ordered::Packet(8)]);
        assert_eq!(reorder.missing(), []);
    }

    #[test]
    fn a_hole_can_be_given_up_at_once() {
        let (clock, mut reorder) = (Clock::new(), Reorder::new(PATIENCE));
        for number in [5, 6, 8, 10, 11] {
            reorder.insert(clock.now(), number, number);
        }
        assert_eq!(reorder.behind_hole().count(), 0);
        drain(&mut reorder, clock.now());
        let behind: Vec<(u64, u16)> = reorder.behind_hole().map(|(number, &packet)| (number, packet)).collect();
        assert_eq!(behind.iter().map(|&(_, packet)| packet).collect::<Vec<_>>(), [8, 10, 11]);
        assert_eq!(reorder.skip_to(behind[1].0), 2, "7 and 9");
        assert_eq!(drain(&mut reorder, clock.now()), [Ordered::Packet(10), Ordered::Packet(11)]);
        assert_eq!(reorder.skip_to(behind[0].0), 0);
    }

    #[test]
    fn repetitions_are_dropped_and_reuse_is_counted() {
        let (clock, mut reorder) = (Clock::new(), Reorder::new(PATIENCE));
        reorder.insert(clock.now(), 5, 50);
        reorder.insert(clock.now(), 5, 50);
        assert_eq!(reorder.reused(), 0);
        reorder.insert(clock.now(), 5, 51);
        assert_eq!(reorder.reused(), 1);
        assert_eq!(drain(&mut reorder, clock.now()), [Ordered::Packet(50)]);
    }
}
