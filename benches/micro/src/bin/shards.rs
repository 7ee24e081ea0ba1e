//! Throughput of a room on one shard and on two: the engine, real keys, real rings between threads, no sockets.
//!
//! One video track goes to so many subscribers. First one thread with one shard forwards everything; then two threads with a
//! shard and half of the subscribers each do, of which the second gets every packet by way of the first. Both run as fast as they
//! can: what is printed is forwarded packets per second of wall time and nanoseconds of processor time per packet. With sockets
//! the kernel's part comes to each shard, which has sockets of its own.

#![allow(clippy::print_stdout)]

use std::sync::Barrier;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::time::{ClockId, clock_gettime};
use rtrb::{Consumer, Producer, RingBuffer};
use sfu_core::egress::Progress;
use sfu_core::media::Codec;
use sfu_core::relay::LinkId;
use sfu_core::shard::{Shard, ShardConfig};
use sfu_core::transport::Certificate;
use sfu_sim::participant::Datagram;
use sfu_sim::world::{ROOM, World};

/// What to run.
#[derive(Parser)]
struct Args {
    /// Subscribers of the one video track, on all shards together.
    #[arg(long, default_value_t = 400)]
    subscribers: usize,
    /// Seconds of video, which pass much faster.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How often each is measured, in turns.
    #[arg(long, default_value_t = 5)]
    runs: usize,
}

/// Bytes of the ring, as in a node.
const RING_BYTES: usize = 1 << 20;

struct Room {
    shards: Vec<Shard>,
    batches: Vec<(Instant, Datagram)>,
}

struct Measured {
    packets: u64,
    wall: Duration,
    cpu: Duration,
}

fn main() {
    let args = Args::parse();
    let mut ratios = Vec::new();
    println!("| shards | packets/s | ns of CPU per packet |\n|---|---|---|");
    for _ in 0..args.runs {
        let [one, two] = [1, 2].map(|count| {
            let measured = run(room(&args, count));
            let rate = measured.packets as f64 / measured.wall.as_secs_f64();
            println!("| {count} | {rate:.0} | {:.0} |", measured.cpu.as_secs_f64() * 1e9 / measured.packets as f64);
            rate
        });
        ratios.push(two / one);
    }
    ratios.sort_by(f64::total_cmp);
    println!("\nmedian_ratio {:.2}", ratios[ratios.len() / 2]);
}

/// A call that has begun, with the packets that its publisher sends next.
fn room(args: &Args, count: usize) -> Room {
    let mut world = World::with_shards(1, count);
    let publisher = world.join_on(ROOM, 0);
    let spec = world.single(Codec::Vp8);
    let track = world.publish(publisher, spec);
    let people: Vec<_> = (0..args.subscribers).map(|place| world.join_on(ROOM, place % count)).collect();
    people.iter().for_each(|&who| world.subscribe(who, track));
    world.expect("media flows to every subscriber", Duration::from_secs(10), |world| {
        people.iter().all(|&who| world.participant(who).receiving(track).is_some_and(|track| track.packets > 0))
    });
    world.run_for(Duration::from_secs(1));
    let batches = world.prebuild(track, Duration::from_secs(args.seconds));
    let shards = std::iter::once(std::mem::replace(&mut world.shard, empty())).chain(world.others.drain(..)).collect();
    Room { shards, batches }
}

fn run(room: Room) -> Measured {
    let Room { shards, mut batches } = room;
    let Some(&(start, _)) = batches.first() else { return Measured { packets: 0, wall: Duration::ZERO, cpu: Duration::ZERO } };
    let (barrier, count) = (Barrier::new(shards.len()), batches.len() as u64);
    let mut shards = shards.into_iter();
    let (first, second) = (shards.next(), shards.next());
    let (to, from) = RingBuffer::new(RING_BYTES);
    std::thread::scope(|scope| {
        let barrier = &barrier;
        let there = second.map(|shard| scope.spawn(move || subscribers_shard(shard, from, count, start, barrier)));
        let here = first.map(|shard| publishers_shard(shard, there.is_some().then_some(to), &mut batches, barrier));
        let there = there.and_then(|thread| thread.join().ok());
        let zero = Measured { packets: 0, wall: Duration::ZERO, cpu: Duration::ZERO };
        here.into_iter().chain(there).fold(zero, |sum, part| Measured {
            packets: sum.packets + part.packets,
            wall: sum.wall.max(part.wall),
            cpu: sum.cpu + part.cpu,
        })
    })
}

fn publishers_shard(mut shard: Shard, mut to: Option<Producer<u8>>, batches: &mut [(Instant, Datagram)], barrier: &Barrier) -> Measured {
    measure(&mut shard, barrier, |shard| {
        for (now, datagram) in batches {
            shard.handle_datagram(*now, datagram.flow, &mut datagram.bytes);
            if let Some(to) = &mut to {
                let outbox = shard.relay_outbox(LinkId(1));
                // Faster than real time the ring would overflow; the other shard has to keep up.
                while to.slots() < RING_BYTES / 2 {
                    std::thread::yield_now();
                }
                let frames = outbox.prepare(to.slots());
                let sent = if to.push_entire_slice(frames).is_ok() { frames.len() } else { 0 };
                outbox.sent(sent);
            }
            flush(shard, *now);
        }
    })
}

fn subscribers_shard(mut shard: Shard, mut from: Consumer<u8>, count: u64, now: Instant, barrier: &Barrier) -> Measured {
    let before = shard.snapshot().relayed;
    let mut joined = Vec::new();
    measure(&mut shard, barrier, |shard| {
        let mut relayed = 0;
        while relayed < count {
            let Ok(chunk) = from.read_chunk(from.slots()) else { continue };
            if chunk.is_empty() {
                std::thread::yield_now();
                continue;
            }
            let (head, tail) = chunk.as_slices();
            joined.clear();
            joined.extend_from_slice(head);
            joined.extend_from_slice(tail);
            shard.handle_relay(now, LinkId(0), &joined);
            chunk.commit_all();
            flush(shard, now);
            relayed = shard.relayed() - before;
        }
    })
}

fn measure(shard: &mut Shard, barrier: &Barrier, work: impl FnOnce(&mut Shard)) -> Measured {
    let before = shard.snapshot().forwarded.packets;
    barrier.wait();
    let (start, cpu) = (Instant::now(), thread_time());
    work(shard);
    let (wall, cpu) = (start.elapsed(), thread_time() - cpu);
    Measured { packets: shard.snapshot().forwarded.packets - before, wall, cpu }
}

fn flush(shard: &mut Shard, now: Instant) {
    while shard.flush(now) == Progress::More {
        shard.outbox().clear();
    }
    shard.outbox().clear();
}

fn empty() -> Shard {
    let certificate = Certificate::generate().unwrap_or_else(|error| {
        println!("{error}");
        std::process::exit(1)
    });
    Shard::new(ShardConfig { candidates: Vec::new(), certificate, ufrag_prefix: String::new(), seed: [0; 32] })
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
