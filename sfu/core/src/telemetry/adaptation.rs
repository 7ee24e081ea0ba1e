//! What congestion control and the choice of layers come to on a shard: integers and fixed buckets.

use sfu_api::telemetry::LayerLimit;

use super::distribution::Distribution;
use crate::bandwidth::{Estimate, Limit};
use crate::subscribe::selector::Reason;

const BITS_PER_SECOND: &[f64] = &[5e4, 1e5, 2e5, 3e5, 5e5, 7.5e5, 1e6, 1.5e6, 2e6, 3e6, 5e6, 8e6, 1.2e7, 2e7, 5e7];

/// Of the downlinks that are measured.
#[derive(Clone, Copy, Debug)]
pub struct Downlinks {
    /// Targets of congestion control, per transport and second.
    pub targets_bps: Distribution,
    /// How often a target was lowered because of a queue, and because of loss.
    pub lowered: [u64; 2],
}

impl Default for Downlinks {
    fn default() -> Self {
        Self { targets_bps: Distribution::new(BITS_PER_SECOND), lowered: [0; 2] }
    }
}

impl Downlinks {
    /// Words for `lowered`, in its order.
    pub const SIGNALS: [&'static str; 2] = ["delay", "loss"];

    /// A second of a transport.
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^52")]
    pub(crate) fn on_second(&mut self, estimate: &Estimate) {
        self.targets_bps.observe(estimate.target_bps as f64);
    }

    /// A target was lowered.
    pub(crate) fn on_cut(&mut self, limit: Limit) {
        self.lowered[usize::from(limit == Limit::Loss)] += 1;
    }

    /// Adds what another shard has.
    pub fn add(&mut self, other: &Self) {
        self.targets_bps.add(&other.targets_bps);
        for (own, more) in self.lowered.iter_mut().zip(other.lowered) {
            *own += more;
        }
    }
}

/// Switches between encodings of video: to a smaller one and to a larger one, by reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Switches([[u64; 3]; 2]);

impl Switches {
    /// A switch to a smaller encoding for this reason, or to a larger one from one for which `limit` was the reason.
    pub(crate) fn count(&mut self, is_larger: bool, target: Reason, limit: LayerLimit) {
        let reason = match (is_larger, target, limit) {
            (false, Reason::Bandwidth, _) | (true, _, LayerLimit::Bandwidth) => 2,
            (false, Reason::NotFlowing, _) | (true, _, LayerLimit::Publisher | LayerLimit::Stalled) => 1,
            _ => 0,
        };
        self.0[usize::from(is_larger)][reason] += 1;
    }

    /// Direction, reason and count.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        let row = |(direction, counts): (&'static str, &[u64; 3])| {
            ["wish", "publisher", "bandwidth"].into_iter().zip(*counts).map(move |(reason, count)| (direction, reason, count))
        };
        ["down", "up"].into_iter().zip(&self.0).flat_map(row)
    }

    /// Adds what another shard has.
    pub fn add(&mut self, other: &Self) {
        for (own, more) in self.0.as_flattened_mut().iter_mut().zip(other.0.as_flattened()) {
            *own += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_down_has_its_own_reason_and_one_up_that_of_what_has_ended() {
        let mut switches = Switches::default();
        switches.count(false, Reason::Bandwidth, LayerLimit::None);
        switches.count(true, Reason::Wish, LayerLimit::Bandwidth);
        switches.count(true, Reason::Wish, LayerLimit::Wish);
        switches.count(false, Reason::NotFlowing, LayerLimit::None);
        switches.add(&switches.clone());
        let counted: Vec<_> = switches.each().filter(|(_, _, count)| *count > 0).collect();
        assert_eq!(counted, [("down", "publisher", 2), ("down", "bandwidth", 2), ("up", "wish", 2), ("up", "bandwidth", 2)]);
    }
}
