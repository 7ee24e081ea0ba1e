//! What operators' eyes cost: time of one scrape with many participants, and of what a shard does for it once a second.
//!
//! `cargo run --release -p bench-micro --bin scrape [PARTICIPANTS]` (default 1000: one publishes, all others subscribe)
//! prints milliseconds: `snapshot` and `samples` are spent on the shard's thread, once a second; `scrape` (building and
//! encoding all metrics of the node) on the thread that answers HTTP.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use prometheus::TextEncoder;
use sfu_core::media::Codec;
use sfu_node::{LoopCounters, ShardReport};
use sfu_sim::world::World;

const ROUNDS: usize = 200;

fn main() {
    let participants: usize = std::env::args().nth(1).map_or(1000, |text| text.parse().unwrap());
    let (mut world, ..) = World::fan_out(1, |world| world.single(Codec::Vp8), participants - 1);
    world.run_for(Duration::from_secs(3));

    let snapshot = times(|| drop(world.shard.snapshot()));
    let samples = world.shard.take_samples().len();
    world.run_for(Duration::from_secs(1));
    let began = Instant::now();
    let taken = world.shard.take_samples();
    let handing_over = began.elapsed();
    let report = ShardReport {
        shard: 0,
        taken_at: Instant::now(),
        busy_ratio: 0.0,
        engine: world.shard.snapshot(),
        turns: LoopCounters::default(),
        udp: sfu_node::UdpCounters::default(),
        socket_buffers: sfu_node::SocketBuffers::default(),
        tcp: sfu_node::TcpCounters::default(),
        accept: sfu_node::AcceptCounters::default(),
    };
    let reports = [report];
    let mut bytes = 0;
    let scrape = times(|| bytes = TextEncoder::new().encode_to_string(&sfu_node::metrics::catalogue(&reports)).unwrap().len());
    println!("participants {participants}");
    println!("snapshot_ms p50 {:.3} max {:.3}", millis(snapshot[ROUNDS / 2]), millis(snapshot[ROUNDS - 1]));
    println!("samples_ms {:.3} ({} a second, {samples} in the first three)", millis(handing_over), taken.len());
    println!("scrape_ms p50 {:.3} max {:.3} ({bytes} bytes)", millis(scrape[ROUNDS / 2]), millis(scrape[ROUNDS - 1]));
}

fn times(mut work: impl FnMut()) -> Vec<Duration> {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    times
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
