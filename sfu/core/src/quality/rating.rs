//! Transmission rating by the E-model (ITU-T G.107, 06/2015) with its default values, for audio, and a formula of the same
//! scale for video.
//!
//! Audio: `R = 93.2 - Idd(Ta) - Ie,eff(Ppl)`, where `Ta` is the delay from mouth to ear and `Ppl` the loss that repair left.
//! There is no equipment impairment of Opus from ITU; `Ie = 0`, `Bpl = 10` is an engineering choice (without in-band FEC).
//! Video: `R = 93.2 - Idd(Ta) - 6.5 * residual % - 1.5 * repaired % - 20 * missing layers`. One percent of residual loss hits
//! every third frame of a 1.5 Mbit/s picture; a repaired packet delays its frame by a round trip; a missing layer is a class
//! (LiveKit: `cDistanceWeight`). Both are clamped to 0..100.

use std::time::Duration;

pub use sfu_api::emodel::opinion_score;
use sfu_api::emodel::{OPUS_DELAY, Robustness, Speech, delay_impairment, rate};

/// Default `Ro - Is` (G.107 section 7.7).
const BASE: f64 = 93.2;
const VIDEO_RESIDUAL_WEIGHT: f64 = 6.5;
const VIDEO_REPAIR_WEIGHT: f64 = 1.5;
const MISSING_LAYER: f64 = 20.0;

/// What an impairment is computed from.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Path {
    /// Round trip between client and server.
    pub round_trip: Duration,
    /// Interarrival jitter.
    pub jitter: Duration,
    /// Share of packets that were lost at first, 0.0 to 1.0.
    pub lost: f64,
    /// Share of packets that were never repaired.
    pub residual: f64,
}

/// Rating of speech over this path, 0 (useless) to 100.
#[must_use]
pub fn audio(path: &Path) -> f64 {
    let (delay, robustness) = (one_way(path) + OPUS_DELAY, Robustness::opus(false, false));
    rate(&Speech { delay, residual_loss: path.residual, burst_ratio: 1.0, robustness }).rating
}

/// Rating of video over this path, on the same scale.
#[must_use]
pub fn video(path: &Path, missing_layers: u8) -> f64 {
    let repaired = (path.lost - path.residual).max(0.0);
    let loss = path.residual * 100.0 * VIDEO_RESIDUAL_WEIGHT + repaired * 100.0 * VIDEO_REPAIR_WEIGHT;
    (BASE - delay_impairment(one_way(path)) - loss - f64::from(missing_layers) * MISSING_LAYER).clamp(0.0, 100.0)
}

/// Rating of a path of which nothing but the delay is known.
#[must_use]
pub fn idle(round_trip: Duration) -> f64 {
    (BASE - delay_impairment(round_trip / 2)).clamp(0.0, 100.0)
}

/// Half a round trip, and a jitter buffer of twice the jitter.
fn one_way(path: &Path) -> Duration {
    path.round_trip / 2 + path.jitter * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(round_trip_ms: u64, residual: f64) -> Path {
        Path { round_trip: Duration::from_millis(round_trip_ms), residual, lost: residual, jitter: Duration::ZERO }
    }

    #[test]
    fn the_e_models_fixed_points_hold() {
        assert!((opinion_score(93.2) - 4.41).abs() < 0.005);
        assert!((opinion_score(60.0) - 3.1).abs() < 0.005);
        assert!((opinion_score(0.0) - 1.0).abs() < f64::EPSILON && (opinion_score(100.0) - 4.5).abs() < f64::EPSILON);
        // G.107: a delay of 400 ms costs 24.1.
        assert!((delay_impairment(Duration::from_millis(400)) - 24.1).abs() < 0.05);
        assert!(delay_impairment(Duration::from_millis(100)).abs() < f64::EPSILON);
    }

    #[test]
    fn a_clear_path_is_excellent_and_loss_and_delay_cost() {
        assert!((audio(&path(40, 0.0)) - 93.2).abs() < 0.01);
        // 95 * 1 / (1 + 10)
        assert!((audio(&path(40, 0.01)) - (93.2 - 8.636)).abs() < 0.01);
        assert!(audio(&path(800, 0.0)) < audio(&path(200, 0.0)));
        assert!(audio(&path(40, 1.0)) < 10.0);
    }

    #[test]
    fn repaired_loss_costs_less_than_residual_loss() {
        let repaired = Path { lost: 0.05, residual: 0.0, ..Path::default() };
        let residual = Path { lost: 0.05, residual: 0.05, ..Path::default() };
        assert!(video(&repaired, 0) > 80.0 && video(&residual, 0) < 62.0);
        assert!((video(&Path::default(), 0) - video(&Path::default(), 1) - 20.0).abs() < 0.01);
    }

    #[test]
    fn no_measurement_leaves_the_scale() {
        for lost in [0.0, 0.5, 1.0] {
            for round_trip in [Duration::ZERO, Duration::from_secs(1), Duration::MAX / 4] {
                let path = Path { round_trip, jitter: round_trip / 8, lost, residual: lost };
                for rating in [audio(&path), video(&path, 3), idle(round_trip)] {
                    assert!((0.0..=100.0).contains(&rating));
                }
            }
        }
    }
}
