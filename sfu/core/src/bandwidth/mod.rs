//! What the way to a subscriber carries: congestion control of one transport's downlink.
//!
//! In: every packet that is sent ([`history`]), what the client reports of them, and what the allocator would like to send
//! ([`Demand`]). Out: an [`Estimate`], and how many bytes a probe needs now ([`Bandwidth::probe_due`]).
//! A packet costs one entry in the history; all work is done when feedback comes, some 10 to 20 times a second.
//! [`delay`] and [`trendline`] measure the queue, [`overrun`] the one that is to come, [`loss`] what is lost, [`rate`] what arrives,
//! [`probe`] what more would;
//! [`control`] decides. Feedback: transport-wide (draft-holmer-rmcat-transport-wide-cc-extensions-01), RFC 8888, or REMB.

pub mod busy;
pub mod clock;
pub mod control;
pub mod delay;
pub mod drain;
pub mod history;
pub mod looks;
pub mod loss;
pub mod measured;
pub mod overrun;
pub mod pacer;
pub mod passage;
pub mod policed;
pub mod probe;
pub mod probe_plan;
pub mod rate;
pub mod resends;
pub mod still;
pub mod trains;
pub mod trendline;

use std::time::{Duration, Instant};

use crate::error::Discard;
use crate::ids::DownKey;
use crate::rtp::rtcp::{CongestionFeedback, TransportCc};
use control::MAX_BPS;
use history::{SendHistory, SentAt};
use looks::Looks;
use measured::{ARRIVED_NOW_WINDOW_US, ARRIVED_WINDOW_US, Measured, Report, SENT_WINDOW_US};
use pacer::Pacer;
use passage::Passage;
use rate::whole;
use resends::ResendCredit;

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
    /// The retransmissions among them.
    pub resent_bps: u64,
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
    /// Those of probes among them.
    pub probe_bytes: u64,
    /// Exists since a limit of the way was seen.
    pub pacer: Option<Box<Pacer>>,
    estimate: Option<Estimate>,
    told: Option<Estimate>,
    demand: Demand,
    resends: ResendCredit,
    looks: Looks,
    /// Exists from the first feedback or probe on.
    measured: Option<Box<Measured>>,
}

/// Smaller changes of the target are not told.
const TOLD_CHANGE_PERCENT: u64 = 2;
/// Packets of one RFC 8888 report that are looked up; of further ones nothing is learned.
const MAX_LOOK_UPS: usize = 512;
/// After so long without anything being sent, no queue is left.
const RESTING_US: i64 = 2_000_000;
/// Something is sent as long as the newest packet is no older.
const SENDING_US: i64 = 1_000_000;
/// So many packets on which nothing was reported are no chance.
const OWED_PACKETS: u16 = 5;

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
        if self.measured.as_ref().is_some_and(|measured| measured.is_heard()) {
            // What is measured here is more.
            return;
        }
        self.estimate = Some(Estimate {
            target_bps: bitrate_bps.min(whole(MAX_BPS)),
            link_capacity_bps: None,
            overhead_bps: 0,
            resent_bps: 0,
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
                None => measured.on_missing(&mut report, sent, status.sequence),
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
                None => measured.on_missing(&mut report, sent, sequence),
            }
        }
        self.end_report(&report, at, now);
    }

    fn end_report(&mut self, report: &Report, at: SentAt, now: Instant) {
        let Some(measured) = &mut self.measured else { return };
        let wanted = wanted_bps(self.demand);
        if !measured.end_report(report, &self.sent, at, [self.overhead_bytes, self.probe_bytes], wanted, now) {
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
        let bps = match (&self.measured, self.estimate) {
            (Some(measured), _) if measured.is_heard() => {
                measured.control.target_bps().max(measured.arrived.bps(ARRIVED_WINDOW_US).unwrap_or(0.0))
            }
            // A client that estimates by itself.
            (_, Some(said)) => rate::bits(said.target_bps) / 8.0,
            (_, None) => return true,
        };
        self.resends.take(bps, now)
    }

    /// What is asked for again has to wait for its turn with the pacer.
    pub fn holds_resend(&mut self, down: DownKey, sequence: u16, now: Instant) -> bool {
        let sent_bytes = self.sent.sent_bytes;
        self.pacer.as_mut().is_some_and(|pacer| pacer.holds_resend(down, sequence, sent_bytes, now))
    }

    /// A queue has overflown, and so much was lost that to resend it would take longer than a keyframe does; or it will, for much more
    /// is on its way than passes. True once.
    pub fn take_collapse(&mut self) -> bool {
        self.measured.as_mut().is_some_and(|measured| std::mem::take(&mut measured.has_collapsed))
    }

    /// What became of what was sent, by feedback since the last call; None: there was too little of either.
    pub fn take_passage(&mut self) -> Option<Passage> {
        self.measured.as_mut()?.passage.take()
    }

    /// The client has told by transport-wide numbers what arrived.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.measured.as_ref().is_some_and(|measured| measured.is_heard())
    }

    /// For how long the client has owed a word on what is sent to it. None: it owes none, or has never said one.
    #[must_use]
    pub fn owes_for(&self, at: SentAt, now: Instant) -> Option<Duration> {
        let measured = self.measured.as_deref()?;
        let first = measured.next_sequence?;
        let is_sending = at.us_since(self.sent.newest) < SENDING_US;
        if !is_sending || self.sent.next_sequence().wrapping_sub(first) < OWED_PACKETS {
            return None;
        }
        let said = now.saturating_duration_since(measured.heard_at?);
        // One that was sent little before is waited for since then.
        let sent = self.sent.sent_at(first).map(|sent| Duration::from_micros(u64::try_from(at.us_since(sent)).unwrap_or(0)));
        Some(sent.map_or(said, |sent| said.min(sent)))
    }

    /// Once a second: something is sent and nothing is heard of it, or nothing is sent of which something could be heard.
    pub fn on_second(&mut self, at: SentAt, now: Instant) {
        let Some(measured) = &mut self.measured else { return };
        let has_given_up = measured.give_up_probe(now);
        let sent_ago_us = at.us_since(self.sent.newest);
        let is_resting = sent_ago_us >= RESTING_US && measured.control.rest();
        if (0..1_000_000).contains(&sent_ago_us) {
            measured.control.on_silence(now);
        } else if !is_resting && !has_given_up {
            return;
        }
        self.publish(now);
    }

    /// Begins the first probe before anything was reported; true if packets of it are due from now on.
    pub fn start_first_probe(&mut self, now: Instant) -> bool {
        self.measured.is_none() && {
            self.measured = Some(Box::default());
            self.start_probe(false, now)
        }
    }

    /// A long probe is being sent.
    #[must_use]
    pub fn is_probing_long(&self) -> bool {
        self.measured.as_ref().is_some_and(|measured| measured.prober.is_long())
    }

    /// Begins a probe if one is worth its while; true if packets of one are due from now on. `may_be_long`: there is room for a long one.
    pub fn start_probe(&mut self, may_be_long: bool, now: Instant) -> bool {
        let wanted = wanted_bps(self.demand);
        let Some(measured) = self.measured.as_mut().filter(|measured| !measured.prober.is_busy()) else { return false };
        if !may_be_long && measured.control.is_long_probe_next(now) {
            return false;
        }
        let Some(order) = measured.control.probe(now, wanted, measured.trains.bps()) else { return false };
        self.sent.probe = measured.prober.start(order, self.sent.sent_bytes, now);
        true
    }

    /// Bytes of a probe that are due now; None: there is none, or it is sent.
    pub fn probe_due(&mut self, now: Instant) -> Option<u64> {
        let due = self.measured.as_mut().and_then(|measured| measured.prober.due(self.sent.sent_bytes, now));
        if due.is_none() {
            self.sent.probe = 0;
        }
        if let Some(pacer) = &mut self.pacer {
            pacer.forgive(self.sent.sent_bytes, now);
        }
        due
    }

    /// A packet was sent for the probe.
    pub fn on_probe_packet(&mut self, bytes: u64) {
        self.probe_bytes += bytes;
        if let Some(measured) = &mut self.measured {
            measured.prober.on_sent();
        }
    }

    fn publish(&mut self, now: Instant) {
        let Some(measured) = self.measured.as_ref().filter(|measured| measured.is_heard()) else { return };
        let control = &measured.control;
        let (limit, is_app_limited) = (control.limit(), control.is_app_limited());
        let (paced_bps, is_draining) = (control.paced_bps(now), control.is_draining());
        if self.pacer.is_some() || paced_bps.is_some() {
            self.pacer.get_or_insert_default().set_target(paced_bps, is_draining);
        }
        let known = self.estimate.filter(|known| (known.limit, known.is_app_limited) == (limit, is_app_limited));
        let overhead_bps = whole(measured.overhead.bps(SENT_WINDOW_US).unwrap_or(0.0));
        self.estimate = Some(Estimate {
            target_bps: whole(control.target_bps()),
            link_capacity_bps: control.capacity_bps().map(whole),
            overhead_bps,
            resent_bps: overhead_bps.saturating_sub(whole(measured.probes.bps(SENT_WINDOW_US).unwrap_or(0.0))),
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

/// What would be sent at most.
fn wanted_bps(demand: Demand) -> f64 {
    rate::bits(demand.next_bps.unwrap_or(0).max(demand.now_bps)) / 8.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::looks::LOOKS;
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
