//! The scenarios: RFC 8867 section 5, RFC 8869 in its spirit, and what users have.

use std::time::Duration;

use super::{Bars, FlowSpec, Scenario};
use crate::link::{Chance, Jitter, LinkConfig, Loss};
use crate::tcp::TcpConfig;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MBIT: u64 = 1_000_000;
const KBIT: u64 = 1_000;

/// Of flows that share a link.
const FAIRNESS: f64 = 0.9;
const RATIO: f64 = 3.0;
/// The longest freeze when a link becomes narrow.
const FREEZE_MS: f64 = 500.0;

/// One flow that wants more than there is, over a road of one rate with a queue of 300 ms.
fn base(name: &'static str, length_s: u32, rate_bps: u64, delay_ms: u32) -> Scenario {
    Scenario {
        name,
        length: SECOND * length_s,
        rates: vec![(Duration::ZERO, rate_bps)],
        queue: MS * 300,
        loss: Loss::None,
        jitter: Jitter::None,
        back: LinkConfig::default(),
        flows: vec![flow(0, delay_ms)],
        tcp: Vec::new(),
        bars: Bars::default(),
        goals: Bars::default(),
    }
}

fn flow(start_s: u32, delay_ms: u32) -> FlowSpec {
    FlowSpec { start: SECOND * start_s, delay: MS * delay_ms, wanted_bps: 20 * MBIT, pause: None }
}

fn rates(timetable: &[(u32, u64)]) -> Vec<(Duration, u64)> {
    timetable.iter().map(|&(at_s, bps)| (SECOND * at_s, bps)).collect()
}

/// RFC 8867 section 5.1: one flow, the capacity changes.
fn variable(name: &'static str, delay_ms: u32, bars: Bars) -> Scenario {
    let timetable = [(0, MBIT), (40, 5 * MBIT / 2), (60, 600 * KBIT), (80, MBIT)];
    Scenario { rates: rates(&timetable), bars, ..base(name, 100, MBIT, delay_ms) }
}

fn random(percent: f64) -> Loss {
    Loss::Random(Chance::percent(percent))
}

fn tcp(start: Duration, segments: Option<u64>) -> TcpConfig {
    TcpConfig { start, segments, round_trip: MS * 100 }
}

/// All of them, in the order of the table.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let variable_bars =
        Bars { utilisation: Some(85.0), queue_p95: Some(120.0), dropped: Some(2.0), down: Some(1.5), up: Some(8.0), ..Bars::default() };
    let utilisation = |percent: f64| Bars { utilisation: Some(percent), queue_p95: Some(120.0), ..Bars::default() };
    let bursts =
        Loss::Bursts { to_bad: Chance::percent(0.4), to_good: Chance::percent(20.0), in_good: Chance::default(), in_bad: Chance::new(1.0) };
    vec![
        variable("5.1, 50 ms", 50, Bars { freeze: Some(FREEZE_MS), ..variable_bars }),
        variable("5.1, 100 ms", 100, Bars { freeze: Some(FREEZE_MS), ..variable_bars }),
        Scenario { loss: random(2.0), ..variable("5.1, 2 % loss", 50, utilisation(80.0)) },
        Scenario { loss: random(10.0), ..variable("5.1, 10 % loss", 50, utilisation(60.0)) },
        Scenario { loss: bursts, ..variable("5.1, bursts of loss", 50, utilisation(70.0)) },
        Scenario { jitter: Jitter::Ordered(MS * 30), ..variable("5.1, 30 ms of jitter", 50, utilisation(60.0)) },
        Scenario { jitter: Jitter::Reordering(MS * 15), ..variable("5.1, reordering", 50, utilisation(60.0)) },
        Scenario {
            back: LinkConfig { loss: random(5.0), ..LinkConfig::delayed(MS * 150) },
            bars: Bars {
                utilisation: Some(75.0),
                queue_p95: Some(180.0),
                dropped: Some(4.0),
                down: Some(2.5),
                up: Some(10.0),
                ..Bars::default()
            },
            ..variable("5.1, feedback 5 % lost, 200 ms late", 50, variable_bars)
        },
        Scenario {
            rates: rates(&[(0, 4 * MBIT), (25, 2 * MBIT), (50, 7 * MBIT / 2), (75, MBIT), (100, 2 * MBIT)]),
            flows: vec![flow(0, 50), flow(0, 50)],
            bars: Bars { fairness: Some(FAIRNESS), ..utilisation(80.0) },
            ..base("5.2, two flows", 125, 4 * MBIT, 50)
        },
        Scenario {
            rates: rates(&[(0, 2 * MBIT), (20, MBIT), (40, 500 * KBIT), (60, 2 * MBIT)]),
            back: LinkConfig { loss: random(5.0), ..LinkConfig::delayed(MS * 100) },
            bars: Bars { queue_p95: Some(180.0), ..utilisation(75.0) },
            ..base("5.3, congested feedback", 100, 2 * MBIT, 50)
        },
        Scenario {
            flows: vec![flow(0, 50), flow(20, 50), flow(40, 50)],
            bars: Bars { fairness: Some(FAIRNESS), ..utilisation(80.0) },
            ..base("5.4, three flows", 120, 7 * MBIT / 2, 50)
        },
        Scenario {
            flows: [10, 25, 50, 100, 150].map(|delay_ms| flow(0, delay_ms)).to_vec(),
            bars: Bars { ratio: Some(RATIO), ..utilisation(80.0) },
            ..base("5.5, round trip times", 120, 4 * MBIT, 50)
        },
        Scenario {
            tcp: vec![tcp(SECOND * 5, None)],
            bars: Bars { share: Some(25.0), ..Bars::default() },
            ..base("5.6, one long TCP", 120, 2 * MBIT, 50)
        },
        Scenario {
            tcp: (0..10).map(|number| tcp(SECOND * 5 + SECOND * 9 * number, Some(300))).collect(),
            bars: Bars { share: Some(50.0), ..Bars::default() },
            ..base("5.7, ten short TCPs", 120, 2 * MBIT, 50)
        },
        Scenario {
            flows: vec![FlowSpec { pause: Some((SECOND * 40, SECOND * 60)), ..flow(0, 50) }],
            bars: Bars { up: Some(3.0), ..utilisation(85.0) },
            ..base("5.8, paused for 20 s", 100, 2 * MBIT, 50)
        },
        Scenario {
            flows: vec![FlowSpec { wanted_bps: 5 * MBIT, ..flow(0, 25) }],
            bars: Bars { up: Some(2.0), ..utilisation(90.0) },
            ..base("5 of 10 Mbit/s", 30, 10 * MBIT, 25)
        },
        Scenario {
            rates: rates(&[(0, 4 * MBIT), (30, MBIT), (60, 4 * MBIT)]),
            bars: Bars { down: Some(1.5), up: Some(8.0), freeze: Some(FREEZE_MS), ..utilisation(85.0) },
            ..base("4, 1, 4 Mbit/s", 90, 4 * MBIT, 25)
        },
        Scenario { queue: MS * 50, bars: Bars { dropped: Some(3.0), ..utilisation(80.0) }, ..base("queue of 50 ms", 60, 2 * MBIT, 50) },
        Scenario { queue: MS * 25, bars: utilisation(60.0), ..base("queue of 25 ms", 60, 5 * MBIT, 25) },
        Scenario { queue: SECOND, bars: utilisation(85.0), ..base("queue of 1 s", 60, MBIT, 50) },
        Scenario { bars: utilisation(75.0), ..base("300 kbit/s", 60, 300 * KBIT, 50) },
        Scenario { ..base("150 kbit/s", 60, 150 * KBIT, 50) },
        Scenario {
            flows: vec![FlowSpec { wanted_bps: 12 * MBIT, ..flow(0, 20) }],
            bars: Bars { up: Some(3.0), ..utilisation(85.0) },
            ..base("12 of 20 Mbit/s", 25, 20 * MBIT, 20)
        },
        Scenario { loss: random(3.0), bars: utilisation(75.0), ..base("3 % loss, 200 ms round trip", 60, 2 * MBIT, 100) },
        Scenario { bars: utilisation(80.0), ..base("400 ms round trip", 60, 2 * MBIT, 200) },
        Scenario {
            rates: (0..12).map(|step| (SECOND * 5 * step, if step % 2 == 0 { 2 * MBIT } else { MBIT })).collect(),
            bars: Bars { down: Some(1.5), ..Bars::default() },
            ..base("1 and 2 Mbit/s by turns", 60, 2 * MBIT, 30)
        },
        Scenario {
            rates: rates(&[(0, 2 * MBIT), (30, 50 * KBIT), (33, 2 * MBIT)]),
            bars: Bars { up: Some(8.0), ..Bars::default() },
            ..base("nearly nothing for 3 s", 60, 2 * MBIT, 30)
        },
        Scenario {
            jitter: Jitter::Reordering(MS * 20),
            loss: bursts,
            bars: utilisation(70.0),
            ..base("bad Wi-Fi, 5 Mbit/s", 60, 5 * MBIT, 15)
        },
        Scenario {
            flows: vec![flow(0, 50), FlowSpec { wanted_bps: 400 * KBIT, ..flow(10, 50) }],
            bars: Bars { queue_p95: Some(120.0), ..Bars::default() },
            ..base("beside a small flow", 60, 2 * MBIT, 50)
        },
        Scenario {
            tcp: vec![tcp(SECOND * 20, Some(2_500))],
            bars: Bars { up: Some(8.0), ..Bars::default() },
            ..base("a download of 4 MB", 90, 4 * MBIT, 40)
        },
    ]
}
