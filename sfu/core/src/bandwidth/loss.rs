//! How much loss is the link's own, and how much is of our making.
//!
//! A link that loses two packets in a hundred whatever is sent must not slow a call down; a queue that overflows must. They
//! are told apart by experiment, as the model of libwebrtc's `loss_based_bwe_v2.cc` does by likelihood: loss while no queue
//! is seen belongs to the link, and so does what stays as it was after less was sent.

/// A verdict needs so many packets.
const MIN_PACKETS: u32 = 30;
/// And so long a time.
const MIN_SPAN_US: i64 = 250_000;
/// Loss up to this beyond the link's own is not acted on: libwebrtc's low loss threshold.
const TOLERATED: f64 = 0.02;
/// Weight of a new observation of the link's own loss.
const LEARNING: f64 = 0.15;
/// So much of the loss has to go when less is sent, or it was not of our making.
const CURED: f64 = 0.6;
/// The link's own loss is believed up to this.
const MAX_INHERENT: f64 = 0.15;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct LossMeter {
    packets: u32,
    lost: u32,
    started_us: Option<i64>,
    /// Share of packets that this link loses whatever is sent.
    inherent: f64,
    /// Loss at which less was sent to see whether it helps, and spans since.
    experiment: Option<(f64, u8)>,
    /// The last span had too much of it.
    was_excess: bool,
}

/// What a span of time says.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Finding {
    /// As much is lost as ever.
    Usual,
    /// More is lost, this share: too much may have been sent.
    Excess(f64),
}

/// Spans after a cut in which loss may still be of what was sent before it.
const SPANS_TO_WAIT: u8 = 2;

impl LossMeter {
    /// A report says that so many packets arrived and so many did not. Ones that came after all are subtracted.
    pub fn add(&mut self, arrived: u32, missing: u32, recovered: u32) {
        self.packets += arrived + missing;
        self.lost = (self.lost + missing).saturating_sub(recovered);
    }

    /// End of a report: a finding if enough is known. `has_queue`: packets have waited in a queue meanwhile.
    pub fn end_report(&mut self, now_us: i64, has_queue: bool) -> Option<Finding> {
        let started_us = *self.started_us.get_or_insert(now_us);
        if self.packets < MIN_PACKETS || now_us - started_us < MIN_SPAN_US {
            return None;
        }
        let packets = f64::from(self.packets);
        let loss = f64::from(self.lost) / packets;
        (self.packets, self.lost, self.started_us) = (0, 0, Some(now_us));
        // Two and a half times the deviation that chance has in so small a sample.
        let deviation = (self.inherent.max(0.01) * (1.0 - self.inherent) / packets).sqrt();
        let is_excess = loss > self.inherent + TOLERATED + 2.5 * deviation;
        match &mut self.experiment {
            Some((_, spans)) if *spans < SPANS_TO_WAIT => {
                *spans += 1;
                return Some(Finding::Usual);
            }
            Some((before, _)) => {
                let is_cured = loss < *before * CURED;
                self.experiment = None;
                if is_cured {
                    self.inherent = self.inherent.min(loss);
                }
                if is_excess && !is_cured && !has_queue {
                    self.inherent = loss.min(MAX_INHERENT);
                    return Some(Finding::Usual);
                }
            }
            None => {}
        }
        // Bursts pass; what a queue drops goes on.
        let was_excess = std::mem::replace(&mut self.was_excess, is_excess);
        if is_excess && (has_queue || was_excess) {
            return Some(Finding::Excess(loss));
        }
        if !has_queue {
            self.inherent += LEARNING * (loss - self.inherent);
        }
        Some(Finding::Usual)
    }

    /// Less is sent from now on, because of what was found.
    pub fn cut(&mut self, loss: f64) {
        self.experiment = Some((loss, 0));
    }

    /// Share of packets that this link loses whatever is sent.
    #[must_use]
    pub fn inherent(&self) -> f64 {
        self.inherent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports of 100 packets each 250 ms; returns the cuts that were made.
    fn run(meter: &mut LossMeter, from: i64, count: i64, lost_of_100: u32, has_queue: bool) -> usize {
        let findings = (from..from + count).filter_map(|number| {
            meter.add(100 - lost_of_100, lost_of_100, 0);
            let finding = meter.end_report(number * 250_000, has_queue);
            if let Some(Finding::Excess(loss)) = finding {
                meter.cut(loss);
            }
            finding
        });
        findings.filter(|finding| matches!(finding, Finding::Excess(_))).count()
    }

    #[test]
    fn a_link_that_always_loses_some_is_not_slowed_down_for_it() {
        let mut meter = LossMeter::default();
        assert_eq!(run(&mut meter, 0, 100, 2, false), 0);
        assert!(run(&mut meter, 100, 100, 10, false) <= 1);
        assert!((0.05..0.15).contains(&meter.inherent()), "{}", meter.inherent());
    }

    #[test]
    fn loss_with_a_queue_is_of_our_making_however_long_it_lasts() {
        let mut meter = LossMeter::default();
        assert!(run(&mut meter, 0, 40, 10, true) > 5);
        assert!(meter.inherent() < 0.01);
    }

    #[test]
    fn a_packet_that_was_late_is_not_lost() {
        let mut meter = LossMeter::default();
        meter.add(90, 10, 0);
        meter.add(0, 0, 10);
        meter.end_report(0, false);
        meter.add(100, 0, 0);
        assert_eq!(meter.end_report(300_000, false), Some(Finding::Usual));
    }
}
