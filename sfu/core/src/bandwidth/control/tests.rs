use super::super::policed::HOLDS_FOR;
use super::*;

const REPORT: Duration = Duration::from_millis(100);
const MBIT: f64 = 1e6;

/// Reports each 100 ms over a link of this rate with an endless queue; returns the control and the longest queue.
struct Link {
    control: Control,
    now: Instant,
    queue_bits: f64,
    /// What the control has called the way's own delay.
    base: Duration,
}

impl Link {
    fn new() -> Self {
        Self { control: Control::default(), now: Instant::now(), queue_bits: 0.0, base: Duration::ZERO }
    }

    /// Sends 95 % of the target for so long.
    fn run(&mut self, rate_bps: f64, foreign: Duration, reports: u32) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..reports {
            self.now += REPORT;
            let sent_bps = self.control.target_bps() * 0.95;
            let passed = (self.queue_bits / REPORT.as_secs_f64() + sent_bps).min(rate_bps);
            self.queue_bits = (self.queue_bits + (sent_bps - rate_bps) * REPORT.as_secs_f64()).max(0.0);
            let delay = foreign + Duration::from_secs_f64(self.queue_bits / rate_bps);
            let queue = delay.saturating_sub(self.base);
            longest = longest.max(queue);
            let signals = Signals {
                queue: Some(queue),
                acked_bps: Some(passed),
                acked_now_bps: Some(passed),
                sent_bps: Some(sent_bps),
                round_trip: Duration::from_millis(100),
                is_complete: true,
                ..Signals::default()
            };
            if self.control.on_report(self.now, &signals, 10.0 * MBIT).is_other_way {
                self.base = delay;
            }
        }
        longest
    }
}

#[test]
fn the_rate_settles_below_the_links_without_a_long_queue() {
    let mut link = Link::new();
    link.run(MBIT, Duration::ZERO, 300);
    let longest = link.run(MBIT, Duration::ZERO, 300);
    assert!(longest < Duration::from_millis(120), "{longest:?}");
    let target = link.control.target_bps();
    assert!((0.8 * MBIT..1.15 * MBIT).contains(&target), "{target}");
}

#[test]
fn a_queue_that_does_not_go_away_is_somebody_elses() {
    let mut link = Link::new();
    link.run(2.0 * MBIT, Duration::ZERO, 300);
    link.run(2.0 * MBIT, Duration::from_millis(200), 100);
    assert!(link.control.target_bps() > MBIT, "{}", link.control.target_bps());
}

#[test]
fn a_longer_way_is_no_queue() {
    let mut link = Link::new();
    link.run(10.0 * MBIT, Duration::ZERO, 100);
    let before = link.control.target_bps();
    link.run(10.0 * MBIT, Duration::from_millis(390), 18);
    assert!(link.control.target_bps() >= before, "{before} {}", link.control.target_bps());
    assert_eq!(link.control.limit(), Limit::None);
}

#[test]
fn a_queue_that_was_there_when_everything_stopped_is_gone_after_a_while() {
    let mut link = Link::new();
    link.run(MBIT, Duration::ZERO, 300);
    link.run(0.1 * MBIT, Duration::ZERO, 4);
    assert_eq!(link.control.probe(link.now + REPORT * 20, MBIT, None), None);
    assert!(link.control.rest() && !link.control.rest());
    let later = link.now + Duration::from_secs(30);
    assert!(link.control.probe(later, MBIT, None).is_some());
}

#[test]
fn what_flows_already_need_not_be_probed() {
    let mut control = Control::default();
    let arrives = Some(1.75 * MBIT);
    let signals = Signals { queue: Some(Duration::ZERO), acked_bps: arrives, acked_now_bps: arrives, ..Signals::default() };
    control.on_report(Instant::now(), &signals, 0.0);
    assert!((1.75 * MBIT..1.76 * MBIT).contains(&control.target_bps()), "{}", control.target_bps());
}

#[test]
fn a_small_call_is_not_stopped_to_empty_a_queue() {
    let mut link = Link::new();
    link.run(0.3 * MBIT, Duration::ZERO, 20);
    let mut least = f64::MAX;
    for _ in 0..300 {
        link.run(0.3 * MBIT, Duration::ZERO, 1);
        least = least.min(link.control.target_bps());
    }
    assert!(least > 0.2 * MBIT, "{least}");
}

/// A control that was sent more than this rate, of which a fifth was lost without a queue, and when; this share of it had passed before.
fn policed(bps: f64, passed: f64) -> (Control, Instant) {
    let (mut control, now) = (Control::default(), Instant::now());
    let arrives = Some(bps);
    let signals = Signals { queue: Some(Duration::ZERO), acked_bps: arrives, acked_now_bps: arrives, ..Signals::default() };
    control.on_report(now, &Signals { is_complete: true, acked_long_bps: Some(bps * passed), ..signals }, 10.0 * MBIT);
    let later = now + Duration::from_secs(1);
    let loss = Signals { loss: Some(Finding::Excess(0.2)), sent_bps: Some(bps * 1.25), ..signals };
    control.on_report(later, &loss, 10.0 * MBIT);
    assert_eq!(control.limit(), Limit::Loss);
    (control, later)
}

#[test]
fn loss_of_no_more_than_what_has_passed_is_no_policer() {
    let is_met = |bps, passed| policed(bps, passed).0.policed.is_some();
    assert!(is_met(MBIT, 0.8) && !is_met(MBIT, 1.25));
    assert!(!is_met(0.04 * MBIT, 0.8), "a voice alone");
}

#[test]
fn where_loss_came_without_a_queue_a_short_probe_is_believed_little_and_then_a_long_one_has_to_pass() {
    let (mut control, met) = policed(1.5 * MBIT, 0.8);
    let soon = met + Duration::from_secs(3);
    let order = control.probe(soon, 10.0 * MBIT, None).expect("it may be tried");
    assert!(!order.is_long && order.rate_bps < 1.9 * MBIT, "{order:?}");
    control.on_probe(
        soon,
        Outcome { tried_bps: 4.0 * MBIT, passed_bps: Some(4.0 * MBIT), has_filled: false, is_long: false },
        Duration::ZERO,
    );
    assert!(control.target_bps() < 1.8 * MBIT, "{}", control.target_bps());
    let later = met + HOLDS_FOR + Duration::from_secs(1);
    let order = control.probe(later, 10.0 * MBIT, None).expect("it is time");
    assert!(order.is_long, "{order:?}");
    control.on_probe(later, Outcome { tried_bps: order.rate_bps, passed_bps: None, has_filled: false, is_long: true }, Duration::ZERO);
    assert!(!control.probe(later + HOLDS_FOR, 10.0 * MBIT, None).is_some_and(|order| order.is_long));
    let last = later + HOLDS_FOR * 2 + Duration::from_secs(1);
    let order = control.probe(last, 10.0 * MBIT, None).expect("it is time again");
    control.on_probe(
        last,
        Outcome { tried_bps: order.rate_bps, passed_bps: Some(order.rate_bps), has_filled: false, is_long: true },
        Duration::ZERO,
    );
    assert!(control.policed.is_none() && control.target_bps() > 2.0 * MBIT, "{}", control.target_bps());
}

#[test]
fn an_overrun_cuts_to_what_passes_and_waits_for_what_is_on_its_way() {
    let mut link = Link::new();
    link.run(4.0 * MBIT, Duration::ZERO, 300);
    let signals = Signals {
        queue: Some(Duration::from_millis(3)),
        overrun: Some(Overrun { rate_bps: MBIT, queue: Duration::from_millis(400) }),
        acked_bps: Some(3.0 * MBIT),
        acked_now_bps: Some(2.0 * MBIT),
        round_trip: Duration::from_millis(100),
        ..Signals::default()
    };
    assert!(link.control.on_report(link.now, &signals, 10.0 * MBIT).is_overrun);
    assert!((0.4 * MBIT..0.6 * MBIT).contains(&link.control.target_bps()), "{}", link.control.target_bps());
    let next = Signals { acked_bps: Some(2.0 * MBIT), ..signals };
    assert!(!link.control.on_report(link.now + REPORT, &next, 10.0 * MBIT).is_overrun, "that is known");
    assert!(link.control.is_draining() && link.control.target_bps() < 0.6 * MBIT, "the queue is only to come");
}

#[test]
fn nothing_grows_beyond_what_is_wanted_or_arrives() {
    let mut control = Control::default();
    let mut now = Instant::now();
    for _ in 0..1_000 {
        now += REPORT;
        let signals = Signals {
            queue: Some(Duration::ZERO),
            acked_bps: Some(400_000.0),
            acked_now_bps: Some(400_000.0),
            sent_bps: Some(1e9),
            ..Signals::default()
        };
        control.on_report(now, &signals, 10.0 * MBIT);
    }
    assert!(control.target_bps() <= 610_001.0, "{}", control.target_bps());
}
