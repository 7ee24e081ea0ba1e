//! Forwarding allocates nothing (`allocation-counter` counts for the whole binary, so this test has one of its own).
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use sfu_core::egress::Progress;
use sfu_core::media::Codec;
use sfu_core::shard::Shard;
use sfu_sim::participant::Datagram;
use sfu_sim::world::World;

const SUBSCRIBERS: usize = 100;

#[test]
fn a_forwarded_packet_takes_no_heap_allocation() {
    let (mut world, track, _) = World::fan_out(1, |world| world.single(Codec::Vp8), SUBSCRIBERS);
    world.run_for(Duration::from_secs(2));
    let mut built = world.prebuild(track, Duration::from_secs(24));
    let (warm_up, measured) = built.split_at_mut(300);
    forward(&mut world.shard, warm_up);
    let forwarded_before = world.snapshot().forwarded.packets;
    let allocations = forward(&mut world.shard, measured);
    let forwarded = world.snapshot().forwarded.packets - forwarded_before;
    assert!(measured.len() >= 1000, "{} packets", measured.len());
    assert_eq!(forwarded, (measured.len() * SUBSCRIBERS) as u64);
    assert_eq!(allocations, 0, "for {forwarded} forwarded packets");
}

/// What a node does with each batch, without its sockets. Counts allocations of packets; what the clock causes (reports,
/// congestion feedback) happens beside.
fn forward(shard: &mut Shard, built: &mut [(Instant, Datagram)]) -> u64 {
    let mut allocations = 0;
    for (now, datagram) in built {
        if shard.next_timeout().is_some_and(|at| at <= *now) {
            shard.handle_timeout(*now);
        }
        let counted = allocation_counter::measure(|| {
            shard.handle_datagram(*now, datagram.flow, &mut datagram.bytes);
            while shard.flush(*now) == Progress::More {
                shard.outbox().clear();
            }
            shard.outbox().clear();
        });
        allocations += counted.count_total;
    }
    allocations
}
