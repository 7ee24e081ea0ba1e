//! Throughput of a room on one shard and on two: the engine, real keys, real rings between threads, no sockets.
//!
//! One video track goes to so many subscribers. First one thread with one shard forwards everything; then two threads with a
//! shard and half of the subscribers each do, of which the second gets every packet by way of the first. Both run as fast as they
//! can, a packet of the publisher at a time: what is printed is forwarded packets per second of wall time, nanoseconds of processor
//! time per packet, and two ratios. `median_ratio` is that of packets per second, and needs two cores for itself. `median_ratio_by_cpu` is
//! the processor time of the one shard by that of the busier of the two, without what each spends in waiting for the other: what two
//! cores would give that nobody else uses. With sockets the kernel's part comes to each shard, which has sockets of its own.
//! In the third line of each run two threads forward as many packets as in the second, but in two rooms that have nothing to do with each
//! other. What they lack of twice as much (`median_ratio_apart`, `median_ratio_apart_by_cpu`) the machine lacks: cores that share a cache, a
//! memory or a clock with each other and with other machines. What two shards lack beyond that is the price of sharing a room.

#![allow(clippy::print_stdout)]

use std::sync::Barrier;
use std::time::{Duration, Instant};

use bench_micro::cpu::Stopwatch;
use clap::Parser;
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
/// Batches that may be on their way.
const BATCHES: usize = 256;

struct Room {
    shards: Vec<Shard>,
    batches: Vec<(Instant, Datagram)>,
}

/// The way to the other shard: frames, and how many bytes of them each batch has.
struct Ring<B, L> {
    bytes: B,
    lens: L,
}

#[derive(Clone, Copy, Default)]
struct Measured {
    packets: u64,
    wall: Duration,
    /// Processor time without waiting.
    cpu: Duration,
    /// Of the busiest of the threads.
    busiest: Duration,
}

fn main() {
    let args = Args::parse();
    let (mut shared, mut apart) = (Ratios::default(), Ratios::default());
    println!("| shards | packets/s | ns of CPU per packet |\n|---|---|---|");
    for _ in 0..args.runs {
        let told = |name: &str, measured: Measured| {
            println!("| {name} | {:.0} | {:.0} |", measured.rate(), measured.cpu.as_secs_f64() * 1e9 / measured.packets as f64);
            measured
        };
        let one = told("1", run(room(&args, args.subscribers, 1)));
        shared.push(&one, &told("2", run(room(&args, args.subscribers, 2))));
        apart.push(&one, &told("2 apart", run_apart([(); 2].map(|()| room(&args, args.subscribers / 2, 1)))));
    }
    println!("\nmedian_ratio {:.2}\nmedian_ratio_by_cpu {:.2}", median(&mut shared.rate), median(&mut shared.cpu));
    println!("median_ratio_apart {:.2}\nmedian_ratio_apart_by_cpu {:.2}", median(&mut apart.rate), median(&mut apart.cpu));
}

/// What two threads do by what one does.
#[derive(Default)]
struct Ratios {
    rate: Vec<f64>,
    cpu: Vec<f64>,
}

impl Ratios {
    fn push(&mut self, one: &Measured, two: &Measured) {
        self.rate.push(two.rate() / one.rate());
        self.cpu.push(one.busiest.as_secs_f64() / two.busiest.as_secs_f64() * two.packets as f64 / one.packets as f64);
    }
}

impl Measured {
    fn rate(&self) -> f64 {
        self.packets as f64 / self.wall.as_secs_f64()
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A call that has begun, with the packets that its publisher sends next.
fn room(args: &Args, subscribers: usize, count: usize) -> Room {
    let mut world = World::with_shards(1, count);
    let publisher = world.join_on(ROOM, 0);
    let spec = world.single(Codec::Vp8);
    let track = world.publish(publisher, spec);
    let people: Vec<_> = (0..subscribers).map(|place| world.join_on(ROOM, place % count)).collect();
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
    let Some(&(start, _)) = batches.first() else { return Measured::default() };
    let (barrier, count) = (Barrier::new(shards.len()), batches.len());
    let mut shards = shards.into_iter();
    let (first, second) = (shards.next(), shards.next());
    let ((bytes_in, bytes_out), (lens_in, lens_out)) = (RingBuffer::new(RING_BYTES), RingBuffer::new(BATCHES));
    let (to, from) = (Ring { bytes: bytes_in, lens: lens_in }, Ring { bytes: bytes_out, lens: lens_out });
    std::thread::scope(|scope| {
        let barrier = &barrier;
        let there = second.map(|shard| scope.spawn(move || subscribers_shard(shard, from, count, start, barrier)));
        let here = first.map(|shard| publishers_shard(shard, there.is_some().then_some(to), &mut batches, barrier));
        let there = there.and_then(|thread| thread.join().ok());
        together(here.into_iter().chain(there))
    })
}

/// Two rooms of one shard each, at the same time.
fn run_apart(rooms: [Room; 2]) -> Measured {
    let barrier = &Barrier::new(rooms.len());
    std::thread::scope(|scope| {
        let threads = rooms.map(|Room { shards, mut batches }| {
            scope.spawn(move || shards.into_iter().next().map(|shard| publishers_shard(shard, None, &mut batches, barrier)))
        });
        together(threads.into_iter().filter_map(|thread| thread.join().ok().flatten()))
    })
}

fn together(parts: impl Iterator<Item = Measured>) -> Measured {
    parts.fold(Measured::default(), |sum, part| Measured {
        packets: sum.packets + part.packets,
        wall: sum.wall.max(part.wall),
        cpu: sum.cpu + part.cpu,
        busiest: sum.busiest.max(part.busiest),
    })
}

fn publishers_shard(
    mut shard: Shard,
    mut to: Option<Ring<Producer<u8>, Producer<usize>>>,
    batches: &mut [(Instant, Datagram)],
    barrier: &Barrier,
) -> Measured {
    measure(&mut shard, barrier, |shard, waiting| {
        for (now, datagram) in batches {
            shard.handle_datagram(*now, datagram.flow, &mut datagram.bytes);
            if let Some(Ring { bytes, lens }) = &mut to {
                let outbox = shard.relay_outbox(LinkId(1));
                // Faster than real time the ring would overflow; the other shard has to keep up.
                waiting.until(|| bytes.slots() >= RING_BYTES / 2 && !lens.is_full());
                let frames = outbox.prepare(bytes.slots());
                let sent = if bytes.push_entire_slice(frames).is_ok() { frames.len() } else { 0 };
                // There is room, as was waited for.
                let _ = lens.push(sent);
                outbox.sent(sent);
            }
            flush(shard, *now);
        }
    })
}

fn subscribers_shard(
    mut shard: Shard,
    mut from: Ring<Consumer<u8>, Consumer<usize>>,
    count: usize,
    now: Instant,
    barrier: &Barrier,
) -> Measured {
    let mut joined = Vec::new();
    measure(&mut shard, barrier, |shard, waiting| {
        for _ in 0..count {
            waiting.until(|| !from.lens.is_empty());
            let Some(chunk) = from.lens.pop().ok().and_then(|len| from.bytes.read_chunk(len).ok()) else { continue };
            let (head, tail) = chunk.as_slices();
            joined.clear();
            joined.extend_from_slice(head);
            joined.extend_from_slice(tail);
            shard.handle_relay(now, LinkId(0), &joined);
            chunk.commit_all();
            flush(shard, now);
        }
    })
}

/// Processor time that a thread spends in waiting for the other one.
struct Waiting {
    stopwatch: Stopwatch,
    spent: Duration,
}

impl Waiting {
    fn until(&mut self, mut is_over: impl FnMut() -> bool) {
        if is_over() {
            return;
        }
        let (took, ()) = self.stopwatch.time(|| {
            while !is_over() {
                std::thread::yield_now();
            }
        });
        self.spent += took + self.stopwatch.overhead();
    }
}

fn measure(shard: &mut Shard, barrier: &Barrier, work: impl FnOnce(&mut Shard, &mut Waiting)) -> Measured {
    let before = shard.snapshot().forwarded.packets;
    let mut waiting = Waiting { stopwatch: Stopwatch::calibrated(), spent: Duration::ZERO };
    let stopwatch = Stopwatch::calibrated();
    barrier.wait();
    let start = Instant::now();
    let (cpu, ()) = stopwatch.time(|| work(shard, &mut waiting));
    let (wall, cpu) = (start.elapsed(), cpu.saturating_sub(waiting.spent));
    Measured { packets: shard.snapshot().forwarded.packets - before, wall, cpu, busiest: cpu }
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
