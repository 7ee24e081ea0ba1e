//! One core for both, the load before the server: what is sent at once waits when the server looks, however fast either is.
//!
//! The load sends, and sleeps; then the server works off what waits, and sleeps. No packet crosses from one core's caches to another's
//! and no core wakes another, which on a virtual machine costs more than relaying. With `--real-time` both run before everything
//! else that wants the core, so that what disturbs a round is little. Both servers are treated alike.

use std::process::Command;

use anyhow::{Context as _, ensure};

const LOAD_PRIORITY: &str = "50";
const SERVER_PRIORITY: &str = "40";

/// The machine's cores.
pub(crate) struct Machine {
    cores: usize,
    is_real_time: bool,
}

impl Machine {
    pub(crate) fn take(is_real_time: bool) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        run("taskset", &["-p", "-c", core(cores), &own_id()])?;
        Ok(Self { cores, is_real_time })
    }

    pub(crate) const fn cores(&self) -> usize {
        self.cores
    }

    /// Begins a command that is to run on the server's core.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new("taskset");
        command.args(["-c", core(self.cores)]);
        if self.is_real_time {
            command.args(["chrt", "-f", SERVER_PRIORITY]);
        }
        command
    }

    /// Does something without being disturbed.
    pub(crate) fn undisturbed<T>(&self, act: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        if !self.is_real_time {
            return act();
        }
        run("chrt", &["-f", "-p", LOAD_PRIORITY, &own_id()])?;
        let done = act();
        run("chrt", &["-o", "-p", "0", &own_id()])?;
        done
    }
}

/// The first one has most of the machine's own work.
const fn core(cores: usize) -> &'static str {
    if cores > 1 { "1" } else { "0" }
}

fn own_id() -> String {
    std::process::id().to_string()
}

fn run(tool: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(tool).args(arguments).output().with_context(|| tool.to_owned())?;
    ensure!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
