//! Subcommands of `sluice-turn`.

mod file;
mod scrape;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, bail};
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use prometheus::Registry;
use turn_server::SharedSecret;

use file::File;

/// A TURN server that relays to nobody unless it is told to.
#[derive(Parser)]
#[command(name = "sluice-turn", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve with a configuration file.
    Serve {
        /// TOML file; see `sluice-turn config`.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Print every option with its default.
    Config,
    /// Print time-limited credentials.
    Credentials {
        /// TOML file with the secret.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Time until they expire.
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// Whom they are for; shown in logs and counted by quotas.
        #[arg(long, default_value = "")]
        user: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Serve { config } => serve(&File::read(&config)?),
        Command::Config => print(&File::describe()),
        Command::Credentials { config, ttl, user, json } => {
            let file = File::read(&config)?;
            let secrets = file.secrets()?;
            let Some(secret) = secrets.first() else { bail!("{}: `secret_file` or SLUICE_TURN_SECRET is needed", config.display()) };
            print(&credentials(secret, ttl, &user, json)?)
        }
    }
}

fn credentials(secret: &SharedSecret, ttl: Duration, user: &str, json: bool) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).context("the system clock is before 1970")?;
    let (username, password) = secret.issue(user, now + ttl);
    Ok(if json {
        serde_json::json!({ "username": username, "password": password, "ttl": ttl.as_secs() }).to_string()
    } else {
        format!("{username} {password}")
    })
}

fn serve(file: &File) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().or_else(|_| file.log_level.parse()).context("`log_level`")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    raise_descriptor_limit();
    // before any thread is there, so that all of them leave the signals to this one
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block().context("signals can't be received")?;
    let server = turn_server::start(file.config()?)?;
    // a process without a relay looks well; whatever started it starts it anew
    server.when_failed(|| std::process::exit(1));
    let registry = Registry::new();
    turn_server::metrics::register(&registry, server.clone())?;
    if let Some(address) = file.metrics {
        let address = scrape::serve(address, registry, server.clone()).with_context(|| format!("can't listen on {address} (`metrics`)"))?;
        tracing::info!(%address, "metrics are served");
    }
    print(&format!(
        "listening {}",
        serde_json::json!({ "udp": server.ports().udp, "tcp": server.ports().tcp, "tls": server.ports().tls })
    ))?;
    let signal = signals.wait().context("signals can't be received")?;
    if signal == Signal::SIGTERM && !file.drain.is_zero() {
        tracing::info!(seconds = file.drain.as_secs(), "draining; once more stops at once");
        server.drain(Instant::now() + file.drain);
        let waiting = server.clone();
        let waiter = std::thread::spawn(move || waiting.join());
        std::thread::spawn(move || {
            let _ = signals.wait();
            std::process::exit(1);
        });
        let _ = waiter.join();
    } else {
        server.shutdown();
    }
    tracing::info!("stopped");
    Ok(())
}

/// Every allocation has a socket.
fn raise_descriptor_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, "the limit of open files stays");
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).context("standard output is closed")
}

/// Says why the command failed.
pub(crate) fn complain(error: &anyhow::Error) {
    let _ = writeln!(std::io::stderr().lock(), "error: {error:#}");
}
