//! Cost of forwarding one packet to one subscriber, without sockets: time and heap allocations.
//!
//! A real engine in the simulated world, with real handshakes and keys. Measured is [`forward`]: one batch of datagrams
//! in, all trains out; what the clock causes (reports, feedback) happens beside. `benches/instructions.sh` runs this
//! under valgrind, which counts the instructions of `forward`.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use clap::Parser;
use sfu_core::egress::Progress;
use sfu_core::media::Codec;
use sfu_core::shard::Shard;
use sfu_sim::participant::{Datagram, TrackSpec};
use sfu_sim::scalability::Mode;
use sfu_sim::world::World;

/// Frames per second of the camera.
const FPS: u32 = 30;
/// Batches that are forwarded before the measurement begins.
const WARM_UP: usize = 200;

/// What to run.
#[derive(Parser)]
struct Args {
    /// Subscribers of the one video track.
    #[arg(long, default_value_t = 100)]
    subscribers: usize,
    /// Packets of a frame, which arrive in one batch.
    #[arg(long, default_value_t = 1)]
    burst: u32,
    /// Seconds of video.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Bytes of RTP payload in a packet, about.
    #[arg(long, default_value_t = 1160)]
    payload: u32,
    /// Three temporal layers, as browsers send VP8 in simulcast.
    #[arg(long)]
    temporal: bool,
}

fn main() {
    let args = Args::parse();
    let (mut world, track, _) = World::fan_out(1, |world| camera(world, &args), args.subscribers);
    world.run_for(Duration::from_secs(2));
    let mut built = world.prebuild(track, Duration::from_secs(args.seconds));
    let shard = &mut world.shard;
    let forwarded_before = shard.snapshot().forwarded.packets;
    let (mut batches, mut packets, mut bytes) = (0, 0, 0);
    let (mut sent, mut time, mut allocations) = (0, Duration::ZERO, 0);
    for (place, batch) in built.chunk_by_mut(|a, b| a.0 == b.0).enumerate() {
        let Some(&(now, _)) = batch.first() else { continue };
        if shard.next_timeout().is_some_and(|at| at <= now) {
            shard.handle_timeout(now);
        }
        let before = shard.snapshot().forwarded.packets;
        let mut took = Duration::ZERO;
        let counted = allocation_counter::measure(|| {
            let start = Instant::now();
            forward(shard, now, batch);
            took = start.elapsed();
        });
        if place >= WARM_UP {
            batches += 1;
            packets += batch.len();
            bytes += batch.iter().map(|(_, datagram)| datagram.bytes.len()).sum::<usize>();
            sent += shard.snapshot().forwarded.packets - before;
            time += took;
            allocations += counted.count_total;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let per = |value: f64, count: usize| value / count as f64;
    println!("forwarded_packets {}", shard.snapshot().forwarded.packets - forwarded_before);
    println!("packets_per_batch {:.1}", per(f64::from(u32::try_from(packets).unwrap_or(u32::MAX)), batches));
    println!("bytes_per_packet {:.0}", per(f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)), packets));
    println!("ns_per_forwarded_packet {:.1}", per(time.as_secs_f64() * 1e9, usize::try_from(sent).unwrap_or(1)));
    println!("allocations {allocations}");
}

/// One batch: takes the datagrams (and decrypts them in place), forwards, and empties the outbox instead of sending.
#[inline(never)]
fn forward(shard: &mut Shard, now: Instant, batch: &mut [(Instant, Datagram)]) {
    for (_, datagram) in batch {
        shard.handle_datagram(now, datagram.flow, &mut datagram.bytes);
    }
    while shard.flush(now) == Progress::More {
        shard.outbox().clear();
    }
    shard.outbox().clear();
}

/// A camera whose frames are so many packets.
fn camera(world: &mut World, args: &Args) -> TrackSpec {
    let mut spec = world.single(Codec::Vp8);
    if let TrackSpec::Video(config) = &mut spec {
        config.fps = FPS;
        config.mode = if args.temporal { Mode::L1T3 } else { config.mode };
        config.max_payload = usize::try_from(args.payload).unwrap_or(config.max_payload);
        for encoding in &mut config.encodings {
            // A little less, so that few frames need one packet more.
            encoding.bitrate_bps = args.burst * args.payload * 8 * FPS / 100 * 93;
        }
    }
    spec
}
