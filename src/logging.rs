//! Structured logs on standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{IsTerminal as _, stderr};
use std::panic::PanicHookInfo;

use anyhow::Context as _;
use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::fmt;

use crate::config::LogFormat;
use crate::config::model::Log;

/// Installs the subscriber. `RUST_LOG` wins over `log.level`, so that a developer's habit works.
pub(crate) fn init(log: &Log) -> anyhow::Result<()> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => EnvFilter::builder().parse(text).context("RUST_LOG")?,
        _ => EnvFilter::builder().parse(quieted(&log.level)).context("`log.level`")?,
    };
    // colours are for terminals, and not for people who don't want them (no-color.org)
    let has_colours = stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = fmt().with_env_filter(filter).with_writer(stderr).with_ansi(has_colours);
    let installed = match log.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    installed.map_err(|e| anyhow::anyhow!("the log can't be set up: {e}"))?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// A line of the log like any other, where the standard library would write several of its own form.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let at = panic.location().map(ToString::to_string);
    // taken if RUST_BACKTRACE asks for it
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    error!(thread = thread.name(), at, reason = panic.payload_as_str(), backtrace, "a thread panics: that is a bug");
}

/// Protocol libraries write several lines a packet at `debug`, among which our own would drown, and one writes down what clients
/// send as it came, line ends and all. Directives that the operator wrote come later and win.
fn quieted(level: &str) -> String {
    format!("dimpl=warn,rtc_sctp=warn,tungstenite=warn,{level}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn libraries_are_quiet_unless_they_are_named() {
        let shown = |level: &str| EnvFilter::builder().parse(quieted(level)).unwrap().to_string();
        assert!(shown("debug").contains("rtc_sctp=warn"), "{}", shown("debug"));
        assert!(shown("debug,rtc_sctp=trace").contains("rtc_sctp=trace"), "{}", shown("debug,rtc_sctp=trace"));
        assert!(!shown("debug,rtc_sctp=trace").contains("rtc_sctp=warn"));
    }
}
