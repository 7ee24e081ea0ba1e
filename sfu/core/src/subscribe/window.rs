//! Remembers which of the last so many numbers were marked: a sliding bitmap over an ascending sequence.
//!
//! Invariant: numbers above the highest marked one and numbers that fell out of the window count as not marked.

/// `WORDS` times 64 numbers reach back from the highest marked one.
#[derive(Clone, Copy, Debug)]
pub struct Window<const WORDS: usize> {
    /// Highest marked number; meaningless while nothing is marked.
    head: u64,
    is_used: bool,
    bits: [u64; WORDS],
}

impl<const WORDS: usize> Default for Window<WORDS> {
    fn default() -> Self {
        Self { head: 0, is_used: false, bits: [0; WORDS] }
    }
}

impl<const WORDS: usize> Window<WORDS> {
    const SPAN: u64 = 64 * WORDS as u64;

    /// Everything up to this number is marked.
    #[must_use]
    pub fn full(head: u64) -> Self {
        Self { head, is_used: true, bits: [u64::MAX; WORDS] }
    }

    /// Marks a number; one that is too old is forgotten at once.
    pub fn mark(&mut self, number: u64) {
        if !self.is_used {
            *self = Self { head: number, is_used: true, bits: [0; WORDS] };
        } else if number > self.head {
            let skipped = (number - self.head).min(Self::SPAN);
            for cleared in number + 1 - skipped..=number {
                let (word, bit) = Self::place(cleared);
                self.bits[word] &= !bit;
            }
            self.head = number;
        } else if self.head - number >= Self::SPAN {
            return;
        }
        let (word, bit) = Self::place(number);
        self.bits[word] |= bit;
    }

    /// The number was marked.
    #[must_use]
    pub fn is_marked(&self, number: u64) -> bool {
        let (word, bit) = Self::place(number);
        self.reaches(number) && number <= self.head && self.bits[word] & bit != 0
    }

    /// How many numbers above this one were marked; None if the window does not reach back so far.
    #[must_use]
    pub fn count_above(&self, number: u64) -> Option<u64> {
        if !self.is_used || number >= self.head {
            return Some(0);
        }
        if self.head - number > Self::SPAN {
            return None;
        }
        let (first, last) = ((number + 1) / 64, self.head / 64);
        let count = (first..=last).map(|word| {
            let from = if word == first { u64::MAX << ((number + 1) % 64) } else { u64::MAX };
            let to = if word == last { u64::MAX >> (63 - self.head % 64) } else { u64::MAX };
            let (index, _) = Self::place(word * 64);
            u64::from((self.bits[index] & from & to).count_ones())
        });
        // A span that begins within the word in which it ends meets that word twice; what the first visit sees above
        // `head` is masked, what the last one sees is at or below it.
        Some(count.sum())
    }

    /// Bit i says that the number i + 1 below this one was marked.
    #[must_use]
    pub fn below(&self, number: u64) -> u64 {
        (0..64).filter(|&back| number.checked_sub(back + 1).is_some_and(|n| self.is_marked(n))).fold(0, |bits, back| bits | (1 << back))
    }

    fn reaches(&self, number: u64) -> bool {
        self.is_used && (number >= self.head || self.head - number < Self::SPAN)
    }

    fn place(number: u64) -> (usize, u64) {
        let index = usize::try_from(number / 64 % WORDS as u64).unwrap_or(0);
        (index, 1 << (number % 64))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_is_forgotten_when_it_falls_out() {
        let mut window: Window<2> = Window::default();
        window.mark(1_000);
        assert!(window.is_marked(1_000) && !window.is_marked(999) && !window.is_marked(1_001));
        window.mark(1_127);
        assert!(window.is_marked(1_000));
        window.mark(1_128);
        assert!(!window.is_marked(1_000));
        window.mark(1_000);
        assert!(!window.is_marked(1_000));
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(steps in proptest::collection::vec(0_u64..700, 1..60), base in 0_u64..2_000) {
            let (mut window, mut set) = (Window::<4>::default(), BTreeSet::new());
            for step in steps {
                // Drifts upwards, with numbers out of order.
                let number = base + 1 + step + set.len() as u64;
                window.mark(number);
                set.insert(number);
                let head = *set.last().expect("one was inserted");
                set.retain(|&n| head - n < 256);
                for asked in (head.saturating_sub(300)..head + 3).step_by(5).chain(head - 1..head + 2) {
                    prop_assert_eq!(window.is_marked(asked), set.contains(&asked));
                    let above = set.range(asked + 1..).count() as u64;
                    prop_assert_eq!(window.count_above(asked), (asked >= head || head - asked <= 256).then_some(above));
                }
                let below = (0..64).filter(|back| set.contains(&(head.wrapping_sub(back + 1)))).fold(0, |bits: u64, back| bits | (1 << back));
                prop_assert_eq!(window.below(head), below);
            }
        }
    }
}
