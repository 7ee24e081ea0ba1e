//! Forwarding allocates nothing (`allocation-counter` counts for the whole binary, so this test has one of its own).
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use sfu_api::TrackId;
use sfu_core::bandwidth::Demand;
use sfu_core::egress::Progress;
use sfu_core::media::Codec;
use sfu_core::shard::Shard;
use sfu_sim::link::{Chance, LinkConfig, Loss};
use sfu_sim::participant::{Datagram, TrackSpec, VoiceConfig};
use sfu_sim::world::{ROOM, Who, World};

const SUBSCRIBERS: usize = 100;

#[test]
fn a_forwarded_packet_takes_no_heap_allocation() {
    let (mut world, track, subscribers) = World::fan_out(1, |world| world.single(Codec::Vp8), SUBSCRIBERS);
    world.run_for(Duration::from_secs(2));
    // Nobody reports on what follows, which would be taken for a link that carries nothing any more.
    let now = world.now();
    for &who in &subscribers {
        let id = world.id(who);
        world.shard.set_demand(id, Demand::default(), now);
    }
    assert_no_allocation(&mut world, track, Duration::from_secs(24), 300);
}

#[test]
fn neither_does_one_of_audio_in_either_form() {
    for copies in [None, Some(2)] {
        let mut world = World::new(2);
        let publisher = world.join(ROOM);
        let track = world.publish(publisher, TrackSpec::Voice(VoiceConfig { copies, ..VoiceConfig::default() }));
        // Half of them get the form that is not sent: stripped, or with copies because their links lose packets.
        let listeners: Vec<Who> = (0..SUBSCRIBERS).map(|_| world.join(ROOM)).collect();
        let (half, others) = listeners.split_at(SUBSCRIBERS / 2);
        for &who in half {
            world.participant_mut(who).refused_codecs = copies.map(|_| "red".to_owned()).into_iter().collect();
        }
        for &who in half.iter().chain(others) {
            world.subscribe(who, track);
        }
        world.run_for(Duration::from_secs(3));
        for &who in half.iter().filter(|_| copies.is_none()) {
            let loss = Loss::Random(Chance::percent(10.0));
            world.participant_mut(who).down.reconfigure(LinkConfig { loss, ..LinkConfig::delayed(Duration::from_millis(10)) });
        }
        world.run_for(Duration::from_secs(6));
        let with_copies = |who: &&Who| world.heard(**who, track).with_copies > 0;
        assert_eq!(half.iter().filter(with_copies).count(), if copies.is_some() { 0 } else { half.len() });
        assert_eq!(others.iter().filter(with_copies).count(), if copies.is_some() { others.len() } else { 0 });
        let now = world.now();
        for &who in &listeners {
            let id = world.id(who);
            world.shard.set_demand(id, Demand::default(), now);
        }
        // Below the 30 s after which nothing is sent to clients that say nothing.
        assert_no_allocation(&mut world, track, Duration::from_secs(25), 100);
    }
}

fn assert_no_allocation(world: &mut World, track: TrackId, time: Duration, warm_up: usize) {
    let mut built = world.prebuild(track, time);
    let (warm_up, measured) = built.split_at_mut(warm_up);
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
