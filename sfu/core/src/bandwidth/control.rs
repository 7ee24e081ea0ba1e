//! Turns what reports say into a rate: grows while nothing speaks against it, falls to what arrives when a queue builds up.
//!
//! Base: draft-ietf-rmcat-gcc-02 section 5.5 (AIMD with an estimate of the link's capacity). What differs, because that keeps
//! a standing queue: the queue's delay itself counts, not only its growth; a cut goes so far below what arrives that the
//! queue is empty after [`DRAIN`]; and once it is empty, the rate returns to what was seen to arrive while it was not.
//! A queue that does not empty although less is sent is somebody else's (TCP): then loss decides, as it does for them. If it
//! does not change at all meanwhile, it is none: the way has become longer ([`Followup::is_other_way`]).
//! Invariants: the rate never grows by more than half beyond what arrives, but for a probe's result; nor beyond what is wanted.

use std::time::{Duration, Instant};

use super::Limit;
use super::drain::{DRAIN, Drain, Verdict};
use super::loss::Finding;
use super::overrun::Overrun;
use super::policed::{LONG_PROBE, Policed};
use super::probe::{ARRIVES, LONG_ARRIVES, Order, Outcome};
use super::probe_plan::{MARGIN, ProbePlan};
use super::trendline::Usage;

/// Before anything is known. libwebrtc's default start bitrate.
pub const START_BPS: f64 = 300_000.0;
/// Audio is sent whatever happens.
const MIN_BPS: f64 = 40_000.0;
/// Far beyond what one subscriber gets.
pub const MAX_BPS: f64 = 200_000_000.0;
/// At the rate [`USUAL_BPS`] a queue of this length is too long ...
pub const HIGH: Duration = Duration::from_millis(45);
/// ... of this one, if it grows: flows that began while a queue stood take that for their way's length, but see it grow ...
const GROWING: Duration = Duration::from_millis(8);
/// ... of this one, reason to grow slowly only ...
const RISING: Duration = Duration::from_millis(22);
/// ... and of this one, as good as empty.
pub const LOW: Duration = Duration::from_millis(12);
/// Who sends more has to be content with a shorter queue, by the root of the rates: of flows that share a link the larger one
/// gives way first, so that they converge (as the rate of RFC 8698 is inversely proportional to the delay).
const USUAL_BPS: f64 = 600_000.0;
const LEAST_PATIENCE: f64 = 0.5;
const MOST_PATIENCE: f64 = 1.2;
/// A queue of fewer packets than these is none, nor one that is too long: on a narrow way each takes longer than the times above.
const GROWING_PACKETS: f64 = 1.2;
const HIGH_PACKETS: f64 = 2.2;
const PACKET_BITS: f64 = 9_600.0;
const LONGEST_PACKET: Duration = Duration::from_millis(50);
/// A queue that is shorter than [`HIGH`] and still overflows makes this the limit, down to [`LOW`]; it rises again slowly.
const OF_OVERFLOWING: f64 = 0.5;
const RISE_PER_S: f64 = 0.000_3;
/// Share of what arrives that is sent after a cut, without what empties the queue; and no less than this.
const CUT: f64 = 0.95;
const DEEPEST_CUT: f64 = 0.5;
/// As much of what was sent arrived within a second that a queue is a burst's, not that of a way which became slower; then a cut goes no
/// lower than this, as long as less is sent than might be.
const ALL: f64 = 0.9;
const APP_LIMITED_CUT: f64 = 0.85;
/// A queue is emptied more slowly where a small picture and a voice would have to stop for it, but with this share at most.
const LEAST_CALL_BPS: f64 = 230_000.0;
const SLOWEST_DRAIN: f64 = 0.8;
/// A way has become narrower if it carries this share of what is sent: what others take comes little by little. A cut because of that is
/// repeated if still less passes, this share of it.
const NARROWER: f64 = 0.65;
const WORSE: f64 = 0.8;
const LONGEST_SETTLING: Duration = Duration::from_millis(400);
/// A queue that does not become shorter is given only this share of what arrives.
const EXPERIMENT: f64 = 0.7;
/// Share of what arrived that is sent once the queue is empty.
const RETURN: f64 = 0.92;
/// A probe has to show so much more than is known.
const NEWS: f64 = 1.05;
/// Growth per second while the capacity is unknown or far.
const FAST_GROWTH: f64 = 0.16;
const MOST_SLOW_GROWTH: f64 = 0.3;
/// From this share of the capacity on the rate grows by as much for everybody (a packet in 200 ms), whatever it is and whatever
/// the round trip time: so flows that share a link converge. Tiny ones grow by [`MOST_SLOW_GROWTH`] at most.
const NEAR: f64 = 0.85;
const SLOW_GROWTH_BPS: f64 = 48_000.0;
/// A capacity that was not met for so long is forgotten.
const CAPACITY_AGE: Duration = Duration::from_secs(20);
/// So much more than what has passed is untested.
const UNTESTED: f64 = 1.05;
/// Share of the rate that is sent where it is used.
const USED: f64 = 0.85;
/// What arrives beyond the rate raises it: for a second, or for a quarter of one if there is no queue at all.
const SHOWN: f64 = 1.05;
const SHOWN_FOR: Duration = Duration::from_secs(1);
/// Against competitors: growth per second, and what a loss leaves.
const COMPETING_GROWTH: f64 = 0.12;
const COMPETING_CUT: f64 = 0.85;
/// They are gone if the queue is short for this long.
const GONE: Duration = Duration::from_secs(2);
/// No probe so soon after a cut.
const QUIET: Duration = Duration::from_millis(800);
/// A time without reports after which less is sent, each second again.
const SILENCE: Duration = Duration::from_millis(1_500);
const SILENT_CUT: f64 = 0.7;

/// What a report says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signals {
    /// How long packets wait in the queue.
    pub queue: Option<Duration>,
    /// How long they will, if much more is on its way than passes.
    pub overrun: Option<Overrun>,
    /// Whether it grows.
    pub usage: Usage,
    /// What arrives, over a quarter of a second.
    pub acked_bps: Option<f64>,
    /// The same over a tenth, or over some ten packets: what passes a queue that has just begun.
    pub acked_now_bps: Option<f64>,
    /// The same over a tenth, however few packets that are.
    pub acked_quick_bps: Option<f64>,
    /// What follows other packets arrives at this rate, where they are few.
    pub busy_bps: Option<f64>,
    /// The same over a second.
    pub acked_long_bps: Option<f64>,
    /// What is sent, over a second.
    pub sent_bps: Option<f64>,
    /// About loss.
    pub loss: Option<Finding>,
    /// Share of packets that the link loses whatever is sent.
    pub inherent_loss: f64,
    /// Nothing is missing.
    pub is_complete: bool,
    /// What the newest trains of packets arrived at.
    pub train_bps: Option<f64>,
    /// From sending to hearing of it.
    pub round_trip: Duration,
    /// What came of a probe.
    pub probe: Option<Outcome>,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    /// No queue, or nearly none.
    Grow,
    /// A queue is being emptied.
    Drain(Drain),
    /// The queue is somebody else's.
    Compete { quiet_since: Option<Instant> },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Control {
    target_bps: f64,
    phase: Phase,
    limit: Limit,
    /// What arrived while a queue was there, and when that was last so.
    capacity: Option<(f64, Instant)>,
    /// When a limit of the way was last met.
    limited_at: Option<Instant>,
    policed: Option<Policed>,
    /// Share of packets that the link loses whatever is sent.
    inherent_loss: f64,
    /// The most that passed for a second without a loss, since one lowered the rate.
    proven_bps: f64,
    /// A longer queue is too long: [`HIGH`], or less.
    high: Duration,
    last_report: Option<Instant>,
    last_cut: Option<Instant>,
    last_queue: Duration,
    /// Since loss was last judged.
    longest_queue: Duration,
    probes: ProbePlan,
    is_app_limited: bool,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            target_bps: START_BPS,
            phase: Phase::Grow,
            limit: Limit::Start,
            capacity: None,
            limited_at: None,
            policed: None,
            inherent_loss: 0.0,
            proven_bps: 0.0,
            high: HIGH,
            last_report: None,
            last_cut: None,
            last_queue: Duration::ZERO,
            longest_queue: Duration::ZERO,
            probes: ProbePlan::default(),
            is_app_limited: false,
        }
    }
}

/// What follows from a report beside the rate.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Followup {
    /// Less is sent because so much was lost.
    pub cut_for_loss: Option<f64>,
    /// Less is sent because much more is on its way than passes.
    pub is_overrun: bool,
    /// The queue is empty: what was learned of its growth is void.
    pub is_drained: bool,
    /// What was taken for a queue is the length of another way.
    pub is_other_way: bool,
}

impl Control {
    /// Bits per second.
    #[must_use]
    pub fn target_bps(&self) -> f64 {
        self.target_bps
    }

    /// See [`super::Estimate::link_capacity_bps`].
    #[must_use]
    pub fn capacity_bps(&self) -> Option<f64> {
        self.capacity.map(|(bps, _)| bps)
    }

    /// What may be sent at the most in a moment: the rate, where a limit was met lately. Nothing else says how large a burst passes.
    #[must_use]
    pub fn paced_bps(&self, now: Instant) -> Option<f64> {
        let is_limited = self.limited_at.is_some_and(|at| now.saturating_duration_since(at) <= CAPACITY_AGE);
        is_limited.then_some(self.target_bps)
    }

    /// See [`super::Estimate::limit`].
    #[must_use]
    pub fn limit(&self) -> Limit {
        self.limit
    }

    /// See [`super::Estimate::queue`].
    #[must_use]
    pub fn queue(&self) -> Duration {
        self.last_queue
    }

    /// See [`super::Estimate::cut_at`].
    #[must_use]
    pub fn cut_at(&self) -> Option<Instant> {
        self.last_cut
    }

    /// A queue is being emptied.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Drain(_))
    }

    /// See [`super::Estimate::is_app_limited`].
    #[must_use]
    pub fn is_app_limited(&self) -> bool {
        self.is_app_limited
    }

    /// A report has come. `wanted_bps` is what would be sent at most.
    pub fn on_report(&mut self, now: Instant, signals: &Signals, wanted_bps: f64) -> Followup {
        let since_report = now.saturating_duration_since(self.last_report.unwrap_or(now)).min(Duration::from_millis(500));
        self.last_report = Some(now);
        let mut followup = Followup::default();
        let was_app_limited = self.is_app_limited;
        self.is_app_limited = signals.sent_bps.is_some_and(|sent| sent < 0.75 * self.target_bps);
        if self.capacity.is_some_and(|(_, at)| now.saturating_duration_since(at) > CAPACITY_AGE) {
            self.capacity = None;
        }
        self.inherent_loss = signals.inherent_loss;
        if let Some(bps) = signals.acked_long_bps.filter(|_| signals.is_complete) {
            self.proven_bps = self.proven_bps.max(bps);
        }
        self.policed = self.policed.filter(|policed| !policed.is_refuted(signals.inherent_loss));
        let queue = signals.queue.unwrap_or_default();
        self.longest_queue = self.longest_queue.max(queue);
        // What the link loses whatever is sent has passed the queue.
        let acked_now_bps = signals.acked_now_bps.unwrap_or(self.target_bps);
        // A queue that begins after a time of silence: that time says nothing of the link.
        let quick_bps = signals.acked_quick_bps.filter(|_| was_app_limited).unwrap_or(0.0);
        // Nor does what arrives of less than might be sent: but trains do, and where all of it arrived, the way has not become much worse.
        let has_all = signals.acked_long_bps.zip(signals.sent_bps).is_some_and(|(acked, sent)| acked > sent * ALL);
        let least_bps = if has_all { self.target_bps * APP_LIMITED_CUT } else { 0.0 };
        let shown_bps = signals.train_bps.unwrap_or(0.0).min(self.target_bps).max(least_bps);
        let shown_bps = if was_app_limited { shown_bps } else { 0.0 };
        let acked_now_bps = acked_now_bps.max(quick_bps).max(signals.busy_bps.unwrap_or(0.0));
        let acked_now_bps = (acked_now_bps / (1.0 - signals.inherent_loss)).max(shown_bps);
        self.high = (self.high + Duration::from_secs_f64(RISE_PER_S * since_report.as_secs_f64())).min(HIGH);
        match self.phase {
            Phase::Grow | Phase::Drain(_) if signals.overrun.is_some_and(|overrun| self.is_worse(overrun, signals.sent_bps)) => {
                let Overrun { rate_bps, queue } = signals.overrun.unwrap_or(Overrun { rate_bps: acked_now_bps, queue });
                self.cut(now, queue, rate_bps / (1.0 - signals.inherent_loss), signals.train_bps);
                self.expect_queue(queue, now);
                followup.is_overrun = true;
            }
            Phase::Grow => {
                let patience = (USUAL_BPS / self.target_bps).sqrt().clamp(LEAST_PATIENCE, MOST_PATIENCE);
                // A frame's packets wait for each other, and what is called a queue is in part their own time on the wire.
                let packet = Duration::from_secs_f64(PACKET_BITS / self.target_bps).min(LONGEST_PACKET);
                let growing = GROWING.mul_f64(patience).max(packet.mul_f64(GROWING_PACKETS));
                let high = self.high.mul_f64(patience).max(packet.mul_f64(HIGH_PACKETS * self.high.as_secs_f64() / HIGH.as_secs_f64()));
                let is_growing = signals.usage == Usage::Over && queue >= growing;
                if queue >= high || is_growing {
                    self.cut(now, queue, acked_now_bps, signals.train_bps);
                }
            }
            Phase::Drain(drain) => self.drain(now, drain, signals, acked_now_bps, &mut followup),
            Phase::Compete { quiet_since } => {
                let quiet_since = (queue < HIGH).then(|| quiet_since.unwrap_or(now));
                self.phase = Phase::Compete { quiet_since };
                if quiet_since.is_some_and(|since| now.saturating_duration_since(since) > GONE) || queue < LOW {
                    self.phase = Phase::Grow;
                }
            }
        }
        if let Some(Finding::Excess(loss)) = signals.loss
            && self.since_cut(now) > signals.round_trip + Duration::from_millis(200)
        {
            followup.cut_for_loss = Some(loss);
            self.probes.on_limit();
            // The longest since the last word about loss: by now less may wait.
            if self.longest_queue > LOW {
                self.high = self.high.min(self.longest_queue.mul_f64(OF_OVERFLOWING)).max(LOW);
            }
            let left = match self.phase {
                Phase::Compete { .. } => self.target_bps * COMPETING_CUT,
                Phase::Grow | Phase::Drain(_) => {
                    // Less than what came: if all of the loss is the link's own, that shows at once.
                    let came_bps = signals.acked_bps.unwrap_or(self.target_bps);
                    (self.capacity, self.limited_at) = (Some((came_bps, now)), Some(now));
                    // What has passed before is no more than a policer lets pass: then it is chance, or somebody else. Of a voice alone
                    // nothing follows for a picture.
                    let is_news = signals.sent_bps.is_some_and(|bps| bps > START_BPS.max(self.proven_bps * UNTESTED));
                    if self.longest_queue < LOW && is_news {
                        self.policed = Some(Policed::met(self.policed, came_bps, loss, now));
                    }
                    self.proven_bps = came_bps;
                    came_bps * CUT
                }
            };
            self.set(self.target_bps.min(left));
            (self.last_cut, self.limit) = (Some(now), Limit::Loss);
        }
        if let Some(outcome) = signals.probe {
            self.on_probe(now, outcome, queue);
        }
        self.grow(now, signals, queue, since_report.as_secs_f64(), wanted_bps);
        self.last_queue = queue;
        if signals.loss.is_some() {
            self.longest_queue = Duration::ZERO;
        }
        followup
    }

    /// What was learned of the way is void; the rate stays until more is known.
    pub fn start_over(&mut self) {
        *self = Self { target_bps: self.target_bps, limit: self.limit, ..Self::default() };
    }

    /// Nothing is sent, so that no report will come: whatever queue there was is gone. False if that is no news.
    pub fn rest(&mut self) -> bool {
        let is_news = (self.phase, self.last_queue) != (Phase::Grow, Duration::ZERO) || !matches!(self.limit, Limit::Start | Limit::None);
        if is_news {
            (self.phase, self.last_queue, self.limit) = (Phase::Grow, Duration::ZERO, Limit::None);
        }
        is_news
    }

    /// Time passes without reports although something is sent.
    pub fn on_silence(&mut self, now: Instant) {
        if self.last_report.is_some_and(|at| now.saturating_duration_since(at) > SILENCE) {
            self.set(self.target_bps * SILENT_CUT);
            self.limit = Limit::Silence;
        }
    }

    /// What a probe should try now, if one is worth its while. `wanted_bps`: what would be sent at most; `train_bps`:
    /// what the newest trains of packets arrived at, which is the bottleneck's rate if nobody else uses it.
    pub fn probe(&mut self, now: Instant, wanted_bps: f64, train_bps: Option<f64>) -> Option<Order> {
        let is_quiet = self.phase == Phase::Grow && self.last_queue < LOW && self.since_cut(now) > QUIET;
        if !is_quiet || self.limit == Limit::Silence {
            return None;
        }
        let rate_bps = self.probes.take_due(now, self.target_bps, wanted_bps, train_bps, self.is_app_limited)?;
        let is_long = self.is_long_probe_next(now);
        let most_bps = if is_long { self.target_bps * LONG_PROBE } else { self.most_probed_bps(now) };
        let rate_bps = rate_bps.min(most_bps).min(MAX_BPS);
        // Less would show nothing.
        let least = if is_long { LONG_ARRIVES * (1.0 - self.inherent_loss) } else { ARRIVES };
        (rate_bps > self.target_bps * NEWS).then_some(Order { rate_bps, is_long, least })
    }

    /// The next probe is to empty a policer's bucket.
    #[must_use]
    pub fn is_long_probe_next(&self, now: Instant) -> bool {
        self.policed.is_some_and(|policed| !policed.holds(now))
    }

    /// What is believed of a short probe.
    fn most_probed_bps(&self, now: Instant) -> f64 {
        self.policed.and_then(|policed| policed.most_bps(now)).unwrap_or(f64::INFINITY)
    }

    /// Somebody wants more than before: a probe need not wait as long as after one that failed.
    pub fn hurry_probe(&mut self, now: Instant) {
        self.probes.hurry(now);
    }

    /// A probe is over.
    pub fn on_probe(&mut self, now: Instant, outcome: Outcome, queue: Duration) {
        if outcome.is_long {
            self.policed = self.policed.and_then(|policed| policed.after_long_probe(outcome.passed_bps, now));
        }
        let passed = outcome.passed_bps.unwrap_or(0.0).min(outcome.tried_bps * 1.05).min(self.most_probed_bps(now));
        if self.phase == Phase::Grow && passed > self.target_bps * NEWS && queue < HIGH {
            // Of what filled the link the prober has taken something off already; who shares it with others takes more off.
            self.set(if outcome.has_filled && self.probes.is_unlimited() { passed } else { passed * 0.95 });
            self.limit = Limit::None;
            if self.capacity.is_some_and(|(bps, _)| self.target_bps > bps) {
                self.capacity = None;
            }
            self.probes.succeeded(now, outcome.has_filled);
        } else if self.phase == Phase::Grow && outcome.passed_bps.is_some() && !outcome.has_filled && queue < LOW {
            // What flows meanwhile has shown as much.
            self.probes.passed(now);
        } else {
            self.probes.failed(now);
        }
    }

    /// Begins to empty a queue.
    fn cut(&mut self, now: Instant, queue: Duration, acked_bps: f64, train_bps: Option<f64>) {
        self.probes.on_queue(now, train_bps);
        self.phase = Phase::Drain(Drain::new(queue, self.target_bps, now));
        self.lower(now, queue, acked_bps);
    }

    /// The way carries much less than is sent, and that is not known yet.
    fn is_worse(&self, overrun: Overrun, sent_bps: Option<f64>) -> bool {
        let is_narrower = overrun.rate_bps < sent_bps.map_or(self.target_bps, |bps| bps.min(self.target_bps)) * NARROWER;
        match self.phase {
            Phase::Grow => is_narrower,
            Phase::Drain(_) => self.capacity.is_none_or(|(bps, _)| overrun.rate_bps < bps * WORSE),
            Phase::Compete { .. } => false,
        }
    }

    /// A queue is at its longest only when what was sent until now has arrived.
    fn expect_queue(&mut self, queue: Duration, now: Instant) {
        if let Phase::Drain(drain) = &mut self.phase {
            drain.settle_until(now + queue.min(LONGEST_SETTLING));
        }
    }

    /// Waits until a queue is empty, or is found to be none of ours.
    fn drain(&mut self, now: Instant, mut drain: Drain, signals: &Signals, acked_now_bps: f64, followup: &mut Followup) {
        let queue = signals.queue.unwrap_or_default();
        let verdict = drain.look(queue, signals.is_complete, signals.round_trip, self.high, now);
        self.phase = Phase::Drain(drain);
        let may_cut = self.since_cut(now) > signals.round_trip + Duration::from_millis(50);
        match verdict {
            Verdict::Empty => {
                followup.is_drained = true;
                self.come_back(Phase::Grow, RETURN, drain.before_bps);
            }
            Verdict::OtherWay => {
                followup.is_other_way = true;
                self.take_other_way(drain.before_bps);
            }
            Verdict::Stuck => self.set(self.target_bps.min(acked_now_bps * EXPERIMENT)),
            Verdict::Others => self.come_back(Phase::Compete { quiet_since: None }, COMPETING_CUT, drain.before_bps),
            Verdict::Tolerable => self.come_back(Phase::Grow, RETURN, drain.before_bps),
            Verdict::Regrown if may_cut && acked_now_bps * CUT < self.target_bps => {
                drain.begin_again(queue, now);
                self.phase = Phase::Drain(drain);
                self.lower(now, queue, acked_now_bps);
            }
            Verdict::Regrown | Verdict::Shrinks => {}
        }
    }

    /// Goes on with a share of what arrived while there was a queue, but with no more than before.
    fn come_back(&mut self, phase: Phase, share: f64, before_bps: f64) {
        self.phase = phase;
        let returned = self.capacity.map_or(self.target_bps, |(bps, _)| bps * share);
        self.target_bps = self.target_bps.max(returned.min(before_bps));
    }

    /// Nothing has spoken against the rate that was sent before.
    pub fn take_other_way(&mut self, before_bps: f64) {
        let probes = self.probes.begun_anew();
        *self = Self { target_bps: before_bps, probes, last_report: self.last_report, ..Self::default() };
        self.limit = Limit::None;
    }

    fn lower(&mut self, now: Instant, queue: Duration, acked_bps: f64) {
        self.capacity = Some(match self.capacity {
            // What arrived may be less than what fits: a frame's pause at the end of the window.
            Some((known, _)) if (0.8..1.25).contains(&(acked_bps / known)) => (0.6 * known + 0.4 * acked_bps, now),
            _ => (acked_bps, now),
        });
        (self.limited_at, self.policed) = (Some(now), None);
        let share = (CUT - queue.as_secs_f64() / DRAIN.as_secs_f64()).max(DEEPEST_CUT);
        let least_bps = LEAST_CALL_BPS.min(acked_bps * SLOWEST_DRAIN);
        self.set(self.target_bps.min((acked_bps * share).max(least_bps)));
        (self.last_cut, self.limit) = (Some(now), Limit::Delay);
    }

    fn grow(&mut self, now: Instant, signals: &Signals, queue: Duration, elapsed_s: f64, wanted_bps: f64) {
        let arrives_bps = signals.acked_bps.unwrap_or(0.0) / (1.0 - signals.inherent_loss);
        let ceiling = (arrives_bps * 1.5 + 10_000.0).min(wanted_bps * MARGIN);
        // More was sent than that, and all of it came: nobody has to wait for a probe of what flows.
        let quickly_bps = signals.acked_bps.filter(|_| queue < LOW && self.capacity.is_none()).unwrap_or(0.0);
        // A second that began before the cut says what arrived before it.
        let most_bps = signals.acked_bps.filter(|_| self.since_cut(now) < SHOWN_FOR + signals.round_trip).unwrap_or(MAX_BPS);
        let shown_bps = quickly_bps.max(signals.acked_long_bps.unwrap_or(0.0).min(most_bps));
        if shown_bps > self.target_bps * SHOWN && queue < RISING && self.phase == Phase::Grow && self.since_cut(now) > signals.round_trip {
            self.set(shown_bps);
        }
        let growth = match self.phase {
            Phase::Grow if signals.usage != Usage::Over && self.since_cut(now) > signals.round_trip => {
                let is_near = self.capacity.is_some_and(|(bps, _)| self.target_bps > bps * NEAR && self.target_bps < bps * 1.3);
                let slow = SLOW_GROWTH_BPS.min(self.target_bps * MOST_SLOW_GROWTH);
                elapsed_s * if is_near || queue > RISING { slow } else { slow.max(self.target_bps * FAST_GROWTH) }
            }
            Phase::Compete { .. } if self.since_cut(now) > signals.round_trip => self.target_bps * COMPETING_GROWTH * elapsed_s,
            _ => return,
        };
        // Beyond what the way was seen to carry the rate grows by being used.
        let is_used = self.capacity.is_none_or(|(bps, _)| self.target_bps < bps)
            || signals.sent_bps.is_none_or(|sent_bps| sent_bps > self.target_bps * USED);
        if self.target_bps < ceiling && !self.is_app_limited && is_used {
            self.set((self.target_bps + growth).min(ceiling));
        }
        if self.since_cut(now) > Duration::from_secs(3) {
            self.limit = Limit::None;
        }
    }

    fn since_cut(&self, now: Instant) -> Duration {
        self.last_cut.map_or(Duration::MAX, |at| now.saturating_duration_since(at))
    }

    fn set(&mut self, bps: f64) {
        self.target_bps = bps.clamp(MIN_BPS, MAX_BPS);
    }
}

#[cfg(test)]
mod tests;
