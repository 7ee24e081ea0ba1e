//! Which ports of the relayed addresses are in use.

use std::ops::RangeInclusive;

use rand::{Rng, RngExt as _};

/// Ports of one family and protocol.
#[derive(Debug)]
pub(crate) struct Ports {
    range: RangeInclusive<u16>,
    used: Box<[bool]>,
    used_count: usize,
}

/// What a port is to be like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Any.
    Any,
    /// An even one (RFC 8656 section 18.6 without R).
    Even,
    /// An even one with the next one free as well, which is taken too (with R).
    Pair,
}

impl Ports {
    pub(crate) fn new(range: RangeInclusive<u16>) -> Self {
        let len = usize::from(range.end().saturating_sub(*range.start())) + usize::from(!range.is_empty());
        Self { range, used: vec![false; len].into_boxed_slice(), used_count: 0 }
    }

    /// Takes a port, at a random place (RFC 6056): one that follows another could be guessed. `None`: none is left.
    pub(crate) fn take(&mut self, wanted: Wanted, rng: &mut impl Rng) -> Option<u16> {
        if self.used.is_empty() {
            return None;
        }
        let first = rng.random_range(0..self.used.len());
        let index = (first..self.used.len()).chain(0..first).find(|&index| self.is_fit(index, wanted))?;
        self.set(index);
        if wanted == Wanted::Pair {
            self.set(index + 1);
        }
        u16::try_from(index).ok().map(|offset| self.range.start() + offset)
    }

    /// A port is free again.
    pub(crate) fn give_back(&mut self, port: u16) {
        let index = usize::from(port.wrapping_sub(*self.range.start()));
        if let Some(used @ true) = self.used.get_mut(index) {
            *used = false;
            self.used_count -= 1;
        }
    }

    /// Ports in use, and all.
    pub(crate) const fn usage(&self) -> (usize, usize) {
        (self.used_count, self.used.len())
    }

    fn is_fit(&self, index: usize, wanted: Wanted) -> bool {
        let is_even = (usize::from(*self.range.start()) + index).is_multiple_of(2);
        match wanted {
            _ if self.used[index] => false,
            Wanted::Any => true,
            Wanted::Even => is_even,
            Wanted::Pair => is_even && self.used.get(index + 1) == Some(&false),
        }
    }

    fn set(&mut self, index: usize) {
        self.used[index] = true;
        self.used_count += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn every_port_is_given_out_once() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut ports = Ports::new(50_001..=50_010);
        let mut taken: Vec<u16> = (0..10).map(|_| ports.take(Wanted::Any, &mut rng).unwrap()).collect();
        taken.sort_unstable();
        assert_eq!(taken, (50_001..=50_010).collect::<Vec<_>>());
        assert_eq!(ports.take(Wanted::Any, &mut rng), None);
        assert_eq!(ports.usage(), (10, 10));
        ports.give_back(50_005);
        ports.give_back(50_005);
        ports.give_back(1);
        assert_eq!(ports.usage(), (9, 10));
        assert_eq!(ports.take(Wanted::Any, &mut rng), Some(50_005));
    }

    #[test]
    fn a_pair_begins_even_and_takes_both() {
        let mut rng = StdRng::seed_from_u64(2);
        let mut ports = Ports::new(50_001..=50_006);
        for _ in 0..2 {
            assert!(ports.take(Wanted::Pair, &mut rng).unwrap().is_multiple_of(2));
        }
        assert_eq!(ports.usage().0, 4);
        assert_eq!(ports.take(Wanted::Pair, &mut rng), None, "50006 has no next one");
        assert_eq!(ports.take(Wanted::Even, &mut rng), Some(50_006));
        assert_eq!(ports.take(Wanted::Any, &mut rng), Some(50_001));
    }

    #[test]
    fn the_last_port_there_is_can_be_given_out() {
        let mut ports = Ports::new(65_535..=65_535);
        assert_eq!(ports.take(Wanted::Any, &mut StdRng::seed_from_u64(3)), Some(65_535));
    }
}
