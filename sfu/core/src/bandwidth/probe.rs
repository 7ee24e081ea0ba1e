//! Probes: for a moment more is sent than the estimate allows, to see whether that much arrives.
//!
//! In: what a probe should reach ([`Prober::start`]), packets of it that arrive. Out: how many bytes are due now, and what was
//! measured. A probe is retransmissions of recent packets, or padding; media that is sent meanwhile is part of it.
//! Numbers are those of libwebrtc's `bitrate_prober.cc` and `probe_bitrate_estimator.cc` where nothing else is said.

use std::time::{Duration, Instant};

use super::history::SentAt;
use super::rate::micros;

/// A probe lasts so long at its rate.
const LENGTH: Duration = Duration::from_millis(25);
/// One that is to empty a policer's bucket lasts so long, and nearly all of it has to arrive.
const LONG: Duration = Duration::from_millis(250);
pub(super) const LONG_ARRIVES: f64 = 0.95;
/// But it has so many packets and bytes at least.
const MIN_PACKETS: u32 = 5;
const MIN_BYTES: u64 = 1_500;
/// One that is not sent after this time is given up.
const MAX_LENGTH: Duration = Duration::from_millis(300);
/// Its result is not waited for any longer.
const MAX_WAIT: Duration = Duration::from_millis(1_500);
/// So many of its packets have to arrive.
pub(super) const ARRIVES: f64 = 0.7;
/// What arrives slower than this share of how it was sent has filled the link ...
const FILLED: f64 = 0.9;
/// ... and so much of it is taken then.
const OF_FILLED: f64 = 0.95;

/// What came of a probe.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Outcome {
    /// Rate that it tried.
    pub tried_bps: f64,
    /// Rate that was shown to pass; None: too little of it arrived.
    pub passed_bps: Option<f64>,
    /// It arrived more slowly than it was sent: that is all that passes now.
    pub has_filled: bool,
    /// It was a long one.
    pub is_long: bool,
}

/// What a probe should do.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Order {
    /// Rate that it should try.
    pub rate_bps: f64,
    /// So long that what passes for a moment only does not pass.
    pub is_long: bool,
    /// Share of it that has to arrive.
    pub least: f64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Prober {
    last_number: u8,
    current: Option<Probe>,
}

#[derive(Clone, Debug)]
struct Probe {
    number: u8,
    rate_bps: f64,
    is_long: bool,
    least: f64,
    started: Instant,
    /// Bytes sent on the transport before.
    sent_before: u64,
    goal_bytes: u64,
    /// Packets and bytes of it, once all of it is sent.
    sent: Option<(u32, u64)>,
    packets: u32,
    arrived: Arrived,
}

#[derive(Clone, Debug, Default)]
struct Arrived {
    packets: u32,
    bytes: u64,
    /// Send time and bytes of the first and the last one sent; arrival and bytes of the first and the last one arrived.
    sent: Option<[(SentAt, u64); 2]>,
    arrived: Option<[(i64, u64); 2]>,
    /// Something that was sent later has arrived.
    is_over: bool,
}

impl Prober {
    /// A probe is being sent or its result is awaited.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.current.is_some()
    }

    /// It is a long one.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.current.as_ref().is_some_and(|probe| probe.is_long)
    }

    /// Something of a probe is still to be sent.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.current.as_ref().is_some_and(|probe| probe.sent.is_none())
    }

    /// Begins a probe; returns the number that its packets are to be marked with. `sent_bytes`: sent on the transport so far.
    pub fn start(&mut self, order: Order, sent_bytes: u64, now: Instant) -> u8 {
        let Order { rate_bps, is_long, least } = order;
        let length = if is_long { LONG } else { LENGTH };
        self.last_number = if self.last_number == u8::MAX { 1 } else { self.last_number + 1 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive and far below 2^53")]
        let goal_bytes = ((rate_bps / 8.0 * length.as_secs_f64()) as u64).max(MIN_BYTES);
        self.current = Some(Probe {
            number: self.last_number,
            rate_bps,
            is_long,
            least,
            started: now,
            sent_before: sent_bytes,
            goal_bytes,
            sent: None,
            packets: 0,
            arrived: Arrived::default(),
        });
        self.last_number
    }

    /// Bytes that are due now; None: the probe is sent.
    pub fn due(&mut self, sent_bytes: u64, now: Instant) -> Option<u64> {
        let probe = self.current.as_mut().filter(|probe| probe.sent.is_none())?;
        let elapsed = now.saturating_duration_since(probe.started);
        let bytes = sent_bytes.saturating_sub(probe.sent_before);
        if (bytes >= probe.goal_bytes && probe.packets >= MIN_PACKETS) || elapsed > MAX_LENGTH {
            probe.sent = Some((probe.packets, bytes));
            return None;
        }
        // A millisecond ahead, the grid of the owner's timers.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate is positive and far below 2^53")]
        let allowed = (probe.rate_bps / 8.0 * (elapsed + Duration::from_millis(1)).as_secs_f64()) as u64;
        Some(allowed.saturating_sub(bytes))
    }

    /// A packet was sent on purpose for the probe.
    pub fn on_sent(&mut self) {
        if let Some(probe) = &mut self.current {
            probe.packets += 1;
        }
    }

    /// A packet arrived.
    pub fn on_packet(&mut self, number: u8, sent: SentAt, arrival_us: i64, bytes: u64) {
        let Some(probe) = &mut self.current else { return };
        let all = &mut probe.arrived;
        if number != probe.number {
            all.is_over |= all.sent.is_some_and(|[_, (last, _)]| sent.us_since(last) > 0) && probe.sent.is_some();
            return;
        }
        all.packets += 1;
        all.bytes += bytes;
        let [first, last] = all.sent.get_or_insert([(sent, bytes); 2]);
        if sent.us_since(first.0) < 0 {
            *first = (sent, bytes);
        }
        if sent.us_since(last.0) >= 0 {
            *last = (sent, bytes);
        }
        let [first, last] = all.arrived.get_or_insert([(arrival_us, bytes); 2]);
        if arrival_us < first.0 {
            *first = (arrival_us, bytes);
        }
        if arrival_us >= last.0 {
            *last = (arrival_us, bytes);
        }
    }

    /// End of a report: what came of the probe, if that is clear.
    pub fn end_report(&mut self, now: Instant) -> Option<Outcome> {
        let probe = self.current.as_ref()?;
        let is_late = now.saturating_duration_since(probe.started) > MAX_WAIT;
        let (_, bytes) = probe.sent.or(is_late.then_some((0, probe.goal_bytes)))?;
        if !(probe.arrived.is_over || probe.arrived.bytes >= bytes || is_late) {
            return None;
        }
        let passed = probe.arrived.passed(bytes, probe.least);
        let (passed_bps, has_filled) = (passed.map(|(bps, _)| bps), passed.is_some_and(|(_, has_filled)| has_filled));
        let outcome = Outcome { tried_bps: probe.rate_bps, passed_bps, has_filled, is_long: probe.is_long };
        self.current = None;
        Some(outcome)
    }
}

impl Arrived {
    /// At which rate it passed, and whether it filled the link. `least`: share of it that has to arrive.
    fn passed(&self, sent_bytes: u64, least: f64) -> Option<(f64, bool)> {
        let ([(first_sent, _), (last_sent, last_bytes)], [(first_us, first_bytes), (last_us, _)]) = (self.sent?, self.arrived?);
        let (send_us, receive_us) = (last_sent.us_since(first_sent), last_us - first_us);
        if self.packets + 1 < MIN_PACKETS || count(self.bytes) < count(sent_bytes) * least || send_us <= 0 || receive_us <= 0 {
            return None;
        }
        let sent_bps = count(self.bytes - last_bytes) * 8e6 / micros(send_us);
        let received_bps = count(self.bytes - first_bytes) * 8e6 / micros(receive_us);
        // The first and the last packet may differ in length.
        let has_filled = micros(send_us) < FILLED * micros(receive_us);
        Some((if has_filled { received_bps * OF_FILLED } else { sent_bps.min(received_bps) }, has_filled))
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact below 2^52")]
fn count(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Probes a link of this rate at another; returns the outcome.
    fn probe(tried_bps: f64, link_bps: f64) -> Option<Outcome> {
        let (mut prober, start) = (Prober::default(), Instant::now());
        let number = prober.start(Order { rate_bps: tried_bps, is_long: false, least: ARRIVES }, 0, start);
        let (mut sent_bytes, mut free_us, mut arrivals) = (0_u64, 0.0_f64, Vec::new());
        for ms in 0..400_u32 {
            let now = start + Duration::from_millis(1) * ms;
            let Some(mut due) = prober.due(sent_bytes, now) else { break };
            while due > 0 {
                free_us = free_us.max(f64::from(ms) * 1e3) + 1_000.0 * 8e6 / link_bps;
                #[expect(clippy::cast_possible_truncation, reason = "some seconds")]
                arrivals.push((SentAt(ms * 1_000), free_us as i64));
                sent_bytes += 1_000;
                prober.on_sent();
                due = due.saturating_sub(1_000);
            }
        }
        for (sent, arrival_us) in arrivals {
            prober.on_packet(number, sent, arrival_us, 1_000);
        }
        prober.end_report(start + Duration::from_millis(500))
    }

    #[test]
    fn a_probe_that_passes_shows_what_it_tried() {
        let passed = probe(2e6, 1e8).and_then(|outcome| outcome.passed_bps).unwrap();
        assert!((1.6e6..2.6e6).contains(&passed), "{passed}");
    }

    #[test]
    fn a_probe_that_fills_the_link_shows_what_that_carries() {
        let passed = probe(4e6, 1e6).and_then(|outcome| outcome.passed_bps).unwrap();
        assert!((0.9e6..1.0e6).contains(&passed), "{passed}");
    }

    #[test]
    fn a_long_probe_does_not_fit_into_a_bucket_and_a_short_one_does() {
        for (is_long, expected) in [(false, true), (true, false)] {
            let (mut prober, start) = (Prober::default(), Instant::now());
            let number = prober.start(Order { rate_bps: 2e6, is_long, least: if is_long { LONG_ARRIVES } else { ARRIVES } }, 0, start);
            // 1.5 Mbit/s and 11 kB.
            let (mut sent_bytes, mut bucket) = (0_u64, 11_000.0_f64);
            for ms in 0..400_u32 {
                let Some(mut due) = prober.due(sent_bytes, start + Duration::from_millis(1) * ms) else { break };
                bucket = (bucket + 187.5).min(11_000.0);
                while due > 0 {
                    (sent_bytes, due) = (sent_bytes + 1_000, due.saturating_sub(1_000));
                    prober.on_sent();
                    if bucket >= 1_000.0 {
                        bucket -= 1_000.0;
                        prober.on_packet(number, SentAt(ms * 1_000), i64::from(ms) * 1_000, 1_000);
                    }
                }
            }
            prober.on_packet(0, SentAt(500_000), 500_000, 1_000);
            let outcome = prober.end_report(start + Duration::from_millis(500)).unwrap();
            assert_eq!((outcome.passed_bps.is_some(), outcome.is_long), (expected, is_long));
        }
    }

    #[test]
    fn a_probe_of_which_too_little_arrives_shows_nothing() {
        let (mut prober, start) = (Prober::default(), Instant::now());
        let number = prober.start(Order { rate_bps: 1e6, is_long: false, least: ARRIVES }, 0, start);
        prober.on_packet(number, SentAt(0), 0, 200);
        assert_eq!(prober.end_report(start), None);
        let late = start + MAX_WAIT + Duration::from_millis(1);
        assert_eq!(prober.end_report(late), Some(Outcome { tried_bps: 1e6, passed_bps: None, has_filled: false, is_long: false }));
        assert!(!prober.is_busy());
    }
}
