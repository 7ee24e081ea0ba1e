//! `sluice dev`: everything in one process, for one machine, with keys that everybody knows.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use sfu_node::NodeHandle;

use crate::config::Loader;
use crate::config::model::{DEVELOPMENT_KEY, DEVELOPMENT_SECRET};
use crate::output;
use crate::serve::start;
use crate::sources::{Overrides, checked};

/// What may be changed.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    overrides: Overrides,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let checked = checked(args.overrides.finish(Loader::development())?)?;
    let has_known_key = checked.keys.iter().any(|key| key.name == DEVELOPMENT_KEY && key.secret.expose() == DEVELOPMENT_SECRET);
    start(&checked, |http, node| announce(http, node, has_known_key))
}

/// Tells the person at the terminal where to go. The URL is the only one and the last line.
fn announce(http: SocketAddr, node: &NodeHandle, has_known_key: bool) -> anyhow::Result<()> {
    let joined = |values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>().join(", ");
    let candidates = node.candidates();
    let ports = joined(candidates.iter().map(|c| format!("{:?} {}", c.protocol, c.address.port()).to_lowercase()).collect());
    let addresses = joined(candidates.iter().map(|c| c.address.ip().to_string()).collect());
    output::note(&format!("media on {ports} at {addresses}"));
    if has_known_key {
        output::note(&format!("API key {DEVELOPMENT_KEY}, secret {DEVELOPMENT_SECRET}"));
    }
    output::line(&format!("http://{http}"))
}
