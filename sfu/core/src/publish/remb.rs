//! What publishers without transport-wide feedback are told of their uplink: a bitrate (REMB).
//!
//! In: once a second what came and how much of it was lost at first. Out: the bitrate that they should keep to. It follows the
//! loss-based controller of draft-ietf-rmcat-gcc-02 section 6 and the bound of its section 5.5, at the receiver: more than a
//! tenth lost lowers it, less than a fiftieth lets it grow, and it is never far above what comes. Not here: delay. Such
//! clients fill a queue until it drops.
//! draft-alvestrand-rmcat-remb-03.

/// Of a client of which nothing is known: libwebrtc's start bitrate.
const START_BPS: u64 = 300_000;
/// No client is told less: audio needs it.
const LEAST_BPS: u64 = 60_000;
/// Loss in 1/256 above which it falls, and below which it grows.
const HIGH_LOSS: u64 = 26;
const LOW_LOSS: u64 = 5;
/// Growth in a second, in percent, and what it comes to at least.
const GROWTH_PERCENT: u64 = 8;
const LEAST_GROWTH_BPS: u64 = 10_000;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct UplinkLimit {
    bps: Option<u64>,
    received_before: u64,
    expected_before: u64,
}

/// What came on a transport so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Arrivals {
    /// Bits per second that come now.
    pub rate_bps: u64,
    /// Packets by their sequence numbers.
    pub expected: u64,
    /// Packets that came, not counting repairs.
    pub received: u64,
}

impl UplinkLimit {
    /// A second has passed: what the client is to be told; None: nothing came.
    pub fn update(&mut self, arrivals: Arrivals) -> Option<u64> {
        let expected = arrivals.expected.saturating_sub(self.expected_before);
        let received = arrivals.received.saturating_sub(self.received_before);
        (self.expected_before, self.received_before) = (arrivals.expected, arrivals.received);
        if expected == 0 {
            return None;
        }
        let lost = expected.saturating_sub(received).saturating_mul(256) / expected;
        let known = self.bps.unwrap_or(START_BPS);
        let bps = if lost > HIGH_LOSS {
            // The rate times 1 - 0.5 loss.
            known.min(arrivals.rate_bps).saturating_mul(512 - lost) / 512
        } else if lost < LOW_LOSS {
            let most = arrivals.rate_bps.saturating_mul(3) / 2 + LEAST_GROWTH_BPS;
            (known + (known * GROWTH_PERCENT / 100).max(LEAST_GROWTH_BPS)).max(arrivals.rate_bps).min(most.max(START_BPS))
        } else {
            known
        };
        let bps = bps.max(LEAST_BPS);
        self.bps = Some(bps);
        Some(bps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds of a client that sends as much as it is told over a link of so many bits per second.
    fn run(limit: &mut UplinkLimit, link_bps: u64, wanted_bps: u64, seconds: u64, counters: &mut Arrivals) -> u64 {
        let mut told = limit.bps.unwrap_or(START_BPS);
        for _ in 0..seconds {
            let sent = told.min(wanted_bps);
            let passed = sent.min(link_bps);
            counters.expected += sent / 1_000;
            counters.received += passed / 1_000;
            counters.rate_bps = passed;
            told = limit.update(*counters).unwrap_or(told);
        }
        told
    }

    #[test]
    fn it_grows_with_what_comes_and_stays_below_a_link_that_loses() {
        let (mut limit, mut counters) = (UplinkLimit::default(), Arrivals::default());
        let told = run(&mut limit, 10_000_000, 2_500_000, 60, &mut counters);
        assert!((2_500_000..=3_760_000).contains(&told), "{told}");
        let told = run(&mut limit, 1_000_000, 2_500_000, 30, &mut counters);
        assert!((700_000..1_150_000).contains(&told), "{told}");
        let told = run(&mut limit, 10_000_000, 2_500_000, 30, &mut counters);
        assert!(told >= 2_500_000, "{told}");
    }

    #[test]
    fn a_little_loss_neither_raises_nor_lowers_it() {
        let mut limit = UplinkLimit { bps: Some(800_000), ..UplinkLimit::default() };
        let arrivals = Arrivals { rate_bps: 700_000, expected: 1_000, received: 950 };
        assert_eq!(limit.update(arrivals), Some(800_000));
        assert_eq!(limit.update(arrivals), None, "nothing came");
    }

    #[test]
    fn audio_always_fits() {
        let mut limit = UplinkLimit::default();
        for second in 1..20 {
            let told = limit.update(Arrivals { rate_bps: 1_000, expected: second * 100, received: second });
            assert!(told.is_some_and(|bps| bps >= LEAST_BPS));
        }
    }
}
