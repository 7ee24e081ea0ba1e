//! Whether queues grow: the slope of one-way delays over the newest groups of packets.
//!
//! draft-ietf-rmcat-gcc-02 section 5.2 (groups), 5.4 (adaptive threshold); the filter is a linear regression over a window of
//! groups, as in libwebrtc `trendline_estimator.cc`. It sees a queue before [`super::delay`] finds it long.

use super::history::SentAt;
use super::rate::micros;

/// Packets sent within this are one group (section 5.2: burst_time).
const BURST_US: i64 = 5_000;
/// Groups in the regression.
const WINDOW: usize = 20;
const SMOOTHING: f64 = 0.9;
const GAIN: f64 = 4.0;
/// Growth of the count that the slope is multiplied by ends here.
const MAX_COUNT: u32 = 60;
/// Milliseconds. Section 5.4: del_var_th(0), its bounds and gains.
const FIRST_THRESHOLD_MS: f64 = 12.5;
const MIN_THRESHOLD_MS: f64 = 6.0;
const MAX_THRESHOLD_MS: f64 = 600.0;
const GAIN_UP: f64 = 0.0087;
const GAIN_DOWN: f64 = 0.039;
/// The threshold is not drawn after a slope that is this much steeper.
const MAX_ADAPT_MS: f64 = 15.0;
/// A slope has to last so long to count (section 5.3: overuse_time_th).
const OVERUSE_US: i64 = 10_000;

/// What the slope says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Usage {
    /// Delays stay.
    #[default]
    Normal,
    /// Delays grow: more is sent than passes.
    Over,
    /// Delays shrink: a queue empties.
    Under,
}

#[derive(Clone, Copy, Debug)]
struct Group {
    first_sent: SentAt,
    last_sent: SentAt,
    last_arrival_us: i64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Trendline {
    group: Option<Group>,
    before: Option<Group>,
    /// Arrival (ms since the first) and smoothed delay of groups, oldest first.
    points: [(f64, f64); WINDOW],
    len: usize,
    first_arrival_us: Option<i64>,
    sum_ms: f64,
    smoothed_ms: f64,
    count: u32,
    threshold_ms: f64,
    adapted_us: Option<i64>,
    over_since_us: Option<i64>,
    before_trend: f64,
    usage: Usage,
}

impl Default for Trendline {
    fn default() -> Self {
        Self {
            group: None,
            before: None,
            points: [(0.0, 0.0); WINDOW],
            len: 0,
            first_arrival_us: None,
            sum_ms: 0.0,
            smoothed_ms: 0.0,
            count: 0,
            threshold_ms: FIRST_THRESHOLD_MS,
            adapted_us: None,
            over_since_us: None,
            before_trend: 0.0,
            usage: Usage::Normal,
        }
    }
}

impl Trendline {
    /// A packet arrived; in the order in which they were sent.
    pub fn on_packet(&mut self, sent: SentAt, arrival_us: i64) {
        match &mut self.group {
            Some(group) if sent.us_since(group.first_sent) < 0 => {}
            Some(group) if sent.us_since(group.first_sent) <= BURST_US => {
                group.last_sent = sent;
                group.last_arrival_us = group.last_arrival_us.max(arrival_us);
            }
            _ => {
                let next = Group { first_sent: sent, last_sent: sent, last_arrival_us: arrival_us };
                if let Some(done) = self.group.replace(next) {
                    if let Some(before) = self.before {
                        self.on_group(before, done);
                    }
                    self.before = Some(done);
                }
            }
        }
    }

    /// What the newest group says.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// What was learned of a queue is void: it was emptied on purpose.
    pub fn restart(&mut self) {
        *self = Self { threshold_ms: self.threshold_ms, ..Self::default() };
    }

    fn on_group(&mut self, before: Group, group: Group) {
        let sent_us = group.last_sent.us_since(before.last_sent);
        let arrived_us = group.last_arrival_us - before.last_arrival_us;
        let variation_ms = micros(arrived_us - sent_us) / 1e3;
        self.count = (self.count + 1).min(MAX_COUNT);
        self.sum_ms += variation_ms;
        self.smoothed_ms = SMOOTHING * self.smoothed_ms + (1.0 - SMOOTHING) * self.sum_ms;
        let first_us = *self.first_arrival_us.get_or_insert(group.last_arrival_us);
        if self.len == WINDOW {
            self.points.rotate_left(1);
            self.len -= 1;
        }
        self.points[self.len] = (micros(group.last_arrival_us - first_us) / 1e3, self.smoothed_ms);
        self.len += 1;
        if self.len == WINDOW {
            let slope = slope(&self.points);
            self.detect(slope, sent_us, group.last_arrival_us);
        }
    }

    fn detect(&mut self, slope: f64, sent_us: i64, now_us: i64) {
        let trend_ms = f64::from(self.count) * slope * GAIN;
        if trend_ms > self.threshold_ms {
            let since_us = *self.over_since_us.get_or_insert(now_us - sent_us / 2);
            if now_us - since_us > OVERUSE_US && slope >= self.before_trend {
                self.usage = Usage::Over;
            }
        } else {
            self.over_since_us = None;
            self.usage = if trend_ms < -self.threshold_ms { Usage::Under } else { Usage::Normal };
        }
        self.before_trend = slope;
        self.adapt(trend_ms.abs(), now_us);
    }

    fn adapt(&mut self, trend_ms: f64, now_us: i64) {
        let since_us = now_us - self.adapted_us.replace(now_us).unwrap_or(now_us);
        if trend_ms > self.threshold_ms + MAX_ADAPT_MS {
            return;
        }
        let gain = if trend_ms < self.threshold_ms { GAIN_DOWN } else { GAIN_UP };
        let step = gain * (trend_ms - self.threshold_ms) * micros(since_us.clamp(0, 100_000)) / 1e3;
        self.threshold_ms = (self.threshold_ms + step).clamp(MIN_THRESHOLD_MS, MAX_THRESHOLD_MS);
    }
}

/// Slope of the regression line.
fn slope(points: &[(f64, f64); WINDOW]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let count = WINDOW as f64;
    let (mean_x, mean_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (up, down) =
        points.iter().fold((0.0, 0.0), |(up, down), (x, y)| (up + (x - mean_x) * (y - mean_y), down + (x - mean_x) * (x - mean_x)));
    if down > 0.0 { up / down } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a packet each 20 ms whose delay grows by so much; returns what was found on the way.
    fn run(growth_us: i64, count: u32) -> Vec<Usage> {
        let mut trendline = Trendline::default();
        (0..count)
            .map(|number| {
                let sent = SentAt((u32::MAX - 500_000).wrapping_add(number * 20_000));
                trendline.on_packet(sent, i64::from(number) * (20_000 + growth_us));
                trendline.usage()
            })
            .collect()
    }

    #[test]
    fn growing_delays_are_overuse_and_shrinking_ones_the_opposite() {
        assert_eq!(run(2_000, 60).last(), Some(&Usage::Over));
        assert_eq!(run(-2_000, 60).last(), Some(&Usage::Under));
    }

    #[test]
    fn constant_delays_are_neither() {
        assert!(run(0, 200).iter().all(|&usage| usage == Usage::Normal));
    }
}
