//! Where the configuration of a command comes from: `--config`, the environment and `--set`; and its checks.

use std::path::PathBuf;
use std::thread::available_parallelism;

use anyhow::bail;

use crate::config::check::{Finding, check};
use crate::config::keys::{self, ApiKey};
use crate::config::load::Replaced;
use crate::config::{Config, Loaded, Loader};

/// Arguments of every command that reads the configuration.
#[derive(clap::Args)]
pub(crate) struct Sources {
    /// TOML file with the configuration; see `sluice config print`.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// Single options from the command line.
#[derive(clap::Args)]
pub(crate) struct Overrides {
    /// Set one option, for example `--set media.udp_port=9000`; wins over file and environment.
    #[arg(long, value_name = "SECTION.OPTION=VALUE")]
    set: Vec<String>,
}

/// A configuration that may be started.
pub(crate) struct Checked {
    /// Effective values.
    pub(crate) config: Config,
    /// At least one.
    pub(crate) keys: Vec<ApiKey>,
    /// Threads that carry media.
    pub(crate) shards: u16,
    /// For the log.
    pub(crate) warnings: Vec<Finding>,
    /// See [`Loaded::replaced`].
    pub(crate) replaced: Vec<Replaced>,
}

impl Sources {
    /// Defaults, file, environment, `--set`.
    pub(crate) fn load(&self) -> anyhow::Result<Loaded> {
        let loader = Loader::new();
        let loader = if let Some(path) = &self.config { loader.file(path) } else { loader };
        self.overrides.finish(loader)
    }
}

impl Overrides {
    /// Adds the environment and `--set` to what a loader has.
    pub(crate) fn finish(&self, loader: Loader) -> anyhow::Result<Loaded> {
        // a variable that is not Unicode can't be one of ours
        let variables = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(loader.environment(variables).assignments(&self.set).finish()?)
    }
}

/// Reads the API keys and checks relations; errors in any are the error.
pub(crate) fn checked(loaded: Loaded) -> anyhow::Result<Checked> {
    let (keys, shards, findings) = findings(&loaded)?;
    let (errors, warnings): (Vec<_>, Vec<_>) = findings.into_iter().partition(|finding| finding.is_error);
    if !errors.is_empty() {
        let messages: Vec<_> = errors.into_iter().map(|finding| finding.message).collect();
        bail!("{}", messages.join("\n"));
    }
    Ok(Checked { config: loaded.config, keys, shards, warnings, replaced: loaded.replaced })
}

/// Keys, number of shards and everything that `check` has to say.
pub(crate) fn findings(loaded: &Loaded) -> anyhow::Result<(Vec<ApiKey>, u16, Vec<Finding>)> {
    let keys = keys::read(&loaded.config.auth)?;
    let shards = shard_count(&loaded.config);
    let findings = check(&loaded.config, &keys, shards);
    Ok((keys, shards, findings))
}

fn shard_count(config: &Config) -> u16 {
    match config.media.shards {
        0 => available_parallelism().ok().and_then(|cores| u16::try_from(cores.get()).ok()).unwrap_or(1),
        shards => shards,
    }
}
