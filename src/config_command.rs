//! `sluice config check|explain|print|example`.

use anyhow::bail;
use clap::Subcommand;

use crate::config::examples::{self, EXAMPLES};
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
    /// Print a file for a common role, or their names.
    Example {
        /// Which.
        name: Option<String>,
    },
}

/// Runs the command.
pub(crate) fn run(action: &Action) -> anyhow::Result<()> {
    match action {
        Action::Check(sources) => check(sources),
        Action::Explain(sources) => output::line(explain(&sources.load()?).trim_end()),
        Action::Print => output::line(print_defaults().trim_end()),
        Action::Example { name: None } => EXAMPLES.iter().try_for_each(|example| output::line(example.name)),
        Action::Example { name: Some(name) } => match EXAMPLES.iter().find(|example| example.name == name) {
            Some(example) => output::line(examples::print(example).trim_end()),
            None => bail!("there is no example `{name}`: `sluice config example` lists them"),
        },
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
