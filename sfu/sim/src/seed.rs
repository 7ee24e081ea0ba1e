//! One seed per run: everything random in a simulation follows from it, and a failing test says how to replay it.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The seed of a run. Printed when the test that holds it panics.
#[derive(Debug)]
pub struct Seed(u64);

impl Seed {
    /// The seed that the test names, unless the environment has `SIM_SEED` (decimal).
    ///
    /// # Panics
    /// If `SIM_SEED` is no number.
    #[must_use]
    pub fn new(default: u64) -> Self {
        let seed = std::env::var("SIM_SEED").ok().map(|text| text.parse().expect("SIM_SEED is a decimal number"));
        Self(seed.unwrap_or(default))
    }

    /// Randomness for one purpose. Purposes do not share a stream, so that one more packet on a link does not change what a
    /// camera does.
    #[must_use]
    pub fn rng(&self, purpose: &str) -> StdRng {
        // FNV-1a.
        let mixed =
            purpose.bytes().fold(0xcbf2_9ce4_8422_2325 ^ self.0, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        StdRng::seed_from_u64(mixed)
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay this run with SIM_SEED={}", self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng as _;

    use super::*;

    #[test]
    fn purposes_are_independent_and_repeatable() {
        let seed = Seed(7);
        assert_eq!(seed.rng("up").next_u64(), seed.rng("up").next_u64());
        assert_ne!(seed.rng("up").next_u64(), seed.rng("down").next_u64());
        assert_ne!(seed.rng("up").next_u64(), Seed(8).rng("up").next_u64());
    }
}
