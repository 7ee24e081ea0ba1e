//! `sluice turn-credentials`: prints time-limited credentials for the configured TURN server.

use std::time::Duration;

use anyhow::bail;
use serde_json::json;
use turn_server::SharedSecret;

use crate::config::keys::{self, ApiKey};
use crate::output;
use crate::sources::Sources;
use crate::turn;

/// For whom, for how long.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Time until they expire.
    #[arg(long, default_value = "1h", value_parser = parse_ttl)]
    ttl: Duration,
    /// Whom they are for; shown in the audit log and counted by quotas.
    #[arg(long, value_name = "NAME", default_value = "")]
    user: String,
    /// As JSON: username, password, ttl in seconds.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sources: Sources,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if args.user.chars().any(char::is_control) {
        bail!("--user: a name has no control characters");
    }
    let config = args.sources.load()?.config;
    let mut keys = keys::read(&config.auth)?;
    if keys.is_empty() && args.sources.config.is_none() {
        output::note("note: for `sluice dev`; --config FILE, SLUICE_AUTH__KEYS or SLUICE_TURN__SECRET name others");
        keys.push(ApiKey::development());
    }
    let Some(secret) = turn::secret(&config.turn, &keys)? else {
        bail!("the configuration has no secret: `turn.secret_file`, SLUICE_TURN__SECRET or an API key");
    };
    let (username, password) = SharedSecret::new(secret.expose()).issue(&args.user, signaling_server::unix_now() + args.ttl);
    if args.json {
        output::line(&json!({ "username": username, "password": password, "ttl": args.ttl.as_secs() }).to_string())
    } else {
        output::line(&format!("{username} {password}"))
    }
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let ttl = text.parse::<crate::config::units::Span>()?.0;
    if ttl.is_zero() { Err("credentials must live for a while".to_owned()) } else { Ok(ttl) }
}
