//! CPU time per forwarded packet through the real loop, beside the floor: alternating in one run, medians and their ratio.
//!
//! `cargo run --release -p bench-micro --bin forwarding`, on one core (`taskset -c 1`) of a quiet machine.

#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use bench_micro::engine::Engine;
use bench_micro::floor::Floor;
use bench_micro::{Forwarder, ns_per_packet};
use clap::Parser;
use serde_json::json;

/// What to run.
#[derive(Parser)]
struct Args {
    /// Subscribers of the one video track.
    #[arg(long, value_delimiter = ',', default_value = "1,10,100,1000")]
    subscribers: Vec<usize>,
    /// Packets of a frame, which arrive together.
    #[arg(long, value_delimiter = ',', default_value = "1,4,8")]
    bursts: Vec<usize>,
    /// Measurements of each.
    #[arg(long, default_value_t = 11)]
    rounds: usize,
    /// Packets sent in one measurement, about.
    #[arg(long, default_value_t = 20_000)]
    packets: usize,
    /// Also writes the figures here, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Packets that fill the buffer of a socket that nobody reads.
const FILLING: usize = 400;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    println!("| subscribers | packets in a frame | engine ns | floor ns | engine / floor | engine Mpps | floor Mpps |");
    println!("|---|---|---|---|---|---|---|");
    let mut rows = Vec::new();
    for &burst in &args.bursts {
        for &subscribers in &args.subscribers {
            let (mut engine, mut floor) = (Engine::new(subscribers, burst)?, Floor::new(subscribers, burst)?);
            fill(&mut engine, burst)?;
            fill(&mut floor, burst)?;
            let frames = args.packets.div_ceil(subscribers * burst) as u64;
            let (mut engine_ns, mut floor_ns, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..args.rounds.max(1) {
                let ours = ns_per_packet(&mut engine, frames)?;
                let least = ns_per_packet(&mut floor, frames)?;
                engine_ns.push(ours);
                floor_ns.push(least);
                ratios.push(ours / least);
            }
            let (ours, least, ratio) = (median(&mut engine_ns), median(&mut floor_ns), median(&mut ratios));
            println!("| {subscribers} | {burst} | {ours:.0} | {least:.0} | {ratio:.2} | {:.2} | {:.2} |", 1e3 / ours, 1e3 / least);
            rows.push(json!({ "subscribers": subscribers, "burst": burst, "engine_ns": engine_ns, "floor_ns": floor_ns,
                "engine_median_ns": ours, "floor_median_ns": least, "ratio_median": ratio }));
        }
    }
    if let Some(path) = args.json {
        std::fs::write(path, serde_json::to_string_pretty(&rows)?)?;
    }
    Ok(())
}

fn fill(forwarder: &mut impl Forwarder, burst: usize) -> anyhow::Result<()> {
    ns_per_packet(forwarder, FILLING.div_ceil(burst) as u64).map(|_| ())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
