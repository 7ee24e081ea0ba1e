//! Fixed buckets of a quantity: plain integers, so that a copy is a snapshot.

use std::time::Duration;

/// Most buckets that have a bound.
pub const MAX_BOUNDS: usize = 16;

/// How often a quantity was at most as large as each bound.
#[derive(Clone, Copy, Debug)]
pub struct Distribution {
    bounds: &'static [f64],
    counts: [u64; MAX_BOUNDS + 1],
    sum: f64,
}

impl Distribution {
    /// Nothing observed yet. `bounds` grow and are at most [`MAX_BOUNDS`]; further ones count as one bucket.
    #[must_use]
    pub const fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: [0; MAX_BOUNDS + 1], sum: 0.0 }
    }

    /// Adds one value; what is not finite is not a value.
    pub fn observe(&mut self, value: f64) {
        if value.is_finite() {
            let bucket = self.bounds.partition_point(|bound| *bound < value).min(MAX_BOUNDS);
            self.counts[bucket] += 1;
            self.sum += value;
        }
    }

    /// Adds a time in seconds.
    pub fn observe_time(&mut self, time: Duration) {
        self.observe(time.as_secs_f64());
    }

    /// Adds what another one of the same bounds has.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum += other.sum;
    }

    /// Values so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
    #[must_use]
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// Upper bound and number of values up to it, for each bucket that has a bound.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        self.bounds.iter().copied().zip(self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it_and_nonsense_to_no_bucket() {
        let mut all = Distribution::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 9.0, f64::NAN, f64::INFINITY] {
            all.observe(value);
        }
        assert_eq!(all.cumulative().collect::<Vec<_>>(), [(1.0, 2), (2.0, 3)]);
        assert_eq!((all.count(), all.sum()), (4, 12.0));
        let mut twice = all;
        twice.add(&all);
        assert_eq!((twice.count(), twice.cumulative().last()), (8, Some((2.0, 6))));
    }
}
