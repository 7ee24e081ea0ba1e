//! What feedback has told of a way, and what follows from each report.

use std::time::{Duration, Instant};

use super::busy::BusyMeter;
use super::clock::ArrivalClock;
use super::control::{Control, Followup, Signals};
use super::delay::QueueMeter;
use super::history::{SendHistory, SentAt};
use super::loss::LossMeter;
use super::overrun::{Overrun, OverrunMeter};
use super::passage::PassageMeter;
use super::probe::Prober;
use super::rate::{RateMeter, whole};
use super::still::Still;
use super::trains::Trains;
use super::trendline::Trendline;

/// Windows of rates.
pub(super) const ARRIVED_WINDOW_US: i64 = 250_000;
pub(super) const ARRIVED_NOW_WINDOW_US: i64 = 90_000;
pub(super) const SENT_WINDOW_US: i64 = 1_000_000;
/// An estimate begins with what flows, but does not wait longer for two packets that tell it.
const FIRST_WORD: Duration = Duration::from_millis(300);
/// See [`Measured::hear`].
const LONG_PAUSE: Duration = Duration::from_secs(20);
/// So many packets that are missing in one report, and more than one in so many, are too many to be resent behind so long a
/// queue. A shorter one has no room for a keyframe.
const MASS: u32 = 10;
const MASS_OF: u32 = 4;
const MASS_QUEUE: Duration = Duration::from_millis(100);
const BETWEEN_COLLAPSES: Duration = Duration::from_secs(1);
/// So much loss beyond the link's own is too much to be resent to who gets less because of it.
const HEAVY_LOSS: f64 = 0.15;
/// If what is sent now were to wait for so long, what is on its way is worth less than a keyframe behind it: few queues hold as much, and
/// in those that do it comes too late.
const OVERRUN_QUEUE: Duration = Duration::from_millis(200);
/// What was sent before an overrun is not reported on after so much time of what was sent after it.
const OVERRUN_AGE_US: i64 = 2_000_000;
/// Below it a tenth of a second holds too few packets to say what the way carries. Above it others' packets come between, and two of
/// ours that met say what the way carries for all.
const NARROW_BPS: f64 = 400_000.0;
/// A queue of this length counts as one that may overflow, if none twice as long has passed without a loss lately.
const QUEUE_SEEN: Duration = Duration::from_millis(15);
const PASSED_FADING_PER_S: f64 = 0.02;

/// See the module.
#[derive(Default)]
pub struct Measured {
    pub(super) control: Control,
    queue: QueueMeter,
    overrun: OverrunMeter,
    still: Still,
    busy: BusyMeter,
    trendline: Trendline,
    loss: LossMeter,
    pub(super) passage: PassageMeter,
    pub(super) arrived: RateMeter,
    sent: RateMeter,
    pub(super) overhead: RateMeter,
    /// Of it, what was sent for probes.
    pub(super) probes: RateMeter,
    overhead_seen_bytes: [u64; 2],
    pub(super) trains: Trains,
    pub(super) prober: Prober,
    pub(super) clock: ArrivalClock,
    round_trip: Option<Duration>,
    pub(super) heard_at: Option<Instant>,
    pub(super) next_feedback: Option<u8>,
    pub(super) next_sequence: Option<u16>,
    sent_clock: Option<(SentAt, i64)>,
    sent_seen_bytes: u64,
    /// Much of what was sent is lost at once: see [`super::Bandwidth::take_collapse`].
    pub(super) has_collapsed: bool,
    collapsed_at: Option<Instant>,
    /// When less was sent because of an overrun, as long as that matters.
    overrun_at: Option<SentAt>,
    /// Longest queue that lost nothing; shrinks with time.
    passed_queue: Duration,
    reported_at: Option<Instant>,
    /// The first report.
    began: Option<Instant>,
    /// Enough is known for an estimate.
    is_ready: bool,
}

/// One report, being taken in.
#[derive(Default)]
pub struct Report {
    arrived: u32,
    missing: u32,
    recovered: u32,
    /// Something is missing, whenever it was sent.
    is_torn: bool,
    pub(super) bytes: u64,
    newest: Option<(SentAt, i64, u16)>,
    /// Arrival and bytes of the first packet.
    oldest: Option<(i64, u64)>,
}

impl Measured {
    /// After a long pause nothing of what was measured holds, and clocks may have wrapped.
    pub(super) fn hear(&mut self, now: Instant) {
        if self.heard_at.replace(now).is_some_and(|at| now.saturating_duration_since(at) > LONG_PAUSE) {
            self.start_over();
        }
    }

    /// The client has reported.
    #[must_use]
    pub(super) fn is_heard(&self) -> bool {
        self.heard_at.is_some()
    }

    /// Forgets everything but the rate.
    pub(super) fn start_over(&mut self) {
        let (control, heard_at, sent_seen_bytes) = (std::mem::take(&mut self.control), self.heard_at, self.sent_seen_bytes);
        let (overhead_seen_bytes, began, is_ready) = (self.overhead_seen_bytes, self.began, self.is_ready);
        *self = Self { control, heard_at, sent_seen_bytes, overhead_seen_bytes, began, is_ready, ..Self::default() };
        self.control.start_over();
    }

    /// A probe of which nothing is heard is over some day, though no report comes. True if it was.
    pub(super) fn give_up_probe(&mut self, now: Instant) -> bool {
        let outcome = self.prober.end_report(now);
        outcome.inspect(|&outcome| self.control.on_probe(now, outcome, self.control.queue())).is_some()
    }

    /// The client has a packet.
    pub(super) fn on_arrival(&mut self, report: &mut Report, sent: &mut SendHistory, sequence: u16, arrival_us: i64) {
        let Some(packet) = sent.take_arrived(sequence) else { return };
        let bytes = u64::from(packet.bytes);
        if self.does_count(packet.sent_at) {
            report.arrived += u32::from(!packet.was_missing);
            report.recovered += u32::from(packet.was_missing);
        }
        report.bytes += bytes;
        if report.oldest.is_none_or(|(oldest_us, _)| arrival_us < oldest_us) {
            report.oldest = Some((arrival_us, bytes));
        }
        if report.newest.is_none_or(|(_, newest_us, _)| arrival_us >= newest_us) {
            report.newest = Some((packet.sent_at, arrival_us, sequence));
        }
        // Wrapping differences of the send time are right as long as the clock of arrivals goes on with it.
        let sent_us = self.sent_us(packet.sent_at);
        self.queue.on_packet(arrival_us, arrival_us - sent_us);
        self.passage.on_arrival(packet.sent_at, arrival_us - sent_us, packet.was_missing);
        if let Some(least_us) = self.queue.base() {
            self.busy.on_packet(arrival_us, arrival_us - sent_us, least_us, bytes);
        }
        self.overrun.on_packet(arrival_us, arrival_us - sent_us, bytes);
        self.trendline.on_packet(packet.sent_at, arrival_us);
        self.trains.on_packet(packet.sent_at, arrival_us, bytes);
        self.prober.on_packet(packet.probe, packet.sent_at, arrival_us, bytes);
    }

    /// The client does not have it.
    pub(super) fn on_missing(&mut self, report: &mut Report, sent: &mut SendHistory, sequence: u16) {
        let Some(packet) = sent.take_missing(sequence) else { return };
        self.passage.on_missing();
        report.is_torn = true;
        report.missing += u32::from(self.does_count(packet.sent_at));
    }

    /// What is lost of what was sent before an overrun was seen is known to be lost for that.
    fn does_count(&self, sent_at: SentAt) -> bool {
        self.overrun_at.is_none_or(|at| sent_at.us_since(at) > 0)
    }

    /// False if there is nothing new to tell.
    pub(super) fn end_report(
        &mut self,
        report: &Report,
        sent: &SendHistory,
        at: SentAt,
        overhead_bytes: [u64; 2],
        wanted_bps: f64,
        now: Instant,
    ) -> bool {
        self.loss.add(report.arrived, report.missing, report.recovered);
        let Some((newest_sent, newest_us, newest_sequence)) = report.newest else { return false };
        if self.clock.has_jumped() {
            self.start_over();
            return self.is_ready;
        }
        match report.oldest.filter(|_| self.arrived.is_empty()) {
            // Rates count from the very first packet on.
            Some((oldest_us, first_bytes)) => {
                self.arrived.add(oldest_us, 0);
                self.arrived.add(newest_us, report.bytes - first_bytes);
            }
            None => self.arrived.add(newest_us, report.bytes),
        }
        let now_us = self.sent_us(at);
        self.sent.add(now_us, sent.sent_bytes - self.sent_seen_bytes);
        self.sent_seen_bytes = sent.sent_bytes;
        let [overhead, probes] = overhead_bytes;
        let [overhead_seen, probes_seen] = std::mem::replace(&mut self.overhead_seen_bytes, overhead_bytes);
        self.overhead.add(now_us, overhead.saturating_sub(overhead_seen));
        self.probes.add(now_us, probes.saturating_sub(probes_seen));
        let round_trip = Duration::from_micros(u64::try_from(at.us_since(newest_sent)).unwrap_or(0));
        self.passage.time(round_trip);
        // Smoothed as RFC 6298 does.
        let round_trip = self.round_trip.map_or(round_trip, |known| (known * 7 + round_trip) / 8);
        self.round_trip = Some(round_trip);
        let queue = self.queue.end_report().map(|us| Duration::from_micros(u64::try_from(us).unwrap_or(0)));
        let elapsed = self.reported_at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.passed_queue = self.passed_queue.mul_f64((1.0 - PASSED_FADING_PER_S * elapsed.as_secs_f64()).max(0.0));
        if !report.is_torn {
            self.passed_queue = self.passed_queue.max(queue.unwrap_or_default());
        }
        let has_queue = queue.is_some_and(|queue| queue > QUEUE_SEEN.max(self.passed_queue / 2));
        let is_mass = report.missing >= MASS && report.missing * MASS_OF >= report.missing + report.arrived;
        let is_again = self.collapsed_at.is_some_and(|at| now.saturating_duration_since(at) < BETWEEN_COLLAPSES);
        let on_way_bytes = sent.bytes_after(newest_sequence);
        let overrun = self.queue.base().and_then(|least_us| self.overrun.end_report(least_us, on_way_bytes, at.us_since(newest_sent)));
        if is_mass && queue.is_some_and(|queue| queue > MASS_QUEUE) && !is_again {
            (self.has_collapsed, self.collapsed_at) = (true, Some(now));
        }
        // So many that one more or less does not matter.
        let few_packets_us = i64::try_from(10_000_000_000_000 / whole(self.control.target_bps()).max(1) / 100).unwrap_or(0);
        let busy_bps = self.busy.bps().filter(|_| self.control.target_bps() < NARROW_BPS);
        // A large packet takes so long on a narrow way that it seems to have waited, though there was a pause in front of it.
        let overrun = overrun.map(|overrun| Overrun { rate_bps: overrun.rate_bps.max(busy_bps.unwrap_or(0.0)), ..overrun });
        let signals = Signals {
            queue,
            overrun,
            usage: self.trendline.usage(),
            acked_bps: self.arrived.bps(ARRIVED_WINDOW_US),
            acked_now_bps: self.arrived.bps(ARRIVED_NOW_WINDOW_US.max(few_packets_us)),
            acked_quick_bps: self.arrived.bps(ARRIVED_NOW_WINDOW_US),
            busy_bps,
            acked_long_bps: self.arrived.bps(SENT_WINDOW_US),
            sent_bps: self.sent.bps(SENT_WINDOW_US),
            loss: self.loss.end_report(now_us, has_queue),
            inherent_loss: self.loss.inherent(),
            is_complete: !report.is_torn,
            train_bps: self.trains.bps(),
            round_trip,
            probe: self.prober.end_report(now),
        };
        if let (Some(queue), Some(acked_bps)) = (signals.queue, signals.acked_bps)
            && let Some(before_bps) = self.still.add(queue, acked_bps, now)
        {
            self.control.take_other_way(before_bps);
            self.queue.rebase();
            self.trendline.restart();
            return self.is_ready;
        }
        let Followup { cut_for_loss, is_overrun, is_drained, is_other_way } = self.control.on_report(now, &signals, wanted_bps);
        let is_long = is_overrun && overrun.is_some_and(|overrun| overrun.queue >= OVERRUN_QUEUE);
        let is_heavy = cut_for_loss.is_some_and(|loss| loss - signals.inherent_loss >= HEAVY_LOSS);
        if (is_long || is_heavy) && !is_again {
            (self.has_collapsed, self.collapsed_at) = (true, Some(now));
        }
        if is_overrun {
            self.overrun_at = Some(at);
        } else if self.overrun_at.is_some_and(|overrun_at| newest_sent.us_since(overrun_at) > OVERRUN_AGE_US) {
            self.overrun_at = None;
        }
        if let Some(loss) = cut_for_loss {
            self.loss.cut(loss);
        }
        if is_other_way {
            self.queue.rebase();
        }
        if is_drained || is_other_way {
            self.trendline.restart();
        }
        self.is_ready |= signals.acked_bps.is_some() || now.saturating_duration_since(*self.began.get_or_insert(now)) > FIRST_WORD;
        self.is_ready
    }

    /// The history's clock, unwrapped.
    fn sent_us(&mut self, at: SentAt) -> i64 {
        let us = self.sent_clock.map_or(0, |(last, us)| us + at.us_since(last));
        if self.sent_clock.is_none_or(|(_, newest)| us > newest) {
            self.sent_clock = Some((at, us));
        }
        us
    }
}
