//! `sluice-load`: runs scenarios against a server and reports what it did. See `benches/load/README.md`.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bench_load::adapters::Adapter;
use bench_load::adapters::janus::Janus;
use bench_load::adapters::livekit::LiveKit;
use bench_load::adapters::mediasoup::Mediasoup;
use bench_load::report::{Machine, Report, table};
use bench_load::run::{Stage, run};
use bench_load::scenario::{Changes, Scenario};
use bench_load::server::{Server, free_address, sluice_command};
use clap::Parser;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Loads a WebRTC server with real clients and reports what it costs.
#[derive(Parser)]
#[command(name = "sluice-load", version)]
struct Options {
    /// Scenario files (benches/scenarios/*.toml)
    #[arg(required = true)]
    scenarios: Vec<PathBuf>,
    /// Starts this `sluice` binary on free ports of loopback for each run
    #[arg(long, conflicts_with_all = ["server", "url"])]
    sluice: Option<String>,
    /// Media threads of the server that --sluice starts
    #[arg(long, default_value_t = 1)]
    shards: u16,
    /// Starts this command for each run (words separated by spaces); --url says where it listens
    #[arg(long, requires = "url")]
    server: Option<String>,
    /// Where the server's signaling is: ws://127.0.0.1:7880
    #[arg(long)]
    url: Option<String>,
    /// Process of a server that runs already, for its CPU and memory
    #[arg(long, conflicts_with = "server")]
    server_pid: Option<u32>,
    /// Kind of server
    #[arg(long, value_enum, default_value = "sluice")]
    adapter: Kind,
    /// API key
    #[arg(long, default_value = "devkey")]
    key: String,
    /// Its secret
    #[arg(long, default_value = "secret-of-the-load-generator-0123456789")]
    secret: String,
    /// Runs the server on this core (taskset)
    #[arg(long)]
    server_core: Option<usize>,
    /// Runs this program on this core
    #[arg(long)]
    client_core: Option<usize>,
    /// Address of the clients, for a server that is not on this machine's loopback
    #[arg(long)]
    client_ip: Option<Ipv4Addr>,
    /// Ends the names of rooms, so that several of these programs meet in them; a random word by default
    #[arg(long, conflicts_with = "runs")]
    meet: Option<String>,
    /// Runs of each scenario; the table has their medians
    #[arg(long, default_value_t = 1)]
    runs: usize,
    /// Writes the reports to this file
    #[arg(long)]
    json: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Sluice
    Sluice,
    /// livekit-server
    Livekit,
    /// Janus with VideoRoom (benches/peers)
    Janus,
    /// mediasoup in the server of benches/peers
    Mediasoup,
}

fn main() -> ExitCode {
    match measure(&Options::parse()) {
        Ok(reports) => {
            let problems: Vec<String> =
                reports.iter().flat_map(|report| report.problems.iter().map(|problem| format!("{}: {problem}", report.scenario))).collect();
            problems.iter().for_each(|problem| eprintln!("problem: {problem}"));
            let _ = write!(std::io::stdout(), "{}", table(&reports));
            if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) }
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> anyhow::Result<Vec<Report>> {
    if let Some(core) = options.client_core {
        let mut set = CpuSet::new();
        set.set(core).context("--client-core")?;
        sched_setaffinity(Pid::from_raw(0), &set).context("--client-core")?;
    }
    let scenarios = options.scenarios.iter().map(|path| Scenario::load(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut reports = Vec::new();
    // Alternating, so that a change of the machine's mood hits all scenarios alike.
    for number in 1..=options.runs {
        for scenario in &scenarios {
            let scenario = scenario.clone().changed(&options.changes);
            eprintln!("{}, run {number} of {}: {}", scenario.name, options.runs, scenario.about);
            let mut stage = options.stage()?;
            let name = options.meet.clone().unwrap_or_else(|| format!("{:x}", rand::random::<u32>()));
            reports.push(runtime.block_on(run(&scenario, &mut stage, &name))?);
            if let Some(path) = &options.json {
                std::fs::write(path, serde_json::to_string_pretty(&reports)?).with_context(|| format!("{}", path.display()))?;
            }
        }
    }
    Ok(reports)
}

impl Options {
    /// A server, started or known.
    fn stage(&self) -> anyhow::Result<Stage> {
        let (command, address) = match (&self.sluice, &self.server, &self.url) {
            (Some(binary), ..) => {
                let address = free_address()?;
                (Some(sluice_command(binary, address, self.shards, (&self.key, &self.secret))), address)
            }
            (None, Some(command), Some(url)) => {
                (Some(command.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>()), address_of(url)?)
            }
            (None, None, Some(url)) => (None, address_of(url)?),
            _ => anyhow::bail!("say which server: --sluice BINARY, --server COMMAND --url URL, or --url URL"),
        };
        let server = match &command {
            Some(command) => Server::start(command, self.server_core)?,
            None => Server::running(self.server_pid),
        };
        Ok(Stage {
            adapter: self.adapter(address),
            server,
            // Without the secret's assignment.
            server_command: command.map(|words| words.iter().filter(|word| !word.contains("KEYS=")).cloned().collect::<Vec<_>>().join(" ")),
            client_ip: self.client_ip,
            machine: Machine::here(self.server_core, self.client_core),
        })
    }

    fn adapter(&self, address: SocketAddr) -> Arc<dyn Adapter> {
        let name = match self.adapter {
            Kind::Sluice => "sluice",
            Kind::Livekit => "livekit",
            Kind::Janus => return Arc::new(Janus { address }),
            Kind::Mediasoup => return Arc::new(Mediasoup { address }),
        };
        Arc::new(LiveKit { address, key: self.key.clone(), secret: self.secret.clone(), name })
    }
}

fn address_of(url: &str) -> anyhow::Result<SocketAddr> {
    use std::net::ToSocketAddrs as _;
    let host = ["ws://", "http://"].iter().find_map(|scheme| url.strip_prefix(scheme)).unwrap_or(url).trim_end_matches('/');
    ensure!(!host.contains("://"), "{url}: without TLS only");
    host.to_socket_addrs().with_context(|| url.to_owned())?.next().with_context(|| format!("{url}: no such host"))
}
