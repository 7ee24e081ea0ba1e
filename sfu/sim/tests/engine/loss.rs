//! Lost, late and doubled packets.

use sfu_core::error::Discard;
use sfu_core::media::Codec;
use sfu_sim::link::{Chance, Jitter, LinkConfig, Loss};
use sfu_sim::world::World;

use crate::{MS, SECOND, assert_faultless, pair};

fn losses() -> [Loss; 4] {
    let bursts = Loss::Bursts {
        to_bad: Chance::percent(1.0),
        to_good: Chance::percent(25.0),
        in_good: Chance::percent(0.2),
        in_bad: Chance::percent(70.0),
    };
    let random = |percent| Loss::Random(Chance::percent(percent));
    [random(1.0), random(5.0), random(10.0), bursts]
}

#[derive(Clone, Copy, PartialEq)]
enum Where {
    Up,
    Down,
    Both,
}

/// 15 s with loss; everything is repaired in time.
fn assert_repaired(seed: u64, codec: Codec, loss: Loss, place: Where) -> World {
    let (mut world, track, who) = pair(seed, |world| world.simulcast(codec));
    world.run_for(SECOND);
    let lossy = LinkConfig { loss, ..LinkConfig::delayed(10 * MS) };
    let owner = world.sender_of(track);
    if place != Where::Down {
        world.participant_mut(owner).up.reconfigure(lossy);
    }
    if place != Where::Up {
        world.participant_mut(who).down.reconfigure(lossy);
    }
    world.run_for(15 * SECOND);
    let report = world.report(who, track);
    assert_faultless(&world, who, track);
    assert!(report.frames_shown >= 16 * 30 - 12, "{loss:?}: {report:?}");
    assert!(report.longest_gap < 700 * MS, "{loss:?}: {report:?}");
    world
}

#[test]
fn upstream_loss_is_repaired_by_nack_and_rtx() {
    for (seed, loss) in (30..).zip(losses()) {
        let world = assert_repaired(seed, Codec::Vp8, loss, Where::Up);
        let feedback = world.sender(sfu_api::TrackId(1)).feedback(2);
        assert!(feedback.nacked > 10 && feedback.reported_lost > 10, "{feedback:?}");
    }
}

#[test]
fn downstream_loss_is_repaired_by_nack_and_rtx() {
    for (seed, loss) in (40..).zip(losses()) {
        let world = assert_repaired(seed, Codec::H264, loss, Where::Down);
        assert!(world.snapshot().retransmitted > 10);
        assert_eq!(world.sender(sfu_api::TrackId(1)).feedback(2).nacked, 0, "the publisher has nothing to do with it");
    }
}

#[test]
fn loss_on_both_ways_is_repaired() {
    assert_repaired(50, Codec::Vp8, losses()[1], Where::Both);
}

#[test]
fn reordering_alone_asks_for_nothing_twice_and_breaks_nothing() {
    let (mut world, track, who) = pair(51, |world| world.single(Codec::Vp8));
    let owner = world.sender_of(track);
    let config = LinkConfig { jitter: Jitter::Reordering(9 * MS), ..LinkConfig::delayed(10 * MS) };
    world.participant_mut(owner).up.reconfigure(config);
    world.run_for(10 * SECOND);
    assert_faultless(&world, who, track);
    assert_eq!(world.report(who, track).frames_incomplete, 0);
    assert!(world.sender(track).feedback(0).nacked < 5, "{:?}", world.sender(track).feedback(0));
}

#[test]
fn a_packet_that_comes_twice_is_forwarded_once() {
    let (mut world, track, who) = pair(52, |world| world.single(Codec::Vp8));
    let owner = world.sender_of(track);
    let config = LinkConfig { duplication: Chance::new(1.0), ..LinkConfig::delayed(10 * MS) };
    world.participant_mut(owner).up.reconfigure(config);
    let before = world.discarded(Discard::SrtpReplay);
    world.run_for(5 * SECOND);
    assert!(world.discarded(Discard::SrtpReplay) > before + 200);
    // A number that the server used twice would not open.
    assert_faultless(&world, who, track);
    assert_eq!(world.participant(who).receiving(track).unwrap().retransmissions, 0);
}

#[test]
fn an_outage_ends_with_a_keyframe() {
    let (mut world, track, who) = pair(53, |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    let owner = world.sender_of(track);
    let dead = LinkConfig { loss: Loss::Random(Chance::new(1.0)), ..LinkConfig::delayed(10 * MS) };
    world.participant_mut(owner).up.reconfigure(dead);
    world.run_for(8 * SECOND);
    world.participant_mut(owner).up.reconfigure(LinkConfig::delayed(10 * MS));
    let frames = world.frames(who, track);
    world.expect("pictures are back", SECOND, |world| world.frames(who, track) > frames + 5);
    assert_faultless(&world, who, track);
}
