//! What a subscriber costs that joins: processor time of its join, and memory while media flows to it.
//!
//! A real engine in the simulated world: real session descriptions, ICE, DTLS, SRTP and SCTP, without sockets. Time is that of the
//! thread inside calls of the engine; memory is what is freed when the engine is dropped. `--idle` measures what those cost who
//! have joined and get nothing.

#![allow(clippy::print_stdout)]

use std::time::Duration;

use clap::Parser;
use nix::time::{ClockId, clock_gettime};
use sfu_core::media::Codec;
use sfu_core::shard::{Shard, ShardConfig};
use sfu_core::transport::Certificate;
use sfu_sim::participant::TrackSpec;
use sfu_sim::world::{ROOM, Who, World};

/// What to run.
#[derive(Parser)]
struct Args {
    /// Participants that join at once.
    #[arg(long, default_value_t = 200)]
    subscribers: usize,
    /// They subscribe to nothing.
    #[arg(long)]
    idle: bool,
    /// They have one peer connection for both directions.
    #[arg(long)]
    single: bool,
    /// Seconds of media before memory is measured.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
}

fn main() {
    let args = Args::parse();
    let mut world = World::new(1);
    let publisher = world.join(ROOM);
    let video = world.single(Codec::Vp8);
    let tracks = [world.publish(publisher, video), world.publish(publisher, TrackSpec::Audio { level: 30 })];
    world.run_for(Duration::from_secs(3));
    let before = world.snapshot().forwarded.packets;
    world.meter.clock = Some(thread_time);

    let people: Vec<Who> = (0..args.subscribers).map(|_| if args.single { world.join_single(ROOM) } else { world.join(ROOM) }).collect();
    if !args.idle {
        for &who in &people {
            tracks.iter().for_each(|&track| world.subscribe(who, track));
        }
    }
    world.expect("everybody has joined", Duration::from_secs(20), |world| {
        people.iter().all(|&who| {
            let participant = world.participant(who);
            let is_up = if args.single { participant.publisher.is_connected } else { participant.subscriber.is_connected };
            let gets = |track| participant.receiving(track).is_some_and(|track| track.packets > 0);
            is_up && (args.idle || tracks.iter().all(|&track| gets(track)))
        })
    });
    let joining = world.meter.spent;
    let forwarded = world.snapshot().forwarded.packets - before;
    world.run_for(Duration::from_secs(args.seconds));
    let idle_from = world.meter.spent;
    world.run_for(Duration::from_secs(10));
    let later = world.meter.spent - idle_from;

    let count = u32::try_from(args.subscribers.max(1)).unwrap_or(u32::MAX);
    println!("join_us {:.0}", joining.as_secs_f64() * 1e6 / f64::from(count));
    println!("packets_forwarded_while_joining {forwarded}");
    println!("us_per_second_and_subscriber_afterwards {:.1}", later.as_secs_f64() * 1e5 / f64::from(count));
    let empty = Shard::new(ShardConfig { candidates: Vec::new(), certificate: certificate(), ufrag_prefix: String::new(), seed: [0; 32] });
    let shard = std::mem::replace(&mut world.shard, empty);
    let freed = allocation_counter::measure(|| drop(shard));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let bytes = -freed.bytes_current as f64;
    println!("heap_bytes_per_subscriber {:.0}", bytes / f64::from(count));
}

fn certificate() -> Certificate {
    Certificate::generate().unwrap_or_else(|error| {
        println!("{error}");
        std::process::exit(1)
    })
}

fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}
