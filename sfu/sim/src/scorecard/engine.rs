//! Plays a scenario with the real engine as the sender.

use std::time::Duration;

use sfu_api::TrackId;
use sfu_core::bandwidth::Demand;
use sfu_core::media::Codec;

use super::{CONTROL_INTERVAL, FlowLog, FlowSpec, OF_ESTIMATE, PAYLOAD_SHARE, Scenario};
use crate::link::LinkConfig;
use crate::road::BIN;
use crate::world::{ROOM, Who, World};

/// Time for joining, negotiation and handshakes, before the road begins.
const JOINING: Duration = Duration::from_secs(2);
/// An encoder sends no less.
const MIN_BPS: u64 = 30_000;
/// What an encoder sends before there is an estimate.
const FIRST_BPS: u64 = 250_000;

struct Flow<'a> {
    spec: &'a FlowSpec,
    subscriber: Who,
    track: TrackId,
    is_on: bool,
    is_paused: bool,
    log: FlowLog,
}

/// Plays a scenario; returns what is left of each flow.
#[must_use]
pub fn run(scenario: &Scenario, seed: u64) -> Vec<FlowLog> {
    let mut world = World::new(seed);
    let mut flows: Vec<Flow<'_>> = scenario.flows.iter().map(|spec| join(&mut world, scenario, spec)).collect();
    world.run_for(JOINING);
    let subscribers: Vec<Who> = flows.iter().map(|flow| flow.subscriber).collect();
    world.share_road(scenario.road(), &subscribers);
    let start = world.elapsed();
    let mut next_bin = BIN;
    while world.elapsed() < start + scenario.length {
        let elapsed = world.elapsed() - start;
        for flow in &mut flows {
            steer(&mut world, flow, elapsed);
        }
        if elapsed + CONTROL_INTERVAL >= next_bin {
            next_bin += BIN;
            for flow in &mut flows {
                let id = world.id(flow.subscriber);
                let estimate = world.shard.estimate(id).map_or(0, |estimate| estimate.target_bps);
                flow.log.estimates_bps.push(if flow.is_on { estimate } else { 0 });
            }
        }
        world.run_for(CONTROL_INTERVAL);
    }
    let finish = |mut flow: Flow<'_>| {
        flow.log.meter = world.road_meter(flow.subscriber).clone();
        if flow.spec.pause.is_none() {
            let report = world.report(flow.subscriber, flow.track);
            flow.log.freeze = Some(report.freezes.iter().map(|&(_, length)| length).max().unwrap_or_default());
        }
        flow.log
    };
    flows.into_iter().map(finish).collect()
}

fn join<'a>(world: &mut World, scenario: &Scenario, spec: &'a FlowSpec) -> Flow<'a> {
    let publisher = world.join_over(ROOM, LinkConfig::default(), LinkConfig::default());
    let camera = world.single(Codec::Vp8);
    let track = world.publish(publisher, camera);
    let back = LinkConfig { delay: scenario.back.delay + spec.delay, ..scenario.back };
    let subscriber = world.join_over(ROOM, back, LinkConfig::delayed(spec.delay));
    Flow { spec, subscriber, track, is_on: false, is_paused: false, log: FlowLog::default() }
}

/// What encoder and signaling do now.
fn steer(world: &mut World, flow: &mut Flow<'_>, elapsed: Duration) {
    if !flow.is_on && elapsed >= flow.spec.start {
        flow.is_on = true;
        world.subscribe(flow.subscriber, flow.track);
    }
    let is_paused = flow.spec.pause.is_some_and(|(from, to)| elapsed >= from && elapsed < to);
    if is_paused != flow.is_paused {
        flow.is_paused = is_paused;
        world.set_muted(flow.track, is_paused);
    }
    let (id, now, wanted_bps) = (world.id(flow.subscriber), world.now(), flow.spec.wanted_bps);
    let bps = world.shard.estimate(id).map_or(FIRST_BPS, |estimate| scaled(estimate.media_bps(), OF_ESTIMATE));
    let bps = bps.clamp(MIN_BPS, wanted_bps);
    let payload_bps = u32::try_from(scaled(bps, PAYLOAD_SHARE)).unwrap_or(u32::MAX);
    if let Some(camera) = world.sender_mut(flow.track).video() {
        camera.set_bitrate(0, payload_bps);
    }
    let next_bps = Some(wanted_bps).filter(|&wanted| bps < wanted && !is_paused);
    world.shard.set_demand(id, Demand { now_bps: if is_paused { 0 } else { bps }, next_bps }, now);
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "rates are far below 2^52")]
fn scaled(bps: u64, share: f64) -> u64 {
    (bps as f64 * share) as u64
}
