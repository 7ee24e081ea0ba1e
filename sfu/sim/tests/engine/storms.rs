//! Storms of joins: handshakes take turns with media.

use std::time::Duration;

use sfu_api::{Event, TransportState};
use sfu_core::error::Discard;
use sfu_core::media::Codec;
use sfu_sim::world::{ROOM, Who, World};

use crate::{MS, SECOND, assert_faultless, pair};

/// What the dearest datagram of a handshake costs on a slow machine.
const COST: Duration = Duration::from_micros(400);

#[test]
fn media_goes_out_between_the_handshakes_of_a_storm() {
    let (mut world, track, who) = pair(500, |world| world.single(Codec::Vp8));
    world.run_for(2 * SECOND);
    world.handshake_takes = COST;
    let before = world.participant(who).receiving(track).unwrap().packets;
    let started = world.elapsed();
    let late: Vec<Who> = (0..100).map(|_| world.join(ROOM)).collect();
    let all = late.clone();
    world.expect("everybody is connected", 5 * SECOND, |world| all.iter().all(|&who| world.participant(who).subscriber.is_connected));
    let took = world.elapsed() - started;
    // 100 handshakes of two or more datagrams each would have held up media for as long as they take together.
    assert!(took > 80 * MS, "{took:?}: the handshakes cost nothing");
    let got = world.participant(who).receiving(track).unwrap().packets - before;
    assert!(got > 0);
    let report = world.report(who, track);
    assert!(report.longest_gap < 42 * MS, "{report:?}");
    assert_faultless(&world, who, track);
}

#[test]
fn everybody_of_a_storm_gets_in_and_nobody_is_far_behind() {
    let mut world = World::new(501);
    world.handshake_takes = COST;
    let people: Vec<Who> = (0..200).map(|_| world.join(ROOM)).collect();
    world.expect("everybody is connected", 10 * SECOND, |world| people.iter().all(|&who| world.participant(who).subscriber.is_connected));
    let failed = world.log.iter().filter(|event| matches!(event, Event::Transport { state: TransportState::Failed(_), .. }));
    assert_eq!(failed.count(), 0);
    assert_eq!(world.discarded(Discard::HandshakeQueue), 0);
}

#[test]
fn a_client_that_floods_its_handshake_delays_itself_only() {
    let mut world = World::new(502);
    let flooder = world.join(ROOM);
    world.expect("its path is known", SECOND, |world| world.participant(flooder).subscriber.server_flow().is_some());
    world.run_for(20 * MS);
    world.handshake_takes = COST;
    let flow = world.participant(flooder).subscriber.server_flow().unwrap();
    // A record of a handshake message that is never complete.
    let record = [&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2][..], &[1, 0]].concat();
    let modest = world.join(ROOM);
    let started = world.elapsed();
    while !world.participant(modest).subscriber.is_connected {
        (0..100).for_each(|_| world.inject(flow, &record));
        world.run_for(MS);
        assert!(world.elapsed() - started < SECOND, "it gets its turns");
    }
    assert!(world.discarded(Discard::HandshakeQueue) > 1000);
}
