//! Other implementations of congestion control on the scenarios of our scorecard, over the same roads, with the same encoder.
//!
//! `cargo run --manifest-path benches/bwe/Cargo.toml > benches/results/bwe.md` (some minutes).

mod interceptor;
mod reference;

use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use sfu_sim::clock::Clock;
use sfu_sim::link::{Link, LinkConfig};
use sfu_sim::road::{BIN, Road};
use sfu_sim::scorecard::{CONTROL_INTERVAL, Card, FlowLog, OF_ESTIMATE, PAYLOAD_SHARE, Scenario, engine, scenarios};
use sfu_sim::seed::Seed;
use std::time::Instant;

const SEED: u64 = 8867;
const STEP: Duration = Duration::from_millis(1);
const FPS: u32 = 30;
const MAX_PAYLOAD: usize = 1_180;
/// Frames of a keyframe's size, as in the simulated camera.
const KEYFRAME: f64 = 4.0;
const MIN_BPS: f64 = 30_000.0;

/// A sender with its receiver: datagrams in, datagrams out.
trait Pair {
    /// Both ends, before anything was sent.
    fn new(start: Instant) -> Self
    where
        Self: Sized;
    /// The media that is to be sent now: payloads of one frame.
    fn frame(&mut self, now: Instant, payload_lens: &[usize]) -> anyhow::Result<()>;
    /// What the sender wants to send at most, and sends.
    fn wants(&mut self, wanted_bps: u64, sending_bps: u64);
    /// A datagram reaches the receiver, or (`is_back`) the sender.
    fn receive(&mut self, now: Instant, is_back: bool, datagram: &[u8]) -> anyhow::Result<()>;
    /// Lets time pass at both ends; what they send: to the receiver, to the sender.
    fn poll(&mut self, now: Instant) -> anyhow::Result<[Vec<Vec<u8>>; 2]>;
    /// Bits per second.
    fn estimate_bps(&self) -> u64;
    /// Media may be sent.
    fn is_connected(&self) -> bool;
}

struct Flow<P> {
    pair: P,
    there: Link<Vec<u8>>,
    back: Link<Vec<u8>>,
    next_frame: Option<Instant>,
    is_first: bool,
    log: FlowLog,
}

fn run<P: Pair>(scenario: &Scenario, seed: u64) -> anyhow::Result<Vec<FlowLog>> {
    let (mut clock, seed) = (Clock::new(), Seed::new(seed));
    let mut rng: StdRng = seed.rng("encoder");
    let mut flows = Vec::new();
    for (index, spec) in scenario.flows.iter().enumerate() {
        let link = |purpose: String, config| Link::new(config, seed.rng(&purpose));
        let back = LinkConfig { delay: scenario.back.delay + spec.delay, ..scenario.back };
        flows.push(Flow {
            pair: P::new(clock.now()),
            there: link(format!("there {index}"), LinkConfig::delayed(spec.delay)),
            back: link(format!("back {index}"), back),
            next_frame: None,
            is_first: true,
            log: FlowLog::default(),
        });
    }
    // Handshakes first, over roads that are perfect but for the delay.
    while clock.elapsed() < Duration::from_secs(3) && !flows.iter().all(|flow| flow.pair.is_connected()) {
        for flow in &mut flows {
            step(flow, clock.now(), |now, datagram, there| there.send(now, datagram.len() + 28, datagram))?;
        }
        clock.advance(STEP);
    }
    let start = clock.now();
    let mut road: Road<Vec<u8>> = Road::new(scenario.road(), flows.len(), start, seed.rng("road"));
    let (mut next_control, mut next_bin) = (start, start + BIN);
    while clock.now() < start + scenario.length {
        let now = clock.now();
        let elapsed = now - start;
        for (index, bytes, datagram) in road.poll(now) {
            flows[index].there.send(now, bytes, datagram);
        }
        for (index, (flow, spec)) in flows.iter_mut().zip(&scenario.flows).enumerate() {
            let is_on = elapsed >= spec.start && spec.pause.is_none_or(|(from, to)| elapsed < from || elapsed >= to);
            let bps = (flow.pair.estimate_bps() as f64 * OF_ESTIMATE).clamp(MIN_BPS, spec.wanted_bps as f64);
            if now >= next_control {
                flow.pair.wants(if is_on { spec.wanted_bps } else { 0 }, bps as u64);
            }
            if is_on && flow.next_frame.is_none_or(|at| at <= now) {
                flow.next_frame = Some(flow.next_frame.filter(|at| now - *at < BIN).unwrap_or(now) + Duration::from_secs(1) / FPS);
                let factor = if std::mem::take(&mut flow.is_first) { KEYFRAME } else { 1.0 };
                let bytes = bps * PAYLOAD_SHARE / 8.0 / f64::from(FPS) * factor * rng.random_range(0.75..1.25);
                flow.pair.frame(now, &cut(bytes as usize))?;
            }
            step(flow, now, |now, datagram, _| road.send(now, index, datagram.len() + 28, datagram))?;
            if now >= next_bin {
                flow.log.estimates_bps.push(if elapsed >= spec.start { flow.pair.estimate_bps() } else { 0 });
            }
        }
        if now >= next_control {
            next_control += CONTROL_INTERVAL;
        }
        if now >= next_bin {
            next_bin += BIN;
        }
        clock.advance(STEP);
    }
    let finish = |(index, flow): (usize, Flow<P>)| FlowLog { meter: road.meter(index).clone(), ..flow.log };
    Ok(flows.into_iter().enumerate().map(finish).collect())
}

/// Delivers what has arrived, and carries what both ends send.
fn step<P: Pair>(flow: &mut Flow<P>, now: Instant, mut send: impl FnMut(Instant, Vec<u8>, &mut Link<Vec<u8>>)) -> anyhow::Result<()> {
    while let Some(datagram) = flow.there.receive(now) {
        flow.pair.receive(now, false, &datagram)?;
    }
    while let Some(datagram) = flow.back.receive(now) {
        flow.pair.receive(now, true, &datagram)?;
    }
    let [there, back] = flow.pair.poll(now)?;
    there.into_iter().for_each(|datagram| send(now, datagram, &mut flow.there));
    for datagram in back {
        flow.back.send(now, datagram.len() + 28, datagram);
    }
    Ok(())
}

/// A frame in packets of about the same size.
fn cut(bytes: usize) -> Vec<usize> {
    let count = bytes.div_ceil(MAX_PAYLOAD).max(1);
    (0..count).map(|place| (bytes + place) / count).map(|len| len.max(20)).collect()
}

fn main() -> anyhow::Result<()> {
    let only = std::env::args().nth(1);
    println!("# Congestion control of others on our scorecard\n");
    println!("Written by `cargo run --manifest-path benches/bwe/Cargo.toml > benches/results/bwe.md`: the scenarios of");
    println!("`sfu/sim/src/scorecard/scenarios.rs` over the same simulated roads with the same encoder, which sends 95 % of the estimate.");
    println!("str0m 0.25.0 has its own pacer, probes and retransmissions; rtc-interceptor 0.21.1 is its `Gcc` alone, without probes, so");
    println!("what it takes to rise says nothing of a sender that probes. Their freezes are not measured: their packets are no pictures.");
    println!("One seed, but Jain and max/min are means of four. str0m draws random numbers of its own: its rows differ a little from run");
    println!("to run.\n");
    print!("{}", Card::HEAD);
    for scenario in scenarios::all().iter().filter(|scenario| only.as_ref().is_none_or(|only| scenario.name.contains(only.as_str()))) {
        type Play = fn(&Scenario, u64) -> anyhow::Result<Vec<FlowLog>>;
        let rows: [(&str, Play); 3] = [
            ("Sluice", |scenario, seed| Ok(engine::run(scenario, seed))),
            ("str0m", run::<reference::Str0m>),
            ("rtc-interceptor", run::<interceptor::Gcc>),
        ];
        for (who, play) in rows {
            let plays = (0..scenario.plays()).map(|number| Ok(Card::of(scenario, &play(scenario, SEED + number)?)));
            let plays: Vec<Card> = plays.collect::<anyhow::Result<_>>()?;
            print!("{}", Card::of_plays(&plays).row(&format!("{}: {who}", scenario.name)));
        }
    }
    Ok(())
}
