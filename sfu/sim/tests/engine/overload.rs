use sfu_core::backlog::{FRESH, HOPELESS, PATIENCE};
use sfu_core::error::Discard;
use sfu_core::media::Codec;

use super::*;

/// The datagrams of a second that a publisher sends.
fn media() -> (World, Vec<Vec<u8>>) {
    let (mut world, track, _) = pair(1, |world| world.single(Codec::Vp8));
    world.run_for(SECOND);
    let batches = world.prebuild(track, SECOND);
    (world, batches.into_iter().map(|(_, datagram)| datagram.bytes).collect())
}

fn late(world: &World) -> u64 {
    world.snapshot().discards.get(Discard::Late)
}

#[test]
fn media_of_a_queue_that_stands_is_dropped_by_name_until_the_queue_is_gone() {
    let (mut world, media) = media();
    let now = world.now();
    assert!(!world.shard.sheds(now, 10 * FRESH, &media[0]), "a queue may pass");
    assert!(world.shard.sheds(now + PATIENCE, 10 * FRESH, &media[1]));
    assert!(world.shard.sheds(now + PATIENCE, 2 * FRESH, &media[2]), "all of it");
    assert!(!world.shard.sheds(now + PATIENCE, FRESH, &media[3]));
    assert!(!world.shard.sheds(now + PATIENCE, 2 * FRESH, &media[4]), "another queue");
    assert_eq!(late(&world), 2);
}

#[test]
fn what_keeps_a_transport_alive_is_handled_however_late() {
    let (mut world, media) = media();
    let now = world.now();
    // A Binding request, a DTLS record, a receiver report.
    for datagram in [[0_u8, 1, 0, 0], [22, 254, 253, 0], [0x81, 201, 0, 7]] {
        assert!(!world.shard.sheds(now, HOPELESS, &datagram));
    }
    assert_eq!(late(&world), 0);
    assert!(world.shard.sheds(now, HOPELESS, &media[0]));
}
