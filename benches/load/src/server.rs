//! The server under test: started and ended by this program, or only watched.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a server may take to end before it is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A running server.
pub struct Server {
    child: Option<Child>,
    /// Its process, if known; without it nothing is said of CPU and memory.
    pub pid: Option<u32>,
    /// What it writes.
    pub log: Option<PathBuf>,
}

/// How to start Sluice itself for a measurement.
#[must_use]
pub fn sluice_command(binary: &str, listen: SocketAddr, shards: u16, (key, secret): (&str, &str)) -> Vec<String> {
    let environment = [
        ("SLUICE_SERVER__LISTEN", listen.to_string()),
        ("SLUICE_AUTH__KEYS", format!("{key}: {secret}")),
        ("SLUICE_MEDIA__UDP_PORT", "0".to_owned()),
        ("SLUICE_MEDIA__TCP", "false".to_owned()),
        ("SLUICE_TURN__ENABLED", "false".to_owned()),
        ("SLUICE_MEDIA__SHARDS", shards.to_string()),
        ("SLUICE_MEDIA__LISTEN", listen.ip().to_string()),
        ("SLUICE_MEDIA__LOOPBACK", "true".to_owned()),
        ("SLUICE_LOG__LEVEL", "warn".to_owned()),
    ];
    let assignments = environment.into_iter().map(|(name, value)| format!("{name}={value}"));
    ["env".to_owned()].into_iter().chain(assignments).chain([binary.to_owned(), "serve".to_owned()]).collect()
}

/// An address on loopback that nobody listens on.
///
/// # Errors
/// If there is none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

impl Server {
    /// One that runs already.
    #[must_use]
    pub fn running(pid: Option<u32>) -> Self {
        Self { child: None, pid, log: None }
    }

    /// Starts one, on one core if asked to. What it writes goes to a file.
    ///
    /// # Errors
    /// If it can't be started.
    pub fn start(command: &[String], core: Option<usize>) -> anyhow::Result<Self> {
        let mut words: Vec<String> = Vec::new();
        if let Some(core) = core {
            words.extend(["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
        }
        words.extend_from_slice(command);
        let (program, arguments) = words.split_first().context("an empty command")?;
        let log = std::env::temp_dir().join(format!("sluice-load-server-{}-{:x}.log", std::process::id(), rand::random::<u32>()));
        let file = File::create(&log).with_context(|| format!("{}", log.display()))?;
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("can't start {program}"))?;
        // taskset and env replace themselves with what they start.
        Ok(Self { pid: Some(child.id()), child: Some(child), log: Some(log) })
    }

    /// Fails with the end of its log if it has ended.
    ///
    /// # Errors
    /// If it has.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        if let Some(status) = child.try_wait()? {
            let text = self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().rev().take(20).collect();
            let end: Vec<&str> = lines.into_iter().rev().collect();
            anyhow::bail!("the server ended with {status}:\n{}", end.join("\n"));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let deadline = Instant::now() + STOP_PATIENCE;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            if let Some(log) = &self.log {
                let _ = std::fs::remove_file(log);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn a_server_is_ended_with_its_log() {
        let mut server = Server::start(&words("sleep 1000"), None).unwrap();
        let (pid, log) = (server.pid.unwrap(), server.log.clone().unwrap());
        server.check().unwrap();
        assert!(log.exists());
        drop(server);
        assert!(!log.exists() && !std::path::Path::new(&format!("/proc/{pid}/stat")).exists());
    }

    #[test]
    fn a_server_that_ends_says_why() {
        let command = ["sh".to_owned(), "-c".to_owned(), "echo no such option; exit 3".to_owned()];
        let mut server = Server::start(&command, None).unwrap();
        let _ = server.child.as_mut().unwrap().wait();
        let error = server.check().unwrap_err().to_string();
        assert!(error.contains("no such option") && error.contains('3'), "{error}");
    }
}
