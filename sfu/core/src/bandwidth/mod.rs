//! What the way to a subscriber carries: congestion control of one transport's downlink.
//!
//! In: every packet that is sent ([`history`]), what the client reports of them, and what the allocator would like to send
//! ([`Demand`]). Out: an [`Estimate`], and how many bytes a probe needs now ([`Bandwidth::probe_due`]).
//! A packet costs one entry in the history; all work is done when feedback comes, some 10 to 20 times a second.
//! [`delay`] and [`trendline`] measure the queue, [`loss`] what is lost, [`rate`] what arrives, [`probe`] what more would;
//! [`control`] decides. Feedback: transport-wide (draft-holmer-rmcat-transport-wide-cc-extensions-01), RFC 8888, or REMB.

pub mod control;
pub mod delay;
pub mod history;
pub mod loss;
pub mod probe;
pub mod rate;
pub mod still;
pub mod trendline;

use std::time::{Duration, Instant};

use crate::error::Discard;
use crate::rtp::ntp::CompactNtp;
use crate::rtp::rtcp::{CongestionFeedback, TransportCc, TransportCcTime};
use control::{Control, Followup, Signals};
use delay::QueueMeter;
use history::{SendHistory, SentAt};
use loss::LossMeter;
use probe::Prober;
use rate::RateMeter;
use still::Still;
use trendline::Trendline;

/// Reports that rates are measured over.
const WINDOW_REPORTS: usize = 32;

/// What a transport's downlink carries, as far as is known. All rates are bits per second of whole datagrams (UDP payload:
/// RTP header, extensions, payload, SRTP tag), of everything that is sent there: audio, video, retransmissions, probes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Estimate {
    /// So much may be sent. It falls at once and is never above what was shown to arrive, but for a growth of a few percent.
    pub target_bps: u64,
    /// What the bottleneck was last seen to carry when it was full; None: it was not full lately. A step of the allocation
    /// that fits into it, but not into the target, is likely to fit after a probe.
    pub link_capacity_bps: Option<u64>,
    /// Retransmissions and probes of the last seconds: part of the target that media can't have.
    pub overhead_bps: u64,
    /// Less is sent than might be, so the target says what is known to fit, not what would. Only a probe can raise it: see
    /// [`Demand::next_bps`].
    pub is_app_limited: bool,
    /// What holds the target where it is.
    pub limit: Limit,
    /// Since when `limit` and `is_app_limited` are as they are.
    pub since: Instant,
    /// How long packets waited in the bottleneck's queue at the end of the newest report.
    pub queue: Duration,
    /// When a queue or loss last lowered the target; None: never.
    pub cut_at: Option<Instant>,
    /// What arrived over the last quarter of a second, and the last tenth; None: not measured.
    pub arrives_bps: Option<[u64; 2]>,
}

impl Estimate {
    /// What is left for media.
    #[must_use]
    pub fn media_bps(&self) -> u64 {
        self.target_bps.saturating_sub(self.overhead_bps)
    }
}

/// What holds an estimate where it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Limit {
    /// Nothing has been learned yet.
    #[default]
    Start,
    /// Nothing does: it grows, or it is as high as was asked for.
    None,
    /// A queue builds up, or built up a moment ago.
    Delay,
    /// Packets are lost because there are too many of them.
    Loss,
    /// The client says so (REMB).
    Client,
    /// The client has stopped reporting while something is sent.
    Silence,
}

/// What the allocator would like to send on a transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Demand {
    /// Rate of what it has granted: what will be sent if publishers send what they did.
    pub now_bps: u64,
    /// The same after its next step up (a larger layer, a paused track); None: everybody has what they want, and nothing is
    /// to be gained by probing. A probe goes a little beyond it.
    pub next_bps: Option<u64>,
}

/// Congestion control of one transport's downlink.
#[derive(Default)]
pub struct Bandwidth {
    /// What was sent.
    pub sent: SendHistory,
    /// Bytes of retransmissions and probes so far.
    pub overhead_bytes: u64,
    estimate: Option<Estimate>,
    told: Option<Estimate>,
    demand: Demand,
    resends: Credit,
    looks: Looks,
    /// Exists from the first feedback on.
    measured: Option<Box<Measured>>,
}

/// What is looked at in reports. A few bytes of one can name thousands of packets, over and over; each packet that was sent
/// pays for [`LOOKS`].
#[derive(Default)]
struct Looks {
    left: usize,
    /// The packets before it have paid.
    paid: u16,
}

/// A packet is reported on once or twice; by RFC 8888 those of other streams are passed on the way to it.
const LOOKS: usize = 16;

impl Looks {
    fn pay(&mut self, next: u16) {
        let packets = usize::from(next.wrapping_sub(self.paid));
        self.left = self.left.saturating_add(packets * LOOKS).min(history::ENTRIES * LOOKS);
        self.paid = next;
    }
}

/// Bytes that may be resent now.
#[derive(Default)]
struct Credit {
    bytes: f64,
    since: Option<Instant>,
}

/// Share of the target, or of what arrives if that is more, that retransmissions may have, and for how long they may save it up.
const RESEND_SHARE: f64 = 0.4;
const RESEND_SAVING: Duration = Duration::from_millis(100);
/// A packet, about; a few may always be resent at once, and some ten in a second.
const RESEND_BYTES: f64 = 1_200.0;
const RESEND_AT_ONCE: f64 = 8.0 * RESEND_BYTES;
const RESEND_LEAST: f64 = 12_500.0;

/// What feedback has told.
#[derive(Default)]
struct Measured {
    control: Control,
    queue: QueueMeter,
    still: Still,
    trendline: Trendline,
    loss: LossMeter,
    arrived: RateMeter,
    sent: RateMeter,
    overhead: RateMeter,
    overhead_seen_bytes: u64,
    trains: Trains,
    prober: Prober,
    clock: ArrivalClock,
    round_trip: Option<Duration>,
    heard_at: Option<Instant>,
    next_feedback: Option<u8>,
    next_sequence: Option<u16>,
    sent_clock: Option<(SentAt, i64)>,
    sent_seen_bytes: u64,
    /// Much of what was sent is lost at once: see [`Bandwidth::take_collapse`].
    has_collapsed: bool,
    collapsed_at: Option<Instant>,
    /// Longest queue that lost nothing; shrinks with time.
    passed_queue: Duration,
    reported_at: Option<Instant>,
    /// The first report.
    began: Option<Instant>,
    /// Enough is known for an estimate.
    is_ready: bool,
}

/// The client's clock, unwrapped: it wraps in one unit for transport-wide feedback and in another for RFC 8888.
#[derive(Default)]
struct ArrivalClock {
    last: Option<(u32, i64)>,
}

impl ArrivalClock {
    fn units(&mut self, units: u32) -> i64 {
        let unwrapped = self.last.map_or(0, |(last, total)| total + i64::from(units.wrapping_sub(last).cast_signed()));
        self.last = Some((units, unwrapped));
        unwrapped
    }

    fn transport_cc_us(&mut self, time: TransportCcTime) -> i64 {
        self.units(time.0) * i64::from(TransportCcTime::UNIT_US)
    }

    fn compact_ntp_us(&mut self, time: CompactNtp) -> i64 {
        // 15625 / 1024 us are 1/65536 s.
        self.units(time.0) * 15_625 / 1_024
    }
}

/// Packets that were sent at once arrive at the rate of the bottleneck.
#[derive(Default)]
struct Trains {
    sent_at: Option<SentAt>,
    first_us: i64,
    last_us: i64,
    first_bytes: u64,
    bytes: u64,
    packets: u32,
    /// Rates of the newest ones.
    newest: [Option<f64>; 3],
}

/// A train of fewer packets says too little, for arrival times are multiples of 250 us.
const MIN_TRAIN: u32 = 3;

impl Trains {
    fn on_packet(&mut self, sent_at: SentAt, arrival_us: i64, bytes: u64) {
        if self.sent_at == Some(sent_at) {
            self.last_us = self.last_us.max(arrival_us);
            self.bytes += bytes;
            self.packets += 1;
            return;
        }
        let took_us = self.last_us - self.first_us;
        if self.packets >= MIN_TRAIN && took_us > 0 {
            self.newest.rotate_left(1);
            self.newest[2] = Some(rate::bits(self.bytes - self.first_bytes) * 1e6 / rate::micros(took_us));
        }
        let (first_us, last_us) = (arrival_us, arrival_us);
        *self = Self { sent_at: Some(sent_at), first_us, last_us, first_bytes: bytes, bytes, packets: 1, newest: self.newest };
    }

    /// The middle one of the newest rates: loss makes one too small, jitter too large.
    fn bps(&self) -> Option<f64> {
        let [Some(a), Some(b), Some(c)] = self.newest else { return None };
        Some(a.min(b).max(a.max(b).min(c)))
    }
}

/// Smaller changes of the target are not told.
const TOLD_CHANGE_PERCENT: u64 = 2;
/// Windows of rates.
const ARRIVED_WINDOW_US: i64 = 250_000;
const ARRIVED_NOW_WINDOW_US: i64 = 90_000;
const SENT_WINDOW_US: i64 = 1_000_000;

/// Packets of one RFC 8888 report that are looked up; of further ones nothing is learned.
const MAX_LOOK_UPS: usize = 512;

/// One report, being taken in.
#[derive(Default)]
struct Report {
    arrived: u32,
    missing: u32,
    recovered: u32,
    bytes: u64,
    newest: Option<(SentAt, i64)>,
    /// Arrival and bytes of the first packet.
    oldest: Option<(i64, u64)>,
}

impl Bandwidth {
    /// What the downlink carries. None: the client has not said anything from which it could be known, as while it connects;
    /// a client that never does gets whatever it wants.
    #[must_use]
    pub fn estimate(&self) -> Option<Estimate> {
        self.estimate
    }

    /// The estimate, if it is another one than when it was last taken.
    pub fn take_change(&mut self) -> Option<Estimate> {
        let estimate = self.estimate?;
        let is_same = self.told.is_some_and(|told| {
            estimate.target_bps.abs_diff(told.target_bps) * 100 <= told.target_bps * TOLD_CHANGE_PERCENT
                && (estimate.limit, estimate.is_app_limited) == (told.limit, told.is_app_limited)
        });
        if is_same {
            return None;
        }
        self.told = Some(estimate);
        Some(estimate)
    }

    /// What the allocator would like to send; to be told whenever that changes.
    pub fn set_demand(&mut self, demand: Demand, now: Instant) {
        if demand.next_bps > self.demand.next_bps
            && let Some(measured) = &mut self.measured
        {
            measured.control.hurry_probe(now);
        }
        self.demand = demand;
    }

    /// A client without transport-wide feedback says what it thinks that its downlink carries.
    pub fn on_remb(&mut self, bitrate_bps: u64, now: Instant) {
        if self.measured.is_some() {
            // What is measured here is more.
            return;
        }
        self.estimate = Some(Estimate {
            target_bps: bitrate_bps,
            link_capacity_bps: None,
            overhead_bps: 0,
            is_app_limited: false,
            limit: Limit::Client,
            since: self.estimate.map_or(now, |known| known.since),
            queue: Duration::ZERO,
            cut_at: None,
            arrives_bps: None,
        });
    }

    /// A report of the client on what it received. `at` is `now` on the clock of the history.
    ///
    /// # Errors
    /// [`Discard::FeedbackUnfounded`]: it is about what was not sent, or is said too often; nothing of it is looked at.
    pub fn on_transport_cc(&mut self, feedback: &TransportCc<'_>, at: SentAt, now: Instant) -> Result<(), Discard> {
        let Self { sent, measured, looks, .. } = self;
        looks.pay(sent.next_sequence());
        if feedback.len() > history::ENTRIES || !sent.covers(feedback.head.base_sequence, feedback.len()) {
            return Err(Discard::FeedbackUnfounded);
        }
        looks.left = looks.left.checked_sub(feedback.len()).ok_or(Discard::FeedbackUnfounded)?;
        let measured = measured.get_or_insert_default();
        measured.hear(now);
        let mut report = Report::default();
        let head = feedback.head;
        if measured.next_feedback.is_some_and(|expected| expected != head.feedback_count)
            && let Some(from) = measured.next_sequence
        {
            // Reports were lost on their way; most of what they were about arrived, or this one would not be as it is.
            report.bytes += sent.take_unreported(from, head.base_sequence);
        }
        measured.next_feedback = Some(head.feedback_count.wrapping_add(1));
        let mut last = head.base_sequence;
        for status in feedback.statuses() {
            last = status.sequence;
            match status.arrival {
                Some(time) => {
                    let arrival_us = measured.clock.transport_cc_us(time);
                    measured.on_arrival(&mut report, sent, status.sequence, arrival_us);
                }
                None => report.missing += u32::from(sent.take_missing(status.sequence).is_some()),
            }
        }
        measured.next_sequence = Some(last.wrapping_add(1));
        self.end_report(&report, at, now);
        Ok(())
    }

    /// The same in another form; a client uses one of them.
    pub fn on_congestion_feedback(&mut self, feedback: &CongestionFeedback<'_>, at: SentAt, now: Instant) {
        let Self { sent, measured, looks, .. } = self;
        looks.pay(sent.next_sequence());
        let measured = measured.get_or_insert_default();
        measured.hear(now);
        let (mut report, mut after) = (Report::default(), None);
        for status in feedback.statuses().take(MAX_LOOK_UPS) {
            let Some(sequence) = sent.find(status.ssrc, status.sequence, after, &mut looks.left) else { continue };
            after = Some(sequence);
            match status.arrival {
                Some(time) => {
                    let arrival_us = measured.clock.compact_ntp_us(time);
                    measured.on_arrival(&mut report, sent, sequence, arrival_us);
                }
                None => report.missing += u32::from(sent.take_missing(sequence).is_some()),
            }
        }
        self.end_report(&report, at, now);
    }

    fn end_report(&mut self, report: &Report, at: SentAt, now: Instant) {
        let Some(measured) = &mut self.measured else { return };
        let wanted = wanted_bps(self.demand);
        if !measured.end_report(report, &self.sent, at, self.overhead_bytes, wanted, now) {
            return;
        }
        self.publish(now);
    }

    /// The client is reached by another path now, of which nothing is known.
    pub fn path_changed(&mut self) {
        if let Some(measured) = &mut self.measured {
            measured.start_over();
        }
    }

    /// A packet may be resent now; if not, the client asks again. What a full queue dropped must not be poured into it at once.
    pub fn may_resend(&mut self, now: Instant) -> bool {
        let Some(measured) = &self.measured else { return true };
        let bps = measured.control.target_bps().max(measured.arrived.bps(ARRIVED_WINDOW_US).unwrap_or(0.0));
        let bytes_per_s = (bps / 8.0 * RESEND_SHARE).max(RESEND_LEAST);
        let elapsed = self.resends.since.map_or(RESEND_SAVING, |since| now.saturating_duration_since(since));
        let most = bytes_per_s * RESEND_SAVING.as_secs_f64() + RESEND_AT_ONCE;
        self.resends = Credit { bytes: (self.resends.bytes + bytes_per_s * elapsed.as_secs_f64()).min(most), since: Some(now) };
        let may = self.resends.bytes > 0.0;
        if may {
            self.resends.bytes -= RESEND_BYTES;
        }
        may
    }

    /// A queue has overflown, and so much was lost that to resend it would take longer than a keyframe does. True once.
    pub fn take_collapse(&mut self) -> bool {
        self.measured.as_mut().is_some_and(|measured| std::mem::take(&mut measured.has_collapsed))
    }

    /// Once a second: something is sent and nothing is heard of it.
    pub fn on_second(&mut self, at: SentAt, now: Instant) {
        let Some(measured) = &mut self.measured else { return };
        if (0..1_000_000).contains(&at.us_since(self.sent.newest)) {
            measured.control.on_silence(now);
            self.publish(now);
        }
    }

    /// Begins a probe if one is worth its while and `is_possible`; true if packets of one are due from now on.
    pub fn start_probe(&mut self, now: Instant) -> bool {
        let wanted = wanted_bps(self.demand);
        let Some(measured) = self.measured.as_mut().filter(|measured| !measured.prober.is_busy()) else { return false };
        let Some(rate_bps) = measured.control.probe(now, wanted, measured.trains.bps()) else { return false };
        self.sent.probe = measured.prober.start(rate_bps, self.sent.sent_bytes, now);
        true
    }

    /// Bytes of a probe that are due now; None: there is none, or it is sent.
    pub fn probe_due(&mut self, now: Instant) -> Option<u64> {
        let due = self.measured.as_mut().and_then(|measured| measured.prober.due(self.sent.sent_bytes, now));
        if due.is_none() {
            self.sent.probe = 0;
        }
        due
    }

    /// A packet was sent for the probe.
    pub fn on_probe_packet(&mut self) {
        if let Some(measured) = &mut self.measured {
            measured.prober.on_sent();
        }
    }

    fn publish(&mut self, now: Instant) {
        let Some(measured) = &self.measured else { return };
        let control = &measured.control;
        let (limit, is_app_limited) = (control.limit(), control.is_app_limited());
        let known = self.estimate.filter(|known| (known.limit, known.is_app_limited) == (limit, is_app_limited));
        self.estimate = Some(Estimate {
            target_bps: whole(control.target_bps()),
            link_capacity_bps: control.capacity_bps().map(whole),
            overhead_bps: whole(measured.overhead.bps(SENT_WINDOW_US).unwrap_or(0.0)),
            is_app_limited,
            limit,
            since: known.map_or(now, |known| known.since),
            queue: control.queue(),
            cut_at: control.cut_at(),
            arrives_bps: measured
                .arrived
                .bps(ARRIVED_WINDOW_US)
                .zip(measured.arrived.bps(ARRIVED_NOW_WINDOW_US))
                .map(|(a, b)| [a, b].map(whole)),
        });
    }
}

impl Measured {
    /// After a long pause nothing of what was measured holds, and clocks may have wrapped.
    fn hear(&mut self, now: Instant) {
        if self.heard_at.replace(now).is_some_and(|at| now.saturating_duration_since(at) > LONG_PAUSE) {
            self.start_over();
        }
    }

    /// Forgets everything but the rate.
    fn start_over(&mut self) {
        let (control, heard_at, sent_seen_bytes) = (std::mem::take(&mut self.control), self.heard_at, self.sent_seen_bytes);
        let (overhead_seen_bytes, began, is_ready) = (self.overhead_seen_bytes, self.began, self.is_ready);
        *self = Self { control, heard_at, sent_seen_bytes, overhead_seen_bytes, began, is_ready, ..Self::default() };
        self.control.start_over();
    }

    fn on_arrival(&mut self, report: &mut Report, sent: &mut SendHistory, sequence: u16, arrival_us: i64) {
        let Some(packet) = sent.take_arrived(sequence) else { return };
        let bytes = u64::from(packet.bytes);
        report.arrived += u32::from(!packet.was_missing);
        report.recovered += u32::from(packet.was_missing);
        report.bytes += bytes;
        if report.oldest.is_none_or(|(oldest_us, _)| arrival_us < oldest_us) {
            report.oldest = Some((arrival_us, bytes));
        }
        if report.newest.is_none_or(|(_, newest_us)| arrival_us >= newest_us) {
            report.newest = Some((packet.sent_at, arrival_us));
        }
        // Wrapping differences of the send time are right as long as the clock of arrivals goes on with it.
        let sent_us = self.sent_us(packet.sent_at);
        self.queue.on_packet(arrival_us, arrival_us - sent_us);
        self.trendline.on_packet(packet.sent_at, arrival_us);
        self.trains.on_packet(packet.sent_at, arrival_us, bytes);
        self.prober.on_packet(packet.probe, packet.sent_at, arrival_us, bytes);
    }

    /// False if there is nothing new to tell.
    fn end_report(&mut self, report: &Report, sent: &SendHistory, at: SentAt, overhead_bytes: u64, wanted_bps: f64, now: Instant) -> bool {
        self.loss.add(report.arrived, report.missing, report.recovered);
        let Some((newest_sent, newest_us)) = report.newest else { return false };
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
        self.overhead.add(now_us, overhead_bytes.saturating_sub(self.overhead_seen_bytes));
        self.overhead_seen_bytes = overhead_bytes;
        let round_trip = Duration::from_micros(u64::try_from(at.us_since(newest_sent)).unwrap_or(0));
        // Smoothed as RFC 6298 does.
        let round_trip = self.round_trip.map_or(round_trip, |known| (known * 7 + round_trip) / 8);
        self.round_trip = Some(round_trip);
        let queue = self.queue.end_report().map(|us| Duration::from_micros(u64::try_from(us).unwrap_or(0)));
        let elapsed = self.reported_at.replace(now).map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.passed_queue = self.passed_queue.mul_f64((1.0 - PASSED_FADING_PER_S * elapsed.as_secs_f64()).max(0.0));
        if report.missing == 0 {
            self.passed_queue = self.passed_queue.max(queue.unwrap_or_default());
        }
        let has_queue = queue.is_some_and(|queue| queue > QUEUE_SEEN.max(self.passed_queue / 2));
        let is_mass = report.missing >= MASS && report.missing * MASS_OF >= report.missing + report.arrived;
        let is_again = self.collapsed_at.is_some_and(|at| now.saturating_duration_since(at) < BETWEEN_COLLAPSES);
        if is_mass && queue.is_some_and(|queue| queue > MASS_QUEUE) && !is_again {
            (self.has_collapsed, self.collapsed_at) = (true, Some(now));
        }
        // So many that one more or less does not matter.
        let few_packets_us = i64::try_from(10_000_000_000_000 / whole(self.control.target_bps()).max(1) / 100).unwrap_or(0);
        let signals = Signals {
            queue,
            usage: self.trendline.usage(),
            acked_bps: self.arrived.bps(ARRIVED_WINDOW_US),
            acked_now_bps: self.arrived.bps(ARRIVED_NOW_WINDOW_US.max(few_packets_us)),
            acked_quick_bps: self.arrived.bps(ARRIVED_NOW_WINDOW_US),
            acked_long_bps: self.arrived.bps(SENT_WINDOW_US),
            sent_bps: self.sent.bps(SENT_WINDOW_US),
            loss: self.loss.end_report(now_us, has_queue),
            inherent_loss: self.loss.inherent(),
            is_complete: report.missing == 0,
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
        let Followup { cut_for_loss, is_drained, is_other_way } = self.control.on_report(now, &signals, wanted_bps);
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
/// A queue of this length counts as one that may overflow, if none twice as long has passed without a loss lately.
const QUEUE_SEEN: Duration = Duration::from_millis(15);
const PASSED_FADING_PER_S: f64 = 0.02;

/// What would be sent at most.
fn wanted_bps(demand: Demand) -> f64 {
    rate::bits(demand.next_bps.unwrap_or(0).max(demand.now_bps)) / 8.0
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates are positive and far below 2^53")]
fn whole(bps: f64) -> u64 {
    bps as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::publish::twcc::TwccReceiver;
    use crate::rtp::rtcp::{RtcpPacket, packets};

    /// Transport-wide feedback that says of `count` packets from `base` on that they did not arrive.
    fn missing(base: u16, count: u16) -> Vec<u8> {
        let mut bytes = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        bytes.extend(base.to_be_bytes().into_iter().chain(count.to_be_bytes()));
        bytes.extend([0; 4]);
        let runs = (0..count).step_by(0x1fff).map(|before| (count - before).min(0x1fff));
        bytes.extend(runs.flat_map(u16::to_be_bytes));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes[3] = u8::try_from(bytes.len() / 4 - 1).unwrap();
        bytes
    }

    fn report(bandwidth: &mut Bandwidth, bytes: &[u8]) -> Result<(), Discard> {
        let RtcpPacket::TransportCc(feedback) = packets(bytes).next().unwrap().unwrap() else { panic!("no feedback") };
        bandwidth.on_transport_cc(&feedback, SentAt(1_000), Instant::now())
    }

    #[test]
    fn a_few_bytes_do_not_make_us_look_at_thousands_of_packets() {
        let mut bandwidth = Bandwidth::default();
        (0..100).for_each(|_| _ = bandwidth.sent.record(SentAt(0), &[0; 100]));
        assert_eq!(report(&mut bandwidth, &missing(1, u16::MAX)), Err(Discard::FeedbackUnfounded));
        assert_eq!(report(&mut bandwidth, &missing(60_000, 100)), Err(Discard::FeedbackUnfounded));
        let taken = (0..1_000).filter(|_| report(&mut bandwidth, &missing(1, 100)).is_ok()).count();
        assert_eq!(taken, LOOKS);
        bandwidth.sent.record(SentAt(0), &[0; 100]);
        assert!(report(&mut bandwidth, &missing(101, 1)).is_ok(), "what is sent later pays again");
    }

    #[test]
    fn remb_counts_until_something_better_is_heard() {
        let (mut bandwidth, now) = (Bandwidth::default(), Instant::now());
        bandwidth.on_remb(700_000, now);
        let told = bandwidth.take_change().unwrap();
        assert_eq!((told.target_bps, told.limit, bandwidth.take_change()), (700_000, Limit::Client, None));
        bandwidth.on_remb(300_000, now);
        assert_eq!(bandwidth.estimate().map(|estimate| estimate.target_bps), Some(300_000));
        (0..10).for_each(|_| _ = bandwidth.sent.record(SentAt(0), &[0; 100]));
        report(&mut bandwidth, &missing(1, 10)).unwrap();
        bandwidth.on_remb(5_000_000, now);
        assert_eq!(bandwidth.estimate().map(|estimate| estimate.target_bps), Some(300_000), "transport-wide feedback says more");
    }

    /// Sends a packet every 2 ms for half a second, which take so long; from the middle on every second one is lost.
    fn collapses(delay: Duration) -> bool {
        let (mut bandwidth, mut receiver, start) = (Bandwidth::default(), TwccReceiver::default(), Instant::now());
        let (short, mut has_collapsed) = (Duration::from_millis(10), false);
        for number in 0..250_u32 {
            let sent = Duration::from_millis(2) * number;
            let sequence = bandwidth.sent.record(SentAt(2_000 * number), &[0; 1_200]);
            let arrived = start + sent + if number < 125 { short } else { delay };
            if number < 125 || number % 2 == 0 {
                receiver.record(sequence, arrived);
            }
            let mut bytes = Vec::new();
            while receiver.write_feedback(&mut bytes, 1, 2, arrived) {}
            if !bytes.is_empty() {
                report(&mut bandwidth, &bytes).unwrap();
            }
            has_collapsed |= bandwidth.take_collapse();
            assert!(!bandwidth.take_collapse(), "it is told once");
        }
        has_collapsed
    }

    #[test]
    fn a_long_queue_that_drops_much_at_once_is_a_collapse_and_a_short_one_is_not() {
        assert!(collapses(Duration::from_millis(250)));
        assert!(!collapses(Duration::from_millis(40)));
    }
}
