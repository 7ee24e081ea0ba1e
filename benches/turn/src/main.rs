//! What a relayed packet costs: CPU time of `sluice-turn` and of coturn, side by side in one run.
//!
//! In: the two binaries. Out: a line per point while it runs, a JSON file and a table (`benches/results/turn.*`). Each point is
//! measured for both servers in turn, round after round, so that a change of the machine's speed meets both. What is shown is the
//! least of the rounds, because whatever disturbs adds to it. A round in which a packet is missing is done again, and if that never
//! works the point says how many were lost. Everything has a time limit. `benches/turn/run.sh` builds and starts it.

mod load;
mod machine;
mod report;
mod server;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};

use load::{Load, Run};
use machine::Machine;
use report::{Point, Report};
use server::{Kind, Server};

/// Which way packets go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Direction {
    /// From clients to the peer.
    Up,
    /// From the peer to clients.
    Down,
}

/// How packets come to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Way {
    /// Each by itself, evenly spaced, of one allocation after the other: the server wakes up for each, and that is most of the cost.
    Spaced,
    /// Many wait when the server looks, as on a busy one, each of another allocation than the one before (of one: all of it).
    Mixed,
    /// Many wait, so many of each allocation in a row, each sent by a call of its own, as the packets of a frame leave a browser.
    Row,
    /// Many wait, so many of each allocation in one train (`UDP_SEGMENT`), as the packets of a frame leave a media server.
    Train,
}

impl Direction {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

impl Way {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Spaced => "spaced",
            Self::Mixed => "mixed",
            Self::Row => "row",
            Self::Train => "train",
        }
    }
}

/// Measures sluice-turn beside coturn.
#[derive(Parser)]
struct Args {
    /// The release build of sluice-turn.
    #[arg(long)]
    sluice_turn: PathBuf,
    /// coturn's server.
    #[arg(long, default_value = "turnserver")]
    coturn: PathBuf,
    /// Which servers; with one of them there are no ratios.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Kind::Sluice, Kind::Coturn])]
    servers: Vec<Kind>,
    #[arg(long, value_delimiter = ',', default_values_t = [1, 10, 100, 1_000])]
    allocations: Vec<usize>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Way::Spaced, Way::Mixed, Way::Row, Way::Train])]
    ways: Vec<Way>,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Direction::Up, Direction::Down])]
    directions: Vec<Direction>,
    /// Packets a second, of all allocations together; a quarter of it where they are spaced.
    #[arg(long, default_value_t = 40_000)]
    rate: u64,
    /// Packets in a row or a train.
    #[arg(long, default_value_t = 8)]
    burst: usize,
    /// Packets that are sent at once, but for those that are spaced.
    #[arg(long, default_value_t = 64)]
    clump: usize,
    /// Payload of a packet in bytes.
    #[arg(long, default_value_t = 1_160)]
    bytes: usize,
    /// Time of each measurement.
    #[arg(long, default_value_t = 0.25)]
    seconds: f64,
    /// Measurements of each server at each point.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Receivers take trains whole (UDP_GRO), as Sluice's media ports do. Without it the server pays for their being cut.
    #[arg(long)]
    coalesce: bool,
    /// Real-time priority during rounds: needs root, and holds up everything else on the machine for their time.
    #[arg(long)]
    real_time: bool,
    /// The JSON file: points are added to it, and the table beside it is written anew.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// How often a round with lost packets is done again.
const ATTEMPTS: usize = 4;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    ensure!(args.burst > 1 && args.rounds > 0 && args.rate > 0, "--burst, --rounds and --rate are too small");
    server::raise_descriptor_limit()?;
    let machine = Machine::take(args.real_time)?;
    let servers = args.servers.iter().map(|kind| start(*kind, &args, &machine)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut report = Report::open(args.out.clone(), describe(&machine, args.real_time))?;
    report::header();
    for &way in &args.ways {
        for &direction in &args.directions {
            for &allocations in &args.allocations {
                report.add(measure(&args, &machine, &servers, way, direction, allocations)?)?;
            }
        }
    }
    Ok(())
}

fn start(kind: Kind, args: &Args, machine: &Machine) -> anyhow::Result<Server> {
    let binary = match kind {
        Kind::Sluice => &args.sluice_turn,
        Kind::Coturn => &args.coturn,
    };
    Server::start(kind, binary, machine).with_context(|| format!("{} ({})", kind.label(), binary.display()))
}

/// One point: all rounds of all servers.
fn measure(
    args: &Args,
    machine: &Machine,
    servers: &[Server],
    way: Way,
    direction: Direction,
    allocations: usize,
) -> anyhow::Result<Point> {
    let burst = if matches!(way, Way::Spaced | Way::Mixed) { 1 } else { args.burst };
    let bursts = if way == Way::Spaced { 1 } else { args.clump.div_ceil(burst) };
    let mut loads = servers
        .iter()
        .map(|server| Load::open(server.address(), allocations, args.coalesce).with_context(|| server.kind().label()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // a wake-up for each packet leaves the load little time to sleep
    let rate = if way == Way::Spaced { args.rate / 4 } else { args.rate };
    let run = Run { way, direction, burst, bursts, rate, bytes: args.bytes, time: Duration::from_secs_f64(args.seconds) };
    let mut point = Point::new(&run, allocations, args.coalesce);
    for round in 0..args.rounds {
        for (server, load) in servers.iter().zip(&mut loads) {
            if round == 0 {
                // once through, so that every path is warm
                load.run(&Run { time: run.time.min(Duration::from_millis(100)), ..run })?;
            }
            for attempt in 1..=ATTEMPTS {
                let (cpu_ns, done) = machine.undisturbed(|| {
                    let before = server.cpu_time()?;
                    let done = load.run(&run).with_context(|| server.kind().label())?;
                    Ok((server.cpu_time()? - before, done))
                })?;
                // the machine is everybody's for as long
                std::thread::park_timeout(Duration::from_secs_f64(done.seconds / 2.0));
                if done.received == done.sent || attempt == ATTEMPTS {
                    point.add(server.kind(), cpu_ns, done);
                    break;
                }
            }
        }
    }
    for load in loads {
        load.close();
    }
    Ok(point)
}

/// What the figures depend on.
fn describe(machine: &Machine, is_real_time: bool) -> serde_json::Value {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = text("/proc/cpuinfo")
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.trim_start_matches([' ', '\t', ':']).to_owned()));
    serde_json::json!({
        "processor": cpu,
        "cores": machine.cores(),
        "real_time": is_real_time,
        "kernel": text("/proc/sys/kernel/osrelease").trim().splitn(3, '.').take(2).collect::<Vec<_>>().join("."),
    })
}
