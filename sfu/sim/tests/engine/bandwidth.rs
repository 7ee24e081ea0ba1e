//! Estimates of what the way to a subscriber carries, in whole calls. How good they are is the scorecard's matter.

use std::time::Duration;

use sfu_core::bandwidth::{Demand, Estimate};
use sfu_core::media::Codec;
use sfu_sim::link::LinkConfig;
use sfu_sim::road::RoadConfig;
use sfu_sim::world::{Who, World};

use super::{MS, SECOND, assert_faultless, pair};

const MBIT: u64 = 1_000_000;

/// A road of these rates from now on in front of somebody.
fn narrow(world: &mut World, who: Who, rates: &[(Duration, u64)]) {
    let config = RoadConfig { rates: rates.to_vec(), queue: 300 * MS, link: LinkConfig::default(), tcp: Vec::new() };
    world.share_road(config, &[who]);
}

fn estimate(world: &World, who: Who) -> Option<Estimate> {
    world.shard.estimate(world.id(who))
}

#[test]
fn an_estimate_exists_from_the_first_feedback_on() {
    let (mut world, _, who) = pair(1, |world| world.single(Codec::Vp8));
    world.expect("there is an estimate", SECOND, |world| estimate(world, who).is_some());
    // The publisher receives no media.
    let publisher = world.sender_of(sfu_api::TrackId(1));
    assert_eq!(estimate(&world, publisher), None);
}

#[test]
fn a_probe_shows_what_more_would_pass_and_nobody_sees_it() {
    let (mut world, track, who) = pair(2, |world| world.single(Codec::Vp8));
    narrow(&mut world, who, &[(Duration::ZERO, 5 * MBIT)]);
    world.run_for(SECOND);
    let (id, now) = (world.id(who), world.now());
    world.shard.set_demand(id, Demand { now_bps: MBIT / 2, next_bps: Some(3 * MBIT) }, now);
    let reached = |world: &World| estimate(world, who).is_some_and(|estimate| estimate.target_bps >= 3 * MBIT);
    world.expect("the estimate reaches what is wanted", 5 * SECOND, reached);
    assert!(estimate(&world, who).unwrap().target_bps < 5 * MBIT);
    assert!(world.participant(who).receiving(track).unwrap().retransmissions > 10);
    assert_faultless(&world, who, track);
}

#[test]
fn without_demand_nothing_is_probed() {
    let (mut world, track, who) = pair(3, |world| world.single(Codec::Vp8));
    // The estimate begins below what flows.
    world.run_for(10 * SECOND);
    let probed = world.participant(who).receiving(track).unwrap().retransmissions;
    world.run_for(10 * SECOND);
    assert_eq!(world.participant(who).receiving(track).unwrap().retransmissions, probed);
}

#[test]
fn an_estimate_falls_with_the_link_and_says_why() {
    let (mut world, _, who) = pair(4, |world| world.single(Codec::Vp8));
    narrow(&mut world, who, &[(Duration::ZERO, 5 * MBIT), (5 * SECOND, 300_000)]);
    world.run_for(5 * SECOND);
    let fallen = |world: &World| estimate(world, who).is_some_and(|estimate| estimate.target_bps <= 300_000);
    world.expect("the estimate is no more than the link carries", 1_500 * MS, fallen);
    let limit = estimate(&world, who).unwrap().limit;
    assert!(matches!(limit, sfu_core::bandwidth::Limit::Delay | sfu_core::bandwidth::Limit::Loss), "{limit:?}");
}

#[test]
fn a_client_that_falls_silent_gets_less() {
    let (mut world, track, who) = pair(5, |world| world.simulcast(Codec::Vp8));
    world.run_for(2 * SECOND);
    let bytes = |world: &World| world.report(who, track).payload_bytes;
    let sent_before = bytes(&world);
    world.run_for(2 * SECOND);
    let per_two_seconds = bytes(&world) - sent_before;
    let before = estimate(&world, who).unwrap().target_bps;
    let lost = sfu_sim::link::Loss::Random(sfu_sim::link::Chance::new(1.0));
    world.participant_mut(who).up.reconfigure(LinkConfig { loss: lost, ..LinkConfig::default() });
    world.run_for(6 * SECOND);
    let after = estimate(&world, who).unwrap();
    assert!(after.target_bps < before / 2, "{before} {after:?}");
    assert_eq!(after.limit, sfu_core::bandwidth::Limit::Silence);
    let sent_before = bytes(&world);
    world.run_for(2 * SECOND);
    assert!(bytes(&world) - sent_before < per_two_seconds / 3, "{} of {per_two_seconds}", bytes(&world) - sent_before);
    // It is heard again, and has everything again: nothing has shown that its way is narrow.
    world.participant_mut(who).up.reconfigure(LinkConfig::delayed(10 * MS));
    world.expect("the full size is back", 3 * SECOND, |world| world.layer(who, track) == Some(2));
}
