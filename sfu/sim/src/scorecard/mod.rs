//! How congestion control does on links that RFC 8867, RFC 8869 and real users have: scenarios, their bars, what is measured.
//!
//! A scenario is a road with flows on it; each flow is a publisher whose encoder follows the estimate at once (at 95 % of it)
//! and a subscriber behind the road. [`engine::run`] plays it with the real engine as the sender; other senders are measured by
//! the same [`Card`] in `benches/bwe`.

pub mod engine;
pub mod room;
pub mod scenarios;

use std::fmt::Write as _;
use std::time::Duration;

use crate::link::{Jitter, LinkConfig, Loss};
use crate::road::{BIN, FlowMeter, RoadConfig};
use crate::tcp::TcpConfig;

/// An encoder sends so much of what its estimate has for media.
pub const OF_ESTIMATE: f64 = 0.95;
/// Share of a datagram's bytes on the road that is RTP payload, about.
pub const PAYLOAD_SHARE: f64 = 0.94;
/// Encoders hear of the estimate this often.
pub const CONTROL_INTERVAL: Duration = Duration::from_millis(50);
/// See [`Scenario::plays`].
const FAIRNESS_PLAYS: u64 = 8;
/// The beginning of a phase in which utilisation does not count.
const SETTLING: Duration = Duration::from_secs(10);

/// One sender and its subscriber.
#[derive(Clone, Debug)]
pub struct FlowSpec {
    /// When it is subscribed.
    pub start: Duration,
    /// One way, behind the road.
    pub delay: Duration,
    /// What its encoder would send at most.
    pub wanted_bps: u64,
    /// When its source is paused, and when it goes on.
    pub pause: Option<(Duration, Duration)>,
}

/// What has to be reached; None: only reported.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bars {
    /// In each phase, percent.
    pub utilisation: Option<f64>,
    /// Milliseconds.
    pub queue_p95: Option<f64>,
    /// Dropped by the queue, percent.
    pub dropped: Option<f64>,
    /// Until the estimate is no more than the capacity, seconds.
    pub down: Option<f64>,
    /// Until 80 % of what is possible arrives, seconds.
    pub up: Option<f64>,
    /// Of the flows' rates in the last phase.
    pub fairness: Option<f64>,
    /// Largest rate in the last phase through the smallest.
    pub ratio: Option<f64>,
    /// Of the capacity in the last phase, percent.
    pub share: Option<f64>,
    /// Longest freeze, milliseconds.
    pub freeze: Option<f64>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Row of the table.
    pub name: &'static str,
    /// How long.
    pub length: Duration,
    /// Rates of the road, each from a time on.
    pub rates: Vec<(Duration, u64)>,
    /// Longest time in the queue.
    pub queue: Duration,
    /// On the road.
    pub loss: Loss,
    /// On the road.
    pub jitter: Jitter,
    /// The way back: everything that the subscriber sends.
    pub back: LinkConfig,
    /// Who sends.
    pub flows: Vec<FlowSpec>,
    /// Who competes.
    pub tcp: Vec<TcpConfig>,
    /// What has to be reached.
    pub bars: Bars,
    /// What is to be reached one day.
    pub goals: Bars,
}

impl Scenario {
    /// The bottleneck.
    #[must_use]
    pub fn road(&self) -> RoadConfig {
        let link = LinkConfig { loss: self.loss, jitter: self.jitter, ..LinkConfig::default() };
        RoadConfig { rates: self.rates.clone(), queue: self.queue, link, tcp: self.tcp.clone() }
    }

    /// From when to when, and what could pass in it.
    fn phases(&self) -> Vec<(Duration, Duration, u64)> {
        let ends = self.rates.iter().skip(1).map(|&(at, _)| at).chain([self.length]);
        self.rates.iter().zip(ends).map(|(&(at, rate_bps), end)| (at, end, rate_bps)).collect()
    }

    /// How many seeds it is played with. How flows share a link differs much from one to the next.
    #[must_use]
    pub fn plays(&self) -> u64 {
        if self.flows.len() > 1 { FAIRNESS_PLAYS } else { 1 }
    }

    /// What all flows would send at a time.
    fn wanted_bps(&self, at: Duration) -> u64 {
        let is_on = |flow: &&FlowSpec| at >= flow.start && flow.pause.is_none_or(|(from, to)| at < from || at >= to);
        self.flows.iter().filter(is_on).map(|flow| flow.wanted_bps).sum()
    }
}

/// What a run leaves of one flow.
#[derive(Clone, Debug, Default)]
pub struct FlowLog {
    /// At the bottleneck.
    pub meter: FlowMeter,
    /// The estimate at the end of each [`BIN`].
    pub estimates_bps: Vec<u64>,
    /// Longest time without a new picture while it was sent; None: not measured.
    pub freeze: Option<Duration>,
}

/// A row of the table.
#[derive(Clone, Debug, Default)]
pub struct Card {
    /// Percent of what was possible, in each phase that is long enough.
    pub utilisation: Vec<f64>,
    /// Milliseconds.
    pub queue_p50: f64,
    /// Milliseconds.
    pub queue_p95: f64,
    /// Percent dropped by the queue.
    pub dropped: f64,
    /// Seconds from the worst fall of the capacity until the estimates are no more than it.
    pub down: Option<f64>,
    /// Seconds from the worst rise (or the start) until 80 % of what is possible arrives.
    pub up: Option<f64>,
    /// Jain's index of the last phase; the mean of all plays.
    pub fairness: Option<f64>,
    /// Largest rate through the smallest in the last phase; the mean of all plays.
    pub ratio: Option<f64>,
    /// Percent of the capacity in the last phase, if there are competitors.
    pub share: Option<f64>,
    /// Milliseconds.
    pub freeze: Option<f64>,
}

impl Card {
    /// Measures a run.
    #[must_use]
    pub fn of(scenario: &Scenario, flows: &[FlowLog]) -> Self {
        let phases = scenario.phases();
        let passed = |from: Duration, to: Duration| flows.iter().map(|flow| bits(&flow.meter.passed_bytes, from, to)).sum::<f64>();
        let possible = |from: Duration, to: Duration, rate_bps: u64| {
            let bins = bin(from)..bin(to);
            let each = bins.map(|at| rate_bps.min(scenario.wanted_bps(BIN * u32::try_from(at).unwrap_or(0))));
            each.map(|bps| float(bps) * BIN.as_secs_f64()).sum::<f64>()
        };
        let settled = phases.iter().map(|&(from, to, bps)| (from + SETTLING, to, bps)).filter(|(from, to, _)| *from + SETTLING / 2 <= *to);
        let utilisation = settled.map(|(from, to, bps)| 100.0 * passed(from, to) / possible(from, to, bps).max(1.0)).collect();
        let mut waits: Vec<u32> = flows.iter().flat_map(|flow| flow.meter.waits.iter().map(|&(_, us)| us)).collect();
        waits.sort_unstable();
        let sum = |field: fn(&FlowMeter) -> u64| float(flows.iter().map(|flow| field(&flow.meter)).sum());
        let down = phases.windows(2).filter(|pair| pair[1].2 < pair[0].2).map(|pair| {
            let (at, end, bps) = pair[1];
            let first = (bin(at)..bin(end)).find(|&bin| {
                let total: u64 = flows.iter().filter_map(|flow| flow.estimates_bps.get(bin)).sum();
                total <= bps
            });
            seconds_since(first, at, end)
        });
        let rises = phases.windows(2).filter(|pair| pair[1].2 > pair[0].2).map(|pair| pair[1]).chain(phases.first().copied());
        let resumed = scenario.flows.iter().filter_map(|flow| flow.pause).map(|(_, at)| {
            let bps = phases.iter().rev().find(|(from, ..)| *from <= at).map_or(0, |phase| phase.2);
            (at, scenario.length, bps)
        });
        let up = rises.chain(resumed).map(|(at, end, rate_bps)| {
            let window = BIN * 5;
            let starts = (0..).map(|step| at + BIN * step).take_while(|&from| from + window <= end);
            let reached = |from: &Duration| {
                let to = *from + window;
                passed(*from, to) >= 0.8 * possible(*from, to, rate_bps) && scenario.wanted_bps(*from) > 0
            };
            let found = starts.into_iter().find(reached);
            found.map_or((end - at).as_secs_f64(), |from| (from + window - at).as_secs_f64())
        });
        let (last_from, last_to, last_bps) = phases.last().copied().unwrap_or_default();
        let last_from = scenario.flows.iter().map(|flow| flow.start + SETTLING * 2).chain([last_from]).max().unwrap_or(last_from);
        let rates: Vec<f64> = flows.iter().map(|flow| bits(&flow.meter.passed_bytes, last_from, last_to)).collect();
        let (total, squares) = rates.iter().fold((0.0, 0.0), |(sum, squares), rate| (sum + rate, squares + rate * rate));
        let several = rates.len() > 1;
        Self {
            utilisation,
            queue_p50: percentile(&waits, 50),
            queue_p95: percentile(&waits, 95),
            dropped: 100.0 * sum(|meter| meter.dropped) / sum(|meter| meter.packets).max(1.0),
            down: down.fold(None, worst),
            up: up.fold(None, worst),
            fairness: several.then(|| total * total / (float(rates.len() as u64) * squares).max(1.0)),
            ratio: several.then(|| {
                let (least, most) = rates.iter().fold((f64::MAX, 0.0), |(least, most), &rate| (rate.min(least), rate.max(most)));
                most / least.max(1.0)
            }),
            share: (!scenario.tcp.is_empty())
                .then(|| 100.0 * total / (float(last_bps) * last_to.saturating_sub(last_from).as_secs_f64()).max(1.0)),
            freeze: flows.iter().filter_map(|flow| flow.freeze).max().map(|freeze| freeze.as_secs_f64() * 1e3),
        }
    }

    /// The first of several plays with other seeds, with what is the mean of all.
    #[must_use]
    pub fn of_plays(plays: &[Self]) -> Self {
        let (first, mean) = (plays.first().cloned().unwrap_or_default(), Self::mean(plays));
        Self { fairness: mean.fairness, ratio: mean.ratio, ..first }
    }

    /// The mean of several plays.
    #[must_use]
    pub fn mean(plays: &[Self]) -> Self {
        Self::merged(plays, |values, _| values.iter().sum::<f64>() / float(values.len() as u64))
    }

    /// The worst figures of several plays.
    #[must_use]
    pub fn worst(plays: &[Self]) -> Self {
        Self::merged(plays, |values, is_more_better| {
            let pick = if is_more_better { f64::min } else { f64::max };
            values.iter().copied().reduce(pick).unwrap_or_default()
        })
    }

    /// One figure for those of several plays; `merge` gets them, and whether more is better. There is at least one.
    fn merged(plays: &[Self], merge: impl Fn(&[f64], bool) -> f64) -> Self {
        let some = |field: &dyn Fn(&Self) -> Option<f64>, is_more_better: bool| {
            let values: Vec<f64> = plays.iter().filter_map(field).collect();
            (!values.is_empty()).then(|| merge(&values, is_more_better))
        };
        let all = |field: fn(&Self) -> f64| some(&|card| Some(field(card)), false).unwrap_or_default();
        let phases = plays.first().map_or(0, |card| card.utilisation.len());
        Self {
            utilisation: (0..phases).filter_map(|phase| some(&|card| card.utilisation.get(phase).copied(), true)).collect(),
            queue_p50: all(|card| card.queue_p50),
            queue_p95: all(|card| card.queue_p95),
            dropped: all(|card| card.dropped),
            down: some(&|card| card.down, false),
            up: some(&|card| card.up, false),
            fairness: some(&|card| card.fairness, true),
            ratio: some(&|card| card.ratio, false),
            share: some(&|card| card.share, true),
            freeze: some(&|card| card.freeze, false),
        }
    }

    /// Bars that are not reached, in words.
    #[must_use]
    pub fn missed(&self, bars: &Bars) -> Vec<String> {
        let lowest = self.utilisation.iter().copied().reduce(f64::min);
        let at_least =
            [("utilisation", lowest, bars.utilisation), ("share", self.share, bars.share), ("fairness", self.fairness, bars.fairness)];
        let at_most = [
            ("queue p95", Some(self.queue_p95), bars.queue_p95),
            ("dropped", Some(self.dropped), bars.dropped),
            ("down", self.down, bars.down),
            ("up", self.up, bars.up),
            ("ratio", self.ratio, bars.ratio),
            ("freeze", self.freeze, bars.freeze),
        ];
        let mut missed = Vec::new();
        for (name, value, bar) in at_least {
            if let (value, Some(bar)) = (value.unwrap_or(0.0), bar)
                && value < bar
            {
                missed.push(format!("{name} {value:.2} is below {bar}"));
            }
        }
        for (name, value, bar) in at_most {
            // What was not measured is not reached.
            if let (value, Some(bar)) = (value.unwrap_or(f64::INFINITY), bar)
                && value > bar
            {
                missed.push(format!("{name} {value:.2} is above {bar}"));
            }
        }
        missed
    }

    /// Head of the table.
    pub const HEAD: &str = "| scenario | utilisation % | queue p50/p95 ms | dropped % | down s | up s | Jain | max/min | share % | freeze ms |\n\
                            |---|---|---|---|---|---|---|---|---|---|\n";

    /// The row.
    #[must_use]
    pub fn row(&self, name: &str) -> String {
        let phases: Vec<String> = self.utilisation.iter().map(|percent| format!("{percent:.0}")).collect();
        let mut row = format!("| {name} | {} | {:.0} / {:.0} | {:.1} |", phases.join(" "), self.queue_p50, self.queue_p95, self.dropped);
        for (value, digits) in [(self.down, 1), (self.up, 1), (self.fairness, 2), (self.ratio, 1), (self.share, 0), (self.freeze, 0)] {
            let _ = match value {
                Some(value) => write!(row, " {value:.digits$} |"),
                None => write!(row, " - |"),
            };
        }
        row.push('\n');
        row
    }
}

fn worst(most: Option<f64>, next: f64) -> Option<f64> {
    Some(most.map_or(next, |most| most.max(next)))
}

fn seconds_since(bin: Option<usize>, at: Duration, end: Duration) -> f64 {
    let found = bin.and_then(|bin| u32::try_from(bin).ok()).map_or(end, |bin| BIN * (bin + 1));
    found.saturating_sub(at).as_secs_f64()
}

fn bin(at: Duration) -> usize {
    usize::try_from(at.as_millis() / BIN.as_millis()).unwrap_or(usize::MAX)
}

fn bits(bins: &[u64], from: Duration, to: Duration) -> f64 {
    let range = bin(from).min(bins.len())..bin(to).min(bins.len());
    float(bins.get(range).unwrap_or_default().iter().sum::<u64>()) * 8.0
}

fn percentile(sorted_us: &[u32], percent: usize) -> f64 {
    let index = (sorted_us.len() * percent / 100).min(sorted_us.len().saturating_sub(1));
    sorted_us.get(index).map_or(0.0, |&us| f64::from(us) / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}
