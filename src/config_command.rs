//! `sluice config check|explain|print`.

use anyhow::bail;
use clap::Subcommand;

use crate::config::explain::{explain, print_defaults};
use crate::output;
use crate::sources::{Sources, findings};

/// What to do with the configuration.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Say whether `sluice serve` would accept it; every mistake at once.
    Check(Sources),
    /// Show every effective value and where it came from.
    Explain(Sources),
    /// Print all options with descriptions and defaults: a file to begin with.
    Print,
}

/// Runs the command.
pub(crate) fn run(action: &Action) -> anyhow::Result<()> {
    match action {
        Action::Check(sources) => check(sources),
        Action::Explain(sources) => output::line(explain(&sources.load()?).trim_end()),
        Action::Print => output::line(print_defaults().trim_end()),
    }
}

fn check(sources: &Sources) -> anyhow::Result<()> {
    let (_, _, findings) = findings(&sources.load()?)?;
    for finding in &findings {
        output::line(&finding.to_string())?;
    }
    match findings.iter().filter(|finding| finding.is_error).count() {
        0 => output::line("the configuration is good"),
        1 => bail!("the configuration has 1 error"),
        errors => bail!("the configuration has {errors} errors"),
    }
}
