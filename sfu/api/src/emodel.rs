//! Speech quality by the E-model: ITU-T G.107 (06/2015) with its default values.
//!
//! In: the delay from mouth to ear, the loss that repair left and how it comes in bursts, the codec's robustness. Out: the
//! rating `R` with the impairments that it is made of, and the mean opinion score. All of it is exported, so that anyone can
//! compute it again: `R = 93.2 - Idd - Ie,eff`, `A = 0`, no echo.
//! The model is narrow-band. For Opus ITU gives no `Ie` and `Bpl`: those here are an engineering choice, which the model's name
//! tells ([`MODEL`]); another choice is another name.

use std::time::Duration;

/// Name and version of the model with these constants: label of metrics, field of REST answers.
pub const MODEL: &str = "g107-nb/opus-1";

/// Default `Ro - Is` (section 7.7).
const BASE: f64 = 93.2;
/// Delay below which nobody notices any, in ms (table 1: `mT`, default delay class).
const UNNOTICED_DELAY_MS: f64 = 100.0;
/// Sensitivity to delay (table 1: `sT`, default delay class).
const SENSITIVITY: f64 = 1.0;
/// Frame of 20 ms and look-ahead of 6.5 ms (RFC 6716 section 2).
pub const OPUS_DELAY: Duration = Duration::from_micros(26_500);

/// How a codec takes loss.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Robustness {
    /// Equipment impairment without loss (`Ie`).
    pub impairment: f64,
    /// Packet loss robustness (`Bpl`).
    pub loss: f64,
}

impl Robustness {
    /// Opus; `has_fec`: forward error correction in band (RFC 7587 `useinbandfec`), `has_red`: redundant copies (RFC 2198).
    #[must_use]
    pub const fn opus(has_fec: bool, has_red: bool) -> Self {
        let loss = if has_fec { 20.0 } else { 10.0 };
        Self { impairment: 0.0, loss: if has_red { loss * 2.0 } else { loss } }
    }

    /// G.711 without concealment (G.113 appendix I table I.3).
    pub const G711: Self = Self { impairment: 0.0, loss: 4.3 };
}

/// What a rating is computed from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Speech {
    /// From mouth to ear (`Ta`).
    pub delay: Duration,
    /// Share of packets that were never there when they were needed, 0.0 to 1.0 (`Ppl` is this in percent).
    pub residual_loss: f64,
    /// Mean length of the bursts of loss over that of random loss (`BurstR`); 1: random.
    pub burst_ratio: f64,
    /// Of the codec.
    pub robustness: Robustness,
}

/// A rating with what it is made of.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rating {
    /// Impairment by delay (`Idd`).
    pub delay_impairment: f64,
    /// Impairment by the codec and by loss (`Ie,eff`).
    pub loss_impairment: f64,
    /// `R`, 0 to 100.
    pub rating: f64,
    /// Mean opinion score, 1.0 to 4.5.
    pub opinion_score: f64,
}

/// Rates speech.
#[must_use]
pub fn rate(speech: &Speech) -> Rating {
    let (delay, loss) = (delay_impairment(speech.delay), loss_impairment(speech));
    let rating = (BASE - delay - loss).clamp(0.0, 100.0);
    Rating { delay_impairment: delay, loss_impairment: loss, rating, opinion_score: opinion_score(rating) }
}

/// Mean opinion score of a rating (annex B), 1.0 to 4.5.
#[must_use]
pub fn opinion_score(rating: f64) -> f64 {
    let rating = rating.clamp(0.0, 100.0);
    // The polynomial dips below 1 for the smallest ratings, where the scale ends.
    (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6).clamp(1.0, 4.5)
}

/// `Idd` of equations 7-27 and 7-28.
#[must_use]
pub fn delay_impairment(delay: Duration) -> f64 {
    let delay_ms = delay.as_secs_f64() * 1000.0;
    if delay_ms <= UNNOTICED_DELAY_MS {
        return 0.0;
    }
    let x = (delay_ms / UNNOTICED_DELAY_MS).log2();
    let exponent = 6.0 * SENSITIVITY;
    let root = |value: f64| (1.0 + value.powf(exponent)).powf(1.0 / exponent);
    25.0 * (root(x) - 3.0 * root(x / 3.0) + 2.0)
}

/// `Ie,eff` of equation 7-29.
fn loss_impairment(speech: &Speech) -> f64 {
    let percent = speech.residual_loss.clamp(0.0, 1.0) * 100.0;
    let burst_ratio = speech.burst_ratio.max(1.0);
    let Robustness { impairment, loss } = speech.robustness;
    impairment + (95.0 - impairment) * percent / (percent / burst_ratio + loss)
}

/// Counts runs of loss in a sequence of packets; their mean length over that of random loss is `BurstR` (section 7.7: mean
/// observed length of bursts, over `1 / (1 - p)`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LossRuns {
    /// Packets, lost ones included.
    pub packets: u64,
    /// Of these, lost.
    pub lost: u64,
    /// Runs of lost ones.
    pub runs: u64,
    in_run: bool,
}

impl LossRuns {
    /// The next packet of the sequence.
    pub fn next(&mut self, is_lost: bool) {
        self.packets += 1;
        self.lost += u64::from(is_lost);
        self.runs += u64::from(is_lost && !self.in_run);
        self.in_run = is_lost;
    }

    /// `BurstR`; 1 without any loss, and never less: shorter bursts than random ones are no worse than these.
    #[must_use]
    pub fn burst_ratio(&self) -> f64 {
        if self.runs == 0 || self.lost >= self.packets {
            return 1.0;
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of packets")]
        let (packets, lost, runs) = (self.packets as f64, self.lost as f64, self.runs as f64);
        ((lost / runs) * (1.0 - lost / packets)).max(1.0)
    }

    /// Forgets half, so that a ratio over many seconds follows the present.
    pub fn fade(&mut self) {
        self.packets /= 2;
        self.lost /= 2;
        self.runs = self.runs.div_ceil(2).min(self.lost);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speech(delay_ms: u64, loss_percent: f64, burst_ratio: f64, bpl: f64) -> Speech {
        Speech {
            delay: Duration::from_millis(delay_ms),
            residual_loss: loss_percent / 100.0,
            burst_ratio,
            robustness: Robustness { impairment: 0.0, loss: bpl },
        }
    }

    /// Ta in ms, Ppl in %, BurstR, Bpl; Idd, Ie,eff, R, MOS.
    type Vector = (u64, f64, f64, f64, f64, f64, f64, f64);

    /// Computed with `tools/golden_mos.py`, which is written from the equations and shares nothing with this file.
    const GOLDEN: [Vector; 16] = include!("emodel_golden.in");

    #[test]
    fn golden_vectors_hold_to_four_digits() {
        for (ta, ppl, burst, bpl, idd, ie_eff, r, mos) in GOLDEN {
            let rating = rate(&speech(ta, ppl, burst, bpl));
            for (name, found, expected) in [
                ("Idd", rating.delay_impairment, idd),
                ("Ie,eff", rating.loss_impairment, ie_eff),
                ("R", rating.rating, r),
                ("MOS", rating.opinion_score, mos),
            ] {
                assert!((found - expected).abs() < 1e-4, "{name} at Ta {ta} Ppl {ppl} BurstR {burst} Bpl {bpl}: {found}, not {expected}");
            }
        }
    }

    /// The table of the feature map (its `[run]` columns): RTT, jitter and loss with `Ta = RTT/2 + 2 * jitter + 20`.
    #[test]
    fn published_scores_hold_to_two_digits() {
        for (rtt, jitter, loss, bpl, mos) in [
            (40, 5, 0.0, 25.1, 4.41),
            (100, 10, 1.0, 25.1, 4.33),
            (100, 10, 1.0, 10.0, 4.18),
            (200, 20, 3.0, 20.0, 4.04),
            (200, 20, 3.0, 10.0, 3.64),
            (300, 30, 2.0, 25.1, 4.01),
            (400, 30, 0.0, 10.0, 4.05),
            (600, 40, 5.0, 25.1, 2.75),
            (600, 40, 5.0, 10.0, 1.94),
        ] {
            let found = rate(&speech(rtt / 2 + 2 * jitter + 20, loss, 1.0, bpl)).opinion_score;
            assert!((found - mos).abs() < 0.0051, "RTT {rtt} jitter {jitter} loss {loss} Bpl {bpl}: {found}, not {mos}");
        }
    }

    #[test]
    fn bursts_cost_more_than_random_loss_and_robustness_less() {
        let score = |burst_ratio, robustness| rate(&Speech { burst_ratio, robustness, ..speech(80, 5.0, 1.0, 10.0) }).opinion_score;
        let plain = Robustness::opus(false, false);
        assert!(score(2.0, plain) < score(1.0, plain));
        assert!(score(1.0, Robustness::opus(true, false)) > score(1.0, plain));
        assert!(score(1.0, Robustness::opus(false, true)) > score(1.0, plain));
        assert!(score(1.0, Robustness::G711) < score(1.0, plain));
    }

    #[test]
    fn no_input_leaves_the_scale() {
        for delay in [Duration::ZERO, Duration::from_secs(3600), Duration::MAX] {
            for loss in [-1.0, 0.0, 0.5, 1.0, 7.0] {
                for burst in [0.0, 1.0, 1e9] {
                    let rating = rate(&Speech { delay, residual_loss: loss, burst_ratio: burst, robustness: Robustness::G711 });
                    assert!((0.0..=100.0).contains(&rating.rating) && (1.0..=4.5).contains(&rating.opinion_score), "{rating:?}");
                }
            }
        }
    }

    #[test]
    fn runs_of_loss_make_the_burst_ratio() {
        let ratio = |text: &str| {
            let mut runs = LossRuns::default();
            text.chars().for_each(|c| runs.next(c == 'x'));
            runs.burst_ratio()
        };
        assert!((ratio("....") - 1.0).abs() < f64::EPSILON);
        assert!((ratio("..xx....xx") - 2.0 * 0.6).abs() < 1e-12);
        assert!((ratio("x.x.x.x.") - 1.0).abs() < f64::EPSILON, "never below one");
        assert!((ratio("xxxx") - 1.0).abs() < f64::EPSILON, "of total loss nothing is known");
    }
}
