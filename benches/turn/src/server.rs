//! The servers under test: started on loopback with a relay thread each, stopped with this process.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tempfile::TempDir;
use turn_proto::client::User;
use turn_proto::wire::method;

use crate::machine::Machine;

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// Ours.
    Sluice,
    /// coturn.
    Coturn,
}

impl Kind {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Sluice => "sluice-turn",
            Self::Coturn => "coturn",
        }
    }
}

pub(crate) const USER: &str = "anna";
pub(crate) const PASSWORD: &str = "secret";

/// A process that relays.
pub(crate) struct Server {
    kind: Kind,
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Server {
    /// Starts it and waits until it answers.
    pub(crate) fn start(kind: Kind, binary: &Path, machine: &Machine) -> anyhow::Result<Self> {
        let folder = TempDir::new()?;
        let port = UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = machine.command();
        command.arg(binary);
        match kind {
            Kind::Sluice => sluice(&mut command, folder.path(), port)?,
            Kind::Coturn => coturn(&mut command, folder.path(), port),
        }
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(folder.path().join("log"))?).spawn()?;
        let mut server = Self { kind, process, address: ([127, 0, 0, 1], port).into(), _folder: folder };
        server.await_answer()?;
        Ok(server)
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nanoseconds that all its threads have run.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<u64> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process.id())).context("the server is gone")? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            total += text.split(' ').next().context("schedstat")?.parse::<u64>()?;
        }
        Ok(total)
    }

    fn await_answer(&mut self) -> anyhow::Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.connect(self.address)?;
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.process.try_wait()? {
                bail!("it ended with {status}");
            }
            // refused as long as nobody listens
            if socket.send(&User::new("", "").request(method::BINDING, |_| {})).is_ok() && socket.recv(&mut [0; 512]).is_ok() {
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        bail!("it does not answer")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn sluice(command: &mut Command, folder: &Path, port: u16) -> anyhow::Result<()> {
    let (users, config) = (folder.join("users"), folder.join("turn.toml"));
    fs::write(&users, format!("{USER}: {PASSWORD}\n"))?;
    let text = format!(
        "listen = [\"127.0.0.1\"]\nudp_port = {port}\ntcp = false\nusers_file = {users:?}\nallow = [\"127.0.0.0/8\"]\n\
         relay_ports = \"20000-25999\"\nmax_allocations_per_user = 5000\nmax_allocations_per_address = 5000\nlog_level = \"warn\"\n"
    );
    fs::write(&config, text)?;
    command.arg("serve").arg("--config").arg(config);
    Ok(())
}

fn coturn(command: &mut Command, folder: &Path, port: u16) {
    command.args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp", "--no-tcp-relay", "-L", "127.0.0.1", "-a", "-r", "bench"]);
    command.args(["-u", &format!("{USER}:{PASSWORD}"), "-p", &port.to_string(), "--allow-loopback-peers", "-m", "1"]);
    command.args(["--min-port", "26000", "--max-port", "31999", "--no-stdout-log", "--log-file", "/dev/null", "--simple-log"]);
    command.arg("--pidfile").arg(folder.join("pid")).arg("--userdb").arg(folder.join("db"));
}

/// Every allocation has a socket here and one there; the servers inherit the limit.
pub(crate) fn raise_descriptor_limit() -> anyhow::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("the limit of open files")
}
