//! Lost, late and doubled packets.

use std::time::Duration;

use sfu_api::{Command, PlayoutDelay, TrackId};
use sfu_core::error::Discard;
use sfu_core::media::{Codec, Extension};
use sfu_sim::link::{Chance, Jitter, LinkConfig, Loss};
use sfu_sim::scalability::Mode;
use sfu_sim::world::{ROOM, Who, World};

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

/// A camera behind a way of so long a round trip that loses this share of the packets each way.
fn far(seed: u64, round_trip: Duration, percent: f64) -> (World, TrackId, Who) {
    let (mut world, track, who) = pair(seed, |world| world.layered(Codec::Vp8, Mode::L1T3, false));
    set_way(&mut world, who, round_trip, percent);
    (world, track, who)
}

fn set_way(world: &mut World, who: Who, round_trip: Duration, percent: f64) {
    let way = LinkConfig { loss: Loss::Random(Chance::percent(percent)), ..LinkConfig::delayed(round_trip / 2) };
    world.participant_mut(who).down.reconfigure(way);
    world.participant_mut(who).up.reconfigure(way);
}

/// The newest playout delay that somebody was told.
fn told(world: &World, who: Who, track: TrackId) -> Option<Vec<u8>> {
    world.participant(who).receiving(track).unwrap().elements.get(&Extension::PlayoutDelay.offered_id()).cloned()
}

/// Shares of the pictures of the next half a minute that are shown, and that come after their turn.
fn shown_and_late(world: &mut World, who: Who, track: TrackId) -> (f64, f64) {
    let before = world.report(who, track);
    world.run_for(30 * SECOND);
    let after = world.report(who, track);
    let share = |from: u64, to: u64| f64::from(u32::try_from(to - from).unwrap()) / 900.0;
    (share(before.frames_shown, after.frames_shown), share(before.frames_late, after.frames_late))
}

#[test]
fn on_a_long_way_that_loses_packets_pictures_wait_for_what_is_resent() {
    for (seed, round_trip) in (54..).zip([60, 200, 280]) {
        let (mut world, track, who) = far(seed, MS * round_trip, 3.0);
        world.run_for(10 * SECOND);
        let (shown, late) = shown_and_late(&mut world, who, track);
        assert!(shown > 0.98 && late < 0.06, "{round_trip} ms: {shown:.3} shown, {late:.3} late");
        assert_faultless(&world, who, track);
    }
}

#[test]
fn who_loses_nothing_is_not_told_to_wait() {
    let (mut world, track, who) = far(57, 200 * MS, 0.0);
    world.run_for(20 * SECOND);
    assert_eq!(told(&world, who, track), None);
}

#[test]
fn the_wait_ends_with_the_losses() {
    let (mut world, track, who) = far(58, 100 * MS, 5.0);
    world.run_for(20 * SECOND);
    let [high, low, _] = told(&world, who, track).unwrap()[..] else { panic!("three bytes") };
    assert!((16..=30).contains(&((u16::from(high) << 4) | u16::from(low >> 4))), "in tens of ms: {high} {low}");
    set_way(&mut world, who, 100 * MS, 0.0);
    world.run_for(45 * SECOND);
    assert_eq!(told(&world, who, track), Some(vec![0, 0x03, 0xe8]), "nothing at least, ten seconds at most");
    assert_faultless(&world, who, track);
}

#[test]
fn a_wait_that_the_room_asks_for_is_kept() {
    let (mut world, track, who) = far(59, 200 * MS, 5.0);
    world.command(Command::SetPlayoutDelay { room: ROOM, delay: Some(PlayoutDelay { min_ms: 100, max_ms: 200 }) });
    world.run_for(20 * SECOND);
    assert_eq!(told(&world, who, track), Some(vec![0, 0xa0, 0x14]));
}

/// The extension goes in front of a descriptor, whose place is another one then.
#[test]
fn a_described_stream_stays_whole_when_its_player_is_told_to_wait() {
    for (seed, mode) in (53..).zip([Mode::L1T3, Mode::L3T3_KEY]) {
        let (mut world, track, who) = pair(seed, |world| world.layered(Codec::Vp9, mode, true));
        set_way(&mut world, who, 120 * MS, 4.0);
        world.run_for(25 * SECOND);
        assert!(told(&world, who, track).is_some());
        assert_faultless(&world, who, track);
    }
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
